"""Histograms that models seldom give, and the ones at the edges."""

import numpy

BINS = 2048


def empty():
    return numpy.zeros(BINS, numpy.int64)


def at(**counts):
    """Returns a histogram with these counts in the bins b0, b7, …; other bins are empty."""
    bins = empty()
    for name, count in counts.items():
        bins[int(name[1:])] = count
    return bins


def of(values, largest):
    return numpy.histogram(numpy.abs(values), bins=BINS, range=(0, largest))[0]


def between(first, last, bins):
    """Keeps the bins from first up to last, without last."""
    kept = empty()
    kept[first:last] = bins[first:last]
    return kept


def histograms():
    """Yields the name, the counts in 2048 bins and the upper end of the last bin."""
    rng = numpy.random.default_rng(4)
    k = numpy.arange(BINS)
    uniform = numpy.full(BINS, 100)
    exponential = numpy.round(1e7 * numpy.exp(-k / 100)).astype(numpy.int64)

    yield "uniform", uniform, 1.0
    yield "exponential", exponential, 3.5
    yield "exponential, steep, one outlier", numpy.round(1e6 * numpy.exp(-k / 10)).astype(numpy.int64) + at(b2047=1), 80.0
    yield "linear down", (BINS - k) * 10, 2.0
    yield "linear up", (k + 1) * 10, 2.0
    normal = rng.normal(size=1_000_000)
    yield "normal", of(normal, numpy.abs(normal).max()), numpy.abs(normal).max()
    heavy = rng.standard_t(3, size=300_000)
    yield "Student's t, heavy tail", of(heavy, numpy.abs(heavy).max()), numpy.abs(heavy).max()
    few = rng.normal(size=500)
    yield "normal, 500 values", of(few, numpy.abs(few).max()), numpy.abs(few).max()
    yield "ten values", of([0.0, 0.1, 0.1, 0.3, 0.5, 0.52, 0.7, 0.95, 0.99, 1.0], 1.0), 1.0

    yield "all in bin 0", at(b0=5000), 1.0
    yield "all in bin 1", at(b1=5000), 1.0
    yield "all in bin 60", at(b60=5000), 1.0
    yield "all in the last bin", at(b2047=5000), 1.0
    yield "one value", at(b2047=1), 1.0
    yield "bin 0 and one value in the last", at(b0=1_000_000, b2047=1), 1.0
    yield "two spikes", at(b100=70_000, b2047=30_000), 6.0
    yield "two spikes and little between", at(b5=500_000, b2047=400_000) + rng.integers(0, 4, BINS), 6.0
    yield "zeros, a spread and a spike at the end", exponential // 1000 + at(b0=9_000_000, b2047=700_000), 6.0

    yield "gap at the start, 100 bins", between(100, BINS, uniform), 1.0
    yield "gap at the start, 128 bins", between(128, BINS, uniform), 1.0
    yield "gap at the start, 300 bins", between(300, BINS, uniform), 1.0
    yield "gap in the middle", between(0, 700, exponential) + between(1500, BINS, uniform), 1.0
    yield "gap at the end", between(0, 900, exponential + 1), 1.0
    yield "every third bin", numpy.where(k % 3 == 0, exponential + 1, 0), 1.0
    yield "every 16th bin", numpy.where(k % 16 == 15, 1000, 0), 1.0
    yield "quantised to 256 levels", numpy.where(k % 8 == 0, exponential + 5, 0) + at(b2047=40), 1.0
    yield "random counts of 0 and 1", rng.integers(0, 2, BINS) | at(b2047=1), 1.0
    yield "huge counts", exponential * 100_000 + 12_345, 1e4
    yield "tiny range", exponential + 1, 1e-30
