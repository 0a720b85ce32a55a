"""How a CPU kernel is declared and compiled.

A kernel is written once and compiled for one or more dtypes, each with one explicit signature, when it
is first used. Each compiled variant is a function of its own name (`histogram_16_u16`) with a cache entry
of its own: several signatures in one cached function corrupt Numba's index when two processes compile
at once. A kernel whose instructions depend on the processor is declared with `tiers.tiered_kernel` instead.

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
    """A kernel that is the same on every processor; each dtype tag is an attribute, a compiled variant."""

    def __init__(self, function: FunctionType, signatures: dict[str, str]) -> None:
        self._function = function
        self._signatures = signatures
        self.__doc__ = function.__doc__

    @property
    def name(self) -> str:
        """The name of the kernel's function."""
        return self._function.__name__

    def __getattr__(self, tag: str) -> Callable[..., None]:
        if tag.startswith("_") or tag not in self._signatures:
            raise AttributeError(f"kernel {self._function.__name__} has no variant {tag!r}")
        with _lock:
            if tag not in self.__dict__:  # from now on Python finds the attribute itself
                self.__dict__[tag] = self._compile(tag)
        variant: Callable[..., None] = self.__dict__[tag]
        return variant

    def _compile(self, tag: str) -> Callable[..., None]:
        """Return a new compiled variant."""
        return compiled(self._function, f"{self.name}_{tag}", self._signatures[tag])

    def variants(self) -> dict[str, Callable[..., None]]:
        """Return every compiled variant that this processor runs, by its tag."""
        return {tag: getattr(self, tag) for tag in self._signatures}


def kernel(**signatures: str) -> Callable[[Any], Kernel]:
    """Declare a kernel with one signature per dtype tag: ``@kernel(u8="void(...)", u16="void(...)")``."""
    return lambda function: Kernel(function, signatures)


_INLINED: dict[Callable[..., Any], Callable[..., Any]] = {}


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a function that kernels call."""
    _INLINED[function] = inline
    return _declared(function)


def inline_per_pixel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare a function that kernels call for every pixel, with arrays among its arguments.

    It is inlined before Numba adds reference counting, which would cost more than the function's own work.
    Compilation takes far longer that way, so this is for small functions only.
    """
    _INLINED[function] = inline_per_pixel
    return _declared(function, inline="always")


def _declared(function: Callable[..., Any], **options: str) -> Callable[..., Any]:
    # Without the wrapper for callers in C, which these functions do not have, compilation is a fifth faster.
    register = numba.extending.register_jitable(no_cfunc_wrapper=True, **options)
    declared: Callable[..., Any] = register(function)
    return declared


def declaration_of(function: Any) -> Callable[..., Any] | None:
    """Return the decorator that declared a function for use in kernels; None if none did."""
    return _INLINED.get(function) if isinstance(function, FunctionType) else None


@functools.cache
def digest_of_sources() -> str:
    """Return a digest of all kernels' sources, part of every cache entry's name.

    Numba compiles a cached function anew when its own file changes, but not when a file does whose functions
    it calls.
    """
    return _digest(Path(__file__).parents[1])


def _digest(folder: Path) -> str:
    """Return a digest of the Python files in a folder and the folders in it."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def compiled(function: FunctionType, name: str, signature: str) -> Callable[..., None]:
    """Return a function compiled for one signature, cached on disk under its name where that is possible."""
    name = f"{name}_{digest_of_sources()}"
    variant = FunctionType(function.__code__, function.__globals__, name)
    variant.__qualname__ = name
    variant.__module__ = function.__module__
    result: Callable[..., None]
    try:
        result = numba.njit(signature, nogil=True, cache=True, error_model="numpy")(variant)
    except RuntimeError as error:  # neither the package's folder nor the user's cache can be written
        if "cannot cache" not in str(error):
            raise
        result = numba.njit(signature, nogil=True, error_model="numpy")(variant)
    return result
