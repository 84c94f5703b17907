package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sightd/sightd/calibcache"
	"github.com/sightd/sightd/calibration"
	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/onnx"
	"github.com/sightd/sightd/release"
)

type calibrateCmd struct {
	Release    string   `arg:"" help:"model.yaml, a release's folder, or a .tar.zst. A model.yaml needs no cache yet."`
	Images     string   `required:"" placeholder:"DIR|LIST|VIDEO" help:"Folder of images, a list with a path a line, or a video; of what the cameras will see."`
	Output     string   `short:"o" placeholder:"FILE" help:"Calibration cache to write. With --write it may be left out: the one that the model.yaml names then."`
	Algorithm  string   `enum:"auto,entropy,minmax,percentile" default:"auto" help:"auto, entropy, minmax or percentile. auto takes the one whose INT8 answers follow FP32's most closely on a fifth of the images that it holds back."`
	Percentile float64  `default:"99.99" placeholder:"PERCENT" help:"How much of an activation's values percentile keeps (${default})."`
	MaxDrop    *float64 `placeholder:"POINTS" help:"Find the fewest layers to keep in floating point so that no more is lost: points of agreement with FP32, or of top-1 with --index."`
	Index      string   `type:"existingfile" placeholder:"FILE" help:"Tab-separated, with a header; the columns file and class: what the images show."`
	Where      string   `placeholder:"COLUMN=VALUE" help:"With --index, only the images of the rows where the column has the value."`
	Write      bool     `help:"Put the cache and keep_fp into the model.yaml that was given."`
	Report     string   `placeholder:"FILE" help:"Write a page with histograms, noise by layer and changed answers (HTML)."`
	TensorRT   string   `name:"tensorrt" placeholder:"VERSION" help:"TensorRT version that the cache's header names (10.3.0); with --backend tensorrt it is that one's own."`
	Backend    string   `enum:"auto,ort,tensorrt" default:"auto" help:"auto or ort: the CPU, where activations can be observed and algorithms compared. tensorrt: TensorRT's own calibrators on this machine, entropy (auto) or minmax."`
	Threads    int      `default:"0" help:"Images at the same time; 0: one for each processor."`
	JSON       bool     `name:"json" help:"One JSON document."`
}

func (c *calibrateCmd) Run(a *app) error {
	if !(c.Percentile > 0 && c.Percentile <= 100) {
		return usagef("--percentile %v: want a percentage above 0, up to 100", c.Percentile)
	}
	if c.MaxDrop != nil && !(*c.MaxDrop >= 0 && *c.MaxDrop <= 100) {
		return usagef("--max-drop %v: want points from 0 to 100", *c.MaxDrop)
	}
	if c.Where != "" && c.Index == "" {
		return usagef("--where %s: it picks rows of --index, which isn't given", c.Where)
	}
	if c.Backend == "tensorrt" && (c.Algorithm == "percentile" || c.MaxDrop != nil || c.Report != "") {
		return usagef("--backend tensorrt: TensorRT has the algorithms entropy and minmax, and compares nothing: leave --max-drop, --report and percentile to --backend ort")
	}
	if c.Backend == "tensorrt" && c.TensorRT != "" {
		return usagef("--tensorrt %s: with --backend tensorrt the cache's header names the TensorRT that is there: leave it out; `sightd cache convert --to %s` changes the header", c.TensorRT, c.TensorRT)
	}
	c.TensorRT = cmp.Or(c.TensorRT, "10.3.0")
	rel, err := release.OpenUncalibrated(c.Release)
	if err != nil {
		return err
	}
	defer rel.Close()
	if err := c.prepare(a, rel); err != nil {
		return err
	}
	checked, err := rel.Check("fp32")
	if err != nil {
		return err
	}
	if _, err := checked.Model.Clone().Quantize(nil, onnx.QuantizeOptions{Keep: rel.Spec.KeepFP}); err != nil {
		return fmt.Errorf("keep_fp: %w", err)
	}
	files, classes, err := imagesOf(c.Images, c.Index, c.Where, len(checked.Labels))
	if err != nil {
		return err
	}
	start := time.Now()
	if c.Backend == "tensorrt" {
		return c.onDevice(a, rel, checked, files)
	}
	s, err := calibration.Open(a.ctx, checked, studyOptions(a, files, classes, c.Threads))
	if err != nil {
		return err
	}
	r := &calibrated{study: s, start: start, Release: fmt.Sprintf("%s %d", rel.Spec.Name, rel.Spec.Release), KeepFP: slices.Clone(rel.Spec.KeepFP)}
	if n := s.Images(); n < calibration.Few {
		r.warn(a, "%d images are few: want %d at least, better hundreds, of what the cameras will see", n, calibration.Few)
	}
	if bad := s.Unreadable(); len(bad) > 0 {
		r.warn(a, "%d of %d images can't be read, the first: %s: %s", len(bad), len(bad)+s.Images(), bad[0].Path, bad[0].Reason)
		for _, u := range bad[1:min(10, len(bad))] {
			r.warn(a, "%s: %s", u.Path, u.Reason)
		}
	}
	if err := c.choose(a, s, r); err != nil {
		return err
	}
	cache, err := s.Cache(r.Algorithm, c.TensorRT)
	if err != nil {
		return err
	}
	if err := plausible(cache, checked.Model); err != nil {
		return err
	}
	if c.Report != "" {
		if err := c.report(a, s, r, rel); err != nil {
			return err
		}
	}
	return c.finish(a, rel, r, cache, cache.Bytes())
}

