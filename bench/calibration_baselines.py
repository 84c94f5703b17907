"""What one would calibrate with instead of sightd, each in a process of its own so
that its memory can be told: ONNX Runtime's calibrator, and pytorch-quantization's
over ONNX Runtime; and plain inference. Prints as JSON how fast that went.

Both search for thresholds so slowly that only some tensors' search is timed, and
the rest taken to last as long.
"""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import resource
import sys
import time

import cv2
import numpy
import onnx
import onnxruntime
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

ORACLE = pathlib.Path(__file__).resolve().parent.parent / "calibcache/testdata/entropy"
BINS = 2048
LEVELS = 128
SPARE = 0.7  # of the memory that is free: as much may be used


def pixels(path, shape, spec):
    """Returns a picture as the model's input, float32 1×C×H×W."""
    gray = spec["color"] == "gray"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    height, width = shape[2:]
    if spec["resize"] == "crop":
        side = round(spec["crop"] * min(image.shape[:2]))
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = image[top:top + side, left:left + side]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if spec["color"] == "rgb":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    image = (image.reshape(height, width, -1) - numpy.float32(spec["mean"])) / numpy.float32(spec["std"])
    return image.transpose(2, 0, 1)[numpy.newaxis]


def activations(model):
    """Names the float32 tensors that depend on the input, which comes first, and
    gives the input's shape."""
    weights = {i.name for i in model.graph.initializer}
    (image,) = (i for i in model.graph.input if i.name not in weights)
    graph = onnx.shape_inference.infer_shapes(model).graph
    floats = {v.name for v in (*graph.value_info, *graph.output)
              if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    names, depends = [image.name], {image.name}
    for node in model.graph.node:
        if depends.intersection(node.input):
            depends.update(node.output)
            names += [o for o in node.output if o in floats]
    return names, [d.dim_value for d in image.type.tensor_type.shape.dim]


def exposing(model, names):
    """Returns the model with these tensors as its outputs too."""
    present = {o.name for o in model.graph.output}
    for name in names:
        if name not in present:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model.SerializeToString()


def session(model, threads, optimised=True):
    """Opens a model, a path or its bytes."""
    level = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Reader(CalibrationDataReader):
    def __init__(self, name, shape, spec, files):
        self.inputs = ({name: pixels(f, shape, spec)} for f in files)

    def get_next(self):
        return next(self.inputs, None)


def some(items, count):
    """Returns so many of the items, evenly spread."""
    items = list(items)
    return [items[i] for i in sorted(set(numpy.linspace(0, len(items) - 1, count).round().astype(int)))]


def available():
    """The bytes of memory that are free to use."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def fitting(calibrator, image, files):
    """Returns as many of the files as ONNX Runtime's calibrator has the memory for:
    it keeps all activations of all images, and copies a tensor's of all."""
    sizes = [a.nbytes for a in calibrator.infer_session.run(None, image)]
    need = sum(sizes) + 4 * max(sizes)
    return files[:max(1, int(SPARE * available() / need))]


def ort_calibrator(o, spec):
    names, shape = activations(onnx.load(o.model))
    start = time.perf_counter()
    calibrator = create_calibrator(
        o.model, calibrate_method=CalibrationMethod.Entropy, augmented_model_path=f"{o.work}/augmented.onnx",
        extra_options={"num_bins": BINS, "num_quantized_bins": LEVELS})
    calibrator.infer_session = session(calibrator.augmented_model_path, o.threads, optimised=False)  # as it opens it itself
    opened = time.perf_counter() - start
    files = fitting(calibrator, {names[0]: pixels(o.files[0], shape, spec)}, o.files)
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        calibrator.collect_data(Reader(names[0], shape, spec, files))
    collected = opened + time.perf_counter() - start
    collector = calibrator.collector
    tensors = list(collector.histogram_dict.values())
    chosen = some(tensors, o.search)
    start = time.perf_counter()
    for histogram in chosen:
        collector.get_entropy_threshold(histogram, LEVELS)
    return result(files, collected, tensors, chosen, time.perf_counter() - start)


def pytorch_quantization(o, spec):
    sys.path[:0] = [str(o.packages), str(ORACLE)]
    import oracle

    model = onnx.load(o.model)
    names, shape = activations(model)
    histograms = oracle.load()
    start = time.perf_counter()
    observer = session(exposing(model, names[1:]), o.threads)
    tensors = {n: histograms.HistogramCalibrator(8, None, False, num_bins=BINS, torch_hist=False) for n in names}
    for file in o.files:
        image = pixels(file, shape, spec)
        for name, values in zip(names, [image, *observer.run(names[1:], {names[0]: image})]):
            tensors[name].collect(oracle.Tensor(values))
    collected = time.perf_counter() - start
    chosen = some(tensors.values(), o.search)
    start = time.perf_counter()
    with numpy.errstate(divide="ignore", invalid="ignore"):
        for calibrator in chosen:
            calibrator.compute_amax("entropy")
    return result(o.files, collected, tensors, chosen, time.perf_counter() - start)


def result(files, collected, tensors, chosen, searched):
    return {"images": len(files), "collect_seconds": collected, "tensors": len(tensors), "searched": len(chosen),
            "search_seconds": searched * len(tensors) / len(chosen)}


def inference(o, spec, observed=False):
    """Runs prepared images, one on each thread at a time, which is the quickest."""
    model = onnx.load(o.model)
    names, shape = activations(model)
    runs = session(exposing(model, names[1:]) if observed else o.model, 1)
    images = [{names[0]: pixels(f, shape, spec)} for f in o.files[:32]]

    def run(n):
        until, count = n[1], 0
        while time.perf_counter() < until:
            runs.run(None, images[(n[0] + count) % len(images)])
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(o.threads) as pool:
        for seconds in (1, o.seconds):  # the first warms up
            start = time.perf_counter()
            count = sum(pool.map(run, [(n, start + seconds) for n in range(o.threads)]))
            rate = count / (time.perf_counter() - start)
    return {"images": count, "images_per_second": rate}


WAYS = {
    "onnxruntime": ort_calibrator,
    "pytorch-quantization": pytorch_quantization,
    "inference": inference,
    "observed": lambda o, spec: inference(o, spec, observed=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("spec", help="the input of a model.yaml, as JSON")
    parser.add_argument("files", type=pathlib.Path, help="a list of images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=10**9, help="the first of the list")
    parser.add_argument("--search", type=int, default=8, help="tensors whose search is timed (8)")
    parser.add_argument("--seconds", type=float, default=4, help="length of inference's measurement (4)")
    parser.add_argument("--packages", type=pathlib.Path, help="where nvidia-modelopt and scipy are")
    parser.add_argument("--work", type=pathlib.Path, default=".", help="folder for what ONNX Runtime writes")
    o = parser.parse_args()
    o.files = o.files.read_text().splitlines()[:o.images]
    measured = WAYS[o.way](o, json.loads(o.spec))
    measured["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
