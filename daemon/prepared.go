package daemon

import (
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

// Preparing a graph takes about as long as ONNX Runtime takes to optimise it,
// so what came of it is noted beside the engines, as ID.prepared.json: a start
// that finds the note needs the graph only where the engine is missing. The
// note is bound to this very program, since another one may prepare otherwise;
// the engine is bound to the graph alone, so an update of sightd that prepares
// alike goes on with it.

// source is everything that a prepared graph depends on.
type source struct {
	Program     string            `json:"program"` // the linker's ID of this executable
	Model       string            `json:"model"`   // SHA-256 of the ONNX file
	Calibration string            `json:"calibration"`
	Input       release.Input     `json:"input"`
	Output      release.Output    `json:"output"`
	Coverage    float64           `json:"coverage"`
	KeepFP      []string          `json:"keep_fp"`
	Placement   release.Placement `json:"placement"`
	Backend     string            `json:"backend"`
	Identity    string            `json:"identity"` // the back end's
	Settings    string            `json:"settings,omitempty"`
	Options     PrepareOptions    `json:"options"`
}

// note is ID.prepared.json.
type note struct {
	Source   source   `json:"source"`
	Prepared Prepared `json:"prepared"`
}

// prepare is the back end's Prepare, by the store's note where it has one.
func (s EngineStore) prepare(back Backend, rel *release.Release, o PrepareOptions) (*Prepared, error) {
	src, err := sourceOf(back, rel, o)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(src)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	path := filepath.Join(s.Dir, hex.EncodeToString(sum[:16])+".prepared.json")
	p, err := readNote(path, b)
	if err == nil {
		p.Labels, err = rel.LabelsFor(p.Classes)
	}
	if err == nil {
		touch(path)
		p.graph = func() (graph, cache []byte, err error) {
			again, err := back.Prepare(rel, o)
			if err != nil {
				return nil, nil, err
			}
			if again.Hash != p.Hash || again.Cache != p.Cache {
				return nil, nil, errors.New("the release has changed meanwhile")
			}
			return again.graph()
		}
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.Log.Warn("note of a prepared model can't be used, preparing it again", "err", err)
	}
	if p, err = back.Prepare(rel, o); err != nil {
		return nil, err
	}
	b, err = json.MarshalIndent(note{src, *p}, "", "  ")
	if err != nil {
		return nil, err
	}
	// Without the note the next start takes longer, that is all.
	if err = os.MkdirAll(s.Dir, 0o755); err == nil {
		err = durable.WriteFile(path, append(b, '\n'), 0o644)
	}
	if err != nil {
		s.Log.Warn("the prepared model can't be noted", "err", err)
	}
	return p, nil
}

func readNote(path string, source []byte) (*Prepared, error) {
	b, err := strict.ReadFile(path, maxSidecar)
	if err != nil {
		return nil, err
	}
	var n note
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if own, err := json.Marshal(n.Source); err != nil || string(own) != string(source) {
		return nil, fmt.Errorf("%s describes another model", path)
	}
	if err := n.Prepared.Geometry.Check(); err != nil || n.Prepared.Classes < 1 || (n.Source.Backend == "tensorrt") != (n.Prepared.TensorRT != nil) {
		return nil, fmt.Errorf("%s is damaged", path)
	}
	return &n.Prepared, nil
}

func sourceOf(back Backend, rel *release.Release, o PrepareOptions) (source, error) {
	spec := rel.Spec
	o.Precision, o.Batch = cmp.Or(o.Precision, spec.Precision), max(o.Batch, 1)
	src := source{
		Input: spec.Input, Output: spec.Output, Coverage: spec.Coverage, KeepFP: spec.KeepFP,
		Placement: spec.Placement, Backend: back.Name(), Identity: back.Identity(), Options: o,
	}
	if b, ok := back.(interface{ settings() string }); ok {
		src.Settings = b.settings()
	}
	var err error
	if src.Program, err = program(); err != nil {
		return src, fmt.Errorf("read this program's ID: %w", err)
	}
	if _, src.Model, err = hashFile(rel.Model); err != nil {
		return src, fmt.Errorf("model: %w", err)
	}
	if rel.Calibration != "" {
		if _, src.Calibration, err = hashFile(rel.Calibration); err != nil {
			return src, fmt.Errorf("calibration cache: %w", err)
		}
	}
	return src, nil
}

// program is the ID that Go's linker gave this executable: a hash of what it
// was built from.
var program = sync.OnceValues(func() (string, error) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer f.Close()
	s := f.Section(".note.go.buildid")
	if s == nil {
		return "", errors.New("no build ID in it")
	}
	// An ELF note: three words, the name "Go", then the ID.
	const head = 16
	b, err := s.Data()
	if err != nil {
		return "", err
	}
	if len(b) <= head {
		return "", errors.New("its build ID is empty")
	}
	return string(b[head:]), nil
})

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
