"""Which channel is alpha, and that it is neither counted nor mapped: in every function, on every backend."""

import numpy as np
import pytest
from images import random_values, same

import histeq

COLOR_CHANNELS = {2: 1, 4: 3}


def noise(*shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    return random_values(rng, int(np.prod(shape)), dtype).reshape(shape)


def local(image, **keywords):
    """Do both halves of CLAHE."""
    counting = {k: v for k, v in keywords.items() if k != "out"}
    tables = histeq.tile_tables(image, tiles=(2, 3), **counting)
    return histeq.apply_tiles(image, tables, **keywords)


def in_steps(image, **keywords):
    """Do the three steps of equalization."""
    counting = {k: v for k, v in keywords.items() if k != "out"}
    counts = histeq.histogram(image, **counting)
    table = histeq.lookup_table(counts, dtype=image.dtype, backend=keywords["backend"])
    return histeq.apply(image, table, **keywords)


FUNCTIONS = {
    "equalize": histeq.equalize,
    "clahe": lambda image, **keywords: histeq.clahe(image, tiles=(2, 3), **keywords),
    "match": lambda image, **keywords: histeq.match(image, image[:9], **keywords),
    "in steps": in_steps,
    "local": local,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("dtype", "channels", "alpha"),  # each with each of another
    [("uint8", 2, None), ("uint8", 4, True), ("uint16", 2, True), ("uint16", 4, None)],
)
def test_luma_takes_the_last_channel_for_alpha(name, dtype, channels, alpha, backend):
    image, colors = noise(24, 31, channels, dtype=dtype), COLOR_CHANNELS[channels]
    for color in ("luma", "luma-bgr"):
        keywords = {"layout": "HWC", "color": color, "backend": backend}
        result = FUNCTIONS[name](image, alpha=alpha, **keywords)
        assert same(result[..., -1], image[..., -1])
        expected = FUNCTIONS[name](np.ascontiguousarray(image[..., :colors]), **keywords)
        assert same(np.ascontiguousarray(result[..., :colors]), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("dtype", "channels"),
    [*(("uint8", count) for count in range(1, 6)), ("uint16", 4), ("int16", 2)],
)
def test_channels_are_all_equalized(name, dtype, channels, backend):
    image = noise(24, 31, channels, dtype=dtype)
    bands = [np.ascontiguousarray(image[..., c]) for c in range(channels)]
    bands = [FUNCTIONS[name](band, layout="HW", color="channels", backend=backend) for band in bands]
    for alpha in (None, False):
        result = FUNCTIONS[name](image, layout="HWC", color="channels", alpha=alpha, backend=backend)
        assert same(result, np.stack(bands, axis=2))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
def test_channels_keep_a_named_alpha(name, channels, layout, backend):
    axis = layout.index("C")
    image = noise(24, 31, channels)
    view = np.ascontiguousarray(np.moveaxis(image, 2, axis))
    keywords = {"layout": layout, "color": "channels", "backend": backend}
    function = FUNCTIONS[name]
    if name == "match":  # the reference: without alpha, the first channel reversed in brightness
        reference = np.ascontiguousarray(np.moveaxis(255 - image[..., :-1], 2, axis))
        function = lambda image, **options: histeq.match(image, reference, **options)  # noqa: E731
    result = np.moveaxis(function(view, alpha=True, **keywords), axis, 2)
    assert same(np.ascontiguousarray(result[..., -1]), np.ascontiguousarray(image[..., -1]))
    bands = function(np.ascontiguousarray(np.moveaxis(image[..., :-1], 2, axis)), **keywords)
    assert same(np.ascontiguousarray(result[..., :-1]), np.ascontiguousarray(np.moveaxis(bands, axis, 2)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_place_and_batch(name, backend):
    batch = np.ascontiguousarray(noise(3, 24, 31, 4))
    keywords = {"layout": "NHWC", "color": "luma", "backend": backend}
    if name == "match":
        function = lambda image, **options: histeq.match(image, batch[:1], **options)  # noqa: E731
    else:
        function = FUNCTIONS[name]
    expected = function(batch.copy(), **keywords)
    in_place = batch.copy()
    assert function(in_place, out=in_place, **keywords) is in_place
    assert same(in_place, expected)
    assert same(in_place[..., 3], batch[..., 3])


def test_counts_leave_alpha_out(backend):
    image = noise(9, 11, 4)
    shapes = {
        ("luma", None): (256,),
        ("luma", True): (256,),
        ("channels", None): (4, 256),
        ("channels", False): (4, 256),
        ("channels", True): (3, 256),
    }
    for (color, alpha), shape in shapes.items():
        counts = histeq.histogram(image, layout="HWC", color=color, alpha=alpha, backend=backend)
        assert counts.shape == shape
        assert (counts.sum(axis=-1) == 99).all()


def test_grey_with_alpha_of_every_dtype(backend):
    for dtype in ("uint8", "uint16", "int16", "float32"):
        image = (noise(20, 30, 2).astype(dtype) - 7 * (dtype == "int16")).astype(dtype)
        result = histeq.equalize(image, layout="HWC", backend=backend)
        assert same(np.ascontiguousarray(result[..., 1]), np.ascontiguousarray(image[..., 1]))
        grey = np.ascontiguousarray(image[..., 0])
        assert same(np.ascontiguousarray(result[..., 0]), histeq.equalize(grey, backend=backend))


def test_a_reference_may_lack_alpha(backend):
    image, reference = noise(20, 30, 4), noise(15, 40, 4, seed=1)
    for color in ("luma", "channels"):
        keywords = {"layout": "HWC", "color": color, "alpha": True, "backend": backend}
        expected = histeq.match(image, reference, **keywords)
        bare = np.ascontiguousarray(reference[..., :3])
        assert same(histeq.match(image, bare, **keywords), expected)


def test_wrong_alpha():
    grey, rgba = noise(4, 5), noise(4, 5, 4)
    with pytest.raises(TypeError, match=r"^alpha must be a bool or None, got str$"):
        histeq.equalize(rgba, layout="HWC", alpha="yes")
    with pytest.raises(TypeError, match=r"^alpha must be a bool or None, got int$"):
        histeq.clahe(grey, alpha=0)
    wanted = "alpha=True takes images with an axis C of at least two channels, alpha the last"
    for image, layout in ((grey, None), (grey, "HW"), (rgba[..., :1], "HWC")):
        with pytest.raises(ValueError, match=f"^{wanted}$"):
            histeq.equalize(image, layout=layout, alpha=True)
    wanted = "color='luma' takes 1 or 3 channels, with or without alpha, got 4; use color='channels'"
    with pytest.raises(ValueError, match=f"^{wanted}$"):
        histeq.equalize(rgba, layout="HWC", alpha=False)
