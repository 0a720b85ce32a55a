"""Metadata: of each item and pair of formats, whether it is kept, refreshed or named.

`python tests/test_metadata.py` prints the table.
"""

import dataclasses
import io
import re
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import metadata_files as made
import numpy as np
import pytest
import skimage
import tifffile
from click.testing import CliRunner
from PIL import ExifTags, Image, JpegImagePlugin

import histeq
from histeq import FileError, _files
from histeq._cli import cli

DATA = Path(skimage.__file__).parent / "data"

SOURCES = {
    "JPEG": (made.make_jpeg, ".jpg"),
    "PNG": (made.make_png, ".png"),
    "WebP": (made.make_webp, ".webp"),
    "BMP": (made.make_bmp, ".bmp"),
    "TIFF": (made.make_tiff, ".tif"),
    "GeoTIFF": (made.make_geotiff, ".tif"),
    "ImageJ": (made.make_imagej, ".tif"),
    "OME-TIFF": (made.make_ome, ".ome.tif"),
}
TARGETS = (".jpg", ".png", ".webp", ".bmp", ".tif", ".zarr", ".npy")


def opened(path):
    """Open a file in Pillow; one with several pictures (MPO) as what comes first."""
    data = path if isinstance(path, io.BytesIO) else io.BytesIO(path.read_bytes())
    jpeg = data.getvalue()[:2] == b"\xff\xd8"
    return JpegImagePlugin.JpegImageFile(data) if jpeg else Image.open(data)


def info(name):
    """Return what finds an entry that Pillow makes."""

    def find(path):
        with opened(path) as image:
            return image.info.get(name)

    return find


def exif_of(path):
    with warnings.catch_warnings(), opened(path) as image:
        warnings.simplefilter("error")
        found = image.getexif()
        found.load_from_fp(image.fp, image.tag_v2._offset) if image.format == "TIFF" else None
        return (
            dict(found),
            dict(found.get_ifd(34665)),
            dict(found.get_ifd(34853)),
            dict(found.get_ifd(ExifTags.IFD.IFD1)),
        )


def exif_tag(number, code):
    return lambda path: exif_of(path)[number].get(code)


def artist(path):
    """Return the artist, which is UTF-8 in all of them; Pillow takes EXIF for Latin-1."""
    found = exif_of(path)[0].get(315)
    return found if found is None else found.encode("latin1").decode()


def thumbnail(path):
    with opened(path) as image:
        block = image.info.get("exif")
    tags = exif_of(path)[3] if block else {}
    if 513 not in tags:
        return None
    start = tags[513] + 6 * block.startswith(b"Exif")
    with Image.open(io.BytesIO(block[start : start + tags[514]])) as small:
        return np.asarray(small.convert("L")).tobytes()


def xmp(path):
    with opened(path) as image:
        found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        found = found or (image.tag_v2.get(700) if image.format == "TIFF" else None)
        return found.encode() if isinstance(found, str) else found


def resources(path):
    data = tag(34377)(path)
    if data:  # a JPEG file is made of it, for Pillow
        content = b"\xff\xd8" + made.segment(0xED, b"Photoshop 3.0\0" + data) + made.jpeg(made.pixels())[2:]
        path = io.BytesIO(content)
    with opened(path) as image:
        return image.info.get("photoshop", {})


def iptc(path):
    return tag(33723)(path) or resources(path).get(0x0404)


def resolution(path):
    with opened(path) as image:
        found = image.info.get("dpi")
        if found is None and image.format == "WEBP" and 282 in image.getexif():
            found = image.getexif()[282], image.getexif()[283]
        return found and tuple(round(float(each)) for each in found)


def chunk(name):
    def find(path):
        data = path.read_bytes() if path.suffix == ".png" else b""
        found = re.search(re.escape(name) + b".{7}", data, re.DOTALL)
        return found and found[0]

    return find


def tag(code):
    def find(path):
        if not path.name.endswith(".tif"):
            return None
        with tifffile.TiffFile(path) as file:
            return file.pages[0].tags.valueof(code)

    return find


