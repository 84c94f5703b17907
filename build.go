package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type buildCmd struct {
	modelFlags
	Release   string      `arg:"" help:"model.yaml, a release's folder, or a .tar.zst."`
	Output    string      `short:"o" placeholder:"FILE" help:"Copy the engine there too, and what it depends on beside it as .json."`
	Config    string      `short:"c" type:"path" placeholder:"FILE" help:"sightd.yaml: build what its daemon would load, by its settings and placement, into its state_dir."`
	Batch     int         `default:"1" help:"Images in a run at most."`
	Device    string      `enum:"release,gpu,dla" default:"release" help:"gpu, dla, or release: where the release's placement says."`
	Cores     string      `default:"auto" help:"With --device dla, how many DLA cores; auto: all."`
	Workspace daemon.Size `default:"1GiB" placeholder:"SIZE" help:"What a layer may take of the GPU's memory while it runs; 0: no limit (${default})."`
	Tactics   daemon.Size `name:"tactic-memory" default:"0" placeholder:"SIZE" help:"What trying a layer may take of the GPU's memory; 0: no limit."`
	ForceINT8 bool        `name:"force-int8" help:"TensorRT: every layer that can be is INT8, whatever it costs; to test a calibration cache."`
	JSON      bool        `name:"json" help:"One JSON document."`
}

// builtJSON is build --json.
type builtJSON struct {
	Key          string              `json:"key"`
	Engine       string              `json:"engine"` // the file
	Stored       bool                `json:"stored"` // it was there already
	Backend      string              `json:"backend"`
	Precision    string              `json:"precision"`
	Quantization string              `json:"quantization,omitempty"`
	Device       string              `json:"device,omitempty"`
	Cores        []int               `json:"cores,omitempty"`
	Placement    string              `json:"placement,omitempty"` // why it runs there
	Batch        int                 `json:"batch"`
	Coverage     float64             `json:"coverage,omitempty"`
	Note         string              `json:"note,omitempty"`
	Size         int64               `json:"size"`
	Seconds      float64             `json:"build_seconds"`
	Load         float64             `json:"load_seconds"`
	Without      float64             `json:"seconds_without_timing_cache,omitempty"` // of earlier builds, the median
	Report       *daemon.BuildReport `json:"report"`
}

func (c *buildCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := writable(c.Output, c.Release); err != nil {
		return err
	}
	rel, err := release.Open(c.Release)
	if err != nil {
		return err
	}
	defer rel.Close()
	o, err := c.settings(a, rel)
	if err != nil {
		return err
	}
	o.Output = c.Output
	show := &buildProgress{w: a.stderr, what: fmt.Sprintf("building the engine of %s %d", rel.Spec.Name, rel.Spec.Release)}
	o.Building = show.tell
	m, err := daemon.OpenModel(a.ctx, rel, o)
	show.end()
	if err != nil {
		return err
	}
	defer m.Engine.Close()
	c.notes(a, m)
	b := builtJSON{
		Key: m.Engine.ID, Engine: m.Engine.Path, Stored: m.Engine.Stored, Backend: m.Backend, Precision: m.Precision,
		Device: m.Device(), Batch: m.Prepared.Batch, Coverage: m.Coverage, Note: m.Note, Size: m.Engine.Size,
		Seconds: m.Engine.Build.Seconds(), Load: m.Engine.Load.Seconds(), Report: m.Engine.Report,
	}
	if p := m.TensorRT; p != nil {
		b.Quantization, b.Cores, b.Placement = p.Quantization, p.Cores, p.Reason
	}
	if b.Report != nil {
		b.Without = b.Report.Without
	}
	if c.JSON {
		return writeJSON(a.stdout, b)
	}
	return b.print(a.stdout)
}

