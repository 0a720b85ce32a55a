"""Several threads on one 8-bit image: they take pieces in turn, count, wait for the table, and map.

A thread that sleeps takes 25 to 150 microseconds to wake, as long as a good part of the work. So a thread is
called once for both passes, and pieces belong to no thread: whoever is awake takes the next, and a thread
that comes too late finds none left. Each thread begins with a share of its own, so that it mostly maps what
it counted, from its own cache, call after call. They share an array, the state, all zeros in the beginning.
"""

from typing import Any, NamedTuple

import numpy as np

from histeq_kernels.cpu.core.atomics import STATE, add, await_at_least, load
from histeq_kernels.cpu.core.kernel import inline, plane, plane_out
from histeq_kernels.cpu.core.operations import count_rows, fold_rows, map_rows, prepare_table
from histeq_kernels.cpu.core.views import part_8, part_16, part_i64
from histeq_kernels.cpu.fused.tables import table_of_counts
from histeq_kernels.cpu.fused.workspace import LEVELS
from histeq_kernels.cpu.histogram.bitplane_vectors import TALL
from histeq_kernels.cpu.lut.grey import PAST_CACHES
from histeq_kernels.cpu.tiers import tiered_kernel

COUNT, TABLE, MAP = 1, 2, 4
"""What a thread is to do, to be added up. A thread that does all in one call needs no GIL in between."""
COUNTED, TABLE_READY, MAPPED, CLAIMS = 0, 1, 2, 3
"""Entries of the state: pieces counted, and added to some thread's counts; 1 when the table is there; pieces
mapped; then for each piece, whether a thread has claimed it to count it, and for each, whether to map it.
Behind them are 256 counts for each thread, and the table, 256 bytes."""


class Team(NamedTuple):
    """What the threads of a call share, and which of them this one is."""

    state: Any
    pieces: Any
    thread: Any
    threads: Any


def layout_of_state(pieces: int, threads: int) -> tuple[int, int, int]:
    """Return where in the state the counts and the table begin, and its size."""
    table = counts_at(pieces, threads)
    return counts_at(pieces, 0), table, table + 32


def most_pieces(shape: tuple[int, ...]) -> int:
    """Return into how many pieces an image can be cut."""
    depth, height, width = shape
    if depth * height < TALL:
        return width
    return depth if height < depth else (height + TALL - 1) // TALL


@tiered_kernel(
    u8=f"void({plane('uint8')}, int64, int64, int64, int64, {STATE}, uint32[::1], {plane_out('uint8')})"
)
def equalize_together(image, pieces, thread, threads, work, state, memory, out):
    """Count pieces until none is left; wait for the table, unless that takes long; map pieces.

    Parameters
    ----------
    work : `COUNT`, `TABLE`, `MAP` added up; the thread with `TABLE` makes it, by the default rule, when all
        pieces have been counted, and waits for all to be mapped, unless either takes long
    memory : that of `fused/workspace.py`
    """
    team = Team(state, pieces, thread, threads)
    if work & COUNT:
        count_pieces(image, team, memory)
    if work & TABLE:
        make_table(team, memory)
    if work & MAP and table_is_ready(work, state):
        map_pieces(image, team, part_16(memory, LEVELS, 65536), out)
        if work & TABLE:
            await_at_least(state, MAPPED, pieces)


@inline
def count_pieces(image, team, memory):
    """Count pieces until none is left."""
    state, pieces = team.state, team.pieces
    counted, own, first = 0, counts_of(team, team.thread), pieces * team.thread // team.threads
    for k in range(pieces):
        i = (first + k) % pieces
        if claim(state, CLAIMS + i):
            count_rows(piece(image, i, pieces), memory, own)
            counted += 1
    if counted:
        fold_rows(memory, own)
        add(state, COUNTED, counted)


@inline
def make_table(team, memory):
    """Write the table of all counts when they are there, unless that takes long."""
    if await_at_least(team.state, COUNTED, team.pieces):
        total = counts_of(team, 0)
        for thread in range(1, team.threads):
            counts = counts_of(team, thread)
            for value in range(np.uint64(256)):
                total[value] += counts[value]
        table_of_counts(total, memory, table_of(team))
        add(team.state, TABLE_READY, 1)


@inline
def map_pieces(image, team, workspace, out):
    """Map pieces until none is left, the one counted last first: it is in a cache."""
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
    """Return where in the state a thread's counts begin; behind those of the last thread is the table."""
    return CLAIMS + 2 * pieces + 256 * thread


@inline
def counts_of(team, thread):
    """Return the counts of a thread."""
    return part_i64(team.state, counts_at(team.pieces, thread), 256)


@inline
def table_of(team):
    """Return the table."""
    return part_8(team.state, counts_at(team.pieces, team.threads), 256)


@inline
def table_is_ready(work, state):
    """Tell whether the table is made, after some waiting unless this thread was to make it."""
    return load(state, TABLE_READY) == 1 if work & TABLE else await_at_least(state, TABLE_READY, 1)


@inline
def claim(state, which):
    """Claim a piece; tell whether no other thread had."""
    return load(state, which) == 0 and add(state, which, 1) == 0


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
