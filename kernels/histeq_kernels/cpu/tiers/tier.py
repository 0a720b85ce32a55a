"""What an instruction tier is."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Tier:
    """An instruction tier: the processor features it needs, and what it does with them."""

    name: str
    needs: frozenset[str]
    """Features, by LLVM's names."""
    operations: dict[str, Any]
    """What implements each of the operations of `core/operations.py`."""
    joins_rows: bool
    """Whether rows that follow each other in memory are best counted as one row, not in blocks of rows."""
    min_pixels_equalized_by_rows: int
    """From how many pixels on `equalize` is faster than `equalize_small`: see `fused/grey.py`."""
    max_ranked_tile: int
    """Up to how many pixels in a tile CLAHE of 16 bits is faster by ranks than by tables."""
