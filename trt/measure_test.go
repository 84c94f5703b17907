package trt_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightd/sightd/trt"
)

// What gpu/bench.py asks of a GPU machine by way of this package's test program.
// Each prints a line "measured: " and JSON.

// Memory after so many loads and unloads is what it was after the first ones, on the
// device and the host, and so it is after loads that fail.
func TestMeasureLoads(t *testing.T) {
	plan := measuredPlan(t)
	const warm, loads, failed = 20, 200, 20
	type memory struct {
		Host   float64 `json:"host_mib"`   // resident, of this process
		Device float64 `json:"device_mib"` // in use by all processes; -1: nvidia-smi isn't there
	}
	now := func() memory { return memory{residentMiB(t), deviceMiB()} }
	load := func() {
		e, err := trt.Load(plan, trt.LoadOptions{Graphs: true})
		if err != nil {
			t.Fatal(err)
		}
		pixels, free := mapped(t, e.Batch()*e.Height()*e.Width()*3)
		b, err := e.Bind(pixels, e.Batch())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Run(b); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		free()
	}
	var seen []memory
	for i := range warm + loads {
		if i >= warm && (i-warm)%20 == 0 {
			seen = append(seen, now())
		}
		load()
	}
	seen = append(seen, now())
	for i := range failed {
		cut := plan[:len(plan)*(i+1)/(failed+2)]
		if e, err := trt.Load(cut, trt.LoadOptions{}); err == nil {
			e.Close()
			t.Errorf("a plan cut to %d of %d bytes was loaded", len(cut), len(plan))
		}
	}
	after := now()
	load() // and the next one serves
	first, last := seen[0], seen[len(seen)-1]
	measured(t, map[string]any{
		"loads": loads, "failed_loads": failed, "every_20": seen, "after_failed": after,
		"host_growth_mib": last.Host - first.Host, "device_growth_mib": last.Device - first.Device,
		"host_growth_failed_mib": after.Host - last.Host, "device_growth_failed_mib": after.Device - last.Device,
	})
}

// How fast an engine runs by way of this package alone: with all lanes busy, and one
// run at a time.
func TestMeasureRuns(t *testing.T) {
	plan := measuredPlan(t)
	seconds := 3.0
	if s, err := strconv.ParseFloat(os.Getenv("SIGHTD_TRT_TEST_SECONDS"), 64); err == nil {
		seconds = s
	}
	lanes, _ := strconv.Atoi(os.Getenv("SIGHTD_TRT_TEST_LANES")) // 0 is the default
	start := time.Now()
	e, err := trt.Load(plan, trt.LoadOptions{Graphs: true, Lanes: lanes})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	loaded := time.Since(start)
	n := e.Batch()
	if s, err := strconv.Atoi(os.Getenv("SIGHTD_TRT_TEST_BATCH")); err == nil {
		n = min(s, n)
	}
	bindings := make([]*trt.Binding, e.Lanes())
	for i := range bindings {
		pixels, free := mapped(t, n*e.Height()*e.Width()*3)
		defer free()
		if bindings[i], err = e.Bind(pixels, n); err != nil {
			t.Fatal(err)
		}
		defer bindings[i].Close()
	}
	for range 200 {
		if err := e.Run(bindings[0]); err != nil {
			t.Fatal(err)
		}
	}
	var alone []time.Duration
	for begin := time.Now(); time.Since(begin).Seconds() < seconds; {
		one := time.Now()
		if err := e.Run(bindings[0]); err != nil {
			t.Fatal(err)
		}
		alone = append(alone, time.Since(one))
	}
	runs := 0
	begin := time.Now()
	for time.Since(begin).Seconds() < seconds {
		b := bindings[runs%len(bindings)]
		if runs >= len(bindings) {
			if err := e.Wait(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Start(b); err != nil {
			t.Fatal(err)
		}
		runs++
	}
	for i := range min(runs, len(bindings)) {
		if err := e.Wait(bindings[(runs+i)%len(bindings)]); err != nil {
			t.Fatal(err)
		}
	}
	elapsed := time.Since(begin).Seconds()
	slices.Sort(alone)
	us := func(share float64) float64 {
		return float64(alone[int(share*float64(len(alone)-1))].Nanoseconds()) / 1e3
	}
	measured(t, map[string]any{
		"batch": n, "lanes": len(bindings), "fps": float64(runs*n) / elapsed,
		"latency_us": map[string]float64{"p50": us(0.5), "p95": us(0.95), "p99": us(0.99)},
		"graphs":     bindings[0].Graphs(), "registered": bindings[0].Registered(),
		"load_ms": float64(loaded.Microseconds()) / 1e3,
	})
}

// measuredPlan is the plan to measure; without one, the test is skipped.
func measuredPlan(t *testing.T) []byte {
	t.Helper()
	path := os.Getenv("SIGHTD_TRT_TEST_PLAN")
	if path == "" {
		t.Skip("SIGHTD_TRT_TEST_PLAN names no plan: make gpu-bench does this on a GPU machine")
	}
	plan, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trt.Open(os.Getenv("SIGHTD_TRT_TEST_LIBRARY")); err != nil {
		t.Fatal(err)
	}
	return plan
}

func measured(t *testing.T, result any) {
	t.Helper()
	text, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nmeasured: %s\n", text)
}

// mapped is memory that doesn't move, and what gives it back.
func mapped(t *testing.T, size int) ([]byte, func()) {
	t.Helper()
	m, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	return m, func() { _ = syscall.Munmap(m) }
}

func residentMiB(t *testing.T) float64 {
	t.Helper()
	var pages, resident int
	statm, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(statm), &pages, &resident)
	}
	if err != nil {
		t.Fatal(err)
	}
	return float64(resident) * float64(os.Getpagesize()) / (1 << 20)
}

func deviceMiB() float64 {
	out, err := exec.Command("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return -1
	}
	used, err := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0]), 64)
	if err != nil {
		return -1
	}
	return used
}
