"""CLAHE: check the arguments, choose the backend, hand over."""

import math
from collections.abc import Sequence
from dataclasses import replace
from types import NoneType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from histeq._api.interop import any_array
from histeq._api.layout import SPACE
from histeq._api.request import Request, check_bins, check_levels, native, request, same_kind
from histeq._api.tiles import (
    Kind,
    TileHistograms,
    TileTables,
    filled,
    holds,
    on_host,
    zeros,
)
from histeq._api.types import AnyArray, ArrayT, BackendName, Color, Range, Uint8
from histeq._core import dispatch, tile_grid
from histeq._core.arguments import shown
from histeq._core.backend import Order
from histeq._core.tile_grid import Grid, Levels

Sizes = int | Sequence[int]


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
        gets the next value instead, up where nodata is the lowest value that the result may have (the lower
        limit of `out_range`), else down.
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

    A DataArray or a Dataset of xarray gives one: the names of its dimensions (y, x, band, time, ...) are the
    layout, `_FillValue`, `missing_value` or `nodata` of its attributes is nodata, unless the arguments say
    otherwise. Labels that no longer hold are dropped. A Dataset goes variable by variable.

    A Dask array gives a lazy one with the pixels of the whole image, and `out` must be None. A chunk waits
    for the tables around it. It is read once to be counted and once more to be mapped, after a first time
    for the range of floating images without `value_range`; once in all where it has whole images. `mask` may
    be in memory. Tables of many bins for tiles that are much smaller than the chunks are made where they are
    used, from the pixels around a chunk, unless `mask` or `value_range` is given.

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
    grid, levels, bounds = plan_tiles(call, planes, tiles, tile_size, bins, value_range, out_range, out_dtype)
    result = call.result(out, levels.result_dtype_for(call.dtype))
    call = call.for_result(result.dtype, levels.lowest_pixel)
    if call.pixels.image.size:
        groups = call.with_edges(levels.bins, bounds)
        target = call.target(result)
        for images, pixels, edges in groups:
            call.backend.clahe(pixels, grid, limit, levels, edges, target[images])
    return result


