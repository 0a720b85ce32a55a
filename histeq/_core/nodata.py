"""nodata is a state, not a level: it is not counted and passes through, and no other pixel comes out as it.

A pixel that would come out as nodata gets the next value instead, as GDAL's warper has it. Every backend
reproduces these functions; where a table tells what pixels become, it is the table that is changed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._core.backend import Pixels

Array = NDArray[Any]


def beside(nodata: float, dtype: np.dtype, lowest: float | None) -> float | int:
    """Return what takes nodata's place in a result: the next value up where nodata is the lowest, else down.

    Parameters
    ----------
    dtype : dtype
        The result's.
    lowest : number, optional
        The lowest value that the result may have; by default the smallest of an integer dtype, and 0 for
        fractions.
    """
    if dtype.kind != "f":
        bottom = int(np.iinfo(dtype).min) if lowest is None else lowest
        return int(nodata) + (1 if nodata <= bottom else -1)
    with np.errstate(all="ignore"):
        value, bottom = dtype.type(nodata), dtype.type(0 if lowest is None else lowest)
        return float(np.nextafter(value, dtype.type(np.inf if value <= bottom else -np.inf)))


def is_nodata(channels: Sequence[Array], pixels: Pixels) -> NDArray[np.bool_]:
    """Tell which pixels are nodata: in every channel."""
    if pixels.nodata is None:
        return np.zeros(channels[0].shape, np.bool_)
    found: NDArray[np.bool_] = channels[0] == pixels.nodata
    for channel in channels[1:]:
        found &= channel == pixels.nodata
    return found


def apart(channels: Sequence[Array], pixels: Pixels) -> Sequence[Array]:
    """Return the channels of mapped pixels, those moved that came out as nodata."""
    if pixels.nodata is None:
        return channels
    at = is_nodata(channels, pixels)
    if not at.any():
        return channels
    return [np.where(at, channel.dtype.type(pixels.beside_nodata), channel) for channel in channels]


def table_apart(table: Array, pixels: Pixels) -> Array:
    """Return tables (..., levels) of integers that map nodata to itself and nothing else to it."""
    if pixels.nodata is None:
        return table
    moved = np.where(is_nodata([table], pixels), table.dtype.type(pixels.beside_nodata), table)
    moved[..., int(pixels.nodata) - int(np.iinfo(pixels.image.dtype).min)] = pixels.nodata
    return moved
