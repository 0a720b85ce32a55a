"""CLAHE of Dask arrays: the pixels of the whole image, by chunks that wait for their neighbourhood only."""

import math
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from dask_sources import Live, live_bytes, read_from, sources
from images import DTYPES, random_float, random_values, same
from test_tile_windows import cuts, random_case

import histeq
from histeq._dask import clahe as _clahe

dask.config.set(scheduler="sync")
RANDOM = np.random.default_rng(11)
SHAPE = (61, 74)
MASK = RANDOM.random(SHAPE) < 0.3
MASK[:40, 20:] = False  # whole tiles, far from any that is not


@pytest.fixture
def ways(monkeypatch):
    """Return the ways that images were equalized, in a list that grows."""
    found = []
    choose = _clahe.way
    monkeypatch.setattr(_clahe, "way", lambda plan: found.append(choose(plan)) or found[-1])
    return found


def image(dtype="uint8", shape=SHAPE, seed=1):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random_float(rng, np.dtype(dtype), shape)
    return random_values(rng, math.prod(shape), dtype).reshape(shape)


def check(array, chunks=(23, 17), **options):
    """Check that a Dask array is equalized as the array is; return the result."""
    result = histeq.clahe(da.from_array(array, chunks=chunks), **options)
    options = {k: v.compute() if isinstance(v, da.Array) else v for k, v in options.items()}
    expected = histeq.clahe(array, **options)
    assert (result.dtype, result.shape, type(result._meta)) == (expected.dtype, expected.shape, np.ndarray)
    assert same(result.compute(), expected)
    return result


