"""The CPU kernels themselves: exact at every size around the widths they work in, inside their buffers.

This file also runs with NUMBA_DISABLE_JIT=1, which shows every line of a kernel to the coverage tool, with
NUMBA_BOUNDSCHECK=1, which makes an index outside an array an error, and compiled for a generic processor.
"""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import histeq_kernels.cpu
import numpy as np
import pytest
from emulation import emulate
from histeq_kernels.cpu import rules, tiers
from histeq_kernels.cpu.core import operations
from histeq_kernels.cpu.core.kernel import Kernel, _digest, _sources
from histeq_kernels.cpu.fused import color, part, threaded
from histeq_kernels.cpu.fused.grey import equalize, equalize_past_caches, equalize_small, kernel_of_rule
from histeq_kernels.cpu.fused.window import equalize_frame
from histeq_kernels.cpu.fused.workspace import MEMORY
from histeq_kernels.cpu.histogram import pairs
from histeq_kernels.cpu.histogram.extremes import extremes_rows
from histeq_kernels.cpu.histogram.float_bins import histogram_few_bins_rows
from histeq_kernels.cpu.histogram.grey import histogram, histogram_16, histogram_masked
from histeq_kernels.cpu.histogram.intervals import BLOCK
from histeq_kernels.cpu.histogram.workspace import SCRATCH, ZEROS
from histeq_kernels.cpu.lut import grey as lut
from histeq_kernels.cpu.lut.lookup import WORKSPACE as LOOKUP
from histeq_kernels.cpu.tiers import portable
from histeq_kernels.cpu.ycrcb import channels, luma, strided
from histeq_kernels.cpu.ycrcb.blocks import WORKSPACE as PIXELS
from histeq_kernels.cpu.ycrcb.scalar import COEFFICIENTS
from images import (
    AS_SHIPPED,
    BOUNDS_CHECKED,
    INTEGERS,
    INTERPRETED,
    SOME_FLOATS,
    SOME_INTEGERS,
    random_values,
    same,
)

import histeq
from histeq._core import rules as _rules
from histeq._core import ycrcb as _color

SIZES = [
    0,
    1,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    511,
    512,
    513,
    4095,
    4096,
    4097,
    9000,
]
SIZES = SIZES[::4] if INTERPRETED else SIZES
GUARD = 64  # elements before, between and after the rows of every output, which must stay as they were


BEST = tiers.in_use()
# As it is shipped the best tier is in use, which for a generic processor is the portable one. With bounds
# checked every tier is tested, that of AVX-512 on any processor.
TIERS = [BEST]
if BOUNDS_CHECKED:
    TIERS = [*(tiers.TIERS[name] for name in tiers.available() if name != "avx512"), emulate()]
NEVER = 1 << 40  # pixels


def with_limits(tier, label, limit, *names):
    """Return a tier that changes between two ways of working at another number of pixels."""
    changed = {f"min_pixels_{name}_by_rows": limit for name in names}
    return replace(tier, name=f"{tier.name}_{label}", operations=tier.operations | changed)


def by_rows_and_not(*names):
    """Return all tiers twice: so that they work by rows however few the pixels, and never by rows."""
    return [
        with_limits(tier, label, limit, *names)
        for tier in TIERS
        for label, limit in (("rows", 0), ("small", NEVER))
    ]


def different(tiers, *names):
    """Return those of some tiers that differ in some of their operations."""
    found = {}
    for tier in tiers:
        found.setdefault(tuple(tier.operations[name] for name in names), tier)
    return list(found.values())


COUNTERS = different(by_rows_and_not("counted"), "count_rows", "min_pixels_counted_by_rows")
MAPPERS = different(by_rows_and_not("mapped"), "map_rows", "min_pixels_mapped_by_rows")
WHOLE = [(kernel, tier) for tier in TIERS for kernel in (equalize_small, equalize)]
WHOLE += [(equalize_past_caches, tier) for tier in TIERS if tier.bypasses_caches]
each_tier = pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
# What takes half a minute to compile with emulated instructions is tested on demand.
emulated = [tier for tier in TIERS if tier.name == "avx512" and not tier.needs]
each_tier_in_time = pytest.mark.parametrize(
    "tier",
    [
        pytest.param(tier, id=tier.name, marks=pytest.mark.exhaustive if tier in emulated else ())
        for tier in TIERS
    ],
)
any_tier = pytest.mark.parametrize("tier", TIERS[:1], ids=lambda tier: tier.name)


def name(named):
    return named.name


class Guarded:
    """An output of (depth, rows, columns) with contiguous rows, whose surroundings are watched."""

    def __init__(self, shape, dtype):
        depth, height, width = shape
        self.memory = np.full(depth * height * (width + GUARD) + GUARD, 0x5A, dtype)
        rows = self.memory[GUARD:].reshape(depth, height, width + GUARD)
        self.inside = rows[:, :, :width]

    def intact(self):
        watched = self.memory.copy()
        depth, height, width = self.inside.shape
        watched[GUARD:].reshape(depth, height, width + GUARD)[:, :, :width] = 0x5A
        return (watched == 0x5A).all()


def rows_of(rng, shape, dtype=np.uint8, most=None):
    """Return random (depth, rows, columns) with contiguous rows at odd addresses, some of them flat."""
    image = Guarded(shape, dtype)
    values = rng.integers(0, most or _rules.levels_of(dtype), shape)
    values[:, ::2] = values[:, ::2] // 64 * 64
    image.memory = np.concatenate([np.zeros(1, dtype), image.memory])[1:]
    depth, height, width = shape
    image.inside = image.memory[GUARD:].reshape(depth, height, width + GUARD)[:, :, :width]
    image.inside[...] = values
    return image.inside


