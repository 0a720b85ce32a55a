"""Grey images of 8 bits in one call by the default rule, of which some pixels, values or levels are used.

They are planes with contiguous rows, such as a window of a larger image.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import flat, inline, plane, plane_out
from histeq_kernels.cpu.core.operations import count_masked
from histeq_kernels.cpu.core.views import part_8, part_16
from histeq_kernels.cpu.fused.tables import empty_counts, table_of_range
from histeq_kernels.cpu.fused.workspace import LEVELS, TABLE
from histeq_kernels.cpu.histogram.grey import count_plane
from histeq_kernels.cpu.lut.grey import map_plane
from histeq_kernels.cpu.tiers import tiered_kernel

FIRST, STOP, LOW, SPAN, NODATA, BESIDE = range(6)
"""Entries of `use`: the first value that is counted, and the one after the last; the lowest level, and the
number of those above it; the value that is not counted and passes through (-1: none), and what becomes of
others that would come out as it."""
USE = flat("int64")


@tiered_kernel(u8=f"void({plane('uint8')}, {USE}, uint32[::1], {plane_out('uint8')})")
def equalize_plane(image, use, memory, out):
    """Equalize a plane; `memory` is that of `fused/workspace.py`."""
    counts = empty_counts(memory)
    count_plane(image, memory, counts)
    map_by_counts(image, counts, use, memory, out)


@tiered_kernel(
    u8=f"void({plane('uint8')}, {plane('uint8')}, {USE}, uint8[::1], uint32[::1], {plane_out('uint8')})"
)
def equalize_masked(image, mask, use, workspace, memory, out):
    """Equalize a plane by those of its pixels whose mask is not zero; `workspace`: `ycrcb/blocks.py`."""
    counts = empty_counts(memory)
    count_masked(image, mask, workspace, memory, counts)
    map_by_counts(image, counts, use, memory, out)


@inline
def map_by_counts(image, counts, use, memory, out):
    """Make the table of the counts, and map a plane through it."""
    table = part_8(memory, TABLE, 256)
    write_table(counts, use, memory, table)
    map_plane(image, table, part_16(memory, LEVELS, 65536), out)


@inline
def write_table(counts, use, memory, table):
    """Write the levels of all values; `counts` lose those of nodata."""
    first, stop, nodata, beside = use[FIRST], use[STOP], use[NODATA], use[BESIDE]
    if nodata >= 0:
        counts[nodata] = 0
    table_of_range(counts[first:stop], first, (first, stop - 1), (use[LOW], use[SPAN]), memory, table)
    if nodata >= 0:
        for value in range(np.uint64(256)):
            if table[value] == nodata:
                table[value] = beside
        table[nodata] = nodata
