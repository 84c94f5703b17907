"""Makes the calibration cache of the demo model from photographs.

The largest magnitude that each activation has over all of them becomes its
range. Only the scales, range / 127, are written, one a tensor.
"""

import argparse
import pathlib
import struct
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import TensorProto, helper

HEADER = "TRT-8601-MinMaxCalibration"
BATCH = 10
FILTERS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def preprocess(path, size, spec):
    """Returns a picture as the network takes it: float32 3×size×size."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not a picture that OpenCV reads")
    if (spec["color"], spec["resize"]) != ("rgb", "crop"):
        raise ValueError(f"color {spec['color']}, resize {spec['resize']}: this script knows rgb and crop")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    side = round(spec["crop"] * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    image = cv2.resize(image[top:top + side, left:left + side], (size, size), interpolation=FILTERS[spec["filter"]])
    image = (image - np.float32(spec["mean"])) / np.float32(spec["std"])
    return image.transpose(2, 0, 1)


def observed(model):
    """Returns a session that gives every activation, and their names; the
    network's input comes first and is no output of the session."""
    weights = {i.name for i in model.graph.initializer}
    constant = set(weights)
    names = [model.graph.input[0].name]
    for node in model.graph.node:
        if all(i in constant for i in node.input):
            constant.update(node.output)  # a float16 weight's cast
        else:
            names.extend(node.output)
    outputs = {o.name for o in model.graph.output}
    for name in names[1:]:
        if name not in outputs:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, names


def activations(session, names, images):
    """Yields (name, array) for every activation of every batch of images."""
    for start in range(0, len(images), BATCH):
        batch = images[start:start + BATCH]
        yield names[0], batch
        yield from zip(names[1:], session.run(names[1:], {names[0]: batch}))


def calibrate(model, images):
    """Returns each activation's scale, name: scale, in the graph's order."""
    session, names = observed(model)
    largest = dict.fromkeys(names, 0.0)
    for name, values in activations(session, names, images):
        largest[name] = max(largest[name], float(np.abs(values).max()))
    dead = [name for name in names if largest[name] == 0]
    if dead:
        raise ValueError(f"always 0 over these images: {', '.join(dead)}")
    return {name: value / 127 for name, value in largest.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=pathlib.Path, help="model.yaml, which names the model and the preprocessing")
    parser.add_argument("images", type=pathlib.Path, help="a folder of photographs")
    parser.add_argument("output", help="the calibration cache to write")
    arguments = parser.parse_args()

    spec = yaml.safe_load(arguments.spec.read_text())
    model = onnx.load(arguments.spec.parent / spec["model"])
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    paths = sorted(p for p in arguments.images.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        sys.exit(f"{arguments.images}: no photographs (.jpg, .jpeg, .png)")
    images = np.stack([preprocess(path, size, spec["input"]) for path in paths])
    scales = calibrate(model, images)
    with open(arguments.output, "w", encoding="ascii") as file:
        file.write(HEADER + "\n")
        for name, scale in scales.items():
            file.write(f"{name}: {struct.pack('>f', scale).hex()}\n")


if __name__ == "__main__":
    main()
