"""TIFF block by block: any window of any kind of file, and files written in any order."""

import contextlib
import gzip
import io
import itertools
import random
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import imagecodecs
import numpy as np
import pytest
import pyvips
import skimage.data
import tifffile

from histeq._files import tiff
from histeq._files.blocks import Header, Options, Window
from histeq._files.picture import Unfit
from histeq._files.tiff import reader
from histeq._files.tiff.directory import Directory

RANDOM = np.random.default_rng(7)
HEIGHT, WIDTH = 50, 70


def noise(*shape, dtype="uint8"):
    if np.dtype(dtype).kind == "f":
        return RANDOM.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def opened(file, limit=2**30):
    return contextlib.closing(tiff.open(file, limit))


def windows(pages=1, count=12, height=HEIGHT, width=WIDTH):
    """Return random windows, the smallest, and the whole."""
    chooser = random.Random(3)
    found = [Window(pages - 1, height - 1, width - 1, 1, 1), Window(0, 0, 0, height, width)]
    for _ in range(count):
        top, left = chooser.randrange(height), chooser.randrange(width)
        size = chooser.randint(1, height - top), chooser.randint(1, width - left)
        found.append(Window(chooser.randrange(pages), top, left, *size))
    return found


def check_windows(file, expected, pages=1):
    """Compare windows of a file with an array (N, H, W[, C])."""
    with opened(file) as source:
        for window in windows(pages, height=expected.shape[1], width=expected.shape[2]):
            np.testing.assert_array_equal(source.read(window), expected[window.page][window.slices])
        return source.header


def copy(source, file, options=Options(), *, size=2000, threads=3, header=None):  # noqa: B008
    """Write a source's pixels to a file, in random order and from several threads; return their array."""
    from histeq._files.blocks import windows as cut

    header = header or source.header
    sink = tiff.create(file, header, options)
    level = sink.levels[0]
    jobs = [
        w
        for page in range(header.pages)
        for w in cut(header.size, level.blocks(page), page, size, header.bytes_per_pixel)
    ]
    random.Random(5).shuffle(jobs)

    def write(window):
        level.write(window, source.read(window).astype(header.dtype))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, jobs))
    for window in windows(header.pages, 4, header.height, header.width):
        np.testing.assert_array_equal(level.read(window), source.read(window).astype(header.dtype))
    return sink


COMPRESSIONS = [None, "deflate", "lzw", "zstd", "packbits", "lzma"]
STRUCTURES = {
    "tiles": {"tile": (16, 32)},
    "a tile": {"tile": (64, 80)},
    "strips": {"rowsperstrip": 7},
    "a strip": {"rowsperstrip": HEIGHT},
}


def combinations():
    """Yield settings in which every pair of two values comes up."""
    choices = [
        list(STRUCTURES),
        COMPRESSIONS,
        [False, True],
        ["uint8", "uint16", "int16", "uint32", "float16", "float32", "float64"],
        ["<", ">"],
        [False, True],
        ["grey", "contig", "separate"],
    ]
    chooser = random.Random(1)
    every = list(itertools.product(*choices))
    wanted = {
        (i, a, j, b)
        for (i, one), (j, other) in itertools.combinations(enumerate(choices), 2)
        for a in one
        for b in other
    }
    pairs = lambda row: {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}  # noqa: E731
    while wanted:
        row = max(chooser.sample(every, 200), key=lambda row: len(pairs(row) & wanted))
        wanted -= pairs(row)
        yield row


@pytest.mark.parametrize("case", list(combinations()), ids=lambda case: "-".join(map(str, case)))
def test_pairwise(tmp_path, case):
    """Any window is as tifffile reads it, and what is written anew has the same structure and pixels."""
    structure, compression, predictor, dtype, byteorder, big, planar = case
    shape = {"grey": (HEIGHT, WIDTH), "contig": (HEIGHT, WIDTH, 3), "separate": (3, HEIGHT, WIDTH)}[planar]
    pixels = noise(*shape, dtype=dtype)
    path, again = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack" if planar == "grey" else "rgb",
        planarconfig=None if planar == "grey" else planar,
        compression=compression,
        predictor=predictor and compression not in (None, "packbits"),
        byteorder=byteorder,
        bigtiff=big,
        metadata=None,
        **STRUCTURES[structure],
    )
    expected = np.moveaxis(pixels, 0, -1) if planar == "separate" else pixels
    check_windows(path, expected[None])
    with opened(path) as source:
        copy(source, again).finish()
    np.testing.assert_array_equal(tifffile.imread(again), pixels)
    assert path.read_bytes()[:4] == again.read_bytes()[:4]
    with tifffile.TiffFile(path) as one, tifffile.TiffFile(again) as other:
        assert len(other.pages) == 1
        for name in ("compression", "predictor", "tile", "rowsperstrip", "photometric", "planarconfig"):
            assert getattr(one.pages[0], name) == getattr(other.pages[0], name), name


