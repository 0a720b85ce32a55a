"""Attributes of arrays by the conventions of CF, as xarray writes them.

Which value is nodata, and what no longer holds when the pixels have changed.
"""

import base64
import contextlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_NODATA = ("_FillValue", "missing_value")
KNOWN = (*_NODATA, "_ARRAY_DIMENSIONS")
"""Attributes whose meaning other formats hold, too."""
_STALE = ("scale_factor", "add_offset", "units", "valid_range", "valid_min", "valid_max", "actual_range")
_STATISTICS = "STATISTICS_"
"""How the names begin of what GDAL computed of the pixels."""


def is_stale(name: object) -> bool:
    """Tell whether an attribute of this name no longer holds when the pixels have changed."""
    return isinstance(name, str) and (name in _STALE or name.startswith(_STATISTICS))


def nodata(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> float | None:
    """Return the value that says that there are no data, if the dtype can represent it.

    The fill value of an array is none: zeros that were never written are pixels like others.
    """
    return representable(next((attributes[name] for name in _NODATA if name in attributes), None), dtype)


def representable(value: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the number that an attribute gives, if the dtype can represent it."""
    if isinstance(value, str):  # xarray writes floats to Zarr 3 so, since JSON has no NaN
        with contextlib.suppress(ValueError, struct.error):
            (value,) = struct.unpack("<d", base64.standard_b64decode(value))
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        number = float(value)
        if dtype.kind == "f":
            return number
        if number.is_integer() and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
            return int(number)
    return None


def with_nodata(attributes: Mapping[str, Any], value: float | None, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the attributes with a value that says that there are no data."""
    if value is None:
        return dict(attributes)
    if dtype.kind == "f":
        return {**attributes, "_FillValue": base64.standard_b64encode(struct.pack("<d", value)).decode()}
    return {**attributes, "_FillValue": int(value)}


def kept(
    attributes: Mapping[str, Any], value: float | None, dtype: np.dtype[Any], same: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes that hold for the new pixels, and which do not.

    Parameters
    ----------
    value : float or None
        The nodata value of the new pixels.
    same : bool
        Whether the new pixels have the dtype of the old ones.
    """
    stale = [name for name in attributes if is_stale(name)]
    left = {name: attribute for name, attribute in attributes.items() if name not in stale}
    before = nodata(left, dtype)
    renamed = before != value and not (before != before and value != value)  # NaN is no other than NaN
    if not same or renamed:
        left = {name: attribute for name, attribute in left.items() if name not in _NODATA}
        left = with_nodata(left, value, dtype)
    return left, stale
