"""Where every argument is checked, before any work, and brought into the form the backends take."""

import functools
import math
import numbers
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from histeq._core import rules as _rules
from histeq._core.backend import Array, Backend, Order, Pixels

DTYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")
COLORS = ("luma", "luma-bgr", "channels")
_BATCH, _SPACE = "NT", "DHW"
_CANONICAL = "NCDHW"


@dataclass(frozen=True, slots=True)
class Axes:
    """How an array of some layout becomes canonical: transpose by `order`, then index by `index`."""

    order: tuple[int, ...]
    index: tuple[slice | None, ...]
    letters: str
    """The layout in canonical order, N for T."""

    def canonical(self, array: Array) -> Array:
        """Return `array` as a view with the axes N C D H W."""
        return array.transpose(self.order)[self.index]


@dataclass(frozen=True, slots=True)
class Request:
    """An image with its checked arguments."""

    backend: Backend
    image: Array
    """As the caller gave it."""
    axes: Axes
    pixels: Pixels

    @property
    def lead(self) -> tuple[bool, bool]:
        """Whether counts and tables keep the axes N and P."""
        return "N" in self.axes.letters, "C" in self.axes.letters and self.pixels.luma is None

    def public(self, counts: Array) -> Array:
        """Drop from (N, P, ...) the leading axes that the layout does not have."""
        has_images, has_planes = self.lead
        return counts[(slice(None) if has_images else 0, slice(None) if has_planes else 0)]


def request(
    backend: Backend,
    image: Array,
    *,
    layout: str | None,
    color: str,
    mask: Array | None = None,
    nodata: float | None = None,
) -> Request:
    """Check the arguments that say which pixels are meant."""
    dtype = check_dtype("image", image.dtype)
    axes = axes_of(layout, image.ndim, image.shape if layout is None else None)
    view = axes.canonical(image)
    channels = view.shape[1] if "C" in axes.letters else 1
    luma = check_color(color, channels, dtype)
    alpha = channels == 4
    pixels = Pixels(
        view[:, :3] if alpha else view,
        None if mask is None else _canonical_mask(mask, image, axes),
        check_nodata(nodata, dtype),
        luma,
        alpha,
    )
    return Request(backend, image, axes, pixels)


def check_kind(name: str, array: Any, image: Array) -> None:
    """Raise unless an array is of the library of the image."""
    if type(array) is not type(image) and not (
        isinstance(array, np.ndarray) and isinstance(image, np.ndarray)
    ):
        raise TypeError(f"{name} must be an array of the image's kind, got {type(array).__name__}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {_listed(choices)}, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {_listed(choices)}, got {value!r}")


@functools.cache
def check_dtype(name: str, dtype: Any) -> np.dtype:
    """Return `dtype` as NumPy's; raise unless images may have it."""
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {dtype}") from None
    if dtype.newbyteorder("=").name not in DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {', '.join(DTYPES)}, got {dtype}")
    return dtype


def axes_of(layout: str | None, ndim: int, shape: tuple[int, ...] | None = None) -> Axes:
    """Check a layout; `shape` only helps to suggest one where it is missing."""
    if layout is None:
        if ndim not in (1, 2):
            raise ValueError(_missing_layout(ndim, shape or ()))
        layout = "HW"[-ndim:]
    elif not isinstance(layout, str):
        raise TypeError(f"layout must be a string such as 'HWC', got {type(layout).__name__}")
    return _axes_of(layout, ndim)


@functools.cache
def _axes_of(layout: str, ndim: int) -> Axes:
    unknown = set(layout) - set(_BATCH + "C" + _SPACE)
    if unknown or len(set(layout)) < len(layout) or {"N", "T"} <= set(layout):
        raise ValueError(
            "layout must name each axis once by one of the letters N (or T: independent images), "
            f"C (channels), D H W (space), got {layout!r}"
        )
    if len(layout) != ndim:
        raise ValueError(f"layout must have one letter for each of the image's {ndim} axes, got {layout!r}")
    if not set(layout) & set(_SPACE):
        raise ValueError(f"layout must have at least one of the axes D, H, W, got {layout!r}")
    letters = layout.replace("T", "N")
    order = tuple(letters.index(letter) for letter in _CANONICAL if letter in letters)
    index = tuple(slice(None) if letter in letters else None for letter in _CANONICAL)
    return Axes(order, index, "".join(letters[i] for i in order))


