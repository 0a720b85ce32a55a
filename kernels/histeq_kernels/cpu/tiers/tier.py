"""The description of an instruction tier."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Tier:
    """An instruction tier: the processor features that it needs, and its operations."""

    name: str
    needs: frozenset[str]
    """The names of the features in LLVM."""
    operations: dict[str, Any]
    """The implementation of each of the operations of `core/operations.py`."""
    joins_rows: bool
    """Whether rows that are adjacent in memory are best counted as one row, not in blocks of rows."""
    bypasses_caches: bool
    """Whether mapping can bypass the caches: see `PAST_CACHES` in `lut/grey.py`."""
    min_pixels_equalized_by_rows: int
    """The number of pixels from which `equalize` is faster than `equalize_small`: see `fused/grey.py`."""
