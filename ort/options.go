package ort

import (
	"fmt"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Options says how an engine is to run.
type Options struct {
	// Threads work on one image together, the caller of Run among them; 0
	// stands for one a core that the process may use (not one a hyper-thread:
	// two of them share the arithmetic that this is bound by).
	Threads int
	// Bounded says that the graph itself keeps its INT8 sums small enough for a
	// CPU that saturates them (see [Saturates]). Without it Build has ONNX
	// Runtime take care there, at some cost.
	Bounded bool
}

// level is how much ONNX Runtime may change a graph.
type level = onnxruntime.GraphOptimizationLevel

// session are the library's options. The caller destroys them.
func (o Options) session(optimise level) (*onnxruntime.SessionOptions, error) {
	const most = 1024
	threads := o.Threads
	if threads < 0 || threads > most {
		return nil, fmt.Errorf("threads: %d: wanted 1 to %d, or 0 for one a core", threads, most)
	}
	if threads == 0 {
		threads = cores()
	}
	s, err := onnxruntime.NewSessionOptions()
	if err != nil {
		return nil, reason(err)
	}
	set := func(step error) {
		if err == nil {
			err = step
		}
	}
	set(s.SetGraphOptimizationLevel(optimise))
	set(s.SetLogSeverityLevel(onnxruntime.LoggingLevelFatal))
	set(s.SetExecutionMode(onnxruntime.ExecutionModeSequential))
	set(s.SetIntraOpNumThreads(threads))
	set(s.SetInterOpNumThreads(1))
	// The arena keeps its memory between runs: without it each run maps and
	// faults its tensors in anew. Patterns plan it in one block for each shape
	// seen, which with the arena there gains no time and costs memory.
	set(s.SetCpuMemArena(true))
	set(s.SetMemPattern(false))
	for key, value := range o.entries() {
		set(s.AddSessionConfigEntry(key, value))
	}
	if err != nil {
		s.Destroy()
		return nil, reason(err)
	}
	return s, nil
}

// entries are the options that the library knows by name.
//
// session.set_denormal_as_zero stays off: it sets the mode of whichever thread
// makes the first session, for good, and that thread goes on to run Go code.
func (o Options) entries() map[string]string {
	e := map[string]string{
		// Threads that wait for work sleep. Spinning ones win a fraction of a
		// millisecond and burn the cores that capture and decoding need.
		"session.intra_op.allow_spinning": "0",
		"session.inter_op.allow_spinning": "0",
	}
	if Saturates() && !o.Bounded {
		e["session.x64quantprecision"] = "1"
	}
	return e
}
