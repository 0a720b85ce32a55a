"""Every array argument is an argument: subclasses, byte orders, masked arrays, memory shared with `out`."""

import numpy as np
import pytest
from images import same

import histeq

rng = np.random.default_rng(0)
IMAGE = rng.integers(0, 200, (30, 40), np.uint8)
MASK = rng.random(IMAGE.shape) < 0.4
REFERENCE = rng.integers(50, 90, (20, 20), np.uint8)
TABLE = histeq.lookup_table(np.bincount(IMAGE.ravel(), minlength=256), dtype=np.uint8, backend="numpy")


class Subclass(np.ndarray):
    """One that indexes in a way of its own, as np.matrix does."""

    def __getitem__(self, index):
        raise AssertionError("histeq uses a subclass's own indexing")

    def transpose(self, *_):
        raise AssertionError("histeq uses a subclass's own axes")


def as_memmap(array, tmp_path):
    mapped = np.memmap(tmp_path / "mapped", array.dtype, "w+", shape=array.shape)
    mapped[...] = array
    return mapped


KINDS = {
    "matrix": lambda array, _: array.view(np.matrix),
    "recarray": lambda array, _: array.view(np.recarray),
    "memmap": as_memmap,
    "other": lambda array, _: array.view(Subclass),
}

CALLS = {
    "equalize": lambda **k: histeq.equalize(k["image"], mask=k["mask"], out=k["out"], backend=k["backend"]),
    "clahe": lambda **k: histeq.clahe(
        k["image"], tiles=(2, 3), mask=k["mask"], out=k["out"], backend=k["backend"]
    ),
    "match": lambda **k: histeq.match(
        k["image"], k["reference"], mask=k["mask"], out=k["out"], backend=k["backend"]
    ),
    "apply": lambda **k: histeq.apply(k["image"], k["table"], out=k["out"], backend=k["backend"]),
    "apply_tiles": lambda **k: histeq.apply_tiles(
        k["image"],
        histeq.tile_tables(k["image"], mask=k["mask"], backend=k["backend"]),
        out=k["out"],
        backend=k["backend"],
    ),
    "histogram": lambda **k: histeq.histogram(k["image"], mask=k["mask"], backend=k["backend"]),
}


