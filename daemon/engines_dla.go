package daemon

import (
	"encoding/json"
	"errors"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

// An engine for DLA that goes beyond its placement's limits is kept in the store like
// any other: its sidecar is how a later start knows, without building it again, that
// the GPU takes its place, and limits that are raised later find it ready.

// toGPU is the error of an engine for DLA in whose place the placement allows one for
// the GPU: Prepare gives that from now on.
type toGPU struct{ over *dla.LimitError }

func (e *toGPU) Error() string { return e.over.Error() }
func (e *toGPU) Unwrap() error { return e.over }

// goesToGPU is whether another Prepare and Open will make an engine for the GPU.
func goesToGPU(err error) bool {
	var e *toGPU
	return errors.As(err, &e)
}

// unfit is the error of a wish that can't be had here, such as a placement: the wish or
// the release has to be mended.
type unfit struct{ error }

func (e *unfit) Unwrap() error { return e.error }

// limits says that an engine with this report isn't one that the placement allows.
func (p *Prepared) limits(r *BuildReport) error {
	if p.TensorRT == nil || r == nil || r.DLA == nil {
		return nil
	}
	err := r.DLA.Check(p.TensorRT.Wish)
	var over *dla.LimitError
	if errors.As(err, &over) && p.TensorRT.Wish.Fallback {
		return &toGPU{over}
	}
	return err
}

// Prepare is the back end's Prepare, by the store's note where it has one. Where
// the engine for DLA is known to go beyond its placement's limits, it is for the GPU.
func (s EngineStore) Prepare(back Backend, rel *release.Release, o PrepareOptions) (*Prepared, error) {
	p, err := s.prepare(back, rel, o)
	if err != nil || p.Device() != "dla" {
		return p, err
	}
	var gpu *toGPU
	if !errors.As(p.limits(s.reported(keyOf(back, p))), &gpu) {
		return p, nil
	}
	wish := p.TensorRT.Wish
	wish.Device = "gpu"
	o.Placement = &wish
	if p, err = s.prepare(back, rel, o); err != nil {
		return nil, err
	}
	p.TensorRT.Reason = "the GPU instead of DLA: " + gpu.over.What
	p.remark(p.TensorRT.Reason)
	s.Log.Warn("the GPU takes the place of DLA", "model", rel.Spec.Name, "release", rel.Spec.Release, "reason", gpu.over.What)
	return p, nil
}

// reported is what the build of a key's engine found out; nil where nothing is known.
func (s EngineStore) reported(key engineKey) *BuildReport {
	path := sidecar(s.file(key))
	var info engineInfo
	b, err := strict.ReadFile(path, maxSidecar)
	if err != nil || json.Unmarshal(b, &info) != nil || info.Key.ID() != key.ID() {
		return nil
	}
	touch(path) // or it is removed as unused, and built again
	return info.Report
}
