"""Layouts: which axis of an array is which, and how an array becomes canonical."""

import functools
from dataclasses import dataclass

from histeq._core.backend import Array

SPACE = "DHW"
_CANONICAL = "NCDHW"
# What other fields call the axes: tifffile, OME and ITK S Z Y X, deep learning B; spaces as in einops.
_OTHER_NAMES = str.maketrans("BSZYX", "NCDHW", " ,")


@dataclass(frozen=True, slots=True)
class Axes:
    """How an array of some layout becomes canonical: transpose by `order`, then index by `index`."""

    order: tuple[int, ...]
    index: tuple[slice | None, ...]
    letters: str
    """The layout in canonical order, N for T."""
    spatial: str
    """Its spatial axes, in the order of the array's axes."""

    def canonical(self, array: Array) -> Array:
        """Return `array` as a view with the axes N C D H W."""
        return array.transpose(self.order)[self.index]


def axes_of(layout: str | None, shape: tuple[int, ...]) -> Axes:
    """Check the layout of an array of this shape; ValueError or TypeError where it does not fit."""
    ndim = len(shape)
    if layout is None:
        if ndim not in (1, 2):
            raise ValueError(_missing_layout(shape))
        layout = "HW"[-ndim:]
    elif not isinstance(layout, str):
        raise TypeError(f"layout must be a string such as 'HWC', got {type(layout).__name__}")
    return axes_named(layout, ndim)


@functools.cache
def axes_named(layout: str, ndim: int) -> Axes:
    """Return the axes of a layout for arrays of `ndim` axes; ValueError where it is none."""
    if not _is_layout(layout):
        ours = layout.upper().translate(_OTHER_NAMES)
        raise ValueError(
            "layout must name each axis once by one of the letters N (or T: independent images), "
            f"C (channels), D H W (space), got {layout!r}" + (f"; use {ours!r}" if _is_layout(ours) else "")
        )
    if len(layout) != ndim:
        raise ValueError(f"layout must have one letter for each of the image's {ndim} axes, got {layout!r}")
    if not set(layout) & set(SPACE):
        raise ValueError(f"layout must have at least one of the axes D, H, W, got {layout!r}")
    letters = layout.replace("T", "N")
    order = tuple(letters.index(letter) for letter in _CANONICAL if letter in letters)
    index = tuple(slice(None) if letter in letters else None for letter in _CANONICAL)
    spatial = "".join(letter for letter in letters if letter in SPACE)
    return Axes(order, index, "".join(letters[i] for i in order), spatial)


def _is_layout(layout: str) -> bool:
    """Tell whether each letter names an axis, and none the same as another."""
    letters = layout.replace("T", "N")
    return set(letters) <= set(_CANONICAL) and len(set(letters)) == len(letters)


def _missing_layout(shape: tuple[int, ...]) -> str:
    ndim = len(shape)
    if ndim == 0:
        return "image must have at least one axis, got none"
    likely = {
        3: ["'HWC' (color, channels last)", "'CHW'", "'NHW' (a stack of images)", "'DHW' (a volume)"],
        4: ["'NHWC' (color images, channels last)", "'NCHW'", "'NDHW' (volumes)"],
    }.get(ndim, ["'NCDHW'"])
    if ndim in (3, 4) and shape[-1] > 4:
        likely = [*likely[1:], likely[0]]
    return (
        f"layout must be given for an image of {ndim} axes, for example {', '.join(likely)}; got None "
        "(documentation: layouts)"
    )
