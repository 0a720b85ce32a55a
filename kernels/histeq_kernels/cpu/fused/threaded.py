"""Equalization of one 8-bit image by several threads, which count pieces, wait for the table and map pieces.

A sleeping thread takes 25 to 150 microseconds to wake, which is a large part of the time for the work itself.
Each thread is therefore called once for both passes, and pieces are not assigned to threads: every thread
that is awake takes the next piece, and one that wakes too late finds none left. Each thread begins with a
different piece, so that it mostly maps what it counted, from its own cache, in one call after the other. The
threads share an array, the state, which is zero at the beginning.

A thread that has to wait for the GIL sleeps as well. The first thread therefore wakes the others, which poll
a counter of calls, only when it has given up the GIL; and when they are done, they poll it for the next call
in the same kernel, instead of asking for the GIL just when the first thread does.
"""

from typing import Any, NamedTuple

import numpy as np

from histeq_kernels.cpu.core.atomics import STATE, add, await_at_least, load
from histeq_kernels.cpu.core.kernel import inline, plane, plane_out
from histeq_kernels.cpu.core.operations import count_masked, count_piece, fold_rows, map_rows, prepare_table
from histeq_kernels.cpu.core.views import part_8, part_16, part_i64, plane_at
from histeq_kernels.cpu.fused.tables import table_of_counts
from histeq_kernels.cpu.fused.workspace import LEVELS
from histeq_kernels.cpu.histogram.bitplane_vectors import TALL
from histeq_kernels.cpu.lut.grey import PAST_CACHES
from histeq_kernels.cpu.tiers import tiered_kernel

COUNT, TABLE, MAP = 1, 2, 4
"""The work of a thread, as flags. A thread that does all of it in one call needs no GIL in between."""
COUNTED, TABLE_READY, MAPPED, GATE = 0, 1, 2, 3
"""Entries of the state: the number of pieces that have been counted and added to a thread's counts; 1 when
the table is ready; the number of pieces that have been mapped; and see `OPEN`."""
SHAPE, IMAGE, OUT, MASK, CLAIMS = 4, 7, 10, 13, 16
"""Entries that follow: the shape of the image; where image, result and mask are: their addresses and their
strides of slices and rows; for each piece, whether a thread has claimed it for counting, and, for each piece,
whether one has claimed it for mapping. Then come 256 counts for each thread, and the table, 256 bytes."""
OPEN = 1 << 20
"""What is added to the gate when the state says where the image is, and once more when all is done.

Helpers refer to the state, but not to the caller's arrays, which may be freed, resized or closed as soon as
the call returns. They subtract 1 from the gate as long as they are inside; the call does not return before
nobody is, and who comes later does not go in.
"""


class Team(NamedTuple):
    """What the threads of a call share, and the index of this thread among them."""

    state: Any
    pieces: Any
    thread: Any
    threads: Any


def layout_of_state(pieces: int, threads: int) -> tuple[int, int, int]:
    """Return the entries of the state where the counts and the table begin, and the size of the state."""
    table = counts_at(pieces, threads)
    return counts_at(pieces, 0), table, table + 32


def most_pieces(shape: tuple[int, ...]) -> int:
    """Return the largest number of pieces into which an image can be cut."""
    depth, height, width = shape
    if depth * height < TALL:
        return width
    return depth if height < depth else (height + TALL - 1) // TALL


@tiered_kernel(
    u8=f"void({plane('uint8')}, int64, int64, int64, int64, {STATE}, {STATE}, int64, uint32[::1], "
    f"{plane_out('uint8')})"
)
def equalize_together(image, pieces, thread, threads, work, state, calls, next_call, memory, out):
    """Count pieces until none is left, wait for the table (but not for long), and map pieces.

    Parameters
    ----------
    image, out : those of the first thread, 0; the others get any arrays, and find these by the state
    work : the sum of some of `COUNT`, `TABLE`, `MAP`; the thread with `TABLE` makes the table by the default
        rule when all pieces are counted, unless that takes long
    calls, next_call : the first thread adds 1 to calls[0] before it counts; the others, when they are done,
        wait for calls[0] to reach `next_call`, but not for long
    memory : the memory of `fused/workspace.py`
    """
    team = Team(state, pieces, thread, threads)
    if begin(image, image, out, team, work, calls):
        if work & COUNT:
            count_pieces(plane_in(state, IMAGE), team, memory)
        make_table_and_map(team, work, memory)
        end(team, calls, next_call)


@tiered_kernel(
    u8=f"void({plane('uint8')}, {plane('uint8')}, int64, int64, int64, int64, {STATE}, {STATE}, int64, "
    f"uint8[::1], uint32[::1], {plane_out('uint8')})"
)
def equalize_masked_together(
    image, mask, pieces, thread, threads, work, state, calls, next_call, workspace, memory, out
):
    """Do the same by the pixels whose mask is not zero; `workspace` is that of `ycrcb/blocks.py`."""
    team = Team(state, pieces, thread, threads)
    if begin(image, mask, out, team, work, calls):
        if work & COUNT:
            count_pieces_masked(plane_in(state, IMAGE), plane_in(state, MASK), team, workspace, memory)
        make_table_and_map(team, work, memory)
        end(team, calls, next_call)


