"""CLAHE on CUDA, executed on the CPU: bit for bit as the NumPy backend, from the device and from the host."""

import importlib

import numpy as np
import pytest
from cuda_host import fake_cupy
from cuda_host.fake_cupy import Machine
from images import DTYPES, FLOATS, INTEGERS, random_float, random_values, same

import histeq


@pytest.fixture(params=["device", "host"])
def call(request, monkeypatch):
    """Yield a function that calls another on the GPU, with arrays that are there or are brought there."""
    monkeypatch.setattr(Machine, "shuffled", 2)

    def lent(value):
        return fake_cupy.ndarray.of(value) if isinstance(value, np.ndarray) else value

    def on_device(function, image, *rest, **keywords):
        result = function(lent(image), *map(lent, rest), **{n: lent(v) for n, v in keywords.items()})
        return result.array if isinstance(result, fake_cupy.ndarray) else result

    def from_host(function, image, *rest, **keywords):
        return function(image, *rest, backend="cupy", **keywords)

    with fake_cupy.installed():
        if request.param == "host":
            from histeq._backends.cupy import pieces

            monkeypatch.setattr(pieces, "PIECE", 4096)
        yield on_device if request.param == "device" else from_host


def dtypes_and_ways(dtypes):
    """Parametrize by dtypes, from the device and from the host, where some are alike."""
    ways = [(dtype, way) for dtype in dtypes for way in ("device", "host")]
    alike = {(dtype, "host") for dtype in ("int8", "int16", "float16", "float64")}
    cases = [pytest.param(*case, marks=[pytest.mark.exhaustive] * (case in alike)) for case in ways]
    return pytest.mark.parametrize(("dtype", "call"), cases, indirect=["call"])


def fewer_bins(dtype, keywords):
    """Spare the CPU 65,536 bins a tile where there are many tiles."""
    few = keywords.get("tiles") in ((1, 1), (1, 2))
    return keywords if dtype not in ("uint16", "int16") or few else {"bins": 512, **keywords}


def image_of(rng, dtype, shape):
    if dtype in FLOATS:
        return random_float(rng, dtype, shape)
    return random_values(rng, int(np.prod(shape)), dtype).reshape(shape)


@dtypes_and_ways(DTYPES)
def test_grids_and_limits(dtype, call):
    rng = np.random.default_rng(0)
    for shape in ((61, 87), (3, 200), (1, 1)):
        image = image_of(rng, dtype, shape)
        for keywords in (
            {}, {"tiles": (1, 2)}, {"tiles": (3, 5), "clip_limit": 7.5}, {"tile_size": (20, 17)},
            {"clip_limit": 0.0, "tiles": (2, 9)}, {"clip_limit": 1e-9, "bins": 16}, {"clip_limit": np.nan},
        ):  # fmt: skip
            keywords = fewer_bins(dtype, keywords)
            expected = histeq.clahe(image, backend="numpy", **keywords)
            assert same(call(histeq.clahe, image, **keywords), expected)


@pytest.fixture
def cells(call, monkeypatch):
    """Take pixels by cells of however few pixels."""
    module = importlib.import_module("histeq._backends.cupy.clahe")
    monkeypatch.setattr(module, "_CELL", 1)
    monkeypatch.setattr(module, "_CELL_ROWS", 4)


@dtypes_and_ways(INTEGERS)
def test_cells(dtype, call, cells):
    """Rows whose ends are aligned and not; cells of a pixel; tables in shared memory and not; nodata."""
    rng = np.random.default_rng(6)
    whole = image_of(rng, dtype, (40, 72))
    few = {"bins": 512} if dtype.endswith("16") else {}
    windows = ((slice(40), slice(72)), (slice(1, 38, 2), slice(3, 62)), (slice(40), slice(4, 12)))
    for image in (whole[window] for window in windows):
        for keywords in (
            {"tiles": (3, 4), **few}, {"tiles": (1, 1), "bins": 256}, {"tile_size": (5, 7), **few},
            {"tiles": (6, 1), "bins": 32}, {"tiles": (2, 2), "bins": 16, "out_dtype": np.uint8, "nodata": 9},
            {"tiles": (2, 3), "nodata": int(image[3, 3]), "out_range": (20, 90), **few},
            {"tiles": (2, 2), "value_range": (30, 90), "nodata": 40},
        ):  # fmt: skip
            expected = histeq.clahe(image, backend="numpy", **keywords)
            assert same(call(histeq.clahe, image, **keywords), expected), keywords