// finish writes the cache and says what was found.
func (c *calibrateCmd) finish(a *app, rel *release.Release, r *calibrated, cache *calibcache.Cache, text []byte) error {
	r.finish(c.Output, cache)
	if err := durable.WriteFile(c.Output, text, 0o644); err != nil {
		return err
	}
	if c.Write {
		if err := c.update(rel, r.KeepFP); err != nil {
			return err
		}
	}
	if c.JSON {
		return writeJSON(a.stdout, r)
	}
	return r.print(a.stdout, c.Write)
}

// prepare finds out what would fail in the end, before work that takes its time.
func (c *calibrateCmd) prepare(a *app, rel *release.Release) error {
	if _, err := calibcache.HeaderFor(c.TensorRT, calibcache.Entropy2); err != nil {
		return usagef("--tensorrt: %w", err)
	}
	if err := c.place(rel); err != nil {
		return err
	}
	read := []string{rel.SpecPath(), rel.Model, rel.LabelsPath(), c.Release, c.Images, c.Index}
	if err := writable(c.Output, append(read, c.Report)...); err != nil {
		return err
	}
	if err := writable(c.Report, read...); err != nil {
		return err
	}
	if c.Write {
		if rel.Spec.Precision != "int8" {
			fmt.Fprintf(a.stderr, "warning: precision is %s, so the cache won't be used: set precision: int8\n", rel.Spec.Precision)
		}
		return release.CheckCalibrate(rel.SpecPath())
	}
	return nil
}

// writable says why a file can't be written, as far as that can be told ahead:
// there is no folder for it, or it is one of those that are read.
func writable(file string, read ...string) error {
	if file == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return fmt.Errorf("write %s: there is no folder %s", file, filepath.Dir(file))
	}
	own, err := os.Stat(file)
	if err == nil && own.IsDir() {
		return fmt.Errorf("write %s: it is a folder: name a file in it", file)
	}
	for _, other := range read {
		if other == "" {
			continue
		}
		info, otherErr := os.Stat(other)
		if filepath.Clean(file) == filepath.Clean(other) || err == nil && otherErr == nil && os.SameFile(own, info) {
			return usagef("%s is to be written and used for something else too: name another file", file)
		}
	}
	return nil
}

// place finds out where the cache goes.
func (c *calibrateCmd) place(rel *release.Release) error {
	spec := rel.SpecPath()
	switch {
	case c.Write && spec == "":
		return usagef("--write: %s is packed: name the model.yaml that it is packed from", c.Release)
	case c.Output != "":
	case !c.Write:
		return usagef("nowhere to write the cache to: name a file with -o, or let --write put it beside the model.yaml")
	case rel.Spec.Calibration != "":
		c.Output = rel.Spec.Calibration
		if !filepath.IsAbs(c.Output) {
			c.Output = filepath.Join(filepath.Dir(spec), c.Output)
		}
	default:
		c.Output = filepath.Join(filepath.Dir(spec), "calibration.cache")
	}
	return nil
}

// choose observes the model, picks the algorithm and the layers to keep.
func (c *calibrateCmd) choose(a *app, s *calibration.Study, r *calibrated) error {
	auto := c.Algorithm == "auto"
	if err := s.Observe(a.ctx, c.Percentile, auto); err != nil {
		return err
	}
	r.Algorithm = c.Algorithm
	if auto {
		list, err := s.Choose(a.ctx, r.KeepFP)
		if err != nil {
			return err
		}
		r.compared(list)
		r.Algorithm = list[0].Algorithm
		if s.HeldBack() > 0 { // what was held back is worth looking at too
			if err := s.Observe(a.ctx, c.Percentile, false); err != nil {
				return err
			}
		}
	}
	warnings, err := s.Faults(r.KeepFP)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		r.warn(a, "%s", w)
	}
	if r.Algorithm == calibration.Percentile {
		r.Percentile = &c.Percentile
	}
	if c.MaxDrop == nil {
		return nil
	}
	kept, err := s.Keep(a.ctx, s.Scales(r.Algorithm), r.KeepFP, *c.MaxDrop)
	if err != nil {
		return err
	}
	r.kept(kept)
	if !kept.After.Within(*c.MaxDrop) {
		r.warn(a, "--max-drop %v isn't reached: %.2f points are lost with all layers in floating point that can be", *c.MaxDrop, kept.After.Points())
	}
	return nil
}

