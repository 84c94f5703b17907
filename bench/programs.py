"""Runs what is measured: sightd's commands, the daemon, the script to compare
with, a broker."""

import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGHTD = ROOT / "bin/sightd"
WORK = ROOT / "build/bench"  # everything that is written
READY = 60  # seconds that the daemon may take to classify
STOP = 10  # seconds that a process may take to end


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def sightd(*arguments):
    """Runs a command of sightd with --json and returns what it printed."""
    command = [str(a) for a in (SIGHTD, *arguments, "--json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def on_cores(cores):
    """Returns what a child has to call to run on these cores only; None: on all."""
    return (lambda: os.sched_setaffinity(0, cores)) if cores else None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def end(process):
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextlib.contextmanager
def broker():
    """An MQTT broker; gives its port."""
    port = free_port()
    process = subprocess.Popen(["mosquitto", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={"PATH": f"{os.environ['PATH']}:/usr/sbin"})
    try:
        wait(lambda: reachable(port), 10, "mosquitto doesn't listen")
        yield port
    finally:
        end(process)


def reachable(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait(condition, seconds, why):
    """Asks until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"{why} after {seconds} s")
        time.sleep(0.002)


def baseline(video, engine, port, seconds, cores=None):
    """Runs baseline.py and returns what it measured."""
    command = [sys.executable, "-B", ROOT / "bench/baseline.py", video, engine, ROOT / "demo/lite0/labels.txt",
               "--port", str(port), "--seconds", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=on_cores(cores))
    return json.loads(done.stdout)


class Daemon:
    """`sightd run` with the demo's model, one thread, its embedded broker, over
    one video. As a context it is stopped in the end."""

    def __init__(self, folder, source, cores=None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.page = f"http://127.0.0.1:{free_port()}"
        config = folder / "sightd.yaml"
        config.write_text(json.dumps(self._config(source), indent=2))  # JSON is YAML
        self.log = folder / "sightd.log"
        with self.log.open("w") as log:
            self.started = time.monotonic()
            self.process = subprocess.Popen([SIGHTD, "run", "-c", config], cwd=ROOT, stdout=log, stderr=log,
                                            preexec_fn=on_cores(cores))

    def _config(self, source):
        return {
            "device": "bench",
            "state_dir": str(self.folder / "state"),
            "control_socket": str(self.folder / "control.sock"),
            "cameras": [{"name": "video", "source": source}],
            "models": [{"name": "lite0", "release": str(ROOT / "demo/lite0")}],
            "inference": {"threads": 1},
            "events": {"min_score": 0.2, "hold": "0s"},
            "mqtt": {"embedded": f"127.0.0.1:{free_port()}"},
            "http": {"listen": self.page.removeprefix("http://")},
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"sightd ended: {self.log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(self.page + "/readyz", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def wait_ready(self, seconds=READY):
        """Waits until frames are classified; returns the seconds since the start."""
        wait(self._ready, seconds, f"sightd isn't ready (its log: {self.log})")
        return time.monotonic() - self.started

    def status(self):
        with urllib.request.urlopen(self.page + "/api/v1/status", timeout=5) as response:
            return json.load(response)

    def engine(self):
        """The path of the engine that serves."""
        return self.folder / "state/engines" / f"{self.status()['models'][0]['engine']['id']}.engine"

    def measure(self, seconds):
        """Returns what the daemon did within so many seconds from now."""
        frames, cpu, events, start = self._counters()
        time.sleep(seconds)
        frames2, cpu2, events2, stop = self._counters()
        return {
            "fps": (frames2 - frames) / (stop - start),
            "cpu_ms": 1000 * (cpu2 - cpu) / (frames2 - frames),
            "events": events2 - events,
        }

    def _counters(self):
        status = self.status()
        now = time.monotonic()
        cpu = sum(cpu_seconds(p) for p in (self.process.pid, *children(self.process.pid)))
        return status["cameras"][0]["classified"], cpu, status["mqtt"]["published"], now

    def memory(self):
        """Resident MiB of the daemon and of its worker."""
        return resident(self.process.pid), sum(resident(p) for p in children(self.process.pid))


def children(pid):
    """Process ids of a process's children."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def cpu_seconds(pid):
    """CPU time that a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """A process's resident memory in MiB."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def median(values):
    return statistics.median(values)
