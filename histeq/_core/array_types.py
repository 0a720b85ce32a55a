"""Which library an array comes from, told by the names of its classes, so that no library is imported."""

import functools
from typing import Literal

Library = Literal["numpy", "masked", "cupy", "torch", "jax", "other"]


@functools.cache
def library_of(kind: type) -> Library:
    """Return the library of an array type, of its subclasses too.

    "masked" stands for NumPy's masked arrays, "other" for everything unknown, arrays or not.
    """
    if any(base.__module__ == "numpy.ma" or base.__name__ == "MaskedArray" for base in kind.__mro__):
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
    return "other"
