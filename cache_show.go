package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/sightd/sightd/calibcache"
)

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
