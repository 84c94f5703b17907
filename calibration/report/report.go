// Package report writes what calibrating or evaluating a model showed as one
// HTML page that needs nothing else: no network, no fonts, no scripts of others.
//
// The page is for a person with a phone as much as for one at a desk. It works
// without JavaScript, which only adds search and sorting, and it takes the
// reader's choice of light or dark.
//
// The plots are SVG that the package lays out itself. gonum.org/v1/plot and the
// other plotting libraries write absolute sizes and colours into each element:
// a plot that can't follow the width of a phone or the colours of the page,
// can't be read by a screen reader, and is ten times the size, which with the
// hundreds of histograms of a model decides whether the page opens at once.
package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"
)

// Page is everything that a report shows; parts that are empty are left out of
// the page. All text is shown as it is, whatever it holds. A number that is NaN
// or infinite is shown as a dash.
type Page struct {
	Title          string // such as "Calibration of lite0, release 1"
	Facts          []Fact
	Verdict        string // one sentence, the headline; may be empty
	Warnings       []string
	Algorithms     []Algorithm // to compare; none in an evaluation
	Tensors        []Tensor    // in graph order
	Layers         []Layer     // in graph order
	Changed        []Changed   // images whose answer changed
	Confusions     []Confusion // in any order
	ConfusionTitle string      // what From and To are, such as "FP32 → INT8"
	Version        string      // sightd's
	Made           time.Time
}

// Fact is a line of the summary.
type Fact struct{ Name, Value string }

// Algorithm is what calibrating with one algorithm gave.
type Algorithm struct {
	Name      string
	Chosen    bool
	Agreement float64 // share, 0 to 1, of the held-out images answered as FP32 does; NaN: not measured
	SNR       float64 // of the output's scores, dB; NaN: not measured
	Drop      float64 // of top-1, share, FP32's less this one's; NaN: no labels
	Note      string
}

// Tensor is what was seen of one tensor's values, and the range made of it.
type Tensor struct {
	Name, Producer, Op string
	Max                float64     // largest magnitude seen: the histogram's right end
	Bins               []uint64    // how many |x| fell into each of equal bins from 0 to Max
	Chosen             float64     // range in the cache: 127 steps
	Thresholds         []Threshold // ranges of all algorithms, the chosen one's too
	Clipped            float64     // share, 0 to 1, of the values beyond Chosen
	Note               string      // such as "constant", "all zero", other names
}

// Threshold is the range that an algorithm gives a tensor.
type Threshold struct {
	Algorithm string
	Value     float64
}

// Layer is what INT8 does to one layer.
type Layer struct {
	Name, Op       string
	INT8           bool
	Kept           bool    // in floating point because keep_fp says so
	Why            string  // why it isn't in INT8
	SNR            float64 // at the layer's output, the whole network in INT8 against FP32, dB; NaN: not measured
	Alone          float64 // of the network's scores, this layer alone in INT8, dB; NaN: not measured
	AloneAgreement float64 // share, 0 to 1, of the images answered as FP32 does, this layer alone in INT8; NaN: not measured
}

// Changed is an image that INT8 answers otherwise than FP32.
type Changed struct {
	Path          string
	Thumbnail     []byte // JPEG or PNG, some 160 pixels wide; nil: none
	Before, After Answer // in FP32, in INT8
	Truth         string // the true label; "": not known
}

// Answer is the best label and its score.
type Answer struct {
	Label string
	Score float64
}

// Confusion says how many images From was that To became.
type Confusion struct {
	From, To string
	Count    int
}

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string

	page = template.Must(template.New("page").Funcs(template.FuncMap{
		"value": value, "percent": percent, "points": points, "decibel": decibel, "count": count, "compact": compact,
	}).Parse(pageHTML))

	// Only this style sheet and this script, by their hashes, and nothing from
	// anywhere else: if a tensor's name ever got through the template's escaping,
	// the browser still wouldn't run it.
	policy = fmt.Sprintf("default-src 'none'; img-src data:; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'",
		hash(pageCSS), hash(pageJS))
)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Write writes p as one self-contained HTML document. It writes nothing where
// the page can't be made, and keeps nothing of p.
func Write(w io.Writer, p *Page) error {
	var b bytes.Buffer
	if err := page.Execute(&b, newView(p)); err != nil {
		return fmt.Errorf("make the page: %w", err)
	}
	_, err := b.WriteTo(w)
	return err
}
