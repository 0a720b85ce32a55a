"""A frame of a video in one call: counted, judged, added to the sums over time, and mapped by their table.

One thread calls this kernel, and those that help it call `threaded.equalize_together`, without its table.
"""

import numpy as np

from histeq_kernels.cpu.core.atomics import STATE, add, await_at_least
from histeq_kernels.cpu.core.kernel import COUNTS, inline, plane, plane_out
from histeq_kernels.cpu.core.views import part_16
from histeq_kernels.cpu.fused.tables import table_of_range
from histeq_kernels.cpu.fused.threaded import (
    COUNT,
    COUNTED,
    TABLE_READY,
    Team,
    all_counts,
    close_gate,
    count_pieces,
    map_pieces,
    open_gate,
    table_of,
)
from histeq_kernels.cpu.fused.workspace import LEVELS
from histeq_kernels.cpu.shots import distance_between
from histeq_kernels.cpu.tiers import tiered_kernel

UNIT, THRESHOLD, DISTANCE = 0, 1, 2
"""Entries of `judge`: what a frame's shares add up to; the distance beyond which it begins a shot; its
distance, which is written."""


@tiered_kernel(
    u8=f"void({plane('uint8')}, int64, int64, int64, {STATE}, {STATE}, {COUNTS}, {COUNTS}, float64[::1], "
    f"int64[::1], int64[::1], uint32[::1], {plane_out('uint8')})"
)
def equalize_frame(
    image, pieces, threads, work, state, calls, leaving, levels, judge, shares, total, memory, out
):
    """Count pieces if `work` has `COUNT`, make the table, and map pieces until all are mapped.

    Where other threads take long the table is not made, or not all is mapped: the state tells.

    Parameters
    ----------
    calls : 1 is added to calls[0] before the pieces are counted
    leaving : the counts of the frame that leaves the window unless this one begins a shot, of the bins
    levels : the value of the first bin, the lowest level and the number of those above it, and what the first
        and the last bin become where every pixel keeps its value
    shares : those of the frame before; they become those of this frame
    total : the sums over the window of the frame before; they become those of this frame
    """
    team = Team(state, pieces, 0, threads)
    if work & COUNT:
        open_gate(image, image, out, state, calls)
        count_pieces(image, team, memory)
    if await_at_least(state, COUNTED, pieces):
        make_table_over_time(team, leaving, levels, judge, shares, total, memory)
        map_pieces(image, team, part_16(memory, LEVELS, 65536), out)
        close_gate(team)


@inline
def make_table_over_time(team, leaving, levels, judge, shares, total, memory):
    """Judge the frame by its counts, move the window on, and write the table of its sums."""
    first, low, span, start, end = levels[0], levels[1], levels[2], levels[3], levels[4]
    stop = first + total.size
    counts, table = all_counts(team)[first:stop], table_of(team)
    judge[DISTANCE] = distance_between(counts, judge[UNIT], shares)
    goes_on = not judge[DISTANCE] > judge[THRESHOLD]
    for level in range(np.uint64(total.size)):
        total[level] = counts[level] + (total[level] - leaving[level] if goes_on else np.int64(0))
    table_of_range(total, first, (start, end), (low, span), memory, table)
    add(team.state, TABLE_READY, 1)
