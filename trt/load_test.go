package trt_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sightd/sightd/trt"
	"github.com/sightd/sightd/trt/double"
)

// These have the double of this process play scripts, so none is parallel.

func TestDLACoresTakeRunsInTurn(t *testing.T) {
	play(t, "cores 2")
	job := double10()
	job.INT8, job.Cache, job.Calibrator, job.DLA = true, cacheOf(100300), "EntropyCalibration2", &trt.DLAJob{Fallback: true}
	made := build(t, job, "cores 2")
	e := load(t, made, trt.LoadOptions{Cores: []int{0, 1}})
	if e.Lanes() != 2 || e.DeviceMemory() != 2<<20 {
		t.Errorf("%d lanes, %d bytes", e.Lanes(), e.DeviceMemory())
	}
	a, b := bind(t, e, picture(1, 1), 1), bind(t, e, picture(1, 2), 1)
	for range 3 {
		if err := e.Start(a); err != nil {
			t.Fatal(err)
		}
		if err := e.Run(b); err != nil { // on the other
			t.Fatal(err)
		}
		if err := e.Wait(a); err != nil {
			t.Fatal(err)
		}
		wantScores(t, a.Scores(), picture(1, 1), 1, 1e-6)
		wantScores(t, b.Scores(), picture(1, 2), 1, 1e-6)
		if err := e.Run(a); err != nil {
			t.Fatal(err)
		}
	}
	_, err := trt.Load(planOf(t, made), trt.LoadOptions{Cores: []int{0, 2}})
	wantStatus(t, err, trt.Unsupported, "core 2: this machine has 2")
	_, err = trt.Load(planOf(t, made), trt.LoadOptions{})
	wantStatus(t, err, trt.BadPlan, "another kind of device")
}

func TestSecondFormTakesPixelsByATable(t *testing.T) {
	play(t, "cores 1")
	const scale = 1.0 / 127
	job := double10()
	job.INT8, job.Cache, job.Calibrator = true, cacheOf(100300), "EntropyCalibration2"
	job.DLA = &trt.DLAJob{Direct: true, InputScale: scale}
	made := build(t, job, "cores 1")
	d := &trt.Direct{Table: make([][256]int8, 3), Channels: []int{0, 1, 2}, Softmax: true}
	for c := range d.Table {
		for b := range d.Table[c] {
			d.Table[c][b] = int8(math.RoundToEven(float64(b) / 255 / scale))
		}
	}
	e := load(t, made, trt.LoadOptions{Cores: []int{0}, Direct: d})
	d.Table[0] = [256]int8{} // the engine has its own
	runtime.GC()
	pixels := picture(1, 1)
	b := bind(t, e, pixels, 1)
	if err := e.Run(b); err != nil {
		t.Fatal(err)
	}
	wantScores(t, b.Scores(), pixels, 1, 5e-3)
	_, err := trt.Load(planOf(t, made), trt.LoadOptions{Cores: []int{0}})
	wantStatus(t, err, trt.BadArgument, "table")
}

func TestErrorThatCUDADoesNotRecoverFromLastsUntilTheProcessEnds(t *testing.T) {
	plan := filepath.Join(t.TempDir(), "engine")
	if err := os.WriteFile(plan, planOf(t, build(t, double10())), 0o600); err != nil {
		t.Fatal(err)
	}
	command := append(child(t, "broken", `fail run after 0 13 "an illegal memory access"`), plan)
	out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
	if want := fmt.Sprintf("statuses %d %[1]d %[1]d", trt.Broken); err != nil || !strings.Contains(string(out), want) || strings.Count(string(out), "an illegal memory access") != 3 {
		t.Errorf("%v: %s; want %q", err, out, want)
	}
}

func TestLoadRefusesWhatCannotBe(t *testing.T) {
	play(t)
	plan := planOf(t, build(t, double10()))
	for want, o := range map[string]trt.LoadOptions{
		"9 lanes":     {Lanes: 9},
		"-1 lanes":    {Lanes: -1},
		"0 DLA cores": {Cores: []int{}},
		"DLA core -1": {Cores: []int{-1}},
		"0 channels":  {Direct: &trt.Direct{}},
		"byte 3":      {Direct: &trt.Direct{Table: make([][256]int8, 1), Channels: []int{3}}},
	} {
		_, err := trt.Load(plan, o)
		wantStatus(t, err, trt.BadArgument, want)
	}
	_, err := trt.Load(nil, trt.LoadOptions{})
	wantStatus(t, err, trt.BadArgument, "empty")
}

