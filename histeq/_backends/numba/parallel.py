"""One large 8-bit image on several threads: see `histeq_kernels/cpu/fused/threaded.py`."""

from __future__ import annotations  # closures are made in every call: their annotations shall cost nothing

from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu.fused import threaded as _kernels
from histeq_kernels.cpu.fused import window as _windows
from numpy.typing import NDArray

from histeq._backends.numba.views import workspace
from histeq._core import threads as _threads
from histeq._core.tuning import threshold

Array = NDArray[Any]

WORTH_IT = threshold("equalize", 1 << 20)
"""The fewest pixels worth sharing: at half of that two threads were slower than one."""
_PIECE = 1 << 16  # pixels a thread takes at once: about 15 microseconds of counting
_MASKED_PIECE = 1 << 18  # after each of these the counters are folded
_ELSEWHERE = np.zeros((1, 1, 1), np.uint8)
"""What helpers get instead of the caller's arrays, which they find by the state, and so do not keep alive."""


def equalize(
    image: Array,
    mask: Array | None,
    out: Array,
    table_of: Callable[[NDArray[np.int64]], Array],
    threads: int,
    default_rule: bool = False,
) -> None:
    """Equalize a plane of 8-bit pixels with contiguous rows; afterwards no thread refers to the arrays.

    Parameters
    ----------
    image, out : (D, H, W) uint8
        With contiguous rows; may be the same.
    mask : (D, H, W) uint8, optional
        Which pixels are counted, with contiguous rows.
    table_of : callable
        From the counts, (256,) int64, to the table, (256,) uint8.
    threads : int
        How many threads, this one included.
    default_rule : bool
        Whether it is the table of the default rule, which the kernel can make itself.
    """
    pieces = _pieces(image, threads, _PIECE if mask is None else _MASKED_PIECE)
    counts, table, size = _kernels.layout_of_state(pieces, threads)
    state = np.zeros(size, np.int64)
    kernel = _kernels.equalize_together.u8 if mask is None else _kernels.equalize_masked_together.u8
    planes = (image,) if mask is None else (image, mask)
    elsewhere, masked = (_ELSEWHERE,) * len(planes), mask is not None

    def take_part(i: int, work: int, planes: tuple[Array, ...], out: Array) -> None:
        space = workspace()
        memory = (space.pixels, space.memory) if masked else (space.memory,)
        kernel(*planes, pieces, i, threads, work, state, *_threads.next_call(), *memory, out)

    def help_out(i: int) -> None:
        take_part(i, _kernels.COUNT | _kernels.MAP, elsewhere, _ELSEWHERE)

    with _threads.helping(help_out, threads - 1, wake=False):
        first = _kernels.COUNT | _kernels.TABLE | _kernels.MAP if default_rule else _kernels.COUNT
        take_part(0, first, planes, out)
        if not state[_kernels.TABLE_READY]:  # another rule, or a helper took long
            _threads.wait(state, _kernels.COUNTED, pieces)
            state[table:].view(np.uint8)[:] = table_of(state[counts:table].reshape(threads, 256).sum(axis=0))
            _threads.tell(state, _kernels.TABLE_READY)
            take_part(0, _kernels.MAP, planes, out)
        _close(state, pieces)


def _close(state: Array, pieces: int) -> None:
    """Wait until all pieces are mapped and no helper is inside any more, if a kernel has not done so."""
    _threads.wait(state, _kernels.MAPPED, pieces)
    if state[_kernels.GATE] <= _kernels.OPEN:
        _threads.tell(state, _kernels.GATE, _kernels.OPEN)
    _threads.wait(state, _kernels.GATE, 2 * _kernels.OPEN)


def equalize_frame(
    image: Array,
    leaving: Array,
    levels: Array,
    judge: Array,
    shares: Array,
    total: Array,
    out: Array,
    threads: int,
) -> tuple[NDArray[np.int64], Array]:
    """Equalize a frame of a video, on one thread or several: see `histeq_kernels/cpu/fused/window.py`.

    Returns
    -------
    counts, table
        (256,) int64 and (256,) uint8.
    """
    pieces = 1 if threads == 1 else _pieces(image, threads, _PIECE)
    counts, table, size = _kernels.layout_of_state(pieces, threads)
    state = np.zeros(size, np.int64)
    kernel = _windows.equalize_frame.u8

    def take_part(i: int) -> None:
        work, memory = _kernels.COUNT | _kernels.MAP, workspace().memory
        together, calls = _kernels.equalize_together.u8, _threads.next_call()
        together(_ELSEWHERE, pieces, i, threads, work, state, *calls, memory, _ELSEWHERE)

    def lead(work: int) -> None:
        calls, memory = _threads.next_call()[0], workspace().memory
        kernel(image, pieces, threads, work, state, calls, leaving, levels, judge, shares, total, memory, out)

    if threads == 1:
        lead(_kernels.COUNT)
    else:
        with _threads.helping(take_part, threads - 1, wake=False):
            lead(_kernels.COUNT)
            while not state[_kernels.TABLE_READY]:  # a helper took long
                _threads.wait(state, _kernels.COUNTED, pieces)
                lead(0)
            _close(state, pieces)
    return state[counts : counts + 256], state[table:].view(np.uint8)


def _pieces(image: Array, threads: int, size: int) -> int:
    """Return into how many pieces, of about `size` pixels, several threads cut an image."""
    return min(max(threads, image.size // size), _kernels.most_pieces(image.shape))
