package mqtt

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// at listens on an address of the loopback, on a port that is free there and,
// where it isn't 0, the one given.
func at(t *testing.T, host string, port int) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
	if err != nil {
		t.Skipf("%s can't be listened on: %v", host, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// mute takes connections and never says anything.
func mute(t *testing.T, host string, port int) {
	t.Helper()
	l := at(t, host, port)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			all = append(all, c)
		}
		for _, c := range all {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

// hole is an address where nothing answers, not even with a refusal: a socket
// whose queue of connections is full.
func hole(t *testing.T, host string, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	address := &syscall.SockaddrInet4{Port: port, Addr: [4]byte(net.ParseIP(host).To4())}
	if err := syscall.Bind(fd, address); err != nil {
		t.Skipf("%s can't be bound to: %v", host, err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", host, port), 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("this system has no bound on a socket's queue")
}

// A name's addresses are tried in turn, each with its share of the time, down to
// the one where a broker answers; the next session begins there.
func TestNamesWithSeveralAddresses(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	cert, key := ca.issue(t, "server", time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	for scheme, lines := range map[string][]string{
		"mqtt":  {"allow_anonymous true"},
		"ws":    {"allow_anonymous true", "protocol websockets"},
		"mqtts": {"allow_anonymous true", "cafile " + ca.file, "certfile " + cert, "keyfile " + key},
	} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			// mosquitto listens for websockets on all addresses, whatever it is told.
			m := newMosquitto(t, lines...).start()
			port := startProxy(t, fmt.Sprintf("127.0.0.1:%d", m.port)).listener.Addr().(*net.TCPAddr).Port
			hole(t, "127.0.0.3", port)
			mute(t, "127.0.0.4", port)
			tm := quick()
			tm.connect = 4 * time.Second
			o := Options{URL: fmt.Sprintf("%s://broker.example:%d", scheme, port)}
			if scheme == "mqtts" {
				o.CAFile = ca.file
			}
			c := newClient(t, o, tm)
			c.dialer.resolve = func(_ context.Context, host string) ([]string, error) {
				if host != "broker.example" {
					t.Errorf("asked for %s", host)
				}
				return []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"}, nil // refused, a hole, mute, good
			}
			if scheme == "mqtts" {
				c.targets[0].host = "broker.example"
				run(t, c)
				// The certificate is for 127.0.0.1, not for the name: it is checked
				// against what the operator wrote, whichever address it leads to.
				eventually(t, "the reason", func() bool { return strings.Contains(c.Status().Error, "isn't for broker.example") })
				wantWords(t, c.Status().Error, "4 addresses were tried", "127.0.0.2: ", "refused")
				return
			}
			stop := run(t, c)
			eventually(t, "a connection", func() bool { return c.Status().Connected })
			if s := c.Status(); s.Address != "127.0.0.1" || s.Broker != o.URL {
				t.Errorf("status is %+v", s)
			}
			stop()
			failures := c.Status().Failures
			run(t, c)
			eventually(t, "another connection", func() bool { return c.Status().Connected })
			if n := c.Status().Failures; n != failures {
				t.Errorf("%d more failures, want the address that worked to come first", n-failures)
			}
		})
	}
}

func TestAddressesThatFailedComeLast(t *testing.T) {
	t.Parallel()
	var d dialer
	d.resolve = func(context.Context, string) ([]string, error) {
		return []string{"1", "2", "3", "4", "5", "6", "7"}, nil
	}
	want := func(order string) {
		t.Helper()
		got, err := d.addresses(context.Background(), target{"mqtt", "b", 1883, ""})
		if err != nil || strings.Join(got, "") != order {
			t.Errorf("addresses are tried as %v (%v), want %s", got, err, order)
		}
	}
	want("12345")
	for _, a := range []string{"1", "2", "3", "4", "5"} {
		d.failed(a)
	}
	want("67123")
	d.failed("6")
	d.failed("7")
	d.worked("4")
	want("41235")
	for i := range 10 * maxFailures {
		d.failed(fmt.Sprint("other", i))
	}
	if len(d.failures) > maxFailures {
		t.Errorf("%d addresses are remembered", len(d.failures))
	}
	d.resolve = func(context.Context, string) ([]string, error) { return nil, nil }
	if _, err := d.addresses(context.Background(), target{"mqtt", "b", 1883, ""}); err == nil {
		t.Error("no address is no error")
	}
}

// With several brokers, the next has its turn when there is no session with one;
// it is kept as long as it works, also when one before it comes back.
func TestBrokersHaveTheirTurn(t *testing.T) {
	t.Parallel()
	behind, second := newMosquitto(t, "allow_anonymous true").start(), newMosquitto(t, "allow_anonymous true").start()
	first := startProxy(t, behind.address())
	first.block(true)
	silent := script(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	tm := quick()
	tm.connect = 300 * time.Millisecond
	c := newClient(t, Options{URL: first.url(), Others: []string{silent.url(), second.url("mqtt")}}, tm)
	run(t, c)
	with := func(url string) func() bool {
		return func() bool { s := c.Status(); return s.Connected && s.Broker == url }
	}
	eventually(t, "a session with the last of the list", with(second.url("mqtt")))
	first.block(false)
	c.SetState(TopicHealth, []byte("{}"))
	drain(t, c)
	if !with(second.url("mqtt"))() {
		t.Errorf("it left the broker that works: %+v", c.Status())
	}
	if err := c.Publish(event("cam0", 1)); err != nil {
		t.Fatal(err)
	}
	second.end(syscall.SIGKILL)
	eventually(t, "a session with the first of the list", with(first.url()))
	drain(t, c)
	late := subscribe(t, behind.url("mqtt"), "sightd/#")
	eventually(t, "the states to be told there too", func() bool { return late.last("sightd/dev1/health") == "{}" })
}

func TestListsOfBrokersThatAreRefused(t *testing.T) {
	t.Parallel()
	many := make([]string, maxBrokers)
	for i := range many {
		many[i] = fmt.Sprint("mqtt://b", i)
	}
	for want, o := range map[string]Options{
		"mqtt.url[1]: scheme": {URL: "mqtt://a", Others: []string{"http://b"}},
		"mqtt.url[1]: the same as mqtt.url[0], mqtt://a:1883": {URL: "mqtt://a", Others: []string{"mqtt://a:1883"}},
		"at most 16":                    {URL: "mqtt://a", Others: many},
		"mqtt.url has mqtt, want mqtts": {URL: "mqtts://a", Others: []string{"mqtt://a"}, CAFile: "ca.pem"},
	} {
		o.Device = "d"
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
}
