package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/durable"
)

type cacheConvertCmd struct {
	File      string `arg:"" help:"Calibration cache, a file of one of the other forms, or an ONNX model with Q/DQ nodes."`
	From      string `default:"auto" placeholder:"FORM" help:"What it is: cache, json, trt-ranges, trt-json, nvdla, ort-table, ort-json, ort-flatbuffers or qdq. By default its content tells, or its name for a model."`
	Format    string `default:"cache" placeholder:"FORM" help:"What to write: one of the same forms, or qdq, a model with the scales as Q/DQ nodes; a cache by default."`
	To        string `placeholder:"VERSION" help:"TensorRT version that the cache's header is to name, such as 10.3.0; the same as before by default."`
	Algorithm string `placeholder:"NAME" help:"Algorithm that the header is to name, such as EntropyCalibration2; the same as before by default. The scales stay."`
	Model     string `placeholder:"FILE" help:"With --format qdq: the ONNX model that the cache is for."`
	Plain     string `placeholder:"OUT" help:"With a model to convert: the file for the model without its Q/DQ nodes, which the cache is for."`
	Output    string `short:"o" default:"-" placeholder:"OUT" help:"File to write; standard output by default."`
}

const formQDQ = "qdq" // an ONNX model with QuantizeLinear and DequantizeLinear

func (c *cacheConvertCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	models := []string{c.Model} // a cache may be converted in place, a model mustn't be lost
	if filepath.Ext(c.File) == ".onnx" {
		models = append(models, c.File)
	}
	if c.Output != "-" {
		if err := writable(c.Output, append(models, c.Plain)...); err != nil {
			return err
		}
	}
	if err := writable(c.Plain, append(models, c.File)...); err != nil {
		return err
	}
	cache, plain, notes, err := c.read()
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
	if plain != nil {
		if err := durable.WriteFile(c.Plain, plain, 0o644); err != nil {
			return err
		}
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
	if c.From == "auto" && strings.EqualFold(filepath.Ext(c.File), ".onnx") {
		c.From = formQDQ
	}
	if c.Format == "" {
		c.Format = string(calibcache.FormCache)
	}
	if c.From != "auto" && c.From != formQDQ {
		if _, err := calibcache.ParseForm(c.From); err != nil {
			return usagef("--from: %w and %s", err, formQDQ)
		}
	}
	if c.Format != formQDQ {
		if _, err := calibcache.ParseForm(c.Format); err != nil {
			return usagef("--format: %w and %s", err, formQDQ)
		}
	}
	switch headerless := !calibcache.Form(c.Format).HasHeader(); {
	case c.Format == formQDQ && c.From == formQDQ:
		return usagef("%s is a model already: --format %s makes one of a cache and a model", c.File, formQDQ)
	case c.Format == formQDQ && c.Model == "":
		return usagef("--format %s: name the model that the cache is for with --model", formQDQ)
	case c.Format != formQDQ && c.Model != "":
		return usagef("--model: is for --format %s alone", formQDQ)
	case c.From == formQDQ && c.Plain == "":
		return usagef("%s is a model: name a file with --plain for it without its Q/DQ nodes, which the cache is for", c.File)
	case c.From != formQDQ && c.Plain != "":
		return usagef("--plain: is for a model to convert, which %s isn't (--from %s takes it as one)", c.File, formQDQ)
	case c.Plain != "" && filepath.Clean(c.Plain) == filepath.Clean(c.Output):
		return usagef("--plain and -o both name %s", c.Output)
	case c.From == formQDQ && !headerless && c.To == "":
		return usagef("%s has no header: name the TensorRT version that the cache is for with --to, such as --to 10.3.0", c.File)
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
// cache. Of a model it gives the plain one, too.
func (c *cacheConvertCmd) read() (cache *calibcache.Cache, plain []byte, notes []string, err error) {
	form := calibcache.Form(c.From)
	switch c.From {
	case formQDQ:
		return c.dequantize()
	case "auto":
		form = ""
	}
	cache, _, notes, err = calibcache.ReadForm(c.File, form)
	return cache, nil, notes, err
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
