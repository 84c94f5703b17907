package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxIncoming bounds a packet from the broker. paho would allocate the 256 MiB
// that a header can claim.
const maxIncoming = 256 << 10

// A packetReader passes on what a broker sends, packet by packet, and fails at
// the first sign that it isn't one. Messages that are too large it leaves out:
// whoever may publish to this client could end its sessions with them.
type packetReader struct {
	r       *bufio.Reader
	left    int  // of the packet that is being read, header included
	started bool // the first packet has begun
	code    byte // of CONNACK, once it is read

	reply   io.Writer                                      // takes acknowledgements of what is left out
	skipped func(topic string, retained bool, payload int) // is told of it; nil: it is an error
}

// errNotMQTT: the other side speaks something else.
var errNotMQTT = errors.New("not an MQTT broker")

func (p *packetReader) Read(b []byte) (int, error) {
	for p.left == 0 {
		if err := p.header(); err != nil {
			return 0, err
		}
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

// header looks at the next packet's type and length.
func (p *packetReader) header() error {
	const connack = 0x20
	first, err := p.r.Peek(1)
	if err != nil {
		return err
	}
	if !p.started && first[0] != connack {
		_, _ = p.r.Peek(5) // enough to tell; what is there already is more
		start, _ := p.r.Peek(min(p.r.Buffered(), 32))
		return fmt.Errorf("%w: it answers with %s", errNotMQTT, describe(start))
	}
	connackHere := !p.started
	p.started = true
	head0, length, size := first[0], 0, 0
	for i := 1; ; i++ {
		head, err := p.r.Peek(i + 1)
		if err != nil {
			return noEOF(err)
		}
		length |= int(head[i]&0x7f) << (7 * (i - 1))
		if head[i]&0x80 == 0 {
			size = i + 1
			break
		}
		if i == 4 {
			return fmt.Errorf("%w: a packet's length takes more than 4 bytes", errNotMQTT)
		}
	}
	if connackHere && length >= 2 && length <= 32 {
		if head, err := p.r.Peek(4); err == nil {
			p.code = head[3]
		}
	}
	if length > maxIncoming {
		if qos := head0 >> 1 & 3; head0>>4 == 3 && qos < 2 && p.skipped != nil {
			return noEOF(p.skip(head0, size, length))
		}
		return fmt.Errorf("broker sends a packet of %d bytes: at most %d are taken", length, maxIncoming)
	}
	p.left = size + length
	return nil
}

// skip reads over a PUBLISH of QoS 0 or 1 and acknowledges it, or the broker
// would soon send no other.
func (p *packetReader) skip(first byte, header, length int) error {
	if _, err := p.r.Discard(header); err != nil {
		return err
	}
	head, err := p.r.Peek(2)
	if err != nil {
		return err
	}
	size := 2 + int(binary.BigEndian.Uint16(head)) // less than length, which is above maxIncoming
	topic := ""
	if size <= p.r.Size() {
		whole, err := p.r.Peek(size)
		if err != nil {
			return err
		}
		topic = string(whole[2:])
	}
	if _, err := p.r.Discard(size); err != nil {
		return err
	}
	left := length - size
	var puback []byte
	if first>>1&3 == 1 {
		id, err := p.r.Peek(2)
		if err != nil {
			return err
		}
		puback = []byte{0x40, 2, id[0], id[1]}
		if _, err := p.r.Discard(2); err != nil {
			return err
		}
		left -= 2
	}
	if _, err := p.r.Discard(left); err != nil {
		return err
	}
	if puback != nil {
		if _, err := p.reply.Write(puback); err != nil {
			return err
		}
	}
	p.skipped(topic, first&1 == 1, left)
	return nil
}

// describe names what the first bytes of a reply look like.
func describe(start []byte) string {
	switch s := string(start); {
	case strings.HasPrefix(s, "HTTP/"):
		return "HTTP: is this the port of a web server?"
	case strings.HasPrefix(s, "SSH-"):
		return "SSH: is the port right?"
	case len(s) >= 2 && (s[0] == 0x15 || s[0] == 0x16) && s[1] == 3:
		return "TLS: use mqtts:// or wss://"
	default:
		return fmt.Sprintf("%.32q: is the port right?", s)
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
