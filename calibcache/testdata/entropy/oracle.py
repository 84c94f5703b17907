"""pytorch-quantization's histogram calibrator, out of the package that carries it
on: nvidia-modelopt's modelopt/torch/quantization/calib/histogram.py, whose
_compute_amax_entropy is the original's line by line (but for a debug message).

That file works with numpy and scipy; torch it needs only for a number or a
tensor around the results. So it is loaded by itself, with stand-ins for what it
imports, rather than with torch.
"""

import contextlib
import importlib.metadata
import importlib.util
import sys
import types

import numpy

PACKAGE = "nvidia-modelopt"
FILE = "modelopt/torch/quantization/calib/histogram.py"


class Tensor:
    """The few of torch.Tensor's methods that collecting with numpy calls."""

    def __init__(self, values):
        self.values = values

    def __lt__(self, other):
        return bool(self.values < other)

    def abs(self):
        return Tensor(numpy.abs(self.values))

    def float(self):
        return self

    def cpu(self):
        return self

    def detach(self):
        return self

    def numpy(self):
        return self.values


class Calibrator:
    """What the calibrators' base keeps."""

    def __init__(self, num_bits, axis, unsigned):
        self._num_bits, self._axis, self._unsigned = num_bits, axis, unsigned


def stand_ins():
    """Returns the modules that the file imports, by name."""
    def module(name, **contents):
        m = types.ModuleType(name)
        m.__path__ = []
        vars(m).update(contents)
        return name, m

    quantization = "modelopt.torch.quantization"
    return dict([
        module("torch", Tensor=Tensor, tensor=float, no_grad=contextlib.nullcontext,
               min=lambda x: Tensor(x.values.min())),
        module("modelopt"), module("modelopt.torch"),
        module("modelopt.torch.utils", distributed=types.SimpleNamespace(is_initialized=lambda: False)),
        module(quantization), module(f"{quantization}.nn"), module(f"{quantization}.utils"),
        module(f"{quantization}.tensor_quant", fake_tensor_quant=None, scaled_e4m3=None),
        module(f"{quantization}.calib"), module(f"{quantization}.calib.calibrator", _Calibrator=Calibrator),
    ])


def load():
    """Returns the file's module. Raises importlib.metadata.PackageNotFoundError
    without the package."""
    path = importlib.metadata.distribution(PACKAGE).locate_file(FILE)
    absent = {name: module for name, module in stand_ins().items() if name not in sys.modules}
    sys.modules.update(absent)
    try:
        spec = importlib.util.spec_from_file_location("modelopt.torch.quantization.calib.histogram", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name in absent:
            del sys.modules[name]
    return module
