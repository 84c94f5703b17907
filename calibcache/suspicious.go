package calibcache

import (
	"fmt"
	"math"
)

// Suspicious is an entry that can't be right, or that is worth a look.
type Suspicious struct {
	Name string
	Kind Suspicion
	Why  string // for people: what the value is, and what it may come from
}

// Suspicion is a kind of fault.
type Suspicion string

const (
	// Absurd is a value that no activation can have. It is used for nothing.
	Absurd Suspicion = "absurd"
	// Outlier is a range of at least 50 times all its neighbours', or at most a
	// 50th of them. It is used as it is.
	Outlier Suspicion = "outlier"
	// Unequal is one of several different ranges around an addition, a
	// concatenation or a pooling, which DLA runs in INT8 only where they are
	// equal. It is named by what the layer makes, and used as it is.
	Unequal Suspicion = "unequal"
)

// The ranges that an activation can have. In the 43 real caches that this was
// made with, activations reach from 0.0128 to 204,724; zero is found for shapes
// and constants alone, and the one range above, 39 million, is of an input of
// integer indices.
const (
	leastRange    = 1e-8
	greatestRange = 1e8
)

// absurdity says why a value can't be an activation's scale, or nothing.
func absurdity(e Entry) string {
	scale, reach := float64(e.Scale()), e.Range()
	switch {
	case math.IsNaN(scale):
		return fmt.Sprintf("the scale is not a number (%08x)", e.Bits)
	case math.IsInf(scale, 0):
		return fmt.Sprintf("the scale is infinite (%08x)", e.Bits)
	case scale == 0:
		return "the scale is zero: the tensor never left zero while it was calibrated"
	case scale < 0:
		return fmt.Sprintf("the scale %.6g is negative", scale)
	case reach < leastRange:
		return fmt.Sprintf("the range %.3g is absurdly small, below %g: is the value cut short?", reach, leastRange)
	case reach > greatestRange:
		return fmt.Sprintf("the range %.3g is absurdly large, above %g", reach, greatestRange)
	}
	return ""
}

// usable says whether a network may be quantised with e.
func usable(e Entry) bool { return absurdity(e) == "" }
