"""Limits on what Zarr stores make of a few bytes: nothing takes more memory than its place in an image has.

zarr reads a file and decodes a chunk however large that becomes: 21 KB of zstd may be 670 MB. Here a store
gives no more bytes than a chunk may have, and every codec decodes into memory of a known size; other codecs
are refused. This module needs zarr, and is imported with it.
"""

import asyncio
import bz2
import dataclasses
import lzma
import math
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import ShardingCodec
from zarr.storage import StorePath, WrapperStore

from histeq._files.picture import Unfit
from histeq._files.zarr_plan import name_of

MOST_METADATA = 1 << 24
"""Bytes that a file of metadata may have; parsed, they are some twenty times as many."""
_MOST_CHUNKS = 1 << 20
"""Chunks of a shard, whose index has 16 bytes for each."""
_ITEM = 8
"""Bytes of a value at most, where filters change the dtype."""
_DICTIONARY = 1 << 27
"""Bytes that LZMA may use beside its output."""

_Bytes = NDArray[np.uint8]


def limited(array: Any) -> Any:
    """Return an array that is read within limits, whatever its store holds; `Unfit` where that cannot be."""
    metadata, path = array.metadata, array.store_path
    itemsize, values = np.dtype(array.dtype).itemsize, math.prod(array.shards or array.chunks)
    inner = values // math.prod(array.chunks)
    if inner > _MOST_CHUNKS:
        raise Unfit(f"its shards have {inner} chunks each")
    if array.filters:
        itemsize = _ITEM
    if metadata.zarr_format == 2:
        most = _most(values, itemsize)
        _check([*array.filters, *array.compressors])
        compressor = metadata.compressor
        if compressor is not None and name_of(compressor) in _DECODERS:
            compressor = _Compressor2(compressor, most)
        metadata = dataclasses.replace(metadata, compressor=compressor)
    else:
        most = _most(values, itemsize, inner)
        metadata = dataclasses.replace(metadata, codecs=_limited_codecs(metadata.codecs, itemsize, inner))
    store = path.store.unlimited if isinstance(path.store, LimitedStore) else path.store
    store = StorePath(LimitedStore(store, most), path.path)
    return zarr.Array(zarr.AsyncArray(metadata, store))


def _most(values: int, itemsize: int, chunks: int = 1) -> int:
    """Return the most bytes that values take, compressed or not: what cannot be compressed becomes larger."""
    size = values * itemsize * (1 if chunks == 1 else 2)  # there may be gaps in a shard
    return size + size // 64 + 1024 * chunks


class LimitedStore(WrapperStore):  # type: ignore[misc]
    """A store for reading, none of whose values has more than some bytes."""

    _supports_sync_io = False  # newer versions of zarr would read past `get`

    def __init__(self, store: Any, most: int) -> None:
        super().__init__(store)
        self.unlimited, self._most = store, most

    def _with_store(self, store: Any) -> "LimitedStore":
        return type(self)(store, self._most)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return a value or a part of it."""
        within = self._within(key, byte_range)
        value = await self.unlimited.get(key, prototype, within)
        if value is not None and len(value) > self._most:
            raise ValueError(f"{key} has more than {self._most} bytes")
        return value

    def _within(self, key: str, byte_range: Any) -> Any:
        """Return a range of bytes that is at most one byte too long."""
        if byte_range is None:
            return RangeByteRequest(0, self._most + 1)
        if isinstance(byte_range, OffsetByteRequest):
            return RangeByteRequest(byte_range.offset, byte_range.offset + self._most + 1)
        if isinstance(byte_range, SuffixByteRequest):
            return SuffixByteRequest(min(byte_range.suffix, self._most + 1))
        if byte_range.end < byte_range.start:  # zarr would read on to the end
            raise ValueError(f"{key}: bytes {byte_range.start} to {byte_range.end} are asked for")
        return RangeByteRequest(byte_range.start, min(byte_range.end, byte_range.start + self._most + 1))

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        """Return parts of values."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def get_ranges(
        self, key: str, byte_ranges: Sequence[Any], *, prototype: Any, **options: Any
    ) -> AsyncIterator[Sequence[tuple[int, Any]]]:
        """Yield parts of a value with their numbers; newer versions of zarr read shards by it."""
        for number, byte_range in enumerate(byte_ranges):
            yield [(number, await self.get(key, prototype, byte_range))]


