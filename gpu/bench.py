"""Measures sightd on a GPU, against TensorRT alone and against its own CPU engine.
README.md beside this file explains what is measured. Every row is written as it
comes: Markdown into OUT/*.md, what the programs printed into OUT/raw.
"""

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

KIT = pathlib.Path(__file__).resolve().parent.parent
SIGHTD = KIT / "bin/sightd"
sys.path.insert(0, str(KIT / "bench"))
VIDEO = KIT / "demo/video.mp4"
POINT = 0.01
SOURCE = f"file:{VIDEO}?each=true"
DEMO = {"images": "", "labelled": False}


class Skipped(Exception):
    """The time is up."""


class Failed(Exception):
    """A program failed; the text is short enough for a table."""


class Bench:
    def __init__(self, options):
        self.options = options
        self.out = options.out
        self.raw = self.out / "raw"
        self.raw.mkdir(parents=True, exist_ok=True)
        self.until = time.monotonic() + options.budget
        self.major = int(options.tensorrt.partition(".")[0])
        self.models = models(os.environ.get("MODELS"), options.models)
        self.plans = {}
        self.bad = False
        self.lock = threading.Lock()

    def left(self):
        return self.until - time.monotonic()

    def run(self, name, *command, limit=600, env=None):
        """Runs a program, keeps what it printed under a name, returns its standard output."""
        timeout = min(limit, self.left())
        if timeout < 5:
            raise Skipped
        command = [str(c) for c in command]
        say(f"{name}: {' '.join(command)}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired as err:
            if self.left() < 5:
                raise Skipped from err
            raise Failed(f"no end after {timeout:.0f} s") from err
        except OSError as err:
            raise Failed(str(err)) from err
        (self.raw / f"{name}.out").write_text(done.stdout)
        (self.raw / f"{name}.err").write_text(" ".join(command) + "\n" + done.stderr)
        if done.returncode != 0:
            lines = [line for line in (done.stderr + done.stdout).strip().splitlines() if line.strip()]
            raise Failed(f"status {done.returncode}: {lines[-1][:160] if lines else 'without a word'}")
        return done.stdout

    def sightd(self, name, *arguments, **options):
        text = self.run(name, SIGHTD, *arguments, "--json", **options)
        try:
            return json.loads(text)
        except ValueError as err:
            raise Failed(f"no JSON: {err}") from err

    def table(self, file, title, *head):
        return Table(self.out / f"{file}.md", title, head)

    def tensorrt(self, quantization=None, batch=None):
        flags = ["--backend", "tensorrt"]
        if quantization:
            flags += ["--quantization", quantization]
        if batch:
            flags += ["--batch", batch]
        return flags + self.kept()

    def kept(self):
        """Flags by which all commands share engines: one built by one is loaded by the others."""
        flags = ["--engines", self.out / "engines"]
        if self.options.level is not None:
            flags += ["--optimization-level", self.options.level]
        return flags

    def quantizations(self):
        return ["explicit"] if self.major >= 11 else ["implicit", "explicit"]

    def plan(self, model, batch):
        """Builds an engine once and returns its path."""
        key = (model.name, batch)
        if key not in self.plans:
            path = self.out / f"{model.name}-{batch}.engine"
            self.sightd(f"build-{model.name}-{batch}", "build", model.yaml, "--backend", "tensorrt", "--batch", batch, *self.kept(), "-o", path)
            self.plans[key] = path
        return self.plans[key]

    def measured(self, name, test, plan, **env):
        """Runs a measuring test of package trt."""
        text = self.run(name, KIT / "test/trt.test", "-test.run", f"^{test}$", "-test.v",
                        env={"SIGHTD_TRT_TEST_PLAN": str(plan), "SIGHTD_TRT_TEST_LIBRARY": str(self.options.library), **env})
        found = re.search(r"^measured: (.*)$", text, re.M)
        if not found:
            raise Failed(f"{test} measured nothing")
        return json.loads(found.group(1))


class Table:
    """A Markdown table that grows in a file."""

    def __init__(self, path, title, head):
        self.path = path
        path.write_text(f"### {title}\n\n")
        self.row(*head)
        self.row(*["---"] + ["--:"] * (len(head) - 1))

    def row(self, *cells):
        self.text("| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |")

    def text(self, line):
        with self.path.open("a") as f:
            print(line, file=f)


class Model:
    def __init__(self, folder, measure):
        self.name = folder.name
        self.folder = folder
        self.yaml = folder / "model.yaml"
        bare = folder / "model-nokeep.yaml"
        self.bare = bare if bare.exists() and bare.read_text() != self.yaml.read_text() else None
        for key in ("images", "index", "calibration"):
            setattr(self, key, folder.parent / measure[key] if measure.get(key) else None)
        self.where = ["--where", measure["where"]] if measure.get("where") else []
        self.labelled = measure.get("labelled", True)


def models(folder, only):
    found = []
    if folder:
        for file in sorted(pathlib.Path(folder).glob("*/measure.json")):
            found.append(Model(file.parent, json.loads(file.read_text())))
    else:
        found.append(Model(KIT / "demo/lite0", DEMO))
    if only:
        found = [m for name in only.split(",") for m in found if m.name == name]
    return found


def machine(b):
    t = b.table("1-machine", f"The machine, TensorRT {b.options.tensorrt}", "", "")
    t.row("date", time.strftime("%Y-%m-%d %H:%M"))
    with contextlib.suppress(Failed):
        t.row("GPU", b.run("nvidia-smi", "nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader").strip())
    t.row("host", f"{os.cpu_count()} cores, {os.uname().release}")
    for command in ("version", "doctor"):
        try:
            found = b.sightd(command, command)
        except Failed as err:
            t.row(f"sightd {command}", err)
            continue
        if command == "version":
            t.row("sightd", found.get("version"))
        for c in found.get("checks", []):
            if "tensorrt" in json.dumps(c).lower() or "cuda" in json.dumps(c).lower():
                t.row(c.get("name"), f"{c.get('state')}: {c.get('found')}")


def accuracy(b):
    """INT8 on the GPU against the CPU's INT8 and FP32, with the same caches."""
    t = b.table("2-accuracy", "Top-1 in percent (where nothing is labelled: same answers as FP32)",
                "model", "keep_fp", "FP32", "INT8, CPU", *[f"INT8, {q}" for q in b.quantizations()], "wanted")
    cells = []
    for m in b.models:
        if not m.images:
            t.text(f"{m.name}: no images: MODELS names no folder.")
            continue
        cells += [(m, m.yaml, "with" if m.bare else "none")] + ([(m, m.bare, "without")] if m.bare else [])
    with concurrent.futures.ThreadPoolExecutor(b.options.jobs) as pool:
        def start(m, yaml, keep, way, flags):
            return pool.submit(b.sightd, f"eval-{m.name}-{keep}-{way}", "eval", yaml, *flags, "--images", m.images, "--index", m.index, *m.where)
        started = [(m, keep, [start(m, yaml, keep, "cpu", ["--backend", "ort"]),
                              *[start(m, yaml, keep, q, b.tensorrt(q)) for q in b.quantizations()]]) for m, yaml, keep in cells]
        for m, keep, futures in started:
            t.row(*judged(b, m, keep, [result(f) for f in futures]))


def result(future):
    try:
        return future.result()
    except Skipped:
        return "skipped: out of time"
    except Failed as err:
        return f"**failed**: {err}"


def judged(b, m, keep, results):
    """A row of the table, with what is wanted and whether it is so."""
    key = "top1" if m.labelled else "agreement"
    cpu, gpus = results[0], results[1:]
    reference = cpu["reference"]["top1"] if isinstance(cpu, dict) and m.labelled else None
    verdicts = []
    for q, gpu in zip(b.quantizations(), gpus):
        if not isinstance(gpu, dict):
            b.bad |= "failed" in gpu
            continue
        if keep != "without" and reference is not None:
            verdicts.append(verdict(b, q, "FP32", reference - gpu[key]))
        if keep != "with" and isinstance(cpu, dict):
            verdicts.append(verdict(b, q, "the CPU's", abs(cpu[key] - gpu[key])))
    shown = [f"{100 * r[key]:.2f}" if isinstance(r, dict) else r for r in results]
    return [m.name, keep, "–" if reference is None else f"{100 * reference:.2f}", *shown, "; ".join(verdicts)]


def verdict(b, q, against, off):
    ok = off <= POINT + 1e-9
    b.bad |= not ok
    return f"{q}: {100 * off:.2f} from {against}" + (": ok" if ok else ": **MISSED**")


def calibration(b):
    """Our entropy scales against those of TensorRT's own EntropyCalibrator2."""
    if b.major >= 11:
        return
    t = b.table("3-calibration", "Scales: ours ÷ TensorRT's EntropyCalibrator2, the same images", "model", "tensors", "equal", "median ratio",
                "least", "greatest", "within 5 %", "within 20 %", "ours only", "theirs only", "TensorRT seconds (others beside)", "INT8 with ours", "with theirs")
    with concurrent.futures.ThreadPoolExecutor(b.options.jobs) as pool:
        rows = {pool.submit(compared, b, m): m for m in b.models if m.calibration}
        for done in concurrent.futures.as_completed(rows):
            try:
                t.row(rows[done].name, *done.result())
            except Failed as err:
                b.bad = True
                t.row(rows[done].name, f"**failed**: {err}")


def compared(b, m):
    theirs, ours = b.out / f"{m.name}-tensorrt.cache", b.out / f"{m.name}-ours.cache"
    common = ["--images", m.calibration, "--algorithm", "entropy"]
    start = time.monotonic()
    b.sightd(f"calibrate-{m.name}-tensorrt", "calibrate", m.bare or m.yaml, *common, "--backend", "tensorrt", "-o", theirs)
    seconds = time.monotonic() - start
    b.sightd(f"calibrate-{m.name}-ours", "calibrate", m.bare or m.yaml, *common, "--backend", "ort", "-o", ours)
    d = b.sightd(f"diff-{m.name}", "cache", "diff", ours, theirs)
    ratios = [t["left"] / t["right"] for t in d["tensors"] if t["right"]]
    if not ratios:
        raise Failed("the caches have no tensor in common")
    within = [sum(abs(math.log(r)) <= math.log(1 + s) for r in ratios if r > 0) / len(ratios) for s in (0.05, 0.2)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(scored, [b, b], [m, m], ["ours", "theirs"], [ours, theirs]))
    return [len(ratios), d.get("identical", 0), f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f}", f"{max(ratios):.3f}",
            *[f"{100 * w:.0f} %" for w in within], len(d.get("only_left") or []), len(d.get("only_right") or []), f"{seconds:.0f}", *scores]


