"""Lookup tables from the counters in the fused kernels' memory."""

import numpy as np

from histeq_kernels.cpu import rules
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.operations import count_rows, fold_rows, rows_to_count
from histeq_kernels.cpu.core.prefix_sums import accumulate
from histeq_kernels.cpu.core.rounding import rounded
from histeq_kernels.cpu.core.views import part_32, part_f64, part_i32, part_i64
from histeq_kernels.cpu.fused.workspace import CUMULATIVE, LEVELS
from histeq_kernels.cpu.histogram.bitplane_counts import COUNTERS
from histeq_kernels.cpu.histogram.bitplanes import count_image
from histeq_kernels.cpu.histogram.small import TABLES, merge
from histeq_kernels.cpu.rules import fill_occupied, occupied


@inline
def table_of_small(c, pixels, memory, table):
    """Write the levels of all values, from the c-th four tables of `small.py`, which are reset."""
    merge(part_32(memory, c * TABLES, TABLES), TABLES)
    table_of_counters(c * TABLES, pixels, memory, table)


@inline
def table_of_rows(image, memory, table):
    """Write the levels of all values of a contiguous 2-D image."""
    counts = empty_counts(memory)
    count_rows(rows_to_count(image), memory, counts)
    fold_rows(memory, counts)
    table_of_counts(counts, memory, table)


@inline
def table_of_bitplanes(image, memory, table):
    """Write the levels of all values of a contiguous 2-D image, which is counted as bit planes."""
    count_image(image, memory)
    table_of_counters(0, image.size, memory, table)


@inline
def table_of_bitplane_blocks(c, pixels, memory, table):
    """Write the levels of all values, from the c-th counters of `bitplanes.py`, which are reset."""
    table_of_counters(c * COUNTERS, pixels, memory, table)


@inline
def table_of_counters(start, pixels, memory, table):
    """Write the levels of all values, from 256 counters from entry `start` on, which are reset."""
    counters, sums = part_32(memory, start, 256), part_i32(memory, start, 256)
    accumulate(sums, np.uint64(0), np.uint64(256), np.int32(0))
    table_of_sums(sums, np.int32(pixels), table)
    for value in range(np.uint64(256)):
        counters[value] = 0


@inline
def table_of_sums(sums, pixels, table):
    """Write the levels of all values from their cumulative counts, int32, in loops that become vectors."""
    darkest = pixels
    for value in range(np.uint64(256)):
        darkest = min(darkest, sums[value] if sums[value] else pixels)
    rest = np.int32(pixels - darkest)
    if rest == 0:
        for value in range(np.uint64(256)):
            table[value] = value
        return
    number, top = np.float32(255) / np.float32(rest), np.int32(255)
    for value in range(np.uint64(256)):
        above = max(np.int32(sums[value] - darkest), np.int32(0))
        table[value] = min(rounded(np.float32(above) * number), top)


@inline
def table_of_counts(counts, memory, table):
    """Write the levels of all values."""
    sums = part_i32(memory, CUMULATIVE, 256)
    for value in range(np.uint64(256)):
        sums[value] = counts[value]
    accumulate(sums, np.uint64(0), np.uint64(256), np.int32(0))
    table_of_sums(sums, sums[255], table)


@inline
def table_of_range(counts, first, ends, levels, memory, table):
    """Write the levels of all values by the counts of those from `first` on; others get the nearest one's.

    `ends` and `levels` are those of `rules.fill`.
    """
    stop = first + counts.size
    rule, sums = (rules.opencv_number, rules.opencv_level), part_f64(memory, CUMULATIVE, rules.SUMS)
    rules.fill(counts, ends, levels, rule, sums, table[first:stop])
    table[:first] = table[first]
    table[stop:] = table[stop - 1]


@inline
def empty_counts(memory):
    """Return the counts of 8-bit pixels in the memory, set to 0."""
    counts = part_i64(memory, LEVELS, 256)
    for value in range(np.uint64(256)):
        counts[value] = 0
    return counts


@inline
def fill_from_counters(counters, total, rule, memory, table):
    """Write the levels of the values that occur, by the two functions of a rule; reset `counters`."""
    first, last = occupied(counters)
    sums, span = part_f64(memory, CUMULATIVE, rules.SUMS), table.size - 1
    if not fill_occupied(counters, (first, last), total, (0, span), rule, sums, table):
        for value in range(first, last + np.uint64(1)):
            table[value] = value
    for value in range(first, last + np.uint64(1)):
        counters[value] = 0
