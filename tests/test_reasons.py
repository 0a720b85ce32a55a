"""Why a file is not read, and what to do: in words, without Python."""

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from histeq import FileError
from histeq._cli import cli
from histeq._cli.words import in_words
from histeq._files import read

NOISE = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="128" SizeY="128" '
    'SizeC="2" SizeZ="1" SizeT="1"><TiffData FirstC="0" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">'
    'urn:uuid:1</UUID></TiffData><TiffData FirstC="1" IFD="0" PlaneCount="1"><UUID FileName="b.ome.tif">'
    "urn:uuid:2</UUID></TiffData></Pixels></Image></OME>"
)
RAW = {
    "photometric": "cfa",
    "extratags": [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)],
    "metadata": None,
}


def slide(path):
    with tifffile.TiffWriter(path) as file:
        for number, step in enumerate((1, 4, 2)):
            options = {"tile": (64, 64)} if number != 1 else {}
            file.write(
                NOISE[::step, ::step], description="Aperio Image Library", metadata=None, photometric="rgb",
                **options,
            )  # fmt: skip


def negative(path):
    dng = (50706, 1, 4, b"\1\4\0\0", True)
    with tifffile.TiffWriter(path) as file:
        file.write(
            NOISE[:64, :64], photometric="rgb", subfiletype=1, subifds=1, extratags=[dng], metadata=None
        )
        file.write(NOISE[..., 0], **RAW)


def of_nikon(path):
    maker = (271, 2, 6, b"NIKON\0", True)
    with tifffile.TiffWriter(path) as file:
        file.write(
            NOISE[:64, :64], photometric="rgb", subfiletype=1, subifds=1, extratags=[maker], metadata=None
        )
        file.write(NOISE[..., 0], **RAW)


def plane_of_a_set(path):
    tifffile.imwrite(path, NOISE[..., 0], description=OME.encode(), metadata=None)


def in_one_directory(path):
    tifffile.imwrite(path, NOISE.transpose(2, 0, 1), truncate=True, imagej=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (slide, "a whole slide .SVS.*vips tiffsave"),
        (negative, "a raw photograph .DNG.: develop it first"),
        (of_nikon, "a raw photograph .NIKON.: develop it first"),
        (
            plane_of_a_set,
            r"one file of an OME-TIFF set: 1 of its 2 planes.*a\.ome\.tif, b\.ome\.tif.*bfconvert",
        ),
        (in_one_directory, "a TIFF stack of 3 planes in a single directory"),
    ],
)
def test_kinds_of_tiff(tmp_path, make, says):
    path = tmp_path / "a.tif"
    make(path)
    with pytest.raises(FileError, match=says):
        read(path)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "Canon CR2.: develop it first"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"\0\0\0\x18ftypheic", "a HEIF photograph, as of a phone: convert it"),
        (b"\0\0\0\x18ftypisom", "a film .MP4., not a picture: histeq video"),
        (b"%PDF-1.7", "a PDF file: take its pictures out first"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"P5\n2 2\n255\n", "a Netpbm file"),
        (b"SIMPLE  =", "a FITS file: save the image in it as TIFF"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b\x08", "a packed file .gzip.: unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "such as Thumbs.db"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"just text", "not a picture of a known format"),
    ],
)
def test_other_formats(tmp_path, start, says):
    (tmp_path / "a.png").write_bytes(start + b" " * 600)
    with pytest.raises(FileError, match=says):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("use color='channels'", "use --color channels"),
        ("out_dtype must be uint8 for int16 and rule='opencv', got None",
         "--out-dtype must be uint8 for int16 and --rule opencv, got nothing"),
        ("value_range must be finite with low < high, got (9.0, 1.0)",
         "--value-range must be finite with low < high, got 9.0 1.0"),
        ("bins is for floating images", "--bins is for floating images"),
        ("clip_limit must be a number", "--clip must be a number"),
        ("tiles=(8, 8) is too many", "--tiles 8 8 is too many"),
        ("a/mask.tif: mask must have the image's shape", "a/mask.tif: --mask must have the image's shape"),
        ("/home/color=x/tile_size.tif: broken", "/home/color=x/tile_size.tif: broken"),
        ("image must be of dtype uint8, got uint32; .astype(np.uint16) serves values of 0..65535",
         "the picture must be of dtype uint8, got uint32; convert it first"),
        ("one of its pages is empty", "one of its pages is empty"),
    ],
)  # fmt: skip
def test_options_for_arguments(message, expected):
    assert in_words(message) == expected


