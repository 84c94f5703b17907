package daemon

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/release"
)

// A release that is in the store and can't be opened this moment, for want of a file
// descriptor, say, comes to serve without a restart.
func TestAnInstalledReleaseThatCannotBeOpenedIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.stop()
	var failures atomic.Int32
	d, err := New(s.c, Options{
		backend: s.backend, pace: lively, Worker: testenv.Worker(t), Log: testLog(t),
		get: func(name string, id release.ID) (*release.Release, error) {
			if failures.Add(1) <= 3 {
				return nil, errors.New("too many open files")
			}
			return s.store.Get(name, id)
		},
	})
	must(t, err)
	stop := stoppable(t, d)
	t.Cleanup(stop)
	s.Daemon = d
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
}

func TestReleasesThatAreTooManyAtOnceAreNotLost(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.install(2)
	s.wait(2, release.Confirmed, "")
	u := s.units[0]
	u.late.add(release.ID{Number: 2}) // which needs nothing any more
	u.late.add(release.ID{Number: 9}) // nor is this one there
	eventually(t, "both are seen to", func() bool { u.late.mu.Lock(); defer u.late.mu.Unlock(); return len(u.late.all) == 0 })
	s.goesOn(2)
}

func TestARemovedReleaseIsTriedAndTalkedOfNoMore(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.backend.unloadable(errScripted) // which may pass
	s.install(2)
	eventually(t, "it is tried again and again", func() bool { b := s.model().Build; return b != nil && b.Attempts > 2 })
	if err := s.remove("lite0", release.ID{Number: 2}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is said of it", func() bool { m := s.model(); return m.Build == nil && m.Reason == "" })
	eventually(t, "subscribers know", func() bool { told := s.told(2); return len(told) > 0 && told[len(told)-1] == "rejected" })
	s.goesOn(1)
	if m := s.model(); m.Build != nil || m.Reason != "" {
		t.Errorf("%+v %q", m.Build, m.Reason)
	}
}
