"""Writes the tests' graphs, input and expected answers into a folder.

The answers of the floating-point graph are those of Python's ONNX Runtime,
those of the INT8 graph are computed exactly in numpy's integers.
"""
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

out = Path(sys.argv[1])
rng = np.random.default_rng(7)
H, W, CLASSES, FILTERS = 6, 8, 5, 32


def save(name, nodes, initializers, inputs, outputs):
    graph = h.make_graph(nodes, name, inputs, outputs,
                         [nh.from_array(np.asarray(v), k) for k, v in initializers.items()])
    model = h.make_model(graph, ir_version=8, opset_imports=[h.make_opsetid("", 13)])
    model.metadata_props.add(key="sightd.engine", value="not the engine's own")
    onnx.checker.check_model(model, full_check=True)
    (out / f"{name}.onnx").write_bytes(model.SerializeToString())


def pixels(n, kind=T.UINT8, shape=(H, W, 3), name="pixels"):
    return h.make_tensor_value_info(name, kind, [n, *shape])


def scores(n, kind=T.FLOAT, shape=(CLASSES,), name="scores"):
    return h.make_tensor_value_info(name, kind, [n, *shape])


# A small classifier in floating point.
weights = {
    "w": rng.normal(size=(FILTERS, 3, 3, 3)).astype(np.float32) / 100,
    "b": rng.normal(size=FILTERS).astype(np.float32),
    "v": rng.normal(size=(CLASSES, FILTERS)).astype(np.float32),
}
body = [
    h.make_node("Cast", ["pixels"], ["x0"], to=T.FLOAT),
    h.make_node("Transpose", ["x0"], ["x1"], perm=[0, 3, 1, 2]),
    h.make_node("Conv", ["x1", "w", "b"], ["x2"], pads=[1, 1, 1, 1]),
    h.make_node("Relu", ["x2"], ["x3"]),
    h.make_node("GlobalAveragePool", ["x3"], ["x4"]),
]
head = [
    h.make_node("Flatten", ["x4"], ["x5"]),
    h.make_node("Gemm", ["x5", "v"], ["x6"], transB=1),
    h.make_node("Softmax", ["x6"], ["scores"], axis=1),
]
save("dynamic", body + head, weights, [pixels("n")], [scores("n")])
save("fixed2", body + head, weights, [pixels(2)], [scores(2)])

# The same ending in a convolution: N×classes×1×1.
conv = {"w": weights["w"], "b": weights["b"], "v": weights["v"][:, :, None, None]}
save("trailing", body + [h.make_node("Conv", ["x4", "v"], ["scores"])], conv,
     [pixels("n")], [scores("n", shape=(CLASSES, 1, 1))])

images = rng.integers(0, 256, size=(2, H, W, 3), dtype=np.uint8)
images.tofile(out / "images.u8")
session = onnxruntime.InferenceSession(str(out / "dynamic.onnx"), providers=["CPUExecutionProvider"])
session.run(None, {"pixels": images})[0].tofile(out / "dynamic.f32")

# INT8 whose sums of two products pass 16 bits: bright pixels, large weights of
# one sign. The quantised output is the mean over the image, so that each value
# is exact up to a rounding of the output's scale.
bright = np.full((1, H, W, 3), 255, np.uint8)
bright.tofile(out / "bright.u8")
q = rng.integers(100, 128, size=(CLASSES, 3, 3, 3)).astype(np.int8)
q[1] *= -1
q[3, ::2] *= -1
accumulated = (q.astype(np.int64) * 255).sum(axis=(1, 2, 3))  # no padding: every position alike
out_scale = np.float32(np.abs(accumulated).max() / 127)
quantised = np.clip(np.rint(accumulated / np.float64(out_scale)) + 128, 0, 255)
((quantised - 128) * out_scale).astype(np.float32).tofile(out / "int8.f32")
int8 = {
    "one": np.float32(1), "zero": np.uint8(0), "q": q,
    "qs": np.ones(CLASSES, np.float32), "qz": np.zeros(CLASSES, np.int8),
    "os": out_scale, "oz": np.uint8(128),
}
save("int8", [
    h.make_node("Cast", ["pixels"], ["x0"], to=T.FLOAT),
    h.make_node("Transpose", ["x0"], ["x1"], perm=[0, 3, 1, 2]),
    h.make_node("QuantizeLinear", ["x1", "one", "zero"], ["x2"]),
    h.make_node("DequantizeLinear", ["x2", "one", "zero"], ["x3"]),
    h.make_node("DequantizeLinear", ["q", "qs", "qz"], ["w"], axis=0),
    h.make_node("Conv", ["x3", "w"], ["x4"]),
    h.make_node("QuantizeLinear", ["x4", "os", "oz"], ["x5"]),
    h.make_node("DequantizeLinear", ["x5", "os", "oz"], ["x6"]),
    h.make_node("GlobalAveragePool", ["x6"], ["x7"]),
    h.make_node("QuantizeLinear", ["x7", "os", "oz"], ["x8"]),
    h.make_node("DequantizeLinear", ["x8", "os", "oz"], ["x9"]),
    h.make_node("Flatten", ["x9"], ["scores"]),
], int8, [pixels("n")], [scores("n")])

# Graphs that aren't prepared ones.
save("float_input", body[1:] + head, weights, [pixels("n", T.FLOAT, name="x0")], [scores("n")])
save("four_channels", [
    h.make_node("Cast", ["pixels"], ["x0"], to=T.FLOAT),
    h.make_node("ReduceMean", ["x0"], ["scores"], axes=[1, 2], keepdims=0),
], {}, [pixels("n", shape=(H, W, 4))], [scores("n", shape=(4,))])
save("any_size", [
    h.make_node("Cast", ["pixels"], ["x0"], to=T.FLOAT),
    h.make_node("ReduceMean", ["x0"], ["scores"], axes=[1, 2], keepdims=0),
], {}, [pixels("n", shape=("h", "w", 3))], [scores("n", shape=(3,))])
mean = [
    h.make_node("Cast", ["pixels"], ["x0"], to=T.FLOAT),
    h.make_node("ReduceMean", ["x0"], ["scores"], axes=[1, 2], keepdims=0),
]
save("two_inputs", mean[:1] + [h.make_node("Add", ["x0", "y"], ["x1"]),
     h.make_node("ReduceMean", ["x1"], ["scores"], axes=[1, 2], keepdims=0)], {},
     [pixels("n"), h.make_tensor_value_info("y", T.FLOAT, [1])], [scores("n", shape=(3,))])
save("two_outputs", mean + [h.make_node("Identity", ["scores"], ["more"])], {},
     [pixels("n")], [scores("n", shape=(3,)), scores("n", shape=(3,), name="more")])
save("index_output", mean + [h.make_node("ArgMax", ["scores"], ["index"], axis=1)], {},
     [pixels("n")], [scores("n", T.INT64, shape=(1,), name="index")])
save("map_output", mean[:1] + [h.make_node("Identity", ["x0"], ["scores"])], {},
     [pixels("n")], [scores("n", shape=(H, W, 3))])
