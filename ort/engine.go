package ort

import (
	"fmt"
	"runtime"
	"sync"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Engine is a loaded engine. Its methods are safe for concurrent use; several
// bindings may run at once, sharing the engine's threads.
type Engine struct {
	about   description
	cleanup runtime.Cleanup

	// A run holds mu for reading; Close, Bind and a binding's Close hold it for
	// writing, so they wait for runs to end.
	mu      sync.RWMutex
	session *session // nil once closed
}

// session is what the library holds for an engine. Nothing in it leads back to
// the Engine, so that it can be freed when the Engine is garbage.
type session struct {
	*onnxruntime.DynamicAdvancedSession
	bindings map[*bound]struct{}
}

func (s *session) close() {
	for b := range s.bindings {
		b.close()
	}
	clear(s.bindings)
	s.Destroy()
}

// Load makes an engine of the content of a file that Build wrote, which isn't
// needed afterwards. What is damaged, or was built by another version of ONNX
// Runtime or for a processor with other features, is refused with an error that
// says so.
func Load(stored []byte, o Options) (*Engine, error) {
	defer trim() // of what engines before it left
	if !isOpen() {
		return nil, errNotOpen
	}
	e, err := loadEngine(stored, o)
	if err != nil {
		return nil, fmt.Errorf("onnx runtime: load engine: %w", err)
	}
	return e, nil
}

func loadEngine(stored []byte, o Options) (*Engine, error) {
	about, err := examine(stored)
	if err != nil {
		return nil, err
	}
	if about.Runtime != Version() || about.Features != Features() {
		return nil, fmt.Errorf("built by ONNX Runtime %s for %q, this is %s on %q: build it again",
			about.Runtime, about.Features, Version(), Features())
	}
	options, err := o.session(onnxruntime.GraphOptimizationLevelDisableAll)
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	loaded, err := onnxruntime.NewDynamicAdvancedSessionWithONNXData(stored, nil, nil, options)
	if err != nil {
		return nil, reason(err)
	}
	e := &Engine{about: about, session: &session{loaded, map[*bound]struct{}{}}}
	e.cleanup = runtime.AddCleanup(e, (*session).close, e.session)
	return e, nil
}

// Batch is the number of images that a run takes, 0 for any.
func (e *Engine) Batch() int { return e.about.Batch }

// Height is that of the images, in pixels.
func (e *Engine) Height() int { return e.about.Height }

// Width is that of the images, in pixels.
func (e *Engine) Width() int { return e.about.Width }

// Classes is the number of scores for each image.
func (e *Engine) Classes() int { return e.about.Classes }

// Run classifies the images in the binding's memory as they are now and leaves
// the result in its scores. It allocates no Go memory. The binding must be one
// of this engine's, and be run by one goroutine at a time. Scores may come out
// as NaN where the graph makes them so: that is the caller's to look for.
func (e *Engine) Run(b *Binding) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if b.engine != e {
		return errForeign
	}
	if e.session == nil || b.bound == nil {
		return ErrClosed
	}
	if err := e.session.RunWithBinding(b.bound.io); err != nil {
		return fmt.Errorf("onnx runtime: run: %w", reason(err))
	}
	return nil
}

// Close waits for runs to end, closes the engine's bindings and frees what the
// library holds. Closing again does nothing. It never fails.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == nil {
		return nil
	}
	e.cleanup.Stop()
	e.session.close()
	e.session = nil
	return nil
}
