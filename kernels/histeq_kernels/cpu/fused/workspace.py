"""The memory of the fused kernels: one array, since every argument of a kernel adds to the cost of a call."""

from histeq_kernels.cpu import rules
from histeq_kernels.cpu.histogram.workspace import SCRATCH
from histeq_kernels.cpu.lut import lookup

CUMULATIVE = SCRATCH
"""Where cumulative counts begin, `rules.SUMS` float64, after the counters of `histogram/workspace.py`."""
TABLE = CUMULATIVE + 2 * rules.SUMS
"""Where the table of an 8-bit image begins, 256 bytes."""
LEVELS = TABLE + 64
"""Where `lut.lookup.WORKSPACE` uint16 begin: 8-bit counts, then the lookups' workspace; or a 16-bit table."""
CHANNEL_TABLES = LEVELS + 512
"""Where the tables of the channels begin, 256 bytes each, after counts of 256 int64."""
MEMORY = LEVELS + lookup.WORKSPACE // 2
"""The size in uint32. The counters are zero before and after every call; the others have any content."""
