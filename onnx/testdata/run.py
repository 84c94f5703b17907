"""Runs models with ONNX Runtime and prints what they give as JSON.

usage: run.py MODEL…

Each gets the same four images, whatever its batch is: image i is drawn with
the seed i.
"""
import json
import sys

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}


def image(i, shape, dtype):
    rng = np.random.default_rng(i)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


result = []
for path in sys.argv[1:]:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else 2
    images = np.stack([image(i, entry.shape[1:], TYPES[entry.type]) for i in range(4)])
    outputs = [session.run(None, {entry.name: images[i : i + batch]})[0] for i in range(0, 4, batch)]
    first = session.get_outputs()[0]
    result.append(
        {
            "input": entry.name,
            "batch": entry.shape[0] if isinstance(entry.shape[0], int) else 0,
            "output": first.name,
            "outputs": len(session.get_outputs()),
            "declared": [d if isinstance(d, int) else -1 for d in first.shape],
            "shape": list(outputs[0].shape),
            "values": np.concatenate(outputs).astype(float).ravel().tolist(),
        }
    )
json.dump(result, sys.stdout)