def counters():
    return np.zeros(SCRATCH, np.uint32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tier", COUNTERS, ids=name)
def test_histogram(tier, size):
    image = rows_of(np.random.default_rng(size), (2, 2, size))
    scratch, counts = counters(), np.ones(256, np.int64)
    histogram.variant("u8", tier)(image, scratch, counts)
    assert same(counts, np.bincount(image.ravel(), minlength=256) + 1)
    assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("size", [*SIZES, *([] if INTERPRETED else [40_000])])
@pytest.mark.parametrize("tier", TIERS, ids=name)
def test_histogram_of_valid_pixels(tier, size):
    rng = np.random.default_rng(size)
    image = rows_of(rng, (2, 2, size))
    masks = [
        rows_of(rng, image.shape, most=2),
        np.zeros_like(image),
        np.ones_like(image),
        np.repeat(rng.integers(0, 2, (2, 2, size // 50 + 1), np.uint8), 50, axis=2)[..., :size],
        rng.choice(np.array([0, 1, 255], np.uint8), image.shape),
    ]
    kernel = histogram_masked.variant("u8", tier)
    for mask in masks:
        scratch, counts = counters(), np.ones(256, np.int64)
        kernel(image, mask, np.zeros(PIXELS, np.uint8), scratch, counts)
        assert same(counts, np.bincount(image[mask != 0], minlength=256) + 1)
        assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("tier", TIERS, ids=name)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 8, 64),
        (1, 15, 31),
        (1, 16, 32),
        (2, 17, 33),
        (1, 33, 100),
        *([] if INTERPRETED else [(2, 83, 600)]),
    ],
)
def test_histogram_of_valid_blocks(tier, shape):
    """Blocks of which all pixels are valid, some, or none, by masks with any strides between rows."""
    rng = np.random.default_rng(shape[2])
    apart = rows_of(rng, shape)
    share = rng.choice([0, 0.5, 1], (shape[0], shape[1] // 40 + 1, shape[2] // 40 + 1))
    share = share.repeat(40, axis=1).repeat(40, axis=2)[:, : shape[1], : shape[2]]
    mask = rows_of(rng, shape)
    mask[...] = (rng.random(shape) < share) * rng.integers(1, 256, shape)
    kernel, valid = histogram_masked.variant("u8", tier), rng.integers(0, 2, (1, 1, shape[2]), np.uint8)
    for image, some in (
        (apart, mask),
        (apart, np.ascontiguousarray(mask)),
        (np.ascontiguousarray(apart), mask),
        (np.ascontiguousarray(apart), np.ascontiguousarray(mask)),
        (apart[:, 1:, 1:], np.ascontiguousarray(mask)[::-1, :0:-1, 1:]),
        (apart, np.broadcast_to(valid, shape)),
    ):
        scratch, counts = counters(), np.ones(256, np.int64)
        kernel(image, some, np.zeros(PIXELS, np.uint8), scratch, counts)
        assert same(counts, np.bincount(image[some != 0], minlength=256) + 1)
        assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        *[(1, 7, 600), (2, 8, 64), (2, 9, 255), (1, 8, 256), (3, 17, 257), (1, 24, 1000), (1, 200, 70)],
        *[(1, 8, 0), (1, 15, 31), (1, 16, 32), (1, 17, 33), (2, 16, 64), (1, 33, 100), (1, 48, 1100)],
        *(
            []
            if INTERPRETED
            else [(1, 300, 331), (2, 64, 4096), (1, 2000, 40), (1, 40, 2047), (3, 1, 99_999)]
        ),
    ],
)
@pytest.mark.parametrize("tier", COUNTERS, ids=name)
def test_histogram_of_blocks(tier, shape, joined):
    image = rows_of(np.random.default_rng(shape[2]), shape)
    image = np.ascontiguousarray(image) if joined else image
    scratch, counts = counters(), np.ones(256, np.int64)
    histogram.variant("u8", tier)(image, scratch, counts)
    assert same(counts, np.bincount(image.ravel(), minlength=256) + 1)
    assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("tier", COUNTERS, ids=name)
def test_histogram_of_ranges(tier):
    """A block whose pixels lie between any two values, one pixel each at the ends."""
    rng = np.random.default_rng(1)
    ends = [0, 1, 15, 16, 17, 127, 128, 129, 239, 240, 254, 255]
    ends = ends[::3] if INTERPRETED else ends
    for low, high in ((low, high) for low in ends for high in ends if low <= high):
        image = rng.integers(low, high, (1, 16, 32), np.uint8, endpoint=True)
        image[0, rng.integers(16), rng.integers(32)] = low
        image[0, rng.integers(16), rng.integers(32)] = high
        counts, scratch = np.zeros(256, np.int64), counters()
        histogram.variant("u8", tier)(image, scratch, counts)
        assert same(counts, np.bincount(image.ravel(), minlength=256))
        assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("tier", COUNTERS, ids=name)
@pytest.mark.parametrize("content", ["flat", "two", "ramp", "noise"])
def test_histogram_of_contents(tier, content):
    size = 2000 if INTERPRETED else 300_000
    values = np.arange(size)
    image = {
        "flat": values * 0 + 7,
        "two": values // 3 % 2 * 255,
        "ramp": values * 256 // size,
        "noise": values * 7919,
    }
    image = (image[content] % 256).astype(np.uint8).reshape(1, 1, size)
    counts = np.zeros(256, np.int64)
    histogram.variant("u8", tier)(image, counters(), counts)
    assert same(counts, np.bincount(image.ravel(), minlength=256))


@pytest.mark.parametrize(
    "size", [pairs.MIN_PIXELS - 1, pairs.MIN_PIXELS, 40_013, *([] if INTERPRETED else [300_007])]
)
@pytest.mark.parametrize("flat", [0.0, 0.1, 0.9])
def test_histogram_of_scattered_pairs(size, flat):
    """Noise, in which counters of one byte are in use, and wrap where there is a flat part."""
    image = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    for start in (1000, size // 2 + 1000):
        image[start : start + int(flat * size / 2)] = 200
    scratch, counts = counters(), np.ones(256, np.int64)
    histogram.u8(image.reshape(1, 1, size), scratch, counts)
    assert same(counts, np.bincount(image, minlength=256) + 1)
    assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("size", [*SIZES, *([] if INTERPRETED else [(1 << 18) - 1]), (1 << 18) + 5])
@pytest.mark.parametrize("most", [0] if INTERPRETED else [0, 300])
def test_histogram_16_bit(size, most):
    image = rows_of(np.random.default_rng(size), (1 if size >> 18 else 2, 2, size), np.uint16, most)
    image[..., size // 4 : size // 3] = 7  # in noise, whose counters are of one byte, this one wraps
    scratch, counts = counters(), np.zeros(65536, np.int64)
    histogram_16.u16(image, scratch, counts)
    assert same(counts, np.bincount(image.ravel(), minlength=65536))
    assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tier", MAPPERS, ids=name)
def test_apply(tier, size):
    rng = np.random.default_rng(size)
    image, levels = rows_of(rng, (2, 2, size)), rng.integers(0, 256, 256, np.uint8)
    out, workspace = Guarded(image.shape, np.uint8), np.full(LOOKUP, 999, np.uint16)
    kernel = lut.apply.variant("u8", tier)
    kernel(image, levels, workspace, out.inside)
    assert same(out.inside, levels[image])
    assert out.intact()
    expected = levels[image]
    kernel(image, levels, workspace, image)  # in place
    assert same(image, expected)


@pytest.mark.parametrize("tier", MAPPERS, ids=name)
def test_apply_every_value_through_every_entry(tier):
    image = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    for entry in range(0, 256, 37 if INTERPRETED else 1):
        levels = np.zeros(256, np.uint8)
        levels[entry] = 255
        out = np.empty_like(image)
        lut.apply.variant("u8", tier)(image, levels, np.zeros(LOOKUP, np.uint16), out)
        assert same(out[0, 0], levels)


@pytest.mark.parametrize("size", SIZES[::3])
@pytest.mark.parametrize(
    ("kernel", "tag", "source", "target"),
    [
        (lut.apply_to_float, "u8_f64", "u1", "f8"),
        (lut.apply_16, "u16", "u2", "u2"),
        (lut.apply_16, "u16_u8", "u2", "u1"),
        (lut.apply_16, "u16_f64", "u2", "f8"),
        (lut.apply_16, "u16_f32", "u2", "f4"),
        (lut.apply_strided, "u8", "u1", "u1"),
        (lut.apply_strided, "u16", "u2", "u2"),
        (lut.apply_strided, "u16_u8", "u2", "u1"),
        (lut.apply_strided, "u8_f64", "u1", "f8"),
        (lut.apply_strided, "u16_f64", "u2", "f8"),
        (lut.apply_strided, "u16_f32", "u2", "f4"),
    ],
)
def test_apply_other_dtypes(size, kernel, tag, source, target):
    rng = np.random.default_rng(size)
    entries = _rules.levels_of(source)
    image, levels = rows_of(rng, (1, 2, size), source), rng.integers(0, 256, entries).astype(target)
    out = Guarded(image.shape, target)
    getattr(kernel, tag)(image, levels, out.inside)
    assert same(out.inside, levels[image])
    assert out.intact()


@pytest.mark.parametrize(("kernel", "tier"), WHOLE, ids=name)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (8, 8), (33, 31), (64, 65), (400, 401)])
def test_whole(kernel, shape, tier):
    shape = shape if not INTERPRETED else (shape[0], min(shape[1], 9))
    rng = np.random.default_rng(3)
    memory = np.zeros(MEMORY, np.uint32)
    for most, count in ((1, 1), (2, 3), (40, 1), (256, 2)):
        images = rng.integers(0, most, (count, *shape), np.uint8)
        out = Guarded((1, 1, images.size), np.uint8)
        stacked, new = images.reshape(-1, shape[1]), out.inside.reshape(-1, shape[1])
        kernel.variant("u8", tier)(stacked, count, memory, new)
        assert same(new.reshape(images.shape), histeq.equalize(images, layout="NHW", backend="numpy"))
        assert out.intact()
        assert not memory[:ZEROS].any()


@any_tier
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 8, 8), (2, 5, 31), (1, 17, 33), (1, 40, 300), (1, 200, 301)]
)
def test_part_of_a_plane(shape, masked, tier):
    """Some pixels, values or levels; the last mask has none at all."""
    shape = (shape[0], min(shape[1], 20), min(shape[2], 60)) if INTERPRETED else shape
    rng = np.random.default_rng(shape[2])
    memory = np.zeros(MEMORY, np.uint32)
    cases = [({}, [0, 256, 0, 255, -1, -1]), ({"nodata": 7}, [0, 256, 0, 255, 7, 6]),
             ({"value_range": (5, 99), "out_range": (16, 235)}, [5, 100, 16, 219, -1, -1]),
             ({"value_range": (3, 90), "nodata": 3}, [3, 91, 3, 87, 3, 4])]  # fmt: skip
    for most, share, (options, use) in [(120, 0.6, case) for case in cases] + [(4, 0.01, cases[0])]:
        image, out = rows_of(rng, shape, most=most), Guarded(shape, np.uint8)
        mask = rows_of(rng, shape) * (rng.random(shape) < share) if masked else None
        if masked:
            kernel, pixels = part.equalize_masked.variant("u8", tier), np.zeros(PIXELS, np.uint8)
            kernel(image, mask, np.array(use), pixels, memory, out.inside)
        else:
            part.equalize_plane.variant("u8", tier)(image, np.array(use), memory, out.inside)
        expected = histeq.equalize(image, layout="DHW", backend="numpy", mask=mask, **options)
        assert same(np.ascontiguousarray(out.inside), expected)
        assert out.intact()
        assert not memory[:ZEROS].any()