def gdal(name):
    def find(path):
        found = re.search(f'<Item name="{name}.*?</Item>', tag(42112)(path) or "")
        return found and found[0]

    return find


def nodata(path):
    if path.suffix == ".zarr":
        import zarr

        return zarr.open(path).attrs.get("_FillValue")
    text = tag(42113)(path)
    return text and float(text)


def imagej(name):
    def find(path):
        if path.suffix != ".tif":
            return None
        with tifffile.TiffFile(path) as file:
            found = (file.imagej_metadata or {}).get(name)
        return str(found) if found is not None else None

    return find


def compression(path):
    """Return what JPEG and WebP are: the tables, or lossy."""
    with opened(path) as image:
        return {k: list(v) for k, v in image.quantization.items()} if image.format == "JPEG" else None


def beside(path):
    return path.with_suffix(".prj").exists() or None


ITEMS = {
    "EXIF: orientation": (exif_tag(0, 274), "EXIF (not|.its)"),
    "EXIF: camera": (exif_tag(0, 271), "EXIF (not|.its)"),
    "EXIF: artist, in UTF-8": (artist, "EXIF (not|.its)"),
    "EXIF: exposure": (exif_tag(1, 33434), "EXIF (not|.its)"),
    "EXIF: bias, which is signed": (exif_tag(1, 37380), "EXIF (not|.its)"),
    "EXIF: maker's notes": (exif_tag(1, 37500), "EXIF not|EXIF .its|maker's notes"),
    "EXIF: GPS": (exif_tag(2, 2), "EXIF (not|.its)"),
    "EXIF: thumbnail": (thumbnail, "EXIF not|EXIF .its|thumbnail in EXIF"),
    "XMP": (xmp, "XMP"),
    "IPTC": (iptc, "IPTC"),
    "Photoshop: copyright": (lambda path: resources(path).get(0x040A), "Photoshop's resources"),
    "Photoshop: thumbnail": (lambda path: resources(path).get(0x040C), "Photoshop's thumbnail"),
    "Photoshop: layers": (tag(37724), "Photoshop's layers"),
    "ICC profile": (info("icc_profile"), "ICC"),
    "resolution": (resolution, "resolution"),
    "JPEG: comment": (info("comment"), "comment"),
    "JPEG: MPO's second picture": (info("mp"), "MPO"),
    "JPEG: quality": (compression, None),
    "PNG: text": (info("Author"), "text Author"),
    "PNG: gAMA": (chunk(b"gAMA"), "gamma"),
    "PNG: tIME": (chunk(b"tIME"), "time"),
    "PNG: bKGD": (chunk(b"bKGD"), "background"),
    "PNG: unknown chunk": (chunk(b"teSt"), "chunk teSt"),
    "TIFF: private tag": (tag(65000), "tag 65000"),
    "TIFF: private tag, an offset": (tag(65001), "tag 65001"),
    "GeoTIFF: keys": (tag(34735), "GeoTIFF"),
    "GDAL: nodata": (nodata, "nodata"),
    "GDAL: an item": (gdal("a"), "GDAL's metadata"),
    "GDAL: scale": (gdal("SCALE"), "GDAL's scale"),
    "beside it: .prj": (beside, "prj"),
    "ImageJ: a note": (imagej("Info"), "ImageJ"),
    "ImageJ: overlays": (imagej("Overlays"), "ImageJ"),
    "ImageJ: lookup tables": (imagej("LUTs"), "ImageJ"),
    "ImageJ: unit": (imagej("unit"), "ImageJ"),
    "OME: metadata": (lambda path: "PhysicalSizeX" in str(tag(270)(path)) or None, "OME"),
}
"""What finds an item in a file, and what notes say if it is not carried (None: it need not be)."""
STATISTICS = {
    "GDAL: statistics": gdal("STATISTICS_MAXIMUM"),
    "ImageJ: displayed range": imagej("min"),
    "ImageJ: displayed ranges": imagej("Ranges"),
}
"""What described the old pixels alone: it goes without a word."""


