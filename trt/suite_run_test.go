package trt_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/trt"
)

func suiteOpen(t *testing.T, info trt.Info) {
	again, err := trt.Open("")
	if err != nil || again != info {
		t.Errorf("open again: %+v, %v", again, err)
	}
	if info.TensorRT.Major() < 8 || info.TensorRT.Major() != info.Compiled.Major() || info.Device.Name == "" || info.Device.Memory == 0 {
		t.Errorf("info %+v", info)
	}
	if device, err := trt.DeviceNow(); err != nil || device.Free == 0 || device.Free > device.Memory {
		t.Errorf("device now %+v, %v", device, err)
	}
	probed, err := trt.Probe(context.Background(), child(t, "probe"), "")
	probed.Device.Free = info.Device.Free
	if err != nil || probed != info {
		t.Errorf("probed %+v, %v; opened %+v", probed, err, info)
	}
}

func suiteFP32(t *testing.T, info trt.Info) {
	made := build(t, plain(info))
	runs(t, made, 1, 2e-3) // TF32 has 10 bits
	e := load(t, made, trt.LoadOptions{})
	if e.Batch() != 1 || e.Height() != side || e.Width() != side || e.Classes() != classes || e.Lanes() != trt.Lanes {
		t.Errorf("the engine takes %d images of %d×%d, gives %d classes, has %d lanes", e.Batch(), e.Width(), e.Height(), e.Classes(), e.Lanes())
	}
	if layers, err := e.Layers(); err != nil || len(layers) != len(made.Layers) {
		t.Errorf("layers %v, %v", layers, err)
	}
	if made.Info.TensorRT != info.TensorRT {
		t.Errorf("the builder had %+v", made.Info)
	}
}

func suiteFP16(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no flags for precisions")
	}
	job := plain(info)
	job.FP16 = true
	runs(t, build(t, job), 1, 1e-2)
}

func suiteImplicit(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no calibration")
	}
	job := plain(info)
	job.INT8, job.FP16, job.ForceINT8 = true, true, true
	job.Cache, job.Calibrator = cacheOf(info.TensorRT), "EntropyCalibration2"
	made := build(t, job)
	runs(t, made, 1, 3e-2)
	int8s := 0
	for _, l := range made.Layers {
		if l.Precision == "int8" && !l.Reformat {
			int8s++
		}
	}
	if int8s == 0 {
		t.Error("no layer is INT8")
	}
	if made.Cache != nil {
		t.Errorf("a cache was written though one was given: %q", made.Cache)
	}
}

func suiteExplicit(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph = quantised(t)
	if info.TensorRT.Major() < 10 {
		job.INT8 = true
	} else {
		job.StronglyTyped = true
	}
	runs(t, build(t, job), 1, 3e-2)
}

func suiteBatch(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph, job.Batch = graph(0), 4
	made := build(t, job)
	runs(t, made, 4, 2e-3)
	e := load(t, made, trt.LoadOptions{Graphs: true})
	if e.Batch() != 4 || e.Lanes() != trt.Lanes {
		t.Errorf("batch %d, lanes %d", e.Batch(), e.Lanes())
	}
	for _, n := range []int{1, 3} {
		pixels := picture(n, n)
		b := bind(t, e, pixels, n)
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
		wantScores(t, b.Scores(), pixels, n, 2e-3)
	}
	_, err := e.Bind(picture(5, 0), 5)
	wantStatus(t, err, trt.BadArgument, "batch of 5: wanted 1 to 4")
	_, err = e.Bind(picture(1, 0)[1:], 1)
	wantStatus(t, err, trt.BadArgument, "191 bytes: wanted 1×8×8×3 = 192")
}

func suiteGather(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph, job.Batch = graph(0), 4
	e := load(t, build(t, job), trt.LoadOptions{Lanes: 2, Graphs: true})
	own := picture(3, 0)
	b := bind(t, e, own, 3)
	first, last := picture(1, 1), picture(1, 2)
	frames := []*trt.Binding{bind(t, e, first, 1), bind(t, e, last, 1)}
	want := func(images ...[]byte) {
		t.Helper()
		for range 2 * e.Lanes() { // plainly, and as graphs
			if err := e.Run(b); err != nil {
				t.Fatal(err)
			}
			wantScores(t, b.Scores(), slices.Concat(images...), 3, 2e-3)
		}
	}
	gather := func(i int, f *trt.Binding) {
		t.Helper()
		if err := b.Gather(i, f); err != nil {
			t.Fatal(err)
		}
	}
	size := len(first)
	gather(0, frames[0])
	gather(2, frames[1])
	want(first, own[size:2*size], last)
	gather(1, frames[0]) // once more
	want(first, first, last)
	first[0] ^= 255
	want(first, first, last)
	frames[0].Close()
	want(own[:2*size], last)

	wantStatus(t, b.Gather(3, frames[1]), trt.BadArgument, "image 3 is asked for: 0 to 2")
	wantStatus(t, frames[1].Gather(0, b), trt.BadArgument, "from a binding of several images")
	if err := b.Gather(0, frames[0]); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("%v for a binding that was closed", err)
	}
}

