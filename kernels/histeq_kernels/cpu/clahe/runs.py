"""Cells: pixels between the same four tiles, from the centres of two tiles to those of the next."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline

AXIS = "Array(int64, 2, 'C', readonly=True), Array(float32, 2, 'C', readonly=True)"
"""Signature of the tiles before and after each row or column, and their weights: (2, pixels) each."""


@inline
def end_of_run(tiles, start, stop):
    """Return where the pixels from `start` on no longer lie between the same two tiles."""
    end = start + np.uint64(1)
    while end < stop and tiles[0, end] == tiles[0, start] and tiles[1, end] == tiles[1, start]:
        end += np.uint64(1)
    return end
