package calibcache

import (
	"math"

	"github.com/sightd/sightd/onnx"
)

// Table is the cache c, which f is the [Check] of, written anew under the header
// h, to be given to TensorRT with a graph of m that may have more in front and
// behind. TensorRT takes what it reads without a word: a name twice, a negative
// scale, one that is no number. So this holds what was checked, and each name
// once:
//
//   - the scales of activations, under each of their names; also those that c has
//     under the number of an unnamed layer;
//   - c's entries for the graph's constants, where TensorRT's parser names them
//     after something in the graph.
//
// Left out is what belongs to nothing, what is absurd, and names that the parser
// counts ("(Unnamed Layer* 12) [Constant]_output", "ONNXTRT_Broadcast_3_output"):
// a layer more in front, or another version, and they mean another tensor.
// TensorRT lacks none of them (FORMAT.md, "The names").
func (f *Fit) Table(c *Cache, h Header, m *onnx.Model) (*Cache, error) {
	t, err := FromScales(h, f.Scales, m)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(t.Entries))
	for _, e := range t.Entries {
		out[e.Name] = true
	}
	for _, name := range f.Leftover {
		out[name] = true
	}
	for _, s := range f.Suspicious {
		if s.Kind == Absurd {
			out[s.Name] = true
		}
	}
	for _, e := range c.Entries {
		scale := float64(e.Scale())
		wrong := math.IsNaN(scale) || math.IsInf(scale, 0) || scale < 0
		if !out[e.Name] && !wrong && !unnamed.MatchString(e.Name) && !isParsers(e.Name) {
			t.Entries = append(t.Entries, Entry{Name: e.Name, Bits: e.Bits})
		}
	}
	return t, nil
}
