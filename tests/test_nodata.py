"""nodata is a state, not a level: not counted, it passes through, and no other pixel comes out as it.

The oracle is the rule's own result with a mask in place of nodata, of which each pixel is then looked at.
"""

import numpy as np
import oracles
import pytest
from images import DTYPES, FLOATS, RULES, same

import histeq

SHAPE = (14, 11)
VALID = np.ones(SHAPE, bool)
VALID[-2:] = VALID[3, 4] = False


def lookup(image, mask=None, *, fractions=False, **keywords):
    """Map through a table that has nothing to do with the image."""
    fractions = fractions or image.dtype.kind == "f"
    low, high = keywords.get("value_range", (0, 12 if image.dtype.kind == "f" else 256**image.itemsize - 1))
    levels = low + np.arange(high - low + 1) // 3 % 20
    dtype = image.dtype.newbyteorder("=")
    if image.dtype.kind == "f":
        keywords["value_range"] = (0, 100)
        dtype = np.promote_types(dtype, np.float32)
    elif fractions:
        dtype = np.dtype(np.float64)
    return histeq.apply(image, (levels / 19 if fractions else levels).astype(dtype), **keywords)


def matched(image, mask=None, **keywords):
    """Match a darker image, of which a mask says what counts."""
    reference = (image[::-1] / 2).astype(image.dtype)
    return histeq.match(
        image, reference, mask=mask, reference_mask=VALID[::-1], reference_nodata=None, **keywords
    )


def windows(image, mask=None, *, out=None, tiles, out_range, value_range=None, out_dtype=None, **keywords):
    """Equalize locally in two windows."""
    tables = histeq.tile_tables(
        image, mask=mask, tiles=tiles, out_range=out_range, value_range=value_range, out_dtype=out_dtype,
        **keywords,
    )  # fmt: skip
    parts = [
        histeq.apply_tiles(
            image[rows], tables, origin=(rows.start, 0), out=None if out is None else out[rows], **keywords
        )
        for rows in (slice(0, 5), slice(5, None))
    ]
    return np.concatenate(parts) if out is None else out


LOCAL = {"tiles": (1, 2)}
CASES = {
    **{f"equalize {rule}": (histeq.equalize, {"rule": rule}) for rule in RULES},
    **{f"equalize {r} out_range": (histeq.equalize, {"rule": r, "out_range": (20, 90)}) for r in RULES},
    "apply": (lookup, {}),
    "apply fractions": (lookup, {"fractions": True}),
    "match": (matched, {}),
    "clahe": (histeq.clahe, LOCAL),
    "clahe bins": (histeq.clahe, {**LOCAL, "bins": 64}),
    "clahe out_range": (histeq.clahe, {**LOCAL, "out_range": (20, 90)}),
    "apply_tiles out_range": (windows, {**LOCAL, "out_range": (20, 90)}),
    # Of integers only:
    **{f"equalize {r} value_range": (histeq.equalize, {"rule": r, "value_range": (20, 60)}) for r in RULES},
    "apply value_range": (lookup, {"value_range": (20, 60)}),
    "match value_range": (matched, {"value_range": (20, 60)}),
    "clahe value_range": (histeq.clahe, {**LOCAL, "value_range": (20, 60)}),
    "equalize out_dtype": (histeq.equalize, {"out_dtype": np.uint8}),
    "equalize value_range out_dtype": (
        histeq.equalize, {"value_range": (20, 60), "out_range": (20, 90), "out_dtype": np.uint8},
    ),
    "clahe out_dtype": (histeq.clahe, {**LOCAL, "out_dtype": np.uint8}),
    "clahe value_range out_dtype": (
        histeq.clahe, {**LOCAL, "value_range": (20, 60), "out_range": (20, 90), "out_dtype": np.uint8},
    ),
    "apply_tiles value_range out_dtype": (
        windows, {**LOCAL, "value_range": (20, 60), "out_range": (20, 90), "out_dtype": np.uint8},
    ),
}  # fmt: skip


def is_a_call(name, dtype, color):
    """Tell whether a case takes images of this dtype and color."""
    if dtype in FLOATS:
        rule = name.split()[1] if name.startswith("equalize") else "skimage"
        return color != "luma" and rule == "skimage" and "value_range" not in name and "out_dtype" not in name
    if color == "luma" and "out_dtype" in name:
        return dtype == "uint8"
    gives_fractions = "skimage" in name or "fractions" in name
    return color != "luma" or (dtype.startswith("u") and not gives_fractions)


def calls():
    """List every case with every dtype and color it takes; of the colors one is enough by default."""
    for i, name in enumerate(CASES):
        for j, dtype in enumerate(DTYPES):
            colors = [color for color in ("grey", "channels", "luma") if is_a_call(name, dtype, color)]
            for k, color in enumerate(colors):
                more = () if (i + j + k) % len(colors) == 0 else pytest.mark.exhaustive
                yield pytest.param(name, dtype, color, marks=more)


