"""Colour images: the luma of OpenCV's YCrCb, and channels each alone."""

import cv2
import numpy as np
import oracles
import pytest
from images import same
from PIL import Image, ImageOps

import histeq


def all_colors():
    """Return every 8-bit colour once: 4096 x 4096 x 3."""
    code = np.arange(1 << 24, dtype=np.uint32).reshape(4096, 4096)
    return np.stack([code >> 16, (code >> 8) & 255, code & 255], axis=-1).astype(np.uint8)


def test_every_color_through_random_tables():
    image = all_colors()
    rng = np.random.default_rng(0)
    tables = [np.sort(rng.integers(0, 256, 256)).astype(np.uint8), rng.integers(0, 256, 256, np.uint8)]
    for table in tables:
        ycrcb = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
        ycrcb[..., 0] = cv2.LUT(ycrcb[..., 0], table)
        expected = cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB)
        assert same(histeq.apply(image, table, layout="HWC", color="luma", backend="numba"), expected)


def test_every_color_at_once():
    image = all_colors()
    expected = oracles.luma(image)
    for backend in ("numba", "numpy"):
        assert same(histeq.equalize(image, layout="HWC", backend=backend), expected)


@pytest.mark.parametrize(("color", "order"), [("luma", "RGB"), ("luma-bgr", "BGR")])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64), (301, 517), (700, 900)])
def test_luma_equals_opencv(color, order, shape, backend):
    rng = np.random.default_rng(1)
    for spread in (5, 40, 300):
        image = (rng.normal(size=(*shape, 3)) * spread + 120).clip(0, 255).astype(np.uint8)
        expected = oracles.luma(image, order)
        assert same(histeq.equalize(image, layout="HWC", color=color, backend=backend), expected)
        planar = np.ascontiguousarray(image.transpose(2, 0, 1))
        result = histeq.equalize(planar, layout="CHW", color=color, backend=backend)
        assert same(result, expected.transpose(2, 0, 1))


def test_luma_16_bit_equals_cvtcolor(backend):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 65536, (200, 300, 3), np.uint16)
    ycrcb = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    counts = histeq.histogram(image, layout="HWC", backend=backend)
    assert np.array_equal(counts, np.bincount(ycrcb[..., 0].ravel(), minlength=65536))
    table = histeq.lookup_table(counts, dtype=np.uint16, backend=backend)
    ycrcb[..., 0] = table[ycrcb[..., 0]]
    expected = cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB)
    assert same(histeq.equalize(image, layout="HWC", backend=backend), expected)


def test_channels_equal_pillow(backend):
    rng = np.random.default_rng(3)
    image = rng.normal(110, 30, (120, 90, 3)).clip(0, 255).astype(np.uint8)
    expected = np.asarray(ImageOps.equalize(Image.fromarray(image)))
    result = histeq.equalize(image, layout="HWC", color="channels", rule="pillow", backend=backend)
    assert same(result, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_channels_of_one_pixel(backend, threads):
    histeq.set_num_threads(threads)
    try:
        image = np.array([[[97, 108, 29]]], np.uint8)
        assert same(histeq.equalize(image, layout="HWC", color="channels", backend=backend), image)
    finally:
        histeq.set_num_threads(None)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_alpha_beside_fractions(dtype, backend):
    image = np.random.default_rng(4).integers(0, 256, (40, 50, 4)).astype(dtype)
    options = {"layout": "HWC", "color": "channels", "alpha": True, "backend": backend}
    result = histeq.equalize(image, rule="skimage", **options)
    assert same(np.ascontiguousarray(result[..., 3]), image[..., 3] / np.iinfo(dtype).max)
    counts = histeq.histogram(image, **options)
    table = histeq.lookup_table(counts, rule="skimage", dtype=dtype, backend=backend)
    assert same(histeq.apply(image, table, **options), result)


def test_four_bands(backend):
    rng = np.random.default_rng(5)
    image = rng.integers(0, 99, (40, 50, 4), np.uint8)
    for options in ({"layout": "HWN"}, {"layout": "HWC", "color": "channels"}):
        result = histeq.equalize(image, **options, backend=backend)
        for band in range(4):
            assert same(result[..., band], oracles.opencv(image[..., band]))


def test_one_channel_is_grey(backend):
    image = np.arange(30, dtype=np.uint8).reshape(5, 6, 1)
    result = histeq.equalize(image, layout="HWC", backend=backend)
    assert same(result[..., 0], oracles.opencv(image[..., 0]))


def test_composition_of_a_batch_of_color_images(backend):
    rng = np.random.default_rng(6)
    image = rng.integers(0, 200, (3, 20, 30, 3), np.uint8)
    for color, shape in (("luma", (3, 256)), ("channels", (3, 3, 256))):
        counts = histeq.histogram(image, layout="NHWC", color=color, backend=backend)
        assert counts.shape == shape
        table = histeq.lookup_table(counts, dtype=np.uint8, backend=backend)
        expected = histeq.equalize(image, layout="NHWC", color=color, backend=backend)
        assert same(histeq.apply(image, table, layout="NHWC", color=color, backend=backend), expected)


def test_luma_nodata(backend):
    rng = np.random.default_rng(7)
    image = rng.integers(10, 200, (30, 30, 3), np.uint8)
    image[:10] = 255
    image[20, 20] = (255, 0, 255)  # one channel alone is no nodata
    result = histeq.equalize(image, layout="HWC", nodata=255, backend=backend)
    assert (result[:10] == 255).all()
    assert same(result[10:], oracles.luma(image[10:]))
