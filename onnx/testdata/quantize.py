"""Runs models and what was made INT8 of them, with ONNX Runtime.

quantize.py calibrate CASE.onnx…
    prints, for each, the scales of its tensors over inputs that are always the same

quantize.py compare DIR…
    DIR holds fp32.onnx, unsigned.onnx, signed.onnx and saturating.onnx; prints,
    for each, how the answers compare, and what ONNX Runtime makes of unsigned.onnx

quantize.py digits IMAGES.gz LABELS.gz MODEL…
    prints the share of MNIST's digits that each gets right
"""
import collections
import gzip
import json
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort


def load(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    return model


def inputs(model):
    random = np.random.default_rng(7)
    result = {}
    weights = {t.name for t in model.graph.initializer}
    for i in model.graph.input:
        if i.name in weights:
            continue
        shape = [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]
        result[i.name] = (random.standard_normal([6] + shape) * 1.3).astype(np.float32)
    return result


def session(model, optimised=True, exact=True, save=None):
    o = ort.SessionOptions()
    o.intra_op_num_threads = 1
    o.log_severity_level = 3
    o.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:  # on any CPU: without it, sums of products saturate where there is no VNNI
        o.add_session_config_entry("session.x64quantprecision", "1")
    all_or_none = ort.GraphOptimizationLevel
    o.graph_optimization_level = all_or_none.ORT_ENABLE_ALL if optimised else all_or_none.ORT_DISABLE_ALL
    if save:
        o.optimized_model_filepath = save
    return ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"])


def run(s, feeds):
    out = []
    for k in range(6):
        out.append(s.run(None, {name: v[k] for name, v in feeds.items()}))
    return [np.stack(t) for t in zip(*out)]


def calibrate(path):
    model = load(path)
    feeds = inputs(model)
    have = {o.name for o in model.graph.output}
    for node in model.graph.node:
        for t in node.output:
            if t and t not in have:
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(t))
    s = session(model, optimised=False)
    ranges = dict(zip([o.name for o in s.get_outputs()], run(s, feeds))) | feeds
    return {
        name: float(np.float32(np.abs(v).max() / np.float32(127)))
        for name, v in ranges.items()
        if v.dtype == np.float32 and np.abs(v).max() > 0
    }


def decibel(got, want):
    worst = np.inf
    for g, w in zip(got, want):
        noise = float(((g - w).astype(np.float64) ** 2).sum())
        if noise > 0:
            worst = min(worst, 10 * np.log10(float((w.astype(np.float64) ** 2).sum()) / noise))
    return min(worst, 200)


def compare(path):
    fp32, unsigned, signed, saturating = (
        load(os.path.join(path, n + ".onnx")) for n in ("fp32", "unsigned", "signed", "saturating")
    )
    feeds = inputs(fp32)
    want = run(session(fp32, optimised=False), feeds)
    plain = run(session(unsigned, optimised=False), feeds)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
        fused = run(session(unsigned, save=f.name), feeds)
        optimised = onnx.load(f.name)
    same = lambda a, b: all(np.array_equal(x, y) for x, y in zip(a, b))
    return {
        "quantised": decibel(plain, want),
        "fused": decibel(fused, plain),
        "signed_same": same(run(session(signed, optimised=False), feeds), plain),
        "saturating_same": same(run(session(saturating, exact=False), feeds), fused),
        "ops": collections.Counter(n.op_type for n in optimised.graph.node),
    }


def digits(images, labels, *paths):
    with gzip.open(images) as f:
        x = np.frombuffer(f.read()[16:], np.uint8).reshape(-1, 1, 1, 28, 28).astype(np.float32) / 255
    with gzip.open(labels) as f:
        y = np.frombuffer(f.read()[8:], np.uint8)
    result = []
    for path in paths:
        s = session(load(path))
        name = s.get_inputs()[0].name
        result.append(float(np.mean([s.run(None, {name: v})[0].argmax() == want for v, want in zip(x, y)])))
    return result


if sys.argv[1] == "digits":
    result = digits(*sys.argv[2:])
else:
    result = [{"calibrate": calibrate, "compare": compare}[sys.argv[1]](path) for path in sys.argv[2:]]
json.dump(result, sys.stdout)
