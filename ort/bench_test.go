package ort_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/ort"
)

// BenchmarkRun is what a run of a tiny graph costs: the way into the library
// and out again.
func BenchmarkRun(b *testing.B) {
	e := load(b, build(b, "dynamic"))
	bound := bind(b, e, file(b, "images.u8"), 2)
	b.ReportAllocs()
	for b.Loop() {
		run(b, e, bound)
	}
}

// BenchmarkLoad is what loading a tiny stored engine costs.
func BenchmarkLoad(b *testing.B) {
	stored := build(b, "dynamic")
	for b.Loop() {
		e, err := ort.Load(stored, ort.Options{Threads: 1})
		if err != nil {
			b.Fatal(err)
		}
		e.Close()
	}
}

// BenchmarkIdle reports how much of a second's processor time a process with
// several engines takes that have run and now wait: about nothing.
func BenchmarkIdle(b *testing.B) {
	stored, images := build(b, "dynamic"), file(b, "images.u8")
	for range 4 {
		e, err := ort.Load(stored, ort.Options{Threads: 4})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { e.Close() })
		run(b, e, bind(b, e, images, 2))
	}
	var used time.Duration
	for b.Loop() {
		before := processorTime(b)
		time.Sleep(time.Second)
		used += processorTime(b) - before
	}
	b.ReportMetric(used.Seconds()*1000/float64(b.N), "cpu-ms/s")
}

// processorTime is what the process has used so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
