"""Measures what a swap of releases costs: the longest pause between two
classifications while releases come one after the other, beside a restart instead,
and memory over many swaps. With Python's library alone, since GPU machines have no
more (gpu/bench.py measures the same).
"""

import contextlib
import dataclasses
import datetime
import json
import math
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import threading
import time

import report
from programs import READY, ROOT, SIGHTD, STOP, Daemon, end, resident, say, wait

VIDEO = ROOT / "demo/video.mp4"
RATE = 30  # frames a second at most; the video has 25
SOURCES = {"25 frames a second": f"file:{VIDEO}?loop=true", "each=true": f"file:{VIDEO}?loop=true&each=true"}
PAUSE = 2  # intervals that a swap may take
EARLY, LATE, FLAT = 10, 300, 0.05  # swaps, and by how much memory may have grown between
QUIET = 15  # seconds without swaps
SETTLE = 3  # seconds after a start, and before memory is read
TOPIC = "sightd/bench/video/events"


class Swapped(Daemon):
    """The daemon with every frame an event, and releases taken without signatures,
    confirmed after a second."""

    def __init__(self, folder, source, model=ROOT / "demo/lite0", change=None):
        self.model, self.change = model, change or {}
        super().__init__(folder, source)

    def _config(self, source):
        c = super()._config(source)
        self.port = int(c["mqtt"]["embedded"].rpartition(":")[2])
        c["cameras"][0]["fps"] = RATE
        c["models"] = [{"name": "lite0", "release": str(self.model)}]
        c["events"] = {"mode": "every", "min_score": 0, "hold": "0s", "max_rate": 0}
        c["releases"] = {"require_signature": False, "probation": "1s", "inbox": str(self.folder / "inbox")}
        return {**c, **self.change}


