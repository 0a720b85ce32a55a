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


LIMITS = {
    "float": float,  # Python's numbers take the precision of the image,
    "float32": np.float32,  # NumPy's keep theirs where it is higher
    "float64": np.float64,
    "int": lambda limit: round(limit),
    "int64": lambda limit: np.int64(round(limit)),
    "int8": lambda limit: np.int8(round(limit) % 100),
}


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_random_histograms_equal_numpy(dtype, limits, backend):
    """Ranges of every scale, with values on the limits, on the edges, and next to them."""
    if dtype == "float16" and limits == "float" and np.lib.NumpyVersion(np.__version__) < "2.2.0":
        pytest.skip("earlier versions of NumPy count halves otherwise")
    rng = np.random.default_rng(7)
    most, compared = 400 if dtype == "float16" else 3000, 0
    for _ in range(40):
        scale = 10.0 ** rng.integers(-3, 3)
        low, high = (LIMITS[limits](limit) for limit in sorted(rng.normal(size=2) * scale))
        if not dtype_of(dtype, low) < dtype_of(dtype, high):
            continue
        bins = int(rng.integers(1, rng.choice([3, 20, most])))
        image = np.concatenate([rng.normal(size=50) * scale, np.linspace(low, high, bins + 1)]).astype(dtype)
        image = np.concatenate([image, np.nextafter(image, image.dtype.type(np.inf)), -image])[None]
        got = histeq.histogram(image, bins=bins, value_range=(low, high), backend=backend)
        try:
            expected = np.histogram(image, bins, (low, high))[0]
        except ValueError:  # bins narrower than the precision: NumPy refuses, we do not
            assert got.sum() == ((image >= dtype_of(dtype, low)) & (image <= dtype_of(dtype, high))).sum()
            continue
        assert same(got, expected.astype(np.int64))
        compared += 1
    assert compared > 10


@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes_as_limits_equal_the_default(dtype, backend):
    rng = np.random.default_rng(8)
    for _ in range(20):
        image = rng.normal(size=(5, 6)).astype(dtype)
        given = histeq.histogram(image, bins=50, value_range=(image.min(), image.max()), backend=backend)
        assert same(given, histeq.histogram(image, bins=50, backend=backend))
        assert same(given, np.histogram(image, 50)[0].astype(np.int64))


def test_many_bins_of_float16(backend):
    """np.histogram computes in float16 and puts values into wrong bins; the edges are right."""
    image = np.random.default_rng(9).random((40, 50)).astype(np.float16)
    for bins, low, high in ((833, -0.00154, 1), (1500, 0.01, 0.9), (2000, 0, 1)):
        edges = np.linspace(low, high, bins + 1, dtype=np.float16)
        inside = image[(image >= edges[0]) & (image <= edges[-1])]
        index = np.minimum(np.searchsorted(edges, inside, side="right") - 1, bins - 1)
        expected = np.bincount(index, minlength=bins)
        got = histeq.histogram(image, bins=bins, value_range=(low, high), backend=backend)
        assert same(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bins_narrower_than_the_precision_take_no_time(dtype, backend):
    """Every value is thousands of bins away from where the product guesses it."""
    one = dtype_of(dtype, 1)
    image = np.array([one, np.nextafter(one, dtype_of(dtype, 2))] * 3000, dtype)[None]
    bins = 1 << 20
    counts = histeq.histogram(image, bins=bins, backend=backend)
    assert counts.sum() == image.size
    at = np.flatnonzero(counts)
    assert at[-1] == bins - 1
    assert abs(at[0] - bins // 2) <= 1
    assert same(counts, histeq.histogram(image, bins=bins, backend="numpy"))
    assert same(
        histeq.equalize(image, bins=bins, backend=backend), histeq.equalize(image, bins=bins, backend="numpy")
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_levels_that_are_not_finite(dtype, backend):
    """A table may hold anything; np.interp says what lies between."""
    edges = np.linspace(0, 8, 9, dtype=dtype)
    knots = np.concatenate([edges, edges[:-1] + dtype_of(dtype, 0.5), [-1, 9, 0.7, 3.2, 7.7]]).astype(dtype)
    image = np.tile(knots, (3, 1))
    for levels in (
        [0, 1, np.inf, np.inf, 4, -np.inf, 6, 7],
        [np.inf, 1, 2, 3, np.nan, 5, 6, -np.inf],
        [-np.inf] * 8,
        [0, np.inf, -np.inf, np.inf, np.nan, np.nan, 6, np.nan],
        [np.nan, 1, 2, 3, 4, 5, 6, 7],  # nothing was counted: nothing is mapped
    ):
        table = np.array(levels, "f8" if dtype == "float64" else "f4")
        expected = np.interp(image, edges[:-1] + dtype_of(dtype, 0.5), table).astype(table.dtype)
        if np.isnan(levels[0]):
            expected = image.astype(table.dtype)
        result = histeq.apply(image, table, value_range=(0, 8), backend=backend)
        assert np.array_equal(result, expected, equal_nan=True)
        assert result.dtype == expected.dtype


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
    next_one = float(np.nextafter(dtype_of(dtype, low), dtype_of(dtype, np.inf)))
    high = next_one if low == 1e-30 else low + max(abs(low) * 1e-3, 1.0)
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
