"""Equalization: check the arguments, choose the backend, hand over."""

from types import NoneType
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from histeq._api.interop import any_array
from histeq._api.request import check_bins, check_levels, check_rule, request
from histeq._api.types import AnyArray, ArrayT, BackendName, Color, IntegerRule, Range, Rule, Uint8
from histeq._core import dispatch, rules


@overload
def equalize(
    image: np.ndarray,
    *,
    rule: Literal["skimage"],
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: np.ndarray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: None = None,
    out: np.ndarray | None = None,
    backend: BackendName | None = None,
) -> NDArray[np.float32 | np.float64]: ...
@overload
def equalize(
    image: np.ndarray,
    *,
    rule: IntegerRule = "opencv",
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: np.ndarray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: Uint8,
    out: np.ndarray | None = None,
    backend: BackendName | None = None,
) -> NDArray[np.uint8]: ...
@overload
def equalize(
    image: ArrayT,
    *,
    rule: Rule = "opencv",
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT: ...
@any_array
def equalize(
    image: ArrayT,
    *,
    rule: Rule = "opencv",
    layout: str | None = None,
    color: Color = "luma",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: object = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT:
    """Equalize the histogram of an image, of every image of a batch, or of a volume.

    Parameters
    ----------
    image : array
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
    rule : {"opencv", "pillow", "numpy", "skimage", "vips"}
        Whose arithmetic to reproduce, bit for bit: cv2.equalizeHist, PIL.ImageOps.equalize (torchvision's
        and kornia's too), the textbook formula ``(cdf - cdf_min) * 255 / (N - cdf_min)`` truncated,
        skimage.exposure.equalize_hist, or libvips' hist_equal. Floating-point images have scikit-image's
        only.
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
        nodata if its three channels all have this value. No other pixel comes out as nodata: one that would
        gets the next value instead, up where nodata is the lowest value that the result may have (the lower
        limit of `out_range`), else down.
    bins : int, optional
        The number of bins for floating-point images, 256 by default. The histograms of all images and
        channels may have 2**27 bins together, or as many as there are pixels.
    value_range : (low, high), optional
        The values that are counted; those outside are not, and are mapped as the limits are. Integers have
        one bin a value in it, and the result spans it unless `out_range` says otherwise: (0, 4095) for 12
        bits in the low bits of uint16. By default all values of an integer dtype, and the range from the
        smallest to the largest counted value of each floating-point image, which `bins` divide.
    out_range : (low, high), optional
        The lowest and the highest output level, such as (16, 235) for limited-range video. By default
        `value_range`, the whole range of the dtype where that is not given, and 0..1 for rule "skimage". An
        image of one level keeps it.
    out_dtype : dtype, optional
        uint8, for the result of an integer image: the same rule with 255 for the top level, or with
        `out_range` within 0..255. An image of one level goes as far up there as it lies in its own range.
        nodata must be a value of it, too. By default the dtype of `image`; what rule "skimage" gives is
        fractions in any case.
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
        Of the library, shape, memory order and dtype of `image`, or of `out_dtype`; for rule "skimage" of
        dtype float64 (float32 for float16 and float32 images), as scikit-image returns it. A PyTorch tensor
        is detached.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    Images without a pixel to count, and images of one grey level, are returned unchanged, as OpenCV returns
    them. (libvips and scikit-image map an image of one level to their highest level; so do their rules.)

    A Dask array gives a lazy one, and `out` must be None. Its chunks are read once to be counted and again to
    be mapped, floating ones without `value_range` also for their range, so that few are in memory at once.
    `mask` may be in memory.

    A DataArray or a Dataset of xarray gives one: the names of its dimensions (y, x, band, time, ...) are the
    layout, `_FillValue`, `missing_value` or `nodata` of its attributes is nodata, unless the arguments say
    otherwise. Labels that no longer hold are dropped. A Dataset goes variable by variable.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> histeq.equalize(image)
    array([[  0, 159, 159],
           [ 32, 159, 223],
           [159, 223, 255]], dtype=uint8)
    >>> histeq.equalize(image, rule="numpy")
    array([[  0, 159, 159],
           [ 31, 159, 223],
           [159, 223, 255]], dtype=uint8)
    """
    whole = mask is None and nodata is None and value_range is None and out_range is None
    usual = bins is None and out_dtype is None
    if usual and type(image) is np.ndarray and type(backend) in (str, NoneType):
        fast = dispatch.fast_path(backend)
        if fast and whole:
            if (result := fast.equalize(image, rule, layout, color, alpha, out)) is not None:
                return result
        elif fast:
            part = {"mask": mask, "nodata": nodata, "value_range": value_range, "out_range": out_range}
            if (result := fast.equalize_part(image, rule, layout, color, alpha, out, **part)) is not None:
                return result
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    name = check_rule(rule, call.dtype, call.pixels.luma)
    bins, bounds = check_bins(bins, value_range, call.dtype)
    levels = check_levels(out_range, out_dtype, call.pixels.value_range, name, call.dtype, call.pixels.luma)
    result = call.result(out, rules.result_dtype(name, call.dtype, levels))
    call = call.for_result(result.dtype, None if levels is None else levels.low)
    groups = call.with_edges(bins, bounds)
    target = call.target(result)
    for images, pixels, edges in groups:
        call.backend.equalize(pixels, name, levels, edges, target[images])
    return result