def pyramid(path, pixels, *, subifds, levels=2, **options):
    """Write pages (N, H, W), each with its reduced copies, as SubIFDs or after it."""
    with tifffile.TiffWriter(path) as file:
        for page in pixels:
            file.write(page, metadata=None, subifds=levels if subifds else None, **options)
            for level in range(1, levels + 1):
                file.write(page[:: 2**level, :: 2**level], metadata=None, subfiletype=1, **options)


def fill(file, target, options):
    """Write a file anew, each level from the one before, as every second pixel; return the levels' sizes."""
    with opened(file) as source:
        header = source.header
        sink = tiff.create(target, header, options)
        for page in range(header.pages):
            whole = Window(page, 0, 0, header.height, header.width)
            sink.levels[0].write(whole, source.read(whole))
            for before, level in itertools.pairwise(sink.levels):
                pixels = before.read(Window(page, 0, 0, before.height, before.width))
                level.write(Window(page, 0, 0, level.height, level.width), pixels[::2, ::2])
        sink.finish()
        return [(level.height, level.width) for level in sink.levels]


class TestPyramids:
    @pytest.mark.parametrize("subifds", [False, True])
    @pytest.mark.parametrize("pages", [1, 3])
    @pytest.mark.parametrize("options", [{"tile": (16, 16), "compression": "zstd"}, {"rowsperstrip": 9}])
    def test_as_the_input(self, tmp_path, subifds, pages, options):
        pixels = noise(pages, HEIGHT, WIDTH)
        pyramid(tmp_path / "a.tif", pixels, subifds=subifds, **options)
        header = check_windows(tmp_path / "a.tif", pixels, pages)
        assert header.levels == ((25, 35), (13, 18))
        fill(tmp_path / "a.tif", tmp_path / "b.tif", Options())
        with tifffile.TiffFile(tmp_path / "a.tif") as one, tifffile.TiffFile(tmp_path / "b.tif") as other:
            assert len(one.pages) == len(other.pages)
            for a, b in zip(one.pages, other.pages, strict=True):
                for first, second in zip([a, *(a.pages or ())], [b, *(b.pages or ())], strict=True):
                    np.testing.assert_array_equal(first.asarray(), second.asarray())
                    for name in ("compression", "tile", "rowsperstrip", "subfiletype"):
                        assert getattr(first, name) == getattr(second, name)

    @pytest.mark.parametrize("subifds", [False, True])
    def test_pages_have_copies_of_their_own(self, tmp_path, subifds):
        def write(*sizes):
            with tifffile.TiffWriter(tmp_path / "a.tif") as file:
                for number, of_page in enumerate(sizes):
                    beneath = len(of_page) if subifds else None
                    file.write(noise(HEIGHT, WIDTH), metadata=None, subifds=beneath)
                    tile, compression = (16, 16 + 16 * number), (8, 5)[number]
                    for size in of_page:
                        own = {"tile": tile, "compression": compression, "subfiletype": 1}
                        file.write(noise(*size), metadata=None, **own)

        half, other = (HEIGHT // 2, WIDTH // 2), (HEIGHT // 2, WIDTH // 2 + 1)
        write([half], [half])
        fill(tmp_path / "a.tif", tmp_path / "b.tif", Options())
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            found = [copy for page in file.pages for copy in (page.pages if subifds else [page])]
            kinds = [(copy.tile, copy.compression) for copy in found if copy.is_reduced]
        assert kinds == [((16, 16), 8), ((16, 32), 5)]
        for sizes in ([half], [other]), ([half], []), ([], [half]), ([half], [half, (9, 9)]):
            write(*sizes)
            with pytest.raises(Unfit, match="page 2 has other reduced copies than the first page"):
                fill(tmp_path / "a.tif", tmp_path / "b.tif", Options())
            assert len(fill(tmp_path / "a.tif", tmp_path / "b.tif", Options(overviews=False))) == 1

    def test_new(self, tmp_path):
        tags = [(42113, 2, 4, b"250\0", True), (270, 2, 5, b"text\0", True)]
        pixels = noise(100, 70)
        tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 32), extratags=tags, metadata=None)
        sizes = fill(tmp_path / "a.tif", tmp_path / "b.tif", Options(overviews=True, compression="lzw"))
        assert sizes == [(100, 70), (50, 35), (25, 18), (13, 9)]
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert [page.is_reduced for page in file.pages] == [False, True, True, True]
            assert all(page.compression == 5 for page in file.pages)
            np.testing.assert_array_equal(file.pages[3].asarray(), pixels[::8, ::8])
            assert [page.nodata for page in file.pages] == [250] * 4
            assert [page.description for page in file.pages] == ["text", "", "", ""]

    def test_none(self, tmp_path):
        pyramid(tmp_path / "a.tif", noise(1, HEIGHT, WIDTH), subifds=True)
        fill(tmp_path / "a.tif", tmp_path / "b.tif", Options(overviews=False))
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert (len(file.pages), file.pages[0].pages) == (1, None)


