"""The interface of a backend: a module with the functions of `Backend`.

Every function takes *canonical* arrays with five axes N C D H W (images, channels, depth, rows, columns).
They are views of the caller's arrays with axes transposed and inserted, never copies, so that any strides
can occur. Counts and tables have two leading axes, N and P, where P is the number of histograms per image:
1 for grey images and for luma, else the number of channels. All arrays of a call belong to the backend's own
library and stay on their device: a device backend keeps counts, edges and tables there, and need not
synchronize.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from histeq._core import rules
from histeq._core.rules import OutRange

if TYPE_CHECKING:
    from histeq._core.tile_grid import Grid, Levels
    from histeq._core.window import Window

Array = Any  # an array of the backend's own library

Order = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of one call, as canonical arrays."""

    image: Array
    """(N, C, D, H, W); C is 3 when `luma` is set."""
    mask: Array | None = None
    """(N or 1, 1, D, H, W), bool: which pixels are counted. None counts all of them."""
    nodata: float | int | None = None
    """The value that is not counted and passes through unchanged. With `luma`: in all three channels."""
    beside_nodata: float | int | None = None
    """What a pixel becomes that would be mapped to nodata: see `histeq/_core/nodata.py`. With `luma`: in all
    three channels."""
    luma: Order | None = None
    """The order of the three channels whose luma is processed. None processes every channel by itself."""
    alpha: bool = False
    """In memory a fourth channel follows the three. Copying it along with them is harmless."""
    value_range: tuple[int, int] | None = None
    """Of integers: values outside are not counted, and mapped as the limits are; None: there are none."""

    @property
    def histograms(self) -> tuple[int, int]:
        """The leading axes N and P of counts and tables: images, and histograms per image."""
        return len(self.image), 1 if self.luma else self.image.shape[1]

    def nodata_and_beside(self, none: float) -> tuple[float, float]:
        """Return nodata and what a pixel becomes that would be mapped to it; `none` twice without nodata."""
        if self.nodata is None:
            return none, none
        return self.nodata, self.nodata if self.beside_nodata is None else self.beside_nodata

    def channels_of(self, p: int) -> tuple[int, ...]:
        """Return the channels that the p-th histogram counts: red, green and blue, or a single one."""
        if self.luma is None:
            return (p,)
        return (2, 1, 0) if self.luma == "bgr" else (0, 1, 2)

    def mask_of(self, n: int) -> Array | None:
        """Return the mask of image n, (D, H, W), or None if all of its pixels are counted."""
        return None if self.mask is None else self.mask[min(n, len(self.mask) - 1), 0]

    def bins(self, edges: Array | None) -> int:
        """Return how many bins a histogram has: one a value, or those between the edges."""
        if edges is not None:
            return edges.shape[-1] - 1
        bins = self.bins_in_range
        return bins.stop - bins.start

    @property
    def bins_in_range(self) -> slice:
        """Which of the bins of all integers are those of the value range."""
        return rules.bins_in_range(self.image.dtype, self.value_range)

    def part(self, images: slice) -> "Pixels":
        """Return some of the images."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[images]
        return replace(self, image=self.image[images], mask=mask)

    def window(self, where: tuple[slice, ...]) -> "Pixels":
        """Return some of the pixels of each image: a slice of each of D, H and W."""
        at = (slice(None), slice(None), *where)
        return replace(self, image=self.image[at], mask=None if self.mask is None else self.mask[at])


def groups_of_images(images: int, size: int, most: int) -> Iterator[slice]:
    """Yield groups of images that need `size` bytes an image and `most` together; at least one image each."""
    count = max(1, most // max(1, size))
    for start in range(0, images, count):
        yield slice(start, start + count)


class FastPath(Protocol):
    """The public functions with the least overhead, for calls that need no views and few checks.

    Each returns None for any other call, including invalid ones: the general path then serves the call or
    raises the error. Images are NumPy arrays.
    """

    def equalize(
        self, image: Array, rule: Any, layout: Any, color: Any, alpha: Any, out: Any
    ) -> Array | None:
        """Equalize all of a grey image, or a contiguous one in colour."""

    def equalize_part(
        self,
        image: Array,
        rule: Any,
        layout: Any,
        color: Any,
        alpha: Any,
        out: Any,
        *,
        mask: Any,
        nodata: Any,
        value_range: Any,
        out_range: Any,
    ) -> Array | None:
        """Equalize a grey image, by some of its pixels or values, or to some levels."""

    def histogram(self, image: Array, layout: Any, color: Any, alpha: Any) -> Array | None:
        """Count a contiguous grey image."""

    def apply(
        self, image: Array, table: Array, layout: Any, color: Any, alpha: Any, out: Any
    ) -> Array | None:
        """Map a contiguous grey image through a table."""

    def clahe(
        self, image: Array, clip_limit: Any, tiles: Any, layout: Any, color: Any, alpha: Any, out: Any
    ) -> Array | None:
        """Equalize a contiguous grey image locally."""


class Backend(Protocol):
    """The functions of a backend module."""

    name: str
    fast_path: FastPath | None
    """Functions for the most common calls, since the general path takes longer than a small image does."""
    Window: type["Window"]
    """What keeps the counts of a video's frames, and maps them by sums of these."""
    PlainFrames: Any
    """What takes the commonest frames of a clip in place of a `Window`'s methods; None: nothing does."""
    ClipWindow: Any
    """A `Window` for the frames of one clip that are uploaded while others are mapped; None: nothing is."""

    def device(self) -> str:
        """Return the name of the processor that does the work."""

    def empty_like(self, image: Array, dtype: Any) -> Array:
        """Return a new array of `dtype`, with the shape, device and memory order of `image`."""

    def overlap(self, a: Array, b: Array) -> bool:
        """Return whether two arrays share any memory."""

    def as_mask(self, mask: Array) -> Array:
        """Return a mask of bool or unsigned integers as booleans: where it is not zero."""

    def copy_alpha(self, source: Array, target: Array) -> None:
        """Copy an alpha channel into that of a result; it becomes a fraction if the result has fractions."""

    def bin_edges(self, pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
        """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""

    def histogram(self, pixels: Pixels, edges: Array | None) -> Array:
        """Return the counts, (N, P, levels or bins), int64; only floating images have `edges`."""

    def lookup_table(self, counts: Array, rule: str, dtype: Any, out_range: OutRange | None) -> Array:
        """Return the table of a rule for each histogram: (..., levels), of dtype `table_dtype`."""

    def match_table(self, counts: Array, reference: Array, dtype: Any, first: int) -> Array:
        """Return the table that gives `counts`, from value `first` up, the distribution of `reference`."""

    def match_values(self, pixels: Pixels, reference: Pixels, out: Array) -> None:
        """Match a floating image to a floating reference, value by value."""

    def apply(self, pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
        """Map every pixel through its table into `out`, regardless of the mask."""

    def equalize(
        self,
        pixels: Pixels,
        rule: str,
        out_range: OutRange | None,
        edges: Array | None,
        out: Array,
    ) -> None:
        """Combine `histogram`, `lookup_table` and `apply` in one call."""

    def equalize_by(
        self,
        pixels: Pixels,
        edges: Array | None,
        table_of: Callable[[NDArray[np.int64]], Array],
        out: Array,
    ) -> None:
        """Count one image, map it through the table that `table_of` makes of the counts, (1, P, bins).

        Backends whose counts are NumPy's have it.
        """

    def histogram_distance(self, histogram: NDArray[np.int64], shares: NDArray[np.int64]) -> float:
        """Return how far a frame's histogram is from that of the frame before: see `shots.distance`.

        Backends whose counts are NumPy's have it.
        """

    def tile_tables(
        self, pixels: Pixels, grid: "Grid", clip_limit: float, levels: "Levels", edges: Array | None
    ) -> Array:
        """Return the table of every tile: (N, P, D, H, W, bins), of `levels.table_dtype`."""

    def tile_histograms(
        self,
        pixels: Pixels,
        grid: "Grid",
        origin: tuple[int, ...],
        first: tuple[int, ...],
        levels: "Levels",
        edges: Array | None,
        counts: Array,
    ) -> None:
        """Add the counts of a window, which begins at `origin` (D, H, W), to those of the tiles it touches.

        `counts`, (N, P, D, H, W, bins) int64, are those of some of the tiles, from `first` (D, H, W) on.
        """

    def tables_of_tiles(
        self, counts: Array, clip_limit: float, levels: "Levels"
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Return the tables of tiles with these counts, and which tiles are empty: theirs are zeros.

        The latter is NumPy's for every backend.
        """

    def apply_tiles(
        self,
        pixels: Pixels,
        tables: Array,
        grid: "Grid",
        origin: tuple[int, ...],
        first: tuple[int, ...],
        levels: "Levels",
        edges: Array | None,
        out: Array,
    ) -> None:
        """Map a window of an image, which begins at `origin` (D, H, W), into `out` by blending the tables.

        The tables are those of some of the tiles, from `first` (D, H, W) on, at least of all that are needed.
        """

    def clahe(
        self,
        pixels: Pixels,
        grid: "Grid",
        clip_limit: float,
        levels: "Levels",
        edges: Array | None,
        out: Array,
    ) -> None:
        """Combine `tile_tables` and `apply_tiles` in one call."""
