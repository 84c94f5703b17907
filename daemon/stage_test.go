package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/mqtt"
	"github.com/sightd/sightd/release"
)

// lively is a pace at which probation is looked at often.
var lively = pace{
	tick: 5 * time.Millisecond, log: time.Second, wait: time.Millisecond, most: 4 * time.Millisecond, check: 5 * time.Millisecond,
}

// stage is a daemon with a scripted back end, into which releases are installed.
type stage struct {
	*Daemon
	t       *testing.T
	c       *Config
	backend *scripted
	served  Backend // backend, or what the test has in its place, with the CPU's as backend
	sub     *subscriber
	stop    func()
}

// newStage makes one; with another back end the scripted one is the CPU's.
func newStage(t *testing.T, change func(*Config, *scripted), backend ...Backend) *stage {
	t.Helper()
	c := testConfig(t, bars())
	everyFrame(c)
	c.Releases.RequireSignature, c.Releases.Probation = false, milliseconds(50)
	c.Releases.Proof = ProofConfig{Frames: 4}
	s := &stage{t: t, c: c, backend: &scripted{name: "ort", lanes: 2}}
	s.served = s.backend
	if len(backend) > 0 {
		s.served = backend[0]
	}
	if change != nil {
		change(c, s.backend)
	}
	s.sub = subscribe(t, "mqtt://"+c.MQTT.Embedded, "homeassistant/#")
	s.start()
	return s
}

// start begins the daemon, again where it was stopped.
func (s *stage) start() {
	s.t.Helper()
	d, err := New(s.c, Options{backend: s.served, spare: s.backend, pace: lively, clock: func() error { return nil }, Worker: testenv.Worker(s.t), Log: testLog(s.t)})
	if err != nil {
		s.t.Fatal(err)
	}
	stop := stoppable(s.t, d)
	ended := false
	s.stop = func() {
		if !ended {
			ended = true
			stop()
		}
	}
	s.t.Cleanup(s.stop)
	s.Daemon = d
	eventually(s.t, "frames are classified", func() bool { return s.model().Frames > 3 })
}

func (s *stage) install(number int, change ...string) {
	s.t.Helper()
	rel, err := s.store.OpenArchive("the release", bytes.NewReader(packed(s.t, number, change...)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer rel.Close()
	if _, err := s.take(rel, release.Options{}); err != nil {
		s.t.Fatal(err)
	}
}

// is whether a release is in the state, with the code.
func (s *stage) is(number int, state release.State, code release.Code) bool {
	e, ok := s.entryOf(number)
	return ok && e.State == state && e.Code == code
}

func (s *stage) entryOf(number int) (release.Entry, bool) {
	s.t.Helper()
	all, err := s.store.List("lite0")
	if err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(e release.Entry) bool { return e.Number == number })
	if i < 0 {
		return release.Entry{}, false
	}
	return all[i], true
}

func (s *stage) wait(number int, state release.State, code release.Code) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("release %d is %s %s", number, state, code), func() bool { return s.is(number, state, code) })
}

// goesOn waits until the release of the number has classified frames of late.
func (s *stage) goesOn(number int) {
	s.t.Helper()
	var n uint64
	eventually(s.t, fmt.Sprintf("release %d serves", number), func() bool {
		m := s.model()
		n = m.Frames
		return m.State == modelServing && m.Release == number
	})
	eventually(s.t, "frames go on", func() bool { return s.model().Frames > n+3 })
}

// ordered holds the events to the order of the frames.
func (s *stage) ordered() {
	s.t.Helper()
	var last uint64
	for _, e := range events(s.t, s.sub, "bars") {
		if seq := e.Data.Frame.Seq; seq <= last {
			s.t.Fatalf("frame %d after %d", seq, last)
		}
		last = e.Data.Frame.Seq
	}
}

// told are the states that subscribers were told of a release.
func (s *stage) told(number int) []string {
	s.t.Helper()
	var all []string
	for _, raw := range s.sub.on("sightd/box/releases/lite0") {
		var r mqtt.Release
		if err := json.Unmarshal([]byte(raw), &r); err != nil {
			s.t.Fatal(err)
		}
		if r.Release == number {
			all = append(all, r.State)
		}
	}
	return slices.Compact(all)
}
