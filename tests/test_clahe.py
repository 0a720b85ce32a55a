"""CLAHE: OpenCV's pixels on integers of one plane; and everything around that."""

import itertools
import threading

import cv2
import hypothesis
import numpy as np
import oracles
import pytest
from hypothesis import strategies as st
from images import (
    DTYPES,
    INTEGERS,
    INTERPRETED,
    accepted,
    arrays,
    random_float,
    random_image,
    random_values,
    same,
    views,
)

import histeq
from histeq._backends.numpy import backend as reference
from histeq._core import tile_grid as _tiles

BOTH = ("numba", "numpy")
RAMP = np.add.outer(np.arange(40), 3 * np.arange(50)).astype(np.uint8)


@pytest.fixture(params=BOTH)
def backend(request):
    """Return each backend that has CLAHE."""
    return request.param


def random_case(rng, dtype):
    """Return (image, keywords, OpenCV's bit shift): every class of size, grid, clip limit and shift."""
    image = random_image(rng, dtype, most=int(rng.choice([30, 300, 3000])))
    if rng.random() < 0.1:
        image = image.reshape((1, -1) if rng.random() < 0.5 else (-1, 1))
    tiles = tuple(int(n) for n in rng.integers(1, rng.choice([3, 9, 40]), 2))
    clip = float(rng.choice([0, -1, 1e-9, 0.5, 1, 2, 3.7, 40, 1e4, np.nan, rng.random() * 10]))
    shift = int(rng.choice([0, 0, 2, 4, 6, 8, 15])) if dtype == "uint16" else 0
    keywords = {"clip_limit": clip, "tiles": tiles}
    return image, keywords | ({"bins": 65536 >> shift} if shift else {}), shift


def compare_with_opencv(count, dtype, backend, seed):
    rng = np.random.default_rng(seed)
    for i in range(count):
        image, keywords, shift = random_case(rng, dtype)
        expected = oracles.clahe(image, keywords["clip_limit"], keywords["tiles"], shift)
        result = histeq.clahe(image, backend=backend, **keywords)
        assert same(result, expected), (i, image.shape, keywords)


@pytest.mark.parametrize(("dtype", "count"), [("uint8", 200), ("uint16", 60)])
def test_as_opencv(dtype, count, backend):
    compare_with_opencv(count // 20 if INTERPRETED else count, dtype, backend, seed=0)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("dtype", "backend", "count"),
    [
        ("uint8", "numba", 12_000),
        ("uint16", "numba", 4000),
        ("uint8", "numpy", 3000),
        ("uint16", "numpy", 1000),
    ],
)
def test_as_opencv_on_thousands(dtype, backend, count):
    compare_with_opencv(count, dtype, backend, seed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_large_images_as_opencv(dtype):
    rng = np.random.default_rng(2)
    for shape in ((1080, 1920), (1081, 1919), (2160, 3840), (4000, 77), (5, 40_000)):
        for tiles in ((8, 8), (1, 1), (7, 31), (64, 64)):
            for image in (rng.integers(0, np.iinfo(dtype).max, shape, dtype, True), natural(shape, dtype)):
                clip = float(rng.choice([0, 1, 2, 40]))
                expected = oracles.clahe(image, clip, tiles)
                assert same(histeq.clahe(image, clip_limit=clip, tiles=tiles), expected)


def natural(shape, dtype):
    """Return smooth shading with noise."""
    rng = np.random.default_rng(3)
    y, x = np.linspace(0, 1, shape[0])[:, None], np.linspace(0, 1, shape[1])
    image = (0.5 + 0.4 * np.sin(7 * x * y + 5 * y)) * np.iinfo(dtype).max
    return np.clip(image * (1 + 0.01 * rng.normal(size=shape)), 0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(700, 900), (256, 256), (601, 1100)])
