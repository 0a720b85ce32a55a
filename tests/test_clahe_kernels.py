"""The kernels of CLAHE against its arithmetic in NumPy, in guarded buffers.

This file also runs interpreted, with bounds checked, and for a generic processor, as test_kernels.py does.
"""

import os

import numpy as np
import pytest
from histeq_kernels.cpu import _whole, blend, clahe_avx512, clahe_luma, histogram, luma, ranks, recolor, tiles
from images import random_values, same
from test_kernels import Guarded, color_output, color_rows, only, rows_of

import histeq
from histeq._core import tile_grid as _tiles
from histeq._core import ycrcb as _color

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
CASES = [((9, 33), (2, 3)), ((1, 1), (1, 1)), ((5, 4), (7, 9)), ((40, 70), (2, 1))]
CASES += [] if INTERPRETED else [((70, 1100), (3, 1)), ((300, 290), (1, 2)), ((400, 500), (1, 1))]
# Rows, and tiles, of more pixels than a band; in bands of one row, and of some.
WIDE = [] if INTERPRETED else [((2, 140_001), (1, 1)), ((3, 140_001), (2, 3)), ((5, 60_000), (1, 3))]
KERNELS = [
    (tiles.tile_tables, blend.blend_tiles),
    *only("avx512", (clahe_avx512.tile_tables_avx512, clahe_avx512.blend_tiles_avx512)),
]
LUMA_KERNELS = [
    (clahe_luma.tile_tables_portable, clahe_luma.blend_tiles_portable),
    *only("avx2", (clahe_luma.tile_tables_avx2, clahe_luma.blend_tiles_avx2)),
    *only("avx512", (clahe_luma.tile_tables_avx512, clahe_luma.blend_tiles_avx512)),
]


def grid_of(shape, count):
    return _tiles.grid_of((1, *shape), "HW", "DHW", count, None)


def expected_tables(image, grid, clip, levels):
    tables = np.empty((*grid.tiles, levels.bins), levels.table_dtype)
    for at in np.ndindex(grid.tiles):
        counts = np.bincount(levels.index(image[np.ix_(*grid.box(at))]).ravel(), minlength=levels.bins)
        tables[at] = _tiles.table(counts, clip, levels)
    return tables


@pytest.mark.parametrize(("counting", "blending"), KERNELS)
@pytest.mark.parametrize("clip", [0.0, 0.5, 2.0, 40.0])
@pytest.mark.parametrize(("shape", "count"), CASES)
def test_eight_bits(shape, count, clip, counting, blending):
    rng = np.random.default_rng(shape[1])
    image = rows_of(rng, (1, *shape))
    grid, levels = grid_of(shape, count), _tiles.levels_of(np.dtype(np.uint8), 256, (3, 250))
    scratch, sums = np.zeros(histogram.SCRATCH, np.uint32), np.full(tiles.SUMS, 77, np.int32)
    tables = np.full((int(np.prod(grid.tiles)), 256), 77, np.uint8)
    positions = [grid.positions(axis) for axis in range(3)]
    form, tile = np.array([256, levels.lowest, levels.span]), np.array(grid.tile)
    half = len(tables) // 2
    for part in ((0, half), (half, len(tables))):
        counting.u8(image, *positions, tile, *part, clip, form, scratch, sums, tables)
    expected = expected_tables(image, grid, clip, levels)
    assert same(tables.reshape(expected.shape), expected)
    assert not scratch[: histogram.ZEROS].any()
    check_blend(image, grid, expected, blending.u8, levels, first=0, turn=0)


