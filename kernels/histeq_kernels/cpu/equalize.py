"""Counting, table and mapping in one call, by the default rule: for small images calls are what costs."""

import functools
from collections.abc import Callable

from histeq_kernels.cpu import _vector
from histeq_kernels.cpu._kernel import kernel
from histeq_kernels.cpu.histogram import SMALL, count_direct, count_sliced, count_small
from histeq_kernels.cpu.lut import SMALL as FEW
from histeq_kernels.cpu.lut import map_avx2, map_avx512, map_direct, map_pairs, map_small
from histeq_kernels.cpu.table import fill_opencv, fill_opencv_direct
from histeq_kernels.cpu.tiers import tier

__all__ = ["SMALL", "equalize_direct", "equalizing"]

_WORKSPACE = "uint32[::1], uint16[::1], int64[::1], uint8[::1]"
_IMAGE = f"void(Array(uint8, 2, 'C', readonly=True), {_WORKSPACE}, uint8[:, ::1])"
_WIDE = "void(Array(uint16, 2, 'C', readonly=True), uint32[::1], int32[::1], uint16[::1], uint16[:, ::1])"


@functools.cache
def equalizing() -> Callable[..., None]:
    """Return the kernel of the tier in use."""
    kernels = {"portable": equalize_portable, "avx2": equalize_avx2, "avx512": equalize_avx512}
    return kernels[tier()].u8


@kernel(u8=_IMAGE)
def equalize_portable(image, counters, pairs, counts, table, out):
    """Equalize a contiguous image, best a small one; `counters` and `counts` are zero before and after."""
    pixels, new = image.reshape(1, 1, image.size), out.reshape(1, 1, out.size)
    count_small(pixels, counters, counts)
    fill_opencv(counts, 0, 0, 255, table)
    counts[:] = 0
    if pixels.size < FEW:
        map_small(pixels, table, new)
    else:
        map_pairs(pixels, table, pairs, new)


@kernel(u8=_IMAGE)
def equalize_avx2(image, counters, pairs, counts, table, out):
    """Do the same with the lookup of the tier avx2."""
    pixels, new = image.reshape(1, 1, image.size), out.reshape(1, 1, out.size)
    count_small(pixels, counters, counts)
    fill_opencv(counts, 0, 0, 255, table)
    counts[:] = 0
    map_avx2(pixels, table, pairs, new)


@kernel(u8=_IMAGE)
def equalize_avx512(image, counters, pairs, counts, table, out):
    """Do the same with the counter and the lookup of the tier avx512."""
    pixels, new = image.reshape(1, 1, image.size), out.reshape(1, 1, out.size)
    count_sliced(pixels, counters, counts, _vector.slice_block_avx512)
    fill_opencv(counts, 0, 0, 255, table)
    counts[:] = 0
    map_avx512(pixels, table, new)


@kernel(u16=_WIDE)
def equalize_direct(image, counters, cumulative, table, out):
    """Equalize a contiguous 16-bit image of fewer than 2**31 pixels; `counters` is zero before and after."""
    pixels, new = image.reshape(1, 1, image.size), out.reshape(1, 1, out.size)
    count_direct(pixels, counters)
    fill_opencv_direct(counters[:65536], pixels.size, cumulative, table)
    map_direct(pixels, table, new)
