package main

import (
	"strings"
	"testing"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

func TestAReasonMovesNoCursor(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := &release.Status{Models: []release.ModelStatus{{Name: "lite0", Releases: []release.Entry{
		{Number: 2, State: release.RolledBack, Code: release.ByHand, Reason: "asked\x1b[2J for\nmore"},
	}}}}
	if err := writeReleaseStatus(&out, s, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "by-hand: asked?[2J for\n") {
		t.Errorf("%q", out.String())
	}
}

func TestReleaseStatusSaysHowFarAProbationIs(t *testing.T) {
	t.Parallel()
	status := &release.Status{Models: []release.ModelStatus{{
		Name: "lite0", Serving: 2, Releases: []release.Entry{{Number: 2, State: release.Serving}, {Number: 2, Revision: 7, State: release.Staged}},
	}}}
	running := &daemon.Status{Models: []daemon.ModelStatus{{
		Name: "lite0", State: "serving", Release: 2, Probation: &daemon.ProbationStatus{Served: 61.7, Of: 300},
	}}}
	var out strings.Builder
	if err := writeReleaseStatus(&out, status, running); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[1], "on probation, 1m1s of 5m0s") || strings.Contains(lines[2], "probation") {
		t.Errorf("found:\n%s", out.String())
	}
}
