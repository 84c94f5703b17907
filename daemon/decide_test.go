package daemon

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// labelsOver feeds what a camera shows, a score for each of three labels every
// 100 ms.
func labelsOver(d *decider, frames ...[3]float32) (states []int, events int) {
	for i, f := range frames {
		v := d.observe(f[:], time.Duration(i+1)*100*time.Millisecond)
		if v.changed {
			states = append(states, v.seen)
		}
		if v.event {
			events++
		}
	}
	return states, events
}

var (
	cat, dog, empty = [3]float32{.9, .1, 0}, [3]float32{.1, .9, 0}, [3]float32{.4, .4, .2}
	names           = []string{"cat", "dog", "bird"}
)

func TestALabelThatReachesItsLeastScoreBecomesCurrent(t *testing.T) {
	t.Parallel()
	d := newDecider(Events{Mode: "change", MinScore: .5}, names)
	states, events := labelsOver(d, empty, cat, cat, empty, dog, dog)
	if diff := cmp.Diff([]int{0, none, 1}, states); diff != "" {
		t.Error(diff)
	}
	if events != 2 {
		t.Errorf("%d events, want one for each label that came: 2", events)
	}
}

func TestALabelStandsItsHoldBeforeItCounts(t *testing.T) {
	t.Parallel()
	d := newDecider(Events{Mode: "change", MinScore: .5, Hold: Duration(250 * time.Millisecond)}, names)
	states, events := labelsOver(d, cat, cat, dog, cat, cat, cat, cat, dog, cat)
	if diff := cmp.Diff([]int{0}, states); diff != "" || events != 1 {
		t.Errorf("a flicker counted: %d events\n%s", events, diff)
	}
}

func TestDeniedLabelsAreNeverSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Events{
		"denied":      {MinScore: .05, Labels: LabelsConfig{Deny: []string{"cat"}}},
		"not allowed": {MinScore: .05, Labels: LabelsConfig{Allow: []string{"dog", "bird"}}},
		"own floor":   {MinScore: .05, Labels: LabelsConfig{MinScore: map[string]float64{"cat": .95}}},
	} {
		states, _ := labelsOver(newDecider(c, names), cat)
		if diff := cmp.Diff([]int{1}, states); diff != "" {
			t.Errorf("%s: the runner-up should stand\n%s", name, diff)
		}
	}
}

func TestEveryFrameGivesAnEventUpToTheRate(t *testing.T) {
	t.Parallel()
	fifty := make([][3]float32, 50)
	for i := range fifty {
		fifty[i] = cat
	}
	for rate, want := range map[float64]int{0: 50, 10: 50, 5: 25, 1: 5} {
		_, events := labelsOver(newDecider(Events{Mode: "every", MinScore: .5, MaxRate: rate}, names), fifty...)
		if events != want {
			t.Errorf("max_rate %v: %d events in 5 s, want %d", rate, events, want)
		}
	}
}

func TestTopKIsSortedAndSkipsTheBackground(t *testing.T) {
	t.Parallel()
	scores := []float32{.5, .1, .2, .1, .05, .05}
	top := make([]Score, 3)
	n, ok := topK(top, scores, 0)
	if diff := cmp.Diff([]Score{{0, .5}, {2, .2}, {1, .1}}, top[:n]); diff != "" || !ok {
		t.Error(diff)
	}
	n, _ = topK(top, scores, 1)
	if diff := cmp.Diff([]Score{{1, .2}, {0, .1}, {2, .1}}, top[:n]); diff != "" {
		t.Error(diff)
	}
	if n, _ := topK(make([]Score, 9), scores, 1); n != 5 {
		t.Errorf("%d labels, want all 5", n)
	}
}

func TestScoresThatAreNoNumbersAreReported(t *testing.T) {
	t.Parallel()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, ok := topK(make([]Score, 2), []float32{.1, float32(bad), .3}, 0); ok {
			t.Errorf("%v passed as a score", bad)
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	d := newDecider(Events{Mode: "change", MinScore: .5}, names)
	top := make([]Score, 2)
	at := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() {
		at += time.Second
		topK(top, cat[:], 0)
		d.observe(cat[:], at)
	}); n != 0 {
		t.Errorf("%v allocations a frame, want none", n)
	}
}
