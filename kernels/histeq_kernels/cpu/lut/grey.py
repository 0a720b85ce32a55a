"""Mapping of integer pixels through a lookup table. The input array may also be the output."""

import numpy as np

from histeq_kernels.cpu.core.kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu.core.operations import map_rows, min_pixels_mapped_by_rows, prepare_table
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.lut.lookup import map_row_16, map_single
from histeq_kernels.cpu.tiers import tiered_kernel

PAST_CACHES = 3 << 23
"""The number of pixels from which results bypass the caches, if the tier supports that. They would not stay
in a cache together with their image, and reading their lines before overwriting them is a third of the memory
traffic."""


@tiered_kernel(u8=f"void({plane('uint8')}, {flat('uint8')}, uint16[::1], {plane_out('uint8')})")
def apply(image, table, workspace, out):
    """Map 8-bit pixels with contiguous rows."""
    map_plane(image, table, workspace, out)


@inline
def map_plane(image, table, workspace, out):
    """Map 8-bit pixels with contiguous rows, in the way that suits their number."""
    if np.uint64(image.size) < np.uint64(min_pixels_mapped_by_rows):
        map_single(image, table, out)
    else:
        prepare_table(table, workspace)
        map_rows(image, table, workspace, image.size >= PAST_CACHES, out)


@kernel(u8_f64=f"void({plane('uint8')}, {flat('float64')}, {plane_out('float64')})")
def apply_to_float(image, table, out):
    """Map 8-bit pixels with contiguous rows to fractions."""
    map_single(image, table, out)


@kernel(
    u16=f"void({plane('uint16')}, {flat('uint16')}, {plane_out('uint16')})",
    u16_u8=f"void({plane('uint16')}, {flat('uint8')}, {plane_out('uint8')})",
    u16_f64=f"void({plane('uint16')}, {flat('float64')}, {plane_out('float64')})",
    u16_f32=f"void({plane('uint16')}, {flat('float32')}, {plane_out('float32')})",
)
def apply_16(image, table, out):
    """Map 16-bit pixels in contiguous rows."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_16(row(image, z, y), table, row(out, z, y))


@kernel(
    u8=f"void({plane('uint8')}, {flat('uint8')}, {plane_out('uint8')})",
    u16=f"void({plane('uint16')}, {flat('uint16')}, {plane_out('uint16')})",
    u16_u8=f"void({plane('uint16')}, {flat('uint8')}, {plane_out('uint8')})",
    u8_f64=f"void({plane('uint8')}, {flat('float64')}, {plane_out('float64')})",
    u16_f64=f"void({plane('uint16')}, {flat('float64')}, {plane_out('float64')})",
    u16_f32=f"void({plane('uint16')}, {flat('float32')}, {plane_out('float32')})",
)
def apply_strided(image, table, out):
    """Map pixels; the arrays may have any strides."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                out[z, y, x] = table[image[z, y, x]]
