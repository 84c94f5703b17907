package mqtt

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

func TestBrokerThatCannotListen(t *testing.T) {
	t.Parallel()
	taken := broker(t)
	for listen, want := range map[string]string{
		taken.Addr().String(): "is in use",
		"nonsense":            "want HOST:PORT",
		"127.0.0.1:99999":     "want HOST:PORT",
		"192.0.2.77:1883":     "want HOST:PORT",
	} {
		b, err := StartBroker(listen, nil)
		if err == nil {
			_ = b.Close()
			t.Errorf("%s is listened on", listen)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mqtt.embedded") {
			t.Errorf("%s: error is %v, want one with %q", listen, err, want)
		}
	}
}

// Connections that never say anything neither hold Close up nor fill the broker
// for ever.
func TestBrokerBoundsAndEndsItsConnections(t *testing.T) {
	t.Parallel()
	b, err := StartBroker("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	var mute []net.Conn
	for range maxBrokerClients {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		mute = append(mute, c)
	}
	extra, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	if n, err := extra.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("one connection more than the bound reads %d bytes (%v), want it closed", n, err)
	}
	closed := make(chan error, 1)
	go func() { closed <- b.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second): // the broker's own limit for CONNECT is 10 s
		t.Error("Close waits for those who say nothing")
	}
	for _, c := range mute {
		if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a connection isn't closed: %v", err)
		}
	}
}

func TestBrokerLogs(t *testing.T) {
	t.Parallel()
	var out testenv.Buffer
	b, err := StartBroker("0.0.0.0:0", slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.URL(), "mqtt://127.0.0.1:") {
		t.Errorf("URL is %s", b.URL())
	}
	deliver(t, Options{URL: b.URL()})
	c, err := net.Dial("tcp", strings.TrimPrefix(b.URL(), "mqtt://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace([]byte(out.String())), []byte("\n"))
	if len(lines) != 1 || !strings.Contains(out.String(), "can be reached from other machines") {
		t.Errorf("the log is %s; want one line, about who can reach the broker", out.String())
	}
}

// A state holds until it changes, however far the clock is moved.
func TestBrokerKeepsRetainedStates(t *testing.T) {
	t.Parallel()
	b := broker(t)
	if d := b.server.Options.Capabilities.MaximumMessageExpiryInterval; d != 0 {
		t.Errorf("the broker forgets retained states after %d s", d)
	}
}