def scored(b, m, way, cache):
    """The accuracy on the GPU with a cache."""
    yaml = b.out / f"{m.name}-{way}.yaml"
    text = (m.bare or m.yaml).read_text()
    text = re.sub(r'^(model|labels): *"?([^"\n]+)"?', lambda f: f'{f[1]}: "{m.folder / f[2]}"', text, flags=re.M)
    text = re.sub(r"^(calibration|coverage):.*\n", "", text, flags=re.M)
    # TensorRT names no tensor that it fused away.
    yaml.write_text(f'{text}calibration: "{cache}"\ncoverage: 0.3\n')
    try:
        r = b.sightd(f"eval-{m.name}-cache-{way}", "eval", yaml, *b.tensorrt("implicit"), "--images", m.images, "--index", m.index, *m.where)
    except Failed as err:
        return f"failed: {err}"
    return f"{100 * r['top1' if m.labelled else 'agreement']:.2f}"


def start(b):
    """`sightd run` from its start to the first classification, twice."""
    t = b.table("4-start", "From the start of `sightd run` to the first classification", "", "seconds")
    m = next((m for m in b.models if m.name == "lite0"), b.models[0])
    state = b.out / "start"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    times = {}
    for which in ("first", "second", "third"):
        times[which] = started(b, m, state, which)
        t.row(f"{which} start" + (", the engine to be built" if which == "first" else ""), f"{times[which]:.2f}")
    load = b.measured("start-load", "TestMeasureRuns", b.plan(m, 1), SIGHTD_TRT_TEST_SECONDS="1")["load_ms"] / 1e3
    beyond = min(times["second"], times["third"]) - load
    b.bad |= beyond >= 2
    t.row("deserialising it alone", f"{load:.2f}")
    t.row("beyond that", f"{beyond:.2f}, wanted under 2: {'ok' if beyond < 2 else '**MISSED**'}")


