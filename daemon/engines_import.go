package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
	"github.com/sightd/sightd/release"
)

// Releases may carry engines that were built on another device of the same kind: any
// of a whole release's may be used where its key is this device's, as if it had been
// built here. One that came as a bare drop-in is what its revision is for: it must be
// one for this device when it comes, is kept apart from what was built here, and isn't
// replaced by a build. After an update of TensorRT its key isn't the device's any more,
// and one is built as for any other release.

// maxDroppedSidecar is the most bytes of the sidecar of an engine that somebody brings.
const maxDroppedSidecar = 1 << 20

const mostBuildSeconds = 7 * 24 * 3600

// parseSidecar reads the sidecar of an engine that somebody brings.
func parseSidecar(name string, data []byte) (info engineInfo, err error) {
	if len(data) > maxDroppedSidecar {
		return info, fmt.Errorf("%s has %d bytes, wanted at most %d", name, len(data), maxDroppedSidecar)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&info); err != nil {
		return info, fmt.Errorf("%s isn't the sidecar of an engine, as sightd writes it beside the engines that it builds: %w", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return info, fmt.Errorf("%s: something follows the sidecar", name)
	}
	switch {
	case info.Key.Backend == "" || info.Key.Identity == "" || info.Key.Graph == "":
		return info, fmt.Errorf("%s: the key lacks backend, identity or graph", name)
	case info.Key.Import != "":
		return info, fmt.Errorf("%s: key.import: found one, wanted none: take the sidecar that came with the engine", name)
	case info.Size < 1:
		return info, fmt.Errorf("%s: size: found %d, wanted 1 or more", name, info.Size)
	case !(info.Seconds >= 0 && info.Seconds <= mostBuildSeconds):
		return info, fmt.Errorf("%s: build_seconds: found %v, wanted 0 to %d", name, info.Seconds, mostBuildSeconds)
	}
	return info, nil
}

func readSidecar(path string) (engineInfo, error) {
	b, err := strict.ReadFile(path, maxDroppedSidecar)
	if err != nil {
		return engineInfo{}, err
	}
	return parseSidecar(filepath.Base(path), b)
}

// differs says in which parts a key isn't the one wanted; empty where it is.
func (k engineKey) differs(wanted engineKey) string {
	var parts []string
	for _, part := range []struct{ name, found, wanted string }{
		{"backend", k.Backend, wanted.Backend},
		{"identity", k.Identity, wanted.Identity},
		{"device", k.Device, wanted.Device},
		{"graph", k.Graph, wanted.Graph},
		{"cache", k.Cache, wanted.Cache},
		{"options", compact(k.Options), compact(wanted.Options)},
	} {
		if part.found != part.wanted {
			parts = append(parts, fmt.Sprintf("%s: found %.300q, wanted %.300q", part.name, part.found, part.wanted))
		}
	}
	return strings.Join(parts, "; ")
}

// compact is JSON as the key's ID takes it: without blanks, and escaped alike.
func compact(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	b, err := json.Marshal(raw)
	if err != nil {
		return string(raw)
	}
	return string(b)
}

// droppedEngine is the engine that a release was revised with; nil: none.
func droppedEngine(rel *release.Release) *release.PrebuiltEngine {
	for _, e := range rel.Engines() {
		if e.Dropped {
			return &e
		}
	}
	return nil
}

// checkEngine refuses a release that was revised with an engine which isn't one for
// this device and for that release.
func (u *unit) checkEngine(rel *release.Release) error {
	e := droppedEngine(rel)
	if e == nil {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return &release.Rejection{Code: release.WrongEngine, Err: fmt.Errorf(filepath.Base(e.File)+": "+format, args...)}
	}
	info, err := readSidecar(e.Sidecar)
	if err != nil {
		return refuse("%w", err)
	}
	if info.Size != e.Is.Size || info.SHA256 != e.Is.SHA256 {
		return refuse("found %d bytes with SHA-256 %s, its sidecar says %d with %s", e.Is.Size, e.Is.SHA256, info.Size, info.SHA256)
	}
	p, err := u.prepare(u.backend, rel)
	if err != nil {
		return err
	}
	defer func() {
		p.graph = nil
		debug.FreeOSMemory()
	}()
	if what := info.Key.differs(keyOf(u.backend, p)); what != "" {
		return refuse("it wasn't built for this device and release %d: %s", rel.Spec.Release, what)
	}
	if err := p.limits(info.Report); err != nil {
		return refuse("%w", err)
	}
	return nil
}

// importEngine puts an engine that the release carries into the store, where it is one
// for the prepared graph, this device, and from somebody who is trusted. It is called
// before the store is asked for the engine. Others stay where they are, and one is built.
func (u *unit) importEngine(rel *release.Release, p *Prepared) error {
	key := keyOf(u.backend, p)
	for _, e := range rel.Engines() {
		info, err := readSidecar(e.Sidecar)
		if err == nil && info.Key.differs(key) != "" {
			if e.Dropped {
				u.log.Warn("the engine that was dropped in isn't one for this device any more, building one", "model", u.name, "release", rel.ID(),
					"reason", info.Key.differs(key))
			}
			continue
		}
		if err == nil && e.Dropped {
			// Apart from what is built here: a roll-back goes back to that.
			info.Key.Import = info.SHA256
		}
		if err == nil && u.engines.has(info.Key) {
			p.Import = info.Key.Import
			return nil
		}
		if err == nil {
			err = u.engines.importFile(rel, e, info, u.life.policy())
		}
		if full(err) {
			return err
		}
		if err != nil {
			u.log.Warn("an engine that the release carries isn't used", "model", u.name, "release", rel.ID(), "engine", e.File, "err", err)
			continue
		}
		u.log.Info("engine imported", "model", u.name, "release", rel.ID(), "engine", e.File)
		p.Import = info.Key.Import
		return nil
	}
	return nil
}

// has is whether an engine with the key is in the store, whole.
func (s EngineStore) has(key engineKey) bool {
	_, _, err := s.read(key, s.file(key))
	return err == nil
}

// importFile puts an engine of a release into the store.
func (s EngineStore) importFile(rel *release.Release, e release.PrebuiltEngine, info engineInfo, policy release.Policy) error {
	if e.Is.Size != info.Size {
		return fmt.Errorf("%s has %d bytes, its sidecar says %d", e.File, e.Is.Size, info.Size)
	}
	content, err := os.ReadFile(e.Path)
	if err != nil {
		return err
	}
	if int64(len(content)) != info.Size || hashBytes(content) != info.SHA256 {
		return fmt.Errorf("%s: found %d bytes with SHA-256 %s, its sidecar says %d with %s", e.File, len(content), hashBytes(content), info.Size, info.SHA256)
	}
	if err := policy.AdmitEngine(rel, e, bytes.NewReader(content)); err != nil {
		return err
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for engines: %w", s.explain(err))
	}
	path := s.file(info.Key)
	if err := durable.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("store engine: %w", s.explain(err))
	}
	if err := durable.WriteFile(sidecar(path), append(text, '\n'), 0o644); err != nil {
		_ = os.Remove(path) // without its sidecar it takes room for nothing
		return fmt.Errorf("store engine: %w", s.explain(err))
	}
	s.Prune()
	return nil
}
