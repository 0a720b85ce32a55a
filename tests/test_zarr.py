"""Zarr and OME-Zarr as sources and sinks of blocks."""

import dataclasses
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from histeq._files import zarr as files
from histeq._files.blocks import Header, Options, Window
from histeq._files.picture import Unfit
from histeq._files.zarr_place import placed

LIMIT = 10**7


def create(path: Any, array: np.ndarray, chunks: tuple[int, ...], **settings: Any) -> Any:
    settings = {"zarr_format": 3} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr 3 does not specify all codecs
        stored = zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=chunks, **settings)
    stored[...] = array
    return stored


def image(shape: tuple[int, ...], dtype: str = "u1", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


def pages_of(array: np.ndarray, letters: str) -> np.ndarray:
    """The array as (N, H, W, C)."""
    pages = [axis for axis, letter in enumerate(letters) if letter not in "HWC"]
    last = [letters.index(letter) for letter in "HWC" if letter in letters]
    moved = array.transpose(pages + last)
    height, width = (array.shape[letters.index(letter)] for letter in "HW")
    return moved.reshape(-1, height, width, array.shape[letters.index("C")] if "C" in letters else 1)


def blocks_of(level: Any, page: int) -> list[Window]:
    rows, columns = level.blocks(page)
    corners = itertools.product(range(0, level.height, rows), range(0, level.width, columns))
    return [
        Window(page, top, left, min(rows, level.height - top), min(columns, level.width - left))
        for top, left in corners
    ]


def copy(source: Any, target: Any, options: Options | None = None, **changes: Any) -> Any:
    """Copy level 0 block by block from four threads, in any order; sevens make the other levels."""
    opened = files.open(source, LIMIT)
    header = dataclasses.replace(opened.header, **changes)
    sink = files.create(target, header, options or Options())
    with ThreadPoolExecutor(4) as pool:
        for number, level in enumerate(sink.levels):
            every = [window for page in range(header.pages) for window in blocks_of(level, page)]
            random.Random(1).shuffle(every)

            def one(window: Window, level: Any = level, first: bool = number == 0) -> None:
                shape = header.shape(window.height, window.width)
                pixels = opened.read(window) if first else np.full(shape, 7)
                level.write(window, pixels.astype(header.dtype))

            list(pool.map(one, every))
    sink.finish()
    opened.close()
    return sink


CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, dict[str, Any]]] = {
    # letters, shape, chunks, shards, what else zarr.create_array takes
    "grey": ("HW", (90, 130), (32, 32), None, {}),
    "shards": ("HW", (90, 130), (16, 16), (48, 32), {}),
    "pages": ("NHW", (5, 50, 70), (1, 32, 32), None, {}),
    "pages share chunks": ("NHW", (7, 50, 70), (4, 32, 32), None, {}),
    "pages share shards": ("NHW", (7, 50, 70), (1, 16, 16), (4, 32, 32), {}),
    "colour": ("HWC", (50, 70, 3), (32, 32, 2), None, {}),
    "colour pages share": ("NHWC", (2, 50, 70, 4), (1, 32, 32, 4), (2, 32, 64, 4), {}),
    "channels first": ("CHW", (5, 50, 70), (1, 20, 30), None, {"dimension_names": ["c", "y", "x"]}),
    "columns first": ("WH", (70, 50), (20, 30), None, {"dimension_names": ["x", "y"]}),
    "five axes share": (
        *("TCDHW", (2, 3, 4, 30, 40), (1, 1, 3, 20, 20), None),
        {"dimension_names": ["t", "c", "z", "y", "x"]},
    ),
}


