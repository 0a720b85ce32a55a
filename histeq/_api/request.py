"""Where every argument is checked, before any work, and brought into the form that backends take."""

import functools
import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from histeq._api.layout import Axes, axes_named, axes_of
from histeq._core import dispatch, rules, ycrcb
from histeq._core import nodata as _nodata
from histeq._core.arguments import as_float, is_integer, shown
from histeq._core.backend import Array, Backend, Order, Pixels, groups_of_images

DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
_NEED = f"must have one of the dtypes {', '.join(DTYPES)}"
COLORS = ("luma", "luma-bgr", "channels")
_KEPT = 1 << 26
"""Bytes of counts, tables or edges that a call keeps for its images: memory must not grow with a batch."""
MOST_BINS = 1 << 27
"""The most bins that the histograms of a call may have in all, unless there are as many pixels: 1 GiB of
counts, more than a mistake is worth. The edges and the levels of the bins take up to five times as much."""


@dataclass(frozen=True, slots=True)
class Request:
    """An image with the backend that serves it and the checked arguments that say which pixels are meant."""

    backend: Backend
    image: Array
    """As the caller gave it, but for a subclass of NumPy's arrays."""
    axes: Axes
    pixels: Pixels
    dtype: np.dtype
    """The image's, byte order included."""

    @property
    def lead(self) -> tuple[bool, bool]:
        """Whether public counts and tables have the axes N and C."""
        return "N" in self.axes.letters, "C" in self.axes.letters and self.pixels.luma is None

    def public(self, counts: Array) -> Array:
        """Return counts or tables (N, P, ...) with those of the two leading axes that the layout has."""
        has_images, has_planes = self.lead
        return counts[(slice(None) if has_images else 0, slice(None) if has_planes else 0)]

    def edges(self, bins: int, value_range: tuple[float, float] | None, name: str = "bins") -> Array | None:
        """Return the edges of a floating image's bins, (N, P, bins + 1); None for integers.

        `name` is the name in errors of the argument that says how many bins there are.
        """
        if self.dtype.kind != "f":
            return None
        self.check_number_of(bins, name)
        return self.backend.bin_edges(self.pixels, bins, value_range)

    def check_number_of(self, bins: int, name: str = "bins") -> None:
        """Raise ValueError where a floating image's histograms would have too many bins in all."""
        images, planes = self.pixels.histograms
        most = max(MOST_BINS, self.pixels.image.size)
        if self.dtype.kind == "f" and images * planes * bins > most:
            raise ValueError(
                f"{name} must not give more than {most} bins in all, got {images * planes} histograms of "
                f"{shown(bins)} bins"
            )

    def with_edges(
        self, bins: int, value_range: tuple[float, float] | None
    ) -> Iterator[tuple[slice, Pixels, Array | None]]:
        """Check the number of bins; return groups of images: which ones, their pixels, their edges."""
        self.check_number_of(bins, "bins")
        size = 8 * bins * self.pixels.histograms[1] if self.dtype.kind == "f" else 0
        return ((images, group.pixels, group.edges(bins, value_range)) for images, group in self.groups(size))

    def groups(self, size: int) -> Iterator[tuple[slice, "Request"]]:
        """Yield groups of images of which `size` bytes an image may be kept, which ones they are first."""
        images = len(self.pixels.image)
        if images <= 1 or images * size <= _KEPT:
            yield slice(None), self
            return
        for group in groups_of_images(images, size, _KEPT):
            yield group, replace(self, pixels=self.pixels.part(group))

    def for_result(self, dtype: np.dtype, lowest: float | None = None) -> "Request":
        """Return the request for a result of `dtype` whose lowest value is `lowest`: see `nodata.beside`.

        By default that of the value range, if it is the result's, too. An integer `dtype` must hold nodata.
        """
        nodata, value_range, own = self.pixels.nodata, self.pixels.value_range, self.dtype.newbyteorder("=")
        if nodata is None:
            return self
        if dtype.kind != "f":
            _check_nodata(nodata, dtype, "nodata")
        if lowest is None and value_range is not None and dtype.newbyteorder("=") == own:
            lowest = value_range[0]
        beside = _nodata.beside(nodata, dtype, lowest)
        return replace(self, pixels=replace(self.pixels, beside_nodata=beside))

    def result(self, out: Any, dtype: np.dtype, **inputs: Array) -> Array:
        """Return `out`, checked, or a new array where it is None.

        `inputs` are the arrays that are read besides the image and its mask, by their arguments' names.
        """
        if out is None:
            return self.backend.empty_like(self.image, dtype)
        _check_out(out, self, dtype, {"mask": self.pixels.mask, **inputs})
        return out

    def target(self, result: Array) -> Array:
        """Return the part of `result` that the backend writes, canonical. An alpha channel is copied here."""
        target = self.axes.canonical(without_subclass(result))
        if not self.pixels.alpha:
            return target
        channels = self.pixels.image.shape[1]
        if result is not self.image:
            source = self.axes.canonical(self.image)
            self.backend.copy_alpha(source[:, channels:], target[:, channels:])
        return target[:, :channels]