def started(b, m, state, which):
    page = f"127.0.0.1:{free_port()}"
    config = state / "sightd.yaml"
    config.write_text(json.dumps({
        "device": "bench", "state_dir": str(state / "state"), "control_socket": str(state / "control.sock"),
        "cameras": [{"name": "video", "source": f"file:{VIDEO}?loop=true"}],
        "models": [{"name": m.name, "release": str(m.yaml), "while_building": "wait"}],
        "inference": {"backend": "tensorrt", **({} if b.options.level is None else {"optimisation": str(b.options.level)})}, "mqtt": {"embedded": f"127.0.0.1:{free_port()}"}, "http": {"listen": page},
    }))
    begin = time.monotonic()
    with (b.raw / f"start-{which}.err").open("w") as log, subprocess.Popen([SIGHTD, "run", "-c", config], stdout=log, stderr=log) as p:
        try:
            while not reached(page + "/readyz"):
                if p.poll() is not None:
                    raise Failed(f"sightd run ended with status {p.returncode}")
                if b.left() < 5:
                    raise Skipped
                if time.monotonic() - begin > 400:
                    raise Failed("not ready after 400 s")
                time.sleep(0.005)
            seconds = time.monotonic() - begin
            (b.raw / f"start-{which}.out").write_text(reached(page + "/api/v1/status"))
        finally:
            p.terminate()
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
    return seconds


