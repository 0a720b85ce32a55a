"""Counting, table and mapping in one call, by the default rule.

For small images calls are what costs. For large ones, too: pixels drive the interpreter out of the caches,
and a line of Python takes ten times as long. Every array that a kernel is given takes its time, so that all
they work in is one.
"""

import functools
from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _sliced, histogram, lut
from histeq_kernels.cpu import table as rules
from histeq_kernels.cpu._kernel import Kernel, inline, kernel
from histeq_kernels.cpu._pairs import MANY, count_row_direct_many, count_row_many, fold_pairs
from histeq_kernels.cpu._vector import address_in, line, part_8, part_16, part_32, part_f64, part_i64
from histeq_kernels.cpu.histogram import SMALL, count_row_small, merge_small
from histeq_kernels.cpu.lut import (
    PAST_CACHES,
    fill_pairs,
    fill_steps,
    map_row_avx2,
    map_row_avx512,
    map_row_direct,
    map_row_pairs,
    map_row_small,
)
from histeq_kernels.cpu.lut import SMALL as FEW
from histeq_kernels.cpu.table import SUMS, fill, fill_occupied, occupied
from histeq_kernels.cpu.tiers import tier

__all__ = ["MEMORY", "SMALL", "direct", "equalizing"]

CUMULATIVE = histogram.SCRATCH
_TABLE = CUMULATIVE + 2 * SUMS
LEVELS = _TABLE + 64
MEMORY = LEVELS + lut.SCRATCH // 2
"""Entries of the memory to work in, uint32: counters (`histogram.SCRATCH`, zero before and after every call),
cumulative counts (`table.SUMS` float64), a table of 256 uint8, one of 65536 uint16 (`lut.SCRATCH`)."""

_IMAGE = "void(Array(uint8, 2, 'C', readonly=True), uint32[::1], uint8[:, ::1])"
_WIDE = "void(Array(uint16, 2, 'C', readonly=True), uint32[::1], uint16[:, ::1])"


def equalizing(pixels: int) -> Callable[..., None]:
    """Return the fastest kernel for this many pixels, fewer than 2**31."""
    return _kernels()[pixels >= MANY].u8


@functools.cache
def _kernels() -> tuple[Kernel, Kernel]:
    """Return the kernels of the tier in use for few pixels and for many."""
    kernels = {
        "portable": (equalize_portable, equalize_large_portable),
        "avx2": (equalize_avx2, equalize_large_avx2),
        "avx512": (equalize_avx512, equalize_avx512),
    }
    return kernels[tier()]


@kernel(u8=_IMAGE)
def equalize_portable(image, memory, out):
    """Equalize a contiguous image, best a small one."""
    pixels, new = line(image), line(out)
    table = table_of_small(pixels, memory)
    if pixels.size < FEW:
        map_row_small(pixels, table, new)
    else:
        pairs = part_16(memory, LEVELS, 65536)
        fill_pairs(table, pairs)
        map_row_pairs(pixels, table, pairs, new)


@kernel(u8=_IMAGE)
def equalize_avx2(image, memory, out):
    """Do the same with the lookup of the tier avx2."""
    pixels = line(image)
    table, steps = table_of_small(pixels, memory), part_8(memory, LEVELS, 256)
    fill_steps(table, steps)
    map_row_avx2(pixels, table, steps, line(out))


@kernel(u8=_IMAGE)
def equalize_large_portable(image, memory, out):
    """Equalize a contiguous image, best a large one."""
    pixels, pairs = line(image), part_16(memory, LEVELS, 65536)
    table = table_of_large(pixels, memory)
    fill_pairs(table, pairs)
    map_row_pairs(pixels, table, pairs, line(out))


@kernel(u8=_IMAGE)
def equalize_large_avx2(image, memory, out):
    """Do the same with the lookup of the tier avx2."""
    pixels, steps = line(image), part_8(memory, LEVELS, 256)
    table = table_of_large(pixels, memory)
    fill_steps(table, steps)
    map_row_avx2(pixels, table, steps, line(out))


