package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/trt"
)

// tensorRT is TensorRT on the GPU, and on DLA cores.
type tensorRT struct {
	info         trt.Info
	options      BackendOptions
	optimisation int
	building     chan struct{} // holds one token: builds take turns, each may need all the memory there is
}

// usage is an error in what was asked for, which no other back end cures.
type usage struct{ error }

func usagef(format string, args ...any) error { return &usage{fmt.Errorf(format, args...)} }

// buildTurn is one for the process.
var buildTurn = make(chan struct{}, 1)

func openTensorRT(ctx context.Context, o BackendOptions) (*tensorRT, error) {
	t := &tensorRT{options: o, optimisation: -1, building: buildTurn}
	if !slices.Contains([]string{"", "auto", "implicit", "explicit"}, o.Quantization) {
		return nil, usagef("quantization %q: want auto, implicit or explicit", o.Quantization)
	}
	if o.Optimisation != "" {
		n, err := strconv.Atoi(o.Optimisation)
		if err != nil || n < 0 || n > 5 {
			return nil, usagef("optimisation level %q: want 0 to 5", o.Optimisation)
		}
		t.optimisation = n
	}
	var err error
	if t.info, err = findTensorRT(ctx, o.Engines, o.Log); err != nil {
		return nil, err
	}
	if o.Quantization == "implicit" && t.info.TensorRT.Major() >= 11 {
		return nil, usagef("quantization implicit: TensorRT %s has no calibrators, which 10 was the last to have; take auto or explicit", t.info.TensorRT)
	}
	return t, nil
}

func (t *tensorRT) Name() string { return "tensorrt" }

// Identity has what engines are bound to. Of the driver it is the newest CUDA that
// it takes: engines outlive updates of a driver within that.
func (t *tensorRT) Identity() string {
	d := t.info.Device
	return fmt.Sprintf("TensorRT %s, CUDA %s, %s (%d.%d)", t.info.TensorRT, t.info.CUDA, d.Name, d.Major, d.Minor)
}

// settings are what preparing depends on beside the release and its options.
func (t *tensorRT) settings() string {
	o := t.options
	b, err := json.Marshal([]any{o.Quantization, o.Workspace, o.TacticMemory, t.optimisation, o.ForceINT8, t.info.Device.DLACores})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(b)
}

// explicit is whether INT8 is made of Q/DQ nodes. TensorRT 11 knows nothing else;
// before it a calibration table is the way that is best trodden.
func (t *tensorRT) explicit() bool {
	return t.options.Quantization == "explicit" || t.info.TensorRT.Major() >= 11
}

func (t *tensorRT) Build(ctx context.Context, p *Prepared, dir string, progress func(BuildProgress)) (*BuildReport, error) {
	tell := func(phase string) {
		if progress != nil {
			progress(BuildProgress{Phase: phase})
		}
	}
	select {
	case t.building <- struct{}{}:
	default:
		tell("waiting for another build")
		select {
		case t.building <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-t.building }()
	graph, cache, err := p.graph()
	if err != nil {
		return nil, err
	}
	job := p.TensorRT.Job
	job.Graph, job.Cache = graph, cache
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, err
	}
	timing := timingCacheOf(t.options.Engines)
	if timing != "" {
		job.TimingCache = filepath.Join(dir, "timing.cache")
		if err := copyFile(timing, job.TimingCache); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.options.Log.Warn("the timing cache can't be read, building without", "file", timing, "err", err)
		}
	}
	built, err := trt.Build(ctx, work, job, t.buildOptions(progress))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case trt.StatusOf(err) == trt.BadModel:
		// Not the release's fault: what isn't ONNX at all was found out before.
		return nil, fmt.Errorf("%w (TensorRT %s refuses the model: another version may take it, as does inference.backend: ort)", err, t.info.TensorRT)
	case err != nil:
		return nil, err
	}
	report := reportOf(built, job)
	if p.Device() == "dla" {
		report.DLA = dla.Inspect(layersForDLA(built.Layers), verdictsForDLA(built.DLA))
		if len(report.DLA.Pieces) == 0 {
			return nil, &unfit{report.DLA.Check(p.TensorRT.Wish)} // its limits are the store's to hold
		}
	}
	if timing != "" {
		t.keepTiming(job.TimingCache, timing, built.Timing)
		report.Timing = &built.Timing
	}
	return report, os.Rename(built.Plan, filepath.Join(dir, engineFile))
}

func (t *tensorRT) buildOptions(progress func(BuildProgress)) trt.BuildOptions {
	o := trt.BuildOptions{Command: childCommand("build-child"), Library: t.info.Library}
	if progress != nil {
		o.Progress = func(p trt.Progress) {
			progress(BuildProgress{Phase: p.Phase, Step: p.Step, Steps: p.Steps})
		}
	}
	return o
}

// childCommand starts this very program, also where its file was replaced meanwhile.
func childCommand(name string) []string { return []string{"/proc/self/exe", name} }

// timingCacheOf is where a back end keeps what timing tactics has taught it:
// beside the folder of engines, or in a folder of another name.
func timingCacheOf(engines string) string {
	switch {
	case engines == "":
		return ""
	case filepath.Base(engines) == "engines":
		engines = filepath.Dir(engines)
	}
	return filepath.Join(engines, "timing.cache")
}

// keepTiming puts the timing cache of a build that went well in the place of the
// earlier one. Without it the next build takes longer, that is all.
func (t *tensorRT) keepTiming(from, to string, outcome trt.TimingOutcome) {
	if outcome.Refused {
		t.options.Log.Warn("the timing cache was damaged or another version's, so a new one takes its place", "file", to)
	}
	err := durable.Rename(from, to)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.options.Log.Warn("the timing cache can't be kept", "file", to, "err", err)
	}
}

func (t *tensorRT) Load(p *Prepared, stored []byte) (Engine, error) {
	o := trt.LoadOptions{Graphs: true, Direct: p.TensorRT.Direct}
	if len(p.TensorRT.Cores) > 0 {
		o.Cores = p.TensorRT.Cores
	}
	e, err := trt.Load(stored, o)
	sayTensorRT(t.options.Log)
	if err != nil {
		return nil, err
	}
	if e.Height() != p.Height || e.Width() != p.Width || e.Classes() != p.Classes || e.Batch() < p.Batch {
		err := fmt.Errorf("%w: it takes %d images of %d×%d and gives %d classes, wanted %d of %d×%d and %d", errOtherEngine,
			e.Batch(), e.Width(), e.Height(), e.Classes(), p.Batch, p.Width, p.Height, p.Classes)
		e.Close()
		return nil, err
	}
	return tensorRTEngine{e}, nil
}

var errOtherEngine = errors.New("the engine is of another model")

// tensorRTEngine gives trt's concrete bindings as the interface.
type tensorRTEngine struct{ *trt.Engine }

func (e tensorRTEngine) Bind(pixels []byte, n int) (Binding, error) {
	b, err := e.Engine.Bind(pixels, n)
	if err != nil {
		return nil, err
	}
	return tensorRTBinding{b}, nil
}
func (e tensorRTEngine) Frame(pixels []byte) (Frame, error) { return e.Bind(pixels, 1) }
func (e tensorRTEngine) Start(b Binding) error              { return e.Engine.Start(b.(tensorRTBinding).Binding) }
func (e tensorRTEngine) Wait(b Binding) error               { return e.Engine.Wait(b.(tensorRTBinding).Binding) }

type tensorRTBinding struct{ *trt.Binding }

func (b tensorRTBinding) Gather(i int, f Frame) error {
	return b.Binding.Gather(i, f.(tensorRTBinding).Binding)
}
