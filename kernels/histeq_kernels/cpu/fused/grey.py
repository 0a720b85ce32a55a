"""Equalization of grey images of fewer than 2**31 pixels in one call, which counts, makes the table and maps.

A call takes one image or many, one below the other in a 2-D array: a line of Python for each image of a batch
would take half as long as a small image itself.

Small images take less time than the calls themselves. For large images calls are expensive as well: the
pixels evict the interpreter from the caches, and a line of Python then takes ten times as long.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import rules
from histeq_kernels.cpu.core.kernel import inline, kernel
from histeq_kernels.cpu.core.operations import (
    map_row,
    min_pixels_mapped_by_rows,
    prepare_table,
    table_of_image,
)
from histeq_kernels.cpu.core.views import line, one_of, part_8, part_16, part_32
from histeq_kernels.cpu.fused.tables import fill_from_counters, table_of_small
from histeq_kernels.cpu.fused.workspace import LEVELS, TABLE
from histeq_kernels.cpu.histogram.pairs import count_long_row_16
from histeq_kernels.cpu.histogram.small import count_row_small
from histeq_kernels.cpu.lut.grey import PAST_CACHES
from histeq_kernels.cpu.lut.lookup import map_row_16, map_row_single
from histeq_kernels.cpu.tiers import in_use, tiered_kernel

_LARGE = 1 << 18  # pixels from which waiting for stores past the caches takes no time in comparison
_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
_IMAGES = "void(Array(uint8, 2, 'C', readonly=True), int64, uint32[::1], uint8[:, ::1])"
_IMAGES_16 = "void(Array(uint16, 2, 'C', readonly=True), int64, uint32[::1], uint16[:, ::1])"


@tiered_kernel(u8=_IMAGES)
def equalize_small(images, count, memory, out):
    """Equalize each of `count` images of few pixels by the default rule.

    The rows of an image follow those of the one before; `memory` is that of `fused/workspace.py`.
    """
    table = part_8(memory, TABLE, 256)
    for n in range(count):
        pixels = line(one_of(images, n, count))
        count_row_small(pixels, memory)
        table_of_small(0, pixels.size, memory, table)
        map_image(pixels, table, False, memory, line(one_of(out, n, count)))


@tiered_kernel(u8=_IMAGES)
def equalize(images, count, memory, out):
    """Equalize each of `count` images by the default rule: see `equalize_small`."""
    equalize_each(images, count, images.size >= PAST_CACHES, memory, out)


@tiered_kernel(u8=_IMAGES)
def equalize_past_caches(images, count, memory, out):
    """Equalize some of so many images that the results bypass the caches: see `equalize`."""
    equalize_each(images, count, True, memory, out)


@inline
def equalize_each(images, count, past_caches, memory, out):
    """Equalize each of `count` images by the default rule."""
    table = part_8(memory, TABLE, 256)
    for n in range(count):
        image = one_of(images, n, count)
        table_of_image(image, memory, table)
        map_image(line(image), table, past_caches, memory, line(one_of(out, n, count)))


@inline
def map_image(pixels, table, past_caches, memory, new):
    """Map all pixels through a table, in the way that suits their number."""
    workspace = part_16(memory, LEVELS, 65536)
    if np.uint64(pixels.size) < np.uint64(min_pixels_mapped_by_rows):
        map_row_single(pixels, table, new)
    else:
        prepare_table(table, workspace)
        map_row(pixels, table, workspace, past_caches, new)


@kernel(u16=_IMAGES_16)
def equalize_opencv(images, count, memory, out):
    """Equalize images of 16 bits by the rule "opencv": see `equalize_small`."""
    equalize_16(images, count, (rules.opencv_number, rules.opencv_level), memory, out)


@kernel(u16=_IMAGES_16)
def equalize_numpy(images, count, memory, out):
    """Equalize images of 16 bits by the rule "numpy"."""
    equalize_16(images, count, (rules.numpy_number, rules.numpy_level), memory, out)


@kernel(u16=_IMAGES_16)
def equalize_pillow(images, count, memory, out):
    """Equalize images of 16 bits by the rule "pillow"."""
    equalize_16(images, count, (rules.pillow_number, rules.pillow_level), memory, out)


@inline
def equalize_16(images, count, rule, memory, out):
    """Equalize each of `count` images of 16 bits by the two functions of a rule."""
    levels = part_16(memory, LEVELS, 65536)
    for n in range(count):
        pixels = line(one_of(images, n, count))
        count_long_row_16(pixels, memory)
        fill_from_counters(part_32(memory, 0, 65536), pixels.size, rule, memory, levels)
        map_row_16(pixels, levels, line(one_of(out, n, count)))


def kernel_of_rule(
    dtype: np.dtype, pixels: int, rule: str, all_pixels: int = 0
) -> Callable[..., None] | None:
    """Return the fastest kernel that equalizes contiguous 2-D images of a dtype and size by a rule.

    `all_pixels` says how many pixels the images have together, where the kernel gets them piece by piece.
    Return None if there is none, as for the rule "vips", whose highest level depends on the image.
    """
    if dtype == _UINT8:
        if rule != "opencv":
            return None
        if all_pixels >= PAST_CACHES and pixels >= _LARGE and in_use().bypasses_caches:
            return equalize_past_caches.u8
        return equalize.u8 if pixels >= in_use().min_pixels_equalized_by_rows else equalize_small.u8
    if dtype == _UINT16:
        kernels = {"opencv": equalize_opencv, "numpy": equalize_numpy, "pillow": equalize_pillow}
        return kernels[rule].u16 if rule in kernels else None
    return None
