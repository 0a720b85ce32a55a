"""Counting, tables and mapping of small colour images in one call, by the default rule: see `equalize.py`."""

import functools
from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb
from histeq_kernels.cpu import table as rules
from histeq_kernels.cpu._kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._sliced import SUMS, fold_sliced
from histeq_kernels.cpu._vector import line, part_8, part_32, part_f64
from histeq_kernels.cpu.channels import count_blocks_of_channels, put_together, take_apart
from histeq_kernels.cpu.equalize import CUMULATIVE, LEVELS, empty_counts, fill_direct
from histeq_kernels.cpu.histogram import count_row_small, merge_small
from histeq_kernels.cpu.luma import (
    CHUNK,
    count_blocks_of_luma,
    lookup,
    lookup_avx512,
    luma_of_chunk,
    replace_in_chunk,
)
from histeq_kernels.cpu.lut import fill_steps, map_row_avx2
from histeq_kernels.cpu.tiers import tier

_ROOM = f"uint32[::1], uint8[:, ::1], {plane_out('uint8')}"
_LUMA = f"void({plane('uint8')}, uint64, {flat('int16')}, {_ROOM})"
_CHANNELS = f"void({plane('uint8')}, uint64, {_ROOM})"


@functools.cache
def luma() -> Callable[..., None]:
    """Return the kernel that equalizes the luma of a small image of 3 or 4 interleaved channels."""
    return {"portable": luma_portable, "avx2": luma_avx2, "avx512": luma_avx512}[tier()].u8


@functools.cache
def channels() -> Callable[..., None]:
    """Return the kernel that equalizes each of three interleaved channels; a fourth is copied."""
    return {"portable": channels_portable, "avx2": channels_avx2, "avx512": channels_avx512}[tier()].u8


@kernel(u8=_LUMA)
def luma_portable(image, step, k, memory, chunks, out):
    """Equalize Y of a contiguous (1, rows, step * columns) image.

    Parameters
    ----------
    k : the channels' coefficients
    memory, chunks : those of `equalize` and of `luma`
    """
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    replace = (_ycrcb.replace_planes_portable, _ycrcb.replace_rgb_portable, _ycrcb.replace_rgba_portable)
    equalize_luma(image, step, k, memory, chunks, out, luma, replace, lookup)


