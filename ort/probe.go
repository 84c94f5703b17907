package ort

import (
	"fmt"
	"runtime"
	"sync"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Graph is a graph to be looked into, and what its user knows of it.
type Graph struct {
	ONNX          []byte // encoded; it takes one image, packed 8-bit RGB, 1×Height×Width×3
	Input         string
	Height, Width int
	Outputs       []string // all of float32

	// Literal is whether the nodes are to be run one by one as they stand, which is
	// slow: of a graph with quantised tensors, the rounded ones come out then.
	Literal bool
}

// Probe runs a graph and gives all of its outputs, which a calibrator makes of
// the tensors inside it: another thing than an [Engine], which is built once,
// stored, and gives scores alone. A run works in the goroutine that calls it,
// with no thread beside it, so that a result doesn't depend on how many there
// are; for speed, several goroutines run one Probe on a [View] of their own.
type Probe struct {
	graph Graph

	mu      sync.RWMutex // held for writing by Close and by what binds
	session *onnxruntime.DynamicAdvancedSession
	views   []*View
}

// View is an image and what the graph's outputs are for it.
type View struct {
	probe   *Probe
	pixels  []byte
	outputs [][]float32
	io      *onnxruntime.IoBinding
	tensors []interface{ Destroy() error }
	pinned  runtime.Pinner
}

// OpenProbe makes ONNX Runtime optimise and hold the graph; of the options,
// Bounded alone counts. Nothing is stored.
func OpenProbe(g Graph, o Options) (*Probe, error) {
	if !isOpen() {
		return nil, errNotOpen
	}
	o.Threads = 1
	optimise := level(onnxruntime.GraphOptimizationLevelEnableAll)
	if g.Literal {
		optimise = onnxruntime.GraphOptimizationLevelDisableAll
	}
	options, err := o.session(optimise)
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	s, err := onnxruntime.NewDynamicAdvancedSessionWithONNXData(g.ONNX, []string{g.Input}, g.Outputs, options)
	if err != nil {
		return nil, fmt.Errorf("onnx runtime: open the graph: %w", reason(err))
	}
	p := &Probe{graph: g, session: s}
	p.graph.ONNX = nil
	return p, nil
}

// View makes room for an image and for all outputs. It runs the graph once to
// learn their shapes.
func (p *Probe) View() (*View, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return nil, ErrClosed
	}
	v := &View{probe: p, pixels: make([]byte, p.graph.Height*p.graph.Width*3)}
	if err := v.bind(); err != nil {
		v.free()
		return nil, fmt.Errorf("onnx runtime: bind the graph: %w", reason(err))
	}
	p.views = append(p.views, v)
	return v, nil
}

func (v *View) bind() error {
	g, s := v.probe.graph, v.probe.session
	v.pinned.Pin(&v.pixels[0])
	in, err := onnxruntime.NewTensor(onnxruntime.NewShape(1, int64(g.Height), int64(g.Width), 3), v.pixels)
	if err != nil {
		return err
	}
	v.tensors = append(v.tensors, in)
	made := make([]onnxruntime.Value, len(g.Outputs))
	if err := s.Run([]onnxruntime.Value{in}, made); err != nil {
		return err
	}
	for _, o := range made {
		defer o.Destroy()
	}
	if v.io, err = s.CreateIoBinding(); err != nil {
		return err
	}
	if err := v.io.BindInput(g.Input, in); err != nil {
		return err
	}
	for i, o := range made {
		if _, ok := o.(*onnxruntime.Tensor[float32]); !ok {
			return fmt.Errorf("output %s is no tensor of float32", g.Outputs[i])
		}
		shape := o.GetShape()
		n := shape.FlattenedSize()
		if n < 1 {
			return fmt.Errorf("output %s has the shape %v: wanted at least one value", g.Outputs[i], shape)
		}
		values := make([]float32, n)
		v.pinned.Pin(&values[0])
		out, err := onnxruntime.NewTensor(shape, values)
		if err != nil {
			return err
		}
		v.outputs, v.tensors = append(v.outputs, values), append(v.tensors, out)
		if err := v.io.BindOutput(g.Outputs[i], out); err != nil {
			return err
		}
	}
	return nil
}

func (v *View) free() {
	if v.io != nil {
		v.io.Destroy()
	}
	for _, t := range v.tensors {
		t.Destroy()
	}
	v.pinned.Unpin()
	v.io, v.tensors = nil, nil
}

// Pixels is the image that Run reads, Height×Width×3 bytes of packed RGB.
func (v *View) Pixels() []byte { return v.pixels }

// Output is output i of the graph as the last Run left it, row by row. The next
// Run overwrites it.
func (v *View) Output(i int) []float32 { return v.outputs[i] }

// Run computes the outputs for the image in Pixels. A view is run by one
// goroutine at a time, different ones by several at once.
func (v *View) Run() error {
	p := v.probe
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.session == nil {
		return ErrClosed
	}
	if err := p.session.RunWithBinding(v.io); err != nil {
		return fmt.Errorf("onnx runtime: run: %w", reason(err))
	}
	return nil
}

// Close waits for runs to end and frees the graph and all its views. Closing
// again does nothing. It never fails.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.views {
		v.free()
	}
	p.views = nil
	if p.session != nil {
		p.session.Destroy()
		p.session = nil
	}
	return nil
}
