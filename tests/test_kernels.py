"""The CPU kernels themselves: exact at every size around the widths they work in, inside their buffers.

This file also runs with NUMBA_DISABLE_JIT=1, which shows every line of a kernel to the coverage tool, with
NUMBA_BOUNDSCHECK=1, which makes an index outside an array an error, and compiled for a generic processor.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from histeq_kernels.cpu import (
    blend,
    channels,
    clahe_avx512,
    clahe_luma,
    equalize,
    equalize_color,
    histogram,
    luma,
    lut,
    recolor,
    shared,
    table,
    tiers,
    tiles,
    waiting,
)
from histeq_kernels.cpu._kernel import Kernel
from images import INTEGERS, random_values, same

import histeq
from histeq._core import rules as _rules
from histeq._core import ycrcb as _color

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
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


def only(tier, kernel):
    """Return a kernel as a test parameter, left out where its instructions are missing."""
    return [kernel] if tier in tiers.available() else []


# Any processor can run `histogram_sliced`, which is `histogram_avx512` but for one instruction.
COUNTERS = [histogram.histogram_small, histogram.histogram]
COUNTERS += ([] if INTERPRETED else [histogram.histogram_sliced]) + only("avx512", histogram.histogram_avx512)
MAPPERS = [lut.apply_small, lut.apply_pairs, *only("avx2", lut.apply_avx2), *only("avx512", lut.apply_avx512)]
WHOLES = [
    equalize.equalize_portable,
    equalize.equalize_large_portable,
    *only("avx2", equalize.equalize_avx2),
    *only("avx2", equalize.equalize_large_avx2),
    *only("avx512", equalize.equalize_avx512),
]
SHARED = [
    shared.work_portable,
    *only("avx2", shared.work_avx2),
    *only("avx512", shared.work_avx512),
]
LUMA_COUNTERS = [
    luma.histogram_luma_portable,
    *only("avx2", luma.histogram_luma_avx2),
    *only("avx512", luma.histogram_luma_avx512),
]
LUMA_MAPPERS = [
    luma.apply_luma_portable,
    *only("avx2", luma.apply_luma_avx2),
    *only("avx512", luma.apply_luma_avx512),
]
SMALL_LUMA = [
    equalize_color.luma_portable,
    *only("avx2", equalize_color.luma_avx2),
    *only("avx512", equalize_color.luma_avx512),
]
SMALL_CHANNELS = [
    equalize_color.channels_portable,
    *only("avx2", equalize_color.channels_avx2),
    *only("avx512", equalize_color.channels_avx512),
]
SMALL_COLOR = {"luma": SMALL_LUMA, "luma-bgr": SMALL_LUMA, "channels": SMALL_CHANNELS}
CHANNEL_COUNTERS = [channels.histogram_channels, *only("avx512", channels.histogram_channels_avx512)]
CHANNEL_MAPPERS = [
    channels.apply_channels_portable,
    *only("avx2", channels.apply_channels_avx2),
    *only("avx512", channels.apply_channels_avx512),
]


def name(kernel):
    return kernel._function.__name__


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
    return np.zeros(histogram.SCRATCH, np.uint32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", COUNTERS, ids=name)
def test_histogram(kernel, size):
    image = rows_of(np.random.default_rng(size), (2, 2, size))
    scratch, counts = counters(), np.ones(256, np.int64)
    kernel.u8(image, scratch, counts)
    assert same(counts, np.bincount(image.ravel(), minlength=256) + 1)
    assert not scratch[: histogram.ZEROS].any()


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
@pytest.mark.parametrize("kernel", COUNTERS, ids=name)
def test_histogram_of_blocks(kernel, shape, joined):
    image = rows_of(np.random.default_rng(shape[2]), shape)
    image = np.ascontiguousarray(image) if joined else image
    scratch, counts = counters(), np.ones(256, np.int64)
    kernel.u8(image, scratch, counts)
    assert same(counts, np.bincount(image.ravel(), minlength=256) + 1)
    assert not scratch[: histogram.ZEROS].any()


@pytest.mark.parametrize("kernel", COUNTERS, ids=name)
def test_histogram_of_ranges(kernel):
    """A block whose pixels lie between any two values, one pixel each at the ends."""
    rng = np.random.default_rng(1)
    ends = [0, 1, 15, 16, 17, 127, 128, 129, 239, 240, 254, 255]
    ends = ends[::3] if INTERPRETED else ends
    for low, high in ((low, high) for low in ends for high in ends if low <= high):
        image = rng.integers(low, high, (1, 16, 32), np.uint8, endpoint=True)
        image[0, rng.integers(16), rng.integers(32)] = low
        image[0, rng.integers(16), rng.integers(32)] = high
        counts, scratch = np.zeros(256, np.int64), counters()
        kernel.u8(image, scratch, counts)
        assert same(counts, np.bincount(image.ravel(), minlength=256))
        assert not scratch[: histogram.ZEROS].any()


@pytest.mark.parametrize("kernel", COUNTERS, ids=name)
@pytest.mark.parametrize("content", ["flat", "two", "ramp", "noise"])
def test_histogram_of_contents(kernel, content):
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
    kernel.u8(image, counters(), counts)
    assert same(counts, np.bincount(image.ravel(), minlength=256))


@pytest.mark.parametrize("size", [(1 << 15) - 1, 1 << 15, 40_013, *([] if INTERPRETED else [300_007])])
@pytest.mark.parametrize("flat", [0.0, 0.1, 0.9])
def test_histogram_of_scattered_pairs(size, flat):
    """Noise, in which counters of one byte are in use, and wrap where there is a flat part."""
    image = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    for start in (1000, size // 2 + 1000):
        image[start : start + int(flat * size / 2)] = 200
    scratch, counts = counters(), np.ones(256, np.int64)
    histogram.histogram.u8(image.reshape(1, 1, size), scratch, counts)
    assert same(counts, np.bincount(image, minlength=256) + 1)
    assert not scratch[: histogram.ZEROS].any()


@pytest.mark.parametrize("size", [*SIZES, (1 << 18) - 1, (1 << 18) + 5])
@pytest.mark.parametrize("most", [0, 300])
def test_histogram_16_bit(size, most):
    image = rows_of(np.random.default_rng(size), (1 if size >> 18 else 2, 2, size), np.uint16, most)
    image[..., size // 4 : size // 3] = 7  # in noise, whose counters are of one byte, this one wraps
    scratch, counts = counters(), np.zeros(65536, np.int64)
    histogram.histogram_direct.u16(image, scratch, counts)
    assert same(counts, np.bincount(image.ravel(), minlength=65536))
    assert not scratch[: histogram.ZEROS].any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", MAPPERS, ids=name)
def test_apply(kernel, size):
    rng = np.random.default_rng(size)
    image, levels = rows_of(rng, (2, 2, size)), rng.integers(0, 256, 256, np.uint8)
    out, scratch = Guarded(image.shape, np.uint8), np.full(lut.SCRATCH, 999, np.uint16)
    kernel.u8(image, levels, scratch, out.inside)
    assert same(out.inside, levels[image])
    assert out.intact()
    expected = levels[image]
    kernel.u8(image, levels, scratch, image)  # in place
    assert same(image, expected)


@pytest.mark.parametrize("kernel", MAPPERS, ids=name)
def test_apply_every_value_through_every_entry(kernel):
    image = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    for entry in range(0, 256, 37 if INTERPRETED else 1):
        levels = np.zeros(256, np.uint8)
        levels[entry] = 255
        out = np.empty_like(image)
        kernel.u8(image, levels, np.zeros(lut.SCRATCH, np.uint16), out)
        assert same(out[0, 0], levels)


@pytest.mark.parametrize("size", SIZES[::3])
@pytest.mark.parametrize(
    ("kernel", "tag", "source", "target"),
    [
        (lut.apply_lut, "u8_f64", "u1", "f8"),
        (lut.apply_direct, "u16", "u2", "u2"),
        (lut.apply_direct, "u16_f64", "u2", "f8"),
        (lut.apply_direct, "u16_f32", "u2", "f4"),
        (lut.apply_lut_strided, "u8", "u1", "u1"),
        (lut.apply_lut_strided, "u16", "u2", "u2"),
        (lut.apply_lut_strided, "u8_f64", "u1", "f8"),
        (lut.apply_lut_strided, "u16_f64", "u2", "f8"),
        (lut.apply_lut_strided, "u16_f32", "u2", "f4"),
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


@pytest.mark.parametrize("kernel", WHOLES, ids=name)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (8, 8), (33, 31), (64, 65), (400, 401)])
def test_whole(kernel, shape):
    shape = shape if not INTERPRETED else (shape[0], min(shape[1], 9))
    rng = np.random.default_rng(3)
    memory = np.zeros(equalize.MEMORY, np.uint32)
    for most in (1, 2, 40, 256):
        image = rng.integers(0, most, shape, np.uint8)
        out = np.empty_like(image)
        kernel.u8(image, memory, out)
        assert same(out, histeq.equalize(image, backend="numpy"))
        assert not memory[: histogram.ZEROS].any()


@pytest.mark.parametrize("kernel", SHARED, ids=name)
@pytest.mark.parametrize("shape", [(1, 3, 900), (1, 40, 50), (30, 5, 7), (1, 100, 33)])
@pytest.mark.parametrize("threads", [1, 3])
def test_shared(threads, shape, kernel):
    """The work of several threads, done one after the other."""
    shape = (shape[0], min(shape[1], 20), min(shape[2], 60)) if INTERPRETED else shape
    image = rows_of(np.random.default_rng(threads), shape, most=200)
    expected = histeq.equalize(image, layout="DHW", backend="numpy")
    pieces = min(5, shared.most_pieces(shape))
    counts, _, size = shared.entries(pieces, threads)
    state, memory, out = (
        np.zeros(size, np.int64),
        np.zeros(equalize.MEMORY, np.uint32),
        Guarded(shape, np.uint8),
    )
    for thread in range(1, threads):
        kernel.u8(image, pieces, thread, threads, shared.COUNT, state, memory, out.inside)
    kernel.u8(image, pieces, 0, threads, shared.COUNT + shared.TABLE + shared.MAP, state, memory, out.inside)
    assert state[:3].tolist() == [pieces, 1, pieces]
    assert state[counts : counts + 256].sum() == image.size  # the first thread has added up all
    assert same(np.ascontiguousarray(out.inside), expected)
    assert out.intact()
    assert not memory[: histogram.ZEROS].any()


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


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (8, 8), (33, 31), (200, 301)])
def test_whole_16_bit(shape, rule):
    shape = shape if not INTERPRETED else (shape[0], min(shape[1], 9))
    rng = np.random.default_rng(4)
    memory = np.zeros(equalize.MEMORY, np.uint32)
    for most in (1, 2, 500, 65536):
        image = rng.integers(0, most, shape).astype(np.uint16)
        out = np.empty_like(image)
        equalize.direct(rule)(image, memory, out)
        assert same(out, histeq.equalize(image, rule=rule, backend="numpy"))
        assert not memory[: histogram.ZEROS].any()


def color_rows(rng, step, width, height=2):
    """Return rows of color pixels, in planes or interleaved, and their channels."""
    if step == 1:
        planes = [rows_of(rng, (1, height, width)) for _ in range(3)]
        return planes, np.stack(planes)
    pixels = rows_of(rng, (1, height, width * step))
    return [pixels] * 3, np.moveaxis(pixels.reshape(1, height, width, step), -1, 0)


def color_output(step, width, height=2):
    """Return guarded outputs, as the kernels take them, and a function that gives their channels."""
    if step == 1:
        out = [Guarded((1, height, width), np.uint8) for _ in range(3)]
        return out, [one.inside for one in out], lambda: np.stack([one.inside for one in out])
    one = Guarded((1, height, width * step), np.uint8)
    channels = lambda: np.moveaxis(np.array(one.inside).reshape(1, height, width, step), -1, 0)  # noqa: E731
    return [one], [one.inside] * 3, channels


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize(
    "width", [0, 1, 31, 32, 33, 64, 100, *([] if INTERPRETED else [2047, 2048, 2049, 5000])]
)
@pytest.mark.parametrize("height", [2, 9])
def test_luma_rows(height, width, step, order):
    rng = np.random.default_rng(width)
    image, planes = color_rows(rng, step, width, height)
    in_order = planes[:3] if order == "rgb" else planes[2::-1]
    k, chunks = luma.COEFFICIENTS[order], np.zeros(luma.CHUNKS, np.uint8)
    for kernel in LUMA_COUNTERS:
        counts, scratch = np.zeros(256, np.int64), counters()
        kernel.u8(*image, step, k, chunks, scratch, counts)
        assert same(counts, np.bincount(_color.luma(*in_order).ravel(), minlength=256))
        assert not scratch[: histogram.ZEROS].any()
    levels = rng.integers(0, 256, 256, np.uint8)
    expected = np.stack(_color.replace_luma(*in_order, levels))
    expected = expected if order == "rgb" else expected[::-1]
    for kernel in LUMA_MAPPERS:
        out, rows, channels_of = color_output(step, width, height)
        kernel.u8(*image, step, k, levels, chunks, *rows)
        got = channels_of()
        assert same(got[:3], expected)
        assert same(got[3:], planes[3:])  # alpha, where there is one
        assert all(one.intact() for one in out)


@pytest.mark.parametrize("step", [3, 4])
@pytest.mark.parametrize(
    "width", [0, 1, 31, 32, 33, 64, 100, *([] if INTERPRETED else [2047, 2048, 2049, 5000])]
)
@pytest.mark.parametrize("height", [2, 9])
def test_channel_rows(height, width, step):
    rng = np.random.default_rng(width)
    (image, *_), planes = color_rows(rng, step, width, height)
    chunks, scratch = np.zeros(luma.CHUNKS, np.uint8), np.zeros((3, histogram.SCRATCH), np.uint32)
    for kernel in CHANNEL_COUNTERS:
        counts = np.zeros((3, 256), np.int64)
        kernel.u8(image, step, chunks, scratch, counts)
        assert same(counts, np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes[:3]]))
        assert not scratch[:, : histogram.ZEROS].any()
    levels = rng.integers(0, 256, (3, 256), np.uint8)
    for kernel in CHANNEL_MAPPERS:
        out = Guarded(image.shape, np.uint8)
        kernel.u8(image, step, levels, chunks, out.inside)
        got = np.moveaxis(np.array(out.inside).reshape(1, height, width, step), -1, 0)
        assert all(same(got[c], levels[c][planes[c]]) for c in range(3))
        assert same(got[3:], planes[3:])
        assert out.intact()


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (2, 1), (3, 11), (4, 8), (7, 64), (5, 77), *([] if INTERPRETED else [(64, 65), (300, 301)])],
)
def test_small_color(shape, count):
    rng = np.random.default_rng(shape[1])
    image = rng.integers(20, 20 + rng.integers(1, 236), (*shape, count), np.uint8)
    image[..., 1] //= 2
    memory, chunks = np.zeros(equalize.MEMORY, np.uint32), np.zeros(luma.CHUNKS, np.uint8)
    for kernel, color in ((k, c) for c, kernels in SMALL_COLOR.items() for k in kernels):
        expected = histeq.equalize(image, layout="HWC", color=color, alpha=count == 4, backend="numpy")
        watched = np.full(image.size + 2 * GUARD, 0x5A, np.uint8)
        out = watched[GUARD:-GUARD].reshape(image.shape)
        k = () if color == "channels" else (luma.COEFFICIENTS["rgb" if color == "luma" else "bgr"],)
        height, width, step = image.shape
        lines = [one.reshape(1, height, width * step) for one in (image, out)]
        kernel.u8(lines[0], step, *k, memory, chunks, lines[1])
        assert same(out, expected)
        assert (watched[:GUARD] == 0x5A).all()
        assert (watched[-GUARD:] == 0x5A).all()
        assert not memory[: histogram.ZEROS].any()
        np.copyto(out, image)
        kernel.u8(lines[1], step, *k, memory, chunks, lines[1])
        assert same(out, expected)


def test_arithmetic_of_every_color():
    """The luma kernels' 16-bit arithmetic is exact."""
    rng = np.random.default_rng(5)
    count = 2048 if INTERPRETED else 1 << 20
    pixels = rng.integers(0, 256, (count, 3), np.uint8)
    pixels[: count // 2] = rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (count // 2, 3))
    image, levels = pixels.reshape(1, 1, -1), rng.integers(0, 256, 256, np.uint8)
    expected = np.stack(_color.replace_luma(*pixels.T, levels), axis=-1)
    for kernel in LUMA_MAPPERS:
        out = np.empty_like(image)
        chunks = np.zeros(luma.CHUNKS, np.uint8)
        kernel.u8(*[image] * 3, 3, luma.COEFFICIENTS["rgb"], levels, chunks, *[out] * 3)
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


@pytest.mark.skipif(INTERPRETED, reason="no tier but the portable one without the JIT")
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
    features = "+avx2,+avx512f,+avx512bw,+avx512vbmi,+avx512vpopcntdq,+gfni"
    assert run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features).stdout.strip() == "avx512"
    assert (
        "HISTEQ_CPU_TIER must be one of portable, avx2, avx512, got 'sse'"
        in run(HISTEQ_CPU_TIER="sse").stderr
    )
    missing = run(HISTEQ_CPU_TIER="avx2", NUMBA_CPU_NAME="generic").stderr
    assert "HISTEQ_CPU_TIER='avx2' is not available here: the processor lacks avx2" in missing


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow", "vips"])
@pytest.mark.parametrize("dtype", INTEGERS[: 1 if INTERPRETED else None])
def test_tables(rule, dtype):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    tag = {"uint8": "u8", "uint16": "u16", "int16": "i16"}[dtype]
    for size in (1, 2, 3, 50, 3000):
        values = random_values(rng, size, dtype).astype(np.int64) - limits.min
        counts = np.bincount(values, minlength=_rules.levels_of(dtype))
        out = np.full(len(counts), 77, dtype)
        span = limits.max - limits.min
        if rule == "vips":
            span = _rules.top(counts, span, None)
        getattr(getattr(table, f"table_{rule}"), tag)(
            counts, limits.min, limits.min, span, np.zeros(table.SUMS), out
        )
        assert same(out, _rules.lookup_table(counts, rule, np.dtype(dtype), None))
    for counts in (np.zeros(256, np.int64), np.eye(1, 256, 255, dtype=np.int64)[0]):
        out = np.full(256, 77, np.uint8)
        getattr(table, f"table_{rule}").u8(counts, 0, 0, 255, np.zeros(table.SUMS), out)
        assert same(out, _rules.lookup_table(counts, rule, np.dtype("u1"), None))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma_strided(dtype):
    rng = np.random.default_rng(1)
    entries = _rules.levels_of(dtype)
    planes = rng.integers(0, entries, (3, 2, 5, 7)).astype(dtype)
    planes[:, 0, 0, 0] = 3
    mask = rng.integers(0, 2, (2, 5, 7), np.uint8)
    mask[0, 0, 0] = 1
    levels = rng.integers(0, entries, entries).astype(dtype)
    tag = f"u{8 * np.dtype(dtype).itemsize}"
    counts = np.zeros(entries, np.int64)
    getattr(luma.histogram_luma, tag)(*planes, mask, 3, counts)
    counted = mask.astype(bool)
    counted[0, 0, 0] = False
    assert same(counts, np.bincount(_color.luma(*planes)[counted], minlength=entries))
    out = [Guarded((2, 5, 7), dtype) for _ in range(3)]
    getattr(luma.apply_luma, tag)(*planes, levels, 3, *(one.inside for one in out))
    expected = np.stack(_color.replace_luma(*planes, levels))
    expected[:, 0, 0, 0] = 3
    assert same(np.stack([one.inside for one in out]), expected)
    assert all(one.intact() for one in out)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # infinities, where it runs interpreted
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


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")
def test_every_variant_compiles():
    """The signatures are written by hand: each must fit its kernel's code."""
    compiled = 0
    modules = (
        blend,
        channels,
        clahe_avx512,
        clahe_luma,
        equalize,
        equalize_color,
        histogram,
        luma,
        lut,
        recolor,
        shared,
        table,
        tiles,
    )
    for module in (*modules, waiting):
        for value in vars(module).values():
            if isinstance(value, Kernel) and (
                not name(value).endswith(("avx2", "avx512"))
                or name(value).rsplit("_", 1)[1] in tiers.available()
            ):
                for tag in value._signatures:
                    assert callable(getattr(value, tag))
                    compiled += 1
    assert compiled >= 50
