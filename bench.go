package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/sightd/sightd/daemon"
	"github.com/sightd/sightd/release"
)

type benchCmd struct {
	modelFlags
	Release string        `arg:"" help:"model.yaml, a release's folder, or a .tar.zst."`
	Source  string        `default:"test:noise" help:"Where the frames come from, as a camera's source; they are decoded and scaled before the measuring."`
	Batch   int           `default:"1" help:"Images in a run at most, from as many cameras."`
	Frames  int           `default:"32" help:"Different frames."`
	Round   time.Duration `default:"3s" help:"Length of a measurement."`
	Rounds  int           `default:"3" help:"Rounds; each measures the bare engine and the pipeline in turn."`
	Against string        `enum:"int8,fp16,fp32,none" default:"none" help:"Measure the bare engine in this precision too, in the same rounds."`
	JSON    bool          `name:"json" help:"One JSON document."`
}

func (c *benchCmd) Run(a *app) error {
	if c.Threads < 0 || c.Batch < 1 || c.Batch > 64 || c.Frames < 1 || c.Rounds < 1 || c.Round <= 0 {
		return usagef("--threads, --batch (to 64), --frames, --rounds and --round: want positive numbers")
	}
	if err := c.check(); err != nil {
		return err
	}
	rel, err := release.Open(c.Release)
	if err != nil {
		return err
	}
	defer rel.Close()
	model := c.options(a)
	bar := progress(a, 1+2*c.Rounds, "measuring", "rounds")
	res, err := daemon.Bench(a.ctx, rel, daemon.BenchOptions{
		Model:   model,
		Batch:   c.Batch,
		Against: c.against(),
		Source:  c.Source, Frames: c.Frames, Round: c.Round, Rounds: c.Rounds, Version: version,
		Step: func(text string) { bar.Describe(text); _ = bar.Add(1) },
	})
	_ = bar.Finish()
	if err != nil {
		return err
	}
	c.note(a, res.Backend)
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(res)
	}
	printBench(a.stdout, res)
	return nil
}

func (c *benchCmd) against() string {
	if c.Against == "none" {
		return ""
	}
	return c.Against
}

func printBench(w io.Writer, r *daemon.BenchResult) {
	fmt.Fprintf(w, "pipeline  %8.1f frames/s  ring → engine → decision → broker\n", r.PipelineFPS)
	fmt.Fprintf(w, "engine    %8.1f frames/s  the same frames, the same engine, nothing else\n", r.EngineFPS)
	fmt.Fprintf(w, "ratio     %8.3f           median of the rounds\n", r.Ratio)
	fmt.Fprintf(w, "latency   %8.2f ms p50, %.2f p95, %.2f p99, from capture to decision\n", r.Latency.P50, r.Latency.P95, r.Latency.P99)
	fmt.Fprintf(w, "CPU       %8.2f ms a frame, the engine alone %.2f: %+.1f %%\n", r.CPU, r.EngineCPU, 100*r.AddedCPU)
	fmt.Fprintf(w, "memory    %8.1f MiB resident, %+.1f over %d frames, %.2f allocations a frame\n", r.RSS, r.RSSGrowth, r.Frames, r.Allocations)
	fmt.Fprintf(w, "worker    %8.2f ms to decode a frame, %.2f ms to scale it (another process, not in the above)\n", r.Decode, r.Scale)
	if ref := r.Reference; ref != nil {
		fmt.Fprintf(w, "%-9s %8.1f frames/s  bare engine; %s is %.2f times as fast\n", ref.Precision, ref.EngineFPS, r.Precision, ref.Speedup)
	}
	fmt.Fprintf(w, "%s on %s, %d threads, %d events delivered\n", r.Precision, r.Backend, r.Threads, r.Events)
	if r.Batch > 1 {
		fmt.Fprintf(w, "%d images in a run, from as many cameras\n", r.Batch)
	}
}