def written(**options):
    """Return the bytes of a file: two pages of 50 x 70, without tifffile's own notes."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in noise(2, HEIGHT, WIDTH):
            writer.write(page, metadata=None, **options)
    return bytearray(file.getvalue())


def patched(data, code, value=None, *, count=None, item=0, page=0):
    """Return a file with one number of a tag changed, or with another count of them."""
    data = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages[page].tags[code]
    if count is not None:
        struct.pack_into("<I", data, tag.offset + 4, count)
    if value is not None:
        kind, size = {3: ("<H", 2), 4: ("<I", 4), 13: ("<I", 4)}[int(tag.dtype)]
        struct.pack_into(kind, data, tag.valueoffset + item * size, value)
    return data


def next_directory(data, page, offset):
    """Say where the directory after a page is."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start = file.pages[page].offset
    struct.pack_into("<I", data, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], offset)
    return data


def shared_table():
    """Return a file of many pages with the same strips."""
    file = io.BytesIO()
    tifffile.imwrite(file, noise(5000, 1), rowsperstrip=1, compression=8, metadata=None)
    data = bytearray(file.getvalue())
    start = struct.unpack_from("<I", data, 4)[0]
    size = 2 + 12 * struct.unpack_from("<H", data, start)[0]
    directory = data[start : start + size]
    for _ in range(20):
        struct.pack_into("<I", data, start + size, len(data))
        start = len(data)
        data += directory + bytes(4)
    return data


