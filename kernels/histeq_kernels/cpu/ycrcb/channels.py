"""Counting and mapping of each channel of interleaved 8-bit pixels.

A pixel has 3 or 4 bytes (`stride`), of which the first 3 or 4 (`channels`) are counted and mapped. The
channels of a chunk of pixels are separated in the first-level cache, mapped like grey images, and interleaved
again. A fourth channel that is not mapped is copied.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline, plane, plane_out
from histeq_kernels.cpu.core.operations import fold_blocks, map_chunk, prepare_steps
from histeq_kernels.cpu.core.views import line, part_8, row
from histeq_kernels.cpu.histogram.workspace import SCRATCH
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.blocks import FEW, chunk, count_blocks_of_channels
from histeq_kernels.cpu.ycrcb.rows import CHUNK, interleave_channels, separate_channels

MAX_CHANNELS = 4
COUNTERS = MAX_CHANNELS * SCRATCH
"""Entries of the counters, uint32, `SCRATCH` per channel: see `histogram/workspace.py`."""

_TABLES = "Array(uint8, 2, 'C', readonly=True)"


@tiered_kernel(u8=f"void({plane('uint8')}, int64, uint64, uint8[::1], uint32[::1], int64[:, ::1])")
def histogram_channels(image, channels, stride, workspace, scratch, counts):
    """Add the counts of each channel to its row of `counts`."""
    few = np.uint64(image.size) < stride * np.uint64(FEW)
    flat_counts = line(counts)
    count_blocks_of_channels(image, channels, stride, few, workspace, scratch, flat_counts)
    for c in range(channels):
        fold_blocks(c, few, scratch, flat_counts)


@tiered_kernel(u8=f"void({plane('uint8')}, int64, uint64, {_TABLES}, uint8[::1], {plane_out('uint8')})")
def apply_channels(image, channels, stride, tables, workspace, out):
    """Map each channel through its row of `tables`."""
    levels = line(tables)
    prepare_steps_of_channels(levels, channels, workspace)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_channels_of_row(row(image, z, y), channels, stride, levels, workspace, row(out, z, y))


@inline
def prepare_steps_of_channels(tables, channels, workspace):
    """Prepare the table of each channel in the chunks from the fifth on; `tables` is 1-D."""
    for c in range(channels):
        prepare_steps(part_8(tables, 256 * c, 256), chunk(workspace, MAX_CHANNELS + c))


@inline
def map_channels_of_row(pixels, channels, stride, tables, workspace, new):
    """Map the channels of a row; the chunks from the fifth on hold the prepared tables."""
    apart = (chunk(workspace, 0), chunk(workspace, 1), chunk(workspace, 2), chunk(workspace, 3))
    width = np.uint64(pixels.size) // stride
    for start in range(np.uint64(0), width, np.uint64(CHUNK)):
        size = min(np.uint64(CHUNK), width - start)
        separate_channels(pixels, start, size, stride, apart)
        for c in range(channels):
            steps = chunk(workspace, MAX_CHANNELS + c)
            map_chunk(part_8(apart[c], 0, np.int64(size)), part_8(tables, 256 * c, 256), steps, apart[c])
        interleave_channels(apart, start, size, stride, new)
