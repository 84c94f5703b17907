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

import machine
import models
import report
from programs import ROOT, WORK, Daemon, baseline, broker, median, say, sightd

DEMO = ROOT / "demo/lite0"
VIDEO = ROOT / "demo/video.mp4"
EACH = f"file:{VIDEO}?loop=true&each=true"
QUIET = 0.2  # cores that others may keep busy
LONG = 100_000  # frames over which memory has to stay flat


def where(_):
    """What this was measured on."""
    busy = machine.busy()
    versions = sightd("version")
    ort = next(b["version"] for b in versions["backends"] if b["name"] == "ort")
    worker = subprocess.run([ROOT / "bin/sightd-camera", "--version"], capture_output=True, text=True, check=True)
    rows = [
        ["Date", machine.today()],
        ["Processor", machine.processor()],
        ["Cores", str(machine.cores())],
        ["Busy with other things before", f"{busy:.1f} cores"],
        ["System", machine.system()],
        ["sightd", f"{versions['version']}, {versions['go']}, ONNX Runtime {ort}"],
        ["sightd-camera", worker.stdout.strip().rpartition(", ")[2]],
        ["Python", f"{sys.version.split()[0]}, ONNX Runtime {onnxruntime.__version__}, OpenCV {cv2.__version__}"],
    ]
    notes = []
    if busy > QUIET:
        notes.append("**The machine was busy with other things: the figures say little.**")
    return report.Section("The machine", ["", ""], rows, notes)


def pipeline(options):
    """The whole daemon against the bare engine."""
    say("the pipeline against the bare engine")
    r = sightd("bench", DEMO, "--threads", 1, "--rounds", options.rounds, "--round", f"{options.seconds}s",
               "--source", f"file:{VIDEO}?each=true")
    latency = r["latency_ms"]
    return report.Section("The pipeline against the bare engine", ["", "measured", "target"], [
        ["pipeline, frames a second", f"{r['pipeline_fps']:.1f}", ""],
        ["bare engine, frames a second", f"{r['engine_fps']:.1f}", ""],
        ["ratio", f"{r['ratio']:.3f}", report.at_least(r["ratio"], 0.95, "0.95")],
        ["CPU time a frame: pipeline, bare engine", f"{r['cpu_ms_per_frame']:.2f}, {r['engine_cpu_ms_per_frame']:.2f} ms", ""],
        ["CPU time added by sightd", report.percent(r["added_cpu_share"]), report.below(r["added_cpu_share"], 0.05, "5 %")],
        ["latency from capture to decision, p50, p95, p99", f"{latency['p50']:.1f}, {latency['p95']:.1f}, {latency['p99']:.1f} ms", ""],
        ["apart from that: decoding, scaling a frame", f"{r['decode_ms']:.2f}, {r['scale_ms']:.2f} ms", ""],
        ["resident memory", f"{r['rss_mib']:.0f} MiB", ""],
        ["heap allocations a frame", f"{r['allocations_per_frame']:.2f}", ""],
    ])


def python(options):
    """The whole daemon against a script that does the same."""
    rows = []
    cores = sorted(machine.available())
    with broker() as port:
        for title, share in (("all cores", None), ("one core for everything", {cores[-1]})):
            rows += against_python(options, port, title, share)
    notes = ["`sightd run` decodes in a process of its own, so it uses a second core where there is one; "
             "the inference has one thread on both sides."]
    head = ["", "sightd", "Python script", "sightd ÷ Python", "target"]
    return report.Section("The whole daemon against a Python script", head, rows, notes)


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
    ratio = median([a["fps"] / b["fps"] for a, b in zip(ours, theirs)])
    cpu = median([a["cpu_ms"] / b["cpu_ms"] for a, b in zip(ours, theirs)])
    return [
        compared(f"frames a second, {title}", ours, theirs, "fps", 1, ratio, report.at_least(ratio, 1, "1")),
        compared(f"CPU ms a frame, decoding included, {title}", ours, theirs, "cpu_ms", 2, cpu, ""),
    ]


def compared(title, ours, theirs, key, digits, ratio, target):
    a, b = (f"{median([r[key] for r in side]):.{digits}f}" for side in (ours, theirs))
    return [title, a, b, f"{ratio:.2f}", target]


def int8(options):
    """INT8 against FP32, model by model."""
    rows = [compare(model, options) for model in models.present()]
    head = ["one thread", "scales", "FP32, frames a second", "INT8", "speed-up", "target", "top-1 FP32", "INT8", "drop, points",
            "target", "same answers"]
    notes = []
    if not machine.vnni():
        notes.append("This processor has no VNNI, so no target for the speed holds here: INT8 takes the slower, exact way.")
    return report.Section("INT8 against FP32", head, rows, notes)