// print says what was built, for people.
func (b builtJSON) print(w io.Writer) error {
	var t strings.Builder
	what := "built in"
	if b.Stored {
		what = "stored already, built in"
	}
	fmt.Fprintf(&t, "%s  %s %.1f s, loaded in %.2f s, %.1f MiB\n", b.Key, what, b.Seconds, b.Load, float64(b.Size)/(1<<20))
	fmt.Fprintf(&t, "%s on %s%s%s, batch %d\n", b.Precision, b.Backend, ifset(b.Device, ", "+b.Device), ifset(b.Quantization, ", "+b.Quantization+" quantisation"), b.Batch)
	if b.Note != "" {
		fmt.Fprintf(&t, "note: %s\n", b.Note)
	}
	if b.Placement != "" {
		fmt.Fprintf(&t, "placement: %s\n", b.Placement)
	}
	if b.Report != nil {
		b.report(&t)
	}
	fmt.Fprintf(&t, "%s\n", b.Engine)
	_, err := io.WriteString(w, t.String())
	return err
}

func (b builtJSON) report(t *strings.Builder) {
	r := b.Report
	if len(r.Layers) > 0 {
		var parts []string
		for _, p := range slices.Sorted(maps.Keys(r.Layers)) {
			parts = append(parts, fmt.Sprintf("%d in %s", r.Layers[p], strings.ToUpper(p)))
		}
		fmt.Fprintf(t, "layers: %s\n", strings.Join(parts, ", "))
	}
	list(t, "kept in floating point by keep_fp", r.Kept)
	list(t, "without a scale, so not INT8", r.Unscaled)
	if c := r.Timing; c != nil && !b.Stored {
		switch {
		case c.Refused:
			fmt.Fprintf(t, "timing cache: the earlier one couldn't be used; the new one has %.1f KiB\n", float64(c.Size)/1024)
		case c.Given == 0:
			fmt.Fprintf(t, "timing cache: there was none; now it has %.1f KiB\n", float64(c.Size)/1024)
		default:
			saved := ""
			if less := b.Without - b.Seconds; less >= 0.1 {
				saved = fmt.Sprintf(", %.1f s less than builds without one took", less)
			}
			fmt.Fprintf(t, "timing cache: %.1f KiB helped%s; now it has %.1f KiB\n", float64(c.Given)/1024, saved, float64(c.Size)/1024)
		}
	}
	if r.DLA != nil {
		fmt.Fprintf(t, "DLA: %s\n", r.DLA)
		list(t, "on the GPU", r.DLA.OnGPU)
	}
	list(t, "warnings of the builder", r.Warnings)
}

// list writes names with their number, a few of them.
func list(t *strings.Builder, what string, names []string) {
	const most = 10
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(t, "%s: %d\n", what, len(names))
	for _, n := range names[:min(len(names), most)] {
		fmt.Fprintf(t, "  %s\n", n)
	}
	if more := len(names) - most; more > 0 {
		fmt.Fprintf(t, "  and %d more (--json lists all)\n", more)
	}
}

// buildProgress shows how far a build is: a line that changes on a terminal,
// elsewhere a line for each phase.
type buildProgress struct {
	w     io.Writer
	what  string // is done, and with which release
	phase string
	drawn bool
}

func (b *buildProgress) tell(p daemon.BuildProgress) {
	text := fmt.Sprintf("%s: %s", b.what, p.Phase)
	if p.Steps > 0 {
		text += fmt.Sprintf(" %d of %d", p.Step, p.Steps)
	}
	took := ifset(elapsed(p.Elapsed, p.Estimate), ", "+elapsed(p.Elapsed, p.Estimate))
	if f, ok := b.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(b.w, "\r\x1b[K%s%s", text, took)
		b.drawn = true
		return
	}
	if p.Phase != b.phase {
		b.phase = p.Phase
		fmt.Fprintf(b.w, "%s%s\n", text, took)
	}
}

// elapsed is how long something has taken of what it may take, as far as either is worth
// a word.
func elapsed(took, estimate time.Duration) string {
	took, estimate = took.Round(time.Second), estimate.Round(time.Second)
	switch {
	case estimate > 0:
		return fmt.Sprintf("%v of about %v", took, estimate)
	case took > 0:
		return took.String()
	}
	return ""
}

func (b *buildProgress) end() {
	if b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.drawn = false
	}
}
