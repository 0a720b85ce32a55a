"""The three steps of equalization by themselves: histogram, lookup table, lookup."""

from types import NoneType
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from histeq._api.interop import any_array
from histeq._api.request import (
    Request,
    check_bins,
    check_dtype,
    check_levels,
    check_rule,
    check_value_range,
    native,
    request,
    same_kind,
)
from histeq._api.types import AnyArray, ArrayT, BackendName, Color, Images, IntegerRule, Range, Rule, Uint8
from histeq._core import dispatch, rules
from histeq._core.backend import Array

ScalarT = TypeVar("ScalarT", bound=np.generic)


@overload
def histogram(
    image: np.ndarray,
    *,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: np.ndarray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    backend: BackendName | None = None,
) -> NDArray[np.int64]: ...
@overload
def histogram(
    image: ArrayT,
    *,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    backend: BackendName | None = None,
) -> ArrayT: ...
@any_array
def histogram(
    image: Images,
    *,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    backend: BackendName | None = None,
) -> Images:
    """Count the pixels of each value.

    The counts of the parts of an image add up to those of the image; for floating-point images only where
    `value_range` is given.

    Parameters
    ----------
    image : array
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
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
    mask : array of bool or unsigned integers, optional
        Which pixels are counted: those where it is not zero. All pixels are mapped. It has the image's shape
        without the axis C, or its spatial axes only.
    nodata : number, optional
        The value that is not counted and passes through unchanged. Where the luma is equalized, a pixel is
        nodata if its three channels all have this value.
    bins : int, optional
        The number of bins for floating-point images, 256 by default. The histograms of all images and
        channels may have 2**27 bins together, or as many as there are pixels.
    value_range : (low, high), optional
        The values that are counted. Integers have one bin a value in it, ``high - low + 1`` in all: (0, 4095)
        for 12 bits in the low bits of uint16. By default all values of an integer dtype, and the range from
        the smallest to the largest counted value of each floating-point image, which `bins` divide.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the array where it is, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with a NumPy array: on the GPU, and
        back.

    Returns
    -------
    array of int64
        One count for each value of an integer dtype, from the smallest up (256 for uint8), or for each of
        `value_range`; `bins` for floating-point images, as np.histogram counts them. Leading axes: N where
        the layout has it, then C where ``color="channels"``, without alpha.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    A floating-point image is counted as by ``np.histogram(image, bins, value_range)``, but for two cases.
    Where bins are narrower than the precision of their edges np.histogram raises ValueError; here some bins
    stay empty. And where it computes in float16, with more than some 500 bins, it puts some values into a
    wrong bin; here each is in the bin between whose edges it lies.

    A Dask array gives a lazy one, in a chunk for the images and channels of each of its own.

    A DataArray of xarray gives one, whose last dimension has the values of the bins: the names of dimensions
    (y, x, band, time, ...) are the layout, `_FillValue`, `missing_value` or `nodata` of its attributes is
    nodata, unless the arguments say otherwise. A Dataset goes variable by variable.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> counts = histeq.histogram(np.array([[50, 52], [52, 53]], np.uint8))
    >>> counts.shape, counts[50:54]
    ((256,), array([1, 0, 2, 1]))
    """
    plain = mask is None and nodata is None and bins is None and value_range is None
    if plain and type(image) is np.ndarray and type(backend) in (str, NoneType):
        fast = dispatch.fast_path(backend)
        if fast and (counts := fast.histogram(image, layout, color, alpha)) is not None:
            return counts
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    bins, bounds = check_bins(bins, value_range, call.dtype)
    return call.public(call.backend.histogram(call.pixels, call.edges(bins, bounds)))


