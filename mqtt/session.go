package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// A session is one connection, from CONNECT to its end. It is run by one
// goroutine.
type session struct {
	c       *Client
	t       target
	address string // of t, that it leads to
	client  paho.Client
	link    *link

	flights []flight // on their way, in the order in which they were sent
	seq     uint64   // of the last event that was sent
	turn    bool     // the last message sent was a state
	proven  bool     // the broker has acknowledged something
}

// A flight is a message that the broker has still to acknowledge.
type flight struct {
	token paho.Token
	sent  time.Time
	event uint64      // its Seq; 0: it is a state
	state stateFlight // state nil: a reply, or the farewell
	id    string      // of the event
	topic string      // the whole
	size  int         // of the payload, bytes
}

// session connects to t, calls up and works until the connection or ctx ends. A
// message counts as delivered only by an acknowledgement in the session that
// sent it; everything else is sent again in the next one, in the same order.
func (c *Client) session(ctx context.Context, t target, up func(address string)) *failure {
	s, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	// The first error closes the link; paho then ends its goroutines, for which
	// Disconnect waits, but not for ever.
	defer s.client.Disconnect(uint(c.timing.stop.Milliseconds()))
	c.dialer.worked(s.address)
	up(s.address)
	if err := s.work(ctx); err != nil {
		s.link.fail(err)
		_ = s.settle() // acknowledgements that came before the end
		return &failure{stage: running, err: s.link.err, message: s.judge(s.link.err), proven: s.proven}
	}
	return nil
}

func (c *Client) connect(ctx context.Context, t target) (*session, *failure) {
	config, err := c.opts.tlsConfig(t)
	if err != nil {
		return nil, &failure{stage: preparing, err: err}
	}
	password, err := c.opts.password()
	if err != nil {
		return nil, &failure{stage: preparing, err: err}
	}
	c.look()

	s := &session{c: c, t: t}
	dialCtx, cancel := context.WithTimeout(ctx, c.timing.connect)
	defer cancel()
	var l *link
	opened := make(chan struct{})
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{{Scheme: t.scheme, Host: t.address()}}
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
		conn, address, err := c.dialer.dial(dialCtx, t, config)
		if err != nil {
			return nil, err
		}
		s.address = address
		l = newLink(conn, c.timing.write)
		l.in.skipped = c.skipped
		close(opened)
		return l, nil
	})
	o.SetProtocolVersion(4) // no second try with MQTT 3.1
	o.SetClientID(c.id)
	o.SetUsername(c.opts.Username)
	o.SetPassword(password)
	o.SetCleanSession(true)
	o.SetAutoReconnect(false)
	o.SetOrderMatters(false)
	o.SetStore(paho.NewMemoryStore())
	o.SetConnectTimeout(c.timing.connect)
	o.SetWriteTimeout(c.timing.write)
	o.SetKeepAlive(c.timing.keepAlive)
	o.SetPingTimeout(c.timing.ping)
	if !c.trial {
		o.SetWill(c.Topic(TopicStatus), Offline, 1, true)
	}
	o.SetConnectionLostHandler(func(_ paho.Client, err error) {
		if strings.Contains(err.Error(), "pingresp") {
			err = errNoPing
		}
		l.fail(err) // unless it was the link that noticed
	})
	s.client = paho.NewClient(o)

	token := s.client.Connect()
	select {
	case <-opened:
	case <-token.Done(): // with dialCtx's end at the latest
		select {
		case <-opened:
		default:
			return nil, &failure{stage: dialling, err: token.Error()}
		}
	}
	s.link = l
	release := context.AfterFunc(ctx, func() { s.link.fail(ctx.Err()) })
	defer release()
	<-token.Done() // the link's deadline or ctx's end at the latest
	if err := token.Error(); err != nil {
		l.fail(err)
		c.dialer.failed(s.address)
		return nil, &failure{stage: connecting, err: err}
	}
	if l.closed.Load() { // paho takes a code that it has no name for as success
		s.client.Disconnect(uint(c.timing.stop.Milliseconds()))
		c.dialer.failed(s.address)
		return nil, &failure{stage: connecting, err: codeError(l.in.code)}
	}
	return s, nil
}

