package daemon

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/internal/strict"
)

// Engines that weren't used for long, or that are too many, go, the oldest first.
const (
	engineAge   = 30 * 24 * time.Hour
	engineBytes = 2 << 30
)

// users counts who has an engine's file in use, in this process. Other processes
// may remove what this one has loaded already without harm.
type users struct {
	mu    sync.Mutex
	count map[string]int
}

var inUse = users{count: map[string]int{}}

func (u *users) hold(path string) (release func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.count[path]++
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.count[path]--; u.count[path] == 0 {
			delete(u.count, path)
		}
	})
}

func (u *users) holds(path string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count[path] > 0
}

// touch notes that a file was used now. Where that can't be noted, it counts as used
// when it was written.
func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// kept is an engine in the store.
type kept struct {
	path string // of the engine
	size int64
	used time.Time
	info engineInfo // empty where the sidecar can't be read
}

// engines lists the stored engines, those used last first.
func (s EngineStore) engines() []kept {
	entries, _ := os.ReadDir(s.Dir)
	var list []kept
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".engine" {
			continue
		}
		k := kept{path: filepath.Join(s.Dir, e.Name())}
		if info, err := os.Stat(k.path); err == nil {
			k.size, k.used = info.Size(), info.ModTime()
		}
		if info, err := os.Stat(sidecar(k.path)); err == nil {
			k.used = info.ModTime()
			if b, err := strict.ReadFile(sidecar(k.path), maxSidecar); err != nil || json.Unmarshal(b, &k.info) != nil {
				k.info = engineInfo{}
			}
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b kept) int { return b.used.Compare(a.used) })
	return list
}

// Prune removes engines, and what is noted beside them, that weren't used for a
// month before the one that was used last, or that go beyond the room there is for
// all. A device that was off for a year loses nothing when it starts. What this
// process has in use stays.
func (s EngineStore) Prune() { s.prune(engineAge, engineBytes) }

func (s EngineStore) prune(age time.Duration, room int64) {
	list := s.engines()
	if len(list) == 0 {
		return
	}
	newest := list[0].used
	var sum int64
	for _, k := range list {
		if inUse.holds(k.path) {
			sum += k.size
		}
	}
	graphs := map[string]bool{} // that have an engine still
	for _, k := range list {
		used := inUse.holds(k.path)
		if !used {
			if newest.Sub(k.used) > age || sum+k.size > room {
				s.remove(k)
				continue
			}
			sum += k.size
		}
		graphs[k.info.Key.Graph] = true
	}
	s.pruneNotes(graphs, newest.Add(-age))
}

func (s EngineStore) remove(k kept) {
	// The sidecar first: an engine without one is no engine.
	_ = os.Remove(sidecar(k.path))
	_ = os.Remove(failureOf(k.path))
	if err := os.Remove(k.path); err != nil {
		s.Log.Warn("old engine can't be removed", "err", err)
		return
	}
	s.Log.Info("old engine removed", "engine", k.path, "bytes", k.size, "used", k.used.UTC().Truncate(time.Second))
}

// pruneNotes removes notes of graphs that no engine is left of, and of failures,
// unless they are of late.
func (s EngineStore) pruneNotes(graphs map[string]bool, since time.Time) {
	entries, _ := os.ReadDir(s.Dir)
	for _, e := range entries {
		path := filepath.Join(s.Dir, e.Name())
		info, err := e.Info()
		if err != nil || info.ModTime().After(since) {
			continue
		}
		switch {
		case strings.HasSuffix(e.Name(), ".prepared.json"):
			var n note
			b, err := strict.ReadFile(path, maxSidecar)
			if err == nil && json.Unmarshal(b, &n) == nil && graphs[n.Prepared.Hash] {
				continue
			}
			_ = os.Remove(path)
		case strings.HasSuffix(e.Name(), failedSuffix):
			_ = os.Remove(path)
		}
	}
}

// estimate is how long the build will take, by builds of the same graph or, where
// there were none, of the same back end; and how long those took that had no timing
// cache. 0: there were none.
func (s EngineStore) estimate(key engineKey) (estimate, without time.Duration) {
	var same, all, plain []time.Duration
	for _, k := range s.engines() {
		if k.info.Key.Backend != key.Backend {
			continue
		}
		took := time.Duration(k.info.Seconds * float64(time.Second))
		all = append(all, took)
		if k.info.Key.Graph == key.Graph {
			same = append(same, took)
		}
		if r := k.info.Report; r != nil && r.Timing != nil && r.Timing.Given == 0 {
			plain = append(plain, took)
		}
	}
	return cmp.Or(middle(same), middle(all)), middle(plain)
}

// middle is the median, 0 of none.
func middle(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// export copies an engine and its sidecar to where somebody wants them.
func (s EngineStore) export(id, to string) error {
	from := filepath.Join(s.Dir, id+".engine")
	for from, to := range map[string]string{from: to, sidecar(from): sidecar(to)} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = durable.WriteFile(to, b, 0o644)
		}
		if err != nil {
			return fmt.Errorf("copy the engine: %w", err)
		}
	}
	return nil
}
