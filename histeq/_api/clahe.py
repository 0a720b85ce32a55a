"""CLAHE, the public functions: check the arguments, choose the backend, hand over."""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histeq._api import equalize as _api
from histeq._api import interop as _guests
from histeq._api import request as _arguments
from histeq._api.request import Request
from histeq._core import dispatch as _dispatch
from histeq._core import tile_grid as _tiles
from histeq._core.backend import Array, Pixels
from histeq._core.tile_grid import Grid, Levels

_SPATIAL = "DHW"
_MOST = 1 << 34


@dataclass(frozen=True, slots=True, eq=False)
class TileTables:
    """The lookup tables of an image's tiles, as `tile_tables` returns them.

    Attributes
    ----------
    tables : array, read-only
        One table a tile: the axes N and C where the image has them (C only for ``color="channels"``), one
        axis of tiles for each spatial axis, the bins last. uint8 for uint8 images, else uint16. Entries are
        levels above the dtype's smallest value, in units of ``2**16 / bins`` for fewer bins without
        `out_range`.
    image_shape : tuple of int
        The spatial axes of the image that was counted: what an `origin` refers to.
    tiles, tile_size : tuple of int
        How many tiles, and their size in pixels.
    bins : int
        How many entries a table has.
    """

    tables: Array
    image_shape: tuple[int, ...]
    tiles: tuple[int, ...]
    tile_size: tuple[int, ...]
    bins: int
    _letters: str = field(repr=False)
    _canonical: Array = field(repr=False)  # (N, P, D, H, W, bins)
    _grid: Grid = field(repr=False)
    _levels: Levels = field(repr=False)
    _edges: Array | None = field(repr=False)

    def __repr__(self) -> str:
        sizes = " x ".join(map(str, self.tiles)), " x ".join(map(str, self.tile_size))
        return f"TileTables({sizes[0]} tiles of {sizes[1]} pixels, {self.bins} bins, {self._levels.dtype})"