def test_images_worth_several_threads(shape, dtype):
    image = natural(shape, dtype)
    for tiles in ((8, 8), (1, 2), (50, 3)):
        expected = oracles.clahe(image, 2.0, tiles)
        for threads in (1, 2, 5):
            histeq.set_num_threads(threads)
            assert same(histeq.clahe(image, tiles=tiles), expected)
        histeq.set_num_threads(None)


@pytest.mark.parametrize("clip", [np.inf, 1e12, 1e300])
def test_a_limit_that_no_bin_reaches_does_not_clip(clip, backend):
    """OpenCV's integer overflows here, and it clips as hard as it can."""
    result = histeq.clahe(RAMP, clip_limit=clip, backend=backend)
    assert same(result, histeq.clahe(RAMP, clip_limit=0, backend=backend))
    assert same(result, oracles.clahe(RAMP, 0, (8, 8)))
    assert not same(result, oracles.clahe(RAMP, 1e12, (8, 8)))


def test_eight_threads_at_once(backend):
    """Objects of cv2.CLAHE give wrong pixels when threads share them."""
    rng = np.random.default_rng(4)
    images = [random_values(rng, 90 * 70, dtype).reshape(90, 70) for dtype in ("uint8", "uint16") * 4]
    expected = [oracles.clahe(image, 2.0, (8, 8)) for image in images]
    wrong = []

    def work(i):
        for _ in range(2 if backend == "numpy" else 20):
            wrong.extend([i] * (not same(histeq.clahe(images[i], backend=backend), expected[i])))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Geometry -------------------------------------------------------------------------------------------


def test_tile_size(backend):
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (48, 64), np.uint8)
    assert same(
        histeq.clahe(image, tile_size=(12, 8), backend=backend),
        histeq.clahe(image, tiles=(4, 8), backend=backend),
    )
    tables = histeq.tile_tables(image[:40, :50], tile_size=16, backend=backend)
    assert (tables.tiles, tables.tile_size) == ((3, 4), (16, 16))
    padded = np.pad(image[:40, :50], ((0, 8), (0, 14)), mode="reflect")
    whole = histeq.clahe(padded, tile_size=16, backend=backend)
    assert same(histeq.clahe(image[:40, :50], tile_size=16, backend=backend), whole[:40, :50])
    one = histeq.clahe(image, tiles=1, backend=backend)
    assert same(histeq.clahe(image, tile_size=1000, backend=backend), one)


def test_axes_in_the_image_s_order(backend):
    image = np.arange(60 * 90, dtype=np.uint16).reshape(60, 90) % 251
    turned = histeq.clahe(image.T, layout="WH", tiles=(9, 6), backend=backend)
    assert same(turned.T, histeq.clahe(image, tiles=(6, 9), backend=backend))
    color = np.stack([image] * 3)
    one = histeq.clahe(color, layout="CHW", color="channels", tiles=(6, 9), backend=backend)
    assert same(one[1], histeq.clahe(image, tiles=(6, 9), backend=backend))


def test_a_row_alone(backend):
    row = np.arange(90, dtype=np.uint8)
    result = histeq.clahe(row, backend=backend, tiles=9)
    assert same(result, histeq.clahe(row[None], tiles=(1, 9), backend=backend)[0])
    assert histeq.clahe(row, backend=backend).shape == row.shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_volume(dtype, backend):
    """Against the definition, voxel by voxel."""
    rng = np.random.default_rng(6)
    volume = random_values(rng, 5 * 9 * 11, dtype).reshape(5, 9, 11)
    volume[:, 3:] //= 3
    tiles = (2, 3, 2)
    result = histeq.clahe(volume, layout="DHW", tiles=tiles, clip_limit=3, backend=backend)
    tables = histeq.tile_tables(volume, layout="DHW", tiles=tiles, clip_limit=3, backend=backend)
    f32, size = np.float32, tables.tile_size
    expected = np.empty_like(volume)
    for at in np.ndindex(volume.shape):
        sides = []
        for position, tile, count in zip(at, size, tiles, strict=True):
            where = f32(position) * (f32(1) / f32(tile)) - f32(0.5)
            first = int(np.floor(where))
            weight = f32(where - f32(first))
            sides.append(((max(first, 0), f32(1) - weight), (min(first + 1, count - 1), weight)))
        layers = []
        for z, _ in sides[0]:
            rows = []
            for y, _ in sides[1]:
                (a, wa), (b, wb) = sides[2]
                level = [f32(tables.tables[z, y, x, volume[at]]) for x in (a, b)]
                rows.append(level[0] * wa + level[1] * wb)
            layers.append(rows[0] * sides[1][0][1] + rows[1] * sides[1][1][1])
        expected[at] = np.rint(layers[0] * sides[0][0][1] + layers[1] * sides[0][1][1])
    assert same(result, expected)


