"""Recognition of an array's library by the names of its type's classes, without importing any library."""

import functools
from typing import Literal

_MASKED = ("MaskedArray", "Masked")
Library = Literal["numpy", "masked", "cupy", "torch", "jax", "dask", "xarray", "other"]


@functools.cache
def library_of(kind: type) -> Library:
    """Return the library of an array type or of a subclass of one.

    "masked" stands for the masked arrays of NumPy and of Astropy, "other" for all other types.
    """
    if any(base.__module__ == "numpy.ma" or base.__name__ in _MASKED for base in kind.__mro__):
        return "masked"
    for base in kind.__mro__:
        match base.__module__.partition(".")[0], base.__name__:
            case "numpy", "ndarray":
                return "numpy"
            case "cupy", "ndarray":
                return "cupy"
            case "torch", "Tensor":
                return "torch"
            case "jax" | "jaxlib", "Array" | "ArrayImpl" | "Tracer":
                return "jax"
            case "dask", "Array":
                return "dask"
            case "xarray", "DataArray" | "Dataset":
                return "xarray"
    return "other"