def _check(codecs: Iterable[Any]) -> None:
    """Raise `Unfit` for codecs of which it is not known how large their output is."""
    for codec in codecs:
        name = name_of(codec)
        if name not in (*_DECODERS, *_FILTERS, *_SAME_SIZE):
            raise Unfit(f"Zarr arrays with the codec {name} are not handled")
        settings = getattr(codec, "codec_config", None) or vars(codec)
        for key in ("dtype", "astype", "encode_dtype", "decode_dtype") if name in _FILTERS else ():
            dtype = np.dtype(settings.get(key) or "u1")
            if dtype.kind not in "iuf" or dtype.itemsize > _ITEM:
                raise Unfit(f"Zarr arrays with the codec {name} to {dtype} are not handled")


def _limited_codecs(codecs: Iterable[Any], itemsize: int, inner: int = 1) -> tuple[Any, ...]:
    """Return codecs of Zarr 3 for a chunk with `inner` others inside."""
    result = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            if any(name_of(each) not in ("bytes", "crc32c") for each in codec.index_codecs):
                raise Unfit("Zarr arrays with shards whose index is compressed are not handled")
            codec = dataclasses.replace(codec, codecs=_limited_codecs(codec.codecs, itemsize))
        else:
            _check([codec])
            codec = _Compressor3(codec, itemsize, inner) if name_of(codec) in _DECODERS else codec
        result.append(codec)
    return tuple(result)


class _Compressor2(Codec):  # type: ignore[misc]
    """A compressor of Zarr 2 that decodes within limits."""

    codec_id = "limited"

    def __init__(self, codec: Any, most: int) -> None:
        self._name, self._most = name_of(codec), most

    def encode(self, buf: Any) -> Any:
        """Do nothing: what is read is not written."""
        raise NotImplementedError

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Return the decoded bytes."""
        return _decoded(self._name, buf, self._most)


@dataclasses.dataclass(frozen=True)
class _Compressor3(BytesBytesCodec):  # type: ignore[misc]
    """A compressor of Zarr 3 that decodes within limits."""

    codec: Any
    itemsize: int
    inner: int
    """How many chunks are in one."""

    is_fixed_size = False

    def to_dict(self) -> Any:
        return self.codec.to_dict()

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        raise NotImplementedError

    def _decode(self, data: Any, spec: Any) -> Any:
        most = _most(math.prod(spec.shape), self.itemsize, self.inner)
        decoded = _decoded(name_of(self.codec), data.as_array_like(), most)
        return spec.prototype.buffer.from_array_like(decoded)

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._decode, chunk_data, chunk_spec)


def _decoded(name: str, data: Any, most: int) -> _Bytes:
    """Return what a compressor's data become, at most so many bytes."""
    try:
        return _DECODERS[name](np.frombuffer(data, np.uint8), most)
    except (RuntimeError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"it cannot be decoded, or holds more than a chunk has: {error}") from error


def _by_imagecodecs(name: str, **options: Any) -> Callable[[_Bytes, int], _Bytes]:
    def decode(data: _Bytes, most: int) -> _Bytes:
        import imagecodecs  # only when a chunk needs it

        decoder = getattr(imagecodecs, name)
        return np.asarray(decoder(data, out=np.empty(most, np.uint8), **options))

    return decode


def _by_python(start: Callable[[], Any]) -> Callable[[_Bytes, int], _Bytes]:
    """Return a decoder of streams, which may follow one another."""

    def decode(data: _Bytes, most: int) -> _Bytes:
        parts, room, rest = [], most, data.tobytes()
        while rest:
            decoder = start()
            parts.append(decoder.decompress(rest, room + 1))
            room -= len(parts[-1])
            if room < 0 or not decoder.eof:
                raise EOFError("it does not end")
            rest = decoder.unused_data
        return np.frombuffer(b"".join(parts), np.uint8)

    return decode


_DECODERS: dict[str, Callable[[_Bytes, int], _Bytes]] = {
    "zstd": _by_imagecodecs("zstd_decode"),
    "blosc": _by_imagecodecs("blosc_decode"),
    "lz4": _by_imagecodecs("lz4_decode", header=True),
    "zlib": _by_imagecodecs("deflate_decode"),
    "gzip": _by_python(lambda: zlib.decompressobj(zlib.MAX_WBITS + 16)),
    "bz2": _by_python(bz2.BZ2Decompressor),
    "lzma": _by_python(lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY)),
}
"""Of compressors: they take data and the most bytes that these may become."""
_FILTERS = ("astype", "bitround", "delta", "fixedscaleoffset", "quantize", "scale_offset")
_SAME_SIZE = (
    *("adler32", "bytes", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    *("shuffle", "transpose"),
)