@pytest.mark.parametrize(
    ("name", "zarr_format"),
    [(name, number) for name, case in CASES.items() for number in (2, 3) if number == 3 or case[3] is None],
)
def test_windows_and_copies_are_the_array(tmp_path: Path, name: str, zarr_format: int) -> None:
    letters, shape, chunks, shards, settings = CASES[name]
    dtype = (">u2", "u1", "f4", ">i2")[list(CASES).index(name) % 4]
    array = image(shape, dtype)
    if zarr_format == 2:
        names = settings.get("dimension_names")
        settings = {"attributes": {"_ARRAY_DIMENSIONS": names}} if names else {}
    create(tmp_path / "a.zarr", array, chunks, shards=shards, zarr_format=zarr_format, **settings)
    source = files.open(tmp_path / "a.zarr", LIMIT)
    pages, header = pages_of(array, letters), source.header
    assert (header.pages, header.height, header.width, header.channels) == pages.shape
    assert header.dtype == array.dtype.newbyteorder("=")
    rng = random.Random(3)
    for _ in range(6):
        top, left = rng.randrange(header.height), rng.randrange(header.width)
        height, width = rng.randint(1, header.height - top), rng.randint(1, header.width - left)
        window = Window(rng.randrange(header.pages), top, left, height, width)
        pixels = source.read(window)
        assert pixels.dtype == header.dtype
        assert pixels.flags.writeable
        assert_array_equal(pixels, pages[window.page][window.slices].reshape(pixels.shape))

    copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    written, was = zarr.open(tmp_path / "b.zarr", mode="r"), zarr.open(tmp_path / "a.zarr", mode="r")
    assert_array_equal(written[...], array)
    assert written.dtype == was.dtype
    assert written.metadata.zarr_format == zarr_format
    assert (written.compressors, written.filters, written.serializer) == (
        *(was.compressors, was.filters),
        was.serializer,
    )
    assert getattr(written.metadata, "dimension_names", None) == getattr(
        was.metadata, "dimension_names", None
    )
    if "share" not in name:
        assert (written.chunks, written.shards) == (was.chunks, was.shards)


def test_many_tiny_chunks_go_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 7)
    array = image((23, 17, 3))
    create(tmp_path / "a.zarr", array, (2, 3, 1))
    source = files.open(tmp_path / "a.zarr", LIMIT)
    for window in (Window(0, 0, 0, 23, 17), Window(0, 3, 2, 19, 5), Window(0, 22, 1, 1, 16)):
        assert_array_equal(source.read(window), array[window.slices])
    sink = files.create(tmp_path / "b.zarr", source.header, Options())
    sink.levels[0].write(Window(0, 0, 0, 23, 17), array)
    sink.finish()
    assert_array_equal(zarr.open(tmp_path / "b.zarr")[...], array)


def test_chunks_of_several_pages_become_larger_ones_of_one(tmp_path: Path) -> None:
    for number, (chunks, shards, expected) in enumerate(
        (
            ((16, 64, 64), None, ((1, 256, 256), None)),
            ((9, 200, 64), None, ((1, 300, 192), None)),  # no larger than the image
            ((1, 32, 32), (4, 64, 64), ((1, 32, 32), (1, 64, 64))),
            ((4, 32, 32), (8, 96, 96), ((1, 64, 64), (1, 128, 128))),
        )
    ):
        stored = zarr.create_array(
            tmp_path / f"{number}.zarr", shape=(16, 300, 400), chunks=chunks, shards=shards, dtype="u1"
        )
        header = files.open(stored, LIMIT).header
        (level,) = files.create(tmp_path / f"{number}-out.zarr", header, Options()).levels
        written = zarr.open(tmp_path / f"{number}-out.zarr", mode="r")
        assert (written.chunks, written.shards) == expected
        assert level.blocks(0) == (expected[1] or expected[0])[1:]


def test_layouts_are_told_guessed_or_named(tmp_path: Path) -> None:
    create(tmp_path / "a.zarr", image((3, 40, 50)), (1, 40, 50))
    assert files.open(tmp_path / "a.zarr", LIMIT).header.layout == "NHW"
    told = files.open(tmp_path / "a.zarr", LIMIT, "CHW").header
    assert (told.layout, told.channels, told.keep["color"]) == ("HWC", 3, None)
    with pytest.raises(Unfit, match="layout must have"):
        files.open(tmp_path / "a.zarr", LIMIT, "HW")
    with pytest.raises(Unfit, match="no rows and columns"):
        files.open(tmp_path / "a.zarr", LIMIT, "NCH")
    create(tmp_path / "b.zarr", image((40, 50, 4)), (40, 50, 4), dimension_names=["y", "x", "s"])
    named = files.open(tmp_path / "b.zarr", LIMIT).header
    assert (named.layout, named.alpha, named.keep["color"]) == ("HWC", True, True)
    create(tmp_path / "c.zarr", image((40, 50, 4)), (40, 50, 4), dimension_names=["y", "x", "band"])
    bands = files.open(tmp_path / "c.zarr", LIMIT).header
    assert (bands.alpha, bands.keep["color"]) == (False, False)


