package release

import (
	"fmt"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/onnx"
)

const maxCache = 64 << 20

// Checked is what [Release.Check] found out.
type Checked struct {
	Spec          Spec
	Width, Height int // of the model's input, in pixels
	Classes       int
	Coverage      float64 // of the calibration cache; 0 where there is none
}

// Check reads the model and tells whether its input, the labels and the
// calibration cache fit it.
func (r *Release) Check() (*Checked, error) {
	m, err := onnx.Read(r.Model)
	if err != nil {
		return nil, rejectf(BadModel, "model: %w", err)
	}
	image, err := m.Image()
	if err != nil {
		return nil, rejectf(BadModel, "model %s: %w", r.Model, err)
	}
	if err := r.checkColor(image.Channels); err != nil {
		return nil, err
	}
	classes, err := m.Classes()
	if err != nil {
		return nil, rejectf(BadModel, "model %s: %w", r.Model, err)
	}
	if _, err := r.LabelsFor(classes.Classes); err != nil {
		return nil, err
	}
	c := &Checked{Spec: r.Spec, Width: image.Width, Height: image.Height, Classes: classes.Classes}
	if r.Calibration != "" {
		c.Coverage, err = r.checkCache(m)
	}
	return c, err
}

func (r *Release) checkColor(channels int) error {
	wanted := 3
	if r.Spec.Input.Color == "gray" {
		wanted = 1
	}
	if channels != wanted {
		return rejectf(BadModel, "model %s takes %d channels, which input.color: %s doesn't give; wanted %s",
			r.Model, channels, r.Spec.Input.Color, map[bool]string{true: "gray", false: "rgb or bgr"}[channels == 1])
	}
	return nil
}

// checkCache returns the cache's coverage.
func (r *Release) checkCache(m *onnx.Model) (float64, error) {
	data, err := strict.ReadFile(r.Calibration, maxCache)
	if err != nil {
		return 0, rejectf(BadCache, "calibration cache: %w", err)
	}
	cache, err := calibcache.Parse(data)
	if err != nil {
		return 0, rejectf(BadCache, "calibration cache %s: %w", r.Calibration, err)
	}
	fit, err := calibcache.Check(cache, m)
	if err != nil {
		return 0, rejectf(CacheDoesNotFit, "calibration cache %s: %w", r.Calibration, err)
	}
	if r.Spec.Precision == "int8" && fit.Coverage < r.Spec.Coverage {
		missing := ""
		if len(fit.Missing) > 0 {
			missing = fmt.Sprintf(" (%q is missing, and %d more)", fit.Missing[0], len(fit.Missing)-1)
		}
		return 0, rejectf(CacheDoesNotFit,
			"calibration cache %s doesn't fit the model: it names %.1f %% of the activations that INT8 needs, coverage asks for %.1f %%%s; `sightd cache check %s --model %s` lists them",
			r.Calibration, 100*fit.Coverage, 100*r.Spec.Coverage, missing, r.Calibration, r.Model)
	}
	return fit.Coverage, nil
}
