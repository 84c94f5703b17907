package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/release"
)

// BenchOptions say how the pipeline is measured against its bare engine.
type BenchOptions struct {
	Model   ModelOptions
	Source  string        // of the frames, as a camera's; decoded and scaled before the measuring
	Frames  int           // different ones
	Round   time.Duration // of one measurement
	Rounds  int           // each measures both, in turn
	Batch   int           // images in a run, of as many cameras with the same source; 0 is 1
	Version string
	Against string            // a precision to compare the engine's speed with; "": none
	Step    func(text string) // called before each measurement; may be nil
}

// BenchResult is bench --json.
type BenchResult struct {
	PipelineFPS float64     `json:"pipeline_fps"` // from the ring to the broker
	EngineFPS   float64     `json:"engine_fps"`   // the bare engine over the same frames
	Ratio       float64     `json:"ratio"`        // median of the rounds' own
	Latency     Percentiles `json:"latency_ms"`   // from a frame's capture to its decision
	CPU         float64     `json:"cpu_ms_per_frame"`
	EngineCPU   float64     `json:"engine_cpu_ms_per_frame"`
	AddedCPU    float64     `json:"added_cpu_share"` // what the pipeline adds to the engine's, median of the rounds' own
	RSS         float64     `json:"rss_mib"`
	RSSGrowth   float64     `json:"rss_growth_mib"` // from the first measured frame of a round to its last, at most
	Frames      int         `json:"frames"`         // that the pipeline classified while it was measured
	Allocations float64     `json:"allocations_per_frame"`
	Decode      float64     `json:"decode_ms"` // the worker's, for one frame, apart from all above
	Scale       float64     `json:"scale_ms"`
	Events      uint64      `json:"events"` // that the broker acknowledged
	Precision   string      `json:"precision"`
	Reference   *Reference  `json:"reference,omitempty"`
	Backend     string      `json:"backend"`
	Threads     int         `json:"threads"`
	Batch       int         `json:"batch"`
	Lanes       int         `json:"lanes"` // runs under way at once
}

// Reference is the same model's bare engine at another precision, measured in
// the same rounds.
type Reference struct {
	Precision string  `json:"precision"`
	EngineFPS float64 `json:"engine_fps"`
	Speedup   float64 `json:"speedup"` // of the measured precision over this one, median of the rounds' own
}

// Percentiles of a latency.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Bench measures the whole daemon, frames from a camera worker's ring, MQTT
// with a broker of its own, against the bare engine that runs over the same
// frames from memory, in turns within one process.
func Bench(ctx context.Context, rel *release.Release, o BenchOptions) (*BenchResult, error) {
	dir, err := os.MkdirTemp("", "sightd-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if o.Model.Engines, err = benchEngines(dir, o.Model.Engines); err != nil {
		return nil, err
	}
	o.Batch = max(o.Batch, 1)
	o.Model.Batch = o.Batch
	step := o.Step
	if step == nil {
		step = func(string) {}
	}
	step("preparing")
	bare, err := newBareLoop(ctx, rel, o)
	if err != nil {
		return nil, err
	}
	defer bare.close()
	var other *bareLoop
	if o.Against != "" {
		against := o
		against.Model.Precision = o.Against
		if other, err = newBareLoop(ctx, rel, against); err != nil {
			return nil, err
		}
		defer other.close()
	}

	res := &BenchResult{
		Precision: bare.model.Precision, Backend: bare.model.Backend, Threads: o.Model.Threads,
		Batch: o.Batch, Lanes: bare.lanes(),
		Decode: bare.decode, Scale: bare.scale,
	}
	var pipelines, engines, ratios, cpus, engineCPUs, added, allocs, others, speedups []float64
	var latencies []time.Duration
	for i := range o.Rounds {
		step(fmt.Sprintf("round %d of %d: the bare engine", i+1, o.Rounds))
		e, err := bare.run(ctx, o.Round)
		if err != nil {
			return nil, err
		}
		if other != nil {
			r, err := other.run(ctx, o.Round)
			if err != nil {
				return nil, err
			}
			others, speedups = append(others, r.fps()), append(speedups, e.fps()/r.fps())
		}
		step(fmt.Sprintf("round %d of %d: the pipeline", i+1, o.Rounds))
		p, err := benchPipeline(ctx, rel, dir, o)
		if err != nil {
			return nil, err
		}
		engines, engineCPUs = append(engines, e.fps()), append(engineCPUs, e.cpuMS())
		pipelines, cpus = append(pipelines, p.fps()), append(cpus, p.cpuMS())
		ratios, added = append(ratios, p.fps()/e.fps()), append(added, p.cpuMS()/e.cpuMS()-1)
		allocs = append(allocs, float64(p.mallocs)/float64(p.frames))
		latencies = append(latencies, p.latencies...)
		res.Events += p.events
		res.Frames += p.frames
		res.RSSGrowth = max(res.RSSGrowth, p.rssGrowth)
		res.RSS = max(res.RSS, p.rss)
	}
	res.PipelineFPS, res.EngineFPS, res.Ratio = median(pipelines), median(engines), median(ratios)
	res.CPU, res.EngineCPU, res.Allocations = median(cpus), median(engineCPUs), median(allocs)
	if other != nil {
		res.Reference = &Reference{other.model.Precision, median(others), median(speedups)}
	}
	res.AddedCPU = median(added)
	slices.Sort(latencies)
	res.Latency = Percentiles{percentile(latencies, .50), percentile(latencies, .95), percentile(latencies, .99)}
	return res, nil
}

