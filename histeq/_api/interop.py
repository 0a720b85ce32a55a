"""Arrays that no backend holds itself (PyTorch, JAX, DLPack, Dask, xarray), and how one gets at them.

A public function that is given one calls itself once more with the backend's own arrays. PyTorch, JAX, Dask,
xarray and CuPy are never imported here unless the caller holds one of their arrays or asks for the backend.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from histeq._core import dispatch
from histeq._core.array_types import library_of

Array = Any
P = ParamSpec("P")
R = TypeVar("R")

_ARRAYS = ("mask", "out", "table", "reference", "reference_mask")


def any_array(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of NumPy's and CuPy's arrays one of any library's arrays.

    The first argument says which library: arrays among the others must be of the same, and so is the result.
    """
    signature = inspect.signature(function)
    first = next(iter(signature.parameters))

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        image = arguments[0] if arguments else options.get(first)
        if type(image) is np.ndarray:
            return function(*arguments, **options)
        if (guest := _guest_for(image)) is None:
            return _call(function, image, arguments, options)
        return guest.call(function, first, signature.bind(*arguments, **options))

    return cast(Callable[P, R], call)


def _call(
    function: Callable[..., Any], image: Any, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Call a function with an array that a backend takes; CuPy's may need no more than a few launches."""
    plans = sys.modules.get("histeq._backends.cupy.plans")
    if plans is None or _library_of(image) != "cupy":
        return function(*arguments, **options)
    return plans.call(function, arguments, options)


def _guest_for(image: Any) -> "_Guest | None":
    """Return how arrays of the image's library are lent; None where a backend takes them, or nobody does."""
    match _library_of(image):
        case "torch":
            return _Torch()
        case "jax":
            return _Jax()
        case "dask":
            return _Dask()
        case "xarray":
            return _Xarray()
        case "other" if _claims(image, "__cuda_array_interface__") or _claims(image, "__dlpack_device__"):
            return _Other()
    return None


def _claims(array: Any, protocol: str) -> bool:
    """Tell whether an object has an attribute; an error of its own means that it has none."""
    try:
        return hasattr(array, protocol)
    except Exception:
        return False


def _library_of(array: Any) -> str:
    kind: Any = type(array)
    return library_of(kind)


class _Guest:
    """How arrays of one library are lent to a backend and its results handed back."""

    def call(self, function: Callable[..., Any], first: str, bound: inspect.BoundArguments) -> Any:
        """Call a function with the arrays lent to a backend; return its result as the library's."""
        options = bound.arguments
        image = options[first]
        for name in _ARRAYS:
            value = options.get(name)
            if value is not None and _library_of(value) != _library_of(image):
                raise TypeError(
                    f"{name} must be an array of the image's kind, {type(image).__name__}, "
                    f"got {type(value).__name__}"
                )
        for name in ("dtype", "out_dtype"):
            if type(options.get(name)).__module__ == "torch":
                options[name] = str(options[name]).removeprefix("torch.")
        out = options.get("out")
        with self.at_home(image):
            lent = {
                name: self.lend(name, options[name], image)
                for name in (first, *_ARRAYS)
                if name != "out" and options.get(name) is not None
            }
            if out is not None:
                lent["out"] = self.lend_out("out", out, image)
            result = _call(function, lent[first], (), {**options, **lent})
            if not hasattr(result, "dtype"):  # TileTables serve images of any library
                return result
            return self.hand_back(result, image) if out is None else out

    @contextmanager
    def at_home(self, image: Any) -> Iterator[None]:
        """Make the image's device and stream the current ones."""
        yield

    def lend(self, name: str, array: Any, image: Any) -> Array:
        """Return an array of the backend with the same elements; `name` is the argument's name in errors."""
        raise NotImplementedError

    def lend_out(self, name: str, out: Any, image: Any) -> Array:
        """Return an array of the backend whose elements become those of `out`."""
        return self.lend(name, out, image)

    def hand_back(self, result: Array, image: Any) -> Any:
        """Return a result as an array of the image's library."""
        raise NotImplementedError


class _Torch(_Guest):
    """PyTorch tensors: those on the CPU share memory with NumPy arrays, those on CUDA with CuPy's.

    What is allocated meanwhile comes from PyTorch's own memory pool, and work goes to its current stream.
    """

    @contextmanager
    def at_home(self, image: Any) -> Iterator[None]:
        if image.device.type == "cpu":
            yield
            return
        _device_type(image.device.type)
        dispatch.named("cupy")
        import cupy

        torch = sys.modules["torch"]

        def allocate(size: int) -> Any:
            memory = torch.empty(size, dtype=torch.uint8, device=image.device)
            owned = cupy.cuda.UnownedMemory(memory.data_ptr(), size, memory, image.device.index)
            return cupy.cuda.MemoryPointer(owned, 0)

        stream = torch.cuda.current_stream(image.device).cuda_stream
        with (
            cupy.cuda.Device(image.device.index),
            _cupy_stream(stream, image.device.index),
            cupy.cuda.using_allocator(allocate),
        ):
            yield

    def lend(self, name: str, array: Any, image: Any) -> Array:
        if array.device != image.device:
            raise TypeError(f"{name} must be on the image's device {image.device}, got {array.device}")
        array = array.detach()
        if array.device.type == "cpu":
            try:
                return array.numpy()
            except (RuntimeError, TypeError) as error:  # bfloat16, sparse, a pending conjugation
                raise TypeError(f"{name} must be a dense tensor of NumPy's dtypes: {error}") from error
        import cupy

        return cupy.from_dlpack(array)  # it knows more dtypes than __cuda_array_interface__

    def lend_out(self, name: str, out: Any, image: Any) -> Array:
        if out.requires_grad:
            raise TypeError(
                "out must not require grad: equalization has no gradient; out.detach() shares its memory"
            )
        return self.lend(name, out, image)

    def hand_back(self, result: Array, image: Any) -> Any:
        torch = sys.modules["torch"]
        if image.device.type == "cpu":
            return torch.from_numpy(np.asarray(result))
        return torch.from_dlpack(result)


def _cupy_stream(address: int, device: int) -> Any:
    """Return another library's stream as CuPy's; the device must be the current one."""
    import cupy

    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(SimpleNamespace(__cuda_stream__=lambda: (0, address)))
    return cupy.cuda.ExternalStream(address, device)  # before CuPy 14, which deprecates it


class _Jax(_Guest):
    """JAX arrays: read where they are; results are new arrays, since JAX's do not change."""

    def lend(self, name: str, array: Any, image: Any) -> Array:
        if any("Tracer" in base.__name__ for base in type(array).__mro__):
            raise TypeError(f"{name} must be a concrete JAX array: call histeq outside of jax.jit")
        if _is_jax_cpu(array):
            return np.asarray(array)
        dispatch.named("cupy")
        import cupy

        return cupy.from_dlpack(array)

    def lend_out(self, name: str, out: Any, image: Any) -> Array:
        raise TypeError("out must be None for JAX arrays, which do not change")

    def hand_back(self, result: Array, image: Any) -> Any:
        jax = sys.modules["jax"]
        # Without this JAX makes int32 of counts, and float32 of the fractions of rule "skimage".
        with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
            if isinstance(result, np.ndarray):
                return jax.numpy.asarray(result)
            # Nothing else makes JAX's own streams wait before they use the memory of a lent image again.
            with result.device:
                sys.modules["cupy"].cuda.get_current_stream().synchronize()
            return jax.numpy.from_dlpack(result)


def _is_jax_cpu(array: Any) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


class _Other(_Guest):
    """Anything with DLPack or ``__cuda_array_interface__``: results are NumPy's or CuPy's."""

    def lend(self, name: str, array: Any, image: Any) -> Array:
        on_cuda = _claims(array, "__cuda_array_interface__")
        try:
            if not on_cuda and array.__dlpack_device__()[0] == 1:  # kDLCPU
                return np.from_dlpack(array)
        except Exception as error:  # whatever the object's own methods raise
            raise _not_lent(name, array, error) from error
        dispatch.named("cupy")
        import cupy

        try:
            return cupy.asarray(array) if on_cuda else cupy.from_dlpack(array)
        except MemoryError:
            raise
        except Exception as error:
            raise _not_lent(name, array, error) from error

    def hand_back(self, result: Array, image: Any) -> Any:
        return result


class _Dask(_Guest):
    """Dask arrays: results are Dask arrays, too, and nothing is computed yet. No backend has a part in it."""

    def call(self, function: Callable[..., Any], first: str, bound: inspect.BoundArguments) -> Any:
        import histeq._dask as lazy

        bound.apply_defaults()
        return lazy.call(function, bound.arguments)


class _Xarray(_Guest):
    """DataArrays and Datasets: the array that they hold is lent, and its result labelled.

    An Equalizer does not take them as frames: it knows of these what it was told.
    """

    def call(self, function: Callable[..., Any], first: str, bound: inspect.BoundArguments) -> Any:
        if first == "frame":
            return function(**bound.arguments)
        import histeq._api.xarray as labels

        return labels.call(any_array(function), bound)


def _not_lent(name: str, array: Any, error: Exception) -> TypeError:
    """Return the error for an object that has less of an array than it claims."""
    return TypeError(
        f"{name} must be an array that DLPack or __cuda_array_interface__ hands over, "
        f"got {type(array).__name__}: {error}"
    )


def _device_type(kind: str) -> None:
    if kind != "cuda":
        raise TypeError(
            f"image must be on the CPU or a CUDA device, got one on {kind!r}; image.cpu() brings it over"
        )
