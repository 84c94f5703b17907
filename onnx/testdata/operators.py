"""Prints ONNX's standard operators and versions as JSON."""
import json
import sys

import onnx

names = sorted({s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""})
json.dump({"operators": names, "opset": onnx.defs.onnx_opset_version(), "ir": onnx.IR_VERSION}, sys.stdout)
