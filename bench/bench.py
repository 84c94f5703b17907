"""Measures sightd against baselines that run in turn with it, and prints the
figures beside their targets as Markdown. docs/performance.md explains them.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

import cv2
import onnxruntime

import calibration
import delivery
import machine
import models
import report
import swap
from programs import ROOT, WORK, Daemon, baseline, broker, median, say, sightd

DEMO = ROOT / "demo/lite0"
VIDEO = ROOT / "demo/video.mp4"
EACH = f"file:{VIDEO}?loop=true&each=true"  # for the daemon
PREPARED = ["--threads", 1, "--source", f"file:{VIDEO}?each=true",
            "--frames", 440]  # for `sightd bench`: the whole video, so that labels change and there are events
QUIET = 0.2  # cores that other programs may keep busy
LONG = 100_000  # frames over which memory has to stay flat
FLAT = 2  # MiB


def where(_):
    """What this is measured on."""
    busy = machine.busy()
    versions = sightd("version")
    ort = next(b["version"] for b in versions["backends"] if b["name"] == "ort")
    worker = subprocess.run([ROOT / "bin/sightd-camera", "--version"], capture_output=True, text=True, check=True)
    section = report.Section("The machine", ["", ""], [
        ["Date", machine.today()],
        ["Processor", machine.processor()],
        ["Cores", str(len(machine.cores()))],
        ["Busy with other things before", f"{busy:.1f} cores"],
        ["System", machine.system()],
        ["sightd", f"{versions['version']}, {versions['go']}, ONNX Runtime {ort}"],
        ["sightd-camera", worker.stdout.strip().rpartition(", ")[2]],
        ["Python", f"{sys.version.split()[0]}, ONNX Runtime {onnxruntime.__version__}, OpenCV {cv2.__version__}"],
    ])
    if busy > QUIET:
        section.notes.append("**The machine was busy with other things: the figures say little.**")
    return section


def pipeline(options):
    """The whole daemon against the bare engine."""
    say("the pipeline against the bare engine")
    r = sightd("bench", DEMO, *PREPARED, "--rounds", options.rounds, "--round", f"{options.seconds}s")
    latency = [f"{r['latency_ms'][p]:.1f}" for p in ("p50", "p95", "p99")]
    added = r["added_cpu_share"]
    return report.Section("The pipeline against the bare engine", ["", "measured", "target"], [
        ["pipeline, frames a second", f"{r['pipeline_fps']:.1f}", ""],
        ["bare engine, frames a second", f"{r['engine_fps']:.1f}", ""],
        ["ratio", f"{r['ratio']:.3f}", report.at_least(r["ratio"], 0.95, "0.95")],
        ["pipeline, CPU time a frame", f"{r['cpu_ms_per_frame']:.2f} ms", ""],
        ["bare engine, CPU time a frame", f"{r['engine_cpu_ms_per_frame']:.2f} ms", ""],
        ["CPU time added by sightd", report.percent(added), report.below(added, 0.05, "5 %")],
        ["latency from capture to decision, p50, p95, p99", f"{', '.join(latency)} ms", ""],
        ["heap allocations a frame", f"{r['allocations_per_frame']:.2f}", ""],
        ["events delivered meanwhile", f"{r['events']}", ""],
        ["apart from all that: decoding, a frame", f"{r['decode_ms']:.2f} ms", ""],
        ["apart from all that: scaling, a frame", f"{r['scale_ms']:.2f} ms", ""],
    ])


def python(options):
    """The whole daemon against a script that does the same."""
    rows = []
    with broker() as port:
        for title, cores in (("all cores", None), ("one core for everything", {max(machine.cores())})):
            rows += against_python(options, port, title, cores)
    head = ["", "sightd", "Python script", "sightd ÷ Python", "target"]
    return report.Section("The whole daemon against a Python script", head, rows)


def against_python(options, port, title, cores):
    ours, theirs = [], []
    for i in range(options.rounds):
        say(f"sightd run and the Python script, {title}, round {i + 1} of {options.rounds}")
        with Daemon(WORK / "run", EACH, cores) as daemon:
            daemon.wait_ready()
            daemon.measure(1)  # warms up
            ours.append(daemon.measure(options.seconds))
            engine = daemon.engine()
        theirs.append(baseline(VIDEO, engine, port, options.seconds, cores))
    speed = median([a["fps"] / b["fps"] for a, b in zip(ours, theirs)])
    cpu = median([a["cpu_ms"] / b["cpu_ms"] for a, b in zip(ours, theirs)])
    return [
        side_by_side(f"frames a second, {title}", ours, theirs, "fps", speed, report.at_least(speed, 1, "1")),
        side_by_side(f"CPU ms a frame with decoding, {title}", ours, theirs, "cpu_ms", cpu, ""),
    ]


def side_by_side(title, ours, theirs, key, ratio, target):
    a, b = (f"{median([r[key] for r in side]):.1f}" for side in (ours, theirs))
    return [title, a, b, f"{ratio:.2f}", target]


def int8(options):
    """INT8 against FP32, model by model."""
    head = ["one thread", "scales", "FP32, frames a second", "INT8", "INT8 ÷ FP32", "target",
            "top-1 FP32", "INT8", "drop, points", "target", "same answers"]
    section = report.Section("INT8 against FP32", head, [compare(model, options) for model in models.present()])
    if machine.saturates():
        section.notes.append("This processor has no VNNI, so no target for the speed holds here: "
                             "INT8 takes a slower, exact way.")
    return section


def compare(model, options):
    say(f"INT8 against FP32: {model.name}")
    r = sightd("bench", model.release, "--threads", 1, "--against", "fp32", "--rounds", options.rounds,
               "--round", f"{options.seconds / 2}s")
    reference, speedup = r["reference"]["engine_fps"], r["reference"]["speedup"]
    target = ""
    if model.speedup and machine.vnni():
        target = report.at_least(speedup, model.speedup, f"{model.speedup}")
    elif model.speedup:
        target = f"{model.speedup} with VNNI"
    return [model.name, model.calibration, f"{reference:.0f}", f"{r['engine_fps']:.0f}", f"{speedup:.2f}", target,
            *accuracy(model)]


def accuracy(model):
    if model.index is None:
        return ["–", "–", "–", "", "–"]
    picked = ["--where", model.where] if model.where else []
    r = sightd("eval", model.release, "--images", model.images, "--index", model.index, *picked)
    agreement = report.percent(r["agreement"])
    if not model.labelled:
        return ["–", "–", "–", "", agreement]
    top1, reference, drop = r["top1"], r["reference"]["top1"], r["drop"]
    target = report.at_most(drop, model.drop, f"{100 * model.drop:g}") if model.drop else ""
    return [report.percent(reference, 2), report.percent(top1, 2), f"{100 * drop:.2f}", target, agreement]


def start(options):
    """From the daemon's start to the first classification, and its memory."""
    folder = WORK / "start"
    built, stored, memory = [], [], []
    for i in range(options.starts):
        say(f"start {i + 1} of {options.starts}")
        shutil.rmtree(folder, ignore_errors=True)
        with Daemon(folder, EACH) as daemon:
            built.append(daemon.wait_ready())
        with Daemon(folder, EACH) as daemon:
            stored.append(daemon.wait_ready())
            daemon.measure(options.seconds)
            memory.append(daemon.memory())
    return report.Section("Start and memory of `sightd run`", ["", "measured"], [
        ["start to first classification, the engine to be built", f"{median(built):.2f} s"],
        ["start to first classification, the engine stored", f"{median(stored):.2f} s"],
        ["resident: sightd with its broker", f"{median([ours for ours, _ in memory]):.0f} MiB"],
        ["resident: the camera's worker", f"{median([workers for _, workers in memory]):.0f} MiB"],
    ], [f"Medians of {options.starts}, files in the page cache."])


