"""Files that only GDAL reads, through rasterio."""

import logging
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from click.testing import CliRunner
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from test_valid import HEIGHT, WIDTH, gdal, gdal_read, hole, noise, of_array, smooth

import histeq
from histeq import _files
from histeq._cli import cli
from histeq._files import FileError
from histeq._files.gdal import address

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000)}


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def vrt(path, bands):
    """Write a VRT of bands of other files: their names, numbers, and what is said of them."""
    text = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}">{what}<SimpleSource><SourceFilename '
        f'relativeToVRT="1">{name}</SourceFilename><SourceBand>{of}</SourceBand></SimpleSource></VRTRasterBand>'
        for number, (name, of, what) in enumerate(bands, 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">{text}</VRTDataset>')


@pytest.mark.parametrize("way", ["whole", "blocks"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_another_format(tmp_path, monkeypatch, way, dtype):
    """The result is a GeoTIFF of the same place, with overviews if it had some."""
    if way == "blocks":
        monkeypatch.setattr("histeq._passes.run.SMALL", 0)
    pixels = smooth(dtype=dtype)
    pixels[:20] = 7
    gdal(tmp_path / "a.img", pixels, driver="HFA", nodata=7, **PLACE)
    with rasterio.open(tmp_path / "a.img", "r+") as file:
        file.build_overviews([2], Resampling.average)
    histeq.equalize_file(tmp_path / "a.img", tmp_path / "b.tif")
    found, valid = gdal_read(tmp_path / "b.tif")
    np.testing.assert_array_equal(found[..., 0], of_array(histeq.equalize, pixels, nodata=7))
    np.testing.assert_array_equal(valid, pixels != 7)
    with rasterio.open(tmp_path / "b.tif") as file:
        assert (file.crs, file.transform, file.nodata) == (PLACE["crs"], PLACE["transform"], 7)
        assert file.overviews(1) == [2]
        assert file.res == (10, 10)


def test_colours_alpha_and_palettes(tmp_path):
    def write(name, pixels, kinds):
        gdal(tmp_path / "bands.tif", pixels, photometric="minisblack")
        vrt(tmp_path / name, [("bands.tif", n, f"<ColorInterp>{kind}</ColorInterp>") for n, kind in kinds])

    pixels = noise(HEIGHT, WIDTH, 4)
    pixels[:40, :, 3] = 0
    write("rgba.vrt", pixels, enumerate(["Red", "Green", "Blue", "Alpha"], 1))
    header = _files.read(tmp_path / "rgba.vrt").header
    assert (header.channels, header.alpha) == (4, True)
    histeq.equalize_file(tmp_path / "rgba.vrt", tmp_path / "b.tif")
    found, valid = gdal_read(tmp_path / "b.tif")
    np.testing.assert_array_equal(
        found, of_array(histeq.equalize, pixels, alpha=True, mask=pixels[..., 3] > 0)
    )
    np.testing.assert_array_equal(valid, pixels[..., 3] > 0)
    write("nir.vrt", pixels[..., :3], enumerate(["Undefined", "Red", "Green"], 1))
    assert "three bands" in run("equalize", tmp_path / "nir.vrt", tmp_path / "n.tif", code=1).stderr
    indexes = noise(HEIGHT, WIDTH, high=9)
    colours = {i: (i * 20, 255 - i * 9, 7, 255) for i in range(256) if i < 10}

    def setup(file):
        file.colorinterp = [ColorInterp.palette]
        file.write_colormap(1, colours)

    gdal(tmp_path / "p.img", indexes, driver="HFA", nodata=3, setup=setup)
    histeq.equalize_file(tmp_path / "p.img", tmp_path / "p.tif")
    rgb = np.array([colours[i][:3] for i in range(10)], "uint8")[indexes]
    found, valid = gdal_read(tmp_path / "p.tif")
    np.testing.assert_array_equal(found[..., :3], of_array(histeq.equalize, rgb, mask=indexes != 3))
    np.testing.assert_array_equal(valid, indexes != 3)


@pytest.mark.parametrize("way", ["whole", "blocks"])
def test_bands_with_nodata_of_their_own(tmp_path, monkeypatch, way):
    """What is valid in every band is counted; a mask says in the result which pixels that are."""
    if way == "blocks":
        monkeypatch.setattr("histeq._passes.run.SMALL", 0)
    pixels = noise(HEIGHT, WIDTH, 2, low=3)
    for number in (0, 1):
        pixels[number * 50 : number * 50 + 20, :, number] = number
        gdal(tmp_path / f"{number}.tif", pixels[..., number], nodata=number, **PLACE)
    vrt(tmp_path / "a.vrt", [(f"{n}.tif", 1, f"<NoDataValue>{n}</NoDataValue>") for n in (0, 1)])
    histeq.equalize_file(tmp_path / "a.vrt", tmp_path / "b.tif", color="channels")
    valid = (pixels != [0, 1]).all(axis=-1)
    found, mask = gdal_read(tmp_path / "b.tif")
    np.testing.assert_array_equal(found, of_array(histeq.equalize, pixels, color="channels", mask=valid))
    np.testing.assert_array_equal(mask, valid)


def test_virtual_file_systems(tmp_path):
    pixels, valid = smooth(), hole()
    gdal(tmp_path / "a.tif", pixels, valid, **PLACE)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "a.tif", "in/a.tif")
    expected = of_array(histeq.equalize, pixels, mask=valid)
    for name in (f"/vsizip/{tmp_path}/a.zip/in/a.tif", f"zip://{tmp_path}/a.zip!in/a.tif"):
        run("equalize", name, tmp_path / "b.tif", "--overwrite")
        found, mask = gdal_read(tmp_path / "b.tif")
        np.testing.assert_array_equal(found[..., 0], expected)
        np.testing.assert_array_equal(mask, valid)
    with rasterio.MemoryFile((tmp_path / "a.tif").read_bytes(), filename="m.tif") as file:
        histeq.match_file(tmp_path / "a.tif", file.name, tmp_path / "m.tif")
    assert run("equalize", "/vsizip/none.zip/a.tif", tmp_path / "c.tif", code=1).stderr.count("\n") == 1
    with pytest.raises(FileError, match="GDAL"):
        histeq.equalize_file(tmp_path / "a.tif", "/vsimem/out.tif")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        (Path("s3://bucket/tmp/a.tif"), "s3://bucket/tmp/a.tif"),
        (Path("https://host/a.tif"), "https://host/a.tif"),
        ("/vsis3/bucket/a.tif", "/vsis3/bucket/a.tif"),
        ("/vsimem/a.tif", "/vsimem/a.tif"),
        (Path("/vsizip//tmp/a.zip/a.tif"), "/vsizip//tmp/a.zip/a.tif"),
        (Path("zip:///tmp/a.zip!a.tif"), "zip:///tmp/a.zip!a.tif"),
        ("zip://here.zip!a.tif", "zip://here.zip!a.tif"),
        ("a.tif", None),
        ("/vsi/a.tif", None),
        (Path("c:/a.tif"), None),
        (3, None),
    ],
)
def test_addresses(given, name):
    """Also as paths, which drop slashes."""
    assert address(given) == name


