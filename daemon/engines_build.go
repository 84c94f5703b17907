package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightd/sightd/internal/durable"
	"github.com/sightd/sightd/trt"
)

// buildPrefix begins the names of folders in which engines are built. Each is locked
// by the process that builds there.
const buildPrefix = ".build-"

// unloadable is an engine that can't be loaded though it was just built. It says
// nothing for good of the model.
type unloadable struct{ error }

func (e *unloadable) Error() string { return "load engine just built: " + e.error.Error() }
func (e *unloadable) Unwrap() error { return e.error }

// lockFolder locks a folder for this process, or fails at once where another has it.
func lockFolder(path string) (unlock func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // a child that is just being started has a copy
		f.Close()
	}, nil
}

// Clean removes what interrupted builds left.
func (s EngineStore) Clean() error {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(s.Dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), buildPrefix):
			var unlock func()
			if unlock, _ = lockFolder(path); unlock == nil {
				continue // another process builds there
			}
			err = errors.Join(err, os.RemoveAll(path))
			unlock()
		case durable.IsTemp(e.Name()):
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// build builds and stores an engine, and returns what is stored.
func (s EngineStore) build(ctx context.Context, b Backend, key engineKey, p *Prepared, path string, progress func(BuildProgress)) (stored []byte, info engineInfo, err error) {
	estimate, without := s.estimate(key)
	start := time.Now()
	tell := func(bp BuildProgress) {
		if progress != nil {
			bp.Elapsed, bp.Estimate = time.Since(start), estimate
			progress(bp)
		}
	}
	if progress != nil {
		progress(BuildProgress{Phase: "prepare", Estimate: estimate})
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, info, fmt.Errorf("make the folder for engines: %w", s.explain(err))
	}
	tmp, err := os.MkdirTemp(s.Dir, buildPrefix)
	if err != nil {
		return nil, info, fmt.Errorf("build engine: %w", s.explain(err))
	}
	defer os.RemoveAll(tmp)
	unlock, err := lockFolder(tmp)
	if err != nil {
		return nil, info, fmt.Errorf("build engine: lock its folder: %w", err)
	}
	defer unlock()
	out := filepath.Join(tmp, engineFile)
	report, err := b.Build(ctx, p, tmp, tell)
	if err != nil {
		return nil, info, fmt.Errorf("build engine: %w", s.explain(err))
	}
	took := time.Since(start)
	if stored, err = os.ReadFile(out); err != nil {
		return nil, info, err
	}
	info = engineInfo{
		Key: key, Size: int64(len(stored)), SHA256: hashBytes(stored),
		Built: start.UTC().Truncate(time.Second), Seconds: took.Seconds(), Report: report,
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, info, err
	}
	if len(text) > maxSidecar {
		return nil, info, fmt.Errorf("store engine: its sidecar would have %d bytes, at most %d are read", len(text), maxSidecar)
	}
	if err := durable.Rename(out, path); err != nil {
		return nil, info, fmt.Errorf("store engine: %w", s.explain(err))
	}
	if err := durable.WriteFile(sidecar(path), append(text, '\n'), 0o644); err != nil {
		_ = os.Remove(path) // without its sidecar it takes room for nothing
		return nil, info, fmt.Errorf("store engine: %w", s.explain(err))
	}
	if report != nil {
		report.Without = without.Seconds()
	}
	return stored, info, nil
}

// full is whether the disk is. What the builder's process says is text.
func full(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, e) || trt.StatusOf(err) == trt.Failed && strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

// explain says of a full disk which one it is.
func (s EngineStore) explain(err error) error {
	if full(err) {
		return fmt.Errorf("no space left in %s: make room there: %w", s.Dir, err)
	}
	return err
}
