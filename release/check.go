package release

import (
	"cmp"
	"fmt"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

// Checked is what [Release.Check] found out.
type Checked struct {
	Spec      Spec
	Precision string // that was checked for
	Model     *onnx.Model
	Image     onnx.ImageInput
	Output    onnx.OutputInfo
	Labels    []string        // by index, from class Spec.Output.First on
	Fit       *calibcache.Fit // of the cache; nil where the precision isn't int8

	cache *calibcache.Cache // that Fit is of
	path  string            // of the model, for messages
}

// Check reads the model and tells whether its input, the labels and the golden
// images' index fit it and, for INT8, the calibration cache. The precision "" is the release's own.
func (r *Release) Check(precision string) (*Checked, error) {
	c := &Checked{Spec: r.Spec, Precision: cmp.Or(precision, r.Spec.Precision), path: r.Model}
	var err error
	if c.Model, err = onnx.Read(r.Model); err != nil {
		return nil, rejectf(BadModel, "model: %w", err)
	}
	if c.Image, err = c.Model.Image(); err != nil {
		return nil, rejectf(BadModel, "model %s: %w", r.Model, err)
	}
	if err := r.checkColor(c.Image.Channels); err != nil {
		return nil, err
	}
	if c.Output, err = c.Model.Classes(); err != nil {
		return nil, rejectf(BadModel, "model %s: %w", r.Model, err)
	}
	if c.Labels, err = r.LabelsFor(c.Output.Classes); err != nil {
		return nil, err
	}
	if err := r.checkGolden(c.Labels); err != nil {
		return nil, err
	}
	if c.Precision == "int8" {
		c.cache, c.Fit, err = r.checkCache(c.Model)
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

// checkCache tells whether the cache names enough of what INT8 needs.
func (r *Release) checkCache(m *onnx.Model) (*calibcache.Cache, *calibcache.Fit, error) {
	if r.Calibration == "" {
		return nil, nil, rejectf(BadCache, "release %d of %s has no calibration cache, which INT8 needs: name one as `calibration`, or take precision fp16 or fp32", r.Spec.Release, r.Spec.Name)
	}
	cache, err := calibcache.Read(r.Calibration)
	if err != nil {
		return nil, nil, rejectf(BadCache, "calibration cache: %w", err)
	}
	fit, err := calibcache.Check(cache, m)
	if err != nil {
		return nil, nil, rejectf(CacheDoesNotFit, "calibration cache %s: %w", r.Calibration, err)
	}
	if fit.Coverage < r.Spec.Coverage {
		missing := ""
		if len(fit.Missing) > 0 {
			missing = fmt.Sprintf(" (%q is missing, and %d more)", fit.Missing[0], len(fit.Missing)-1)
		}
		return nil, nil, rejectf(CacheDoesNotFit,
			"calibration cache %s doesn't fit the model: it names %.1f %% of the activations that INT8 needs, coverage asks for %.1f %%%s; `sightd cache check %s --model %s` lists them",
			r.Calibration, 100*fit.Coverage, 100*r.Spec.Coverage, missing, r.Calibration, r.Model)
	}
	return cache, fit, nil
}
