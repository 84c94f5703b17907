"""Compares models that AddFront made with NumPy and OpenCV.

usage: front.py CASES

CASES is a JSON list of {model, color, layout, mean, std, half}; each model is
a front with nothing behind it. Prints for each the largest difference, and how
many values differ by more than a rounding.
"""
import json
import pathlib
import sys

import cv2
import numpy as np
import onnx
import onnxruntime

result = []
for case in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    onnx.checker.check_model(onnx.load(case["model"]), full_check=True)
    session = onnxruntime.InferenceSession(case["model"], providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    n, h, w, c = entry.shape
    n = n if isinstance(n, int) else 3
    pixels = np.random.default_rng(0).integers(0, 256, (n, h, w, c)).astype(np.uint8)
    want = []
    for rgb in pixels:
        if case["color"] == "bgr":
            rgb = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        if case["color"] == "gray":
            rgb = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None]
        x = rgb.astype(np.float32)
        x = (x - np.array(case["mean"] or [0], np.float32)) / np.array(case["std"] or [1], np.float32)
        want.append(x)
    want = np.stack(want)
    if case["layout"] == "NCHW":
        want = want.transpose(0, 3, 1, 2)
    if case["half"]:
        want = want.astype(np.float16)
    got = session.run(None, {entry.name: pixels})[0]
    if got.shape != want.shape or got.dtype != want.dtype:
        sys.exit(f"{case}: {got.dtype} {got.shape}, want {want.dtype} {want.shape}")
    difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
    result.append({"input": entry.name, "type": entry.type, "difference": float((difference / (1 + np.abs(want))).max())})
json.dump(result, sys.stdout)
