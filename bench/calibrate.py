"""Calibration caches for models that come without one: the scale of a tensor is
the largest magnitude that photographs give in it, divided by 127."""

import struct

import cv2
import numpy
import onnx
import onnxruntime
from onnx import TensorProto

HEADER = "TRT-8601-MinMaxCalibration"


def pixels(path, shape, spec):
    """Returns a picture as the model's input, float32 1×C×H×W."""
    gray = spec["color"] == "gray"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    height, width = shape[2:]
    if spec["resize"] == "crop":
        side = round(spec["crop"] * min(image.shape[:2]))
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top:top + side, left:left + side]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if spec["color"] == "rgb":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    image = (image.reshape(height, width, -1) - numpy.float32(spec["mean"])) / numpy.float32(spec["std"])
    return image.transpose(2, 0, 1)[numpy.newaxis]


def activations(model):
    """Names the float32 tensors that depend on the input, which comes first."""
    weights = {i.name for i in model.graph.initializer}
    (image,) = (i for i in model.graph.input if i.name not in weights)
    graph = onnx.shape_inference.infer_shapes(model).graph
    floats = {v.name for v in (*graph.value_info, *graph.output)
              if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    names, depends = [image.name], {image.name}
    for node in model.graph.node:
        if depends.intersection(node.input):
            depends.update(node.output)
            names += [o for o in node.output if o in floats]
    return names, [d.dim_value for d in image.type.tensor_type.shape.dim]


def observer(model, names):
    """Opens the model with all these tensors as its outputs, unoptimised."""
    present = {o.name for o in model.graph.output}
    for name in names[1:]:
        if name not in present:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def calibrate(path, spec, images):
    """Returns the text of a cache for the model at path, whose input is as the
    spec (the input of a model.yaml) says."""
    model = onnx.load(path)
    names, shape = activations(model)
    session = observer(model, names)
    largest = dict.fromkeys(names, 0.0)
    for file in images:
        image = pixels(file, shape, spec)
        for name, values in zip(names, [image, *session.run(names[1:], {names[0]: image})]):
            largest[name] = max(largest[name], float(numpy.abs(values).max()))
    lines = [f"{name}: {struct.pack('>f', value / 127).hex()}" for name, value in largest.items()]
    return "\n".join([HEADER, *lines]) + "\n"
