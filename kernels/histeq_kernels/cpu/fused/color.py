"""Small colour images of interleaved 8-bit channels, one or many in a call, by the default rule."""

import numpy as np

from histeq_kernels.cpu.core.kernel import flat
from histeq_kernels.cpu.core.operations import prepare_steps, rows_to_count, table_of_blocks
from histeq_kernels.cpu.core.views import line, one_of, part_8, part_i64
from histeq_kernels.cpu.fused.workspace import CHANNEL_TABLES, LEVELS
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.blocks import FEW, chunk, count_blocks_of_channels, count_blocks_of_luma
from histeq_kernels.cpu.ycrcb.channels import MAX_CHANNELS, map_channels_of_row, prepare_steps_of_channels
from histeq_kernels.cpu.ycrcb.luma import map_luma_of_row
from histeq_kernels.cpu.ycrcb.rows import Colors

MAX_PIXELS = FEW
"""The kernels are only for images of fewer pixels than this."""

_IMAGES = "Array(uint8, 2, 'C', readonly=True), int64"
_WORKSPACE = "uint32[::1], uint8[::1], uint8[:, ::1]"


@tiered_kernel(u8=f"void({_IMAGES}, uint64, {flat('int16')}, {_WORKSPACE})")
def equalize_luma(images, count, stride, k, memory, workspace, out):
    """Equalize Y of each of `count` (rows, stride * columns) images; a fourth channel is copied.

    Parameters
    ----------
    images : the images, the rows of one after those of the one before
    k : the coefficients of the channels
    memory, workspace : those of `fused/workspace.py` and of `ycrcb/blocks.py`
    """
    table, unused = part_8(memory, CHANNEL_TABLES, 256), part_i64(memory, LEVELS, 256)
    for n in range(count):
        image, new = one_of(images, n, count), line(one_of(out, n, count))
        rows, pixels = rows_to_count(image), line(image)
        count_blocks_of_luma(Colors((rows, rows, rows), stride, k), True, workspace, memory, unused)
        table_of_blocks(0, np.uint64(pixels.size) // stride, memory, table)
        prepare_steps(table, chunk(workspace, 2))
        map_luma_of_row(Colors((pixels, pixels, pixels), stride, k), table, workspace, (new, new, new))


@tiered_kernel(u8=f"void({_IMAGES}, int64, uint64, {_WORKSPACE})")
def equalize_channels(images, count, channels, stride, memory, workspace, out):
    """Equalize each of 3 or 4 `channels` of such images; an alpha channel is copied."""
    tables, unused = part_8(memory, CHANNEL_TABLES, 256 * MAX_CHANNELS), part_i64(memory, LEVELS, 256)
    for n in range(count):
        image = one_of(images, n, count)
        pixels = line(image)
        count_blocks_of_channels(rows_to_count(image), channels, stride, True, workspace, memory, unused)
        for c in range(channels):
            table_of_blocks(c, np.uint64(pixels.size) // stride, memory, part_8(tables, 256 * c, 256))
        prepare_steps_of_channels(tables, channels, workspace)
        map_channels_of_row(pixels, channels, stride, tables, workspace, line(one_of(out, n, count)))