@inline
def begin(image, mask, out, team, work, calls):
    """Open the gate, if this is the first thread's first call, or go in; return False where it is closed."""
    if team.thread == 0:
        if work & COUNT:
            open_gate(image, mask, out, team.state, calls)
        return True
    if await_at_least(team.state, GATE, OPEN // 2):
        if add(team.state, GATE, -1) < OPEN + OPEN // 2:
            return True
        add(team.state, GATE, 1)
    return False


@inline
def open_gate(image, mask, out, state, calls):
    """Write where the arrays are, and wake the threads that poll `calls`."""
    for axis in range(3):
        state[SHAPE + axis] = image.shape[axis]
    note_place(image, IMAGE, state)
    note_place(mask, MASK, state)
    note_place(out, OUT, state)
    add(state, GATE, OPEN)
    add(calls, 0, 1)


@inline
def note_place(plane, at, state):
    """Write where (depth, rows, columns) with contiguous rows are."""
    state[at], state[at + 1], state[at + 2] = plane.ctypes.data, plane.strides[0], plane.strides[1]


@inline
def plane_in(state, at):
    """Return the image, the mask or the result."""
    shape = state[SHAPE], state[SHAPE + 1], state[SHAPE + 2]
    return plane_at(state[at], shape, (state[at + 1], state[at + 2]))


@inline
def end(team, calls, next_call):
    """Go out, and poll `calls` until the next call, but not for long, unless this is the first thread."""
    if team.thread:
        add(team.state, GATE, 1)
        await_at_least(calls, 0, next_call)


@inline
def close_gate(team):
    """Close the gate when all pieces are mapped, and wait until nobody is inside, neither for long."""
    if await_at_least(team.state, MAPPED, team.pieces):
        add(team.state, GATE, OPEN)
        await_at_least(team.state, GATE, 2 * OPEN)


@inline
def make_table_and_map(team, work, memory):
    """Do the rest of the work when this thread has counted its pieces."""
    state = team.state
    if work & TABLE:
        make_table(team, memory)
    if work & MAP and table_is_ready(work, state):
        map_pieces(plane_in(state, IMAGE), team, part_16(memory, LEVELS, 65536), plane_in(state, OUT))
        if team.thread == 0:
            close_gate(team)


@inline
def count_pieces(image, team, memory):
    """Count pieces until none is left."""
    state, pieces = team.state, team.pieces
    counted, own, first = 0, counts_of(team, team.thread), pieces * team.thread // team.threads
    for k in range(pieces):
        i = (first + k) % pieces
        if claim(state, CLAIMS + i):
            count_piece(piece(image, i, pieces), memory, own)
            counted += 1
    if counted:
        fold_rows(memory, own)
        add(state, COUNTED, counted)


@inline
def count_pieces_masked(image, mask, team, workspace, memory):
    """Count the pixels of pieces whose mask is not zero until no piece is left."""
    state, pieces = team.state, team.pieces
    counted, own, first = 0, counts_of(team, team.thread), pieces * team.thread // team.threads
    for k in range(pieces):
        i = (first + k) % pieces
        if claim(state, CLAIMS + i):
            count_masked(piece(image, i, pieces), piece(mask, i, pieces), workspace, memory, own)
            counted += 1
    if counted:
        add(state, COUNTED, counted)


@inline
def make_table(team, memory):
    """Write the table when all pieces are counted, unless that takes too long."""
    if await_at_least(team.state, COUNTED, team.pieces):
        table_of_counts(all_counts(team), memory, table_of(team))
        add(team.state, TABLE_READY, 1)


@inline
def all_counts(team):
    """Return the counts of all threads, added up in those of the first."""
    total = counts_of(team, 0)
    for thread in range(1, team.threads):
        counts = counts_of(team, thread)
        for value in range(np.uint64(256)):
            total[value] += counts[value]
    return total


@inline
def map_pieces(image, team, workspace, out):
    """Map pieces until none is left, beginning with the one counted last, which is still in a cache."""
    state, pieces, table, past_caches = team.state, team.pieces, table_of(team), image.size >= PAST_CACHES
    prepare_table(table, workspace)
    last = pieces * (team.thread + 1) // team.threads - 1
    for k in range(pieces):
        i = (last + pieces - k) % pieces
        if claim(state, CLAIMS + pieces + i):
            map_rows(piece(image, i, pieces), table, workspace, past_caches, piece(out, i, pieces))
            add(state, MAPPED, 1)


@inline
def counts_at(pieces, thread):
    """Return the entry where a thread's counts begin; the table follows those of the last thread."""
    return CLAIMS + 2 * pieces + 256 * thread


@inline
def counts_of(team, thread):
    """Return the counts of a thread."""
    return part_i64(team.state, counts_at(team.pieces, thread), 256)


@inline
def table_of(team):
    """Return the table in the state."""
    return part_8(team.state, counts_at(team.pieces, team.threads), 256)


@inline
def table_is_ready(work, state):
    """Return whether the table is ready; a thread that does not make it itself waits for it first."""
    return load(state, TABLE_READY) == 1 if work & TABLE else await_at_least(state, TABLE_READY, 1)


@inline
def claim(state, which):
    """Claim a piece; return False if another thread has claimed it already."""
    return load(state, which) == 0 and add(state, which, 1) == 0


@inline
def piece(image, i, pieces):
    """Return the i-th piece of a (depth, rows, columns) image: columns, slices, or rows of blocks."""
    depth, height, width = image.shape
    if depth * height < TALL:
        return image[:, :, width * i // pieces : width * (i + 1) // pieces]
    if height < depth:
        return image[depth * i // pieces : depth * (i + 1) // pieces]
    blocks = (height + TALL - 1) // TALL
    return image[:, blocks * i // pieces * TALL : blocks * (i + 1) // pieces * TALL]