GRIDS = [{}, {"tiles": (3, 5)}, {"tile_size": (9, 31)}, {"tile_size": 5}, {"tiles": (1, 2)}]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_are_those_of_the_whole_image(dtype, grid):
    check(image(dtype), **grid)
    if dtype == "uint8":
        for chunks in ((61, 9), (4, 5), ((1, 60), (70, 4))):  # smaller than a tile, and misaligned
            check(image(dtype), chunks, **grid)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {"mask": MASK}),
        ("uint16", {"mask": da.from_array(MASK.astype(np.uint8), chunks=(50, 11)), "tile_size": 6}),
        ("float32", {"mask": MASK, "bins": 50}),
        ("uint8", {"mask": np.zeros(SHAPE, bool)}),
        ("int16", {"value_range": (-3, 900), "out_range": (0, 99)}),
        ("float64", {"value_range": (0, 1), "out_range": (-1, 3)}),
        (">u2", {"bins": 256, "clip_limit": 40}),
        (">u2", {"out_dtype": "uint8", "clip_limit": 0}),
        ("uint8", {"backend": "numpy", "tiles": 4}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_options(dtype, options):
    check(image(dtype), **options)


@pytest.mark.parametrize(
    ("dtype", "nothing"), [("uint8", 0), ("uint16", 7), ("float32", 2.0), ("float32", None)]
)
@pytest.mark.parametrize("grid", [{"tile_size": 6}, {}], ids=str)
def test_empty_tiles_take_tables_from_beside_them(dtype, nothing, grid):
    """As whole regions of nodata, NaN or infinite pixels do, which pass through."""
    array = image(dtype)
    array[~MASK] = np.nan if nothing is None else nothing
    check(array, nodata=nothing, **grid)


COLORS = [
    ("HWC", (61, 74, 3), (23, 17, 2), {}),
    ("HWC", (61, 74, 3), (23, 17, 1), {"color": "luma-bgr", "mask": MASK}),
    ("HWC", (61, 74, 4), (23, 17, 1), {"nodata": 3}),
    ("HWC", (61, 74, 4), (23, 17, 3), {"color": "channels"}),
    ("CHW", (4, 61, 74), (1, 23, 17), {"color": "channels", "alpha": True}),
    ("NHW", (5, 61, 74), (2, 23, 17), {"mask": MASK}),
    ("THW", (3, 61, 74), (1, 61, 74), {"mask": np.stack([MASK, ~MASK, MASK])}),
    ("NCHW", (3, 3, 61, 74), (2, 2, 23, 17), {"color": "channels", "mask": MASK}),
    ("WHNC", (74, 61, 3, 4), (23, 17, 2, 3), {}),
    ("DHW", (9, 30, 40), (4, 13, 17), {"tiles": (3, 2, 5)}),
    ("DHW", (9, 30, 40), (4, 13, 17), {"tile_size": (2, 5, 7), "nodata": 3}),
    ("W", (74,), (7,), {"mask": MASK[50]}),
]


@pytest.mark.parametrize(
    ("layout", "shape", "chunks", "options"),
    COLORS,
    ids=["-".join([c[0], *c[3]]) + str(c[2]) for c in COLORS],
)
def test_layouts(layout, shape, chunks, options):
    array = image("uint8", shape)
    check(array, chunks, layout=layout, **options)
    if options.get("color") == "channels" or "C" not in layout:
        check(image("float32", shape), chunks, layout=layout, bins=64, **options)


def check_random(seed, way=None):
    """Check a random image, its tables and counts, and a crop of the result."""
    rng = np.random.default_rng(seed)
    array, _, counting, levels, mask = random_case(rng)
    levels = {name: value for name, value in levels.items() if value is not None}
    if rng.random() < 0.5:
        counting.pop("value_range", None)
    options = {**counting, **levels, "clip_limit": float(rng.choice([0, 2, 40]))}
    masks = {} if mask is None else {"mask": mask}
    x = da.from_array(array, chunks=tuple(tuple(np.diff(cuts(rng, n)).tolist()) for n in array.shape))
    expected, result = histeq.clahe(array, **options, **masks), histeq.clahe(x, **options, **masks)
    assert result.dtype == expected.dtype
    assert same(result.compute(), expected)
    crop = tuple(slice(int(rng.integers(0, n)), None) for n in array.shape)
    assert same(result[crop].compute(), expected[crop])
    tables = histeq.tile_tables(array, **options, **masks)
    lazy = histeq.tile_tables(x, **options, **masks)
    assert same(lazy.compute().tables, tables.tables)
    mapping = {name: options[name] for name in ("layout", "color", "nodata") if name in options}
    assert same(histeq.apply_tiles(x, lazy, **mapping).compute(), expected)
    assert same(histeq.apply_tiles(x, tables, **mapping).compute(), expected)
    counts = histeq.tile_histograms(x, **counting, **masks).compute()
    assert same(counts.counts, histeq.tile_histograms(array, **counting, **masks).counts)


def test_random_images():
    for seed in range(2):
        check_random(seed)


@pytest.mark.exhaustive
def test_many_random_images(monkeypatch, ways):
    for seed in range(100, 500):
        check_random(seed)
    assert set(ways) == {"whole", "windows", "counts"}
    monkeypatch.setattr(_clahe, "way", lambda plan: "counts" if plan.far else "windows")
    for seed in range(500, 700):
        check_random(seed)


# Which way is taken, and what it reads and holds.

LARGE = RANDOM.integers(0, 200, (8 * 16, 7 * 16), np.uint8)
WIDE = LARGE.astype(np.uint16) * 300


@pytest.mark.parametrize(
    ("pixels", "options", "way"),
    [
        (LARGE, {}, "counts"),
        (LARGE, {"tile_size": 40}, "counts"),
        (LARGE, {"tile_size": 7, "bins": 4}, "counts"),
        (LARGE, {"tile_size": 3}, "windows"),
        (WIDE, {"tile_size": 100}, "counts"),
        (WIDE, {"tile_size": 3, "bins": 1024}, "windows"),
        (WIDE, {"tile_size": 3, "bins": 1024, "mask": LARGE > 20}, "counts"),  # tables may come from far away
    ],
    ids=["default", "large", "small", "tiny", "large-16", "small-16", "mask"],
)
def test_few_chunks_are_held(ways, pixels, options, way):
    live = Live()
    result = histeq.clahe(read_from(pixels, live, 16), **options)
    made, most = live_bytes(result, live)
    assert ways == [way]
    assert made == 2 * pixels.nbytes
    assert most <= 2 * 16 * 16 * pixels.itemsize
    (best,) = dask.optimize(result)
    if "mask" not in options:
        assert len(dict(best.__dask_graph__())) <= 4.1 * result.npartitions
    assert same(result.compute(), histeq.clahe(pixels, **options))


@pytest.mark.parametrize("kind", ["sliced", "rechunked", "delayed"])
def test_few_chunks_of_any_source_are_held(kind):
    live, pixels = Live(), LARGE[:96, :96]
    x = sources(pixels, live, 16)[kind]
    once, _ = live_bytes(x, live)
    for options in ({"tiles": 2}, {"tile_size": 3}):
        made, most = live_bytes(histeq.clahe(x, **options), live)
        assert made == 2 * once
        assert most <= 5 * 16 * 16  # five chunks
    _, most = live_bytes(histeq.apply_tiles(x, histeq.tile_tables(x)), live)
    assert most <= 4 * 16 * 16


@pytest.mark.parametrize(
    ("passes", "options"), [(3, {}), (3, {"tile_size": 3, "bins": 99}), (2, {"value_range": (0, 1)})]
)
def test_few_chunks_of_floats_are_held(passes, options):
    live = Live()
    pixels = LARGE.astype(np.float32) / 200
    made, most = live_bytes(histeq.clahe(read_from(pixels, live, 16), **options), live)
    assert made == passes * pixels.nbytes
    assert most <= 2 * 16 * 16 * pixels.itemsize


def test_whole_images_are_read_once(ways):
    live = Live()
    pixels = LARGE.reshape(-1, 16, 16)
    made, most = live_bytes(histeq.clahe(read_from(pixels, live, (2, 16, 16)), layout="NHW"), live)
    assert (ways, made, most) == (["whole"], pixels.nbytes, pixels.nbytes * 2 // len(pixels))


@pytest.mark.parametrize(("pixels", "options"), [(LARGE, {"tile_size": 10}), (LARGE, {"tile_size": 3})])
def test_a_crop_reads_chunks_nearby(pixels, options):
    live = Live()
    result = histeq.clahe(read_from(pixels, live, 16), **options)
    made, _ = live_bytes(result[40:41, 40:41], live)
    assert made <= (4 * 4 + 1) * 16 * 16
    assert same(result[40:50, 17:33].compute(), histeq.clahe(pixels, **options)[40:50, 17:33])


def test_what_is_persisted_is_not_read():
    live = Live()
    x = sources(LARGE, live, 16)["sliced"].persist()
    assert live_bytes(histeq.clahe(x + np.uint8(0)), live)[0] == 0


def test_results_that_are_computed_together_share_their_counts():
    live = Live()
    x = read_from(LARGE, live, 16)
    assert histeq.clahe(x).name == histeq.clahe(x).name != histeq.clahe(x, tiles=4).name
    results = [
        histeq.clahe(x, tiles=4),
        histeq.clahe(x, tiles=4, clip_limit=5),
        histeq.tile_tables(x, tiles=4),
    ]
    live.made = 0
    first, second, tables = dask.compute(*results)
    assert live.made == 3 * LARGE.nbytes
    assert same(first, histeq.clahe(LARGE, tiles=4))
    assert same(second, histeq.clahe(LARGE, tiles=4, clip_limit=5))
    assert same(tables.tables, histeq.tile_tables(LARGE, tiles=4).tables)


def test_steps_that_follow_each_other():
    live = Live()
    made, most = live_bytes(histeq.clahe(histeq.equalize(read_from(LARGE, live, 16)), tile_size=40), live)
    assert made == 3 * LARGE.nbytes
    assert most <= 2 * 16 * 16


def test_graphs_of_many_chunks_are_small():
    x = da.map_blocks(np.zeros, chunks=((64,) * 20,) * 2, dtype=np.uint16, meta=np.empty((0, 0), np.uint16))
    for options in ({}, {"tile_size": 64}, {"tile_size": 12, "bins": 4096}):
        result = histeq.clahe(x, **options)
        (best,) = dask.optimize(result)
        assert len(dict(best.__dask_graph__())) <= 5 * x.npartitions
        assert len(pickle.dumps(result)) < 3000 * x.npartitions


def test_nothing_is_computed_by_a_call():
    def fail(block_info=None):
        raise AssertionError("computed")

    x = da.map_blocks(fail, chunks=((8, 8), (8,)), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    results = [
        histeq.clahe(x), histeq.clahe(x, mask=x > 0), histeq.clahe(x.astype(np.float32), tile_size=2),
        histeq.tile_histograms(x), histeq.tile_tables(x), histeq.apply_tiles(x, histeq.tile_tables(x)),
    ]  # fmt: skip
    for result in results:
        with pytest.raises(AssertionError, match="computed"):
            result.compute()


# The steps.


def test_counts_of_a_window_that_is_lazy():
    array, options = image(), {"tiles": (4, 5), "shape": (90, 100)}
    lazy = histeq.tile_histograms(
        da.from_array(array, chunks=(23, 17)), origin=(29, 26), mask=MASK, **options
    )
    counts, expected = lazy.compute(), histeq.tile_histograms(array, origin=(29, 26), mask=MASK, **options)
    assert repr(counts) == repr(expected)
    assert same(counts.counts, expected.counts)


def test_tables_serve_windows_and_other_images():
    array, other = image(), image(seed=2)
    tables = histeq.tile_tables(da.from_array(array, chunks=(23, 17)), tiles=(4, 5), clip_limit=9)
    expected = histeq.apply_tiles(other, histeq.tile_tables(array, tiles=(4, 5), clip_limit=9))
    for each in (tables, tables.persist(), pickle.loads(pickle.dumps(tables)), tables.compute()):
        window = da.from_array(other[10:, 5:], chunks=(20, 19))
        assert same(histeq.apply_tiles(window, each, origin=(10, 5)).compute(), expected[10:, 5:])
    batch = np.stack([array, other, array])
    tables = histeq.tile_tables(da.from_array(batch, chunks=(2, 23, 17)), layout="NHW")
    result = histeq.apply_tiles(da.from_array(batch[::-1], chunks=(1, 30, 30)), tables, layout="NHW")
    assert same(
        result.compute(),
        histeq.apply_tiles(batch[::-1], histeq.tile_tables(batch, layout="NHW"), layout="NHW"),
    )
    assert repr(tables.compute()) == repr(histeq.tile_tables(batch, layout="NHW"))


def test_cupy_chunks(gpu):
    array = image()[:24, :20]
    mask = MASK[37:61, :20]
    for pixels, options in (
        (array, {"tiles": 3}), (array, {"tile_size": 5, "mask": mask}),
        (array.astype(np.uint16), {"tile_size": 4, "bins": 256}), (array.astype(np.float32), {"tiles": 2}),
    ):  # fmt: skip
        on_device = dict(options, mask=gpu.asarray(mask)) if "mask" in options else options
        result = histeq.clahe(da.from_array(gpu.asarray(pixels), chunks=(14, 11), asarray=False), **on_device)
        assert type(result._meta) is gpu.ndarray
        rows = dask.compute(*result.to_delayed().tolist())
        assert {type(chunk) for row in rows for chunk in row} == {gpu.ndarray}
        found = np.block([[chunk.get() for chunk in row] for row in rows])
        assert same(found, histeq.clahe(pixels, **options))


# What is not as it should be.


def test_chunks_without_pixels():
    chunks = ((0, 31, 0, 30), (74, 0))
    for dtype in ("uint8", "float32"):
        check(image(dtype), chunks)
        check(image(dtype), chunks, mask=MASK)
    check(image("uint16"), chunks, tile_size=4)
    check(image("uint8", (0, 5)), ((0,), (5,)))
    check(image("float32", (0, 5)), ((0, 0), (2, 3)))
    check(image("uint8", (0, 40, 50)), (1, 13, 17), layout="NHW")
    check(image("float32", (3, 0, 50)), ((1, 2), (0, 0), (20, 30)), layout="NHW")
    x = da.from_array(image("uint8", (0, 5)), chunks=((0, 0), (2, 3)))
    assert same(histeq.tile_tables(x).compute().tables, histeq.tile_tables(x.compute()).tables)


X = da.from_array(image(), chunks=(23, 17))
clahe, tables = histeq.clahe, histeq.tile_tables(image())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: clahe(X.astype(object)), TypeError, "image must have one of the dtypes uint8, .*object"),
        (lambda: clahe(da.ma.masked_equal(X, 3)), TypeError, "image must not have masked chunks: pass da"),
        (lambda: clahe(X, mask=MASK[1:]), ValueError, r"mask must have the image's shape .*\(61, 74\)"),
        (lambda: clahe(X, out=image()), TypeError, "out must be None for Dask arrays, which are"),
        (lambda: clahe(X, tiles=0), ValueError, "tiles must be from 1"),
        (lambda: clahe(X, tiles=(1, 2, 3)), ValueError, "tiles must be an int, or one for each of the axes"),
        (lambda: clahe(X, clip_limit="2"), TypeError, "clip_limit must be a number, got str"),
        (lambda: clahe(X, bins=3), ValueError, "bins must be a power of two from 2 to 256 for uint8"),
        (lambda: clahe(X, tiles=1 << 20), ValueError, "tiles must not give more than 1073741824 table"),
        (lambda: clahe(X, nodata=300), ValueError, "nodata must be a value that uint8 holds"),
        (lambda: clahe(X[X[:, 0] > 1]), ValueError, "image must have chunks of known sizes for tiles, got"),
        (lambda: clahe(X, layout="HWC"), ValueError, "layout must have one letter for each"),
        (lambda: histeq.tile_histograms(X, shape=(9, 9)), ValueError, "image must lie inside the image of"),
        (lambda: histeq.tile_histograms(X, add_to=histeq.tile_histograms(image())), TypeError, "add_to"),
        (lambda: histeq.tile_tables(X, out_range=(3, 300)), ValueError, "out_range must be two values"),
        (lambda: histeq.apply_tiles(X, image()), TypeError, "tables must be TileTables, or what tile_tables"),
        (lambda: histeq.apply_tiles(X[1:], tables, origin=(2, 0)), ValueError, "image must lie inside"),
        (lambda: histeq.apply_tiles(X.astype("u2"), tables), TypeError, "image must have the dtype"),
        (lambda: histeq.apply_tiles(X, tables.part((0, 0), (3, 3))), ValueError, "tables must hold the"),
        (lambda: histeq.apply_tiles(image(), histeq.tile_tables(X)), TypeError, "tables must be TileTables"),
    ],
)  # fmt: skip
def test_errors_come_at_once(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_chunks_that_are_not_what_was_said():
    blocks = [da.from_delayed(dask.delayed(c), (4, 4), meta=np.empty((0, 0), np.uint8))
              for c in (np.ones((4, 4), np.uint8), np.ones((4, 4)))]  # fmt: skip
    for options in ({}, {"tile_size": 1, "bins": 2}):
        with pytest.raises(
            TypeError, match=r"chunk \(0, 1\) of a Dask array: image must have dtype uint8, as"
        ):
            clahe(da.block([blocks]), **options).compute()
