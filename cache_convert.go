package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/onnx"
)

type cacheConvertCmd struct {
	File      string `arg:"" help:"Calibration cache, or a file of one of the other forms."`
	From      string `default:"auto" placeholder:"FORM" help:"What it is: cache, json, trt-ranges, trt-json, nvdla, ort-table, ort-json or ort-flatbuffers. By default its content tells."`
	Format    string `default:"cache" placeholder:"FORM" help:"What to write: one of the same forms, or qdq, a model with the scales as Q/DQ nodes; a cache by default."`
	To        string `placeholder:"VERSION" help:"TensorRT version that the cache's header is to name, such as 10.3.0; the same as before by default."`
	Algorithm string `placeholder:"NAME" help:"Algorithm that the header is to name, such as EntropyCalibration2; the same as before by default. The scales stay."`
	Model     string `placeholder:"FILE" help:"With --format qdq: the ONNX model that the cache is for."`
	Output    string `short:"o" default:"-" placeholder:"OUT" help:"File to write; standard output by default."`
}

const formQDQ = "qdq" // an ONNX model with QuantizeLinear and DequantizeLinear

func (c *cacheConvertCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	cache, notes, err := c.read()
	if err != nil {
		return err
	}
	note, err := c.setHeader(cache)
	if err != nil {
		return err
	}
	var out []byte
	var more []string
	if c.Format == formQDQ {
		out, more, err = c.quantize(cache)
	} else {
		out, more, err = cache.Encode(calibcache.Form(c.Format))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	for _, note := range slices.Concat(notes, note, more) {
		fmt.Fprintf(a.stderr, "sightd: %s: %s\n", c.File, note)
	}
	if c.Output == "-" {
		_, err = a.stdout.Write(out)
		return err
	}
	return durable.WriteFile(c.Output, out, 0o644)
}

// check sees that the flags go together, before anything is read.
func (c *cacheConvertCmd) check() error {
	if c.From == "" {
		c.From = "auto"
	}
	if c.Format == "" {
		c.Format = string(calibcache.FormCache)
	}
	if c.From != "auto" {
		if _, err := calibcache.ParseForm(c.From); err != nil {
			return usagef("--from: %w", err)
		}
	}
	if c.Format != formQDQ {
		if _, err := calibcache.ParseForm(c.Format); err != nil {
			return usagef("--format: %w and %s", err, formQDQ)
		}
	}
	switch headerless := !calibcache.Form(c.Format).HasHeader(); {
	case c.Format == formQDQ && c.Model == "":
		return usagef("--format %s: name the model that the cache is for with --model", formQDQ)
	case c.Format != formQDQ && c.Model != "":
		return usagef("--model: is for --format %s alone", formQDQ)
	case headerless && (c.To != "" || c.Algorithm != ""):
		return usagef("--format %s: has no header, leave out --to and --algorithm", c.Format)
	}
	if c.Algorithm != "" {
		if _, err := calibcache.ParseAlgorithm(c.Algorithm); err != nil {
			return usagef("--algorithm: %w", err)
		}
	}
	if c.To != "" {
		if _, err := calibcache.HeaderFor(c.To, calibcache.Entropy2); err != nil {
			return usagef("--to: %w", err)
		}
	}
	return nil
}

// read reads the file, of whatever form, with notes of what it has beyond a
// cache.
func (c *cacheConvertCmd) read() (*calibcache.Cache, []string, error) {
	cache, _, notes, err := calibcache.ReadForm(c.File, c.form())
	if err != nil {
		if strings.EqualFold(filepath.Ext(c.File), ".onnx") {
			return nil, nil, fmt.Errorf("%w: it seems to be a model, and the cache is wanted", err)
		}
		return nil, nil, err
	}
	return cache, notes, nil
}

// form is that of the file; "" where its content is to tell.
func (c *cacheConvertCmd) form() calibcache.Form {
	if c.From == "auto" {
		return ""
	}
	return calibcache.Form(c.From)
}

// setHeader gives the cache the header that is asked for, where the output has
// one. A file without one says nothing of TensorRT's version.
func (c *cacheConvertCmd) setHeader(cache *calibcache.Cache) (notes []string, err error) {
	if !calibcache.Form(c.Format).HasHeader() {
		return nil, nil
	}
	h := cache.Header
	if c.Algorithm != "" {
		h.Algorithm = calibcache.Algorithm(c.Algorithm)
	}
	switch {
	case h.Number == "" && c.To == "":
		return nil, usagef("%s has no header: name the TensorRT version that the cache is for with --to, such as --to 10.3.0", c.File)
	case h.Algorithm == "":
		h.Algorithm = calibcache.Entropy2
		notes = append(notes, fmt.Sprintf("it names no algorithm: the header says %s, which DLA takes; --algorithm changes that", h.Algorithm))
	}
	if c.To != "" {
		if h, err = calibcache.HeaderFor(c.To, h.Algorithm); err != nil {
			return nil, err
		}
	}
	cache.Header = h
	return notes, nil
}

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
