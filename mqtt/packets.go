package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxIncoming bounds a packet from the broker. paho would allocate the 256 MiB
// that a header can claim.
const maxIncoming = 256 << 10

// A packetReader passes on what a broker sends, packet by packet, and fails at
// the first sign that it isn't one.
type packetReader struct {
	r       *bufio.Reader
	left    int  // of the packet that is being read, header included
	started bool // the first packet has begun
	code    byte // of CONNACK, once it is read
}

// errNotMQTT: the other side speaks something else.
var errNotMQTT = errors.New("not an MQTT broker")

func (p *packetReader) Read(b []byte) (int, error) {
	if p.left == 0 {
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
	length := 0
	for i := 1; ; i++ {
		head, err := p.r.Peek(i + 1)
		if err != nil {
			return noEOF(err)
		}
		length |= int(head[i]&0x7f) << (7 * (i - 1))
		if head[i]&0x80 == 0 {
			p.left = i + 1 + length
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
		return fmt.Errorf("broker sends a packet of %d bytes: at most %d are taken", length, maxIncoming)
	}
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
