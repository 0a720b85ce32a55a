"""The picture of before and after."""

import numpy as np
import pytest
from PIL import Image

from histeq._cli import drawing
from histeq._cli.drawing import Panel, displayed, draw, folded

RANDOM = np.random.default_rng(2)


def panel(pixels, counts=None, **options):
    counts = np.ones((1, 256), np.int64) if counts is None else counts
    return Panel("title", pixels, counts, (-0.5, 255.5), **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_has_it(orientation):
    from PIL import ImageOps

    pixels = RANDOM.integers(0, 256, (4, 6, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(displayed(panel(pixels, orientation=orientation)), expected)


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (9, 12)), (2, (9, 12, 4)), (3, (9, 12, 3)), (4, (9, 12, 4))]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_what_is_shown(channels, shape, dtype):
    pixels = (RANDOM.random((9, 12, channels)) * 250).astype(dtype)
    if channels in (2, 4):
        pixels[..., -1] = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1
    shown = displayed(panel(pixels))
    assert shown.shape == shape
    assert shown.dtype == np.uint8
    if channels in (2, 4):
        assert (shown[..., -1] == 255).all()
    if dtype != "uint8":
        colour = shown[..., :3] if shown.ndim == 3 else shown
        assert (colour.min(), colour.max()) == (0, 255)


def test_large_images_are_thinned():
    assert max(displayed(panel(np.zeros((20000, 3000, 1), np.uint8))).shape) <= drawing._DISPLAY


def test_more_bands_than_colours():
    assert displayed(panel(np.zeros((9, 9, 7), np.uint8))).shape == (9, 9, 3)


def test_floats_that_are_none():
    pixels = np.full((3, 3, 1), np.nan, np.float32)
    assert (displayed(panel(pixels)) == displayed(panel(pixels))[0, 0]).all()
    pixels[0, :, 0] = 1, -np.inf, np.inf
    assert displayed(panel(pixels)).shape == (3, 3)


@pytest.mark.parametrize(("bins", "bars"), [(1, 1), (256, 256), (257, 129), (1000, 250), (65536, 256)])
def test_bars(bins, bars):
    counts = RANDOM.integers(0, 9, (3, bins)) + 1
    shares = folded(panel(np.zeros((1, 1, 1), np.uint8), counts))
    assert shares.shape == (3, bars)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("suffix", "shape"),
    [(".png", (5, 200, 3)), (".png", (200, 5, 4)), (".svg", (30, 40, 1)), (".pdf", (1, 1, 1))],
)
def test_drawing(tmp_path, suffix, shape):
    counts = np.zeros((1 if shape[2] == 1 else 3, 256), np.int64)
    counts[:, 3], counts[:, 100:180] = 9999, 7  # one bar that leaves the axis
    one = Panel("a $x^2$ 猫 name\n9 x 9", np.zeros(shape, np.uint8), counts, (-0.5, 255.5))
    none = panel(np.zeros(shape, np.uint8), np.zeros((1, 256), np.int64))
    draw(tmp_path / f"a{suffix}", (one, none))
    if suffix == ".png":
        with Image.open(tmp_path / "a.png") as image:
            assert image.width > 1000
            assert image.convert("L").getextrema()[0] < 60
    else:
        assert (tmp_path / f"a{suffix}").stat().st_size > 5000
