"""Counting the pixels of floating images by bin, as np.histogram does."""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS_OUT, flat, inline, kernel, plane
from histeq_kernels.cpu.core.operations import count_block, fold_blocks
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.histogram import intervals
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.blocks import FEW, LARGEST_BLOCK


@tiered_kernel(
    f32=f"void({plane('float32')}, {flat('float32')}, int32[::1], uint8[::1], uint32[::1], {COUNTS_OUT})",
    f64=f"void({plane('float64')}, {flat('float64')}, int32[::1], uint8[::1], uint32[::1], {COUNTS_OUT})",
)
def histogram_few_bins_rows(image, edges, found, workspace, scratch, counts):
    """Add the counts of a floating image with contiguous rows, in up to 256 bins, to 256 counts.

    The bins are written to the workspace, which is that of `ycrcb/blocks.py`, and counted as a grey image.
    """
    low, high, nothing = edges[0], edges[edges.size - 1], edges.dtype.type(np.nan)
    scale, line, ends = intervals.scale_of(edges), intervals.line_of(edges, 0, image), ends_of(edges)
    few, one, block = np.uint64(image.size) < np.uint64(FEW), np.uint64(1), np.uint64(intervals.BLOCK)
    filled = np.uint64(0)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values = row(image, z, y)
            for start in range(np.uint64(0), np.uint64(values.size), block):
                size = min(block, np.uint64(values.size) - start)
                if intervals.guess(values, start, size, line, ends, (low, high), nothing, found):
                    for i in range(size):
                        workspace[filled + i] = found[i]
                    filled += size
                else:
                    for i in range(size):
                        value = values[start + i]
                        if low <= value <= high:
                            index = np.uint64(found[i])
                            index = index if found[i] >= 0 else intervals.bin_of(value, edges, scale)
                            workspace[filled] = index
                            filled += one
                if filled > np.uint64(LARGEST_BLOCK) - block:
                    count_block(workspace, one, filled, filled, 0, few, scratch, counts)
                    filled = np.uint64(0)
    count_block(workspace, one, filled, filled, 0, few, scratch, counts)
    fold_blocks(0, few, scratch, counts)


@inline
def ends_of(edges):
    """Return the least and the largest guess of values within the range: well within the outer bins."""
    kind = edges.dtype.type
    return kind(0.5), kind(edges.size - 1.5)


@kernel(
    f32=f"void({plane('float32')}, {flat('float32')}, int32[::1], uint32[::1], {COUNTS_OUT})",
    f64=f"void({plane('float64')}, {flat('float64')}, int32[::1], uint32[::1], {COUNTS_OUT})",
)
def histogram_bins_rows(image, edges, found, scratch, counts):
    """Add the counts of a floating image with contiguous rows, in fewer than 2**15 bins.

    Two tables alternate: neighbours often fall into the same bin, where an increment waits for the previous
    store.
    """
    low, high, nothing = edges[0], edges[edges.size - 1], edges.dtype.type(np.nan)
    scale, line, ends = intervals.scale_of(edges), intervals.line_of(edges, 0, image), ends_of(edges)
    half = np.uint64(1 << 15)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values = row(image, z, y)
            for start in range(np.uint64(0), np.uint64(values.size), np.uint64(intervals.BLOCK)):
                size = min(np.uint64(intervals.BLOCK), np.uint64(values.size) - start)
                if intervals.guess(values, start, size, line, ends, (low, high), nothing, found):
                    for i in range(size):
                        scratch[np.uint64(found[i]) + (i & np.uint64(1)) * half] += np.uint32(1)
                else:
                    for i in range(size):
                        value, table = values[start + i], (i & np.uint64(1)) * half
                        if low <= value <= high:
                            index = np.uint64(found[i])
                            index = index if found[i] >= 0 else intervals.bin_of(value, edges, scale)
                            scratch[index + table] += np.uint32(1)
    for i in range(np.uint64(counts.size)):
        counts[i] += np.int64(scratch[i]) + np.int64(scratch[half + i])
        scratch[i] = 0
        scratch[half + i] = 0


@kernel(
    f32=f"void({plane('float32')}, {plane('uint8')}, float64, {flat('float32')}, {COUNTS_OUT})",
    f64=f"void({plane('float64')}, {plane('uint8')}, float64, {flat('float64')}, {COUNTS_OUT})",
)
def histogram_bins(image, mask, nodata, edges, counts):
    """Add the counts of a floating image by bin, as np.histogram does; NaN as `nodata` means none."""
    low, high = edges[0], edges[edges.size - 1]
    scale = intervals.scale_of(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                value = image[z, y, x]
                if mask[z, y, x] and low <= value <= high and value != nodata:
                    counts[intervals.bin_of(value, edges, scale)] += 1