@pytest.mark.parametrize("shape", [(1, 3, 900), (1, 40, 50), (30, 5, 7), (1, 100, 33)])
@pytest.mark.parametrize(
    ("threads", "masked", "tier"),
    [*((threads, False, tier) for tier in TIERS for threads in (1, 3)), (3, True, TIERS[0])],
    ids=lambda value: getattr(value, "name", None),
)
def test_several_threads(threads, masked, shape, tier):
    """The work of several threads, done one after the other."""
    shape = (shape[0], min(shape[1], 20), min(shape[2], 60)) if INTERPRETED else shape
    image = rows_of(np.random.default_rng(threads), shape, most=200)
    valid = rows_of(np.random.default_rng(1), shape, most=2)
    expected = histeq.equalize(image, layout="DHW", backend="numpy", mask=valid if masked else None)
    pieces = min(5, threaded.most_pieces(shape))
    counts, _, size = threaded.layout_of_state(pieces, threads)
    state, memory, out = (
        np.zeros(size, np.int64),
        np.zeros(MEMORY, np.uint32),
        Guarded(shape, np.uint8),
    )
    pixels, calls = np.zeros(PIXELS, np.uint8), np.zeros(1, np.int64)

    def call(*numbers):
        numbers = (*numbers, calls, 0)
        if masked:
            kernel = threaded.equalize_masked_together.variant("u8", tier)
            kernel(image, valid, *numbers, pixels, memory, out.inside)
        else:
            threaded.equalize_together.variant("u8", tier)(image, *numbers, memory, out.inside)

    call(pieces, 1, threads, threaded.COUNT, state)  # too early
    assert not state.any()
    left = slice(threaded.CLAIMS, threaded.CLAIMS + (pieces // 2 if threads > 1 else 0))
    state[left] = 1
    call(pieces, 0, threads, threaded.COUNT, state)
    assert calls[0] == 1  # the first thread has woken others
    state[left] = 0
    for thread in range(1, threads):
        call(pieces, thread, threads, threaded.COUNT, state)
    call(pieces, 0, threads, threaded.TABLE + threaded.MAP, state)
    done = [state[i] for i in (threaded.COUNTED, threaded.TABLE_READY, threaded.MAPPED, threaded.GATE)]
    assert done == [pieces, 1, pieces, 2 * threaded.OPEN]
    before = state.copy()
    call(pieces, 1, threads, threaded.COUNT + threaded.MAP, state)  # too late
    assert same(state, before)
    total = np.count_nonzero(valid) if masked else image.size
    assert state[counts : counts + 256].sum() == total  # the first thread has added up all
    assert same(np.ascontiguousarray(out.inside), expected)
    assert out.intact()
    assert not memory[:ZEROS].any()


@each_tier
@pytest.mark.parametrize("first", [0, 16])
def test_frame_of_a_window(tier, first):
    """The counts of the frame before leave unless this one begins a shot."""
    rng = np.random.default_rng(first)
    images = [rows_of(rng, (1, 30, 45), most=most) for most in (200, 200, 40)]
    counts = [np.bincount(image.ravel(), minlength=256)[first:256] for image in images]
    levels = np.array([first, first, 255 - first, first, 255], np.int64)
    kernel = equalize_frame.variant("u8", tier)
    at, _, size = threaded.layout_of_state(2, 1)
    shares, total, judge = np.zeros(256 - first, np.int64), np.zeros(256 - first, np.int64), np.zeros(3)
    judge[:2] = 1 << 40, 0.5
    memory, nothing, before = np.zeros(MEMORY, np.uint32), np.zeros(256 - first, np.int64), []
    for t, image in enumerate(images):
        out, state, calls = Guarded(image.shape, np.uint8), np.zeros(size, np.int64), np.zeros(1, np.int64)
        leaving = counts[0] if t == 2 else nothing
        sums = leaving, levels, judge, shares, total
        kernel(image, 2, 1, threaded.COUNT, state, calls, *sums, memory, out.inside)
        assert calls[0] == 1
        before = [] if t == 2 else [*before, counts[t]]
        expect = sum(before, counts[t] if t == 2 else nothing)
        assert same(total, expect)
        assert same(state[at : at + 256][first:], counts[t])
        table = histeq.lookup_table(
            expect, dtype=np.uint8, value_range=(first, 255), out_range=(first, 255), backend="numpy"
        )
        mapped = histeq.apply(image, table, value_range=(first, 255), layout="DHW", backend="numpy")
        assert same(np.ascontiguousarray(out.inside), mapped)
        assert out.intact()
        assert not memory[:ZEROS].any()
    assert judge[2] > 0.5


@pytest.mark.skipif("avx512" not in tiers.available(), reason="another tier writes through the caches")
@pytest.mark.parametrize("threads", [1, 2])
def test_past_the_caches(threads):
    rng = np.random.default_rng(7)
    rows = np.resize(rng.integers(30, 200, 1 << 20, np.uint8), (lut.PAST_CACHES // 4096 + 3, 4111))
    levels = histeq.lookup_table(np.bincount(rows.ravel(), minlength=256), dtype=np.uint8)
    histeq.set_num_threads(threads)
    try:
        assert same(histeq.equalize(rows), levels[rows])
        assert same(histeq.apply(rows[:, 5:4108], levels), levels[rows[:, 5:4108]])
    finally:
        histeq.set_num_threads(None)


def test_kernel_of_batches_past_the_caches():
    large, few = 1 << 20, lut.PAST_CACHES - 1
    for pixels, all_pixels, expected in ((large, few, False), (4096, few + 1, False), (large, few + 1, True)):
        kernel = kernel_of_rule(np.dtype(np.uint8), pixels, "opencv", all_pixels)
        through_caches = kernel in (equalize.u8, equalize_small.u8)
        assert through_caches != (expected and tiers.in_use().bypasses_caches)


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (8, 8), (33, 31), (200, 301)])
def test_whole_16_bit(shape, rule):
    shape = shape if not INTERPRETED else (shape[0], min(shape[1], 9))
    rng = np.random.default_rng(4)
    memory = np.zeros(MEMORY, np.uint32)
    for most in (1, 2, 500, 65536):
        images = rng.integers(0, most, (2, *shape)).astype(np.uint16)
        out = np.empty_like(images)
        stacked, new = (array.reshape(-1, shape[1]) for array in (images, out))
        kernel_of_rule(images.dtype, images[0].size, rule)(stacked, 2, memory, new)
        assert same(out, histeq.equalize(images, layout="NHW", rule=rule, backend="numpy"))
        assert not memory[:ZEROS].any()


def color_rows(rng, stride, width, height=2):
    """Return rows of color pixels, in planes or interleaved, and their channels."""
    if stride == 1:
        planes = [rows_of(rng, (1, height, width)) for _ in range(3)]
        return planes, np.stack(planes)
    pixels = rows_of(rng, (1, height, width * stride))
    return [pixels] * 3, np.moveaxis(pixels.reshape(1, height, width, stride), -1, 0)


def color_output(stride, width, height=2):
    """Return guarded outputs, as the kernels take them, and a function that gives their channels."""
    if stride == 1:
        out = [Guarded((1, height, width), np.uint8) for _ in range(3)]
        return out, [plane.inside for plane in out], lambda: np.stack([plane.inside for plane in out])
    pixels = Guarded((1, height, width * stride), np.uint8)
    return [pixels], [pixels.inside] * 3, lambda: channels_of(pixels.inside, stride)


def channels_of(rows, stride):
    """Return the channels of rows of interleaved pixels."""
    return np.moveaxis(np.array(rows).reshape(*rows.shape[:2], -1, stride), -1, 0)


WIDTHS = [0, 1, 31, 32, 33, 63, 64, 107, *([] if INTERPRETED else [2047, 2048, 2049, 5000])]


@each_tier
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [2, 9])
def test_luma_rows(height, width, stride, order, tier):
    rng = np.random.default_rng(width)
    image, planes = color_rows(rng, stride, width, height)
    in_order = planes[:3] if order == "rgb" else planes[2::-1]
    k, workspace = COEFFICIENTS[order], np.zeros(PIXELS, np.uint8)
    counts, scratch = np.zeros(256, np.int64), counters()
    luma.histogram_luma.variant("u8", tier)(*image, stride, k, workspace, scratch, counts)
    assert same(counts, np.bincount(_color.luma(*in_order).ravel(), minlength=256))
    assert not scratch[:ZEROS].any()
    levels = rng.integers(0, 256, 256, np.uint8)
    expected = np.stack(_color.replace_luma(*in_order, levels))
    expected = expected if order == "rgb" else expected[::-1]
    out, rows, result = color_output(stride, width, height)
    luma.apply_luma.variant("u8", tier)(*image, stride, k, levels, workspace, *rows)
    assert same(result()[:3], expected)
    assert same(result()[3:], planes[3:])  # alpha, where there is one
    assert all(part.intact() for part in out)


CHANNELS = pytest.mark.parametrize(("count", "stride"), [(3, 3), (3, 4), (4, 4)])


@each_tier
@CHANNELS
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [2, 9])
def test_channel_rows(height, width, count, stride, tier):
    rng = np.random.default_rng(width)
    (image, *_), planes = color_rows(rng, stride, width, height)
    workspace, scratch = np.zeros(PIXELS, np.uint8), np.zeros(channels.COUNTERS, np.uint32)
    counts = np.zeros((count, 256), np.int64)
    channels.histogram_channels.variant("u8", tier)(image, count, stride, workspace, scratch, counts)
    assert same(counts, np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes[:count]]))
    assert not scratch.reshape(channels.MAX_CHANNELS, -1)[:, :ZEROS].any()
    levels = rng.integers(0, 256, (count, 256), np.uint8)
    out = Guarded(image.shape, np.uint8)
    channels.apply_channels.variant("u8", tier)(image, count, stride, levels, workspace, out.inside)
    got = channels_of(out.inside, stride)
    assert all(same(got[c], levels[c][planes[c]]) for c in range(count))
    assert same(got[count:], planes[count:])
    assert out.intact()


