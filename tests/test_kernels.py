"""The CPU kernels themselves: exact at every size around the widths they work in, inside their buffers.

This file also runs with NUMBA_DISABLE_JIT=1, which shows every line of a kernel to the coverage tool, and
with NUMBA_BOUNDSCHECK=1, which makes an index outside an array an error.
"""

import os

import numpy as np
import pytest
from histeq_kernels.cpu import histogram, luma, lut, table
from histeq_kernels.cpu._kernel import Kernel
from images import INTEGERS, random_values, same

import histeq
from histeq import _rules

INTERPRETED = bool(os.environ.get("NUMBA_DISABLE_JIT", "0") != "0")
SIZES = [0, 1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1023, 4096, 4099]
GUARD = 64  # elements before and after every output that must stay as they were


class Guarded:
    """An output buffer whose surroundings are watched."""

    def __init__(self, size, dtype):
        self.whole = np.full(size + 2 * GUARD, 0x5A, dtype)
        self.inside = self.whole[GUARD : GUARD + size]

    def intact(self):
        return (self.whole[:GUARD] == 0x5A).all() and (self.whole[len(self.whole) - GUARD :] == 0x5A).all()


def odd_start(values):
    """Return a copy that begins one element after an aligned address."""
    memory = np.zeros(len(values) + 1, values.dtype)
    memory[1:] = values
    return memory[1:]


@pytest.mark.parametrize("size", SIZES)
def test_histogram(size):
    values = odd_start(np.random.default_rng(size).integers(0, 256, size, np.uint8))
    expected = np.bincount(values, minlength=256)
    scratch = np.zeros(histogram.PAIRS, np.uint32)
    counts = np.ones(256, np.int64)
    histogram.histogram.u8(values, scratch, counts)
    assert same(counts, expected + 1)
    assert not scratch.any()
    histogram.histogram_small.u8(values, counts)
    assert same(counts, 2 * expected + 1)


@pytest.mark.parametrize("size", SIZES[::4])
def test_histogram_16_bit(size):
    values = odd_start(np.random.default_rng(size).integers(0, 65536, size, np.uint16))
    scratch = np.zeros(histogram.PAIRS, np.uint32)
    counts = np.zeros(65536, np.int64)
    histogram.histogram_direct.u16(values, scratch, counts)
    assert same(counts, np.bincount(values, minlength=65536))
    assert not scratch.any()


@pytest.mark.parametrize("size", SIZES)
def test_apply(size):
    rng = np.random.default_rng(size)
    values, levels = odd_start(rng.integers(0, 256, size, np.uint8)), rng.integers(0, 256, 256, np.uint8)
    pairs, out = np.zeros(65536, np.uint16), Guarded(size, np.uint8)
    lut.pair_table.u8(levels, pairs)
    lut.apply_pairs.u8(values, pairs, out.inside)
    assert same(out.inside, levels[values])
    assert out.intact()


