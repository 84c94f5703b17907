//go:build gocv_specific_modules

package main

import (
	"testing"
	"time"
)

func TestGateHoldsTheRate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		source, limit float64 // frames a second
		jitter        time.Duration
		least, most   int // in ten seconds
	}{
		"no limit":             {30, 0, 0, 300, 300},
		"half":                 {30, 15, 0, 149, 151},
		"half, with jitter":    {30, 15, 4 * time.Millisecond, 145, 151},
		"just below the limit": {14.9, 15, 0, 148, 149},
		"just above the limit": {15.1, 15, 0, 149, 151},
		"a third of a rate":    {25, 10, 0, 98, 101},
		"slow source":          {1, 15, 0, 10, 10},
	} {
		g := gate{}
		if test.limit > 0 {
			g.period = time.Duration(float64(time.Second) / test.limit)
		}
		begin := time.Unix(1000, 0)
		n := 0
		for i := range int(10 * test.source) {
			at := begin.Add(time.Duration(float64(i) * float64(time.Second) / test.source))
			if i%2 == 1 {
				at = at.Add(test.jitter)
			}
			if g.open(at) {
				n++
			}
		}
		if n < test.least || n > test.most {
			t.Errorf("%s: %d frames in ten seconds, wanted %d to %d", name, n, test.least, test.most)
		}
	}
}
