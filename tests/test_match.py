"""Histogram matching against scikit-image's match_histograms."""

import numpy as np
import oracles
import pytest
import skimage.data
import skimage.exposure
from images import DTYPES, FLOATS, INTEGERS, number_of_images, random_image, same

import histeq


@pytest.mark.parametrize("dtype", INTEGERS)
def test_equals_skimage(dtype, backend):
    rng = np.random.default_rng(0)
    for _ in range(number_of_images(backend, 60)):
        image, reference = random_image(rng, dtype), random_image(rng, dtype)
        assert same(histeq.match(image, reference, backend=backend), oracles.match(image, reference))


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_equal_skimage(dtype, backend):
    rng = np.random.default_rng(1)
    image = rng.random((40, 50)).astype(dtype)
    reference = rng.normal(size=(30, 20)).astype(dtype)
    expected = oracles.match(image, reference).astype(dtype)
    assert same(histeq.match(image, reference, backend=backend), expected)


def test_color_photographs_equal_skimage(backend):
    image, reference = skimage.data.astronaut(), skimage.data.coffee()
    expected = skimage.exposure.match_histograms(image, reference, channel_axis=-1)
    assert same(histeq.match(image, reference, layout="HWC", backend=backend), expected)


def test_batch_and_one_reference(backend):
    rng = np.random.default_rng(2)
    stack = rng.integers(0, 256, (3, 20, 30), np.uint8)
    reference = rng.integers(50, 90, (1, 11, 13), np.uint8)
    result = histeq.match(stack, reference, layout="NHW", backend=backend)
    for image, matched in zip(stack, result, strict=True):
        assert same(matched, oracles.match(image, reference[0]))


def test_luma_matches_the_luma(backend):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    reference = rng.integers(0, 99, (20, 30, 3), np.uint8)
    counts = [histeq.histogram(a, layout="HWC", backend=backend) for a in (image, reference)]
    result = histeq.match(image, reference, layout="HWC", color="luma", backend=backend)
    values = [np.repeat(np.arange(256, dtype=np.uint8), c) for c in counts]
    table = np.zeros(256, np.uint8)
    table[values[0]] = oracles.match(*values)
    assert same(result, histeq.apply(image, table, layout="HWC", backend=backend))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nodata_and_mask(dtype, backend):
    rng = np.random.default_rng(4)
    image = rng.integers(0, 100, (20, 30)).astype(dtype)
    reference = rng.integers(50, 90, (20, 30)).astype(dtype)
    image[:3], reference[5:] = 99, 99
    valid = image != 99
    result = histeq.match(image, reference, nodata=99, backend=backend)
    assert (result[~valid] == 99).all()
    expected = oracles.match(image[valid], reference[reference != 99]).astype(dtype)
    assert same(result[valid], expected)
    masked = histeq.match(image, reference, mask=valid, backend=backend)
    assert same(masked[valid], oracles.match(image[valid], reference.ravel()).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(dtype, backend):
    image = np.ones((4, 5), dtype)
    assert same(histeq.match(image, np.ones((0, 3), dtype), backend=backend), image)
    assert histeq.match(np.ones((0, 3), dtype), image, backend=backend).shape == (0, 3)


def test_nan_passes_through(backend):
    image = np.array([[0.0, np.nan, 1.0, np.inf]])
    reference = np.array([[10.0, 20.0, np.nan]])
    assert histeq.match(image, reference, backend=backend)[0].tolist()[2:] == [20.0, np.inf]
