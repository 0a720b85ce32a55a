"""Which pixels of a file are valid: masks, alpha, nodata, as GDAL writes and reads them."""

import contextlib

import numpy as np
import pytest
import rasterio
import tifffile
from click.testing import CliRunner
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags, Resampling

import histeq
from histeq import _files
from histeq._cli import cli
from histeq._files import FileError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RANDOM = np.random.default_rng(16)
HEIGHT, WIDTH = 150, 210


def noise(*shape, low=0, high=255, dtype="uint8"):
    return RANDOM.integers(low, high, shape, dtype, endpoint=True)


def smooth(*shape, low=40, high=180, dtype="uint8"):
    """Return pixels of many levels, between the extremes."""
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) / (HEIGHT + WIDTH)
    grey = low + (high - low) * (0.7 * ramp + 0.3 * RANDOM.random((HEIGHT, WIDTH)))
    return (
        np.stack([grey * (1 - i / 9) for i in range(shape[0])], -1).astype(dtype)
        if shape
        else grey.astype(dtype)
    )


def of_array(function, image, *more, **options):
    """Call a function of arrays (H, W) or (H, W, C)."""
    return function(image, *more, layout="HWC"[: image.ndim], **options)


def hole():
    """Return a mask, (H, W), with a hole that no block or overview is aligned with."""
    valid = np.ones((HEIGHT, WIDTH), bool)
    valid[37:101, 51:143] = False
    valid[-3:, -5:] = False
    return valid


def gdal(path, pixels, mask=None, *, sidecar=False, overviews=(), setup=lambda file: None, **profile):
    """Write a TIFF by GDAL: (H, W) or (H, W, C)."""
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    profile = {"driver": "GTiff", "dtype": str(pixels.dtype), "count": len(bands)} | profile
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar):
        with rasterio.open(path, "w", height=pixels.shape[0], width=pixels.shape[1], **profile) as file:
            setup(file)
            file.write(bands)
            if mask is not None:
                file.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews(overviews, Resampling.average)


def gdal_read(path, level=None):
    """Return the pixels (H, W, C) and what GDAL says is valid."""
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(path, **options) as file:
        return np.moveaxis(file.read(), 0, -1), file.dataset_mask() != 0


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


