package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/onnx"
)

type cacheCmd struct {
	Show    cacheShowCmd    `cmd:"" help:"Show what is in calibration caches."`
	Check   cacheCheckCmd   `cmd:"" help:"Check whether a calibration cache fits a model."`
	Convert cacheConvertCmd `cmd:"" help:"Write a calibration cache with the header of another TensorRT or algorithm."`
}

type cacheShowCmd struct {
	Files []string `arg:"" name:"file" help:"Calibration caches."`
	JSON  bool     `name:"json" help:"One JSON document a file, a line each."`
}

func (c *cacheShowCmd) Run(a *app) error {
	failed := false
	for i, file := range c.Files {
		cache, err := calibcache.Read(file)
		if err != nil {
			if len(c.Files) == 1 {
				return err
			}
			fmt.Fprintf(a.stderr, "sightd: %v\n", err)
			failed = true
			continue
		}
		if c.JSON {
			err = writeJSON(a.stdout, cacheDocument(file, cache))
		} else {
			if i > 0 {
				fmt.Fprintln(a.stdout)
			}
			err = printCache(a.stdout, file, cache)
		}
		if err != nil {
			return err
		}
	}
	if failed {
		return exitStatus(1)
	}
	return nil
}

// cacheJSON is what `cache show --json` says.
type cacheJSON struct {
	Path      string       `json:"path"`
	Header    string       `json:"header"`
	Version   string       `json:"version"`
	Algorithm string       `json:"algorithm"`
	Tensors   []tensorJSON `json:"tensors"`
}

type tensorJSON struct {
	Name  string   `json:"name"`
	Scale *float64 `json:"scale"` // null where JSON has no number for it: NaN, infinities
	Range *float64 `json:"range"`
	Bits  string   `json:"bits"` // of the scale, eight hexadecimal digits
}

func cacheDocument(path string, c *calibcache.Cache) cacheJSON {
	d := cacheJSON{
		Path: path, Header: c.Header.String(), Version: c.Header.Version(), Algorithm: string(c.Header.Algorithm),
		Tensors: make([]tensorJSON, 0, len(c.Entries)),
	}
	for _, e := range c.Entries {
		d.Tensors = append(d.Tensors, tensorJSON{
			Name: e.Name, Scale: finite(float64(e.Scale())), Range: finite(e.Range()), Bits: fmt.Sprintf("%08x", e.Bits),
		})
	}
	return d
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func printCache(w io.Writer, path string, c *calibcache.Cache) error {
	fmt.Fprintf(w, "%s: TensorRT %s, %s, tensors: %d\n\n", path, c.Header.Version(), c.Header.Algorithm, len(c.Entries))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCALE\tRANGE\tTENSOR")
	for _, e := range c.Entries {
		fmt.Fprintf(t, "%.6g\t%.6g\t%s\n", e.Scale(), e.Range(), e.Name)
	}
	return t.Flush()
}

type cacheCheckCmd struct {
	File     string  `arg:"" help:"Calibration cache."`
	Model    string  `required:"" placeholder:"FILE" help:"ONNX model that it is for."`
	Coverage float64 `default:"1.0" placeholder:"SHARE" help:"Least share of the needed activations that it must name (${default})."`
	JSON     bool    `name:"json" help:"One JSON document."`
}

func (c *cacheCheckCmd) Run(a *app) error {
	if !(c.Coverage >= 0 && c.Coverage <= 1) {
		return usagef("--coverage %v: want a share from 0 to 1", c.Coverage)
	}
	cache, err := calibcache.Read(c.File)
	if err != nil {
		return err
	}
	model, err := onnx.Read(c.Model)
	if err != nil {
		return err
	}
	fit, err := calibcache.Check(cache, model)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Model, err)
	}
	ok := fit.Coverage >= c.Coverage
	if c.JSON {
		err = writeJSON(a.stdout, fitDocument(fit, ok))
	} else {
		err = c.print(a.stdout, fit, ok)
	}
	if err == nil && !ok {
		return exitStatus(1)
	}
	return err
}

