package report

import (
	"math"
	"strconv"
)

// tick is a mark on an axis.
type tick struct {
	At     string // percent of the width, or pixels from the top
	Label  string
	Anchor string // SVG's text-anchor, on a horizontal axis
}

// step is a round step of 1, 2 or 5 times a power of ten that divides span, a
// positive number, into at most n parts.
func step(span float64, n int) float64 {
	raw := span / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// pct writes a share of the width as SVG's percentage.
func pct(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + "%" }

// px writes pixels.
func px(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// anchor keeps a label at a share of the width inside the plot.
func anchor(share float64) string {
	switch {
	case share < 0.06:
		return "start"
	case share > 0.94:
		return "end"
	}
	return "middle"
}
