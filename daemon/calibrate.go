package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// DeviceCalibration says how TensorRT calibrates a model on its own device.
type DeviceCalibration struct {
	BackendOptions
	Files  []string // images and videos
	MinMax bool     // by TensorRT's min-max calibrator, not its entropy calibrator 2
	Worker string   // path of sightd-camera; "" finds it beside sightd
	// Both may be nil, and are called one at a time: Frame for each frame that was
	// decoded, Building before the first and after the last of them.
	Frame    func()
	Building func(BuildProgress)
}

// DeviceCalibrated is what came of it.
type DeviceCalibrated struct {
	Table      []byte // the calibration table, as TensorRT wrote it
	Images     int
	Unreadable []UnreadableFile
	Took       time.Duration
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
	geometry := newPrepared(c, PrepareOptions{}).Geometry
	show := shower{o: o, start: time.Now()}
	// The engine is thrown away: nothing is spent on making it a quick one.
	job := trt.Job{
		Graph: g.Graph, INT8: true, Calibrator: "EntropyCalibration2", Batch: 1, Optimisation: 0,
		Workspace: o.Workspace, TacticMemory: o.TacticMemory,
		Images: &trt.Images{Table: g.Planes.Table, Channels: g.Planes.Channels, Feed: func(ctx context.Context, to io.Writer) error {
			defer show.fed()
			return r.feed(ctx, geometry, to, o, show.frame)
		}},
	}
	if o.MinMax {
		job.Calibrator = "MinMaxCalibration"
	}
	built, err := t.calibrate(ctx, dir, job, show.building)
	if err != nil {
		return nil, err
	}
	r.Took, r.Table = time.Since(show.start), built.Cache
	if len(r.Table) == 0 {
		return nil, errors.New("tensorrt: calibrate: it wrote no calibration table")
	}
	return r, nil
}

// shower passes on how far a calibration is, from the goroutines that know.
type shower struct {
	o     DeviceCalibration
	start time.Time

	mu      sync.Mutex
	feeding bool
}

func (s *shower) frame() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeding = true
	if s.o.Frame != nil {
		s.o.Frame()
	}
}

func (s *shower) fed() {
	s.mu.Lock()
	s.feeding = false
	s.mu.Unlock()
}

func (s *shower) building(p BuildProgress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.feeding && s.o.Building != nil {
		p.Elapsed = time.Since(s.start)
		s.o.Building(p)
	}
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

// feed writes the frames that the files give behind each other; frame is called for
// each that was decoded.
func (r *DeviceCalibrated) feed(ctx context.Context, g camera.Geometry, to io.Writer, o DeviceCalibration, frame func()) error {
	source := camera.Options{Name: "images", Files: o.Files, Worker: o.Worker, Log: o.Log, Attempts: attempts}
	err := eachFrame(ctx, source, g, func(f camera.Frame, pixels []byte) (bool, error) {
		frame()
		if f.Err != "" {
			r.Unreadable = append(r.Unreadable, UnreadableFile{o.Files[f.File], f.Err})
			return true, nil
		}
		if _, err := to.Write(pixels); err != nil {
			return false, fmt.Errorf("hand the builder an image: %w", err)
		}
		r.Images++
		return true, nil
	})
	if err == nil && r.Images == 0 {
		err = errors.New("none of the images can be read")
	}
	return err
}
