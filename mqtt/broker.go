package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// A Broker is an MQTT broker inside the process. It keeps nothing on disk, has
// no TLS, and lets everybody who reaches it read and publish: for demos and
// single boxes.
type Broker struct {
	server *mochi.Server
	addr   net.Addr
}

// maxBrokerClients bounds the connections of the embedded broker.
const maxBrokerClients = 256

// StartBroker listens on HOST:PORT; port 0 takes a free one. Close ends it.
func StartBroker(listen string, log *slog.Logger) (*Broker, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("tcp", listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("mqtt.embedded: %s is in use, by another broker or sightd: stop it, name another port, or leave mqtt.embedded out and use that broker with mqtt.url", listen)
	case err != nil:
		return nil, fmt.Errorf("mqtt.embedded: %w; want HOST:PORT, as in 127.0.0.1:1883", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("the embedded broker can be reached from other machines; everybody there can read and publish", "listen", a.String())
	}

	limits := mochi.NewDefaultServerCapabilities()
	limits.MaximumClients = maxBrokerClients
	limits.MaximumPacketSize = 1 << 20
	limits.MaximumSessionExpiryInterval = 3600 // seconds that it keeps messages for a subscriber that is gone
	// 0 is never. By default the broker forgets a retained state after a day, and
	// at once when the clock jumps ahead by more, which boards without a battery
	// do. What is retained is bounded by the topics of the devices.
	limits.MaximumMessageExpiryInterval = 0
	server := mochi.New(&mochi.Options{
		Capabilities:           limits,
		SysTopicResendInterval: 30,
		Logger:                 slog.New(quiet{log.Handler()}),
	})
	err = server.AddHook(new(auth.AllowHook), nil)
	if err == nil {
		err = server.AddListener(listeners.NewNet("embedded", &boundedListener{Listener: l, conns: map[net.Conn]struct{}{}}))
	}
	if err == nil {
		err = server.Serve()
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("mqtt.embedded: %w", err)
	}
	return &Broker{server: server, addr: l.Addr()}, nil
}

// Addr is where the broker listens.
func (b *Broker) Addr() net.Addr { return b.addr }

// URL is what a Client on this machine connects to.
func (b *Broker) URL() string {
	a, ok := b.addr.(*net.TCPAddr)
	if ok && a.IP.IsUnspecified() {
		return fmt.Sprintf("mqtt://127.0.0.1:%d", a.Port)
	}
	return "mqtt://" + b.addr.String()
}

// settle is how long Close waits for subscribers to acknowledge what is on its
// way to them.
const settle = time.Second

// Close ends all connections and the broker, after a moment for what is on its
// way to subscribers. It is called once.
func (b *Broker) Close() error {
	deadline := time.Now().Add(settle)
	for atomic.LoadInt64(&b.server.Info.Inflight) > 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	return b.server.Close()
}

// A boundedListener refuses connections above a number and closes all with
// itself: the broker would wait for those that never say anything.
type boundedListener struct {
	net.Listener
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		full := l.closed || len(l.conns) >= maxBrokerClients
		t := &trackedConn{Conn: c, of: l}
		if !full {
			l.conns[t] = struct{}{}
		}
		l.mu.Unlock()
		if !full {
			return t, nil
		}
		_ = c.Close()
	}
}

func (l *boundedListener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	l.closed = true
	var open []net.Conn
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	return err
}

type trackedConn struct {
	net.Conn
	of *boundedListener
}

func (c *trackedConn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// quiet keeps what the broker logs as warnings, such as every client that
// leaves without a goodbye, for those who debug.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, lowered(level))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.Level = lowered(r.Level)
	r.Message = "embedded broker: " + r.Message
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }

func lowered(level slog.Level) slog.Level {
	if level > slog.LevelWarn {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
