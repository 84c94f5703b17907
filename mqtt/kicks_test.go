package mqtt

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Two devices with one identity, as from a cloned image, take each other's
// session. Both say so, and come back so seldom that one of them has peace.
func TestClonesAreFoundOut(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	cert, key := ca.issue(t, "server", time.Now().Add(time.Hour), x509.ExtKeyUsageServerAuth)
	for name, start := range map[string]func(t *testing.T) Options{
		"mosquitto": func(t *testing.T) Options {
			return Options{URL: newMosquitto(t, "allow_anonymous true").start().url("mqtt")}
		},
		"mosquitto over TLS": func(t *testing.T) Options {
			return Options{URL: newMosquitto(t, "allow_anonymous true", "cafile "+ca.file, "certfile "+cert, "keyfile "+key).start().url("mqtts"), CAFile: ca.file}
		},
		"mosquitto over websockets": func(t *testing.T) Options {
			return Options{URL: newMosquitto(t, "allow_anonymous true", "protocol websockets").start().url("ws")}
		},
		"embedded": func(t *testing.T) Options { return Options{URL: broker(t).URL()} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findClones(t, start(t))
		})
	}
}

func findClones(t *testing.T, o Options) {
	t.Helper()
	o.Device = "{image}"
	tm := quick()
	tm.least, tm.most = 100*time.Millisecond, 200*time.Millisecond
	tm.leastDuplicate, tm.mostDuplicate = time.Hour, time.Hour
	var stops []func()
	var clones []*Client
	for range 2 {
		c := newClient(t, o, tm)
		stops = append(stops, run(t, c))
		clones = append(clones, c)
	}
	said := func(c *Client) bool {
		return slices.ContainsFunc(c.Status().Warnings, func(w string) bool {
			return strings.Contains(w, `"sightd:{image}"`) && strings.Contains(w, "cloned") && strings.Contains(w, "{machine-id}")
		})
	}
	// The first to be sure withdraws, and the other is left alone.
	eventually(t, "one of them to say it", func() bool { return said(clones[0]) || said(clones[1]) })
	gone := 0
	if !said(clones[0]) {
		gone = 1
	}
	eventually(t, "its status to say it", func() bool {
		s := clones[gone].Status()
		return !s.Connected && strings.Contains(s.Error, "another client seems to connect")
	})
	eventually(t, "the other to be connected", func() bool { return clones[1-gone].Status().Connected })
	stops[gone]()

	// Once nobody takes its session, it is no longer said.
	clones[gone].timing = quick()
	clones[gone].timing.alone = 50 * time.Millisecond
	stops[1-gone]()
	run(t, clones[gone])
	eventually(t, "the warning to end", func() bool { s := clones[gone].Status(); return s.Connected && len(s.Warnings) == 0 })
}

func TestKicks(t *testing.T) {
	t.Parallel()
	const soon, alone = time.Minute, 15 * time.Minute
	kicked := &failure{stage: running, err: io.EOF, proven: true}
	refused := &failure{stage: dialling, err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	for _, tc := range []struct {
		name  string
		other *failure
		lasts time.Duration
		found bool
	}{
		{"kicked each time", kicked, time.Second, true},
		{"a reset tells nothing", &failure{stage: running, err: syscall.ECONNRESET, proven: true}, time.Second, true},
		{"an outage between", refused, 0, false},
		{"a time-out between", &failure{stage: running, err: errNoPing, proven: true}, time.Second, false},
		{"a message that may be why", &failure{stage: running, err: io.EOF, proven: true, message: "a message"}, time.Second, false},
		{"nothing acknowledged", &failure{stage: running, err: io.EOF}, time.Second, false},
		{"a session that held", kicked, 2 * time.Minute, false},
	} {
		var k kicks
		for range kicksSay - 1 {
			if k.failed(kicked, time.Second, soon, alone) {
				t.Errorf("%s: found too early", tc.name)
			}
		}
		k.failed(tc.other, tc.lasts, soon, alone)
		if k.failed(kicked, time.Second, soon, alone) != tc.found && tc.other != kicked {
			t.Errorf("%s: found is %v", tc.name, k.found)
		}
		if k.found != tc.found {
			t.Errorf("%s: found is %v", tc.name, k.found)
		}
	}
	k := kicks{inRow: kicksSay, found: true}
	for _, f := range []*failure{refused, kicked, {stage: running, err: errors.New("x")}} {
		k.failed(f, 10*time.Minute, soon, alone)
		if !k.found {
			t.Error("it is forgotten before a session shows that nobody takes it")
		}
	}
	if k.failed(kicked, alone, soon, alone) || k.found {
		t.Error("a session that lasted doesn't end it")
	}
}

// A fleet that loses its broker at one moment, with clocks that agree, comes
// back spread over the time for which each waits.
func TestFleetComesBackSpread(t *testing.T) {
	t.Parallel()
	const devices = 5000
	for _, down := range []time.Duration{0, 10 * time.Second, time.Hour} {
		perSecond := map[int]int{}
		attempts := map[int]int{}
		for range devices {
			at := time.Duration(0)
			for n := 0; ; n++ {
				at += backoff(n, defaultTiming.least, defaultTiming.most, rand.Float64())
				if at >= down {
					break
				}
				attempts[int(at/time.Second)]++
			}
			perSecond[int(at/time.Second)]++
		}
		busiest := 0
		for _, n := range perSecond {
			busiest = max(busiest, n)
		}
		// Without any spread all would come in one second.
		most := map[time.Duration]int{0: 60, 10 * time.Second: 20, time.Hour: 10}[down]
		if busiest > devices*most/100 {
			t.Errorf("after %v, %d of %d come back in one second, want at most %d %%", down, busiest, devices, most)
		}
		for second, n := range attempts {
			if second > 60 && n > devices/10 {
				t.Errorf("after %v: %d of %d try in second %d", down, n, devices, second)
			}
		}
	}
}

// A broker that is stopped in its tracks is noticed, and had again when it goes on.
func TestMosquittoFreezes(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t, "allow_anonymous true").start()
	seen := subscribe(t, m.url("mqtt"), "sightd/#")
	tm := quick()
	tm.keepAlive, tm.ping, tm.ack, tm.connect = time.Second, 500*time.Millisecond, time.Second, time.Second
	c := newClient(t, Options{URL: m.url("mqtt")}, tm)
	var mu sync.Mutex
	var errs []string
	c.opts.OnStatus = func(s Status) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, s.Error)
	}
	run(t, c)
	drain(t, c)
	eventually(t, "a connection", func() bool { return c.Status().Connected })
	if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := c.Publish(event("cam0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the loss, and an attempt in vain", func() bool { return c.Status().Failures >= 2 })
	if err := m.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	drain(t, c)
	eventually(t, "the events", func() bool { return len(seen.on("sightd/dev1/cam0/events")) >= 10 })
	wantSequence(t, sequence(t, seen.on("sightd/dev1/cam0/events")), 10)
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(errs, "; ")
	if !strings.Contains(all, "doesn't acknowledge") && !strings.Contains(all, "doesn't answer") && !strings.Contains(all, "don't acknowledge") && !strings.Contains(all, "fallen silent") {
		t.Errorf("told as %q", all)
	}
}
