"""Histogram matching."""

import math
from dataclasses import replace
from typing import Literal

from histeq._api.interop import any_array
from histeq._api.request import Request, request, same_kind
from histeq._api.types import AnyArray, ArrayT, BackendName, Color, Range
from histeq._core import rules
from histeq._core.arguments import shown


@any_array
def match(
    image: ArrayT,
    reference: AnyArray,
    *,
    layout: str | None = None,
    color: Color = "channels",
    alpha: bool | None = None,
    mask: AnyArray | None = None,
    nodata: float | None = None,
    reference_mask: AnyArray | None = None,
    reference_nodata: float | Literal["same"] | None = "same",
    value_range: Range | None = None,
    out: ArrayT | None = None,
    backend: BackendName | None = None,
) -> ArrayT:
    """Give an image the histogram of another one (histogram matching, histogram specification).

    Parameters
    ----------
    image : array
        The image, of dtype uint8, int8, uint16, int16 (one bin a value, exact), float16, float32 or float64,
        with any strides and byte order. NaN and infinities are not counted and pass through unchanged.
    reference : array
        The image whose histogram to take: of the same dtype and layout and as many channels, of any size. Its
        alpha channel, if it has one, is not counted; it may lack alpha where `image` has it. One reference
        image serves a whole batch.
    layout : str, optional
        One letter for each axis: N (or T) for independent images, C for channels, D, H and W for space.
        Arrays of two axes are "HW"; three and more must be named: "HWC", "CHW", "NHW", "NCHW", "DHW", ...
    color : {"channels", "luma", "luma-bgr"}
        What to match of an image with an axis C. "channels" (the default, as in scikit-image): every channel
        by itself. "luma": the Y of YCrCb, with Cr and Cb kept; channels in the order R G B. "luma-bgr": the
        same for the order B G R of OpenCV.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped but copied to the result. By
        default it is for two and four channels whose luma is matched, and no channel is with
        ``color="channels"``.
    mask : array of bool or unsigned integers, optional
        Which pixels of `image` are counted: those where it is not zero. All pixels are mapped. It has the
        image's shape without the axis C, or its spatial axes only.
    nodata : number, optional
        The value that is not counted and passes through unchanged. Where the luma is matched, a pixel is
        nodata if its three channels all have this value. No other pixel comes out as nodata: one that would
        gets the next value instead, up where nodata is the lowest value that the result may have (the lower
        limit of `value_range`), else down.
    reference_mask : array of bool or unsigned integers, optional
        Which pixels of `reference` are counted: those where it is not zero. It has the shape of `reference`
        without the axis C, or its spatial axes only.
    reference_nodata : number, "same" or None
        The value that is not counted in `reference`. By default the same as `nodata`; None: there is none.
    value_range : (low, high), optional
        The values of integer images that are counted in both; those outside are mapped as the limits are.
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
        Of the library, shape, memory order and dtype of `image`. Equal to skimage.exposure.match_histograms
        with a channel axis, which truncates to the image's dtype. A PyTorch tensor is detached.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    A Dask array gives a lazy one, and `out` must be None. Its chunks are read once to be counted and again to
    be mapped, so that few of them are in memory at once. A floating image must be in one chunk, and so must
    its reference. `reference` and the masks may be in memory.

    A DataArray or a Dataset of xarray gives one: the names of its dimensions (y, x, band, time, ...) are the
    layout, `_FillValue`, `missing_value` or `nodata` of its attributes is nodata, unless the arguments say
    otherwise. Labels that no longer hold are dropped. A Dataset goes variable by variable.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[0, 1], [2, 3]], np.uint8)
    >>> histeq.match(image, image * 10)
    array([[ 0, 10],
           [20, 30]], dtype=uint8)
    """
    call = request(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    refuse_range(call, value_range)
    found = request_of_reference(
        call, reference, backend, layout, color, alpha, reference_mask, reference_nodata
    )
    model = replace(found.pixels, value_range=call.pixels.value_range)
    result = call.result(out, call.dtype, reference=found.image, reference_mask=model.mask)
    call = call.for_result(call.dtype, -math.inf if call.dtype.kind == "f" else None)
    target = call.target(result)
    if call.dtype.kind == "f":
        call.backend.match_values(call.pixels, model, target)
        return result
    one = len(model.image) == 1
    wanted = call.backend.histogram(model, None) if one else None
    dtype, first = call.dtype.newbyteorder("="), first_value(call)

    def match_group(images: slice, group: Request) -> None:
        counts = group.backend.histogram(group.pixels, None)
        of_group = wanted if one else group.backend.histogram(model.part(images), None)
        table = group.backend.match_table(counts, of_group, dtype, first)
        group.backend.apply(group.pixels, table, None, target[images])

    for images, group in call.groups(8 * rules.levels_of(call.dtype) * call.pixels.histograms[1]):
        match_group(images, group)  # its counts and tables are gone before the next
    return result


def refuse_range(call: Request, value_range: Range | None) -> None:
    """Raise ValueError for a range of floating images."""
    if value_range is not None and call.dtype.kind == "f":
        raise ValueError(
            f"value_range is for integer images: {call.dtype} is matched value by value; "
            f"got {shown(value_range)}"
        )


def first_value(call: Request) -> int:
    """Return the value that the first bin of an integer image counts."""
    return rules.whole_range(call.dtype).first + call.pixels.bins_in_range.start


def request_of_reference(
    call: Request,
    reference: AnyArray,
    backend: str | None,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: AnyArray | None,
    nodata: float | Literal["same"] | None,
) -> Request:
    """Check the reference image against the request."""
    channels = call.pixels.image.shape[1]
    if alpha and _channels_of(reference, layout) == channels:
        alpha = False  # the image's last channel is alpha; the reference has none
    same = isinstance(nodata, str) and nodata == "same"
    own = None if same else nodata
    model = request(
        reference, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=own, name="reference"
    )
    same_kind("reference", model.image, call.image)
    dtype = call.dtype.newbyteorder("=")
    if model.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"reference must have the image's dtype {dtype}, got {model.dtype}")
    images = len(call.pixels.image)
    if model.pixels.image.shape[1] != channels or len(model.pixels.image) not in (1, images):
        raise ValueError(
            f"reference must have {channels} channels and 1 or {images} images, got shape {model.image.shape}"
        )
    return replace(model, pixels=replace(model.pixels, nodata=call.pixels.nodata)) if same else model


def _channels_of(reference: AnyArray, layout: str | None) -> int | None:
    """Return how many channels an array of this layout has; None where the layout does not fit."""
    shape = getattr(reference, "shape", ())
    return shape[layout.index("C")] if layout and "C" in layout and len(shape) == len(layout) else None
