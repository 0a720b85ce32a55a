"""Counting and mapping each channel of interleaved 8-bit pixels (`step` 3 or 4) alone.

Chunk by chunk the channels are taken apart in the first-level cache, where the kernels of grey images serve
them, and put together again. A fourth channel is copied.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb
from histeq_kernels.cpu._kernel import inline, kernel, plane, plane_out
from histeq_kernels.cpu._sliced import SUMS, TALL, count_sliced, fold_sliced, slice_block_avx512
from histeq_kernels.cpu._vector import address_in, line, part_8, part_32, row
from histeq_kernels.cpu._ycrcb import WIDTH
from histeq_kernels.cpu.histogram import SMALL, ZEROS, count_row, fold
from histeq_kernels.cpu.luma import BLOCK, CHUNK, lookup, lookup_avx512
from histeq_kernels.cpu.lut import fill_steps, map_row_avx2
from histeq_kernels.cpu.tiers import tier

_COUNT = f"void({plane('uint8')}, uint64, uint8[:, ::1], uint32[:, ::1], int64[:, ::1])"
_TABLES = "Array(uint8, 2, 'C', readonly=True)"
_APPLY = f"void({plane('uint8')}, uint64, {_TABLES}, uint8[:, ::1], {plane_out('uint8')})"


def counting() -> Callable[..., None]:
    """Return the fastest kernel that counts interleaved channels."""
    return (histogram_channels_avx512 if tier() == "avx512" else histogram_channels).u8


def mapping() -> Callable[..., None]:
    """Return the fastest kernel that maps interleaved channels."""
    kernels = {
        "portable": apply_channels_portable,
        "avx2": apply_channels_avx2,
        "avx512": apply_channels_avx512,
    }
    return kernels[tier()].u8


@kernel(u8=_COUNT)
def histogram_channels(image, step, chunks, scratch, counts):
    """Add the counts of the first three channels; `scratch` has a row for each."""
    few = np.uint64(image.size) < step * np.uint64(SMALL)
    channels = (chunks[0], chunks[1], chunks[2], chunks[3])
    for d in range(np.uint64(image.shape[0])):
        for h in range(np.uint64(image.shape[1])):
            pixels = row(image, d, h)
            width = np.uint64(pixels.size) // step
            for start in range(np.uint64(0), width, np.uint64(CHUNK)):
                size = min(np.uint64(CHUNK), width - start)
                take_apart(pixels, start, size, step, channels)
                for c in range(3):
                    count_row(chunks[c][:size], few, scratch[c], counts[c])
    for c in range(3):
        fold(few, scratch[c], counts[c])


@kernel(u8=_COUNT)
def histogram_channels_avx512(image, step, chunks, scratch, counts):
    """Do the same with the counter of the tier avx512; only the first row of `scratch` is used."""
    memory = scratch[0]
    count_blocks_of_channels(image, step, chunks, memory)
    for c in range(3):
        fold_sliced(part_32(memory, c * SUMS, SUMS), counts[c])


@kernel(u8=_APPLY)
def apply_channels_portable(image, step, tables, chunks, out):
    """Map three channels, each through its row of `tables`."""
    map_channels(image, step, tables, chunks, out, lookup)


@kernel(u8=_APPLY)
def apply_channels_avx2(image, step, tables, chunks, out):
    """Do the same with the lookup of the tier avx2."""
    for c in range(3):
        fill_steps(tables[c], chunks[4 + c])
    map_channels(image, step, tables, chunks, out, map_row_avx2)


@kernel(u8=_APPLY)
def apply_channels_avx512(image, step, tables, chunks, out):
    """Do the same with the lookup of the tier avx512."""
    map_channels(image, step, tables, chunks, out, lookup_avx512)


@inline
def count_blocks_of_channels(image, step, chunks, memory):
    """Count blocks of several rows into three times `SUMS` entries of the memory."""
    room, zero, block = line(chunks), np.uint64(0), np.int64(BLOCK)
    tall = np.uint64(TALL if image.shape[1] >= TALL // 2 else 1)
    wide, width = np.uint64(BLOCK) // tall, np.uint64(image.shape[2]) // step
    for d in range(np.uint64(image.shape[0])):
        for top in range(zero, np.uint64(image.shape[1]), tall):
            height = min(tall, np.uint64(image.shape[1]) - top)
            for start in range(zero, width, wide):
                size = min(wide, width - start)
                for y in range(height):
                    at, length = np.int64(wide * y), np.int64(size)
                    red, green = part_8(room, at, length), part_8(room, block + at, length)
                    blue, alpha = part_8(room, 2 * block + at, length), part_8(room, 3 * block + at, length)
                    take_apart(row(image, d, top + y), start, size, step, (red, green, blue, alpha))
                for c in range(3):
                    begin, own = address_in(room, np.uint64(c * BLOCK)), part_32(memory, c * SUMS, SUMS)
                    masks = ZEROS - c * SUMS
                    count_sliced(begin, height, size, wide, own, masks, slice_block_avx512, False)


@inline
def map_channels(image, step, tables, chunks, out, look_up):
    """Map chunk by chunk; the steps of the tables are in the chunks from the fifth on."""
    channels = (chunks[0], chunks[1], chunks[2], chunks[3])
    for d in range(np.uint64(image.shape[0])):
        for h in range(np.uint64(image.shape[1])):
            pixels, new = row(image, d, h), row(out, d, h)
            width = np.uint64(pixels.size) // step
            for start in range(np.uint64(0), width, np.uint64(CHUNK)):
                size = min(np.uint64(CHUNK), width - start)
                take_apart(pixels, start, size, step, channels)
                for c in range(3):
                    look_up(chunks[c][:size], tables[c], chunks[4 + c], chunks[c])
                put_together(chunks, start, size, step, new)


@inline
def take_apart(pixels, start, size, step, channels):
    """Write the four channels, or three, of some pixels of a row."""
    red, green, blue, alpha = channels
    whole = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), whole, np.uint64(WIDTH)):
        at = step * (start + i)
        if step == 3:
            _ycrcb.take_apart_rgb(pixels, at, red, green, blue, alpha, i)
        else:
            _ycrcb.take_apart_rgba(pixels, at, red, green, blue, alpha, i)
    for i in range(whole, size):
        for c in range(step):
            channels[c][i] = pixels[step * (start + i) + c]


@inline
def put_together(chunks, start, size, step, pixels):
    """Write the first chunks as the channels of some pixels of a row."""
    whole = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), whole, np.uint64(WIDTH)):
        at = step * (start + i)
        if step == 3:
            _ycrcb.put_together_rgb(chunks[0], chunks[1], chunks[2], chunks[3], i, pixels, at)
        else:
            _ycrcb.put_together_rgba(chunks[0], chunks[1], chunks[2], chunks[3], i, pixels, at)
    for i in range(whole, size):
        for c in range(step):
            pixels[step * (start + i) + c] = chunks[c, i]