@pytest.mark.parametrize("size", SIZES[::3])
@pytest.mark.parametrize(
    ("tag", "source", "target"),
    [
        ("u8", "u1", "u1"),
        ("u16", "u2", "u2"),
        ("u8_f64", "u1", "f8"),
        ("u16_f64", "u2", "f8"),
        ("u16_f32", "u2", "f4"),
    ],
)
def test_apply_one_by_one(size, tag, source, target):
    rng = np.random.default_rng(size)
    entries = _rules.levels_of(source)
    values = odd_start(rng.integers(0, entries, size).astype(source))
    levels = rng.integers(0, 256, entries).astype(target)
    out = Guarded(size, target)
    getattr(lut.apply_lut, tag)(values, levels, out.inside)
    assert same(out.inside, levels[values])
    out = Guarded(size, target)
    getattr(lut.apply_lut_strided, tag)(values[None, None], levels, out.inside[None, None])
    assert same(out.inside, levels[values])
    assert out.intact()


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow", "vips"])
@pytest.mark.parametrize("dtype", INTEGERS[: 1 if INTERPRETED else None])
def test_tables(rule, dtype):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    for size in (1, 2, 3, 50, 3000):
        values = random_values(rng, size, dtype).astype(np.int64) - limits.min
        counts = np.bincount(values, minlength=_rules.levels_of(dtype))
        out = Guarded(len(counts), np.int64)
        span = limits.max - limits.min
        if rule == "vips":
            span = _rules.top(counts, span, None)
        getattr(table, f"table_{rule}").i64(counts, limits.min, limits.min, span, out.inside)
        assert same(out.inside.astype(dtype), _rules.lookup_table(counts, rule, np.dtype(dtype), None))
        assert out.intact()
    for counts in (np.zeros(256, np.int64), np.eye(1, 256, 255, dtype=np.int64)[0]):
        out = Guarded(256, np.int64)
        getattr(table, f"table_{rule}").i64(counts, 0, 0, 255, out.inside)
        assert same(out.inside.astype(np.uint8), _rules.lookup_table(counts, rule, np.dtype("u1"), None))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma(dtype):
    from histeq import _color

    rng = np.random.default_rng(1)
    entries = _rules.levels_of(dtype)
    planes = rng.integers(0, entries, (3, 2, 5, 7)).astype(dtype)
    planes[:, 0, 0, 0] = 3
    mask = rng.integers(0, 2, (2, 5, 7), np.uint8)
    mask[0, 0, 0] = 1
    levels = rng.integers(0, entries, entries).astype(dtype)
    out = Guarded(planes.size, dtype)
    tag = f"u{8 * np.dtype(dtype).itemsize}"
    counts = np.zeros(entries, np.int64)
    getattr(luma.histogram_luma, tag)(*planes, mask, 3, counts)
    counted = mask.astype(bool)
    counted[0, 0, 0] = False
    assert same(counts, np.bincount(_color.luma(*planes)[counted], minlength=entries))
    getattr(luma.apply_luma, tag)(*planes, levels, 3, *out.inside.reshape(planes.shape))
    expected = np.stack(_color.replace_luma(*planes, levels))
    expected[:, 0, 0, 0] = 3
    assert same(out.inside.reshape(planes.shape), expected)
    assert out.intact()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats(dtype):
    """Through the backend, which prepares the kernels' tables; the reference is NumPy's np.interp."""
    rng = np.random.default_rng(2)
    image = rng.normal(size=(13, 17)).astype(dtype)
    image[3, 3], image[4, 4], image[5, 5] = np.nan, np.inf, 0.5
    mask = rng.random(image.shape) < 0.8
    for keywords in ({}, {"bins": 1}, {"bins": 7, "value_range": (-1, 1)}, {"nodata": 0.5}, {"mask": mask}):
        got, expected = (histeq.equalize(image, backend=b, **keywords) for b in ("numba", "numpy"))
        assert same(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_on_and_beside_every_edge(dtype):
    """The guess of a bin may be one off on either side; the edges decide."""
    for bins, low, high in ((10, 0.1, 1.7), (49, -3, 0.3), (3, 1e8, 1.1e8)):
        edges = np.linspace(low, high, bins + 1, dtype=dtype)
        centres = (edges[:-1] + edges[1:]) / 2
        exact = np.concatenate([edges, centres])
        image = np.concatenate(
            [exact, np.nextafter(exact, np.array("-inf", dtype)), np.nextafter(exact, np.array("inf", dtype))]
        )
        for function in (histeq.equalize, histeq.histogram):
            got, expected = (
                function(image, bins=bins, value_range=(low, high), backend=b) for b in ("numba", "numpy")
            )
            assert same(got, expected)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_masked_histogram(dtype):
    rng = np.random.default_rng(3)
    image = random_values(rng, 60, dtype).reshape(6, 10)
    mask = rng.random(image.shape) < 0.5
    got, expected = (histeq.histogram(image, mask=mask, backend=b) for b in ("numba", "numpy"))
    assert same(got, expected)


def test_unknown_variant():
    with pytest.raises(AttributeError, match="kernel histogram has no variant 'u32'"):
        _ = histogram.histogram.u32


def test_every_variant_compiles():
    """The signatures are written by hand: each must fit its kernel's code."""
    compiled = 0
    for module in (histogram, lut, luma, table):
        for value in vars(module).values():
            if isinstance(value, Kernel):
                for tag in value._signatures:
                    assert callable(getattr(value, tag))
                    compiled += 1
    assert compiled >= 30