// fitJSON is what `cache check --json` says.
type fitJSON struct {
	OK         bool             `json:"ok"`
	Coverage   float64          `json:"coverage"`
	Needed     int              `json:"needed"`
	Named      int              `json:"named"`
	Missing    []string         `json:"missing"`
	Leftover   []string         `json:"leftover"`
	Suspicious []suspiciousJSON `json:"suspicious"`
	Positional []positionalJSON `json:"positional"`
}

type suspiciousJSON struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

type positionalJSON struct {
	Name   string `json:"name"`
	Tensor string `json:"tensor"`
}

func fitDocument(fit *calibcache.Fit, ok bool) fitJSON {
	d := fitJSON{
		OK: ok, Coverage: fit.Coverage, Needed: fit.Needed, Named: fit.Named,
		Missing:    append([]string{}, fit.Missing...), // [] and not null
		Leftover:   append([]string{}, fit.Leftover...),
		Suspicious: []suspiciousJSON{},
		Positional: []positionalJSON{},
	}
	for _, s := range fit.Suspicious {
		d.Suspicious = append(d.Suspicious, suspiciousJSON(s))
	}
	for _, p := range fit.Positional {
		d.Positional = append(d.Positional, positionalJSON(p))
	}
	return d
}

func (c *cacheCheckCmd) print(w io.Writer, fit *calibcache.Fit, ok bool) error {
	found := fmt.Sprintf("it has a scale for %d of %d needed activations, coverage %.4g", fit.Named, fit.Needed, fit.Coverage)
	var err error
	if ok {
		_, err = fmt.Fprintf(w, "%s fits %s: %s\n", c.File, c.Model, found)
	} else {
		_, err = fmt.Fprintf(w, "%s does not fit %s: %s, below the %.4g asked for\n", c.File, c.Model, found, c.Coverage)
	}
	var suspicious, positional []string
	for _, s := range fit.Suspicious {
		suspicious = append(suspicious, s.Name+": "+s.Why)
	}
	for _, p := range fit.Positional {
		positional = append(positional, p.Name+" is "+p.Tensor)
	}
	return errors.Join(err,
		printList(w, "missing: the cache has no usable scale for", fit.Missing),
		printList(w, "left over: entries that belong to nothing in the model", fit.Leftover),
		printList(w, "suspicious: entries with a value that can't be right, used for nothing", suspicious),
		printList(w, "by position: unnamed layers taken for tensors by their order", positional))
}

// printList prints the first items of a list under its title and number, and
// nothing for none.
func printList(w io.Writer, title string, items []string) error {
	const most = 20
	if len(items) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s (%d)\n", title, len(items))
	for _, item := range items[:min(len(items), most)] {
		fmt.Fprintf(&b, "  %s\n", item)
	}
	if more := len(items) - most; more > 0 {
		fmt.Fprintf(&b, "  … and %d more, all with --json\n", more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type cacheConvertCmd struct {
	File      string `arg:"" help:"Calibration cache."`
	To        string `placeholder:"VERSION" help:"TensorRT version that the header is to name, such as 10.3.0; the same as before by default."`
	Algorithm string `placeholder:"NAME" help:"Algorithm that the header is to name, such as EntropyCalibration2; the same as before by default. The scales stay."`
	Output    string `short:"o" default:"-" placeholder:"OUT" help:"File to write; standard output by default."`
}

func (c *cacheConvertCmd) Run(a *app) error {
	cache, err := calibcache.Read(c.File)
	if err != nil {
		return err
	}
	if c.Algorithm != "" {
		if cache.Header.Algorithm, err = calibcache.ParseAlgorithm(c.Algorithm); err != nil {
			return usagef("--algorithm: %w", err)
		}
	}
	if c.To != "" {
		if cache.Header, err = calibcache.HeaderFor(c.To, cache.Header.Algorithm); err != nil {
			return usagef("--to: %w", err)
		}
	}
	if c.Output == "-" {
		_, err = a.stdout.Write(cache.Bytes())
		return err
	}
	return durable.WriteFile(c.Output, cache.Bytes(), 0o644)
}

// writeJSON writes v as one line. Names keep their < and &.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