def lowest_of(name, dtype):
    """Return the lowest value that the result may have; None: the dtype's smallest, or 0 for fractions."""
    if "out_range" in name or ("value_range" in name and "skimage" not in name):
        return 20
    return -np.inf if name == "match" and dtype in FLOATS else None


def random_picture(rng, dtype, color):
    """Return an image of a few dozen levels; one for the luma is grey, but for some rows."""
    image = rng.integers(5, 65, (*SHAPE, 3))
    if color == "luma":
        image[:-4] = image[:-4, :, :1]
    return (image[..., 0] if color == "grey" else image).astype(dtype)


def candidates(rng, image, result):
    """List values for nodata: what the rule gives, what the image has, the limits of either, and any."""
    levels, limits = np.unique(result[VALID]), (20, 90)
    values = [levels[0], levels[-1], rng.choice(levels), rng.choice(levels), *limits]
    values += [image[5, 5].flat[0], result[5, 5].flat[0]]
    if image.dtype.kind == "f":
        return [*map(float, values), 0.0, 1.0, -9999.0, np.nan]
    kinds = [image.dtype] if result.dtype.kind == "f" else [image.dtype, result.dtype]
    low, high = max(np.iinfo(kind).min for kind in kinds), min(np.iinfo(kind).max for kind in kinds)
    values = [int(v) for v in (*values, 0, 1, low, high) if float(v).is_integer()]
    return [v for v in values if low <= v <= high]


def with_nodata(image, nodata):
    """Return the image with nodata where pixels are not valid; a floating one with NaN and infinity, too."""
    image = image.copy()
    image[~VALID] = nodata
    if image.dtype.kind == "f":
        image[0, 0], image[0, 1] = np.nan, np.inf
    return image


def oracle(function, image, nodata, color, lowest, keywords):
    """Return what is right, and in how many pixels the rule alone gives nodata."""
    if color == "channels":
        planes = [oracle(function, image[..., c], nodata, "grey", lowest, keywords) for c in range(3)]
        return np.stack([plane for plane, _ in planes], axis=-1), sum(moved for _, moved in planes)
    layout = {"layout": "HWC", "color": "luma"} if color == "luma" else {}
    counted = (image != nodata).any(axis=-1) if color == "luma" else image != nodata
    result = function(image, mask=counted, backend="numpy", **layout, **keywords)
    if color == "grey":
        image, result = image[..., None], result[..., None]
    right = oracles.keep_nodata(image, result, nodata, lowest)
    moved = ((right != result).any(axis=-1) & counted & np.isfinite(image).all(axis=-1)).sum()
    return (right[..., 0] if color == "grey" else right), moved


def call(function, image, in_memory, expected, keywords):
    """Call a function with the image in some kind of memory, or in place."""
    given = image.copy()
    if in_memory == "in place" and expected.dtype == image.dtype:
        return function(given, out=given, **keywords)
    if in_memory == "fortran":
        given = np.asfortranarray(image)
    elif in_memory == "spread":
        given = np.repeat(image, 2, axis=1)[:, ::2]
    elif in_memory == "foreign byte order":
        given = image.astype(image.dtype.newbyteorder())
    result = function(given, **keywords)
    assert np.array_equal(given, image, equal_nan=image.dtype.kind == "f")
    return np.ascontiguousarray(result).astype(expected.dtype)


