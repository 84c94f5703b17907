package trt_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightd/sightd/trt"
)

// double10 is a job for the double as it is without a script.
func double10() trt.Job { return trt.Job{Graph: graph(1), Batch: 1, Optimisation: -1} }

func TestBuilderThatDiesIsReportedWithTheSignal(t *testing.T) {
	t.Parallel()
	for how, want := range map[string]string{
		"abort": "SIGABRT",
		"segv":  "SIGSEGV",
		"kill":  "killed (SIGKILL): perhaps there wasn't enough memory",
		"exit3": "exit status 3",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			_, err := tryBuild(t, double10(), `log 1 "Could not find any implementation for node conv"`,
				"delay build 100ms", "crash build "+how)
			wantStatus(t, err, trt.Crashed, want)
		})
	}
}

// What TensorRT logged before it died has time to arrive: the crash comes at the load.
func TestBuilderThatDiesLeavesItsLastError(t *testing.T) {
	t.Parallel()
	_, err := tryBuild(t, double10(), `log 1 "Could not find any implementation for node conv"`,
		"crash load segv")
	wantStatus(t, err, trt.Crashed, "TensorRT's last error: Could not find any implementation for node conv")
}

func TestBuilderErrorsKeepTheirStatus(t *testing.T) {
	t.Parallel()
	for status := trt.BadArgument; status <= trt.Failed; status++ {
		_, err := tryBuild(t, double10(), fmt.Sprintf(`fail build %d "it is %d"`, status, status))
		wantStatus(t, err, status, fmt.Sprintf("tensorrt: build: it is %d", status))
	}
	_, err := tryBuild(t, double10(), `fail open 4 "no GPU"`)
	wantStatus(t, err, trt.NoDevice, "no GPU", "nvidia-smi")
	_, err = tryBuild(t, double10(), `fail build 13 "an illegal memory access"`)
	wantStatus(t, err, trt.Failed, "an illegal memory access") // in the child alone
	_, err = tryBuild(t, double10(), `fail build 77 "from another age"`)
	wantStatus(t, err, trt.Failed, "from another age")
	_, err = tryBuild(t, double10(), `fail load 8 "it doesn't load what it built"`)
	wantStatus(t, err, trt.BadPlan, "it doesn't load what it built")
}

func TestBuilderThatCannotBeCancelledIsEnded(t *testing.T) {
	restore := trt.SetCancelGrace(100 * time.Millisecond)
	defer restore()
	for name, script := range map[string][]string{
		"it listens":               {"delay build 1h"},
		"an old one can't":         {"version 8.6.1", "delay build 1h"},
		"it says so, but does not": {"no cancelling", "delay build 1h"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			o := trt.BuildOptions{
				Command:  child(t, "build", script...),
				Progress: func(trt.Progress) { cancel(fmt.Errorf("a newer release came")) },
			}
			_, err := trt.Build(ctx, t.TempDir(), double10(), o)
			wantStatus(t, err, trt.Cancelled, "cancelled: a newer release came")
		})
	}
	t.Run("it ignores signals", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		o := trt.BuildOptions{Command: child(t, "deaf"), Progress: func(trt.Progress) { cancel() }}
		_, err := trt.Build(ctx, t.TempDir(), double10(), o)
		wantStatus(t, err, trt.Cancelled)
	})
	t.Run("before it starts", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := trt.Build(ctx, t.TempDir(), double10(), trt.BuildOptions{Command: []string{"/does/not/exist"}})
		wantStatus(t, err, trt.Cancelled)
	})
}

func TestChildrenThatAreNoBuilders(t *testing.T) {
	t.Parallel()
	start := func(command ...string) error {
		_, err := trt.Build(context.Background(), t.TempDir(), double10(), trt.BuildOptions{Command: command})
		return err
	}
	wantStatus(t, start("/does/not/exist"), trt.Failed, "/does/not/exist")
	wantStatus(t, start(child(t, "silent")...), trt.Crashed, "exit status 0")
	wantStatus(t, start(child(t, "flood")...), trt.Crashed, "exit status 7", "the last words")
	_, err := trt.Build(context.Background(), filepath.Join(t.TempDir(), "missing"), double10(), trt.BuildOptions{Command: child(t, "build")})
	wantStatus(t, err, trt.Failed, "missing")
}

