package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/release"
)

// goldenReport is what a release's golden images showed of its engine.
type goldenReport struct {
	Images    int             // that the release has; 0: none
	Right     int             // that the engine answered as the release says
	Latencies []time.Duration // of each run, in the order of the index, one image a run
	Wrong     string          // the first that was answered otherwise, in words; "" where there is none
}

// proveGolden runs the release's golden images through a warmed engine, scaled by a
// camera's worker exactly as frames are. An engine that doesn't give what the
// release says is a [*release.Rejection] with the code proof-failed, and so is an
// image that can't be decoded though it is whole: no device can prove such a release.
// Other errors, a failing engine or disk or worker, say nothing of the release. The
// engine is this goroutine's alone meanwhile, and stays the caller's.
func proveGolden(ctx context.Context, e Engine, p *Prepared, rel *release.Release, worker string, log *slog.Logger) (goldenReport, error) {
	answers, err := rel.GoldenAnswers()
	if err != nil || len(answers) == 0 {
		return goldenReport{}, err
	}
	files := make([]string, len(answers))
	for i, a := range answers {
		files[i] = a.Path
		if a.Class >= len(p.Labels) {
			return goldenReport{Images: len(answers)}, failedf("golden image %s: found class %d, wanted 0 to %d, since the model has %d labels", a.Path, a.Class, len(p.Labels)-1, len(p.Labels))
		}
	}
	pixels := make([]byte, p.Width*p.Height*3)
	defer pin(pixels)()
	binding, err := e.Bind(pixels, 1)
	if err != nil {
		return goldenReport{}, fmt.Errorf("golden images: bind: %w", err)
	}
	defer binding.Close()
	g := golden{engine: e, prepared: p, binding: binding, pixels: pixels, answers: answers}
	g.report.Images = len(answers)
	done := 0
	source := camera.Options{Name: "golden", Files: files, Worker: worker, Log: log, Attempts: attempts}
	err = eachFrame(ctx, source, p.Geometry, func(f camera.Frame, from []byte) (bool, error) {
		done++
		if f.Err != "" {
			return false, unreadGolden(rel, answers[f.File], f.Err)
		}
		copy(pixels, from)
		return true, g.run(answers[f.File])
	})
	if err == nil && done != len(answers) {
		err = fmt.Errorf("golden images: %d of %d came back from the camera's worker", done, len(answers))
	}
	if err == nil {
		err = g.verdict(rel.Spec.Proof.Golden)
	}
	return g.report, err
}

// unreadGolden tells the fault of an image from that of the disk that it lies on.
func unreadGolden(rel *release.Release, a release.GoldenAnswer, why string) error {
	if err := rel.VerifyGolden(a); err != nil {
		// Not wrapped: its code would condemn a release that was whole when it was verified.
		return fmt.Errorf("golden image %s: it isn't any more what was verified: %v", why, err)
	}
	return failedf("golden image %s", why)
}

// golden is the state of a proof by golden images.
type golden struct {
	engine   Engine
	prepared *Prepared
	binding  Binding
	pixels   []byte
	answers  []release.GoldenAnswer
	report   goldenReport

	first    []byte    // the first image's pixels
	scores   []float32 // and scores
	distinct bool      // there was another image
	varied   bool      // and other scores
}

// run has the engine answer the image that lies in pixels.
func (g *golden) run(a release.GoldenAnswer) error {
	start := monotonic()
	if err := infer(g.engine, g.binding); err != nil {
		return engineFault(fmt.Errorf("golden image %s: engine: %w", a.Path, err))
	}
	g.report.Latencies = append(g.report.Latencies, monotonic()-start)
	p, scores := g.prepared, g.binding.Scores()
	if len(scores) != p.Classes {
		return failedf("golden image %s: the engine gave %d scores, wanted %d, one for each of the model's classes", a.Path, len(scores), p.Classes)
	}
	var top [1]Score
	n, ok := topK(top[:], scores, p.First)
	if !ok || n == 0 {
		return failedf("golden image %s: %w", a.Path, errNotFinite)
	}
	switch {
	case g.scores == nil:
		g.first, g.scores = bytes.Clone(g.pixels), slices.Clone(scores)
	case !bytes.Equal(g.first, g.pixels):
		g.distinct = true
		g.varied = g.varied || !slices.Equal(g.scores, scores)
	}
	if top[0].Index == a.Class {
		g.report.Right++
	} else if g.report.Wrong == "" {
		g.report.Wrong = fmt.Sprintf("file %s: found %s, wanted %s", a.File, p.Labels[top[0].Index], p.Labels[a.Class])
	}
	return nil
}

// verdict says what all images together show: wanted is the share to get right.
func (g *golden) verdict(wanted float64) error {
	r := g.report
	if g.distinct && !g.varied {
		return failedf("golden images: the engine's scores are the same for all %d, which differ: it doesn't look at them", r.Images)
	}
	if share := float64(r.Right) / float64(r.Images); share < wanted {
		return failedf("%d of %d golden images, %.1f %%, wanted %.4g %%; first wrong: %s", r.Right, r.Images, 100*share, 100*wanted, r.Wrong)
	}
	return nil
}

// failedf is the rejection of a release whose engine failed the proof.
func failedf(format string, args ...any) error {
	return &release.Rejection{Code: release.ProofFailed, Err: fmt.Errorf(format, args...)}
}
