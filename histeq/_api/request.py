"""Where every argument is checked, before any work, and brought into the form that backends take."""

import functools
import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from histeq._api.layout import Axes, axes_named, axes_of
from histeq._core import dispatch, rules, ycrcb
from histeq._core.backend import Array, Backend, Order, Pixels

DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
COLORS = ("luma", "luma-bgr", "channels")


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

    def edges(self, bins: int, value_range: tuple[float, float] | None) -> Array | None:
        """Return the edges of a floating image's bins, (N, P, bins + 1); None for integers."""
        return self.backend.bin_edges(self.pixels, bins, value_range) if self.dtype.kind == "f" else None

    def result(self, out: Any, dtype: np.dtype) -> Array:
        """Return `out`, checked, or a new array where it is None; check that it can hold nodata."""
        if self.pixels.nodata is not None and dtype.kind in "iu":
            _check_nodata(self.pixels.nodata, dtype)
        return self.backend.empty_like(self.image, dtype) if out is None else _check_out(out, self, dtype)

    def target(self, result: Array) -> Array:
        """Return the part of `result` that the backend writes, canonical. An alpha channel is copied here."""
        target = self.axes.canonical(result)
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
    """Check the arguments that say which pixels are meant; `name` is the image's name in errors."""
    module, image = native(image, backend, name)
    dtype = check_dtype(name, image.dtype)
    axes = axes_of(layout, image.shape)
    view = axes.canonical(image)
    channels = view.shape[1] if "C" in axes.letters else 1
    has_alpha = _has_alpha(alpha, color, channels)
    luma = _check_color(color, channels - has_alpha, dtype)
    pixels = Pixels(
        view[:, :-1] if has_alpha else view,
        None if mask is None else _canonical_mask(mask, image, axes),
        None if nodata is None else _check_nodata(nodata, dtype),
        luma,
        has_alpha,
        check_value_range(value_range, dtype) if dtype.kind != "f" else None,
    )
    return Request(module, image, axes, pixels, dtype)


def native(array: Any, backend: str | None, name: str) -> tuple[Backend, Array]:
    """Return the backend for an array, and the array without its subclass."""
    module = dispatch.choose(array, backend, name)
    return module, np.asarray(array) if isinstance(array, np.ndarray) else array


def check_kind(name: str, array: Any, image: Array) -> None:
    """Raise TypeError unless an array is of the library of the image."""
    if type(array) is not type(image) and not (
        isinstance(array, np.ndarray) and isinstance(image, np.ndarray)
    ):
        raise TypeError(f"{name} must be an array of the image's kind, got {type(array).__name__}")


@functools.cache
def check_dtype(name: str, dtype: Any) -> np.dtype:
    """Return `dtype` as NumPy's; raise TypeError unless images may have it."""
    need = f"{name} must have one of the dtypes {', '.join(DTYPES)}, got"
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{need} {dtype}") from None
    if dtype.newbyteorder("=").name not in DTYPES:
        raise TypeError(f"{need} {dtype}{_conversion_of(dtype)}")
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
            raise ValueError(f"bins is for floating images: {dtype} has one bin a value; got {bins}")
        return rules.levels_of(dtype), None
    if bins is None:
        bins = 256
    elif not isinstance(bins, numbers.Integral) or isinstance(bins, bool):
        raise TypeError(f"bins must be an int, got {type(bins).__name__}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if value_range is None:
        return int(bins), None
    low, high = _pair("value_range", value_range)
    with np.errstate(over="ignore"):
        low, high = float(dtype.type(low)), float(dtype.type(high))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"value_range must be finite in {dtype}, got {value_range}")
    return int(bins), (low, high)


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
    return _pair("out_range", out_range) if rule == "skimage" else _integers("out_range", out_range, dtype)


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
    try:
        kind = np.dtype(out_dtype).newbyteorder("=")
    except (TypeError, ValueError):
        kind = None
    if kind not in served:
        names = " or ".join(dict.fromkeys(map(str, served)))
        raise TypeError(f"out_dtype must be {names} for {dtype} and rule={rule!r}, got {out_dtype}")
    if luma is not None and kind != dtype:
        raise ValueError(
            f"out_dtype={kind} is for grey images and color='channels'; the luma of {dtype} keeps its dtype"
        )
    return dtype if fractions else kind


