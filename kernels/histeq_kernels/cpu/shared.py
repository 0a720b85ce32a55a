"""Several threads on one image: they take pieces in turn, count, wait for the table, and map.

A thread that sleeps takes 25 to 150 microseconds to wake, as long as a good part of the work. So a thread is
called once for both passes, and no piece belongs to anyone: whoever is awake takes the next, and a thread
that comes too late finds none left. Each thread begins with a share of its own, so that it mostly maps what
it counted, from its own cache, call after call. `state` is what they share, all of it 0 in the beginning:

    0  pieces counted, and added to somebody's counts
    1  1 when the table is there
    2  pieces mapped
    3  onwards: for each piece, whether it was taken to be counted; then, whether it was to be mapped;
       then 256 counts for each thread; then the table, 256 bytes
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import table as rules
from histeq_kernels.cpu._kernel import inline, kernel, plane, plane_out
from histeq_kernels.cpu._pairs import fold_pairs
from histeq_kernels.cpu._sliced import TALL, fold_rows, rows_sliced, slice_block_avx512
from histeq_kernels.cpu._vector import part_8, part_16, part_f64, part_i64
from histeq_kernels.cpu.equalize import CUMULATIVE, LEVELS
from histeq_kernels.cpu.histogram import ZEROS, rows_pairs
from histeq_kernels.cpu.lut import PAST_CACHES, fill_pairs, map_avx2, map_avx512, rows_mapped_by_pairs
from histeq_kernels.cpu.table import SUMS, fill
from histeq_kernels.cpu.tiers import tier
from histeq_kernels.cpu.waiting import STATE as _STATE
from histeq_kernels.cpu.waiting import add, await_at_least, look

COUNT, TABLE, MAP = 1, 2, 4
"""What to do, to be added up. Who does all at once needs no GIL in between."""

_WORK = f"void({plane('uint8')}, int64, int64, int64, int64, {_STATE}, uint32[::1], {plane_out('uint8')})"


def working() -> Callable[..., None]:
    """Return the kernel of the tier in use."""
    return {"portable": work_portable, "avx2": work_avx2, "avx512": work_avx512}[tier()].u8


def entries(pieces: int, threads: int) -> tuple[int, int, int]:
    """Return where in the state the counts and the table begin, and its size."""
    table = counts_at(pieces, threads)
    return counts_at(pieces, 0), table, table + 32


def most_pieces(shape: tuple[int, ...]) -> int:
    """Return into how many pieces an image can be cut."""
    depth, height, width = shape
    if depth * height < TALL:
        return width
    return depth if height < depth else (height + TALL - 1) // TALL


@kernel(u8=_WORK)
def work_portable(image, pieces, thread, threads, work, state, memory, out):
    """Count pieces until none is left; wait for the table, unless that takes long; map pieces.

    Parameters
    ----------
    work : `COUNT`, `TABLE`, `MAP` added up; the thread with `TABLE` makes it, by the default rule, when all
        pieces have been counted, and waits for all to be mapped, unless either takes long
    memory : that of `equalize`
    """
    if work & COUNT:
        count_pieces(image, pieces, thread, threads, state, memory, rows_pairs, fold_pairs)
    if work & TABLE:
        make_table(pieces, threads, state, memory)
    if work & MAP and table_is_there(work, state):
        pairs = part_16(memory, LEVELS, 65536)
        fill_pairs(table_in(pieces, threads, state), pairs)
        map_pieces(image, pieces, thread, threads, work, state, pairs, out, rows_mapped_by_pairs)


@kernel(u8=_WORK)
def work_avx2(image, pieces, thread, threads, work, state, memory, out):
    """Do the same with the lookup of the tier avx2."""
    if work & COUNT:
        count_pieces(image, pieces, thread, threads, state, memory, rows_pairs, fold_pairs)
    if work & TABLE:
        make_table(pieces, threads, state, memory)
    if work & MAP and table_is_there(work, state):
        room = part_16(memory, LEVELS, 65536)
        map_pieces(image, pieces, thread, threads, work, state, room, out, map_avx2)


@kernel(u8=_WORK)
def work_avx512(image, pieces, thread, threads, work, state, memory, out):
    """Do the same with counter and lookup of the tier avx512."""
    if work & COUNT:
        count_pieces(image, pieces, thread, threads, state, memory, rows_as_planes, fold_rows)
    if work & TABLE:
        make_table(pieces, threads, state, memory)
    if work & MAP and table_is_there(work, state):
        room = part_16(memory, LEVELS, 65536)
        if image.size >= PAST_CACHES:
            map_pieces(image, pieces, thread, threads, work, state, room, out, map_past_caches)
        else:
            map_pieces(image, pieces, thread, threads, work, state, room, out, map_rows)


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
def count_pieces(image, pieces, thread, threads, state, memory, count_rows, fold):
    """Count pieces until none is left."""
    taken, own, first = 0, counts_in(pieces, thread, state), pieces * thread // threads
    for k in range(pieces):
        i = (first + k) % pieces
        if take(state, 3 + i):
            count_rows(piece(image, i, pieces), memory, own)
            taken += 1
    if taken:
        fold(memory, own)
        add(state, 0, taken)


@inline
def make_table(pieces, threads, state, memory):
    """Write the table of all counts when they are there, unless that takes long."""
    if await_at_least(state, 0, pieces):
        total = counts_in(pieces, 0, state)
        for thread in range(1, threads):
            some = counts_in(pieces, thread, state)
            for value in range(np.uint64(256)):
                total[value] += some[value]
        table, sums = table_in(pieces, threads, state), part_f64(memory, CUMULATIVE, SUMS)
        fill(total, 0, 0, 255, rules.opencv_number, rules.opencv_level, sums, table)
        add(state, 1, 1)


@inline
def counts_at(pieces, thread):
    """Return where in the state a thread's counts begin; behind those of the last thread is the table."""
    return 3 + 2 * pieces + 256 * thread


@inline
def counts_in(pieces, thread, state):
    """Return the counts of a thread."""
    return part_i64(state, counts_at(pieces, thread), 256)


@inline
def table_in(pieces, threads, state):
    """Return the table."""
    return part_8(state, counts_at(pieces, threads), 256)


@inline
def table_is_there(work, state):
    """Tell whether the table is made, after some waiting unless it was this thread's to make."""
    return look(state, 1) == 1 if work & TABLE else await_at_least(state, 1, 1)


@inline
def map_pieces(image, pieces, thread, threads, work, state, room, out, map_piece):
    """Map pieces until none is left, the one counted last first: it is in a cache."""
    table, last = table_in(pieces, threads, state), pieces * (thread + 1) // threads - 1
    for k in range(pieces):
        i = (last + pieces - k) % pieces
        if take(state, 3 + pieces + i):
            map_piece(piece(image, i, pieces), table, room, piece(out, i, pieces))
            add(state, 2, 1)
    if work & TABLE:
        await_at_least(state, 2, pieces)


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
