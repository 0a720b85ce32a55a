"""Histograms of grey images, with contiguous rows, or with any strides and a mask."""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS_OUT, inline, kernel, plane
from histeq_kernels.cpu.core.operations import (
    count_masked,
    count_rows,
    fold_rows,
    min_pixels_counted_by_rows,
)
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.histogram.pairs import count_long_row_16
from histeq_kernels.cpu.histogram.small import count_small
from histeq_kernels.cpu.tiers import tiered_kernel


@tiered_kernel(u8=f"void({plane('uint8')}, uint32[::1], {COUNTS_OUT})")
def histogram(image, scratch, counts):
    """Add the counts of 8-bit pixels in contiguous rows to `counts`; `scratch` is that of `workspace.py`."""
    count_plane(image, scratch, counts)


@inline
def count_plane(image, scratch, counts):
    """Add the counts of 8-bit pixels in contiguous rows to `counts`."""
    if image.size < min_pixels_counted_by_rows:
        count_small(image, scratch, counts)
    else:
        count_rows(image, scratch, counts)
        fold_rows(scratch, counts)


@tiered_kernel(u8=f"void({plane('uint8')}, {plane('uint8')}, uint8[::1], uint32[::1], {COUNTS_OUT})")
def histogram_masked(image, mask, workspace, scratch, counts):
    """Add the counts of the 8-bit pixels, in contiguous rows, whose mask is not zero.

    `workspace` is that of `ycrcb/blocks.py`, and `scratch` that of `workspace.py`.
    """
    count_masked(image, mask, workspace, scratch, counts)


@kernel(u16=f"void({plane('uint16')}, uint32[::1], {COUNTS_OUT})")
def histogram_16(image, scratch, counts):
    """Add the counts of 16-bit pixels in contiguous rows to `counts`."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_long_row_16(row(image, z, y), scratch)
    for value in range(np.uint64(65536)):
        counts[value] += scratch[value]
        scratch[value] = 0


@kernel(
    u8=f"void({plane('uint8')}, {plane('uint8')}, {COUNTS_OUT})",
    u16=f"void({plane('uint16')}, {plane('uint8')}, {COUNTS_OUT})",
)
def histogram_strided(image, mask, counts):
    """Add the counts of the pixels whose mask is not zero; the arrays may have any strides."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                if mask[z, y, x]:
                    counts[image[z, y, x]] += 1
