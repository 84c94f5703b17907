"""Makes the small classifiers of the tests, 3×12×12 in, 4 classes out: python models.py DIR."""

import os
import pathlib
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before it is loaded: else it leaves files behind

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

out = pathlib.Path(sys.argv[1])
node = helper.make_node


def write(name, body, last, channels=8, initialisers=(), balance=False):
    """A classifier whose layers end in the tensor last, of so many channels. Balanced, it gives
    each class now and then."""
    rng = np.random.default_rng(3)
    values = {
        "w1": rng.normal(size=(8, 3, 3, 3)) / 5, "b1": rng.normal(size=8) / 5,
        "w2": rng.normal(size=(8, 8, 3, 3)) / 8, "b2": rng.normal(size=8) / 5,
        "fc": rng.normal(size=(channels, 4)), "fb": np.zeros(4),
        **dict(initialisers),
    }
    nodes = [
        *body,
        node("GlobalAveragePool", [last], ["gap"], name="mean"),
        node("Flatten", ["gap"], ["flat"], name="flatten"),
        node("Gemm", ["flat", "fc", "fb"], ["scores"], name="classify"),
    ]
    if balance:
        values["fb"] = -means(nodes, values)
    (out / f"{name}.onnx").write_bytes(build(nodes, values).SerializeToString())


def means(nodes, values):
    """What the classes score on average over pictures like the tests' own."""
    rng = np.random.default_rng(4)
    x = np.arange(12) * 20
    scores = []
    session = onnxruntime.InferenceSession(build(nodes, values).SerializeToString(), providers=["CPUExecutionProvider"])
    for _ in range(64):
        low, spread = rng.integers(128), rng.integers(1, 128)
        picture = np.stack([low + rng.integers(spread, size=(12, 12)), x[:, None] + rng.integers(20, size=(12, 12)),
                            x[None] + rng.integers(20, size=(12, 12))])
        scores.append(session.run(None, {"image": (picture[None].astype(np.float32) - 127.5) / 127.5})[0][0])
    return np.mean(scores, axis=0)


def build(nodes, values):
    used = {i for n in nodes for i in n.input}
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(v, np.float16 if k.startswith("half") else np.float32), k)
         for k, v in values.items() if k in used])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


conv1 = [node("Conv", ["image", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]), node("Relu", ["c1"], ["r1"], name="relu")]
conv2 = node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1])

write("sound", [*conv1, conv2, node("Add", ["c2", "r1"], ["sum"], name="add")], "sum", balance=True)
write("pooled", [*conv1, node("MaxPool", ["r1"], ["pooled"], name="pool", kernel_shape=[4, 4], strides=[4, 4])], "pooled")
half = {"half.w": np.random.default_rng(3).normal(size=(8, 3, 3, 3)) / 5, "half.b": np.zeros(8)}
write("half", [node("Cast", ["image"], ["h"], name="narrow", to=TensorProto.FLOAT16),
               node("Conv", ["h", "half.w", "half.b"], ["c1"], name="first", pads=[1, 1, 1, 1]),
               node("Relu", ["c1"], ["r1"], name="relu"),
               node("Cast", ["r1"], ["wide"], name="widen", to=TensorProto.FLOAT)], "wide", initialisers=half.items())
write("nan", [*conv1, conv2, node("Log", ["c2"], ["log"], name="logarithm")], "log")
write("infinite", [*conv1, conv2, node("Mul", ["c2", "huge"], ["scaled"], name="scale"), node("Exp", ["scaled"], ["exp"], name="power")],
      "exp", initialisers={"huge": 1e4}.items())
write("zero", [*conv1, node("Conv", ["r1", "w2", "b2"], ["c2"], name="dead", pads=[1, 1, 1, 1])], "c2",
      initialisers={"w2": np.zeros((8, 8, 3, 3)), "b2": np.zeros(8)}.items())
write("constant", [*conv1, node("Conv", ["r1", "w2", "b2"], ["c2"], name="stuck", pads=[1, 1, 1, 1])], "c2",
      initialisers={"w2": np.zeros((8, 8, 3, 3)), "b2": np.full(8, 1.5)}.items())

# What INT8 can't do: the layer "wide" makes one channel a thousand times the
# others, which nothing behind it looks at, so that these are lost in its steps.
pick = np.zeros((8, 8, 1, 1))
pick[range(1, 8), range(1, 8)] = 1
wide = np.zeros((8, 8, 1, 1))
wide[0, 0], wide[range(1, 8), range(1, 8)] = 4000, 1
write("wide", [*conv1, node("Conv", ["r1", "wide"], ["w"], name="wide"), node("Conv", ["w", "pick"], ["p"], name="pick"),
               node("Conv", ["p", "w2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1])], "c2",
      initialisers={"wide": wide, "pick": pick}.items(), balance=True)