def compare(model, options):
    say(f"INT8 against FP32: {model.name}")
    r = sightd("bench", model.release, "--threads", 1, "--against", "fp32", "--rounds", options.rounds,
               "--round", f"{options.seconds / 2}s")
    speedup = r["reference"]["speedup"]
    target = ""
    if model.speedup:
        target = report.at_least(speedup, model.speedup, f"{model.speedup}") if machine.vnni() else f"{model.speedup} with VNNI"
    return [model.name, model.calibration, f"{r['reference']['engine_fps']:.0f}", f"{r['engine_fps']:.0f}", f"{speedup:.2f}",
            target, *accuracy(model)]


def accuracy(model):
    if model.index is None:
        return ["–", "–", "–", "", "–"]
    picked = ["--where", model.where] if model.where else []
    r = sightd("eval", model.release, "--images", model.images, "--index", model.index, *picked)
    agreement = report.percent(r["agreement"])
    if not model.labelled:
        return ["–", "–", "–", "", agreement]
    target = report.below(r["drop"], model.drop, f"{100 * model.drop:g}") if model.drop else ""
    return [report.percent(r["reference"]["top1"], 2), report.percent(r["top1"], 2), f"{100 * r['drop']:.2f}", target, agreement]


def start(options):
    """From the daemon's start to the first classification."""
    folder = WORK / "start"
    built, stored, resident = [], [], []
    for i in range(options.starts):
        say(f"start {i + 1} of {options.starts}")
        shutil.rmtree(folder, ignore_errors=True)
        for times in (built, stored):
            with Daemon(folder, EACH) as daemon:
                times.append(daemon.wait_ready())
                if times is stored:
                    daemon.measure(1)
                    resident.append(daemon.memory())
    return report.Section("Start and memory of `sightd run`", ["", "measured"], [
        ["start to first classification, engine to be built", f"{median(built):.2f} s"],
        ["start to first classification, engine stored", f"{median(stored):.2f} s"],
        ["resident: sightd with its broker", f"{median([a for a, _ in resident]):.0f} MiB"],
        ["resident: its camera worker", f"{median([b for _, b in resident]):.0f} MiB"],
    ], [f"Medians of {options.starts} starts, files in the page cache."])


def flat(options):
    """Whether memory stays flat over many frames."""
    once = ["bench", DEMO, "--threads", 1, "--rounds", 1, "--source", f"file:{VIDEO}?each=true", "--round"]
    seconds = int(1.1 * LONG / sightd(*once, "5s")["pipeline_fps"]) + 1
    say(f"memory over {LONG} frames: the bare engine and the pipeline, {seconds} s each")
    r = sightd(*once, f"{seconds}s")
    return report.Section("Memory over time", ["", "measured", "target"], [
        ["frames", f"{r['frames']}", report.at_least(r["frames"], LONG, f"{LONG}")],
        ["resident at the end", f"{r['rss_mib']:.1f} MiB", ""],
        ["growth from the first frame to the last", f"{r['rss_growth_mib']:+.1f} MiB", report.below(r["rss_growth_mib"], 2, "2 MiB")],
        ["heap allocations a frame", f"{r['allocations_per_frame']:.2f}", ""],
    ])


SECTIONS = {"machine": where, "pipeline": pipeline, "python": python, "int8": int8, "start": start, "flat": flat}
SLOW = {"flat"}


def chosen(options):
    """The sections that are asked for; the machine's always."""
    names = options.only.split(",") if options.only else [n for n in SECTIONS if n not in SLOW or options.long]
    unknown = set(names) - set(SECTIONS)
    if unknown:
        sys.exit(f"bench: --only: no {', '.join(sorted(unknown))}: want {', '.join(SECTIONS)}")
    return [n for n in SECTIONS if n in names or n == "machine"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(SECTIONS)}, with commas between")
    parser.add_argument("--long", action="store_true", help=f"memory over {LONG} frames too: takes minutes")
    parser.add_argument("--seconds", type=float, default=4, help="length of a measurement (4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, which take both sides in turn (5)")
    parser.add_argument("--starts", type=int, default=5, help="starts of the daemon of each kind (5)")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--update", type=pathlib.Path, metavar="FILE", help="put the report between the marks of this file too")
    return parser.parse_args()


def main():
    options = arguments()
    names = chosen(options)
    WORK.mkdir(parents=True, exist_ok=True)
    text = "\n".join(SECTIONS[name](options).markdown() for name in names)
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    if options.update:
        report.replace(options.update, text)


if __name__ == "__main__":
    main()
