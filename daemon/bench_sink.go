package daemon

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// benchSink stands before a unit's own sink and counts its frames.
type benchSink struct {
	warm      chan struct{} // closed when frames flow
	start     atomic.Bool   // count from now on
	seen      int
	frames    atomic.Int64
	latencies []time.Duration // the runner's, until it has ended
}

// benchWarm is how many frames go by before the measuring begins.
const benchWarm = 20

func newBenchSink(u *unit) *benchSink {
	// Room for every frame, so that measuring doesn't allocate.
	b := &benchSink{warm: make(chan struct{}), latencies: make([]time.Duration, 0, 1<<18)}
	next := u.runner.sink
	u.runner.sink = func(r *Result) {
		captured := time.Duration(r.Frame.Captured)
		next(r)
		if b.seen++; b.seen == benchWarm {
			close(b.warm)
		}
		if b.start.Load() {
			b.frames.Add(1)
			if len(b.latencies) < cap(b.latencies) {
				b.latencies = append(b.latencies, monotonic()-captured)
			}
		}
	}
	return b
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(share*float64(len(sorted))), len(sorted)-1)].Microseconds()) / 1000
}

// rssMiB is the process's resident memory.
func rssMiB() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(string(fields[1]))
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20)
}