@pytest.mark.parametrize("sidecar", [False, True], ids=["internal", ".msk"])
@pytest.mark.parametrize(
    "blocks", [TILED | {"compress": "deflate"}, {"blockysize": 7}, {}], ids=["tiles", "strips", "raw"]
)
@pytest.mark.parametrize("way", ["whole", "blocks"])
class TestMask:
    def test_is_not_counted_and_kept(self, tmp_path, monkeypatch, sidecar, blocks, way):
        if way == "blocks":
            monkeypatch.setattr("histeq._passes.run.SMALL", 0)
        pixels, valid = smooth(3), hole()
        pixels[~valid] = 255
        gdal(tmp_path / "a.tif", pixels, valid, sidecar=sidecar, **blocks)
        result = histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
        assert result.notes == ()
        found, mask = gdal_read(tmp_path / "b.tif")
        np.testing.assert_array_equal(found, of_array(histeq.equalize, pixels, mask=valid))
        np.testing.assert_array_equal(mask, valid)
        assert (tmp_path / "b.tif.msk").exists() == sidecar
        with rasterio.open(tmp_path / "b.tif") as file:
            assert file.mask_flag_enums[0] == [MaskFlags.per_dataset]

    def test_of_clahe(self, tmp_path, monkeypatch, sidecar, blocks, way):
        if way == "blocks":
            monkeypatch.setattr("histeq._passes.run.SMALL", 0)
        pixels, valid = smooth(dtype="uint16", high=3000), hole()
        pixels[~valid] = 65535
        gdal(tmp_path / "a.tif", pixels, valid, sidecar=sidecar, **blocks)
        histeq.clahe_file(tmp_path / "a.tif", tmp_path / "b.tif", tiles=(4, 4))
        found, mask = gdal_read(tmp_path / "b.tif")
        np.testing.assert_array_equal(found[..., 0], of_array(histeq.clahe, pixels, mask=valid, tiles=(4, 4)))
        np.testing.assert_array_equal(mask, valid)

    def test_is_not_averaged_into_overviews(self, tmp_path, sidecar, blocks, way):
        pixels, valid = smooth(), hole()
        pixels[~valid] = 255
        gdal(tmp_path / "a.tif", pixels, valid, sidecar=sidecar, overviews=[2, 4], **blocks)
        histeq.equalize_file(
            tmp_path / "a.tif", tmp_path / "b.tif", overviews=None if way == "whole" else True
        )
        full = of_array(histeq.equalize, pixels, mask=valid)
        for level in range(2):
            with tifffile.TiffFile(tmp_path / "b.tif") as file:
                shape = -(-HEIGHT // 2 ** (level + 1)), -(-WIDTH // 2 ** (level + 1))
                pages = [page for page in file.pages if page.shape == shape]
                assert len(pages) == (1 if sidecar else 2)
            found, mask = gdal_read(tmp_path / "b.tif", level)
            by = 2 ** (level + 1)
            padded = np.pad(valid, ((0, -HEIGHT % by), (0, -WIDTH % by)))
            some = padded.reshape(shape[0], by, shape[1], by).any((1, 3))
            if not sidecar:
                np.testing.assert_array_equal(mask, some)
            assert found[some].max() <= full[valid].max()
            # Exactly the means, but for blocks of several levels that are valid in part.
            cut = np.s_[: HEIGHT // by * by, : WIDTH // by * by]
            shape = HEIGHT // by, by, WIDTH // by, by
            of_valid = np.ma.array(full, mask=~valid)[cut].reshape(shape)
            means, every = of_valid.mean((1, 3)), valid[cut].reshape(shape).all((1, 3))
            difference = np.abs(found[: shape[0], : shape[2], 0] - means)
            assert difference[every].max() <= 0.5 + level / 2
            assert level or difference.max() <= 0.5


class TestMasksElsewhere:
    def test_the_reference_of_match_has_its_own(self, tmp_path):
        pixels, reference, valid = smooth(), smooth(low=100, high=120), hole()
        reference[~valid] = 250
        gdal(tmp_path / "a.tif", pixels)
        gdal(tmp_path / "r.tif", reference, valid)
        for way in ("whole", "blocks"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("histeq._passes.run.SMALL", 2**24 if way == "whole" else 0)
                histeq.match_file(tmp_path / "a.tif", tmp_path / "r.tif", tmp_path / "b.tif", overwrite=True)
            expected = of_array(histeq.match, pixels, reference, reference_mask=valid)
            np.testing.assert_array_equal(gdal_read(tmp_path / "b.tif")[0][..., 0], expected)
        assert expected.max() <= 120

    def test_is_named_where_the_format_has_none(self, tmp_path):
        gdal(tmp_path / "a.tif", smooth(), hole())
        result = run("equalize", tmp_path / "a.tif", tmp_path / "b.png")
        assert "b.png: the mask of valid pixels not carried" in result.stderr
        gdal(tmp_path / "n.tif", smooth(), nodata=3)
        assert (
            "the nodata value 3 not carried" in run("equalize", tmp_path / "n.tif", tmp_path / "n.png").stderr
        )

    def test_beside_a_png(self, tmp_path):
        pixels, valid = smooth(), hole()
        Image.fromarray(pixels).save(tmp_path / "a.png")
        tifffile.imwrite(tmp_path / "a.png.msk", valid.view("uint8") * 255)
        histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.png")
        np.testing.assert_array_equal(
            np.array(Image.open(tmp_path / "b.png")), of_array(histeq.equalize, pixels, mask=valid)
        )
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.png.msk") > 0, valid)
        histeq.equalize_file(tmp_path / "a.png", tmp_path / "a.png", overwrite=True)  # whose mask stays
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.png.msk") > 0, valid)

    def test_beside_of_another_size_or_owner(self, tmp_path):
        Image.fromarray(smooth()).save(tmp_path / "a.png")
        tifffile.imwrite(tmp_path / "a.png.msk", noise(9, 9))
        with pytest.raises(
            FileError, match=r"a\.png\.msk: the mask of a picture of 210 x 150 pixels has 9 x 9"
        ):
            histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.png")
        tifffile.imwrite(tmp_path / "a.png.msk", noise(HEIGHT, WIDTH))
        (tmp_path / "b.png.msk").write_bytes(b"another's")
        result = histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.png")
        assert result.notes == ("a.png.msk not carried: there is a b.png.msk already",)
        assert (tmp_path / "b.png.msk").read_bytes() == b"another's"
        (tmp_path / "b.png").unlink()
        (tmp_path / "a.png.msk").write_bytes(b"II*\0 broken")
        with pytest.raises(FileError, match=r"a\.png\.msk: broken"):
            histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.png")

    def test_pages_with_and_without(self, tmp_path):
        pages, valid = [smooth(), smooth(), smooth()], hole()
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for number, page in enumerate(pages):
                page[~valid] = 255
                writer.write(page, photometric="minisblack", metadata=None)
                if number != 1:
                    writer.write(valid, photometric="mask", subfiletype=4, metadata=None)
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
        expected = [of_array(histeq.equalize, p, mask=None if i == 1 else valid) for i, p in enumerate(pages)]
        picture = _files.read(tmp_path / "b.tif")
        np.testing.assert_array_equal(picture.pixels, np.stack(expected))
        np.testing.assert_array_equal(picture.valid, [valid, np.ones_like(valid), valid])

    def test_and_a_mask_of_the_caller(self, tmp_path):
        pixels, valid, mask = smooth(), hole(), noise(HEIGHT, WIDTH) > 99
        gdal(tmp_path / "a.tif", pixels, valid)
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", mask=mask)
        found, kept = gdal_read(tmp_path / "b.tif")
        np.testing.assert_array_equal(found[..., 0], of_array(histeq.equalize, pixels, mask=mask & valid))
        np.testing.assert_array_equal(kept, valid)

    def test_comes_before_nodata(self, tmp_path):
        """A valid pixel that has the tag's value is counted; the tag would be wrong of the new pixels."""
        pixels, valid = smooth(), hole()
        gdal(tmp_path / "a.tif", pixels, valid, nodata=int(pixels[0, 0]))
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
        np.testing.assert_array_equal(
            gdal_read(tmp_path / "b.tif")[0][..., 0], of_array(histeq.equalize, pixels, mask=valid)
        )
        with rasterio.open(tmp_path / "b.tif") as file:
            assert file.nodata is None

    def test_is_what_info_and_plot_count(self, tmp_path):
        pixels, valid = smooth(), hole()
        pixels[~valid] = 255
        gdal(tmp_path / "a.tif", pixels, valid)
        text = run("info", tmp_path / "a.tif").stdout
        assert f"{pixels[valid].min()} to {pixels[valid].max()}," in text
        assert "mask" in text
        run("plot", tmp_path / "a.tif", tmp_path / "a.png")


class TestAlpha:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("channels", [2, 4])
    @pytest.mark.parametrize("way", ["whole", "blocks"])
    def test_transparent_is_not_counted(self, tmp_path, monkeypatch, dtype, channels, way):
        if way == "blocks":
            monkeypatch.setattr("histeq._passes.run.SMALL", 0)
        top = np.iinfo(dtype).max
        pixels = noise(HEIGHT, WIDTH, channels, low=top // 4, high=top // 2, dtype=dtype)
        pixels[..., -1] = top
        pixels[:60] = top
        pixels[:60, :, -1] = 0
        pixels[60:70, :, -1] = 1  # hardly seen, but seen
        photometric = "rgb" if channels == 4 else "minisblack"
        options = {"photometric": photometric, "extrasamples": ["unassalpha"], "tile": (64, 64)}
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options, compression="deflate", metadata=None)
        mask = pixels[..., -1] > 0
        for name, given, counted in (("b", {}, mask), ("c", {"count_transparent": True}, None)):
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / f"{name}.tif", **given)
            histeq.clahe_file(tmp_path / "a.tif", tmp_path / f"{name}2.tif", **given)
            expected = of_array(histeq.equalize, pixels, alpha=True, mask=counted)
            np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}.tif"), expected)
            expected = of_array(histeq.clahe, pixels, alpha=True, mask=counted)
            np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}2.tif"), expected)

    def test_of_the_reference(self, tmp_path):
        pixels, reference = noise(40, 50, 3), noise(40, 50, 4, low=90, high=110)
        reference[..., 3] = 255
        reference[:20] = (255, 255, 255, 0)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        Image.fromarray(reference).save(tmp_path / "r.png")
        histeq.match_file(tmp_path / "a.png", tmp_path / "r.png", tmp_path / "b.png")
        found = np.array(Image.open(tmp_path / "b.png"))
        np.testing.assert_array_equal(found, of_array(histeq.match, pixels, reference[20:, :, :3]))

    def test_is_not_averaged_into_overviews(self, tmp_path):
        pixels = np.full((128, 128, 4), 255, "uint8")
        pixels[..., :3] = noise(128, 128, 3, low=50, high=90)
        pixels[:63, :63] = (255, 255, 255, 0)
        options = {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (32, 32)}
        tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, **options)
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", overviews=True, color="channels")
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            full, half = (file.pages[i].asarray().astype(int) for i in range(2))
        blocks = full.reshape(64, 2, 64, 2, 4).swapaxes(1, 2).reshape(64, 64, 4, 4)
        for y, x in ((31, 31), (31, 40), (40, 31), (50, 50)):
            seen = blocks[y, x][blocks[y, x][:, 3] > 0]
            assert abs(half[y, x, :3] - seen[:, :3].mean(0)).max() <= 0.5

    @pytest.mark.parametrize("mode", ["RGB", "L", "P", "PA", "I;16"])
    def test_png_with_a_transparent_colour(self, tmp_path, mode):
        """Of a key colour, of a palette."""
        grey = smooth()
        grey[:50] = 255
        image = Image.fromarray(grey)
        if mode == "I;16":
            image = Image.fromarray(grey.astype("uint16") * 257)
        elif mode == "RGB":
            image = Image.fromarray(np.stack([grey, grey, grey], -1))
        elif mode[0] == "P":
            image = Image.fromarray(np.stack([grey] * 3, -1)).quantize(200)
        key = {"RGB": (255, 255, 255), "L": 255, "I;16": 65535}.get(mode)
        if mode == "P":
            key = image.getpixel((0, 0))
        if mode == "PA":
            key = bytes(0 if i == image.getpixel((0, 0)) else 255 for i in range(200))
        image.save(tmp_path / "a.png", transparency=key)
        picture = _files.read(tmp_path / "a.png")
        assert picture.alpha
        transparent = picture.pixels[..., -1] == 0
        assert transparent[:50].all()
        assert not transparent[50:].any()
        histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.png")
        np.testing.assert_array_equal(
            _files.read(tmp_path / "b.png").pixels,
            of_array(histeq.equalize, picture.pixels, alpha=True, mask=~transparent),
        )

    def test_webp(self, tmp_path):
        pixels = noise(60, 60, 4, low=90, high=120)
        pixels[..., 3] = 255
        pixels[:30] = (255, 255, 255, 0)
        Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, exact=True)
        histeq.equalize_file(tmp_path / "a.webp", tmp_path / "b.webp")
        found = np.array(Image.open(tmp_path / "b.webp"))
        np.testing.assert_array_equal(found[30:], of_array(histeq.equalize, pixels[30:], alpha=True))

    def test_nothing_is_seen(self, tmp_path):
        pixels = noise(40, 50, 4)
        pixels[..., 3] = 0
        Image.fromarray(pixels).save(tmp_path / "a.png")
        for command in ("equalize", "clahe"):
            run(command, tmp_path / "a.png", tmp_path / "b.png", "--overwrite")
            assert (np.array(Image.open(tmp_path / "b.png"))[..., 3] == 0).all()

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_associated(self, tmp_path, dtype):
        """Colours that are stored multiplied with alpha are equalized as they are seen."""
        top = 1 if dtype == "float32" else np.iinfo(dtype).max
        alpha = np.linspace(0, 1, HEIGHT)[:, None] * np.ones(WIDTH)
        colours = smooth(3) / 255.0
        stored = np.concatenate([colours * alpha[..., None], alpha[..., None]], -1) * top
        stored = stored.astype(dtype) if top == 1 else np.rint(stored).astype(dtype)
        options = {"photometric": "rgb", "extrasamples": ["assocalpha"], "metadata": None}
        tifffile.imwrite(tmp_path / "a.tif", stored, **options)
        color = {"color": "channels"} if top == 1 else {}
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", **color)
        picture = _files.read(tmp_path / "a.tif")
        seen = picture.pixels[alpha > 0.5][:, :3] / top
        assert np.abs(seen - colours[alpha > 0.5]).max() < 0.01
        found = tifffile.imread(tmp_path / "b.tif")
        np.testing.assert_array_equal(found[..., 3], stored[..., 3])
        assert (found[..., :3] <= found[..., 3:]).all()
        mask = picture.pixels[..., 3] > 0
        result = _files.read(tmp_path / "b.tif").pixels
        expected = of_array(histeq.equalize, picture.pixels, alpha=True, mask=mask, **color)
        solid = stored[..., 3] > top * 0.9
        difference = np.abs(result[solid].astype(float) - expected[solid])
        assert difference.max() <= (1e-6 if top == 1 else 1)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert file.pages[0].extrasamples == (1,)

    def test_associated_is_the_same_where_nothing_changes(self):
        from histeq._files.tiff.directory import associate, separate

        every = np.array([(c, a) for a in range(256) for c in range(a + 1)], "uint8")
        pixels = every.copy()
        separate(pixels)
        np.testing.assert_array_equal(associate(pixels), every)


