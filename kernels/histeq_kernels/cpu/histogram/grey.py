"""Histograms of grey images, with contiguous rows, or with any strides and a mask."""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS_OUT, inline, kernel, plane
from histeq_kernels.cpu.core.operations import (
    count_block,
    count_rows,
    fold_blocks,
    fold_rows,
    min_pixels_counted_by_rows,
)
from histeq_kernels.cpu.core.views import load_64, row, store_64
from histeq_kernels.cpu.histogram.pairs import count_long_row_16
from histeq_kernels.cpu.histogram.small import count_small
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.blocks import FEW, LARGEST_BLOCK
from histeq_kernels.cpu.ycrcb.rows import CHUNK


@tiered_kernel(u8=f"void({plane('uint8')}, uint32[::1], {COUNTS_OUT})")
def histogram(image, scratch, counts):
    """Add the counts of 8-bit pixels in contiguous rows to `counts`; `scratch` is that of `workspace.py`."""
    if image.size < min_pixels_counted_by_rows:
        count_small(image, scratch, counts)
    else:
        count_rows(image, scratch, counts)
        fold_rows(scratch, counts)


@tiered_kernel(u8=f"void({plane('uint8')}, {plane('uint8')}, uint8[::1], uint32[::1], {COUNTS_OUT})")
def histogram_masked(image, mask, workspace, scratch, counts):
    """Add the counts of the 8-bit pixels, in contiguous rows, whose mask is not zero.

    They are gathered in the workspace, which is that of `ycrcb/blocks.py`, and counted there as a grey image.
    """
    few, chunk, filled = np.uint64(image.size) < np.uint64(FEW), np.uint64(CHUNK), np.uint64(0)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            pixels, valid = row(image, z, y), row(mask, z, y)
            for start in range(np.uint64(0), np.uint64(pixels.size), chunk):
                end = min(start + chunk, np.uint64(pixels.size))
                filled = gather(pixels, valid, start, end, workspace, filled)
                if filled > np.uint64(LARGEST_BLOCK) - chunk:
                    count_block(workspace, np.uint64(1), filled, filled, 0, few, scratch, counts)
                    filled = np.uint64(0)
    count_block(workspace, np.uint64(1), filled, filled, 0, few, scratch, counts)
    fold_blocks(0, few, scratch, counts)


@inline
def gather(pixels, valid, start, end, block, filled):
    """Write the pixels from `start` to `end` that are valid to block[filled:]; return where they end.

    Most masks are of one value over many pixels. One more entry of the block may be written.
    """
    eight, step, all_valid = np.uint64(8), np.uint64(32), np.uint64(0x0101010101010101)
    vectors = start + (end - start) // step * step
    for i in range(start, vectors, step):
        a, b = load_64(valid, i), load_64(valid, i + eight)
        c, d = load_64(valid, i + eight + eight), load_64(valid, i + step - eight)
        if a & b & c & d == all_valid and a | b | c | d == all_valid:
            for k in range(np.uint64(0), step, eight):
                store_64(block, filled + k, load_64(pixels, i + k))
            filled += step
        elif a | b | c | d:
            filled = gather_each(pixels, valid, i, i + step, block, filled)
    return gather_each(pixels, valid, vectors, end, block, filled)


@inline
def gather_each(pixels, valid, start, end, block, filled):
    """Gather pixels one by one, without a branch."""
    for i in range(start, end):
        block[filled] = pixels[i]
        filled += np.uint64(valid[i] != 0)
    return filled


@kernel(u16=f"void({plane('uint16')}, uint32[::1], {COUNTS_OUT})")
def histogram_16(image, scratch, counts):
    """Add the counts of 16-bit pixels in contiguous rows to `counts`."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_long_row_16(row(image, z, y), scratch)
    for value in range(np.uint64(65536)):
        counts[value] += scratch[value]
        scratch[value] = 0


@kernel(
    u8=f"void({plane('uint8')}, {plane('uint8')}, {COUNTS_OUT})",
    u16=f"void({plane('uint16')}, {plane('uint8')}, {COUNTS_OUT})",
)
def histogram_strided(image, mask, counts):
    """Add the counts of the pixels whose mask is not zero; the arrays may have any strides."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                if mask[z, y, x]:
                    counts[image[z, y, x]] += 1
