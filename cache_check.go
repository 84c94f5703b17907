package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

type cacheCheckCmd struct {
	File      string  `arg:"" help:"Calibration cache."`
	Model     string  `required:"" placeholder:"FILE" help:"ONNX model that it is for."`
	Coverage  float64 `default:"1.0" placeholder:"SHARE" help:"Least share of the needed activations that it must name (${default})."`
	TensorRT  string  `name:"tensorrt" placeholder:"VERSION" help:"Check too whether a calibrator of that TensorRT, such as 10.3.0, would take the cache."`
	Algorithm string  `placeholder:"NAME" help:"With --tensorrt: the calibrator's algorithm; EntropyCalibration2 by default, the one that DLA takes."`
	JSON      bool    `name:"json" help:"One JSON document."`
}

func (c *cacheCheckCmd) Run(a *app) error {
	if !(c.Coverage >= 0 && c.Coverage <= 1) {
		return usagef("--coverage %v: want a share from 0 to 1", c.Coverage)
	}
	algorithm, err := c.calibrator()
	if err != nil {
		return err
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
	found := cacheFit{Fit: fit, covers: fit.Coverage >= c.Coverage}
	if c.TensorRT != "" {
		found.refused = cache.Header.CheckCalibrator(c.TensorRT, algorithm)
	}
	if c.JSON {
		err = writeJSON(a.stdout, found.document(c.TensorRT != ""))
	} else {
		err = c.print(a.stdout, found)
	}
	if err == nil && !found.ok() {
		return exitStatus(1)
	}
	return err
}

// calibrator is the algorithm of the calibrator that is asked for.
func (c *cacheCheckCmd) calibrator() (calibcache.Algorithm, error) {
	switch {
	case c.TensorRT == "" && c.Algorithm != "":
		return "", usagef("--algorithm %s: is of a calibrator, name its TensorRT with --tensorrt too", c.Algorithm)
	case c.Algorithm == "":
		c.Algorithm = string(calibcache.Entropy2)
	}
	algorithm, err := calibcache.ParseAlgorithm(c.Algorithm)
	if err != nil {
		return "", usagef("--algorithm: %w", err)
	}
	if c.TensorRT != "" {
		if _, err := calibcache.HeaderFor(c.TensorRT, algorithm); err != nil {
			return "", usagef("--tensorrt: %w", err)
		}
	}
	return algorithm, nil
}

// cacheFit is what a check has found.
type cacheFit struct {
	*calibcache.Fit
	covers  bool  // enough
	refused error // why the calibrator that was asked for would not take the cache
}

func (f cacheFit) ok() bool { return f.covers && f.refused == nil }

// fitJSON is what `cache check --json` says.
type fitJSON struct {
	OK         bool             `json:"ok"`
	Coverage   float64          `json:"coverage"`
	Needed     int              `json:"needed"`
	Named      int              `json:"named"`
	Missing    []string         `json:"missing"`
	Leftover   []string         `json:"leftover"`
	Renamed    []renamedJSON    `json:"renamed"`
	Suspicious []suspiciousJSON `json:"suspicious"`
	Positional []positionalJSON `json:"positional"`
	Calibrator *calibratorJSON  `json:"calibrator,omitempty"` // with --tensorrt
}

type renamedJSON struct {
	Name       string  `json:"name"`
	Nearest    string  `json:"nearest"`
	Similarity float64 `json:"similarity"`
}

type suspiciousJSON struct {
	Name string               `json:"name"`
	Kind calibcache.Suspicion `json:"kind"`
	Why  string               `json:"why"`
}

type positionalJSON struct {
	Name   string `json:"name"`
	Tensor string `json:"tensor"`
}

type calibratorJSON struct {
	Takes bool   `json:"takes"`
	Why   string `json:"why,omitempty"` // it doesn't
}

func (f cacheFit) document(calibrator bool) fitJSON {
	d := fitJSON{
		OK: f.ok(), Coverage: f.Coverage, Needed: f.Needed, Named: f.Named,
		Missing:    append([]string{}, f.Missing...), // [] and not null
		Leftover:   append([]string{}, f.Leftover...),
		Renamed:    []renamedJSON{},
		Suspicious: []suspiciousJSON{},
		Positional: []positionalJSON{},
	}
	for _, r := range f.Renamed() {
		d.Renamed = append(d.Renamed, renamedJSON(r))
	}
	for _, s := range f.Suspicious {
		d.Suspicious = append(d.Suspicious, suspiciousJSON(s))
	}
	for _, p := range f.Positional {
		d.Positional = append(d.Positional, positionalJSON(p))
	}
	if calibrator {
		d.Calibrator = &calibratorJSON{Takes: f.refused == nil}
		if f.refused != nil {
			d.Calibrator.Why = f.refused.Error()
		}
	}
	return d
}

func (c *cacheCheckCmd) print(w io.Writer, f cacheFit) error {
	found := fmt.Sprintf("it has a scale for %d of %d needed activations, coverage %.4g", f.Named, f.Needed, f.Coverage)
	var err error
	if f.covers {
		_, err = fmt.Fprintf(w, "%s fits %s: %s\n", c.File, c.Model, found)
	} else {
		_, err = fmt.Fprintf(w, "%s does not fit %s: %s, below the %.4g asked for\n", c.File, c.Model, found, c.Coverage)
	}
	if err == nil && f.refused != nil {
		_, err = fmt.Fprintf(w, "%s is not for TensorRT %s: %v (sightd cache convert %s --to %s --algorithm %s -o OUT)\n",
			c.File, c.TensorRT, f.refused, c.File, c.TensorRT, c.Algorithm)
	}
	nearest := map[string]string{}
	for _, r := range f.Renamed() {
		nearest[r.Name] = r.Nearest
	}
	var missing, positional []string
	for _, name := range f.Missing {
		if nearest[name] != "" {
			name += " — the cache has " + nearest[name] + ", perhaps the same tensor under another export's name"
		}
		missing = append(missing, name)
	}
	suspicious := map[calibcache.Suspicion][]string{}
	for _, s := range f.Suspicious {
		suspicious[s.Kind] = append(suspicious[s.Kind], s.Name+": "+s.Why)
	}
	for _, p := range f.Positional {
		positional = append(positional, p.Name+" is "+p.Tensor)
	}
	return errors.Join(err,
		printList(w, "missing: the cache has no usable scale for", missing),
		printList(w, "left over: entries that belong to nothing in the model", f.Leftover),
		printList(w, "suspicious: entries with a value that can't be right, used for nothing", suspicious[calibcache.Absurd]),
		printList(w, "suspicious: ranges out of proportion to their neighbours', used as they are", suspicious[calibcache.Outlier]),
		printList(w, "unequal: ranges that DLA wants equal, used as they are", suspicious[calibcache.Unequal]),
		printList(w, "by position: unnamed layers taken for tensors by their order", positional))
}
