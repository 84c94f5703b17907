"""The sections about calibration: `sightd calibrate` against what one would
calibrate with otherwise, and the accuracy of INT8 with its caches."""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import cv2

import machine
import models
import report
from programs import ROOT, SIGHTD, WORK, children, median, say, sightd

IMAGES = 200
COLLECT = 50  # of them for pytorch-quantization, whose memory doesn't grow with them
FASTER, SMALLER = 3, 0.2  # than either; than ONNX Runtime's calibrator
PASS, WHOLE = 0.5, 0.2  # of inference: with all activations as outputs; plain
DROP = 0.01  # of top-1, the most that INT8 may lose
PACKAGES = WORK / "packages"
REQUIREMENTS = ROOT / "requirements-bench.txt"


def calibration(options):
    """Speed and memory of calibrating."""
    install()
    files = photographs()
    head = ["", "images a second", "sightd ÷ this", "target", "peak memory, MiB", "sightd ÷ this", "target"]
    section = report.Section("Calibration by entropy", head, [], [
        f"{len(files.read_text().splitlines())} images of {'the material' if models.MATERIAL.exists() else 'the demo video'}, "
        f"{threads()} threads on all sides. Of the searches for thresholds in Python, some tensors' were timed "
        "and the others taken to last as long."])
    for model in models.calibrated():
        compare(model, files, options, section)
    return section


def compare(model, files, options, section):
    ours, plain, observed = [], [], []
    for i in range(options.rounds):
        say(f"calibrating {model.name}, round {i + 1} of {options.rounds}")
        ours.append(calibrate(model, files))
        plain.append(baseline("inference", model, files, "--seconds", options.seconds))
        observed.append(baseline("observed", model, files, "--seconds", options.seconds))
    rate, peak = (median([r[k] for r in ours]) for k in ("images_per_second", "peak_mib"))
    section.rows += [
        [f"**{model.name}**: `sightd calibrate --algorithm entropy`", f"{rate:.1f}", "", "", f"{peak:.0f}", "", ""],
        against_inference("plain FP32 inference", "images_per_second", ours, plain, WHOLE),
        against_inference("FP32 inference, all activations as outputs; sightd's pass over the images",
                          "histograms", ours, observed, PASS),
    ]
    for way, title in (("onnxruntime", "ONNX Runtime's calibrator, 2048 bins"),
                       ("pytorch-quantization", "pytorch-quantization's calibrator over ONNX Runtime")):
        say(f"calibrating {model.name} with {title}")
        count = ["--images", COLLECT] if way == "pytorch-quantization" else []
        theirs = baseline(way, model, files, "--packages", PACKAGES, "--work", WORK, *count)
        against(title, theirs, way, rate, peak, ours[0]["images"], section)


def against_inference(title, key, ours, theirs, target):
    ratio = median([a[key] / b["images_per_second"] for a, b in zip(ours, theirs)])
    rate = median([r["images_per_second"] for r in theirs])
    return [title, f"{rate:.1f}", f"{ratio:.2f}", report.at_least(ratio, target, f"{target}"), "", "", ""]


def against(title, theirs, way, rate, peak, images, section):
    """Adds a row for another calibrator, as if it had had all images, and says
    what that stands on."""
    collect = theirs["collect_seconds"] * images / theirs["images"]
    search = theirs["search_seconds"]
    faster = rate / (images / (collect + search))
    section.rows.append([title, f"{images / (collect + search):.2f}", f"{faster:.1f}",
                         report.at_least(faster, FASTER, f"{FASTER}"), f"{theirs['peak_mib']:.0f}",
                         f"{peak / theirs['peak_mib']:.2f}",
                         report.below(peak / theirs["peak_mib"], SMALLER, f"{SMALLER}") if way == "onnxruntime" else ""])
    note = (f"{title}: {collect:.0f} s to collect, {search:.0f} s to search {theirs['tensors']} tensors "
            f"({theirs['searched']} of them timed).")
    if way == "onnxruntime":
        note += " What it takes for tensors includes weights that the model stores as FP16 and casts."
    if theirs["images"] < images:
        note += f" Collecting was timed, and the memory measured, with {theirs['images']} images."
    section.notes.append(note)


def threads():
    return len(machine.cores())