def test_writers_of_pages_that_share_a_chunk_lose_nothing(tmp_path: Path) -> None:
    array = image((8, 60, 60), "u2")
    create(tmp_path / "a.zarr", array, (1, 60, 60))
    for settings in ({"chunks": (4, 20, 20)}, {"chunks": (1, 10, 10), "shards": (8, 20, 20)}):
        target = zarr.create_array({}, shape=array.shape, dtype="u2", **settings)
        copy(tmp_path / "a.zarr", target)
        assert_array_equal(target[...], array)


def test_parts_of_blocks_are_not_written(tmp_path: Path) -> None:
    target = zarr.create_array({}, shape=(60, 60), dtype="u1", chunks=(10, 10), shards=(20, 20))
    level = files.create(target, _header((60, 60)), Options()).levels[0]
    with pytest.raises(ValueError, match="whole blocks of 20"):
        level.write(Window(0, 0, 10, 20, 20), np.zeros((20, 20), np.uint8))


def _header(shape: tuple[int, ...], dtype: str = "u1", **more: Any) -> Header:
    channels = shape[2] if len(shape) > 2 else 1
    fields = {"format": "PNG", "pages": 1, "height": shape[0], "width": shape[1], "channels": channels}
    fields |= {"dtype": np.dtype(dtype), "layout": "HW" if channels == 1 else "HWC"}
    return Header(**fields | more)


def test_arrays_of_the_caller_must_fit() -> None:
    target = zarr.create_array({}, shape=(60, 50), dtype="u1", chunks=(10, 10))
    with pytest.raises(Unfit, match=r"shape \(60, 50\), the image \(50, 60\)"):
        files.create(target, _header((50, 60)), Options())
    with pytest.raises(Unfit, match="dtype uint8, the image uint16"):
        files.create(target, _header((60, 50), "u2"), Options())


def test_chunks_of_other_formats_are_multiples_of_their_blocks(tmp_path: Path) -> None:
    header = _header((9000, 9000, 3), alpha=False)
    for blocks, expected in (
        (None, (1024, 1024)),
        ((256, 256), (1024, 1024)),
        ((100, 300), (1000, 900)),
        ((1, 9000), (155, 9000)),
        ((9000, 9000), (1024, 1024)),
    ):
        path = tmp_path / f"{blocks}.zarr"
        assert files.create(path, header, Options(), blocks=blocks).levels[0].blocks(0) == expected
    reopened = files.open(path, 10**9).header
    assert (reopened.layout, reopened.keep["color"]) == ("HWC", True)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_compression(tmp_path: Path, zarr_format: int) -> None:
    array = image((60, 60), "u2")
    create(tmp_path / "a.zarr", array, (30, 30), zarr_format=zarr_format)
    for name, stored in (
        ("none", None),
        ("zstd", "zstd"),
        ("lz4", "blosc"),
        ("gzip", "gzip"),
        ("blosc", "blosc"),
    ):
        copy(tmp_path / "a.zarr", tmp_path / f"{name}.zarr", Options(compression=name))
        written = zarr.open(tmp_path / f"{name}.zarr", mode="r")
        assert_array_equal(written[...], array)
        kinds = [type(codec).__name__.lower().removesuffix("codec") for codec in written.compressors]
        assert kinds == ([stored] if stored else [])
    with pytest.raises(Unfit, match="not by 'lzw'"):
        copy(tmp_path / "a.zarr", tmp_path / "b.zarr", Options(compression="lzw"))


