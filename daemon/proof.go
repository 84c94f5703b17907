package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

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
	// On disk before it is told.
	if err := pr.u.life.proven(set.rel, r.budget); err != nil {
		return err
	}
	pr.u.proved(set.rel, pr)
	return nil
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