@pytest.mark.parametrize("argument", ["image", "mask", "reference", "out"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", CALLS)
def test_subclasses(function, kind, argument, tmp_path):
    arrays = {"image": IMAGE, "mask": MASK, "reference": REFERENCE, "table": TABLE}
    arrays["out"] = np.zeros_like(IMAGE)
    for backend in ("numpy", "numba"):
        expected = CALLS[function](**{**arrays, "out": None}, backend=backend)
        given = {**arrays, argument: KINDS[kind](arrays[argument], tmp_path)}
        result = CALLS[function](**given, backend=backend)
        if argument == "out" and function != "histogram":
            assert result is given["out"]
            result = result.view(np.ndarray).copy()
            given["out"].view(np.ndarray)[...] = 0
        assert same(result, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_subclasses_of_tables_and_counts(kind, tmp_path, backend):
    tables = np.stack([TABLE, TABLE[::-1]])
    batch = np.stack([IMAGE, IMAGE])
    given = KINDS[kind](tables, tmp_path)
    expected = histeq.apply(batch, tables, layout="NHW", backend="numpy")
    assert same(histeq.apply(batch, given, layout="NHW", backend=backend), expected)
    counts = histeq.histogram(batch, layout="NHW", backend="numpy")
    given = KINDS[kind](counts, tmp_path)
    expected = histeq.lookup_table(counts, dtype="u1", backend="numpy")
    assert same(histeq.lookup_table(given, dtype="u1", backend=backend), expected)


def test_subclass_in_place():
    image = IMAGE.copy().view(np.matrix)
    assert histeq.equalize(image, mask=MASK, out=image) is image
    assert same(np.asarray(image), histeq.equalize(IMAGE, mask=MASK))


@pytest.mark.parametrize("dtype", ["u2", "i2", "f2", "f4", "f8"])
def test_tables_in_other_byte_orders(dtype, backend):
    image = rng.integers(0, 200, (20, 30)).astype(dtype)
    rule, keywords = ("skimage", {"value_range": (0, 256)}) if "f" in dtype else ("opencv", {})
    counts = histeq.histogram(image, **keywords, backend="numpy")
    table = histeq.lookup_table(counts, dtype=dtype, rule=rule, backend="numpy")
    expected = histeq.apply(image, table, **keywords, backend="numpy")
    swapped = table.astype(table.dtype.newbyteorder())
    result = histeq.apply(image, swapped, **keywords, backend=backend)
    assert result.dtype == swapped.dtype  # "of the dtype of `table`"
    assert same(result.astype(expected.dtype), expected)
    counts = counts.astype(counts.dtype.newbyteorder())
    assert same(histeq.lookup_table(counts, dtype=dtype, rule=rule, backend=backend), table)


# Masked arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("argument", ["image", "mask", "reference", "table", "out"])
@pytest.mark.parametrize("function", CALLS)
def test_masked_arrays_are_refused(function, argument, masked):
    arrays = {"image": IMAGE, "mask": MASK, "reference": REFERENCE, "table": TABLE}
    arrays = {**arrays, "out": np.zeros_like(IMAGE), "backend": None}
    uses = {
        "match": {"image", "mask", "reference", "out"},
        "apply": {"image", "table", "out"},
        "histogram": {"image", "mask"},
    }
    if argument not in uses.get(function, {"image", "mask", "out"}):
        return
    given = np.ma.masked_array(arrays[argument], (arrays[argument] > 60) if masked else np.ma.nomask)
    with pytest.raises(
        TypeError, match=f"^{argument} must not be a masked array: pass {argument}."
    ) as raised:
        CALLS[function](**{**arrays, argument: given})
    assert (arrays["out"] == 0).all()
    remedy = str(raised.value).partition("pass ")[2]
    if argument == "reference":
        assert remedy == "reference.data with reference_mask=~numpy.ma.getmaskarray(reference)"
        return
    value, _, mask = remedy.partition(" with mask=")
    names = {argument: given, "numpy": np}
    arrays[argument] = eval(value, names)
    if mask and function != "apply":
        arrays["mask"] = eval(mask, names)
        assert arrays["mask"].shape == IMAGE.shape
    CALLS[function](**arrays)  # the remedy works
    assert arrays["out"].any() or function == "histogram"


def test_masked_counts_are_refused():
    for mask in (np.ma.nomask, np.arange(256) < 9):
        counts = np.ma.masked_array(histeq.histogram(IMAGE), mask)
        with pytest.raises(TypeError, match=r"^counts must not be a masked array: pass counts.filled\(0\)$"):
            histeq.lookup_table(counts, dtype=np.uint8)
        assert histeq.lookup_table(counts.filled(0), dtype=np.uint8).any()


class Masked:
    """As Astropy's: a mask beside the values, which ndarray.data does not give."""


class MaskedNDArray(Masked, np.ndarray):
    unmasked = property(lambda self: self.view(np.ndarray))
    mask = property(lambda self: np.asarray(self.unmasked > 60))

    def filled(self, value):
        return np.where(self.mask, value, self.unmasked)


def check_masked_arrays_of_astropy(masked):
    image, reference = masked(IMAGE, IMAGE > 60), masked(REFERENCE, REFERENCE > 60)
    needs = {
        "image": "image.unmasked with mask=~image.mask",
        "reference": "reference.unmasked with reference_mask=~reference.mask",
        "mask": "mask.filled(False)",
        "out": "out.unmasked",
    }
    calls = {
        "image": lambda: histeq.equalize(image),
        "reference": lambda: histeq.match(IMAGE, reference),
        "mask": lambda: histeq.equalize(IMAGE, mask=masked(MASK, MASK)),
        "out": lambda: histeq.equalize(IMAGE, out=masked(np.zeros_like(IMAGE), IMAGE > 60)),
    }
    for name, need in needs.items():
        with pytest.raises(TypeError) as raised:
            calls[name]()
        assert str(raised.value) == f"{name} must not be a masked array: pass {need}"
    assert same(
        histeq.match(image.unmasked, reference.unmasked, mask=~image.mask, reference_mask=~reference.mask),
        histeq.match(IMAGE, REFERENCE, mask=IMAGE <= 60, reference_mask=REFERENCE <= 60),
    )


def test_masked_arrays_like_those_of_astropy():
    check_masked_arrays_of_astropy(lambda values, mask: values.view(MaskedNDArray))


def test_masked_arrays_of_astropy():
    astropy = pytest.importorskip("astropy.utils.masked")
    check_masked_arrays_of_astropy(astropy.Masked)


# Memory shared with `out` ----------------------------------------------------------------------------


def test_out_that_shares_memory_with_the_mask(backend):
    memory = np.zeros((30, 40), np.uint8)
    mask = memory.view(bool)
    mask[...] = MASK
    before = memory.copy()
    for function in (histeq.equalize, histeq.clahe):
        with pytest.raises(ValueError, match=r"^out must share no memory with mask, got an overlap$"):
            function(IMAGE, mask=mask, out=memory, backend=backend)
    with pytest.raises(ValueError, match=r"^out must share no memory with mask, got an overlap$"):
        histeq.match(IMAGE, REFERENCE, mask=mask, out=memory, backend=backend)
    assert same(memory, before)


def test_image_as_its_own_mask(backend):
    """Numbers become booleans in memory of their own: that changes nothing."""
    image = IMAGE.copy()
    expected = histeq.equalize(IMAGE, mask=IMAGE != 0, backend=backend)
    assert same(histeq.equalize(image, mask=image, out=image, backend=backend), expected)


def test_out_that_shares_memory_with_the_table(backend):
    memory = np.zeros(30 * 40 + 256, np.uint8)
    table, out = memory[:256], memory[200:1400].reshape(30, 40)
    table[...] = TABLE
    before = memory.copy()
    with pytest.raises(ValueError, match=r"^out must share no memory with table, got an overlap$"):
        histeq.apply(IMAGE, table, out=out, backend=backend)
    assert same(memory, before)
    assert same(histeq.apply(IMAGE, table, out=memory[256:].reshape(30, 40), backend=backend),
                histeq.apply(IMAGE, TABLE))  # fmt: skip


def test_out_that_shares_memory_with_tile_tables(backend):
    tables = histeq.tile_tables(IMAGE, tiles=(4, 5), backend=backend)
    tables._canonical.flags.writeable = True
    out = tables._canonical.reshape(-1)[: IMAGE.size].reshape(IMAGE.shape)
    before = out.copy()
    with pytest.raises(ValueError, match=r"^out must share no memory with tables, got an overlap$"):
        histeq.apply_tiles(IMAGE, tables, out=out, backend=backend)
    assert same(out, before)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_out_that_shares_memory_with_the_reference(dtype, backend):
    batch = rng.integers(0, 200, (3, 30, 40)).astype(dtype)
    keywords = {"layout": "NHW", "backend": backend}
    expected = histeq.match(batch, batch, **keywords)
    image = batch.copy()
    assert same(histeq.match(image, image, out=image, **keywords), expected)
    other = batch[::-1].copy()
    for reference, out in ((other, other), (image[:1], image), (image[::-1], image), (other[:1], other)):
        with pytest.raises(ValueError, match=r"^out must share no memory with reference, got an overlap$"):
            histeq.match(image, reference, out=out, **keywords)


def test_out_that_overlaps_itself(backend):
    memory = np.zeros(2000, np.uint8)
    windows = np.lib.stride_tricks.as_strided(memory, (30, 40), (20, 1))
    row = np.lib.stride_tricks.as_strided(memory, (30, 40), (0, 1))
    for out in (windows, row):
        with pytest.raises(ValueError, match=r"^out must have memory of its own for every pixel"):
            histeq.equalize(IMAGE, out=out, backend=backend)
    for out in (memory[1999:799:-1].reshape(30, 40), memory[:1200].reshape(40, 30).T):
        assert same(histeq.equalize(IMAGE, out=out, backend=backend), histeq.equalize(IMAGE))
