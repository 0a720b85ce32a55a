"""Counting of blocks of colour images as bit planes: see `blocks.py`."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import address_in, part_32, part_i64
from histeq_kernels.cpu.histogram.bitplane_vectors import SUMS, TALL
from histeq_kernels.cpu.histogram.bitplanes import count_bitplanes, fold_sums
from histeq_kernels.cpu.histogram.workspace import ZEROS


@inline
def block_rows(height):
    """Return how many rows a block has."""
    return np.uint64(TALL if height >= np.uint64(TALL // 2) else 1)


@inline
def count_block(block, rows, columns, pitch, c, few, scratch, counts):
    """Count a block in the sums of the c-th channel; all channels share the memory for masks."""
    sums, first = part_32(scratch, c * SUMS, SUMS), address_in(block, np.uint64(0))
    count_bitplanes(first, rows, columns, pitch, sums, ZEROS - c * SUMS, False)


@inline
def fold_blocks(c, few, scratch, counts):
    """Add the sums of the c-th channel to its 256 counts, and reset the sums."""
    fold_sums(part_32(scratch, c * SUMS, SUMS), part_i64(counts, 256 * c, 256))