@overload
def lookup_table(
    counts: np.ndarray,
    *,
    rule: IntegerRule = "opencv",
    dtype: DTypeLike,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: Uint8,
    backend: BackendName | None = None,
) -> NDArray[np.uint8]: ...
@overload
def lookup_table(
    counts: np.ndarray,
    *,
    rule: IntegerRule = "opencv",
    dtype: type[ScalarT] | np.dtype[ScalarT],
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: None = None,
    backend: BackendName | None = None,
) -> NDArray[ScalarT]: ...
@overload
def lookup_table(
    counts: np.ndarray,
    *,
    rule: Rule = "opencv",
    dtype: DTypeLike,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: DTypeLike | None = None,
    backend: BackendName | None = None,
) -> NDArray[np.generic]: ...
@overload
def lookup_table(
    counts: ArrayT,
    *,
    rule: Rule = "opencv",
    dtype: object,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    backend: BackendName | None = None,
) -> ArrayT: ...
@any_array
def lookup_table(
    counts: Images,
    *,
    rule: Rule = "opencv",
    dtype: object,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    backend: BackendName | None = None,
) -> Images:
    """Return the lookup table that equalizes an image with these counts.

    Parameters
    ----------
    counts : array of integers, shape (..., levels)
        Counts as `histogram` returns them: one for each value of an integer dtype, or of `value_range`; any
        number for floating-point images. They are not negative and add up to less than 2**53. Of counts on a
        device only dtype and shape are checked, since looking at them would wait for it.
    rule : {"opencv", "pillow", "numpy", "skimage", "vips"}
        Whose arithmetic to reproduce, bit for bit: cv2.equalizeHist, PIL.ImageOps.equalize (torchvision's
        and kornia's too), the textbook formula ``(cdf - cdf_min) * 255 / (N - cdf_min)`` truncated,
        skimage.exposure.equalize_hist, or libvips' hist_equal. Floating-point images have scikit-image's
        only.
    dtype : dtype
        The dtype of the images, of NumPy or of the library of `counts`.
    value_range : (low, high), optional
        The values that were counted, as for `histogram`. It makes no difference for floating-point images.
    out_range : (low, high), optional
        The lowest and the highest output level, such as (16, 235) for limited-range video. By default
        `value_range`, the whole range of the dtype where that is not given, and 0..1 for rule "skimage". An
        image of one level keeps it.
    out_dtype : dtype, optional
        uint8, for the result of an integer image: the same rule with 255 for the top level, or with
        `out_range` within 0..255. An image of one level goes as far up there as it lies in its own range. By
        default `dtype`; what rule "skimage" gives is fractions in any case.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the array where it is, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with a NumPy array: on the GPU, and
        back.

    Returns
    -------
    array, shape (..., levels)
        Of `dtype`, or of `out_dtype`; for rule "skimage" of dtype float64 (float32 for float16 and float32
        images). Entry i belongs to the i-th smallest value of an integer dtype, or of `value_range`, or to
        the centre of bin i.

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
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> table = histeq.lookup_table(histeq.histogram(image), dtype=image.dtype)
    >>> table[50:55]
    array([  0,  32, 159, 223, 255], dtype=uint8)
    """
    module, array = native(counts, backend, "counts")
    name, kind, levels = check_table(array, rule, dtype, value_range, out_range, out_dtype)
    # Counts on a device are not looked at: that would have to wait for it.
    if isinstance(array, np.ndarray):
        if array.size and array.min() < 0:
            raise ValueError(f"counts must not be negative, got {array.min()}")
        if array.size and array.sum(axis=-1, dtype=np.float64).max() >= 1 << 53:  # float64 may round more
            raise ValueError("counts must add up to less than 2**53, got more")
        array = array.astype(np.int64, copy=False)
    return module.lookup_table(array, name, kind, levels)


def check_table(
    counts: Array, rule: str, dtype: object, value_range: Any, out_range: Any, out_dtype: object
) -> tuple[str, np.dtype, rules.OutRange | None]:
    """Check the arguments of `lookup_table` but for the counts' values: return the rule, dtype and levels."""
    kind = check_dtype("dtype", dtype)
    name = check_rule(rule, kind)
    bounds = check_value_range(value_range, kind) if kind.kind != "f" else None
    levels = check_levels(out_range, out_dtype, bounds, name, kind)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"counts must be integers, got {counts.dtype}")
    bins = _bins_of(kind, bounds)
    if counts.ndim == 0 or bins not in (None, counts.shape[-1]):
        raise ValueError(
            f"counts must have {bins or 'its bins'} entries on the last axis for {kind}"
            f"{f' and value_range={bounds}' if bounds else ''}, got shape {counts.shape}"
        )
    return name, kind, levels


def _bins_of(dtype: np.dtype, value_range: tuple[int, int] | None) -> int | None:
    """Return how many bins the images of a dtype have; None: floating ones have any number."""
    if dtype.kind == "f":
        return None
    bins = rules.bins_in_range(dtype, value_range)
    return bins.stop - bins.start


