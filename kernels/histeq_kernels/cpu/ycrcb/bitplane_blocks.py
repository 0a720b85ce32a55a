"""Counting of blocks of colour images as bit planes: see `blocks.py`."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import address_in, part_32, part_i64
from histeq_kernels.cpu.histogram.bitplane_counts import COUNTERS
from histeq_kernels.cpu.histogram.bitplane_vectors import TALL
from histeq_kernels.cpu.histogram.bitplanes import count_bitplanes, fold_counters
from histeq_kernels.cpu.histogram.workspace import ZEROS
from histeq_kernels.cpu.ycrcb.blocks import LARGEST_BLOCK


@inline
def block_rows(height, width):
    """Return how many rows a block has: the more masks are counted at once, the less time a group takes.

    Three channels of so many pixels stay in the first-level cache.
    """
    tall, most = np.uint64(TALL), np.uint64(LARGEST_BLOCK // 2)
    if height < tall // np.uint64(2):
        return np.uint64(1)
    return max(most // max(width, np.uint64(1)) // tall, np.uint64(1)) * tall


@inline
def count_block(block, rows, columns, pitch, c, few, scratch, counts):
    """Count a block in the counters of the c-th channel; all channels share the memory for masks."""
    own, first = part_32(scratch, c * COUNTERS, COUNTERS), address_in(block, np.uint64(0))
    count_bitplanes(first, rows, columns, pitch, own, ZEROS - c * COUNTERS, False)


@inline
def fold_blocks(c, few, scratch, counts):
    """Add the counters of the c-th channel to its 256 counts, and reset the counters."""
    fold_counters(part_32(scratch, c * COUNTERS, COUNTERS), part_i64(counts, 256 * c, 256))