@pytest.mark.skipif(INTERPRETED, reason="takes minutes")
@each_tier
@CHANNELS
def test_many_pixels_of_color(count, stride, tier):
    """From some number of pixels on they are counted by pairs."""
    rng = np.random.default_rng(stride)
    (image, *_), planes = color_rows(rng, stride, 5001, 31)
    workspace, scratch = np.zeros(PIXELS, np.uint8), np.zeros(channels.COUNTERS, np.uint32)
    counts = np.zeros((count, 256), np.int64)
    channels.histogram_channels.variant("u8", tier)(image, count, stride, workspace, scratch, counts)
    assert same(counts, np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes[:count]]))
    assert not scratch.reshape(channels.MAX_CHANNELS, -1)[:, :ZEROS].any()
    counts, k = np.zeros(256, np.int64), COEFFICIENTS["rgb"]
    luma.histogram_luma.variant("u8", tier)(*[image] * 3, stride, k, workspace, scratch[:SCRATCH], counts)
    assert same(counts, np.bincount(_color.luma(*planes[:3]).ravel(), minlength=256))
    assert not scratch[:ZEROS].any()


@each_tier
@pytest.mark.parametrize("color_mode", ["luma", "luma-bgr", "channels"])
@CHANNELS
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (2, 1), (3, 11), (4, 8), (7, 64), (5, 77), *([] if INTERPRETED else [(64, 65), (300, 301)])],
)
def test_small_color(shape, count, stride, color_mode, tier):
    rng = np.random.default_rng(shape[1])
    images = rng.integers(20, 20 + rng.integers(1, 236), (2, *shape, stride), np.uint8)
    images[..., 1] //= 2
    memory, workspace = np.zeros(MEMORY, np.uint32), np.zeros(PIXELS, np.uint8)
    if color_mode == "channels":
        kernel, k = color.equalize_channels.variant("u8", tier), (count, stride)
        each = [histeq.equalize(images[..., c], layout="NHW", backend="numpy") for c in range(count)]
        expected = np.stack([*each, *(images[..., c] for c in range(count, stride))], axis=-1)
    else:
        kernel = color.equalize_luma.variant("u8", tier)
        k = stride, COEFFICIENTS["rgb" if color_mode == "luma" else "bgr"]
        expected = images.copy()
        expected[..., :3] = histeq.equalize(images[..., :3], layout="NHWC", color=color_mode, backend="numpy")
    watched = np.full(images.size + 2 * GUARD, 0x5A, np.uint8)
    out = watched[GUARD:-GUARD].reshape(images.shape)
    rows, new = (array.reshape(2 * shape[0], -1) for array in (images, out))
    kernel(rows, 2, *k, memory, workspace, new)
    assert same(out, expected)
    assert (watched[:GUARD] == 0x5A).all()
    assert (watched[-GUARD:] == 0x5A).all()
    assert not memory[:ZEROS].any()
    np.copyto(out, images)
    kernel(new, 2, *k, memory, workspace, new)
    assert same(out, expected)