def test_volume_of_one_slice_is_an_image(backend):
    for dtype in INTEGERS:
        image = random_values(np.random.default_rng(7), 400, dtype).reshape(1, 16, 25)
        volume = histeq.clahe(image, layout="DHW", tiles=(1, 4, 5), backend=backend)
        assert same(volume[0], histeq.clahe(image[0], tiles=(4, 5), backend=backend))


def test_volume_of_one_slice_is_an_image_whatever_the_grid(backend):
    """OpenCV extends H and W together; a depth that divides stays as it is."""
    rng = np.random.default_rng(8)
    for height, width in itertools.product(range(1, 6), repeat=2):
        image = rng.integers(0, 256, (height, width), np.uint8)
        for deep, tall, wide in itertools.product((1, 3), range(1, 6), range(1, 6)):
            tiles = (deep, tall, wide)
            volume = histeq.clahe(image[None], layout="DHW", tiles=tiles, backend=backend)
            expected = histeq.clahe(image, tiles=tiles[1:], backend=backend)
            assert same(volume[0], expected), (tiles, image.shape)


def test_depth_is_extended_by_its_own_tiles(backend):
    volume = np.random.default_rng(9).integers(0, 256, (6, 9, 11), np.uint8)
    for tiles, size in (((1, 2, 2), (6, 5, 6)), ((4, 3, 11), (2, 3, 1)), ((3, 3, 2), (2, 4, 6))):
        tables = histeq.tile_tables(volume, layout="DHW", tiles=tiles, backend=backend)
        assert tables.tile_size == size
    one = histeq.tile_tables(volume, layout="DHW", tiles=(1, 3, 11), clip_limit=0, backend=backend)
    counts = np.cumsum(np.bincount(volume[:, :3, 0].ravel(), minlength=256)).astype(np.float32)
    assert same(one.tables[0, 0, 0], np.rint(counts * (np.float32(255) / np.float32(18))).astype(np.uint8))
    turned = histeq.clahe(volume.transpose(1, 2, 0), layout="HWD", tiles=(2, 2, 3), backend=backend)
    straight = histeq.clahe(volume, layout="DHW", tiles=(3, 2, 2), backend=backend)
    assert same(turned.transpose(2, 0, 1), straight)


# Dtypes, layouts, memory ----------------------------------------------------------------------------