def request(
    image: Any,
    backend: str | None,
    *,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any = None,
    nodata: Any = None,
    value_range: Any = None,
    name: str = "image",
) -> Request:
    """Check the arguments that say which pixels are meant.

    `name` is the image's name in errors; for "reference" that of its mask and nodata begins with it.
    """
    prefix = "reference_" if name == "reference" else ""
    module, image = native(image, backend, name)
    dtype = check_dtype(name, image.dtype)
    axes = axes_of(layout, image.shape)
    view = axes.canonical(image)
    channels = view.shape[1] if "C" in axes.letters else 1
    check_choice("color", color, COLORS)
    has_alpha = _has_alpha(alpha, color, channels)
    luma = _check_color(color, channels - has_alpha, dtype)
    pixels = Pixels(
        view[:, :-1] if has_alpha else view,
        None if mask is None else module.as_mask(_canonical_mask(mask, image, axes, name, f"{prefix}mask")),
        None if nodata is None else _check_nodata(nodata, dtype, f"{prefix}nodata"),
        luma=luma,
        alpha=has_alpha,
        value_range=check_value_range(value_range, dtype) if dtype.kind != "f" else None,
    )
    return Request(module, image, axes, pixels, dtype)


def native(array: Any, backend: str | None, name: str) -> tuple[Backend, Array]:
    """Return the backend for an array, and the array without its subclass."""
    return dispatch.choose(array, backend, name), without_subclass(array)


def without_subclass(array: Array) -> Array:
    """Return the array itself: a subclass of NumPy's (np.matrix, np.memmap) may index in a way of its own."""
    return np.asarray(array) if isinstance(array, np.ndarray) else array


def same_kind(name: str, array: Any, image: Array, of: str = "image") -> Array:
    """Return an array without its subclass; raise unless it is of the library and on the device of the image.

    `of` is the image's name in errors.
    """
    dispatch.refuse_masked(type(array), name)
    array = without_subclass(array)
    if type(array) is not type(image):
        raise TypeError(f"{name} must be an array of the image's kind, got {type(array).__name__}")
    if not isinstance(array, np.ndarray) and array.device != image.device:
        raise ValueError(f"{name} must be on the {of}'s device {image.device}, got {array.device}")
    return array


def check_dtype(name: str, dtype: Any) -> np.dtype:
    """Return `dtype` as NumPy's; raise TypeError unless images may have it."""
    if isinstance(dtype, np.dtype):
        return _check_dtype(name, dtype)
    known = _dtype_of(dtype)
    if known is None:
        raise TypeError(f"{name} {_NEED}, got {shown(dtype)}")
    return _check_dtype(name, known)


def _dtype_of(value: Any) -> np.dtype | None:
    """Return the dtype that a value names; None: it names none."""
    try:
        return None if value is None else np.dtype(value)  # of None NumPy makes float64
    except Exception:  # NumPy raises what it likes
        return None


@functools.cache
def _check_dtype(name: str, dtype: np.dtype) -> np.dtype:
    if dtype.newbyteorder("=").name not in DTYPES:
        raise TypeError(f"{name} {_NEED}, got {dtype}{_conversion_of(dtype)}")
    return dtype


def _conversion_of(dtype: np.dtype) -> str:
    """Say, for the end of an error, how an image of a dtype that is not served becomes one that is."""
    match dtype.kind, dtype.itemsize:
        case "b", _:
            return "; .astype(np.uint8) makes 0 and 1 of it"
        case "i" | "u", _:
            return (
                "; .astype(np.uint16) serves values of 0..65535, .astype(np.int16) those of -32768..32767, "
                ".astype(np.float64) all others, in bins"
            )
        case "f", _:
            return "; .astype(np.float64) serves"
    return ""