@each_tier
def test_arithmetic_of_every_color(tier):
    """The luma kernels' 16-bit arithmetic is exact."""
    rng = np.random.default_rng(5)
    count = 2048 if INTERPRETED else 1 << 20
    pixels = rng.integers(0, 256, (count, 3), np.uint8)
    pixels[: count // 2] = rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (count // 2, 3))
    image, levels = pixels.reshape(1, 1, -1), rng.integers(0, 256, 256, np.uint8)
    expected = np.stack(_color.replace_luma(*pixels.T, levels), axis=-1)
    out, workspace = np.empty_like(image), np.zeros(PIXELS, np.uint8)
    kernel = luma.apply_luma.variant("u8", tier)
    kernel(*[image] * 3, 3, COEFFICIENTS["rgb"], levels, workspace, *[out] * 3)
    assert same(out.reshape(-1, 3), expected)


def test_scratch_of_the_next_call_is_clean():
    """The kernels of one thread share their workspace."""
    rng = np.random.default_rng(6)
    small, large = rng.integers(0, 256, (20, 20), np.uint8), rng.integers(0, 256, (600, 600), np.uint8)
    color = rng.integers(0, 256, (40, 50, 3), np.uint8)
    images = [small, large, small.astype(np.uint16) * 99, large.astype(np.uint16) * 257]
    if INTERPRETED:
        images = [small]
    for _ in range(3):
        for image in images:
            assert same(histeq.equalize(image), histeq.equalize(image, backend="numpy"))
        for kind in ("luma", "channels"):
            got, expected = (
                histeq.equalize(color, layout="HWC", color=kind, backend=b) for b in ("numba", "numpy")
            )
            assert same(got, expected)


@pytest.mark.skipif(not AS_SHIPPED, reason="each process that it starts has settings of its own")
def test_tiers():
    assert tiers.available()[0] == "portable"
    code = "from histeq_kernels.cpu import tiers; print(tiers.tier())"

    def run(**environment):
        clean = {k: v for k, v in os.environ.items() if k not in ("HISTEQ_CPU_TIER", "NUMBA_CPU_NAME")}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, env={**clean, **environment}, capture_output=True, text=True, check=False
        )

    for tier in tiers.available():
        assert run(HISTEQ_CPU_TIER=tier).stdout.strip() == tier
    assert run(NUMBA_CPU_NAME="generic").stdout.strip() == "portable"
    assert run(NUMBA_DISABLE_JIT="1").stdout.strip() == "portable"
    features = ",".join(f"+{feature}" for feature in tiers.TIERS["avx512"].needs)
    assert run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features).stdout.strip() == "avx512"
    assert (
        "HISTEQ_CPU_TIER must be one of portable, avx2, avx512, got 'sse'"
        in run(HISTEQ_CPU_TIER="sse").stderr
    )
    missing = run(HISTEQ_CPU_TIER="avx2", NUMBA_CPU_NAME="generic").stderr
    assert "HISTEQ_CPU_TIER='avx2' is not available here: the processor lacks avx2" in missing


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow", "vips"])
@pytest.mark.parametrize("dtype", SOME_INTEGERS)
def test_tables(rule, dtype):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    tag = {"uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16"}[dtype]
    for size in (1, 2, 3, 50, 3000):
        values = random_values(rng, size, dtype).astype(np.int64) - limits.min
        counts = np.bincount(values, minlength=_rules.levels_of(dtype))
        out = np.full(len(counts), 77, dtype)
        span = limits.max - limits.min
        if rule == "vips":
            span = _rules.top(counts, span, None)
        getattr(getattr(rules, f"table_{rule}"), tag)(
            counts, limits.min, limits.max, limits.min, span, np.zeros(rules.SUMS), out
        )
        assert same(out, _rules.lookup_table(counts, rule, np.dtype(dtype), None))
    for occupied in (0, 1):
        counts = np.zeros(_rules.levels_of(dtype), np.int64)
        counts[-1] = occupied
        out = np.full(len(counts), 77, dtype)
        getattr(getattr(rules, f"table_{rule}"), tag)(
            counts, limits.min, limits.max, limits.min, limits.max - limits.min, np.zeros(rules.SUMS), out
        )
        assert same(out, _rules.lookup_table(counts, rule, np.dtype(dtype), None))


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow", "vips"])
def test_tables_of_other_lengths_than_their_levels(rule):
    """A range of values; 8 bits of more; and where every pixel keeps its value."""
    rng = np.random.default_rng(4)
    for bins, out_range in (
        (4096, _rules.OutRange(0, 4095, 0, 4095, np.dtype("u2"))),
        (777, _rules.OutRange(-90, 1000, -90, 686, np.dtype("i2"))),
        (4096, _rules.OutRange(16, 235, 16, 235, np.dtype("u1"))),
        (220, _rules.OutRange(0, 255, 16, 235, np.dtype("u1"))),
        (4096, _rules.OutRange(16, 127, 16, 127, np.dtype("i1"))),
    ):
        if out_range.dtype.name not in SOME_INTEGERS:
            continue
        for occupied in (0, 1, bins):
            counts = np.zeros(bins, np.int64)
            counts[:occupied] = rng.integers(0, 900, occupied)
            rng.shuffle(counts)
            out = np.full(bins, 77, out_range.dtype)
            span = out_range.high - out_range.low
            kernel = getattr(getattr(rules, f"table_{rule}"), f"{out.dtype.kind}{8 * out.itemsize}")
            kernel(counts, *out_range[2:4], out_range.low, span, np.zeros(rules.SUMS), out)
            assert same(out, _rules.lookup_table(counts, rule, np.dtype("u2"), out_range))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma_strided(dtype):
    rng = np.random.default_rng(1)
    entries = _rules.levels_of(dtype)
    planes = rng.integers(0, entries, (3, 2, 5, 7)).astype(dtype)
    planes[:, 0, 0, 0] = 3
    planes[:, 0, 0, 1] = 9
    mask = rng.integers(0, 2, (2, 5, 7), np.uint8)
    mask[0, 0, 0] = 1
    levels = rng.integers(0, entries, entries).astype(dtype)
    levels[9] = 3
    tag = f"u{8 * np.dtype(dtype).itemsize}"
    counts = np.zeros(entries, np.int64)
    getattr(strided.histogram_luma_strided, tag)(*planes, mask, 3, counts)
    counted = mask.astype(bool)
    counted[0, 0, 0] = False
    assert same(counts, np.bincount(_color.luma(*planes)[counted], minlength=entries))
    out = [Guarded((2, 5, 7), dtype) for _ in range(3)]
    getattr(strided.apply_luma_strided, tag)(*planes, levels, 3, 2, *(one.inside for one in out))
    expected = np.stack(_color.replace_luma(*planes, levels))
    assert (expected[:, 0, 0, 1] == 3).all()
    expected[:, 0, 0, :2] = (3, 2)
    assert same(np.stack([one.inside for one in out]), expected)
    assert all(one.intact() for one in out)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # infinities, where it runs interpreted
