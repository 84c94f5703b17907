"""The models whose INT8 form is compared with FP32: the demo's, and those of
the measuring material where that lies beside the checkout."""

import dataclasses
import gzip
import json
import pathlib

import cv2
import numpy

from programs import ROOT, WORK, say, sightd

MATERIAL = ROOT.parent / "shared/material"
PHOTOS = MATERIAL / "images/imagenet"
MODELS = MATERIAL / "models"
NVDLA = MATERIAL / "caches/LeiWang1999+nvdla_loadables__lenet.calibaration.table"
DIGITS = WORK / "mnist"
CALIBRATION_DIGITS = 200  # the first ones

IMAGENET = {"resize": "crop", "crop": 0.875, "filter": "area"}
LITE0 = {**IMAGENET, "color": "rgb", "mean": [127], "std": [128]}  # demo/lite0/model.yaml
MNIST = {"color": "gray", "resize": "stretch", "filter": "area", "mean": [0], "std": [255]}


@dataclasses.dataclass
class Model:
    """A model to compare, and its labelled images."""
    name: str
    release: pathlib.Path  # the demo's folder, or a model.yaml
    calibration: str  # what the scales came from
    file: pathlib.Path  # the network
    spec: dict  # the input of its model.yaml
    images: pathlib.Path | None = None  # None: none here
    index: pathlib.Path | None = None
    where: str = "part=eval"
    labelled: bool = True  # else the index's classes mean nothing
    speedup: float = 0  # over FP32, wanted on a processor with VNNI; 0: nothing
    drop: float = 0  # of top-1, the most that is wanted; 0: nothing
    max_drop: float = 0  # of top-1 in points, when layers are kept in floating point to that end


def present():
    """Yields the models that can be measured here, prepared when their turn comes."""
    yield demo()
    if not MATERIAL.exists():
        say("no measuring material: the demo's model only, without accuracy")
        return
    yield squeezenet()
    yield mobilenet("MobileNet v2", "mobilenet_v2_1.0_224_deq", speedup=1.6)
    yield mobilenet("MobileNet v1 0.25", "mobilenet_v1_0.25_224_fp32")
    yield cifar()
    yield lenet()
    yield mnist()


def calibrated(accuracy=False):
    """Yields the models that calibrating is measured with: its speed, or the
    accuracy with what comes out."""
    yield demo()
    if not MATERIAL.exists():
        return
    yield squeezenet()
    if not accuracy:
        return
    yield cifar()
    yield mobilenet("MobileNet v2", "mobilenet_v2_1.0_224_deq", max_drop=1.0)
    yield mobilenet("MobileNet v1 0.25", "mobilenet_v1_0.25_224_fp32", max_drop=1.0)


def demo():
    found = {"images": PHOTOS, "index": PHOTOS / "index.tsv"} if MATERIAL.exists() else {}
    return Model("EfficientNet-Lite0 (demo)", ROOT / "demo/lite0", "max, the demo's own",
                 ROOT / "demo/lite0/model.onnx", LITE0, speedup=1.8, drop=0.01, **found)


def squeezenet():
    spec = {**IMAGENET, "color": "bgr", "mean": [104, 117, 123], "std": [1]}
    release, file = write("squeezenet1.1_fp32", spec, labels="imagenet1000.txt")
    return Model("SqueezeNet 1.1", release, "max", file, spec, PHOTOS, PHOTOS / "index.tsv", speedup=2.0)


def mobilenet(title, name, speedup=0.0, max_drop=0.0):
    spec = {**IMAGENET, "color": "rgb", "mean": [127.5], "std": [127.5]}
    release, file = write(name, spec, labels="imagenet1000.txt", first=1)
    return Model(title, release, "max", file, spec, PHOTOS, PHOTOS / "index.tsv", speedup=speedup, max_drop=max_drop)


def cifar():
    """There are no labelled images of CIFAR-10, so both forms answer over the
    photographs, and only whether they agree counts."""
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    spec = {"color": "rgb", "resize": "stretch", "filter": "area", "mean": mean, "std": std}
    release, file = write("cifar10_resnet20_fp32", spec)
    rows = [f"{path.relative_to(PHOTOS)}\t0" for path in sorted((PHOTOS / "eval").iterdir())]
    index = release.parent / "index.tsv"
    index.write_text("\n".join(["file\tclass", *rows]) + "\n")
    return Model("ResNet-20 (CIFAR-10)", release, "max", file, spec, PHOTOS, index, where="", labelled=False)


def lenet():
    write_digits()
    release, file = write("lenet_mnist_nvdla_fp32", MNIST, cache=NVDLA)
    return Model("LeNet (MNIST)", release, "entropy, NVDLA's own cache", file, MNIST, DIGITS, DIGITS / "index.tsv",
                 where="", drop=0.005)


def mnist():
    write_digits()
    release, file = write("mnist", MNIST, images=sorted(DIGITS.glob("*.png"))[:CALIBRATION_DIGITS])
    return Model("CNTK's MNIST", release, "max", file, MNIST, DIGITS, DIGITS / "index.tsv")


def write(name, spec, labels="", first=0, cache=None, images=None):
    """Writes the model.yaml of a model of the material, and a cache made of
    images (of the calibration photographs) unless there is one. Returns its path
    and the network's."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    file = MODELS / f"{name}.onnx"
    text = {
        "name": name.replace("_", "-"), "release": 1, "model": str(file),
        "calibration": str(cache or folder / "calibration.cache"),
        "precision": "int8", "input": spec, "output": {"first": first},
    }
    if labels:
        text["labels"] = str(MATERIAL / "labels" / labels)
    path = folder / "model.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in text.items()))
    if cache is None:
        say(f"calibrating {name}")
        listed = folder / "images.txt"
        listed.write_text("".join(f"{i}\n" for i in images or sorted((PHOTOS / "calib").iterdir())))
        sightd("calibrate", path, "--images", listed, "-o", text["calibration"], "--algorithm", "minmax")
    return path, file


def write_digits():
    """Writes MNIST's test digits as pictures with an index, once."""
    if (DIGITS / "index.tsv").exists():
        return
    say("writing MNIST's digits")
    DIGITS.mkdir(parents=True, exist_ok=True)
    pictures, digits = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), idx("t10k-labels-idx1-ubyte.gz", 8)
    rows = ["part\tfile\tclass"]
    for i, (picture, digit) in enumerate(zip(pictures, digits, strict=True)):
        name = f"{i:05}.png"
        cv2.imwrite(str(DIGITS / name), picture)
        rows.append(f"{'calib' if i < CALIBRATION_DIGITS else 'eval'}\t{name}\t{digit}")
    (DIGITS / "index.tsv").write_text("\n".join(rows) + "\n")


def idx(file, header):
    """Returns the bytes of one of MNIST's files behind its header."""
    return numpy.frombuffer(gzip.decompress((MATERIAL / "mnist" / file).read_bytes()), numpy.uint8, offset=header)
