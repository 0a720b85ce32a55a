"""OpenCV's 8- and 16-bit YCrCb (cvtColor) in NumPy, the reference for every backend; and alpha channels.

The arithmetic is fixed point with 14 fractional bits. Cr and Cb depend on the pixel alone, so that an image
is equalized pixel by pixel once the table for Y is known, and no YCrCb image is ever made.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]
_HALF = 1 << 13


def luma(red: Plane, green: Plane, blue: Plane) -> NDArray[np.int64]:
    """Return the Y of YCrCb."""
    return (4899 * _wide(red) + 9617 * _wide(green) + 1868 * _wide(blue) + _HALF) >> 14


def replace_luma(red: Plane, green: Plane, blue: Plane, table: Plane) -> tuple[Plane, Plane, Plane]:
    """Return the RGB planes of an image after Y is mapped through `table`, with Cr and Cb unchanged."""
    return with_luma(red, green, blue, table[luma(red, green, blue)])


def with_luma(red: Plane, green: Plane, blue: Plane, new: Plane) -> tuple[Plane, Plane, Plane]:
    """Return the RGB planes of an image with Y replaced by `new`, and Cr and Cb unchanged."""
    top = np.iinfo(red.dtype).max
    centre = (top + 1) // 2
    y = luma(red, green, blue)
    cr = np.clip((11682 * (_wide(red) - y) + (centre << 14) + _HALF) >> 14, 0, top) - centre
    cb = np.clip((9241 * (_wide(blue) - y) + (centre << 14) + _HALF) >> 14, 0, top) - centre
    new = _wide(new)
    planes = (
        new + ((22987 * cr + _HALF) >> 14),
        new + ((-5636 * cb - 11698 * cr + _HALF) >> 14),
        new + ((29049 * cb + _HALF) >> 14),
    )
    r, g, b = (np.clip(plane, 0, top).astype(red.dtype) for plane in planes)
    return r, g, b


def _wide(plane: Plane) -> NDArray[np.int64]:
    return plane.astype(np.int64)


def has_alpha_by_default(color: str, channels: int) -> bool:
    """Return whether the last channel is alpha by default: of two or four, unless `color` is "channels"."""
    return color != "channels" and channels in (2, 4)


def alpha_for(dtype: np.dtype, alpha: Any) -> Any:
    """Return an alpha channel for a result of some dtype: scaled to it, a fraction beside fractions."""
    if alpha.dtype.kind == "f" or alpha.dtype == dtype:
        return alpha
    fraction = alpha / np.iinfo(alpha.dtype).max
    if dtype.kind == "f":
        return fraction
    return (fraction * (alpha > 0) * np.iinfo(dtype).max + 0.5).astype(dtype)
