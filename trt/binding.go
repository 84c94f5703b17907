package trt

import (
	"fmt"
	"runtime"
	"unsafe"
)

var (
	errForeign = &Error{BadArgument, "run", "the binding is of another engine"}
	errStarted = &Error{BadArgument, "run", "the binding's last run hasn't been waited for"}
	errIdle    = &Error{BadArgument, "run", "nothing was started"}
	errBusy    = &Error{BadArgument, "run", "all lanes are busy"}
)

// Binding is an engine's hold on the memory of its input and output.
type Binding struct {
	engine     *Engine
	scores     []float32
	registered bool
	bound      *bound // nil once closed; guarded by engine.mu
	lane       int    // that the run under way is on; -1: none
}

// bound is what the library holds for a binding: one of its bindings for each part
// of the engine, since a run may come to any.
type bound struct {
	parts   []unsafe.Pointer
	results [][]float32    // C's, of each part
	message unsafe.Pointer // C's
	pinned  runtime.Pinner
}

func (b *bound) close() {
	for _, part := range b.parts {
		callUnbind(part)
	}
	b.parts = nil
	freeMessage(b.message)
	b.message = nil
	b.pinned.Unpin()
}

// Bind prepares n images of Height×Width×3 bytes at pixels, packed 8-bit RGB, to be
// read by each Start, as often as they change: where they lie, where CUDA can
// register that memory, else by way of a copy. The memory is the caller's. It may be
// Go's, which is pinned until the binding closes, or not (C's, a mapping): then it
// must outlive the binding.
func (e *Engine) Bind(pixels []byte, n int) (*Binding, error) {
	i := e.info
	if n < 1 || n > i.batch {
		return nil, &Error{BadArgument, "bind", fmt.Sprintf("batch of %d: wanted 1 to %d", n, i.batch)}
	}
	if want := n * i.height * i.width * 3; len(pixels) != want {
		return nil, &Error{BadArgument, "bind", fmt.Sprintf("%d bytes: wanted %d×%d×%d×3 = %d", len(pixels), n, i.height, i.width, want)}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == nil {
		return nil, ErrClosed
	}
	held := &bound{message: newMessage()}
	held.pinned.Pin(&pixels[0]) // does nothing for memory that isn't Go's
	made := &Binding{engine: e, scores: make([]float32, n*i.classes), registered: true, bound: held, lane: -1}
	for _, part := range e.session.parts {
		b, scores, err := callBind(part, pixels, n, i.classes)
		if err != nil {
			held.close()
			return nil, err
		}
		held.parts, held.results = append(held.parts, b), append(held.results, scores)
		registered, _ := callBindingInfo(b)
		made.registered = made.registered && registered
	}
	e.session.bindings[held] = struct{}{}
	return made, nil
}

// Gather has the next runs of b read image i where that of from lies, so that images
// that lie apart run together without having been copied behind each other. from is
// a binding of one image of the same engine, and must not run by itself meanwhile;
// once it is closed, b's own memory is read again. It allocates no Go memory.
func (b *Binding) Gather(i int, from *Binding) error {
	e := b.engine
	e.mu.RLock()
	defer e.mu.RUnlock()
	if from.engine != e {
		return errForeign
	}
	if e.session == nil || b.bound == nil || from.bound == nil {
		return ErrClosed
	}
	for part, p := range b.bound.parts {
		if err := callGather(p, i, from.bound.parts[part], b.bound.message); err != nil {
			return err
		}
	}
	return nil
}

// Start begins to classify the images on the next lane in turn that is idle. At most
// Lanes runs are under way, each with a binding of its own, until they are waited
// for. It allocates no Go memory.
func (e *Engine) Start(b *Binding) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if b.engine != e {
		return errForeign
	}
	if e.session == nil || b.bound == nil {
		return ErrClosed
	}
	if b.lane >= 0 {
		return errStarted
	}
	n := e.take()
	if n < 0 {
		return errBusy
	}
	l := &e.lanes[n]
	if err := callStart(b.bound.parts[l.part], l.at, b.bound.message); err != nil {
		e.give(n)
		return err
	}
	b.lane = n
	return nil
}

// take makes the next lane in turn that is idle busy; -1: none is.
func (e *Engine) take() int {
	e.lanesMu.Lock()
	defer e.lanesMu.Unlock()
	for i := range e.lanes {
		n := (e.next + i) % len(e.lanes)
		if !e.lanes[n].busy {
			e.lanes[n].busy = true
			e.next = n + 1
			return n
		}
	}
	return -1
}

func (e *Engine) give(n int) {
	e.lanesMu.Lock()
	defer e.lanesMu.Unlock()
	e.lanes[n].busy = false
}

// Wait ends what Start began; then the scores hold its result. It allocates no Go
// memory. After an error the binding may be started again.
func (e *Engine) Wait(b *Binding) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if b.engine != e {
		return errForeign
	}
	if e.session == nil || b.bound == nil {
		return ErrClosed
	}
	if b.lane < 0 {
		return errIdle
	}
	part := e.lanes[b.lane].part
	err := callWait(b.bound.parts[part], b.bound.message)
	e.give(b.lane)
	b.lane = -1
	if err == nil {
		copy(b.scores, b.bound.results[part])
	}
	return err
}

// Run is Start and Wait.
func (e *Engine) Run(b *Binding) error {
	if err := e.Start(b); err != nil {
		return err
	}
	return e.Wait(b)
}

// Scores are the images' scores as the last Wait left them, n×classes. The next run
// overwrites them.
func (b *Binding) Scores() []float32 { return b.scores }

// Registered tells whether runs read the pixels where they lie.
func (b *Binding) Registered() bool { return b.registered }

// Graphs tells whether the last run was launched as a CUDA graph: a lane's first run
// isn't, nor is one of another number of images than the lane's last.
func (b *Binding) Graphs() bool {
	b.engine.mu.RLock()
	defer b.engine.mu.RUnlock()
	if b.engine.session == nil || b.bound == nil {
		return false
	}
	for _, part := range b.bound.parts {
		if _, graphs := callBindingInfo(part); !graphs {
			return false
		}
	}
	return true
}

// Close waits for the binding's run, if one is under way, and lets the memory go.
// Closing again, or after the engine, does nothing. It never fails.
func (b *Binding) Close() error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session != nil && b.bound != nil {
		if b.lane >= 0 {
			_ = callWait(b.bound.parts[e.lanes[b.lane].part], b.bound.message) // nobody wants its result
			e.give(b.lane)
			b.lane = -1
		}
		delete(e.session.bindings, b.bound)
		b.bound.close()
	}
	b.bound = nil
	return nil
}