def readable(path):
    """Tell whether Pillow reads a format: in others nothing is found."""
    return path.suffix not in (".zarr", ".npy")


def states(folder, source):
    """Return the state of every item of a source in every format that can hold its pixels."""
    make, suffix = SOURCES[source]
    path = folder / f"a{suffix}"
    make(path)
    table = {}
    for target in TARGETS:
        out = folder / f"{source}{target.replace('.', '-')}{target}"
        try:
            result = histeq.equalize_file(path, out)
        except FileError as error:  # pixels that it does not hold
            assert "holds" in str(error)  # noqa: PT017
            continue
        notes = "\n".join(result.notes)
        for name, (find, says) in ITEMS.items():
            before = find(path)
            if before is None:
                continue
            after = find(out) if readable(out) or find in (beside, nodata) else None
            if says is not None and re.search(says, notes) and after is None:
                state = "named"
            elif after is None:
                state = "-" if says is None else "LOST"
            else:
                state = "kept" if after == before else "refreshed"
            table[name, target] = state
        for name, find in STATISTICS.items():
            if find(path) is not None and readable(out):
                table[name, target] = "refreshed" if find(out) is None else "STALE"
    return table


EXPECTED = {
    "EXIF: thumbnail": {"JPEG": "refreshed", "PNG": "refreshed", "WebP": "refreshed"},
    "EXIF: maker's notes": dict.fromkeys(("JPEG", "PNG", "WebP"), "kept"),
    "EXIF": dict.fromkeys(("JPEG", "PNG", "WebP", "TIFF"), "kept"),
    "XMP": dict.fromkeys(("JPEG", "PNG", "WebP", "TIFF"), "kept"),
    "ICC profile": dict.fromkeys(("JPEG", "PNG", "WebP", "TIFF"), "kept"),
    "IPTC": dict.fromkeys(("JPEG", "TIFF"), "kept"),
    "Photoshop: copyright": dict.fromkeys(("JPEG", "TIFF"), "kept"),
    "resolution": dict.fromkeys(("JPEG", "PNG", "BMP", "TIFF"), "kept"),
    "JPEG: comment": {"JPEG": "kept"},
    "JPEG: quality": {**dict.fromkeys(("PNG", "WebP", "BMP", "TIFF", "Zarr", "NPY"), "-"), "JPEG": "kept"},
    "PNG: text": {"PNG": "kept"},
    "PNG: gAMA": {"PNG": "kept"},
    "PNG: tIME": {"PNG": "refreshed"},
    "PNG: unknown chunk": {"PNG": "kept"},
    "TIFF: private tag": {"TIFF": "kept"},
    "GeoTIFF: keys": {"TIFF": "kept"},
    "GDAL: nodata": dict.fromkeys(("TIFF", "Zarr"), "kept"),
    "GDAL: an item": {"TIFF": "kept"},
    "beside it: .prj": dict.fromkeys(("JPEG", "PNG", "WebP", "BMP", "TIFF"), "kept"),
    "ImageJ": {"TIFF": "kept"},
    "OME: metadata": {"TIFF": "kept"},
}
"""What is not named; by the item's name, or what is before its colon."""
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WebP", ".bmp": "BMP", ".tif": "TIFF", ".zarr": "Zarr"}


@pytest.mark.parametrize("source", SOURCES)
def test_every_item_in_every_format(tmp_path, source):
    pytest.importorskip("zarr")
    table = states(tmp_path, source)
    expected = {}
    for name, target in table:
        kind = EXPECTED.get(name, EXPECTED.get(name.partition(":")[0], {}))
        expected[name, target] = kind.get(FORMATS.get(target, "NPY"), "named")
        if name in STATISTICS:
            expected[name, target] = "refreshed"
        if (name, source, target) == ("resolution", "BMP", ".webp"):
            expected[name, target] = "kept"  # in EXIF, of which there was none
        if (name, source) == ("EXIF: maker's notes", "TIFF"):
            expected[name, target] = "named"
    assert table == expected


