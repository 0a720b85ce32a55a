"""JPEG 2000, JPEG XL, AVIF and GIF: every kind of pixels there and back, and what is refused."""

import io

import imagecodecs
import numpy as np
import pytest
from fuzz_files import picture
from PIL import Image

import histeq
from histeq._files import FileError, read

SUFFIXES = (".jp2", ".j2k", ".jxl", ".avif")


def encoded(pixels, suffix, **options):
    if suffix in (".jp2", ".j2k"):
        return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat=suffix[1:], **options)
    if suffix == ".jxl":
        return imagecodecs.jpegxl_encode(pixels, lossless=True, **options)
    return imagecodecs.avif_encode(pixels, level=100, **options)


def deep(pixels, bits):
    return (pixels.astype(np.uint16) * (((1 << bits) - 1) // 255)).astype(np.uint16)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_there_and_back(tmp_path, suffix, bits, channels):
    if suffix == ".avif" and bits == 16:
        return
    pixels = picture(*((40, 48) if channels == 1 else (40, 48, channels)))
    pixels = pixels if bits == 8 else deep(pixels, bits)
    options = {} if bits in (8, 16) else {"bitspersample": bits}
    source = tmp_path / f"a{suffix}"
    source.write_bytes(encoded(pixels, suffix, **options))
    found = read(source)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.alpha == (channels in (2, 4))
    limits = None if bits in (8, 16) or suffix == ".jxl" else (0, (1 << bits) - 1)
    assert found.value_range == limits
    target = tmp_path / f"b{suffix}"
    histeq.equalize_file(source, target, backend="numpy")
    expected = histeq.equalize(
        pixels, color="luma", alpha=channels in (2, 4), value_range=limits, backend="numpy",
        layout="HWC"[: pixels.ndim], mask=pixels[..., -1] != 0 if channels in (2, 4) else None,
    )  # fmt: skip
    if limits and channels > 2:
        expected = np.minimum(expected, limits[1])
    again = read(target)
    lossy = suffix == ".avif"
    assert abs(again.pixels.astype(int) - expected).max() <= (60 if lossy else 0) << max(0, bits - 8)
    assert again.value_range == limits
    histeq.equalize_file(source, tmp_path / "c.npy", backend="numpy")
    written = np.load(tmp_path / "c.npy")
    np.testing.assert_array_equal(np.minimum(written, limits[1]) if limits else written, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_quality_and_what_stays_lossless(tmp_path, suffix):
    pixels = picture(120, 160, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = histeq.equalize(pixels, color="luma", backend="numpy", layout="HWC")
    sizes = []
    for quality in (None, 90, 40):
        target = tmp_path / f"b{quality}{suffix}"
        histeq.equalize_file(tmp_path / "a.png", target, quality=quality, backend="numpy")
        difference = abs(read(target).pixels.astype(int) - expected).mean()
        assert difference == 0 if quality is None else difference < 30
        sizes.append(target.stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated(tmp_path, suffix, share):
    data = encoded(picture(40, 48, 3), suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    for lenient in (False, True):
        with pytest.raises(FileError):
            histeq.equalize_file(path, tmp_path / "b.npy", lenient=lenient, backend="numpy")
    assert not (tmp_path / "b.npy").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_limit_on_pixels_comes_before_the_pixels(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(picture(40, 48), suffix))
    for name in ("jpeg2k_decode", "jpegxl_decode", "avif_decode"):
        monkeypatch.setattr(imagecodecs, name, None)
    with pytest.raises(FileError, match="1920 pixels are more than --max-pixels 1919 allows"):
        histeq.equalize_file(path, tmp_path / "b.npy", max_pixels=1919)


@pytest.mark.parametrize(
    "size", [(8, 8), (16, 24), (40, 48), (300, 200), (1, 9000), (9000, 3), (120, 160), (1080, 1920)]
)
def test_sizes_of_jpeg_xl(size):
    from histeq._files import coded

    for container in (False, True):
        data = imagecodecs.jpegxl_encode(
            np.zeros(size, np.uint8), lossless=True, usecontainer=container, effort=1
        )
        with pytest.raises(coded.Unfit, match=f"{size[0] * size[1]} pixels"):
            coded.open_jpeg_xl(io.BytesIO(data), size[0] * size[1] - 1, None)


def test_avif_keeps_metadata_in_colour(tmp_path):
    exif = Image.Exif()
    exif[271] = "a camera"
    profile = b"a profile" * 30
    image = Image.fromarray(picture(40, 48, 3))
    image.save(tmp_path / "a.avif", exif=exif.tobytes(), icc_profile=profile)
    result = histeq.equalize_file(tmp_path / "a.avif", tmp_path / "b.avif", backend="numpy")
    with Image.open(tmp_path / "b.avif") as written:
        assert written.info["icc_profile"] == profile
        assert written.getexif()[271] == "a camera"
    assert result.notes == ()
    result = histeq.equalize_file(tmp_path / "a.avif", tmp_path / "b.jxl", backend="numpy")
    assert result.notes == ("the ICC profile not carried", "EXIF not carried")
    result = histeq.equalize_file(tmp_path / "b.jxl", tmp_path / "c.jxl", backend="numpy")
    assert result.notes == ("an ICC profile, if there is one not carried",)


class TestGif:
    def saved(self, path, image, **options):
        image.save(path, "GIF", **options)
        return path

    def test_grey_and_colour(self, tmp_path):
        grey = picture(40, 48)
        self.saved(tmp_path / "a.gif", Image.fromarray(grey))
        histeq.equalize_file(tmp_path / "a.gif", tmp_path / "b.gif", backend="numpy")
        with Image.open(tmp_path / "b.gif") as image:
            np.testing.assert_array_equal(
                np.asarray(image.convert("L")), histeq.equalize(grey, backend="numpy")
            )
        colour = Image.fromarray(picture(40, 48, 3)).quantize(50)
        self.saved(tmp_path / "c.gif", colour)
        histeq.equalize_file(tmp_path / "c.gif", tmp_path / "d.gif", backend="numpy")
        expected = histeq.equalize(
            np.asarray(colour.convert("RGB")), layout="HWC", color="luma", backend="numpy"
        )
        with Image.open(tmp_path / "d.gif") as image:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), expected)

    def test_transparency(self, tmp_path):
        colour = Image.fromarray(picture(40, 48, 3)).quantize(50)
        self.saved(tmp_path / "a.gif", colour, transparency=7)
        histeq.equalize_file(tmp_path / "a.gif", tmp_path / "b.gif", backend="numpy")
        with Image.open(tmp_path / "a.gif") as before, Image.open(tmp_path / "b.gif") as after:
            alpha = [np.asarray(image.convert("RGBA"))[..., 3] for image in (before, after)]
        np.testing.assert_array_equal(*alpha)
        assert 0 < (alpha[0] == 0).sum() < alpha[0].size

    def test_what_is_refused(self, tmp_path):
        frames = [Image.fromarray(picture(40, 48) // n) for n in (1, 2)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        with pytest.raises(FileError, match=r"animated GIF files .*histeq video"):
            histeq.equalize_file(tmp_path / "a.gif", tmp_path / "b.gif")
        Image.fromarray(picture(40, 48, 3)).save(tmp_path / "a.png")
        with pytest.raises(FileError, match="GIF holds 256 colours"):
            histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.gif", backend="numpy")
        self.saved(tmp_path / "c.gif", frames[0])
        (tmp_path / "c.gif").write_bytes((tmp_path / "c.gif").read_bytes()[:-400])
        with pytest.raises(FileError, match="broken GIF file"):
            histeq.equalize_file(tmp_path / "c.gif", tmp_path / "b.gif")
        assert not (tmp_path / "b.gif").exists()


def test_animations_are_refused(tmp_path):
    frames = [Image.fromarray(picture(40, 48, 3) // n) for n in (1, 2)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
    (tmp_path / "a.jxl").write_bytes(
        imagecodecs.jpegxl_encode(np.stack([picture(40, 48, 3)] * 2), lossless=True)
    )
    for name in ("a.avif", "a.jxl"):
        with pytest.raises(FileError, match="animated"):
            histeq.equalize_file(tmp_path / name, tmp_path / "b.npy")


def test_16_bits_are_no_avif(tmp_path):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture(40, 48, dtype="uint16")))
    with pytest.raises(FileError, match="AVIF holds 8- to 12-bit"):
        histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.avif", backend="numpy")
