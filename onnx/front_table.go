package onnx

import (
	"errors"
	"fmt"

	"github.com/sightd/sightd/onnx/internal/pb"
)

// Table is the front as a table, for who prepares pixels without a graph:
// table[c][b] is what the byte b becomes in channel c of the model's input, and
// that byte is the channels[c]-th of a packed 8-bit RGB pixel. The numbers are
// those that AddFront's nodes make, in float32. Grey has no table, since it is
// made of a pixel's three bytes together.
func (f Front) Table() (table [][256]float32, channels []int, err error) {
	switch f.Color {
	case "rgb":
		channels = []int{0, 1, 2}
	case "bgr":
		channels = []int{2, 1, 0}
	case "gray":
		return nil, nil, errors.New("color gray mixes the three bytes of a pixel, which a table for each byte can't")
	default:
		return nil, nil, fmt.Errorf("color %q, want rgb, bgr or gray", f.Color)
	}
	mean, err := f.perChannel("mean", f.Mean, 0, len(channels))
	if err != nil {
		return nil, nil, err
	}
	std, err := f.perChannel("std", f.Std, 1, len(channels))
	if err != nil {
		return nil, nil, err
	}
	table = make([][256]float32, len(channels))
	for c := range table {
		factor := 1 / std[c]
		for b := range table[c] {
			table[c][b] = (float32(b) - mean[c]) * factor
		}
	}
	return table, channels, nil
}

// AddPlanesFront is AddFront, but for the front's first step: the model then takes
// "pixels" as float32 of N×3×H×W, a plane each of red, green and blue from 0 to
// 255. It is for run times that take no bytes where they calibrate.
func (m *Model) AddPlanesFront(f Front) error {
	if err := m.AddFront(f); err != nil {
		return err
	}
	g := m.proto.GetGraph()
	cast, in := g.GetNode()[0], g.GetInput()[0]
	dims := infoOfValue(in).dims
	g.Node[0] = newNode("Transpose", cast.GetName(), cast.GetInput(), cast.GetOutput(), intsAttr("perm", 0, 2, 3, 1))
	g.Input[0] = valueInfo(in.GetName(), pb.TensorProto_FLOAT, []dim{dims[0], dims[3], dims[1], dims[2]})
	return nil
}