def clahe(
    image: Array,
    *,
    clip_limit: float = 2.0,
    tiles: Any = _tiles.TILES,
    tile_size: Any = None,
    bins: int | None = None,
    layout: str | None = None,
    color: str = "luma",
    mask: Array | None = None,
    nodata: float | None = None,
    value_range: tuple[float, float] | None = None,
    out_range: tuple[float, float] | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Equalize the contrast of an image locally and within limits (CLAHE).

    The image is divided into tiles; each tile's histogram is clipped, and equalized by a table of its own;
    each pixel is mapped by the tables of the tiles around it, weighted by their distance.

    Parameters
    ----------
    image : array
        As for `equalize`: uint8, uint16, int16, float16, float32, float64; any strides and byte order.
    clip_limit : float
        How many times its even share of a tile's pixels a bin may hold before it is clipped: the limit on
        the contrast's amplification. 0, negative or NaN: no clipping. Infinity, and whatever no bin can
        reach: none either. (OpenCV's integer overflows there, and it clips as hard as it can.)
    tiles : int or sequence of int
        How many tiles along the spatial axes, in the order of the image's axes: (rows, columns), or three
        numbers for a volume. By default 8 along every axis.
    tile_size : int or sequence of int, optional
        The tiles' size in pixels instead. Those at the far borders are completed by reflection.
    bins : int, optional
        How many bins a tile's histogram has; by default one a value. A power of two for integers, whose
        lower bits are then ignored: ``bins=4096`` for 12 bits in the upper bits of uint16 (OpenCV's
        ``setBitShift(4)``). Floating images are quantised to this many bins, 256 by default.
    layout, color, mask, nodata, out, backend
        As for `equalize`. A tile without a counted pixel takes the table of the nearest that has some.
        A volume (layout "DHW") has tiles in three dimensions, between which pixels are blended trilinearly;
        for independent slices name the axis N.
    value_range : (low, high), optional
        Floating images: what the bins span, by default from the smallest to the largest finite counted value
        of each image. Values beyond it are not counted, and go where its limits go.
    out_range : (low, high), optional
        The lowest and highest output level, by default all the dtype holds. For floating images 0..1, in
        65,536 steps.

    Returns
    -------
    array
        The kind, shape, memory order and dtype of `image`; float32 for float16.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names it.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    Integers come out as cv2.createCLAHE gives them, bit for bit, on every processor as on x86 (OpenCV's
    ``tileGridSize`` counts columns first). The method: Zuiderveld, "Contrast Limited Adaptive Histogram
    Equalization", Graphics Gems IV, 1994; the arithmetic: OpenCV, imgproc/src/clahe.cpp.

    What others call the clip limit, for the same clipping:

    ====================================  =====================================================
    OpenCV, Zuiderveld, histeq            ``clip_limit``
    scikit-image ``equalize_adapthist``   ``clip_limit / nbins`` (2.0 of 256: 0.0078)
    MATLAB ``adapthisteq``                ``(clip_limit - 1) / (NumBins - 1)`` (2.0 of 256: 0.0039)
    libvips ``hist_local``                ``max_slope = clip_limit * width * height / 256``, a count
    ====================================  =====================================================

    The pixels still differ: each spreads what it clips in a way of its own, and libvips has a window around
    each pixel where the others have tiles.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> histeq.clahe(image, clip_limit=4.0, tiles=(2, 2))[0]
    array([16, 32, 48, 48, 40, 40, 48, 64], dtype=uint8)
    """
    unset = layout is None and mask is None and nodata is None and bins is None and value_range is None
    if unset and out_range is None and tile_size is None and color == "luma" and type(image) is np.ndarray:
        result = _clahe_plain(image, clip_limit, tiles, out, backend)
        if result is not None:
            return result
    if (host := _guests.host_of(image, backend)) is not None:
        return host(
            clahe, image, backend, clip_limit=clip_limit, tiles=tiles, tile_size=tile_size, bins=bins,
            layout=layout, color=color, mask=mask, nodata=nodata, value_range=value_range,
            out_range=out_range, out=out,
        )  # fmt: skip
    call = _api._request(image, backend, layout=layout, color=color, mask=mask, nodata=nodata)
    module = call.backend
    limit = _tiles.check_clip_limit(clip_limit)
    grid, levels, edges = _plan(call, tiles, tile_size, bins, value_range, out_range)
    result = _arguments.check_out(out, call, _result_dtype(call, levels))
    target = _api._target(call, result)
    if call.pixels.image.size:
        module.clahe(call.pixels, grid, limit, levels, edges(), target)
    return result


def tile_tables(
    image: Array,
    *,
    clip_limit: float = 2.0,
    tiles: Any = _tiles.TILES,
    tile_size: Any = None,
    bins: int | None = None,
    layout: str | None = None,
    color: str = "luma",
    mask: Array | None = None,
    nodata: float | None = None,
    value_range: tuple[float, float] | None = None,
    out_range: tuple[float, float] | None = None,
    backend: str | None = None,
) -> TileTables:
    """Make the tables of an image's tiles: the first half of `clahe`.

    ``clahe(x) == apply_tiles(x, tile_tables(x))``; the tables also serve any window of the image, and other
    images of its size, such as the next frames of a video.

    Parameters
    ----------
    image, clip_limit, tiles, tile_size, bins, layout, color, mask, nodata, value_range, out_range, backend
        As for `clahe`.

    Returns
    -------
    TileTables
        The tables, with what `apply_tiles` needs to know.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `clahe`.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> histeq.tile_tables(np.zeros((480, 640), np.uint8), tiles=(4, 8))
    TileTables(4 x 8 tiles of 120 x 80 pixels, 256 bins, uint8)
    """
    if (host := _guests.host_of(image, backend)) is not None:
        tables: TileTables = host(
            tile_tables, image, backend, clip_limit=clip_limit, tiles=tiles, tile_size=tile_size, bins=bins,
            layout=layout, color=color, mask=mask, nodata=nodata, value_range=value_range,
            out_range=out_range,
        )  # fmt: skip
        return tables
    call = _api._request(image, backend, layout=layout, color=color, mask=mask, nodata=nodata)
    module = call.backend
    limit = _tiles.check_clip_limit(clip_limit)
    grid, levels, edges = _plan(call, tiles, tile_size, bins, value_range, out_range)
    bounds = edges()
    made = module.tile_tables(call.pixels, grid, limit, levels, bounds)
    if isinstance(made, np.ndarray):
        made.flags.writeable = False
    if bounds is not None:
        bounds = bounds.copy()  # a backend may use that memory again
    letters = _spatial_letters(call)

    def in_order(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sizes[_SPATIAL.index(letter)] for letter in letters)

    return TileTables(
        _public(call, made, letters), in_order(grid.shape), in_order(grid.tiles), in_order(grid.tile),
        levels.bins, letters, made, grid, levels, bounds,
    )  # fmt: skip


def apply_tiles(
    image: Array,
    tables: TileTables,
    *,
    origin: Any = None,
    layout: str | None = None,
    color: str = "luma",
    nodata: float | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Blend the tables of an image's tiles: the second half of `clahe`, for the image or any window of it.

    Parameters
    ----------
    image : array
        Of the dtype, channels and spatial axes of the image whose tables these are; its whole, a window of
        it, or another image of that size. A window needs no border of its neighbours' pixels: it comes out as
        the same part of the whole does, bit for bit.
    tables : TileTables
        As `tile_tables` returns them. Those of one image serve a whole batch.
    origin : sequence of int, optional
        Where the window begins in the image, in the order of its spatial axes: (row, column). By default at
        its first pixel.
    layout, color, nodata, out, backend
        As for `clahe`.

    Returns
    -------
    array
        As `clahe` returns it.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `clahe`; ValueError for a window that reaches beyond the image.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    >>> window = histeq.apply_tiles(image[10:40, 5:], histeq.tile_tables(image), origin=(10, 5))
    >>> bool((window == histeq.clahe(image)[10:40, 5:]).all())
    True
    """
    if not isinstance(tables, TileTables):
        raise TypeError(
            f"tables must be TileTables, as tile_tables returns them, got {type(tables).__name__}"
        )
    if (host := _guests.host_of(image, backend)) is not None:
        return host(
            apply_tiles, image, backend, tables=tables, origin=origin, layout=layout, color=color,
            nodata=nodata, out=out,
        )  # fmt: skip
    call = _api._request(image, backend, layout=layout, color=color, nodata=nodata)
    module = call.backend
    _arguments.check_kind("tables", tables._canonical, call.image)
    start = _check_fit(call, tables, origin, _spatial_letters(call))
    result = _arguments.check_out(out, call, _result_dtype(call, tables._levels))
    target = _api._target(call, result)
    if call.pixels.image.size:
        module.apply_tiles(
            call.pixels, tables._canonical, tables._grid, start, tables._levels, tables._edges, target
        )
    return result


def _clahe_plain(
    image: Array, clip_limit: float, tiles: Any, out: Array | None, backend: Any
) -> Array | None:
    """Serve what needs no views and few checks, at the least cost of a call; None: go the general way."""
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 2 or image.size == 0:
        return None
    if type(clip_limit) not in (float, int) or type(tiles) is not tuple or {*map(type, tiles)} != {int}:
        return None
    if not image.flags.c_contiguous or not image.dtype.isnative or backend == "cupy":
        return None
    if out is None:
        out = np.empty_like(image)
    elif not _is_plain_output(out, image):
        return None
    module = _dispatch.choose(image, backend)
    if module.name == "cupy":
        return None
    grid, levels = _plain_plan(image.shape, image.dtype, tiles)
    module.clahe(Pixels(image[None, None, None]), grid, clip_limit, levels, None, out[None, None, None])
    return out


def _is_plain_output(out: Any, image: Array) -> bool:
    """Tell whether the result may go straight into `out`."""
    if type(out) is not np.ndarray or out.dtype != image.dtype or out.shape != image.shape:
        return False
    return bool(out.flags.writeable and (out is image or not np.may_share_memory(image, out)))


@functools.lru_cache(maxsize=64)
def _plain_plan(shape: tuple[int, ...], dtype: np.dtype, tiles: tuple[int, ...]) -> tuple[Grid, Levels]:
    """Return the grid and the levels of a grey image; ValueError as `clahe`."""
    bins = _tiles.check_bins(None, dtype)
    return _checked_grid((1, *shape), "HW", tiles, None, bins), _tiles.levels_of(dtype, bins, None)


def _plan(
    call: Request, tiles: Any, tile_size: Any, bins: Any, value_range: Any, out_range: Any
) -> tuple[Grid, Levels, Any]:
    """Check the arguments that say what is counted; return the grid, the levels, and what finds the edges."""
    dtype = np.dtype(call.image.dtype)
    shape = tuple(call.pixels.image.shape[2:])
    letters = _spatial_letters(call)
    bins = _tiles.check_bins(bins, dtype)
    grid = _checked_grid(shape, letters, tiles, tile_size, bins)
    _, value_range = _arguments.check_bins(None, value_range, dtype)
    rule = "skimage" if dtype.kind == "f" else "opencv"
    levels = _tiles.levels_of(dtype, bins, _arguments.check_out_range(out_range, rule, dtype))
    return grid, levels, lambda: _api._edges(call, bins, value_range)


def _checked_grid(shape: tuple[int, ...], letters: str, tiles: Any, tile_size: Any, bins: int) -> Grid:
    """Return the grid; ValueError if its tables would take more memory than a mistake is worth."""
    grid = _tiles.grid_of(shape, letters, _SPATIAL, tiles, tile_size)
    if math.prod(grid.tiles) * bins > _MOST:
        raise ValueError(
            f"tiles must not have more than {_MOST} table entries in all, "
            f"got {' x '.join(map(str, grid.tiles))} tiles of {bins} bins"
        )
    return grid


def _check_fit(call: Request, tables: TileTables, origin: Any, letters: str) -> tuple[int, ...]:
    """Check that tables are for an image and where it lies in the one they come from; return (D, H, W)."""
    dtype = np.dtype(call.image.dtype).newbyteorder("=")
    if dtype != tables._levels.dtype:
        raise TypeError(f"image must have the dtype of the tables, {tables._levels.dtype}, got {dtype}")
    if sorted(letters) != sorted(tables._letters):
        raise ValueError(f"image must have the tables' spatial axes {tables._letters}, got {letters}")
    images, channels, *shape = call.pixels.image.shape
    planes = 1 if call.pixels.luma else channels
    count, of_tables = tables._canonical.shape[:2]
    if of_tables != planes or count not in (1, images):
        raise ValueError(
            f"tables must be for {planes} channels and 1 or {images} images with this layout and color, "
            f"got {of_tables} and {count}"
        )
    given = (0,) * len(letters) if origin is None else origin
    start = _tiles.check_origin(given, letters)
    at = tuple(start.get(letter, 0) for letter in _SPATIAL)
    if any(a + n > whole for a, n, whole in zip(at, shape, tables._grid.shape, strict=True)):
        raise ValueError(
            f"image must lie inside the tables' image of shape {tables.image_shape}, got shape "
            f"{call.image.shape} with origin {tuple(given)}"
        )
    return at


def _result_dtype(call: Request, levels: Levels) -> np.dtype:
    """Return the dtype of the result: the image's own, byte order included, for integers."""
    return np.dtype(call.image.dtype) if levels.fractions is None else levels.result_dtype


def _spatial_letters(call: Request) -> str:
    """Return the spatial axes of the layout, in the order of the image's axes."""
    axes = call.axes
    ordered = (axes.letters[axes.order.index(i)] for i in range(len(axes.order)))
    return "".join(letter for letter in ordered if letter in _SPATIAL)


def _public(call: Request, tables: Array, letters: str) -> Array:
    """Return tables (N, P, D, H, W, bins) with the axes that the layout has, in its order."""
    has_images, has_planes = call.lead
    absent = tuple(slice(None) if letter in letters else 0 for letter in _SPATIAL)
    lead = (slice(None) if has_images else 0, slice(None) if has_planes else 0)
    kept = tables[(*lead, *absent)]
    before = has_images + has_planes
    order = [before + sorted(letters).index(letter) for letter in letters]
    return kept.transpose(*range(before), *order, kept.ndim - 1)
