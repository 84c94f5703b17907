package calibration

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"slices"
	"strings"

	"golang.org/x/image/draw"

	"github.com/sightd/sightd/calibration/report"
	"github.com/sightd/sightd/release"
)

// PageOptions say what a report is of.
type PageOptions struct {
	Scales     map[string]float32 // of the cache
	Keep       []string           // layers in floating point
	Algorithm  string             // that the scales came from; "" where that isn't known
	Candidates []Candidate        // that were compared
	Alone      bool               // measure each layer alone too
}

// Findings are a report and what it was made of.
type Findings struct {
	Page   *report.Page // without title, facts, verdict, warnings and version
	Layers []*Layer     // in graph order
	Loss   Loss         // over the whole sample
}

// Report makes a page of what Observe has seen and of how INT8 with these scales
// differs from floating point.
func (s *Study) Report(ctx context.Context, o PageOptions) (*Findings, error) {
	truth, err := s.reference(ctx)
	if err != nil {
		return nil, err
	}
	var own *answers
	err = s.pass("answers in int8", len(s.sample), func(step func()) (err error) {
		own, err = s.answer(ctx, quantised(o.Scales, o.Keep, nil), s.sample, step)
		return err
	})
	if err != nil {
		return nil, err
	}
	layers, err := s.Layers(o.Scales, o.Keep)
	if err != nil {
		return nil, err
	}
	if err := s.Noise(ctx, layers, o.Scales, o.Keep); err != nil {
		return nil, err
	}
	if o.Alone {
		if _, err := s.Rank(ctx, layers, o.Scales); err != nil {
			return nil, err
		}
	}
	p := &report.Page{Algorithms: algorithms(o), Tensors: s.shownTensors(o), Layers: shownLayers(layers)}
	s.shownAnswers(p, truth, own)
	return &Findings{p, layers, s.compare(own, s.all())}, nil
}

func algorithms(o PageOptions) []report.Algorithm {
	var list []report.Algorithm
	for _, c := range o.Candidates {
		a := report.Algorithm{Name: c.Algorithm, Chosen: c.Algorithm == o.Algorithm, Agreement: c.Loss.Agreement, SNR: c.Loss.SNR, Drop: math.NaN()}
		if c.Loss.Labelled > 0 {
			a.Drop = c.Loss.Reference - c.Loss.Top1
		}
		list = append(list, a)
	}
	return list
}

func (s *Study) shownTensors(o PageOptions) []report.Tensor {
	var list []report.Tensor
	for _, t := range s.Tensors {
		r := report.Tensor{
			Name: t.Name, Producer: t.Producer, Op: t.Op,
			// The last bin goes on a little beyond Max, too little to be seen.
			Max: float64(t.Histogram.Max), Bins: t.Histogram.Counts[:t.Histogram.Used()], Chosen: math.NaN(), Clipped: math.NaN(),
		}
		if scale, ok := o.Scales[t.Name]; ok {
			r.Chosen = 127 * float64(scale)
			r.Clipped = t.Histogram.Clipped(r.Chosen)
		}
		for _, name := range Algorithms {
			if v, ok := t.Thresholds[name]; ok {
				r.Thresholds = append(r.Thresholds, report.Threshold{Algorithm: name, Value: v})
			}
		}
		var notes []string
		switch {
		case t.zero():
			notes = append(notes, "all zero")
		case t.constant():
			notes = append(notes, "constant")
		}
		if len(t.Aliases) > 0 {
			notes = append(notes, "also "+strings.Join(t.Aliases, ", "))
		}
		r.Note = strings.Join(notes, "; ")
		list = append(list, r)
	}
	return list
}

func shownLayers(layers []*Layer) []report.Layer {
	var list []report.Layer
	for _, l := range layers {
		r := report.Layer{Name: l.Name, Op: l.Op, INT8: l.INT8, Kept: l.Kept, Why: l.Why, SNR: l.SNR, Alone: math.NaN(), AloneAgreement: math.NaN()}
		if l.Alone != nil {
			r.Alone, r.AloneAgreement = l.Alone.SNR, l.Alone.Agreement
		}
		list = append(list, r)
	}
	return list
}

// What a page shows at most: it is to open at once on a phone.
const (
	mostChanged    = 120
	mostConfusions = 60
	thumbnailSide  = 160 // pixels
)

// shownAnswers fills in the changed answers and the confusions.
func (s *Study) shownAnswers(p *report.Page, truth, own *answers) {
	labels := s.checked.Labels
	type pair struct{ from, to int }
	confusions := map[pair]int{}
	p.ConfusionTitle = "FP32 → INT8"
	if len(s.o.Classes) > 0 {
		p.ConfusionTitle = "what it shows → what INT8 says"
	}
	for i, f := range s.sample {
		class, known := s.o.Classes[f.path]
		from := truth.best[i]
		if len(s.o.Classes) > 0 {
			from = class
		}
		if (known || len(s.o.Classes) == 0) && from != own.best[i] {
			confusions[pair{from, own.best[i]}]++
		}
		if truth.best[i] == own.best[i] || len(p.Changed) == mostChanged {
			continue
		}
		c := report.Changed{
			Path: f.String(), Thumbnail: s.thumbnail(f),
			Before: s.shownAnswer(truth, i), After: s.shownAnswer(own, i),
		}
		if known {
			c.Truth = labels[class]
		}
		p.Changed = append(p.Changed, c)
	}
	for c, n := range confusions {
		p.Confusions = append(p.Confusions, report.Confusion{From: labels[c.from], To: labels[c.to], Count: n})
	}
	slices.SortFunc(p.Confusions, func(a, b report.Confusion) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	p.Confusions = p.Confusions[:min(mostConfusions, len(p.Confusions))]
}

func (s *Study) shownAnswer(a *answers, i int) report.Answer {
	p := s.probabilities(a.scores[i])
	return report.Answer{Label: s.checked.Labels[a.best[i]], Score: p[s.checked.Spec.Output.First+a.best[i]]}
}

// thumbnail is a small JPEG of the frame as the model sees it; nil where it can't
// be made.
func (s *Study) thumbnail(f *frame) []byte {
	w, h := s.checked.Image.Width, s.checked.Image.Height
	full := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		copy(full.Pix[4*i:], f.pixels[3*i:3*i+3])
		full.Pix[4*i+3] = 255
	}
	scale := min(1, float64(thumbnailSide)/float64(max(w, h)))
	small := image.NewNRGBA(image.Rect(0, 0, max(1, int(scale*float64(w))), max(1, int(scale*float64(h)))))
	draw.CatmullRom.Scale(small, small.Bounds(), full, full.Bounds(), draw.Src, nil)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, small, &jpeg.Options{Quality: 80}); err != nil {
		return nil
	}
	return b.Bytes()
}

// Facts are what a page's summary says of the study.
func (s *Study) Facts(rel *release.Release) []report.Fact {
	return []report.Fact{
		{Name: "Release", Value: fmt.Sprintf("%s %d", rel.Spec.Name, rel.Spec.Release)},
		{Name: "Model", Value: rel.Spec.Model},
		{Name: "Input", Value: fmt.Sprintf("%d×%d %s, %s, %s", s.checked.Image.Width, s.checked.Image.Height, rel.Spec.Input.Color, rel.Spec.Input.Resize, rel.Spec.Input.Filter)},
		{Name: "Images", Value: fmt.Sprint(s.Images())},
	}
}