@any_array
def tile_histograms(
    image: AnyArray,
    *,
    shape: Sequence[int] | None = None,
    origin: Sequence[int] | None = None,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    bins: int | None = None,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    add_to: TileHistograms | None = None,
    backend: BackendName | None = None,
) -> TileHistograms:
    """Count the pixels of a window of an image in the tiles that it touches: the beginning of `clahe`.

    ``clahe(x) == apply_tiles(x, tile_tables(tile_histograms(x)))``. The counts of windows that partition an
    image add up to those of the image, bit for bit: pixels that are reflected into a tile beyond the far
    border are counted for it, too. So images of any size are equalized window by window.

    Parameters
    ----------
    image : array
        The image or a window of it, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16,
        float32 or float64, with any strides and byte order. NaN and infinities are not counted.
    shape : sequence of int, optional
        The sizes of the whole image along its spatial axes, in the order of its axes: (rows, columns). By
        default the window is the image.
    origin : sequence of int, optional
        Where the window begins in the image, in the order of its spatial axes: (row, column). By default at
        the image's first pixel.
    tiles : int or sequence of int
        The number of tiles of the image along the spatial axes, in the order of the image's axes: (rows,
        columns), or three numbers for a volume. By default 8 along every axis. The tiles that the window
        touches may have 2**30 bins together, or 256 for each of its pixels.
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
        Which pixels are counted: those where it is not zero. It has the window's shape without the axis C, or
        its spatial axes only.
    nodata : number, optional
        The value that is not counted. Where the luma is equalized, a pixel is nodata if its three channels
        all have this value.
    value_range : (low, high), optional
        The values that are counted; those outside are not, and are mapped as the limits are. Integers have
        one bin a value in it. By default all values of an integer dtype, and the range from the smallest to
        the largest finite counted value of each floating-point image, which `bins` divide: it must be given
        where a floating-point window is not the image.
    add_to : TileHistograms, optional
        Counts of the same image to which those of the window are added in place, in less time than ``+=``
        takes. They say what `shape`, `tiles`, `tile_size`, `bins` and `value_range` are, which must not be
        given then, and must hold the tiles that the window touches: see `TileHistograms.part`. One thread at
        a time may add to them.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the array where it is, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with a NumPy array: on the GPU, and
        back.

    Returns
    -------
    TileHistograms
        The counts of the tiles that the window touches, int64; `add_to` where it is given.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work, and for a window that reaches beyond the image; the message
        names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    For a Dask array the counts come later: the result is a ``dask.delayed.Delayed`` whose ``compute()``
    gives them, and `add_to` must be None.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    >>> upper = histeq.tile_histograms(image[:25], shape=image.shape)
    >>> lower = histeq.tile_histograms(image[25:], shape=image.shape, origin=(25, 0))
    >>> upper
    TileHistograms(8 x 8 tiles of 8 x 11 pixels, 65536 bins, uint16, those from (0, 0) to (4, 8))
    >>> tables = histeq.tile_tables(upper + lower)
    >>> bool((tables.tables == histeq.tile_tables(image).tables).all())
    True
    """
    if add_to is not None:
        if not isinstance(add_to, TileHistograms):
            raise TypeError(f"add_to must be TileHistograms, got {type(add_to).__name__}")
        said = {"shape": shape, "tiles": tiles, "tile_size": tile_size, "bins": bins}
        _check_unsaid("add_to, which says it", {**said, "value_range": value_range})
        value_range = add_to._kind.levels.value_range
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    if add_to is not None:
        _add_window(call, origin, add_to)
        return add_to
    start, kind, bounds = plan_counts(call, shape, origin, tiles, tile_size, bins, value_range)
    first, stop = kind.grid.touched(start, tuple(call.pixels.image.shape[2:]))
    held = (b - a for a, b in zip(first, stop, strict=True))
    edges = call.edges(kind.levels.bins, bounds)
    counts = TileHistograms(
        zeros(call.image, (*call.pixels.histograms, *held, kind.levels.bins), np.int64),
        first,
        kind,
        None if edges is None else edges.copy(),  # a backend may use that memory again
    )
    count_window(call, start, counts)
    return counts


def plan_counts(
    call: Request, shape: Any, origin: Any, tiles: Any, tile_size: Any, bins: Any, value_range: Any
) -> tuple[tuple[int, ...], Kind, tuple[float, float] | None]:
    """Check how a window is counted; return where it begins, what is counted and the range of the bins."""
    size = tuple(call.pixels.image.shape[2:])
    whole = _whole_shape(call, shape)
    start = _window_start(call, whole, origin, "image of shape")
    if call.dtype.kind == "f" and value_range is None and whole != size:
        raise ValueError(
            f"value_range must be given for a window of a floating-point image, got None with shape "
            f"{shown(shape)} for a window of shape {tuple(call.image.shape)}"
        )
    grid, bins, bounds = _grid(call, whole, tiles, tile_size, bins, value_range)
    held = tuple(b - a for a, b in zip(*grid.touched(start, size), strict=True))
    name, histograms = "tiles" if tile_size is None else "tile_size", math.prod(call.pixels.histograms)
    tile_grid.check_size(name, size, held, bins, histograms)
    levels = levels_for(call.dtype, bins, call.pixels.value_range or bounds, call.pixels.luma)
    return start, Kind(grid, levels, call.pixels.luma, call.lead, call.axes.spatial), bounds


def _add_window(call: Request, origin: Any, counts: TileHistograms) -> None:
    """Check that a window is one of the image whose tiles have these counts, and add its own to them."""
    start, kind = _check_window(call, counts, origin, "add_to"), counts._kind
    if counts._canonical.shape[0] != len(call.pixels.image) or kind.luma != call.pixels.luma:
        raise ValueError(
            f"add_to must be counts of {len(call.pixels.image)} images with this color, got {counts!r} of "
            f"{counts._canonical.shape[0]}"
        )
    _check_counts(counts, "add_to")
    box = kind.grid.touched(start, tuple(call.pixels.image.shape[2:]))
    if not holds(counts._box, box):
        first, stop = map(kind.in_order, box)
        raise ValueError(
            f"add_to must hold the tiles from {first} to {stop}, got those from {counts.first} to "
            f"{counts.stop}"
        )
    same_kind("add_to", counts._canonical, call.image)
    count_window(call, start, counts)


