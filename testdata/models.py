"""Makes small classifiers that release/testdata/tiny is no example of: python models.py DIR."""

import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

out = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(1)
node = helper.make_node


def weights(name, *shape):
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write(name, nodes, inputs, channels=3):
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        [tensor("scores", 1, 3)],
        [weights("conv.w", 4, channels, 3, 3), weights("fc.w", 4, 3), weights("fc.b", 3)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (out / name).write_bytes(model.SerializeToString())


def classifier(*before, first="image", op="Relu"):
    return [
        *before,
        node("Conv", [first, "conv.w"], ["conv"], name="layer 1", pads=[1, 1, 1, 1]),
        node(op, ["conv"], ["relu"], name="layer 2"),
        node("GlobalAveragePool", ["relu"], ["gap"]),
        node("Flatten", ["gap"], ["flat"]),
        node("Gemm", ["flat", "fc.w", "fc.b"], ["scores"]),
    ]


image = tensor("image", 1, 3, 8, 8)
write("gray.onnx", classifier(), [tensor("image", 1, 1, 8, 8)], channels=1)
write("operator.onnx", classifier(op="Sharpen"), [image])
write("cycle.onnx", classifier(node("Add", ["image", "relu"], ["sum"]), first="sum"), [image])
write("inputs.onnx", classifier(node("Add", ["image", "depth"], ["sum"]), first="sum"), [image, tensor("depth", 1, 3, 8, 8)])
write("noimage.onnx", [node("Gemm", ["words", "fc.w", "fc.b"], ["scores"])], [tensor("words", 1, 4)])