func TestPlanOfAnotherVersionOrDeviceIsRefused(t *testing.T) {
	plan := planOf(t, build(t, double10()))
	for want, line := range map[string]string{
		"version":        "version 10.6.0",
		"another device": `device "Another GPU" 8.7 integrated`,
	} {
		play(t, line)
		_, err := trt.Load(plan, trt.LoadOptions{})
		wantStatus(t, err, trt.BadPlan, want)
	}
}

func TestNoMemoryLeftOnTheDevice(t *testing.T) {
	play(t, "memory 10", "engine-memory 4")
	plan := planOf(t, build(t, double10()))
	a, err := trt.Load(plan, trt.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := trt.Load(plan, trt.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, err = trt.Load(plan, trt.LoadOptions{})
	wantStatus(t, err, trt.NoMemory)
	a.Close()
	if device, err := trt.DeviceNow(); err != nil || device.Free != 6<<20 {
		t.Errorf("%+v, %v", device, err)
	}
	c, err := trt.Load(plan, trt.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestRunsThatFailLeaveTheEngineUsable(t *testing.T) {
	play(t)
	e := load(t, build(t, double10()), trt.LoadOptions{})
	b := bind(t, e, picture(1, 1), 1)
	play(t, `fail run 11 "the launch failed"`)
	for range 5 { // more than there are lanes
		wantStatus(t, e.Run(b), trt.Failed, "tensorrt: run: the launch failed")
	}
	play(t, `fail run after 0 5 "out of memory"`)
	for range 5 {
		wantStatus(t, e.Run(b), trt.NoMemory, "out of memory")
	}
	play(t)
	if err := e.Run(b); err != nil {
		t.Fatal(err)
	}
	wantScores(t, b.Scores(), picture(1, 1), 1, 1e-6)
	play(t, `fail bind 5 "no pinned memory left"`)
	_, err := e.Bind(picture(1, 1), 1)
	wantStatus(t, err, trt.NoMemory, "no pinned memory left")
	play(t, `fail inspect 11 "no inspector"`)
	_, err = e.Layers()
	wantStatus(t, err, trt.Failed, "no inspector")
}

func TestBindingTellsWhatCUDACannot(t *testing.T) {
	play(t)
	made := build(t, double10())
	for _, want := range []bool{true, false} {
		if !want {
			play(t, "no registration", "no graphs")
		}
		b := bind(t, load(t, made, trt.LoadOptions{Graphs: true}), picture(1, 1), 1)
		if b.Registered() != want || b.Graphs() != want {
			t.Errorf("registered %v, graphs %v, want %v", b.Registered(), b.Graphs(), want)
		}
	}
}

func TestEngineThatIsGarbageIsFreed(t *testing.T) {
	play(t)
	plan := planOf(t, build(t, double10()))
	free := func() uint64 {
		device, err := trt.DeviceNow()
		if err != nil {
			t.Fatal(err)
		}
		return device.Free
	}
	before := free()
	func() {
		e, err := trt.Load(plan, trt.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Bind(picture(1, 1), 1); err != nil {
			t.Fatal(err)
		}
	}()
	if free() == before {
		t.Fatal("an engine takes no memory of the double's: this test shows nothing")
	}
	for free() != before {
		if t.Context().Err() != nil {
			t.Fatal("never freed")
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
}

func TestUseByManyGoroutines(t *testing.T) {
	play(t)
	e := load(t, build(t, double10()), trt.LoadOptions{Lanes: 4})
	done := make(chan error)
	for i := range 4 {
		go func() {
			done <- func() error {
				for range 50 {
					b, err := e.Bind(picture(1, i), 1)
					if err != nil {
						return err
					}
					if err := e.Run(b); err != nil {
						return err
					}
					if _, err := e.Layers(); err != nil {
						return err
					}
					b.Close()
				}
				return nil
			}()
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestDoubleScoresByItsFormula(t *testing.T) {
	t.Parallel()
	got := double.Scores([]byte{255, 0, 0, 255, 0, 0}, 4, math.Log(2))
	for i, want := range []float32{0.4, 0.2, 0.2, 0.2} {
		if math.Abs(float64(got[i]-want)) > 1e-6 {
			t.Errorf("scores %v", got)
		}
	}
}
