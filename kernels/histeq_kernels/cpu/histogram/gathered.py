"""Counting the valid 8-bit pixels of an image: they are gathered, and counted as a grey image."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.operations import count_block, fold_blocks
from histeq_kernels.cpu.core.views import load_64, row, store_64
from histeq_kernels.cpu.ycrcb.blocks import FEW, LARGEST_BLOCK
from histeq_kernels.cpu.ycrcb.rows import CHUNK


@inline
def count_gathered(image, mask, workspace, scratch, counts):
    """Add the counts of the pixels, in contiguous rows, whose mask is not zero."""
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