def first_block(data, change):
    """Return a file with another first block, which may be shorter."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
    start, size = page.dataoffsets[0], page.databytecounts[0]
    block = change(bytes(data[start : start + size]))
    assert len(block) <= size
    data = patched(data, 325 if page.is_tiled else 279, len(block))
    data[start : start + len(block)] = block
    return data


def of_other_size(block):
    start = block.index(b"\xff\xc0")
    return block[: start + 5] + struct.pack(">HH", 65500, 65500) + block[start + 9 :]


def hostile():
    """Yield the name of each broken file, its bytes, and what is to be said of it."""
    tiles = {"tile": (16, 16), "compression": 8}
    start = struct.unpack_from("<I", written(), 4)[0]
    yield "a page after itself", next_directory(written(), 0, start), "point back"
    yield "two pages in a circle", next_directory(written(), 1, start), "point back"
    subifds = io.BytesIO()
    with tifffile.TiffWriter(subifds) as writer:
        writer.write(noise(50, 70), subifds=2, metadata=None)
        writer.write(noise(25, 35), subfiletype=1, metadata=None)
        writer.write(noise(13, 18), subfiletype=1, metadata=None)
    nested = bytearray(subifds.getvalue())
    yield "a reduced copy that is its page", patched(nested, 330, 8), "point back"
    with tifffile.TiffFile(io.BytesIO(nested)) as file:
        again = file.pages[0].pages[1].offset
    yield "a reduced copy twice", patched(nested, 330, again), "point back"
    for code, name in ((324, "offset"), (325, "byte count")):
        yield f"{name} beyond the end", patched(written(**tiles), code, 60000, item=3), "truncated"
        yield f"few {name}s", patched(written(**tiles), code, count=19), "20 blocks, but"
        yield f"many {name}s", patched(written(**tiles), code, count=21), "20 blocks, but"
        yield f"{name} 0", patched(written(**tiles), code, 0, item=3), "without data"
    data = written(**tiles)
    yield "a block beyond the end", patched(data, 325, len(data) - 10, item=19), "truncated"
    yield "a short strip", patched(written(rowsperstrip=7), 279, 480, item=1), "480 bytes instead of 490"
    data = patched(written(rowsperstrip=50, compression=8) + bytes(3 * 10**6), 279, 2500000)
    yield "a small block in many bytes", data, "a block of 3500 bytes takes 2500000"
    yield "a table for many pages", shared_table(), "share their tables"
    yield "strips without data", patched(written(rowsperstrip=5, compression=8), 279, 0), "without data"
    yield "four billion offsets", patched(written(**tiles), 324, count=2**32 - 1), "offset"
    wide = patched(patched(written(tile=(16, 16)), 322, 60000), 323, 60000)
    yield "a tile of 60000 x 60000", wide, "larger than the image|blocks, but"
    small = io.BytesIO()
    tifffile.imwrite(small, noise(16, 16), tile=(16, 16), compression=8, metadata=None)
    wide = patched(patched(bytearray(small.getvalue()), 322, 60000), 323, 60000)
    yield "a tile of 60000 x 60000 in a small image", wide, "larger than the image"
    yield "no columns in tiles", patched(written(**tiles), 322, 0), "no pixels"
    yield "no rows in tiles", patched(written(**tiles), 323, 0), "no pixels"
    for layout in ({"tile": (16, 16)}, {"rowsperstrip": 16}):
        data = written(compression="jpeg", **layout)
        yield f"a JPEG of 65500 x 65500 in {layout}", first_block(data, of_other_size), "holds 65500 x 65500"
        yield f"half a JPEG in {layout}", first_block(data, lambda b: b[: len(b) // 2]), "cut short"
    large = imagecodecs.jpeg2k_encode(np.zeros((2000, 2000), np.uint8), codecformat=0)
    data = written(compression="jpeg2000", tile=(48, 80))
    yield "a large JPEG 2000", first_block(data, lambda b: large), "holds 2000 x 2000"
    large = imagecodecs.png_encode(np.zeros((2000, 200), np.uint8))
    yield (
        "a large PNG",
        first_block(written(compression="png", tile=(48, 80)), lambda b: large),
        "80 x 48 pixels holds others",
    )
    bomb = imagecodecs.deflate_encode(bytes(10**6), 9)
    data = written(rowsperstrip=50, compression=8)
    yield "a bomb", first_block(data, lambda b: bomb), "holds too much"
    for compression in (8, 5, 50000, 32773, 34925):
        for layout in ({"tile": (16, 16)}, {"rowsperstrip": 16}):
            data = written(compression=compression, **layout)
            message = "a block (cannot be decoded|holds)"
            yield f"half of {compression} in {layout}", first_block(data, lambda b: b[: len(b) // 2]), message
    yield "raw, too short", patched(written(tile=(16, 16)), 325, 255), "255 bytes instead of 256"
    yield (
        "no compression of that number",
        patched(written(**tiles), 259, 65000),
        "compression are not handled",
    )
    yield "no predictor of that number", patched(written(**tiles, predictor=True), 317, 9), "9 is not a known"
    many = written(
        rowsperstrip=1,
        compression=8,
        description='<OME xmlns="OME/2016-06"><Image><Pixels SizeZ="99999999"'
        ' SizeC="99999999" SizeT="99999999"/></Image></OME>',
    )
    yield "an OME-XML of many planes", many, "one file of an OME-TIFF set"


LIMITED = """
import resource, sys, time
from pathlib import Path
import imagecodecs, numpy, tifffile
from histeq import _files
_files.read(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    start = time.perf_counter()
    try:
        picture = _files.read(Path(path))
        print("read")
    except _files.FileError as error:
        assert "\\n" not in str(error)
        print(error)
    assert time.perf_counter() - start < 2, path
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60000, path
"""


def test_hostile_files(tmp_path):
    """Each is refused in one line, in no time and with no memory, by a process that has seen the others."""
    cases = list(hostile())
    (tmp_path / "sound.tif").write_bytes(written())
    for number, (_, data, _) in enumerate(cases):
        (tmp_path / f"{number}.tif").write_bytes(data)
    files = ["sound.tif", *(f"{number}.tif" for number in range(len(cases)))]
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, *files], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    wrong = [
        (name, line)
        for number, (line, (name, _, message)) in enumerate(zip(lines, cases, strict=True))
        if not re.match(rf"{number}\.tif: .*({message})", line)
    ]
    assert not wrong


def test_a_file_that_is_cut_short(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(written(rowsperstrip=10))
    with opened(path) as source:
        path.write_bytes(b"short")
        with pytest.raises(EOFError, match="truncated"):
            source.read(Window(0, 0, 0, HEIGHT, WIDTH))


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize(
    ("dtype", "nodata", "fill"), [("uint8", None, 0), ("int16", b"300", 300), ("float32", b"nan", np.nan)]
)
def test_sparse(tmp_path, compression, dtype, nodata, fill):
    """Tiles without data are nodata, else zero, as in GDAL."""
    pixels = noise(HEIGHT, WIDTH, dtype=dtype)
    tiles = [
        pixels[top : top + 16, left : left + 16] for top in range(0, 64, 16) for left in range(0, 80, 16)
    ]
    tiles = [np.pad(tile, [(0, 16 - side) for side in tile.shape]) for tile in tiles]
    encode = imagecodecs.lzw_encode if compression else bytes
    tags = [(42113, 2, len(nodata), nodata, True)] if nodata else []
    tifffile.imwrite(
        tmp_path / "a.tif",
        (b"" if number in (0, 7, 19) else encode(tile) for number, tile in enumerate(tiles)),
        shape=pixels.shape,
        dtype=dtype,
        tile=(16, 16),
        compression=compression,
        extratags=tags,
    )
    pixels[:16, :16] = pixels[16:32, 32:48] = pixels[48:, 64:] = fill
    check_windows(tmp_path / "a.tif", pixels[None])


def check_copy(path, expected):
    """Compare windows of a file, and of one that is written from it, with an array (H, W[, C])."""
    check_windows(path, expected[None])
    with opened(path) as source:
        copy(source, path.with_name("b.tif")).finish()
    check_windows(path.with_name("b.tif"), expected[None])


def test_few_bits(tmp_path):
    path = tmp_path / "a.tif"
    for bits, scale in ((2, 85), (4, 17), (12, 1)):
        pixels = noise(HEIGHT, WIDTH, dtype="uint8" if bits < 8 else "uint16") % 2**bits
        each = pixels[..., None] >> np.arange(bits)[::-1] & 1
        packed = np.packbits(each.reshape(HEIGHT, -1), axis=1).tobytes()
        tifffile.imwrite(path, pixels, rowsperstrip=7, metadata=None)
        data = patched(path.read_bytes(), 258, bits)
        row = len(packed) // HEIGHT
        with tifffile.TiffFile(path) as file:
            for number, offset in enumerate(file.pages[0].dataoffsets):
                strip = packed[7 * row * number : 7 * row * (number + 1)]
                data[offset : offset + len(strip)] = strip
                data = patched(data, 279, len(strip), item=number)
        path.write_bytes(data)
        check_copy(path, pixels * pixels.dtype.type(scale))
    for photometric, flip in (("minisblack", 0), ("miniswhite", 255)):
        tifffile.imwrite(path, pixels % 2 > 0, photometric=photometric)
        check_copy(path, (pixels % 2 * 255).astype(np.uint8) ^ np.uint8(flip))


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("compression", [None, "lzw"])
class TestKinds:
    """Kinds of pixels that are not written as they are read."""

    def test_palette(self, tmp_path, layout, compression):
        colours, indices = noise(3, 256, dtype="uint16"), noise(HEIGHT, WIDTH)
        options = {"photometric": "palette", "colormap": colours, "compression": compression}
        tifffile.imwrite(tmp_path / "a.tif", indices, **options, **layout)
        check_copy(tmp_path / "a.tif", (colours >> 8).astype(np.uint8).T[indices])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
    def test_white_is_zero(self, tmp_path, layout, compression, dtype):
        pixels = noise(HEIGHT, WIDTH, dtype=dtype)
        options = {"photometric": "miniswhite", "compression": compression}
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options, **layout)
        check_copy(tmp_path / "a.tif", np.invert(pixels))
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels)

    def test_other_pixels_than_the_input(self, tmp_path, layout, compression):
        """White is zero for integers only; predictors are of a dtype."""
        pixels = noise(HEIGHT, WIDTH)
        options = {
            "photometric": "miniswhite",
            "compression": compression,
            "predictor": compression is not None,
        }
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options, **layout)
        with opened(tmp_path / "a.tif") as source:
            for dtype in ("float32", "uint16"):
                header = replace(source.header, dtype=np.dtype(dtype))
                copy(source, tmp_path / "b.tif", header=header).finish()
                check_windows(tmp_path / "b.tif", (255 - pixels)[None].astype(dtype))
                with tifffile.TiffFile(tmp_path / "b.tif") as file:
                    assert file.pages[0].photometric == (1 if dtype == "float32" else 0)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "png", "webp", "jpegxl", "jpegxr", "lerc"])
@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"tile": (64, 80)}, {"rowsperstrip": 16}])
def test_pictures_in_blocks(tmp_path, compression, layout):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([y * 3, x * 2, y + x], -1).astype(np.uint8)
    options = {"photometric": "rgb", "compression": compression, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options, **layout)
    check_windows(tmp_path / "a.tif", tifffile.imread(tmp_path / "a.tif")[None])


class TestOptions:
    def write(self, file, **options):
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        pixels = np.stack([y * 3, x * 2, y + x], -1).astype(np.uint8)
        header = Header(
            format="PNG", pages=1, height=HEIGHT, width=WIDTH, channels=3, dtype=pixels.dtype, layout="HWC"
        )
        sink = tiff.create(file, header, Options(**options))
        sink.levels[0].write(Window(0, 0, 0, HEIGHT, WIDTH), pixels)
        sink.finish()
        return pixels

    @pytest.mark.parametrize("name", ["none", "deflate", "lzw", "zstd", "packbits", "lzma", "jpeg"])
    def test_compression(self, name):
        file = io.BytesIO()
        pixels = self.write(file, compression=name)
        file.seek(0)
        with tifffile.TiffFile(file) as written:
            page = written.pages[0]
            assert (
                page.compression == tifffile.COMPRESSION[{"deflate": "ADOBE_DEFLATE"}.get(name, name.upper())]
            )
            assert page.predictor == (2 if name in ("deflate", "lzw", "zstd", "lzma") else 1)
            difference = np.abs(page.asarray().astype(int) - pixels).mean()
            assert difference < 2 if name == "jpeg" else difference == 0

    def test_unknown_compression(self, tmp_path):
        with pytest.raises(
            Unfit, match="no compression 'lzma2'; there are none, deflate, lzw, zstd, packbits"
        ):
            self.write(tmp_path / "a.tif", compression="lzma2")
        assert not list(tmp_path.iterdir())

    def test_quality(self):
        sizes = []
        for quality in (20, 95, None):
            file = io.BytesIO()
            self.write(file, compression="jpeg", quality=quality)
            sizes.append(len(file.getvalue()))
        assert sizes[0] < sizes[1] == sizes[2]

    def test_jpeg_of_16_bits(self, tmp_path):
        header = Header(
            format="PNG", pages=1, height=9, width=9, channels=1, dtype=np.dtype("uint16"), layout="HW"
        )
        with pytest.raises(Unfit, match="JPEG compression in TIFF is for uint8"):
            tiff.create(tmp_path / "a.tif", header, Options(compression="jpeg"))

    def test_large_images_are_tiled_and_big(self, tmp_path):
        header = Header(
            format="PNG", pages=1, height=70000, width=70000, channels=1, dtype=np.dtype("uint8"), layout="HW"
        )
        sink = tiff.create(tmp_path / "a.tif", header, Options(overviews=True))
        assert sink.levels[0].blocks(0) == (512, 512)
        assert (sink.levels[-1].height, sink.levels[-1].width) == (274, 274)
        sink.close()
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.is_bigtiff

    def test_strips_that_were_raw_are_divided(self, tmp_path):
        """In a raw file the size of strips says nothing; compressed ones are each the work of one thread."""
        tifffile.imwrite(tmp_path / "a.tif", noise(2000, 1000))
        for compression, blocks in ((None, (1, 64)), ("lzw", (262, 1000))):
            with opened(tmp_path / "a.tif") as source:
                sink = tiff.create(tmp_path / "b.tif", source.header, Options(compression=compression))
                assert sink.levels[0].blocks(0) == blocks
                sink.close()

    def test_windows_that_cut_blocks(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise(HEIGHT, WIDTH), tile=(16, 32))
        with opened(tmp_path / "a.tif") as source:
            sink = tiff.create(tmp_path / "b.tif", source.header, Options())
            for window in (Window(0, 1, 0, 16, 32), Window(0, 0, 0, 16, 40), Window(0, 32, 32, 17, 38)):
                with pytest.raises(ValueError, match="does not consist of blocks of 32 x 16 pixels"):
                    sink.levels[0].write(window, source.read(window))
            sink.close()

    def test_what_is_not_written_is_noticed(self, tmp_path):
        header = Header(
            format="PNG", pages=2, height=9, width=9, channels=1, dtype=np.dtype("uint8"), layout="NHW"
        )
        sink = tiff.create(tmp_path / "a.tif", header, Options())
        sink.levels[0].write(Window(0, 0, 0, 9, 9), noise(9, 9))
        with pytest.raises(ValueError, match="not all"):
            sink.finish()
        sink.close()


class TestStacks:
    def test_imagej(self, tmp_path):
        pixels = noise(2, 3, HEIGHT, WIDTH, dtype="uint16")
        tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TZYX"})
        check_windows(tmp_path / "a.tif", pixels.reshape(6, HEIGHT, WIDTH), 6)

    def test_ome(self, tmp_path):
        pixels = noise(2, 3, HEIGHT, WIDTH)
        with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
            file.write(pixels, metadata={"axes": "TCYX"}, subifds=1, tile=(16, 16), compression="zlib")
            file.write(pixels[..., ::2, ::2], subfiletype=1, tile=(16, 16), compression="zlib")
        header = check_windows(tmp_path / "a.ome.tif", pixels.reshape(6, HEIGHT, WIDTH), 6)
        assert header.levels == ((25, 35),)

    def test_one_file_of_several(self, tmp_path):
        text = '<OME><Image><Pixels SizeC="1" SizeT="2" SizeZ="1"/></Image></OME>'
        tifffile.imwrite(tmp_path / "a.tif", noise(HEIGHT, WIDTH), description=text, metadata=None)
        with pytest.raises(Unfit, match="one file of an OME-TIFF set: 1 of its 2 planes are here"):
            tiff.open(tmp_path / "a.tif", 2**30)

    def test_pages_have_settings_of_their_own(self, tmp_path):
        pixels = noise(4, HEIGHT, WIDTH)
        layouts = [
            {"tile": (16, 16)},
            {"rowsperstrip": 9, "compression": "lzw"},
            {},
            {"photometric": "miniswhite"},
        ]
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            for page, layout in zip(pixels, layouts, strict=True):
                file.write(page, metadata=None, **layout)
        expected = np.stack([*pixels[:3], 255 - pixels[3]])
        check_windows(tmp_path / "a.tif", expected, 4)
        with opened(tmp_path / "a.tif") as source:
            copy(source, tmp_path / "b.tif").finish()
        check_windows(tmp_path / "b.tif", expected, 4)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            np.testing.assert_array_equal([page.asarray() for page in file.pages], pixels)
            assert [page.is_tiled for page in file.pages] == [True, False, False, False]
            assert [int(page.compression) for page in file.pages] == [1, 5, 1, 1]


def test_file_objects(tmp_path):
    """Files without a descriptor are read and written by one thread at a time, to the same effect."""
    pixels = noise(HEIGHT, WIDTH, dtype="uint16")
    memory, again = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(memory, pixels, tile=(16, 16), compression="zlib", predictor=True, metadata=None)
    check_windows(memory, pixels[None])
    (tmp_path / "a.tif.gz").write_bytes(gzip.compress(memory.getvalue()))
    with gzip.open(tmp_path / "a.tif.gz") as file:
        check_windows(file, pixels[None])
    with opened(memory) as source, (tmp_path / "b.tif").open("w+b") as file:
        for target in (again, file):
            copy(source, target).finish()
        file.seek(0)
        assert len(file.read()) == len(again.getvalue())
        for target in (again, file):
            target.seek(0)
            np.testing.assert_array_equal(tifffile.imread(target), pixels)


def test_threads_share_what_windows_cut(tmp_path, monkeypatch):
    """A strip that many windows need is decoded once."""
    pixels = noise(HEIGHT, WIDTH)
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=10, compression="lzma")
    decoded = []
    decode = Directory.decode

    def counted(self, data, number):
        decoded.append(number)
        return decode(self, data, number)

    monkeypatch.setattr(Directory, "decode", counted)
    with opened(tmp_path / "a.tif") as source, ThreadPoolExecutor(8) as pool:
        jobs = [Window(0, row, left, 1, 7) for row in range(HEIGHT) for left in range(0, WIDTH, 7)]
        for window, found in zip(jobs, pool.map(source.read, jobs), strict=True):
            np.testing.assert_array_equal(found, pixels[window.slices])
    assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_few_blocks_are_kept(tmp_path, monkeypatch):
    pixels = noise(HEIGHT, WIDTH)
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=10, compression="lzma")
    monkeypatch.setattr(reader, "_CACHE", 3 * 10 * WIDTH)
    decoded = []
    decode = Directory.decode
    monkeypatch.setattr(Directory, "decode", lambda *args: decoded.append(args[2]) or decode(*args))
    with opened(tmp_path / "a.tif") as source:
        for row in (0, 10, 20, 1, 30, 2, 11, 40):
            source.read(Window(0, row, 0, 1, WIDTH))
    assert decoded == [0, 1, 2, 3, 1, 4]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_raw_strips_are_written_in_parts_of_rows(tmp_path, planar, order):
    pixels = noise(
        *((3,) if planar == "separate" else ()), HEIGHT, WIDTH, *((3,) if planar == "contig" else ())
    )
    arguments = {"photometric": "rgb", "planarconfig": planar, "rowsperstrip": 8, "byteorder": order}
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype("u2") * 257, metadata=None, **arguments)
    with opened(tmp_path / "a.tif") as source:
        assert source.blocks(0) == (1, 64)
        copy(source, tmp_path / "b.tif", size=1).finish()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pixels.astype("u2") * 257)


@pytest.mark.parametrize("make", [io.BytesIO, tempfile.TemporaryFile])
def test_many_threads(make):
    """No two blocks at the same place, no bytes of another's, however often threads take turns."""
    pixels, made = noise(160, 160), io.BytesIO()
    tifffile.imwrite(made, pixels, tile=(16, 16), compression="zlib", metadata=None)
    with make() as file, make() as target:
        file.write(made.getvalue())
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with opened(file) as source:
                for _ in range(5):
                    copy(source, target, size=1, threads=8).finish()
        finally:
            sys.setswitchinterval(before)
        target.seek(0)
        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(target.read())), pixels)


