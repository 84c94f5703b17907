package calibration

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeepFindsTheLayersThatINT8Ruins(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "wide"), Options{Files: pictures(t, 60)})
	scales := s.Scales(MinMax)
	k, err := s.Keep(t.Context(), scales, nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	// The layer that makes the tensor and the one that reads it.
	if diff := cmp.Diff([]string{"wide", "pick"}, k.Layers); diff != "" {
		t.Error(diff)
	}
	if k.Before.Points() < 30 || k.After.Points() > 10 || k.After.Images != 60 {
		t.Errorf("before %+v, after %+v", k.Before, k.After)
	}
}

func TestKeepKeepsNothingWhereNothingIsLost(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "wide"), Options{Files: pictures(t, 20)})
	k, err := s.Keep(t.Context(), s.Scales(MinMax), []string{"wide", "pick"}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"wide", "pick"}, k.Layers); diff != "" || k.Tried != 1 {
		t.Errorf("tried %d\n%s", k.Tried, diff)
	}
}

func TestPointsAreOfTop1WhereClassesAreKnown(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "sound"), Options{Files: pictures(t, 30)})
	truth, err := s.reference(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// FP32 is right on all images but the first, for which the second-best is.
	s.o.Classes = map[string]int{}
	for i, f := range s.sample {
		s.o.Classes[f.path] = truth.best[i]
	}
	s.o.Classes[s.sample[0].path] = (truth.best[0] + 1) % 4
	changed := &answers{scores: truth.scores, best: slices.Clone(truth.best)}
	changed.best[0] = (truth.best[0] + 1) % 4 // now right
	changed.best[1] = (truth.best[1] + 1) % 4 // now wrong
	changed.best[2] = (truth.best[2] + 1) % 4
	l := s.compare(changed, s.all())
	if math.Abs(l.Points()-100.0/30) > 1e-9 || math.Abs(l.Agreement-27.0/30) > 1e-9 || l.Labelled != 30 {
		t.Errorf("%+v: %v points", l, l.Points())
	}
	s.o.Classes = nil
	if l := s.compare(changed, s.all()); math.Abs(l.Points()-10) > 1e-9 {
		t.Errorf("%+v: %v points of agreement", l, l.Points())
	}
}

func TestTop1HasToStayWithinTheDropOnOtherImagesToo(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		loss Loss
		want bool
	}{
		"nothing changed":                      {Loss{Agreement: 1, Labelled: 200, Top1: 0.8, Reference: 0.8}, true},
		"two of 200 changed for the worse":     {Loss{Agreement: 0.99, Labelled: 200, Top1: 0.79, Reference: 0.8, worse: 2}, true},
		"ten changed, by chance as many right": {Loss{Agreement: 0.95, Labelled: 200, Top1: 0.8, Reference: 0.8, worse: 5, better: 5}, false},
		"the same of many images":              {Loss{Agreement: 0.95, Labelled: 20000, Top1: 0.8, Reference: 0.8, worse: 500, better: 500}, true},
		"many images, and lost too much":       {Loss{Agreement: 0.95, Labelled: 20000, Top1: 0.788, Reference: 0.8, worse: 620, better: 380}, false},
		"agreement is taken as it is":          {Loss{Agreement: 0.99}, true},
		"agreement lost":                       {Loss{Agreement: 0.985}, false},
	} {
		if got := test.loss.Within(1); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRankPutsTheLayerFirstThatCostsMost(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "wide"), Options{Files: pictures(t, 20)})
	scales := s.Scales(MinMax)
	layers, err := s.Layers(scales, []string{"second"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range layers {
		names = append(names, l.Name)
		if (l.Name == "second") != l.Kept || (l.Name == "second") == l.INT8 {
			t.Errorf("%+v", l)
		}
	}
	// The ReLU is part of the first; nothing INT8 reads what the mean makes.
	if diff := cmp.Diff([]string{"first", "wide", "pick", "second", "mean", "classify"}, names); diff != "" {
		t.Error(diff)
	}
	ranked, err := s.Rank(t.Context(), layers, scales)
	if err != nil {
		t.Fatal(err)
	}
	if first := []string{ranked[0].Name, ranked[1].Name}; !slices.Contains(first, "wide") || !slices.Contains(first, "pick") {
		t.Errorf("the costliest are %v", first)
	}
	for _, l := range ranked {
		if !l.INT8 || l.Alone == nil || l.Alone.Images != 20 {
			t.Errorf("%+v", l)
		}
	}
}

func TestNoiseGrowsWhereTheRangeIsTooSmallOrTooLarge(t *testing.T) {
	t.Parallel()
	s := observed(t, checked(t, "sound"), Options{Files: pictures(t, 20)})
	noise := func(scales map[string]float32) map[string]float64 {
		layers, err := s.Layers(scales, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Noise(t.Context(), layers, scales, nil); err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		for _, l := range layers {
			found[l.Name] = l.SNR
		}
		return found
	}
	good := s.Scales(MinMax)
	tight, loose := s.Scales(MinMax), s.Scales(MinMax)
	tight["r1"] /= 4
	loose["r1"] *= 32
	g, a, b := noise(good), noise(tight), noise(loose)
	if !(g["first"] > 30) || !(a["first"] < g["first"]-10) || !(b["first"] < g["first"]-20) {
		t.Errorf("dB with a good range %v, a tight one %v, a loose one %v", g, a, b)
	}
}

func TestChooseComparesOnImagesThatWereHeldBack(t *testing.T) {
	t.Parallel()
	s := open(t, checked(t, "sound"), Options{Files: pictures(t, 50)})
	if err := s.Observe(t.Context(), DefaultPercentile, true); err != nil {
		t.Fatal(err)
	}
	list, err := s.Choose(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(Algorithms) || s.HeldBack() != 10 {
		t.Fatalf("%d candidates, %d images held back", len(list), s.HeldBack())
	}
	for i, c := range list {
		if c.Loss.Images != 10 || !(c.Loss.SNR > 0) {
			t.Errorf("%+v", c)
		}
		if i > 0 && c.Loss.Agreement > list[i-1].Loss.Agreement {
			t.Errorf("%s agrees more often than %s before it", c.Algorithm, list[i-1].Algorithm)
		}
	}
	// Each value of the input was counted for the 40 others alone.
	if n := s.Tensors[0].Histogram.Total(); n != 40*3*12*12 {
		t.Errorf("%d values of the input were counted, want those of 40 images", n)
	}
}
