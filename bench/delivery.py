"""What delivery over MQTT costs: the benchmarks of mqtt/delivery_bench_test.go."""

import re
import subprocess

import report
from programs import ROOT, say


def figures(name):
    """Runs one and returns its figures by unit."""
    say(f"delivery: {name.lower()}")
    command = ["go", "test", "-run", "^$", "-bench", f"^BenchmarkDelivery{name}$", "-benchtime", "1x", "./mqtt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = re.search(rf"(?m)^BenchmarkDelivery{name}\S*\s+1\s+(.*)$", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()[-2000:]}")
    words = found[1].split()
    return {unit: float(value) for value, unit in zip(words[::2], words[1::2])}


def rows():
    f = figures("Throughput")
    speed, ratio = f["always-events/s"], f["outage/paho"]
    out = [
        ["bare paho, events a second", f"{f['paho-events/s']:.0f}", ""],
        ["`outage`, events a second", f"{f['outage-events/s']:.0f}", ""],
        ["`outage` ÷ bare paho", f"{ratio:.2f}", report.at_least(ratio, 0.8, "0.8")],
        ["`memory` ÷ bare paho", f"{f['memory/paho']:.2f}", ""],
        ["`always`, events a second", f"{speed:.0f}", report.at_least(speed, 5000, "5,000")],
        ["a page of 4 KiB and its sync, median", f"{f['sync-ms']:.2f} ms", ""],
        ["an event's size", f"{f['payload-B']:.0f} bytes", ""],
        ["written for each, as fast as it goes: `always`, `outage`",
         f"{f['always-written-B/event']:.0f}, {f['outage-written-B/event']:.0f} bytes", ""],
    ]
    f = figures("Latency")
    added = f["outage-added-ms"]
    out += [
        ["bare paho, Publish to PUBACK, median and 99 %", f"{f['paho-ms']:.2f}, {f['paho-p99-ms']:.2f} ms", ""],
        ["`outage`, the same", f"{f['outage-ms']:.2f}, {f['outage-p99-ms']:.2f} ms", ""],
        ["added by `outage` at the median", f"{added:.2f} ms", report.below(added, 2, "2 ms")],
    ]
    f = figures("Slowly")
    out += [
        [f"written for each at one event a second: `{way}`{where}",
         f"{f[key + '-written-B/event']:.0f} bytes, {f[key + '-syncs/event']:.1f} syncs", ""]
        for way, where, key in (("always", "", "always"), ("outage", "", "outage"),
                                ("always", " without a broker", "always-offline"),
                                ("outage", " without a broker", "outage-offline"))
    ]
    f = figures("Million")
    memory = max(f[f"{step}-rss-anon-MiB"] for step in ("append", "warm", "cold"))
    heap = max(f[f"{step}-heap-MiB"] for step in ("append", "warm", "cold"))
    cold = f["cold-s"]
    out += [
        ["a million events appended with `always`", f"{f['append-s']:.0f} s", ""],
        ["their size in the file", f"{f['append-kept-B/event']:.0f} bytes each", ""],
        ["RssAnon with a million waiting, the most seen", f"{memory:.0f} MiB", report.at_most(memory, 64, "64 MiB")],
        ["Go's heap with a million waiting", f"{heap:.1f} MiB", ""],
        ["start with a million waiting, to the first events: the file in memory", f"{f['warm-s']:.2f} s", ""],
        ["the same, the file on the disk alone", f"{cold:.2f} s", report.below(cold, 2, "2 s")],
    ]
    return out


def section(_):
    return report.Section("Delivery over MQTT", ["", "measured", "target"], rows())
