package calibration

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
)

// Kept is what Keep found.
type Kept struct {
	Layers []string // to stay in floating point, in graph order; those that were kept before first
	Before Loss     // with no more than those kept
	After  Loss
	Tried  int // how many choices of layers were measured
}

// Keep finds the fewest layers that have to stay in floating point so that no
// more than most points are lost (of agreement, or of top-1 where classes are
// known; see [Loss.Within]), over all images of the sample. already are kept in
// any case.
//
// It takes the layers by what each costs alone and looks for the shortest
// beginning of that list that is enough, by halving; then gives back each of
// these that isn't needed beside the others. That finds a set from which nothing
// can be taken, not with certainty the smallest there is: there are too many.
func (s *Study) Keep(ctx context.Context, scales map[string]float32, already []string, most float64) (*Kept, error) {
	if _, err := s.reference(ctx); err != nil {
		return nil, err
	}
	layers, err := s.Layers(scales, already)
	if err != nil {
		return nil, err
	}
	k := &Kept{Layers: slices.Clone(already), Tried: 1}
	order := s.all() // in which images are compared
	lost := func(more []string) (Loss, error) {
		k.Tried++
		return s.lost(ctx, scales, slices.Concat(already, more), order, most)
	}
	if k.Before, err = s.lost(ctx, scales, already, order, 100); err != nil {
		return nil, err
	}
	if k.After = k.Before; k.Before.Within(most) {
		return k, nil
	}
	order = s.changedFirst(k.Before)
	ranked, err := s.Rank(ctx, layers, scales)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range ranked {
		names = append(names, l.Name)
	}
	// With all of them kept nothing is lost, so there is an end to it.
	enough, losses := len(names), map[int]Loss{}
	for low := 1; low < enough; {
		middle := (low + enough) / 2
		if losses[middle], err = lost(names[:middle]); err != nil {
			return nil, err
		}
		if losses[middle].Within(most) {
			enough = middle
		} else {
			low = middle + 1
		}
	}
	chosen := slices.Clone(names[:enough])
	if l, measured := losses[enough]; measured {
		k.After = l
	} else if k.After, err = lost(chosen); err != nil {
		return nil, err
	}
	// One that couldn't be given back may be once another has been, so this goes
	// on until none can.
	for before := len(chosen) + 1; len(chosen) < before; {
		before = len(chosen)
		for _, name := range slices.Backward(slices.Clone(chosen)) {
			without := slices.DeleteFunc(slices.Clone(chosen), func(n string) bool { return n == name })
			l, err := lost(without)
			if err != nil {
				return nil, err
			}
			if l.Within(most) {
				chosen, k.After = without, l
			}
		}
	}
	for _, l := range layers {
		if slices.Contains(chosen, l.Name) {
			k.Layers = append(k.Layers, l.Name)
		}
	}
	return k, nil
}

// lost is what is lost with these layers in floating point. Where only agreement
// counts and more than most points of it are lost already, the other images are
// spared: all is lost then.
func (s *Study) lost(ctx context.Context, scales map[string]float32, keep []string, order []int, most float64) (Loss, error) {
	images := make([]*frame, len(order))
	for n, i := range order {
		images[n] = s.sample[i]
	}
	var enough func(n, best int) bool
	if s.o.Classes == nil {
		var changed atomic.Int64
		enough = func(n, best int) bool {
			return best != s.truth.best[order[n]] && !(Loss{Agreement: 1 - float64(changed.Add(1))/float64(len(order))}).Within(most)
		}
	}
	loss := Loss{Images: len(order)}
	err := s.pass(fmt.Sprintf("answers with %d layers kept", len(keep)), len(order), func(step func()) error {
		a, err := s.answerUntil(ctx, quantised(scales, keep, nil), images, step, enough)
		if a != nil {
			loss = s.compare(a, order)
		}
		return err
	})
	return loss, err
}

// changedFirst is an order of the sample that begins with the images whose
// answers the loss found changed: few of them tell that a choice is no good.
func (s *Study) changedFirst(l Loss) []int {
	order := s.all()
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(l.changed[b], l.changed[a]) })
	return order
}
