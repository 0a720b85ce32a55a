"""What is created for an image in Zarr: which arrays, and how they are stored.

An image from Zarr is stored as it was. Only chunks of several pages become chunks of one, since pages are
written each for itself.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from histeq._files import cf, ome
from histeq._files.axes import Axes, axes_for
from histeq._files.blocks import Header, Options
from histeq._files.picture import Unfit

_CHUNK = 1 << 22
"""Bytes of a chunk of an image from another format, at most."""
_SMALLEST = 256
"""Images are halved until no side is longer."""

# Filters and compressors that give back what they got. Quantizing ones were right for the old pixels only.
_LOSSLESS = frozenset(
    (
        *("blosc", "bz2", "crc32", "crc32c", "delta", "gzip", "lz4", "lzma"),
        *("shuffle", "transpose", "zlib", "zstd"),
    )
)


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """What a header keeps of a Zarr source for a Zarr sink."""

    arrays: tuple[Any, ...]
    """The image and its reduced copies, as zarr's arrays."""
    axes: tuple[Axes, ...]
    names: tuple[str, ...]
    """The paths of the arrays in their group; one empty name where there is no group."""
    attributes: Mapping[str, Any]
    """The group's."""
    folder: Path | None
    """Where the group is, if it is a folder."""


class New(NamedTuple):
    """An array that is to be created."""

    name: str
    """Its path in the group; empty where there is no group."""
    axes: Axes
    settings: dict[str, Any]
    """What zarr's `create_array` takes beside the shape."""


@dataclasses.dataclass(slots=True)
class Plan:
    """What is to be created."""

    version: int
    """Zarr's format, 2 or 3."""
    arrays: list[New]
    """The image and its reduced copies."""
    attributes: dict[str, Any] | None
    """The group's; None for an array without a group."""
    not_carried: list[str]
    """What the source has and the plan has not, in words."""
    node: Node | None = None
    """The source's group, of which all else is copied."""


def plan(header: Header, options: Options, blocks: tuple[int, int] | None, in_group: bool) -> Plan:
    """Decide what is to be created: an array, or a group if the source has one or `in_group` asks for it."""
    not_carried: list[str] = []
    node: Node | None = header.keep["node"] if header.format == "Zarr" else None
    if node is None:
        arrays = [_new(header, options, blocks)]
    else:
        # Depth that shrinks with the rows is not reduced: all levels have the pages of the first.
        levels = [node.axes[0].resized(level.height, level.width) for level in node.axes]
        arrays = [
            New(name, axes, _settings(array, axes, header, options, not_carried))
            for name, array, axes in zip(node.names, node.arrays, levels, strict=True)
        ]
    version = arrays[0].settings["zarr_format"]
    is_group = node is not None and node.names != ("",)
    if not (is_group or in_group or options.overviews):
        return Plan(version, arrays, None, not_carried)
    of_group = dict(node.attributes) if node is not None else {}
    is_ome = ome.scales(of_group) is not None
    if options.overviews is False:
        del arrays[1:]
    more = bool(options.overviews) and len(arrays) == 1
    if more or not is_group:
        first = arrays[0] if is_ome else _in_order(arrays[0])
        arrays = _halves(first) if more else [first]
    sizes, names = [array.axes for array in arrays], [array.name for array in arrays]
    if is_ome and node is not None and not more:
        of_group = ome.updated(of_group, sizes, node.axes, header.dtype)
    elif is_ome:
        of_group = ome.extended(of_group, sizes, names, header.dtype)
    elif more or not is_group:
        of_group |= ome.new(version, sizes, names)
    return Plan(version, arrays, of_group, not_carried, node if is_group else None)