class Events(threading.Thread):
    """Subscribes to the events of every frame, also after the broker went and came back."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.address, self.raw, self.over = ("127.0.0.1", port), [], threading.Event()
        self.connected = threading.Event()

    def run(self):
        while not self.over.is_set():
            with contextlib.suppress(OSError, EOFError), socket.create_connection(self.address, 5) as s:
                self._listen(s, s.makefile("rb"))
            self.connected.clear()
            time.sleep(0.005)

    def _listen(self, s, stream):
        """MQTT 3.1.1, QoS 0."""
        topic = TOPIC.encode()
        s.sendall(packet(0x10, text(b"MQTT") + bytes([4, 2, 0, 0]) + text(b"swap")))
        s.sendall(packet(0x82, bytes([0, 1]) + text(topic) + b"\0"))
        while not self.over.is_set():
            kind, body = received(stream)
            if kind == 0x90:
                self.connected.set()
            elif kind & 0xF0 == 0x30:
                self.raw.append(body[2 + len(topic):])

    def answers(self, begin=0):
        return [Answer.of(raw) for raw in self.raw[begin:]]


def text(b):
    return len(b).to_bytes(2, "big") + b


def packet(kind, body):
    size, n = b"", len(body)
    while True:
        n, low = divmod(n, 128)
        size += bytes([low | (128 if n else 0)])
        if not n:
            return bytes([kind]) + size + body


def received(stream):
    kind, size, shift = stream.read(1), 0, 0
    if not kind:
        raise EOFError
    while True:
        b = stream.read(1)[0]
        size |= (b & 127) << shift
        shift += 7
        if b < 128:
            break
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return kind[0], body


@dataclasses.dataclass
class Answer:
    time: float  # seconds since 1970
    seq: int
    release: int
    engine: str

    @classmethod
    def of(cls, raw):
        e = json.loads(raw)
        at = datetime.datetime.fromisoformat(e["time"].replace("Z", "+00:00")).timestamp()
        return cls(at, e["data"]["frame"]["seq"], e["data"]["model"]["release"], e["data"]["model"]["engine"])


class Releases:
    """Makes releases of a model, each with an engine of its own: the scales
    of its calibration cache differ from those before by the least that they can."""

    def __init__(self, folder, model):
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        shutil.copytree(model, folder / "model")
        self.yaml = folder / "model/model.yaml"
        self.cache = next(iter((folder / "model").glob("*.cache")))
        self.scales = self.cache.read_text()
        self.number = 1

    def next(self):
        """Packs the next release and returns its file."""
        self.number += 1
        self.yaml.write_text(re.sub(r"(?m)^release:.*$", f"release: {self.number}", self.yaml.read_text()))
        # All, since the graph leaves out those that are between fused layers.
        self.cache.write_text(re.sub(r"(?m)(?<=: )[0-9a-f]{8}$", lambda s: f"{int(s[0], 16) + self.number:08x}", self.scales))
        out = self.folder / "release.tar.zst"
        out.unlink(missing_ok=True)
        run("release", "pack", self.folder / "model", "-o", out)
        return out


def run(*arguments):
    command = [str(a) for a in (SIGHTD, *arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")


def gaps(answers):
    """Seconds between each answer and the next."""
    return [b.time - a.time for a, b in zip(answers, answers[1:])]


def within(answers, begin, stop):
    """Those of a span of time, and the one before."""
    i = next((i for i, a in enumerate(answers) if a.time >= begin), len(answers))
    return [a for a in answers[max(i - 1, 0):] if a.time <= stop]


@dataclasses.dataclass
class Measured:
    """What the swaps, or restarts, of one source gave."""
    usual: float  # seconds between two answers, the median without swaps
    quiet: float  # the longest without swaps
    pauses: list  # the longest of each swap, from its installation until it was confirmed
    change: list  # between the last answer of the old release and the first of the new one
    missing: int
    doubled: int
    restarts: list
    memory: dict  # MiB by count of swaps

    def ratio(self, pauses):
        return max(pauses) / self.usual


def measure(folder, source, swaps, restarts, model=ROOT / "demo/lite0", change=None, memory=(), ready=READY, until=math.inf):
    """Swaps so many releases, one after the other, and then restarts so often. From
    until on (time.monotonic) no other swap begins."""
    shutil.rmtree(folder, ignore_errors=True)
    releases = Releases(folder / "releases", model)
    arguments = (folder, source, model, change)
    daemon = Swapped(*arguments)
    events = None
    try:
        daemon.wait_ready(ready)
        events = Events(daemon.port)
        events.start()
        if not events.connected.wait(10):
            raise RuntimeError("no subscription to the events")
        time.sleep(SETTLE)
        begin = time.time()
        time.sleep(QUIET)
        spans, quiet, found = [], (begin, time.time()), {}
        for i in range(1, swaps + 1):
            if time.monotonic() > until:
                break
            spans.append(swap(daemon, releases))
            if i in memory:
                time.sleep(SETTLE)
                found[i] = resident(daemon.process.pid)
                say(f"{i} swaps: {found[i]:.1f} MiB")
        answers = events.answers()
        m = judged(answers, quiet, spans, found)
        if restarts:
            m.restarts, daemon = restarted(daemon, events, restarts, arguments)
        return m
    finally:
        if events:
            events.over.set()
        end(daemon.process)


def swap(daemon, releases):
    """Installs the next release and waits until it is confirmed; when that began and ended."""
    archive = releases.next()
    time.sleep(0.2)  # packing isn't the daemon's
    begin = time.time()
    run("release", "install", archive, "-c", daemon.folder / "sightd.yaml", "--wait")
    return begin, time.time()


def judged(answers, quiet, spans, memory):
    if not spans:
        raise RuntimeError("there was no time for a swap")
    still = gaps(within(answers, *quiet))
    pauses, change = [], []
    for begin, stop in spans:
        part = within(answers, begin, stop)
        pauses.append(max(gaps(part)))
        change += [b.time - a.time for a, b in zip(part, part[1:]) if a.release != b.release]
    if len(change) != len(spans):
        raise RuntimeError(f"{len(spans)} releases were confirmed, but the events changed {len(change)} times from one to another")
    if len({a.engine for a in answers}) <= len(spans):
        raise RuntimeError("releases had the same engine as others, so nothing was built")
    steps = [b.seq - a.seq for a, b in zip(answers, answers[1:])]
    return Measured(statistics.median(still), max(still), pauses, change,
                    sum(s - 1 for s in steps if s > 1), sum(s < 1 for s in steps), [], memory)


def restarted(daemon, events, times, arguments):
    """Restarts the daemon, as an operator would without swaps; the pauses, and the
    daemon that runs in the end."""
    pauses = []
    for _ in range(times):
        daemon.process.terminate()
        daemon.process.wait(STOP)
        time.sleep(0.05)  # the last events come
        before = events.answers(len(events.raw) - 1)[0].time
        count = len(events.raw)
        daemon = again(daemon, arguments)
        wait(lambda: len(events.raw) > count + 2 * RATE, 60, "no events after a restart")
        pauses.append(events.answers(count)[0].time - before)
    return pauses, daemon


def again(old, arguments):
    """The same daemon with the same configuration."""
    with old.log.open("a") as log:
        old.started = time.monotonic()
        old.process = subprocess.Popen([SIGHTD, "run", "-c", old.folder / "sightd.yaml"], cwd=ROOT, stdout=log, stderr=log)
    return old


def ms(seconds):
    return f"{1000 * seconds:.0f} ms"


def rows(title, m):
    """A source's rows of a table with the columns: what, measured, in usual intervals, target."""
    ratio = m.ratio(m.pauses)
    out = [
        [f"**{title}**: usual interval", ms(m.usual), "", ""],
        ["longest without swaps", ms(m.quiet), f"{m.quiet / m.usual:.1f}", ""],
        [f"longest pause, {len(m.pauses)} swaps", ms(max(m.pauses)), f"{ratio:.1f}", report.at_most(ratio, PAUSE, f"{PAUSE}")],
        ["the same, median of the swaps", ms(statistics.median(m.pauses)), f"{statistics.median(m.pauses) / m.usual:.1f}", ""],
        ["from the old release's last answer to the new one's first, longest", ms(max(m.change)), f"{m.ratio(m.change):.1f}", ""],
    ]
    if m.restarts:
        out += [[f"a restart instead, shortest of {len(m.restarts)}", ms(min(m.restarts)), f"{min(m.restarts) / m.usual:.0f}", ""],
                ["the same, longest", ms(max(m.restarts)), f"{m.ratio(m.restarts):.0f}", ""]]
    out += [["frames without an answer", str(m.missing), "", "0: " + ("ok" if not m.missing else "**MISSED**") if "each" in title else ""],
            ["frames answered twice", str(m.doubled), "", "0: " + ("ok" if not m.doubled else "**MISSED**")]]
    return out


HEAD = ["", "measured", "in usual intervals", "target"]


def section(folder, swaps=100, restarts=5):
    """The longest pause of many swaps, of each kind of source."""
    table = report.Section("Swaps of releases", HEAD, [])
    for title, source in SOURCES.items():
        say(f"{swaps} swaps and {restarts} restarts, {title}")
        table.rows += rows(title, measure(folder, source, swaps, restarts))
    return table


def memory(folder, late=LATE, **options):
    """Resident memory after many swaps."""
    say(f"memory over {late} swaps")
    m = measure(folder, SOURCES["25 frames a second"], late, 0, memory=(EARLY, late), **options)
    grown = m.memory[late] / m.memory[EARLY] - 1
    return report.Section("Memory over swaps", ["", "measured", "target"], [
        [f"resident after {EARLY} swaps", f"{m.memory[EARLY]:.1f} MiB", ""],
        [f"resident after {late} swaps", f"{m.memory[late]:.1f} MiB", ""],
        ["growth", report.percent(grown), report.at_most(grown, FLAT, f"{100 * FLAT:g} %")],
    ])
