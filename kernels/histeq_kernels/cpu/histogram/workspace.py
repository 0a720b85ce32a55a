"""The counters that all kernels of a thread share: uint32, zero before and after every call."""

from histeq_kernels.cpu.histogram import pairs
from histeq_kernels.cpu.histogram.bitplane_vectors import MASK_ENTRIES

ZEROS = pairs.ENTRIES
"""Entries that are zero before and after every call."""
SCRATCH = ZEROS + MASK_ENTRIES
"""All entries; the memory begins with a cache line. Those from `ZEROS` on have any content."""
MAX_PIXELS = 1 << 32
"""No call counts more pixels than this, or a counter could overflow."""