def _halves(first: New) -> list[New]:
    """Return an array and its reduced copies."""
    arrays = [first]
    while max((axes := arrays[-1].axes).height, axes.width) > _SMALLEST:
        axes = axes.resized(-(-axes.height // 2), -(-axes.width // 2))
        number = str(len(arrays))
        arrays.append(
            first._replace(name=number if first.name == "0" else f"{first.name}_{number}", axes=axes)
        )
    return arrays


def _in_order(array: New) -> New:
    """Return an array with the axes and their order that OME-Zarr demands, as the first of its group."""
    letters, settings = array.axes.letters, array.settings
    for letter in "DT":
        letters = letters if letter in letters else letters.replace("N", letter, 1)
    if "N" in letters:
        raise Unfit(f"OME-Zarr has no axes for an array of shape {array.axes.shape}")
    order = sorted(range(len(letters)), key=lambda axis: "TCDHW".index(letters[axis]))

    def ordered(sizes: Any) -> tuple[Any, ...]:
        return tuple(sizes[axis] for axis in order)

    changed: dict[str, Any] = {
        name: ordered(settings[name]) for name in ("chunks", "shards") if settings.get(name)
    }
    if settings["zarr_format"] == 3:
        changed["dimension_names"] = [ome.NAMES[letter] for letter in ordered(letters)]
    changed["filters"] = [
        codec for codec in settings.get("filters") or () if name_of(codec) != "transpose"
    ] or None
    changed["attributes"] = {
        name: value for name, value in settings["attributes"].items() if name != "_ARRAY_DIMENSIONS"
    }
    axes = Axes("".join(ordered(letters)), ordered(array.axes.shape), array.axes.color)
    return New("0", axes, settings | changed)


def _new(header: Header, options: Options, blocks: tuple[int, int] | None) -> New:
    """Return the array for an image of another format."""
    axes = axes_for(header)
    rows, columns = _chunk_of(header, blocks)
    sizes = {"H": rows, "W": columns, "C": header.channels}
    color = header.alpha or (header.channels == 3 and axes.color is not False)
    names = ome.NAMES | {"N": None, "C": "s" if color else "c"}
    settings = {
        "chunks": tuple(sizes.get(letter, 1) for letter in axes.letters),
        "dimension_names": [names[letter] for letter in axes.letters],
        "dtype": header.dtype,
        "attributes": cf.with_nodata({}, header.nodata, header.dtype),
        "zarr_format": 3,
        **_compression(options, 3, header.dtype),
    }
    return New("", axes, settings)


def _chunk_of(header: Header, blocks: tuple[int, int] | None) -> tuple[int, int]:
    """Return the rows and columns of a chunk: multiples of the source's blocks, about square."""
    most = max(1, _CHUNK // header.bytes_per_pixel)
    side = 1 << (math.isqrt(most).bit_length() - 1)
    rows, columns = side, side
    if blocks is not None and blocks[0] * blocks[1] <= most:
        columns = blocks[1] * max(1, side // blocks[1])
        rows = blocks[0] * max(1, most // columns // blocks[0])
        if blocks[0] <= side and blocks[1] <= side:
            rows = blocks[0] * (side // blocks[0])
    return min(rows, header.height), min(columns, header.width)


def _settings(
    array: Any, axes: Axes, header: Header, options: Options, not_carried: list[str]
) -> dict[str, Any]:
    """Return what `create_array` takes for an array like the source's."""
    metadata = array.metadata
    same = np.dtype(array.dtype).newbyteorder("=") == header.dtype
    chunks, shards = _one_page(axes, array.chunks, array.shards)
    attributes, dropped = cf.kept(array.attrs.asdict(), header.nodata, header.dtype, same)
    note(not_carried, dropped)
    settings = {
        "chunks": chunks,
        "shards": shards,
        "dtype": array.dtype if same else header.dtype,
        "attributes": attributes,
        "zarr_format": metadata.zarr_format,
        **_fill_value(array.fill_value, header.dtype),
        **_codecs(array, options, same, header.dtype, not_carried),
    }
    if metadata.zarr_format == 2:
        encoding = {"name": "v2", "separator": metadata.dimension_separator}
        return settings | {"order": metadata.order, "chunk_key_encoding": encoding}
    names = metadata.dimension_names
    return settings | {"chunk_key_encoding": metadata.chunk_key_encoding, "dimension_names": names}


def _one_page(
    axes: Axes, chunks: tuple[int, ...], shards: tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return chunks and shards of one page: pages are written each for itself.

    Their rows and columns grow, so that the chunks do not become many and tiny.
    """
    pages = math.prod(axes.of_pages(chunks))
    if shards is None and pages == 1:
        return chunks, None
    grow = math.isqrt(pages)
    sizes = {
        letter: min(size * grow, max(size, of))
        for letter, size, of in zip(axes.letters, chunks, axes.shape, strict=True)
        if letter in "HW"
    }

    def one(given: tuple[int, ...], of: Mapping[str, int]) -> tuple[int, ...]:
        pairs = zip(axes.letters, given, strict=True)
        return tuple(of.get(letter, size if letter == "C" else 1) for letter, size in pairs)

    small = one(chunks, sizes)
    if shards is None:
        return small, None
    large = {
        letter: -(-size // chunk) * chunk
        for letter, size, chunk in zip(axes.letters, shards, small, strict=True)
        if letter in "HW"
    }
    return small, one(shards, large)


def _fill_value(value: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the fill value if the dtype can represent it."""
    if value is None:
        return {"fill_value": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fits = np.array_equal(np.array(float(value)).astype(dtype), float(value), equal_nan=True)
        except (TypeError, ValueError, OverflowError):
            fits = False
    return {"fill_value": dtype.type(value)} if fits else {}


def _codecs(
    array: Any, options: Options, same: bool, dtype: np.dtype[Any], not_carried: list[str]
) -> dict[str, Any]:
    """Return filters, serializer and compressors like the source's, but for those that change pixels."""
    version = array.metadata.zarr_format
    filters = [
        codec
        for codec in array.filters
        if name_of(codec) in _LOSSLESS and (same or name_of(codec) == "transpose")
    ]
    if len(filters) < len(array.filters):
        note(not_carried, [f"the filter {name_of(codec)}" for codec in array.filters if codec not in filters])
    settings: dict[str, Any] = {"filters": tuple(filters) or None}
    if version == 3 and same and name_of(array.serializer) == "bytes":
        settings["serializer"] = array.serializer
    elif version == 3 and name_of(array.serializer) != "bytes":
        note(not_carried, [f"the codec {name_of(array.serializer)}"])
    if options.compression is not None:
        return settings | _compression(options, version, dtype)
    if all(name_of(codec) in _LOSSLESS for codec in array.compressors):
        return settings | {"compressors": tuple(array.compressors) or None}
    note(not_carried, [f"the compressor {name_of(codec)}" for codec in array.compressors])
    return settings


def name_of(codec: Any) -> str:
    """Return the name of a codec: zarr's classes and those of numcodecs have theirs in different places."""
    name = getattr(codec, "codec_id", None) or getattr(codec, "codec_name", None)
    if name is None:
        name = codec.to_dict()["name"]
    return str(name).removeprefix("numcodecs.")


def _compression(options: Options, version: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the compressors that an option names."""
    name = options.compression
    if name is None:
        return {}
    if name == "none":
        return {"compressors": None}
    import numcodecs
    import zarr.codecs

    if name in ("lz4", "blosc"):
        inner, shuffle = "lz4" if name == "lz4" else "zstd", dtype.itemsize > 1
        if version == 2:
            return {"compressors": numcodecs.Blosc(inner, 5, int(shuffle))}
        word = "shuffle" if shuffle else "noshuffle"
        return {"compressors": zarr.codecs.BloscCodec(cname=inner, clevel=5, shuffle=word)}
    if name == "zstd":
        return {"compressors": numcodecs.Zstd(3) if version == 2 else zarr.codecs.ZstdCodec(level=3)}
    if name in ("gzip", "deflate"):
        return {"compressors": numcodecs.GZip(6) if version == 2 else zarr.codecs.GzipCodec(level=6)}
    raise Unfit(f"Zarr is compressed by none, zstd, lz4, blosc, gzip or deflate, not by {name!r}")


def note(not_carried: list[str], what: Sequence[str]) -> None:
    """Add notes of what is not carried, each once."""
    notes = (f"{name} not carried" for name in what)
    not_carried += [note for note in notes if note not in not_carried]
