package calibcache

import (
	"strings"

	"github.com/sightd/sightd/onnx"
)

// Fit is how a cache fits a network.
type Fit struct {
	// Coverage is Named ÷ Needed, 1 where nothing is needed.
	Coverage float64
	Needed   int // activations that INT8 needs a scale for
	Named    int // those of them that the cache has a usable scale for

	Missing  []string // the needed activations that aren't named, in graph order
	Leftover []string // entries that belong to nothing in the network, in the file's order
	// Suspicious are the entries with a value that can't be right or is worth a
	// look: first the absurd ones in the file's order, which are used for nothing,
	// so that what only they name is missing; then the others in graph order,
	// which are used as they are.
	Suspicious []Suspicious
	// Positional are the entries that were taken for a tensor by the order of
	// the layers, in that order.
	Positional []Positional

	// Scales has the usable scale of each activation that the cache names,
	// under every name that the activation has: what onnx's Quantize takes.
	Scales map[string]float32
}

// Positional is an entry such as "(Unnamed Layer* 4) [Fully Connected]_output"
// that was found to mean a tensor of the network.
type Positional struct {
	Name   string // the entry's
	Tensor string // the activation's
}

// Check finds out which of the network's activations the cache has scales for.
// What counts is said at [onnx.Activation]: Reshape and the like pass on their
// input's scale, and in front of a ReLU or Clip that gets folded the scale
// behind it is enough.
func Check(c *Cache, m *onnx.Model) (*Fit, error) {
	r, err := resolve(c, m)
	if err != nil {
		return nil, err
	}
	fit := &Fit{Positional: r.positional, Scales: map[string]float32{}}
	named := map[string]bool{}
	for i, a := range r.activations {
		e, ok := r.entryOf(i)
		if !ok {
			continue
		}
		for _, name := range a.Names() {
			fit.Scales[name] = e.Scale()
			named[name] = true
		}
	}
	for _, a := range r.activations {
		if !a.Needed {
			continue
		}
		fit.Needed++
		if named[a.Name] || named[a.Behind] {
			fit.Named++
		} else {
			fit.Missing = append(fit.Missing, a.Name)
		}
	}
	fit.Coverage = 1
	if fit.Needed > 0 {
		fit.Coverage = float64(fit.Named) / float64(fit.Needed)
	}
	fit.judge(c, r)
	return fit, nil
}

// judge lists what is wrong with the cache's entries.
func (f *Fit) judge(c *Cache, r *resolver) {
	for _, e := range c.Entries {
		owner := r.ownerOf(e)
		if owner == nobody {
			f.Leftover = append(f.Leftover, e.Name)
		}
		// A constant, a shape or an index can be zero or large; no image makes
		// an activation so.
		if why := absurdity(e); why != "" && owner != constant {
			f.Suspicious = append(f.Suspicious, Suspicious{e.Name, Absurd, why})
		}
	}
	n := newNeighbourhood(r)
	f.Suspicious = append(f.Suspicious, n.outliers()...)
	f.Suspicious = append(f.Suspicious, n.unequal()...)
}

// madeByParser are the beginnings of the names that TensorRT's ONNX parser has
// for tensors that it adds itself: constants, casts, reshapes.
var madeByParser = []string{"ONNXTRT_", "tmp_refittable_weight"}

func isParsers(name string) bool {
	for _, prefix := range madeByParser {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
