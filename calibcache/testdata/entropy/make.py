"""Makes histograms.json.gz: histograms, and the thresholds that others find in them.

    python -m venv venv
    venv/bin/pip install -r ../../../requirements-test.txt
    venv/bin/pip install --no-deps -r ../../../requirements-bench.txt
    venv/bin/python make.py             # the recorded histograms' thresholds again
    venv/bin/python make.py --record    # the histograms too

README.md says what the thresholds are. --record needs the measuring material for
the histograms of models other than the demo's; without, the recorded ones stay.
"""

import argparse
import gzip
import json
import multiprocessing
import pathlib

import numpy
from onnxruntime.quantization.calibrate import HistogramCollector

import oracle
import record
import synthetic

FILE = pathlib.Path(__file__).with_name("histograms.json.gz")
LEVELS = 128


def pytorch_quantization(function, bins, largest):
    """Returns the threshold by pytorch-quantization."""
    edges = numpy.linspace(0, largest, len(bins) + 1)
    with numpy.errstate(divide="ignore", invalid="ignore"):  # 0/0 where there is nothing below a candidate
        return float(function(numpy.array(bins), edges, num_bits=8, unsigned=False, stride=1, start_bin=LEVELS))


def onnxruntime(bins, largest):
    """Returns the threshold by ONNX Runtime, or None where it refuses. It takes the
    histogram of x, so |x| is mirrored, with half of the levels on each side."""
    collector = HistogramCollector("entropy", True, 2 * len(bins), LEVELS, None, None)
    edges = numpy.linspace(-largest, largest, 2 * len(bins) + 1)
    both = numpy.array([*reversed(bins), *bins])
    try:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            return float(collector.get_entropy_threshold((both, edges, edges[0], edges[-1]), LEVELS)[1])
    except AssertionError:  # nothing to smooth
        return None


def read():
    """Returns the recorded histograms, by name."""
    if not FILE.exists():
        return {}
    return {h["name"]: h for h in json.loads(gzip.decompress(FILE.read_bytes()))}


def write(histograms):
    lines = ",\n".join(json.dumps(h, separators=(",", ":")) for h in histograms)
    FILE.write_bytes(gzip.compress(f"[\n{lines}\n]\n".encode(), mtime=0))


def thresholds(histogram):
    """Returns a histogram with both thresholds, found anew."""
    function = oracle.load()._compute_amax_entropy
    bins, largest = histogram["bins"], histogram["max"]
    return {
        **histogram,
        "pytorch_quantization": pytorch_quantization(function, bins, largest),
        "onnxruntime": onnxruntime(bins, largest),
    }


def show(h):
    width = h["max"] / len(h["bins"])
    theirs = "–" if h["onnxruntime"] is None else f"{h['onnxruntime'] / width:.1f}"
    print(f"{h['name']:60} {h['max']:12.5g} {h['pytorch_quantization'] / width:8.1f} {theirs:>8}", flush=True)
    return h


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="take the histograms again")
    histograms = read()
    if parser.parse_args().record:
        for name, bins, largest in (*synthetic.histograms(), *record.histograms()):
            histograms[name] = {"name": name, "max": float(largest), "bins": [int(b) for b in bins]}
    with multiprocessing.Pool() as pool:  # seconds each
        write([show(h) for h in pool.imap(thresholds, histograms.values())])


if __name__ == "__main__":
    main()