@pytest.mark.parametrize(("name", "dtype", "color"), list(calls()))
def test_no_other_pixel_comes_out_as_nodata(name, dtype, color, backend):
    function, keywords = CASES[name]
    layout = {} if color == "grey" else {"layout": "HWC", "color": color}
    rng = np.random.default_rng([*name.encode(), *dtype.encode()])
    image = random_picture(rng, dtype, color)
    result = function(image, mask=VALID, backend="numpy", **layout, **keywords)
    all_moved, values = 0, list(enumerate(candidates(rng, image, result)))
    is_slow = backend == "cupy" and dtype in ("uint16", "int16")  # 65,536 levels, on a CPU
    for i, value in values[rng.integers(2) :: 2] if is_slow else values:
        given = with_nodata(image, value)
        nodata = given[-1].flat[0].item()  # as the dtype holds it
        expected, moved = oracle(function, given, nodata, color, lowest_of(name, dtype), keywords)
        kind = ("contiguous", "in place", "fortran", "spread", "foreign byte order")[i % 5]
        options = {**layout, **keywords, "nodata": value, "backend": backend}
        assert same(call(function, given, kind, expected, options), expected), (value, kind)
        all_moved += moved
    # These leave so few pixels as they are, or give so few levels, that perhaps none comes out as nodata.
    assert all_moved or is_slow or name in ("equalize pillow", "clahe bins")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_worked_example(dtype, backend):
    """It gives 0, 159, 32, 223 and 255."""
    image = oracles.WORKED_IMAGE.astype(dtype)
    if dtype in FLOATS:
        result = histeq.equalize(image, nodata=1, backend=backend)
        kind = result.dtype.type
        assert result[2, 2] == np.nextafter(kind(1), kind(0))
        assert same(np.delete(result, 8), np.delete(histeq.equalize(image, backend=backend), 8))
        return
    right = histeq.equalize(image, backend=backend)
    low, high = right.min(), right.max()
    for nodata, beside in ((low, low + 1), (right[1, 0], right[1, 0] - 1), (high, high - 1)):
        result = histeq.equalize(image, nodata=int(nodata), backend=backend)
        assert same(result, np.where(right == nodata, beside, right))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_reference_mask_and_nodata(dtype, backend):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 100, (2, 12, 13, 3)).astype(dtype)
    reference = rng.integers(50, 90, (2, 9, 7, 3)).astype(dtype)
    mask = rng.random((2, 9, 7)) < 0.5
    reference[:, 2:] = np.where(rng.random((2, 7, 7, 3)) < 0.3, 77, reference[:, 2:])
    image[:, :2] = 9
    call = {"layout": "NHWC", "nodata": 9, "backend": backend}
    masked = histeq.match(image, reference, reference_mask=mask, **call)
    shared = histeq.match(image, reference, reference_mask=mask[0].astype(np.uint8), **call)
    other = histeq.match(image, reference, reference_nodata=77, **call)
    same_value = histeq.match(image, np.where(reference == 77, reference.dtype.type(9), reference), **call)
    none = histeq.match(image, reference, reference_nodata=None, **call)
    for n, c in np.ndindex(2, 3):
        plane, model = image[n, ..., c], reference[n, ..., c]
        valid = plane != 9

        def right(values, plane=plane, valid=valid):
            expected = plane.copy()
            expected[valid] = oracles.match(plane[valid], values).astype(dtype)
            return oracles.keep_nodata(plane[..., None], expected[..., None], 9, -np.inf)[..., 0]

        assert np.array_equal(masked[n, ..., c], right(model[mask[n]]))
        assert np.array_equal(shared[n, ..., c], right(model[mask[0]]))
        assert np.array_equal(other[n, ..., c], right(model[model != 77]))
        assert np.array_equal(same_value[n, ..., c], right(model[model != 77]))
        assert np.array_equal(none[n, ..., c], right(model.ravel()))


def test_reference_of_the_luma(backend):
    rng = np.random.default_rng(2)
    image, reference = rng.integers(0, 256, (2, 20, 21, 3), np.uint8)
    mask = rng.random((20, 21)) < 0.5
    reference[~mask] = 3
    expected = histeq.match(
        image, reference[mask][None], layout="HWC", color="luma", backend="numpy", reference_nodata=None
    )
    for keywords in ({"reference_mask": mask}, {"reference_nodata": 3}):
        result = histeq.match(image, reference, layout="HWC", color="luma", backend=backend, **keywords)
        assert same(result, expected)


def test_alpha_may_be_nodata(backend):
    image = np.random.default_rng(3).integers(0, 256, (12, 13, 4), np.uint8)
    image[..., 3] = 255
    for color in ("luma", "channels"):
        call = {"layout": "HWC", "color": color, "alpha": True, "nodata": 255, "backend": backend}
        for function in (histeq.equalize, histeq.clahe):
            result = function(image, **call)
            assert (result[..., 3] == 255).all()
            colors = np.ascontiguousarray(image[..., :3])
            assert same(np.ascontiguousarray(result[..., :3]), function(colors, **{**call, "alpha": None}))


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 256), ("int16", -1), ("int8", -1)])
def test_the_result_must_hold_nodata(dtype, nodata, backend):
    image, out = np.zeros((2, 4, 5), dtype), np.ones((2, 4, 5), np.uint8)
    keywords = {"layout": "CHW", "color": "channels", "alpha": True, "nodata": nodata, "backend": backend}
    tables = histeq.tile_tables(image, out_dtype=np.uint8, **keywords)
    table = np.zeros(256**image.itemsize, np.uint8)
    for call in (
        lambda: histeq.equalize(image, out_dtype=np.uint8, out=out, **keywords),
        lambda: histeq.clahe(image, out_dtype=np.uint8, out=out, **keywords),
        lambda: histeq.apply_tiles(image, tables, out=out, **keywords),
        lambda: histeq.apply(image, table, out=out, **keywords),
    ):
        with pytest.raises(ValueError, match=f"nodata must be a value that uint8 holds, got {nodata}"):
            call()
    assert (out == 1).all()  # alpha is not written, either


def test_arguments_of_the_reference():
    grey, mask = np.zeros((4, 5), np.uint8), np.ones((4, 4), bool)
    for keywords, error, message in (
        ({"reference_mask": mask}, ValueError, "reference_mask must have the reference's shape without its"),
        ({"reference_mask": mask.astype(int)}, TypeError, "reference_mask must be bool or unsigned"),
        ({"reference_mask": [1]}, TypeError, "reference_mask must be an array of the image's kind, got list"),
        ({"reference_nodata": 256}, ValueError, "reference_nodata must be a value that uint8 holds, got 256"),
        (
            {"reference_nodata": "none"},
            TypeError,
            "reference_nodata must be a number, 'same' or None, got 'none'",
        ),
    ):
        with pytest.raises(error, match=message):
            histeq.match(grey, grey, **keywords)
