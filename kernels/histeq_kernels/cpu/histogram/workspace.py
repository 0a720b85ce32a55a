"""The counters that all kernels of a thread share: uint32, zero before and after every call."""

from histeq_kernels.cpu.histogram import pairs
from histeq_kernels.cpu.histogram.bitplane_vectors import MASK_ENTRIES

ZEROS = pairs.ENTRIES
"""Entries that are zero before and after every call."""
SCRATCH = ZEROS + MASK_ENTRIES
"""The number of entries; those from `ZEROS` on have any content. The memory is aligned to cache lines."""
MAX_PIXELS = 1 << 32
"""The most pixels that one call may count, so that no counter overflows."""