@hypothesis.given(drawn=arrays(), data=st.data())
@hypothesis.settings(max_examples=60)
def test_any_array_on_every_backend(drawn, data):
    image, layout = drawn
    before = image.copy()
    color, alpha = data.draw(st.sampled_from(accepted(image, layout)))
    keywords = {"layout": layout, "color": color, "alpha": alpha}
    spatial = [letter for letter in layout if letter in "DHW"]
    counting = {
        "clip_limit": data.draw(st.sampled_from([0, 1.0, 2.0, 40.0])),
        data.draw(st.sampled_from(["tiles", "tile_size"])): [data.draw(st.integers(1, 4)) for _ in spatial],
    }
    if data.draw(st.booleans()):
        counting["bins"] = data.draw(st.sampled_from([2, 64, 256]))
    if data.draw(st.booleans()):
        counting["out_range"] = (16, 100)
    if data.draw(st.booleans()):
        rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
        letters = [c for c in layout if c != "C" and (c != "N" or data.draw(st.booleans()))]
        counting["mask"] = rng.random([image.shape[layout.index(letter)] for letter in letters]) < 0.6
    if data.draw(st.booleans()) and image.size:
        keywords["nodata"] = image.flat[data.draw(st.integers(0, image.size - 1))].item()
    results = [histeq.clahe(image, backend=b, **keywords, **counting) for b in BOTH]
    assert same(*results)
    assert results[0].shape == image.shape
    assert same(image, before)
    tables = [histeq.tile_tables(image, backend=b, **keywords, **counting) for b in BOTH]
    assert same(tables[0].tables, tables[1].tables)
    for backend in BOTH:
        assert same(histeq.apply_tiles(image, tables[0], backend=backend, **keywords), results[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9, 9), (60, 71)])
