"""Holds models with exposed tensors to the models that they were made of.

usage: expose.py (MODEL EXPOSED)…

Runs both with ONNX Runtime on the same input, the first with EXPOSED's outputs
added to its own, and prints for each pair how EXPOSED's outputs are called, of
what shape they are and are declared to be, and which differ.
"""
import json
import sys

import numpy as np
import onnx
import onnxruntime


def run(model, names):
    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = 1  # sums in the same order
    s = onnxruntime.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"])
    (entry,) = s.get_inputs()
    shape = [d if isinstance(d, int) else 2 for d in entry.shape]
    pixels = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    return s, s.run(names, {entry.name: pixels})


result = []
for original, exposed in zip(sys.argv[1::2], sys.argv[2::2]):
    model, changed = onnx.load(original), onnx.load(exposed)
    if all(o.type.tensor_type.HasField("shape") for o in changed.graph.output):  # the checker wants it
        onnx.checker.check_model(changed, full_check=True)
    names = [o.name for o in changed.graph.output]
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in have)
    _, want = run(model, names)
    session, got = run(changed, None)
    result.append(
        {
            "names": [o.name for o in session.get_outputs()],
            "types": sorted({o.type for o in session.get_outputs()}),
            "declared": [[d if isinstance(d, int) else -1 for d in o.shape] for o in session.get_outputs()],
            "shapes": [list(v.shape) for v in got],
            "differ": [n for n, g, w in zip(names, got, want) if not np.array_equal(g, w, equal_nan=True)],
            "nodes": len(changed.graph.node),
        }
    )
json.dump(result, sys.stdout)
