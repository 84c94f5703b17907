package trt_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/sightd/sightd/trt"
)

// feeding writes pixels in pieces that are no images.
func feeding(pixels []byte) func(context.Context, io.Writer) error {
	return func(_ context.Context, to io.Writer) error {
		_, err := io.Copy(struct{ io.Writer }{to}, iotest.HalfReader(struct{ io.Reader }{bytes.NewReader(pixels)}))
		return err
	}
}

// endless writes images until it can't.
func endless(_ context.Context, to io.Writer) error {
	for image := picture(1, 1); ; {
		if _, err := to.Write(image); err != nil {
			return err
		}
	}
}

// calibration is a job that calibrates, and whether its images' source has ended.
func calibration(feed func(context.Context, io.Writer) error) (job trt.Job, ended *bool) {
	job, ended = double10(), new(bool)
	job.INT8, job.Calibrator = true, "EntropyCalibration2"
	job.Images = &trt.Images{Feed: func(ctx context.Context, to io.Writer) error {
		defer func() { *ended = true }()
		return feed(ctx, to)
	}}
	return job, ended
}

func TestImagesEndWithTheBuilder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		status trt.Status
		text   string
	}{
		"it dies between images":    {"crash calibrate segv", trt.Crashed, "SIGSEGV"},
		"it dies before them":       {"crash open abort", trt.Crashed, "SIGABRT"},
		"it fails between images":   {`fail calibrate 5 "no memory left"`, trt.NoMemory, "no memory left"},
		"it refuses the job before": {"version 11.2.0", trt.Unsupported, "no calibration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, ended := calibration(endless)
			_, err := tryBuild(t, job, c.script)
			wantStatus(t, err, c.status, c.text)
			if !*ended {
				t.Error("the source goes on")
			}
		})
	}
	t.Run("it can't be started", func(t *testing.T) {
		t.Parallel()
		job, ended := calibration(endless)
		_, err := trt.Build(context.Background(), t.TempDir(), job, trt.BuildOptions{Command: []string{"/does/not/exist"}})
		wantStatus(t, err, trt.Failed, "/does/not/exist")
		if !*ended {
			t.Error("the source goes on")
		}
	})
}

func TestBuilderEndsWithTheImages(t *testing.T) {
	t.Parallel()
	broken := errors.New("the images' source is broken")
	for name, written := range map[string]int{"at once": 0, "within an image": 100, "between images": 20 * side * side * 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, _ := calibration(func(ctx context.Context, to io.Writer) error {
				if err := feeding(picture(30, 1)[:written])(ctx, to); err != nil {
					return err
				}
				return broken
			})
			if _, err := tryBuild(t, job); !errors.Is(err, broken) {
				t.Errorf("error %v, want the source's", err)
			}
		})
	}
}

func TestImagesThatAreNone(t *testing.T) {
	t.Parallel()
	for want, written := range map[string]int{"there are no images": 0, "end within one": 3*side*side*3 - 1} {
		job, _ := calibration(feeding(picture(3, 1)[:written]))
		_, err := tryBuild(t, job)
		wantStatus(t, err, trt.BadCache, want)
	}
}

func TestCalibrationIsCancelled(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{"it listens": "version 10.3.0", "an old one can't": "version 8.6.1"} {
		for waits, feed := range map[string]func(context.Context, io.Writer) error{
			"while images come": endless,
			"while none come": func(ctx context.Context, to io.Writer) error {
				_ = feeding(picture(2, 1))(ctx, to)
				<-ctx.Done()
				return ctx.Err()
			},
			"though all seem to have come": func(ctx context.Context, to io.Writer) error {
				_ = feeding(picture(2, 1))(ctx, to)
				<-ctx.Done()
				return errors.New("the worker was ended")
			},
		} {
			t.Run(name+", "+waits, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				job, ended := calibration(feed)
				o := trt.BuildOptions{Command: child(t, "build", script), Progress: func(trt.Progress) { cancel() }}
				_, err := trt.Build(ctx, t.TempDir(), job, o)
				wantStatus(t, err, trt.Cancelled)
				if !*ended {
					t.Error("the source goes on")
				}
			})
		}
	}
}

func TestFewImagesAreUnderWay(t *testing.T) {
	t.Parallel()
	sum := 0
	job, _ := calibration(func(_ context.Context, to io.Writer) error {
		for {
			n, err := to.Write(make([]byte, 1<<10))
			if sum += n; err != nil {
				return err
			}
		}
	})
	_, err := tryBuild(t, job, "delay open 500ms", "crash open exit3")
	wantStatus(t, err, trt.Crashed, "exit status 3")
	if sum > 1<<20 {
		t.Errorf("%d bytes were written for nobody", sum)
	}
}

// A table that was made of some of the images would pass for one of all.
func TestImagesThatNobodyReads(t *testing.T) {
	t.Parallel()
	job, _ := calibration(endless)
	job.Graph = quantised(t)
	_, err := tryBuild(t, job)
	wantStatus(t, err, trt.Failed, "before it had read all images")

	job, ended := calibration(endless)
	job.Cache = cacheOf(100300)
	if made := build(t, job); len(made.Cache) > 0 || !*ended {
		t.Errorf("with a cache that is taken it wrote %q; the source has ended: %v", made.Cache, *ended)
	}
	job, _ = calibration(feeding(picture(3, 1)))
	job.Cache = cacheOf(100300)
	if made := build(t, job, "calibration asks"); len(made.Cache) == 0 {
		t.Error("with a cache that is refused it wrote none")
	}
}