class TestNodata:
    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_of_few_bits(self, tmp_path, bits):
        top = 2**bits - 1
        pixels = noise(HEIGHT, WIDTH, high=top)
        for nodata in (0, top):
            gdal(tmp_path / "a.tif", pixels, nbits=bits, nodata=nodata)
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", overwrite=True)
            found, valid = gdal_read(tmp_path / "b.tif")
            np.testing.assert_array_equal(valid, pixels != nodata)
            full = pixels * np.uint8(255 // top)
            np.testing.assert_array_equal(
                found[..., 0], of_array(histeq.equalize, full, nodata=nodata * (255 // top))
            )

    @pytest.mark.parametrize("white_is_zero", [False, True])
    def test_of_grey_either_way(self, tmp_path, white_is_zero):
        pixels = smooth()
        pixels[:20] = 7
        gdal(
            tmp_path / "a.tif", pixels, nodata=7, photometric="miniswhite" if white_is_zero else "minisblack"
        )
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
        found, valid = gdal_read(tmp_path / "b.tif")
        np.testing.assert_array_equal(valid, pixels != 7)
        shown = 255 - pixels if white_is_zero else pixels
        expected = of_array(histeq.equalize, shown, nodata=248 if white_is_zero else 7)
        np.testing.assert_array_equal(found[..., 0], 255 - expected if white_is_zero else expected)

    def test_of_a_palette(self, tmp_path):
        """An index is no colour: its pixels become transparent, and the tag goes."""
        pixels = noise(HEIGHT, WIDTH, high=15)
        colours = {i: (i * 9 % 256, 255 - i, 90, 255) for i in range(256)}

        def setup(file):
            file.write_colormap(1, colours)

        for nodata in (0, 5):
            gdal(tmp_path / "a.tif", pixels, nodata=nodata, photometric="palette", setup=setup)
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", overwrite=True)
            found, valid = gdal_read(tmp_path / "b.tif")
            np.testing.assert_array_equal(valid, pixels != nodata)
            rgb = np.array([colours[i][:3] for i in range(256)], "uint8")[pixels]
            expected = of_array(histeq.equalize, rgb, mask=pixels != nodata)
            np.testing.assert_array_equal(found[..., :3], expected)
            with rasterio.open(tmp_path / "b.tif") as file:
                assert file.nodata is None
                assert file.colorinterp[3] == ColorInterp.alpha

    def test_that_no_pixel_can_have_changes_nothing(self, tmp_path):
        pixels = smooth()
        for value in (b"-9999\0", b"300\0", b"nan\0", b"1.5\0"):
            tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(42113, 2, len(value), value, True)])
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", overwrite=True)
            np.testing.assert_array_equal(
                tifffile.imread(tmp_path / "b.tif"), of_array(histeq.equalize, pixels)
            )

    def test_of_the_caller_is_what_the_result_says(self, tmp_path):
        pixels = smooth()
        gdal(tmp_path / "a.tif", pixels, nodata=60)
        for given, expected in ((70, 70), (None, None), ("file", 60)):
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", nodata=given, overwrite=True)
            found, valid = gdal_read(tmp_path / "b.tif")
            np.testing.assert_array_equal(found[..., 0], of_array(histeq.equalize, pixels, nodata=expected))
            np.testing.assert_array_equal(valid, pixels != expected)

    def test_that_gdal_keeps_beside(self, tmp_path):
        pixels = noise(HEIGHT, WIDTH, 3, low=3)
        pixels[:20, :, 0], pixels[50:60, :, 1] = 0, 1
        gdal(tmp_path / "a.tif", pixels, photometric="rgb")
        for values, valid in (
            ((0, 0, 0), None),
            ((0, 1, 2), (pixels[..., 0] != 0) & (pixels[..., 1] != 1)),
            ((0, None, None), pixels[..., 0] != 0),
        ):
            bands = "".join(
                f'<PAMRasterBand band="{i}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
                for i, value in enumerate(values, 1)
                if value is not None
            )
            (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", color="channels", overwrite=True)
            found, mask = gdal_read(tmp_path / "b.tif")
            nodata = 0 if valid is None else None
            options = {"color": "channels", "mask": valid, "nodata": nodata}
            np.testing.assert_array_equal(found, of_array(histeq.equalize, pixels, **options))
            if valid is not None:
                np.testing.assert_array_equal(mask, valid)
            with rasterio.open(tmp_path / "b.tif") as file:
                assert file.nodata == nodata
        kinds = "".join(
            f'<PAMRasterBand band="{i}"><ColorInterp>{kind}</ColorInterp></PAMRasterBand>'
            for i, kind in enumerate(("NIR", "Red", "Green"), 1)
        )
        (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{kinds}</PAMDataset>")
        assert "three bands" in run("equalize", tmp_path / "a.tif", tmp_path / "c.tif", code=1).stderr

    def test_of_the_caller_alone_is_no_loss(self, tmp_path):
        Image.fromarray(smooth()).save(tmp_path / "a.png")
        run("equalize", tmp_path / "a.png", tmp_path / "b.png", "--nodata", 50, "--strict")

    @pytest.mark.parametrize("value", [np.nan, -3.4028234663852886e38, -9999.0])
    def test_of_floats(self, tmp_path, value):
        pixels = smooth(dtype="float32")
        pixels[:20] = value
        gdal(tmp_path / "a.tif", pixels, nodata=value, overviews=[2])
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
        found, valid = gdal_read(tmp_path / "b.tif")
        np.testing.assert_array_equal(valid, np.arange(HEIGHT)[:, None] >= 20 + np.zeros(WIDTH))
        np.testing.assert_array_equal(gdal_read(tmp_path / "b.tif", 0)[1][:10], False)
        assert 0 <= found[valid].min() <= found[valid].max() <= 1


class TestBands:
    @pytest.mark.parametrize("command", ["equalize", "clahe"])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    def test_three_that_are_no_colour(self, tmp_path, command, dtype):
        pixels = noise(HEIGHT, WIDTH, 3, dtype=dtype)
        gdal(tmp_path / "a.tif", pixels, photometric="minisblack")
        result = run(command, tmp_path / "a.tif", tmp_path / "b.tif", code=1)
        assert "three bands that are not said to be red, green and blue" in result.stderr
        assert "--color channels" in result.stderr
        assert "--color luma" in result.stderr
        assert not (tmp_path / "b.tif").exists()
        for color in ("luma", "channels"):
            run(command, tmp_path / "a.tif", tmp_path / "b.tif", "--overwrite", "--color", color)
            expected = of_array(getattr(histeq, command), pixels, color=color)
            np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), expected)

    def test_by_gdals_colour_interpretation(self, tmp_path):
        """Which GDAL keeps in a tag of its own where TIFF has no word for it."""

        pixels = noise(HEIGHT, WIDTH, 3, dtype="uint16")
        for names, asked in (("nir red green", True), ("blue green red", True), ("red green blue", False)):

            def setup(file, names=names):
                known = {"nir": ColorInterp.undefined}
                file.colorinterp = [known.get(name) or ColorInterp[name] for name in names.split()]

            gdal(tmp_path / "a.tif", pixels, photometric="minisblack", setup=setup)
            result = run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--overwrite", code=int(asked))
            assert ("three bands" in result.stderr) == asked

    @pytest.mark.parametrize("bands", [2, 4, 5])
    def test_other_numbers(self, tmp_path, bands):
        pixels = noise(HEIGHT, WIDTH, bands)
        gdal(tmp_path / "a.tif", pixels, photometric="minisblack")
        message = run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", code=1).stderr
        assert "bands, none of them alpha: use --color channels" in message
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--color", "channels")
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "b.tif"), of_array(histeq.equalize, pixels, color="channels")
        )

    def test_alpha_that_is_not_the_last_is_refused(self, tmp_path):
        extra = ["unassalpha", "unspecified"]
        tifffile.imwrite(tmp_path / "a.tif", noise(40, 50, 5), photometric="rgb", extrasamples=extra)
        message = run(
            "equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--color", "channels", code=1
        ).stderr
        assert "alpha is not the last band" in message

    @pytest.mark.parametrize("kind", ["separated", "cielab", "icclab", "itulab", "logluv"])
    def test_colours_that_are_refused(self, tmp_path, kind):
        bands = 4 if kind == "separated" else 3
        tifffile.imwrite(tmp_path / "a.tif", noise(40, 50, bands), photometric=kind)
        for options in ((), ("--color", "channels")):
            message = run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", *options, code=1).stderr
            assert message.count("\n") == 1
            assert "pictures are not handled; convert it to grey or RGB" in message

    @pytest.mark.parametrize("bits", [1, 2, 4, 12])
    def test_colours_of_few_bits_fill_the_dtype(self, tmp_path, bits):
        dtype = "uint8" if bits < 8 else "uint16"
        top, full = 2**bits - 1, np.iinfo(dtype).max
        pixels = noise(HEIGHT, WIDTH, 3, high=top, dtype=dtype)
        gdal(tmp_path / "a.tif", pixels, photometric="rgb", nbits=bits)
        expected = (pixels.astype(int) * full + top // 2) // top
        np.testing.assert_array_equal(_files.read(tmp_path / "a.tif").pixels, expected)
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "b.tif"), of_array(histeq.equalize, expected.astype(dtype))
        )

    def test_grey_of_12_bits(self, tmp_path):
        pixels = noise(HEIGHT, WIDTH, high=4095, dtype="uint16")
        gdal(tmp_path / "a.tif", pixels, nbits=12)
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--value-range", 0, 4095)
        np.testing.assert_array_equal(
            tifffile.imread(tmp_path / "b.tif"), of_array(histeq.equalize, pixels, value_range=(0, 4095))
        )

    @pytest.mark.parametrize("mode", ["1", "L", "P"])
    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_png_of_few_bits(self, tmp_path, mode, bits):
        image = Image.fromarray(noise(HEIGHT, WIDTH, high=2**bits - 1))
        if mode == "P":
            image.putpalette([c for i in range(2**bits) for c in (i * 15, 200 - i * 9, 30)])
        if mode == "1":
            image = Image.fromarray(np.array(image) > 0)
        image.save(tmp_path / "a.png", bits=bits)
        shown = np.array(image.convert("RGB" if mode == "P" else "L"))
        written = (tmp_path / "a.png").read_bytes()[24]  # Pillow before 13 writes 8 bits of L
        shown *= 255 // (2**written - 1) if mode == "L" else 1
        found = _files.read(tmp_path / "a.png").pixels
        np.testing.assert_array_equal(found, shown)


def test_nothing_is_left_on_failure(tmp_path):
    """Not even the copy of a mask beside it."""
    gdal(tmp_path / "a.tif", smooth(4), hole(), sidecar=True, photometric="minisblack")
    before = sorted(tmp_path.iterdir())
    with contextlib.suppress(ValueError):
        histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif")
    assert sorted(tmp_path.iterdir()) == before


def test_nodata_as_a_number_of_numpys(tmp_path):
    pixels = RANDOM.integers(3, 9, (30, 40)).astype(np.uint8)
    tags = [(42113, 2, 2, b"7\0", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=tags, metadata=None)
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", nodata=np.uint8(5), backend="numpy")
    assert _files.read(tmp_path / "b.tif").nodata == 5
