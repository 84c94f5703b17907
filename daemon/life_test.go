package daemon

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/release"
)

func TestAReleaseIsProvenBesideTheOneThatServesAndThenConfirmed(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	// A retained state that is followed by another at once may be left out.
	eventually(t, "subscribers are told", func() bool { told := s.told(2); return len(told) > 0 && told[len(told)-1] == "confirmed" })
	want := []string{"staged", "built", "proven", "serving", "confirmed"}
	for _, told := range s.told(2) {
		i := slices.Index(want, told)
		if i < 0 {
			t.Fatalf("subscribers were told %q", s.told(2))
		}
		want = want[i+1:]
	}
	if p := s.model().Proof; p == nil || p.Release != 2 || p.Live != 4 || p.Compared == 0 || p.Agreed != p.Compared {
		t.Errorf("proof %+v, want 4 frames that all are answered as before", p)
	}
	inOrder(t, s.sub, "bars")
	if n, _, open := s.backend.counted(); n != 2 || open != 1 {
		t.Errorf("%d builds, %d engines open", n, open)
	}
	s.stop()
	s.start()
	s.goesOn(2)
	if p := s.model().Proof; p != nil {
		t.Errorf("a confirmed release was proven again: %+v", p)
	}
}

func TestAReleaseOnProbationThatFailsIsRolledBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	s.install(2)
	s.wait(2, release.Serving, "")
	s.goesOn(2)
	s.backend.failRelease(2, errScripted)
	s.wait(2, release.RolledBack, FailedInferences)
	s.goesOn(1)
	e, _ := s.entryOf(2)
	// A busy machine may find ten or more by counting before it is told of those in a row.
	if !strings.Contains(e.Reason, "10 frames in a row") && !strings.Contains(e.Reason, "the engine failed on ") {
		t.Errorf("reason %q", e.Reason)
	}
	s.ordered() // those that failed have none
	// It isn't tried again, also after a restart, until somebody asks.
	s.stop()
	s.backend.failRelease(2, nil)
	s.start()
	s.goesOn(1)
	if err := s.activate("lite0", e.ID()); err != nil {
		t.Fatal(err)
	}
	s.wait(2, release.Serving, "")
}

func TestAFailureNowAndThenDoesNotRollBackButProbationBeginsAnew(t *testing.T) {
	t.Parallel()
	p := &probation{served: time.Minute}
	s := newStage(t, nil)
	u := s.units[0]
	p.last, p.at = u.tally(), time.Now()
	u.faults.Add(1)
	if code, why := p.look(u, time.Now()); code != "" || p.served != 0 {
		t.Errorf("%s: %s, and %v are served", code, why, p.served)
	}
}

func TestWithNothingToGoBackToTheReleaseStaysDegraded(t *testing.T) {
	t.Parallel()
	c := testConfig(t, bars())
	c.Models[0].Release = ""
	c.Releases.RequireSignature, c.Releases.Probation = false, seconds(3600)
	installWhileStopped(t, c, packed(t, 2))
	b := &scripted{name: "ort", lanes: 1}
	d, _ := begin(t, c, Options{backend: b, pace: lively})
	eventually(t, "it serves", func() bool { return d.model().Frames > 0 })
	b.fail(errScripted)
	eventually(t, "it is degraded", func() bool { return d.model().Degraded })
	b.fail(nil)
	n := d.model().Frames
	eventually(t, "it goes on", func() bool { return d.model().Frames > n+3 })
	all, err := d.store.List("lite0")
	if err != nil || all[0].State != release.Serving || !all[0].Degraded || all[0].Code != FailedInferences {
		t.Error(all, err)
	}
}

func TestWhatFailsItsProofIsRejectedAndNeverServes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Config, *scripted)
		code   release.Code
		want   string
	}{
		"its engine fails":   {func(_ *Config, b *scripted) { b.failRelease(2, errScripted) }, release.ProofFailed, errScripted.Error()},
		"its scores are NaN": {func(_ *Config, b *scripted) { b.spoil(2) }, release.ProofFailed, "NaN or infinity"},
		"it is too slow": {func(c *Config, b *scripted) {
			c.Releases.Proof = ProofConfig{Frames: 16, Latency: 2}
			b.slow(2, 30*time.Millisecond)
		}, TooSlow, "releases.proof.latency"},
		"there is no room for it": {func(c *Config, _ *scripted) { c.Releases.Memory = "refuse" }, NoMemory, "releases.memory is refuse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, c.change)
			if c.code == NoMemory {
				s.units[0].available = func() (int64, bool) { return 1 << 20, true }
			}
			s.goesOn(1)
			eventually(t, "enough runs are measured", func() bool { _, n := s.units[0].recent.median(0); return n >= leastMeasure })
			s.install(2)
			s.wait(2, release.Rejected, c.code)
			if e, _ := s.entryOf(2); !strings.Contains(e.Reason, c.want) {
				t.Errorf("reason %q, want one with %q", e.Reason, c.want)
			}
			s.goesOn(1)
			if _, _, open := s.backend.counted(); open != 1 {
				t.Errorf("%d engines are open", open)
			}
			for _, e := range inOrder(t, s.sub, "bars") {
				if e.Data.Model.Release != 1 {
					t.Fatalf("release %d spoke", e.Data.Model.Release)
				}
			}
			s.install(3) // a bad one is no obstacle
			if c.code != NoMemory {
				s.wait(3, release.Confirmed, "")
			}
		})
	}
}

