package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sightd/sightd/camera"
)

// mostLive is how long a new engine waits for the cameras' frames; what came until then
// has to do. Cameras that are off are no fault of a release's.
const mostLive = 10 * time.Second

// live gives the set's engine frames of the cameras. What serves classifies all of
// them too, so they are answered whatever this engine makes of them.
func (pr *proof) live(ctx context.Context, set *laneSet) error {
	if pr == nil || pr.skip || pr.limits.Frames == 0 || pr.u.Status().State != modelServing {
		return nil // else something serves, be it since a moment ago
	}
	pr.u.state(modelProving, set.rel, "with", "the cameras' frames")
	wake := make(chan struct{}, 1)
	for _, st := range set.streams {
		st.lane.Notify(wake)
		defer st.lane.Notify(pr.u.runner.wake)
	}
	pr.u.answers.listen(len(set.streams))
	defer pr.u.answers.stop()
	until := time.NewTimer(mostLive)
	defer until.Stop()
	l := live{proof: pr, set: set, seen: make([]int, len(set.streams)), since: pr.u.recent.now()}
	for rounds := 1; ; {
		worked, err := l.round()
		if err != nil {
			return err
		}
		if l.done() {
			l.measure()
			if l.slow() == nil || rounds == mostRounds {
				break
			}
			rounds++ // the machine may have had other things to do
			clear(l.seen)
			continue
		}
		if worked {
			continue
		}
		select {
		case <-wake:
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-until.C:
		}
		break
	}
	l.measure()
	l.compare(ctx)
	return nil
}

// mostRounds is how often an engine that seems too slow is measured.
const mostRounds = 3

// latencySlack is how much longer a run may take in any case: that much is in the
// measure, and matters to nobody.
const latencySlack = 2 * time.Millisecond

// measure compares the runs with those of what serves in the same moments. Of the new
// engine's the quickest quarter counts, since whatever else the machine does makes
// runs slower and none quicker.
func (l *live) measure() {
	r := &l.report
	r.latency = quartile(slices.Clone(r.runs))
	serving, n := l.u.recent.median(l.since)
	// A run's time goes by how many frames are in it: here it is one, while what serves has
	// as many as come. So there is no budget with batches.
	if l.memory > 0 && n >= leastMeasure && l.limits.Latency > 0 && l.set.batch == 1 {
		r.serving = serving
		r.budget = max(time.Duration(float64(serving)*l.limits.Latency), serving+latencySlack)
	}
}

// live is a proof by the cameras' frames that is under way.
type live struct {
	*proof
	set     *laneSet
	seen    []int  // frames by stream, of this round
	since   uint64 // when it began, as latencies.now tells
	answers []answer
}

func (l *live) done() bool {
	for i, n := range l.seen {
		if n < l.limits.Frames && !l.set.streams[i].lane.Ended() {
			return false
		}
	}
	return true
}

// round classifies a frame of each stream that has one.
func (l *live) round() (worked bool, err error) {
	for i, st := range l.set.streams {
		if l.seen[i] >= l.limits.Frames {
			st.skim() // what serves isn't to wait for the other cameras
			continue
		}
		f, ok := st.lane.Take()
		if !ok {
			continue
		}
		worked = true
		err := l.one(st, f)
		st.lane.Release(f)
		if err != nil {
			return true, err
		}
	}
	return worked, nil
}

func (l *live) one(st *stream, f camera.Frame) error {
	if f.Err != "" {
		return nil // the camera's fault
	}
	e, p := l.set.engine, l.set.prepared
	var b Binding
	if l.set.batch == 1 {
		b = st.bindings[f.Slot]
	} else {
		b = l.set.runs[0].bound[0]
		if err := b.Gather(0, st.frames[f.Slot]); err != nil {
			return engineFault(fmt.Errorf("a frame of camera %s: %w", st.camera, err))
		}
	}
	start := monotonic()
	if err := infer(e, b); err != nil {
		return engineFault(fmt.Errorf("frame %d of camera %s: engine: %w", f.Seq, st.camera, err))
	}
	l.report.runs = append(l.report.runs, monotonic()-start)
	var top [1]Score
	scores := b.Scores()
	if len(scores) != p.Classes {
		return failedf("frame %d of camera %s: the engine gave %d scores, wanted %d, one for each of the model's classes", f.Seq, st.camera, len(scores), p.Classes)
	}
	n, ok := topK(top[:], scores, p.First)
	if !ok || n == 0 {
		return failedf("frame %d of camera %s: %w", f.Seq, st.camera, errNotFinite)
	}
	l.seen[st.index]++
	l.report.live++
	l.answers = append(l.answers, answer{st.index, f.Seq, p.Labels[top[0].Index]})
	return nil
}

// compare holds the answers to those of what serves, which come a little later.
func (l *live) compare(ctx context.Context) {
	for range 20 {
		l.report.compared, l.report.agreed = l.u.answers.compare(l.answers)
		if l.report.compared >= len(l.answers)/2 || ctx.Err() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