@overload
def apply(
    image: np.ndarray,
    table: np.ndarray[tuple[int, ...], np.dtype[ScalarT]],
    *,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out: NDArray[ScalarT] | None = None,
    backend: BackendName | None = None,
) -> NDArray[ScalarT]: ...
@overload
def apply(
    image: ArrayT,
    table: AnyArray,
    *,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT: ...
@any_array
def apply(
    image: Images,
    table: AnyArray,
    *,
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    nodata: float | None = None,
    value_range: Range | None = None,
    out: Images | None = None,
    backend: BackendName | None = None,
) -> Images:
    """Map every pixel of an image through a lookup table.

    Parameters
    ----------
    image : array
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
    table : array, shape (levels,) or (N, levels), (C, levels), (N, C, levels)
        A table as `lookup_table` returns it: one for all images and channels, or one for each histogram that
        `histogram` makes with this layout, color and alpha. A floating-point table may have levels that are
        infinite or NaN; one that begins with NaN, as of an image without a counted pixel, maps nothing.
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
        instead, up where nodata is the lowest value that the result may have, else down. The lowest is the
        lower limit of `value_range`, the smallest of the dtype of `table` without it or where that is another
        than the image's, and 0 for fractions. nodata must be a value of the dtype of `table`, too.
    value_range : (low, high)
        The values that the table is for, as for `histogram`: those outside are mapped as the limits are. It
        is required for floating-point images, where values between the centres of bins are interpolated
        linearly.
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
        Of the library, shape and memory order of `image` and of the dtype of `table`. A PyTorch tensor is
        detached.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    A Dask array gives a lazy one, and `out` must be None. Its chunks are read when the table is there, even
    where that comes from the image itself. `table` may be in memory.

    A DataArray or a Dataset of xarray gives one: the names of its dimensions (y, x, band, time, ...) are the
    layout, `_FillValue`, `missing_value` or `nodata` of its attributes is nodata, unless the arguments say
    otherwise. Labels that no longer hold are dropped. A Dataset goes variable by variable.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> table = histeq.lookup_table(histeq.histogram(image), dtype=image.dtype)
    >>> bool((histeq.apply(image, table) == histeq.equalize(image)).all())
    True
    """
    plain = nodata is None and value_range is None
    if plain and type(image) is type(table) is np.ndarray and type(backend) in (str, NoneType):
        fast = dispatch.fast_path(backend)
        if fast and (result := fast.apply(image, table, layout, color, alpha, out)) is not None:
            return result
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, nodata=nodata, value_range=value_range
    )
    _, entries = native(table, backend, "table")
    same_kind("table", entries, call.image)
    dtype = entries.dtype
    check_entries(call, entries, value_range)
    entries = _canonical_table(call, entries)
    _, bounds = check_bins(None, value_range, call.dtype)
    result = call.result(out, dtype, table=entries)
    edges = call.edges(entries.shape[-1], bounds, "table")
    pixels = call.for_result(result.dtype).pixels
    call.backend.apply(pixels, entries, edges, call.target(result))
    return result


def check_entries(call: Request, table: Array, value_range: Any) -> None:
    """Raise unless a table has the dtype and the shape that the image needs, and a floating one its range."""
    dtype, luma = call.dtype, call.pixels.luma
    if dtype.kind != "f":
        others = [np.dtype(np.uint8), np.dtype(np.float64)]
        allowed = [dtype.newbyteorder("="), *([] if luma else others)]
    else:
        allowed = [rules.table_dtype("skimage", dtype)]
    native_dtype = table.dtype.newbyteorder("=")
    if native_dtype not in allowed:
        names = " or ".join(dict.fromkeys(map(str, allowed)))
        raise TypeError(f"table must have dtype {names} for {dtype}, got {table.dtype}")
    levels = _bins_of(dtype, call.pixels.value_range)
    shape = call.pixels.histograms
    lead = tuple(n for n, present in zip(shape, call.lead, strict=True) if present)
    if table.ndim == 0 or levels not in (None, table.shape[-1]) or table.shape[:-1] not in ((), lead):
        raise ValueError(
            f"table must have shape ({levels or 'bins'},) or {(*lead, levels or 'bins')} "
            f"for this image, got {table.shape}"
        )
    if table.shape[-1] == 0:
        raise ValueError("table must have at least one entry, got none")
    if call.dtype.kind == "f" and value_range is None:
        raise ValueError("value_range must be given to apply a table to a floating image, got None")


def _canonical_table(call: Request, table: Array) -> Array:
    """Return the table as (N, P, levels), broadcast without copying."""
    shape = call.pixels.histograms
    table = table.astype(table.dtype.newbyteorder("="), copy=False)
    if table.ndim > 1 or shape == (1, 1):
        return table.reshape(*shape, table.shape[-1])
    return np.broadcast_to(table, (*shape, table.shape[-1]))
