package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

func within(t testing.TB, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// quick makes reconnects fast and leaves the limits for hanging alone.
func quick() timing {
	tm := defaultTiming
	tm.least, tm.most = 5*time.Millisecond, 50*time.Millisecond
	tm.first = tm.least
	tm.leastDuplicate, tm.mostDuplicate = tm.least, tm.most
	return tm
}

func newClient(t *testing.T, o Options, tm timing) *Client {
	t.Helper()
	if o.Device == "" {
		o.Device = "dev1"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(logWriter{t}, nil))
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.timing = tm
	return c
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSuffix(b, []byte("\n")))
	return len(b), nil
}

// run runs the client until stop is called or the test ends.
func run(t *testing.T, c *Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run doesn't end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func drain(t *testing.T, c *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// event is the n-th event of a camera.
func event(camera string, n int) Event {
	return Event{Data: Classification{
		Camera: camera,
		Model:  Model{Name: "m", Release: 1, Engine: "sha256-00"},
		Frame:  Frame{Seq: uint64(n)},
		Top:    []Label{{Label: "person", Score: 0.5}},
	}}
}

// A subscriber sees what a broker passes on.
type subscriber struct {
	mu       sync.Mutex
	messages []paho.Message
	client   paho.Client
}

var watchers atomic.Int64

// subscribe follows filter at the broker. It comes back by itself, with its
// session kept.
func subscribe(t *testing.T, url, filter string) *subscriber {
	t.Helper()
	return subscribeAs(t, url, "", filter)
}

func subscribeAs(t *testing.T, url, user, filter string) *subscriber {
	t.Helper()
	s := &subscriber{}
	o := paho.NewClientOptions().AddBroker(url).SetClientID(fmt.Sprint("watch-", watchers.Add(1))).SetUsername(user)
	o.SetCleanSession(false).SetMaxReconnectInterval(50 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(10 * time.Millisecond)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		s.mu.Lock()
		s.messages = append(s.messages, m)
		s.mu.Unlock()
	})
	s.client = paho.NewClient(o)
	if tok := s.client.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("connect a subscriber to %s: %v", url, tok.Error())
	}
	t.Cleanup(func() { s.client.Disconnect(250) })
	if tok := s.client.Subscribe(filter, 1, nil); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("subscribe to %s: %v", filter, tok.Error())
	}
	return s
}

// on gives the payloads seen on a topic.
func (s *subscriber) on(topic string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, m := range s.messages {
		if m.Topic() == topic {
			all = append(all, string(m.Payload()))
		}
	}
	return all
}

// last is the newest payload seen on a topic.
func (s *subscriber) last(topic string) string {
	all := s.on(topic)
	if len(all) == 0 {
		return "(nothing)"
	}
	return all[len(all)-1]
}

// sequence gives the frame numbers of a camera's events, each id once, in the
// order in which they came first; it fails where one id has two contents.
func sequence(t *testing.T, payloads []string) []uint64 {
	t.Helper()
	seen := map[string]string{}
	var seqs []uint64
	for _, p := range payloads {
		var e struct {
			ID   string
			Data struct{ Frame struct{ Seq uint64 } }
		}
		if err := json.Unmarshal([]byte(p), &e); err != nil {
			t.Fatalf("event %q: %v", p, err)
		}
		if before, ok := seen[e.ID]; ok {
			if before != p {
				t.Errorf("two events with the id %s: %s and %s", e.ID, before, p)
			}
			continue
		}
		seen[e.ID] = p
		seqs = append(seqs, e.Data.Frame.Seq)
	}
	return seqs
}

// wantSequence fails unless seqs is 1, 2, … n.
func wantSequence(t *testing.T, seqs []uint64, n int) {
	t.Helper()
	want := make([]uint64, n)
	for i := range want {
		want[i] = uint64(i + 1)
	}
	if !slices.Equal(seqs, want) {
		t.Errorf("events arrived as %v, want 1 to %d in order", seqs, n)
	}
}

// A proxy stands between client and broker, to be cut or to hang.
type proxy struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	tunnels  []*tunnel
	refuse   bool
	all      sync.WaitGroup
}

type tunnel struct {
	in, out net.Conn
	frozen  atomic.Bool
	thawed  chan struct{}
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to}
	p.all.Add(1)
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.block(true)
		p.cut()
		p.all.Wait()
	})
	return p
}

func (p *proxy) url() string { return "mqtt://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	defer p.all.Done()
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if out, err := net.Dial("tcp", p.to); err != nil {
			_ = in.Close()
		} else if p.refuse {
			_ = in.Close()
			_ = out.Close()
		} else {
			t := &tunnel{in: in, out: out, thawed: make(chan struct{})}
			p.tunnels = append(p.tunnels, t)
			p.all.Add(2)
			go p.copy(t, in, out)
			go p.copy(t, out, in)
		}
		p.mu.Unlock()
	}
}

func (p *proxy) copy(t *tunnel, from, to net.Conn) {
	defer p.all.Done()
	defer from.Close()
	defer to.Close()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if t.frozen.Load() {
			<-t.thawed
			return
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// cut breaks every connection, as a cable does.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tunnels {
		close(t.thawed)
		for _, c := range []net.Conn{t.in, t.out} {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}
	p.tunnels = nil
}

// block has new connections refused, or not.
func (p *proxy) block(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// freeze lets nothing through on the connections that there are, without a
// word to either side. New ones work.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tunnels {
		t.frozen.Store(true)
	}
}

// broker starts the embedded one on a free port.
func broker(t *testing.T) *Broker {
	t.Helper()
	b, err := StartBroker("127.0.0.1:0", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(fmt.Errorf("close the broker: %w", err))
		}
	})
	return b
}
