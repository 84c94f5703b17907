//go:build gocv_specific_modules

package main

import "time"

// gate lets frames through at a rate, as evenly as they come.
type gate struct {
	period time.Duration // 0 lets all through
	next   time.Time
}

// open is whether the frame of this moment goes through. Frames may come a
// quarter of a period early, since a camera's clock is not ours; over time the
// rate holds, because each counts from when it was due.
func (g *gate) open(now time.Time) bool {
	if g.period == 0 {
		return true
	}
	if now.Before(g.next.Add(-g.period / 4)) {
		return false
	}
	g.next = g.next.Add(g.period)
	if now.Sub(g.next) > 0 {
		g.next = now.Add(g.period)
	}
	return true
}
