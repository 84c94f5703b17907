package main

import (
	"fmt"
	"time"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/calibration"
)

// calibrated is what `calibrate` found out, and calibrate --json.
type calibrated struct {
	Release    string          `json:"release"`
	Output     string          `json:"output"`
	Header     string          `json:"header"`
	Algorithm  string          `json:"algorithm"`
	Percentile *float64        `json:"percentile,omitempty"`
	Tensors    int             `json:"tensors"`
	Images     int             `json:"images"`
	HeldBack   int             `json:"held_back"` // of the images, to compare algorithms by
	Unreadable []unreadable    `json:"unreadable"`
	Compared   []comparedJSON  `json:"compared"`
	Kept       *keptJSON       `json:"kept,omitempty"`
	KeepFP     []string        `json:"keep_fp"`
	Warnings   []string        `json:"warnings"`
	Passes     []calibratePass `json:"passes"`
	Rate       float64         `json:"images_per_second"` // of the whole
	Seconds    float64         `json:"seconds"`

	study      *calibration.Study
	candidates []calibration.Candidate
	start      time.Time
}

// comparedJSON is an algorithm and how closely its INT8 follows FP32.
type comparedJSON struct {
	Algorithm string   `json:"algorithm"`
	Agreement float64  `json:"agreement"`
	KL        float64  `json:"kl"`             // divergence of the probabilities, nats
	SNR       float64  `json:"snr_db"`         // of the scores
	Drop      *float64 `json:"drop,omitempty"` // of top-1, a share
}

// keptJSON is what keeping layers in floating point does.
type keptJSON struct {
	Of        string  `json:"of"`     // what points are of: agreement or top-1
	Before    float64 `json:"before"` // points lost
	After     float64 `json:"after"`
	Agreement float64 `json:"agreement"` // after
	Already   int     `json:"already"`   // layers that were kept before
	Tried     int     `json:"tried"`
}

type calibratePass struct {
	Name    string  `json:"name"`
	Steps   int     `json:"steps"` // images, tensors or layers
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"per_second"`
}

func (r *calibrated) warn(a *app, format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	r.Warnings = append(r.Warnings, w)
	fmt.Fprintf(a.stderr, "warning: %s\n", w)
}

func (r *calibrated) compared(list []calibration.Candidate) {
	r.candidates, r.HeldBack = list, r.study.HeldBack()
	for _, c := range list {
		j := comparedJSON{Algorithm: c.Algorithm, Agreement: c.Loss.Agreement, KL: c.Loss.KL, SNR: c.Loss.SNR}
		if c.Loss.Labelled > 0 {
			drop := c.Loss.Reference - c.Loss.Top1
			j.Drop = &drop
		}
		r.Compared = append(r.Compared, j)
	}
}

func (r *calibrated) kept(k *calibration.Kept) {
	r.Kept = &keptJSON{Of: "agreement", Before: k.Before.Points(), After: k.After.Points(), Agreement: k.After.Agreement, Tried: k.Tried}
	r.Kept.Already = len(r.KeepFP)
	if k.After.Labelled > 0 {
		r.Kept.Of = "top-1"
	}
	r.KeepFP = k.Layers
}

// finish fills in what is known in the end.
func (r *calibrated) finish(output string, cache *calibcache.Cache) {
	r.Output, r.Header, r.Tensors = output, cache.Header.String(), len(cache.Entries)
	if r.study != nil {
		r.studied()
	}
	r.Seconds = time.Since(r.start).Seconds()
	r.Rate = float64(r.Images) / r.Seconds
	r.Unreadable, r.Compared, r.Warnings = notNull(r.Unreadable), notNull(r.Compared), notNull(r.Warnings)
	r.KeepFP = notNull(r.KeepFP)
}

// studied fills in what the study knows.
func (r *calibrated) studied() {
	r.Images = r.study.Images()
	for _, u := range r.study.Unreadable() {
		r.Unreadable = append(r.Unreadable, unreadable{u.Path, u.Reason})
	}
	for _, p := range r.study.Passes {
		r.Passes = append(r.Passes, calibratePass{p.Name, p.Steps, p.Elapsed.Seconds(), p.Rate()})
	}
}

// notNull makes JSON write [] for no elements.
func notNull[T any](list []T) []T { return append([]T{}, list...) }

// algorithm names it for people.
func (r *calibrated) algorithm() string {
	if r.Percentile != nil {
		return fmt.Sprintf("%s %g", r.Algorithm, *r.Percentile)
	}
	return r.Algorithm
}
