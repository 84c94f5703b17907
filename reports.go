package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sightd/sightd/calibration"
	"github.com/sightd/sightd/calibration/report"
	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/release"
)

// report writes calibrate's page.
func (c *calibrateCmd) report(a *app, s *calibration.Study, r *calibrated, rel *release.Release) error {
	found, err := s.Report(a.ctx, calibration.PageOptions{
		Scales: s.Scales(r.Algorithm), Keep: r.KeepFP, Algorithm: r.Algorithm, Candidates: r.candidates, Alone: true,
	})
	if err != nil {
		return err
	}
	p := found.Page
	p.Title = fmt.Sprintf("Calibration of %s, release %d", rel.Spec.Name, rel.Spec.Release)
	p.Facts = append(s.Facts(rel), report.Fact{Name: "Algorithm", Value: r.algorithm()}, report.Fact{Name: "Cache", Value: c.Output})
	if r.HeldBack > 0 {
		p.Facts = append(p.Facts, report.Fact{Name: "Held back to compare", Value: fmt.Sprint(r.HeldBack)})
	}
	p.Verdict = fmt.Sprintf("INT8 answers as FP32 does on %.1f %% of %d images.", 100*found.Loss.Agreement, found.Loss.Images)
	p.Warnings = r.Warnings
	return writePage(c.Report, p)
}

// writePage writes a report, whole or not at all.
func writePage(path string, p *report.Page) error {
	p.Version, p.Made = version, time.Now()
	var b bytes.Buffer
	if err := report.Write(&b, p); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := durable.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// facts are what a page's summary says of an evaluation.
func (e evaluation) facts(rel *release.Release) []report.Fact {
	return []report.Fact{
		{Name: "Cache", Value: rel.Calibration},
		{Name: "Back end", Value: e.Backend},
		{Name: "INT8, top-1 and top-5", Value: fmt.Sprintf("%.2f %%, %.2f %%", 100*e.Top1, 100*e.Top5)},
		{Name: "FP32, top-1 and top-5", Value: fmt.Sprintf("%.2f %%, %.2f %%", 100*e.Reference.Top1, 100*e.Reference.Top5)},
		{Name: "Speed in INT8", Value: fmt.Sprintf("%.1f images a second, decoding included", e.Rate)},
	}
}
