"""Prints, as JSON, how the magnitudes of tensors are spread over images of the
network's own size: python observe.py MODEL TENSOR=WIDTH,… MEAN STD IMAGE…, in 2048
bins of that width.

Counted by numpy from what ONNX Runtime gives for one image after the other.
"""

import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before it is loaded: else it leaves files behind

import cv2
import numpy as np
import onnx
import onnxruntime

BINS = 2048
path, tensors, mean, std, *images = sys.argv[1:]
widths = {name: float(width) for name, width in (t.split("=") for t in tensors.split(","))}
tensors = list(widths)
model = onnx.load(path)
del model.graph.output[:]
model.graph.output.extend(onnx.helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, None) for t in tensors)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
runs = []
for image in images:
    x = cv2.imread(image)[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    runs.append(session.run(None, {"image": (x - np.float32(mean)) / np.float32(std)}))
found = {}
for name, values in zip(tensors, zip(*runs)):
    magnitudes = np.abs(np.concatenate([v.ravel() for v in values]))
    counts, _ = np.histogram(magnitudes, BINS, (0, BINS * widths[name]))
    found[name] = {"max": float(magnitudes.max()), "counts": counts.tolist()}
json.dump(found, sys.stdout)
