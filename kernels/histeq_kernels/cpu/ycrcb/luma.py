"""Counting and mapping of the luma of 8-bit colour images with contiguous rows.

Cr and Cb depend on the pixel alone, so that one pass goes from RGB to RGB. An image of Y is made only where
it is small (`fused/color.py`). The three channels are separate planes (`stride` 1), or three times the same
interleaved image (`stride` 3 or 4).
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS_OUT, flat, inline, plane, plane_out
from histeq_kernels.cpu.core.operations import fold_blocks, map_chunk, prepare_steps
from histeq_kernels.cpu.core.views import part_8, row
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.blocks import FEW, chunk, count_blocks_of_luma
from histeq_kernels.cpu.ycrcb.rows import (
    CHUNK,
    Colors,
    luma_of_chunk,
    pixels_of,
    replace_luma_of_chunk,
    row_of,
)

COLORS = ", ".join([plane("uint8")] * 3) + f", uint64, {flat('int16')}"
"""Signature of the three channels, their stride and their coefficients."""
COLORS_OUT = ", ".join([plane_out("uint8")] * 3)


@tiered_kernel(u8=f"void({COLORS}, uint8[::1], uint32[::1], {COUNTS_OUT})")
def histogram_luma(first, second, third, stride, k, workspace, scratch, counts):
    """Add the counts of Y; `k` has the channels' coefficients, `workspace` is that of `blocks.py`."""
    few = np.uint64(first.size) < stride * np.uint64(FEW)
    count_blocks_of_luma(Colors((first, second, third), stride, k), few, workspace, scratch, counts)
    fold_blocks(0, few, scratch, counts)


@tiered_kernel(u8=f"void({COLORS}, {flat('uint8')}, uint8[::1], {COLORS_OUT})")
def apply_luma(first, second, third, stride, k, table, workspace, new_first, new_second, new_third):
    """Map Y through the table and keep Cr and Cb; a fourth channel is copied."""
    image = Colors((first, second, third), stride, k)
    prepare_steps(table, chunk(workspace, 2))
    for z in range(np.uint64(first.shape[0])):
        for y in range(np.uint64(first.shape[1])):
            new = (row(new_first, z, y), row(new_second, z, y), row(new_third, z, y))
            map_luma_of_row(row_of(image, z, y), table, workspace, new)


@inline
def map_luma_of_row(old, table, workspace, new):
    """Map Y of a row; the third chunk of the workspace holds the prepared table."""
    y, width = chunk(workspace, 0), pixels_of(old)
    for start in range(np.uint64(0), width, np.uint64(CHUNK)):
        size = min(np.uint64(CHUNK), width - start)
        luma_of_chunk(old, start, size, y)
        map_luma_of_chunk(old, start, part_8(y, 0, np.int64(size)), table, workspace, new)


@inline
def map_luma_of_chunk(old, start, y, table, workspace, new):
    """Map pixels of a row from pixel `start` on, whose Y is `y`: see `map_luma_of_row`."""
    mapped, steps = chunk(workspace, 1), chunk(workspace, 2)
    map_chunk(y, table, steps, mapped)
    replace_luma_of_chunk(old, start, np.uint64(y.size), y, mapped, new)
