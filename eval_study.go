package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/sightd/sightd/calibration"
	"github.com/sightd/sightd/release"
)

// layerJSON is a layer of eval --layers. What wasn't measured is null.
type layerJSON struct {
	Name      string   `json:"name"`
	Op        string   `json:"op"`
	INT8      bool     `json:"int8"`
	Kept      bool     `json:"kept"`
	Why       string   `json:"why,omitempty"` // why it isn't INT8
	SNR       *float64 `json:"snr_db"`        // of its output, the whole network in INT8
	Alone     *float64 `json:"alone_snr_db"`  // of the network's scores, this layer alone in INT8
	Agreement *float64 `json:"alone_agreement"`
}

// study looks into the INT8 model for --layers and --report.
func (c *evalCmd) study(a *app, rows []labelled, e evaluation) ([]layerJSON, error) {
	rel, err := release.Open(c.Release)
	if err != nil {
		return nil, err
	}
	defer rel.Close()
	checked, err := rel.Check("int8")
	if err != nil {
		return nil, err
	}
	files, classes := make([]string, len(rows)), map[string]int{}
	for i, r := range rows {
		files[i], classes[r.path] = r.path, r.class
	}
	s, err := calibration.Open(a.ctx, checked, studyOptions(a, files, classes, c.Threads))
	if err != nil {
		return nil, err
	}
	scales, keep := checked.Fit.Scales, rel.Spec.KeepFP
	if c.Report == "" {
		layers, err := s.Layers(scales, keep)
		if err != nil {
			return nil, err
		}
		ranked, err := s.Rank(a.ctx, layers, scales)
		if err != nil {
			return nil, err
		}
		return layersJSON(ranked, layers), nil
	}
	if err := s.Observe(a.ctx, calibration.DefaultPercentile, false); err != nil {
		return nil, err
	}
	found, err := s.Report(a.ctx, calibration.PageOptions{Scales: scales, Keep: keep, Alone: true})
	if err != nil {
		return nil, err
	}
	p := found.Page
	p.Title = fmt.Sprintf("Evaluation of %s, release %d", rel.Spec.Name, rel.Spec.Release)
	p.Facts = append(s.Facts(rel), e.facts(rel)...)
	verb := "loses"
	if e.Drop < 0 {
		verb = "gains"
	}
	p.Verdict = fmt.Sprintf("INT8 %s %.2f points of top-1 and answers as FP32 does on %.1f %% of the images.", verb, 100*math.Abs(e.Drop), 100*e.Agreement)
	if err := writePage(c.Report, p); err != nil {
		return nil, err
	}
	return layersJSON(calibration.ByCost(found.Layers), found.Layers), nil
}

// layersJSON lists the ranked layers and behind them those in floating point.
func layersJSON(ranked, all []*calibration.Layer) []layerJSON {
	list := []layerJSON{}
	for _, l := range ranked {
		list = append(list, layerOf(l))
	}
	for _, l := range all {
		if !l.INT8 {
			list = append(list, layerOf(l))
		}
	}
	return list
}

func layerOf(l *calibration.Layer) layerJSON {
	j := layerJSON{Name: l.Name, Op: l.Op, INT8: l.INT8, Kept: l.Kept, Why: l.Why, SNR: finite(l.SNR)}
	if l.Alone != nil {
		j.Alone, j.Agreement = finite(l.Alone.SNR), finite(l.Alone.Agreement)
	}
	return j
}

func printLayers(w io.Writer, layers []layerJSON) error {
	fmt.Fprintf(w, "\nwhat each layer costs when it alone is in INT8, the costliest first:\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCORES\tSAME ANSWERS\tOPERATOR\tLAYER")
	for _, l := range layers {
		if l.INT8 && l.Alone != nil && l.Agreement != nil {
			fmt.Fprintf(t, "%.1f dB\t%.1f %%\t%s\t%s\n", *l.Alone, 100**l.Agreement, l.Op, l.Name)
		} else {
			fmt.Fprintf(t, "–\t–\t%s\t%s (%s)\n", l.Op, l.Name, l.Why)
		}
	}
	return t.Flush()
}
