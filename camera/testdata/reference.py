"""What camera.Geometry describes, in Python with OpenCV.

Reads a JSON list of {"path", "width", "height", "resize", "filter", "crop",
"pad", "region"} from standard input and writes the pictures, packed RGB, one
after the other to standard output.
"""
import json
import math
import os
import sys

# The wheel resizes with Intel's IPP where Debian's OpenCV, which has none, uses
# its own code: with INTER_CUBIC they differ by 1.
os.environ["OPENCV_IPP"] = "disabled"

import cv2  # noqa: E402
import numpy as np  # noqa: E402

FILTERS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def whole(x, most):
    return min(max(math.floor(x + 0.5), 1), most)


def edges(n, at, size):
    low = min(math.floor(at * n + 0.5), n - 1)
    return low, max(low + 1, min(math.floor((at + size) * n + 0.5), n))


def scale(image, g):
    width, height = g["width"], g["height"]
    x, y, w, h = g["region"]
    x0, x1 = edges(image.shape[1], x, w)
    y0, y1 = edges(image.shape[0], y, h)
    image = image[y0:y1, x0:x1]
    h, w = image.shape[:2]
    flag = FILTERS[g["filter"]]
    if g["resize"] == "letterbox":
        s = min(width / w, height / h)
        nw, nh = whole(w * s, width), whole(h * s, height)
        out = np.full((height, width, 3), g["pad"], np.uint8)
        left, top = (width - nw) // 2, (height - nh) // 2
        out[top : top + nh, left : left + nw] = cv2.resize(image, (nw, nh), interpolation=flag)
        return out
    if g["resize"] == "crop":
        cw = whole(min(w, h * width / height) * g["crop"], w)
        ch = whole(min(h, w * height / width) * g["crop"], h)
        left, top = (w - cw) // 2, (h - ch) // 2
        image = image[top : top + ch, left : left + cw]
    return cv2.resize(image, (width, height), interpolation=flag)


cv2.setNumThreads(1)
for case in json.load(sys.stdin):
    image = cv2.imread(case["path"], cv2.IMREAD_COLOR)
    picture = scale(image, case)
    sys.stdout.buffer.write(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).tobytes())
