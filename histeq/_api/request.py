"""Where every argument is checked, before any work, and brought into the form that backends take."""

import functools
import math
import numbers
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from histeq._api.layout import Axes, axes_named, axes_of
from histeq._core import dispatch, rules, ycrcb
from histeq._core import nodata as _nodata
from histeq._core.backend import Array, Backend, Order, Pixels

DTYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")
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

    def pixels_for(self, dtype: np.dtype, lowest: float | None = None) -> Pixels:
        """Return the pixels for a result of `dtype` whose lowest value is `lowest`: see `nodata.beside`."""
        nodata = self.pixels.nodata
        if nodata is None:
            return self.pixels
        return replace(self.pixels, beside_nodata=_nodata.beside(nodata, dtype, lowest))

    def result(self, out: Any, dtype: np.dtype) -> Array:
        """Return `out`, checked, or a new array where it is None."""
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
    name: str = "image",
) -> Request:
    """Check the arguments that say which pixels are meant.

    `name` is the image's name in errors; that of its mask and nodata begins with it, unless it is "image".
    """
    prefix = "" if name == "image" else f"{name}_"
    module, image = native(image, backend, name)
    dtype = check_dtype(name, image.dtype)
    axes = axes_of(layout, image.shape)
    view = axes.canonical(image)
    channels = view.shape[1] if "C" in axes.letters else 1
    has_alpha = _has_alpha(alpha, color, channels)
    luma = _check_color(color, channels - has_alpha, dtype)
    pixels = Pixels(
        view[:, :-1] if has_alpha else view,
        None if mask is None else _canonical_mask(mask, image, axes, name, f"{prefix}mask"),
        None if nodata is None else _check_nodata(nodata, dtype, f"{prefix}nodata"),
        luma=luma,
        alpha=has_alpha,
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
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {dtype}") from None
    if dtype.newbyteorder("=").name not in DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {dtype}")
    return dtype


def check_bins(bins: Any, value_range: Any, dtype: np.dtype) -> tuple[int, tuple[float, float] | None]:
    """Check how a floating image is to be counted; return (bins, value_range)."""
    if dtype.kind != "f":
        for name, value in (("bins", bins), ("value_range", value_range)):
            if value is not None:
                raise ValueError(f"{name} is for floating images: {dtype} has one bin a value; got {value}")
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


def check_out_range(out_range: Any, rule: str, dtype: np.dtype) -> tuple[float, float] | None:
    """Check the limits of the output levels."""
    if out_range is None:
        return None
    low, high = _pair("out_range", out_range)
    if rule == "skimage":
        return low, high
    limits = np.iinfo(dtype)
    if not (low.is_integer() and high.is_integer() and limits.min <= low and high <= limits.max):
        raise ValueError(f"out_range must be two values that {dtype} holds, got {out_range}")
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


def _check_nodata(nodata: Any, dtype: np.dtype, name: str) -> float | int:
    """Return `nodata` as a value that `dtype` holds exactly."""
    if not isinstance(nodata, numbers.Real | np.bool_) or isinstance(nodata, bool | np.bool_):
        raise TypeError(f"{name} must be a number, got {type(nodata).__name__}")
    value = float(nodata)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(dtype.type(value))
    limits = np.iinfo(dtype)
    if not (value.is_integer() and limits.min <= value <= limits.max):
        raise ValueError(f"{name} must be a value that {dtype} holds, got {nodata}")
    return int(value)


def _canonical_mask(mask: Any, image: Array, axes: Axes, of: str, name: str) -> Array:
    """Return the mask of the image called `of` as (N or 1, 1, D, H, W) booleans."""
    check_kind(name, mask, image)
    if not isinstance(mask, np.ndarray) and mask.device != image.device:
        raise ValueError(f"{name} must be on the {of}'s device {image.device}, got {mask.device}")
    if mask.dtype.kind not in "bu":
        raise TypeError(f"{name} must be bool or unsigned (nonzero: counted), got {mask.dtype}")
    sizes = dict(zip(axes.letters, (image.shape[i] for i in axes.order), strict=True))
    layout = [axes.letters[axes.order.index(i)] for i in range(len(axes.order))]
    shared = [letter for letter in layout if letter != "C"]
    for letters in (shared, [letter for letter in shared if letter != "N"]):
        if mask.shape == tuple(sizes[letter] for letter in letters):
            view = axes_named("".join(letters), len(letters)).canonical(mask)
            return view if view.dtype == np.bool_ else view != 0
    expected = tuple(sizes[letter] for letter in shared)
    raise ValueError(f"{name} must have the {of}'s shape without its channels, {expected}, got {mask.shape}")


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
