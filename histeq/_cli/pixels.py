"""histeq's functions for pictures, whose files determine the layout, the alpha channel and nodata."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq import _files
from histeq._cli.report import one_line
from histeq._files import Picture
from histeq._passes.image import Selection, both, check_bands, nonzero, opaque


def equalized(picture: Picture, *, color: str | None, nodata: Any = "file", **options: Any) -> Picture:
    """Return the picture with its histogram equalized."""
    return _through(histeq.equalize, picture, color=color, nodata=nodata, **options)


def localized(picture: Picture, *, color: str | None, nodata: Any = "file", **options: Any) -> Picture:
    """Return the picture equalized locally (CLAHE)."""
    return _through(histeq.clahe, picture, color=color, nodata=nodata, **options)


def _through(
    function: Callable[..., Any], picture: Picture, *, color: str | None, nodata: Any, **options: Any
) -> Picture:
    what: dict[str, Any] = {
        "layout": picture.layout,
        "color": checked_color(picture, color),
        "alpha": picture.alpha,
    }
    pixels = function(picture.pixels, **what, nodata=nodata_of(picture, nodata), **options)
    return dataclasses.replace(picture, pixels=np.asarray(pixels))


def checked_color(picture: Picture, color: str | None) -> str:
    """Return `color`, by default "luma"; raise ValueError for the luma of bands that have none."""
    check_bands(picture.header, color, picture.alpha)
    return color or "luma"


def nodata_of(picture: Picture, asked: Any) -> Any:
    """Return the nodata value that --nodata gives, by default the file's own."""
    return Selection(nodata=asked).nodata_of(picture.header)


def valid(pixels: NDArray[Any], nodata: Any) -> NDArray[Any]:
    """Return the valid values: those that are finite and not nodata."""
    values = pixels[np.isfinite(pixels)]
    return values if nodata is None else values[values != pixels.dtype.type(nodata)]


def counted(
    picture: Picture, mask: NDArray[np.bool_] | None = None, count_transparent: bool = False
) -> NDArray[np.bool_] | None:
    """Return which pixels are counted, (H, W) or (N, H, W), of those that a mask names; None: all."""
    result = both(mask, picture.valid)
    return both(result, opaque(picture.pixels)) if picture.alpha and not count_transparent else result


def read_mask(path: Path | None, max_pixels: int) -> NDArray[np.bool_] | None:
    """Return the mask in a file, (H, W) or (N, H, W): where any colour of the picture is not zero."""
    if path is None:
        return None
    with one_line(path):
        mask = _files.read(path, max_pixels=max_pixels)
        return nonzero(mask.header, mask.pixels)