def reached(url):
    try:
        with urllib.request.urlopen(f"http://{url}", timeout=5) as response:
            return response.read().decode() or "ok"
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return ""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def speed(b):
    """The pipeline against trtexec, or the bare loop, on the same engine."""
    trtexec = os.environ.get("TRTEXEC", "").replace("{}", b.options.tensorrt)
    trtexec = trtexec if trtexec and pathlib.Path(trtexec).exists() else ""
    bare = KIT / f"bin/enqueue-trt{b.major}"
    against = "trtexec" if trtexec else "bare loop"
    t = b.table("5-speed", f"Images a second and microseconds; compared with: {against}", "model", "batch", "pipeline", "engine in sightd", "lanes alone",
                "trtexec", "trtexec, more streams", "bare loop", f"pipeline ÷ {against}", "÷ more streams", "sightd, one run", "bare loop, one run", "trtexec", "wanted")
    for m in b.models:
        for batch in (1, 8):
            try:
                t.row(m.name, batch, *raced(b, m, batch, trtexec, bare if bare.exists() else None))
            except Failed as err:
                b.bad = True
                t.row(m.name, batch, f"**failed**: {err}")
    t.text("\nMedians of the rounds. trtexec has two streams, each with a second run waiting in it; with \"more streams\" as many as "
           "sightd has lanes, as the bare loop has. \"One run\": copy in, compute, copy out, wait, nothing else under way; trtexec's is its median latency with one stream.")


