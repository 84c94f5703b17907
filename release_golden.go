package main

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightd/sightd/calibration"
	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

// goldenMargin is by how much the best label's probability has to be above the
// next one's, in each precision: answers that are closer change with the processor.
const goldenMargin = 0.1

// sureness is what a model said of an image.
type sureness struct {
	class         int // index of the best label
	score, margin float64
	why           string // it can't be read; else empty
}

// goldenChoice is which of the images are taken, and what became of the others.
type goldenChoice struct {
	from       string
	files      []string
	taken      []release.GoldenAnswer
	unreadable []string // in words
	narrow     int      // margins below goldenMargin
	disagree   int      // between INT8 and FP32
	twice      int      // the same bytes as one that was taken
	beyond     int      // more than were asked for
}

// golden chooses golden images, copies them to dir with their index, and has the
// release take them.
func (c *releasePackCmd) golden(a *app, rel *release.Release, dir string) error {
	if err := rel.TakeGolden(""); err != nil {
		return err
	}
	if _, err := rel.Check(""); err != nil { // before work that takes its time
		return err
	}
	files, err := calibration.Files(c.GoldenFrom)
	if err != nil {
		return fmt.Errorf("--golden-from: %w", err)
	}
	g := &goldenChoice{from: c.GoldenFrom}
	for _, file := range files {
		switch info, err := os.Stat(file); {
		case !camera.IsImageName(file):
			g.unreadable = append(g.unreadable, file+": is no image by its name")
		case err == nil && info.Size() > release.MaxGoldenImage:
			g.unreadable = append(g.unreadable, fmt.Sprintf("%s: has %d bytes, wanted at most %d", file, info.Size(), release.MaxGoldenImage))
		default:
			g.files = append(g.files, file)
		}
	}
	sure, err := g.judge(a, rel)
	if err == nil {
		err = g.take(dir, sure, c.GoldenMost)
	}
	if err != nil {
		return err
	}
	if len(g.taken) == 0 {
		return fmt.Errorf("--golden-from %s: none of the %d images is left: %s; name images that show plainly what the model knows, or pack without",
			g.from, len(files), g.fellAway())
	}
	if err := os.WriteFile(filepath.Join(dir, release.GoldenIndex), release.WriteGolden(g.taken), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "golden images: %d of %d are taken", len(g.taken), len(files))
	if why := g.fellAway(); why != "" {
		fmt.Fprintf(a.stderr, "; fell away: %s", why)
	}
	fmt.Fprintln(a.stderr)
	return rel.TakeGolden(dir)
}

