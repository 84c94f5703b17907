package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
)

// A mosquitto is the real broker, in a process that a test can end.
type mosquitto struct {
	t       testing.TB
	program string
	config  string
	port    int
	cmd     *exec.Cmd
	log     testenv.Buffer
}

// newMosquitto prepares one that listens on a free port of the loopback, with
// lines of configuration for that listener. start starts it.
func newMosquitto(t testing.TB, lines ...string) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, program: "/usr/sbin/mosquitto", port: freePort(t)}
	if path, err := exec.LookPath("mosquitto"); err == nil {
		m.program = path
	} else if _, err := os.Stat(m.program); err != nil {
		t.Skip("mosquitto isn't installed: apt install mosquitto")
	}
	m.config = filepath.Join(t.TempDir(), "mosquitto.conf")
	// Version 2.0.11 ends at once where websockets are all that it listens for,
	// hence a second listener.
	text := fmt.Sprintf("log_dest stderr\nuser root\nper_listener_settings true\nlistener %d 127.0.0.1\nlistener %d 127.0.0.1\n%s\n",
		freePort(t), m.port, strings.Join(lines, "\n"))
	if err := os.WriteFile(m.config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(syscall.SIGKILL) })
	return m
}

// freePort is one that nobody listens on, at the moment.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (m *mosquitto) start() *mosquitto {
	m.t.Helper()
	m.cmd = exec.Command(m.program, "-c", m.config)
	m.cmd.Stderr = &m.log
	m.cmd.Stdout = &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", m.address())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return m
}

func (m *mosquitto) end(sig syscall.Signal) {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(sig)
	_ = m.cmd.Wait()
	m.cmd = nil
}

func (m *mosquitto) address() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

func (m *mosquitto) url(scheme string) string { return scheme + "://" + m.address() }

// deliver has a client publish an event and a state, and waits until they are
// acknowledged.
func deliver(t *testing.T, o Options) *Client {
	t.Helper()
	c := newClient(t, o, quick())
	stop := run(t, c)
	if err := c.Publish(event("cam0", 1)); err != nil {
		t.Fatal(err)
	}
	c.SetState(TopicCameraStatus("cam0"), []byte(Online))
	drain(t, c)
	stop()
	return c
}

// fails runs a client until it has failed, and gives the reason.
func fails(t *testing.T, o Options) string {
	t.Helper()
	c := newClient(t, o, quick())
	stop := run(t, c)
	eventually(t, "a failure", func() bool { return c.Status().Failures > 0 })
	words := c.Status().Error
	stop()
	return words
}

func wantWords(t *testing.T, words string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(words, w) {
			t.Errorf("told as %q, want %q in it", words, w)
		}
	}
}

func TestMosquitto(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous true").start()
	seen := subscribe(t, m.url("mqtt"), "sightd/#")
	deliver(t, Options{URL: m.url("mqtt")})
	eventually(t, "the event", func() bool { return len(seen.on("sightd/dev1/cam0/events")) == 1 })
	eventually(t, "the state", func() bool { return seen.last("sightd/dev1/cam0/status") == Online })
	eventually(t, "offline", func() bool { return seen.last("sightd/dev1/status") == Offline })
}

func TestMosquittoOverWebsockets(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "protocol websockets", "allow_anonymous true").start()
	deliver(t, Options{URL: m.url("ws") + "/mqtt"})
}

