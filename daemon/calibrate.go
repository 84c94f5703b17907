package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// DeviceCalibration says how TensorRT calibrates a model on its own device.
type DeviceCalibration struct {
	BackendOptions
	Files    []string // images and videos
	MinMax   bool     // by TensorRT's min-max calibrator, not its entropy calibrator 2
	Worker   string   // path of sightd-camera; "" finds it beside sightd
	Frame    func()   // called for each frame that was decoded; may be nil
	Building func(BuildProgress)
}

// DeviceCalibrated is what came of it.
type DeviceCalibrated struct {
	Table      []byte // the calibration table, as TensorRT wrote it
	Images     int
	Unreadable []UnreadableFile
	Decoding   time.Duration
	Building   time.Duration
	Info       trt.Info
}

// UnreadableFile is a file that gave no image, and why.
type UnreadableFile struct{ Path, Reason string }

// CalibrateOnDevice has TensorRT's own calibrator observe the release's model over
// images, prepared as the cameras' frames are. The precision of the check doesn't
// matter.
func CalibrateOnDevice(ctx context.Context, c *release.Checked, o DeviceCalibration) (*DeviceCalibrated, error) {
	o.Name = "tensorrt"
	b, err := OpenBackend(ctx, o.BackendOptions)
	if err != nil {
		return nil, err
	}
	t := b.(*tensorRT)
	if t.info.TensorRT.Major() >= 11 {
		return nil, fmt.Errorf("TensorRT %s has no calibrators, which 10 was the last to have: calibrate on the CPU with --backend ort", t.info.TensorRT)
	}
	g, err := c.TensorRT(release.TensorRTOptions{Version: t.info.TensorRT.String(), Form: release.FloatInput, Softmax: true})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sightd-calibrate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &DeviceCalibrated{Info: t.info}
	images := filepath.Join(dir, "images")
	start := time.Now()
	if err := r.decode(ctx, newPrepared(c, PrepareOptions{}).Geometry, images, o); err != nil {
		return nil, err
	}
	r.Decoding = time.Since(start)
	job := trt.Job{
		Graph: g.Graph, INT8: true, FP16: true, Calibrator: "EntropyCalibration2", Batch: 1, Optimisation: t.optimisation,
		Workspace: o.Workspace, TacticMemory: o.TacticMemory,
		Images: &trt.Images{File: images, Count: r.Images, Table: g.Planes.Table, Channels: g.Planes.Channels},
	}
	if o.MinMax {
		job.Calibrator = "MinMaxCalibration"
	}
	start = time.Now()
	built, err := t.calibrate(ctx, dir, job, func(p BuildProgress) {
		if o.Building != nil {
			p.Elapsed = time.Since(start)
			o.Building(p)
		}
	})
	if err != nil {
		return nil, err
	}
	r.Building, r.Table = time.Since(start), built.Cache
	if len(r.Table) == 0 {
		return nil, errors.New("tensorrt: calibrate: it wrote no calibration table")
	}
	return r, nil
}

func (t *tensorRT) calibrate(ctx context.Context, dir string, job trt.Job, progress func(BuildProgress)) (*trt.Built, error) {
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, err
	}
	built, err := trt.Build(ctx, work, job, t.buildOptions(progress))
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return built, err
}

// decode writes the frames that the files give behind each other.
func (r *DeviceCalibrated) decode(ctx context.Context, g camera.Geometry, to string, o DeviceCalibration) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	source := camera.Options{Name: "images", Files: o.Files, Worker: o.Worker, Log: o.Log, Attempts: attempts}
	err = eachFrame(ctx, source, g, func(frame camera.Frame, pixels []byte) (bool, error) {
		if o.Frame != nil {
			o.Frame()
		}
		if frame.Err != "" {
			r.Unreadable = append(r.Unreadable, UnreadableFile{o.Files[frame.File], frame.Err})
			return true, nil
		}
		r.Images++
		if _, err := out.Write(pixels); err != nil {
			return false, fmt.Errorf("keep the decoded images: %w", err)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if r.Images == 0 {
		return errors.New("none of the images can be read")
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("keep the decoded images: %w", err)
	}
	return f.Close()
}