def test_windows_and_memory(dtype, shape, backend):
    """Every kind of memory, as input and output; any window of it without a border."""
    rng = np.random.default_rng(8)
    if dtype.startswith("f"):
        image = random_float(rng, dtype, shape)
    else:
        image = random_values(rng, shape[0] * shape[1], dtype).reshape(shape)
    expected = histeq.clahe(image, tiles=(3, 4), backend="numpy")
    assert expected.dtype == {"float16": "float32"}.get(dtype, dtype)
    for kind, view in views(rng, image).items():
        result = histeq.clahe(view, tiles=(3, 4), backend=backend)
        assert np.array_equal(result, expected, equal_nan=dtype.startswith("f")), kind
    for kind, out in views(rng, np.zeros_like(expected)).items():
        if kind not in ("read-only", "foreign byte order"):
            assert histeq.clahe(image, tiles=(3, 4), out=out, backend=backend) is out
            assert np.array_equal(out, expected, equal_nan=dtype.startswith("f")), kind
    tables = histeq.tile_tables(image, tiles=(3, 4), backend=backend)
    for _ in range(20):
        top, left = (int(rng.integers(n)) for n in shape)
        bottom, right = int(rng.integers(top, shape[0] + 1)), int(rng.integers(left, shape[1] + 1))
        window = histeq.apply_tiles(
            image[top:bottom, left:right], tables, origin=(top, left), backend=backend
        )
        part = expected[top:bottom, left:right]
        assert np.array_equal(window, part, equal_nan=dtype.startswith("f"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype, backend):
    rng = np.random.default_rng(9)
    image = random_float(rng, "float64", (50, 70)) * 20
    image = np.nan_to_num(image, posinf=3, neginf=2).clip(0, 250).astype(dtype)
    if dtype != "float16":
        for view in (image, image[::-1], image[:, ::2], image.T):
            copy = view.copy()
            expected = histeq.clahe(copy, backend="numpy")
            assert histeq.clahe(view, out=view, backend=backend) is view
            assert np.array_equal(view, expected)
            view[...] = copy


def test_out_leaves_the_rest_alone(backend):
    for dtype in ("uint8", "uint16"):
        big = np.full((50, 600), 7, dtype)
        image = np.arange(20 * 530).reshape(20, 530).astype(dtype)
        histeq.clahe(image, out=big[10:30, 10:540], backend=backend)
        assert same(np.ascontiguousarray(big[10:30, 10:540]), oracles.clahe(image, 2.0, (8, 8)))
        big[10:30, 10:540] = 7
        assert (big == 7).all()


def test_batches(backend):
    rng = np.random.default_rng(10)
    stack = rng.integers(0, 256, (5, 30, 40), np.uint8)
    expected = np.stack([oracles.clahe(image, 2.0, (8, 8)) for image in stack])
    assert same(histeq.clahe(stack, layout="NHW", backend=backend), expected)
    tables = histeq.tile_tables(stack, layout="NHW", backend=backend)
    assert tables.tables.shape == (5, 8, 8, 256)
    one = histeq.tile_tables(stack[0], backend=backend)
    frames = histeq.apply_tiles(stack, one, layout="NHW", backend=backend)
    assert same(frames[0], expected[0])
    assert same(frames[3], histeq.apply_tiles(stack[3], one, backend=backend))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_luma_as_opencv(dtype, order, backend):
    rng = np.random.default_rng(11)
    image = random_values(rng, 45 * 56 * 4, dtype).reshape(45, 56, 4)
    color = "luma" if order == "RGB" else "luma-bgr"
    expected = oracles.luma(image[..., :3], order, lambda y: oracles.clahe(y, 2.0, (8, 8)))
    for layout, view in (("HWC", image), ("CHW", np.ascontiguousarray(np.moveaxis(image, -1, 0)))):
        result = histeq.clahe(view, layout=layout, color=color, backend=backend)
        result = result if layout == "HWC" else np.moveaxis(result, 0, -1)
        assert same(np.ascontiguousarray(result[..., :3]), expected)
        assert same(result[..., 3], image[..., 3])


def test_channels(backend):
    rng = np.random.default_rng(12)
    image = rng.integers(0, 256, (45, 56, 4), np.uint8)
    result = histeq.clahe(image, layout="HWC", color="channels", backend=backend)
    for c in range(4):
        assert same(np.ascontiguousarray(result[..., c]), oracles.clahe(image[..., c], 2.0, (8, 8)))


def test_int16_is_uint16_moved(backend):
    image = random_values(np.random.default_rng(13), 900, "uint16").reshape(30, 30)
    moved = (image.astype(np.int64) - 32768).astype(np.int16)
    for bins in (None, 4096):
        expected = histeq.clahe(image, bins=bins, backend=backend).astype(np.int64) - 32768
        assert (histeq.clahe(moved, bins=bins, backend=backend) == expected).all()


def test_out_range(backend):
    image = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    result = histeq.clahe(image, out_range=(100, 4095), clip_limit=0, tiles=1, backend=backend)
    assert (result.min(), result.max()) == (101, 4095)
    signed = histeq.clahe(image.astype(np.int16) - 2000, out_range=(-50, 50), backend=backend)
    assert (signed.min() >= -50, signed.max() <= 50) == (True, True)
    assert np.unique(signed).size > 50


def test_floats(backend):
    """Quantised to `bins`, and 65,536 levels of the result."""
    rng = np.random.default_rng(14)
    image = rng.random((60, 80)) * 7 - 3
    low, high = image.min(), image.max()
    index = np.clip(((image - low) / (high - low) * 256).astype(int), 0, 255).astype(np.uint8)
    levels = histeq.clahe(index.astype(np.uint16) << 8, bins=256, out_range=(0, 65535), backend=backend)
    result = histeq.clahe(image, backend=backend)
    assert np.allclose(result, levels / 65535, atol=1e-12)
    ranged = histeq.clahe(image, out_range=(-1, 3), backend=backend)
    assert np.allclose(ranged, levels / 65535 * 4 - 1, atol=1e-12)
    fine = histeq.clahe(image, bins=65536, value_range=(-5, 5), backend=backend)
    assert np.unique(fine).size > 3000
    image[3, 4], image[5, 6] = np.nan, np.inf
    with_holes = histeq.clahe(image, backend=backend)
    assert np.isnan(with_holes[3, 4])
    assert with_holes[5, 6] == np.inf
    assert np.isfinite(with_holes).sum() == image.size - 2
    # A range given makes windows and frames comparable.
    tables = histeq.tile_tables(image[:30], value_range=(-5, 5), tile_size=30, backend=backend)
    assert tables.bins == 256


def test_mask_and_nodata(backend):
    rng = np.random.default_rng(15)
    image = rng.integers(0, 200, (64, 64), np.uint8)
    mask = np.zeros((64, 64), np.bool_)
    mask[:, :40] = True
    result = histeq.clahe(image, mask=mask, tiles=(2, 4), backend=backend)
    tables = histeq.tile_tables(image, mask=mask, tiles=(2, 4), backend=backend).tables
    assert same(tables[:, 3], tables[:, 2])  # nothing is counted in the last column of tiles
    assert not same(tables[:, 1], tables[:, 2])
    half = histeq.tile_tables(image[:, :32], tiles=(2, 2), backend=backend)
    assert same(tables[:, :2], half.tables)
    image[mask] = 255
    kept = histeq.clahe(image, nodata=255, tiles=(2, 4), backend=backend)
    assert (kept[mask] == 255).all()
    assert (kept[~mask] != image[~mask]).any()
    assert result.shape == image.shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_counted(dtype, backend):
    image = np.arange(100).reshape(10, 10).astype(dtype)
    none = np.zeros(image.shape, np.bool_)
    if dtype in INTEGERS:
        assert same(histeq.clahe(image, mask=none, backend=backend), image)
    else:
        assert np.isfinite(histeq.clahe(image, mask=none, backend=backend)).all()
    for shape in ((0, 5), (5, 0), (0, 0)):
        empty = np.zeros(shape, dtype)
        assert histeq.clahe(empty, backend=backend).shape == shape
        assert histeq.tile_tables(empty, backend=backend).tables.shape[:2] == (8, 8)
    nan = np.full((4, 4), np.nan, np.float32)
    assert np.isnan(histeq.clahe(nan, backend=backend)).all()


def test_tables_are_small_and_immutable(backend):
    tables = histeq.tile_tables(RAMP, tiles=(2, 3), bins=64, backend=backend)
    assert repr(tables) == "TileTables(2 x 3 tiles of 21 x 17 pixels, 64 bins, uint8)"
    assert tables.image_shape == (40, 50)
    assert tables.tables.shape == (2, 3, 64)
    with pytest.raises(ValueError, match="read-only"):
        tables.tables[0] = 0
    with pytest.raises(AttributeError):
        tables.bins = 3


def test_fewer_bins_ignore_the_lower_bits(backend):
    image = np.arange(60 * 60, dtype=np.uint16).reshape(60, 60) * 18
    twelve = image >> 4 << 4
    assert same(
        histeq.clahe(image, bins=4096, backend=backend), histeq.clahe(twelve, bins=4096, backend=backend)
    )
    assert (histeq.clahe(image, bins=4096, backend=backend) % 16 == 0).all()


def test_tables_beyond_32_bits():
    """Sums of this size need tiles that no test has memory for."""
    counts = np.zeros(256, np.int64)
    counts[[3, 9, 200]] = 5 << 31, 1 << 33, 12345
    levels = _tiles.levels_of(np.dtype(np.uint8), 256, None)
    from histeq_kernels.cpu.clahe import tile_tables

    for clip in (0.0, 2.0, np.inf):
        table = np.empty(256, np.uint8)
        form = np.array([256, 0, 255], np.int64)
        tile_tables.tile_table.u8(counts, clip, form, np.empty_like(counts), table)
        assert same(table, _tiles.table(counts, clip, levels))


# Wrong arguments ------------------------------------------------------------------------------------

GRID = "must be an int, or one for each of the axes HW"
ERRORS = [
    # keywords, error, message
    ({"clip_limit": "2"}, TypeError, "clip_limit must be a number, got str"),
    ({"clip_limit": True}, TypeError, "clip_limit must be a number, got bool"),
    ({"tiles": (0, 0)}, ValueError, "tiles must be from 1 to 2147483647 along every axis, got (0, 0)"),
    ({"tiles": (8, -1)}, ValueError, "tiles must be from 1 to 2147483647 along every axis, got (8, -1)"),
    ({"tiles": 0}, ValueError, "tiles must be from 1 to 2147483647 along every axis, got 0"),
    ({"tiles": 1 << 31}, ValueError, "tiles must be from 1 to 2147483647 along every axis, got 2147483648"),
    ({"tiles": (8, 8, 8)}, ValueError, f"tiles {GRID}, got (8, 8, 8)"),
    ({"tiles": range(10**9)}, ValueError, f"tiles {GRID}, got range(0, 1000000000)"),
    ({"tiles": np.array(3)}, TypeError, f"tiles {GRID}, got array(3)"),
    ({"tiles": np.array([[8, 8]])}, TypeError, f"tiles {GRID}, got array([[8, 8]])"),
    ({"tiles": (np.arange(2), 8)}, TypeError, f"tiles {GRID}, got (array([0, 1]), 8)"),
    ({"tiles": (8.0, 8.0)}, TypeError, f"tiles {GRID}, got (8.0, 8.0)"),
    ({"tiles": "8x8"}, TypeError, f"tiles {GRID}, got '8x8'"),
    ({"tiles": None}, TypeError, f"tiles {GRID}, got None"),
    ({"tile_size": 0}, ValueError, "tile_size must be from 1 to 2147483647 along every axis, got 0"),
    ({"tile_size": 1.5}, TypeError, f"tile_size {GRID}, got 1.5"),
    (
        {"tile_size": 4, "tiles": (2, 2)}, ValueError,
        "tile_size replaces tiles: give one of them, got 4 and (2, 2)",
    ),
    (
        {"tiles": (1 << 20, 1 << 20)}, ValueError,
        "tiles must not give more than 1073741824 table entries in all, "
        "got 1 x 1 x 1048576 x 1048576 tiles of 256 bins",
    ),
    ({"bins": 1}, ValueError, "bins must be a power of two from 2 to 256 for uint8, got 1"),
    ({"bins": 100}, ValueError, "bins must be a power of two from 2 to 256 for uint8, got 100"),
    ({"bins": 4096}, ValueError, "bins must be a power of two from 2 to 256 for uint8, got 4096"),
    ({"bins": 64.0}, TypeError, "bins must be an int, got float"),
    ({"value_range": (0, 1.5)}, ValueError, "value_range must be two values that uint8 holds, got (0, 1.5)"),
    ({"out_range": (0, 256)}, ValueError, "out_range must be two values that uint8 holds, got (0, 256)"),
    ({"mask": np.ones((3, 3), bool)}, ValueError, "mask must have the image's shape"),
    ({"nodata": 300}, ValueError, "nodata must be a value that uint8 holds, got 300"),
    ({"layout": "HWC"}, ValueError, "layout must have one letter for each of the image's 2 axes, got 'HWC'"),
    ({"backend": "cuda"}, ValueError, "backend must be one of"),
]  # fmt: skip


@pytest.mark.parametrize(("keywords", "error", "message"), ERRORS, ids=lambda value: str(value)[:30])
def test_wrong_arguments(keywords, error, message):
    out = np.full_like(RAMP, 7)
    with pytest.raises(error) as raised:
        histeq.clahe(RAMP, out=out, **keywords)
    assert str(raised.value).startswith(message)
    assert (out == 7).all()
    with pytest.raises(error) as raised:
        histeq.tile_tables(RAMP, **keywords)
    assert str(raised.value).startswith(message)


def test_wrong_floats():
    image = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match="bins must be from 2 to 65536 for float32, got 70000"):
        histeq.clahe(image, bins=70000)
    with pytest.raises(TypeError, match="out must have the result's dtype float32, got float16"):
        histeq.clahe(image.astype(np.float16), out=np.empty((4, 4), np.float16))


