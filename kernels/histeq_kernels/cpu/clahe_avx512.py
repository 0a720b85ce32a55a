"""CLAHE of 8 bits in the tier avx512: tiles counted as bit planes, tables looked up in vectors.

Both kernels take and give what their counterparts in `tiles.py` and `blend.py` do.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import blend, tiles
from histeq_kernels.cpu._blend import blend_avx512
from histeq_kernels.cpu._kernel import inline, kernel
from histeq_kernels.cpu._sliced import SUMS, count_sliced, fold_sliced, slice_block_avx512
from histeq_kernels.cpu._vector import address_of, part_i64
from histeq_kernels.cpu.histogram import FEW, ZEROS
from histeq_kernels.cpu.tiers import tier


def counting() -> Callable[..., None]:
    """Return the fastest kernel that makes tables of 8-bit tiles."""
    return (tile_tables_avx512 if tier() == "avx512" else tiles.tile_tables).u8


def blending() -> Callable[..., None]:
    """Return the fastest kernel that blends 8-bit tables."""
    return (blend_tiles_avx512 if tier() == "avx512" else blend.blend_tiles).u8


@kernel(u8=tiles._TABLES["uint8"])
def tile_tables_avx512(image, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables):
    """Write the tables of tiles `start` to `stop`: see `tiles.tile_tables`."""
    at, memory = (zs, ys, xs), (scratch, sums)
    tiles.make_tables(image, at, tile, start, stop, clip_limit, levels, memory, tables, FEW, count_tile)


@inline
def count_tile(image, positions, tile, i, memory, scratch, counts):
    """Add the i-th tile to its counts: what of it lies within the image in blocks, what is reflected alone.

    `memory` is of any content from entry 256 on.
    """
    zs, ys, xs = positions
    across, down = np.int64(xs.size) // tile[2], np.int64(ys.size) // tile[1]
    front, top, left = i // (across * down) * tile[0], i // across % down * tile[1], i % across * tile[2]
    height = max(min(tile[1], np.int64(image.shape[1]) - top), 0)
    width = max(min(tile[2], np.int64(image.shape[2]) - left), 0)
    for z in range(np.uint64(front), np.uint64(front + tile[0])):
        first = address_of(image, np.uint64(zs[z]), np.uint64(top)) + np.uint64(left)
        rows, columns, stride = np.uint64(height), np.uint64(width), np.uint64(image.strides[1])
        count_sliced(first, rows, columns, stride, scratch, ZEROS, slice_block_avx512, False)
        for y in range(top, top + tile[1]):
            for x in range(left + (width if y < top + height else 0), left + tile[2]):
                value = image[np.uint64(zs[z]), np.uint64(ys[np.uint64(y)]), np.uint64(xs[np.uint64(x)])]
                scratch[np.uint64(SUMS) + value] += np.uint32(1)
    wide = part_i64(memory, 256, 256)
    for value in range(np.uint64(256)):
        wide[value] = scratch[np.uint64(SUMS) + value]
        scratch[np.uint64(SUMS) + value] = 0
    fold_sliced(scratch, wide)
    for value in range(np.uint64(256)):
        counts[value] += np.int32(wide[value])


@kernel(u8=blend._signature("uint8", 2, 3))
def blend_tiles_avx512(image, ys, y_weights, xs, x_weights, tables, form, packed, found, out):
    """Map the pixels of a (1, rows, columns) image: see `blend.blend_tiles`."""
    blend_plane(image, (ys, y_weights), (xs, x_weights), tables, packed, found, out)


@inline
def blend_plane(image, down, across, tables, packed, found, out):
    """Do so; `down` and `across` are tiles and weights."""
    (ys, y_weights), (xs, x_weights) = down, across
    height, width, zero, one = (
        np.uint64(image.shape[1]),
        np.uint64(image.shape[2]),
        np.uint64(0),
        np.uint64(1),
    )
    strides, top = (np.uint64(image.strides[1]), np.uint64(out.strides[1])), zero
    while top < height:
        bottom, left = blend.end_of_run(ys, top, height), zero
        upper = address_of(tables, np.uint64(ys[0, top]), zero)
        lower = address_of(tables, np.uint64(ys[1, top]), zero)
        rows = (address_of(y_weights, zero, top), address_of(y_weights, one, top))
        while left < width:
            right = blend.end_of_run(xs, left, width)
            before, after = np.uint64(256 * xs[0, left]), np.uint64(256 * xs[1, left])
            corners = (upper + before, upper + after, lower + before, lower + after)
            columns = (address_of(x_weights, zero, left), address_of(x_weights, one, left))
            old = (address_of(image, zero, top) + left, strides[0])
            new = (address_of(out, zero, top) + left, strides[1])
            blend_avx512(old, new, (bottom - top, right - left), corners, columns, rows)
            left = right
        top = bottom
