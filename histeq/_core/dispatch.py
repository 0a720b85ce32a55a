"""Where a backend is chosen: by the caller's word, the environment, or the type of the array."""

import functools
import importlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from histeq._core.backend import Backend

# Every backend, with the command that adds it where its library is missing.
_BACKENDS = {
    "numba": "pip install numba",
    "numpy": "pip install numpy",
    "cupy": "pip install cupy-cuda12x, or cupy-cuda13x for a driver of CUDA 13",
}


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What `histeq.backends` tells of one backend.

    Attributes
    ----------
    name : str
        What `backend=` and ``HISTEQ_BACKEND`` take.
    available : bool
        Whether it works here.
    reason : str
        Why it does not, and the command that would change it; empty where it works.
    device : str
        The processor that does its work; empty where it does not work.
    """

    name: str
    available: bool
    reason: str
    device: str


def backends() -> list[BackendInfo]:
    """List every backend, the available and the others.

    Returns
    -------
    list of BackendInfo
        The one that serves NumPy arrays by default comes first.

    Examples
    --------
    >>> import histeq
    >>> [b.name for b in histeq.backends()]
    ['numba', 'numpy', 'cupy']
    """
    return [_info(name) for name in _BACKENDS]


def _info(name: str) -> BackendInfo:
    try:
        return BackendInfo(name, True, "", _load(name).device())
    except ImportError as error:
        return BackendInfo(name, False, _unavailable(name, error), "")


def _unavailable(name: str, error: ImportError) -> str:
    return f"{error}; to add it: {_BACKENDS[name]}"


@functools.cache
def _load(name: str, module: str = "backend") -> Backend:
    """Import a backend's module; ImportError where its library is missing or does not work."""
    found: ModuleType = importlib.import_module(f"histeq._backends.{name}.{module}")
    return cast(Backend, found)


def choose(image: Any, backend: str | None) -> Backend:
    """Return the backend for an image.

    Raises
    ------
    TypeError
        If no backend takes arrays of this type.
    ValueError
        If `backend` or ``HISTEQ_BACKEND`` names none.
    RuntimeError
        If the named backend is not available here; the message has the command that adds it.
    """
    kind = cast(Hashable, type(image))  # a class is hashable, whatever mypy says
    if backend is None:
        return _usual(kind)
    _default_for(kind)  # raises where no backend takes such arrays, whatever the name
    return _wanted(kind, backend, "backend")


@functools.cache
def _usual(kind: Any) -> Backend:
    """Return the backend for arrays of a type where the caller names none.

    The environment is read once: that takes as long as a small image.
    """
    default, name = _default_for(kind), os.environ.get("HISTEQ_BACKEND")
    return _wanted(kind, name, "HISTEQ_BACKEND") if name else default()


def _wanted(kind: Any, name: Any, source: str) -> Backend:
    """Return the backend of a name, if it serves arrays of this type."""
    if not isinstance(name, str):
        raise TypeError(f"backend must be one of {', '.join(_BACKENDS)}, got {type(name).__name__}")
    if name not in _BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(_BACKENDS)}, got {name!r}")
    return _serving(kind, named(name, source))


def named(name: str, source: str = "backend") -> Backend:
    """Return a backend by its name; RuntimeError, with the command that adds it, if it is not available."""
    try:
        return _load(name)
    except ImportError as error:
        raise RuntimeError(f"{source}={name!r} is not available: {_unavailable(name, error)}") from error


def _serving(kind: Any, backend: Backend) -> Backend:
    """Return `backend`, in its form for such arrays; TypeError if they are where it does not reach."""
    if backend.name == "cupy" and not _is_cupy(kind):
        return _load("cupy", "streaming")
    if backend.name != "cupy" and _is_cupy(kind):
        raise TypeError(
            f"image must be in host memory for backend={backend.name!r}, got a CuPy array; "
            "cupy.asnumpy(image) brings it over"
        )
    return backend


@functools.cache
def _is_cupy(kind: type) -> bool:
    return any(
        base.__module__.partition(".")[0] == "cupy" and base.__name__ == "ndarray" for base in kind.__mro__
    )


@functools.cache
def _default_for(kind: type) -> Callable[[], Backend]:
    """Return what finds the backend for arrays of a type; nothing is imported before it is called."""
    if any(base.__module__ == "numpy.ma" or base.__name__ == "MaskedArray" for base in kind.__mro__):
        raise TypeError("image must not be a masked array: pass image.data with mask=~image.mask")
    if any(base.__module__ == "numpy" and base.__name__ == "ndarray" for base in kind.__mro__):
        return _fastest_on_cpu
    if _is_cupy(kind):
        return functools.partial(named, "cupy")
    raise TypeError(f"image must be an array (numpy.asarray makes one), got {kind.__name__}")


def _fastest_on_cpu() -> Backend:
    """Return Numba's backend, or NumPy's where Numba is not installed or does not work."""
    try:
        return _load("numba")
    except ImportError:
        return _load("numpy")