def count_window(call: Request, start: tuple[int, ...], counts: TileHistograms) -> None:
    """Add the counts of a window, which begins at `start`, to those of its tiles."""
    if call.pixels.image.size:
        kind = counts._kind
        call.backend.tile_histograms(
            call.pixels, kind.grid, start, counts._first, kind.levels, counts._edges, counts._canonical
        )
        counts._nearest.clear()


def _check_counts(counts: TileHistograms, name: str) -> None:
    """Raise ValueError unless these are the counts of all bins."""
    if counts.bins < 2:
        raise ValueError(f"{name} must have the counts of all bins, got the totals of TileHistograms")


def _check_unsaid(by: str, said: dict[str, Any]) -> None:
    """Raise ValueError for an argument that is given, though others say the same."""
    for name, value in said.items():
        default = (name == "color" and value == "luma") or (name == "tiles" and tile_grid.is_default(value))
        if value is not None and not default:
            raise ValueError(f"{name} must not be given beside {by}, got {shown(value)}")


@any_array
def tile_tables(
    image: AnyArray | TileHistograms,
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
    image : array or TileHistograms
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
        Or the counts of its tiles, or of some of them, as `tile_histograms` returns them; then only
        `clip_limit`, `out_range`, `out_dtype` and `backend` may be given, since the counts say the rest.
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
        The tables, with all that `apply_tiles` needs to know. Of counts that are not those of all tiles, the
        tiles without a counted pixel have none: see `TileTables.part`.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    For a Dask array the tables come later: the result is a ``dask.delayed.Delayed`` that `apply_tiles` takes
    for Dask arrays, and whose ``compute()`` gives them.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> histeq.tile_tables(np.zeros((480, 640), np.uint8), tiles=(4, 8))
    TileTables(4 x 8 tiles of 120 x 80 pixels, 256 bins, uint8)
    """
    if isinstance(image, TileHistograms):
        said = {
            "tiles": tiles, "tile_size": tile_size, "bins": bins, "layout": layout, "color": color,
            "alpha": alpha, "mask": mask, "nodata": nodata, "value_range": value_range,
        }  # fmt: skip
        _check_unsaid("TileHistograms, which say it", said)
        return _tables_of_counts(image, clip_limit, out_range, out_dtype, backend)
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    limit = tile_grid.check_clip_limit(clip_limit)
    histograms = math.prod(call.pixels.histograms)
    grid, levels, bounds = plan_tiles(
        call, histograms, tiles, tile_size, bins, value_range, out_range, out_dtype
    )
    edges = call.edges(levels.bins, bounds)
    tables = call.backend.tile_tables(call.pixels, grid, limit, levels, edges)
    kept = None if edges is None else edges.copy()  # a backend may use that memory again
    kind = Kind(grid, levels, call.pixels.luma, call.lead, call.axes.spatial)
    return TileTables(tables, (0, 0, 0), kind, kept)


def _tables_of_counts(
    counts: TileHistograms, clip_limit: Any, out_range: Any, out_dtype: Any, backend: Any
) -> TileTables:
    """Return the tables of tiles whose counts are given."""
    _check_counts(counts, "image")
    kind = counts._kind
    limit = tile_grid.check_clip_limit(clip_limit)
    old = kind.levels
    levels = levels_for(old.dtype, old.bins, old.value_range, kind.luma, out_range, out_dtype)
    module, array = native(counts._canonical, backend, "image")
    canonical, empty = module.tables_of_tiles(array, limit, levels)
    tables = TileTables(canonical, counts._first, kind._replace(levels=levels), counts._edges)
    if not empty.any():
        return tables
    return filled(tables, empty) if tables._is_whole else replace(tables, _missing=empty)


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
        The tables, as `tile_tables` returns them, at least those of the tiles between whose centres the
        window lies. Those of one image serve a whole batch.
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
        For a wrong argument, before any work, for a window that reaches beyond the image, and for tables that
        are needed and not held; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    A Dask array gives a lazy one, and `out` must be None. `tables` are in memory, or what `tile_tables`
    returned for a Dask array; that may be the same one, which is then read again.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    >>> tables = histeq.tile_tables(image)
    >>> window = histeq.apply_tiles(image[10:40, 5:], tables, origin=(10, 5))
    >>> bool((window == histeq.clahe(image)[10:40, 5:]).all())
    True
    """
    if not isinstance(tables, TileTables):
        raise TypeError(
            f"tables must be TileTables, as tile_tables returns them, got {type(tables).__name__}"
        )
    call = request(image, backend, layout=layout, color=color, alpha=alpha, nodata=nodata)
    start = check_mapping(call, tables, origin)
    levels = tables._kind.levels
    result = call.result(out, levels.result_dtype_for(call.dtype), tables=tables._canonical)
    if nodata is not None:
        call = call.for_result(result.dtype, levels.lowest_pixel)
    pixels, target = call.pixels, call.target(result)
    if pixels.image.size:
        call.backend.apply_tiles(
            pixels, tables._canonical, tables._kind.grid, start, tables._first, levels, tables._edges, target
        )
    return result


def check_mapping(call: Request, tables: TileTables, origin: Any) -> tuple[int, ...]:
    """Check that tables map a window; return where it begins, (D, H, W)."""
    same_kind("tables", tables._canonical, call.image)
    start = _check_window(call, tables, origin, "tables")
    _check_tables(call, tables, start)
    return start


def plan_tiles(
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
    whole = tuple(call.pixels.image.shape[2:])
    grid, count, bounds = _grid(call, whole, tiles, tile_size, bins, value_range)
    name = "tiles" if tile_size is None else "tile_size"
    tile_grid.check_size(name, grid.shape, grid.tiles, count, histograms)
    counted = call.pixels.value_range or bounds
    return grid, levels_for(call.dtype, count, counted, call.pixels.luma, out_range, out_dtype), bounds


def _grid(
    call: Request, shape: tuple[int, ...], tiles: Any, tile_size: Any, bins: Any, value_range: Any
) -> tuple[Grid, int, tuple[float, float] | None]:
    """Check how an image of this shape is counted; return its grid, the bins and their range for floats."""
    count = tile_grid.check_bins(bins, call.dtype, call.pixels.value_range)
    grid = tile_grid.grid_of(shape, call.axes.spatial, SPACE, tiles, tile_size)
    return grid, count, check_bins(None, value_range, call.dtype)[1]


def levels_for(
    dtype: np.dtype,
    bins: int,
    value_range: tuple[float, float] | None,
    luma: Order | None,
    out_range: Any = None,
    out_dtype: Any = None,
) -> Levels:
    """Check what levels are asked for; `value_range` is checked already."""
    rule = "skimage" if dtype.kind == "f" else "opencv"
    integers = (
        None if value_range is None or dtype.kind == "f" else (int(value_range[0]), int(value_range[1]))
    )
    limits = check_levels(out_range, out_dtype, integers, rule, dtype, luma)
    return tile_grid.levels_of(dtype, bins, limits, value_range)


def _whole_shape(call: Request, shape: Any) -> tuple[int, ...]:
    """Return the shape of the image of which a window is given, (D, H, W)."""
    if shape is None:
        return tuple(call.pixels.image.shape[2:])
    sizes = tile_grid.check_places("shape", shape, call.axes.spatial)
    return tuple(sizes.get(letter, 1) for letter in SPACE)


def _window_start(call: Request, whole: tuple[int, ...], origin: Any, of: str) -> tuple[int, ...]:
    """Check that a window lies inside an image of shape `whole`; return where it begins, (D, H, W)."""
    spatial = call.axes.spatial
    given = (0,) * len(spatial) if origin is None else origin
    start = tile_grid.check_places("origin", given, spatial)
    at = tuple(start.get(letter, 0) for letter in SPACE)
    shape = call.pixels.image.shape[2:]
    if any(a + n > length for a, n, length in zip(at, shape, whole, strict=True)):
        inside = tuple(whole[SPACE.index(letter)] for letter in spatial)
        raise ValueError(
            f"image must lie inside the {of} {inside}, got shape {tuple(call.image.shape)} with origin "
            f"{shown(tuple(given))}"
        )
    return at


def _check_window(
    call: Request, tiles: TileHistograms | TileTables, origin: Any, name: str
) -> tuple[int, ...]:
    """Check that `tiles`, the argument `name`, are for a window; return where it begins, (D, H, W)."""
    dtype, spatial, kind = call.dtype.newbyteorder("="), call.axes.spatial, tiles._kind
    if dtype != kind.levels.dtype:
        raise TypeError(f"image must have the dtype of {name}, {kind.levels.dtype}, got {dtype}")
    if sorted(spatial) != sorted(kind.spatial):
        raise ValueError(f"image must have the spatial axes of {name}, {kind.spatial}, got {spatial}")
    images, planes = call.pixels.histograms
    held_images, held_planes = tiles._canonical.shape[:2]
    if held_planes != planes or held_images not in (1, images):
        raise ValueError(
            f"{name} must be for {planes} channels and 1 or {images} images with this layout and color, "
            f"got {held_planes} and {held_images}"
        )
    return _window_start(call, kind.grid.shape, origin, f"image of {name}, of shape")


def _check_tables(call: Request, tables: TileTables, start: tuple[int, ...]) -> None:
    """Raise ValueError unless all tables are held that a window needs, which begins at `start`."""
    pixels, (first, stop) = call.pixels, tables._box
    if not pixels.image.size or (tables._missing is None and tables._is_whole):
        return
    grid, size = tables._kind.grid, pixels.image.shape[2:]
    needed = [grid.needed(axis, start[axis], size[axis]) for axis in range(3)]
    if any(n.start < a or n.stop > b for n, a, b in zip(needed, first, stop, strict=True)):
        corners = (tuple(n.start for n in needed), tuple(n.stop for n in needed))
        low, high = map(tables._kind.in_order, corners)
        raise ValueError(
            f"tables must hold the tiles from {low} to {high} for this window, got those from "
            f"{tables.first} to {tables.stop}"
        )
    if tables._missing is None:
        return
    part = tuple(slice(n.start - a, n.stop - a) for n, a in zip(needed, first, strict=True))
    # Pixels that pass through need no table: few windows have others where tables are missing.
    for n, p, *place in zip(*map(np.ndarray.tolist, np.nonzero(tables._missing[:, :, *part])), strict=True):
        tile = tuple(a + n.start for a, n in zip(place, needed, strict=True))
        where = tuple(grid.served(axis, tile[axis], start[axis], size[axis]) for axis in range(3))
        images = slice(None) if len(tables._missing) == 1 else slice(n, n + 1)
        if _maps_any(call, images, p, where):
            raise ValueError(
                f"tables must hold that of tile {tables._kind.in_order(tile)}, in which nothing was counted, "
                "for this window, got none: see TileTables.part"
            )


def _maps_any(call: Request, images: slice, p: int, where: tuple[slice, ...]) -> bool:
    """Tell whether some of the pixels are mapped, not all nodata, NaN or infinite."""
    pixels = call.pixels.part(images).window(where)
    pixels = replace(pixels, mask=None, value_range=None)
    edges = None
    if call.dtype.kind == "f":
        limits = np.finfo(call.dtype)
        edges = call.backend.bin_edges(pixels, 1, (float(limits.min), float(limits.max)))
    return bool(on_host(call.backend.histogram(pixels, edges))[:, p].any())
