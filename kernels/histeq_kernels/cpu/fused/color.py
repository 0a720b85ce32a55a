"""Small colour images of interleaved 8-bit channels, one or many in a call, by the default rule."""

import numpy as np

from histeq_kernels.cpu.core.kernel import flat
from histeq_kernels.cpu.core.operations import count_block, prepare_steps, rows_to_count, table_of_blocks
from histeq_kernels.cpu.core.views import line, one_of, part_8, part_i64
from histeq_kernels.cpu.fused.workspace import CHANNEL_TABLES, LEVELS
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.blocks import FEW, LUMA, chunk, count_blocks_of_channels
from histeq_kernels.cpu.ycrcb.channels import MAX_CHANNELS, map_channels_of_row, prepare_steps_of_channels
from histeq_kernels.cpu.ycrcb.luma import map_luma_of_chunk
from histeq_kernels.cpu.ycrcb.rows import CHUNK, Colors, luma_of_chunk

MAX_PIXELS = FEW
"""The kernels are only for images of fewer pixels than this."""

_IMAGES = "Array(uint8, 2, 'C', readonly=True), int64"
_WORKSPACE = "uint32[::1], uint8[::1], uint8[:, ::1]"


@tiered_kernel(u8=f"void({_IMAGES}, uint64, {flat('int16')}, {_WORKSPACE})")
def equalize_luma(images, count, stride, k, memory, workspace, out):
    """Equalize Y of each of `count` (rows, stride * columns) images; a fourth channel is copied.

    Y is computed once, to be counted and to be mapped.

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
        old, size = Colors((pixels, pixels, pixels), stride, k), np.uint64(pixels.size) // stride
        width = np.uint64(rows.shape[2]) // stride
        y = part_8(workspace, LUMA, np.int64(size))
        luma_of_chunk(old, np.uint64(0), size, y)
        count_block(y, np.uint64(rows.shape[1]), width, width, 0, True, memory, unused)
        table_of_blocks(0, size, memory, table)
        prepare_steps(table, chunk(workspace, 2))
        for start in range(np.uint64(0), size, np.uint64(CHUNK)):
            part = part_8(y, np.int64(start), np.int64(min(np.uint64(CHUNK), size - start)))
            map_luma_of_chunk(old, start, part, table, workspace, (new, new, new))


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