@pytest.mark.parametrize(("counting", "blending"), LUMA_KERNELS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize(("shape", "count"), [*CASES, *WIDE])
def test_luma_of_eight_bits(shape, count, step, order, counting, blending):
    height, width = shape
    image, planes = color_rows(np.random.default_rng(width), step, width, height)
    in_order = planes[:3] if order == "rgb" else planes[2::-1]
    y = _color.luma(*in_order).astype(np.uint8)
    grid, levels = grid_of(shape, count), _tiles.levels_of(np.dtype(np.uint8), 256, (3, 250))
    k, form = luma.COEFFICIENTS[order], np.array([256, levels.lowest, levels.span])
    scratch, sums = np.zeros(histogram.SCRATCH, np.uint32), np.full(tiles.SUMS, 77, np.int32)
    tables, tile = np.full((int(np.prod(grid.tiles)), 256), 77, np.uint8), np.array(grid.tile)
    positions = [grid.positions(axis) for axis in range(3)]
    half = len(tables) // 2
    band, each = np.zeros(2 * max(clahe_luma.BAND, width), np.uint8), np.arange(clahe_luma.BAND)
    for part in ((0, half), (half, len(tables))):
        room = scratch, sums, band, each
        counting.u8(*image, step, k, *positions, tile, *part, 2.0, form, *room, tables)
    tables = tables.reshape(*grid.tiles, 256)
    assert same(tables, expected_tables(y, grid, 2.0, levels))
    assert not scratch[: histogram.ZEROS].any()

    around = [grid.neighbours(axis, 0, y.shape[axis]) for axis in range(3)]
    new = levels.pixels(_tiles.blend(y, tables, tuple(around)))
    expected = np.stack(_color.with_luma(*in_order, new))
    expected = expected if order == "rgb" else expected[::-1]
    room = np.zeros(65536, np.uint64), np.zeros(blend.FOUND, np.uint32), band
    out, rows, channels_of = color_output(step, width, height)
    blending.u8(*image, step, k, *around[1], *around[2], tables[0], *room, *rows)
    assert same(channels_of()[:3], expected)
    assert same(channels_of()[3:], planes[3:])
    assert all(one.intact() for one in out)
    blending.u8(*image, step, k, *around[1], *around[2], tables[0], *room, *image)
    in_place = np.stack(image) if step == 1 else np.moveaxis(image[0].reshape(1, height, width, step), -1, 0)
    assert same(np.ascontiguousarray(in_place[:3]), expected)


@pytest.mark.parametrize("bins", [65536, 4096, 16])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize(("shape", "count"), CASES[: 2 if INTERPRETED else None])
@pytest.mark.parametrize("clip", [0.0, 2.0, 40.0, 3000.0])
def test_sixteen_bits(shape, count, dtype, bins, clip):
    rng = np.random.default_rng(shape[1])
    image = random_values(rng, shape[0] * shape[1], dtype).reshape(1, *shape)
    image[0, : shape[0] // 2] //= 64  # most blocks of bins are empty
    grid, levels = grid_of(shape, count), _tiles.levels_of(np.dtype(dtype), bins, None)
    bits, turn = image.view(np.uint16), 32768 if dtype == "int16" else 0
    form = np.array([bins, levels.lowest, levels.span, levels.bin_shift, turn, 0])
    limits = np.empty(2, np.int64)
    tiles.occupied_bins.u16(bits, form, limits)
    index = levels.index(image)
    assert limits.tolist() == [index.min(), index.max()]
    scratch, sums = np.zeros(histogram.SCRATCH, np.uint32), np.full(tiles.SUMS, 77, np.int32)
    positions = [grid.positions(axis) for axis in range(3)]
    expected = expected_tables(image, grid, clip, levels)
    for first, stop in ((0, bins), (limits[0], limits[1] + 1)):
        form[5] = first
        tables = np.full((int(np.prod(grid.tiles)), stop - first), 77, np.uint16)
        number, tile = len(tables), np.array(grid.tile)
        tiles.tile_tables_direct.u16(bits, *positions, tile, 0, number, clip, form, scratch, sums, tables)
        tables = tables.reshape(*grid.tiles, -1)
        assert same(tables, np.ascontiguousarray(expected[..., first:stop]))
        assert not scratch[: histogram.ZEROS].any()
        check_blend(image, grid, tables, blend.blend_tiles_direct.u16, levels, first, turn)


@pytest.mark.parametrize("values", [1, 300, 30_000])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize(
    ("shape", "count"),
    [*(case for case in CASES if case[0][1] < 500), ((37, 83), (5, 3)), ((64, 96), (2, 2))],
)
def test_ranks(shape, count, dtype, values):
    image = np.random.default_rng(shape[1]).integers(0, values, (1, *shape)).astype(dtype)
    image[0, ::3] = np.iinfo(dtype).max - image[0, ::3]
    image[0, :, ::4] += np.iinfo(dtype).min
    grid = grid_of(shape, count)
    for out_range in (None, (70, 30_000)):
        levels = _tiles.levels_of(np.dtype(dtype), 65536, out_range)
        bits, turn = image.view(np.uint16), 32768 if dtype == "int16" else 0
        entries = np.full((*grid.tiles[1:], ranks.ENTRIES), 77, np.uint32)
        spreads, number = np.full((*entries.shape[:2], 2), 77, np.int32), entries[..., 0].size
        positions = grid.positions(1), grid.positions(2)
        for part in ((0, number // 2), (number // 2, number)):
            results = entries.reshape(number, -1), spreads.reshape(number, 2)
            ranks.tile_ranks.u16(bits, *positions, np.array(grid.tile), *part, turn, *results)

        around = [grid.neighbours(axis, 0, image.shape[axis]) for axis in range(3)]
        tables = expected_tables(image, grid, 1e-9, levels)  # the hardest clipping: one pixel in a bin
        expected = levels.pixels(_tiles.blend(levels.index(image), tables, tuple(around)))
        out = Guarded(image.shape, np.uint16)
        form = np.array([turn, levels.lowest, levels.span, int(np.prod(grid.tile))])
        ranks.blend_ranks.u16(bits, *around[1], *around[2], entries, spreads, form, out.inside)
        assert same(np.ascontiguousarray(out.inside).view(dtype), expected)
        assert out.intact()


def check_blend(image, grid, tables, kernel, levels, first, turn):
    around = [grid.neighbours(axis, 0, image.shape[axis]) for axis in range(3)]
    expected = levels.pixels(_tiles.blend(levels.index(image) - first, tables, tuple(around)))
    out = Guarded(image.shape, levels.table_dtype)
    bits = image.view(levels.table_dtype)
    form = np.array([turn, levels.bin_shift, first, levels.shift])
    room = np.zeros(65536, np.uint64), np.zeros(blend.FOUND, np.uint32)
    kernel(bits, *around[1], *around[2], np.ascontiguousarray(tables[0]), form, *room, out.inside)
    assert same(np.ascontiguousarray(out.inside).view(levels.dtype), expected)
    assert out.intact()
    volume = Guarded(image.shape, levels.table_dtype)
    kernel = getattr(blend.blend_volume, "u8" if levels.table_dtype == np.uint8 else "u16")
    kernel(bits, *around[0], *around[1], *around[2], tables, form, *room, volume.inside)
    assert same(np.ascontiguousarray(volume.inside).view(levels.dtype), expected)
    assert volume.intact()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luma_taken_and_put(dtype):
    rng = np.random.default_rng(1)
    planes = random_values(rng, 3 * 2 * 5 * 7, dtype).reshape(3, 2, 5, 7)
    new = random_values(rng, 2 * 5 * 7, dtype).reshape(2, 5, 7)
    tag = f"u{8 * np.dtype(dtype).itemsize}"
    luma = Guarded((2, 5, 7), dtype)
    getattr(recolor.take_luma, tag)(*planes, luma.inside)
    assert (luma.inside == _color.luma(*planes)).all()
    out = [Guarded((2, 5, 7), dtype) for _ in range(3)]
    top = np.iinfo(dtype).max
    getattr(recolor.put_luma, tag)(*planes, new, top, *(one.inside for one in out))
    assert same(np.stack([one.inside for one in out]), np.stack(_color.with_luma(*planes, new)))
    assert all(one.intact() for one in [luma, *out])


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
            out[i] = _whole.whole(values[i])

    out = np.empty(values.size, np.int32)
    each(values, out)
    return out


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_backends_agree(dtype):
    image = random_values(np.random.default_rng(3), 500, dtype).reshape(20, 25)
    for keywords in ({}, {"clip_limit": 40.0, "tiles": (3, 2)}, {"nodata": int(image[0, 0])}):
        results = [histeq.clahe(image, backend=b, **keywords) for b in ("numba", "numpy")]
        assert same(*results)


@pytest.mark.parametrize("bins", [16, 64, 128])
@pytest.mark.parametrize("layout", ["HW", "HWC", "DHW"])
def test_backends_agree_on_few_bins_of_eight_bits(layout, bins):
    shape = {"HW": (40, 70), "HWC": (40, 70, 3), "DHW": (3, 20, 30)}[layout]
    image = random_values(np.random.default_rng(bins), int(np.prod(shape)), "uint8").reshape(shape)
    results = [histeq.clahe(image, layout=layout, bins=bins, tiles=3, backend=b) for b in ("numba", "numpy")]
    assert same(*results)


@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")
def test_no_fused_multiply_add():
    for kernel in (
        blend.blend_tiles.u8,
        blend.blend_tiles_direct.u16,
        blend.blend_volume.u8,
        clahe_luma.blend_tiles_portable.u8,
    ):
        fresh = kernel.py_func
        signature = kernel.signatures[0]
        from numba import njit

        compiled = njit(signature, error_model="numpy")(fresh)
        assert "fmadd" not in next(iter(compiled.inspect_asm().values()))
