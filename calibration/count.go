package calibration

import (
	"math"

	"github.com/sightd/sightd/calibcache"
)

// extremes are the values that lie farthest from zero on either side, as the bits
// of float32: those order magnitudes as integers do.
type extremes struct {
	positive int32  // of the largest value; 0 where none is above zero
	negative uint32 // of the least value; below sign where none is below zero
}

const (
	sign     = 1 << 31
	infinity = 0x7f800000 // above it stands what is no number
)

func (e *extremes) take(values []float32) {
	p, n := e.positive, e.negative
	for _, v := range values {
		b := math.Float32bits(v)
		p, n = max(p, int32(b)), max(n, b)
	}
	e.positive, e.negative = p, n
}

func (e *extremes) merge(o extremes) {
	e.positive, e.negative = max(e.positive, o.positive), max(e.negative, o.negative)
}

// magnitudes are the largest ones above and below zero.
func (e extremes) magnitudes() (above, below float32) {
	if e.negative >= sign {
		below = math.Float32frombits(e.negative &^ sign)
	}
	return math.Float32frombits(uint32(e.positive)), below
}

// fault says what makes values useless: nothing, "NaN" or "infinite".
func (e extremes) fault() string {
	switch {
	case e.positive > infinity || e.negative > sign|infinity:
		return "NaN"
	case e.positive == infinity || e.negative == sign|infinity:
		return "infinite"
	}
	return ""
}

// leastMagnitude is what counts as zero: below it float32 gets coarse.
const leastMagnitude = 1e-30

const (
	fineBits = 15
	fineBins = 1 << fineBits
	block    = 1024 // values, which stay in the processor's nearest cache
)

// counter counts a tensor's values in bins whose width is a power of two, on both
// sides of zero. Where a value is beyond them, the width is doubled, and each two
// bins become one: so counts are exact whatever comes in which order, in one pass.
// At the end the larger side has from 2^14+1 to 2^15 bins in use.
type counter struct {
	extremes
	exponent int     // of the width
	scale    float32 // 1 ÷ width; 0 while there were zeros alone
	zeros    uint64  // from that time
	fine     [2 * fineBins]uint32
	inside   uint64   // values in fine
	counts   []uint64 // of all before; nil: none
}

// counterBytes is what a counter takes, with counts.
const counterBytes = 2 * fineBins * (4 + 8)

// at is the place of a bin: -k stands at 2·fineBins-k. A value's bin is v·scale
// without its fraction; to multiply by a power of two is exact.
func at(k int32) uint32 { return uint32(k) % (2 * fineBins) }

// take counts values. What it says of them is their fault, see [extremes.fault];
// such values aren't counted.
func (c *counter) take(values []float32) string {
	for len(values) > 0 {
		part := values[:min(block, len(values))]
		values = values[len(part):]
		before := c.extremes
		c.extremes.take(part)
		if c.extremes != before {
			if what := c.fault(); what != "" {
				return what
			}
			c.reach(max(c.magnitudes()))
		}
		if c.scale == 0 {
			c.zeros += uint64(len(part))
		} else {
			c.count(part)
		}
	}
	return ""
}

// reach makes the bins reach up to a magnitude.
func (c *counter) reach(most float32) {
	if most > leastMagnitude {
		_, e := math.Frexp(float64(most)) // below 2^e
		c.widen(e - fineBits)
	}
}

// widen makes the bins 2^exponent wide, if that is wider than they are.
func (c *counter) widen(exponent int) {
	if c.scale != 0 && exponent <= c.exponent {
		return
	}
	if c.scale != 0 {
		c.flush()
		by := exponent - c.exponent
		for k := int32(1); k < fineBins; k++ {
			for _, k := range [2]int32{k, -k} {
				n := c.counts[at(k)]
				c.counts[at(k)] = 0
				c.counts[at(k/(1<<min(by, fineBits)))] += n
			}
		}
	}
	c.exponent, c.scale = exponent, float32(math.Ldexp(1, -exponent))
}

// count counts values that the bins reach.
func (c *counter) count(values []float32) {
	if c.inside+uint64(len(values)) > math.MaxUint32 {
		c.flush()
	}
	c.inside += uint64(len(values))
	fine, scale := &c.fine, c.scale
	for len(values) >= 4 {
		i, j := at(int32(values[0]*scale)), at(int32(values[1]*scale))
		k, l := at(int32(values[2]*scale)), at(int32(values[3]*scale))
		fine[i]++
		fine[j]++
		fine[k]++
		fine[l]++
		values = values[4:]
	}
	for _, v := range values {
		fine[at(int32(v*scale))]++
	}
}

// flush moves what was counted to where there is room for more.
func (c *counter) flush() {
	if c.counts == nil {
		c.counts = make([]uint64, 2*fineBins)
	}
	for k, n := range c.fine {
		c.counts[k] += uint64(n)
	}
	clear(c.fine[:])
	c.inside = 0
}

// merge adds what another counter has counted, which is of no use then.
func (c *counter) merge(o *counter) {
	c.extremes.merge(o.extremes)
	c.zeros += o.zeros
	if o.scale == 0 {
		return
	}
	c.widen(o.exponent)
	o.widen(c.exponent)
	c.flush()
	o.flush()
	for k, n := range o.counts {
		c.counts[k] += n
	}
}

// histogram is that of what was counted, cut off below lo and above hi, which
// have zero between them. Its bins are as few whole ones of these as HistogramBins
// of them reach the largest magnitude with.
//
// A value that is cut off falls into the bin that lo or hi is in, so that what a
// ReLU makes of a tensor needn't be counted: it is exact too.
func (c *counter) histogram(lo, hi float32) calibcache.Histogram {
	above, below := c.magnitudes()
	above, below = min(above, hi), min(below, -lo)
	h := calibcache.Histogram{Max: max(above, below), Counts: make([]uint64, calibcache.HistogramBins)}
	h.Counts[0] = c.zeros
	if c.scale == 0 {
		return h
	}
	c.flush()
	used := int(h.Max*c.scale) + 1
	each := (used + calibcache.HistogramBins - 1) / calibcache.HistogramBins
	h.Width = math.Ldexp(float64(each), c.exponent)
	h.Counts[0] += c.counts[0]
	lastAbove, lastBelow := int32(above*c.scale), int32(below*c.scale)
	for k := int32(1); k < fineBins; k++ {
		h.Counts[int(min(k, lastAbove))/each] += c.counts[at(k)]
		h.Counts[int(min(k, lastBelow))/each] += c.counts[at(-k)]
	}
	return h
}
