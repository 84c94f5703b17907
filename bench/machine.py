"""What the figures were measured on."""

import os
import pathlib
import platform
import time

WIDTHS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}  # the widest first


def _cpuinfo(key):
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def vnni():
    """Whether an x86 processor sums INT8 products in 32 bits with one instruction,
    in a form that ONNX Runtime uses. Where there is AVX-512 it uses only that."""
    flags = set(_cpuinfo("flags").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "avx512_vnni" in flags
    return {"avx2", "avx_vnni"} <= flags


def saturates():
    """Whether INT8 products are summed in 16 bits here, as package ort says."""
    return platform.machine() == "x86_64" and not vnni()


def cores():
    """The cores that this process may use."""
    return os.sched_getaffinity(0)


def processor():
    name = _cpuinfo("model name") or platform.machine()
    if platform.machine() != "x86_64":
        return name
    flags = _cpuinfo("flags").split()
    widest = next((title for flag, title in WIDTHS.items() if flag in flags), "no AVX")
    return f"{name}, {widest}, {'VNNI' if vnni() else 'no VNNI'}"


def system():
    release = platform.freedesktop_os_release()
    return f"{release.get('PRETTY_NAME', 'Linux')}, Linux {platform.release()}"


def busy(seconds=2):
    """How many cores other programs keep busy just now."""
    before = _busy_seconds()
    time.sleep(seconds)
    return (_busy_seconds() - before) / seconds


def _busy_seconds():
    """CPU time of the whole machine since its start, but for idling."""
    ticks = [int(t) for t in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def today():
    return time.strftime("%Y-%m-%d", time.gmtime())