// plausible refuses a cache that `cache check` would refuse.
func plausible(cache *calibcache.Cache, m *onnx.Model) error {
	fit, err := calibcache.Check(cache, m)
	if err != nil {
		return err
	}
	for _, s := range fit.Suspicious {
		if s.Kind == calibcache.Absurd {
			return fmt.Errorf("%s: %s: are mean and std the model's, for pixels from 0 to 255?", s.Name, s.Why)
		}
	}
	return nil
}

// update puts what was found into the model.yaml.
func (c *calibrateCmd) update(rel *release.Release, keepFP []string) error {
	spec := rel.SpecPath()
	name := rel.Spec.Calibration
	if output, err := filepath.Abs(c.Output); err != nil {
		return err
	} else if dir, err := filepath.Abs(filepath.Dir(spec)); err != nil {
		return err
	} else if name == "" || filepath.Join(dir, name) != output && name != output {
		if name, err = filepath.Rel(dir, output); err != nil || strings.HasPrefix(name, "..") {
			name = output // elsewhere: where it is, wherever model.yaml goes
		}
	}
	return release.Calibrate(spec, name, keepFP)
}

// studyOptions are what all commands study a model with.
func studyOptions(a *app, files []string, classes map[string]int, threads int) calibration.Options {
	return calibration.Options{
		Files: files, Classes: classes, Threads: threads,
		Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Stage: func(what string, steps int) (step, end func()) {
			unit := cmp.Or(map[string]string{"thresholds": "tensors", "layers alone": "layers"}[what], "images")
			bar := progress(a, steps, what, unit)
			return func() { _ = bar.Add(1) }, func() { _ = bar.Finish() }
		},
	}
}

// imagesOf finds the images, and what they show where there is an index: of as
// many labels as the model has.
func imagesOf(images, index, where string, labels int) ([]string, map[string]int, error) {
	if info, err := os.Stat(images); index != "" && err == nil && !info.IsDir() {
		return nil, nil, usagef("--index %s: its files are looked for in a folder, want --images to be that; --images %s is none", index, images)
	}
	if index == "" {
		files, err := calibration.Files(images)
		return files, nil, err
	}
	rows, err := readIndex(index, images, where)
	if err != nil {
		return nil, nil, err
	}
	classes := map[string]int{}
	var named []string
	for _, r := range rows {
		if r.class >= labels {
			return nil, nil, fmt.Errorf("%s: %s has class %d, the model knows 0 to %d", index, r.path, r.class, labels-1)
		}
		classes[r.path] = r.class
		named = append(named, r.path)
	}
	if where != "" {
		return named, classes, nil
	}
	files, err := calibration.Files(images)
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(files, func(f string) bool { _, ok := classes[f]; return ok }) {
		return nil, nil, fmt.Errorf("%s names none of the %d images of %s: its column file is to have paths from that folder on, such as %s",
			index, len(files), images, filepath.Base(files[0]))
	}
	return files, classes, nil
}

// print says what was found and written, for people.
func (r *calibrated) print(w io.Writer, wrote bool) error {
	var b strings.Builder
	if len(r.Compared) > 0 {
		fmt.Fprintf(&b, "INT8 against FP32 on %d images that were held back:\n", r.HeldBack)
		if r.HeldBack == 0 {
			b.Reset()
			fmt.Fprintf(&b, "INT8 against FP32 on all %d images, too few to hold any back:\n", r.Images)
		}
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, c := range r.Compared {
			chosen := ""
			if c.Algorithm == r.Algorithm {
				chosen = "← taken"
			}
			fmt.Fprintf(t, "  %s\t%.1f %% same answers\tprobabilities differ by %.4f nats\tscores %.1f dB\t%s\n", c.Algorithm, 100*c.Agreement, c.KL, c.SNR, chosen)
		}
		t.Flush()
	}
	if k := r.Kept; k != nil {
		fmt.Fprintf(&b, "lost in INT8: %.2f points of %s", k.Before, k.Of)
		if k.Already > 0 {
			fmt.Fprintf(&b, " with %d layers that keep_fp keeps already (remove it to search anew)", k.Already)
		}
		if len(r.KeepFP) > k.Already {
			fmt.Fprintf(&b, "; with %d layers in floating point %.2f points (%.1f %% same answers, %d choices tried)",
				len(r.KeepFP), k.After, 100*k.Agreement, k.Tried)
		}
		b.WriteByte('\n')
		if len(r.KeepFP) > 0 && !wrote {
			fmt.Fprintf(&b, "for the model.yaml:\nkeep_fp: %s\n", release.YAMLList(r.KeepFP))
		}
	}
	fmt.Fprintf(&b, "%s: %d tensors, %s, %s; %d images, %.1f s (%.1f a second)\n",
		r.Output, r.Tensors, r.algorithm(), r.Header, r.Images, r.Seconds, r.Rate)
	_, err := io.WriteString(w, b.String())
	return err
}
