package onnx

import (
	"fmt"
	"math"
	"strings"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Front is the preprocessing from a camera image's bytes to what a model takes.
type Front struct {
	Color string // what the model was trained on: rgb, bgr or gray

	// A channel's value becomes (value − Mean) ÷ Std, value being 0 to 255:
	// one number for all channels or one for each, in the order of Color. None
	// is 0, or 1 for Std.
	Mean, Std []float32
}

// frontPrefix starts the names of the nodes and tensors that AddFront makes.
const frontPrefix = "sightd/front/"

// AddFront puts f in front of the model, as plain nodes in floating point. The
// model's input is then "pixels" (or, where a tensor has that name,
// "pixels_2"), packed 8-bit RGB, N×H×W×3 of uint8; the tensor that was the
// input keeps its name, now as a tensor inside the graph, so that a calibration
// cache's entry for it still applies. On an error nothing is changed.
//
// Grey is what OpenCV's cvtColor makes of RGB, to the bit.
func (m *Model) AddFront(f Front) error {
	image, err := m.Image()
	if err != nil {
		return err
	}
	mean, err := f.perChannel("mean", f.Mean, 0, image.Channels)
	if err != nil {
		return err
	}
	std, err := f.perChannel("std", f.Std, 1, image.Channels)
	if err != nil {
		return err
	}
	want, known := map[string]int{"rgb": 3, "bgr": 3, "gray": 1}[f.Color]
	if !known {
		return fmt.Errorf("color %q, want rgb, bgr or gray", f.Color)
	}
	if want != image.Channels {
		return fmt.Errorf("color %s makes %d channels, the model's input %q has %d", f.Color, want, image.Name, image.Channels)
	}

	g := m.proto.GetGraph()
	in := infoOfValue(g.GetInput()[0])
	b := &frontBuilder{editor: edit(g)}
	pixels := b.unique("pixels")

	// The cast comes first: TensorRT takes bytes only where a cast reads them.
	// Channels are told apart in N×C×H×W, where each is one piece of memory:
	// with them innermost, ONNX Runtime is ten times slower.
	t := b.node("Cast", intAttr("to", int64(pb.TensorProto_FLOAT)), pixels)
	if f.Color != "rgb" || image.Layout == NCHW {
		t = b.node("Transpose", intsAttr("perm", 0, 3, 1, 2), t)
		switch f.Color {
		case "bgr":
			t = b.node("Gather", intAttr("axis", 1), t, b.initializer(intTensor(b.name("order"), []int64{3}, 2, 1, 0)))
		case "gray":
			t = b.gray(t)
		}
		if image.Layout == NHWC && f.Color == "bgr" {
			t = b.node("Transpose", intsAttr("perm", 0, 2, 3, 1), t)
		}
	}
	t = b.normalise(t, image, mean, std)
	if image.Layout == NHWC && f.Color == "gray" { // the same floats in the same order; last, as ones are slow innermost
		t = b.reshape(t, 0, int64(image.Height), int64(image.Width), 1)
	}
	if in.typ == pb.TensorProto_FLOAT16 {
		b.node("Cast", intAttr("to", int64(pb.TensorProto_FLOAT16)), t)
	}
	b.nodes[len(b.nodes)-1].Output[0] = image.Name

	g.Node = append(b.nodes, g.GetNode()...)
	g.Input[0] = valueInfo(pixels, pb.TensorProto_UINT8,
		[]dim{in.dims[0], fixed(int64(image.Height)), fixed(int64(image.Width)), fixed(3)})
	return nil
}

// perChannel spreads one number over all channels, and says what is wrong with
// them.
func (f *Front) perChannel(name string, v []float32, none float32, channels int) ([]float32, error) {
	if len(v) == 0 {
		v = []float32{none}
	}
	if len(v) != 1 && len(v) != channels {
		return nil, fmt.Errorf("%d numbers for %s, want 1 or %d, one for each channel of the model's input", len(v), name, channels)
	}
	all := make([]float32, channels)
	for i := range all {
		x := v[min(i, len(v)-1)]
		all[i] = x
		switch {
		case math.IsNaN(float64(x)) || math.IsInf(float64(x), 0):
			return nil, fmt.Errorf("%s is %v, want finite numbers", name, x)
		case name == "std" && math.IsInf(float64(1/x), 0):
			return nil, fmt.Errorf("std is %v, want numbers to divide by", x)
		}
	}
	return all, nil
}

// frontBuilder writes the front's nodes, each reading the one before it.
type frontBuilder struct{ *editor }

func (b *frontBuilder) name(what string) string { return b.unique(frontPrefix + what) }

// node adds a node with one output and returns that; attr may be nil.
func (b *frontBuilder) node(op string, attr *pb.AttributeProto, inputs ...string) string {
	output := b.name(op)
	n := newNode(op, output, inputs, []string{output})
	if attr != nil {
		n.Attribute = append(n.Attribute, attr)
	}
	b.add(n)
	return output
}

func (b *frontBuilder) reshape(t string, shape ...int64) string {
	return b.node("Reshape", nil, t, b.initializer(intTensor(b.name("shape"), []int64{int64(len(shape))}, shape...)))
}

// gray makes N×1×H×W of N×3×H×W with OpenCV's weights, which are multiples of
// 2⁻¹⁵: no sum needs more than 23 bits, so float32 is exact. The channels are
// added one by one, as a convolution would be rounded where it runs in TF32.
func (b *frontBuilder) gray(t string) string {
	sum := ""
	for channel, weight := range []float32{9798, 19235, 3735} {
		index := b.initializer(intTensor(b.name("channel"), []int64{1}, int64(channel)))
		part := b.node("Gather", intAttr("axis", 1), t, index)
		part = b.node("Mul", nil, part, b.initializer(floatTensor(b.name("weight"), nil, weight/32768)))
		if sum != "" {
			part = b.node("Add", nil, sum, part)
		}
		sum = part
	}
	sum = b.node("Add", nil, sum, b.initializer(floatTensor(b.name("half"), nil, 0.5)))
	return b.node("Floor", nil, sum)
}

// normalise subtracts and scales, as far as that changes anything.
func (b *frontBuilder) normalise(t string, image ImageInput, mean, std []float32) string {
	factor := make([]float32, len(std))
	for i, s := range std {
		factor[i] = 1 / s
	}
	rows := image.Layout == NHWC && !(uniform(mean) && uniform(factor))
	if rows { // N×H×(W·C): constants of a whole row, since those of C numbers are slow
		t = b.reshape(t, 0, 0, int64(image.Width*3))
	}
	apply := func(op string, v []float32, neutral float32) {
		if !uniform(v) || v[0] != neutral {
			t = b.node(op, nil, t, b.initializer(channelTensor(b.name(strings.ToLower(op)), v, image, rows)))
		}
	}
	apply("Sub", mean, 0)
	apply("Mul", factor, 1)
	if rows {
		t = b.reshape(t, 0, 0, int64(image.Width), 3)
	}
	return t
}

// channelTensor holds a number for each channel: one for all where they are
// equal, a row of them over again with rows, 1×C×1×1 otherwise.
func channelTensor(name string, v []float32, image ImageInput, rows bool) *pb.TensorProto {
	switch {
	case uniform(v):
		return floatTensor(name, nil, v[0])
	case rows:
		row := make([]float32, 0, image.Width*len(v))
		for range image.Width {
			row = append(row, v...)
		}
		return floatTensor(name, []int64{int64(len(row))}, row...)
	}
	return floatTensor(name, []int64{1, int64(len(v)), 1, 1}, v...)
}

func uniform(v []float32) bool {
	for _, x := range v {
		if x != v[0] {
			return false
		}
	}
	return true
}
