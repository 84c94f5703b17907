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
	s := newStage(t, func(c *Config, _ *scripted) { c.Releases.Probation = milliseconds(1500) })
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
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