def test_strict(tmp_path):
    """What cannot be carried is an error before any work, and the output stays as it was."""
    made.make_jpeg(tmp_path / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"precious")
    with pytest.raises(FileError, match=r"b\.png: strict, and IPTC not carried; Photoshop's resources not"):
        histeq.equalize_file(tmp_path / "a.jpg", tmp_path / "b.png", strict=True, overwrite=True)
    assert (tmp_path / "b.png").read_bytes() == b"precious"
    seen = []
    pair = [tmp_path / "a.jpg"] * 2, [tmp_path / "c.png", tmp_path / "d.png"]
    with pytest.raises(FileError, match="strict"):
        histeq.equalize_file(*pair, strict=True, progress=lambda *numbers: seen.append(numbers))
    assert not seen
    arguments = ["clahe", str(tmp_path / "a.jpg"), str(tmp_path / "c.tif"), "--strict"]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 1
    assert shown.output.startswith(f"histeq: error: {tmp_path / 'c.tif'}: --strict, and ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.png"]
    Image.fromarray(made.pixels()).save(tmp_path / "plain.png")
    assert histeq.equalize_file(tmp_path / "plain.png", tmp_path / "c.jpg", strict=True).notes == ()


def test_profiles_are_for_the_colours_that_are_written(tmp_path):
    Image.fromarray(made.pixels(1)).save(tmp_path / "grey.png", icc_profile=made.GREY)
    Image.fromarray(made.pixels(1)).save(tmp_path / "wrong.png", icc_profile=made.RGB)
    Image.fromarray(made.pixels()).quantize(64).save(tmp_path / "palette.png", icc_profile=made.RGB)
    for name, target, profile in (
        ("grey", ".png", made.GREY), ("grey", ".jpg", made.GREY), ("grey", ".tif", made.GREY),
        ("grey", ".webp", None), ("wrong", ".png", None), ("wrong", ".webp", made.RGB),
        ("palette", ".png", made.RGB), ("palette", ".tif", made.RGB),
    ):  # fmt: skip
        out = tmp_path / f"{name}-out{target}"
        result = histeq.equalize_file(tmp_path / f"{name}.png", out)
        assert info("icc_profile")(out) == profile, (name, target)
        named = "the ICC profile, which is for other colours not carried" in result.notes
        assert named == (profile is None)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_exif_goes_into_tiff_and_out_again(tmp_path, order, big, tile):
    """Every directory is where its tag says, in classic and BigTIFF, in both byte orders."""
    tifffile.imwrite(
        tmp_path / "a.tif", made.pixels(), photometric="rgb", bigtiff=big, byteorder=order, tile=tile,
        compression="zlib" if tile else None, metadata=None,
    )  # fmt: skip
    block = made.exif(thumbnail=False, order=">")
    with _files.opened(tmp_path / "a.tif") as source:
        header = dataclasses.replace(source.header, exif=block)
        window = _files.Window(0, 0, 0, made.HEIGHT, made.WIDTH)
        with _files.created(tmp_path / "b.tif", header, _files.Options()) as sink:
            sink.levels[0].write(window, source.read(window))
            sink.finish()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), made.pixels())
    histeq.equalize_file(tmp_path / "b.tif", tmp_path / "c.tif")
    histeq.equalize_file(tmp_path / "c.tif", tmp_path / "d.jpg")
    unknown = big and order == ">"  # to Pillow
    for name in ("d.jpg",) if unknown else ("b.tif", "c.tif", "d.jpg"):
        _, own, gps, _ = exif_of(tmp_path / name)
        assert own[33434] == 1 / 250
        assert own[37380] == pytest.approx(-1 / 3)
        assert own[36864] == b"0232"
        assert own[36867] == "2020:01:02 03:04:05"
        assert 37500 not in own
        assert gps[2] == (48, 12, 2.5)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        assert file.is_bigtiff == big
        assert file.byteorder == order
        assert file.pages[0].tags[34665].value["ExposureTime"] == (1, 250)
        assert not set(file.pages[0].tags.keys()) & {34664, 34852}


