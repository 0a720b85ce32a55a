"""Layouts, strides, batches, out=, nodata: what holds for every rule."""

import hypothesis
import numpy as np
import oracles
import pytest
from hypothesis import strategies as st
from images import (
    DTYPES,
    INTEGERS,
    RULES,
    accepted,
    arrays,
    random_float,
    random_image,
    random_values,
    same,
    views,
)

import histeq


@hypothesis.given(drawn=arrays(), data=st.data())
def test_any_array_on_every_backend(drawn, data):
    image, layout = drawn
    before = image.copy()
    color, alpha = data.draw(st.sampled_from(accepted(image, layout)))
    coupled = color != "channels" and "C" in layout and image.shape[layout.index("C")] > 2
    rules = ["opencv", "skimage"] if image.dtype.kind == "f" else RULES[: 5 - coupled]
    rule = data.draw(st.sampled_from([r for r in rules if not (coupled and r == "skimage")]))
    keywords = {"layout": layout, "color": color, "alpha": alpha, "rule": rule}
    if data.draw(st.booleans()):
        rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
        letters = [
            letter for letter in layout if letter != "C" and (letter != "N" or data.draw(st.booleans()))
        ]
        keywords["mask"] = rng.random([image.shape[layout.index(letter)] for letter in letters]) < 0.6
    if data.draw(st.booleans()) and image.size:
        nodata = image.flat[data.draw(st.integers(0, image.size - 1))]
        keywords["nodata"] = nodata.item()
    results = [histeq.equalize(image, backend=backend, **keywords) for backend in ("numba", "numpy")]
    assert same(*results)
    assert results[0].shape == image.shape
    assert same(image, before)
    counts = [
        histeq.histogram(image, backend=b, **{k: v for k, v in keywords.items() if k != "rule"})
        for b in ("numba", "numpy")
    ]
    assert same(*counts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_memory(dtype, backend):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (13, 17), (300, 301)):
        if dtype.startswith("f"):
            image = random_float(rng, dtype, shape)
        else:
            image = random_values(rng, shape[0] * shape[1], dtype).reshape(shape)
        expected = histeq.equalize(image, backend="numpy")
        for kind, view in views(rng, image).items():
            result = histeq.equalize(view, backend=backend)
            assert np.array_equal(result, expected, equal_nan=dtype.startswith("f")), kind
            assert result.dtype == (view.dtype if dtype in INTEGERS else expected.dtype), kind
            assert result.flags.writeable, kind
            if kind in ("contiguous", "fortran", "read-only"):
                assert result.flags.f_contiguous == view.flags.f_contiguous, kind


@pytest.mark.parametrize(
    "kind", ["contiguous", "fortran", "window", "spread", "reversed", "unaligned", "foreign byte order"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_any_memory(kind, dtype, backend):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 100, (260, 270)).astype(dtype)
    expected = histeq.equalize(image, backend="numpy")
    out = views(rng, np.zeros_like(expected))[kind]
    if kind == "foreign byte order":
        source = image.astype(out.dtype) if dtype in INTEGERS else image
        if dtype not in INTEGERS:
            with pytest.raises(TypeError, match="out must have the result's dtype"):
                histeq.equalize(source, out=out, backend=backend)
            return
    else:
        source = image
    assert histeq.equalize(source, out=out, backend=backend) is out
    assert np.array_equal(out, expected)


def test_out_leaves_the_rest_alone(backend):
    big = np.full((50, 60), 7, np.uint8)
    image = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
    histeq.equalize(image, out=big[10:30, 10:40], backend=backend)
    assert (big[:10] == 7).all()
    assert (big[30:] == 7).all()
    assert (big[:, :10] == 7).all()
    assert (big[:, 40:] == 7).all()
    assert same(np.ascontiguousarray(big[10:30, 10:40]), oracles.opencv(image))


@pytest.mark.parametrize("shape", [(9, 9), (400, 500), (1000, 1001)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_in_place(shape, dtype, backend):
    rng = np.random.default_rng(2)
    image = rng.normal(100, 20, shape).clip(0, 255).astype(dtype)
    for view in (image, image[::-1], image[:, ::2], image.T):
        copy = view.copy()
        expected = histeq.equalize(copy, backend="numpy")
        assert histeq.equalize(view, out=view, backend=backend) is view
        assert np.array_equal(view, expected)
        view[...] = copy


@pytest.mark.parametrize("dtype", INTEGERS)
def test_batch_equals_one_by_one(dtype, backend):
    rng = np.random.default_rng(3)
    stack = np.stack([random_values(rng, 35 * 47, dtype).reshape(35, 47) for _ in range(6)])
    expected = np.stack([histeq.equalize(image, backend="numpy") for image in stack])
    assert same(histeq.equalize(stack, layout="NHW", backend=backend), expected)
    last = np.ascontiguousarray(np.moveaxis(stack, 0, -1))
    assert same(histeq.equalize(last, layout="HWT", backend=backend), np.moveaxis(expected, 0, -1))


def test_volume_has_one_histogram(backend):
    rng = np.random.default_rng(4)
    volume = rng.integers(0, 90, (5, 20, 30), np.uint8)
    expected = oracles.opencv(volume.reshape(5 * 20, 30)).reshape(volume.shape)
    assert same(histeq.equalize(volume, layout="DHW", backend=backend), expected)
    assert histeq.histogram(volume, layout="DHW", backend=backend).shape == (256,)


def test_one_axis(backend):
    line = np.array([5, 5, 7, 9], np.uint8)
    assert same(histeq.equalize(line, backend=backend), oracles.opencv(line[None])[0])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_nodata(rule, dtype, backend):
    rng = np.random.default_rng(5)
    for _ in range(10):
        image = random_image(rng, dtype)
        nodata = int(rng.choice(image.ravel()))
        valid = image != nodata
        result = histeq.equalize(image, rule=rule, nodata=nodata, backend=backend)
        assert (result[~valid] == nodata).all()
        if valid.any():
            expected = histeq.equalize(image[valid], rule=rule, backend="numpy")
            expected = oracles.keep_nodata(image[valid][:, None], expected[:, None], nodata)
            assert same(result[valid], expected[:, 0])


def test_nodata_that_does_not_occur(backend):
    image = np.array([[1, 2], [3, 4]], np.uint8)
    assert same(histeq.equalize(image, nodata=200, backend=backend), oracles.opencv(image))


def test_mask_of_a_batch_and_of_its_images(backend):
    rng = np.random.default_rng(6)
    stack = rng.integers(0, 256, (3, 20, 30), np.uint8)
    masks = rng.random(stack.shape) < 0.5
    result = histeq.equalize(stack, layout="NHW", mask=masks, backend=backend)
    shared = histeq.equalize(stack, layout="NHW", mask=masks[0], backend=backend)
    for i in range(3):
        assert same(result[i], histeq.equalize(stack[i], mask=masks[i], backend="numpy"))
        assert same(shared[i], histeq.equalize(stack[i], mask=masks[0], backend="numpy"))
    unsigned = histeq.equalize(stack, layout="NHW", mask=masks.astype(np.uint8) * 3, backend=backend)
    assert same(unsigned, result)


def test_memmap(tmp_path, backend):
    image = np.memmap(tmp_path / "image", np.uint8, "w+", shape=(40, 50))
    image[...] = np.arange(2000).reshape(40, 50) % 97
    result = histeq.equalize(image, backend=backend)
    assert type(result) is np.ndarray
    assert same(result, oracles.opencv(np.asarray(image)))


def test_table_for_all_images_of_a_batch(backend):
    rng = np.random.default_rng(7)
    stack = rng.integers(0, 256, (4, 30, 30), np.uint8)
    table = rng.integers(0, 256, 256, np.uint8)
    assert same(histeq.apply(stack, table, layout="NHW", backend=backend), table[stack])
    fractions = rng.random((4, 256))
    result = histeq.apply(stack, fractions, layout="NHW", backend=backend)
    assert same(result, np.stack([t[i] for t, i in zip(fractions, stack, strict=True)]))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_histogram_equals_bincount(dtype, backend):
    rng = np.random.default_rng(8)
    for size in (0, 1, 7, 8, 9, 63, 64, 65, 65535, 65536, 65543, 600_001):
        values = random_values(rng, max(size, 1), dtype)[:size]
        shifted = values.astype(np.int64) - np.iinfo(dtype).min
        expected = np.bincount(shifted, minlength=1 << (8 * np.dtype(dtype).itemsize))
        assert same(histeq.histogram(values, backend=backend), expected)


def test_partial_counts_add_up(backend):
    rng = np.random.default_rng(9)
    image = rng.integers(0, 256, (300, 400), np.uint8)
    parts = sum(histeq.histogram(part, backend=backend) for part in np.array_split(image, 7))
    assert same(parts, histeq.histogram(image, backend=backend))


def test_more_than_2_to_the_31_pixels():
    """OpenCV's counters wrap there. The image is a broadcast view: nothing is allocated."""
    row = np.zeros(1 << 16, np.uint8)
    row[:3] = (9, 200, 200)
    image = np.broadcast_to(row, (1 << 16, 1 << 16))
    counts = histeq.histogram(image)
    assert counts[[0, 9, 200]].tolist() == [((1 << 16) - 3) << 16, 1 << 16, 2 << 16]
    assert counts.sum() == 1 << 32
    merged = sum(histeq.histogram(part) for part in np.array_split(image, 5))
    assert same(merged, counts)


@pytest.mark.parametrize("rule", RULES)
def test_table_of_more_than_2_to_the_31_pixels(rule):
    counts = np.zeros(256, np.int64)
    counts[[3, 50, 51, 200]] = [1 << 33, 5, 1 << 31, 1 << 32]
    tables = [histeq.lookup_table(counts, rule=rule, dtype=np.uint8, backend=b) for b in ("numba", "numpy")]
    assert same(*tables)
    assert (np.diff(tables[0][[3, 50, 51, 200]].astype(float)) >= 0).all()
    if rule == "opencv":
        assert tables[0][[3, 50, 51, 200]].tolist() == [0, 0, 85, 255]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(0, 9), (1, 1), (7, 33), (200, 190), (700, 800)])
def test_short_way_equals_the_general_one(shape, dtype, backend):
    """Plain images, as they are and with a table, an output or memory that needs a second look."""
    image = np.random.default_rng(shape[0]).integers(0, 250, shape).astype(dtype)
    counts = histeq.histogram(image, backend=backend)
    assert same(counts, histeq.histogram(image[None], layout="NHW", backend=backend)[0])
    table = np.random.default_rng(1).permutation(len(counts)).astype(dtype)
    expected = table[image]
    unaligned = np.frombuffer(bytes(1) + table.tobytes(), dtype, offset=1)
    for other in (table, unaligned, np.repeat(table, 2)[::2]):
        assert same(histeq.apply(image, other, backend=backend), expected)
    frozen = table.copy()
    frozen.flags.writeable = False
    for out in (np.empty_like(image), np.empty(shape[::-1], dtype).T, image.copy()):
        assert histeq.apply(image, frozen, out=out, backend=backend) is out
        assert same(np.ascontiguousarray(out), expected)
    assert histeq.apply(image, table, out=image, backend=backend) is image
    assert same(image, expected)


def test_short_way_raises_as_the_general_one(backend):
    image, table = np.zeros((9, 9), np.uint8), np.arange(256, dtype=np.uint8)
    with pytest.raises(ValueError, match="table must have shape"):
        histeq.apply(image, table[:255], backend=backend)
    with pytest.raises(TypeError, match="table must have dtype"):
        histeq.apply(image, table.astype(np.uint16), backend=backend)
    with pytest.raises(ValueError, match="out must have"):
        histeq.apply(image, table, out=np.empty((9, 8), np.uint8), backend=backend)
    with pytest.raises(ValueError, match="color must be"):
        histeq.histogram(image, color="grey", backend=backend)
