"""Dask arrays: the pixels of the whole image, computed when asked for, a few chunks at a time."""

import pickle
import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
from dask_sources import Live, live_bytes, read_from, sources
from images import DTYPES

import histeq

RANDOM = np.random.default_rng(7)
SHAPE = (40, 50)
MASK = RANDOM.random(SHAPE) > 0.4
CHUNKS = [(13, 17), (40, 7), (40, 50)]


@pytest.fixture(autouse=True)
def _one_task_at_a_time():
    with dask.config.set(scheduler="sync"):
        yield


def image(dtype="uint8", shape=SHAPE):
    """Return an image of all kinds of values, in a part of the range of its dtype."""
    dtype = np.dtype(dtype)
    values = RANDOM.normal(size=shape)
    if dtype.kind == "f":
        values[values > 2.2] = np.nan
        values[values < -2.4] = -np.inf
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    middle, span = (int(limits.max) + int(limits.min)) / 2, int(limits.max) - int(limits.min)
    return np.clip(middle + values * span / 8, limits.min, limits.max).astype(dtype)


def check(function, array, *others, chunks=(13, 17), **options):
    """Check that a Dask array in chunks gives what the array gives; return the Dask array of the result."""
    given = da.from_array(array, chunks=chunks)
    result = getattr(histeq, function)(given, *others, **options)
    eager = [each.compute() if isinstance(each, da.Array) else each for each in others]
    options = {k: v.compute() if isinstance(v, da.Array) else v for k, v in options.items()}
    expected = getattr(histeq, function)(array, *eager, **options)
    found = result.compute()
    assert (result.dtype, result.shape, type(result._meta)) == (expected.dtype, expected.shape, np.ndarray)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    return result


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_are_those_of_the_whole_image(dtype, chunks):
    array = image(dtype)
    check("equalize", array, chunks=chunks)
    check("histogram", array, chunks=chunks, mask=MASK)
    if np.dtype(dtype).kind != "f":
        check("match", array, array[::2] // 2, chunks=chunks)


@pytest.mark.parametrize("rule", ["pillow", "numpy", "skimage", "vips"])
def test_rules(rule):
    check("equalize", image(), rule=rule)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {"mask": MASK, "nodata": 127}),
        ("uint8", {"mask": da.from_array(MASK.astype(np.uint16) * 7, chunks=(9, 50))}),
        ("uint8", {"mask": np.zeros(SHAPE, bool)}),
        ("uint8", {"value_range": (100, 150), "out_range": (16, 235)}),
        ("int16", {"value_range": (-1000, 4000), "nodata": 100, "out_dtype": "uint8", "out_range": (1, 200)}),
        (">u2", {"rule": "skimage", "out_range": (-1, 1)}),
        (">u2", {"nodata": 30000}),
        ("float32", {"bins": 33, "mask": MASK}),
        ("float32", {"value_range": (np.float64(-1), 1.0), "nodata": 0.5, "out_range": (0, 10)}),
        ("float16", {"mask": np.zeros(SHAPE, bool)}),
        (">f8", {"bins": 1000, "out_range": (5, 6)}),
        ("uint8", {"backend": "numpy"}),
        ("float32", {"backend": "numpy"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_options(dtype, options):
    array = image(dtype)
    check("equalize", array, **options)
    counted = ("mask", "nodata", "bins", "value_range", "backend")
    check("histogram", array, **{name: value for name, value in options.items() if name in counted})


COLORS = [
    ("HWC", (40, 50, 3), (13, 17, 2), {}),
    ("HWC", (40, 50, 3), (13, 17, 1), {"color": "luma-bgr", "mask": MASK}),
    ("HWC", (40, 50, 4), (13, 17, 1), {}),
    ("HWC", (40, 50, 4), (13, 17, 3), {"color": "channels"}),
    ("CHW", (4, 40, 50), (1, 13, 17), {"color": "channels", "alpha": True, "nodata": 127}),
    ("HWC", (40, 50, 2), (13, 17, 1), {"nodata": 3}),
    ("NHW", (5, 40, 50), (2, 13, 17), {"mask": MASK}),
    ("THW", (5, 40, 50), (1, 40, 50), {"mask": np.stack([MASK, ~MASK, MASK, ~MASK, MASK])}),
    ("NCHW", (3, 3, 40, 50), (2, 2, 13, 17), {"color": "channels", "mask": MASK}),
    ("HWNC", (40, 50, 3, 4), (13, 17, 2, 3), {"nodata": 2}),
    ("DHW", (6, 40, 50), (4, 13, 17), {"mask": np.stack([MASK] * 6)}),
    ("W", (50,), (7,), {}),
]
LAYOUTS = ["-".join([layout, *map(str, chunks), *options]) for layout, _, chunks, options in COLORS]


@pytest.mark.parametrize(("layout", "shape", "chunks", "options"), COLORS, ids=LAYOUTS)
def test_layouts(layout, shape, chunks, options):
    array = image("uint8", shape)
    check("equalize", array, chunks=chunks, layout=layout, **options)
    check("histogram", array, chunks=chunks, layout=layout, **options)
    if options.get("color") == "channels" or "C" not in layout:
        floats = image("float32", shape)
        check("equalize", floats, chunks=chunks, layout=layout, bins=64, **options)
        check("histogram", floats, chunks=chunks, layout=layout, **options)


@pytest.mark.parametrize(("layout", "shape", "chunks", "options"), COLORS, ids=LAYOUTS)
def test_match(layout, shape, chunks, options):
    array = image("uint8", shape)
    reference = image("uint8", shape)[::-1] // 2
    check("match", array, reference, chunks=chunks, layout=layout, **options)
    lazy = da.from_array(reference, chunks=tuple(-(-size // 2) for size in shape))
    mask = options.get("mask")
    options = {"color": "luma"} | options
    check("match", array, lazy, chunks=chunks, layout=layout, reference_mask=mask, **options)
    if "N" in layout:
        one = np.take(reference, [1], layout.index("N"))
        check("match", array, one, chunks=chunks, layout=layout, **options)


def test_match_of_a_reference_without_alpha():
    array, reference = image("uint8", (40, 50, 4)), image("uint8", (20, 30, 3))
    check("match", array, reference, chunks=(13, 17, 1), layout="HWC", color="luma")
    check("match", array, reference, chunks=(13, 17, 1), layout="HWC", alpha=True, value_range=(50, 200))


def test_floats_are_matched_where_a_chunk_has_all_pixels():
    array, reference = image("float32", (4, 10, 11)), image("float32", (4, 9, 8))
    for model in (reference, reference[:1], da.from_array(reference, chunks=(3, 9, 8))):
        check("match", array, model, chunks=(2, 10, 11), layout="NHW", nodata=float(array[0, 0, 0]))
    mask = reference[0] > 0
    check("match", array, reference[:1], chunks=(2, 10, 11), layout="NHW", reference_mask=mask)
    with pytest.raises(
        ValueError,
        match=r"image must have one chunk along HW: float32 is matched value by value; got chunks of "
        r"\(2, 5, 11\); image.rechunk\(\{1: -1, 2: -1\}\) makes it so",
    ):
        histeq.match(da.from_array(array, chunks=(2, 5, 11)), reference, layout="NHW")
    lazy = da.from_array(reference, chunks=(4, 9, 4))
    with pytest.raises(ValueError, match="reference must have one chunk along HW"):
        histeq.match(da.from_array(array, chunks=(2, 10, 11)), lazy, layout="NHW")


def test_steps_by_themselves():
    array = image("uint8", (3, 40, 50))
    x = da.from_array(array, chunks=(2, 13, 17))
    counts = histeq.histogram(x, layout="NHW")
    assert counts.chunks == ((2, 1), (256,))
    tables = histeq.lookup_table(counts, rule="numpy", dtype="uint8")
    np.testing.assert_array_equal(
        tables, histeq.lookup_table(histeq.histogram(array, layout="NHW"), rule="numpy", dtype="uint8")
    )
    expected = histeq.equalize(array, rule="numpy", layout="NHW")
    for table in (tables, tables.rechunk((1, 100)), tables + np.uint8(0), tables.compute()):
        np.testing.assert_array_equal(histeq.apply(x, table, layout="NHW"), expected)
    one = histeq.lookup_table(counts.sum(axis=0), dtype="uint8")
    check("apply", array, one, chunks=(2, 13, 17), layout="NHW", nodata=3)
    check("apply", array, one.compute(), chunks=(2, 13, 17), layout="NHW")
    colors = image("uint8", (40, 50, 4))
    table = RANDOM.integers(0, 256, (4, 256), np.uint8)
    check("apply", colors, table, chunks=(13, 17, 3), layout="HWC", color="channels")
    check("apply", image("float32"), np.linspace(0, 1, 9, dtype=np.float32), value_range=(-1, 2))


def test_table_of_lazy_counts_is_checked():
    counts = da.from_array(np.full(256, -1), chunks=100)
    table = histeq.lookup_table(counts, dtype="uint8", value_range=None)
    with pytest.raises(ValueError, match=r"chunk \(0,\) of a Dask array: counts must not be negative"):
        table.compute()
    with pytest.raises(ValueError, match=r"counts must have 256 entries on the last axis for uint8"):
        histeq.lookup_table(counts[:200], dtype="uint8")
    with pytest.raises(TypeError, match="counts must be integers, got float64"):
        histeq.lookup_table(counts / 2, dtype="uint8")


# How much is read, and held.

LARGE = RANDOM.integers(0, 200, (12 * 16, 12 * 16), np.uint8)


@pytest.mark.parametrize("kind", ["sliced", "delayed"])
def test_few_chunks_are_held(kind):
    live = Live()
    x = sources(LARGE, live, 16)[kind]
    made, most = live_bytes(histeq.equalize(x), live)
    assert most <= 0.02 * LARGE.nbytes
    assert made == 2 * live_bytes(x, live)[0]
    made, most = live_bytes(histeq.apply(x, histeq.lookup_table(histeq.histogram(x), dtype="uint8")), live)
    assert most <= 0.02 * LARGE.nbytes


@pytest.mark.parametrize(("passes", "options"), [(3, {}), (2, {"value_range": (0, 1)}), (3, {"mask": True})])
def test_few_chunks_of_floats_are_held(passes, options):
    live = Live()
    pixels = LARGE.astype(np.float32) / 200
    x = read_from(pixels, live, 16)
    options = {**options, "mask": read_from(LARGE > 20, Live(), (32, 16))} if "mask" in options else options
    made, most = live_bytes(histeq.equalize(x, **options), live)
    assert made == passes * pixels.nbytes
    assert most <= 0.02 * pixels.nbytes


def test_few_chunks_of_a_batch_with_one_mask_are_held():
    live = Live()
    pixels = np.stack([LARGE[:64, :64].astype(np.float32) + n for n in range(16)])
    x, mask = read_from(pixels, live, (1, 16, 16)), read_from(LARGE[:64, :64] > 20, Live(), (16, 16))
    made, most = live_bytes(histeq.equalize(x, layout="NHW", mask=mask), live)
    assert made == 3 * pixels.nbytes
    assert most <= 0.02 * pixels.nbytes


def test_whole_images_are_read_once():
    live = Live()
    pixels = LARGE.reshape(-1, 16, 16)
    made, most = live_bytes(histeq.equalize(read_from(pixels, live, (2, 16, 16)), layout="NHW"), live)
    assert (made, most) == (pixels.nbytes, pixels.nbytes * 2 // len(pixels))


def test_what_is_persisted_is_not_read():
    live = Live()
    x = sources(LARGE, live, 16)["sliced"].persist()
    made, _ = live_bytes(histeq.equalize(x + np.uint8(0)), live)
    assert made == 0
    result = histeq.equalize(sources(LARGE, live, 16)["store"]).persist()
    made, _ = live_bytes(result[3:] + np.uint8(1), live)
    assert made == 0


def test_a_crop_maps_what_it_needs():
    live = Live()
    x = read_from(LARGE, live, 16)
    made, _ = live_bytes(histeq.equalize(x)[5:20, :16], live)
    assert made == LARGE.nbytes + 2 * 16 * 16
    pixels = LARGE.reshape(12, 16, -1)
    batch = histeq.equalize(read_from(pixels, live, (1, 16, 48)), layout="NHW")
    made, _ = live_bytes(batch[3], live)
    assert made == 2 * pixels[3].nbytes  # no other image is counted


def test_results_that_are_computed_together_share_their_counts():
    live = Live()
    x = read_from(LARGE, live, 16)
    results = [histeq.equalize(x), histeq.equalize(x, rule="vips"), histeq.histogram(x)]
    assert histeq.equalize(x).name == results[0].name
    live.made = 0
    first, second, counts = dask.compute(*results)
    assert live.made == 3 * LARGE.nbytes
    np.testing.assert_array_equal(first, histeq.equalize(LARGE))
    np.testing.assert_array_equal(second, histeq.equalize(LARGE, rule="vips"))
    np.testing.assert_array_equal(counts, histeq.histogram(LARGE))


def test_steps_that_follow_each_other():
    live = Live()
    x = read_from(LARGE, live, 16)
    twice = histeq.equalize(histeq.match(x, LARGE // 2), rule="numpy")
    made, most = live_bytes(twice, live)
    assert made == 3 * LARGE.nbytes  # counted; matched and counted; matched and equalized
    assert most <= 0.02 * LARGE.nbytes
    expected = histeq.equalize(histeq.match(LARGE, LARGE // 2), rule="numpy")
    np.testing.assert_array_equal(twice, expected)


def test_graphs_are_small():
    x = da.map_blocks(np.zeros, chunks=((64,) * 20,) * 2, dtype=np.uint16, meta=np.empty((0, 0), np.uint16))
    table = np.arange(65536, dtype=np.uint16)
    for result in (histeq.equalize(x), histeq.equalize(x.astype(np.float32)), histeq.apply(x, table)):
        (best,) = dask.optimize(result)
        assert len(dict(best.__dask_graph__())) <= 5 * x.npartitions
        assert len(pickle.dumps(result)) < 1000 * x.npartitions


def test_result_survives_pickling():
    result = histeq.equalize(da.from_array(image("float32"), chunks=13))
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again, result)
    assert again.name == result.name


def test_nothing_is_computed_by_a_call():
    def fail(block_info=None):
        raise AssertionError("computed")

    x = da.map_blocks(fail, chunks=((8, 8), (8,)), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    mask = x > 0
    table = histeq.lookup_table(histeq.histogram(x), dtype="uint8")
    for result in (
        histeq.equalize(x, mask=mask), histeq.histogram(x), histeq.apply(x, table), histeq.match(x, x),
        histeq.equalize(x.astype(np.float32)),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="computed"):
            result.compute()


# Other chunks, other schedulers.


def on_device(array, chunks, cupy):
    """Return a Dask array with chunks of CuPy."""
    meta = cupy.empty((0,) * array.ndim, array.dtype)
    return da.map_blocks(cupy.asarray, da.from_array(array, chunks=chunks), dtype=array.dtype, meta=meta)


def brought_back(x, cupy):
    """Compute a Dask array with chunks of CuPy."""
    assert (type(x._meta), x._meta.dtype) == (cupy.ndarray, x.dtype)
    result = np.empty(x.shape, x.dtype)
    for at, chunk in zip(np.ndindex(x.numblocks), dask.compute(*x.to_delayed().ravel()), strict=True):
        assert type(chunk) is cupy.ndarray
        x_of = [slice(sum(sizes[:i]), sum(sizes[: i + 1])) for sizes, i in zip(x.chunks, at, strict=True)]
        result[tuple(x_of)] = cupy.asnumpy(chunk)
    return result


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_chunks_of_cupy(dtype, gpu):
    array = image(dtype, (20, 30))
    chunks, mask = ((0, 13, 7), (30,)), MASK[:20, :30]
    x, x_mask = on_device(array, chunks, gpu), on_device(mask, (20, 30), gpu)
    for options in ({}, {"mask": True, "nodata": float(array[0, 0])}):
        of_x = {**options, "mask": x_mask} if options else {}
        options = {**options, "mask": mask} if options else {}
        result = brought_back(histeq.equalize(x, **of_x), gpu)
        np.testing.assert_array_equal(result, histeq.equalize(array, **options))
        counts = brought_back(histeq.histogram(x, **of_x), gpu)
        np.testing.assert_array_equal(counts, histeq.histogram(array, **options))
    streamed = histeq.equalize(da.from_array(array, chunks=chunks), backend="cupy")
    np.testing.assert_array_equal(streamed, histeq.equalize(array))


def test_steps_with_chunks_of_cupy(gpu):
    array = image("uint8", (20, 30))
    x, half = on_device(array, (13, 30), gpu), gpu.asarray(array // 2)
    for reference in (half, on_device(array // 2, (7, 30), gpu)):
        np.testing.assert_array_equal(
            brought_back(histeq.match(x, reference), gpu), histeq.match(array, array // 2)
        )
    table = histeq.lookup_table(histeq.histogram(x), dtype="uint8")
    np.testing.assert_array_equal(brought_back(histeq.apply(x, table), gpu), histeq.equalize(array))
    with pytest.raises(TypeError, match="mask must be an array of the image's kind, got ndarray"):
        histeq.equalize(x, mask=array > 3)
    with pytest.raises(TypeError, match="image must be in host memory for backend='numba', got a CuPy"):
        histeq.equalize(x, backend="numba")


def check_on_a_cluster(client):
    """Check what differs where chunks are futures."""
    array = image("uint16", (96, 96))
    x = da.from_array(array, chunks=32)
    np.testing.assert_array_equal(client.compute(histeq.equalize(x[1:])).result(), histeq.equalize(array[1:]))
    kept = client.persist(x)
    for of, expected in ((kept, array), (kept[:, 1:] + np.uint16(1), array[:, 1:] + np.uint16(1))):
        result = client.compute(histeq.equalize(of)).result()
        np.testing.assert_array_equal(result, histeq.equalize(expected))
    once = client.persist(histeq.equalize(x))
    twice = client.compute(histeq.equalize(once, rule="numpy")).result()
    np.testing.assert_array_equal(twice, histeq.equalize(histeq.equalize(array), rule="numpy"))


def test_on_a_cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"
    ) as client:
        check_on_a_cluster(client)


@pytest.mark.exhaustive
def test_on_a_cluster_of_processes():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        check_on_a_cluster(client)
    array = image("float32")
    result = histeq.equalize(da.from_array(array, chunks=13)).compute(scheduler="processes", num_workers=2)
    np.testing.assert_array_equal(result, histeq.equalize(array))


PLANNED = """
import dask
dask.config.set({"array.query-planning": True, "scheduler": "sync"})
import dask.array as da, numpy as np
import histeq
array = np.random.default_rng(1).integers(0, 200, (30, 40), np.uint8)
x, mask = da.from_array(array, chunks=(13, 17)), array > 50
assert "expr" in type(x).__module__
table = histeq.lookup_table(histeq.histogram(x), dtype="uint8")
for result, expected in [
    (histeq.equalize(x), histeq.equalize(array)),
    (histeq.equalize(x[3:].rechunk(9), mask=x[3:] > 50)[1:], histeq.equalize(array[3:], mask=mask[3:])[1:]),
    (histeq.equalize(x.persist(), mask=mask), histeq.equalize(array, mask=mask)),
    (histeq.match(x, array // 2), histeq.match(array, array // 2)),
    (histeq.apply(x, table), histeq.equalize(array)),
]:
    assert type(result) is type(x)
    np.testing.assert_array_equal(result.compute(), expected)
"""


@pytest.mark.exhaustive
def test_arrays_of_query_planning():
    subprocess.run([sys.executable, "-c", PLANNED], check=True)


# What is not as it should be.


def test_chunks_without_pixels():
    array = image()
    chunks = ((0, 20, 0, 20), (50, 0))
    for pixels in (array, array.astype(np.float32)):
        check("equalize", pixels, chunks=chunks)
    check("equalize", image("uint8", (0, 5)), chunks=((0,), (5,)))
    check("histogram", image("float32", (0, 5)), chunks=((0, 0), (5,)))
    check("equalize", image("uint8", (0, 40, 50)), chunks=(1, 13, 17), layout="NHW")
    check("equalize", image("float32", (3, 0, 50)), chunks=((1, 2), (0, 0), (20, 30)), layout="NHW")


def test_unknown_chunk_sizes():
    array = image()
    known = da.from_array(array, chunks=(13, 17))
    x = known[da.from_array(array[:, 0] > 100, chunks=13)]
    chosen = array[array[:, 0] > 100]
    for dtype in ("uint8", "float32"):
        np.testing.assert_array_equal(histeq.equalize(x.astype(dtype)), histeq.equalize(chosen.astype(dtype)))
        np.testing.assert_array_equal(
            histeq.histogram(x.astype(dtype)), histeq.histogram(chosen.astype(dtype))
        )
    np.testing.assert_array_equal(histeq.match(x, array // 2), histeq.match(chosen, array // 2))
    need = r"must have chunks of known sizes {}, got shape \(nan, 50\); {}.compute_chunk_sizes\(\) finds them"
    with pytest.raises(ValueError, match="image " + need.format("with a mask", "image")):
        histeq.equalize(x, mask=np.ones((3, 50), bool))
    with pytest.raises(ValueError, match="mask " + need.format("itself", "mask")):
        histeq.equalize(known, mask=x > 0)
    with pytest.raises(ValueError, match="image " + need.format("along N", "image")):
        histeq.histogram(x, layout="NW")


def lying(chunk, dtype="uint8"):
    """Return a Dask array whose second chunk is another than it says."""
    says = np.empty((0, 0), dtype)
    blocks = [[dask.delayed(np.ones((4, 4), np.uint8)), dask.delayed(chunk)]]
    return da.block([[da.from_delayed(block, (4, 4), meta=says) for block in row] for row in blocks])


@pytest.mark.parametrize(
    ("chunk", "error", "message"),
    [
        (np.ones((4, 4)), TypeError, "image must have dtype uint8, as the Dask array says, got float64"),
        (
            np.ones((4, 5), np.uint8),
            ValueError,
            r"image must have shape \(4, 4\), as the Dask array says, got \(4, 5\)",
        ),
        (
            np.ones(4, np.uint8),
            ValueError,
            r"image must have shape \(4, 4\), as the Dask array says, got \(4,\)",
        ),
        (np.ma.ones((4, 4), np.uint8), TypeError, "image must not be a masked array: pass image.data with"),
        (None, TypeError, "image must be an array of numpy, as the Dask array says, got NoneType"),
    ],
    ids=["dtype", "shape", "axes", "masked", "none"],
)
def test_chunks_that_are_not_what_was_said(chunk, error, message):
    for function in (histeq.equalize, histeq.histogram):
        result = function(lying(chunk))
        with pytest.raises(error, match=rf"^chunk \(0, 1\) of a Dask array: {message}"):
            result.compute()
    table = histeq.apply(lying(chunk), np.arange(256, dtype=np.uint8))
    with pytest.raises(error, match=rf"chunk \(0, 1\) of a Dask array: {message}"):
        table.compute()


def test_masks_that_are_not_what_was_said():
    mask = lying(np.ones((4, 3), bool), bool)
    result = histeq.histogram(da.ones((4, 8), dtype=np.uint8, chunks=4), mask=mask)
    with pytest.raises(ValueError, match=r"chunk \(0, 1\) of a Dask array: mask must have the image's shape"):
        result.compute()


X = da.from_array(image(), chunks=(13, 17))
equalize, apply, match = histeq.equalize, histeq.apply, histeq.match


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: equalize(X.astype(object)), TypeError, "image must have one of the dtypes uint8, .*object"),
        (lambda: equalize(X.astype("M8[s]")), TypeError, "image must have one of the dtypes uint8, "),
        (lambda: equalize(X > 3), TypeError, r"got bool; .astype\(np.uint8\) makes 0 and 1 of it"),
        (lambda: equalize(da.ma.masked_equal(X, 3)), TypeError, "image must not have masked chunks: pass da"),
        (lambda: equalize(X, mask=da.ma.masked_equal(X > 3, True)), TypeError, "mask must not have masked"),
        (lambda: equalize(X, mask=np.ma.ones(SHAPE, bool)), TypeError, "mask must not be a masked array"),
        (lambda: equalize(X, mask=MASK[1:]), ValueError, r"mask must have the image's shape .*\(40, 50\)"),
        (lambda: equalize(X, mask=X.astype(float)), TypeError, "mask must be bool or unsigned"),
        (lambda: equalize(X, mask=[[1]]), TypeError, "mask must be an array of Dask, or of the kind"),
        (lambda: equalize(X, out=X), TypeError, "out must be None for Dask arrays, which are computed later"),
        (lambda: equalize(X, rule="nonesuch"), ValueError, "rule must be one of"),
        (lambda: equalize(X, bins=3), ValueError, "bins is for floating images"),
        (lambda: equalize(X, nodata=300), ValueError, "nodata must be a value that uint8 holds"),
        (lambda: equalize(X, value_range=(3, 2)), ValueError, "value_range must be finite with low < high"),
        (lambda: equalize(X, out_range=(3, 300)), ValueError, "out_range must be two values that uint8"),
        (lambda: equalize(X, layout="HWC"), ValueError, "layout must have one letter for each"),
        (lambda: equalize(X[None]), ValueError, "layout must be given for an image of 3 axes"),
        (lambda: equalize(X[..., None, None], layout="HWNC", alpha=True), ValueError, "alpha=True takes"),
        (lambda: equalize(X[0, 0]), ValueError, "image must have at least one axis"),
        (lambda: equalize(X, backend="nonesuch"), ValueError, "backend must be one of"),
        (lambda: equalize(X.astype("f4"), bins=1 << 40), ValueError, "bins must not give more than"),
        (lambda: apply(X, np.arange(9, dtype=np.uint8)), ValueError, r"table must have shape \(256,\)"),
        (lambda: apply(X, X[0] / 2), ValueError, r"table must have shape \(256,\)"),
        (lambda: apply(X.astype("f4"), np.ones(9, np.float32)), ValueError, "value_range must be given"),
        (lambda: match(X, X.astype("u2")), TypeError, "reference must have the image's dtype uint8"),
        (lambda: match(X, "file"), TypeError, "reference must be an array of Dask, or of the kind"),
        (lambda: match(image(), X), TypeError, "reference must be an array in memory, got Array of dask"),
        (lambda: equalize(image(), mask=X > 0), TypeError, "mask must be an array of the image's kind"),
        (lambda: apply(image(), X[0]), TypeError, "table must be an array in memory, got Array of dask"),
        (lambda: histeq.Equalizer()(X), TypeError, "must be an array in memory, got Array of dask"),
    ],
)  # fmt: skip
def test_errors_come_at_once(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Calls at random: the same pixels as for arrays in memory, or the same error.


def random_call(random):
    """Return a function's name, an array, its chunks and the options of a call; some are not valid."""
    layouts = ["HW", "HW", "HWC", "CHW", "NHW", "NHWC", "CDHW", "NCW"]
    layout = str(random.choice(layouts))
    sizes = {"N": random.integers(1, 4), "C": random.integers(1, 6), "D": random.integers(1, 4)}
    shape = tuple(
        int(sizes.get(letter, random.integers(0 if random.random() < 0.05 else 1, 20))) for letter in layout
    )
    dtype = str(random.choice([*DTYPES, ">u2", ">f4"]))
    array = image(dtype, shape)
    chunks = tuple(int(random.integers(1, max(2, size + 1))) for size in shape)
    options = {"layout": layout}
    values = array[np.isfinite(array)] if array.dtype.kind == "f" else array.ravel()
    some = [*values[:2].tolist(), 0, 1, 100, 300, -1, 0.5]

    def pick(name, *choices, chance=0.3):
        if random.random() < chance:
            options[name] = choices[random.integers(len(choices))]

    pick("color", "luma", "luma-bgr", "channels", "channels", "channels", chance=0.8)
    pick("alpha", True, False)
    pick("nodata", *some)
    spatial = tuple(size for size, letter in zip(shape, layout, strict=True) if letter not in "NC")
    pick("mask", random.random(spatial) > 0.3, np.zeros(spatial, np.uint8), random.random((3, 3)) > 0.3)
    pick("value_range", (0, 100), (-5, 5), (10.0, 20.0), (300, 5000), (0.1, 0.7))
    function = str(random.choice(["equalize", "equalize", "histogram", "match"]))
    if function != "match":
        pick("bins", 1, 10, 1000, chance=0.2)
    if function == "equalize":
        pick("rule", "opencv", "pillow", "numpy", "skimage", "vips", chance=0.5)
        pick("out_range", (16, 235), (-1.0, 4.0), chance=0.2)
        pick("out_dtype", "uint8", dtype, chance=0.2)
    if function == "match":
        options["reference"] = image(dtype, (1, *shape[1:]) if layout[0] == "N" else shape)
        pick("reference_nodata", *some, None)
    return function, array, chunks, options


def outcome(function, array, options):
    """Return the result of a call, or the error's type and message."""
    try:
        return np.asarray(getattr(histeq, function)(array, **options))
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def check_calls_at_random(seed, number):
    random = np.random.default_rng(seed)
    for _ in range(number):
        function, array, chunks, options = random_call(random)
        expected = outcome(function, array, options)
        found = outcome(function, da.from_array(array, chunks=chunks), options)
        context = repr((function, array.dtype, array.shape, chunks, options))
        if isinstance(expected, tuple):
            assert found == expected, context
        elif not isinstance(found, tuple) or "one chunk along" not in found[1]:
            assert isinstance(found, np.ndarray), (found, context)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape), context
            np.testing.assert_array_equal(found, expected, err_msg=context)


def test_calls_at_random():
    check_calls_at_random(1, 60)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_calls_at_random(seed):
    check_calls_at_random(seed, 500)
