"""CLAHE with many tiles: those without a counted pixel, and how much memory tables take."""

import tracemalloc

import numpy as np
import pytest
from images import same

import histeq
from histeq._core import tile_grid as _tiles


def nearest_of_all(empty):
    """Return the number of the nearest tile that is not empty, by looking at all of them."""
    full, numbers = np.argwhere(~empty), np.flatnonzero(~empty)
    distances = ((full[None] - np.argwhere(np.ones_like(empty))[:, None]) ** 2).sum(axis=-1)
    return numbers[distances.argmin(axis=1)].reshape(empty.shape)


def test_nearest_tiles():
    rng = np.random.default_rng(6)
    for _ in range(200):
        shape = tuple(rng.integers(1, most) for most in rng.permutation([4, 9, 14]))
        empty = rng.random(shape) < rng.choice([0, 0.2, 0.5, 0.8, 0.95])
        if not empty.all():
            assert same(_tiles.nearest_full(empty), nearest_of_all(empty))


def test_many_empty_tiles_take_no_time():
    """Looking at all of a million tiles from each of them would take days."""
    empty = np.ones((1, 1000, 1000), np.bool_)
    empty[0, 400:, 700:] = False
    nearest = _tiles.nearest_full(empty)
    assert nearest[0, 0, 0] == 400 * 1000 + 700
    assert nearest[0, 999, 5] == 999 * 1000 + 700


def test_tables_of_empty_tiles(backend):
    """Of two equally near tiles the first counts, whatever the grid."""
    rng = np.random.default_rng(7)
    grids = ((40, 50), (10, 10)), ((30, 90), (3, 45)), ((64, 8), (32, 2)), ((9, 12, 10), (3, 4, 5))
    for shape, tiles in grids:
        for share in (0.6,) if backend == "cupy" else (0.2, 0.6, 0.9):
            image = rng.integers(0, 200, shape, np.uint8)
            empty = rng.random(tiles) < share
            empty.flat[rng.integers(empty.size)] = False
            mask = ~np.kron(empty, np.ones([n // t for n, t in zip(shape, tiles, strict=True)], bool))
            keywords = {"tiles": tiles, "layout": "DHW"[-len(shape) :], "backend": backend}
            tables = histeq.tile_tables(image, mask=mask, **keywords).tables
            own = histeq.tile_tables(image, **keywords).tables.reshape(-1, 256)
            deep = empty.reshape((1,) * (3 - empty.ndim) + empty.shape)
            assert same(tables, own[nearest_of_all(deep).ravel()].reshape(tables.shape))


def test_the_limit_on_tables_counts_the_images():
    batch = np.zeros((500, 16, 16), np.uint16)
    message = (
        "tiles must not give more than 1073741824 table entries in all, got 500 x 1 x 8 x 8 tiles of 65536"
    )
    with pytest.raises(ValueError, match=message):
        histeq.tile_tables(batch, layout="NHW")
    with pytest.raises(ValueError, match="tile_size must not give more than"):
        histeq.tile_tables(batch[0].repeat(40, 0).repeat(40, 1), tile_size=1)
    assert histeq.tile_tables(batch[:3], layout="NHW", tiles=2).tables.shape == (3, 2, 2, 65536)


def test_memory_does_not_grow_with_the_images(backend):
    """The tables of all these images would take 21 MB."""
    batch = np.random.default_rng(8).integers(0, 60000, (20, 8, 8)).astype(np.uint16)
    tracemalloc.start()
    result = histeq.clahe(batch, layout="NHW", tiles=(2, 4), backend=backend)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24
    assert same(result[7], histeq.clahe(batch[7], tiles=(2, 4)))
