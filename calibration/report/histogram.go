package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	columns   = 256 // of a histogram: a phone has some 350 pixels, a name's line 120
	depth     = 200 // of a histogram's own coordinates
	plotPx    = 150 // height of a plot on the page
	labelPx   = 17  // height of a line of text in it
	belowLog1 = 0.3 // decades beneath 1, so that a single value is seen
)

// histogram is a tensor's plot. The shapes have coordinates of their own, from
// 0 to columns and 0 to depth, which the page stretches; text and lines are
// placed in percent and pixels, so that they keep their size.
type histogram struct {
	Kept, Clipped string // paths of what lies within and beyond the chosen range
	Width         string // share of the plot's width that the bins take
	Split         string // x of the chosen range in the paths' coordinates
	Lines         []mark
	X, Y          []tick
	Top, Base, H  string // pixels: the plot's first row, its base line, its whole height
	Columns       int
	Depth, Px     int
}

// mark is a line at a range, with its algorithm's name in a row of its own.
type mark struct {
	rangeRow
	X, Anchor   string
	Shift       int    // of the text, away from the line
	Text, Start string // pixels: the text's base line, the line's upper end
	Name        string // as much of the algorithm's as there is room for on a phone
}

// plot draws a tensor's histogram; nil where it has no values or only zeros.
func plot(t Tensor, ranges []rangeRow) *histogram {
	heights, decades := columnHeights(t.Bins)
	if !(t.Max > 0) || !finite(t.Max) || heights == nil {
		return nil
	}
	right := t.Max // of the axis
	for _, r := range ranges {
		if finite(r.Value) {
			right = max(right, r.Value)
		}
	}
	split := min(max(t.Chosen/t.Max, 0), 1) * float64(len(heights))
	if math.IsNaN(split) {
		split = float64(len(heights))
	}
	h := &histogram{
		Kept:    area(heights, 0, split),
		Clipped: area(heights, split, float64(len(heights))),
		Width:   pct(t.Max / right),
		Split:   px(split),
		Columns: len(heights), Depth: depth, Px: plotPx,
		Lines: marks(ranges, right),
	}
	top := float64(labelPx*len(h.Lines) + 4)
	h.Top, h.Base, h.H = px(top), px(top+plotPx), px(top+plotPx+labelPx+3)
	h.X = horizontal(right, 4)
	// As many powers of ten as there is room for, from 1.
	every := 1 + int(decades)/5
	for e := 0; float64(e) <= decades; e += every {
		y := top + plotPx*(1-(float64(e)+belowLog1)/(decades+belowLog1))
		h.Y = append(h.Y, tick{At: px(y), Label: short(e)})
	}
	return h
}

// horizontal marks round values from 0 to right in some n steps.
func horizontal(right float64, n int) []tick {
	var ticks []tick
	by := step(right, n)
	for i := 0; float64(i)*by <= right*(1+1e-9) && i <= 2*n; i++ {
		v := float64(i) * by
		ticks = append(ticks, tick{At: pct(v / right), Label: tickLabel(v), Anchor: anchor(v / right)})
	}
	return ticks
}

func tickLabel(v float64) string {
	if v != 0 && (v < 1e-4 || v >= 1e6) {
		return strconv.FormatFloat(v, 'e', 0, 64)
	}
	// Of a multiple of a round step, all digits but those of rounding.
	return strconv.FormatFloat(v, 'f', -1, 32)
}

// columnHeights is the height of each column, 0 to depth, on a logarithmic
// scale, and the decades that it reaches. A column shows the fullest of its
// bins: of the few values far out none is lost, nor any gap between them made
// to look like values.
func columnHeights(bins []uint64) ([]int, float64) {
	if len(bins) == 0 || slices.Max(bins) == 0 {
		return nil, 0
	}
	decades := math.Log10(float64(slices.Max(bins)))
	n := min(columns, len(bins))
	heights := make([]int, n)
	for i := range heights {
		fullest := slices.Max(bins[i*len(bins)/n : (i+1)*len(bins)/n])
		if fullest > 0 {
			share := (math.Log10(float64(fullest)) + belowLog1) / (decades + belowLog1)
			heights[i] = int(math.Round(depth * share))
		}
	}
	return heights, decades
}

// area is the path of the columns from x from to x to, counted in columns.
func area(heights []int, from, to float64) string {
	if from >= to {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M%s %d", short1(from), depth)
	for i := int(from); i < len(heights) && float64(i) < to; i++ {
		// Neighbours of the same height are one step.
		end := i + 1
		for end < len(heights) && heights[end] == heights[i] {
			end++
		}
		fmt.Fprintf(&b, "V%dH%s", depth-heights[i], short1(min(float64(end), to)))
		i = end - 1
	}
	fmt.Fprintf(&b, "V%dZ", depth)
	return b.String()
}

func short1(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// marks gives each range a line and a row for its name above the plot. Names
// stand to the right of lines in the left half and to the left in the right
// half; the outermost are highest, so that no line crosses a name beside it.
// The chosen one comes last, to be drawn over others at the same place.
func marks(ranges []rangeRow, right float64) []mark {
	var left, rest []mark
	for _, r := range ranges {
		if !finite(r.Value) || r.Value < 0 {
			continue
		}
		m := mark{rangeRow: r, X: pct(r.Value / right), Anchor: "start", Shift: 5, Name: ellipsis(r.Algorithm, 22)}
		if r.Value > right/2 {
			m.Anchor, m.Shift = "end", -5
			rest = append(rest, m)
		} else {
			left = append(left, m)
		}
	}
	chosenLast := func(a, b mark) int {
		switch {
		case a.Chosen == b.Chosen:
			return 0
		case a.Chosen:
			return 1
		}
		return -1
	}
	slices.SortStableFunc(left, func(a, b mark) int { return cmp.Or(cmp.Compare(a.Value, b.Value), chosenLast(a, b)) })
	slices.SortStableFunc(rest, func(a, b mark) int { return cmp.Or(cmp.Compare(b.Value, a.Value), chosenLast(a, b)) })
	all := append(left, rest...)
	for i := range all {
		all[i].Start = px(float64(i*labelPx) + 3)
		all[i].Text = px(float64(i*labelPx) + 13)
	}
	slices.SortStableFunc(all, chosenLast)
	return all
}

// beyond is the share of a histogram's values above v, which may lie within a bin.
func beyond(bins []uint64, largest, v float64) float64 {
	total, above := 0.0, 0.0
	at := v / largest * float64(len(bins)) // in bins
	for i, n := range bins {
		total += float64(n)
		above += float64(n) * min(max(float64(i+1)-at, 0), 1)
	}
	return above / total // NaN of an empty histogram, shown as none
}
