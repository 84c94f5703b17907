package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
	"github.com/sightd/sightd/trt"
)

// engineKey is everything that a stored engine depends on. Any difference is
// a rebuild, never a guess.
type engineKey struct {
	Backend  string          `json:"backend"`
	Identity string          `json:"identity"`          // versions, device, processor features
	Device   string          `json:"device,omitempty"`  // gpu or dla; not the core, which is chosen at load
	Graph    string          `json:"graph"`             // SHA-256 of the prepared graph
	Cache    string          `json:"cache,omitempty"`   // SHA-256 of the calibration table beside it
	Options  json.RawMessage `json:"options,omitempty"` // of the build
	Import   string          `json:"import,omitempty"`  // SHA-256 of the engine where it was dropped in; empty: any that was built so
}

// ID names the key's files: 128 bits of its SHA-256, in hex.
func (k engineKey) ID() string {
	b, err := json.Marshal(k)
	if err != nil {
		b = nil // options that are no JSON: of a sidecar that nothing will equal
	}
	return hashBytes(b)[:32]
}

// engineInfo is the sidecar of a stored engine, KEY.json. When the engine was used
// last is the time of the file's last change.
type engineInfo struct {
	Key     engineKey `json:"key"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Built   time.Time `json:"built"`
	Seconds float64   `json:"build_seconds"`

	Report *BuildReport `json:"report"`
}

// maxSidecar is the most bytes of a sidecar or note.
const maxSidecar = 4 << 20

// EngineStore keeps built engines as KEY.engine with KEY.json in one folder.
// Deleting any of it only costs a rebuild.
type EngineStore struct {
	Dir     string
	Log     *slog.Logger
	Insist  bool           // builds also what failed a moment ago
	Loading func() error   // called before an engine is loaded, which its error prevents; may be nil
	Absent  func()         // called by Open where there is no engine that works, before one is built; may be nil
	Damaged *atomic.Uint64 // counts stored engines that couldn't be used; may be nil
}

// OpenedEngine is an engine and how it was come by.
type OpenedEngine struct {
	Engine
	ID     string        // its key's
	Path   string        // of its file
	Stored bool          // it was there; else it was built now
	Build  time.Duration // what building took, now or then
	Load   time.Duration // what loading took
	Size   int64         // of its file, bytes
	Report *BuildReport  // of building it; may be nil

	release func() // the store's hold on its file; may be nil
}

// Close frees the engine.
func (e *OpenedEngine) Close() error {
	if e.release != nil {
		e.release()
	}
	return e.Engine.Close()
}

// engineFile is what a back end writes into the folder of a build.
const engineFile = "engine"

// file is where a key's engine is kept.
func (s EngineStore) file(key engineKey) string { return filepath.Join(s.Dir, key.ID()+".engine") }

func keyOf(b Backend, p *Prepared) engineKey {
	return engineKey{
		Backend: b.Name(), Identity: b.Identity(), Device: p.Device(),
		Graph: p.Hash, Cache: p.Cache, Options: p.options(), Import: p.Import,
	}
}

// Open loads the engine of the prepared graph, and builds it before where the
// store hasn't got it or has it damaged; progress, which may be nil, is called
// meanwhile, first when the build is about to begin. The graph is let go of. A
// build that fails is an [*ErrBackOff], and so is one that failed lately. An engine
// for DLA that goes beyond the placement's limits is a [*dla.LimitError]; whether the
// GPU takes its place tells goesToGPU.
func (s EngineStore) Open(ctx context.Context, b Backend, p *Prepared, progress func(BuildProgress)) (*OpenedEngine, error) {
	defer func() {
		p.graph = nil
		debug.FreeOSMemory() // model and engine were in memory, the model several times over
	}()
	key := keyOf(b, p)
	id := key.ID()
	path := s.file(key)
	letGo := inUse.hold(path)
	opened, err := s.open(ctx, b, key, p, path, progress)
	if err != nil {
		letGo()
		return nil, err
	}
	opened.ID, opened.Path, opened.release = id, path, letGo
	return opened, nil
}

func (s EngineStore) open(ctx context.Context, b Backend, key engineKey, p *Prepared, path string, progress func(BuildProgress)) (*OpenedEngine, error) {
	stored, info, err := s.read(key, path)
	if err == nil {
		if err := p.limits(info.Report); err != nil {
			return nil, err
		}
		if err := s.mayLoad(); err != nil {
			return nil, err
		}
		start := time.Now()
		e, lerr := b.Load(p, stored)
		if lerr == nil {
			touch(sidecar(path))
			return opened(e, info, true, start), nil
		}
		if !worthBuilding(lerr) {
			return nil, fmt.Errorf("load the stored engine %s: %w", path, lerr)
		}
		err = lerr
	}
	if p.Import != "" { // the release is this engine, and no other
		return nil, &release.Rejection{Code: release.WrongEngine, Err: fmt.Errorf("the engine that was dropped in can't be used: %w", err)}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if s.Damaged != nil {
			s.Damaged.Add(1)
		}
		s.Log.Warn("stored engine can't be used, building it again", "engine", path, "err", err)
	}
	if s.Absent != nil {
		s.Absent()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.Insist {
		if err := s.mayBuild(path); err != nil {
			return nil, err
		}
	}
	var start time.Time
	var e Engine
	if stored, info, err = s.build(ctx, b, key, p, path, progress); err == nil {
		if err := p.limits(info.Report); err != nil {
			s.succeeded(path)
			return nil, err
		}
		if err := s.mayLoad(); err != nil {
			s.succeeded(path)
			return nil, err
		}
		start = time.Now()
		if e, err = b.Load(p, stored); err != nil {
			err = &unloadable{err}
		}
	}
	switch {
	case err == nil:
		s.succeeded(path)
		s.Prune()
		return opened(e, info, false, start), nil
	case ctx.Err() != nil || trt.StatusOf(err) == trt.Broken: // no fault of the engine's
		return nil, err
	}
	return nil, s.failed(path, err)
}

// mayLoad asks whoever opens the engine.
func (s EngineStore) mayLoad() error {
	if s.Loading == nil {
		return nil
	}
	return s.Loading()
}

func opened(e Engine, info engineInfo, stored bool, loading time.Time) *OpenedEngine {
	return &OpenedEngine{
		Engine: e, Stored: stored, Size: info.Size, Report: info.Report,
		Build: time.Duration(info.Seconds * float64(time.Second)), Load: time.Since(loading),
	}
}

// worthBuilding is whether another build may help where loading failed: not where
// the machine is to blame.
func worthBuilding(err error) bool {
	switch trt.StatusOf(err) {
	case trt.NoMemory, trt.NoDevice, trt.Missing, trt.Cancelled, trt.Broken:
		return false
	}
	return true
}

// read reads an engine and holds it to its sidecar before any of it reaches a back
// end: engines are code. It is read into memory, not mapped, so that what becomes of
// the file afterwards matters to nobody.
func (s EngineStore) read(key engineKey, path string) (stored []byte, info engineInfo, err error) {
	b, err := strict.ReadFile(sidecar(path), maxSidecar)
	if err != nil {
		return nil, info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return nil, info, fmt.Errorf("sidecar %s: %w", sidecar(path), err)
	}
	if info.Key.ID() != key.ID() {
		return nil, info, fmt.Errorf("sidecar %s describes another engine", sidecar(path))
	}
	if about, err := os.Stat(path); err != nil {
		return nil, info, err
	} else if about.Size() != info.Size || !about.Mode().IsRegular() {
		return nil, info, fmt.Errorf("the file has %d bytes, its sidecar says %d", about.Size(), info.Size)
	}
	if stored, err = os.ReadFile(path); err != nil {
		return nil, info, err
	}
	if sum := hashBytes(stored); sum != info.SHA256 {
		return nil, info, fmt.Errorf("the file has %d bytes with SHA-256 %s, its sidecar says %s", len(stored), sum, info.SHA256)
	}
	return stored, info, nil
}

// sidecar is the path of KEY.json for KEY.engine.
func sidecar(engine string) string {
	return engine[:len(engine)-len(filepath.Ext(engine))] + ".json"
}
