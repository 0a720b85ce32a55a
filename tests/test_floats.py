"""Floating images: scikit-image's equalize_hist, with NaN and infinities passing through."""

import numpy as np
import oracles
import pytest
from images import FLOATS, random_float, same

import histeq


def clean(rng, dtype, shape):
    image = random_float(rng, dtype, shape)
    image[~np.isfinite(image)] = 1
    return image


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bins", [1, 2, 10, 256, 1000])
def test_equals_skimage(dtype, bins, backend):
    rng = np.random.default_rng(0)
    compared = 0
    for shape in ((1, 2), (3, 3), (40, 50), (300, 400)):
        image = clean(rng, dtype, shape)
        try:
            expected = oracles.skimage_rule(image, bins=bins)
        except ValueError:  # too many bins for the precision: the library refuses, we do not
            histeq.equalize(image, bins=bins, backend=backend)
            continue
        assert same(histeq.equalize(image, bins=bins, backend=backend), expected)
        compared += 1
    assert compared >= (0 if dtype == "float16" else 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_photograph_equals_skimage(dtype, backend):
    import skimage.data

    image = (skimage.data.moon() / 255).astype(dtype)
    assert same(histeq.equalize(image, backend=backend), oracles.skimage_rule(image))


@pytest.mark.parametrize("dtype", FLOATS)
def test_histogram_equals_numpy(dtype, backend):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 12, (40, 50)).astype(dtype) / 4  # many values exactly on an edge
    for low, high, bins in ((0, 3, 12), (0, 2.75, 11), (-1, 5, 24), (0.5, 1, 1)):
        expected = np.histogram(image, bins, (low, high))[0]
        got = histeq.histogram(image, bins=bins, value_range=(low, high), backend=backend)
        assert same(got, expected.astype(np.int64))


@pytest.mark.parametrize("dtype", FLOATS)
def test_mask_equals_skimage(dtype, backend):
    rng = np.random.default_rng(2)
    image = rng.random((40, 50)).astype(dtype)
    mask = rng.random(image.shape) < 0.3
    assert same(histeq.equalize(image, mask=mask, backend=backend), oracles.skimage_rule(image, mask))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_pass_through(dtype, backend):
    rng = np.random.default_rng(3)
    image = rng.random((40, 50)).astype(dtype)
    image[3, 4], image[5, 6], image[7, 8] = np.nan, np.inf, -np.inf
    finite = np.isfinite(image)
    result = histeq.equalize(image, backend=backend)
    assert np.isnan(result[3, 4])
    assert result[5, 6] == np.inf
    assert result[7, 8] == -np.inf
    assert same(result[finite], oracles.skimage_rule(image[finite]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nodata(dtype, backend):
    rng = np.random.default_rng(4)
    image = rng.random((40, 50)).astype(dtype)
    image[:10] = -999
    valid = image != -999
    result = histeq.equalize(image, nodata=-999, backend=backend)
    assert (result[~valid] == -999).all()
    assert same(result[valid], oracles.skimage_rule(image[valid]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [0.0, 5.0, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (8, 9)])
def test_constant_and_empty(dtype, value, shape, backend):
    image = np.full(shape, value, dtype)
    result = histeq.equalize(image, backend=backend)
    assert result.shape == shape
    if not np.isfinite(value):
        assert np.array_equal(result, image, equal_nan=True)
    elif image.size:
        assert same(result, oracles.skimage_rule(image))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_counted_stays(dtype, backend):
    image = np.array([[0.25, 4], [2, 9]], dtype)
    result = histeq.equalize(image, mask=np.zeros((2, 2), bool), backend=backend)
    assert np.array_equal(result, image)


@pytest.mark.parametrize("dtype", FLOATS)
def test_extreme_ranges_do_not_fail(dtype, backend):
    limits = np.finfo(dtype)
    for values in (
        [limits.min, 0, limits.max],
        [1, 1 + limits.eps],
        [limits.smallest_subnormal, 0],
        [limits.max],
    ):
        image = np.array([values * 3], dtype)
        result = histeq.equalize(image, backend=backend)
        assert np.isfinite(result).all()
        assert result.max() <= 1
        assert same(result, histeq.equalize(image, backend="numpy"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_composition(dtype, backend):
    rng = np.random.default_rng(5)
    image = rng.normal(size=(60, 70)).astype(dtype)
    keywords = {"value_range": (-2, 2), "backend": backend}
    counts = histeq.histogram(image, bins=100, **keywords)
    table = histeq.lookup_table(counts, rule="skimage", dtype=dtype, backend=backend)
    result = histeq.apply(image, table, **keywords)
    assert same(result, histeq.equalize(image, bins=100, **keywords))
    parts = sum(histeq.histogram(part, bins=100, **keywords) for part in np.array_split(image, 3))
    assert same(parts, counts)


def test_channels_and_batches_have_their_own_range(backend):
    rng = np.random.default_rng(6)
    image = rng.random((2, 20, 30, 3), np.float32) * np.array([1, 10, 100], np.float32)
    result = histeq.equalize(image, layout="NHWC", color="channels", backend=backend)
    for n in range(2):
        for c in range(3):
            assert same(result[n, ..., c], oracles.skimage_rule(np.ascontiguousarray(image[n, ..., c])))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("low", [0.0, -3.7, 1e4, 1e-30, -1e30])
def test_values_at_the_borders_of_bins(dtype, low, backend):
    """A bin's border, the numbers next to it, and the same for the bins' centres, where curves bend."""
    high = np.nextafter(low, np.inf) if low == 1e-30 else low + max(abs(low) * 1e-3, 1.0)
    for bins in (1, 2, 7, 256, 1000):
        edges = np.linspace(dtype_of(dtype, low), dtype_of(dtype, high), bins + 1).astype(dtype)
        knots = np.concatenate([edges, (edges[:-1] + edges[1:]) / 2]).astype(dtype)
        up, down = np.nextafter(knots, dtype_of(dtype, np.inf)), np.nextafter(knots, dtype_of(dtype, -np.inf))
        image = np.stack([down, knots, up])
        keywords = {"bins": bins, "value_range": (low, high)}
        for function in (histeq.histogram, histeq.equalize):
            assert same(
                function(image, **keywords, backend=backend), function(image, **keywords, backend="numpy")
            )


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)
