"""What `sightd classify` does, in Python with OpenCV and ONNX Runtime.

Reads a JSON list of {"model", "images", "input"} from standard input, `input`
as in a model.yaml, and writes for each the probabilities of each image.
"""

import json
import math
import os
import sys

# The wheel resizes with Intel's IPP where Debian's OpenCV, which has none, uses
# its own code: with INTER_CUBIC they differ by 1.
os.environ["OPENCV_IPP"] = "disabled"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it leaves files behind

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

FILTERS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
COLORS = {"rgb": cv2.COLOR_BGR2RGB, "bgr": None, "gray": cv2.COLOR_BGR2GRAY}


def whole(x, most):
    return min(max(math.floor(x + 0.5), 1), most)


def scale(image, width, height, how):
    h, w = image.shape[:2]
    flag = FILTERS[how["filter"]]
    if how["resize"] == "letterbox":
        s = min(width / w, height / h)
        nw, nh = whole(w * s, width), whole(h * s, height)
        out = np.full((height, width, 3), how["pad"], np.uint8)
        left, top = (width - nw) // 2, (height - nh) // 2
        out[top : top + nh, left : left + nw] = cv2.resize(image, (nw, nh), interpolation=flag)
        return out
    if how["resize"] == "crop":
        cw = whole(min(w, h * width / height) * how["crop"], w)
        ch = whole(min(h, w * height / width) * how["crop"], h)
        left, top = (w - cw) // 2, (h - ch) // 2
        image = image[top : top + ch, left : left + cw]
    return cv2.resize(image, (width, height), interpolation=flag)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def classify(session, path, how):
    put = session.get_inputs()[0]
    _, channels, height, width = put.shape
    image = scale(cv2.imread(path, cv2.IMREAD_COLOR), width, height, how)
    if COLORS[how["color"]] is not None:
        image = cv2.cvtColor(image, COLORS[how["color"]])
    pixels = image.reshape(height, width, channels).astype(np.float32)
    pixels = (pixels - np.float32(how["mean"])) / np.float32(how["std"])
    (scores,) = session.run(None, {put.name: pixels.transpose(2, 0, 1)[None]})
    return softmax(scores.ravel().astype(np.float64)).tolist()


cv2.setNumThreads(1)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
sessions = {}
answers = []
for case in json.load(sys.stdin):
    if case["model"] not in sessions:
        sessions[case["model"]] = onnxruntime.InferenceSession(case["model"], options)
    answers.append([classify(sessions[case["model"]], path, case["input"]) for path in case["images"]])
json.dump(answers, sys.stdout)