def _missing_layout(ndim: int, shape: tuple[int, ...]) -> str:
    if ndim == 0:
        return "image must have at least one axis, got none"
    likely = {
        3: ["'HWC' (color, channels last)", "'CHW'", "'NHW' (a stack of images)", "'DHW' (a volume)"],
        4: ["'NHWC' (color images, channels last)", "'NCHW'", "'NDHW' (volumes)"],
    }.get(ndim, ["'NCDHW'"])
    if ndim in (3, 4) and shape[-1] > 4:
        likely = [*likely[1:], likely[0]]
    return f"layout must be given for an image of {ndim} axes, for example {', '.join(likely)}; got None"


def check_color(color: str, channels: int, dtype: np.dtype) -> Order | None:
    """Return the channels' order where the luma is to be equalized, None where each channel is."""
    check_choice("color", color, COLORS)
    if color == "channels" or channels == 1:
        return None
    if channels not in (3, 4):
        raise ValueError(f"color={color!r} takes 1, 3 or 4 channels, got {channels}; use color='channels'")
    if dtype.kind != "u":
        raise ValueError(f"color={color!r} takes uint8 and uint16 images, got {dtype}; use color='channels'")
    return "bgr" if color == "luma-bgr" else "rgb"


def check_nodata(nodata: Any, dtype: np.dtype) -> float | int | None:
    """Return `nodata` as a value that `dtype` holds exactly."""
    if nodata is None:
        return None
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
    original = [axes.letters[axes.order.index(i)] for i in range(len(axes.order))]
    shared = [letter for letter in original if letter != "C"]
    spatial = [letter for letter in shared if letter != "N"]
    for letters in (shared, spatial):
        if mask.shape == tuple(sizes[letter] for letter in letters):
            view = _axes_of("".join(letters), len(letters)).canonical(mask)
            return view if view.dtype == np.bool_ else view != 0
    expected = tuple(sizes[letter] for letter in shared)
    raise ValueError(f"mask must have the image's shape without its channels, {expected}, got {mask.shape}")


def check_bins(bins: Any, value_range: Any, dtype: np.dtype) -> tuple[int, tuple[float, float] | None]:
    """Check what says how a floating image is counted; return (bins, value_range)."""
    if dtype.kind != "f":
        for name, value in (("bins", bins), ("value_range", value_range)):
            if value is not None:
                raise ValueError(f"{name} is for floating images: {dtype} has one bin a value; got {value}")
        return _rules.levels_of(dtype), None
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


def _pair(name: str, value: Any) -> tuple[float, float]:
    """Return (low, high) as floats, low < high."""
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two numbers (low, high), got {value!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name} must be finite with low < high, got {value}")
    return low, high


def check_rule(rule: str, color: Literal["luma"] | Order | None, dtype: np.dtype) -> str:
    """Return the rule in force: floating images have one only."""
    check_choice("rule", rule, _rules.NAMES)
    if dtype.kind == "f":
        if rule not in ("opencv", "skimage"):
            raise ValueError(
                f"rule={rule!r} is for integer images; {dtype} takes 'skimage' (the default there)"
            )
        return "skimage"
    if rule == "skimage" and color is not None:
        raise ValueError(
            "rule='skimage' gives fractions, which color='luma' cannot use; use color='channels'"
        )
    return rule


def check_out(out: Any, request: Request, dtype: np.dtype) -> Array:
    """Return `out`, or a new array where it is None."""
    backend, image = request.backend, request.image
    if out is None:
        return backend.empty_like(image, dtype)
    check_kind("out", out, image)
    if out.shape != image.shape:
        raise ValueError(f"out must have the image's shape {image.shape}, got {out.shape}")
    if not isinstance(out, np.ndarray) and out.device != image.device:
        raise ValueError(f"out must be on the image's device {image.device}, got {out.device}")
    if out.dtype != dtype:
        raise TypeError(f"out must have the result's dtype {dtype}, got {out.dtype}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    if backend.overlap(out, image) and not _same_memory(out, image):
        raise ValueError("out must be the image itself or share no memory with it, got a partial overlap")
    return out


def _same_memory(a: Array, b: Array) -> bool:
    """Tell whether two arrays of one shape are the same elements in the same order."""
    return a is b or (_address(a) == _address(b) and a.strides == b.strides and a.dtype == b.dtype)


def _address(array: Array) -> int:
    interface = "__array_interface__" if isinstance(array, np.ndarray) else "__cuda_array_interface__"
    return getattr(array, interface)["data"][0]


def _listed(choices: tuple[str, ...]) -> str:
    return ", ".join(map(repr, choices))