def test_codecs_that_change_pixels_are_not_carried(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((60, 60), np.float32)
    quantize = numcodecs.Quantize(1, "<f4")
    create(tmp_path / "a.zarr", array, (30, 30), zarr_format=2, filters=[quantize, numcodecs.Delta("<f4")])
    sink = copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert sink.notes == ["the filter quantize not carried"]
    assert zarr.open(tmp_path / "b.zarr", mode="r").filters == (numcodecs.Delta("<f4"),)
    # Another dtype takes no delta of the old one.
    copy(tmp_path / "b.zarr", tmp_path / "c.zarr", dtype=np.dtype("u1"))
    assert zarr.open(tmp_path / "c.zarr", mode="r").filters == ()


def test_attributes_that_no_longer_hold_are_dropped(tmp_path: Path) -> None:
    nan = "AAAAAAAA+H8="  # as xarray writes it
    attributes = {"scale_factor": 0.1, "long_name": "height", "units": "m", "_FillValue": nan}
    create(tmp_path / "a.zarr", image((30, 30), "f4"), (30, 30), attributes=attributes, fill_value=np.nan)
    source = files.open(tmp_path / "a.zarr", LIMIT)
    assert source.header.nodata is not None
    assert np.isnan(source.header.nodata)
    sink = copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    written = zarr.open(tmp_path / "b.zarr", mode="r")
    assert written.attrs.asdict() == {"long_name": "height", "_FillValue": nan}
    assert np.isnan(written.fill_value)
    assert sink.notes == ["scale_factor not carried", "units not carried"]
    copy(tmp_path / "a.zarr", tmp_path / "c.zarr", dtype=np.dtype("u1"), nodata=None)
    written = zarr.open(tmp_path / "c.zarr", mode="r")
    assert written.attrs.asdict() == {"long_name": "height"}
    assert written.fill_value == 0


@pytest.mark.parametrize(
    ("value", "nodata"), [(255, 255), (256, None), (1.5, None), ("no", None), (None, None)]
)
def test_nodata_is_what_the_attributes_say(value: Any, nodata: float | None) -> None:
    array = zarr.create_array({}, shape=(9, 9), dtype="u1", fill_value=7, attributes={"_FillValue": value})
    assert files.open(array, LIMIT).header.nodata == nodata


def test_chunks_of_the_fill_value_are_not_written(tmp_path: Path) -> None:
    array = image((40, 40))
    array[:20, :20], array[20:, 20:] = 5, 0
    create(tmp_path / "a.zarr", array, (20, 20), fill_value=5)
    copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert_array_equal(zarr.open(tmp_path / "b.zarr", mode="r")[...], array)
    chunks = (path.relative_to(tmp_path / "b.zarr/c") for path in (tmp_path / "b.zarr/c").rglob("[01]/[01]"))
    assert sorted(map(str, chunks)) == ["0/1", "1/0", "1/1"]


def test_chunks_never_written_are_the_fill_value(tmp_path: Path) -> None:
    stored = zarr.create_array(
        tmp_path / "a.zarr", shape=(40, 40), chunks=(20, 20), dtype="i2", fill_value=-5
    )
    stored[:20, :20] = 1
    pixels = files.open(tmp_path / "a.zarr", LIMIT).read(Window(0, 10, 10, 20, 20))
    assert_array_equal(pixels, np.where(np.maximum(*np.indices((20, 20))) < 10, 1, -5))


def pyramid(path: Path, zarr_format: int, *, depth: tuple[int, ...] = (4, 4, 4)) -> np.ndarray:
    """An OME-Zarr image of version 0.4 or 0.5 with labels."""
    array = image((1, 2, depth[0], 80, 60), "u2")
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scales = [[1, 1, depth[0] / z * 2, 0.5 * 2**k, 0.5 * 2**k] for k, z in enumerate(depth)]
    datasets = [
        {"path": f"s{k}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for k, scale in enumerate(scales)
    ]
    window = {"min": 0, "max": 65535, "start": 10, "end": 200}
    omero = {"channels": [{"color": "00FF00", "label": "GFP", "window": window}, {"color": "FF0000"}]}
    multiscales = [{"name": "cells", "type": "gaussian", "axes": axes, "datasets": datasets}]
    body: dict[str, Any] = {"multiscales": multiscales, "omero": omero}
    if zarr_format == 2:
        multiscales[0]["version"] = "0.4"
    else:
        body = {"ome": {"version": "0.5"} | body}
    group = zarr.create_group(path, zarr_format=zarr_format, attributes=body | {"mine": 1})
    encoding = {"name": "v2" if zarr_format == 2 else "default", "separator": "/"}
    for k, z in enumerate(depth):
        level = array[:, :, :z, :: 2**k, :: 2**k]
        stored = group.create_array(
            *(f"s{k}",), shape=level.shape, dtype="u2", chunks=(1, 1, 1, 32, 32), chunk_key_encoding=encoding
        )
        stored[...] = level
    labels = group.create_group("labels").create_array("0", shape=(80, 60), dtype="u1", chunks=(40, 60))
    labels[...] = 3
    return array


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("depth", [(4, 4, 4), (4, 2, 1)])
def test_pyramids_keep_their_metadata(tmp_path: Path, zarr_format: int, depth: tuple[int, ...]) -> None:
    array = pyramid(tmp_path / "a.zarr", zarr_format, depth=depth)
    header = files.open(tmp_path / "a.zarr", LIMIT).header
    assert (header.pages, header.channels, header.layout) == (4, 2, "NHWC")
    assert header.keep["color"] is False
    assert header.levels == ((40, 30), (20, 15))
    sink = copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert [(level.height, level.width) for level in sink.levels] == [(80, 60), (40, 30), (20, 15)]
    assert sink.notes == []
    old, new = (zarr.open_group(tmp_path / f"{name}.zarr", mode="r") for name in "ab")
    assert_array_equal(new["s0"][...], array)
    assert new["s2"].shape == (1, 2, 4, 20, 15)
    assert (new["s2"][...] == 7).all()
    assert (new["labels/0"][...] == 3).all()
    expected = old.attrs.asdict()
    body = expected if zarr_format == 2 else expected["ome"]
    del body["multiscales"][0]["type"]
    body["omero"]["channels"][0]["window"] = {"min": 0, "max": 65535, "start": 0, "end": 65535}
    for dataset in body["multiscales"][0]["datasets"]:
        dataset["coordinateTransformations"][0]["scale"][2] = 2.0
    assert new.attrs.asdict() == expected
    if zarr_format == 2:
        assert (tmp_path / "b.zarr/s0/0/0/0/0/0").is_file()

    only = copy(tmp_path / "a.zarr", tmp_path / "c.zarr", Options(overviews=False))
    assert len(only.levels) == 1
    assert sorted(path.name for path in (tmp_path / "c.zarr").iterdir() if path.is_dir()) == ["labels", "s0"]
    assert files.open(tmp_path / "c.zarr", LIMIT).header.levels == ()
    more = copy(tmp_path / "c.zarr", tmp_path / "d.zarr", Options(overviews=True))
    assert len(more.levels) == 1  # no side is longer than 256


def test_pyramids_are_made_of_halves(tmp_path: Path) -> None:
    array = image((3, 300, 1001))
    create(tmp_path / "a.zarr", array, (2, 300, 300), zarr_format=2, attributes={"mine": 1})
    copy(tmp_path / "a.zarr", tmp_path / "b.zarr", Options(overviews=True))
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    (multiscales,) = group.attrs["multiscales"]
    assert [axis["name"] for axis in multiscales["axes"]] == ["z", "y", "x"]
    assert [dataset["path"] for dataset in multiscales["datasets"]] == ["0", "1", "2"]
    assert multiscales["datasets"][2]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 4.0, 4.0]},
        {"type": "translation", "translation": [0.0, 1.5, 1.5]},
    ]
    assert_array_equal(group["0"][...], array)
    assert group["0"].attrs["mine"] == 1
    assert files.open(tmp_path / "b.zarr", LIMIT).header.levels == ((150, 501), (75, 251))
    copy(tmp_path / "b.zarr", tmp_path / "c.zarr", Options(overviews=False))
    copy(tmp_path / "c.zarr", tmp_path / "d.zarr", Options(overviews=True))
    again = zarr.open_group(tmp_path / "d.zarr", mode="r").attrs["multiscales"][0]["datasets"]
    assert [one["coordinateTransformations"] for one in again] == [
        one["coordinateTransformations"] for one in multiscales["datasets"]
    ]


