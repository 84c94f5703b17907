"""Runs a release's graphs for TensorRT with ONNX Runtime and prints what they give.

usage: tensorrt.py JOB.json

The job names graphs, each with how its input is made of images: "pixels" as they
are, or planes by a table of values for each byte. All get the same images: files,
cut to the size wanted, or noise where there are none. Q/DQ nodes are run as they
are written, and checked against what TensorRT takes.
"""
import json
import sys

import numpy as np
import onnx
import onnxruntime

job = json.load(open(sys.argv[1]))


def picture(path, h, w):
    import cv2

    image = cv2.imread(path)[:, :, ::-1]
    side = min(image.shape[:2])
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return cv2.resize(image[y : y + side, x : x + side], (w, h), interpolation=cv2.INTER_AREA)


def images(h, w):
    if job["images"]:
        return [picture(p, h, w) for p in job["images"]]
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for _ in range(4)]


def faults(model):
    """What in the graph TensorRT would refuse, or run otherwise than is meant."""
    g, found = model.graph, []
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in g.initializer}
    makers = {o: n for n in g.node for o in n.output}
    readers = {}
    for n in g.node:
        for name in n.input:
            readers.setdefault(name, []).append(n)
    bytes_in = [i.name for i in g.input if i.type.tensor_type.elem_type == onnx.TensorProto.UINT8]
    for name in bytes_in:
        found += [f"{n.op_type} reads bytes" for n in readers[name] if n.op_type != "Cast"]
    quantised = 0
    for n in g.node:
        if n.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        quantised += 1
        scale, zero = constants.get(n.input[1]), constants.get(n.input[2])
        axis = next((a.i for a in n.attribute if a.name == "axis"), 1)
        weights = constants.get(n.input[0])
        # The weights of a matrix product are floats that the graph quantises: with
        # bytes there, TensorRT 8.6.1 fails to build.
        matrix = n.op_type == "QuantizeLinear" and weights is not None and weights.ndim == 2
        behind = makers.get(n.input[0])
        if n.op_type == "DequantizeLinear" and behind is not None and behind.op_type == "QuantizeLinear" and behind.input[0] in constants:
            weights = np.zeros(constants[behind.input[0]].shape, np.int8)
        elif n.op_type == "DequantizeLinear" and weights is not None and weights.ndim == 2:
            found.append(f"{n.name}: bytes as the weights of a matrix product")
        if scale is None or zero is None or not (scale > 0).all():
            found.append(f"{n.name}: scale or zero point")
        elif zero.any() or zero.dtype != np.int8:
            found.append(f"{n.name}: zero point {zero.dtype} {zero.max()}")
        elif scale.ndim > 0 and weights is None:
            found.append(f"{n.name}: a scale a channel for an activation")
        elif matrix:
            if weights.dtype != np.float32 or scale.shape != (weights.shape[axis],):
                found.append(f"{n.name}: {weights.dtype} and {scale.shape} for a matrix of {weights.shape}")
        elif weights is not None and weights.dtype != np.int8:
            found.append(f"{n.name}: {weights.dtype} constants")
        elif weights is not None:
            for reader in readers[n.output[0]]:
                trans = any(a.name == "transB" and a.i for a in reader.attribute)
                if axis != (0 if reader.op_type == "Conv" or trans else 1) or list(reader.input).index(n.output[0]) != 1:
                    found.append(f"{n.name}: axis {axis} for {reader.op_type}")
        if n.op_type == "DequantizeLinear" and weights is None and makers[n.input[0]].op_type != "QuantizeLinear":
            found.append(f"{n.name}: nothing quantises before it")
    opset = next(o.version for o in model.opset_import if o.domain == "")
    if quantised and opset < 13:
        found.append(f"opset {opset}")
    return quantised, found


result = []
for g in job["graphs"]:
    model = onnx.load(g["path"])
    onnx.checker.check_model(model, full_check=True)
    quantised, found = faults(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(g["path"], options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    values = []
    for image in images(job["height"], job["width"]):
        fed = image
        if g["table"]:
            table = np.array(g["table"], np.float32)
            fed = np.stack([table[c][image[:, :, byte]] for c, byte in enumerate(g["channels"])])
        batch = entry.shape[0] if isinstance(entry.shape[0], int) else 1
        out = session.run(None, {entry.name: np.stack([fed] * batch)})[0].reshape(batch, -1)
        for other in out[1:]:
            np.testing.assert_allclose(other, out[0], rtol=1e-4, atol=1e-5)
        if g["softmax"]:
            e = np.exp(out[0].astype(np.float64) - out[0].max())
            out = [e / e.sum()]
        values.append(np.asarray(out[0]).astype(float).tolist())
    result.append(
        {
            "input": entry.name,
            "shape": [d if isinstance(d, int) else -1 for d in entry.shape],
            "outputs": [o.name for o in session.get_outputs()],
            "operators": [n.op_type for n in model.graph.node],
            "tensors": [o for n in model.graph.node for o in n.output] + [entry.name],
            "quantised": quantised,
            "faults": found,
            "values": values,
        }
    )
json.dump(result, sys.stdout)
