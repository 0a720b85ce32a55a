"""The public functions: check the arguments, choose the backend, hand over."""

from typing import Any

import numpy as np

from histeq._api import interop as _guests
from histeq._api import request as _arguments
from histeq._api.request import Request
from histeq._core import dispatch as _dispatch
from histeq._core import rules as _rules
from histeq._core.backend import Array, Backend


def equalize(
    image: Array,
    *,
    rule: str = "opencv",
    layout: str | None = None,
    color: str = "luma",
    mask: Array | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: tuple[float, float] | None = None,
    out_range: tuple[float, float] | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Equalize the histogram of an image, of a batch of images, or of a volume.

    Parameters
    ----------
    image : array
        uint8, uint16, int16 (one bin a value, exact), float16, float32 or float64; any strides and byte
        order. NaN and infinities are not counted and pass through.
    rule : {"opencv", "pillow", "numpy", "skimage", "vips"}
        Whose arithmetic to reproduce, bit for bit: cv2.equalizeHist, PIL.ImageOps.equalize (torchvision
        and kornia too), the textbook recipe ``(cdf - cdf_min) * 255 / (N - cdf_min)`` truncated,
        skimage.exposure.equalize_hist, or libvips' hist_equal. Floating images have scikit-image's only.
    layout : str, optional
        One letter an axis: N (or T) independent images, C channels, D H W space. Two axes are "HW"; three
        and more must be named: "HWC", "CHW", "NHW", "NCHW", "DHW", ...
    color : {"luma", "luma-bgr", "channels"}
        For images with an axis C. "luma": equalize the Y of YCrCb and keep Cr and Cb, exactly as
        cvtColor, equalizeHist, cvtColor do; channels in the order R G B. "luma-bgr": the same for B G R.
        "channels": each channel alone. A fourth channel is alpha and passes through in every case, as a
        fraction where the result is fractions; four bands that are none are independent images: layout
        "HWN".
    mask : array of bool or unsigned, optional
        Limits what is counted (nonzero) but not what is mapped. The image's shape without C, or its
        spatial axes only.
    nodata : number, optional
        The value that is not counted and passes through unchanged; for luma, in all three channels.
    bins : int, optional
        Floating images: how many bins, 256 by default.
    value_range : (low, high), optional
        Floating images: what the bins span; by default, from the smallest to the largest counted value
        of each image.
    out_range : (low, high), optional
        The lowest and highest output level, such as (16, 235) for limited-range video or (0, 4095) for
        12 bits in uint16. By default all the dtype holds, and 0..1 for rule "skimage". An image of one
        level keeps it.
    out : array, optional
        Where to write: the image's kind, shape and device, the result's dtype. May be the image itself.
    backend : str, optional
        "numba", "numpy" or "cupy"; by default the fastest that serves the array where it is, or
        ``HISTEQ_BACKEND``. "cupy" with a NumPy image: on the GPU, and back.

    Returns
    -------
    array
        The kind, shape, memory order and dtype of `image`; for rule "skimage" float64 (float32 for
        float16 and float32 images), as scikit-image returns it.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument, before any work; the message names it.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    Images without a pixel to count, or with one grey level, come back unchanged, as OpenCV returns them.
    (libvips and scikit-image do map images of one level, to their highest level; so do their rules.)

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> histeq.equalize(image, rule="numpy")
    array([[  0, 159, 159],
           [ 31, 159, 223],
           [159, 223, 255]], dtype=uint8)
    """
    unset = mask is None and nodata is None and bins is None and value_range is None and out_range is None
    if unset and type(rule) is type(color) is str and type(image) is np.ndarray:
        plain = _dispatch.choose(image, backend).plain
        result = plain.equalize(image, rule, layout, color, out) if plain else None
        if result is not None:
            return result
    if (host := _guests.host_of(image, backend)) is not None:
        return host(
            equalize, image, backend, rule=rule, layout=layout, color=color, mask=mask, nodata=nodata,
            bins=bins, value_range=value_range, out_range=out_range, out=out,
        )  # fmt: skip
    call = _request(image, backend, layout=layout, color=color, mask=mask, nodata=nodata)
    dtype = np.dtype(call.image.dtype)
    rule = _arguments.check_rule(rule, call.pixels.luma, dtype)
    bins, value_range = _arguments.check_bins(bins, value_range, dtype)
    out_range = _arguments.check_out_range(out_range, rule, dtype)
    result = _arguments.check_out(out, call, _result_dtype(rule, dtype))
    edges = _edges(call, bins, value_range)
    call.backend.equalize(call.pixels, rule, out_range, edges, _target(call, result))
    return result


def histogram(
    image: Array,
    *,
    layout: str | None = None,
    color: str = "luma",
    mask: Array | None = None,
    nodata: float | None = None,
    bins: int | None = None,
    value_range: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Array:
    """Count the pixels of each value.

    Counts of the pieces of an image add up to the counts of the image.

    Parameters
    ----------
    image, layout, color, mask, nodata, bins, value_range, backend
        As for `equalize`. For floating images, counts add up only with a `value_range` given.

    Returns
    -------
    array of int64
        256 counts for uint8, 65536 for uint16 and int16 (from the smallest value up), `bins` for floating
        images, as np.histogram counts them. Leading axes: N where the layout has it, then C where
        ``color="channels"`` (three of four channels: alpha is not counted).

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `equalize`.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> counts = histeq.histogram(np.array([[50, 52], [52, 53]], np.uint8))
    >>> counts.shape, counts[50:54]
    ((256,), array([1, 0, 2, 1]))
    """
    unset = layout is None and mask is None and nodata is None and bins is None and value_range is None
    if unset and type(color) is str and color == "luma" and type(image) is np.ndarray:
        plain = _dispatch.choose(image, backend).plain
        counts = plain.histogram(image) if plain else None
        if counts is not None:
            return counts
    if (host := _guests.host_of(image, backend)) is not None:
        return host(
            histogram, image, backend, layout=layout, color=color, mask=mask, nodata=nodata, bins=bins,
            value_range=value_range,
        )  # fmt: skip
    call = _request(image, backend, layout=layout, color=color, mask=mask, nodata=nodata)
    bins, value_range = _arguments.check_bins(bins, value_range, np.dtype(call.image.dtype))
    return call.public(call.backend.histogram(call.pixels, _edges(call, bins, value_range)))


def lookup_table(
    counts: Array,
    *,
    rule: str = "opencv",
    dtype: Any,
    out_range: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Array:
    """Return the table that equalizes an image with these counts.

    Parameters
    ----------
    counts : array of integers, shape (..., levels)
        As `histogram` returns them: 256 levels for uint8, 65536 for uint16 and int16, any number for
        floating images.
    rule, out_range, backend
        As for `equalize`.
    dtype : dtype
        The images' dtype.

    Returns
    -------
    array, shape (..., levels)
        Of `dtype`; for rule "skimage" float64 (float32 for float16 and float32 images). Entry i belongs to
        the i-th smallest value of an integer dtype, or to the centre of bin i.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `equalize`.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> table = histeq.lookup_table(histeq.histogram(image), dtype=image.dtype)
    >>> table[50:55]
    array([  0,  32, 159, 223, 255], dtype=uint8)
    """
    if (host := _guests.host_of(counts, backend)) is not None:
        return host(lookup_table, counts, backend, rule=rule, dtype=dtype, out_range=out_range)
    module, counts = _native(counts, backend, "counts")
    dtype = _arguments.check_dtype("dtype", dtype)
    rule = _arguments.check_rule(rule, None, dtype)
    out_range = _arguments.check_out_range(out_range, rule, dtype)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"counts must be integers, got {counts.dtype}")
    levels = _rules.levels_of(dtype) if dtype.kind != "f" else None
    if counts.ndim == 0 or levels not in (None, counts.shape[-1]):
        raise ValueError(
            f"counts must have {levels or 'its bins'} entries on the last axis for {dtype}, "
            f"got shape {counts.shape}"
        )
    # Counts on a device are not looked at: that would have to wait for it.
    if isinstance(counts, np.ndarray) and counts.size and counts.min() < 0:
        raise ValueError(f"counts must not be negative, got {counts.min()}")
    return module.lookup_table(counts.astype(np.int64, copy=False), rule, dtype, out_range)


def apply(
    image: Array,
    table: Array,
    *,
    layout: str | None = None,
    color: str = "luma",
    nodata: float | None = None,
    value_range: tuple[float, float] | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Map every pixel of an image through a table.

    Parameters
    ----------
    image, layout, color, nodata, out, backend
        As for `equalize`.
    table : array, shape (levels,) or (N, levels), (C, levels), (N, C, levels)
        As `lookup_table` returns it: one for all images and channels, or one for each histogram that
        `histogram` makes with this layout and color.
    value_range : (low, high)
        Floating images, and required there: what the table's bins span. Values in between the bins'
        centres are interpolated linearly.

    Returns
    -------
    array
        The kind, shape and memory order of `image`, the dtype of `table`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `equalize`.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> table = histeq.lookup_table(histeq.histogram(image), dtype=image.dtype)
    >>> bool((histeq.apply(image, table) == histeq.equalize(image)).all())
    True
    """
    unset = layout is None and nodata is None and value_range is None
    if unset and type(color) is str and color == "luma" and type(image) is type(table) is np.ndarray:
        plain = _dispatch.choose(image, backend).plain
        result = plain.apply(image, table, out) if plain else None
        if result is not None:
            return result
    if (host := _guests.host_of(image, backend)) is not None:
        return host(
            apply, image, backend, table=table, layout=layout, color=color, nodata=nodata,
            value_range=value_range, out=out,
        )  # fmt: skip
    call = _request(image, backend, layout=layout, color=color, nodata=nodata)
    dtype = np.dtype(call.image.dtype)
    _, table = _native(table, backend, "table")
    _arguments.check_kind("table", table, call.image)
    table = _canonical_table(call, table, dtype)
    if dtype.kind == "f" and value_range is None:
        raise ValueError("value_range must be given to apply a table to a floating image, got None")
    _, value_range = _arguments.check_bins(None, value_range, dtype)
    result = _arguments.check_out(out, call, table.dtype)
    edges = _edges(call, table.shape[-1], value_range)
    call.backend.apply(call.pixels, table, edges, _target(call, result))
    return result


def match(
    image: Array,
    reference: Array,
    *,
    layout: str | None = None,
    color: str = "channels",
    mask: Array | None = None,
    nodata: float | None = None,
    out: Array | None = None,
    backend: str | None = None,
) -> Array:
    """Give an image the histogram of another one (histogram matching, histogram specification).

    Parameters
    ----------
    image, layout, out, backend
        As for `equalize`.
    reference : array
        The image whose histogram to take: the same dtype, layout and number of channels, any size. One
        reference image serves a whole batch.
    color : {"channels", "luma", "luma-bgr"}
        "channels" (the default here, as in scikit-image): each channel alone. "luma": the luma only.
    mask : array of bool or unsigned, optional
        Limits what is counted in `image`.
    nodata : number, optional
        Not counted in either image; passes through unchanged.

    Returns
    -------
    array
        The kind, shape, memory order and dtype of `image`. Equal to skimage.exposure.match_histograms
        with a channel axis, which truncates to the image's dtype.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `equalize`.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> image = np.array([[0, 1], [2, 3]], np.uint8)
    >>> histeq.match(image, image * 10)
    array([[ 0, 10],
           [20, 30]], dtype=uint8)
    """
    if (host := _guests.host_of(image, backend)) is not None:
        return host(
            match, image, backend, reference=reference, layout=layout, color=color, mask=mask, nodata=nodata,
            out=out,
        )  # fmt: skip
    call = _request(image, backend, layout=layout, color=color, mask=mask, nodata=nodata)
    model = _request(reference, backend, layout=layout, color=color, nodata=nodata, name="reference")
    _arguments.check_kind("reference", model.image, call.image)
    dtype = np.dtype(call.image.dtype).newbyteorder("=")
    if np.dtype(model.image.dtype).newbyteorder("=") != dtype:
        raise TypeError(f"reference must have the image's dtype {dtype}, got {model.image.dtype}")
    images, channels = call.pixels.image.shape[:2]
    if model.pixels.image.shape[1] != channels or len(model.pixels.image) not in (1, images):
        raise ValueError(
            f"reference must have {channels} channels and 1 or {images} images, got shape {model.image.shape}"
        )
    result = _arguments.check_out(out, call, call.image.dtype)
    target = _target(call, result)
    if dtype.kind == "f":
        call.backend.match_values(call.pixels, model.pixels, target)
        return result
    table = call.backend.match_table(
        call.backend.histogram(call.pixels, None), model.backend.histogram(model.pixels, None), dtype
    )
    call.backend.apply(call.pixels, table, None, target)
    return result


def _native(array: Any, backend: str | None, name: str = "image") -> tuple[Backend, Array]:
    """Return the backend for an array, and the array without its subclass."""
    try:
        module = _dispatch.choose(array, backend)
    except TypeError as error:
        raise TypeError(str(error).replace("image", name, 1)) from None
    return module, np.asarray(array) if isinstance(array, np.ndarray) else array


def _request(image: Any, backend: str | None, *, name: str = "image", **arguments: Any) -> Request:
    module, image = _native(image, backend, name)
    return _arguments.request(module, image, **arguments)


def _result_dtype(rule: str, dtype: np.dtype) -> np.dtype:
    """Return the dtype of the result: the image's own, byte order included, where the rule keeps it."""
    return _rules.table_dtype(rule, dtype) if rule == "skimage" else dtype


def _edges(call: Request, bins: int, value_range: tuple[float, float] | None) -> Array | None:
    """Return the edges of a floating image's bins."""
    if np.dtype(call.image.dtype).kind != "f":
        return None
    return call.backend.bin_edges(call.pixels, bins, value_range)


def _target(call: Request, result: Array) -> Array:
    """Return the part of `result` that the backend writes, canonical; alpha is copied here."""
    target = call.axes.canonical(result)
    if not call.pixels.alpha:
        return target
    if result is not call.image:
        call.backend.copy_alpha(call.axes.canonical(call.image)[:, 3:], target[:, 3:])
    return target[:, :3]


def _canonical_table(call: Request, table: Array, dtype: np.dtype) -> Array:
    """Return the table as (N, P, levels), broadcast without copying."""
    if dtype.kind != "f":
        allowed = [dtype.newbyteorder("="), *([np.dtype(np.float64)] if not call.pixels.luma else [])]
        levels = _rules.levels_of(dtype)
    else:
        allowed, levels = [_rules.table_dtype("skimage", dtype)], None
    if table.dtype not in allowed:
        raise TypeError(
            f"table must have dtype {' or '.join(map(str, allowed))} for {dtype}, got {table.dtype}"
        )
    images, channels = call.pixels.image.shape[:2]
    shape = (images, 1 if call.pixels.luma else channels)
    lead = tuple(n for n, present in zip(shape, call.lead, strict=True) if present)
    if table.ndim == 0 or levels not in (None, table.shape[-1]) or table.shape[:-1] not in ((), lead):
        raise ValueError(
            f"table must have shape ({levels or 'bins'},) or {(*lead, levels or 'bins')} "
            f"for this image, got {table.shape}"
        )
    if table.shape[-1] == 0:
        raise ValueError("table must have at least one entry, got none")
    if table.ndim > 1 or shape == (1, 1):
        return table.reshape(*shape, table.shape[-1])
    return np.broadcast_to(table, (*shape, table.shape[-1]))
