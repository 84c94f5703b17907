package mqtt

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A tap stands between a client and its broker, packet by packet. It notes every
// event that passes, and misbehaves as it is told.
type tap struct {
	listener net.Listener
	to       string
	all      sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	links     map[*tapLink]bool
	sessions  int // that got a CONNACK
	seen      []*sighting
	delivered int      // of them
	wrong     []string // what no client may send

	// What goes wrong at the moment.
	refusing   bool          // connections
	frozen     bool          // nothing passes, without a word
	delay      time.Duration // of each packet
	cutPublish float64       // the next event is cut after this part of it; 0: it isn't
	cutPuback  float64       // the same for an acknowledgement
	swallow    int           // each acknowledgement of so many gets lost; 0: none
	lie        bool          // every session was there before, says CONNACK
	pubacks    int
}

// A sighting is one passing of an event.
type sighting struct {
	session   int
	camera    string
	number    uint64
	id        string
	sum       [sha256.Size]byte // of topic and payload
	arrived   bool              // the broker acknowledged it
	delivered bool              // and that was passed on
}

type tapLink struct {
	client, broker net.Conn
	session        int                  // 0 before CONNACK
	flights        map[uint16]*sighting // by packet id
}

func startTap(t *testing.T, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{listener: l, to: to, links: map[*tapLink]bool{}}
	p.all.Add(1)
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.set(func() { p.closed = true })
		p.cut()
		p.all.Wait()
	})
	return p
}

func (p *tap) url() string { return "mqtt://" + p.listener.Addr().String() }

// set changes what goes wrong.
func (p *tap) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// well has nothing go wrong any more.
func (p *tap) well() {
	p.set(func() {
		p.refusing, p.frozen, p.lie = false, false, false
		p.delay, p.cutPublish, p.cutPuback, p.swallow = 0, 0, 0, 0
	})
}

func (p *tap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// passedOn is how many events were acknowledged as far as to the client, those that
// came twice counted twice.
func (p *tap) passedOn() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delivered
}

func (p *tap) accept() {
	defer p.all.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		broker, err := net.DialTimeout("tcp", p.to, time.Second)
		// A port on which nobody listens can be connected to itself.
		if err == nil && broker.LocalAddr().String() == broker.RemoteAddr().String() {
			_ = broker.Close()
			err = io.EOF
		}
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &tapLink{client: client, broker: broker, flights: map[uint16]*sighting{}}
		p.mu.Lock()
		if p.refusing || p.closed {
			l.reset()
			p.mu.Unlock()
			continue
		}
		p.links[l] = true
		p.all.Add(2)
		p.mu.Unlock()
		go p.pass(l, client, broker, p.fromClient)
		go p.pass(l, broker, client, p.fromBroker)
	}
}

func (l *tapLink) reset() {
	for _, c := range []net.Conn{l.client, l.broker} {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// pass passes on packets until look says that one is cut, after the part that
// it gives.
func (p *tap) pass(l *tapLink, from, to net.Conn, look func(*tapLink, []byte) (part float64, passed func())) {
	defer p.all.Done()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
		_ = from.Close()
		_ = to.Close()
	}()
	r := bufio.NewReader(from)
	for {
		packet, err := readPacket(r)
		if err != nil {
			return
		}
		p.hold(l)
		part, passed := look(l, packet)
		switch {
		case part == 0: // swallowed
			continue
		case part < 1:
			_, _ = to.Write(packet[:1+int(part*float64(len(packet)-1))])
			time.Sleep(time.Millisecond)
			l.reset()
			return
		}
		if _, err := to.Write(packet); err != nil {
			return
		}
		if passed != nil {
			passed()
		}
	}
}

// hold waits while all is frozen, and a moment while all is slow.
func (p *tap) hold(l *tapLink) {
	for first := true; ; first = false {
		p.mu.Lock()
		frozen, delay := p.frozen && p.links[l] && !p.closed, p.delay
		p.mu.Unlock()
		if first && delay > 0 {
			time.Sleep(delay)
		}
		if !frozen {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func readPacket(r *bufio.Reader) ([]byte, error) {
	packet, length := make([]byte, 1, 512), 0
	var err error
	if packet[0], err = r.ReadByte(); err != nil {
		return nil, err
	}
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		packet = append(packet, b)
		length |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 21 {
			return nil, io.ErrUnexpectedEOF
		}
	}
	head := len(packet)
	packet = append(packet, make([]byte, length)...)
	_, err = io.ReadFull(r, packet[head:])
	return packet, err
}

func (p *tap) fromClient(l *tapLink, packet []byte) (float64, func()) {
	if packet[0]>>4 != 3 {
		return 1, nil
	}
	body := packet[1:]
	for body[0] >= 0x80 {
		body = body[1:]
	}
	body = body[1:]
	n := 2 + int(binary.BigEndian.Uint16(body))
	topic, id, payload := string(body[2:n]), binary.BigEndian.Uint16(body[n:]), body[n+2:]
	if !strings.HasSuffix(topic, "/events") {
		return 1, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if part := p.cutPublish; part > 0 {
		p.cutPublish = 0
		return part, nil
	}
	var e struct {
		ID   string
		Data struct {
			Camera string
			Frame  struct{ Seq uint64 }
		}
	}
	if err := json.Unmarshal(payload, &e); err != nil || packet[0]>>1&3 != 1 {
		p.wrong = append(p.wrong, "an event that isn't one: "+string(payload))
	}
	s := &sighting{
		session: l.session, camera: e.Data.Camera, number: e.Data.Frame.Seq, id: e.ID,
	}
	s.sum = sha256.Sum256(append(append([]byte(topic), 0), payload...))
	l.flights[id] = s
	p.seen = append(p.seen, s)
	return 1, nil
}

func (p *tap) fromBroker(l *tapLink, packet []byte) (float64, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch packet[0] >> 4 {
	case 2: // CONNACK
		if len(packet) == 4 && packet[3] == 0 {
			p.sessions++
			l.session = p.sessions
			if p.lie {
				packet[2] |= 1
			}
		}
	case 4: // PUBACK
		s := l.flights[binary.BigEndian.Uint16(packet[2:])]
		if s == nil {
			return 1, nil // a state's
		}
		s.arrived = true
		delete(l.flights, binary.BigEndian.Uint16(packet[2:]))
		if part := p.cutPuback; part > 0 {
			p.cutPuback = 0
			return part, nil
		}
		if p.pubacks++; p.swallow > 0 && p.pubacks%p.swallow == 0 {
			return 0, nil
		}
		return 1, func() { p.set(func() { s.delivered, p.delivered = true, p.delivered+1 }) }
	}
	return 1, nil
}
