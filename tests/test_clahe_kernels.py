"""The kernels of CLAHE against its arithmetic in NumPy, in guarded buffers.

This file also runs interpreted, with bounds checked, and for a generic processor, as test_kernels.py does.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from histeq_kernels.cpu.clahe import (
    blend,
    luma,
    parameters,
    ranks,
    small_ranks,
    tile_counts,
    tile_tables,
    tile_tables_16,
)
from histeq_kernels.cpu.clahe.blend_packed import FOUND
from histeq_kernels.cpu.core.rounding import rounded
from histeq_kernels.cpu.histogram.workspace import SCRATCH, ZEROS
from histeq_kernels.cpu.ycrcb import strided
from histeq_kernels.cpu.ycrcb.scalar import COEFFICIENTS
from images import AS_SHIPPED, INTERPRETED, random_values, same
from test_kernels import (
    BEST,
    Guarded,
    channels_of,
    color_output,
    color_rows,
    each_tier,
    each_tier_in_time,
    rows_of,
)

import histeq
from histeq._core import rules as _rules
from histeq._core import tile_grid as _tiles
from histeq._core import ycrcb as _color

CASES = [((9, 33), (2, 3)), ((1, 1), (1, 1)), ((5, 4), (7, 9)), ((40, 70), (2, 1))]
CASES += [] if INTERPRETED else [((70, 1100), (3, 1)), ((300, 290), (1, 2)), ((400, 500), (1, 1))]
# Rows, and tiles, of more pixels than a band; in bands of one row, and of some.
WIDE = [] if INTERPRETED else [((2, 140_001), (1, 1)), ((3, 140_001), (2, 3)), ((5, 60_000), (1, 3))]


def level_parameters(levels, sign=0):
    """Return what the kernels are told of levels."""
    entries = np.zeros(7, np.int64)
    entries[parameters.BINS], entries[parameters.LOWEST] = levels.bins, levels.lowest
    entries[parameters.SPAN], entries[parameters.SIGN] = levels.span, sign
    entries[parameters.BIN_SHIFT], entries[parameters.LEVEL_SHIFT] = levels.bin_shift, levels.shift
    return entries


def levels_within(low, high, dtype):
    """Return the levels from low to high of an image with a bin for each value."""
    out_range = _rules.whole_range(np.dtype(dtype))._replace(low=low, high=high)
    return _tiles.levels_of(np.dtype(dtype), _rules.levels_of(dtype), out_range)


def grid_of(shape, count):
    return _tiles.grid_of((1, *shape), "HW", "DHW", count, None)


def expected_tables(image, grid, clip, levels):
    tables = np.empty((*grid.tiles, levels.bins), levels.table_dtype)
    for at in np.ndindex(grid.tiles):
        counts = np.bincount(levels.index(image[np.ix_(*grid.box(at))]).ravel(), minlength=levels.bins)
        tables[at] = _tiles.table(counts, clip, levels)
    return tables


@each_tier
@pytest.mark.parametrize("clip", [0.0, 0.5, 2.0, 40.0])
@pytest.mark.parametrize(("shape", "count"), CASES)
def test_eight_bits(shape, count, clip, tier):
    rng = np.random.default_rng(shape[1])
    image = rows_of(rng, (1, *shape))
    grid, levels = grid_of(shape, count), levels_within(3, 250, np.uint8)
    scratch, sums = np.zeros(SCRATCH, np.uint32), np.full(tile_tables.SUMS, 77, np.int32)
    tables = np.full((int(np.prod(grid.tiles)), 256), 77, np.uint8)
    positions = [grid.positions(axis) for axis in range(3)]
    kernel, tile, half = tile_tables.tile_tables.variant("u8", tier), np.array(grid.tile), len(tables) // 2
    for part in ((0, half), (half, len(tables))):
        kernel(image, *positions, tile, *part, clip, level_parameters(levels), scratch, sums, tables)
    expected = expected_tables(image, grid, clip, levels)
    assert same(tables.reshape(expected.shape), expected)
    assert not scratch[:ZEROS].any()
    kernel = blend.blend_tiles.variant("u8", tier)
    check_blend(image, grid, expected, kernel, levels, level_parameters(levels))


@pytest.mark.skipif(not INTERPRETED, reason="tiles of 65,536 pixels are counted so of their own accord")
def test_small_tiles_counted_by_pairs():
    always = BEST.operations | {"min_pixels_of_counted_tile": 0}
    test_eight_bits(*CASES[0], 2.0, replace(BEST, name="pairs", operations=always))


@each_tier
def test_parts_of_eight_bits(tier):
    """Parts are added to the counts of their tiles: small ones and large ones, of bits that become bins."""
    rng = np.random.default_rng(4)
    image = rows_of(rng, (2, 300, 311))
    parts = np.array([[1, 0, 2, 3, 299, 5, 310], [0, 1, 2, 7, 8, 0, 9], [1, 0, 1, 0, 40, 300, 311]])
    for dtype, bins, nodata in (("uint8", 256, -1), ("uint8", 64, 7), ("int8", 256, 200), ("int8", 16, -1)):
        levels = _tiles.levels_of(np.dtype(dtype), bins, None)
        counts, expected = np.full((2, 2, bins), 3, np.int64)
        scratch, values = np.zeros(SCRATCH, np.uint32), np.full(256, 77, np.int64)
        kernel = tile_counts.count_parts.variant("u8", tier)
        numbers = level_parameters(levels, sign=128 if dtype == "int8" else 0)
        kernel(image, parts, numbers, nodata, scratch, values, counts)
        for tile, z0, z1, y0, y1, x0, x1 in parts:
            pixels = image[z0:z1, y0:y1, x0:x1]
            pixels = pixels[pixels != np.int64(nodata)]  # NumPy 2.0 to 2.2 crash where it is an int, -1
            expected[tile] += np.bincount(levels.index(pixels.view(dtype)), minlength=bins)
        assert same(counts, expected)
        assert not scratch[:ZEROS].any()


@each_tier_in_time
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize(("shape", "count"), [*CASES, *WIDE])
def test_luma_of_eight_bits(shape, count, stride, order, tier):
    height, width = shape
    image, planes = color_rows(np.random.default_rng(width), stride, width, height)
    in_order = planes[:3] if order == "rgb" else planes[2::-1]
    y = _color.luma(*in_order).astype(np.uint8)
    grid, levels = grid_of(shape, count), levels_within(3, 250, np.uint8)
    k, kernel = COEFFICIENTS[order], luma.tile_tables_of_luma.variant("u8", tier)
    scratch, sums = np.zeros(SCRATCH, np.uint32), np.full(tile_tables.SUMS, 77, np.int32)
    tables, tile = np.full((int(np.prod(grid.tiles)), 256), 77, np.uint8), np.array(grid.tile)
    positions = [grid.positions(axis) for axis in range(3)]
    half = len(tables) // 2
    band, indices = np.zeros(2 * max(luma.BAND, width), np.uint8), np.arange(luma.BAND)
    for part in ((0, half), (half, len(tables))):
        memory = scratch, sums, band, indices
        numbers = level_parameters(levels)
        kernel(*image, stride, k, *positions, tile, *part, 2.0, numbers, *memory, tables)
    tables = tables.reshape(*grid.tiles, 256)
    assert same(tables, expected_tables(y, grid, 2.0, levels))
    assert not scratch[:ZEROS].any()

    around = [grid.neighbours(axis, 0, y.shape[axis]) for axis in range(3)]
    new = levels.pixels(_tiles.blend(y, tables, tuple(around)))
    expected = np.stack(_color.with_luma(*in_order, new))
    expected = expected if order == "rgb" else expected[::-1]
    memory = np.zeros(65536, np.uint64), np.zeros(FOUND, np.uint32), band
    out, rows, result = color_output(stride, width, height)
    kernel = luma.blend_tiles_of_luma.variant("u8", tier)
    kernel(*image, stride, k, *around[1], *around[2], tables[0], *memory, *rows)
    assert same(result()[:3], expected)
    assert same(result()[3:], planes[3:])
    assert all(part.intact() for part in out)
    kernel(*image, stride, k, *around[1], *around[2], tables[0], *memory, *image)
    in_place = np.stack(image) if stride == 1 else channels_of(image[0], stride)
    assert same(np.ascontiguousarray(in_place[:3]), expected)


@pytest.mark.parametrize(
    ("dtype", "bins"),
    [("uint16", 65536), ("int16", 4096), ("uint16", 16)]
    if INTERPRETED
    else list(itertools.product(["uint16", "int16"], [65536, 4096, 16])),
)
@pytest.mark.parametrize(("shape", "count"), CASES[: 2 if INTERPRETED else None])
@pytest.mark.parametrize("clip", [0.0, 2.0] if INTERPRETED else [0.0, 2.0, 40.0, 3000.0])
def test_sixteen_bits(shape, count, dtype, bins, clip):
    rng = np.random.default_rng(shape[1])
    image = random_values(rng, shape[0] * shape[1], dtype).reshape(1, *shape)
    image[0, : shape[0] // 2] //= 64  # most blocks of bins are empty
    grid, levels = grid_of(shape, count), _tiles.levels_of(np.dtype(dtype), bins, None)
    bits, numbers = image.view(np.uint16), level_parameters(levels, 32768 if dtype == "int16" else 0)
    limits = np.empty(2, np.int64)
    tile_tables_16.occupied_bins.u16(bits, numbers, limits)
    index = levels.index(image)
    assert limits.tolist() == [index.min(), index.max()]
    scratch, sums = np.zeros(SCRATCH, np.uint32), np.full(tile_tables.SUMS, 77, np.int32)
    positions = [grid.positions(axis) for axis in range(3)]
    expected = expected_tables(image, grid, clip, levels)
    for first, stop in ((0, bins), (limits[0], limits[1] + 1)):
        numbers[parameters.FIRST_BIN] = first
        tables = np.full((int(np.prod(grid.tiles)), stop - first), 77, np.uint16)
        kernel, part, tile = tile_tables_16.tile_tables_16.u16, (0, len(tables)), np.array(grid.tile)
        kernel(bits, *positions, tile, *part, clip, numbers, scratch, sums, tables)
        tables = tables.reshape(*grid.tiles, -1)
        assert same(tables, np.ascontiguousarray(expected[..., first:stop]))
        assert not scratch[:ZEROS].any()
        check_blend(image, grid, tables, blend.blend_tiles_16.u16, levels, numbers)


RANKED = [*(case for case in CASES if 16 <= case[0][1] < 500), ((37, 83), (5, 3)), ((64, 96), (2, 2))]


@pytest.mark.parametrize("values", [1, 300, 30_000])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize(("shape", "count"), RANKED)
def test_ranks(shape, count, dtype, values):
    image = np.random.default_rng(shape[1]).integers(0, values, (1, *shape)).astype(dtype)
    image[0, ::3] = np.iinfo(dtype).max - image[0, ::3]
    image[0, :, ::4] += np.iinfo(dtype).min
    grid = grid_of(shape, count)
    for levels in (_tiles.levels_of(np.dtype(dtype), 65536, None), levels_within(70, 30_000, dtype)):
        check_ranks(image, grid, levels)


@pytest.mark.skipif(INTERPRETED, reason="there are so many cells")
@pytest.mark.parametrize("clipped", [0, 1, 2, 5, 100, 7000, 9000, 20_000, 39_999])
def test_distances_between_bins_that_get_a_clipped_pixel(clipped):
    """Up to eight bins of an entry get one; so do those before the first bin in use, and after the last."""
    rng = np.random.default_rng(clipped)
    for offset in (0, 7, 12_345, 65_536 - 40_000):
        image = np.minimum(np.arange(40_000), 39_999 - clipped)
        image = (rng.permutation(image) + offset).astype(np.uint16).reshape(1, 200, 200)
        check_ranks(image, grid_of((200, 200), (1, 1)), _tiles.levels_of(np.dtype("uint16"), 65536, None))


@pytest.mark.skipif(INTERPRETED, reason="there are so many tiles")
def test_more_tiles_than_there_are_marks():
    image = np.random.default_rng(5).integers(0, 65536, (1, 70, 41)).astype(np.uint16)
    check_ranks(image, grid_of((70, 41), (23, 13)), _tiles.levels_of(np.dtype("uint16"), 65536, None))


def check_ranks(image, grid, levels):
    """Both ways to equalize by ranks do as the tables of the hardest clipping, one pixel in a bin."""
    sign, area, index = 32768 * (image.dtype == np.int16), int(np.prod(grid.tile)), levels.index(image)
    around = [grid.neighbours(axis, 0, image.shape[axis]) for axis in range(3)]
    tables = expected_tables(image, grid, 1e-9, levels)
    expected = levels.pixels(_tiles.blend(index, tables, tuple(around)))
    bits, numbers, shape = image.view(np.uint16), level_parameters(levels, sign), grid.tiles[1:]
    limits, memory = np.array([index.min(), index.max()], np.int64), np.full(65536, 0x0101_0101, np.uint64)
    tiles = bits, grid.positions(1), grid.positions(2), np.array(grid.tile)
    number = int(np.prod(shape))
    parts = (0, number // 2), (number // 2, number)

    entries, out = np.full((*shape, ranks.ENTRIES), 77, np.uint32), Guarded(image.shape, np.uint16)
    for part in parts:
        ranks.tile_ranks.u16(*tiles, *part, numbers, limits, memory, entries.reshape(number, -1))
    ranks.blend_ranks.u16(bits, *around[1], *around[2], entries, numbers, area, memory, out.inside)
    assert same(np.ascontiguousarray(out.inside).view(image.dtype), expected)
    assert out.intact()

    entries, spreads = (
        np.full((*shape, small_ranks.ENTRIES), 77, np.uint32),
        np.full((*shape, 2), 77, np.int32),
    )
    out = Guarded(image.shape, np.uint16)
    for part in parts:
        results = entries.reshape(number, -1), spreads.reshape(number, 2)
        small_ranks.small_tile_ranks.u16(*tiles, *part, numbers, limits, *results)
    small_ranks.blend_small_ranks.u16(
        bits, *around[1], *around[2], entries, spreads, numbers, area, out.inside
    )
    assert same(np.ascontiguousarray(out.inside).view(image.dtype), expected)
    assert out.intact()


def check_blend(image, grid, tables, kernel, levels, numbers):
    around = [grid.neighbours(axis, 0, image.shape[axis]) for axis in range(3)]
    expected = levels.pixels(
        _tiles.blend(levels.index(image) - numbers[parameters.FIRST_BIN], tables, tuple(around))
    )
    out = Guarded(image.shape, levels.table_dtype)
    bits = image.view(levels.table_dtype)
    memory = np.zeros(65536, np.uint64), np.zeros(FOUND, np.uint32)
    if bits.itemsize == 1 or bits.shape[2] >= blend.LEAST_WIDTH:
        kernel(bits, *around[1], *around[2], np.ascontiguousarray(tables[0]), numbers, *memory, out.inside)
        assert same(np.ascontiguousarray(out.inside).view(levels.dtype), expected)
        assert out.intact()
    volume = Guarded(image.shape, levels.table_dtype)
    kernel = getattr(blend.blend_volume, "u8" if levels.table_dtype == np.uint8 else "u16")
    kernel(bits, *around[0], *around[1], *around[2], tables, numbers, *memory, volume.inside)
    assert same(np.ascontiguousarray(volume.inside).view(levels.dtype), expected)
    assert volume.intact()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma_extracted_and_replaced(dtype):
    rng = np.random.default_rng(1)
    planes = random_values(rng, 3 * 2 * 5 * 7, dtype).reshape(3, 2, 5, 7)
    new = random_values(rng, 2 * 5 * 7, dtype).reshape(2, 5, 7)
    tag = f"u{8 * np.dtype(dtype).itemsize}"
    y = Guarded((2, 5, 7), dtype)
    getattr(strided.extract_luma, tag)(*planes, y.inside)
    assert (y.inside == _color.luma(*planes)).all()
    out = [Guarded((2, 5, 7), dtype) for _ in range(3)]
    top = np.iinfo(dtype).max
    getattr(strided.replace_luma, tag)(*planes, new, top, *(one.inside for one in out))
    assert same(np.stack([one.inside for one in out]), np.stack(_color.with_luma(*planes, new)))
    assert all(one.intact() for one in [y, *out])


def test_rounding_is_half_to_even():
    values = np.concatenate([np.arange(0, 65536, 0.5), np.random.default_rng(2).random(1000) * 65535])
    values = values[:: 97 if INTERPRETED else 1].astype(np.float32)
    rounded = round_all(values)
    assert same(rounded, np.rint(values).astype(np.int32))
    beside = np.concatenate([np.nextafter(values, np.float32(-1)), np.nextafter(values, np.float32(1e9))])
    beside = np.abs(beside)
    assert same(round_all(beside), np.rint(beside).astype(np.int32))


def round_all(values):
    from numba import njit

    @njit
    def each(values, out):
        for i in range(values.size):
            out[i] = rounded(values[i])

    out = np.empty(values.size, np.int32)
    each(values, out)
    return out


@pytest.mark.parametrize("shape", [(20, 25)] if INTERPRETED else [(20, 25), (50, 10)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_backends_agree(dtype, shape):
    image = random_values(np.random.default_rng(3), 500, dtype).reshape(shape)
    for keywords in ({}, {"clip_limit": 40.0, "tiles": (3, 2)}, {"nodata": int(image[0, 0])}):
        expected = histeq.clahe(image, backend="numpy", **keywords)
        assert same(histeq.clahe(image, backend="numba", **keywords), expected)
        if not INTERPRETED:
            in_place = image.copy()
            assert same(histeq.clahe(in_place, backend="numba", out=in_place, **keywords), expected)


@pytest.mark.skipif(not AS_SHIPPED, reason="threads")
@pytest.mark.parametrize("tiles", [(1, 1), (3, 2), (40, 3)])
@pytest.mark.parametrize(
    ("dtype", "top"), [("uint8", 256), ("uint16", 300), ("uint16", 9000), ("int16", 30_000)]
)
def test_rows_of_cells_on_several_threads(dtype, top, tiles, monkeypatch):
    monkeypatch.setattr("histeq._backends.numba.clahe._PIECE", 16)
    image = np.random.default_rng(top).integers(0, top, (130, 90)).astype(dtype)
    expected = histeq.clahe(image, tiles=tiles, backend="numpy")
    for number in (2, 3, 40):
        with histeq.threads(number):
            assert same(histeq.clahe(image, tiles=tiles, backend="numba"), expected)


@pytest.mark.parametrize("bins", [16, 64, 128])
@pytest.mark.parametrize("layout", ["HW", "HWC", "DHW"])
def test_backends_agree_on_few_bins_of_eight_bits(layout, bins):
    shape = {"HW": (40, 70), "HWC": (40, 70, 3), "DHW": (3, 20, 30)}[layout]
    image = random_values(np.random.default_rng(bins), int(np.prod(shape)), "uint8").reshape(shape)
    results = [histeq.clahe(image, layout=layout, bins=bins, tiles=3, backend=b) for b in ("numba", "numpy")]
    assert same(*results)


@pytest.mark.skipif(not AS_SHIPPED, reason="a generic processor has no such instruction")
def test_no_fused_multiply_add():
    for kernel in (blend.blend_tiles.u8, blend.blend_volume.u8):  # in one plane, and between planes
        fresh = kernel.py_func
        signature = kernel.signatures[0]
        from numba import njit

        compiled = njit(signature, error_model="numpy")(fresh)
        assert "fmadd" not in next(iter(compiled.inspect_asm().values()))