def test_colour_pyramids_have_the_axes_of_ome(tmp_path: Path) -> None:
    array = image((300, 400, 3))
    create(tmp_path / "a.zarr", array, (100, 100, 3), shards=(200, 200, 3), dimension_names=["y", "x", "s"])
    copy(tmp_path / "a.zarr", tmp_path / "b.zarr", Options(overviews=True))
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert [axis["name"] for axis in group.attrs["ome"]["multiscales"][0]["axes"]] == ["c", "y", "x"]
    assert_array_equal(group["0"][...], array.transpose(2, 0, 1))
    assert group["0"].metadata.dimension_names == ("c", "y", "x")
    assert (group["0"].chunks, group["0"].shards) == ((3, 100, 100), (3, 200, 200))


def test_groups_of_one_image_come_back_with_all_else(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes={"title": "t"})
    create(group.store_path / "height", image((30, 40)), (30, 40), zarr_format=2, attributes={"units": "m"})
    create(group.store_path / "x", np.arange(40.0), (40,), zarr_format=2)
    zarr.consolidate_metadata(tmp_path / "a.zarr", zarr_format=2)
    (tmp_path / "a.zarr/loop").symlink_to(tmp_path)
    (tmp_path / "a.zarr/again").symlink_to(tmp_path / "a.zarr")
    sink = copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert sink.notes == ["units not carried", "the link again not carried"]
    written = zarr.open_consolidated(tmp_path / "b.zarr")
    assert written.attrs.asdict() == {"title": "t"}
    assert sorted(written.array_keys()) == ["height", "x"]
    assert written["height"].attrs.asdict() == {}
    assert_array_equal(written["x"][...], np.arange(40.0))


