"""Batches of small images: the pixels of each by itself, in memory that does not grow with their number."""

import tracemalloc

import numpy as np
import pytest
from cuda_host.fake_cupy import Machine
from images import same

import histeq

TILES = 600
MOST = 200_000_000
"""Bytes: the counts and tables of all tiles together would take 390 MB."""


@pytest.fixture(scope="module")
def tiles():
    """Return a batch of 1.2 MB."""
    return np.random.default_rng(0).integers(0, 65536, (TILES, 32, 32), np.uint16)


CALLS = {
    "equalize": lambda tiles, **how: histeq.equalize(tiles, layout="NHW", **how),
    "masked": lambda tiles, **how: histeq.equalize(tiles, layout="NHW", mask=tiles[0] > 9, **how),
    "swapped": lambda tiles, **how: histeq.equalize(tiles.astype(">u2"), layout="NHW", **how),
    "fractions": lambda tiles, **how: histeq.equalize(tiles, layout="NHW", rule="skimage", **how),
    "floats": lambda tiles, **how: histeq.equalize(
        tiles[:500].astype(np.float64), layout="NHW", bins=1 << 16, **how
    ),
    "match": lambda tiles, **how: histeq.match(tiles, tiles[:1], layout="NHW", **how),
    "match all": lambda tiles, **how: histeq.match(tiles[::-1], tiles, layout="NHW", **how),
}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_memory_does_not_grow_with_the_batch(call, backend, tiles):
    result = call(tiles[:3], backend=backend)  # compiles
    tracemalloc.start()
    try:
        whole = call(tiles, backend=backend)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST + whole.nbytes
    if call is not CALLS["match all"]:
        assert same(whole[:3], result)


def test_device_memory_does_not_grow_with_the_batch(gpu, tiles, monkeypatch):
    from cuda_host import fake_cupy

    from histeq._backends.cupy import device

    if fake_cupy.has_gpu():
        pytest.skip("the stand-in counts bytes")
    tiles = tiles[:40]
    expected = histeq.equalize(tiles, layout="NHW")
    monkeypatch.setattr(device, "COUNTS", 1 << 20)
    monkeypatch.setattr(Machine, "memory", Machine.with_left(4_000_000))  # 40 tables take 5 MB
    images = fake_cupy.ndarray.of(tiles)
    assert same(histeq.equalize(images, layout="NHW").array, expected)


def test_match_of_a_batch_equals_each_alone(backend, tiles, monkeypatch):
    from histeq._api import request

    images, references = tiles[:5], tiles[5:10, :20]
    alone = [
        histeq.match(image, reference, backend="numpy")
        for image, reference in zip(images, references, strict=True)
    ]
    monkeypatch.setattr(request, "_KEPT", 1 << 21)  # two images at a time
    assert same(histeq.match(images, references, layout="NHW", backend=backend), np.stack(alone))
    alone = [histeq.match(image, references[0], backend="numpy") for image in images]
    assert same(histeq.match(images, references[:1], layout="NHW", backend=backend), np.stack(alone))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_in_groups(dtype, backend, tiles, monkeypatch):
    from histeq._api import request

    images = tiles[:5].astype(dtype)
    mask = tiles[:5] > 30000
    functions = (histeq.equalize, histeq.clahe)
    expected = [function(images, layout="NHW", mask=mask, backend="numpy") for function in functions]
    monkeypatch.setattr(request, "_KEPT", 2 * 8 * 256)
    for function, right in zip(functions, expected, strict=True):
        assert same(function(images, layout="NHW", mask=mask, backend=backend), right)


@pytest.mark.parametrize("color", ["luma", "luma-bgr", "channels"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (31, 45), (300, 400), (500, 500)])
def test_small_images_of_interleaved_channels(size, channels, color, backend):
    rng = np.random.default_rng(1)
    count = 7 if backend == "numba" or size < (100, 100) else 3
    batch = (rng.normal(size=(count, *size, channels)) * 40 + 120).clip(0, 255).astype(np.uint8)
    for alpha in (None, True) if channels == 4 else (None,):
        how = {"color": color, "alpha": alpha}
        right = np.stack([histeq.equalize(each, layout="HWC", backend="numpy", **how) for each in batch])
        assert same(histeq.equalize(batch, layout="NHWC", backend=backend, **how), right)
        assert same(histeq.equalize(batch[::-2], layout="NHWC", backend=backend, **how), right[::-2])
        own = batch.copy()
        histeq.equalize(own, layout="NHWC", out=own, backend=backend, **how)
        assert same(own, right)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("threads", [1, 3])
def test_grey_images_and_planes(dtype, threads, backend, monkeypatch):
    """Many in a call of a kernel, where they follow each other in memory."""
    from histeq._backends.numba import views

    rng = np.random.default_rng(4)
    batch = rng.integers(0, 256, (7, 3, 20, 33)).astype(dtype)
    right = np.stack([histeq.equalize(each, layout="NHW", backend="numpy") for each in batch])
    monkeypatch.setattr(views, "PIECE", 2000)
    how = {"layout": "NCHW", "color": "channels", "alpha": False, "backend": backend}
    with histeq.threads(threads):
        assert same(histeq.equalize(batch, **how), right)
        assert same(histeq.equalize(batch[::-2], **how), right[::-2])
        assert same(histeq.equalize(batch[:, 0], layout="NHW", backend=backend), right[:, 0])
        out = np.zeros((7, 4, 20, 33), dtype)
        histeq.equalize(batch, out=out[:, :3], **how)
        assert same(out[:, :3], right)
        assert not out[:, 3].any()
        histeq.equalize(batch, out=batch, **how)
    assert same(batch, right)


def test_small_images_within_larger_ones(backend):
    """Rows with a gap, flipped rows and reversed channels are not for the kernels of small images."""
    rng = np.random.default_rng(2)
    large = rng.integers(0, 200, (4, 40, 50, 3), np.uint8)
    for batch in (large[:, 3:30, 5:41], large[:, ::-1], large[:, :, ::-1], large[..., ::-1], large[:, ::2]):
        right = histeq.equalize(np.ascontiguousarray(batch), layout="NHWC", backend="numpy")
        assert same(histeq.equalize(batch, layout="NHWC", backend=backend), right)
        out = np.zeros_like(large)[:, : batch.shape[1], : batch.shape[2]]
        histeq.equalize(batch, layout="NHWC", out=out, backend=backend)
        assert same(out, right)


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow", "vips"])
@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_swapped_bytes(rule, dtype, backend):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 9000, (5, 20, 33)).astype("=" + dtype)
    swapped = images.astype(images.dtype.newbyteorder())
    right = histeq.equalize(images, layout="NHW", rule=rule, backend="numpy")
    result = histeq.equalize(swapped, layout="NHW", rule=rule, backend=backend)
    assert result.dtype == swapped.dtype
    assert np.array_equal(result, right)
    histeq.equalize(swapped, layout="NHW", rule=rule, out=swapped, backend=backend)
    assert np.array_equal(swapped, right)
