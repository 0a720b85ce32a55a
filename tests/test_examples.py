"""The examples run, as far as a machine without a GPU can tell; test_gpu.py runs all of them on one."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from cuda_host import fake_cupy

import histeq

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cupy():
    """Yield the CuPy that runs on the CPU, even where there is a GPU."""
    with fake_cupy.installed() as module:
        yield module


def test_cupy_video(cupy):
    video, rng = example("cupy_video"), np.random.default_rng(0)
    clip = [rng.integers(0, 60 + i, (20, 31, 3), np.uint8) for i in range(7)]
    found = list(video.equalized(clip, batch=3))
    assert len(found) == len(clip)
    for frame, result in zip(clip, found, strict=True):
        assert np.array_equal(result, histeq.equalize(frame, layout="HWC", backend="numpy"))
    expected = histeq.Equalizer(layout="HWC", backend="numpy")
    for frame, result in zip(clip, video.steadied(clip), strict=True):
        assert np.array_equal(result, expected(frame))


def test_numba_cuda(cupy, monkeypatch):
    """With as much of numba.cuda as the example asks for, its kernel run by the interpreter."""

    class DeviceArray:
        def __init__(self, shape, dtype):
            self.array = np.zeros(shape, dtype)

        shape = property(lambda self: self.array.shape)
        __setitem__ = lambda self, at, value: self.array.__setitem__(at, value)  # noqa: E731
        copy_to_host = lambda self: self.array.copy()  # noqa: E731

        @property
        def __cuda_array_interface__(self):
            return {**self.array.__array_interface__, "version": 3}

    class Kernel:
        def __init__(self, function):
            self.function = function

        def __getitem__(self, _):
            return self.launch

        def launch(self, image):
            for at in np.ndindex(24, 40):
                numba.cuda.grid = lambda _, at=at: at
                self.function(image)

    numba = types.ModuleType("numba")
    numba.cuda = types.SimpleNamespace(
        jit=Kernel, device_array=lambda shape, dtype: DeviceArray((19, 33), dtype)
    )
    monkeypatch.setitem(sys.modules, "numba", numba)
    module = example("numba_cuda")
    y, x = np.mgrid[:19, :33]
    drawn = (x * 40 // 33 + y * 40 // 19).astype(np.uint8)
    assert np.array_equal(module.main(), histeq.equalize(drawn, backend="numpy"))


def test_jax_images():
    pytest.importorskip("jax")
    assert example("jax_images").main() > 1  # in JAX's own memory, on the CPU


def test_torch_augmentation():
    torch = pytest.importorskip("torch")
    module = example("torch_augmentation")
    batch = torch.stack([module.Noise()[i] for i in range(4)])
    expected = histeq.equalize(batch.numpy(), layout="NCHW", rule="pillow", color="channels")
    assert np.array_equal(module.RandomEqualize(1.0)(batch).numpy(), expected)
    assert torch.equal(module.RandomEqualize(0.0)(batch), batch)
    assert 0.2 < module.main("cpu") < 0.6
