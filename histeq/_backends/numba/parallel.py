"""One large 8-bit image on several threads, with the least waiting: see `histeq_kernels.cpu.shared`."""

from __future__ import annotations  # as in numba.py

from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu import shared as _shared
from numpy.typing import NDArray

from histeq._backends.numba.views import workspace
from histeq._core import threads as _threads

Array = NDArray[Any]

WORTH_IT = 1 << 20
"""The fewest pixels worth sharing: at half of that two threads were slower than one."""
_PIECE = 1 << 16  # pixels a thread takes at once: about 15 microseconds of counting


def equalize(
    image: Array,
    table_of: Callable[[NDArray[np.int64]], Array],
    out: Array,
    threads: int,
    default_rule: bool = False,
) -> None:
    """Equalize a plane of 8-bit pixels with contiguous rows.

    Parameters
    ----------
    image, out : (D, H, W) uint8
        With contiguous rows; may be the same.
    table_of : callable
        From the counts, (256,) int64, to the table, (256,) uint8.
    threads : int
        How many threads, this one included.
    default_rule : bool
        Whether it is the table of the default rule, which the kernel can make itself.
    """
    pieces = min(max(threads, image.size // _PIECE), _shared.most_pieces(image.shape))
    counts, table, size = _shared.entries(pieces, threads)
    state = np.zeros(size, np.int64)
    kernel = _shared.working()

    def take_part(i: int, work: int = _shared.COUNT | _shared.MAP) -> None:
        kernel(image, pieces, i, threads, work, state, workspace().memory, out)

    _threads.call_helpers(take_part, threads - 1)
    take_part(0, _shared.COUNT | _shared.TABLE | _shared.MAP if default_rule else _shared.COUNT)
    if not state[1]:  # another rule, or a helper took long
        _threads.wait(state, 0, pieces)
        state[table:].view(np.uint8)[:] = table_of(state[counts:table].reshape(threads, 256).sum(axis=0))
        _threads.tell(state, 1)
        take_part(0, _shared.MAP)
    _threads.wait(state, 2, pieces)
