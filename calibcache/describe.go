package calibcache

import (
	"fmt"
	"strings"

	"github.com/sightd/sightd/onnx"
)

// Tensor is what an entry of a cache is in a network.
type Tensor struct {
	Entry Entry
	Role  Role
	// Of is the tensor of the network that the entry is for, where it has
	// another name: the activation of an alias or of an unnamed layer, the
	// initialiser of a constant.
	Of string
	// Activation is that of an activation, an alias or an unnamed layer; else nil.
	Activation *onnx.Activation
}

// Role is what an entry's tensor does in a network.
type Role string

const (
	// IsActivation: it carries image data, under its own name.
	IsActivation Role = "activation"
	// IsAlias: it has the values of an activation, reshaped or transposed.
	IsAlias Role = "alias"
	// IsPositional: an unnamed layer that was taken for an activation by its place.
	IsPositional Role = "positional"
	// IsConstant: a weight, what is computed from shapes, or what TensorRT added.
	IsConstant Role = "constant"
	// IsNothing: it belongs to nothing in the network.
	IsNothing Role = "nothing"
)

// Describe says of each entry, in the file's order, what it is in the network.
func Describe(c *Cache, m *onnx.Model) ([]Tensor, error) {
	r, err := resolve(c, m)
	if err != nil {
		return nil, err
	}
	positional := make(map[string]int, len(r.positional)) // the activation of an entry
	for _, p := range r.positional {
		positional[p.Name] = r.index[p.Tensor]
	}
	all := make([]Tensor, 0, len(c.Entries))
	for _, e := range c.Entries {
		t := Tensor{Entry: e, Role: IsNothing}
		owner := r.ownerOf(e)
		byPlace, isPlaced := positional[e.Name]
		switch {
		case isPlaced:
			t.Role, t.Activation = IsPositional, &r.activations[byPlace]
		case owner == activation:
			t.Role, t.Activation = IsActivation, &r.activations[r.index[e.Name]]
			if e.Name != t.Activation.Name {
				t.Role = IsAlias
			}
		case owner == constant:
			t.Role = IsConstant
			if name := strings.TrimSuffix(e.Name, "_output"); !r.tensors[e.Name] && r.tensors[name] {
				t.Of = name
			}
		}
		if t.Role == IsAlias || t.Role == IsPositional {
			t.Of = t.Activation.Name
		}
		all = append(all, t)
	}
	return all, nil
}

// resolve finds out whose scales a cache's entries are in a network.
func resolve(c *Cache, m *onnx.Model) (*resolver, error) {
	activations, err := m.Activations()
	if err != nil {
		return nil, fmt.Errorf("find the network's activations: %w", err)
	}
	r := newResolver(c, activations, m.Tensors())
	r.byName()
	r.byPosition()
	return r, nil
}