@kernel(u8=_LUMA)
def luma_avx2(image, step, k, memory, chunks, out):
    """Do the same with 16-bit products and the lookup of the tier avx2."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    replace = (_ycrcb.replace_planes_avx2, _ycrcb.replace_rgb_avx2, _ycrcb.replace_rgba_avx2)
    equalize_luma(image, step, k, memory, chunks, out, luma, replace, map_row_avx2)


@kernel(u8=_LUMA)
def luma_avx512(image, step, k, memory, chunks, out):
    """Do the same with the counter and the lookup of the tier avx512."""
    luma = (_ycrcb.luma_planes_avx512, _ycrcb.luma_rgb_avx512, _ycrcb.luma_rgba_avx512)
    replace = (_ycrcb.replace_planes_avx512, _ycrcb.replace_rgb_avx512, _ycrcb.replace_rgba_avx512)
    count_blocks_of_luma(image, image, image, step, k, chunks, memory)
    map_luma(line(image), step, k, sliced_table(0, memory), chunks, line(out), luma, replace, lookup_avx512)


@kernel(u8=_CHANNELS)
def channels_portable(image, step, memory, chunks, out):
    """Equalize each channel."""
    equalize_channels(image, step, memory, chunks, out, lookup)


@kernel(u8=_CHANNELS)
def channels_avx2(image, step, memory, chunks, out):
    """Do the same with the lookup of the tier avx2."""
    equalize_channels(image, step, memory, chunks, out, map_row_avx2)


@kernel(u8=_CHANNELS)
def channels_avx512(image, step, memory, chunks, out):
    """Do the same with the counter and the lookup of the tier avx512."""
    count_blocks_of_channels(image, step, chunks, memory)
    tables = (sliced_table(0, memory), sliced_table(1, memory), sliced_table(2, memory))
    map_channels(line(image), step, tables, chunks, line(out), lookup_avx512)


@inline
def equalize_luma(image, step, k, memory, chunks, out, luma, replace, look_up):
    """Count Y chunk by chunk; compute it again to map it."""
    old, y = line(image), chunks[0]
    size = np.uint64(old.size) // step
    for start in range(np.uint64(0), size, np.uint64(CHUNK)):
        some = min(np.uint64(CHUNK), size - start)
        luma_of_chunk((old, old, old), start, some, step, k, y, luma)
        count_row_small(part_8(y, 0, np.int64(some)), memory)
    map_luma(old, step, k, make_table(0, size, memory), chunks, line(out), luma, replace, look_up)


@inline
def map_luma(old, step, k, table_and_steps, chunks, new, luma, replace, look_up):
    """Map Y of all pixels as of one row."""
    y, mapped, size = chunks[0], chunks[1], np.uint64(old.size) // step
    table, steps = table_and_steps
    for start in range(np.uint64(0), size, np.uint64(CHUNK)):
        some = min(np.uint64(CHUNK), size - start)
        luma_of_chunk((old, old, old), start, some, step, k, y, luma)
        look_up(part_8(y, 0, np.int64(some)), table, steps, mapped)
        replace_in_chunk((old, old, old), start, some, step, k, y, mapped, (new, new, new), replace)


@inline
def equalize_channels(image, step, memory, chunks, out, look_up):
    """Count the channels chunk by chunk; take them apart again to map them."""
    old, apart = line(image), (chunks[0], chunks[1], chunks[2], chunks[3])
    size = np.uint64(old.size) // step
    for start in range(np.uint64(0), size, np.uint64(CHUNK)):
        some = min(np.uint64(CHUNK), size - start)
        take_apart(old, start, some, step, apart)
        for c in range(3):
            count_row_small(part_8(apart[c], 0, np.int64(some)), part_32(memory, 1024 * c, 1024))
    tables = (make_table(0, size, memory), make_table(1, size, memory), make_table(2, size, memory))
    map_channels(old, step, tables, chunks, line(out), look_up)


@inline
def map_channels(old, step, tables, chunks, new, look_up):
    """Map the channels of all pixels as of one row; of each, `tables` has the table and its steps."""
    apart, size = (chunks[0], chunks[1], chunks[2], chunks[3]), np.uint64(old.size) // step
    for start in range(np.uint64(0), size, np.uint64(CHUNK)):
        some = min(np.uint64(CHUNK), size - start)
        take_apart(old, start, some, step, apart)
        for c in range(3):
            look_up(part_8(apart[c], 0, np.int64(some)), tables[c][0], tables[c][1], apart[c])
        put_together(chunks, start, some, step, new)


@inline
def make_table(c, size, memory):
    """Return the table of the c-th counters, and its steps for the lookup of the tier avx2."""
    merge_small(part_32(memory, 1024 * c, 1024))
    table, steps = part_8(memory, LEVELS + 64 * c, 256), part_8(memory, LEVELS + 64 * (3 + c), 256)
    counters = part_32(memory, 1024 * c, 256)
    fill_direct(counters, np.int64(size), rules.opencv_number, rules.opencv_level, memory, table)
    fill_steps(table, steps)
    return table, steps


@inline
def sliced_table(c, memory):
    """Return the table of the c-th sums, which become zeros; twice, since this tier has no steps."""
    counts, table = empty_counts(memory), part_8(memory, LEVELS + 512 + 64 * c, 256)
    fold_sliced(part_32(memory, c * SUMS, SUMS), counts)
    sums = part_f64(memory, CUMULATIVE, rules.SUMS)
    rules.fill(counts, 0, 0, 255, rules.opencv_number, rules.opencv_level, sums, table)
    return table, table
