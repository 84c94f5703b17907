package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/release"
)

func (s *stage) damage(number string) {
	s.t.Helper()
	if err := os.Truncate(filepath.Join(s.c.StateDir, "releases", "lite0", number, "model.onnx"), 1000); err != nil {
		s.t.Fatal(err)
	}
}

func TestARollBackPassesOverADamagedRelease(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.stop()
	s.c.Releases.Probation = seconds(3600)
	s.start()
	s.install(3)
	s.wait(3, release.Serving, "")
	s.goesOn(3)
	s.damage("2")
	s.backend.failRelease(3, errScripted)
	s.wait(3, release.RolledBack, FailedInferences)
	s.goesOn(1)
	if e, _ := s.entryOf(3); !strings.Contains(e.Reason, "release 2 can't be gone back to: ") {
		t.Errorf("reason %q", e.Reason)
	}
}

// What is degraded is on probation still: once it shows that it is good, it is so no more.
func TestADegradedReleaseThatPassesItsProbationIsConfirmed(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) {
		c.Models[0].Release = ""
		c.Releases.Probation = seconds(3600)
		installWhileStopped(t, c, packed(t, 2))
	})
	s.backend.failRelease(2, errScripted)
	eventually(t, "it is degraded", func() bool { return s.model().Degraded })
	s.backend.failRelease(2, nil)
	s.stop()
	s.c.Releases.Probation = milliseconds(50)
	s.start()
	s.wait(2, release.Confirmed, "")
	eventually(t, "nothing is said of it any more", func() bool { m := s.model(); return !m.Degraded && m.Reason == "" })
}

// A factory release that came meanwhile, with a new configuration, is one to go back to.
func TestADegradedReleaseIsLeftOnceThereIsOneToGoBackTo(t *testing.T) {
	t.Parallel()
	var factory string
	s := newStage(t, func(c *Config, _ *scripted) {
		factory, c.Models[0].Release = c.Models[0].Release, ""
		c.Releases.Probation = seconds(3600)
		installWhileStopped(t, c, packed(t, 2))
	})
	s.backend.failRelease(2, errScripted)
	eventually(t, "it is degraded", func() bool { return s.model().Degraded })
	s.backend.failRelease(2, nil)
	s.stop()
	s.c.Models[0].Release = factory
	s.start()
	s.goesOn(2)
	s.backend.failRelease(2, errScripted)
	s.wait(2, release.RolledBack, FailedInferences)
	s.goesOn(1)
}