func TestWhatTheLogSaysIsKeptWithinBounds(t *testing.T) {
	t.Parallel()
	lines := 0
	o := trt.BuildOptions{Command: child(t, "flood"), Log: func(int, string) { lines++ }}
	_, err := trt.Build(context.Background(), t.TempDir(), double10(), o)
	wantStatus(t, err, trt.Crashed)
	if lines != 2001 {
		t.Errorf("%d lines, want all 2001 behind the one that is too long", lines)
	}
	if len(err.Error()) > 4000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}

	script := []string{
		`log 2 "Missing scale and zero-point for tensor (Unnamed Layer* 3) [Constant]_output, expect fall back to non-int8 implementation for any layer consuming or producing given tensor"`,
		`log 2 "Missing scale and zero-point for tensor x, expect fall back to non-int8 implementation for any layer consuming or producing given tensor"`,
		`log 2 "Missing scale and zero-point for tensor x, expect fall back to non-int8 implementation for any layer consuming or producing given tensor"`,
		`log 3 "nobody needs this"`,
	}
	for i := range 200 {
		script = append(script, fmt.Sprintf(`log 2 "warning %d"`, i), `log 2 "the same"`)
	}
	made := build(t, double10(), script...)
	if diff := cmp.Diff([]string{"(Unnamed Layer* 3) [Constant]_output", "x"}, made.Unscaled); diff != "" {
		t.Error(diff)
	}
	if len(made.Warnings) != 100 || made.Warnings[1] != "the same" || made.Warnings[99] != "warning 98" {
		t.Errorf("%d warnings: %q", len(made.Warnings), made.Warnings)
	}
}

func TestProgressComesAtEachPhaseAndNotTooOften(t *testing.T) {
	t.Parallel()
	var phases []string
	var seen []trt.Progress
	o := trt.BuildOptions{
		Command: child(t, "build", "delay build 700ms phase Tactics", `delay build 150ms phase "Building engine"`),
		Progress: func(p trt.Progress) {
			seen = append(seen, p)
			if !slices.Contains(phases, p.Phase) {
				phases = append(phases, p.Phase)
			}
		},
	}
	if _, err := trt.Build(context.Background(), t.TempDir(), double10(), o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Tactics", "Building engine"} {
		if !slices.Contains(phases, want) {
			t.Errorf("phases %q, want %q among them", phases, want)
		}
	}
	for i := 1; i < len(seen); i++ {
		if d := seen[i].Elapsed - seen[i-1].Elapsed; seen[i].Phase == seen[i-1].Phase && d < 240*time.Millisecond {
			t.Errorf("%v after the last: %+v", d, seen[i])
		}
	}
}

func TestBuildForDLA(t *testing.T) {
	t.Parallel()
	job := double10()
	job.INT8, job.FP16, job.Cache, job.Calibrator = true, true, cacheOf(100300), "EntropyCalibration2"
	job.DLA = &trt.DLAJob{Fallback: true}
	made := build(t, job, "cores 2")
	want := []trt.DLAVerdict{{"cast", false}, {"scaling", true}, {"transpose", true}, {"conv", true}, {"pool", true}, {"flatten", true}, {"softmax", false}}
	if diff := cmp.Diff(want, made.DLA); diff != "" {
		t.Error(diff)
	}
	if !slices.ContainsFunc(made.Layers, func(l trt.Layer) bool { return l.Device == "dla" && l.Precision == "int8" }) ||
		!slices.ContainsFunc(made.Layers, func(l trt.Layer) bool { return l.Reformat }) {
		t.Errorf("layers %+v", made.Layers)
	}
	job.DLA.Fallback = false
	_, err := tryBuild(t, job, "cores 2")
	wantStatus(t, err, trt.Unsupported, "can't run on DLA")
	job.DLA.Fallback = true
	_, err = tryBuild(t, job)
	wantStatus(t, err, trt.Unsupported, "this machine has 0")

	job.DLA = &trt.DLAJob{Direct: true, InputScale: 1.0 / 127}
	if made := build(t, job, "cores 2"); len(made.Layers) != 1 || made.Layers[0].Device != "dla" {
		t.Errorf("layers of the second form: %+v", made.Layers)
	}
}

