package ort

import (
	"errors"
	"fmt"
	"runtime"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

var errForeign = errors.New("onnx runtime: run: the binding is of another engine")

// Binding is an engine's hold on the memory of its input and output.
type Binding struct {
	engine *Engine
	scores []float32
	bound  *bound // nil once closed; guarded by engine.mu
}

// bound is what the library holds for a binding, and the Go memory that it
// holds meanwhile.
type bound struct {
	io     *onnxruntime.IoBinding
	input  *onnxruntime.Tensor[uint8]
	output *onnxruntime.Tensor[float32]
	pinned runtime.Pinner
}

func (b *bound) close() {
	if b.io != nil {
		b.io.Destroy()
	}
	if b.input != nil {
		b.input.Destroy()
	}
	if b.output != nil {
		b.output.Destroy()
	}
	b.pinned.Unpin()
}

// Bind prepares n images of Height×Width×3 bytes at pixels, packed 8-bit RGB,
// to be read in place by each Run. Where the engine's batch is fixed, n is
// that. The memory is the caller's. It may be Go's, which is pinned until the
// binding is closed, or not (a mapped file): then it must outlive the binding.
func (e *Engine) Bind(pixels []byte, n int) (*Binding, error) {
	about := e.about
	if n < 1 || n > maxDimension || about.Batch != 0 && n != about.Batch {
		return nil, fmt.Errorf("onnx runtime: bind: batch of %d: wanted %s", n, about.batches())
	}
	if want := n * about.Height * about.Width * 3; len(pixels) != want {
		return nil, fmt.Errorf("onnx runtime: bind: %d bytes: wanted %d×%d×%d×3 = %d",
			len(pixels), n, about.Height, about.Width, want)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == nil {
		return nil, ErrClosed
	}
	scores := make([]float32, n*about.Classes)
	held := &bound{}
	if err := held.bind(e.session, about, pixels, scores, int64(n)); err != nil {
		held.close()
		return nil, fmt.Errorf("onnx runtime: bind: %w", reason(err))
	}
	e.session.bindings[held] = struct{}{}
	return &Binding{engine: e, scores: scores, bound: held}, nil
}

func (b *bound) bind(s *session, about description, pixels []byte, scores []float32, n int64) (err error) {
	b.pinned.Pin(&pixels[0]) // does nothing for memory that isn't Go's
	b.pinned.Pin(&scores[0])
	in := onnxruntime.NewShape(n, int64(about.Height), int64(about.Width), 3)
	if b.input, err = onnxruntime.NewTensor(in, pixels); err != nil {
		return err
	}
	out := onnxruntime.NewShape(n, int64(about.Classes))
	for range about.Ones {
		out = append(out, 1)
	}
	if b.output, err = onnxruntime.NewTensor(out, scores); err != nil {
		return err
	}
	if b.io, err = s.CreateIoBinding(); err != nil {
		return err
	}
	if err := b.io.BindInput(about.Input, b.input); err != nil {
		return err
	}
	return b.io.BindOutput(about.Output, b.output)
}

// batches says which batches an engine takes.
func (d description) batches() string {
	if d.Batch == 0 {
		return fmt.Sprintf("1 to %d", maxDimension)
	}
	return fmt.Sprint(d.Batch)
}

// Scores are the images' scores as the last Run left them, n×classes, the
// classes of an image side by side. The next Run overwrites them.
func (b *Binding) Scores() []float32 { return b.scores }

// Close waits for the engine's runs to end and lets the memory go. Closing
// again, or after the engine, does nothing. It never fails.
func (b *Binding) Close() error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session != nil && b.bound != nil {
		delete(e.session.bindings, b.bound)
		b.bound.close()
	}
	b.bound = nil
	return nil
}