def _integers(name: str, value: Any, dtype: np.dtype) -> tuple[int, int]:
    """Return (low, high) as integers, low < high; raise unless `dtype` holds both."""
    low, high = _pair(name, value)
    limits = np.iinfo(dtype)
    if not (low.is_integer() and high.is_integer() and limits.min <= low and high <= limits.max):
        raise ValueError(f"{name} must be two values that {dtype} holds, got {value}")
    return int(low), int(high)


def check_rule(rule: str, dtype: np.dtype, luma: Order | None = None) -> str:
    """Return the rule in force: floating images have scikit-image's only, the luma any but that."""
    _check_choice("rule", rule, rules.NAMES)
    if dtype.kind == "f":
        if rule not in ("opencv", "skimage"):
            raise ValueError(
                f"rule={rule!r} is for integer images; {dtype} takes 'skimage' (the default there)"
            )
        return "skimage"
    if rule == "skimage" and luma is not None:
        raise ValueError(
            "rule='skimage' gives fractions, which color='luma' cannot use; use color='channels'"
        )
    return rule


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    listed = ", ".join(map(repr, choices))
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")


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
    _check_choice("color", color, COLORS)
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


def _check_nodata(nodata: Any, dtype: np.dtype) -> float | int:
    """Return `nodata` as a value that `dtype` holds exactly."""
    if not isinstance(nodata, numbers.Real | np.bool_) or isinstance(nodata, bool | np.bool_):
        raise TypeError(f"nodata must be a number, got {type(nodata).__name__}")
    value = float(nodata)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(dtype.type(value))
    limits = np.iinfo(dtype)
    if not (value.is_integer() and limits.min <= value <= limits.max):
        raise ValueError(f"nodata must be a value that {dtype} holds, got {nodata}")
    return int(value)


def _canonical_mask(mask: Any, image: Array, axes: Axes) -> Array:
    """Return the mask as (N or 1, 1, D, H, W) booleans."""
    check_kind("mask", mask, image)
    if not isinstance(mask, np.ndarray) and mask.device != image.device:
        raise ValueError(f"mask must be on the image's device {image.device}, got {mask.device}")
    if mask.dtype.kind not in "bu":
        raise TypeError(f"mask must be bool or unsigned (nonzero: counted), got {mask.dtype}")
    sizes = dict(zip(axes.letters, (image.shape[i] for i in axes.order), strict=True))
    layout = [axes.letters[axes.order.index(i)] for i in range(len(axes.order))]
    shared = [letter for letter in layout if letter != "C"]
    for letters in (shared, [letter for letter in shared if letter != "N"]):
        if mask.shape == tuple(sizes[letter] for letter in letters):
            view = axes_named("".join(letters), len(letters)).canonical(mask)
            return view if view.dtype == np.bool_ else view != 0
    expected = tuple(sizes[letter] for letter in shared)
    raise ValueError(f"mask must have the image's shape without its channels, {expected}, got {mask.shape}")


def _pair(name: str, value: Any) -> tuple[float, float]:
    """Return (low, high) as floats, low < high."""
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two numbers (low, high), got {value!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name} must be finite with low < high, got {value}")
    return low, high


def _check_out(out: Any, request: Request, dtype: np.dtype) -> Array:
    """Return `out`; raise unless the result may be written there."""
    image = request.image
    check_kind("out", out, image)
    if out.shape != image.shape:
        raise ValueError(f"out must have the image's shape {image.shape}, got {out.shape}")
    if not isinstance(out, np.ndarray) and out.device != image.device:
        raise ValueError(f"out must be on the image's device {image.device}, got {out.device}")
    if out.dtype != dtype:
        raise TypeError(f"out must have the result's dtype {dtype}, got {out.dtype}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    if request.backend.overlap(out, image) and not _same_memory(out, image):
        raise ValueError("out must be the image itself or share no memory with it, got a partial overlap")
    return out


def _same_memory(a: Array, b: Array) -> bool:
    """Tell whether two arrays of one shape are the same elements in the same order."""
    return a is b or (_address(a) == _address(b) and a.strides == b.strides and a.dtype == b.dtype)


def _address(array: Array) -> int:
    interface = "__array_interface__" if isinstance(array, np.ndarray) else "__cuda_array_interface__"
    return getattr(array, interface)["data"][0]
