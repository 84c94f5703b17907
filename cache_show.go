package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/onnx"
)

type cacheShowCmd struct {
	Files []string `arg:"" name:"file" help:"Calibration caches."`
	Model string   `placeholder:"FILE" help:"ONNX model that they are for: say of each tensor what it is there, what makes it and what reads it."`
	JSON  bool     `name:"json" help:"One JSON document a file, a line each."`
}

func (c *cacheShowCmd) Run(a *app) error {
	var model *onnx.Model
	if c.Model != "" {
		var err error
		if model, err = onnx.Read(c.Model); err != nil {
			return err
		}
	}
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
		var tensors []calibcache.Tensor
		if model != nil {
			if tensors, err = calibcache.Describe(cache, model); err != nil {
				return fmt.Errorf("%s: %w", c.Model, err)
			}
		}
		if c.JSON {
			err = writeJSON(a.stdout, cacheDocument(file, cache, tensors))
		} else {
			if i > 0 {
				fmt.Fprintln(a.stdout)
			}
			err = printCache(a.stdout, file, cache, tensors)
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

	*roleJSON // with --model
}

// roleJSON is what a tensor is in a model.
type roleJSON struct {
	Role      calibcache.Role `json:"role"`
	Of        string          `json:"of,omitempty"` // the tensor that it is an alias of, or was taken for
	Producer  *nodeJSON       `json:"producer"`     // null for the network's input, and for what is no activation
	Consumers []nodeJSON      `json:"consumers"`
	Shape     []int64         `json:"shape"` // null where it isn't known; -1 for a size that isn't
}

type nodeJSON struct {
	Op   string `json:"op"`
	Name string `json:"name"`
}

// cacheDocument describes a cache; tensors is nil without a model.
func cacheDocument(path string, c *calibcache.Cache, tensors []calibcache.Tensor) cacheJSON {
	d := cacheJSON{
		Path: path, Header: c.Header.String(), Version: c.Header.Version(), Algorithm: string(c.Header.Algorithm),
		Tensors: make([]tensorJSON, 0, len(c.Entries)),
	}
	for i, e := range c.Entries {
		t := tensorJSON{
			Name: e.Name, Scale: finite(float64(e.Scale())), Range: finite(e.Range()), Bits: fmt.Sprintf("%08x", e.Bits),
		}
		if tensors != nil {
			t.roleJSON = roleDocument(tensors[i])
		}
		d.Tensors = append(d.Tensors, t)
	}
	return d
}

func roleDocument(t calibcache.Tensor) *roleJSON {
	d := &roleJSON{Role: t.Role, Of: t.Of, Consumers: []nodeJSON{}}
	if t.Activation == nil {
		return d
	}
	if t.Activation.Producer != "" {
		d.Producer = &nodeJSON{t.Activation.Op, t.Activation.Producer}
	}
	for _, c := range t.Activation.Consumers {
		d.Consumers = append(d.Consumers, nodeJSON{c.Op, c.Name})
	}
	d.Shape = t.Activation.Shape
	return d
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// printCache prints a cache as a table; tensors is nil without a model.
func printCache(w io.Writer, path string, c *calibcache.Cache, tensors []calibcache.Tensor) error {
	fmt.Fprintf(w, "%s: TensorRT %s, %s, tensors: %d\n\n", path, c.Header.Version(), c.Header.Algorithm, len(c.Entries))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if tensors == nil {
		fmt.Fprintln(t, "SCALE\tRANGE\tTENSOR")
	} else {
		fmt.Fprintln(t, "SCALE\tRANGE\tTENSOR\tIS\tSHAPE\tMADE BY\tREAD BY")
	}
	for i, e := range c.Entries {
		fmt.Fprintf(t, "%.6g\t%.6g\t%s", e.Scale(), e.Range(), e.Name)
		if tensors != nil {
			fmt.Fprintf(t, "\t%s\t%s\t%s\t%s", roleText(tensors[i]), shapeText(tensors[i]), producerText(tensors[i]), consumersText(tensors[i]))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func roleText(t calibcache.Tensor) string {
	switch t.Role {
	case calibcache.IsAlias:
		return "alias of " + t.Of
	case calibcache.IsPositional:
		return t.Of + ", by position"
	case calibcache.IsNothing:
		return "nothing in the model"
	case calibcache.IsActivation:
		if t.Activation.Producer == "" {
			return "input"
		}
	}
	return string(t.Role)
}

// shapeText is a shape such as 1×3×224×224, with ? for a size that isn't known.
func shapeText(t calibcache.Tensor) string {
	if t.Activation == nil || t.Activation.Shape == nil {
		return "-"
	}
	sizes := make([]string, len(t.Activation.Shape))
	for i, n := range t.Activation.Shape {
		sizes[i] = "?"
		if n >= 0 {
			sizes[i] = fmt.Sprint(n)
		}
	}
	return strings.Join(sizes, "×")
}

func producerText(t calibcache.Tensor) string {
	if t.Activation == nil || t.Activation.Producer == "" {
		return "-"
	}
	return t.Activation.Op + " " + t.Activation.Producer
}

func consumersText(t calibcache.Tensor) string {
	if t.Activation == nil || len(t.Activation.Consumers) == 0 {
		return "-"
	}
	var nodes []string
	for _, c := range t.Activation.Consumers {
		nodes = append(nodes, c.Op+" "+c.Name)
	}
	return strings.Join(nodes, ", ")
}
