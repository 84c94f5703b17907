package ort_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/ort"
)

func TestAnswersEqualPythons(t *testing.T) {
	t.Parallel()
	e := load(t, build(t, "dynamic"))
	if e.Batch() != 0 || e.Height() != 6 || e.Width() != 8 || e.Classes() != 5 {
		t.Fatalf("batch %d, %d×%d, %d classes; want 0, 6×8, 5", e.Batch(), e.Height(), e.Width(), e.Classes())
	}
	images, want := file(t, "images.u8"), floats(t, "dynamic.f32")
	both := bind(t, e, images, 2)
	run(t, e, both)
	near(t, both.Scores(), want)

	one := bind(t, e, images[len(images)/2:], 1)
	run(t, e, one)
	near(t, one.Scores(), want[5:])
	near(t, both.Scores(), want)
}

func TestFixedBatchTakesThatBatchOnly(t *testing.T) {
	t.Parallel()
	e := load(t, build(t, "fixed2"))
	images := file(t, "images.u8")
	if e.Batch() != 2 {
		t.Fatalf("batch %d, want 2", e.Batch())
	}
	b := bind(t, e, images, 2)
	run(t, e, b)
	near(t, b.Scores(), floats(t, "dynamic.f32"))
	_, err := e.Bind(images[:len(images)/2], 1)
	wantError(t, err, "batch of 1", "wanted 2")
}

func TestScoresWithDimensionsOfOneBehind(t *testing.T) {
	t.Parallel()
	e := load(t, build(t, "trailing"))
	if e.Classes() != 5 {
		t.Fatalf("%d classes, want 5", e.Classes())
	}
	b := bind(t, e, file(t, "images.u8"), 2)
	run(t, e, b)
	if len(b.Scores()) != 10 {
		t.Fatalf("%d scores, want 10", len(b.Scores()))
	}
}

// The frame's memory is read anew by each run, in place, be it a mapped
// segment or Go's own.
func TestPixelsAreReadInPlace(t *testing.T) {
	t.Parallel()
	e := load(t, build(t, "dynamic"))
	images, want := file(t, "images.u8"), floats(t, "dynamic.f32")
	mapped, err := unix.Mmap(-1, 0, len(images)/2, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mapped) }) // after the binding's Close
	for name, pixels := range map[string][]byte{"mapped": mapped, "go": make([]byte, len(mapped))} {
		b := bind(t, e, pixels, 1)
		for i := range 2 {
			copy(pixels, images[i*len(pixels):])
			run(t, e, b)
			t.Log(name)
			near(t, b.Scores(), want[i*5:][:5])
		}
	}
}

func TestBindRefusesOtherSizes(t *testing.T) {
	t.Parallel()
	e := load(t, build(t, "dynamic"))
	for _, c := range []struct {
		bytes, n int
		want     string
	}{
		{144, 0, "batch of 0: wanted 1 to 65535"},
		{144, -1, "batch of -1"},
		{144, 65536, "batch of 65536"},
		{143, 1, "143 bytes: wanted 1×6×8×3 = 144"},
		{144, 2, "144 bytes: wanted 2×6×8×3 = 288"},
		{0, 1, "0 bytes"},
	} {
		_, err := e.Bind(make([]byte, c.bytes), c.n)
		wantError(t, err, c.want)
	}
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	stored, images := build(t, "dynamic"), file(t, "images.u8")
	e, other := load(t, stored), load(t, stored)
	b, closed := bind(t, e, images, 2), bind(t, e, images, 2)

	wantError(t, other.Run(b), "another engine")
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Run(closed); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run of a closed binding: %v, want ErrClosed", err)
	}
	run(t, e, b) // the other binding isn't touched
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Run(b); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run of a closed engine: %v, want ErrClosed", err)
	}
	if _, err := e.Bind(images, 2); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("bind to a closed engine: %v, want ErrClosed", err)
	}
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	near(t, b.Scores(), floats(t, "dynamic.f32"))
}