def test_size(tmp_path):
    """Deflate takes the bytes of zlib's default, and tiles at the edge little more than their pixels."""
    image = skimage.data.camera()
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(512, 512), compression="zlib", predictor=True)
    with opened(tmp_path / "a.tif") as source:
        copy(source, tmp_path / "b.tif").finish()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        delta = imagecodecs.delta_encode(image, axis=-1)
        assert file.pages[0].databytecounts[0] <= 1.01 * len(zlib.compress(delta.tobytes(), 6))
    tifffile.imwrite(tmp_path / "a.tif", image[:20, :40], tile=(32, 64))
    with opened(tmp_path / "a.tif") as source:
        copy(source, tmp_path / "b.tif").finish()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tile = np.fromfile(tmp_path / "b.tif", np.uint8, 32 * 64, offset=file.pages[0].dataoffsets[0])
    expected = np.pad(image[:20, :40], [(0, 12), (0, 24)], "edge")
    np.testing.assert_array_equal(tile.reshape(32, 64), expected)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    ("compression", "dtype"),
    [*itertools.product(["none", "deflate", "lzw", "packbits"], ["uint8", "uint16"]), ("jpeg", "uint8")],
)
@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 16}])
def test_other_libraries_read_it(tmp_path, planar, compression, dtype, layout):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([y * 3, x * 2, y + x], -1).astype(dtype)
    stored = np.moveaxis(pixels, -1, 0) if planar == "separate" else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **layout)
    with opened(tmp_path / "a.tif") as source:
        sink = tiff.create(tmp_path / "b.tif", source.header, Options(compression=compression))
        sink.levels[0].write(Window(0, 0, 0, HEIGHT, WIDTH), pixels)
        sink.finish()
    most = 2 if compression == "jpeg" else 0
    if planar == "contig" or "tile" not in layout:  # libvips reads no tiles of planes
        vips = pyvips.Image.new_from_file(str(tmp_path / "b.tif")).numpy()
        assert np.abs(vips.astype(int) - pixels).mean() <= most
    if planar == "contig":  # OpenCV returns a plane of others
        cv = cv2.imread(str(tmp_path / "b.tif"), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert np.abs(cv.astype(int) - pixels).mean() <= most


def test_truncation_is_noticed_at_once():
    """Before any of the pixels before the end is read."""
    data = written(tile=(16, 16), compression=8)
    for broken in (data[:-1], patched(data, 325, len(data) - 10, item=19)):
        with pytest.raises(ValueError, match="truncated"):
            tiff.open(io.BytesIO(broken), 2**30)
