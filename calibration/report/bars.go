package report

import (
	"math"
	"strconv"
)

// chart is a row of bars, one for each layer in graph order.
type chart struct {
	ID, Title, Desc string
	Bars            []bar
	Kept            []string // x of the marks of kept layers
	X, Y            []tick
	Zero, Base, H   string // pixels: the base line of the bars, the plot's lower end, its whole height
	MarkY           string
}

type bar struct {
	N          int // the layer's number
	X, W, Y, H string
	Class      string
	Text       string
}

// bars draws one number of each layer, in dB; nil where none is measured.
func bars(id, title string, layers []layerRow, number func(Layer) float64) *chart {
	low, high, worst := 0.0, 0.0, -1
	for i, l := range layers {
		v := clamp(number(l.Layer))
		if !finite(v) {
			continue
		}
		low, high = min(low, v), max(high, v)
		if worst < 0 || v < number(layers[worst].Layer) {
			worst = i
		}
	}
	if worst < 0 {
		return nil
	}
	const top = labelPx
	span := max(high-low, 1)
	by := step(span, 4)
	high, low = math.Ceil(high/by)*by, math.Floor(low/by)*by
	span = max(high-low, by)
	y := func(v float64) float64 { return top + plotPx*(high-v)/span }

	w := layers[worst]
	c := &chart{ID: id, Title: title, Desc: "The lowest of " + strconv.Itoa(len(layers)) + " layers is " + w.Name + " with " + decibel(number(w.Layer)) + " dB."}
	c.Zero, c.Base = px(y(0)), px(top+plotPx)
	c.MarkY, c.H = px(top+plotPx+6), px(top+plotPx+12+labelPx)
	for v := low; v <= high+by/2; v += by {
		c.Y = append(c.Y, tick{At: px(y(v)), Label: sign(strconv.FormatFloat(v, 'f', -1, 32))})
	}
	width := 1 / float64(len(layers))
	every := int(max(step(float64(len(layers)), 6), 1))
	for i, l := range layers {
		middle := (float64(i) + 0.5) * width
		if i == 0 || l.N%every == 0 {
			c.X = append(c.X, tick{At: pct(middle), Label: strconv.Itoa(l.N), Anchor: anchor(middle)})
		}
		if l.Kept {
			c.Kept = append(c.Kept, pct(middle))
		}
		v := clamp(number(l.Layer))
		if !finite(v) {
			continue
		}
		from, to := y(max(v, 0)), y(min(v, 0))
		c.Bars = append(c.Bars, bar{
			N: l.N, X: pct((float64(i) + 0.1) * width), W: pct(0.8 * width), Y: px(from), H: px(max(to-from, 1)),
			Class: l.Class(), Text: strconv.Itoa(l.N) + " " + l.Name + ", " + l.Op + ": " + decibel(number(l.Layer)) + " dB, " + l.Precision(),
		})
	}
	return c
}

// clamp limits dB to what float32 can have; infinities stay.
func clamp(db float64) float64 {
	if !finite(db) {
		return db
	}
	return min(max(db, -400), 400)
}
