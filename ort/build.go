package ort

import (
	"errors"
	"fmt"
	"os"
	"strings"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// Build has ONNX Runtime optimise the prepared graph, an encoded ONNX model
// without external data, for this machine, and writes the engine to the file
// out, synced. The caller gives a temporary path and renames; after an error
// there is no such file.
//
// The engine is good for this Version of the library and these Features only;
// o.Threads has no part in it.
func Build(graph []byte, out string, o Options) (err error) {
	if !isOpen() {
		return errNotOpen
	}
	defer func() {
		trim()
		if err != nil {
			os.Remove(out)
			err = fmt.Errorf("onnx runtime: build: %w", err)
		}
	}()
	if err := optimise(graph, out, o); err != nil {
		return err
	}
	d, err := interrogate(out, o)
	if err != nil {
		return err
	}
	if err := describe(out, d); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return nil
}

// optimise writes the optimised graph to the file out. It stays in ONNX's own
// format: ORT's loads no faster at these sizes (3 to 12 ms for 1 to 19 MB,
// either way) and is not checked on the way in as an ONNX file is.
func optimise(graph []byte, out string, o Options) error {
	if len(graph) == 0 || len(graph) > maxStored {
		return fmt.Errorf("graph of %d bytes: wanted 1 to %d", len(graph), maxStored)
	}
	options, err := o.session(onnxruntime.GraphOptimizationLevelEnableAll)
	if err != nil {
		return err
	}
	defer options.Destroy()
	if err := options.SetOptimizedModelFilePath(out); err != nil {
		return reason(err)
	}
	session, err := onnxruntime.NewDynamicAdvancedSessionWithONNXData(graph, nil, nil, options)
	if err != nil {
		err = reason(err)
		if strings.Contains(err.Error(), "serialization failed") { // all that it says of a full disk
			err = unwritten(out, err)
		}
		return err
	}
	session.Destroy()
	return nil
}

// unwritten is the error of a file that couldn't be written, with the system's reason, which a
// further write brings to light.
func unwritten(out string, err error) error {
	f, why := os.OpenFile(out, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if why == nil {
		_, why = f.Write(make([]byte, 64<<10)) // more than what was tried last
		why = errors.Join(why, f.Close())
	}
	if why == nil {
		return fmt.Errorf("write %s: %w: is there space left?", out, err)
	}
	return fmt.Errorf("%w: %w", err, why) // which names the file
}

// interrogate loads the optimised graph from its file, which shows that it was
// written whole, and asks for its input and output.
func interrogate(path string, o Options) (description, error) {
	options, err := o.session(onnxruntime.GraphOptimizationLevelDisableAll)
	if err != nil {
		return description{}, err
	}
	defer options.Destroy()
	inputs, outputs, err := onnxruntime.GetInputOutputInfoWithOptions(path, options)
	if err != nil {
		return description{}, fmt.Errorf("read back %s: %w", path, reason(err))
	}
	d := description{Runtime: Version(), Features: Features()}
	if err := d.takeInput(inputs); err != nil {
		return description{}, err
	}
	if err := d.takeOutput(outputs); err != nil {
		return description{}, err
	}
	return d, nil
}

func (d *description) takeInput(inputs []onnxruntime.InputOutputInfo) error {
	const wanted = "wanted one input, uint8 N×H×W×3"
	if len(inputs) != 1 {
		return fmt.Errorf("graph has %d inputs: %s", len(inputs), wanted)
	}
	in := inputs[0]
	if in.OrtValueType != onnxruntime.ONNXTypeTensor || in.DataType != onnxruntime.TensorElementDataTypeUint8 ||
		len(in.Dimensions) != 4 || !fits(in.Dimensions[1]) || !fits(in.Dimensions[2]) || in.Dimensions[3] != 3 {
		return fmt.Errorf("input %s: %s", describeValue(in), wanted)
	}
	batch, err := batchSize(in)
	if err != nil {
		return err
	}
	d.Input, d.Batch = in.Name, batch
	d.Height, d.Width = int(in.Dimensions[1]), int(in.Dimensions[2])
	return nil
}

// takeOutput takes N×classes and also N×classes×1×1, which networks that end
// in a convolution and a pooling give.
func (d *description) takeOutput(outputs []onnxruntime.InputOutputInfo) error {
	const wanted = "wanted one output, float N×classes"
	if len(outputs) != 1 {
		return fmt.Errorf("graph has %d outputs: %s", len(outputs), wanted)
	}
	out := outputs[0]
	if out.OrtValueType != onnxruntime.ONNXTypeTensor || out.DataType != onnxruntime.TensorElementDataTypeFloat ||
		len(out.Dimensions) < 2 || len(out.Dimensions) > maxOnes+2 || !fits(out.Dimensions[1]) {
		return fmt.Errorf("output %s: %s", describeValue(out), wanted)
	}
	for _, dimension := range out.Dimensions[2:] {
		if dimension != 1 {
			return fmt.Errorf("output %s: %s", describeValue(out), wanted)
		}
	}
	batch, err := batchSize(out)
	if err != nil {
		return err
	}
	if d.Batch != 0 && batch != 0 && d.Batch != batch {
		return fmt.Errorf("input takes %d images and output %s gives %d: wanted one row of scores an image", d.Batch, out.Name, batch)
	}
	d.Output, d.Classes, d.Ones = out.Name, int(out.Dimensions[1]), len(out.Dimensions)-2
	return nil
}

// batchSize is a tensor's first dimension, 0 where that is dynamic.
func batchSize(v onnxruntime.InputOutputInfo) (int, error) {
	n := v.Dimensions[0]
	if n >= 0 && !fits(n) {
		return 0, fmt.Errorf("%s: batch of %d: wanted 1 to %d", v.Name, n, maxDimension)
	}
	return int(max(n, 0)), nil
}

// describeValue is an input's or output's name, type and shape for an error.
func describeValue(v onnxruntime.InputOutputInfo) string {
	if v.OrtValueType != onnxruntime.ONNXTypeTensor {
		return fmt.Sprintf("%q is no tensor", v.Name)
	}
	kind := strings.TrimPrefix(v.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_")
	return fmt.Sprintf("%q is %s %v", v.Name, strings.ToLower(kind), v.Dimensions)
}