COMMANDS = (
    ("equalize", "--rule skimage"),
    ("equalize", "--bins 9"),
    ("equalize", "--value-range 9 1"),
    ("equalize", "--out-range 300 99999"),
    ("equalize", "--nodata -300"),
    ("equalize", "--nodata 0.5"),
    ("equalize", "--rule skimage --out-dtype uint8"),
    ("equalize", "--layout XY"),
    ("equalize", "--memory 3"),
    ("equalize", "--memory much"),
    ("equalize", "--compression wavelet"),
    ("equalize", "--compression jpeg"),
    ("equalize", "--backend fortran"),
    ("equalize", "--mask MASK"),
    ("clahe", "--tiles 4000x4000"),
    ("clahe", "--value-range 9 1"),
)
PYTHON = (
    *(
        "color=",
        "rule=",
        "layout=",
        "'NoneType'",
        "None",
        "_range",
        "_dtype",
        "clip_limit",
        "tile_size",
        "tiles=",
    ),
    *("Error", "Exception", "<class", "object has no", "Traceback", "array("),
)


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int64", "complex64", "bool"])
@pytest.mark.parametrize("options", [[], ["--rule", "pillow"], ["--out-dtype", "uint8"], ["--bins", "9"]])
def test_no_python_for_other_dtypes(tmp_path, dtype, options):
    tifffile.imwrite(tmp_path / "a.tif", NOISE[..., 0].astype(dtype))
    np.save(tmp_path / "a.npy", NOISE[..., 0].astype(dtype))
    for source in (tmp_path / "a.tif", tmp_path / "a.npy"):
        result = CliRunner().invoke(cli, ["equalize", str(source), str(tmp_path / "b.npy"), *options])
        shown = result.output.replace(str(tmp_path), "")
        assert not [word for word in (*PYTHON, "astype", "np.", "numpy") if word in shown], shown


@pytest.mark.parametrize(("command", "options"), COMMANDS)
def test_no_python_on_the_command_line(tmp_path, command, options):
    tifffile.imwrite(tmp_path / "a.tif", NOISE.astype(np.uint16), photometric="rgb")
    tifffile.imwrite(tmp_path / "mask.tif", NOISE[:9, :9])
    words = options.replace("MASK", str(tmp_path / "mask.tif")).split()
    result = CliRunner().invoke(cli, [command, str(tmp_path / "a.tif"), str(tmp_path / "b.tif"), *words])
    assert result.exit_code != 0
    assert not (tmp_path / "b.tif").exists()
    shown = result.output.replace(str(tmp_path), "")
    assert not [word for word in PYTHON if word in shown], shown


def test_no_python_of_broken_files(tmp_path):
    """Whatever a byte may be: what libraries raise in their own words is not passed on."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NOISE, compression="deflate", photometric="rgb", metadata=None)
    data = path.read_bytes()
    seen = set()
    for position in range(8, 260):
        for value in (0, 0x7F, 0xFF):
            path.write_bytes(data[:position] + bytes([value]) + data[position + 1 :])
            try:
                read(path, max_pixels=1 << 20)
            except FileError as error:
                seen.add(str(error).replace(str(path), ""))
    assert len(seen) > 5
    assert not [text for text in seen if any(word in text for word in PYTHON)]
