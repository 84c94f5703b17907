"""Makes the small networks of calibcache's tests: python make.py (needs onnx, numpy)."""

import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

rng = np.random.default_rng(1)


def weights(name, *shape):
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def write(path, nodes, initialisers, shape, classes):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("prob", TensorProto.FLOAT, [1, classes])],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    save(model, pathlib.Path(__file__).with_name(path))


node = helper.make_node

# Each thing that coverage has a rule for, once.
write(
    "net.onnx",
    [
        node("Conv", ["image", "conv1.w"], ["conv1"]),
        node("Relu", ["conv1"], ["relu1"]),
        node("MaxPool", ["relu1"], ["pool1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pool1", "conv2.w", "conv2.b"], ["conv2"]),
        node("Clip", ["conv2", "zero", "six"], ["clip2"]),
        node("Add", ["clip2", "pool1"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["gap"]),
        node("Flatten", ["gap"], ["flat"]),
        node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"]),
        node("Softmax", ["logits"], ["prob"]),
    ],
    [
        weights("conv1.w", 4, 3, 1, 1),
        weights("conv2.w", 4, 4, 1, 1),
        weights("conv2.b", 4),
        weights("fc.w", 4, 5),
        weights("fc.b", 5),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.float32(6), "six"),
    ],
    [1, 3, 8, 8],
    5,
)
