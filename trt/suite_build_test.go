package trt_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sightd/sightd/trt"
	"github.com/sightd/sightd/trt/double"
)

func suiteWrongHeader(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no calibration")
	}
	job := plain(info)
	job.INT8, job.Calibrator = true, "EntropyCalibration2"
	headers := []string{"TRT-7103-EntropyCalibration2", "no header"}
	if real() && info.TensorRT.Major() < 10 { // it looks at the algorithm alone
		headers = []string{"TRT-8601-MinMaxCalibration", "no header"}
	}
	for _, header := range headers {
		_, body, _ := strings.Cut(string(cacheOf(info.TensorRT)), "\n")
		job.Cache = []byte(header + "\n" + body)
		_, err := tryBuild(t, job)
		wantStatus(t, err, trt.BadCache)
		t.Log(err)
	}
}

func suiteImages(t *testing.T, info trt.Info) {
	if info.TensorRT.Major() >= 11 {
		t.Skip("TensorRT 11 has no calibration")
	}
	const n = 16
	pictures := picture(n, 1)
	job := plain(info)
	job.INT8, job.Calibrator, job.Images = true, "EntropyCalibration2", &trt.Images{Feed: feeding(pictures)}
	made, err := tryBuild(t, job)
	if real() && err != nil {
		t.Skipf("a calibration with bytes doesn't work, which is TensorRT's to decide: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(cacheOf(info.TensorRT)), "\n")
	if got := string(made.Cache); !strings.HasPrefix(got, header+"\n") || strings.Count(got, "\n") < 2 {
		t.Errorf("the calibration wrote %q, want the header %q and tensors", got, header)
	} else if want := fmt.Sprintf("%s\ninput: %08x\n", header, math.Float32bits(double.Scale(pictures))); !real() && got != want {
		t.Errorf("the calibration wrote %q, want %q, which all images give in their order", got, want)
	}
}

func suiteOperator(t *testing.T, info trt.Info) {
	job := plain(info)
	job.Graph = graph(1, node("NoSuchOperator", "the_culprit", "sightd.test", []string{"flat"}, "logits"))
	job.Graph = append(job.Graph, message(nil).bytes(8, message(nil).text(1, "sightd.test").number(2, 1))...)
	_, err := tryBuild(t, job)
	names := []string{"NoSuchOperator", "the_culprit"}
	if real() && info.TensorRT.Major() < 10 { // its parser tells the number alone
		names = []string{"node 6"}
	}
	wantStatus(t, err, trt.BadModel, names...)
	t.Log(err)
}

func suiteNoModel(t *testing.T, info trt.Info) {
	job := plain(info)
	for _, b := range [][]byte{[]byte("this is no model"), graph(1)[:200], {0}} {
		job.Graph = b
		_, err := tryBuild(t, job)
		wantStatus(t, err, trt.BadModel)
	}
}

func suiteTimingCache(t *testing.T, info trt.Info) {
	job := plain(info)
	job.TimingCache = filepath.Join(t.TempDir(), "timing.cache")
	first := build(t, job)
	if first.Timing.Given != 0 || first.Timing.Refused || first.Timing.Size == 0 {
		t.Errorf("first build: %+v", first.Timing)
	}
	if second := build(t, job); second.Timing.Given != first.Timing.Size || second.Timing.Refused {
		t.Errorf("second build: %+v after %+v", second.Timing, first.Timing)
	}
	if err := os.WriteFile(job.TimingCache, []byte("this is no timing cache, and never was one"), 0o600); err != nil {
		t.Fatal(err)
	}
	// TensorRT 8.6.1 and 10.6.0 go on with an empty one and say nothing.
	if third := build(t, job); !third.Timing.Refused && !real() || third.Timing.Size == 0 {
		t.Errorf("with a damaged one: %+v", third.Timing)
	}
	if fourth := build(t, job); fourth.Timing.Refused {
		t.Errorf("after that: %+v", fourth.Timing)
	}
}

func suiteCancel(t *testing.T, info trt.Info) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := trt.BuildOptions{
		Command:  child(t, "build", "delay build 1h"),
		Progress: func(trt.Progress) { cancel() },
		Log:      func(int, string) { cancel() },
	}
	_, err := trt.Build(ctx, t.TempDir(), plain(info), o)
	if real() && err == nil {
		t.Skip("the build was done before it could be cancelled")
	}
	wantStatus(t, err, trt.Cancelled, "cancelled")
}
