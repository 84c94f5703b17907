"""Quantises models with ONNX Runtime's own quantizer, in QDQ format.

usage: quantize_static.py CASES.json

CASES.json lists {"model": path, "out": path, "unsigned": activations and weights
of bytes without sign, "options": extra_options, "format": "QDQ" or "QOperator"}.
Calibrates with four inputs that are always the same. Prints, for each case, the
scales and zero points of the tensors that are quantised, by their names in the
model that there was before.
"""
import json
import logging
import sys

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

logging.disable(logging.WARNING)


class Reader(CalibrationDataReader):
    def __init__(self, model):
        (entry,) = model.graph.input
        shape = [d.dim_value or 1 for d in entry.type.tensor_type.shape.dim]
        random = np.random.default_rng(7)
        self.feeds = iter([{entry.name: random.standard_normal(shape).astype(np.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.feeds, None)


def activations(model):
    constant = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    result = {}
    for n in model.graph.node:
        if n.op_type == "QuantizeLinear" and n.input[0] not in constant:
            name = n.input[0].removesuffix("_QuantizeLinear_Input")
            result[name] = {"scale": float(constant[n.input[1]]), "zero": int(constant[n.input[2]])}
    return result


result = []
with open(sys.argv[1]) as f:
    cases = json.load(f)
for case in cases:
    model = onnx.load(case["model"])
    del model.graph.value_info[:]  # ONNX Runtime infers again, and stumbles over ours
    typ = QuantType.QUInt8 if case["unsigned"] else QuantType.QInt8
    quantize_static(
        model,
        case["out"],
        Reader(model),
        quant_format=QuantFormat[case["format"]],
        activation_type=typ,
        weight_type=typ,
        per_channel=case["per_channel"],
        extra_options=case["options"],
    )
    result.append(activations(onnx.load(case["out"])))
json.dump(result, sys.stdout)
