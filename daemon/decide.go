package daemon

import (
	"math"
	"time"
)

// none is the label that stands when nothing reaches its least score.
const none = -1

// decider turns the scores of one camera's frames into a current label and
// says which of them are worth an event. It knows time only as the frames'
// capture time, so its answers depend on the frames alone.
type decider struct {
	floors []float32     // the least score by label; above 1: never
	hold   time.Duration // how long a label stands before it counts
	every  bool          // an event for each frame that shows a label, not for changes alone
	gap    time.Duration // with every: the least time between two events

	current        int // label index, or none
	candidate      int
	candidateSince time.Duration
	nextEvent      time.Duration
}

// verdict is what a decider says of a frame.
type verdict struct {
	seen    int     // the label that the frame shows, or none
	score   float32 // of that label; 0 for none
	changed bool    // seen is the current label from this frame on
	event   bool    // the frame is worth an event
}

func newDecider(c Events, labels []string) *decider {
	d := &decider{
		floors:    make([]float32, len(labels)),
		hold:      time.Duration(c.Hold),
		every:     c.Mode == "every",
		current:   none,
		candidate: none,
		nextEvent: math.MinInt64 / 2, // long due
	}
	if c.MaxRate > 0 {
		d.gap = time.Duration(float64(time.Second) / c.MaxRate)
	}
	allowed, denied := set(c.Labels.Allow), set(c.Labels.Deny)
	const never = 2
	for i, name := range labels {
		d.floors[i] = float32(c.MinScore)
		if own, ok := c.Labels.MinScore[name]; ok {
			d.floors[i] = float32(own)
		}
		if denied[name] || len(allowed) > 0 && !allowed[name] {
			d.floors[i] = never
		}
	}
	return d
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// observe takes the scores of one frame by label, captured at the given time
// of any one clock. The label that the frame shows is the best of those that
// reach their least score. It allocates nothing.
func (d *decider) observe(scores []float32, at time.Duration) verdict {
	seen, score := none, float32(0)
	for i, s := range scores[:min(len(scores), len(d.floors))] {
		if s >= d.floors[i] && s > score {
			seen, score = i, s
		}
	}
	if seen != d.candidate {
		d.candidate, d.candidateSince = seen, at
	}
	v := verdict{seen: seen, score: score}
	if seen != d.current && at-d.candidateSince >= d.hold {
		d.current = seen
		v.changed = true
	}
	if !d.every {
		v.event = v.changed && seen != none
		return v
	}
	if seen == none {
		return v
	}
	if d.gap > 0 && at < d.nextEvent {
		return v
	}
	// Counted from when it was due, so that frames that come a little late don't
	// lower the rate, but not from long ago, so that none burst.
	if at-d.nextEvent > d.gap/2 {
		d.nextEvent = at
	}
	d.nextEvent += d.gap
	v.event = true
	return v
}