// benchEngines is where engines are kept in a benchmark's state directory: the
// folder given, where there is one, so that what it holds needs no building.
func benchEngines(dir, given string) (string, error) {
	engines := filepath.Join(dir, "engines")
	if given == "" {
		return engines, nil
	}
	given, err := filepath.Abs(given)
	if err == nil {
		err = os.MkdirAll(given, 0o755)
	}
	if err == nil {
		err = os.Symlink(given, engines)
	}
	return engines, err
}

// sample is one measurement.
type sample struct {
	frames    int
	took, cpu time.Duration
	mallocs   uint64
	latencies []time.Duration
	events    uint64
	rss       float64 // MiB, at the end
	rssGrowth float64
}

func (s sample) fps() float64   { return float64(s.frames) / s.took.Seconds() }
func (s sample) cpuMS() float64 { return s.cpu.Seconds() * 1000 / float64(s.frames) }

// meter reads what a process has used up so far.
type meter struct {
	start   time.Time
	cpu     time.Duration
	mallocs uint64
}

func startMeter() meter {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return meter{time.Now(), processCPU(), m.Mallocs}
}

func (b meter) stop(s *sample) {
	s.took, s.cpu = time.Since(b.start), processCPU()-b.cpu
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.mallocs = m.Mallocs - b.mallocs
}

func processCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchPipeline runs the daemon for a round.
func benchPipeline(ctx context.Context, rel *release.Release, dir string, o BenchOptions) (s sample, err error) {
	cfg := DefaultConfig()
	cfg.StateDir, cfg.ControlSocket = dir, filepath.Join(dir, "control.sock")
	cfg.Device, cfg.HTTP.Listen = "bench", ""
	cfg.MQTT.Embedded = "127.0.0.1:0"
	cfg.Inference.Backend, cfg.Inference.Threads = o.Model.Name, o.Model.Threads
	cfg.Inference.Quantization, cfg.Inference.Workspace = o.Model.Quantization, Size(o.Model.Workspace)
	cfg.Inference.Optimisation = cmp.Or(o.Model.Optimisation, "auto")
	cfg.Inference.Batch = Batch(o.Batch)
	for i := range o.Batch {
		name := "bench"
		if o.Batch > 1 {
			name = fmt.Sprintf("bench%d", i)
		}
		cfg.Cameras = append(cfg.Cameras, CameraConfig{Name: name, Source: o.Source, Crop: [4]float64{0, 0, 1, 1}})
	}
	cfg.Models = []ModelConfig{{Name: rel.Spec.Name, WhileBuilding: "wait"}} // nothing else is measured
	log := o.Model.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d, err := New(cfg, Options{
		Version: o.Version, Worker: o.Model.Worker, Log: log,
		factory: rel, precision: o.Model.Precision, preload: o.Frames,
	})
	if err != nil {
		return s, err
	}
	count := newBenchSink(d.units[0])
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	select {
	case <-count.warm:
	case err := <-done:
		return s, errors.Join(err, errors.New("the pipeline ended before the measuring"))
	}
	before := rssMiB()
	count.start.Store(true)
	m := startMeter()
	select {
	case <-time.After(o.Round):
	case err := <-done:
		return s, errors.Join(err, errors.New("the pipeline ended during the measuring"))
	}
	count.start.Store(false)
	m.stop(&s)
	s.frames, s.rss = int(count.frames.Load()), rssMiB()
	s.rssGrowth = s.rss - before
	cancel()
	err = <-done
	s.latencies, s.events = count.latencies, d.client.Stats().Acked
	return s, err
}
