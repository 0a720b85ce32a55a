"""What is done to an image in a file: equalize it, match it, equalize it locally.

Every method checks its arguments (`check`, which returns the result's dtype), serves pages that are in memory
(`whole`), and says whether they must be (`needs_page`), what memory that takes beside them (`bytes_beside`),
and how often pixels are read otherwise (`passes`). Those that map all pixels of a page alike count them first
(`mapping`); `histeq/_passes/clahe.py` is the other way.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq._api.request import Request, check_bins, check_levels, check_rule
from histeq._core import rules
from histeq._core.rules import OutRange
from histeq._files import Window, name_of
from histeq._files.blocks import Header
from histeq._passes import count
from histeq._passes.image import Image, Selection
from histeq._passes.run import Run

Map = Callable[[Request, NDArray[Any]], None]
"""Maps the pixels of a request into an array."""
Pages = Callable[[], Iterable[tuple[Image, Sequence[int]]]]
"""What is counted together: pages of images, each open while it is the current one."""


@dataclass(frozen=True, slots=True)
class Equalize:
    """`histeq.equalize`, whose arguments these are."""

    selection: Selection
    rule: str = "opencv"
    bins: Any = None
    out_range: Any = None
    out_dtype: Any = None

    def check(self, header: Header) -> np.dtype[Any]:
        """Check the arguments, and return the dtype of the result."""
        request, _, levels, name, _ = self._plan(header)
        dtype = rules.result_dtype(name, request.dtype, levels)
        request.for_result(dtype)
        return dtype

    def _plan(self, header: Header) -> tuple[Request, int, OutRange | None, str, Any]:
        request = self.selection.check(header)
        dtype, pixels = request.dtype, request.pixels
        name = check_rule(self.rule, dtype, pixels.luma)
        bins, bounds = check_bins(self.bins, self.selection.value_range, dtype)
        levels = check_levels(self.out_range, self.out_dtype, pixels.value_range, name, dtype, pixels.luma)
        return request, bins, levels, name, bounds

    def needs_page(self, header: Header) -> bool:
        """Tell that no page must be in memory."""
        return False

    def bytes_beside(self, header: Header) -> int:
        """Return the bytes of the counts of floating images; tables of integers are small."""
        return 8 * self._plan(header)[1] * self.selection.planes(header) if header.dtype.kind == "f" else 0

    def passes(self, header: Header) -> int:
        """Return 2, or 3 where the range of the values must be found first."""
        return 3 if header.dtype.kind == "f" and self.selection.value_range is None else 2

    def whole(self, of: Image, window: Window, **arguments: Any) -> NDArray[Any]:
        """Return the equalized page."""
        own = {name: getattr(self, name) for name in ("rule", "bins", "out_range", "out_dtype")}
        result: NDArray[Any] = histeq.equalize(**arguments, **own, value_range=self.selection.value_range)
        return result

    def mapping(self, run: Run, header: Header, pages: Pages) -> Map:
        """Count pages together, and return what maps their pixels."""
        request, bins, levels, name, bounds = self._plan(header)
        edges = None
        if request.dtype.kind == "f":
            edges = (
                request.edges(bins, bounds) if bounds else _edges_of(run, self.selection, header, pages, bins)
            )
        counts = _histogram(run, pages, edges)
        table = request.backend.lookup_table(counts, name, request.dtype, levels)
        dtype = rules.result_dtype(name, request.dtype, levels)
        return _Through(table, edges, dtype, None if levels is None else levels.low)


@dataclass(frozen=True, slots=True)
class Match:
    """`histeq.match`, with a reference in a file."""

    selection: Selection
    reference: Image

    def check(self, header: Header) -> np.dtype[Any]:
        """Check the arguments, and return the dtype of the result."""
        request = self.selection.check(header)
        model, name = self.reference.header, name_of(self.reference.file)
        ours, theirs = (each.channels - self.selection.alpha_of(each) for each in (header, model))
        if ours != theirs:
            raise ValueError(
                f"the reference has {theirs} channels and the picture {ours} (alpha not counted): {name}"
            )
        if model.dtype != header.dtype:
            raise TypeError(
                f"the reference must have the picture's dtype {header.dtype}, got {model.dtype}: {name}"
            )
        if model.pages not in (1, header.pages):
            raise ValueError(f"the reference has {model.pages} pages and the picture {header.pages}: {name}")
        request.for_result(header.dtype)
        return header.dtype

    def needs_page(self, header: Header) -> bool:
        """Tell that floating images are matched value by value."""
        return header.dtype.kind == "f"

    def bytes_beside(self, header: Header) -> int:
        """Return the bytes of the reference."""
        model = self.reference.header
        return model.height * model.width * model.bytes_per_pixel

    def passes(self, header: Header) -> int:
        """Return 2: to count and to map."""
        return 2

    def whole(self, of: Image, window: Window, **arguments: Any) -> NDArray[Any]:
        """Return the matched page."""
        model = self.reference.header
        page = window.page if model.pages > 1 else 0
        there = Window(page, 0, 0, model.height, model.width)
        reference, counted = self.reference.read_counted(there)
        alpha = self.selection.alpha_of
        if alpha(model) and not alpha(of.header):
            reference = reference[..., :-1]
            reference = reference if "C" in of.header.layout else reference[..., 0]
        return histeq.match(
            **arguments, reference=reference, reference_mask=counted,
            reference_nodata=self.selection.nodata_of(model),
            value_range=self.selection.value_range,
        )  # fmt: skip

    def mapping(self, run: Run, header: Header, pages: Pages) -> Map:
        """Count pages together, and return what maps their pixels."""
        request = self.selection.check(header)
        dtype, planes = request.dtype, request.pixels
        numbers = [0] if self.reference.header.pages == 1 else next(iter(pages()))[1]
        wanted = count.histogram(run, self.reference, numbers, None)
        counts = _histogram(run, pages, None)
        first = rules.whole_range(dtype).first + planes.bins_in_range.start
        return _Through(request.backend.match_table(counts, wanted, dtype, first), None, dtype, None)


@dataclass(frozen=True, slots=True)
class Clahe:
    """`histeq.clahe`, whose arguments these are."""

    selection: Selection
    clip_limit: float
    tiles: Any
    tile_size: Any
    bins: Any
    out_range: Any
    out_dtype: Any

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `histeq.clahe` that do not say which pixels are meant."""
        names = ("clip_limit", "tiles", "tile_size", "bins", "out_range", "out_dtype")
        return {"value_range": self.selection.value_range, **{name: getattr(self, name) for name in names}}

    def check(self, header: Header) -> np.dtype[Any]:
        """Check the arguments, and return the dtype of the result."""
        request = self.selection.check(header)
        dtype: np.dtype[Any] = self.tables(self.counts_of_nothing(header))._kind.levels.result_dtype
        request.for_result(dtype)
        return dtype

    def counts(
        self,
        header: Header,
        pixels: NDArray[Any],
        value_range: Any,
        origin: tuple[int, int] = (0, 0),
        mask: Any = None,
        bins: int | None = None,
    ) -> histeq.TileHistograms:
        """Return the counts of a window of a page; `bins` are the method's by default."""
        return histeq.tile_histograms(
            pixels, shape=header.size, origin=origin, tiles=self.tiles, tile_size=self.tile_size,
            bins=bins or self.bins, value_range=value_range, mask=mask, **self.selection.of(header),
        )  # fmt: skip

    def counts_of_nothing(
        self, header: Header, value_range: Any = None, bins: int | None = None
    ) -> histeq.TileHistograms:
        """Return the counts of an empty window, which tell the grid. Any range does for floating images."""
        given = value_range or self.selection.value_range or ((0, 1) if header.dtype.kind == "f" else None)
        return self.counts(header, np.zeros(header.shape(0, 0), header.dtype), given, bins=bins)

    def tables(self, counts: histeq.TileHistograms) -> histeq.TileTables:
        """Return the tables of tiles that are counted."""
        return histeq.tile_tables(
            counts, clip_limit=self.clip_limit, out_range=self.out_range, out_dtype=self.out_dtype,
            backend=self.selection.backend,
        )  # fmt: skip

    def needs_page(self, header: Header) -> bool:
        """Tell that floating channels, each with a range of its own, are served together only."""
        return header.dtype.kind == "f" and header.channels > 1 and self.selection.value_range is None

    def bytes_beside(self, header: Header) -> int:
        """Return the bytes of the tables of all tiles of a page."""
        counts = self.counts_of_nothing(header)
        size = 1 if header.dtype.itemsize == 1 else 2
        return math.prod(counts.tiles) * counts.bins * self.selection.planes(header) * size

    def passes(self, header: Header) -> int:
        """Return 2, and one more each to find the range of the values and the empty tiles."""
        floating, given = header.dtype.kind == "f", self.selection.value_range is not None
        return 2 + (floating and not given) + self.may_be_empty(header)

    def may_be_empty(self, header: Header) -> bool:
        """Tell whether a tile may have no counted pixel, without a mask."""
        some = self.selection.value_range is not None or self.selection.nodata_of(header) is not None
        return some or header.dtype.kind == "f"

    def whole(self, of: Image, window: Window, **arguments: Any) -> NDArray[Any]:
        """Return the page equalized locally."""
        return histeq.clahe(**arguments, **self.arguments())


Method = Equalize | Match | Clahe


def _histogram(run: Run, pages: Pages, edges: Any) -> NDArray[np.int64]:
    """Return the counts of pages of several images together."""
    total: Any = 0
    for image, numbers in pages():
        total = total + count.histogram(run, image, numbers, edges)
    return np.asarray(total)


def _edges_of(run: Run, selection: Selection, header: Header, pages: Pages, bins: int) -> Any:
    """Return the edges of the bins of floating images, which are read for it."""
    found = [count.extremes(run, image, numbers) for image, numbers in pages()]
    limits = np.stack([np.min([low for low, _ in found], 0), np.max([high for _, high in found], 0)])
    return count.edges_of(selection, header, limits, bins)


@dataclass(frozen=True, slots=True)
class _Through:
    """Maps pixels through a table."""

    table: Any
    edges: Any
    dtype: np.dtype[Any]
    lowest: float | None

    def __call__(self, request: Request, out: NDArray[Any]) -> None:
        call = request.for_result(self.dtype, self.lowest)
        call.backend.apply(call.pixels, self.table, self.edges, call.target(out))
