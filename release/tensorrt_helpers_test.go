package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sightd/sightd/internal/testenv"
	"github.com/sightd/sightd/onnx"
)

// graph is one that ONNX Runtime runs in place of TensorRT.
type graph struct {
	Path     string      `json:"path"`
	Table    [][]float32 `json:"table"` // by channel and byte; nil: the graph takes bytes
	Channels []int       `json:"channels"`
	Softmax  bool        `json:"softmax"` // is left to the host
}

// gave is what it gave, and what it is made of.
type gave struct {
	Input              string
	Shape              []int64 // of the input; -1: open
	Outputs, Operators []string
	Tensors            []string
	Quantised          int      // Q/DQ nodes
	Faults             []string // what TensorRT wouldn't take
	Values             [][]float64
}

func (g *gave) has(op string) bool { return slices.Contains(g.Operators, op) }

// run runs graphs of the release's model on the same images.
func run(t *testing.T, c *Checked, images []string, graphs ...graph) []gave {
	t.Helper()
	job, err := json.Marshal(map[string]any{
		"images": images, "height": c.Image.Height, "width": c.Image.Width, "graphs": graphs,
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "job.json")
	write(t, path, string(job))
	cmd := exec.Command(testenv.Python(t), "testdata/tensorrt.py", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var all []gave
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for i, g := range all {
		if len(g.Faults) > 0 {
			t.Errorf("graph %d: TensorRT wouldn't take %q", i, g.Faults)
		}
	}
	return all
}

// stored writes what TensorRT would get into a file and says how to feed it.
func stored(t *testing.T, g *TensorRTGraph) graph {
	t.Helper()
	path := filepath.Join(t.TempDir(), "graph.onnx")
	write(t, path, string(g.Graph))
	r := graph{Path: path}
	switch {
	case g.Direct != nil:
		r.Channels, r.Softmax = g.Direct.Channels, g.Direct.Softmax
		r.Table = dequantised(g.Direct)
	case g.Planes != nil:
		r.Channels = g.Planes.Channels
		for _, row := range g.Planes.Table {
			r.Table = append(r.Table, row[:])
		}
	}
	return r
}

// dequantised is what the INT8 input stands for.
func dequantised(d *DirectPixels) [][]float32 {
	table := make([][]float32, len(d.Table))
	for c, row := range d.Table {
		for _, q := range row {
			table[c] = append(table[c], float32(q)*d.InputScale)
		}
	}
	return table
}

func checked(t *testing.T, path, precision string) *Checked {
	t.Helper()
	c, err := opened(t, path).Check(precision)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tensorRT(t *testing.T, c *Checked, o TensorRTOptions) *TensorRTGraph {
	t.Helper()
	if o.Version == "" {
		o.Version = "8.6.1"
	}
	g, err := c.TensorRT(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// lite0 is the demo's release, and its photographs.
func lite0(t *testing.T) (*Checked, []string) {
	t.Helper()
	photos, err := filepath.Glob(testenv.Demo("photos", "*.*"))
	if err != nil || len(photos) < 5 {
		t.Fatalf("%v: photographs %v", err, photos)
	}
	return checked(t, testenv.Demo("lite0"), ""), photos
}

// apart is the largest difference, and whether all have the same best class.
func apart(t *testing.T, a, b [][]float64) (most float64, same bool) {
	t.Helper()
	same = true
	best := func(v []float64) int { return slices.Index(v, slices.Max(v)) }
	for i := range a {
		if len(a[i]) != len(b[i]) {
			t.Fatalf("%d scores and %d", len(a[i]), len(b[i]))
		}
		for j := range a[i] {
			most = max(most, math.Abs(a[i][j]-b[i][j]))
		}
		same = same && best(a[i]) == best(b[i])
	}
	return most, same
}

// scores makes probabilities.
func scores(all [][]float64) [][]float64 {
	var made [][]float64
	for _, v := range all {
		top, sum := slices.Max(v), 0.0
		p := make([]float64, len(v))
		for i, x := range v {
			p[i] = math.Exp(x - top)
			sum += p[i]
		}
		for i := range p {
			p[i] /= sum
		}
		made = append(made, p)
	}
	return made
}

// madeOf makes a model of an image of that shape, "image", which goes through the
// operator first.
func madeOf(t *testing.T, op string, shape ...int) *onnx.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.onnx")
	sizes, err := json.Marshal(shape)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`
import onnx
from onnx import helper as h
f = onnx.TensorProto.FLOAT
nodes = [h.make_node(%q, ["image"], ["a"], name="first"), h.make_node("Flatten", ["a"], ["flat"])]
nodes += [h.make_node("Softmax", ["flat"], ["p"], axis=1), h.make_node("Identity", ["p"], ["s"])]
g = h.make_graph(nodes, "g",
  [h.make_tensor_value_info("image", f, %s)], [h.make_tensor_value_info("s", f, [1, None])])
onnx.save(h.make_model(g, ir_version=8, opset_imports=[h.make_opsetid("", 13)]), %q)`, op, sizes, path)
	if out, err := exec.Command(testenv.Python(t), "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m, err := onnx.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