func suiteProgress(t *testing.T, info trt.Info) {
	var seen []trt.Progress
	o := trt.BuildOptions{
		Command:  child(t, "build", "delay build 200ms phase Tactics", "delay build 100ms phase Engine"),
		Progress: func(p trt.Progress) { seen = append(seen, p) },
	}
	if _, err := trt.Build(context.Background(), t.TempDir(), plain(info), o); err != nil {
		t.Fatal(err)
	}
	if len(seen) == 0 {
		t.Fatal("no progress was told of")
	}
	last := seen[0]
	for _, p := range seen {
		if p.Phase == "" || p.Elapsed < last.Elapsed || p.Steps > 0 && p.Step > p.Steps {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	}
}

func suiteLanes(t *testing.T, info trt.Info) {
	e := load(t, build(t, plain(info)), trt.LoadOptions{Lanes: 2, Graphs: true})
	first, second, third := picture(1, 1), picture(1, 2), picture(1, 3)
	a, b, c := bind(t, e, first, 1), bind(t, e, second, 1), bind(t, e, third, 1)
	for range 20 {
		for _, x := range []*trt.Binding{a, b} {
			if err := e.Start(x); err != nil {
				t.Fatal(err)
			}
		}
		wantStatus(t, e.Start(c), trt.BadArgument, "all lanes are busy")
		wantStatus(t, e.Start(a), trt.BadArgument, "hasn't been waited for")
		for _, x := range []*trt.Binding{b, a} {
			if err := e.Wait(x); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Run(c); err != nil { // on one lane and the other in turn
			t.Fatal(err)
		}
	}
	wantStatus(t, e.Wait(a), trt.BadArgument, "nothing was started")
	wantScores(t, a.Scores(), first, 1, 2e-3)
	wantScores(t, b.Scores(), second, 1, 2e-3)
	wantScores(t, c.Scores(), third, 1, 2e-3)

	other := load(t, build(t, plain(info)), trt.LoadOptions{})
	wantStatus(t, other.Start(a), trt.BadArgument, "another engine")
	wantStatus(t, other.Wait(a), trt.BadArgument, "another engine")
}

func suiteChanging(t *testing.T, info trt.Info) {
	e := load(t, build(t, plain(info)), trt.LoadOptions{})
	// A mapping, as the cameras' rings are.
	size := side * side * 3
	mapping, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapping)
	a, b := bind(t, e, mapping[:size], 1), bind(t, e, mapping[size:], 1) // both on one page
	defer a.Close()
	defer b.Close()
	for seed := range 4 {
		copy(mapping, picture(2, seed))
		for i, x := range []*trt.Binding{a, b} {
			if err := e.Run(x); err != nil {
				t.Fatal(err)
			}
			wantScores(t, x.Scores(), mapping[i*size:], 1, 2e-3)
		}
	}
}

func suiteClosing(t *testing.T, info trt.Info) {
	made := build(t, plain(info))
	e := load(t, made, trt.LoadOptions{})
	pixels := picture(1, 1)
	a, b, c := bind(t, e, pixels, 1), bind(t, e, pixels, 1), bind(t, e, pixels, 1)
	if err := e.Run(b); err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	if err := e.Run(a); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("run of a closed binding: %v", err)
	}
	if err := e.Start(b); err != nil {
		t.Fatal(err)
	}
	b.Close() // which waits
	for range 2 {
		if err := e.Start(c); err != nil { // the lane is free again
			t.Fatal(err)
		}
		if err := e.Wait(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Start(c); err != nil {
		t.Fatal(err)
	}
	e.Close() // while a run is under way
	e.Close()
	c.Close()
	for what, err := range map[string]error{"start": e.Start(c), "wait": e.Wait(c)} {
		if !errors.Is(err, trt.ErrClosed) {
			t.Errorf("%s after closing: %v", what, err)
		}
	}
	if _, err := e.Bind(pixels, 1); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("bind after closing: %v", err)
	}
	if _, err := e.Layers(); !errors.Is(err, trt.ErrClosed) {
		t.Errorf("layers after closing: %v", err)
	}
	wantScores(t, b.Scores(), pixels, 1, 2e-3) // they outlive it
}

func suiteAllocations(t *testing.T, info trt.Info) {
	e := load(t, build(t, plain(info)), trt.LoadOptions{})
	b, frame := bind(t, e, picture(1, 1), 1), bind(t, e, picture(1, 2), 1)
	if n := testing.AllocsPerRun(100, func() {
		if err := b.Gather(0, frame); err != nil {
			t.Fatal(err)
		}
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}
