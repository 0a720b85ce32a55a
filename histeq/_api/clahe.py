"""CLAHE: check the arguments, choose the backend, hand over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from histeq._api.interop import any_array
from histeq._api.layout import SPACE
from histeq._api.request import Request, check_bins, check_levels, request, same_kind
from histeq._api.types import AnyArray, ArrayT, BackendName, Color, Range, Uint8
from histeq._core import dispatch, tile_grid
from histeq._core.arguments import shown
from histeq._core.backend import Array
from histeq._core.tile_grid import Grid, Levels

Sizes = int | Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class TileTables:
    """The lookup tables of an image's tiles, as `tile_tables` returns them.

    Attributes
    ----------
    tables : array, read-only
        One table for each tile: the axes N and C where the image has them (C only for ``color="channels"``),
        one axis of tiles for each spatial axis, the bins last. uint8 for images of 8 bits, else uint16.
        Entries are levels above the dtype's smallest value, in units of ``2**16 / bins`` for fewer bins
        without `out_range`; with `value_range` or `out_dtype` they are levels above the lowest.
    image_shape : tuple of int
        The spatial axes of the image that was counted, to which an `origin` refers.
    tiles, tile_size : tuple of int
        The number of tiles along each axis, and their size in pixels.
    bins : int
        The number of entries of a table.
    """

    tables: AnyArray
    image_shape: tuple[int, ...]
    tiles: tuple[int, ...]
    tile_size: tuple[int, ...]
    bins: int
    _spatial: str = field(repr=False)
    _canonical: Any = field(repr=False)  # (N, P, D, H, W, bins)
    _grid: Grid = field(repr=False)
    _levels: Levels = field(repr=False)
    _edges: Any = field(repr=False)

    def __repr__(self) -> str:
        sizes = " x ".join(map(str, self.tiles)), " x ".join(map(str, self.tile_size))
        return f"TileTables({sizes[0]} tiles of {sizes[1]} pixels, {self.bins} bins, {self._levels.dtype})"


@overload
def clahe(
    image: np.ndarray,
    *,
    clip_limit: float = 2.0,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    bins: int | None = None,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: np.ndarray | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: Uint8,
    out: np.ndarray | None = None,
    backend: BackendName | None = None,
) -> NDArray[np.uint8]: ...
@overload
def clahe(
    image: ArrayT,
    *,
    clip_limit: float = 2.0,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    bins: int | None = None,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT: ...
@any_array
def clahe(
    image: ArrayT,
    *,
    clip_limit: float = 2.0,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    bins: int | None = None,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT:
    """Equalize the contrast of an image locally and within limits (CLAHE).

    The image is divided into tiles. The histogram of each tile is clipped and equalized by a lookup table of
    its own; each pixel is mapped by the tables of the tiles around it, weighted by their distance.

    Parameters
    ----------
    image : array
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
    clip_limit : float
        How many times its even share of a tile's pixels a bin may hold before it is clipped: the limit on
        the amplification of contrast. 0, negative numbers and NaN mean no clipping, and so do infinity and
        whatever no bin can reach. (OpenCV's integer overflows there, so that it clips as hard as possible.)
    tiles : int or sequence of int
        The number of tiles along the spatial axes, in the order of the image's axes: (rows, columns), or
        three numbers for a volume. By default 8 along every axis. The tables of an image may have 2**30
        entries together, or 256 for each of its pixels.
    tile_size : int or sequence of int, optional
        The size of a tile in pixels, in place of `tiles`. Tiles at the far borders are completed by
        reflection.
    bins : int, optional
        The number of bins of a tile's histogram; by default one for each value. A power of two for integers,
        whose lower bits are then ignored: ``bins=4096`` for 12 bits in the upper bits of uint16 (OpenCV's
        ``setBitShift(4)``). Floating-point images are quantised to this many bins, 256 by default.
    layout : str, optional
        One letter for each axis: N (or T) for independent images, C for channels, D, H and W for space.
        Arrays of two axes are "HW"; three and more must be named: "HWC", "CHW", "NHW", "NCHW", "DHW", ... A
        volume ("DHW") has tiles in three dimensions, between which pixels are interpolated trilinearly; for
        independent slices name the axis N.
    color : {"luma", "luma-bgr", "channels"}
        What to equalize of an image with an axis C. "luma" (the default): the Y of YCrCb, with Cr and Cb
        kept, exactly as cvtColor, equalizeHist and cvtColor do; channels in the order R G B. "luma-bgr": the
        same for the order B G R of OpenCV. "channels": every channel by itself.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped but copied to the result (as a
        fraction where the result has fractions). By default it is for two and four channels whose luma is
        equalized, and no channel is with ``color="channels"``: a fourth band of a satellite scene is a band.
    mask : array of bool or unsigned integers, optional
        Which pixels are counted: those where it is not zero. All pixels are mapped. It has the image's shape
        without the axis C, or its spatial axes only. A tile without a counted pixel takes the table of the
        nearest tile that has one.
    nodata : number, optional
        The value that is not counted and passes through unchanged. Where the luma is equalized, a pixel is
        nodata if its three channels all have this value. No other pixel comes out as nodata: one that would
        gets the next value instead, up where nodata is the lowest value that the result may have, else down.
    value_range : (low, high), optional
        The values that are counted; those outside are not, and are mapped as the limits are. Integers have
        one bin a value in it, and the result spans it unless `out_range` says otherwise: (0, 4095) for 12
        bits in the low bits of uint16 (OpenCV's ``setBitShift(4)`` on an image shifted left by 4). By default
        all values of an integer dtype, and the range from the smallest to the largest finite counted value of
        each floating-point image, which `bins` divide.
    out_range : (low, high), optional
        The lowest and the highest output level; by default `value_range`, or the whole range of the dtype
        where that is not given. For floating-point images 0..1, in 65,536 steps.
    out_dtype : dtype, optional
        uint8, for the result of an integer image: levels of 0..255, or of `out_range` within them. nodata
        must be a value of it, too. By default the dtype of `image`.
    out : array, optional
        Where to write the result: an array of the image's library, shape and device and of the result's
        dtype, which does not require grad. It may be the image itself, but must share no memory with any
        argument otherwise.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the array where it is, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with a NumPy array: on the GPU, and
        back.

    Returns
    -------
    array
        Of the library, shape, memory order and dtype of `image`, or of `out_dtype`; of dtype float32 for
        float16. A PyTorch tensor is detached.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    Integer images come out as cv2.createCLAHE gives them, bit for bit, on every processor as on x86 (OpenCV's
    ``tileGridSize`` counts columns first). The method is that of Zuiderveld, "Contrast Limited Adaptive
    Histogram Equalization", Graphics Gems IV, 1994; the arithmetic that of OpenCV, imgproc/src/clahe.cpp.

    Other libraries give the clip limit in other units. These clip alike:

    ====================================  =====================================================
    OpenCV, Zuiderveld, histeq            ``clip_limit``
    scikit-image ``equalize_adapthist``   ``clip_limit / nbins`` (2.0 of 256: 0.0078)
    MATLAB ``adapthisteq``                ``(clip_limit - 1) / (NumBins - 1)`` (2.0 of 256: 0.0039)
    libvips ``hist_local``                ``max_slope = clip_limit * width * height / 256``, a count
    ====================================  =====================================================

    Their pixels still differ, because each library redistributes the clipped pixels in its own way, and
    libvips has a window around each pixel where the others have tiles.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> histeq.clahe(image, clip_limit=4.0, tiles=(2, 2))[0]
    array([16, 32, 48, 48, 40, 40, 48, 64], dtype=uint8)
    """
    plain = mask is None and nodata is None and bins is None and value_range is None and out_range is None
    plain = plain and tile_size is None and out_dtype is None
    if plain and type(image) is np.ndarray and type(backend) in (str, NoneType):
        fast = dispatch.fast_path(backend)
        if fast:
            result = fast.clahe(image, clip_limit, tiles, layout, color, alpha, out)
            if result is not None:
                return result
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    limit = tile_grid.check_clip_limit(clip_limit)
    planes = call.pixels.histograms[1]  # images go one by one
    grid, levels, bounds = _plan(call, planes, tiles, tile_size, bins, value_range, out_range, out_dtype)
    result = call.result(out, levels.result_dtype_for(call.dtype))
    call = call.for_result(result.dtype, levels.lowest_pixel)
    if call.pixels.image.size:
        groups = call.with_edges(levels.bins, bounds)
        target = call.target(result)
        for images, pixels, edges in groups:
            call.backend.clahe(pixels, grid, limit, levels, edges, target[images])
    return result


@any_array
def tile_tables(
    image: AnyArray,
    *,
    clip_limit: float = 2.0,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    bins: int | None = None,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    backend: BackendName | None = None,
) -> TileTables:
    """Return the lookup tables of an image's tiles: the first half of `clahe`.

    ``clahe(x) == apply_tiles(x, tile_tables(x))``. The tables also serve any window of the image, and other
    images of its size, such as the next frames of a video.

    Parameters
    ----------
    image : array
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
    clip_limit : float
        How many times its even share of a tile's pixels a bin may hold before it is clipped: the limit on
        the amplification of contrast. 0, negative numbers and NaN mean no clipping, and so do infinity and
        whatever no bin can reach. (OpenCV's integer overflows there, so that it clips as hard as possible.)
    tiles : int or sequence of int
        The number of tiles along the spatial axes, in the order of the image's axes: (rows, columns), or
        three numbers for a volume. By default 8 along every axis. The tables of all images may have
        2**30 entries together, or 256 for each of their pixels.
    tile_size : int or sequence of int, optional
        The size of a tile in pixels, in place of `tiles`. Tiles at the far borders are completed by
        reflection.
    bins : int, optional
        The number of bins of a tile's histogram; by default one for each value. A power of two for integers,
        whose lower bits are then ignored: ``bins=4096`` for 12 bits in the upper bits of uint16 (OpenCV's
        ``setBitShift(4)``). Floating-point images are quantised to this many bins, 256 by default.
    layout : str, optional
        One letter for each axis: N (or T) for independent images, C for channels, D, H and W for space.
        Arrays of two axes are "HW"; three and more must be named: "HWC", "CHW", "NHW", "NCHW", "DHW", ... A
        volume ("DHW") has tiles in three dimensions, between which pixels are interpolated trilinearly; for
        independent slices name the axis N.
    color : {"luma", "luma-bgr", "channels"}
        What to equalize of an image with an axis C. "luma" (the default): the Y of YCrCb, with Cr and Cb
        kept, exactly as cvtColor, equalizeHist and cvtColor do; channels in the order R G B. "luma-bgr": the
        same for the order B G R of OpenCV. "channels": every channel by itself.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped but copied to the result (as a
        fraction where the result has fractions). By default it is for two and four channels whose luma is
        equalized, and no channel is with ``color="channels"``: a fourth band of a satellite scene is a band.
    mask : array of bool or unsigned integers, optional
        Which pixels are counted: those where it is not zero. All pixels are mapped. It has the image's shape
        without the axis C, or its spatial axes only. A tile without a counted pixel takes the table of the
        nearest tile that has one.
    nodata : number, optional
        The value that is not counted. Where the luma is equalized, a pixel is nodata if its three channels
        all have this value.
    value_range : (low, high), optional
        The values that are counted; those outside are not, and are mapped as the limits are. Integers have
        one bin a value in it, and the result spans it unless `out_range` says otherwise: (0, 4095) for 12
        bits in the low bits of uint16 (OpenCV's ``setBitShift(4)`` on an image shifted left by 4). By default
        all values of an integer dtype, and the range from the smallest to the largest finite counted value of
        each floating-point image, which `bins` divide.
    out_range : (low, high), optional
        The lowest and the highest output level; by default `value_range`, or the whole range of the dtype
        where that is not given. For floating-point images 0..1, in 65,536 steps.
    out_dtype : dtype, optional
        uint8, for the result of an integer image: levels of 0..255, or of `out_range` within them. By default
        the dtype of `image`.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the array where it is, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with a NumPy array: on the GPU, and
        back.

    Returns
    -------
    TileTables
        The tables, with all that `apply_tiles` needs to know.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> histeq.tile_tables(np.zeros((480, 640), np.uint8), tiles=(4, 8))
    TileTables(4 x 8 tiles of 120 x 80 pixels, 256 bins, uint8)
    """
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    limit = tile_grid.check_clip_limit(clip_limit)
    histograms = math.prod(call.pixels.histograms)
    grid, levels, bounds = _plan(call, histograms, tiles, tile_size, bins, value_range, out_range, out_dtype)
    edges = call.edges(levels.bins, bounds)
    tables = call.backend.tile_tables(call.pixels, grid, limit, levels, edges)
    if isinstance(tables, np.ndarray):
        tables.flags.writeable = False
    spatial = call.axes.spatial

    def in_order(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sizes[SPACE.index(letter)] for letter in spatial)

    return TileTables(
        _public(call, tables),
        in_order(grid.shape),
        in_order(grid.tiles),
        in_order(grid.tile),
        levels.bins,
        spatial,
        tables,
        grid,
        levels,
        None if edges is None else edges.copy(),  # a backend may use that memory again
    )


@any_array
def apply_tiles(
    image: ArrayT,
    tables: TileTables,
    *,
    origin: Sequence[int] | None = None,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    nodata: float | None = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT:
    """Map an image, or a window of it, through the lookup tables of its tiles: the second half of `clahe`.

    Parameters
    ----------
    image : array
        An image of the dtype, channels and spatial axes of the one whose tables these are: that image, a
        window of it, or another image of its size. A window needs no border of neighbouring pixels: the
        result is that part of the whole image's result, bit for bit.
    tables : TileTables
        The tables, as `tile_tables` returns them. Those of one image serve a whole batch.
    origin : sequence of int, optional
        Where the window begins in the image, in the order of its spatial axes: (row, column). By default at
        the image's first pixel.
    layout : str, optional
        One letter for each axis: N (or T) for independent images, C for channels, D, H and W for space.
        Arrays of two axes are "HW"; three and more must be named: "HWC", "CHW", "NHW", "NCHW", "DHW", ...
    color : {"luma", "luma-bgr", "channels"}
        What to equalize of an image with an axis C. "luma" (the default): the Y of YCrCb, with Cr and Cb
        kept, exactly as cvtColor, equalizeHist and cvtColor do; channels in the order R G B. "luma-bgr": the
        same for the order B G R of OpenCV. "channels": every channel by itself.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped but copied to the result (as a
        fraction where the result has fractions). By default it is for two and four channels whose luma is
        equalized, and no channel is with ``color="channels"``: a fourth band of a satellite scene is a band.
    nodata : number, optional
        The value that passes through unchanged. Where the luma is mapped, a pixel is nodata if its three
        channels all have this value. No other pixel comes out as nodata: one that would gets the next value
        instead, up where nodata is the lowest value that the result may have, else down.
    out : array, optional
        Where to write the result: an array of the image's library, shape and device and of the result's
        dtype, which does not require grad. It may be the image itself, but must share no memory with any
        argument otherwise.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the array where it is, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with a NumPy array: on the GPU, and
        back.

    Returns
    -------
    array
        Of the library, shape and memory order of `image` and of the dtype that `clahe` gives. A PyTorch
        tensor is detached.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work, and for a window that reaches beyond the image; the message
        names the argument.
    RuntimeError
        If the backend asked for is not available here.

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
    call = request(image, backend, layout=layout, color=color, alpha=alpha, nodata=nodata)
    same_kind("tables", tables._canonical, call.image)
    start = _check_window(call, tables, origin)
    levels = tables._levels
    result = call.result(out, levels.result_dtype_for(call.dtype), tables=tables._canonical)
    pixels = call.for_result(result.dtype, levels.lowest_pixel).pixels
    target = call.target(result)
    if pixels.image.size:
        call.backend.apply_tiles(
            pixels, tables._canonical, tables._grid, start, levels, tables._edges, target
        )
    return result


def _plan(
    call: Request,
    histograms: int,
    tiles: Any,
    tile_size: Any,
    bins: Any,
    value_range: Any,
    out_range: Any,
    out_dtype: Any,
) -> tuple[Grid, Levels, tuple[float, float] | None]:
    """Check the arguments that say what is counted; return the grid, the levels and the range of the bins.

    Of so many histograms the tables are held at once.
    """
    pixels, dtype = call.pixels, call.dtype
    bins = tile_grid.check_bins(bins, dtype, pixels.value_range)
    grid = tile_grid.grid_of(tuple(pixels.image.shape[2:]), call.axes.spatial, SPACE, tiles, tile_size)
    tile_grid.check_size("tiles" if tile_size is None else "tile_size", grid, bins, histograms)
    _, bounds = check_bins(None, value_range, dtype)
    rule = "skimage" if dtype.kind == "f" else "opencv"
    limits = check_levels(out_range, out_dtype, pixels.value_range, rule, dtype, pixels.luma)
    return grid, tile_grid.levels_of(dtype, bins, limits, pixels.value_range or bounds), bounds


def _check_window(call: Request, tables: TileTables, origin: Any) -> tuple[int, ...]:
    """Check that the tables are for the image; return where in theirs it begins, (D, H, W)."""
    dtype, spatial = call.dtype.newbyteorder("="), call.axes.spatial
    if dtype != tables._levels.dtype:
        raise TypeError(f"image must have the dtype of the tables, {tables._levels.dtype}, got {dtype}")
    if sorted(spatial) != sorted(tables._spatial):
        raise ValueError(f"image must have the tables' spatial axes {tables._spatial}, got {spatial}")
    images, planes = call.pixels.histograms
    table_images, table_planes = tables._canonical.shape[:2]
    if table_planes != planes or table_images not in (1, images):
        raise ValueError(
            f"tables must be for {planes} channels and 1 or {images} images with this layout and color, "
            f"got {table_planes} and {table_images}"
        )
    given = (0,) * len(spatial) if origin is None else origin
    start = tile_grid.check_origin(given, spatial)
    at = tuple(start.get(letter, 0) for letter in SPACE)
    shape = call.pixels.image.shape[2:]
    if any(a + n > length for a, n, length in zip(at, shape, tables._grid.shape, strict=True)):
        raise ValueError(
            f"image must lie inside the tables' image of shape {tables.image_shape}, got shape "
            f"{call.image.shape} with origin {shown(tuple(given))}"
        )
    return at


def _public(call: Request, tables: Array) -> Array:
    """Return tables (N, P, D, H, W, bins) with the axes that the layout has, in its order."""
    letters = call.axes.spatial
    kept = call.public(
        tables[(slice(None), slice(None), *(slice(None) if s in letters else 0 for s in SPACE))]
    )
    before = sum(call.lead)
    order = [before + sorted(letters).index(letter) for letter in letters]
    return kept.transpose(*range(before), *order, kept.ndim - 1)
