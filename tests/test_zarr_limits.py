"""Zarr stores that would take more memory than their image: refused before it is taken."""

import bz2
import functools
import gzip
import json
import lzma
import os
import resource
import struct
import sys
import warnings
import zipfile
import zlib

import numcodecs
import numpy as np
import pytest
import zarr
from test_file_faults import program

import histeq
from histeq import _files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")

BOMB = 1 << 29
PIECE = bytes(1 << 22)
MOST = 2 << 30  # of address space
SHAPE, CHUNKS = (2048, 4096), (2048, 2048)


def zlib_bomb():
    """Blocks that follow one another in one stream."""
    encoder = zlib.compressobj(1)
    first = encoder.compress(PIECE) + encoder.flush(zlib.Z_FULL_FLUSH)
    again = encoder.compress(PIECE) + encoder.flush(zlib.Z_FULL_FLUSH)
    return first + again * (BOMB // len(PIECE) - 1) + encoder.flush()


@functools.cache
def bomb_of(codec):
    """Some bytes that become half a gigabyte."""
    several = BOMB // len(PIECE)
    streams = {"gzip": gzip.compress, "bz2": bz2.compress, "lzma": lzma.compress}
    if codec in streams:
        return streams[codec](PIECE) * several
    if codec == "zlib":
        return zlib_bomb()
    if codec == "zstd":
        return bytes(numcodecs.Zstd(1).encode(np.zeros(BOMB, np.uint8)))
    encoder = {"blosc": numcodecs.Blosc("lz4", 1), "lz4": numcodecs.LZ4()}[codec]
    return bytes(encoder.encode(np.zeros(BOMB, np.uint8)))


CODECS = {
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc(),
    "lz4": numcodecs.LZ4(),
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
}


def compressor(name, version):
    if version == 2:
        return CODECS[name]
    own = {"zstd": zarr.codecs.ZstdCodec, "blosc": zarr.codecs.BloscCodec, "gzip": zarr.codecs.GzipCodec}
    if name in own:
        return own[name]()
    classes = {"lz4": "LZ4", "zlib": "Zlib", "bz2": "BZ2", "lzma": "LZMA"}
    return getattr(pytest.importorskip("zarr.codecs.numcodecs"), classes[name])()


def array(path, version=3, codec="zstd", **settings):
    """Make an array without chunks; return the path of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr 3 does not specify all codecs
        compressors = codec and compressor(codec, version)
        kind = {"dtype": "u1", "chunks": CHUNKS, "zarr_format": version, "compressors": compressors}
        zarr.create_array(path, shape=SHAPE, **kind, **settings)
    chunk = path / ("0.1" if version == 2 else "c/0/0" if "shards" in settings else "c/0/1")
    chunk.parent.mkdir(parents=True, exist_ok=True)
    chunk.touch()
    return chunk


def bombs(folder):
    """Make stores; return what is to be said of each."""
    said = {}
    for version in (2, 3):
        for name in CODECS:
            path = folder / f"{name}{version}.zarr"
            array(path, version, name).write_bytes(bomb_of(name))
            said[path.name] = "holds more than a chunk"
    sparse = array(folder / "sparse.zarr", codec=None)
    os.truncate(sparse, 1 << 36)
    said["sparse.zarr"] = "c/0/1 has more than"

    # The index at the end of a shard says where its chunks are, each by its start and its length.
    data = bomb_of("zstd")
    for name, index in (
        ("shard", (0, len(data))),
        ("backwards", (5, 2**64 - 5)),
        ("long", (0, 1 << 40)),
    ):
        path = folder / f"{name}.zarr"
        entries = struct.pack("<4Q", *index * 2)
        checksum = bytes(numcodecs.CRC32C().encode(np.frombuffer(entries, np.uint8)))[-4:]
        array(path, shards=SHAPE).write_bytes(data + entries + checksum)
        said[path.name] = "a chunk within"

    array(folder / "json.zarr")
    with (folder / "json.zarr/zarr.json").open("r+b") as file:
        file.truncate(1 << 36)
    said["json.zarr"] = "zarr.json has more than"

    array(folder / "plain.zarr", codec=None).write_bytes(bytes(1 << 23))
    said["plain.zarr"] = "c/0/1 has more than"
    for name, method, message in (
        ("deflated", zipfile.ZIP_DEFLATED, "c/0/1 has more than"),
        ("bzip2", zipfile.ZIP_BZIP2, "neither stored nor deflated"),
    ):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method, compresslevel=1) as file:
            for path in ("zarr.json", "c/0/1"):
                file.write(folder / "plain.zarr" / path, path)
        said[f"{name}.zip"] = message
    return said


def test_nothing_takes_more_memory_than_its_place(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    said = bombs(source)
    code, lines = program(
        "equalize", *(source / name for name in said), target, "--memory", "64M",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST)),
    )  # fmt: skip
    assert code == 1
    wrong = [
        line
        for (name, message), line in zip(said.items(), lines, strict=True)
        if not line.startswith(f"histeq: error: {source / name}: ") or message not in line
    ]
    assert not wrong
    assert not list(target.iterdir())


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("codec", [None, *CODECS])
def test_sound_chunks_are_read(tmp_path, codec, version):
    """Of noise, too, which compressors make larger."""
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)[:99, :70]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr 3 does not specify all codecs
        settings = {"compressors": codec and compressor(codec, version), "zarr_format": version}
        zarr.create_array(tmp_path / "a.zarr", data=noise, chunks=(64, 32), **settings)
    np.testing.assert_array_equal(_files.read(tmp_path / "a.zarr").pixels, noise)
    if codec == "gzip":  # a stream may have several members
        chunk = tmp_path / "a.zarr" / ("0.0" if version == 2 else "c/0/0")
        whole = noise[:64, :32].tobytes()
        chunk.write_bytes(gzip.compress(whole[:99]) + gzip.compress(whole[99:]))
        np.testing.assert_array_equal(_files.read(tmp_path / "a.zarr").pixels, noise)


def test_filters(tmp_path):
    """Some change the dtype, and with it the bytes of a chunk: to numbers only."""
    pixels = np.arange(64 * 32, dtype=np.float64).reshape(64, 32) / 4
    scale = numcodecs.FixedScaleOffset(0, 4, "<f8", "<u2")
    settings = {"chunks": (32, 32), "zarr_format": 2, "compressors": numcodecs.Zstd()}
    zarr.create_array(
        tmp_path / "a.zarr", data=pixels, filters=[scale, numcodecs.Delta("<u2", "<i4")], **settings
    )
    np.testing.assert_array_equal(_files.read(tmp_path / "a.zarr").pixels, pixels)
    text = (tmp_path / "a.zarr/.zarray").read_text()
    for codec, filters in (
        ("fixedscaleoffset", {"id": "fixedscaleoffset", "scale": 1, "offset": 0, "dtype": "<U90000"}),
        ("packbits", {"id": "packbits"}),
    ):
        metadata = json.loads(text) | {"filters": [filters]}
        (tmp_path / "a.zarr/.zarray").write_text(json.dumps(metadata))
        with pytest.raises(histeq.FileError, match=f"with the codec {codec}.* are not handled"):
            _files.read(tmp_path / "a.zarr")


def test_many_chunks(tmp_path):
    """An index of a shard has 16 bytes for each of its chunks."""
    zarr.create_array(tmp_path / "a.zarr", shape=(1200, 1200), dtype="u1", chunks=(1, 1), shards=(1200, 1200))
    with pytest.raises(histeq.FileError, match="its shards have 1440000 chunks each"):
        _files.read(tmp_path / "a.zarr")
