package onnx

import "slices"

// The rules of operators that change an image's size.

func depthToSpace(c *call) error {
	in, b := c.in(0), attrInt(c.n, "blocksize", 0)
	if len(in.dims) != 4 || b < 1 || b > 1024 {
		return errUnknown
	}
	return c.give([]dim{in.dims[0], ratio(in.dims[1], 1, b*b), ratio(in.dims[2], b, 1), ratio(in.dims[3], b, 1)})
}

func spaceToDepth(c *call) error {
	in, b := c.in(0), attrInt(c.n, "blocksize", 0)
	if len(in.dims) != 4 || b < 1 || b > 1024 {
		return errUnknown
	}
	return c.give([]dim{in.dims[0], ratio(in.dims[1], b*b, 1), ratio(in.dims[2], 1, b), ratio(in.dims[3], 1, b)})
}

func ratio(d dim, times, by int64) dim {
	if !d.known() {
		return unknownDim
	}
	return fixed(d.n * times / by)
}

// resize is the rule of Resize and, as far as scales go, Upsample.
func resize(c *call) error {
	in := c.in(0)
	if !in.ranked {
		return c.set(typeOnly(in))
	}
	dims := slices.Repeat([]dim{unknownDim}, len(in.dims))
	if attr(c.n, "axes") != nil || attr(c.n, "keep_aspect_ratio_policy") != nil {
		return c.give(dims)
	}
	scalesAt := 2
	if c.n.GetOpType() == "Upsample" || c.f.opset < 11 {
		scalesAt = 1
	}
	if sizes := c.in(3).values; c.has(3) && len(sizes) == len(dims) {
		for i, v := range sizes {
			dims[i] = v.dim()
		}
		return c.give(dims)
	}
	var scales []float32
	if a := attr(c.n, "scales"); a != nil {
		scales = a.GetFloats()
	} else if c.has(scalesAt) {
		if t := c.f.index.initializer[c.n.GetInput()[scalesAt]]; t != nil {
			scales, _ = floats(t)
		}
	}
	if len(scales) != len(dims) {
		return c.give(dims)
	}
	for i, s := range scales {
		switch {
		case s == 1:
			dims[i] = in.dims[i]
		case in.dims[i].known() && s > 0 && s < 1<<16:
			dims[i] = fixed(int64(float32(in.dims[i].n) * s))
		}
	}
	return c.give(dims)
}
