"""Every rule against the real library whose arithmetic it reproduces."""

import numpy as np
import oracles
import pytest
from images import INTEGERS, RULES, number_of_images, random_image, random_values, same

import histeq

SAMPLE = 300  # images a rule in every run; `pytest -m exhaustive` compares 20,000


def compare(rule, count, backend, seed=0):
    """Compare `count` random 8-bit images with the library."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        image = random_image(rng)
        assert same(histeq.equalize(image, rule=rule, backend=backend), oracles.EIGHT_BIT[rule](image)), (
            f"image {i} of seed {seed}, {image.shape}"
        )


@pytest.mark.parametrize("rule", oracles.WORKED)
def test_worked_example(rule, backend):
    result = histeq.equalize(oracles.WORKED_IMAGE, rule=rule, backend=backend)
    assert result.tolist() == oracles.WORKED[rule]
    counts = histeq.histogram(oracles.WORKED_IMAGE, backend=backend)
    assert counts[50:55].tolist() == [1, 1, 4, 2, 1]
    assert np.cumsum(counts)[50:55].tolist() == [1, 2, 6, 8, 9]


@pytest.mark.parametrize("rule", oracles.EIGHT_BIT)
def test_rule_equals_its_library(rule, backend):
    compare(rule, number_of_images(backend, SAMPLE), backend)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rule", oracles.EIGHT_BIT)
def test_rule_equals_its_library_on_20000_images(rule, backend):
    compare(rule, 20_000 if backend == "numba" else 2_000, backend, seed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rule", oracles.EIGHT_BIT)
def test_all_65536_pairs_of_values(rule):
    for low in range(256):
        for high in range(256):
            image = np.array([[low, high, high]], np.uint8)
            assert same(histeq.equalize(image, rule=rule), oracles.EIGHT_BIT[rule](image)), (low, high)


@pytest.mark.exhaustive
@pytest.mark.parametrize("rule", ["opencv", "pillow", "vips"])
@pytest.mark.parametrize("content", ["noise", "natural", "two-valued"])
def test_16384_squared(rule, content):
    rng = np.random.default_rng(2)
    image = {
        "noise": lambda: rng.integers(0, 256, (16384, 16384), np.uint8),
        "natural": lambda: (
            (rng.standard_normal((16384, 16384), np.float32) * 20 + 90).clip(0, 255).astype(np.uint8)
        ),
        "two-valued": lambda: rng.integers(0, 2, (16384, 16384), np.uint8) * np.uint8(77),
    }[content]()
    assert same(histeq.equalize(image, rule=rule), oracles.EIGHT_BIT[rule](image))


def test_textbook_recipe(backend):
    rng = np.random.default_rng(3)
    for _ in range(number_of_images(backend, 60)):
        for dtype in (np.uint8, np.uint16):
            image = random_image(rng, dtype, 200)
            assert same(histeq.equalize(image, rule="numpy", backend=backend), oracles.textbook(image))


@pytest.mark.parametrize("dtype", INTEGERS[1:])
def test_skimage_16_bit(dtype, backend):
    rng = np.random.default_rng(4)
    for _ in range(number_of_images(backend, 40)):
        image = random_image(rng, dtype)
        assert same(histeq.equalize(image, rule="skimage", backend=backend), oracles.skimage_rule(image))


def test_vips_16_bit(backend):
    rng = np.random.default_rng(5)
    for _ in range(number_of_images(backend, 100)):
        image = random_image(rng, np.uint16)
        assert same(histeq.equalize(image, rule="vips", backend=backend), oracles.vips(image))


@pytest.mark.parametrize("rule", ["pillow", "skimage"])
def test_mask_equals_the_library(rule, backend):
    rng = np.random.default_rng(6)
    for _ in range(number_of_images(backend, 60)):
        image = random_image(rng)
        mask = rng.random(image.shape) < rng.random()
        mask.flat[rng.integers(mask.size)] = True
        expected = oracles.EIGHT_BIT[rule](image, mask)
        if rule == "skimage":  # the library's bins end at the counted extremes: it clamps there
            assert same(histeq.equalize(image, rule=rule, mask=mask, backend=backend), expected)
        else:
            assert same(histeq.equalize(image, rule=rule, mask=mask, backend=backend), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_backends_agree(rule, dtype):
    rng = np.random.default_rng(7)
    for i in range(60):
        image = random_image(rng, dtype)
        if i == 0:
            image = random_values(rng, 1 << 19, dtype).reshape(512, 1024)  # large enough for every kernel
        low, high = sorted(
            rng.choice(np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max), 2, replace=False).tolist()
        )
        for out_range in (None, (low, high)):
            got, expected = (
                histeq.equalize(image, rule=rule, out_range=out_range, backend=backend)
                for backend in ("numba", "numpy")
            )
            assert same(got, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_composition(rule, dtype, backend):
    rng = np.random.default_rng(8)
    for _ in range(number_of_images(backend, 10)):
        image = random_image(rng, dtype)
        counts = histeq.histogram(image, backend=backend)
        table = histeq.lookup_table(counts, rule=rule, dtype=dtype, backend=backend)
        whole = histeq.equalize(image, rule=rule, backend=backend)
        assert same(histeq.apply(image, table, backend=backend), whole)


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow", "vips"])
def test_out_range_limits(rule, backend):
    rng = np.random.default_rng(9)
    image = rng.integers(0, 256, (300, 300), np.uint8)
    result = histeq.equalize(image, rule=rule, out_range=(16, 235), backend=backend)
    assert result.max() == 235
    assert result.min() <= 17
    whole = histeq.equalize(image, rule=rule, out_range=(0, 255), backend=backend)
    assert same(whole, histeq.equalize(image, rule=rule, backend=backend))
    twelve = histeq.equalize(image.astype(np.uint16) * 16, rule=rule, out_range=(0, 4095), backend=backend)
    assert twelve.max() == 4095


def test_skimage_out_range(backend):
    image = np.array([[1, 2], [3, 4]], np.uint8)
    result = histeq.equalize(image, rule="skimage", out_range=(-1, 1), backend=backend)
    assert result.tolist() == [[-0.5, 0.0], [0.5, 1.0]]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (4, 0), (0, 0)])
def test_empty(rule, dtype, shape, backend):
    result = histeq.equalize(np.zeros(shape, dtype), rule=rule, backend=backend)
    assert result.shape == shape
    assert histeq.histogram(np.zeros(shape, dtype), backend=backend).sum() == 0


@pytest.mark.parametrize("rule", ["opencv", "numpy", "pillow"])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (300, 300)])
def test_one_level_stays(rule, dtype, shape, backend):
    image = np.full(shape, 77, dtype)
    assert same(histeq.equalize(image, rule=rule, backend=backend), image)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_nothing_counted_stays(rule, dtype, backend):
    image = np.array([[3, 1], [2, 9]], dtype)
    result = histeq.equalize(image, rule=rule, mask=np.zeros((2, 2), bool), backend=backend)
    assert np.array_equal(result, image)
