package daemon

import (
	"context"
	"sync"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/release"
)

// options are what a graph of the unit depends on beside its release.
func (u *unit) options(rel *release.Release) PrepareOptions {
	o := PrepareOptions{Precision: u.precision, Batch: u.batch}
	if u.placement != nil {
		wish := dla.Wish(u.placement.Over(rel.Spec.Placement))
		o.Placement = &wish
	}
	return o
}

// open makes a release ready to serve: prepared, built or loaded, warmed, and
// with lanes at every camera. Where its engine has to be built, or can't be loaded,
// and interim isn't nil, it gets a set of the CPU's before, or the reason why there is none.
func (u *unit) open(ctx context.Context, rel *release.Release, interim func(*laneSet, error)) (*laneSet, error) {
	u.state(modelPreparing, rel)
	p, err := u.engines.Prepare(u.backend, rel, u.options(rel))
	if err != nil {
		return nil, err
	}
	store, spare := u.engines, func() {}
	if interim != nil {
		spare = sync.OnceFunc(func() { interim(u.openSpare(ctx, rel)) })
		store.Absent = spare
	}
	set, err := u.openWith(ctx, store, u.backend, rel, p)
	if goesToGPU(err) {
		if p, err = u.engines.Prepare(u.backend, rel, u.options(rel)); err != nil {
			return nil, err
		}
		set, err = u.openWith(ctx, store, u.backend, rel, p)
	}
	if err != nil && ctx.Err() == nil && release.CodeOf(err) == "" {
		spare() // what was stored can't be loaded
	}
	return set, err
}

// openSpare makes a release ready to be served by the CPU for the time being.
func (u *unit) openSpare(ctx context.Context, rel *release.Release) (*laneSet, error) {
	b, err := u.spare()
	if err != nil {
		return nil, err
	}
	p, err := u.engines.Prepare(b, rel, u.options(rel))
	if err != nil {
		return nil, err
	}
	set, err := u.openWith(ctx, u.engines, b, rel, p)
	if err != nil {
		return nil, err
	}
	set.interim = true
	return set, nil
}

func (u *unit) openWith(ctx context.Context, store EngineStore, b Backend, rel *release.Release, p *Prepared) (*laneSet, error) {
	w := &building{unit: u, rel: rel, backend: b.Name()}
	e, err := store.Open(ctx, b, p, w.progress)
	w.end(err)
	if err != nil {
		return nil, err
	}
	if err := warm(e, p); err != nil {
		e.Close()
		return nil, err
	}
	if ctx.Err() != nil {
		e.Close()
		return nil, ctx.Err()
	}
	set, err := attach(e, p, u.views, u.runner.wake)
	if err != nil {
		return nil, err
	}
	set.rel, set.prepared, set.backend = rel, p, b
	set.serve = func() { u.serve(set) }
	return set, nil
}
