"""CLAHE window by window: counts of tiles that add up, tables of some of the tiles, and mapping with them."""

import functools
import itertools
import operator
import pickle

import numpy as np
import oracles
import pytest
from images import DTYPES, random_float, random_values, same

import histeq
from histeq._core import tile_grid as _tiles


def cuts(rng, length):
    """Return the borders of random stretches of an axis."""
    inner = rng.integers(0, length, rng.integers(0, 4))
    return sorted({0, length, *inner.tolist()})


def windows(rng, shape):
    """Return windows that partition an image: (origin, slices)."""
    stretches = [list(itertools.pairwise(cuts(rng, n))) for n in shape]
    boxes = list(itertools.product(*stretches))
    rng.shuffle(boxes)
    return [([int(a) for a, _ in box], tuple(slice(int(a), int(b)) for a, b in box)) for box in boxes]


def random_case(rng):
    """Return an image, the layout, where its spatial axes are, and what is counted."""
    layout = str(rng.choice(["HW", "WH", "HWC", "CHW", "NHW", "DHW", "NHWC", "DHWC"]))
    dtype, channels = str(rng.choice(DTYPES)), int(rng.choice([1, 3, 3, 4, 2]))
    sizes = {"N": int(rng.integers(1, 3)), "C": channels}
    shape = tuple(
        sizes.get(letter) or int(rng.integers(1, 30 if "D" not in layout else 12)) for letter in layout
    )
    if dtype.startswith("float"):
        image = random_float(rng, np.dtype(dtype), shape)
    else:
        image = random_values(rng, int(np.prod(shape)), dtype).reshape(shape)
    spatial = [i for i, letter in enumerate(layout) if letter in "DHW"]
    counting = {"layout": layout, "color": "luma"}
    if "C" in layout and (channels == 2 or not dtype.startswith("u") or rng.random() < 0.4):
        counting["color"] = "channels"
    levels = {}
    values = image[np.isfinite(image)] if image.dtype.kind == "f" else image.ravel()
    if image.dtype.kind == "f":
        counting["value_range"] = (-3, 5) if rng.random() < 0.5 else (0, 200)
        counting["bins"] = int(rng.choice([2, 100, 256]))
        levels["out_range"] = (10, 20) if rng.random() < 0.3 else None
    elif rng.random() < 0.4 and np.ptp(values.astype(int)):
        counting["value_range"] = tuple(np.sort(rng.choice(np.unique(values), 2, replace=False)).tolist())
    elif rng.random() < 0.3:
        counting["bins"] = 64
    if image.dtype.kind != "f" and rng.random() < 0.3 and counting["color"] == "channels":
        levels["out_dtype"] = np.uint8
    if rng.random() < 0.4 and len(values):
        nodata = rng.choice(values)
        counting["nodata"] = float(nodata) if image.dtype.kind == "f" else int(nodata)
        if levels.get("out_dtype") and not 0 <= counting["nodata"] <= 255:
            del levels["out_dtype"]
    if rng.random() < 0.5:
        counting["tiles"] = tuple(int(n) for n in rng.integers(1, 9, len(spatial)))
    else:
        counting["tile_size"] = tuple(int(n) for n in rng.integers(1, 16, len(spatial)))
    mask = None
    if rng.random() < 0.4:
        mask = rng.random([n for n, letter in zip(shape, layout, strict=True) if letter in "DHW"]) < 0.3
        mask[tuple(slice(0, n // 2) for n in mask.shape)] = False
    return image, spatial, counting, levels, mask


def part_of(array, spatial, box):
    """Return a window of an array with its spatial axes at these places."""
    index = [slice(None)] * array.ndim
    for axis, where in zip(spatial, box, strict=True):
        index[axis] = where
    return array[tuple(index)]


def counts_of(image, spatial, counting, mask, origin, box, **more):
    """Count a window."""
    shape = [image.shape[axis] for axis in spatial]
    masks = {} if mask is None else {"mask": mask[box]}
    window = part_of(image, spatial, box)
    return histeq.tile_histograms(window, shape=shape, origin=origin, **counting, **masks, **more)


def brute_force(image, tiles, mask=None):
    """Count the tiles of a grey image of 8 bits position by position."""
    grid = _tiles.grid_of((1, *image.shape), "HW", "DHW", tiles, None)
    counts = np.zeros((*grid.tiles[1:], 256), np.int64)
    ys, xs = grid.positions(1), grid.positions(2)
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            if mask is None or mask[y, x]:
                counts[i // grid.tile[1], j // grid.tile[2], image[y, x]] += 1
    return counts


def test_windows_are_the_image(backend):
    for seed in range(1 if backend == "cupy" else 6):
        check_windows(backend, seed)


@pytest.mark.exhaustive
def test_many_windows_are_the_image(backend):
    for seed in range(100, 140 if backend == "cupy" else 600):
        check_windows(backend, seed)


def check_windows(backend, seed):
    """The counts of windows add up, their tables are the image's, and windows are mapped as in the image."""
    rng = np.random.default_rng(seed)
    image, spatial, counting, levels, mask = random_case(rng)
    counting["backend"] = backend
    masks = {} if mask is None else {"mask": mask}
    limit = float(rng.choice([0, 2, 40]))
    result = histeq.clahe(image, clip_limit=limit, **counting, **levels, **masks)
    expected = histeq.tile_tables(image, clip_limit=limit, **counting, **levels, **masks)
    whole = histeq.tile_histograms(image, **counting, **masks)
    total = None
    boxes = windows(rng, [image.shape[axis] for axis in spatial])
    for origin, box in boxes:
        counts = counts_of(image, spatial, counting, mask, origin, box)
        total = counts if total is None else total + counts
    assert same(total.counts, whole.counts)
    tables = histeq.tile_tables(total, clip_limit=limit, backend=backend, **levels)
    assert same(tables.tables, expected.tables)
    mapping = {key: counting[key] for key in ("layout", "color", "nodata", "backend") if key in counting}
    grid = tables._kind.grid
    for origin, box in boxes:
        window = part_of(image, spatial, box)
        first, stop = ({"D": 0, "H": 0, "W": 0}, {"D": 1, "H": 1, "W": 1})
        for axis, where in zip(spatial, box, strict=True):
            letter = counting["layout"][axis]
            first[letter], stop[letter] = where.start, where.stop
        needed = [grid.needed(i, first[k], stop[k] - first[k]) for i, k in enumerate("DHW")]
        ends = [[getattr(n, end) for n in needed] for end in ("start", "stop")]
        few = tables.part(*map(tables._kind.in_order, ends))
        mapped = histeq.apply_tiles(window, few, origin=origin, **mapping)
        assert same(mapped, part_of(result, spatial, box))


def test_counts_are_those_of_positions(backend):
    rng = np.random.default_rng(1)
    for shape, tiles in (
        ((9, 14), (2, 3)),
        ((8, 12), (4, 3)),
        ((3, 20), (8, 5)),
        ((1, 2), (5, 7)),
        ((5, 5), (1, 9)),
    ):
        image, mask = rng.integers(0, 256, shape, np.uint8), rng.random(shape) < 0.7
        for given_mask in (None, mask):
            counts = histeq.tile_histograms(image, tiles=tiles, mask=given_mask, backend=backend)
            assert same(counts.counts, brute_force(image, tiles, given_mask))
            assert same(counts.totals().counts[..., 0], counts.counts.sum(axis=-1))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_windows_equal_opencv(backend, dtype):
    rng = np.random.default_rng(2)
    image = random_values(rng, 97 * 131, dtype).reshape(97, 131)
    image[20:60, 30:90] = rng.integers(0, np.iinfo(dtype).max, (40, 60))
    expected = oracles.clahe(image, 3.0, (4, 5))
    total = histeq.tile_histograms(image[:0, :0], shape=image.shape, tiles=(4, 5), backend=backend)
    total = total.part((0, 0), (4, 5))
    for origin, box in windows(rng, image.shape):
        assert histeq.tile_histograms(image[box], origin=origin, add_to=total, backend=backend) is total
    tables = histeq.tile_tables(total, clip_limit=3.0, backend=backend)
    for origin, box in windows(rng, image.shape):
        assert same(histeq.apply_tiles(image[box], tables, origin=origin, backend=backend), expected[box])


def equalized_by_rows(image, counting, backend, **what_counts):
    """Equalize an image as a caller does who holds the tables of few rows of tiles."""
    height, size = len(image), 7  # blocks of rows, misaligned with the tiles
    nodata, mask = what_counts.get("nodata"), what_counts.get("mask")

    def counts_of(first):
        rows = slice(first, first + size)
        some = {"nodata": nodata} if mask is None else {"mask": mask[rows]}
        keywords = {"shape": image.shape, "origin": (first, 0), **counting, "backend": backend}
        return histeq.tile_histograms(image[rows], **keywords, **some)

    blocks = {first: counts_of(first) for first in range(0, height, size)}  # a file is read again
    counted = functools.reduce(operator.add, [counts.totals() for counts in blocks.values()])
    (rows, columns), nearest = counted.tiles, counted.nearest()[0, 0, 0]

    def tables_of(row):
        parts = [
            c.part((row, 0), (row + 1, columns)) for c in blocks.values() if c.first[0] <= row < c.stop[0]
        ]
        return histeq.tile_tables(functools.reduce(operator.add, parts), backend=backend)

    result = np.empty_like(image)
    for row in range(rows):
        stop = min(row + 2, rows)
        if nodata is not None:  # what is next to a counted pixel has its nearest tile beside it
            near = range(max(row - 1, 0), min(row + 3, rows))
        else:
            near = sorted({row, stop - 1, *(nearest[row:stop].ravel() // columns).tolist()})
        held = [tables_of(i) for i in near]
        tables = held[0].part((row, 0), (stop, columns), *held[1:], counted=counted)
        mine = [y for y in range(height) if counted._kind.grid.needed(1, y, 1).start == row]
        if mine:
            window = slice(mine[0], mine[-1] + 1)
            some = {"origin": (mine[0], 0), "nodata": nodata, "backend": backend}
            result[window] = histeq.apply_tiles(image[window], tables, **some)
    return result


GRIDS = {"tiles": (9, 6)}, {"tile_size": (10, 9)}, {"tile_size": 8}, {"tiles": (3, 11)}


@pytest.mark.parametrize("how", ["nodata", "mask"])
@pytest.mark.parametrize("grid", range(len(GRIDS)))
def test_row_by_row_with_empty_tiles(backend, grid, how):
    """Tiles without a counted pixel take the nearest table, though few rows of tables are held."""
    if backend == "cupy" and grid > 0:
        pytest.skip("the kernels take long on the CPU, and the rest is the same for all backends")
    rng, counting = np.random.default_rng(3), GRIDS[grid]
    image, here = rng.integers(1, 256, (67, 53), np.uint8), np.zeros((67, 53), np.bool_)
    for _ in range(3):
        y, x, tall, wide = rng.integers(0, 60), rng.integers(0, 45), *rng.integers(1, 12, 2)
        here[y : y + tall, x : x + wide] = True
    what_counts = {"mask": here}
    if how == "nodata":
        image[~here], what_counts = 0, {"nodata": 0}
    whole = histeq.clahe(image, **counting, **what_counts, backend=backend)
    assert same(equalized_by_rows(image, counting, backend, **what_counts), whole)


def test_an_image_without_any_counted_pixel(backend):
    image, keywords = np.full((20, 30), 9, np.uint8), {"tiles": (4, 5), "backend": backend}
    image[3, 4] = 7
    counts = histeq.tile_histograms(image, mask=np.zeros_like(image), **keywords)
    tables = histeq.tile_tables(counts.part((1, 1), (3, 3)), backend=backend)
    assert tables._missing.all()
    with pytest.raises(ValueError, match=r"tables must hold that of tile \(1, 1\), in which nothing was"):
        histeq.apply_tiles(image[8:12, 9:12], tables, origin=(8, 9), backend=backend)
    filled = tables.part((0, 0), (4, 5), counted=counts)
    assert same(histeq.apply_tiles(image, filled, backend=backend), image)
    assert same(filled.tables, histeq.tile_tables(counts, backend=backend).tables)


def test_pixels_that_pass_through_need_no_tables(backend):
    for dtype, nothing in (("uint8", {"nodata": 0}), ("float32", {"value_range": (0, 1)})):
        image = np.random.default_rng(4).random((40, 40)).astype(dtype)
        if dtype == "uint8":
            image[:20] = np.random.default_rng(5).integers(1, 256, (20, 40))
        image[20:] = 0 if dtype == "uint8" else np.nan
        keywords = {"tiles": (4, 4), "backend": backend}
        counts = histeq.tile_histograms(image, **nothing, **keywords).part((2, 0), (4, 4))
        tables = histeq.tile_tables(counts, backend=backend)
        mapping = {key: nothing[key] for key in ("nodata",) if key in nothing}
        window = image[25:]
        result = histeq.apply_tiles(window, tables, origin=(25, 0), backend=backend, **mapping)
        assert same(result, window)
        with pytest.raises(ValueError, match=r"tables must hold the tiles from \(1, 0\) to \(4, 4\)"):
            histeq.apply_tiles(image[19:], tables, origin=(19, 0), backend=backend, **mapping)
        spoilt = window.copy()
        spoilt[0, 0] = 1
        with pytest.raises(ValueError, match="tables must hold that of tile"):
            histeq.apply_tiles(spoilt, tables, origin=(25, 0), backend=backend, **mapping)


def test_parts_and_sums(backend):
    rng = np.random.default_rng(6)
    image, keywords = rng.integers(0, 256, (40, 60), np.uint8), {"tiles": (4, 6), "backend": backend}
    whole = histeq.tile_histograms(image, **keywords)
    upper = histeq.tile_histograms(image[:12], shape=image.shape, **keywords)
    lower = histeq.tile_histograms(image[12:], shape=image.shape, origin=(12, 0), **keywords)
    assert (upper.first, upper.stop, lower.first, lower.stop) == ((0, 0), (2, 6), (1, 0), (4, 6))
    assert same(whole.part((1, 2), (3, 4)).counts, whole.counts[1:3, 2:4])
    padded = upper.part((0, 0), (4, 6))
    memory, before = padded._canonical, upper.counts.copy()
    padded += lower
    assert padded._canonical is memory
    assert same(padded.counts, whole.counts)
    assert same(upper.counts, before)
    grown = upper
    grown += lower  # a new object: the former does not hold these tiles
    assert grown is not upper
    assert same(grown.counts, whole.counts)
    assert same(sum([upper, lower]).counts, whole.counts)
    with pytest.raises(TypeError, match="unsupported operand"):
        1 + upper
    corner = histeq.tile_histograms(image[:5, :5], shape=image.shape, **keywords)
    far = histeq.tile_histograms(image[35:, 35:], shape=image.shape, origin=(35, 35), **keywords)
    assert (corner + far).counts.sum() == 25 + 125
    empty = histeq.tile_histograms(image[:0], shape=image.shape, **keywords)
    assert empty.first == empty.stop == (empty + empty).stop == (0, 0)
    assert ((far + empty).first, (empty + far).stop) == (far.first, far.stop) == ((3, 3), (4, 6))
    tables = histeq.tile_tables(whole, backend=backend)
    left, right = tables.part((0, 0), (4, 3)), tables.part((0, 3), (4, 6))
    assert same(left.part((0, 0), (4, 6), right).tables, tables.tables)
    assert left.part((0, 0), (4, 6))._missing[..., 3:].all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tables_of_more_pixels_than_32_bits_count(backend, dtype):
    image = random_values(np.random.default_rng(9), 2000, dtype).reshape(40, 50)
    counts = [histeq.tile_histograms(image, tiles=(2, 3), backend=name) for name in (backend, "numpy")]
    for each in counts:
        each._canonical[...] *= 1 << 27
        each._canonical[..., 0, 0, :] >>= 26  # one tile of few pixels among them
    for clip_limit in (0, 3):
        tables, expected = (
            histeq.tile_tables(each, clip_limit=clip_limit, backend=name)
            for each, name in zip(counts, (backend, "numpy"), strict=True)
        )
        assert same(tables.tables, expected.tables)


def test_slices_of_a_volume(backend):
    """A slice between layers of different weights is blended as in the volume, even of equal layers."""
    rng = np.random.default_rng(7)
    volume = rng.integers(0, 256, (9, 12, 14), np.uint8)
    for tiles in ((1, 2, 2), (3, 2, 3)):
        keywords = {"layout": "DHW", "backend": backend}
        tables = histeq.tile_tables(volume, tiles=tiles, **keywords)
        whole = histeq.clahe(volume, tiles=tiles, **keywords)
        for z in range(9):
            window = histeq.apply_tiles(volume[z : z + 1], tables, origin=(z, 0, 0), **keywords)
            assert same(window, whole[z : z + 1])


def test_pickles_hold_each_array_once():
    image = np.random.default_rng(8).integers(0, 60000, (40, 50)).astype(np.uint16)
    counts = histeq.tile_histograms(image, tiles=(2, 3))
    tables = histeq.tile_tables(counts)
    for one, array in ((counts, counts.counts), (tables, tables.tables)):
        data = pickle.dumps(one)
        assert len(data) < array.nbytes + 2000
        again = pickle.loads(data)
        assert same(getattr(again, "counts" if one is counts else "tables"), array)
        assert repr(again) == repr(one)
    assert same(
        histeq.apply_tiles(image, pickle.loads(pickle.dumps(tables))), histeq.clahe(image, tiles=(2, 3))
    )
    assert same((pickle.loads(pickle.dumps(counts)) + counts).counts, 2 * counts.counts)
    assert not tables.tables.flags.writeable


IMAGE = np.arange(35 * 40, dtype=np.uint16).reshape(35, 40)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        (
            {"shape": (20, 40)},
            ValueError,
            r"image must lie inside the image of shape \(20, 40\), got shape \(35, 40\)",
        ),
        ({"origin": (1, 0)}, ValueError, r"image must lie inside .* with origin \(1, 0\)"),
        ({"shape": (50, 50), "origin": (0, 11)}, ValueError, "image must lie inside the image of shape"),
        (
            {"shape": (50, 50), "origin": (-1, 0)},
            ValueError,
            r"origin must be at least 0 along every axis, got \(-1",
        ),
        ({"shape": (50,)}, ValueError, "shape must be one int for each of the axes HW"),
        ({"shape": 50}, TypeError, "shape must be one int for each of the axes HW"),
        ({"shape": (50.0, 40)}, TypeError, "shape must be one int for each"),
        ({"add_to": IMAGE}, TypeError, "add_to must be TileHistograms, got ndarray"),
    ],
)
def test_wrong_windows(keywords, error, message):
    with pytest.raises(error, match=message):
        histeq.tile_histograms(IMAGE, **keywords)


def test_floats_need_a_range():
    image = IMAGE.astype(np.float32)
    with pytest.raises(ValueError, match="value_range must be given for a window of a floating-point image"):
        histeq.tile_histograms(image[:9], shape=image.shape)
    counts = histeq.tile_histograms(image)
    assert same(histeq.tile_tables(counts).tables, histeq.tile_tables(image).tables)
    with pytest.raises(ValueError, match="must have the same edges of bins: give value_range"):
        counts + histeq.tile_histograms(2 * image)


@pytest.mark.parametrize(
    "other",
    [
        {"tiles": (4, 4)},
        {"bins": 16},
        {"value_range": (0, 255)},
        {"layout": "WH"},
        {"image": IMAGE.astype(np.uint8)},
        {"image": IMAGE.astype(np.int16)},
        {"image": IMAGE[:34]},
        {"image": IMAGE[None], "layout": "NHW"},
    ],
)
def test_counts_of_another_kind_do_not_add_up(other):
    one, two = histeq.tile_histograms(IMAGE), histeq.tile_histograms(**{"image": IMAGE, **other})
    for act in (lambda: one + two, lambda: one.__iadd__(two)):
        with pytest.raises(ValueError, match="counts and tables must be of the same image"):
            act()
    with pytest.raises(TypeError):
        one + 1


def test_wrong_parts():
    counts = histeq.tile_histograms(IMAGE)
    tables = histeq.tile_tables(counts)
    for tiles in (counts, tables):
        for first, stop in (((0, 0), (9, 8)), ((-1, 0), (8, 8)), ((4, 4), (3, 8))):
            with pytest.raises(ValueError, match=r"first and stop must be a box of the \(8, 8\) tiles"):
                tiles.part(first, stop)
        with pytest.raises(TypeError, match="first must be one int for each of the axes HW"):
            tiles.part(0, (8, 8))
    whole = ((0, 0), (8, 8))
    with pytest.raises(TypeError, match="others must be TileTables, got TileHistograms"):
        tables.part(*whole, counts)
    with pytest.raises(ValueError, match="counts and tables must be of the same image"):
        tables.part(*whole, histeq.tile_tables(IMAGE, tiles=2))
    with pytest.raises(TypeError, match="counted must be TileHistograms, got ndarray"):
        tables.part(*whole, counted=IMAGE)
    with pytest.raises(ValueError, match="counted must be counts of the tables' image and tiles"):
        tables.part(*whole, counted=histeq.tile_histograms(IMAGE, tiles=2))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"shape": IMAGE.shape}, ValueError, "shape must not be given beside add_to, which says it"),
        ({"tiles": (4, 4)}, ValueError, "tiles must not be given beside add_to"),
        ({"tile_size": 4}, ValueError, "tile_size must not be given beside add_to"),
        ({"bins": 4}, ValueError, "bins must not be given beside add_to"),
        ({"value_range": (0, 9)}, ValueError, "value_range must not be given beside add_to"),
        (
            {"origin": (1, 0)},
            ValueError,
            r"image must lie inside the image of add_to, of shape \(35, 40\), got",
        ),
        (
            {"image": IMAGE.astype(np.uint8)},
            TypeError,
            "image must have the dtype of add_to, uint16, got uint8",
        ),
        ({"layout": "DW"}, ValueError, "image must have the spatial axes of add_to, HW, got DW"),
        (
            {"layout": "CHW", "color": "channels"},
            ValueError,
            "add_to must be for 3 channels and 1 or 1 images",
        ),
        ({"layout": "NHW"}, ValueError, "add_to must be counts of 3 images with this color, got"),
        ({"layout": "CHW"}, ValueError, "add_to must be counts of 1 images with this color, got"),
    ],
)
def test_wrong_windows_for_counts(keywords, error, message):
    many = "C" in keywords.get("layout", "") or "N" in keywords.get("layout", "")
    image = np.stack([IMAGE] * 3) if many else IMAGE
    counts = histeq.tile_histograms(IMAGE)
    with pytest.raises(error, match=message):
        histeq.tile_histograms(**{"image": image, **keywords}, add_to=counts)
    assert same(counts.counts, histeq.tile_histograms(IMAGE).counts)


def test_counts_must_hold_the_tiles_of_a_window():
    small = histeq.tile_histograms(IMAGE[:5], shape=IMAGE.shape)
    with pytest.raises(ValueError, match=r"add_to must hold the tiles from \(0, 0\) to \(8, 8\), got"):
        histeq.tile_histograms(IMAGE, add_to=small)


@pytest.mark.parametrize(
    "keywords",
    [
        {"tiles": (4, 4)}, {"tile_size": 3}, {"bins": 16}, {"layout": "HW"}, {"color": "channels"},
        {"alpha": False}, {"mask": IMAGE > 0}, {"nodata": 0}, {"value_range": (0, 9)},
    ],
)  # fmt: skip
def test_counts_say_what_was_counted(keywords):
    (name,) = keywords
    with pytest.raises(ValueError, match=f"{name} must not be given beside TileHistograms, which"):
        histeq.tile_tables(histeq.tile_histograms(IMAGE), **keywords)


def test_totals_make_no_tables():
    totals = histeq.tile_histograms(IMAGE).totals()
    with pytest.raises(ValueError, match="image must have the counts of all bins, got the totals"):
        histeq.tile_tables(totals)
    with pytest.raises(ValueError, match="add_to must have the counts of all bins, got the totals"):
        histeq.tile_histograms(IMAGE, add_to=totals)


def test_many_counts_of_few_pixels_are_refused():
    with pytest.raises(ValueError, match="tile_size must not give more than"):
        histeq.tile_histograms(np.zeros((40, 1000), np.uint16), tile_size=1)
    counts = histeq.tile_histograms(np.zeros((4, 4), np.uint16), shape=(40000, 40000), tile_size=1)
    assert counts.counts.shape == (4, 4, 65536)
