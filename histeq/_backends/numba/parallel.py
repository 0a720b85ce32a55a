"""One large 8-bit image on several threads: see `histeq_kernels/cpu/fused/threaded.py`."""

from __future__ import annotations  # closures are made in every call: their annotations shall cost nothing

from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu.fused import threaded as _kernels
from numpy.typing import NDArray

from histeq._backends.numba.views import workspace
from histeq._core import threads as _threads
from histeq._core.tuning import threshold

Array = NDArray[Any]

WORTH_IT = threshold("equalize", 1 << 20)
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
    pieces = min(max(threads, image.size // _PIECE), _kernels.most_pieces(image.shape))
    counts, table, size = _kernels.layout_of_state(pieces, threads)
    state = np.zeros(size, np.int64)
    kernel = _kernels.equalize_together.u8

    def take_part(i: int, work: int = _kernels.COUNT | _kernels.MAP) -> None:
        kernel(image, pieces, i, threads, work, state, workspace().memory, out)

    with _threads.helping(take_part, threads - 1):
        take_part(0, _kernels.COUNT | _kernels.TABLE | _kernels.MAP if default_rule else _kernels.COUNT)
        if not state[_kernels.TABLE_READY]:  # another rule, or a helper took long
            _threads.wait(state, _kernels.COUNTED, pieces)
            state[table:].view(np.uint8)[:] = table_of(state[counts:table].reshape(threads, 256).sum(axis=0))
            _threads.tell(state, _kernels.TABLE_READY)
            take_part(0, _kernels.MAP)
        _threads.wait(state, _kernels.MAPPED, pieces)
