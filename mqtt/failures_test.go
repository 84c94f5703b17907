package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Each way in which there can be no broker is told in words, with a way out,
// and leaves the events queued.
func TestFailuresInWords(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	refuse := func(code byte) func(net.Conn) {
		return func(c net.Conn) {
			connack(c, code)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	reply := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	for _, tc := range []struct {
		name, scheme string
		handle       func(net.Conn)
		want         []string
	}{
		{"nobody listens", "mqtt", nil, []string{"connection refused by", "is the broker started"}},
		{"not authorised", "mqtt", refuse(packets.ErrRefusedNotAuthorised), []string{"not authorised", "mqtt.username"}},
		{"bad password", "mqtt", refuse(packets.ErrRefusedBadUsernameOrPassword), []string{"user name or password", "mqtt.password_file"}},
		{"client id", "mqtt", refuse(packets.ErrRefusedIDRejected), []string{`"sightd:dev1"`, "mqtt.prefix"}},
		{"version", "mqtt", refuse(packets.ErrRefusedBadProtocolVersion), []string{"3.1.1"}},
		{"unavailable", "mqtt", refuse(packets.ErrRefusedServerUnavailable), []string{"unavailable"}},
		{"a broker of MQTT 5 alone", "mqtt", refuse(0x84), []string{"3.1.1", "MQTT 5 only"}},
		{"it answers as MQTT 5", "mqtt", reply("\x20\x03\x00\x84\x00"), []string{"3.1.1", "MQTT 5 only"}},
		{"a refusal of MQTT 5", "mqtt", refuse(0x87), []string{"not authorised", "mqtt.username"}},
		{"a code that nobody has", "mqtt", refuse(0xee), []string{"0xee", "doesn't have", "its log"}},
		{"HTTP", "mqtt", reply("HTTP/1.1 400 Bad Request\r\n\r\n"), []string{"not an MQTT broker", "HTTP"}},
		{"TLS alert", "mqtt", reply("\x15\x03\x01\x00\x02\x02\x46"), []string{"not an MQTT broker", "mqtts://"}},
		{"something else", "mqtt", reply("220 mail.example.org ESMTP\r\n"), []string{"not an MQTT broker", "220 mail"}},
		{"closes at once", "mqtt", func(c net.Conn) { _, _ = packets.ReadPacket(c) }, []string{"closes the connection without a reply", "mqtts://"}},
		{"never answers", "mqtt", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, []string{"takes the connection and doesn't answer"}},
		{"TLS never answers", "mqtts", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, []string{"no answer from"}},
		{"no TLS there", "mqtts", reply("220 mail.example.org ESMTP\r\n"), []string{"doesn't speak TLS", "mqtt://"}},
		{"no websocket there", "ws", reply("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), []string{"404 Not Found", "path of mqtt.url"}},
		{"websocket never answers", "ws", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, []string{"no answer from"}},
		{"websocket closes", "ws", func(c net.Conn) {}, []string{"closes the connection without a reply"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			address := closed.Addr().String()
			if tc.handle != nil {
				address = script(t, tc.handle).listener.Addr().String()
			}
			tm := quick()
			tm.connect = 300 * time.Millisecond
			c := newClient(t, Options{URL: tc.scheme + "://" + address}, tm)
			stop := run(t, c)
			if err := c.Publish(event("cam0", 1)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "two failures", func() bool { return c.Status().Failures >= 2 })
			words := c.Status().Error
			for _, want := range tc.want {
				if !strings.Contains(words, want) {
					t.Errorf("told as %q, want %q in it", words, want)
				}
			}
			stop()
			s := c.Stats()
			if s.Queued != 1 || s.Connected {
				t.Errorf("stats are %+v, want the event queued", s)
			}
		})
	}
}

func TestUnknownHostInWords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&net.DNSError{Err: "no such host", Name: "b", IsNotFound: true}, "unknown host b"},
		{&net.DNSError{Err: "timeout", Name: "b", IsTimeout: true}, "name service"},
		{context.DeadlineExceeded, "no answer from b:1883"},
		{errors.New("odd"), ": odd"},
	} {
		why := explain(target{"mqtt", "b", 1883, ""}, "id", &failure{stage: dialling, err: fmt.Errorf("%w: %w", packets.ErrorNetworkError, tc.err)})
		if !strings.Contains(why.words, tc.want) {
			t.Errorf("%v is told as %q, want %q", tc.err, why.words, tc.want)
		}
	}
}

// Stopping doesn't wait for whatever hangs.
func TestRunEndsWhereverItIs(t *testing.T) {
	t.Parallel()
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		t.Run(scheme+" connecting", func(t *testing.T) {
			t.Parallel()
			s := script(t, hang)
			c := newClient(t, Options{URL: scheme + "://" + s.listener.Addr().String()}, quick())
			stop := run(t, c)
			eventually(t, "a connection", func() bool { return s.connections() == 1 })
			stop()
			if n := c.Status().Failures; n != 0 {
				t.Errorf("%d failures: it waited for a deadline", n)
			}
		})
	}
	t.Run("in a pause", func(t *testing.T) {
		t.Parallel()
		tm := quick()
		tm.least, tm.most = time.Hour, time.Hour
		c := newClient(t, Options{URL: script(t, func(net.Conn) {}).url()}, tm)
		stop := run(t, c)
		eventually(t, "a failure", func() bool { return c.Status().Failures == 1 })
		stop()
	})
	t.Run("never acknowledged", func(t *testing.T) {
		t.Parallel()
		s := script(t, func(c net.Conn) {
			connack(c, 0)
			receive(c, func(*packets.PublishPacket) bool { return false })
		})
		c := newClient(t, Options{URL: s.url()}, quick())
		stop := run(t, c)
		eventually(t, "a connection", func() bool { return c.Status().Connected })
		stop()
	})
	t.Run("never read", func(t *testing.T) {
		t.Parallel()
		unread := make(chan struct{})
		s := script(t, func(c net.Conn) {
			connack(c, 0)
			<-unread
		})
		t.Cleanup(func() { close(unread) })
		c := newClient(t, Options{URL: s.url()}, quick())
		e := event("cam0", 1)
		e.Data.Top[0].Label = strings.Repeat("x", 120<<10) // 64 of them fill every buffer
		for range 100 {
			if err := c.Publish(e); err != nil {
				t.Fatal(err)
			}
		}
		stop := run(t, c)
		eventually(t, "a connection", func() bool { return c.Status().Connected })
		stop()
		if n := c.Stats().Queued; n != 100 {
			t.Errorf("%d events queued, want all 100", n)
		}
	})
}