def test_consolidated_metadata_may_be_out_of_date(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    create(group.store_path / "0", image((30, 40)), (30, 40), zarr_format=2)
    zarr.consolidate_metadata(tmp_path / "a.zarr", zarr_format=2)
    create(group.store_path / "0", image((50, 60)), (50, 60), zarr_format=2, overwrite=True)
    assert files.open(tmp_path / "a.zarr", LIMIT).header.height == 50


def test_into_a_group_of_the_caller(tmp_path: Path) -> None:
    array = image((300, 200))
    create(tmp_path / "a.zarr", array, (100, 100))
    group = zarr.group({})
    copy(tmp_path / "a.zarr", group)
    assert_array_equal(group["0"][...], array)
    assert files.open(group, LIMIT).header.levels == ()
    with pytest.raises(Unfit, match="format 2"):
        copy(tmp_path / "a.zarr", zarr.group({}, zarr_format=2))


def test_zip(tmp_path: Path) -> None:
    array = image((90, 70))
    create(tmp_path / "a.zarr", array, (32, 32))
    copy(tmp_path / "a.zarr", tmp_path / "b.zarr.zip")
    copy(tmp_path / "b.zarr.zip", tmp_path / "c.zarr")
    assert_array_equal(zarr.open(tmp_path / "c.zarr", mode="r")[...], array)
    np.savez(tmp_path / "d.npz", a=array)
    with pytest.raises(Unfit, match=r"\.npz archive"):
        files.open(tmp_path / "d.npz", LIMIT)


def grid(*chunks: int) -> dict[str, Any]:
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}


ARRAY = grid(20, 20) | {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [30, 40],
    "data_type": "uint8",
    "fill_value": 0,
    "chunk_key_encoding": {"name": "default"},
    "codecs": [{"name": "bytes"}],
    "attributes": {},
}
OLD = {
    "zarr_format": 2,
    "shape": [30, 40],
    "chunks": [20, 20],
    "dtype": "|u1",
    "fill_value": None,
    "compressor": None,
    "filters": None,
    "order": "C",
}
GROUP: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}


def multiscales(*paths: Any, **more: Any) -> dict[str, Any]:
    datasets = [{"path": path} for path in paths]
    return GROUP | {"attributes": {"ome": {"multiscales": [{"datasets": datasets} | more]}}}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (ARRAY | {"shape": [10**12, 10**12]}, "pixels are more than"),
        (ARRAY | {"shape": [10**30, 1]}, "pixels are more than"),
        (ARRAY | {"shape": [0, 40]}, "no pixels"),
        (ARRAY | {"shape": [-3, 40]}, "-3"),
        (ARRAY | {"shape": [30]} | grid(9), "1 axes"),
        (ARRAY | {"shape": []} | grid(), "0 axes"),
        (ARRAY | grid(10**5, 10**5), "chunks of"),
        (OLD | {"dtype": "<c8", "fill_value": None}, "dtype complex64"),
        (ARRAY | {"data_type": "bool", "fill_value": False}, "dtype bool"),
        (ARRAY | {"data_type": "int2"}, "int2"),
        (ARRAY | {"codecs": [{"name": "bytes"}, {"name": "shout"}]}, "shout"),
        (ARRAY | {"chunk_grid": {"name": "rectilinear", "configuration": {}}}, "(?i)rectilinear"),
        (OLD | {"dtype": "|O"}, r"\|O"),
        (OLD | {"dtype": [["a", "<i2"]]}, "dtype"),
        (OLD | {"compressor": {"id": "shout"}}, "shout"),
        (GROUP, "holds no image"),
        (multiscales("../a"), "a"),
        (multiscales("0"), "array 0 is missing"),
        (multiscales(7), "multiscales are broken"),
        (multiscales(), "multiscales are broken"),
        (multiscales("0", axes=3), "multiscales are broken"),
        ([1], "list"),
        ("{", "property name"),
    ],
)
def test_hostile_metadata(tmp_path: Path, metadata: Any, message: str) -> None:
    name = ".zarray" if isinstance(metadata, dict) and metadata["zarr_format"] == 2 else "zarr.json"
    (tmp_path / name).write_text(metadata if isinstance(metadata, str) else json.dumps(metadata))
    with pytest.raises(Exception, match=message):
        files.open(tmp_path, LIMIT)


