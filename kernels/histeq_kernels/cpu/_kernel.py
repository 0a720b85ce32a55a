"""The one way to declare a CPU kernel.

A kernel is written once and compiled for one or more dtypes, each with one explicit signature, when it
is first used. Each compiled variant is a function of its own name (`histogram_u8`) with a cache entry of
its own: several signatures in one cached function corrupt Numba's index when two processes compile
at once.

Kernels take inputs, parameters, outputs, in this order; they allocate nothing, return nothing and release
the GIL. Inputs may be read-only. `fastmath` stays off: the results are exact.
"""

import functools
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba

_lock = threading.Lock()

# Signature fragments: read-only inputs, and outputs. Flat ones are contiguous; planes (depth, rows,
# columns) have any strides.
COUNTS, COUNTS_OUT = "Array(int64, 1, 'C', readonly=True)", "int64[::1]"


def flat(element: str) -> str:
    """Return the type of a contiguous 1-D input."""
    return f"Array({element}, 1, 'C', readonly=True)"


def plane(element: str) -> str:
    """Return the type of a strided (depth, rows, columns) input."""
    return f"Array({element}, 3, 'A', readonly=True)"


def plane_out(element: str) -> str:
    """Return the type of a strided (depth, rows, columns) output."""
    return f"Array({element}, 3, 'A')"


class Kernel:
    """The variants of one kernel, an attribute a dtype tag, compiled when first asked for."""

    def __init__(self, function: FunctionType, signatures: dict[str, str]) -> None:
        self._function = function
        self._signatures = signatures
        self.__doc__ = function.__doc__

    def __getattr__(self, tag: str) -> Callable[..., None]:
        if tag.startswith("_") or tag not in self._signatures:
            raise AttributeError(f"kernel {self._function.__name__} has no variant {tag!r}")
        with _lock:
            if tag not in self.__dict__:
                self.__dict__[tag] = _compile(self._function, tag, self._signatures[tag])
        variant: Callable[..., None] = self.__dict__[tag]
        return variant


def kernel(**signatures: str) -> Callable[[Any], Kernel]:
    """Declare a kernel with one signature a dtype tag: ``@kernel(u8="void(...)", u16="void(...)")``."""

    def declare(function: FunctionType) -> Kernel:
        return Kernel(function, signatures)

    return declare


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a function that kernels call."""
    compiled: Callable[..., Any] = numba.extending.register_jitable(function)
    return compiled


def inline_per_pixel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a function that kernels call for every pixel, with arrays among its arguments.

    It is written into its caller before Numba counts references, which would cost more than its work.
    Compiling takes far longer so: this is for small functions only.
    """
    compiled: Callable[..., Any] = numba.extending.register_jitable(inline="always")(function)
    return compiled


@functools.cache
def _sources() -> str:
    """Return a digest of all kernels' sources, part of every cache entry's name.

    Numba compiles a cached function anew when its own file changes, but not when a file does whose functions
    it calls.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _compile(function: FunctionType, tag: str, signature: str) -> Callable[..., None]:
    name = f"{function.__name__}_{tag}_{_sources()}"
    variant = FunctionType(function.__code__, function.__globals__, name)
    variant.__qualname__ = name
    variant.__module__ = function.__module__
    try:
        compiled = numba.njit(signature, nogil=True, cache=True, error_model="numpy")(variant)
    except RuntimeError as error:  # neither the package's folder nor the user's cache can be written
        if "cannot cache" not in str(error):
            raise
        compiled = numba.njit(signature, nogil=True, error_model="numpy")(variant)
    result: Callable[..., None] = compiled
    return result