def calibrate(model, files):
    """Runs sightd calibrate and returns how fast it was, its passes over the
    images by name, and the peak of its and its workers' memory."""
    command = [SIGHTD, "calibrate", model.release, "--images", files, "-o", WORK / "entropy.cache",
               "--algorithm", "entropy", "--threads", threads(), "--json"]
    process = subprocess.Popen([str(c) for c in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    peaks = {}
    while process.poll() is None:
        for pid in (process.pid, *quiet(children, process.pid, [])):
            peaks[pid] = max(peaks.get(pid, 0), quiet(peak, pid, 0))
        time.sleep(0.02)
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {process.returncode}: {err.strip()[-2000:]}")
    found = json.loads(out)
    return {"images": found["images"], "images_per_second": found["images_per_second"], "peak_mib": sum(peaks.values()),
            **{p["name"]: p["per_second"] for p in found["passes"]}}


def quiet(ask, pid, otherwise):
    """Asks about a process that may have ended meanwhile."""
    try:
        return ask(pid)
    except (FileNotFoundError, ProcessLookupError):
        return otherwise


def peak(pid):
    """The most MiB that a process has had resident so far."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0  # it has ended


def baseline(way, model, files, *arguments):
    """Runs calibration_baselines.py and returns what it measured."""
    command = [sys.executable, "-B", ROOT / "bench/calibration_baselines.py", way, model.file,
               json.dumps(model.spec), files, "--threads", threads(), *arguments]
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{way}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def install():
    """Installs what only this compares with, apart from the tests' packages; with
    the interpreter that made their environment, which has no pip."""
    done = PACKAGES / ".complete"
    if done.exists() and done.read_text() == REQUIREMENTS.read_text():
        return
    say("installing the packages to compare calibration with")
    shutil.rmtree(PACKAGES, ignore_errors=True)
    subprocess.run([sys._base_executable, "-m", "pip", "--disable-pip-version-check", "--python", sys.executable,
                    "install", "--quiet", "--no-deps", "--target", PACKAGES, "-r", REQUIREMENTS], check=True)
    done.write_text(REQUIREMENTS.read_text())


def photographs():
    """Writes a list of images: of the calibration photographs, or of as many frames
    of the demo's video."""
    if models.MATERIAL.exists():
        files = sorted((models.PHOTOS / "calib").iterdir())[:IMAGES]
    else:
        files = frames(WORK / "frames")
    path = WORK / "calibration.txt"
    path.write_text("".join(f"{file}\n" for file in files))
    return path


def frames(folder):
    folder.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoCapture(str(ROOT / "demo/video.mp4"))
    every = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // IMAGES)
    files = []
    for n in range(IMAGES * every):
        ok, frame = video.read()
        if not ok:
            break
        if n % every == 0:
            files.append(folder / f"{n:05}.jpg")
            cv2.imwrite(str(files[-1]), frame)
    return files


def accuracy(options):
    """INT8 with the caches that sightd calibrate makes."""
    head = ["", "algorithm", "kept in floating point", "top-1 FP32", "INT8", "drop, points", "target", "same answers",
            "INT8 ÷ FP32, one thread", "target"]
    if not models.MATERIAL.exists():
        return report.Section("INT8 with sightd's own caches", head, [], ["Not measured: no measuring material."])
    return report.Section("INT8 with sightd's own caches", head, [evaluate(m, options) for m in models.calibrated(True)])


def evaluate(model, options):
    """Calibrates a copy of a release, as it is or with --max-drop, and measures it."""
    say(f"INT8 with sightd's own cache: {model.name}")
    release = copy(model)
    keep = ["--max-drop", model.max_drop] if model.max_drop else []
    made = sightd("calibrate", release, "--images", models.PHOTOS / "calib", *keep,
                  "-o", release.parent / "calibration.cache", "--write")
    picked = ["--where", model.where] if model.where else []
    r = sightd("eval", release, "--images", model.images, "--index", model.index, *picked)
    quicker = speedup(release, options)
    target = ""
    if made["keep_fp"]:  # what that costs in speed mustn't be all that INT8 gained
        gained = machine.vnni() and speedup(model.release, options) > 1
        target = report.at_least(quicker, 1, "1") if gained else "INT8 isn't quicker here"
    row = [model.name, made["algorithm"], f"{len(made['keep_fp'])} layers" if made["keep_fp"] else "nothing"]
    if model.labelled:
        drop = round(r["drop"], 6)  # three of 300 images are one point
        row += [report.percent(r["reference"]["top1"], 2), report.percent(r["top1"], 2), f"{100 * drop:.2f}",
                report.at_most(drop, DROP, f"{100 * DROP:g}")]
    else:
        row += ["–", "–", "–", ""]
    return [*row, report.percent(r["agreement"]), f"{quicker:.2f}", target]


def speedup(release, options):
    """How many times as fast INT8 is as FP32."""
    r = sightd("bench", release, "--threads", 1, "--against", "fp32", "--rounds", options.rounds,
               "--round", f"{options.seconds / 2}s")
    return r["reference"]["speedup"]


def copy(model):
    """Copies a release's model.yaml, and what lies beside it in the demo's folder."""
    spec = model.release / "model.yaml" if model.release.is_dir() else model.release
    folder = WORK / "calibrated" / spec.parent.name
    shutil.rmtree(folder, ignore_errors=True)
    if model.release.is_dir():
        shutil.copytree(model.release, folder)
    else:
        folder.mkdir(parents=True)
        shutil.copy(spec, folder)
    return folder / "model.yaml"