def raced(b, m, batch, trtexec, bare):
    plan = b.plan(m, batch)
    seconds = b.options.seconds
    sides = {k: [] for k in ("pipeline", "engine", "lanes", "trtexec", "trtexec_more", "bare", "ours_us", "bare_us", "trtexec_us", "ratio", "ratio_more")}
    name = f"speed-{m.name}-{batch}"
    shape = None
    for r in range(b.options.rounds):
        s = b.sightd(f"{name}-sightd-{r}", "bench", m.yaml, *b.tensorrt(batch=batch), "--source", SOURCE, "--frames", 64,
                     "--rounds", 1, "--round", f"{seconds}s")
        sides["pipeline"].append(s["pipeline_fps"])
        sides["engine"].append(s["engine_fps"])
        reference = 0
        if bare:
            e = json.loads(b.run(f"{name}-bare-{r}", bare, plan, "--batch", batch, "--lanes", s["lanes"], "--seconds", seconds, "--graphs"))
            shape = f"{e['input']}:{e['shape']}"
            sides["bare"].append(e["fps"])
            sides["bare_us"].append(e["latency_us"]["p50"])
            reference = e["fps"]
        if trtexec:
            # Two streams for throughput, each of which always has a run waiting; one for latency.
            fps, _ = executed(b, f"{name}-trtexec-{r}", trtexec, plan, batch, 2, shape)
            more, _ = executed(b, f"{name}-trtexec-more-{r}", trtexec, plan, batch, s["lanes"], shape)
            sides["trtexec_more"].append(more)
            sides["ratio_more"].append(s["pipeline_fps"] / more)
            _, latency = executed(b, f"{name}-trtexec-one-{r}", trtexec, plan, batch, 1, shape)
            sides["trtexec"].append(fps)
            sides["trtexec_us"].append(latency)
            reference = fps
        go = b.measured(f"{name}-lanes-{r}", "TestMeasureRuns", plan, SIGHTD_TRT_TEST_SECONDS=str(seconds), SIGHTD_TRT_TEST_BATCH=str(batch),
                        SIGHTD_TRT_TEST_LANES=str(s["lanes"]))
        sides["lanes"].append(go["fps"])
        sides["ours_us"].append(go["latency_us"]["p50"])
        if reference:
            sides["ratio"].append(s["pipeline_fps"] / reference)
    mid = {k: statistics.median(v) if v else None for k, v in sides.items()}
    wanted = []
    if mid["ratio"]:
        wanted.append(f"0.95: {'ok' if mid['ratio'] >= 0.95 else '**MISSED**'}")
        b.bad |= mid["ratio"] < 0.95
    reference = mid["trtexec_us"] or mid["bare_us"]
    if reference:
        late = mid["ours_us"] - reference
        wanted.append(f"within 50 µs: {late:+.0f}: {'ok' if late <= 50 else '**MISSED**'}")
        b.bad |= late > 50
    show = [("–" if mid[k] is None else f"{mid[k]:.{d}f}") for k, d in
            (("pipeline", 0), ("engine", 0), ("lanes", 0), ("trtexec", 0), ("trtexec_more", 0), ("bare", 0), ("ratio", 3), ("ratio_more", 3), ("ours_us", 1), ("bare_us", 1), ("trtexec_us", 1))]
    return [*show, "; ".join(wanted)]


def executed(b, name, trtexec, plan, batch, streams, shape):
    """trtexec's images a second and median latency in microseconds."""
    shapes = [f"--shapes={shape}"] if shape and batch > 1 else []
    command = [trtexec, f"--loadEngine={plan}", "--useCudaGraph", f"--infStreams={streams}", f"--duration={b.options.seconds}", *shapes]
    try:
        text = b.run(name, *command)
    except Failed:
        if not shapes:
            raise
        text = b.run(name, *command[:-1])  # an engine of one fixed batch takes no shapes
    qps = re.search(r"Throughput: ([\d.]+) qps", text)
    latency = re.search(r"\] Latency: .*?median = ([\d.]+) ms", text)
    if not qps or not latency:
        raise Failed("trtexec tells no throughput")
    return float(qps[1]) * batch, 1000 * float(latency[1])


def leaks(b):
    """Memory over 200 loads and unloads, and 20 loads that fail."""
    t = b.table("6-leaks", "Memory over loads and unloads, MiB", "model", "after 20", "after 220", "host's growth", "device's growth", "host's, 20 failed loads",
                "device's", "wanted")
    m = next((m for m in b.models if m.name == "lite0"), b.models[0])
    r = b.measured("leaks", "TestMeasureLoads", b.plan(m, 1))
    grown = [r[k] for k in ("host_growth_mib", "device_growth_mib", "host_growth_failed_mib", "device_growth_failed_mib")]
    ok = all(g < 5 for g in grown)
    b.bad |= not ok
    first, last = r["every_20"][0], r["every_20"][-1]
    t.row(m.name, *[f"{x['host_mib']:.0f} host, {x['device_mib']:.0f} device" for x in (first, last)], *[f"{g:+.1f}" for g in grown],
          f"none (under 5): {'ok' if ok else '**MISSED**'}")


