package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sightd/sightd/camera"
	"github.com/sightd/sightd/dla"
	"github.com/sightd/sightd/release"
)

// ModelOptions say how commands open a release's model.
type ModelOptions struct {
	BackendOptions                     // Engines "" is the user's cache
	Precision      string              // int8, fp16, fp32; "" is the release's own
	Batch          int                 // images in a run at most; 0 is 1
	Placement      *dla.Wish           // nil: the release's
	Worker         string              // path of sightd-camera; "" finds it beside sightd
	Output         string              // where a copy of the engine's file goes, its sidecar beside it; "" is nowhere
	Building       func(BuildProgress) // called while an engine is built; may be nil
}

// Model is a release's model, ready to classify.
type Model struct {
	*Prepared
	Backend string
	WhyNot  string // why the back end isn't TensorRT, where it might be; see WhyNot
	Engine  *OpenedEngine
	worker  string
	log     *slog.Logger
}

// OpenModel prepares the release's model and opens its engine, built where it
// isn't stored.
func OpenModel(ctx context.Context, rel *release.Release, o ModelOptions) (*Model, error) {
	dir, done, err := engineFolder(o.Engines)
	if err != nil {
		return nil, err
	}
	defer done()
	o.Engines = dir
	backend, err := OpenBackend(ctx, o.BackendOptions)
	if err != nil {
		return nil, err
	}
	store := EngineStore{Dir: dir, Log: o.Log, Insist: true}
	open := func() (*Prepared, *OpenedEngine, error) {
		p, err := store.Prepare(backend, rel, PrepareOptions{o.Precision, o.Batch, o.Placement})
		if err != nil {
			return nil, nil, err
		}
		e, err := store.Open(ctx, backend, p, o.Building)
		return p, e, err
	}
	p, e, err := open()
	if goesToGPU(err) {
		p, e, err = open()
	}
	if err != nil {
		return nil, err
	}
	if err = warm(e, p); err == nil && o.Output != "" {
		err = store.export(e.ID, o.Output)
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	return &Model{
		Prepared: p, Backend: backend.Name(), WhyNot: WhyNot(backend), Engine: e, worker: o.Worker, log: o.Log,
	}, nil
}

// engineFolder is where a command keeps engines: the user's cache, or, where
// that can't be written, a folder that done removes.
func engineFolder(dir string) (_ string, done func(), err error) {
	if dir != "" {
		return dir, func() {}, nil
	}
	if cache, err := os.UserCacheDir(); err == nil {
		dir = filepath.Join(cache, "sightd", "engines")
		if err := os.MkdirAll(dir, 0o755); err == nil && writable(dir) {
			return dir, func() {}, nil
		}
	}
	dir, err = os.MkdirTemp("", "sightd-engines-")
	return dir, func() { os.RemoveAll(dir) }, err
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}

// Files classifies every frame of the image and video files once, in order,
// and closes the model. A frame that can't be read is a result with an error.
func (m *Model) Files(ctx context.Context, files []string, sink func(*Result)) error {
	return m.frames(ctx, camera.Options{Name: "files", Files: files}, sink)
}

// frames runs the model over everything that one source gives.
func (m *Model) frames(ctx context.Context, o camera.Options, sink func(*Result)) error {
	o.Worker, o.Log, o.Attempts = m.worker, m.log, attempts
	cam, err := camera.New(o)
	if err != nil {
		m.Engine.Close()
		return err
	}
	r := newRunner(sink)
	defer cam.Close()
	whole := view{name: o.Name, camera: cam, region: [4]float64{0, 0, 1, 1}}
	set, err := attach(m.Engine, m.Prepared, []view{whole}, r.wake)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := cam.Run(ctx)
		if err != nil {
			cancel() // no frame will come that the runner could wait for
		}
		done <- err
	}()
	r.run(ctx, set, true)
	cancel()
	return <-done
}

// TopK writes the result's best labels to top, best first, and returns those
// there are. It reports why a frame has no scores.
func (p *Prepared) TopK(top []Score, r *Result) ([]Score, error) {
	if r.Err != nil {
		return nil, r.Err
	}
	n, ok := topK(top, r.Scores, p.First)
	if !ok {
		return nil, errNotFinite
	}
	return top[:n], nil
}
