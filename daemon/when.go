package daemon

import (
	"time"

	"github.com/sightd/sightd/release"
)

// when says at what time of the day releases are built and made to serve.
type when struct {
	policy string // releases.activate
	window Window
	build  bool // in the window alone
}

// activate is when a proven release is to serve: now where at is zero or past, and
// where it is held, when somebody asks. A release that was asked for waits for
// nothing, nor does one without which nothing serves.
func (w when) activate(e release.Entry, now time.Time, needed bool) (at time.Time, held bool) {
	switch {
	case e.Asked || needed:
		return time.Time{}, false
	case w.policy == "manual":
		return time.Time{}, true
	case w.policy == "window" && !w.window.Contains(now):
		return w.window.Next(now), false
	}
	return time.Time{}, false
}

// waits is whether a release is built and proven, or served once it is proven, in the
// window alone.
func (w when) waits(e release.Entry) bool {
	if e.Asked {
		return false
	}
	if e.State == release.Proven {
		return w.policy == "window"
	}
	return w.build
}

// Next is when the window begins next after now.
func (w Window) Next(now time.Time) time.Time {
	y, m, d := now.Date()
	at := time.Date(y, m, d, w.From/60, w.From%60, 0, 0, now.Location())
	if !at.After(now) {
		at = time.Date(y, m, d+1, w.From/60, w.From%60, 0, 0, now.Location())
	}
	return at
}
