"""Several threads on one image: they take pieces in turn, count, wait for the table, and map.

A thread that sleeps takes 25 to 150 microseconds to wake, as long as a good part of the work. So a thread is
called once for both passes, and no piece belongs to anyone: whoever is awake takes the next, and a thread
that comes too late finds none left. Each thread begins at a place of its own, `first`, so that it mostly maps
what it counted, from its own cache, call after call. `state` is what they share:

    0  pieces counted, and added to somebody's counts
    1  1 when the table is there
    2  pieces mapped
    3  onwards: for each piece, whether it was taken to be counted; then, whether it was to be mapped
"""

from collections.abc import Callable

from histeq_kernels.cpu._kernel import COUNTS_OUT, flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._sliced import fold_sliced, rows_sliced, slice_block_avx512
from histeq_kernels.cpu.histogram import ZEROS, fold_pairs, rows_pairs
from histeq_kernels.cpu.lut import fill_pairs, map_avx2, map_avx512, rows_mapped_by_pairs
from histeq_kernels.cpu.tiers import tier
from histeq_kernels.cpu.waiting import STATE as _STATE
from histeq_kernels.cpu.waiting import add, await_at_least, look

STATE = 3
"""Entries of the state, besides two a piece."""

_COUNT = f"void({plane('uint8')}, int64, int64, {_STATE}, uint32[::1], {COUNTS_OUT})"
_MAP = f"void({plane('uint8')}, int64, int64, {_STATE}, {flat('uint8')}, uint16[::1], {plane_out('uint8')})"


def counting() -> Callable[..., None]:
    """Return the kernel that counts pieces of an image."""
    return (count_pieces_avx512 if tier() == "avx512" else count_pieces).u8


def mapping() -> Callable[..., None]:
    """Return the kernel that maps pieces of an image."""
    return {"portable": map_pieces, "avx2": map_pieces_avx2, "avx512": map_pieces_avx512}[tier()].u8


def most_pieces(shape: tuple[int, ...]) -> int:
    """Return into how many pieces an image can be cut."""
    depth, height, width = shape
    if depth * height < 8:
        return width
    return depth if height < depth else (height + 7) // 8


@kernel(u8=_COUNT)
def count_pieces(image, pieces, first, state, scratch, counts):
    """Count pieces until none is left; `counts` is this thread's own, zero on entry."""
    taken = 0
    for k in range(pieces):
        i = (first + k) % pieces
        if take(state, STATE + i):
            rows_pairs(piece(image, i, pieces), scratch, counts)
            taken += 1
    if taken:
        fold_pairs(scratch, counts)
        add(state, 0, taken)


@kernel(u8=_COUNT)
def count_pieces_avx512(image, pieces, first, state, scratch, counts):
    """Do the same with the counter of the tier avx512."""
    taken = 0
    for k in range(pieces):
        i = (first + k) % pieces
        if take(state, STATE + i):
            rows_sliced(piece(image, i, pieces), scratch, ZEROS, slice_block_avx512)
            taken += 1
    if taken:
        fold_sliced(scratch, counts)
        add(state, 0, taken)


@kernel(u8=_MAP)
def map_pieces(image, pieces, first, state, table, scratch, out):
    """Wait for the table, unless that takes long; map pieces until none is left."""
    if await_at_least(state, 1, 1):
        fill_pairs(table, scratch)
        for k in range(pieces):
            i = (first + k) % pieces
            if take(state, STATE + pieces + i):
                rows_mapped_by_pairs(piece(image, i, pieces), table, scratch, piece(out, i, pieces))
                add(state, 2, 1)


@kernel(u8=_MAP)
def map_pieces_avx2(image, pieces, first, state, table, scratch, out):
    """Do the same with the lookup of the tier avx2."""
    if await_at_least(state, 1, 1):
        for k in range(pieces):
            i = (first + k) % pieces
            if take(state, STATE + pieces + i):
                map_avx2(piece(image, i, pieces), table, scratch, piece(out, i, pieces))
                add(state, 2, 1)


@kernel(u8=_MAP)
def map_pieces_avx512(image, pieces, first, state, table, scratch, out):
    """Do the same with the lookup of the tier avx512."""
    if await_at_least(state, 1, 1):
        for k in range(pieces):
            i = (first + k) % pieces
            if take(state, STATE + pieces + i):
                map_avx512(piece(image, i, pieces), table, piece(out, i, pieces))
                add(state, 2, 1)


@inline
def take(state, which):
    """Tell whether nobody else has taken a piece; now it is taken."""
    return look(state, which) == 0 and add(state, which, 1) == 0


@inline
def piece(image, i, pieces):
    """Return the i-th piece of a (depth, rows, columns) image: some columns, slices, or eights of rows."""
    depth, height, width = image.shape
    if depth * height < 8:
        return image[:, :, width * i // pieces : width * (i + 1) // pieces]
    if height < depth:
        return image[depth * i // pieces : depth * (i + 1) // pieces]
    eights = (height + 7) // 8  # what is counted together
    return image[:, eights * i // pieces * 8 : eights * (i + 1) // pieces * 8]
