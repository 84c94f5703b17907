"""Histograms of what real models compute: of the demo's, and of the measuring
material's where that lies beside the checkout. Numbers only; nothing of the models."""

import pathlib

import cv2
import numpy
import onnx
import onnxruntime

BINS = 2048
ROOT = pathlib.Path(__file__).resolve().parents[3]
MATERIAL = ROOT.parent / "shared/material"
DEMO = "EfficientNet-Lite0"

# Color, the share of the image's middle or None for the whole, mean and divisor;
# and how many of the model's tensors are taken.
MODELS = {
    DEMO: (ROOT / "demo/lite0/model.onnx", cv2.COLOR_BGR2RGB, 0.875, 127, 128, 8),
    "SqueezeNet 1.1": (MATERIAL / "models/squeezenet1.1_fp32.onnx", None, 0.875, (104, 117, 123), 1, 6),
    "MobileNet v1 0.25": (MATERIAL / "models/mobilenet_v1_0.25_224_fp32.onnx", cv2.COLOR_BGR2RGB, 0.875, 127.5, 127.5, 6),
    "MobileNet v2": (MATERIAL / "models/mobilenet_v2_1.0_224_deq.onnx", cv2.COLOR_BGR2RGB, 0.875, 127.5, 127.5, 6),
    "ResNet-20": (MATERIAL / "models/cifar10_resnet20_fp32.onnx", cv2.COLOR_BGR2RGB, None,
                  (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 6),
    "LeNet": (MATERIAL / "models/lenet_mnist_nvdla_fp32.onnx", cv2.COLOR_BGR2GRAY, None, 0, 255, 5),
}


def images(model):
    """Returns the images' files: the demo's model sees the demo's photographs."""
    if model == DEMO:
        return sorted((ROOT / "demo/photos").glob("*.*"))
    return sorted((MATERIAL / "images/imagenet/calib").iterdir())[::8]


def pixels(file, shape, color, middle, mean, divisor):
    """Returns a picture as the model's input, float32 1×C×H×W."""
    image = cv2.imread(str(file))
    if middle:
        side = round(middle * min(image.shape[:2]))
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top:top + side, left:left + side]
    height, width = shape[2:]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if color is not None:
        image = cv2.cvtColor(image, color)
    image = (image.reshape(height, width, -1) - numpy.float32(mean)) / numpy.float32(divisor)
    return image.transpose(2, 0, 1)[numpy.newaxis]


def tensors(model, count):
    """Returns the input's name and shape, and so many of the tensors that depend on
    it, from the first to the last, by name with the operator that gives them."""
    weights = {i.name for i in model.graph.initializer}
    (image,) = (i for i in model.graph.input if i.name not in weights)
    found = {image.name: "input"}
    for node in model.graph.node:
        if node.op_type in ("Reshape", "Flatten", "Identity", "Dropout", "Shape"):  # nothing new in it, or no numbers
            found.update((o, None) for o in node.output if found.keys() & set(node.input))
        elif found.keys() & set(node.input):
            found[node.output[0]] = node.op_type
    found = [(name, operator) for name, operator in found.items() if operator]
    picked = numpy.linspace(0, len(found) - 1, count).round().astype(int)
    return image.name, [d.dim_value for d in image.type.tensor_type.shape.dim], [found[i] for i in picked]


def observer(model, names):
    """Opens the model with these tensors as its outputs."""
    present = {o.name for o in model.graph.output}
    for name in names:
        if name not in present:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def histograms():
    """Yields the name, the counts in 2048 bins and the largest magnitude: twice over
    the images, for the range first."""
    for title, (path, color, middle, mean, divisor, count) in MODELS.items():
        if not path.exists():
            continue
        model = onnx.load(path)
        image, shape, taken = tensors(model, count)
        names = [name for name, _ in taken]
        session = observer(model, names[1:])

        def run():
            for file in images(title):
                values = pixels(file, shape, color, middle, mean, divisor)
                yield [numpy.abs(a) for a in (values, *session.run(names[1:], {image: values}))]

        largest = numpy.max([[a.max() for a in arrays] for arrays in run()], axis=0)
        counts = numpy.sum([[numpy.histogram(a, bins=BINS, range=(0, m))[0] for a, m in zip(arrays, largest)]
                            for arrays in run()], axis=0)
        for (name, operator), bins, m in zip(taken, counts, largest):
            yield f"{title}, {operator} {name}", bins, m
