package calibration

import (
	"math"

	"github.com/sightd/sightd/calibcache"
)

// magnitude is a tensor's largest one, as the bits of a float32: without the sign
// they are ordered as integers are.
type magnitude uint32

// infinity is the bits of it; above stands what is no number.
const infinity magnitude = 0x7f800000

// take takes values into account.
func (m *magnitude) take(values []float32) {
	const sign = 1 << 31
	most := uint32(*m)
	for _, v := range values {
		most = max(most, math.Float32bits(v)&^sign)
	}
	*m = magnitude(most)
}

// fault says what makes values useless: nothing, "NaN" or "infinite".
func (m magnitude) fault() string {
	switch {
	case m > infinity:
		return "NaN"
	case m == infinity:
		return "infinite"
	}
	return ""
}

// counter counts a tensor's values by their bin. Values of both signs have bins
// of their own while it counts, which saves taking each one's magnitude, and
// neighbouring values are counted apart, since counting up one number twice in a
// row has to wait for memory.
type counter struct {
	scale  float32 // bins for each unit
	even   [2 * calibcache.HistogramBins]uint32
	odd    [2 * calibcache.HistogramBins]uint32
	inside uint64   // values in even and odd
	counts []uint64 // of all before, by magnitude
}

func newCounter(most float32) *counter {
	return &counter{scale: calibcache.HistogramBins / most, counts: make([]uint64, calibcache.HistogramBins)}
}

// take counts values, none of which is beyond the range that the counter is for.
func (c *counter) take(values []float32) {
	const mask = 2*calibcache.HistogramBins - 1
	if c.inside+uint64(len(values)) > math.MaxUint32 {
		c.flush()
	}
	c.inside += uint64(len(values))
	even, odd, scale := &c.even, &c.odd, c.scale
	// A negative bin -k stands at 4096-k; 2048 is the range's end on both sides.
	for len(values) >= 4 {
		i, j := uint32(int32(values[0]*scale)), uint32(int32(values[1]*scale))
		k, l := uint32(int32(values[2]*scale)), uint32(int32(values[3]*scale))
		even[i&mask]++
		odd[j&mask]++
		even[k&mask]++
		odd[l&mask]++
		values = values[4:]
	}
	for _, v := range values {
		even[uint32(int32(v*scale))&mask]++
	}
}

// flush moves what was counted to where there is room for more.
func (c *counter) flush() {
	const bins = calibcache.HistogramBins
	for k := range c.even {
		bin := k
		if k > bins {
			bin = 2*bins - k
		}
		c.counts[min(bin, bins-1)] += uint64(c.even[k]) + uint64(c.odd[k])
	}
	clear(c.even[:])
	clear(c.odd[:])
	c.inside = 0
}
