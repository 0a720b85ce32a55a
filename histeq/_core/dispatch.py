"""The choice of a backend: by the argument `backend`, the environment or the type of the array."""

import functools
import importlib
import os
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import numpy as np
from histeq_kernels.locks import importing

from histeq._core.array_types import library_of
from histeq._core.backend import Backend, FastPath

# Every backend, with the command that installs its library.
_BACKENDS = {
    "numba": "pip install numba",
    "numpy": "pip install numpy",
    "cupy": "pip install cupy-cuda12x, or cupy-cuda13x for a driver of CUDA 13",
}

# What numpy.asarray does with other libraries' objects, which are not taken as they are.
_IN_MEMORY = {
    "dask": "computes it, all at once",
    "zarr": "reads it, all at once",
    "h5py": "reads it, all at once",
    "xarray": "gives its values, and {name}.copy(data=result) labels the result",
    "PIL": "makes one, and PIL.Image.fromarray(result) an image of the result",
    "pandas": "gives its values",
}

# What to pass in place of a masked array. Each works where nothing is masked, too.
_WITHOUT_MASK = {
    "image": "image.data with mask=~numpy.ma.getmaskarray(image)",
    "reference": "reference.data with reference_mask=~numpy.ma.getmaskarray(reference)",
    "mask": "mask.filled(False)",
    "counts": "counts.filled(0)",
}


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A backend as `histeq.backends` describes it.

    Attributes
    ----------
    name : str
        The name that `backend=` and the environment variable ``HISTEQ_BACKEND`` take.
    available : bool
        Whether it works on this machine.
    reason : str
        Why it does not work, and the command that adds it; empty where it works.
    device : str
        The processor that it uses; empty where it does not work.
    """

    name: str
    available: bool
    reason: str
    device: str


def backends() -> list[BackendInfo]:
    """List all backends, available or not.

    Returns
    -------
    list of BackendInfo
        The backend that serves NumPy arrays by default comes first.

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
    except Exception as error:
        return BackendInfo(name, False, _reason(name, error), "")


def _reason(name: str, error: Exception) -> str:
    """Say why a backend does not work. Libraries fail with anything at all when they are imported."""
    if isinstance(error, ImportError):
        return f"{error}; to add it: {_BACKENDS[name]}"
    return f"{type(error).__name__}: {error}"


@functools.cache
def _load(name: str, module: str = "backend") -> Backend:
    """Import a backend's module; ImportError where its library is missing, anything where it is broken."""
    with importing():
        found: ModuleType = importlib.import_module(f"histeq._backends.{name}.{module}")
    return cast(Backend, found)


def choose(image: Any, backend: str | None, name: str = "image") -> Backend:
    """Return the backend for an array; `name` is the argument that an error names.

    Raises
    ------
    TypeError
        If no backend takes arrays of this type.
    ValueError
        If `backend` or ``HISTEQ_BACKEND`` is not the name of a backend.
    RuntimeError
        If the backend asked for is not available here; the message has the command that adds it.
    """
    return _for_type(type(image), backend, name)


@functools.cache
def fast_path(backend: str | None) -> FastPath | None:
    """Return the fast path of the backend for NumPy arrays, or None if it has no fast path.

    Also return None if `backend` is invalid or not available: the general path raises the error.
    """
    try:
        return _for_type(np.ndarray, backend, "image").fast_path
    except (TypeError, ValueError, RuntimeError):
        return None


def _for_type(kind: Any, backend: str | None, name: str) -> Backend:
    return _default(kind, name) if backend is None else _named_for(kind, backend, "backend", name)


@functools.cache
def _default(kind: type, name: str) -> Backend:
    """Return the backend for arrays of a type if the caller does not name one.

    The environment is read once: reading it takes as long as equalizing a small image.
    """
    _check_type(kind, name)
    wanted = os.environ.get("HISTEQ_BACKEND")
    if wanted:
        return _named_for(kind, wanted, "HISTEQ_BACKEND", name)
    return named("cupy") if library_of(kind) == "cupy" else fastest_on_cpu()


def _named_for(kind: type, backend: Any, source: str, name: str) -> Backend:
    """Return the named backend, in its variant for arrays of a type."""
    _check_type(kind, name)
    if not isinstance(backend, str):
        raise TypeError(f"backend must be one of {', '.join(_BACKENDS)}, got {type(backend).__name__}")
    if backend not in _BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(_BACKENDS)}, got {backend!r}")
    chosen, on_device = named(backend, source), library_of(kind) == "cupy"
    if backend == "cupy":
        return chosen if on_device else _load("cupy", "streaming")
    if on_device:
        raise TypeError(
            f"{name} must be in host memory for backend={backend!r}, got a CuPy array; "
            f"cupy.asnumpy({name}) brings it over"
        )
    return chosen


def named(name: str, source: str = "backend") -> Backend:
    """Return a backend by its name; RuntimeError, with the reason, if it is not available."""
    try:
        return _load(name)
    except Exception as error:
        raise RuntimeError(f"{source}={name!r} is not available: {_reason(name, error)}") from error


def _check_type(kind: type, name: str) -> None:
    """Raise TypeError unless a backend takes arrays of this type."""
    refuse_masked(kind, name)
    if library_of(kind) not in ("numpy", "cupy"):
        raise TypeError(_no_array(kind, name))


def _no_array(kind: type, name: str) -> str:
    """Say what to pass in place of an object that no backend takes."""
    module, _, _ = kind.__module__.partition(".")
    if module in _IN_MEMORY:
        does = _IN_MEMORY[module].format(name=name)
        got = f"got {kind.__name__} of {module}"
        return f"{name} must be an array in memory, {got}: numpy.asarray({name}) {does}"
    return f"{name} must be an array (numpy.asarray makes one), got {kind.__name__}"


def refuse_masked(kind: type, name: str) -> None:
    """Raise TypeError for masked arrays, whatever the argument."""
    if library_of(kind) == "masked":
        remedy = _WITHOUT_MASK.get(name, f"{name}.data")
        if hasattr(kind, "unmasked"):  # Astropy's
            remedy = remedy.replace(".data", ".unmasked").replace(
                f"numpy.ma.getmaskarray({name})", f"{name}.mask"
            )
        raise TypeError(f"{name} must not be a masked array: pass {remedy}")


@functools.cache
def fastest_on_cpu() -> Backend:
    """Return Numba's backend, or NumPy's, with a warning, where Numba is not installed or does not work."""
    try:
        return _load("numba")
    except Exception as error:
        reason = _reason("numba", error)
    warnings.warn(
        "images are equalized by NumPy, often a hundred times slower, because Numba does not work "
        f"({reason}); backend='numpy' and HISTEQ_BACKEND=numpy ask for that without this warning",
        RuntimeWarning,
        stacklevel=2,
    )
    return _load("numpy")