def flat(_):
    """Whether memory stays flat over many frames: of the quickest model at hand, since
    the pipeline is the same for all."""
    quickest = models.lenet().release if models.MATERIAL.exists() else DEMO
    once = ["bench", quickest, *PREPARED, "--rounds", 1, "--round"]
    seconds = int(1.1 * LONG / sightd(*once, "5s")["pipeline_fps"]) + 1
    say(f"memory over {LONG} frames: the bare engine and the pipeline, {seconds} s each")
    r = sightd(*once, f"{seconds}s")
    growth = r["rss_growth_mib"]
    return report.Section("Memory over time", ["", "measured", "target"], [
        ["model", quickest.parent.name if quickest.is_file() else quickest.name, ""],
        ["frames", f"{r['frames']}", report.at_least(r["frames"], LONG, f"{LONG}")],
        ["resident memory's growth", f"{growth:+.1f} MiB", report.below(growth, FLAT, f"{FLAT} MiB")],
        ["heap allocations a frame", f"{r['allocations_per_frame']:.2f}", ""],
    ])


def swaps(options):
    """The pauses of many swaps of releases, beside restarts."""
    return swap.section(WORK / "swap", options.swaps)


def swapped(_):
    """Whether memory stays as it is over many swaps."""
    return swap.memory(WORK / "swap")


SECTIONS = {
    "machine": where, "pipeline": pipeline, "python": python, "int8": int8,
    "calibration": calibration.calibration, "calibrated": calibration.accuracy, "start": start, "flat": flat,
    "swap": swaps, "swapped": swapped, "delivery": delivery.section,
}


LONGER = {"flat", "swapped"}  # with --long alone


def measure(name, options):
    """Returns a section's Markdown, and whether it could be measured."""
    try:
        return SECTIONS[name](options).markdown(), True
    except (RuntimeError, OSError, subprocess.SubprocessError) as err:
        say(f"{name}: {err}")
        return f"### {name}: not measured\n\n{err}\n", False


def chosen(options):
    """The sections that are asked for; the machine's always."""
    names = set(options.only.split(",")) if options.only else set(SECTIONS) - LONGER
    if names - set(SECTIONS):
        sys.exit(f"bench: --only: no {', '.join(sorted(names - set(SECTIONS)))}: want {', '.join(SECTIONS)}")
    if options.long:
        names |= LONGER
    return [n for n in SECTIONS if n in names | {"machine"}]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(SECTIONS)}, with commas between")
    parser.add_argument("--long", action="store_true", help=f"flat and swapped too: memory over {LONG} frames and {swap.LATE} swaps, for many minutes")
    parser.add_argument("--seconds", type=float, default=4, help="length of a measurement (4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, which take both sides in turn (5)")
    parser.add_argument("--starts", type=int, default=5, help="starts of the daemon, of each kind (5)")
    parser.add_argument("--swaps", type=int, default=100, help="swaps of releases, with each kind of source (100)")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--update", type=pathlib.Path, metavar="FILE", help="put it between the marks of this file too")
    return parser.parse_args()


def main():
    options = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    parts = [measure(name, options) for name in chosen(options)]
    text = "\n".join(part for part, _ in parts)
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    if options.update:
        report.replace(options.update, text)
    return 0 if all(done for _, done in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
