package calibcache

import (
	"cmp"
	"math"
	"slices"
)

// Difference is how two caches differ.
type Difference struct {
	Left, Right Header

	// Tensors are those that both have: what changed most first, by the
	// magnitude of the ratio's logarithm, equals in the left one's order.
	Tensors   []Change
	Identical int // how many of them have the same bits; they stand last

	OnlyLeft  []string // tensors that the right one lacks, in the left one's order
	OnlyRight []string
}

// Change is what became of a tensor's scale.
type Change struct {
	Name        string
	Left, Right float32 // scales
	// Ratio is right ÷ left, exactly 1 where the bits are the same. It is
	// infinite or not a number where a scale is zero or no number.
	Ratio float64
}

// Compare compares two caches, tensor by tensor.
func Compare(left, right *Cache) *Difference {
	d := &Difference{Left: left.Header, Right: right.Header}
	of := make(map[string]Entry, len(right.Entries))
	for _, e := range right.Entries {
		of[e.Name] = e
	}
	in := make(map[string]bool, len(left.Entries))
	for _, l := range left.Entries {
		in[l.Name] = true
		r, both := of[l.Name]
		if !both {
			d.OnlyLeft = append(d.OnlyLeft, l.Name)
			continue
		}
		c := Change{Name: l.Name, Left: l.Scale(), Right: r.Scale(), Ratio: 1}
		if l.Bits == r.Bits {
			d.Identical++
		} else {
			c.Ratio = float64(c.Right) / float64(c.Left)
		}
		d.Tensors = append(d.Tensors, c)
	}
	for _, r := range right.Entries {
		if !in[r.Name] {
			d.OnlyRight = append(d.OnlyRight, r.Name)
		}
	}
	slices.SortStableFunc(d.Tensors, func(a, b Change) int { return cmp.Compare(b.size(), a.size()) })
	return d
}

// Same says whether both caches mean the same: header, tensors and bits. The
// order of the entries and how their digits are written aren't looked at.
func (d *Difference) Same() bool {
	return d.Left == d.Right && d.Identical == len(d.Tensors) && d.OnlyLeft == nil && d.OnlyRight == nil
}

// size is how much a tensor changed: 0 for nothing, infinite where no ratio
// tells.
func (c Change) size() float64 {
	size := math.Abs(math.Log(c.Ratio))
	if math.IsNaN(size) {
		return math.Inf(1)
	}
	return size
}
