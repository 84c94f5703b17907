package daemon

import (
	"context"
	"strings"
	"testing"

	"github.com/sightd/sightd/release"
)

func TestWhatIsRejectedWhileTheCPUStandsInIsLeftAtOnce(t *testing.T) {
	t.Parallel()
	b := &scripted{name: "tensorrt", lanes: 1}
	s := newStage(t, func(c *Config, _ *scripted) {}, b)
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	// Its engine, which was good, breaks: the CPU stands in, and the engine is no more
	// taken when it is opened again.
	b.failRelease(2, &release.Rejection{Code: release.CacheDoesNotFit, Err: errScripted})
	s.wait(2, release.Rejected, release.CacheDoesNotFit)
	s.goesOn(1)
	eventually(t, "by its engine", func() bool { m := s.model(); return !m.Interim && !m.Degraded })
}

func TestWhatIsRejectedWithNoneToGoBackToIsDegraded(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Models[0].Release = ""
	c.Releases.RequireSignature = false
	installWhileStopped(t, c, packed(t, 2))
	b := &scripted{name: "tensorrt", lanes: 1, building: func(context.Context, int, func(BuildProgress)) error {
		return &release.Rejection{Code: TooLarge, Err: errScripted}
	}}
	d, _ := begin(t, c, Options{backend: b, spare: &scripted{name: "ort", lanes: 1}, pace: lively})
	eventually(t, "it is degraded", func() bool { m := d.model(); return m.Degraded && m.State == modelServing && m.Interim })
	n := d.model().Frames
	eventually(t, "it goes on", func() bool { return d.model().Frames > n+3 })
	if why := d.model().Reason; !strings.Contains(why, errScripted.Error()) || !strings.Contains(why, "no release to go back to") {
		t.Errorf("reason %q", why)
	}
}