@kernel(u8=_IMAGE)
def equalize_avx512(image, memory, out):
    """Equalize any contiguous image with the counter and the lookup of the tier avx512."""
    pixels, counts = line(image), empty_counts(memory)
    height, width = np.uint64(image.shape[0]), np.uint64(image.shape[1])
    first, start = address_in(pixels, np.uint64(0)), histogram.ZEROS
    _sliced.count_sliced(first, height, width, width, memory, start, _sliced.slice_block_avx512, True)
    _sliced.fold_rows(memory, counts)
    table, sums = part_8(memory, _TABLE, 256), part_f64(memory, CUMULATIVE, SUMS)
    fill(counts, 0, 0, 255, rules.opencv_number, rules.opencv_level, sums, table)
    map_row_avx512(pixels, table, pixels.size >= PAST_CACHES, line(out))


@inline
def table_of_small(pixels, memory):
    """Count 8-bit pixels one by one; return their table."""
    count_row_small(pixels, memory)
    merge_small(memory)
    table = part_8(memory, _TABLE, 256)
    fill_direct(part_32(memory, 0, 256), pixels.size, rules.opencv_number, rules.opencv_level, memory, table)
    return table


@inline
def table_of_large(pixels, memory):
    """Count 8-bit pixels in pairs; return their table."""
    counts = empty_counts(memory)
    count_row_many(pixels, memory, counts)
    fold_pairs(memory, counts)
    table, sums = part_8(memory, _TABLE, 256), part_f64(memory, CUMULATIVE, SUMS)
    fill(counts, 0, 0, 255, rules.opencv_number, rules.opencv_level, sums, table)
    return table


@inline
def empty_counts(memory):
    """Return room for the counts of 8-bit pixels, all of them 0."""
    counts = part_i64(memory, LEVELS, 256)
    for value in range(np.uint64(256)):
        counts[value] = 0
    return counts


@inline
def fill_direct(counters, total, number_of, level_of, memory, table):
    """Write the levels of the values that occur; leave zeros in `counters`."""
    first, last = occupied(counters)
    sums, span = part_f64(memory, CUMULATIVE, SUMS), table.size - 1
    if not fill_occupied(counters, first, last, total, 0, span, number_of, level_of, sums, table):
        for value in range(first, last + np.uint64(1)):
            table[value] = value
    for value in range(first, last + np.uint64(1)):
        counters[value] = 0


def direct(rule: str) -> Callable[..., None] | None:
    """Return the kernel that equalizes a contiguous 16-bit image of fewer than 2**31 pixels by a rule.

    None where there is none: rule "vips" has its top level from the image.
    """
    kernels = {"opencv": equalize_opencv, "numpy": equalize_numpy, "pillow": equalize_pillow}
    return kernels[rule].u16 if rule in kernels else None


@kernel(u16=_WIDE)
def equalize_opencv(image, memory, out):
    """Equalize 16 bits by the rule "opencv"."""
    equalize_direct(image, rules.opencv_number, rules.opencv_level, memory, out)


@kernel(u16=_WIDE)
def equalize_numpy(image, memory, out):
    """Do the same by the rule "numpy"."""
    equalize_direct(image, rules.numpy_number, rules.numpy_level, memory, out)


@kernel(u16=_WIDE)
def equalize_pillow(image, memory, out):
    """Do the same by the rule "pillow"."""
    equalize_direct(image, rules.pillow_number, rules.pillow_level, memory, out)


@inline
def equalize_direct(image, number_of, level_of, memory, out):
    """Count, write the table, map."""
    pixels, levels = line(image), part_16(memory, LEVELS, 65536)
    count_row_direct_many(pixels, memory)
    fill_direct(part_32(memory, 0, 65536), pixels.size, number_of, level_of, memory, levels)
    map_row_direct(pixels, levels, line(out))
