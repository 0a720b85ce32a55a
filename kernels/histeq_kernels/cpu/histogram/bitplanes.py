"""Counting 8-bit pixels as bit planes, for processors with 512-bit vectors.

A block of 512 pixels is transposed into eight bit planes of 512 bits, one for each bit of a pixel. The planes
of the low nibble yield masks of the pixels whose low nibble has each value, and the other planes those of the
high nibble. The count of a value is the number of bits that are set in both of its masks. The values with the
same high nibble form a *group*: sixteen sums, which stay in registers while all blocks with such pixels are
added, and are then added to the counters at once. Groups of which a block has no pixel are skipped. Most are,
because neighbouring pixels have similar values: a block is 32 columns of 16 rows where the image is large
enough.

A value takes three instructions per block (and, population count, add), and a block of noise has 16 groups of
16 values. A Xeon (Emerald Rapids) executes two such instructions per cycle; they and the masks take nearly
all of the time. Three alternatives were no faster there: carry-save adders instead of population counts (as
many instructions); groups that begin at the darkest pixel, with sums in memory (as fast for photographs, a
fifth slower for noise); and pairs of pixels in one-byte counters, instead of single pixels, counted along
with the blocks.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import address_in, address_of
from histeq_kernels.cpu.histogram.bitplane_counts import BESIDE, COUNTERS, TABLES, blocks_with, count_group
from histeq_kernels.cpu.histogram.bitplane_vectors import (
    BLOCKS,
    MASKS,
    TALL,
    WIDE,
    fetch_lines,
    fill_block,
    split_block,
)
from histeq_kernels.cpu.histogram.small import merge
from histeq_kernels.cpu.histogram.workspace import ZEROS

MIN_PIXELS = 1 << 11
"""The number of pixels from which bit planes beat counting one by one, in noise as well."""
_MOST_BESIDE = 16 * BLOCKS * BESIDE
_LARGE = 1 << 15  # pixels of contiguous rows from which counting some of them one by one pays


@inline
def count_rows(image, scratch, counts):
    """Count the pixels of (depth, rows, columns) with contiguous rows; `fold_rows` completes the counting."""
    height, width = np.uint64(image.shape[1]), np.uint64(image.shape[2])
    for z in range(np.uint64(image.shape[0])):
        first = address_of(image, z, np.uint64(0))
        count_bitplanes(first, height, width, np.uint64(image.strides[1]), scratch, ZEROS, True)


@inline
def count_image(image, scratch):
    """Count the pixels of a contiguous 2-D image, completely, in the counters at the start of the scratch."""
    height, width, zero = np.uint64(image.shape[0]), np.uint64(image.shape[1]), np.uint64(0)
    count_bitplanes(address_of(image, zero, zero), height, width, width, scratch, ZEROS, True)
    if height * width >= np.uint64(_LARGE):
        merge(scratch, COUNTERS + TABLES)


@inline
def count_bitplanes(first, height, width, stride, scratch, start, beside):
    """Count rows, `stride` bytes apart from address `first` on, in the counters at the start of the scratch.

    From entry `start` on the scratch has `MASK_ENTRIES` entries of any content. Both parts are aligned to
    cache lines. If `beside`, some pixels are counted one by one in tables that follow the counters, which
    `fold_rows` adds up, otherwise `fold_counters` completes the counting.
    """
    images, rows, columns, end, apart = as_rectangles(height, width, stride == width)
    pitch = np.uint64(WIDE) if apart else stride
    for i in range(images):
        count_rectangle(first + i * stride, rows, columns, pitch, end, scratch, start, beside)


@inline
def as_rectangles(height, width, joined):
    """Return as how many images of how many rows and columns an image is counted; the last row has an end.

    Where rows are too few for blocks each of them becomes an image of rows of a block's width: the last
    result is then true. Rows that follow each other in memory, `joined`, become one of these where blocks
    would need much padding.
    """
    one, wide = np.uint64(1), np.uint64(WIDE)
    across = (width + wide - one) // wide
    if joined and (across * wide - width) * np.uint64(8) > width:
        height, width, across = one, height * width, (height * width + wide - one) // wide
    if height < np.uint64(TALL // 2):
        return height, across, wide, width + wide - across * wide, True
    return one, height, width, width, False


@inline
def count_rectangle(first, height, width, stride, end, scratch, start, beside):
    """Count rows of a width, the last of them up to column `end`.

    If there are many contiguous rows, the last pixels may be counted one by one, from address `tail` down, by
    scalar instructions, which run in parallel with the vector instructions of the blocks. The more groups the
    blocks have, the more pixels are counted so.
    """
    wide, tall, most, filled = np.uint64(WIDE), np.uint64(TALL), np.uint64(BLOCKS), np.uint64(0)
    masks = address_in(scratch, np.uint64(start))
    groups, zero, one, y = masks + np.uint64(MASKS * 64 * BLOCKS), np.uint64(0), np.uint64(1), np.uint64(0)
    tail = first + (height - one) * stride + end
    if not beside or stride != width or height * width < np.uint64(_LARGE):
        tail = zero
    while y < height:
        rows = min(tall, height - y)
        bottom = first + (y + rows) * stride
        if zero < tail < bottom:  # blocks and tail have met: less than a block's rows is left
            first, y = first + y * stride, zero
            left, tail = tail - first, zero
            if left < np.uint64(TALL // 2) * width:
                stride, width = wide, wide
            height = (left + width - one) // width
            end = left + width - height * width
            continue
        for x in range(zero, width, wide):
            fetch_ahead(first, stride, height, width, y, x)
            columns, source, pitch = min(wide, width - x), first + y * stride + x, stride
            last = min(columns, max(end, x) - x) if y + rows == height else columns
            if rows < tall or last < wide:
                block = groups + np.uint64(16 * BLOCKS)
                value = fill_block(source, stride, rows, columns, last, block)
                scratch[value] -= np.uint32(wide * tall - (rows - one) * columns - last)
                source, pitch = block, wide
            split_block(source, pitch, masks, groups, filled)
            filled += np.uint64(1)
            if filled == most:
                reach = tail if tail >= bottom + np.uint64(_MOST_BESIDE) else zero
                tail -= count_blocks(masks, groups, filled, scratch, reach)
                filled = zero
        y += rows
    count_blocks(masks, groups, filled, scratch, zero)


@inline
def fetch_ahead(first, stride, height, width, y, x):
    """Ask for pixels below the block at (y, x), in contiguous rows, before they are counted.

    What the processor fetches ahead by itself are lines that follow each other in memory, unlike a block's
    rows. Hence the next rows of blocks, too, are asked for in the order of memory, a part beside each block.
    """
    tall = np.uint64(TALL)
    if stride == width and y + tall + tall <= height:
        fetch_lines(first + (y + tall) * stride + tall * x)


@inline
def count_blocks(masks, groups, filled, scratch, tail):
    """Count `filled` blocks, and pixels before `tail`, whose number is returned."""
    counters, all_of_them = address_in(scratch, np.uint64(0)), (np.uint64(1) << filled) - np.uint64(1)
    taken = np.uint64(0)
    for high in range(np.uint64(16)):
        blocks = blocks_with(groups, high) & all_of_them
        if blocks:
            taken += count_group(masks, blocks, high, counters, tail - taken if tail else tail)
    return taken


@inline
def fold_rows(scratch, counts):
    """Add the counters, and the tables of the pixels counted one by one, to `counts`, and reset them."""
    merge(scratch, COUNTERS + TABLES)
    fold_counters(scratch, counts)


@inline
def fold_counters(scratch, counts):
    """Add the counters to `counts`, and reset them."""
    for value in range(np.uint64(COUNTERS)):
        counts[value] += scratch[value]
        scratch[value] = 0
