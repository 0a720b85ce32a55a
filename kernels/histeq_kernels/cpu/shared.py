"""Several threads on one image: they take pieces in turn, count, wait for the table, and map.

A thread that sleeps takes 25 to 150 microseconds to wake, as long as a good part of the work. So a thread is
called once for both passes, and no piece belongs to anyone: whoever is awake takes the next, and a thread
that comes too late finds none left. Each thread begins with a share of its own, so that it mostly maps what
it counted, from its own cache, call after call. `state` is what they share:

    0  pieces counted, and added to somebody's counts
    1  1 when the table is there
    2  pieces mapped
    3  onwards: for each piece, whether it was taken to be counted; then, whether it was to be mapped
"""

from collections.abc import Callable

from histeq_kernels.cpu._kernel import COUNTS_OUT, flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._sliced import TALL, fold_sliced, rows_sliced, slice_block_avx512
from histeq_kernels.cpu.histogram import ZEROS, fold_pairs, rows_pairs
from histeq_kernels.cpu.lut import PAST_CACHES, fill_pairs, map_avx2, map_avx512, rows_mapped_by_pairs
from histeq_kernels.cpu.tiers import tier
from histeq_kernels.cpu.waiting import STATE as _STATE
from histeq_kernels.cpu.waiting import add, await_at_least, look

STATE = 3
"""Entries of the state, besides two a piece."""
COUNT, MAP = 1, 2
"""The passes, to be added up. Who does both at once needs no GIL in between."""

_WORK = (
    f"void({plane('uint8')}, int64, UniTuple(int64, 2), int64, {_STATE}, uint32[::1], {COUNTS_OUT}, "
    f"{flat('uint8')}, uint16[::1], {plane_out('uint8')})"
)


def working() -> Callable[..., None]:
    """Return the kernel of the tier in use."""
    return {"portable": work_portable, "avx2": work_avx2, "avx512": work_avx512}[tier()].u8


def most_pieces(shape: tuple[int, ...]) -> int:
    """Return into how many pieces an image can be cut."""
    depth, height, width = shape
    if depth * height < TALL:
        return width
    return depth if height < depth else (height + TALL - 1) // TALL


@kernel(u8=_WORK)
def work_portable(image, pieces, share, passes, state, scratch, counts, table, pairs, out):
    """Count pieces until none is left; wait for the table, unless that takes long; map pieces.

    Parameters
    ----------
    share : this thread's pieces, the first and the one behind the last; it begins with them
    passes : `COUNT`, `MAP` or both
    scratch, pairs : those of `histogram` and `lut`
    counts : this thread's own, zero on entry
    """
    if passes & COUNT:
        count_pieces(image, pieces, share, state, scratch, counts, rows_pairs, fold_pairs)
    if passes & MAP and await_at_least(state, 1, 1):
        fill_pairs(table, pairs)
        map_pieces(image, pieces, share, state, table, pairs, out, rows_mapped_by_pairs)


@kernel(u8=_WORK)
def work_avx2(image, pieces, share, passes, state, scratch, counts, table, pairs, out):
    """Do the same with the lookup of the tier avx2."""
    if passes & COUNT:
        count_pieces(image, pieces, share, state, scratch, counts, rows_pairs, fold_pairs)
    if passes & MAP and await_at_least(state, 1, 1):
        map_pieces(image, pieces, share, state, table, pairs, out, map_avx2)


@kernel(u8=_WORK)
def work_avx512(image, pieces, share, passes, state, scratch, counts, table, pairs, out):
    """Do the same with counter and lookup of the tier avx512."""
    if passes & COUNT:
        count_pieces(image, pieces, share, state, scratch, counts, rows_as_planes, fold_sliced)
    if passes & MAP and await_at_least(state, 1, 1):
        if image.size >= PAST_CACHES:
            map_pieces(image, pieces, share, state, table, pairs, out, map_past_caches)
        else:
            map_pieces(image, pieces, share, state, table, pairs, out, map_rows)


@inline
def rows_as_planes(image, scratch, counts):
    """Count all rows as bit planes."""
    rows_sliced(image, scratch, ZEROS, slice_block_avx512)


@inline
def map_rows(image, table, pairs, out):
    """Map all rows."""
    map_avx512(image, table, False, out)


@inline
def map_past_caches(image, table, pairs, out):
    """Map all rows, straight to memory."""
    map_avx512(image, table, True, out)


@inline
def count_pieces(image, pieces, share, state, scratch, counts, count_rows, fold):
    """Count pieces until none is left."""
    taken = 0
    for k in range(pieces):
        i = (share[0] + k) % pieces
        if take(state, STATE + i):
            count_rows(piece(image, i, pieces), scratch, counts)
            taken += 1
    if taken:
        fold(scratch, counts)
        add(state, 0, taken)


@inline
def map_pieces(image, pieces, share, state, table, pairs, out, map_piece):
    """Map pieces until none is left, the one counted last first: it is in a cache."""
    for k in range(pieces):
        i = (share[1] + pieces - 1 - k) % pieces
        if take(state, STATE + pieces + i):
            map_piece(piece(image, i, pieces), table, pairs, piece(out, i, pieces))
            add(state, 2, 1)


@inline
def take(state, which):
    """Tell whether nobody else has taken a piece; now it is taken."""
    return look(state, which) == 0 and add(state, which, 1) == 0


@inline
def piece(image, i, pieces):
    """Return the i-th piece of a (depth, rows, columns) image: some columns, slices, or rows of blocks."""
    depth, height, width = image.shape
    if depth * height < TALL:
        return image[:, :, width * i // pieces : width * (i + 1) // pieces]
    if height < depth:
        return image[depth * i // pieces : depth * (i + 1) // pieces]
    blocks = (height + TALL - 1) // TALL
    return image[:, blocks * i // pieces * TALL : blocks * (i + 1) // pieces * TALL]
