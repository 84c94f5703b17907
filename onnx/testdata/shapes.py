"""Prints, as JSON, the types and shapes that ONNX's own inference finds.

usage: shapes.py OUT TEXT MODEL…

TEXT holds models in ONNX's text form, each after a line "# name". They are
written to OUT/name.onnx, so that the test reads the same ones.
"""
import json
import pathlib
import sys

import onnx
import onnx.parser
from onnx import shape_inference

out, text, *paths = sys.argv[1:]
for part in pathlib.Path(text).read_text().split("\n# ")[1:]:
    name, body = part.split("\n", 1)
    model = onnx.parser.parse_model(body)
    # A tensor without values that no node makes is one more input.
    made = {o for n in model.graph.node for o in n.output}
    model.graph.input.extend(v for v in model.graph.value_info if v.name not in made)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    path = pathlib.Path(out, name.strip() + ".onnx")
    onnx.save(model, path)
    paths.append(str(path))

result = {}
for path in paths:
    model = shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    tensors = {}
    for v in [*graph.input, *graph.value_info, *graph.output]:
        t = v.type.tensor_type
        dims = None
        if t.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim]
        tensors[v.name] = {"type": t.elem_type, "dims": dims}
    result[path] = tensors
json.dump(result, sys.stdout)