// work sends until the connection is lost, which is the error, or ctx ends.
func (s *session) work(ctx context.Context) error {
	c := s.c
	if _, err := c.states.set(TopicStatus, []byte(Online)); err != nil {
		return err
	}
	c.states.restart()
	defer s.listen()()
	// A broker that takes over from an older session may publish that one's
	// will after our `online`.
	reassert := time.NewTimer(c.timing.reassert)
	defer reassert.Stop()
	overdue := time.NewTimer(c.timing.ack)
	defer overdue.Stop()
	alone := time.NewTimer(c.timing.alone)
	defer alone.Stop()
	for {
		if err := s.fill(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		var head <-chan struct{}
		if len(s.flights) > 0 {
			head = s.flights[0].token.Done()
			overdue.Reset(time.Until(s.flights[0].sent.Add(c.timing.ack)))
		} else {
			overdue.Stop()
		}
		select {
		case <-head:
			if err := s.settle(); err != nil {
				return s.cause(err)
			}
		case <-c.wake:
		case <-reassert.C:
			c.states.again(TopicStatus)
		case <-alone.C:
			c.kicks = kicks{}
			c.warn("duplicate", "")
		case <-overdue.C:
			return errNoAck
		case <-s.link.lost:
			return s.link.err
		case <-ctx.Done():
			s.farewell(ctx)
			return nil
		}
	}
}

// fill sends states and events in turn while the window has room.
func (s *session) fill(ctx context.Context) error {
	room := s.c.suspicion.room()
	if len(s.flights) >= room {
		return nil
	}
	events := s.c.outbox.After(s.seq, room-len(s.flights))
	for len(s.flights) < room && ctx.Err() == nil {
		sent := false
		if !s.turn || len(events) == 0 {
			if st, ok := s.c.states.take(); ok {
				f := flight{state: st, topic: s.c.Topic(st.state.topic)}
				if err := s.send(ctx, true, st.payload, f); err != nil {
					return err
				}
				sent = true
			}
			s.turn = true
		}
		if len(s.flights) < room {
			if r, ok := s.c.commands.next(); ok {
				if err := s.send(ctx, false, r.payload, flight{topic: s.c.Topic(r.topic)}); err != nil {
					return err
				}
				sent = true
			}
		}
		if len(events) > 0 && len(s.flights) < room {
			m := events[0]
			events = events[1:]
			if err := s.send(ctx, false, m.Payload, flight{event: m.Seq, topic: m.Topic, id: m.ID}); err != nil {
				return err
			}
			s.seq, s.turn = m.Seq, false
			sent = true
		}
		if !sent {
			break
		}
	}
	if len(s.flights) == 0 && s.proven && s.c.outbox.Len() == 0 {
		s.c.suspicion.quiet()
	}
	return nil
}

// send hands a message to paho. Publish can block for the write timeout, and
// after the end of its connection too, so it has a goroutine of its own, which
// may outlive the session by that timeout.
func (s *session) send(ctx context.Context, retained bool, payload []byte, f flight) error {
	token := make(chan paho.Token, 1)
	go func() { token <- s.client.Publish(f.topic, 1, retained, payload) }()
	select {
	case f.token = <-token:
	case <-s.link.lost:
		return s.link.err
	case <-ctx.Done():
		return ctx.Err()
	}
	f.sent, f.size = time.Now(), len(payload)
	s.flights = append(s.flights, f)
	return nil
}

// settle takes what the broker has acknowledged off the front of the flights.
// What is acknowledged behind one that isn't waits for it, so that the outbox
// is emptied in order.
func (s *session) settle() error {
	var err error
	var event uint64
	n := 0
	for n < len(s.flights) && s.flights[n].landed() {
		f := s.flights[n]
		if e := f.token.Error(); e != nil {
			err = fmt.Errorf("%w: %w", errUndelivered, e)
			break
		}
		if f.event != 0 {
			event = f.event
		} else if f.state.state != nil {
			s.c.states.settle(f.state)
		}
		s.proven = true
		s.c.suspicion.took(&f)
		n++
	}
	s.flights = slices.Delete(s.flights, 0, n)
	if event != 0 {
		s.c.outbox.Ack(event)
	}
	if n > 0 {
		s.c.delivered()
	}
	return err
}

var errUndelivered = errors.New("message not delivered")

// cause is why a message wasn't delivered: paho gives up its messages just
// before it says that a ping had no reply.
func (s *session) cause(err error) error {
	if errors.Is(err, errUndelivered) {
		select {
		case <-s.link.lost:
			return s.link.err
		case <-time.After(s.c.timing.stop):
		}
	}
	return err
}

func (f *flight) landed() bool {
	select {
	case <-f.token.Done():
		return true
	default:
		return false
	}
}

// farewell says `offline` and gives what is on its way a moment to arrive.
func (s *session) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.c.timing.stop)
	defer cancel()
	err := s.send(ctx, true, []byte(Offline), flight{topic: s.c.Topic(TopicStatus)})
	for err == nil && len(s.flights) > 0 {
		select {
		case <-s.flights[0].token.Done():
			err = s.settle()
		case <-s.link.lost:
			return
		case <-ctx.Done():
			return
		}
	}
}
