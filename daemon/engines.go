package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// engineKey is everything that a stored engine depends on. Any difference is
// a rebuild, never a guess.
type engineKey struct {
	Backend  string `json:"backend"`
	Identity string `json:"identity"` // versions, processor features
	Graph    string `json:"graph"`    // SHA-256 of the prepared graph, with the cache's scales in it
}

// ID names the key's files: 128 bits of its SHA-256, in hex.
func (k engineKey) ID() string {
	b, err := json.Marshal(k)
	if err != nil {
		panic(err) // strings only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// engineInfo is the sidecar of a stored engine, KEY.json.
type engineInfo struct {
	Key     engineKey `json:"key"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Built   time.Time `json:"built"`
	Seconds float64   `json:"build_seconds"`

	Report *BuildReport `json:"report"`
}

// maxSidecar is the most bytes of a sidecar or note.
const maxSidecar = 1 << 20

// EngineStore keeps built engines as KEY.engine with KEY.json in one folder.
// Deleting any of it only costs a rebuild.
type EngineStore struct {
	Dir string
	Log *slog.Logger
}

// OpenedEngine is an engine and how it was come by.
type OpenedEngine struct {
	Engine
	ID     string        // its key's
	Stored bool          // it was there; else it was built now
	Build  time.Duration // what building took, now or then
	Load   time.Duration // what loading took
	Report *BuildReport  // of the build; may be nil
}

// Clean removes what interrupted builds left.
func (s EngineStore) Clean() error {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), buildPrefix) || durable.IsTemp(e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.Dir, e.Name())))
		}
	}
	return err
}

// engineFile is what a back end writes into the folder of a build.
const engineFile = "engine"

// buildPrefix begins the names of folders in which engines are built.
const buildPrefix = ".build-"

// Stored tells whether Open will find the engine, and find it whole.
func (s EngineStore) Stored(b Backend, p *Prepared) bool {
	key := keyOf(b, p)
	_, err := s.check(key, filepath.Join(s.Dir, key.ID()+".engine"))
	return err == nil
}

func keyOf(b Backend, p *Prepared) engineKey {
	return engineKey{Backend: b.Name(), Identity: b.Identity(), Graph: p.Hash}
}

// Open loads the engine of the prepared graph, and builds it before where the
// store hasn't got it or has it damaged; progress, which may be nil, is called
// meanwhile, first when the build is about to begin. The graph is let go of.
func (s EngineStore) Open(ctx context.Context, b Backend, p *Prepared, progress func(BuildProgress)) (*OpenedEngine, error) {
	defer func() {
		p.graph = nil
		debug.FreeOSMemory() // the model was in memory several times over
	}()
	key := keyOf(b, p)
	id := key.ID()
	path := filepath.Join(s.Dir, id+".engine")

	info, err := s.check(key, path)
	if err == nil {
		start := time.Now()
		e, lerr := b.Load(p, path)
		if lerr == nil {
			return &OpenedEngine{Engine: e, ID: id, Stored: true, Build: time.Duration(info.Seconds * float64(time.Second)), Load: time.Since(start), Report: info.Report}, nil
		}
		err = lerr
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.Log.Warn("stored engine can't be used, building it again", "engine", path, "err", err)
	}
	if progress == nil {
		progress = func(BuildProgress) {}
	}
	progress(BuildProgress{Phase: "prepare"})
	took, report, err := s.build(ctx, b, key, p, path, progress)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	e, err := b.Load(p, path)
	if err != nil {
		return nil, fmt.Errorf("load engine just built: %w", err)
	}
	return &OpenedEngine{Engine: e, ID: id, Build: took, Load: time.Since(start), Report: report}, nil
}

// check reads the sidecar and holds the engine's file to it, before any of it
// reaches a back end: engines are code.
func (s EngineStore) check(key engineKey, path string) (engineInfo, error) {
	var info engineInfo
	b, err := strict.ReadFile(sidecar(path), maxSidecar)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("sidecar %s: %w", sidecar(path), err)
	}
	if info.Key != key {
		return info, fmt.Errorf("sidecar %s describes another engine", sidecar(path))
	}
	size, sum, err := hashFile(path)
	if err != nil {
		return info, err
	}
	if size != info.Size || sum != info.SHA256 {
		return info, fmt.Errorf("the file has %d bytes with SHA-256 %s, its sidecar says %d and %s", size, sum, info.Size, info.SHA256)
	}
	return info, nil
}

func (s EngineStore) build(ctx context.Context, b Backend, key engineKey, p *Prepared, path string, progress func(BuildProgress)) (time.Duration, *BuildReport, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return 0, nil, fmt.Errorf("make the folder for engines: %w", err)
	}
	start := time.Now()
	tmp, err := os.MkdirTemp(s.Dir, buildPrefix)
	if err != nil {
		return 0, nil, fmt.Errorf("build engine: %w", err)
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, engineFile)
	report, err := b.Build(ctx, p, tmp, progress)
	if err != nil {
		return 0, nil, fmt.Errorf("build engine: %w", err)
	}
	took := time.Since(start)
	size, sum, err := hashFile(out)
	if err != nil {
		return 0, nil, err
	}
	info, err := json.MarshalIndent(engineInfo{
		Key: key, Size: size, SHA256: sum,
		Built: start.UTC().Truncate(time.Second), Seconds: took.Seconds(), Report: report,
	}, "", "  ")
	if err != nil {
		return 0, nil, err
	}
	if err := durable.Rename(out, path); err != nil {
		return 0, nil, fmt.Errorf("store engine: %w", err)
	}
	if err := durable.WriteFile(sidecar(path), append(info, '\n'), 0o644); err != nil {
		return 0, nil, fmt.Errorf("store engine: %w", err)
	}
	return took, report, nil
}

// sidecar is the path of KEY.json for KEY.engine.
func sidecar(engine string) string {
	return engine[:len(engine)-len(filepath.Ext(engine))] + ".json"
}

func hashFile(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}
