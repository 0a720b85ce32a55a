"""Arrays of other libraries on a CUDA device, without one: PyTorch's tensors, `__cuda_array_interface__`."""

import sys
import types

import numpy as np
import pytest
from cuda_host import fake_cupy
from images import DTYPES, same

import histeq

CUDA = types.SimpleNamespace(type="cuda", index=0)


class Tensor:
    """As much of a PyTorch tensor on a CUDA device as histeq asks for."""

    __module__ = "torch"
    device = CUDA
    requires_grad = False

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def data_ptr(self):
        return self.array.ctypes.data if self.array.size else 0

    def __dlpack__(self):
        return self.array


class Foreign:
    """An array of no library that histeq knows, in device memory."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "version": 3}


@pytest.fixture
def cupy():
    """Yield the CuPy that runs on the CPU, even where there is a GPU."""
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture
def torch(cupy, monkeypatch):
    """Yield a PyTorch whose current stream is not the default one."""
    module = types.ModuleType("torch")
    module.uint8 = "uint8"
    module.empty = lambda size, dtype, device: Tensor(np.full(size, 0xA5, np.uint8))
    module.from_dlpack = lambda array: Tensor(array.__dlpack__())
    module.stream = cupy.cuda.Stream(non_blocking=True)
    module.cuda = types.SimpleNamespace(
        current_stream=lambda device: types.SimpleNamespace(cuda_stream=module.stream.ptr)
    )
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture(params=["torch", "foreign", "cupy"])
def lend(request, torch):
    """Yield a function that makes a NumPy array one of a library's, in the same memory."""
    return {"torch": Tensor, "foreign": Foreign, "cupy": fake_cupy.ndarray.of}[request.param]


@pytest.mark.parametrize("version", [13, 14])
def test_torch_on_its_stream(version, torch, monkeypatch):
    if version == 13:
        monkeypatch.delattr(fake_cupy.Stream, "from_external")
        known = fake_cupy.Stream.known
        monkeypatch.setattr(sys.modules["cupy"].cuda, "ExternalStream", lambda ptr, device: known[ptr])
    image = np.random.default_rng(0).integers(0, 200, (50, 61), np.uint8)
    result = histeq.equalize(Tensor(image))
    out = Tensor(np.zeros_like(image))
    assert histeq.equalize(Tensor(image), out=out) is out
    assert not out.array.any()  # the work is on the stream, which nobody has waited for
    torch.stream.synchronize()
    assert type(result) is Tensor
    assert same(result.array, histeq.equalize(image, backend="numpy"))
    assert same(out.array, result.array)
    local = histeq.clahe(Tensor(image))
    torch.stream.synchronize()
    assert same(local.array, histeq.clahe(image, backend="numpy"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (7, 0)])
def test_empty(shape, dtype, lend, torch):
    image = np.empty(shape, dtype)
    layout = "HW"[: len(shape)] if len(shape) > 1 else "W"
    for function in (histeq.equalize, histeq.clahe, histeq.histogram):
        result = function(lend(image), layout=layout)
        torch.stream.synchronize()
        assert same(result.array, function(image, layout=layout, backend="numpy"))


def test_partial_overlap_is_refused(lend):
    memory = np.zeros((12, 30, 3), np.uint8)
    for image, out in (
        (memory[:6, :, 0], memory[3:9, :, 0]),
        (memory[:, 1:, 0], memory[:, :-1, 0]),
        (memory[..., 0], memory[::-1, :, 0]),
        (memory[..., 0].T, memory[..., 0].T[::-1]),
    ):
        with pytest.raises(ValueError, match="share no memory"):
            histeq.equalize(lend(image), out=lend(out))
        with pytest.raises(ValueError, match="share no memory"):
            histeq.clahe(lend(image), out=lend(out))


def test_channels_and_halves_share_no_memory(lend, torch):
    memory = np.random.default_rng(1).integers(0, 200, (12, 30, 3), np.uint8)
    for image, out in (
        (memory[..., 0], memory[..., 2]),  # pixels in turn
        (memory[:6], memory[6:]),
        (memory[:, :15], memory[:, 15:]),  # rows in turn
        (memory[..., 1], memory[..., 1]),  # the image itself
    ):
        layout = "HWC"[: image.ndim]
        expected = histeq.equalize(image.copy(), layout=layout, backend="numpy")
        histeq.equalize(lend(image), layout=layout, out=lend(out))
        torch.stream.synchronize()
        assert same(np.ascontiguousarray(out), expected)