// With a user and password from a file, which is read again for each session.
func TestMosquittoWithPassword(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users, password := filepath.Join(dir, "users"), filepath.Join(dir, "password")
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		t.Skip("mosquitto_passwd isn't installed: apt install mosquitto")
	}
	if out, err := exec.Command(tool, "-c", "-b", users, "kiosk", "right").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(users, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMosquitto(t, "allow_anonymous false", "password_file "+users).start()
	write := func(s string) {
		if err := os.WriteFile(password, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantWords(t, fails(t, Options{URL: m.url("mqtt")}), "not authorised", "mqtt.username")

	write("wrong")
	c := newClient(t, Options{URL: m.url("mqtt"), Username: "kiosk", PasswordFile: password}, quick())
	run(t, c)
	eventually(t, "refusals", func() bool { return c.Status().Failures > 1 })
	wantWords(t, c.Status().Error, "not authorised", "mqtt.password_file")
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file to be told", func() bool { return strings.Contains(c.Status().Error, password) })
	write("right")
	eventually(t, "a connection", func() bool { return c.Status().Connected })
}

func TestMosquittoWithTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	hour := time.Now().Add(time.Hour)
	cert, key := ca.issue(t, "server", hour, x509.ExtKeyUsageServerAuth)
	server := []string{"cafile " + ca.file, "certfile " + cert, "keyfile " + key, "allow_anonymous true"}
	clientCert, clientKey := ca.issue(t, "client", hour, x509.ExtKeyUsageClientAuth)
	strangeCert, strangeKey := other.issue(t, "stranger", hour, x509.ExtKeyUsageClientAuth)

	t.Run("CA from a file", func(t *testing.T) {
		t.Parallel()
		m := newMosquitto(t, server...).start()
		deliver(t, Options{URL: m.url("mqtts"), CAFile: ca.file})
		wantWords(t, fails(t, Options{URL: m.url("mqtts"), CAFile: other.file}), "authority that isn't trusted", "mqtt.ca_file")
		wantWords(t, fails(t, Options{URL: m.url("mqtts")}), "authority that isn't trusted", "mqtt.ca_file")
		name := fmt.Sprintf("mqtts://localhost:%d", m.port)
		wantWords(t, fails(t, Options{URL: name, CAFile: ca.file}), "isn't for localhost", "mqtt.url")
		wantWords(t, fails(t, Options{URL: m.url("mqtt")}), "mqtts://")
	})
	t.Run("client certificate", func(t *testing.T) {
		t.Parallel()
		m := newMosquitto(t, append(server, "require_certificate true")...).start()
		deliver(t, Options{URL: m.url("mqtts"), CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey})
		wantWords(t, fails(t, Options{URL: m.url("mqtts"), CAFile: ca.file}), "mqtt.cert_file")
		wantWords(t, fails(t, Options{URL: m.url("mqtts"), CAFile: ca.file, CertFile: strangeCert, KeyFile: strangeKey}), "mqtt.cert_file")
	})
	t.Run("websockets", func(t *testing.T) {
		t.Parallel()
		m := newMosquitto(t, append(server, "protocol websockets")...).start()
		deliver(t, Options{URL: m.url("wss"), CAFile: ca.file})
		wantWords(t, fails(t, Options{URL: m.url("wss"), CAFile: other.file}), "authority that isn't trusted")
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		cert, key := ca.issue(t, "old", time.Now().Add(-time.Minute), x509.ExtKeyUsageServerAuth)
		m := newMosquitto(t, "cafile "+ca.file, "certfile "+cert, "keyfile "+key, "allow_anonymous true").start()
		wantWords(t, fails(t, Options{URL: m.url("mqtts"), CAFile: ca.file}), "isn't valid at this device's time", "set the clock")
	})
	t.Run("other versions of TLS", func(t *testing.T) {
		t.Parallel()
		config, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		s := script(t, func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{config}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}).Handshake()
		})
		wantWords(t, fails(t, Options{URL: "mqtts://" + s.listener.Addr().String(), CAFile: ca.file}), "TLS 1.2 or later")
	})
	t.Run("TLS spoken to a plain port", func(t *testing.T) {
		t.Parallel()
		m := newMosquitto(t, "allow_anonymous true").start()
		wantWords(t, fails(t, Options{URL: m.url("mqtts"), CAFile: ca.file}), m.address(), "port for TLS")
	})
	t.Run("certificates are read again", func(t *testing.T) {
		t.Parallel()
		m := newMosquitto(t, server...).start()
		rotated := filepath.Join(t.TempDir(), "ca.pem")
		replace := func(from string) {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(rotated, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		replace(other.file)
		c := newClient(t, Options{URL: m.url("mqtts"), CAFile: rotated}, quick())
		run(t, c)
		eventually(t, "refusals", func() bool { return c.Status().Failures > 1 })
		replace(ca.file)
		eventually(t, "a connection", func() bool { return c.Status().Connected })
	})
}

// The broker isn't there yet, is killed in the middle, and is started again.
// The outbox keeps what it didn't acknowledge. A subscriber with a session of
// its own sees every event, each id once or more, in order.
func TestMosquittoIsStartedLateAndRestarted(t *testing.T) {
	t.Parallel()
	const n = 900
	// Everything that mosquitto acknowledged is on its disk when it ends, and
	// no subscriber's queue is too short.
	m := newMosquitto(t, "allow_anonymous true", "persistence true", "persistence_location "+t.TempDir()+"/",
		"max_queued_messages 0")
	c := newClient(t, Options{URL: m.url("mqtt"), Log: slog.New(slog.DiscardHandler)}, quick())
	run(t, c)
	publish := func(from, to int) {
		for i := from; i <= to; i++ {
			if err := c.Publish(event("cam0", i)); err != nil {
				t.Error(err)
			}
		}
	}
	publish(1, n/3)
	eventually(t, "failures", func() bool { return c.Status().Failures > 2 })

	m.start()
	seen := subscribe(t, m.url("mqtt"), "sightd/#")
	drain(t, c)
	publish(n/3+1, 2*n/3)
	eventually(t, "some more to be delivered", func() bool { return c.Stats().Acked > n/3+10 })
	m.end(syscall.SIGTERM)
	publish(2*n/3+1, n)
	if s := c.Stats(); s.Queued < n/3 {
		t.Errorf("%d events queued, want those of the outage at least", s.Queued)
	}
	m.start()
	drain(t, c)
	eventually(t, "the last event", func() bool {
		return strings.Contains(seen.last("sightd/dev1/cam0/events"), fmt.Sprintf(`"seq":%d,`, n))
	})
	seqs := sequence(t, seen.on("sightd/dev1/cam0/events"))
	// Events from before the subscription are none of its business.
	for len(seqs) > 0 && seqs[0] <= n/3 {
		seqs = seqs[1:]
	}
	for i := range seqs {
		seqs[i] -= n / 3
	}
	wantSequence(t, seqs, n-n/3)
	if s := c.Stats(); s.Acked != n || s.Reconnects != 1 {
		t.Errorf("stats are %+v, want %d acked and one reconnect", s, n)
	}
	eventually(t, "online", func() bool { return seen.last("sightd/dev1/status") == Online })
}

// A device that vanishes is said to be offline, and its states are told again
// when it is back; a later subscriber finds them retained.
func TestMosquittoPublishesTheWill(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous true").start()
	p := startProxy(t, m.address())
	seen := subscribe(t, m.url("mqtt"), "sightd/#")
	c := newClient(t, Options{URL: p.url()}, quick())
	run(t, c)
	c.SetState(TopicClassification("cam0", "m"), []byte("person"))
	c.SetState(TopicClassification("cam1", "m"), []byte("cat"))
	drain(t, c)
	eventually(t, "online", func() bool { return seen.last("sightd/dev1/status") == Online })
	p.block(true)
	p.cut()
	eventually(t, "offline", func() bool { return seen.last("sightd/dev1/status") == Offline })
	late := subscribe(t, m.url("mqtt"), "sightd/+/status")
	eventually(t, "offline, retained", func() bool { return late.last("sightd/dev1/status") == Offline })

	for i := range 1000 {
		c.SetState(TopicClassification("cam0", "m"), []byte(fmt.Sprint("dog ", i)))
	}
	c.SetState(TopicClassification("cam1", "m"), nil)
	p.block(false)
	eventually(t, "online", func() bool { return seen.last("sightd/dev1/status") == Online })
	eventually(t, "the last state", func() bool { return seen.last("sightd/dev1/cam0/classification/m") == "dog 999" })
	if all := seen.on("sightd/dev1/cam0/classification/m"); len(all) != 2 {
		t.Errorf("states seen are %q, want the first and the last", all)
	}
	drain(t, c)
	if got := seen.last("sightd/dev1/cam1/classification/m"); got != "" {
		t.Errorf("the cleared state is %q", got)
	}
	if s := c.Stats(); s.States != 2 {
		t.Errorf("%d states are kept, want status and cam0", s.States)
	}
}