def test_scale_and_offset_no_longer_hold(tmp_path):
    def setup(file):
        file.scales, file.offsets = [0.1], [5]

    gdal(tmp_path / "a.img", smooth(), driver="HFA")
    gdal(tmp_path / "a.tif", smooth(), setup=setup)
    with rasterio.open(tmp_path / "a.tif") as file:
        rasterio.shutil.copy(file, tmp_path / "a.vrt", driver="VRT")
    assert "scale and offset" in run("equalize", tmp_path / "a.vrt", tmp_path / "b.tif").stderr
    with rasterio.open(tmp_path / "b.tif") as file:
        assert (file.scales, file.offsets) == ((1,), (0,))


def test_the_order_of_a_cog_is_named(tmp_path):
    gdal(tmp_path / "a.tif", smooth(), **PLACE)
    with rasterio.open(tmp_path / "a.tif") as file:
        rasterio.shutil.copy(file, tmp_path / "cog.tif", driver="COG")
    assert "cloud-optimized" in run("equalize", tmp_path / "cog.tif", tmp_path / "b.tif").stderr
    assert run("equalize", tmp_path / "b.tif", tmp_path / "c.tif").stderr == ""


def test_memory_does_not_grow_with_the_raster(tmp_path, monkeypatch):
    monkeypatch.setattr("histeq._passes.run.SMALL", 0)
    pixels = np.broadcast_to(np.arange(256, dtype=np.uint8).repeat(8), (6000, 2048))
    gdal(tmp_path / "a.img", pixels, driver="HFA")
    histeq.equalize_file(tmp_path / "a.img", tmp_path / "b.tif", memory="16M")
    tracemalloc.start()
    try:
        histeq.equalize_file(tmp_path / "a.img", tmp_path / "b.tif", memory="16M", overwrite=True)
        assert tracemalloc.get_traced_memory()[1] < pixels.size / 2
    finally:
        tracemalloc.stop()
    assert tifffile.imread(tmp_path / "b.tif").shape == pixels.shape


def test_without_rasterio(tmp_path, monkeypatch):
    gdal(tmp_path / "a.img", smooth(), driver="HFA")
    gdal(tmp_path / "a.tif", smooth(), hole())
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert "histeq[geo]" in run("equalize", tmp_path / "a.img", tmp_path / "b.tif", code=1).stderr
    message = run("equalize", "/vsizip/a.zip/a.tif", tmp_path / "b.tif", code=1).stderr
    assert 'rasterio is missing: pip install "histeq[geo]"' in message
    run("equalize", tmp_path / "a.tif", tmp_path / "b.tif")
    found, mask = _files.read(tmp_path / "b.tif"), hole()
    np.testing.assert_array_equal(found.valid, mask)


def test_what_is_no_raster(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    (tmp_path / "a.db").write_bytes(b"not at all a picture" * 9)
    with pytest.raises(FileError, match="not a picture of a known format"):
        histeq.equalize_file(tmp_path / "a.db", tmp_path / "b.tif")