def swap(b):
    """The longest pause of swaps of releases, each with an engine of its own to be built,
    beside restarts; and the daemon's memory over them."""
    import swap as cpu  # of the folder bench, which measures the same on the CPU

    lite0 = KIT / "demo/lite0"
    level = {} if b.options.level is None else {"optimisation": str(b.options.level)}
    change = {"inference": {"backend": "tensorrt", **level}, "models": [{"name": "lite0", "release": str(lite0), "while_building": "wait"}]}
    t = b.table("7-swap", "Swaps of releases", *cpu.HEAD)
    for source in cpu.SOURCES:
        if b.left() < 60:
            raise Skipped
        folder = b.out / "swap"
        # Half of what is left for each source that is still to come.
        until = time.monotonic() + b.left() / (1 if source == list(cpu.SOURCES)[-1] else 2) - 30
        try:
            m = cpu.measure(folder, cpu.SOURCES[source], b.options.swaps, 3, lite0, change, memory=(cpu.EARLY, b.options.swaps),
                            ready=min(400, b.left()), until=until)
        except RuntimeError as err:
            raise Failed(str(err)[-300:]) from err
        finally:
            if (folder / "sightd.log").exists():
                shutil.copy(folder / "sightd.log", b.raw / f"swap-{source.split()[0].replace('=', '-')}.err")
            shutil.rmtree(folder, ignore_errors=True)
        for row in cpu.rows(source, m):
            b.bad |= "MISSED" in row[-1]
            t.row(*row)
        for swaps, mib in m.memory.items():
            t.row(f"resident after {swaps} swaps", f"{mib:.1f} MiB", "", "")


PARTS = {"machine": machine, "accuracy": accuracy, "calibration": calibration, "leaks": leaks, "speed": speed, "start": start, "swap": swap}


def say(text):
    print(f"gpu-bench: {text[:300]}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--tensorrt", required=True, metavar="VERSION")
    parser.add_argument("--library", type=pathlib.Path, required=True, metavar="FILE", help="sightd's library for it")
    parser.add_argument("--budget", type=float, default=3600, metavar="SECONDS", help="what hasn't been measured by then is skipped (3600)")
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--models", metavar="NAMES", help="these models only, in this order")
    parser.add_argument("--level", type=int, choices=range(6), help="TensorRT's builder optimisation level: the lower, the quicker builds are")
    parser.add_argument("--jobs", type=int, default=4, help="accuracies and calibrations measured at once (4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed, which take all sides in turn (3)")
    parser.add_argument("--swaps", type=int, default=100, help="swaps of releases, with each kind of source (100)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement of the speed (3)")
    options = parser.parse_args()
    names = set(options.only.split(",")) if options.only else set(PARTS)
    if names - set(PARTS):
        parser.error(f"--only: no {', '.join(sorted(names - set(PARTS)))}: want {', '.join(PARTS)}")
    options.out = options.out.resolve()
    b = Bench(options)
    if not b.models:
        sys.exit("gpu-bench: no such models")
    notes = (b.out / "9-notes.md").open("w")
    for name, part in PARTS.items():
        if name not in names:
            continue
        begin = time.monotonic()
        try:
            part(b)
            say(f"{name}: {time.monotonic() - begin:.0f} s")
        except Skipped:
            print(f"\n**{name}: skipped, or ended before its end: the {options.budget:.0f} s are over.**", file=notes, flush=True)
        except (Failed, KeyError, ValueError, OSError) as err:
            b.bad = True
            say(f"{name}: not measured: {type(err).__name__}: {err}")
            print(f"\n**{name}: not measured: {type(err).__name__}: {err}**", file=notes, flush=True)
    notes.close()
    for plan in b.plans.values():
        plan.unlink(missing_ok=True)
    return 1 if b.bad else 0


if __name__ == "__main__":
    sys.exit(main())
