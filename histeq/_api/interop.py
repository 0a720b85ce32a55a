"""Arrays that a backend does not hold itself: lent to it, without a copy where that is possible, and back.

A public function that is given a guest calls itself once more with the backend's own arrays. PyTorch, JAX and
CuPy are never imported here unless the caller holds one of their arrays or asks for the backend.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from histeq._core import dispatch as _dispatch

Array = Any

_ARRAYS = ("mask", "out", "table", "reference")


def host_of(image: Any, backend: str | None) -> "Callable[..., Any] | None":
    """Return what serves a call with an image of another library; None: a backend takes it as it is."""
    if type(image) is np.ndarray:
        return None
    library = _library_of(image)
    if library == "torch":
        return functools.partial(_visit, _Torch())
    if library == "jax":
        return functools.partial(_visit, _Jax())
    if library == "other" and (
        hasattr(image, "__cuda_array_interface__") or hasattr(image, "__dlpack_device__")
    ):
        return functools.partial(_visit, _Other())
    return None


def _library_of(array: Any) -> str:
    return _library(type(array))  # type: ignore[arg-type]  # a class is hashable, whatever mypy says


@functools.cache
def _library(kind: type) -> str:
    """Name the library of an array type; by the names of its classes, so that nothing is imported."""
    if any(base.__module__ == "numpy.ma" or base.__name__ == "MaskedArray" for base in kind.__mro__):
        return "masked"
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if (root, base.__name__) in (("numpy", "ndarray"), ("cupy", "ndarray"), ("torch", "Tensor")):
            return root
        if root in ("jax", "jaxlib") and base.__name__ in ("Array", "ArrayImpl", "Tracer"):
            return "jax"
    return "other"


def _visit(
    guest: "_Guest", function: Callable[..., Any], image: Any, backend: str | None, **keywords: Any
) -> Any:
    """Call a public function with the guest's arrays lent to a backend; return its result as the guest's."""
    for name in _ARRAYS:
        value = keywords.get(name)
        if value is not None and _library_of(value) != _library_of(image):
            raise TypeError(
                f"{name} must be an array of the image's kind, {type(image).__name__}, "
                f"got {type(value).__name__}"
            )
    if type(keywords.get("dtype")).__module__ == "torch":
        keywords["dtype"] = str(keywords["dtype"]).removeprefix("torch.")
    with guest.at_home(image):
        out = keywords.get("out")
        lent = {
            n: guest.lend(keywords[n], image) for n in _ARRAYS if n != "out" and keywords.get(n) is not None
        }
        view = guest.lend(image, image)
        if out is not None:
            lent["out"] = guest.lend_out(out, image)
        result = function(view, backend=backend, **{**keywords, **lent})
        if not hasattr(result, "dtype"):  # the tables of tiles serve images of any library
            return result
        return guest.hand_back(result, image) if out is None else guest.deliver(result, out)


class _Guest:
    """How arrays of one library are lent and handed back. The defaults serve libraries that share memory."""

    @contextmanager
    def at_home(self, image: Any) -> Iterator[None]:
        """Make the image's device and stream the current ones."""
        yield

    def lend(self, array: Any, image: Any) -> Array:
        """Return an array of the backend with the same elements."""
        raise NotImplementedError

    def lend_out(self, out: Any, image: Any) -> Array:
        """Return an array of the backend whose elements become those of `out`."""
        return self.lend(out, image)

    def hand_back(self, result: Array, image: Any) -> Any:
        """Return a result as an array of the image's library."""
        raise NotImplementedError

    def deliver(self, result: Array, out: Any) -> Any:
        """Return `out`, which the backend has written into."""
        return out


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
        _dispatch.named("cupy")
        import cupy

        torch = sys.modules["torch"]

        def allocate(size: int) -> Any:
            memory = torch.empty(size, dtype=torch.uint8, device=image.device)
            return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(memory.data_ptr(), size, memory), 0)

        stream = torch.cuda.current_stream(image.device).cuda_stream
        with (
            cupy.cuda.Device(image.device.index),
            cupy.cuda.ExternalStream(stream, image.device.index),
            cupy.cuda.using_allocator(allocate),
        ):
            yield

    def lend(self, array: Any, image: Any) -> Array:
        if array.device != image.device:
            raise TypeError(
                f"all tensors must be on the image's device {image.device}, got one on {array.device}"
            )
        array = array.detach()
        if array.device.type == "cpu":
            try:
                return array.numpy()
            except (RuntimeError, TypeError) as error:  # bfloat16, sparse, a pending conjugation
                raise TypeError(f"image must be a dense tensor of a dtype that NumPy has: {error}") from error
        import cupy

        return cupy.from_dlpack(array)  # it knows more dtypes than __cuda_array_interface__

    def hand_back(self, result: Array, image: Any) -> Any:
        torch = sys.modules["torch"]
        if image.device.type == "cpu":
            return torch.from_numpy(np.asarray(result))
        return torch.from_dlpack(result)


class _Jax(_Guest):
    """JAX arrays: read where they are; results are new arrays, since JAX's do not change."""

    def lend(self, array: Any, image: Any) -> Array:
        if any("Tracer" in base.__name__ for base in type(array).__mro__):
            raise TypeError("image must be a concrete JAX array: call histeq outside of jax.jit")
        if _is_jax_cpu(array):
            return np.asarray(array)
        _dispatch.named("cupy")
        import cupy

        return cupy.from_dlpack(array)

    def lend_out(self, out: Any, image: Any) -> Array:
        raise TypeError("out must be None for JAX arrays, which do not change")

    def hand_back(self, result: Array, image: Any) -> Any:
        jax = sys.modules["jax"]
        # Without this JAX makes int32 of counts, and float32 of the fractions of rule "skimage".
        with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
            if isinstance(result, np.ndarray):
                return jax.numpy.asarray(result)
            return jax.numpy.from_dlpack(result)


def _is_jax_cpu(array: Any) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


class _Other(_Guest):
    """Anything with DLPack or ``__cuda_array_interface__``: results are NumPy's or CuPy's."""

    def lend(self, array: Any, image: Any) -> Array:
        if not hasattr(array, "__cuda_array_interface__") and array.__dlpack_device__()[0] == 1:  # kDLCPU
            return np.from_dlpack(array)
        _dispatch.named("cupy")
        import cupy

        return cupy.asarray(array) if hasattr(array, "__cuda_array_interface__") else cupy.from_dlpack(array)

    def hand_back(self, result: Array, image: Any) -> Any:
        return result


def _device_type(kind: str) -> None:
    if kind != "cuda":
        raise TypeError(
            f"image must be on the CPU or a CUDA device, got one on {kind!r}; image.cpu() brings it over"
        )
