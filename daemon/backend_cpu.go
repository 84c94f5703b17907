package daemon

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/sightd/sightd/ort"
	"github.com/sightd/sightd/release"
)

// cpu is ONNX Runtime on the CPU.
type cpu struct {
	options ort.Options
	why     string // it isn't TensorRT; "" where the CPU was asked for
}

func (c cpu) Name() string { return "ort" }

func (c cpu) Identity() string {
	return fmt.Sprintf("onnxruntime %s, %s", ort.Version(), ort.Features())
}

// Saturates tells whether graphs in INT8 have to keep their sums small.
func (c cpu) Saturates() bool { return ort.Saturates() }

func (c cpu) Prepare(rel *release.Release, o PrepareOptions) (*Prepared, error) {
	return prepareCPU(rel, o, c.Saturates())
}

func (c cpu) Build(_ context.Context, p *Prepared, dir string, _ func(BuildProgress)) (*BuildReport, error) {
	graph, _, err := p.graph()
	if err != nil {
		return nil, err
	}
	o := c.options
	o.Bounded = p.Bounded
	return &BuildReport{}, ort.Build(graph, filepath.Join(dir, engineFile), o)
}

func (c cpu) Load(_ *Prepared, stored []byte) (Engine, error) {
	e, err := ort.Load(stored, c.options)
	if err != nil {
		return nil, err
	}
	return cpuEngine{e}, nil
}

// cpuEngine gives ort's concrete bindings as the interface that TensorRT's share.
type cpuEngine struct{ *ort.Engine }

func (e cpuEngine) Bind(pixels []byte, n int) (Binding, error) {
	b, err := e.Engine.Bind(pixels, n)
	if err != nil {
		return nil, err
	}
	return &cpuBinding{b, pixels}, nil
}
func (e cpuEngine) Frame(pixels []byte) (Frame, error) { return cpuFrame(pixels), nil }
func (e cpuEngine) Lanes() int                         { return 1 }
func (e cpuEngine) Start(Binding) error                { return nil }
func (e cpuEngine) Wait(b Binding) error               { return e.Engine.Run(b.(*cpuBinding).Binding) }

// cpuBinding's images lie behind each other, as ONNX Runtime wants them.
type cpuBinding struct {
	*ort.Binding
	pixels []byte
}

func (b *cpuBinding) Gather(i int, f Frame) error { return copyFrame(b.pixels, i, f.(cpuFrame)) }

// cpuFrame is one image's memory.
type cpuFrame []byte

func (cpuFrame) Close() error { return nil }

// copyFrame makes a frame the image i of those at pixels.
func copyFrame(pixels []byte, i int, f []byte) error {
	if i < 0 || len(f) == 0 || (i+1)*len(f) > len(pixels) {
		return fmt.Errorf("gather a frame of %d bytes as image %d of %d bytes", len(f), i, len(pixels))
	}
	copy(pixels[i*len(f):], f)
	return nil
}