func TestTwoEnginesAtOnce(t *testing.T) {
	t.Parallel()
	stored, images, want := build(t, "dynamic"), file(t, "images.u8"), floats(t, "dynamic.f32")
	var bindings []*ort.Binding
	var all errgroup.Group
	for range 2 {
		e := load(t, stored)
		for range 2 {
			b := bind(t, e, images, 2)
			bindings = append(bindings, b)
			all.Go(func() error {
				for range 100 {
					if err := e.Run(b); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, b := range bindings {
		near(t, b.Scores(), want)
	}
}

func TestCloseDuringRuns(t *testing.T) {
	t.Parallel()
	e := load(t, build(t, "dynamic"))
	b := bind(t, e, file(t, "images.u8"), 2)
	first := make(chan struct{})
	done := make(chan error)
	go func() {
		for n := 0; ; n++ {
			if err := e.Run(b); err != nil {
				done <- err
				return
			}
			if n == 0 {
				close(first)
			}
		}
	}()
	<-first
	e.Close()
	if err := <-done; !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run: %v, want ErrClosed", err)
	}
}

func TestRunAllocatesNothing(t *testing.T) {
	e := load(t, build(t, "dynamic"))
	b := bind(t, e, file(t, "images.u8"), 2)
	run(t, e, b)
	if n := testing.AllocsPerRun(100, func() { run(t, e, b) }); n != 0 {
		t.Errorf("%v allocations a run, want 0", n)
	}
}

// Engines that come and go, some of them never closed, leave no memory behind.
func TestMemoryStaysFlat(t *testing.T) {
	stored, images := build(t, "dynamic"), file(t, "images.u8")
	cycle := func(forget bool) {
		e, err := ort.Load(stored, ort.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Bind(images, 2)
		if err != nil {
			t.Fatal(err)
		}
		run(t, e, b)
		if !forget {
			e.Close()
		}
	}
	for i := range 20 {
		cycle(i%10 == 0)
	}
	runtime.GC()
	before := resident(t)
	for i := range 200 {
		cycle(i%10 == 0)
		if i%20 == 0 {
			runtime.GC()
		}
	}
	runtime.GC()
	const most = 16 << 20
	if grown := resident(t) - before; grown > most {
		t.Errorf("%d KiB more resident memory after 200 engines, want less than %d", grown>>10, most>>10)
	}
}

// resident is the process's resident memory in bytes.
func resident(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, pages int
	if _, err := fmt.Sscan(string(status), &total, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func TestLoadRefusesDamage(t *testing.T) {
	t.Parallel()
	whole := build(t, "dynamic")
	refuses := func(name string, data []byte) {
		t.Helper()
		e, err := ort.Load(data, ort.Options{Threads: 1})
		if err == nil {
			e.Close()
			t.Fatalf("%s: loaded", name)
		}
		wantError(t, err, "build it again")
	}
	for n := 0; n < len(whole); n += 1 + len(whole)/200 {
		refuses("cut short", whole[:n])
	}
	for n := len(whole) - 40; n < len(whole); n++ {
		refuses("cut short", whole[:n])
	}
	for i := 0; i < len(whole); i += 1 + len(whole)/500 {
		flipped := append([]byte(nil), whole...)
		flipped[i] ^= 1 << (i % 8)
		refuses("a flipped bit", flipped)
	}
	refuses("more behind", append(append([]byte(nil), whole...), 0))
	refuses("empty", nil)
	refuses("zeros", make([]byte, len(whole)))
	refuses("a graph", file(t, "dynamic.onnx"))
	refuses("a picture", []byte("\x89PNG\r\n\x1a\n"+strings.Repeat("x", 100)))

	_, err := ort.Load(whole, ort.Options{Threads: -1})
	wantError(t, err, "threads: -1")
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	open(t)
	graph := file(t, "dynamic.onnx")
	for _, c := range []struct {
		name  string
		graph []byte
		want  []string
	}{
		{"nothing", nil, []string{"graph of 0 bytes"}},
		{"cut short", graph[:len(graph)/2], nil},
		{"a picture", []byte("\x89PNG\r\n\x1a\n" + strings.Repeat("x", 100)), nil},
		{"float_input", file(t, "float_input.onnx"), []string{`"x0" is float [-1 6 8 3]`, "wanted one input, uint8 N×H×W×3"}},
		{"four_channels", file(t, "four_channels.onnx"), []string{"is uint8 [-1 6 8 4]", "uint8 N×H×W×3"}},
		{"any_size", file(t, "any_size.onnx"), []string{"[-1 -1 -1 3]", "uint8 N×H×W×3"}},
		{"two_inputs", file(t, "two_inputs.onnx"), []string{"2 inputs", "wanted one"}},
		{"two_outputs", file(t, "two_outputs.onnx"), []string{"2 outputs", "wanted one"}},
		{"index_output", file(t, "index_output.onnx"), []string{`"index" is int64`, "float N×classes"}},
		{"map_output", file(t, "map_output.onnx"), []string{"[-1 6 8 3]", "float N×classes"}},
	} {
		out := filepath.Join(t.TempDir(), "engine")
		err := ort.Build(c.graph, out, ort.Options{Threads: 1})
		t.Logf("%s: %v", c.name, err)
		wantError(t, err, append(c.want, "build: ")...)
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: left %s behind", c.name, out)
		}
	}
}

func TestBuildSaysWhenItCannotWrite(t *testing.T) {
	t.Parallel()
	open(t)
	graph := file(t, "dynamic.onnx")
	err := ort.Build(graph, filepath.Join(t.TempDir(), "absent", "engine"), ort.Options{Threads: 1})
	t.Log(err)
	wantError(t, err, "absent")
}
