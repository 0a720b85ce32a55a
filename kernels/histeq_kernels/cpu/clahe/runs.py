"""Cells: the pixels between the centres of the same four neighbouring tiles."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline

AXIS = "Array(int64, 2, 'C', readonly=True), Array(float32, 2, 'C', readonly=True)"
"""Signature of the tiles before and after each row or column, and of their weights: (2, pixels) each."""


@inline
def end_of_run(tiles, start, stop):
    """Return the first pixel after `start` that does not lie between the same two tiles, or `stop`."""
    end = start + np.uint64(1)
    while end < stop and tiles[0, end] == tiles[0, start] and tiles[1, end] == tiles[1, start]:
        end += np.uint64(1)
    return end
