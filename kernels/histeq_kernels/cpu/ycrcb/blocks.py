"""Counting of the luma, or of each channel, of a colour image.

The luma or the channels of a block of pixels are written to the first-level cache, and counted there as a
grey image. The operation `count_block` counts a block: here as a part of a row, in `bitplane_blocks.py` as
bit planes.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.operations import block_pixels, block_rows, count_block
from histeq_kernels.cpu.core.views import part_8, part_32, part_i64, row
from histeq_kernels.cpu.histogram.pairs import count_row_by_pairs, fold_pairs
from histeq_kernels.cpu.histogram.small import TABLES, count_row_small, fold_small
from histeq_kernels.cpu.histogram.workspace import SCRATCH
from histeq_kernels.cpu.ycrcb.rows import CHUNK, luma_of_chunk, row_of, separate_channels

FEW = 1 << 17
"""The number of pixels below which counting pairs saves less time than folding them takes. Unlike rows in
`pairs.count_long_row`, blocks are not sampled."""
LARGEST_BLOCK = 1 << 14
"""The number of pixels of the largest block of any tier."""
LUMA = 4 * LARGEST_BLOCK
"""Where Y of a whole image begins, which has few pixels, after four channels of a block, or eight chunks."""
WORKSPACE = LUMA + FEW
"""Entries of the workspace for pixels, uint8."""


@inline
def count_blocks_of_luma(image, few, workspace, scratch, counts):
    """Count Y of a colour image: see `count_block`."""
    zero = np.uint64(0)
    depth, rows = np.uint64(image.channels[0].shape[0]), np.uint64(image.channels[0].shape[1])
    width = np.uint64(image.channels[0].shape[2]) // image.stride
    tall = block_rows(rows, width)
    wide = np.uint64(block_pixels) // tall
    for z in range(depth):
        for top in range(zero, rows, tall):
            height = min(tall, rows - top)
            for start in range(zero, width, wide):
                size = min(wide, width - start)
                for y in range(height):
                    target = part_8(workspace, np.int64(wide * y), np.int64(size))
                    luma_of_chunk(row_of(image, z, top + y), start, size, target)
                count_block(workspace, height, size, wide, 0, few, scratch, counts)


@inline
def count_blocks_of_channels(image, channels, stride, few, workspace, scratch, counts):
    """Count the first `channels` of the 3 or 4 interleaved channels of an image: see `count_block`."""
    zero, block = np.uint64(0), np.int64(LARGEST_BLOCK)
    rows, width = np.uint64(image.shape[1]), np.uint64(image.shape[2]) // stride
    tall = block_rows(rows, width)
    wide = np.uint64(block_pixels) // tall
    for z in range(np.uint64(image.shape[0])):
        for top in range(zero, rows, tall):
            height = min(tall, rows - top)
            for start in range(zero, width, wide):
                size = min(wide, width - start)
                for y in range(height):
                    at, length = np.int64(wide * y), np.int64(size)
                    red, green = part_8(workspace, at, length), part_8(workspace, block + at, length)
                    blue, alpha = (
                        part_8(workspace, 2 * block + at, length),
                        part_8(workspace, 3 * block + at, length),
                    )
                    pixels = row(image, z, top + y)
                    separate_channels(pixels, start, size, stride, (red, green, blue, alpha))
                for c in range(channels):
                    own = part_8(workspace, c * block, block)
                    count_block(own, height, size, wide, c, few, scratch, counts)


@inline
def chunk(workspace, i):
    """Return the i-th of the eight chunks of the workspace."""
    return part_8(workspace, i * (LARGEST_BLOCK // 2), CHUNK)


@inline
def one_row(height, width):
    """Return 1, since blocks are parts of a row."""
    return np.uint64(1)


@inline
def count_block_by_rows(block, rows, columns, pitch, c, few, scratch, counts):
    """Count a block, a part of a row, in the counters of the c-th channel."""
    pixels = part_8(block, 0, np.int64(columns))
    if few:
        count_row_small(pixels, part_32(scratch, c * TABLES, TABLES))
    else:
        count_row_by_pairs(pixels, part_32(scratch, c * SCRATCH, SCRATCH), part_i64(counts, 256 * c, 256))


@inline
def fold_blocks_by_rows(c, few, scratch, counts):
    """Add the counters of the c-th channel to its 256 counts, and reset the counters."""
    own = part_i64(counts, 256 * c, 256)
    if few:
        fold_small(part_32(scratch, c * TABLES, TABLES), own)
    else:
        fold_pairs(part_32(scratch, c * SCRATCH, SCRATCH), own)