// fellAway says how many images weren't taken, by reason.
func (g *goldenChoice) fellAway() string {
	var parts []string
	if n := len(g.unreadable); n > 0 {
		parts = append(parts, fmt.Sprintf("%d can't be read (the first: %s)", n, g.unreadable[0]))
	}
	for _, p := range []struct {
		n    int
		what string
	}{
		{g.narrow, fmt.Sprintf("with a margin below %v between the two best labels", goldenMargin)},
		{g.disagree, "that INT8 and FP32 label differently"},
		{g.twice, "that are the same as another"},
		{g.beyond, "beyond --golden-most"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// judge runs the model over the files, in FP32 and, where the release is in INT8,
// over those that are left in INT8. It leaves those in files that golden images may
// be chosen from, and returns what FP32 said of them.
func (g *goldenChoice) judge(a *app, rel *release.Release) ([]sureness, error) {
	sure, err := ask(a, rel, "fp32", g.files)
	if err != nil {
		return nil, err
	}
	var left []string
	var kept []sureness
	for i, s := range sure {
		switch {
		case s.why != "":
			g.unreadable = append(g.unreadable, s.why)
		case s.margin < goldenMargin:
			g.narrow++
		default:
			left, kept = append(left, g.files[i]), append(kept, s)
		}
	}
	g.files = left
	if rel.Spec.Precision != "int8" {
		return kept, nil
	}
	again, err := ask(a, rel, "int8", left)
	if err != nil {
		return nil, err
	}
	g.files, sure = nil, kept
	kept = nil
	for i, s := range again {
		switch {
		case s.why != "":
			g.unreadable = append(g.unreadable, s.why)
		case s.class != sure[i].class:
			g.disagree++
		case s.margin < goldenMargin:
			g.narrow++
		default:
			g.files, kept = append(g.files, left[i]), append(kept, sure[i])
		}
	}
	return kept, nil
}

// ask runs the release's model on the CPU over image files.
func ask(a *app, rel *release.Release, precision string, files []string) ([]sureness, error) {
	if len(files) == 0 {
		return nil, nil
	}
	f := modelFlags{Backend: "ort", OptimizationLevel: "auto", Quantization: "auto"}
	m, err := f.openModel(a, rel, precision)
	if err != nil {
		return nil, err
	}
	sure := make([]sureness, len(files))
	for i := range sure {
		sure[i].why = files[i] + ": gave no image"
	}
	bar := progress(a, len(files), "classifying in "+precision, "images")
	top := make([]daemon.Score, 2)
	var broken error
	err = m.Files(a.ctx, files, func(r *daemon.Result) {
		_ = bar.Add(1)
		i := r.Frame.File
		scores, err := m.TopK(top, r)
		switch {
		case r.Err != nil && !r.Engine:
			sure[i].why = files[i] + ": " + reason(files[i], r.Err)
		case err != nil:
			if broken == nil {
				broken = fmt.Errorf("%s in %s: %w", files[i], precision, err)
			}
		case len(scores) > 0:
			sure[i] = sureness{class: scores[0].Index, score: float64(scores[0].Score), margin: float64(scores[0].Score)}
			if len(scores) > 1 {
				sure[i].margin -= float64(scores[1].Score)
			}
		}
	})
	_ = bar.Finish()
	switch {
	case err != nil:
		return nil, err
	case a.ctx.Err() != nil:
		return nil, a.ctx.Err()
	}
	return sure, broken
}

// tryGolden warns of golden images that somebody chose by hand and that the CPU answers
// otherwise in the release's precision: a device most likely does too, and rejects the
// release where they are too many.
func tryGolden(a *app, rel *release.Release, labels []string) {
	answers, err := rel.GoldenAnswers()
	if err != nil || len(answers) == 0 {
		return // packing has looked at them
	}
	precision := "fp32"
	if rel.Spec.Precision == "int8" {
		precision = "int8"
	}
	files := make([]string, len(answers))
	for i, g := range answers {
		files[i] = g.Path
	}
	sure, err := ask(a, rel, precision, files)
	if err != nil {
		fmt.Fprintf(a.stderr, "golden images: the CPU can't try them: %v\n", err)
		return
	}
	wrong, first := 0, ""
	for i, s := range sure {
		why := s.why
		if why == "" && s.class != answers[i].Class {
			why = fmt.Sprintf("%s: found %s, wanted %s", answers[i].File, labels[s.class], labels[answers[i].Class])
		}
		if why != "" {
			wrong++
			first = cmp.Or(first, why)
		}
	}
	if wrong > 0 {
		fmt.Fprintf(a.stderr, "warning: golden images: the CPU doesn't answer %d of %d in %s as their index says (the first: %s); a device rejects the release unless %.4g %% are right\n",
			wrong, len(sure), precision, first, 100*rel.Spec.Proof.Golden)
	}
}

// take copies at most so many of the files to dir, of each class one after the
// other.
func (g *goldenChoice) take(dir string, sure []sureness, most int) error {
	byClass := map[int][]int{}
	for i, s := range sure {
		byClass[s.class] = append(byClass[s.class], i)
	}
	seen := map[[sha256.Size]byte]bool{}
	for i := range rounds(byClass) {
		if len(g.taken) == most {
			g.beyond = len(sure) - g.twice - most
			break
		}
		data, err := strict.ReadFile(g.files[i], release.MaxGoldenImage)
		if err != nil {
			return fmt.Errorf("golden image: %w", err)
		}
		sum := sha256.Sum256(data)
		if seen[sum] {
			g.twice++
			continue
		}
		seen[sum] = true
		name := fmt.Sprintf("%04d-%s", len(g.taken)+1, safeName(filepath.Base(g.files[i])))
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
		s := sure[i]
		g.taken = append(g.taken, release.GoldenAnswer{File: name, Class: s.class, Score: short(s.score), Margin: short(s.margin)})
	}
	return nil
}

// rounds gives the first of each class, in the classes' order, then the second of
// each that has one, and so on.
func rounds(byClass map[int][]int) func(yield func(int) bool) {
	classes := slices.Sorted(maps.Keys(byClass))
	return func(yield func(int) bool) {
		for n, more := 0, true; more; n++ {
			more = false
			for _, c := range classes {
				if n < len(byClass[c]) {
					more = true
					if !yield(byClass[c][n]) {
						return
					}
				}
			}
		}
	}
}

// short has no more digits than hold on another processor.
func short(v float64) float64 { return math.Round(v*1e4) / 1e4 }

// safeName makes a file's name fit for every file system, its extension kept.
func safeName(name string) string {
	const most = 60
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, name)
	return name[max(0, len(name)-most):]
}
