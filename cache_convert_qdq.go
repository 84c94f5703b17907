package main

import (
	"fmt"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

// quantize puts the scales into the model.
func (c *cacheConvertCmd) quantize(cache *calibcache.Cache) (b []byte, notes []string, err error) {
	model, err := onnx.Read(c.Model)
	if err != nil {
		return nil, nil, err
	}
	fit, err := calibcache.Check(cache, model)
	if err != nil {
		return nil, nil, err
	}
	report, err := model.Quantize(fit.Scales, onnx.QuantizeOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("quantise %s: %w", c.Model, err)
	}
	if report.INT8() == 0 {
		return nil, nil, fmt.Errorf("no layer of %s can run in INT8 with its scales, which name %d of the %d activations needed: "+
			"`sightd cache check %s --model %s` lists the others", c.Model, fit.Named, fit.Needed, c.File, c.Model)
	}
	notes = []string{fmt.Sprintf("%d of %d layers are INT8", report.INT8(), len(report.Layers))}
	if missing := len(fit.Missing); missing > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d needed activations have no scale: the layers around them stay in floating point", missing, fit.Needed))
	}
	b, err = model.Encode()
	return b, notes, err
}

// dequantize takes a model with Q/DQ nodes apart into a cache, still without a
// header, and the serialised model without them.
func (c *cacheConvertCmd) dequantize() (cache *calibcache.Cache, plain []byte, notes []string, err error) {
	model, err := onnx.Read(c.File)
	if err != nil {
		return nil, nil, nil, err
	}
	report, err := model.Dequantize()
	if err == nil {
		cache, err = calibcache.FromScales(calibcache.Header{}, report.Scales, model)
	}
	if err == nil {
		plain, err = model.Encode()
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", c.File, err)
	}
	fit, err := calibcache.Check(cache, model)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", c.File, err)
	}
	notes = report.Notes
	if len(fit.Missing) > 0 {
		notes = append(notes, fmt.Sprintf("it has a scale for %d of the %d activations that INT8 needs: `sightd cache check OUT --model %s` lists the others",
			fit.Named, fit.Needed, c.Plain))
	}
	return cache, plain, notes, nil
}