@pytest.mark.parametrize("damage", range(6))
def test_broken_exif(tmp_path, damage):
    """EXIF that leads nowhere is copied as it is, and never makes a directory that leads nowhere."""
    block = bytearray(made.exif())
    (count,) = struct.unpack_from("<H", block, 8)
    entries = {struct.unpack_from("<H", block, 10 + 12 * k)[0]: 10 + 12 * k for k in range(count)}
    if damage == 0:
        struct.pack_into("<I", block, entries[34665] + 8, 1 << 30)
    elif damage == 1:
        struct.pack_into("<I", block, entries[34853] + 8, 8)
    elif damage == 2:
        struct.pack_into("<I", block, 10 + 12 * count, 1 << 29)
    elif damage == 3:
        struct.pack_into("<H", block, 8, 60000)
    elif damage == 4:
        del block[60:]
    else:
        struct.pack_into("<I", block, entries[34665] + 8, 8)
    (tmp_path / "a.jpg").write_bytes(made.jpeg(made.pixels(), exif=b"Exif\0\0" + bytes(block)))
    for name in ("b.jpg", "b.png", "b.webp", "b.tif"):
        histeq.equalize_file(tmp_path / "a.jpg", tmp_path / name)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for code in (34665, 34853):
            assert code not in file.pages[0].tags or file.pages[0].tags[code].value
    result = histeq.equalize_file(tmp_path / "b.tif", tmp_path / "c.jpg")
    assert result.notes == ()