def check_bins(bins: Any, value_range: Any, dtype: np.dtype) -> tuple[int, tuple[float, float] | None]:
    """Check how a floating image is to be counted; return (bins, value_range). For integers see `Pixels`."""
    if dtype.kind != "f":
        if bins is not None:
            raise ValueError(f"bins is for floating images: {dtype} has one bin a value; got {shown(bins)}")
        return rules.levels_of(dtype), None
    if bins is None:
        bins = 256
    elif not is_integer(bins):
        raise TypeError(f"bins must be an int, got {type(bins).__name__}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {shown(bins)}")
    if value_range is None:
        return int(bins), None
    limits = _pair("value_range", value_range)
    with np.errstate(over="ignore"):
        low, high = dtype.type(limits[0]), dtype.type(limits[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"value_range must be finite with low < high in {dtype}, got {shown(value_range)}")
    return int(bins), limits


def check_value_range(value_range: Any, dtype: np.dtype) -> tuple[int, int] | None:
    """Check the range of an integer image's values; None where it is the whole of the dtype."""
    if value_range is None:
        return None
    low, high = _integers("value_range", value_range, dtype)
    return None if high - low + 1 == rules.levels_of(dtype) else (low, high)


def check_out_range(out_range: Any, rule: str, dtype: np.dtype) -> tuple[float, float] | None:
    """Check the limits of the output levels, which are of `dtype` unless the rule gives fractions."""
    if out_range is None:
        return None
    if rule != "skimage":
        return _integers("out_range", out_range, dtype)
    low, high = map(float, _pair("out_range", out_range))
    kind = rules.table_dtype(rule, dtype)
    with np.errstate(over="ignore"):
        if not (np.isfinite(np.array([low, high], kind)).all() and math.isfinite(high - low)):
            raise ValueError(f"out_range must be finite in {kind}, got {shown(out_range)}")
    return low, high


def check_levels(
    out_range: Any,
    out_dtype: Any,
    value_range: tuple[int, int] | None,
    rule: str,
    dtype: np.dtype,
    luma: Order | None = None,
) -> rules.OutRange | None:
    """Check what levels are asked for; None: all those of the image's dtype.

    Parameters
    ----------
    value_range : (low, high), optional
        That of an integer image, checked.
    rule : str
        The rule in force: "skimage" for floating images.
    """
    own = dtype.newbyteorder("=")
    kind = _check_out_dtype(out_dtype, rule, own, luma)
    limits = check_out_range(out_range, rule, kind)
    if limits is None and value_range is None and kind == own:
        return None
    if dtype.kind == "f":
        return None if limits is None else rules.OutRange(*limits, 0, 0, kind)
    first, last = value_range or rules.whole_range(own)[:2]
    low, high = limits or ((0.0, 1.0) if rule == "skimage" else (first, last) if kind == own else (0, 255))
    if kind != own:
        first, last = low, high
    return rules.OutRange(low, high, int(first), int(last), kind)


def _check_out_dtype(out_dtype: Any, rule: str, dtype: np.dtype, luma: Order | None) -> np.dtype:
    """Return the dtype of levels, the image's or uint8; the image's where the rule gives fractions."""
    if out_dtype is None:
        return dtype
    fractions = rule == "skimage"
    served = [rules.table_dtype(rule, dtype), *([] if fractions else [np.dtype(np.uint8)])]
    kind = _dtype_of(out_dtype)
    kind = None if kind is None else kind.newbyteorder("=")
    if kind is None or kind not in served:  # NumPy takes None for float64
        names = " or ".join(dict.fromkeys(map(str, served)))
        raise TypeError(f"out_dtype must be {names} for {dtype} and rule={rule!r}, got {shown(out_dtype)}")
    if luma is not None and kind != dtype:
        raise ValueError(
            f"out_dtype={kind} is for grey images and color='channels'; the luma of {dtype} keeps its dtype"
        )
    return dtype if fractions else kind


def _integers(name: str, value: Any, dtype: np.dtype) -> tuple[int, int]:
    """Return (low, high) as integers, low < high; raise unless `dtype` holds both."""
    low, high = map(float, _pair(name, value))
    limits = np.iinfo(dtype)
    if not (low.is_integer() and high.is_integer() and limits.min <= low and high <= limits.max):
        raise ValueError(f"{name} must be two values that {dtype} holds, got {shown(value)}")
    return int(low), int(high)


def check_rule(rule: str, dtype: np.dtype, luma: Order | None = None) -> str:
    """Return the rule in force: floating images have scikit-image's only, the luma any but that."""
    check_choice("rule", rule, rules.NAMES)
    if dtype.kind == "f":
        if rule not in ("opencv", "skimage"):
            raise ValueError(
                f"rule={rule!r} is for integer images; {dtype} takes 'skimage' (the default there). "
                "(image * 255).astype(numpy.uint8) makes an integer image of one in 0..1"
            )
        return "skimage"
    if rule == "skimage" and luma is not None:
        raise ValueError(
            "rule='skimage' gives fractions, which color='luma' cannot use; use color='channels'"
        )
    return rule


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value`; raise unless it is one of `choices`."""
    listed = ", ".join(map(repr, choices))
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {listed}, got {shown(value)}")
    return value


def _has_alpha(alpha: Any, color: Any, channels: int) -> bool:
    """Tell whether the last channel is alpha."""
    if alpha is None:
        return ycrcb.has_alpha_by_default(color, channels)
    if not isinstance(alpha, bool | np.bool_):
        raise TypeError(f"alpha must be a bool or None, got {type(alpha).__name__}")
    if alpha and channels < 2:
        raise ValueError("alpha=True takes images with an axis C of at least two channels, alpha the last")
    return bool(alpha)


def _check_color(color: str, channels: int, dtype: np.dtype) -> Order | None:
    """Return the channels' order where the luma is to be equalized, None where each channel is."""
    if color == "channels" or channels == 1:
        return None
    if channels != 3:
        raise ValueError(
            f"color={color!r} takes 1 or 3 channels, with or without alpha, got {channels}; "
            "use color='channels'"
        )
    if dtype.kind != "u":
        raise ValueError(f"color={color!r} takes uint8 and uint16 images, got {dtype}; use color='channels'")
    return "bgr" if color == "luma-bgr" else "rgb"


def _check_nodata(nodata: Any, dtype: np.dtype, name: str) -> float | int:
    """Return `nodata` as a value that `dtype` holds exactly."""
    if not isinstance(nodata, numbers.Real | np.bool_) or isinstance(nodata, bool | np.bool_):
        need = "a number, 'same' or None" if name == "reference_nodata" else "a number or None"
        raise TypeError(f"{name} must be {need}, got {shown(nodata)}")
    value = as_float(nodata)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(dtype.type(value))
    limits = np.iinfo(dtype)
    if not (value.is_integer() and limits.min <= value <= limits.max):
        raise ValueError(f"{name} must be a value that {dtype} holds, got {shown(nodata)}")
    return int(value)


def _canonical_mask(mask: Any, image: Array, axes: Axes, of: str, name: str) -> Array:
    """Return the mask of the image called `of` as (N or 1, 1, D, H, W), of bool or unsigned."""
    mask = same_kind(name, mask, image, of)
    if mask.dtype.kind not in "bu":
        raise TypeError(f"{name} must be bool or unsigned (nonzero: counted), got {mask.dtype}")
    sizes = dict(zip(axes.letters, (image.shape[i] for i in axes.order), strict=True))
    layout = [axes.letters[axes.order.index(i)] for i in range(len(axes.order))]
    shared = [letter for letter in layout if letter != "C"]
    for letters in (shared, [letter for letter in shared if letter != "N"]):
        if mask.shape == tuple(sizes[letter] for letter in letters):
            return axes_named("".join(letters), len(letters)).canonical(mask)
    expected = tuple(sizes[letter] for letter in shared)
    raise ValueError(f"{name} must have the {of}'s shape without its channels, {expected}, got {mask.shape}")


def _pair(name: str, value: Any) -> tuple[float, float]:
    """Return (low, high), low < high. NumPy's numbers keep their precision, which np.histogram heeds."""
    try:
        low, high = map(_as_limit, value)
        is_range = math.isfinite(low) and math.isfinite(high) and low < high
    except Exception:  # whatever the objects' own methods raise
        raise TypeError(f"{name} must be two numbers (low, high), got {shown(value)}") from None
    if not is_range:
        raise ValueError(f"{name} must be finite with low < high, got {shown(value)}")
    return low, high


def _as_limit(value: Any) -> Any:
    """Return a limit of a range: NumPy's numbers as they are, others as Python's float."""
    if isinstance(value, str | bytes | np.complexfloating):
        raise TypeError
    return value if isinstance(value, np.integer | np.floating) else as_float(value)


def _check_out(out: Any, request: Request, dtype: np.dtype, inputs: dict[str, Array | None]) -> None:
    """Raise unless the result may be written to `out`."""
    image = request.image
    target = same_kind("out", out, image)
    if target.shape != image.shape:
        raise ValueError(f"out must have the image's shape {image.shape}, got {target.shape}")
    if target.dtype != dtype:
        raise TypeError(f"out must have the result's dtype {dtype}, got {target.dtype}")
    if isinstance(target, np.ndarray) and not target.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    if _overlaps_itself(target):
        raise ValueError("out must have memory of its own for every pixel, got an array that overlaps itself")
    overlap, in_place = request.backend.overlap, _is_same(target, image)
    if overlap(target, image) and not in_place:
        raise ValueError("out must be the image itself or share no memory with it, got a partial overlap")
    for name, array in inputs.items():
        if array is not None and overlap(target, array) and not (in_place and _is_same(array, image)):
            raise ValueError(f"out must share no memory with {name}, got an overlap")


def _overlaps_itself(array: Array) -> bool:
    """Tell whether elements may share memory, as those of broadcast arrays and of sliding windows do."""
    if array.size == 0:
        return False
    extent = array.itemsize
    for stride, size in sorted((abs(n), size) for n, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def _is_same(a: Array, b: Array) -> bool:
    """Tell whether two arrays are the same elements in the same order."""
    return (a.shape, a.strides, a.dtype, _address(a)) == (b.shape, b.strides, b.dtype, _address(b))


def _address(array: Array) -> int:
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0]
    return array.data.ptr