func TestWhereTwoEnginesDoNotFitTheOldOneIsClosedBefore(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.backend.oneAtATime()
	s.install(2)
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	// Where the new one is no good, the old one is opened again.
	s.backend.failRelease(3, errScripted)
	s.install(3)
	eventually(t, "it is left", func() bool { e, _ := s.entryOf(3); return e.State == release.Rejected || e.State == release.RolledBack })
	s.goesOn(2)
	if _, _, open := s.backend.counted(); open != 1 {
		t.Errorf("%d engines are open", open)
	}
	s.ordered() // with gaps
}

func TestManualActivationAndRollBackByHand(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) { c.Releases.Activate = "manual" })
	s.install(2)
	eventually(t, "it is proven and held", func() bool { e, _ := s.entryOf(2); return e.State == release.Proven && e.Held })
	s.goesOn(1)
	if err := s.activate("lite0", release.ID{Number: 2}); err != nil {
		t.Fatal(err)
	}
	s.wait(2, release.Confirmed, "")
	s.goesOn(2)
	if err := s.rollBack(t.Context(), "lite0", release.ID{Number: 7}, ""); err == nil || !strings.Contains(err.Error(), "release 2 serves, not 7") {
		t.Error(err)
	}
	if err := s.rollBack(t.Context(), "lite0", release.ID{}, "it sees ghosts"); err != nil {
		t.Fatal(err)
	}
	s.wait(2, release.RolledBack, release.ByHand)
	s.goesOn(1)
	if err := s.rollBack(t.Context(), "lite0", release.ID{}, ""); err == nil || !strings.Contains(err.Error(), "the factory release serves") {
		t.Error(err)
	}
}

func TestAHeldReleaseIsMadeReadyAndWaits(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	rel, err := s.store.OpenArchive("the release", bytes.NewReader(packed(t, 2)))
	if err != nil {
		t.Fatal(err)
	}
	defer rel.Close()
	if _, err := s.take(rel, release.Options{Hold: true}); err != nil {
		t.Fatal(err)
	}
	s.wait(2, release.Proven, "")
	s.goesOn(1)
	s.stop()
	s.start()
	s.goesOn(1)
	if err := s.activate("lite0", rel.ID()); err != nil {
		t.Fatal(err)
	}
	s.wait(2, release.Confirmed, "")
}

func TestReleasesWaitForTheWindow(t *testing.T) {
	t.Parallel()
	w := when{policy: "window", window: Window{2 * 60, 4 * 60}, build: true}
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	night := time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC)
	e := release.Entry{State: release.Staged}
	for name, c := range map[string]struct {
		e      release.Entry
		now    time.Time
		needed bool
		waits  bool
		serve  time.Time
	}{
		"at noon":              {e, noon, false, true, night},
		"at night":             {e, night, false, true, time.Time{}},
		"nothing serves":       {e, noon, true, true, time.Time{}},
		"it was asked for":     {release.Entry{State: release.Staged, Asked: true}, noon, false, false, time.Time{}},
		"it was proven before": {release.Entry{State: release.Proven}, noon, false, true, night},
	} {
		if waits := w.waits(c.e); waits != c.waits {
			t.Errorf("%s: it waits: %v", name, waits)
		}
		if at, held := w.activate(c.e, c.now, c.needed); !at.Equal(c.serve) || held {
			t.Errorf("%s: it serves at %v, held %v", name, at, held)
		}
	}
}

func TestACrashOnProbationRollsBackAtTheNextStart(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	s.install(2)
	s.wait(2, release.Serving, "")
	s.goesOn(2)
	boot := s.units[0].life.boot
	s.stop() // in order
	s.start()
	s.goesOn(2)
	s.stop()
	// As a process leaves it that is killed.
	if err := s.store.Try("lite0", release.ID{Number: 2}, boot); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.wait(2, release.RolledBack, release.Crashed)
	s.goesOn(1)
}

func TestAReleaseOnProbationThatMakesRoomIsNotBlamedForSilence(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *Config, _ *scripted) { c.Releases.Probation = seconds(3600) })
	s.install(2)
	s.wait(2, release.Serving, "")
	s.goesOn(2)
	s.backend.oneAtATime()
	s.install(3)
	s.wait(3, release.Serving, "")
	s.goesOn(3)
	if e, _ := s.entryOf(2); e.State != release.Proven || e.Code != release.Superseded {
		t.Errorf("2 is %s %s", e.State, e.Code)
	}
}

func TestReleasesThatComeAtOnceAreTriedByTheirNumbersAndNoneIsLost(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.backend.failRelease(5, errScripted)
	s.install(5)
	s.install(4)
	s.wait(5, release.Rejected, release.ProofFailed)
	s.wait(4, release.Confirmed, "")
	s.goesOn(4)
}
