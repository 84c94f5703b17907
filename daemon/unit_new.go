package daemon

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/sightd/sightd/release"
)

// newUnit makes what serves a model, with the watches of the cameras that it looks at.
func (d *Daemon) newUnit(m ModelConfig, b Backend, boot string) *unit {
	r := d.cfg.Releases
	u := &unit{
		name: m.Name, backend: b, batch: max(int(d.cfg.Inference.Batch), 1), precision: d.opts.precision, placement: m.Placement,
		pace:    cmp.Or(d.opts.pace, usualPace),
		engines: EngineStore{Dir: filepath.Join(d.cfg.StateDir, "engines"), Log: d.log},
		offers:  make(chan *release.Release, maxOffers),
		orders:  make(chan order),
		kept:    make(chan struct{}),
		broken:  make(chan *laneSet, 1),
		log:     d.log,
		life:    &life{d: d, name: m.Name, boot: boot}, plan: func() ([]*release.Release, []*release.Release, error) { return d.candidates(m.Name) },
		when:      when{policy: r.Activate, window: r.Window, build: r.Build == "window"},
		probation: time.Duration(r.Probation), limits: r.Proof, memory: r.Memory, worker: d.opts.Worker, available: availableMemory,
		progress: d.progress, stir: d.stir, doom: d.doom, settled: make(chan struct{}),
		infer:  d.metrics.infer.WithLabelValues(m.Name),
		status: ModelStatus{Name: m.Name, State: modelPreparing, Builds: builds{}},
	}
	for _, outcome := range buildOutcomes {
		u.status.Builds[outcome] = 0
	}
	if m.WhileBuilding == "cpu" && !isCPU(b) {
		u.spare = func() (Backend, error) {
			if d.opts.spare != nil {
				return d.opts.spare, nil
			}
			o := d.cfg.BackendOptions(d.log)
			o.Name = "ort"
			return OpenBackend(context.Background(), o)
		}
	}
	u.engines.Damaged = &u.damaged
	u.engines.Insist = d.opts.pace != (pace{}) // the pace is the unit's own then
	u.runner = newRunner(u.sink)
	for i, c := range d.cfg.Cameras {
		if len(c.Models) > 0 && !slices.Contains(c.Models, m.Name) {
			continue
		}
		u.views = append(u.views, d.cameras[i])
		u.watches = append(u.watches, newWatch(c.Name, m.Name, d.cfg.Events, d.say))
		u.failing = append(u.failing, false)
		u.age = append(u.age, d.metrics.age.WithLabelValues(c.Name, m.Name))
	}
	return u
}
