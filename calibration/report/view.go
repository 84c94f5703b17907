package report

import (
	"encoding/base64"
	"html/template"
	"math"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"
)

// Limits of a page that a phone opens at once. What they leave out is said on
// the page.
const (
	maxThumbnails = 3 << 19 // bytes; 2 MiB as base64
	maxChanged    = 300
)

// view is a Page as the template wants it: in order, with plots.
type view struct {
	*Page
	CSS    template.CSS
	JS     template.JS
	Policy string

	Made        string
	MadeMachine string
	Drop        bool // an algorithm's is known
	Tensors     []tensorRow
	Layers      []layerRow
	Alone       bool // layers were measured alone
	Charts      []*chart
	Costly      ranking
	Changed     []changedRow
	ChangedAll  int
	NoThumbs    int // left out for the page's size
	Confusions  confusionView
}

type tensorRow struct {
	Tensor
	N      int
	Ranges []rangeRow
	Plot   *histogram
}

// Step is the distance of two neighbouring INT8 values.
func (t tensorRow) Step() float64 { return t.Chosen / 127 }

// rangeRow is one algorithm's range of a tensor.
type rangeRow struct {
	Algorithm string
	Style     int // of its line
	Value     float64
	OfMax     float64 // share
	Clipped   float64 // share of the values
	Chosen    bool
}

type layerRow struct {
	Layer
	N int // from 1, in graph order
}

// Class is the precision as a CSS class.
func (l layerRow) Class() string {
	switch {
	case l.Kept:
		return "keep"
	case l.INT8:
		return "int8"
	}
	return "float"
}

// Precision is the precision in words.
func (l layerRow) Precision() string {
	return map[string]string{"keep": "kept in FP", "int8": "INT8", "float": "FP"}[l.Class()]
}

type changedRow struct {
	Changed
	Dir, Base string
	Image     template.URL
	Verdict   string // who is right; "" where the truth isn't known
}

func newView(p *Page) *view {
	v := &view{
		Page: p, CSS: template.CSS(pageCSS), JS: template.JS(pageJS), Policy: policy,
		Confusions: newConfusionView(p.Confusions), ChangedAll: len(p.Changed),
	}
	if !p.Made.IsZero() {
		v.Made, v.MadeMachine = p.Made.Format("2 January 2006, 15:04 MST"), p.Made.Format(time.RFC3339)
	}
	v.Drop = slices.ContainsFunc(p.Algorithms, func(a Algorithm) bool { return finite(a.Drop) })
	styles := stylesOf(p)
	for i, t := range p.Tensors {
		ranges := rangesOf(t, p.Algorithms, styles)
		v.Tensors = append(v.Tensors, tensorRow{t, i + 1, ranges, plot(t, ranges)})
	}
	for i, l := range p.Layers {
		v.Layers = append(v.Layers, layerRow{l, i + 1})
		v.Alone = v.Alone || finite(l.Alone) || finite(l.AloneAgreement)
	}
	for _, c := range []*chart{
		bars("snr", "Signal to noise at each layer's output, the whole network in INT8", v.Layers, func(l Layer) float64 { return l.SNR }),
		bars("alone", "Signal to noise of the network's scores, each layer alone in INT8", v.Layers, func(l Layer) float64 { return l.Alone }),
	} {
		if c != nil {
			v.Charts = append(v.Charts, c)
		}
	}
	v.Costly = costly(v.Layers)
	v.changed(p.Changed)
	return v
}

// stylesOf numbers the algorithms, so that each is drawn the same throughout.
func stylesOf(p *Page) map[string]int {
	styles := map[string]int{}
	add := func(name string) {
		if _, ok := styles[name]; !ok {
			styles[name] = len(styles) % 6
		}
	}
	for _, a := range p.Algorithms {
		add(a.Name)
	}
	for _, t := range p.Tensors {
		for _, r := range t.Thresholds {
			add(r.Algorithm)
		}
	}
	return styles
}

// rangesOf is the tensor's ranges with the chosen one marked. Where it isn't
// any of the algorithms' it has a line of its own.
func rangesOf(t Tensor, algorithms []Algorithm, styles map[string]int) []rangeRow {
	same := func(v float64) bool { return math.Abs(v-t.Chosen) <= 1e-6*math.Abs(t.Chosen) } // a cache has float32
	chosen := slices.IndexFunc(t.Thresholds, func(r Threshold) bool {
		return same(r.Value) && slices.ContainsFunc(algorithms, func(a Algorithm) bool { return a.Chosen && a.Name == r.Algorithm })
	})
	if chosen < 0 {
		chosen = slices.IndexFunc(t.Thresholds, func(r Threshold) bool { return same(r.Value) })
	}
	var rows []rangeRow
	for i, r := range t.Thresholds {
		row := rangeRow{r.Algorithm, styles[r.Algorithm], r.Value, r.Value / t.Max, beyond(t.Bins, t.Max, r.Value), i == chosen}
		if row.Chosen {
			row.Clipped = t.Clipped // which was counted, not read off the histogram
		}
		rows = append(rows, row)
	}
	if chosen < 0 && finite(t.Chosen) {
		rows = append(rows, rangeRow{"in the cache", 0, t.Chosen, t.Chosen / t.Max, t.Clipped, true})
	}
	return rows
}

func (v *view) changed(all []Changed) {
	size := 0
	for _, c := range all[:min(len(all), maxChanged)] {
		row := changedRow{Changed: c, Verdict: verdict(c)}
		row.Dir, row.Base = path.Split(c.Path)
		if kind := http.DetectContentType(c.Thumbnail); kind == "image/jpeg" || kind == "image/png" {
			if size += len(c.Thumbnail); size <= maxThumbnails {
				row.Image = template.URL("data:" + kind + ";base64," + base64.StdEncoding.EncodeToString(c.Thumbnail))
			} else {
				v.NoThumbs++
			}
		}
		v.Changed = append(v.Changed, row)
	}
}

func verdict(c Changed) string {
	switch c.Truth {
	case "":
		return ""
	case c.Before.Label:
		return "FP32 is right"
	case c.After.Label:
		return "INT8 is right"
	}
	return "neither is right"
}

// Sort is what the page's script sorts tensors by, the smallest first.
func (t tensorRow) Sort(by string) string {
	v := map[string]float64{"clipped": -t.Clipped, "narrow": t.Chosen / t.Max, "range": -t.Chosen}[by]
	if !finite(v) {
		return "1e308" // last
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Much says that a share of the values is clipped that can't be outliers alone.
func (t tensorRow) Much() bool { return t.Clipped > 0.01 }