@pytest.mark.parametrize("dtype", INTEGERS)
def test_counts_of_tiles(dtype, monkeypatch):
    """Vectors and the pixels beside them: rows that begin alike and not, tiles smaller than a vector."""
    monkeypatch.setattr(Machine, "shuffled", 2)
    monkeypatch.setattr(Machine, "multiprocessors", 20)  # blocks share a tile
    rng = np.random.default_rng(8)
    memory = image_of(rng, dtype, (150, 400))
    aligned, unlike = memory[:, :368], image_of(rng, dtype, (150, 143))
    value = int(memory[3, 3])
    few = {"bins": 64} if dtype.endswith("16") else {}
    cases = [
        (aligned, {"tiles": (1, 2)}), (aligned[1:, 16:], {"tiles": (1, 2), "nodata": value}),
        (aligned[:, 3:-2], {"tiles": (2, 3)}), (aligned[:90], {"tiles": (7, 4), "nodata": value}),
        (unlike, {"tiles": (1, 1), **few}), (unlike[:, 5:], {"tiles": (2, 2), "bins": 16, "nodata": value}),
        (unlike[::-1, ::-1], {"tiles": (1, 2), **few}), (unlike[::2, ::3], {"tiles": (2, 2), **few}),
        (aligned[:20], {"tile_size": (9, 13), **few}), (unlike[:9, :8], {"tile_size": (1, 1), **few}),
        (unlike[:7, :90], {"tiles": (5, 40), **few}), (unlike[:2, :3], {"tiles": (4, 9), **few}),
        (unlike[:, :96], {"tiles": (1, 2)}), (unlike, {"tiles": (2, 2), "value_range": (20, 90)}),
        (memory.reshape(3, 50, 400)[:, 1:, 1:], {"layout": "NHW", "tiles": (2, 2), **few}),
        (memory.reshape(3, 50, 400)[..., :240], {"layout": "DHW", "tiles": (2, 2, 1), **few}),
        (unlike.reshape(15, 10, 143), {"layout": "DHW", "tiles": (2, 1, 2), **few}),
    ]  # fmt: skip
    wide = image_of(rng, dtype, (12, 9001))
    cases += [(wide, {"tiles": (1, 1), **few}), (wide[:, :9000], {"tiles": (5, 1), **few})]
    with fake_cupy.installed():
        for image, keywords in cases:
            counts = histeq.tile_histograms(fake_cupy.ndarray.of(image), **keywords)
            expected = histeq.tile_histograms(image, backend="numpy", **keywords)
            assert same(counts.counts.array, expected.counts), (image.shape, keywords)
        mask = memory > 50
        counts = histeq.tile_histograms(
            fake_cupy.ndarray.of(memory), mask=fake_cupy.ndarray.of(mask), tiles=(2, 3), **few
        )
        expected = histeq.tile_histograms(memory, mask=mask, tiles=(2, 3), backend="numpy", **few)
        assert same(counts.counts.array, expected.counts)


