"""Grey images of 8 bits of which some pixels, values or levels are used: they take short paths on the CPU."""

import itertools

import numpy as np
import pytest
from images import same

import histeq
from histeq._backends.numba import parallel
from histeq._core.dispatch import fast_path

RNG = np.random.default_rng(22)
LARGE = RNG.integers(0, 200, (160, 260), np.uint8)
IMAGES = {
    "whole": LARGE,
    "window": LARGE[3:121, 5:238],
    "rows apart": LARGE[::2, :250],
    "narrow": LARGE[:, 7:8],
    "one pixel": LARGE[4:5, 4:5],
    "mirrored": LARGE[:, ::-1],
    "transposed": LARGE.T,
    "columns apart": LARGE[:, ::3],
    "empty": LARGE[:0],
    "constant": np.full((40, 50), 9, np.uint8),
}
OPTIONS = [
    {},
    {"nodata": 0},
    {"nodata": 199, "out_range": (16, 199)},
    {"value_range": (10, 120)},
    {"out_range": (16, 235)},
    {"value_range": (10, 120), "out_range": (0, 255), "nodata": 40},
]


def masks(shape):
    """Yield masks of every kind; None first."""
    some = RNG.random(shape) < 0.7
    yield None
    yield some
    yield (some * RNG.integers(1, 256, shape)).astype(np.uint8)
    yield np.zeros(shape, np.bool_)
    yield np.ones(shape, np.bool_)
    yield np.asfortranarray(some)
    yield np.repeat(some, 2, axis=1)[:, ::2]
    yield some.astype(np.uint16)
    yield np.broadcast_to(some[:1], shape)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", IMAGES)
def test_equals_the_reference(kind, threads, monkeypatch):
    monkeypatch.setattr(parallel, "WORTH_IT", 256)
    image = IMAGES[kind]
    for mask, options in itertools.product(masks(image.shape), OPTIONS):
        with histeq.threads(threads):
            found = histeq.equalize(image, mask=mask, backend="numba", **options)
        assert same(found, histeq.equalize(image, mask=mask, backend="numpy", **options))


@pytest.mark.parametrize("rule", ["opencv", "pillow", "numpy", "vips"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_on_several_threads_by_each_rule(rule, options, monkeypatch):
    monkeypatch.setattr(parallel, "WORTH_IT", 256)
    mask = RNG.random(LARGE.shape) < 0.5
    for valid in (None, mask):
        with histeq.threads(3):
            found = histeq.equalize(LARGE, rule=rule, mask=valid, backend="numba", **options)
        assert same(found, histeq.equalize(LARGE, rule=rule, mask=valid, backend="numpy", **options))


def test_batches_and_volumes():
    images = RNG.integers(0, 90, (5, 3, 20, 30), np.uint8)
    mask = RNG.random((5, 20, 30)) < 0.5
    for layout, color, valid in (
        ("NCHW", "channels", mask),
        ("NCHW", "channels", mask[0]),
        ("NCHW", "luma", mask),
        ("NDHW", "luma", None),
    ):
        calls = [
            histeq.equalize(images, layout=layout, color=color, mask=valid, nodata=3, backend=backend)
            for backend in ("numba", "numpy")
        ]
        assert same(*calls)


def test_results_go_where_they_are_wanted():
    window, mask = LARGE[3:121, 5:238], RNG.random((118, 233)) < 0.5
    expected = histeq.equalize(window, mask=mask, backend="numpy")
    for out in (np.empty_like(window), np.zeros((118, 300), np.uint8)[:, 20:253]):
        assert histeq.equalize(window, mask=mask, out=out) is out
        assert same(np.ascontiguousarray(out), expected)
    image = window.copy()
    assert histeq.equalize(image, mask=mask, out=image) is image
    assert same(image, expected)
    inside = LARGE.copy()[3:121, 5:238]
    assert histeq.equalize(inside, mask=mask, out=inside) is inside
    assert same(np.ascontiguousarray(inside), expected)
    with pytest.raises(ValueError, match="out must share no memory with mask"):
        histeq.equalize(window, mask=(shared := mask.copy()), out=shared.view(np.uint8))


def test_masks_may_be_the_image_itself():
    assert same(histeq.equalize(LARGE, mask=LARGE), histeq.equalize(LARGE, mask=LARGE, backend="numpy"))
    image = LARGE.copy()
    histeq.equalize(image, mask=image, out=image)
    assert same(image, histeq.equalize(LARGE, mask=LARGE, backend="numpy"))


def test_the_short_path_is_taken():
    fast, image = fast_path("numba"), LARGE[:20, :30]
    arguments = (image, "opencv", None, "luma", None, None)
    mask = np.ones(image.shape, np.bool_)
    assert fast.equalize(*arguments) is not None
    for options in ({"mask": mask}, {"nodata": 3}, {"value_range": (3, 9)}, {"out_range": (3, 9)}):
        assert fast.equalize_part(*arguments, **options) is not None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mask": np.ones((3, 4), np.bool_)}, ValueError),
        ({"mask": np.ones(LARGE.shape, np.int8)}, TypeError),
        ({"mask": np.ma.masked_array(np.ones(LARGE.shape, np.bool_))}, TypeError),
        ({"nodata": 256}, ValueError),
        ({"nodata": True}, TypeError),
        ({"nodata": -1}, ValueError),
        ({"value_range": (9, 3)}, ValueError),
        ({"value_range": (0, 256)}, ValueError),
        ({"out_range": (3,)}, TypeError),
        ({"out_range": (2.5, 9)}, ValueError),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, error):
    (name,) = options
    with pytest.raises(error, match=name):
        histeq.equalize(LARGE, **options)


def test_arguments_in_other_words():
    image = IMAGES["window"]
    assert same(histeq.equalize(image, nodata=np.uint8(3)), histeq.equalize(image, nodata=3.0))
    assert same(histeq.equalize(image, value_range=[3, 90]), histeq.equalize(image, value_range=(3, 90)))
    assert same(histeq.equalize(image, layout="HW", alpha=False), histeq.equalize(image))
