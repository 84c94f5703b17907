"""Makes testdata/tiny: a network of 8×8 pixels and three classes, with a
calibration cache that names all of its activations, and a golden image."""
import pathlib
import struct

import cv2
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

out = pathlib.Path(__file__).parent / "tiny"
rng = np.random.default_rng(1)
weights = {
    "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "fc": rng.normal(size=(3, 4)).astype(np.float32),
    "b": np.zeros(3, np.float32),
}
graph = helper.make_graph(
    [
        helper.make_node("Conv", ["image", "w"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "fc", "b"], ["scores"], name="fc", transB=1),
    ],
    "tiny",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
    [numpy_helper.from_array(a, n) for n, a in weights.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
checker.check_model(model)
save(model, out / "net.onnx")
ranges = {"image": 1.0, "conv": 6.0, "relu": 6.0, "pool": 3.0, "flat": 3.0, "scores": 8.0}
lines = ["TRT-8502-EntropyCalibration2"]
lines += [f"{n}: {struct.pack('>f', r / 127).hex()}" for n, r in ranges.items()]
(out / "calib.cache").write_text("\n".join(lines) + "\n")
golden = out / "golden"
(golden / "ants").mkdir(parents=True, exist_ok=True)
cv2.imwrite(str(golden / "ants/1.png"), np.full((8, 8, 3), 30, np.uint8))
(golden / "index.tsv").write_text("file\tclass\tscore\tmargin\nants/1.png\t0\t0.7194\t0.4705\n")  # as in FP32
