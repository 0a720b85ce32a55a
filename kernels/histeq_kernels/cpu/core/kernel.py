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
import marshal
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba

from histeq_kernels.cpu.core.cache import cache_of
from histeq_kernels.locks import compiling

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
        with compiling:
            if tag not in self.__dict__:  # from now on Python finds the attribute itself
                self.__dict__[tag] = self._compile(tag)
        variant: Callable[..., None] = self.__dict__[tag]
        return variant

    def _compile(self, tag: str) -> Callable[..., None]:
        """Return a new compiled variant."""
        return compiled(self._function, f"{self.name}_{tag}", self._signatures[tag])


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


def _declared(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    # Without the wrapper for callers in C, which these functions do not have, compilation is a fifth faster.
    # Left to itself LLVM calls the larger ones: up to 25 nanoseconds, because of their array arguments.
    register = numba.extending.register_jitable(no_cfunc_wrapper=True, forceinline=True, **options)
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
    folder = Path(__file__).parents[1]
    return _digest(_sources(folder) or _bytecode([str(folder)], "histeq_kernels.cpu."))


def _digest(contents: dict[str, bytes]) -> str:
    """Return a digest of contents by their names."""
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:8]


def _sources(folder: Path) -> dict[str, bytes]:
    """Return the Python files in a folder and the folders in it; none where they are in an archive."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.py")}


def _bytecode(path: list[str], prefix: str) -> dict[str, bytes]:
    """Return the modules on a path as bytecode, wherever they come from: a zip, an executable."""
    contents = {}
    for module in pkgutil.iter_modules(path, prefix):
        spec: Any = module.module_finder.find_spec(module.name, None)
        contents[module.name] = marshal.dumps(spec.loader.get_code(module.name), 2)  # 2: always the same
        contents |= _bytecode(list(spec.submodule_search_locations or []), f"{module.name}.")
    return contents


def compiled(function: FunctionType, name: str, signature: str) -> Callable[..., None]:
    """Return a function compiled for one signature, cached on disk under its name where that is possible."""
    name = f"{name}_{digest_of_sources()}"
    variant = FunctionType(function.__code__, function.__globals__, name)
    variant.__qualname__ = name
    variant.__module__ = function.__module__
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(variant)
    if dispatcher is not variant:  # as it is where the JIT is off
        dispatcher._cache = cache_of(variant)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
    result: Callable[..., None] = dispatcher
    return result
