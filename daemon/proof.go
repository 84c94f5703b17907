package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// mostLive is how long a new engine waits for the cameras' frames; what came until then
// has to do. Cameras that are off are no fault of a release's.
const mostLive = 10 * time.Second

// proof is what a release's engine has to show before it may serve, while another
// serves: it gets the golden images, and as many real frames of each camera as are
// wanted.
type proof struct {
	u      *unit
	limits ProofConfig
	room   int64 // bytes of memory that the engine likely takes; 0: not known
	beside bool  // something serves
	strict bool  // or did until a moment ago: a machine that serves is no excuse for an engine that fails
	memory int64 // of what serves

	skip   bool // it was proven before
	report proofReport
}

// proofReport is what the proof found out.
type proofReport struct {
	golden   goldenReport
	live     int             // frames
	compared int             // of those, with the answer of what serves
	agreed   int             // of those
	runs     []time.Duration // with the cameras' frames
	latency  time.Duration   // that a quarter of those took at most
	memory   int64           // bytes that the engine takes, roughly
	serving  time.Duration   // the median of what serves, in the same moments
	budget   time.Duration   // that a run may take; 0: any
}

// proof is that of an attempt's release.
func (k *keeper) proof(a *attempt) *proof {
	pr := &proof{u: k.u, limits: k.u.limits, strict: k.current != nil}
	if e, err := k.u.life.entry(a.rel); err == nil && (e.State == release.Proven || e.State == release.Confirmed) {
		pr.skip = true
		pr.report.budget = time.Duration(e.Budget * float64(time.Millisecond))
	}
	if c := k.current; c != nil && !a.gap {
		pr.beside, pr.room, pr.memory = true, c.memory, c.memory
		if c.interim { // another back end, which says nothing of this one
			pr.memory = 0
		}
	}
	return pr
}

// warm is what the failure to warm the release's engine up means.
func (pr *proof) warm(err error) error {
	if err == nil || pr == nil || !pr.strict {
		return err
	}
	return engineFault(err)
}

// golden gives the engine the release's golden images.
func (pr *proof) golden(ctx context.Context, e *OpenedEngine, p *Prepared, rel *release.Release) (err error) {
	if pr == nil || pr.skip {
		return nil
	}
	pr.u.state(modelProving, rel, "with", "golden images")
	pr.report.golden, err = proveGolden(ctx, e, p, rel, pr.u.worker, pr.u.log)
	return err
}

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
	// A frame's share of a batch says nothing of how long a run takes.
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

// engineFault is the rejection of a release whose engine fails, unless the machine is
// to blame.
func engineFault(err error) error {
	if release.CodeOf(err) != "" {
		return err
	}
	switch trt.StatusOf(err) {
	case trt.NoMemory, trt.NoDevice, trt.Missing, trt.Cancelled, trt.Broken:
		return err
	}
	return failedf("%w", err)
}

// verdict holds what was measured to the budgets, and notes that the release is
// proven. set is that which proved itself.
func (pr *proof) verdict(set *laneSet) error {
	r := &pr.report
	r.memory = set.memory
	if !pr.skip {
		if err := pr.withinBudget(set); err != nil {
			return err
		}
	}
	pr.u.proved(set.rel, pr)
	return pr.u.life.proven(set.rel, r.budget)
}

// slow is the rejection of an engine that takes too long.
func (pr *proof) slow() error {
	r := &pr.report
	if r.budget == 0 || len(r.runs) < leastMeasure || r.latency <= r.budget {
		return nil
	}
	return &release.Rejection{Code: TooSlow, Err: fmt.Errorf("a run takes %v, what serves takes %v: at most %.4g times as long is allowed (releases.proof.latency)",
		r.latency.Round(time.Microsecond), r.serving.Round(time.Microsecond), pr.limits.Latency)}
}

func (pr *proof) withinBudget(set *laneSet) error {
	r, rel := &pr.report, set.rel
	if err := pr.slow(); err != nil {
		return err
	}
	if most := int64(float64(pr.memory)*pr.limits.Memory) + memorySlack; pr.memory > 0 && pr.limits.Memory > 0 && r.memory > most {
		return &release.Rejection{Code: TooLarge, Err: fmt.Errorf("its engine takes %d MiB of memory, what serves takes %d MiB: at most %.4g times as much and %d MiB are allowed (releases.proof.memory)",
			r.memory>>20, pr.memory>>20, pr.limits.Memory, int64(memorySlack)>>20)}
	}
	if wanted := rel.Spec.Proof.Agreement; wanted > 0 && r.compared > 0 {
		if share := float64(r.agreed) / float64(r.compared); share < wanted {
			return &release.Rejection{Code: Disagrees, Err: fmt.Errorf("it answers %d of %d frames as what serves does, %.1f %%; its manifest wants %.4g %% (proof.agreement)",
				r.agreed, r.compared, 100*share, 100*wanted)}
		}
	}
	return nil
}

// memorySlack is how much more than the budget an engine may take: so much is in the
// measure that isn't the engine's.
const memorySlack = 64 << 20

// noRoom is the error of an engine that isn't loaded since there is too little memory.
type noRoom struct{ need, have int64 }

func (e *noRoom) Error() string {
	return fmt.Sprintf("%d MiB of memory are available, about %d MiB are needed", e.have>>20, e.need>>20)
}

// fits is whether there is room for the engine, as far as that is known.
func (pr *proof) fits() error {
	if pr == nil || !pr.beside || pr.room == 0 {
		return nil
	}
	need := pr.room + memorySlack
	if have, known := pr.u.available(); known && have < need {
		return &noRoom{need, have}
	}
	return nil
}

// outOfMemory is whether memory is what an engine lacks.
func outOfMemory(err error) bool {
	var full *noRoom
	return errors.As(err, &full) || trt.StatusOf(err) == trt.NoMemory
}