def test_wrong_windows():
    tables = histeq.tile_tables(RAMP)
    for keywords, error, message in (
        (
            {"origin": (1, 0)},
            ValueError,
            "image must lie inside the image of tables, of shape (40, 50), got shape",
        ),
        (
            {"origin": (-1, 0)},
            ValueError,
            "origin must be at least 0 along every axis, got (-1, 0)",
        ),
        ({"origin": 3}, TypeError, "origin must be one int for each of the axes HW, got 3"),
        ({"origin": (0.0, 1)}, TypeError, "origin must be one int for each of the axes HW, got (0.0, 1)"),
        ({"origin": (0, 0, 0)}, ValueError, "origin must be one int for each of the axes HW, got (0, 0, 0)"),
    ):
        with pytest.raises(error) as raised:
            histeq.apply_tiles(RAMP, tables, **keywords)
        assert str(raised.value).startswith(message)
    with pytest.raises(
        TypeError, match="tables must be TileTables, as tile_tables returns them, got ndarray"
    ):
        histeq.apply_tiles(RAMP, tables.tables)
    with pytest.raises(TypeError, match="image must have the dtype of tables, uint8, got uint16"):
        histeq.apply_tiles(RAMP.astype(np.uint16), tables)
    with pytest.raises(ValueError, match="image must have the spatial axes of tables, HW, got DHW"):
        histeq.apply_tiles(RAMP[None], tables, layout="DHW")
    with pytest.raises(ValueError, match="tables must be for 3 channels and 1 or 1 images"):
        histeq.apply_tiles(np.stack([RAMP] * 3), tables, layout="CHW", color="channels")
    with pytest.raises(TypeError, match="image must be an array"):
        histeq.tile_tables([[1, 2]])


