package daemon

import (
	"context"
	"fmt"
	"sync"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/release"
)

// wish is where a release's engine is to run.
func (u *unit) wish(rel *release.Release) dla.Wish {
	if u.placement != nil {
		return dla.Wish(u.placement.Over(rel.Spec.Placement))
	}
	return dla.Wish(rel.Spec.Placement)
}

// options are what a graph of the unit depends on beside its release.
func (u *unit) options(rel *release.Release) PrepareOptions {
	o := PrepareOptions{Precision: u.precision, Batch: u.batch}
	if u.placement != nil {
		wish := u.wish(rel)
		o.Placement = &wish
	}
	return o
}

// prepare is the store's Prepare. Where the CPU is the back end itself, and doesn't
// stand in for another, what it can't do of what was asked for is remarked.
func (u *unit) prepare(b Backend, rel *release.Release) (*Prepared, error) {
	p, err := u.engines.Prepare(b, rel, u.options(rel))
	if err == nil && isCPU(u.backend) {
		if text := onCPU(u.wish(rel), WhyNot(u.backend)); text != "" {
			p.remark(text)
		}
	}
	return p, err
}

// onCPU says that the CPU serves where another device was asked for, or should be
// had: why auto isn't TensorRT, "" where the CPU was asked for. A machine without any
// TensorRT is as it should be.
func onCPU(w dla.Wish, why string) string {
	unused := "TensorRT isn't used: " + Unopened(why)
	cause := unused
	if why == "" {
		cause = "inference.backend is ort"
	}
	switch {
	case w.Device == "dla":
		return "asked for DLA: the CPU serves, as " + cause
	case w.Device == "gpu":
		return "asked for the GPU: the CPU serves, as " + cause
	case why != "" && tensorRTThere():
		return unused
	}
	return ""
}

// open makes a release ready to serve: prepared, built or loaded, warmed, and
// with lanes at every camera. Where its engine has to be built, or can't be had,
// and interim isn't nil, it gets a set of the CPU's before, or the reason why there is none.
func (u *unit) open(ctx context.Context, rel *release.Release, pr *proof, interim func(*laneSet, error)) (*laneSet, error) {
	u.state(modelPreparing, rel)
	store, spare := u.engines, func() {}
	if interim != nil {
		spare = sync.OnceFunc(func() { interim(u.openSpare(ctx, rel, pr)) })
		store.Absent = spare
	}
	set, err := u.openOwn(ctx, store, rel, pr)
	// What is wrong with the release itself is wrong for the CPU too.
	if err != nil && ctx.Err() == nil && release.CodeOf(err) == "" {
		spare()
	}
	if err == nil && pr != nil {
		if err = pr.verdict(set); err != nil {
			set.Close()
			return nil, err
		}
	}
	return set, err
}

// risk notes that the process is about to run an engine of which nobody is sure: one
// that is to be proven, or of a release on probation.
func (u *unit) risk(rel *release.Release, pr *proof) error {
	if pr == nil {
		if e, err := u.life.entry(rel); err != nil || e.State != release.Serving {
			return nil
		}
	}
	if err := u.life.try(rel); err != nil {
		return fmt.Errorf("note that release %s is tried: %w", rel.ID(), err)
	}
	return nil
}

// openOwn opens a release's engine of the unit's own back end.
func (u *unit) openOwn(ctx context.Context, store EngineStore, rel *release.Release, pr *proof) (*laneSet, error) {
	p, err := u.prepareOwn(rel)
	if err != nil {
		return nil, err
	}
	set, err := u.openWith(ctx, store, u.backend, rel, p, pr)
	if !goesToGPU(err) {
		return set, err
	}
	if p, err = u.prepareOwn(rel); err != nil {
		return nil, err
	}
	return u.openWith(ctx, store, u.backend, rel, p, pr)
}

// prepareOwn prepares a release for the unit's own back end, with the engine that the
// release carries, where it does.
func (u *unit) prepareOwn(rel *release.Release) (*Prepared, error) {
	p, err := u.prepare(u.backend, rel)
	if err != nil {
		return nil, err
	}
	return p, u.importEngine(rel, p)
}

// openSpare makes a release ready to be served by the CPU for the time being.
func (u *unit) openSpare(ctx context.Context, rel *release.Release, pr *proof) (*laneSet, error) {
	b, err := u.spare()
	if err != nil {
		return nil, err
	}
	p, err := u.prepare(b, rel)
	if err != nil {
		return nil, err
	}
	if pr != nil { // nothing else serves: its golden images are what there is to prove it with
		pr = &proof{u: u, skip: pr.skip}
	}
	set, err := u.openWith(ctx, u.engines, b, rel, p, pr)
	if err != nil {
		return nil, err
	}
	set.interim = true
	return set, nil
}

// oneLoads is held while an engine is loaded and warmed.
var oneLoads sync.Mutex

// openWith opens a release's engine on a back end, with lanes at every camera. pr is what
// the engine has to show before; nil: nothing.
func (u *unit) openWith(ctx context.Context, store EngineStore, b Backend, rel *release.Release, p *Prepared, pr *proof) (*laneSet, error) {
	// Only one engine is loaded and warmed at a time, so that what the process grows by is
	// that one's; building is outside of it. Whether there is room is asked when the engine
	// is built, so that nothing is closed for the time of a build.
	var before int64
	loading := false
	loaded := sync.OnceFunc(func() {
		if loading {
			oneLoads.Unlock()
		}
	})
	defer loaded()
	store.Loading = func() error {
		if err := pr.fits(); err != nil {
			return err
		}
		if !loading {
			oneLoads.Lock()
			loading = true
		}
		before = resident()
		return nil
	}
	w := &building{unit: u, rel: rel, backend: b.Name()}
	e, err := store.Open(ctx, b, p, w.progress)
	w.end(err)
	if err != nil {
		return nil, err
	}
	if b == u.backend && pr != nil {
		if err = u.life.built(rel); err != nil {
			e.Close()
			return nil, err
		}
	}
	if err = pr.warm(warm(e, p)); err == nil {
		err = ctx.Err()
	}
	memory := max(resident()-before, e.Size)
	loaded()
	if err == nil {
		err = pr.golden(ctx, e, p, rel)
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	set, err := attach(e, p, u.views, u.runner.wake)
	if err != nil {
		return nil, err
	}
	set.rel, set.prepared, set.backend = rel, p, b
	set.serve, set.memory = func() { u.serve(set) }, memory
	if err := pr.live(ctx, set); err != nil {
		set.Close()
		return nil, err
	}
	if u.Status().State == modelServing {
		set.skim()
	}
	return set, nil
}
