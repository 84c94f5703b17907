package calibcache

import (
	"fmt"
	"slices"

	"github.com/sightd/sightd/onnx"
)

// FromScales makes a cache of the scales of a network's tensors, by name: those
// of activations, in graph order and each under the names that scales has it
// under, then those of other tensors by name.
func FromScales(h Header, scales map[string]float32, m *onnx.Model) (*Cache, error) {
	activations, err := m.Activations()
	if err != nil {
		return nil, fmt.Errorf("find the network's activations: %w", err)
	}
	c := &Cache{Header: h, Entries: make([]Entry, 0, len(scales))}
	taken := make(map[string]bool, len(scales))
	add := func(name string) {
		if scale, ok := scales[name]; ok && !taken[name] {
			taken[name] = true
			c.Entries = append(c.Entries, EntryOf(name, scale))
		}
	}
	for _, a := range activations {
		for _, name := range a.Names() {
			add(name)
		}
	}
	var others []string
	for name := range scales {
		if !taken[name] {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	for _, name := range others {
		add(name)
	}
	return c, nil
}