@pytest.mark.parametrize("color", ["luma", "luma-bgr"])
def test_luma_of_every_arrangement(color, monkeypatch):
    """Where rows of pixels are not to be had, luma is taken in parts."""
    from histeq._backends.numba import clahe as _local

    monkeypatch.setattr(_local, "_PART", 500)
    pixels = np.random.default_rng(5).integers(0, 256, (2, 45, 133, 4), np.uint8)
    arrangements = [
        (pixels[0, ..., :3].copy(), "HWC"),
        (pixels[0], "HWC"),
        (pixels[0, ..., :3], "HWC"),
        (pixels[..., :3].copy(), "NHWC"),
        (np.moveaxis(pixels[0, ..., :3], -1, 0).copy(), "CHW"),
        (pixels[0, ::-1, :, :3], "HWC"),
        (pixels[0, :, ::-1], "HWC"),
        (pixels[..., :3].copy(), "DHWC"),
        (pixels[0, ..., :3].astype(np.uint16) * 257, "HWC"),
    ]
    for image, layout in arrangements:
        keywords = {"layout": layout, "color": color, "tiles": (2, 3) if "D" not in layout else (1, 2, 3)}
        expected = histeq.clahe(image, backend="numpy", **keywords)
        assert same(histeq.clahe(image, backend="numba", **keywords), expected)
        tables = histeq.tile_tables(image, backend="numba", **keywords)
        blended = histeq.apply_tiles(image, tables, layout=layout, color=color, backend="numba")
        assert same(blended, expected)


def test_reference_memory():
    """The reference blends block by block: shrinking the blocks must not change a pixel."""
    from histeq._backends.numpy import clahe as _reference_tiles

    assert reference.clahe is _reference_tiles.clahe
    expected = histeq.clahe(RAMP, backend="numpy")
    before, _reference_tiles._BLOCK = _reference_tiles._BLOCK, 120
    try:
        assert same(histeq.clahe(RAMP, backend="numpy"), expected)
    finally:
        _reference_tiles._BLOCK = before


def test_opencv_is_what_it_was():
    """The grid's order and the rounding, by one small example."""
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    expected = cv2.createCLAHE(4.0, (2, 2)).apply(image)
    assert same(histeq.clahe(image, clip_limit=4.0, tiles=(2, 2)), expected)
