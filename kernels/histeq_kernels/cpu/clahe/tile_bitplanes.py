"""Counting of a tile of 8-bit pixels: those within the image as bit planes, reflected ones one by one."""

import numpy as np

from histeq_kernels.cpu.clahe.parameters import DEPTH, HEIGHT, WIDTH
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import address_of
from histeq_kernels.cpu.histogram.bitplanes import count_bitplanes, fold_counters
from histeq_kernels.cpu.histogram.workspace import ZEROS


@inline
def count_tile(image, positions, tile, i, memory, scratch, counts):
    """Add the i-th tile's pixels to its counts; `memory` is not used."""
    zs, ys, xs = positions
    across, down = np.int64(xs.size) // tile[WIDTH], np.int64(ys.size) // tile[HEIGHT]
    front, top, left = (
        i // (across * down) * tile[DEPTH],
        i // across % down * tile[HEIGHT],
        i % across * tile[WIDTH],
    )
    height = max(min(tile[HEIGHT], np.int64(image.shape[1]) - top), 0)
    width = max(min(tile[WIDTH], np.int64(image.shape[2]) - left), 0)
    for z in range(np.uint64(front), np.uint64(front + tile[DEPTH])):
        first = address_of(image, np.uint64(zs[z]), np.uint64(top)) + np.uint64(left)
        rows, columns, stride = np.uint64(height), np.uint64(width), np.uint64(image.strides[1])
        count_bitplanes(first, rows, columns, stride, scratch, ZEROS, False)
        for y in range(top, top + tile[HEIGHT]):
            for x in range(left + (width if y < top + height else 0), left + tile[WIDTH]):
                value = image[np.uint64(zs[z]), np.uint64(ys[np.uint64(y)]), np.uint64(xs[np.uint64(x)])]
                scratch[value] += np.uint32(1)
    fold_counters(scratch, counts)
