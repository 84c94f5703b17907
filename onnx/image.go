package onnx

import (
	"errors"
	"fmt"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Layout is the order of an image tensor's dimensions.
type Layout int

const (
	NCHW Layout = iota // batch, channels, height, width
	NHWC               // batch, height, width, channels
)

func (l Layout) String() string {
	if l == NHWC {
		return "NHWC"
	}
	return "NCHW"
}

// ImageInput is the image that a model takes.
type ImageInput struct {
	Name     string
	Layout   Layout
	Batch    int64 // images at a time; 0 where any number goes
	Channels int   // 1 (grey) or 3
	Height   int
	Width    int
}

// maxSide bounds an image's height and width.
const maxSide = 8192

// Image finds the model's image input: its only input, of float32 or float16
// and N×3×H×W, N×1×H×W, N×H×W×3 or N×H×W×1 with fixed height and width.
func (m *Model) Image() (ImageInput, error) {
	v, err := m.input()
	if err != nil {
		return ImageInput{}, err
	}
	t := infoOfValue(v)
	const want = "want float32 or float16 of N×3×H×W, N×1×H×W, N×H×W×3 or N×H×W×1"
	switch {
	case v.GetType().GetTensorType() == nil:
		return ImageInput{}, fmt.Errorf("the input %q is no tensor: %s", v.GetName(), want)
	case t.typ == pb.TensorProto_UINT8:
		return ImageInput{}, fmt.Errorf("the input %q takes bytes, so the model has its preprocessing inside: "+
			"want the model without it, float32 or float16", v.GetName())
	case t.typ != pb.TensorProto_FLOAT && t.typ != pb.TensorProto_FLOAT16:
		return ImageInput{}, fmt.Errorf("the input %q is %s %s, no image: %s", v.GetName(), t.typ, shapeText(v), want)
	case len(t.dims) != 4:
		return ImageInput{}, fmt.Errorf("the input %q is of %s, no image: %s", v.GetName(), shapeText(v), want)
	}
	d := t.dims
	image := ImageInput{Name: v.GetName(), Batch: max(d[0].n, 0)}
	first, last := channels(d[1]), channels(d[3])
	switch {
	case !first && !last:
		return ImageInput{}, fmt.Errorf("the input %q is of %s, with 1 or 3 channels neither in second nor in last place: %s",
			v.GetName(), shapeText(v), want)
	case first && last: // an image 1 or 3 pixels wide or high
		image.Layout = m.layoutAtConv(v.GetName())
	case last:
		image.Layout = NHWC
	}
	c, h, w := d[1], d[2], d[3]
	if image.Layout == NHWC {
		h, w, c = d[1], d[2], d[3]
	}
	if !h.known() || !w.known() {
		return ImageInput{}, fmt.Errorf("the input %q is of %s: its height and width aren't fixed; "+
			"export the model for one size, or fix it with onnxruntime.tools.make_dynamic_shape_fixed", v.GetName(), shapeText(v))
	}
	if h.n > maxSide || w.n > maxSide {
		return ImageInput{}, fmt.Errorf("the input %q is of %s, want at most %d pixels wide and high",
			v.GetName(), shapeText(v), maxSide)
	}
	image.Channels, image.Height, image.Width = int(c.n), int(h.n), int(w.n)
	return image, nil
}

func channels(d dim) bool { return d.is(1) || d.is(3) }

// input returns the network's only input.
func (m *Model) input() (*pb.ValueInfoProto, error) {
	inputs := m.proto.GetGraph().GetInput()
	switch len(inputs) {
	case 0:
		return nil, errors.New("the model has no input, want one image")
	case 1:
		return inputs[0], nil
	}
	return nil, fmt.Errorf("the model has %d inputs (%q and %q, …), want one image: export it with the image alone, "+
		"the others as constants", len(inputs), inputs[0].GetName(), inputs[1].GetName())
}

// layoutAtConv tells the layout of an input whose sizes fit both: it is NHWC
// where the input is transposed to N×C×H×W first.
func (m *Model) layoutAtConv(name string) Layout {
	for _, n := range m.proto.GetGraph().GetNode() {
		if n.GetOpType() != "Transpose" || n.GetInput()[0] != name {
			continue
		}
		if p := attrInts(n, "perm"); len(p) == 4 && p[1] == 3 {
			return NHWC
		}
	}
	return NCHW
}

// shapeText writes the declared shape of v as N×3×224×224, unnamed unknown
// sizes as ?.
func shapeText(v *pb.ValueInfoProto) string {
	t := v.GetType().GetTensorType()
	if t.GetShape() == nil {
		return "unknown shape"
	}
	s := ""
	for i, d := range infoOfValue(v).dims {
		if i > 0 {
			s += "×"
		}
		switch {
		case d.known():
			s += fmt.Sprint(d.n)
		case t.GetShape().GetDim()[i].GetDimParam() != "":
			s += d.sym
		default:
			s += "?"
		}
	}
	if s == "" {
		return "no dimensions"
	}
	return s
}