def test_thumbnail_of_few_bytes(tmp_path):
    """A new thumbnail takes no more bytes than the old one had, however busy it is."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    (tmp_path / "a.jpg").write_bytes(made.jpeg(noise, exif=b"Exif\0\0" + made.exif()))
    histeq.equalize_file(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert thumbnail(tmp_path / "b.jpg") is not None
    assert thumbnail(tmp_path / "b.jpg") != thumbnail(tmp_path / "a.jpg")
    assert exif_of(tmp_path / "b.jpg")[1] == exif_of(tmp_path / "a.jpg")[1]


def test_a_thumbnail_that_is_no_jpeg_is_cut_off(tmp_path):
    block = bytearray(made.exif())
    position = block.rindex(struct.pack("<HH", 513, 4))
    block[position : position + 2] = struct.pack("<H", 273)  # as if it were a strip
    (tmp_path / "a.jpg").write_bytes(made.jpeg(made.pixels(), exif=b"Exif\0\0" + bytes(block)))
    result = histeq.equalize_file(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert result.notes == ("the thumbnail in EXIF not carried",)
    first, own, gps, second = exif_of(tmp_path / "b.jpg")
    assert not second
    assert (first[271], own[33434], gps[2]) == ("a camera", 1 / 250, (48, 12, 2.5))


def test_xmp_without_what_is_stale(tmp_path):
    stale = made.XMP.replace(
        b'dc:format="image/x"/>',
        b'dc:format="image/x" hdrgm:Version="1.0" xmpNote:HasExtendedXMP="AB"><xmp:Thumbnails><rdf:Alt>'
        b"<rdf:li>old</rdf:li></rdf:Alt></xmp:Thumbnails><Container:Directory><rdf:Seq/></Container:Directory>"
        b"</rdf:Description>",
    )
    (tmp_path / "a.jpg").write_bytes(made.jpeg(made.pixels(), xmp=stale))
    result = histeq.equalize_file(tmp_path / "a.jpg", tmp_path / "b.tif")
    left = xmp(tmp_path / "b.tif")
    assert b'dc:format="image/x"></rdf:Description>' in left
    assert result.notes == (
        "the thumbnail in XMP not carried",
        "what is appended (a gain map, a film) not carried",
        "the HDR gain map not carried",
        "extended XMP not carried",
    )


def test_nothing_is_printed_of_broken_chunks(tmp_path, capfd):
    """libpng has something to say of profiles and EXIF that it does not like, and prints it."""
    data = io.BytesIO()
    Image.fromarray(made.pixels()).save(data, "PNG", icc_profile=made.RGB[:60])
    data = data.getvalue()
    (tmp_path / "a.png").write_bytes(data[:33] + made.chunk(b"eXIf", b"Exif\0\0" + made.exif()) + data[33:])
    histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.jpg")
    assert exif_of(tmp_path / "b.jpg")[0][271] == "a camera"
    assert capfd.readouterr() == ("", "")


def test_resolution_is_never_invented(tmp_path):
    first = Image.Exif()
    first[271] = "a camera"
    Image.fromarray(made.pixels()).save(tmp_path / "a.jpg", exif=first.tobytes())
    Image.fromarray(made.pixels()).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", made.pixels(), photometric="rgb", metadata=None)
    for name in ("a.jpg", "a.png", "a.tif"):
        for target in ("b.jpg", "b.png", "b.bmp", "b.tif", "b.webp"):
            out = tmp_path / f"{name[2:]}-{target}"
            histeq.equalize_file(tmp_path / name, out)
            with opened(out) as image:
                found = image.info.get("dpi")
                assert found is None or image.format in ("TIFF", "BMP", "JPEG")
                if image.format == "TIFF":  # the tags are required: one dot a unit that is none
                    assert image.tag_v2[296] == 1
                if image.format == "JPEG":
                    assert image.info["jfif_unit"] == 0
    tifffile.imwrite(
        tmp_path / "cm.tif",
        made.pixels(),
        photometric="rgb",
        resolution=(40, 30),
        resolutionunit=3,
        metadata=None,
    )
    histeq.equalize_file(tmp_path / "cm.tif", tmp_path / "cm2.tif")
    assert (tag(282)(tmp_path / "cm2.tif"), tag(296)(tmp_path / "cm2.tif")) == ((40, 1), 3)
    histeq.equalize_file(tmp_path / "cm.tif", tmp_path / "cm.png")
    assert resolution(tmp_path / "cm.png") == (102, 76)


@pytest.mark.parametrize(("quality", "expected"), [(40, (1, 1)), (75, (2, 1)), (92, (2, 2))])
def test_jpeg_in_tiff_keeps_its_quality(tmp_path, quality, expected):
    photograph = np.asarray(Image.open(DATA / "chelsea.png"))[:256, :256]
    tifffile.imwrite(
        tmp_path / "a.tif", photograph, photometric="rgb", tile=(64, 64), compression="jpeg",
        compressionargs={"level": quality}, subsampling=expected, metadata=None,
    )  # fmt: skip
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "low.tif", quality=10)
    found = {}
    for name in ("a", "b", "low"):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            page = file.pages[0]
            assert page.compression == 7
            assert page.tags[530].value == expected
            block = next(iter(page.segments()))
            assert block is not None
            file.filehandle.seek(page.dataoffsets[0])
            data = file.filehandle.read(page.databytecounts[0])
        found[name] = JpegImagePlugin.JpegImageFile(io.BytesIO(data)).quantization[0]
    assert found["a"] == found["b"]
    assert sum(found["low"]) > sum(found["b"])


def test_lossy_webp_stays_lossy(tmp_path):
    Image.open(DATA / "chelsea.png").save(tmp_path / "a.webp", quality=80)
    histeq.equalize_file(tmp_path / "a.webp", tmp_path / "b.webp")
    assert (tmp_path / "b.webp").stat().st_size < 2 * (tmp_path / "a.webp").stat().st_size


def test_sidecars(tmp_path):
    """World files go along, under the name of their kind; what holds old pixels is named, never touched."""
    tifffile.imwrite(tmp_path / "a.tif", made.pixels(1), metadata=None)
    for name in ("a.tfw", "a.wld", "a.prj", "a.tif.ovr", "a.tif.aux.xml"):
        (tmp_path / name).write_text(name)
    result = histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.jpg")
    assert sorted(result.notes) == ["a.tif.aux.xml not carried", "a.tif.ovr not carried"]
    copies = {path.name: path.read_text() for path in tmp_path.glob("b.*") if path.suffix != ".jpg"}
    assert copies == {"b.jgw": "a.tfw", "b.wld": "a.wld", "b.prj": "a.prj"}
    before = {path.name: path.read_text() for path in tmp_path.glob("a.*") if path.suffix != ".tif"}
    result = histeq.equalize_file(tmp_path / "a.tif", tmp_path / "a.tif", overwrite=True)
    assert sorted(result.notes) == [
        "a.tif.aux.xml is of the old pixels: make it anew or remove it",
        "a.tif.ovr is of the old pixels: make it anew or remove it",
    ]
    assert before == {path.name: path.read_text() for path in tmp_path.glob("a.*") if path.suffix != ".tif"}
    (tmp_path / "c.tfw").write_text("another's")
    result = histeq.equalize_file(tmp_path / "a.tif", tmp_path / "c.tif")
    assert "a.tfw not carried: there is a c.tfw already" in result.notes
    assert (tmp_path / "c.tfw").read_text() == "another's"
    assert (tmp_path / "c.prj").read_text() == "a.prj"
    for strict in ("b.png", "a.tif"):
        with pytest.raises(FileError, match=r"strict, and a\.tif\."):
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / strict, strict=True, overwrite=True)
    assert not (tmp_path / "b.pgw").exists()


def test_ome_says_what_the_new_pixels_are(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", made.pixels(1, "uint16"), ome=True, metadata={"axes": "YX"})
    old = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    uuid = re.search(r'OME [^>]*UUID="([^"]*)"', old)[1]
    histeq.equalize_file(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", out_dtype="uint8")
    new = tifffile.tiffcomment(tmp_path / "b.ome.tif")
    assert 'Type="uint8"' in new
    assert 'Type="uint16"' not in new
    assert uuid not in new
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        assert file.is_ome
        assert file.series[0].dtype == np.uint8
        np.testing.assert_array_equal(file.series[0].asarray(), file.pages[0].asarray())


def test_imagej_reads_every_plane(tmp_path):
    stack = np.stack([made.pixels(1, "uint16") + k for k in range(6)]).reshape(3, 2, made.HEIGHT, made.WIDTH)
    labels = [f"plane {k}" for k in range(6)]
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack,
        imagej=True,
        metadata={"axes": "ZCYX", "Labels": labels, "min": 1.0, "max": 9.0},
    )
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", pages="together")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZCYX"
        assert file.imagej_metadata["Labels"] == labels
        assert not {"min", "max", "Ranges"} & set(file.imagej_metadata)
        planes = np.stack([page.asarray() for page in file.pages])
        np.testing.assert_array_equal(file.series[0].asarray().reshape(planes.shape), planes)


def test_metadata_of_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "a.zarr", data=made.pixels(1))
    array.attrs.update({"long_name": "depth", "_FillValue": 7, "units": "m"})
    result = histeq.equalize_file(tmp_path / "a.zarr", tmp_path / "b.tif")
    assert result.notes == ("the attributes long_name, units not carried",)
    assert tag(42113)(tmp_path / "b.tif") == "7"
    result = histeq.equalize_file(tmp_path / "a.zarr", tmp_path / "b.png")
    assert result.notes == ("the nodata value 7 not carried", "the attributes long_name, units not carried")


if __name__ == "__main__":
    for source in sys.argv[1:] or SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            table = states(Path(folder), source)
            targets = [target for target in TARGETS if any(to == target for _, to in table)]
            print(f"\n{source:<32}" + "".join(f"{target:<11}" for target in targets))
            for name in dict.fromkeys(name for name, _ in table):
                print(f"{name:<32}" + "".join(f"{table.get((name, target), ''):<11}" for target in targets))


@pytest.mark.parametrize(("text", "notes"), [(None, ()), ("a title", ("EXIF not carried",))])
def test_the_program_that_wrote_the_input_is_no_loss(tmp_path, text, notes):
    """What tifffile writes of itself into each file would be named in a note otherwise."""
    metadata = None if text else {}
    tifffile.imwrite(tmp_path / "in.tif", np.eye(20, dtype=np.uint8), description=text, metadata=metadata)
    assert histeq.equalize_file(tmp_path / "in.tif", tmp_path / "out.npy").notes == notes