@pytest.mark.parametrize("dtype", SOME_FLOATS)
def test_floats(dtype):
    """Through the backend, which prepares the kernels' tables; the reference is NumPy's np.interp."""
    rng = np.random.default_rng(2)
    image = rng.normal(size=(13, 17)).astype(dtype)
    image[3, 3], image[4, 4], image[5, 5] = np.nan, np.inf, 0.5
    mask = rng.random(image.shape) < 0.8
    for keywords in ({}, {"bins": 1}, {"bins": 7, "value_range": (-1, 1)}, {"nodata": 0.5}, {"mask": mask}):
        got, expected = (histeq.equalize(image, backend=b, **keywords) for b in ("numba", "numpy"))
        assert same(got, expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # as above
@pytest.mark.parametrize("dtype", SOME_FLOATS)
@pytest.mark.parametrize("scale", [1, 1e38])
def test_floats_at_the_ends_of_the_range(dtype, scale):
    """Values that the guess of a bin cannot decide: the ends, beyond them, infinite, and -0 as nodata."""
    rng = np.random.default_rng(5)
    values = np.array([-1, -1, 0, -0.0, 0.1, 1, 1, 2, -2, np.nan, np.inf, -np.inf]) * scale
    image = rng.choice(values.astype(dtype), (2, 300))
    ranges = ({}, {"value_range": (-scale, scale)}, {"bins": 300, "value_range": (-scale, scale)})
    for keywords in (*ranges, {"nodata": -0.0}, {"nodata": 0.1}, {"nodata": 0.1, **ranges[1]}):
        for function in (histeq.equalize, histeq.histogram):
            got, expected = (function(image, backend=b, **keywords) for b in ("numba", "numpy"))
            assert same(got, expected)
            assert same(np.signbit(got), np.signbit(expected))


@each_tier
@pytest.mark.parametrize("size", [0, 1, 511, 513, 9000])
def test_few_bins(size, tier):
    rng = np.random.default_rng(size)
    for dtype in SOME_FLOATS:
        image = rng.normal(size=(2, 2, size // 8 if INTERPRETED else size)).astype(dtype)
        image[..., 3::7] = rng.choice(np.array([np.nan, np.inf, -np.inf, 0, -1, 1, 9], dtype))
        kernel = histogram_few_bins_rows.variant(f"f{8 * image.itemsize}", tier)
        for bins in (1, 7, 256):
            edges, counts, scratch = np.linspace(-1, 1, bins + 1, dtype=dtype), np.ones(256, int), counters()
            kernel(image, edges, np.zeros(BLOCK, np.int32), np.zeros(PIXELS, np.uint8), scratch, counts)
            assert same(counts[:bins], np.histogram(image, edges)[0] + 1)
            assert (counts[bins:] == 1).all()
            assert not scratch[:ZEROS].any()


@pytest.mark.parametrize("dtype", SOME_FLOATS)
def test_extremes_of_rows(dtype):
    rng = np.random.default_rng(6)
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0, -0.0], dtype)
    for size in (0, 1, 2, 15, 16, 17, 33, 100):
        image = np.concatenate([rng.choice(special, size), rng.normal(size=size // 2).astype(dtype)])
        image *= rng.choice(np.array([1e-40, 1, -1e30], dtype))
        ranks = np.dtype(f"i{image.itemsize}")
        limits = np.array([np.iinfo(ranks).max, np.iinfo(ranks).min], ranks)
        kernel = getattr(extremes_rows, f"i{8 * image.itemsize}")
        kernel(image.view(ranks).reshape(1, 1, -1), limits)
        finite = image[np.isfinite(image)]
        if finite.size == 0:
            assert limits[0] > limits[1]
        else:
            found = np.where(limits < 0, limits ^ np.iinfo(ranks).max, limits).view(dtype)
            assert tuple(found) == (finite.min(), finite.max())


@pytest.mark.parametrize("dtype", SOME_FLOATS)
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


@pytest.mark.parametrize("dtype", SOME_INTEGERS)
def test_match(dtype):
    rng = np.random.default_rng(4)
    pairs_of_images = [(random_values(rng, 60, dtype), random_values(rng, 90, dtype)) for _ in range(20)]
    for image, reference in [*pairs_of_images, (pairs_of_images[0][0], np.empty(0, dtype))]:
        got, expected = (histeq.match(image, reference, layout="W", backend=b) for b in ("numba", "numpy"))
        assert same(got, expected)


def test_unknown_variant():
    with pytest.raises(AttributeError, match="kernel histogram has no variant 'u32'"):
        _ = histogram.u32


def all_kernels():
    """Return every declared kernel."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(histeq_kernels.cpu.__path__, "histeq_kernels.cpu.")
    ]
    return {value for module in modules for value in vars(module).values() if isinstance(value, Kernel)}


@pytest.mark.skipif(not AS_SHIPPED, reason="signatures fit in every way of compiling, or in none")
def test_every_variant_compiles():
    """The signatures are written by hand: each must fit its kernel's code."""
    compiled = [getattr(kernel, tag) for kernel in all_kernels() for tag in kernel._signatures]
    assert all(map(callable, compiled))
    assert len(compiled) >= 50


def test_every_kernel_that_calls_an_operation_is_declared_for_tiers():
    operations_of = portable.TIER.operations
    for kernel in all_kernels():
        calls = operations.specialized(kernel._function, operations_of) is not kernel._function
        assert calls == isinstance(kernel, tiers.TieredKernel), kernel.name


@pytest.mark.parametrize("tier", tiers.TIERS.values(), ids=name)
def test_every_tier_implements_every_operation(tier):
    declared = {key for key, value in vars(operations).items() if isinstance(value, operations.Operation)}
    assert set(tier.operations) == declared


def test_digest_covers_every_folder(tmp_path):
    """Part of every cache entry's name: machine code must not outlive a change of any source."""
    source = Path(histeq_kernels.cpu.__file__).parent
    copy = tmp_path / "cpu"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    digests = {_digest(_sources(copy))}
    assert digests == {_digest(_sources(source))}
    files = sorted(copy.rglob("*.py"))
    assert len({file.parent for file in files}) > 5
    for file in files:
        file.write_text(file.read_text() + "# changed\n")
        digests.add(_digest(_sources(copy)))
    assert len(digests) == len(files) + 1
