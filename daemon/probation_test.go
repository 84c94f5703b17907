package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
)

func TestARollBackThatTheStoreCannotNoteIsSaidOnceAndTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	s.install(2)
	s.goesOn(2)
	s.stop()
	d, log := beginLogged(t, s.c, Options{backend: s.served, spare: s.backend, pace: lively})
	eventually(t, "release 2 serves", func() bool { m := d.model(); return m.Release == 2 && m.Frames > 3 })
	path := filepath.Join(s.c.StateDir, "releases", "lite0", "state.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, "{")
	s.backend.failRelease(2, errScripted)
	eventually(t, "it can't be rolled back", func() bool { return len(log.lines("release can't be rolled back yet")) > 0 })
	n := d.model().Errors
	eventually(t, "it fails on", func() bool { return d.model().Errors > n+100 })
	if n := len(log.lines("release can't be rolled back yet")); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
	rewrite(t, path, string(good))
	eventually(t, "it is rolled back", func() bool { return d.model().Release == 1 })
	if n := len(log.lines("release could be rolled back now", "release=2")); n != 1 {
		t.Errorf("said %d times that it could be, want once", n)
	}
}

func TestARetryWaitsLongerEachTime(t *testing.T) {
	t.Parallel()
	var r retry
	now := time.Now()
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if first := r.failed(now, time.Second); first != (i == 0) || r.next.Sub(now) != want*time.Second {
			t.Errorf("failure %d: first %v, again in %v, want %v s", i+1, first, r.next.Sub(now), int(want))
		}
	}
}

// A command has an end, also where the keeper has none in sight.
func TestNobodyWaitsForARollBackForEver(t *testing.T) {
	t.Parallel()
	u := &unit{name: "lite0", orders: make(chan order, 1), kept: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- u.leave(ctx, release.ID{}, "") }()
	<-u.orders
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "isn't known yet") {
		t.Errorf("error %v", err)
	}
}