@dtypes_and_ways(DTYPES)
def test_masks_nodata_and_ranges(dtype, call):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 99, (70, 90)).astype(dtype)
    mask = rng.random(image.shape) < 0.3
    mask[:40, :50] = False  # several tiles without a counted pixel
    limits = (-1, 2) if dtype in FLOATS else (16, 100)
    for case in ({"mask": mask}, {"mask": mask & False}, {"nodata": 50}, {"out_range": limits}):
        keywords = fewer_bins(dtype, case)
        expected = histeq.clahe(image, backend="numpy", **keywords)
        assert same(call(histeq.clahe, image, **keywords), expected)
    if dtype in FLOATS:
        image[5, 5:8] = np.nan, np.inf, -np.inf
        expected = histeq.clahe(image, backend="numpy", value_range=(5, 70), bins=50)
        assert same(call(histeq.clahe, image, value_range=(5, 70), bins=50), expected)
    else:
        image[:40, :50] = 99  # several tiles without a value of the range
        for limits in ((5, 70), (100, 110)):
            expected = histeq.clahe(image, backend="numpy", value_range=limits)
            assert same(call(histeq.clahe, image, value_range=limits), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("color", ["luma", "luma-bgr", "channels"])
def test_color(color, dtype, call):
    rng = np.random.default_rng(2)
    image = image_of(rng, dtype, (2, 40, 50, 4))
    for part, layout in ((image, "NHWC"), (image[0, :, 1:, :3], "HWC")):
        keywords = fewer_bins(dtype, {"layout": layout, "color": color, "tiles": (3, 4), "nodata": 7})
        expected = histeq.clahe(part, backend="numpy", **keywords)
        assert same(call(histeq.clahe, part, **keywords), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_volumes_batches_and_views(dtype, call):
    rng = np.random.default_rng(3)
    image = image_of(rng, dtype, (11, 24, 33))
    for view, keywords in (
        (image, {"layout": "DHW", "tiles": (2, 3, 4)}),
        (image, {"layout": "NHW", "tiles": (3, 4)}),
        (image[::-1, ::2, ::-1], {"layout": "DHW", "tiles": (2, 2, 2)}),
        (np.asfortranarray(image), {"layout": "HWN", "tiles": (2, 2)}),
        (image[:0], {"layout": "NHW"}),
    ):
        keywords = fewer_bins(dtype, keywords)
        expected = histeq.clahe(view, backend="numpy", **keywords)
        assert same(call(histeq.clahe, view, **keywords), expected)


@pytest.mark.parametrize("shared", [232448, 101376])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_more_bins_than_shared_memory_holds(dtype, shared, call, monkeypatch):
    """They are counted in slices, by several blocks a tile, and all pixels of a tile in few of them."""
    monkeypatch.setattr(Machine, "shared", shared)
    rng = np.random.default_rng(7)
    image = rng.integers(0, 65536, (140, 60)).astype(dtype)
    image[:50] = 30_000
    for keywords in ({"bins": 65536}, {"value_range": (5000, 52_000)}):
        if dtype == "float32" and "value_range" in keywords:
            keywords["bins"] = 40_000
        expected = histeq.clahe(image, backend="numpy", tiles=(1, 2), **keywords)
        assert same(call(histeq.clahe, image, tiles=(1, 2), **keywords), expected)


def test_volume_of_one_slice_is_an_image(call):
    image = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    for tiles in ((1, 4, 4), (2, 3, 2), (3, 5, 7)):
        volume = call(histeq.clahe, image[None], layout="DHW", tiles=tiles)
        assert same(volume[0], histeq.clahe(image, tiles=tiles[1:], backend="numpy"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_windows(dtype, call):
    rng = np.random.default_rng(4)
    image = image_of(rng, dtype, (90, 110))
    keywords = fewer_bins(dtype, {"tiles": (4, 5)})
    tables = call(histeq.tile_tables, image, **keywords)
    call(histeq.clahe, image_of(rng, dtype, (50, 60)), **keywords)  # uses the workspace again
    whole = histeq.clahe(image, backend="numpy", **keywords)
    window = call(histeq.apply_tiles, image[20:71, 33:], tables, origin=(20, 33))
    assert same(window, whole[20:71, 33:])
    frames = np.stack([image, image])
    assert same(call(histeq.apply_tiles, frames, tables, layout="NHW"), np.stack([whole, whole]))


def test_tiles_shared_by_blocks(call, monkeypatch):
    """Large tiles, and more histograms than the grid or the workspace have."""
    rng = np.random.default_rng(5)
    image = image_of(rng, "uint8", (3, 300, 200))
    monkeypatch.setattr(Machine, "multiprocessors", 20)
    expected = histeq.clahe(image, layout="NHW", tiles=(1, 2), backend="numpy")
    assert same(call(histeq.clahe, image, layout="NHW", tiles=(1, 2)), expected)
    from histeq._backends.cupy import device

    monkeypatch.setattr(device, "GRID_Y", 2)
    monkeypatch.setattr(device, "GRID_X", 2)
    monkeypatch.setattr(device, "COUNTS", 1)
    assert same(call(histeq.clahe, image, layout="NHW", tiles=(1, 2)), expected)


def test_tables_of_another_library_are_refused():
    image = np.zeros((20, 20), np.uint8)
    with fake_cupy.installed():
        tables = histeq.tile_tables(fake_cupy.ndarray.of(image))
        with pytest.raises(TypeError, match="tables must be an array of the image's kind, got ndarray"):
            histeq.apply_tiles(image, tables)
