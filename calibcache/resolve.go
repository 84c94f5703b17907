package calibcache

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sightd/sightd/onnx"
)

// resolver finds whose scales a cache's entries are.
type resolver struct {
	cache       *Cache
	activations []onnx.Activation
	index       map[string]int  // into activations, by each of their names
	tensors     map[string]bool // names of all tensors of the graph
	nodes       map[string]bool // names of the nodes that make activations

	entries    map[int][]Entry // of an activation: the one under its own name first
	belongs    map[string]bool // entries that were found to belong to an activation
	positional []Positional
	fits       bool // most entries belong: the cache is of this network
}

func newResolver(c *Cache, activations []onnx.Activation, tensors map[string]bool) *resolver {
	r := &resolver{
		cache: c, activations: activations, tensors: tensors,
		index:   map[string]int{},
		nodes:   map[string]bool{},
		entries: map[int][]Entry{},
		belongs: map[string]bool{},
	}
	for i, a := range activations {
		if a.Producer != "" {
			r.nodes[a.Producer] = true
		}
		for _, name := range a.Names() {
			r.index[name] = i
		}
	}
	return r
}

// byName gives each activation the entries that bear one of its names.
func (r *resolver) byName() {
	byName := make(map[string]Entry, len(r.cache.Entries))
	for _, e := range r.cache.Entries {
		byName[e.Name] = e
		_, r.belongs[e.Name] = r.index[e.Name]
	}
	for i, a := range r.activations {
		for _, name := range a.Names() {
			if e, ok := byName[name]; ok {
				r.entries[i] = append(r.entries[i], e)
			}
		}
	}
}

// entryOf is the first usable entry of an activation.
func (r *resolver) entryOf(i int) (Entry, bool) {
	for _, e := range r.entries[i] {
		if usable(e) {
			return e, true
		}
	}
	return Entry{}, false
}

// byPosition takes unnamed layers for the activations that no entry names, by
// order. It does so only where all of it fits: for each kind of layer as many
// entries as activations, in one order for all kinds together, and with them
// most of the cache is this network's. A convolution whose batch normalisation
// the graph has folded in, say, is another tensor than the cache's, and then
// the kinds don't fit.
func (r *resolver) byPosition() {
	layers := r.unnamedLayers()
	candidates := map[string][]int{} // activations without an entry, by kind
	for i, a := range r.activations {
		if kind := kindOf(a.Op); kind != "" && r.entries[i] == nil {
			candidates[kind] = append(candidates[kind], i)
		}
	}
	if len(candidates["Matrix Multiply"]) == 0 && r.hasGemm() {
		// They are inside of Gemms, which become two layers.
		layers = slices.DeleteFunc(layers, func(l unnamedLayer) bool { return l.kind == "Matrix Multiply" })
	}
	var found []int // the activation of each layer
	next := map[string]int{}
	for _, l := range layers {
		if next[l.kind] == len(candidates[l.kind]) {
			found = nil
			break
		}
		found = append(found, candidates[l.kind][next[l.kind]])
		next[l.kind]++
	}
	for kind := range next {
		if next[kind] != len(candidates[kind]) {
			found = nil
		}
	}
	if !slices.IsSorted(found) { // in order of the graph
		found = nil
	}

	if r.fits = r.mostBelong(len(found)); !r.fits {
		return
	}
	for n, i := range found {
		e := layers[n].entry
		r.entries[i] = []Entry{e}
		r.belongs[e.Name] = true
		r.positional = append(r.positional, Positional{e.Name, r.activations[i].Name})
	}
}

func (r *resolver) hasGemm() bool {
	return slices.ContainsFunc(r.activations, func(a onnx.Activation) bool { return a.Op == "Gemm" })
}

// mostBelong says whether at least half of the entries belong to the network,
// with more of them than were found by name. Entries that say nothing about the
// network aren't counted.
func (r *resolver) mostBelong(more int) bool {
	belong, all := more, 0
	for _, e := range r.cache.Entries {
		if r.belongs[e.Name] || r.isConstant(e.Name) {
			belong++
		}
		if !isHelper(e.Name) {
			all++
		}
	}
	return all > 0 && 2*belong >= all
}

// owner is what an entry is for.
type owner int

const (
	nobody     owner = iota
	activation       // a tensor that images make
	constant         // anything else that TensorRT gives a scale: weights, shapes, its own additions
)

func (r *resolver) ownerOf(e Entry) owner {
	switch {
	case r.belongs[e.Name]:
		return activation
	case r.isConstant(e.Name):
		return constant
	case !r.fits:
		return nobody // what has no name of its own then is another network's as well
	case isHelper(e.Name), unnamed.MatchString(e.Name):
		return constant
	}
	return nobody
}

// isConstant says whether an entry is of a tensor of the graph that carries no
// image data, a weight or what is computed from shapes, or of one that TensorRT's
// parser makes on the way to a node's output. The parser adds "_output" to the
// names of initialisers and, from 10 on, of nodes; where these have no name it
// calls them "node_of_" and what they make.
func (r *resolver) isConstant(name string) bool {
	of, added := strings.CutSuffix(name, "_output")
	return r.tensors[name] || added && (r.tensors[of] || r.nodes[of] || r.tensors[strings.TrimPrefix(of, "node_of_")])
}

// unnamed matches what TensorRT calls the outputs of layers that nobody named.
var unnamed = regexp.MustCompile(`^\(Unnamed Layer\* (\d{1,6})\) \[([^\]]*)\]_output(?:_\d+)?$`)

// unnamedLayer is the entry of a layer that nobody named.
type unnamedLayer struct {
	number int // the layer's place in TensorRT's network
	kind   string
	entry  Entry
}

// unnamedLayers are those among the entries that can stand for an activation,
// in TensorRT's order.
func (r *resolver) unnamedLayers() []unnamedLayer {
	var layers []unnamedLayer
	for _, e := range r.cache.Entries {
		m := unnamed.FindStringSubmatch(e.Name)
		if m == nil || r.belongs[e.Name] || operators[m[2]] == nil {
			continue
		}
		number, _ := strconv.Atoi(m[1])
		layers = append(layers, unnamedLayer{number, m[2], e})
	}
	slices.SortFunc(layers, func(a, b unnamedLayer) int { return cmp.Compare(a.number, b.number) })
	return layers
}

// operators are the ONNX operators that become a kind of layer of TensorRT's,
// output for output.
var operators = map[string][]string{
	"Activation":      {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "HardSigmoid", "Softplus", "Softsign"},
	"Concatenation":   {"Concat"},
	"Convolution":     {"Conv"},
	"Deconvolution":   {"ConvTranspose"},
	"ElementWise":     {"Add", "Mul", "Sub", "Div", "Max", "Min", "Pow"},
	"Fully Connected": {"Gemm"},
	"LRN":             {"LRN"},
	"Matrix Multiply": {"MatMul"},
	"Pooling":         {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"},
	"Scale":           {"BatchNormalization"},
	"Softmax":         {"Softmax"},
}

func kindOf(op string) string {
	for kind, ops := range operators {
		if slices.Contains(ops, op) {
			return kind
		}
	}
	return ""
}

// isHelper says whether an entry is of a tensor that TensorRT's parsers add to
// any network: such a name tells nothing about the network.
func isHelper(name string) bool {
	if m := unnamed.FindStringSubmatch(name); m != nil {
		return operators[m[2]] == nil && !strings.HasPrefix(m[2], "Plugin")
	}
	return isParsers(name)
}
