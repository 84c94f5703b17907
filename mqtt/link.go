package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A link is the connection under a session. It keeps the first error, which is
// the reason why the session ends, and closes with it; no write can block for
// longer than writeTimeout.
type link struct {
	net.Conn
	in           packetReader
	writeTimeout time.Duration
	writing      sync.Mutex // paho sends its pings beside everything else

	lost   chan struct{} // closed when the link is of no more use
	once   sync.Once
	err    error       // set before lost is closed
	closed atomic.Bool // by paho, which tells the reason later
}

func newLink(c net.Conn, writeTimeout time.Duration) *link {
	l := &link{
		Conn:         c,
		in:           packetReader{r: bufio.NewReaderSize(c, 4096)},
		writeTimeout: writeTimeout,
		lost:         make(chan struct{}),
	}
	l.in.reply = l
	return l
}

// fail ends the link for the reason given, unless it has already ended.
func (l *link) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.lost)
		_ = l.Conn.Close()
	})
}

// broken is an error of Read or Write. After Close it is only its echo.
func (l *link) broken(err error) error {
	if !l.closed.Load() {
		l.fail(err)
		return l.err
	}
	return err
}

// Close is how paho ends the connection: after an error of its own, with which
// it calls fail later, or as the end of a session.
func (l *link) Close() error {
	l.closed.Store(true)
	return l.Conn.Close()
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.in.Read(b)
	if err != nil {
		return n, l.broken(err)
	}
	return n, nil
}

func (l *link) Write(b []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.Conn.SetWriteDeadline(time.Now().Add(l.writeTimeout)); err != nil {
		return 0, l.broken(err)
	}
	n, err := l.Conn.Write(b)
	if err != nil {
		return n, l.broken(err)
	}
	return n, nil
}

// SetWriteDeadline does nothing: Write sets one each time, and paho would take
// away that of a ping which is being written.
func (l *link) SetWriteDeadline(time.Time) error { return nil }

// dial opens the connection of t's kind to one of its addresses, HOST:PORT, TLS
// and websocket handshakes included.
func dial(ctx context.Context, t target, at string, config *tls.Config) (net.Conn, error) {
	if t.scheme == "ws" || t.scheme == "wss" {
		return dialWebsocket(ctx, t, at, config)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", at)
	if err != nil || config == nil {
		return c, err
	}
	s := tls.Client(c, config)
	if err := s.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return s, nil
}

// httpError is a web server's refusal to speak MQTT over a websocket.
type httpError struct{ status string }

func (e httpError) Error() string { return "websocket refused with HTTP status " + e.status }

// dialWebsocket obeys HTTP_PROXY and its like, as browsers' connections do.
func dialWebsocket(ctx context.Context, t target, at string, config *tls.Config) (net.Conn, error) {
	release := func() bool { return true }
	d := websocket.Dialer{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: config,
		Subprotocols:    []string{"mqtt"},
		// Once connected, gorilla waits for the reply without looking at ctx.
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == t.address() { // not a proxy's
				address = at
			}
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				release = context.AfterFunc(ctx, func() { _ = c.Close() })
			}
			return c, err
		},
	}
	c, resp, err := d.DialContext(ctx, t.String()+t.path, nil)
	if !release() {
		err = ctx.Err()
	}
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		if resp != nil && ctx.Err() == nil {
			return nil, httpError{resp.Status}
		}
		return nil, err
	}
	return &websocketConn{Conn: c.NetConn(), ws: c}, nil
}

// websocketConn carries a stream in a websocket's binary messages.
type websocketConn struct {
	net.Conn
	ws *websocket.Conn

	reading io.Reader // the rest of a message
}

func (c *websocketConn) Read(b []byte) (int, error) {
	for {
		if c.reading == nil {
			_, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			c.reading = r
		}
		n, err := c.reading.Read(b)
		if err == io.EOF {
			c.reading, err = nil, nil
		}
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}

func (c *websocketConn) Write(b []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// The deadlines are the websocket's, so that its own replies to pings obey them.

func (c *websocketConn) SetDeadline(t time.Time) error {
	if err := c.ws.SetReadDeadline(t); err != nil {
		return err
	}
	return c.ws.SetWriteDeadline(t)
}

func (c *websocketConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
func (c *websocketConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }
