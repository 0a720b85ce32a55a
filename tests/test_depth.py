"""How many bits pixels have: a range of values, results of 8 bits, int8; and dtypes that are not served."""

from functools import partial

import cv2
import numpy as np
import oracles
import pytest
import skimage.exposure
from images import INTEGERS, RULES, random_image, random_values, same, views

import histeq
from histeq._core import rules as _rules

INTEGER_RULES = [rule for rule in RULES if rule != "skimage"]
ORACLES = {**oracles.EIGHT_BIT, "numpy": oracles.textbook}
WIDE = ("uint16", "int16")


def image_of_256_levels(rng, dtype, low):
    """Return an image in low..low + 255 and the same with its values as uint8."""
    eight = random_values(rng, 40 * 50, np.uint8).reshape(40, 50)
    return (eight.astype(np.int64) + low).astype(dtype), eight


def clipped(image, value_range):
    """Return an image whose values outside the range are at its limits, and which are inside."""
    low, high = value_range
    return np.clip(image, low, high), (image >= low) & (image <= high)


# A range of values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("dtype", "low"), [("uint16", 0), ("uint16", 1000), ("uint16", 65280), ("int16", -1024), ("int16", -100)]
)
def test_256_values_of_16_bits_as_the_library_has_8(rule, dtype, low, backend):
    rng = np.random.default_rng(0)
    for _ in range(2 if backend == "cupy" else 8):
        image, eight = image_of_256_levels(rng, dtype, low)
        keywords = {"rule": rule, "value_range": (low, low + 255), "backend": backend}
        expected = ORACLES[rule](eight)
        if rule != "skimage":
            expected = (expected.astype(np.int64) + low).astype(dtype)
        elif len(np.unique(eight)) == 1:
            continue
        assert same(histeq.equalize(image, **keywords), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [
        ("uint8", (16, 235)),
        ("int8", (-100, 27)),
        ("uint16", (0, 4095)),
        ("uint16", (300, 9_001)),
        ("int16", (-1024, 3071)),
    ],
)
def test_values_outside_do_not_count_and_go_where_the_limits_go(rule, dtype, value_range, backend):
    rng = np.random.default_rng(1)
    low, high = value_range
    for _ in range(2 if backend == "cupy" else 6):
        image = random_image(rng, dtype)
        image.flat[: image.size // 2] = rng.integers(low, high, image.size // 2, endpoint=True)
        inside, counted = clipped(image, value_range)
        keywords = {"rule": rule, "value_range": value_range}
        result = histeq.equalize(image, backend=backend, **keywords)
        assert same(result, histeq.equalize(inside, mask=counted, backend="numpy", **keywords))
        ends = np.array([low, high], dtype)
        counts = histeq.histogram(image, value_range=value_range, backend=backend)
        assert same(counts, np.bincount((image[counted].astype(np.int64) - low), minlength=high - low + 1))
        table = histeq.lookup_table(counts, dtype=dtype, backend=backend, **keywords)
        assert table.shape == counts.shape
        assert same(histeq.apply(image, table, value_range=value_range, backend=backend), result)
        assert same(histeq.apply(ends, table, value_range=value_range, backend=backend), table[[0, -1]])
        if rule != "skimage":
            assert result.min() >= low
            assert result.max() <= high


def test_the_formula_on_12_bits(backend):
    """OpenCV's and the textbook's arithmetic with 4095 for 255."""
    image = np.minimum(np.random.default_rng(2).exponential(300, (70, 80)), 4095).astype(np.uint16)
    counts = np.bincount(image.ravel(), minlength=4096)
    above = np.cumsum(counts) - counts[image.min()]
    rest = image.size - counts[image.min()]
    opencv = np.rint(above.astype(np.float32) * (np.float32(4095) / np.float32(rest))).astype(np.uint16)
    textbook = (above * 4095 // rest).astype(np.uint16)
    keywords = {"value_range": (0, 4095), "backend": backend}
    assert same(histeq.equalize(image, **keywords), opencv[image])
    assert same(histeq.equalize(image, rule="numpy", **keywords), textbook[image])
    narrower = histeq.equalize(image, out_range=(100, 200), **keywords)
    assert (narrower.min(), narrower.max()) == (100, 200)


def test_the_whole_range_is_no_range(backend):
    for dtype in INTEGERS:
        image = random_image(np.random.default_rng(3), dtype)
        whole = (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for function in (histeq.equalize, partial(histeq.clahe, tiles=2), histeq.histogram):
            expected = function(image, backend=backend)
            assert same(function(image, value_range=whole, backend=backend), expected)


def test_one_level_and_none(backend):
    """Every pixel keeps its value, within the limits."""
    for image in (np.full((5, 6), 70, np.uint16), np.full((5, 6), 5000, np.uint16)):
        result = histeq.equalize(image, value_range=(50, 4095), backend=backend)
        assert same(result, np.clip(image, 50, 4095))
        nothing = histeq.equalize(image, value_range=(50, 4095), mask=np.zeros((5, 6), bool), backend=backend)
        assert same(nothing, np.clip(image, 50, 4095))


@pytest.mark.parametrize("color", ["luma", "luma-bgr", "channels"])
@pytest.mark.parametrize(("dtype", "value_range"), [("uint8", (16, 235)), ("uint16", (64, 940))])
def test_color_and_batches(color, dtype, value_range, backend):
    rng = np.random.default_rng(4)
    images = rng.integers(0, 1100 if dtype == "uint16" else 256, (3, 20, 30, 3)).astype(dtype)
    keywords = {"layout": "NHWC", "color": color, "value_range": value_range}
    result = histeq.equalize(images, backend=backend, **keywords)
    counts = histeq.histogram(images, backend=backend, **keywords)
    assert counts.shape[-1] == value_range[1] - value_range[0] + 1
    table = histeq.lookup_table(counts, dtype=dtype, value_range=value_range, backend=backend)
    assert same(histeq.apply(images, table, backend=backend, **keywords), result)
    assert same(result, histeq.equalize(images, backend="numpy", **keywords))
    one = histeq.apply(images, table.reshape(-1, counts.shape[-1])[0], backend=backend, **keywords)
    assert same(one[0, ..., 0], histeq.apply(images[:1], table[:1], backend="numpy", **keywords)[0, ..., 0])


def test_every_kind_of_memory(backend):
    rng = np.random.default_rng(5)
    image = rng.integers(0, 5000, (35, 47), np.uint16)
    for keywords in ({"value_range": (100, 4095)}, {"out_dtype": np.uint8}):
        expected = histeq.equalize(image, backend="numpy", **keywords)
        for kind, view in views(rng, image).items():
            result = histeq.equalize(view, backend=backend, **keywords)
            assert np.array_equal(result, expected), kind
            assert result.dtype == keywords.get("out_dtype", view.dtype), kind
            assert result.flags.f_contiguous == (kind == "fortran"), kind
        for kind, out in views(rng, np.zeros_like(expected)).items():
            if kind not in ("read-only", "foreign byte order"):
                assert histeq.equalize(image, out=out, backend=backend, **keywords) is out
                assert np.array_equal(out, expected), kind


def test_nodata_beside_a_range(backend):
    image = np.random.default_rng(6).integers(0, 4096, (30, 40), np.uint16)
    image[:9] = 65535
    valid = image != 65535
    for nodata in (65535, 77):
        keywords = {"nodata": nodata, "value_range": (0, 4095)}
        result = histeq.equalize(image, backend=backend, **keywords)
        assert same(result, histeq.equalize(image, backend="numpy", **keywords))
        assert (result[image == nodata] == nodata).all()
    filled = histeq.equalize(image[valid][None], value_range=(0, 4095), backend=backend)
    result = histeq.equalize(image, nodata=65535, value_range=(0, 4095), backend=backend)
    assert same(result[valid], filled[0])


def test_match_within_a_range(backend):
    rng = np.random.default_rng(7)
    image = np.minimum(rng.exponential(600, (40, 50)), 6000).astype(np.uint16)
    reference = rng.integers(1000, 7000, (30, 20), np.uint16)
    result = histeq.match(image, reference, value_range=(500, 4095), backend=backend)
    inside, counted = clipped(image, (500, 4095))
    wanted = reference[reference <= 4095]
    assert same(result[counted], oracles.match(image[counted], wanted))
    again = histeq.match(inside, reference, mask=counted, value_range=(500, 4095), backend="numpy")
    assert same(result, again)
    with pytest.raises(
        ValueError, match="value_range is for integer images: float32 is matched value by value"
    ):
        histeq.match(image.astype("f4"), reference.astype("f4"), value_range=(0, 1), backend=backend)


# CLAHE ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [2, 4, 6, 8])
def test_clahe_as_opencv_s_bit_shift(shift, backend):
    rng = np.random.default_rng(8)
    top = (65536 >> shift) - 1
    for _ in range(4 if backend == "cupy" else 12):
        image = random_image(rng, np.uint16, most=1500) >> shift
        tiles = tuple(int(n) for n in rng.integers(1, 6, 2))
        clip = float(rng.choice([0, 1, 2, 3.7, 40]))
        expected = oracles.clahe(image << shift, clip, tiles, shift) >> shift
        keywords = {"clip_limit": clip, "tiles": tiles, "value_range": (0, top)}
        assert same(histeq.clahe(image, backend=backend, **keywords), expected)
        moved = (image.astype(np.int64) - 1024).astype(np.int16)
        result = histeq.clahe(moved, backend=backend, **keywords | {"value_range": (-1024, top - 1024)})
        assert same(result.astype(np.int64), expected.astype(np.int64) - 1024)


@pytest.mark.parametrize(
    ("dtype", "value_range"),
    [
        ("uint8", (16, 235)),
        ("int8", (-100, 27)),
        ("uint16", (0, 511)),
        ("uint16", (300, 1234)),
        ("int16", (-200, 300)),
        ("float32", (-1.5, 30.25)),
    ],
)
def test_clahe_does_not_count_values_outside(dtype, value_range, backend):
    rng = np.random.default_rng(9)
    image = rng.normal(np.mean(value_range), np.diff(value_range)[0] / 2, (40, 50))
    limits = np.iinfo(dtype) if dtype[0] != "f" else np.finfo(dtype)
    image = np.clip(image, limits.min, limits.max).astype(dtype)
    inside, counted = clipped(image, value_range)
    assert 100 < counted.sum() < image.size - 100
    keywords = {"tiles": (2, 3), "value_range": value_range}
    result = histeq.clahe(image, backend=backend, **keywords)
    assert same(result, histeq.clahe(inside, mask=counted, backend="numpy", **keywords))
    tables = histeq.tile_tables(image, backend=backend, **keywords)
    if dtype[0] != "f":
        assert tables.bins == value_range[1] - value_range[0] + 1
        assert result.min() >= value_range[0]
        assert result.max() <= value_range[1]
    window = histeq.apply_tiles(image[5:33, 7:], tables, origin=(5, 7), backend=backend)
    assert same(window, result[5:33, 7:])


def test_clahe_of_pixels_beyond_the_tables(backend):
    """Tables of an image within the range serve one that is not."""
    rng = np.random.default_rng(10)
    image = rng.integers(0, 512, (40, 50), np.uint16)
    tables = histeq.tile_tables(image, tiles=(2, 2), value_range=(0, 511), backend=backend)
    image[::3] += 600
    result = histeq.apply_tiles(image, tables, backend=backend)
    assert same(result, histeq.apply_tiles(np.minimum(image, 511), tables, backend=backend))


@pytest.mark.parametrize("color", ["luma", "luma-bgr", "channels"])
def test_clahe_of_colors_within_a_range(color, backend):
    image = np.random.default_rng(11).integers(0, 1100, (24, 30, 3), np.uint16)
    keywords = {"layout": "HWC", "color": color, "tiles": (2, 2), "value_range": (64, 940)}
    result = histeq.clahe(image, backend=backend, **keywords)
    assert same(result, histeq.clahe(image, backend="numpy", **keywords))
    if color == "channels":
        expected = histeq.clahe(image[..., 1], tiles=(2, 2), value_range=(64, 940), backend="numpy")
        assert same(np.ascontiguousarray(result[..., 1]), expected)


# Results of 8 bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", INTEGER_RULES)
@pytest.mark.parametrize("dtype", ["int8", *WIDE])
def test_8_bits_by_the_same_rule(rule, dtype, backend):
    """Rules look at the order of values only: 16 bits of 256 values are equalized as those of 8 bits."""
    rng = np.random.default_rng(12)
    limits = np.iinfo(dtype)
    for _ in range(2 if backend == "cupy" else 8):
        eight = rng.integers(0, int(rng.integers(2, 256)), (60, 70)).astype(np.uint8)
        eight = np.unique(eight, return_inverse=True)[1].reshape(eight.shape).astype(np.uint8)
        values = np.sort(rng.choice(int(limits.max) - int(limits.min) + 1, 256, replace=False)) + limits.min
        image = values.astype(dtype)[eight]
        keywords = {"rule": rule, "out_dtype": np.uint8, "backend": backend}
        result = histeq.equalize(image, **keywords)
        assert same(result, ORACLES[rule](eight))
        counts = histeq.histogram(image, backend=backend)
        table = histeq.lookup_table(counts, dtype=dtype, **keywords)
        assert same(histeq.apply(image, table, backend=backend), result)
        out = np.empty((70, 60), np.uint8).T
        assert histeq.equalize(image, out=out, **keywords) is out
        assert same(np.ascontiguousarray(out), result)


@pytest.mark.parametrize("rule", INTEGER_RULES)
def test_8_bits_of_a_range(rule, backend):
    image = np.random.default_rng(13).integers(-2000, 4000, (50, 60)).astype(np.int16)
    inside, counted = clipped(image, (-1024, 3071))
    for out_range in (None, (16, 235)):
        keywords = {"value_range": (-1024, 3071), "out_dtype": "uint8", "rule": rule, "out_range": out_range}
        result = histeq.equalize(image, backend=backend, **keywords)
        assert result.dtype == np.uint8
        assert same(result, histeq.equalize(inside, mask=counted, backend="numpy", **keywords))
        low, high = out_range or (0, 255)
        assert (result.min() >= low, result.max() <= high) == (True, True)
        assert int(result.max()) - int(result.min()) > 200


def test_8_bits_of_one_level(backend):
    """Where every pixel would keep its value, it goes as far up among 8 bits as it was among its own."""
    for dtype, value, keywords, expected in (
        ("uint16", 0, {}, 0),
        ("uint16", 65535, {}, 255),
        ("uint16", 32768, {}, 128),
        ("int16", -32768, {}, 0),
        ("int16", 0, {}, 128),
        ("uint16", 2048, {"value_range": (0, 4095)}, 128),
        ("uint16", 9000, {"value_range": (0, 4095)}, 255),
        ("uint16", 2048, {"value_range": (0, 4095), "out_range": (16, 235)}, 126),
    ):
        image = np.full((4, 5), value, dtype)
        for rule in ("opencv", "numpy", "pillow"):
            result = histeq.equalize(image, rule=rule, out_dtype=np.uint8, backend=backend, **keywords)
            assert same(result, np.full((4, 5), expected, np.uint8)), (dtype, value, keywords, rule)


def test_8_bits_of_batches_channels_and_alpha(backend):
    rng = np.random.default_rng(14)
    images = rng.integers(0, 65536, (3, 20, 30, 4), np.uint16)
    keywords = {"layout": "NHWC", "color": "channels", "out_dtype": np.uint8}
    result = histeq.equalize(images, alpha=True, backend=backend, **keywords)
    assert result.dtype == np.uint8
    assert same(result[..., 3], np.rint(images[..., 3] / 257).astype(np.uint8))
    for n, c in np.ndindex(3, 3):
        expected = histeq.equalize(images[n, ..., c], out_dtype=np.uint8, backend="numpy")
        assert same(np.ascontiguousarray(result[n, ..., c]), expected)
    grey = images[0, ..., 0]
    assert same(
        histeq.equalize(grey, nodata=7, out_dtype=np.uint8, backend=backend),
        histeq.equalize(grey, nodata=7, out_dtype=np.uint8, backend="numpy"),
    )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_clahe_in_8_bits(dtype, backend):
    rng = np.random.default_rng(15)
    image = random_image(rng, dtype, most=900)
    bins = _rules.levels_of(dtype)
    counts = np.bincount(image.ravel().astype(np.int64) - np.iinfo(dtype).min, minlength=bins)
    levels = np.cumsum(counts).astype(np.float32) * (np.float32(255) / np.float32(image.size))
    expected = np.rint(levels).astype(np.uint8)[image.astype(np.int64) - np.iinfo(dtype).min]
    keywords = {"tiles": (1, 1), "clip_limit": 0, "out_dtype": np.uint8}
    assert same(histeq.clahe(image, backend=backend, **keywords), expected)
    few = {"bins": 256, "tiles": (2, 3), "out_dtype": "uint8", "out_range": (16, 235)}
    mask = rng.random(image.shape) < 0.7
    for more in ({}, {"mask": mask}, {"nodata": 0}):
        result = histeq.clahe(image, backend=backend, **few, **more)
        assert same(result, histeq.clahe(image, backend="numpy", **few, **more))
        assert result.dtype == np.uint8
        tables = histeq.tile_tables(image, backend=backend, **few, **more)
        nodata = {"nodata": 0} if "nodata" in more else {}
        assert same(histeq.apply_tiles(image, tables, backend=backend, **nodata), result)


# int8 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_int8_is_uint8_moved(rule, backend):
    rng = np.random.default_rng(16)
    for _ in range(8):
        unsigned = random_image(rng, np.uint8)
        signed = (unsigned.astype(np.int64) - 128).astype(np.int8)
        result = histeq.equalize(signed, rule=rule, backend=backend)
        expected = ORACLES[rule](unsigned)
        if rule == "skimage":
            if len(np.unique(unsigned)) > 1:
                assert same(result, skimage.exposure.equalize_hist(signed))
            continue
        assert same(result, (expected.astype(np.int64) - 128).astype(np.int8))
        counts = histeq.histogram(signed, backend=backend)
        assert same(counts, histeq.histogram(unsigned, backend=backend))
        table = histeq.lookup_table(counts, rule=rule, dtype=np.int8, backend=backend)
        assert same(histeq.apply(signed, table, backend=backend), result)
        nodata = int(signed.flat[0])
        kept = histeq.equalize(signed, rule=rule, nodata=nodata, backend=backend)
        assert (kept[signed == nodata] == nodata).all()


def test_clahe_of_int8(backend):
    rng = np.random.default_rng(17)
    for clip in (0.0, 2.0, 40.0):
        unsigned = random_image(rng, np.uint8)
        signed = (unsigned.astype(np.int64) - 128).astype(np.int8)
        expected = cv2.createCLAHE(clip, (3, 2)).apply(unsigned)
        result = histeq.clahe(signed, clip_limit=clip, tiles=(2, 3), backend=backend)
        assert same(result, (expected.astype(np.int64) - 128).astype(np.int8))


# Not served -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, "int32", "uint32", "int64", "uint64"])
def test_remedies_work(dtype):
    """What the message says to do, done."""
    image = np.arange(20).reshape(4, 5).astype(dtype)
    for call in (histeq.equalize, histeq.clahe, histeq.histogram, lambda x: histeq.match(x, x)):
        with pytest.raises(
            TypeError, match=f"image must have one of the dtypes .*, got {np.dtype(dtype)}; "
        ) as e:
            call(image)
        message = str(e.value)
    remedies = [np.uint8, np.uint16, np.int16, np.float64]
    named = [kind for kind in remedies if f".astype(np.{kind.__name__})" in message]
    assert named == (remedies[:1] if dtype is bool else remedies[1:])
    for kind in named:
        histeq.equalize(image.astype(kind))


GREY = np.arange(12, dtype=np.uint16).reshape(3, 4)
HELD, SERVED = "must be two values that uint16 holds", "must be uint16 or uint8 for uint16 and rule='opencv'"
ERRORS = [
    ({"value_range": (0, 65536)}, ValueError, f"value_range {HELD}, got (0, 65536)"),
    ({"value_range": (-1, 9)}, ValueError, f"value_range {HELD}, got (-1, 9)"),
    ({"value_range": (0.5, 9)}, ValueError, f"value_range {HELD}, got (0.5, 9)"),
    ({"value_range": (9, 9)}, ValueError, "value_range must be finite with low < high, got (9, 9)"),
    ({"value_range": 7}, TypeError, "value_range must be two numbers (low, high), got 7"),
    ({"out_dtype": "int8"}, TypeError, f"out_dtype {SERVED}, got 'int8'"),
    ({"out_dtype": "f4"}, TypeError, f"out_dtype {SERVED}, got 'f4'"),
    ({"out_dtype": "no"}, TypeError, f"out_dtype {SERVED}, got 'no'"),
    ({"out_dtype": []}, TypeError, f"out_dtype {SERVED}, got []"),
    (
        {"out_dtype": np.uint8, "out_range": (0, 256)}, ValueError,
        "out_range must be two values that uint8 holds, got (0, 256)",
    ),
    (
        {"out_dtype": np.uint8, "out": GREY.copy()}, TypeError,
        "out must have the result's dtype uint8, got uint16",
    ),
    ({"out_dtype": np.uint8, "nodata": 256}, ValueError, "nodata must be a value that uint8 holds, got 256"),
]  # fmt: skip


@pytest.mark.parametrize("function", [histeq.equalize, histeq.clahe])
@pytest.mark.parametrize(("keywords", "error", "message"), ERRORS, ids=lambda value: str(value)[:40])
def test_wrong_arguments(keywords, error, message, function):
    with pytest.raises(error) as caught:
        function(GREY, **keywords)
    assert str(caught.value) == message


def test_what_does_not_go_together():
    color = np.zeros((3, 4, 3), np.uint16)
    with pytest.raises(ValueError, match="out_dtype=uint8 is for grey images and color='channels'"):
        histeq.equalize(color, layout="HWC", out_dtype=np.uint8)
    with pytest.raises(
        TypeError, match="out_dtype must be float64 for uint16 and rule='skimage', got 'uint8'"
    ):
        histeq.equalize(GREY, rule="skimage", out_dtype="uint8")
    with pytest.raises(TypeError, match="out_dtype must be float32 for float16"):
        histeq.equalize(np.zeros((3, 4), np.float16), out_dtype=np.float16)
    with pytest.raises(ValueError, match="bins must be None beside value_range: uint16 has one"):
        histeq.clahe(GREY, bins=4, value_range=(0, 7))
    with pytest.raises(ValueError, match=r"counts must have 8 entries .* and value_range=\(0, 7\), got"):
        histeq.lookup_table(np.ones(9, int), dtype=np.uint16, value_range=(0, 7))
    with pytest.raises(
        ValueError, match=r"table must have shape \(8,\) or \(8,\) for this image, got \(9,\)"
    ):
        histeq.apply(GREY, np.zeros(9, np.uint16), value_range=(0, 7))
    for out_dtype in ("uint16", np.dtype(">u2"), np.uint16):
        assert same(histeq.equalize(GREY, out_dtype=out_dtype), histeq.equalize(GREY))


def test_no_dtype_is_not_that_of_fractions():
    """NumPy takes None for float64."""
    with pytest.raises(TypeError, match="out_dtype must be float64 for uint16 and rule='skimage', got 'no'"):
        histeq.equalize(GREY, rule="skimage", out_dtype="no")