func TestJobsThatNoBuilderTakes(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*trt.Job){
		"no graph":             func(j *trt.Job) { j.Graph = nil },
		`calibrator "K"`:       func(j *trt.Job) { j.Calibrator = "K" },
		"batch of 0":           func(j *trt.Job) { j.Batch = 0 },
		"level 6":              func(j *trt.Job) { j.Optimisation = 6 },
		"workspace of -1":      func(j *trt.Job) { j.Workspace = -1 },
		"strongly typed":       func(j *trt.Job) { j.StronglyTyped, j.INT8 = true, true },
		"without a calibrator": func(j *trt.Job) { j.INT8, j.Cache = true, cacheOf(100300) },
		"nothing feeds":        func(j *trt.Job) { j.Calibrator, j.Images = "MinMaxCalibration", &trt.Images{} },
		"made of byte 3": func(j *trt.Job) {
			j.Calibrator, j.Images = "MinMaxCalibration", &trt.Images{endless, make([][256]float32, 1), []int{3}}
		},
		"for 2 channels": func(j *trt.Job) {
			j.Calibrator, j.Images = "MinMaxCalibration", &trt.Images{endless, make([][256]float32, 2), []int{0}}
		},
	} {
		job := double10()
		change(&job)
		_, err := tryBuild(t, job)
		wantStatus(t, err, trt.BadArgument, want)
	}
}

func TestJobSurvivesItsFile(t *testing.T) {
	t.Parallel()
	job := trt.Job{
		INT8: true, FP16: true, Calibrator: "MinMaxCalibration", Keep: []string{"a", "b"}, Batch: 3, Workspace: 1 << 30,
		TacticMemory: 5, Optimisation: 4, ForceINT8: true, TimingCache: "/t", DLA: &trt.DLAJob{1, true, true, 0.5},
		Images: &trt.Images{nil, [][256]float32{{0: 1, 255: -0.5}}, []int{2}},
	}
	b, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	var back trt.Job
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(job, back); diff != "" {
		t.Error(diff)
	}
}

func TestBuilderIsTheFirstThatTheKernelTakes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	found := ""
	o := trt.BuildOptions{
		Command: child(t, "build", "delay build 1h"),
		Progress: func(trt.Progress) {
			found = oomScoreOfABuilder(t)
			cancel()
		},
	}
	_, err := trt.Build(ctx, t.TempDir(), double10(), o)
	wantStatus(t, err, trt.Cancelled)
	if found == "" {
		t.Error("no child has an oom_score_adj of 1000")
	}
}

// oomScoreOfABuilder looks among this process's children for one whose score is raised.
func oomScoreOfABuilder(t *testing.T) string {
	t.Helper()
	for _, pid := range childrenOf(t, os.Getpid()) {
		score, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if s := strings.TrimSpace(string(score)); s == "1000" {
			return s
		}
	}
	return ""
}

// childrenOf are a process's children that aren't dead.
func childrenOf(t *testing.T, parent int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if state, of := stateOf(pid); of == parent && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stateOf is a process's state, "" where there is none, and its parent.
func stateOf(pid int) (state string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if f := strings.Fields(rest); len(f) > 1 {
		state = f[0]
		parent, _ = strconv.Atoi(f[1])
	}
	return state, parent
}

func TestBuilderDiesWithItsParent(t *testing.T) {
	t.Parallel()
	command := exec.Command(os.Args[0], child(t, "build", "delay build 1h")...)
	command.Env = append(os.Environ(), childVariable+"=parent")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	builders := childrenOf(t, command.Process.Pid)
	_ = command.Process.Kill()
	_ = command.Wait()
	if line != "building\n" || len(builders) != 1 {
		t.Fatalf("the parent said %q (%v) and had the children %v", line, err, builders)
	}
	for state, _ := stateOf(builders[0]); state != "" && state != "Z"; state, _ = stateOf(builders[0]) {
		if t.Context().Err() != nil {
			t.Fatal("the builder outlives its parent")
		}
		time.Sleep(time.Millisecond)
	}
}