def test_a_level_larger_than_the_image_is_refused(tmp_path: Path) -> None:
    axes = [{"name": name, "type": "space"} for name in "yx"]
    body = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]}
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2, attributes=body)
    group.create_array("0", shape=(40, 50), dtype="u1")
    group.create_array("1", shape=(20, 10**9), chunks=(20, 20), dtype="u1")
    with pytest.raises(ValueError, match="its array 1 has the shape"):
        files.open(tmp_path / "a.zarr", LIMIT)


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match="no Zarr store"):
        files.open(tmp_path, LIMIT)
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_group("0")
    with pytest.raises(Unfit, match="but the groups 0: name"):
        files.open(tmp_path / "a.zarr", LIMIT)
    for name in "ab":
        group.create_array(name, shape=(9, 9), dtype="u1")
    with pytest.raises(Unfit, match="name one of a, b"):
        files.open(tmp_path / "a.zarr", LIMIT)
    with pytest.raises(TypeError, match="got int"):
        files.open(3, LIMIT)


@pytest.mark.parametrize("kind", ["raw", "zstd", "shards"])
def test_broken_chunks_are_named(tmp_path: Path, kind: str) -> None:
    settings = {"compressors": None} if kind == "raw" else {"shards": (40, 40)} if kind == "shards" else {}
    create(tmp_path / "a.zarr", image((80, 80), "u2"), (20, 20), **settings)
    chunk = tmp_path / "a.zarr/c/1/1"
    os.truncate(chunk, chunk.stat().st_size // 2)
    source = files.open(tmp_path / "a.zarr", LIMIT)
    source.read(Window(0, 0, 0, 20, 80))
    with pytest.raises(ValueError, match=r"a chunk within rows 20 to 80, columns 10 to 70: \w"):
        source.read(Window(0, 20, 10, 60, 60))


def test_a_store_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "b.zarr"
    for value in (1, 2):
        with placed(target, overwrite=True, shared=None) as (temporary, _, _):
            create(temporary, np.full((9, 9), value), (9, 9))
            assert target.exists() == (value == 2)
        assert (zarr.open(target, mode="r")[...] == value).all()
    with (  # noqa: PT012
        pytest.raises(OSError, match="full"),
        placed(target, overwrite=True, shared=None) as (temporary, _, _),
    ):
        create(temporary, np.zeros((9, 9)), (9, 9))
        raise OSError("full")
    assert [path.name for path in tmp_path.iterdir()] == ["b.zarr"]
    assert (zarr.open(target, mode="r")[...] == 2).all()
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.png").touch()
    with pytest.raises(Unfit, match="no Zarr store"), placed(other, overwrite=True, shared=None):
        pass
    with pytest.raises(Unfit, match="a file already"), placed(other / "a.png", overwrite=True, shared=None):
        pass
    assert (other / "a.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_leaves_the_target_alone(tmp_path: Path) -> None:
    create(tmp_path / "b.zarr", np.full((9, 9), 5, np.uint8), (9, 9))
    script = (
        "import os, signal, sys, pathlib, zarr; from histeq._files.zarr_place import placed\n"
        "with placed(pathlib.Path(sys.argv[1]), overwrite=True, shared=None) as place:\n"
        "    zarr.create_array(place.target, shape=(9, 9), dtype='u1')[...] = 1\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "b.zarr"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (zarr.open(tmp_path / "b.zarr", mode="r")[...] == 5).all()
    (left,) = (path for path in tmp_path.iterdir() if path.name != "b.zarr")
    assert left.name.startswith(".histeq-")
    shutil.rmtree(left)
