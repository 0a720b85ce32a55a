"""CLAHE of 8 bits in the tier avx512: tiles counted as bit planes, tables looked up in vectors.

Both kernels take and give what their counterparts in `tiles.py` and `blend.py` do.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _vector, blend, tiles
from histeq_kernels.cpu._kernel import inline, kernel
from histeq_kernels.cpu._vector import row
from histeq_kernels.cpu._whole import whole
from histeq_kernels.cpu.histogram import count_row_sliced, fold_sliced
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
    area, counts = tile[0] * tile[1] * tile[2], sums[:256]
    for i in range(start, stop):
        for value in range(np.uint64(256)):
            counts[value] = 0
        tiles.count_gathered(image, (zs, ys, xs), tile, i, sums, False, count_row, scratch, counts)
        fold_sliced(scratch, counts)
        tiles.clip_counts(counts, tiles.clipped_at(clip_limit, area, 256))
        tiles.fill_levels(counts, np.float32(levels[2]) / np.float32(area), levels, tables[np.uint64(i)])


@inline
def count_row(pixels, few, scratch, counts):
    """Count a row into the scratch."""
    count_row_sliced(pixels, scratch, _vector.slice_block_avx512)


@kernel(u8=blend._signature("uint8", 2, 3))
def blend_tiles_avx512(image, ys, y_weights, xs, x_weights, tables, form, packed, found, out):
    """Map the pixels of a (1, rows, columns) image: see `blend.blend_tiles`."""
    height, width = np.uint64(image.shape[1]), np.uint64(image.shape[2])
    room = found.view(np.uint8)[0]
    top = np.uint64(0)
    while top < height:
        bottom = blend.end_of_run(ys, top, height)
        upper, lower = tables[np.uint64(ys[0, top])], tables[np.uint64(ys[1, top])]
        left = np.uint64(0)
        while left < width:
            right = blend.end_of_run(xs, left, min(width, left + np.uint64(blend.CHUNK)))
            before, after = np.uint64(xs[0, left]), np.uint64(xs[1, left])
            four = (upper[before], upper[after], lower[before], lower[after])
            weights = (x_weights[0, left:right], x_weights[1, left:right])
            for y in range(top, bottom):
                pixels, new = row(image, np.uint64(0), y)[left:right], row(out, np.uint64(0), y)[left:right]
                blend_row(pixels, four, weights, y_weights[0, y], y_weights[1, y], room, new)
            left = right
        top = bottom


@inline
def blend_row(pixels, four, weights, above, below, room, new):
    """Map the pixels of a row in one cell."""
    size, chunk = np.uint64(pixels.size), np.uint64(blend.CHUNK)
    second, third, fourth = chunk, chunk + chunk, chunk + chunk + chunk
    a, b = room[:size], room[second : second + size]
    c, d = room[third : third + size], room[fourth : fourth + size]
    look_up(pixels, four[0], a)
    look_up(pixels, four[1], b)
    look_up(pixels, four[2], c)
    look_up(pixels, four[3], d)
    before, after = weights
    for i in range(size):
        upper = np.float32(np.int32(a[i])) * before[i] + np.float32(np.int32(b[i])) * after[i]
        lower = np.float32(np.int32(c[i])) * before[i] + np.float32(np.int32(d[i])) * after[i]
        new[i] = np.uint8(whole(upper * above + lower * below))


@inline
def look_up(pixels, table, new):
    """Look up 64 pixels at a time, the last ones with some that already were."""
    size, step = np.uint64(pixels.size), np.uint64(64)
    if size < step:
        for i in range(size):
            new[i] = table[pixels[i]]
        return
    for i in range(np.uint64(0), size - np.uint64(63), step):
        _vector.lookup_64_avx512(pixels, i, table, new)
    if size % step:
        _vector.lookup_64_avx512(pixels, size - step, table, new)