// A broker that takes the connection and every message, answers pings, and
// acknowledges nothing, must not be able to lose an event.
func TestBrokerThatNeverAcknowledges(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	mute := true
	var got []string
	s := script(t, func(c net.Conn) {
		connack(c, 0)
		receive(c, func(p *packets.PublishPacket) bool {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasSuffix(p.TopicName, "/events") {
				got = append(got, string(p.Payload))
			}
			return !mute
		})
	})
	tm := quick()
	tm.ack = 50 * time.Millisecond
	c := newClient(t, Options{URL: s.url()}, tm)
	run(t, c)
	for i := range 500 {
		if err := c.Publish(event("cam0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "three sessions", func() bool { return s.connections() >= 3 })
	if st := c.Stats(); st.Acked != 0 || st.Queued != 500 {
		t.Errorf("stats are %+v, want all 500 queued", st)
	}
	eventually(t, "the reason", func() bool { return strings.Contains(c.Status().Error, "doesn't acknowledge") })
	mu.Lock()
	mute = false
	got = nil
	mu.Unlock()
	drain(t, c)
	mu.Lock()
	defer mu.Unlock()
	// What an old session still brought comes first, in order as well.
	wantSequence(t, sequence(t, got), 500)
	if st := c.Stats(); st.Acked != 500 {
		t.Errorf("stats are %+v, want 500 acked", st)
	}
}

// The connection is lost again and again, with messages on their way. What the
// broker saw, each id taken once, is everything in order.
func TestNothingIsLostWhenConnectionsBreak(t *testing.T) {
	t.Parallel()
	const n = 2000
	var mu sync.Mutex
	var got []string
	s := script(t, func(c net.Conn) {
		connack(c, 0)
		left := 150 // messages until this connection breaks
		receive(c, func(p *packets.PublishPacket) bool {
			if left--; left < 0 {
				_ = c.Close()
				return false
			}
			if strings.HasSuffix(p.TopicName, "/events") {
				mu.Lock()
				got = append(got, string(p.Payload))
				mu.Unlock()
			}
			return true
		})
	})
	c := newClient(t, Options{URL: s.url(), Log: slog.New(slog.DiscardHandler)}, quick())
	run(t, c)
	for i := range n {
		if err := c.Publish(event("cam0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, c)
	mu.Lock()
	defer mu.Unlock()
	wantSequence(t, sequence(t, got), n)
	if st := c.Stats(); st.Acked != n || st.Reconnects < 5 {
		t.Errorf("stats are %+v, want %d acked over several sessions", st, n)
	}
}

// A link that lets nothing through without breaking is noticed by the missing
// reply to a ping.
func TestHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	b := broker(t)
	p := startProxy(t, b.Addr().String())
	tm := quick()
	tm.keepAlive, tm.ping, tm.reassert = time.Second, 300*time.Millisecond, 500*time.Millisecond
	seen := subscribe(t, b.URL(), "sightd/dev1/status")
	c := newClient(t, Options{URL: p.url()}, tm)
	var mu sync.Mutex
	var errs []string
	c.opts.OnStatus = func(s Status) {
		mu.Lock()
		errs = append(errs, s.Error)
		mu.Unlock()
	}
	run(t, c)
	eventually(t, "a connection", func() bool { return c.Status().Connected })
	eventually(t, "online to be acknowledged", func() bool { return c.Stats().StatesPending == 0 })
	p.freeze()
	eventually(t, "the loss to be noticed", func() bool { return c.Status().Failures > 0 })
	eventually(t, "a connection", func() bool { return c.Status().Connected })
	// The broker knows nothing of it: it drops the old session for the new one,
	// and publishes its will, which mustn't have the last word.
	drain(t, c)
	eventually(t, "online to be said once more", func() bool {
		all := seen.on("sightd/dev1/status")
		return len(all) > 3 && all[len(all)-1] == Online
	})
	if all := seen.on("sightd/dev1/status"); !slices.Contains(all, Offline) {
		t.Errorf("the status was %q, want the will of the old session among it", all)
	}
	mu.Lock()
	defer mu.Unlock()
	if all := strings.Join(errs, "; "); !strings.Contains(all, "fallen silent") {
		t.Errorf("told as %q, want the broker to have fallen silent", all)
	}
}

func TestStatusHookAndCounters(t *testing.T) {
	t.Parallel()
	b := broker(t)
	p := startProxy(t, b.Addr().String())
	c := newClient(t, Options{URL: p.url()}, quick())
	var mu sync.Mutex
	var story []string
	c.opts.OnStatus = func(s Status) {
		mu.Lock()
		defer mu.Unlock()
		if s.Since.IsZero() {
			t.Error("a status without time")
		}
		story = append(story, fmt.Sprint(s.Connected, s.Reconnects, s.Error == ""))
	}
	stop := run(t, c)
	connected := func() bool { return c.Status().Connected }
	eventually(t, "a connection", connected)
	p.block(true)
	p.cut()
	eventually(t, "failures", func() bool { return c.Status().Failures >= 5 })
	p.block(false)
	eventually(t, "a connection", connected)
	stop()
	mu.Lock()
	defer mu.Unlock()
	if story[0] != "true 0 true" || story[len(story)-2] != "true 1 true" || story[len(story)-1] != "false 1 false" {
		t.Errorf("the hook was told %q", story)
	}
}
