"""Calls captured into CUDA graphs, without a GPU: what a graph may use, and what is refused."""

import functools

import numpy as np
import pytest
from cuda_host import fake_cupy
from cuda_host.fake_cupy import Pool
from images import DTYPES, FLOATS, random_float, random_values, same

import histeq


@pytest.fixture
def cupy(monkeypatch):
    """Yield the CuPy that runs on the CPU, even where there is a GPU."""
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture
def stream(cupy):
    return cupy.cuda.Stream(non_blocking=True)


def image_of(rng, dtype, shape):
    if dtype in FLOATS:
        return random_float(rng, dtype, shape)
    return random_values(rng, int(np.prod(shape)), dtype).reshape(shape)


def check_graph(cupy, stream, function, shape, dtype, **keywords):
    """Capture a call; replay it on new pixels, while others use what the call let go of."""
    rng = np.random.default_rng(0)
    image = cupy.zeros(shape, np.dtype(dtype))
    first = image_of(rng, dtype, shape)
    out = cupy.asarray(np.zeros_like(function(first, backend="numpy", **keywords)))
    with stream:
        function(image, out=out, **keywords)  # makes the workspace
        stream.begin_capture()
        function(image, out=out, **keywords)
        graph = stream.end_capture()
        others = [
            cupy.zeros(size, np.uint8)
            for (_, ptr, size), unused in Pool.unused.items()
            for _ in unused
            if ptr == stream.ptr
        ]
        for _ in range(3):
            new = image_of(rng, dtype, shape)
            image.set(new)
            graph.launch(stream)
            stream.synchronize()
            assert same(out.array, function(new, backend="numpy", **keywords))
            function(cupy.asarray(first), **keywords)  # an eager call between
        stream.synchronize()
        assert not any(other.array.any() for other in others)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equalize(dtype, cupy, stream):
    check_graph(cupy, stream, histeq.equalize, (30, 41), dtype)
    check_graph(cupy, stream, histeq.equalize, (5, 30, 41), dtype, layout="NHW", rule="skimage")


def test_equalize_of_8_bits(cupy, stream):
    check_graph(cupy, stream, histeq.equalize, (9, 30, 41), "uint8", layout="NHW")
    check_graph(cupy, stream, histeq.equalize, (30, 41, 4), "uint8", layout="HWC")


@pytest.mark.parametrize("dtype", DTYPES)
def test_clahe(dtype, cupy, stream):
    keywords = {"bins": 512} if dtype in ("uint16", "int16") else {}
    check_graph(cupy, stream, histeq.clahe, (40, 51), dtype, tiles=(2, 3), **keywords)
    check_graph(cupy, stream, histeq.clahe, (3, 40, 51), dtype, layout="NHW", tiles=(2, 2), **keywords)


def test_alpha_beside_fractions(cupy, stream):
    keywords = {"layout": "HWC", "color": "channels", "alpha": True, "rule": "skimage"}
    check_graph(cupy, stream, histeq.equalize, (30, 41, 4), "uint8", **keywords)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [histeq.equalize, histeq.clahe, histeq.histogram])
def test_workspace_does_not_grow_during_capture(function, dtype, cupy, stream):
    """Its zeros would become part of the graph: the next call would find none."""
    image = image_of(np.random.default_rng(1), dtype, (30, 41))
    lent = cupy.asarray(image)
    if function is histeq.clahe and dtype in ("uint16", "int16"):
        function = functools.partial(function, bins=512)  # 65,536 in each tile take long
    function(lent)  # on another stream: no help
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="make the same call once on this stream"):
            function(lent)
        stream.end_capture()
        expected = function(image, backend="numpy")
        for _ in range(2):
            assert same(function(lent).get(), expected)
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="make the same call once on this stream"):
            function(cupy.ndarray((90, 30, 41), np.dtype(dtype)), layout="NHW")
        stream.end_capture()
        assert same(function(lent).get(), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_match_is_refused(dtype, cupy, stream):
    image = image_of(np.random.default_rng(2), dtype, (30, 41))
    lent = cupy.asarray(image)
    with stream:
        result = histeq.match(lent, lent)
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="match cannot be captured into a graph"):
            histeq.match(lent, lent, out=result)
        stream.end_capture()
        assert same(histeq.match(lent, lent).get(), histeq.match(image, image, backend="numpy"))


def test_copies_are_refused(cupy, stream):
    memory = fake_cupy.ndarray.of(np.zeros(8 * 601, np.uint8))
    crooked = memory[1:1201].view(np.uint16).reshape(20, 30)
    straight = cupy.zeros((20, 30), np.dtype(np.uint16))
    small = cupy.zeros((20, 30), np.dtype(np.uint8))
    table = cupy.zeros(512, np.dtype(np.uint8))[::2]
    out = cupy.zeros((20, 30), np.dtype(np.uint8))
    counts = cupy.zeros(256, np.dtype(np.int32))
    cases = {
        "counts that are not int64 and contiguous": (
            lambda: histeq.lookup_table(counts, dtype=np.uint8),
            lambda: histeq.lookup_table(cupy.zeros(512, np.dtype(np.int64))[::2], dtype=np.uint8),
        ),
        "a call with value_range": (
            lambda: histeq.equalize(small, value_range=(3, 90), out=out),
            lambda: histeq.histogram(small, value_range=(3, 90)),
            lambda: histeq.apply(small, cupy.zeros(88, np.dtype(np.uint8)), value_range=(3, 90), out=out),
        ),
        "elements at multiples of their size": (
            lambda: histeq.equalize(crooked, out=straight),
            lambda: histeq.equalize(straight, out=crooked),
        ),
        "contiguous table": (lambda: histeq.apply(small, table, out=out),),
        "mask of bool": (lambda: histeq.equalize(small, mask=small, out=out),),
        "NumPy arrays": (
            lambda: histeq.equalize(np.zeros((20, 30), np.uint8), backend="cupy"),
            lambda: histeq.match(np.zeros((20, 30), np.float32), np.ones((2, 5), np.float32), backend="cupy"),
            lambda: histeq.lookup_table(np.ones(256, np.int64), dtype=np.uint8, backend="cupy"),
        ),
    }
    with stream:
        for message, calls in cases.items():
            for call in calls:
                call()
                stream.begin_capture()
                with pytest.raises(RuntimeError, match=message):
                    call()
                stream.end_capture()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"value_range": (20, 200), "strength": 0.5},
        {"layout": "HWC"},
        {"method": "clahe", "tiles": (2, 2), "strength": 0.5},
    ],
    ids=str,
)
def test_frames_of_a_video(options, cupy, stream):
    """A graph of one frame, launched for one after the other: sums, cuts and all."""
    rng, shape = np.random.default_rng(6), (20, 31, 3) if "layout" in options else (20, 31)
    clip = [(rng.integers(0, 60, shape) + low).astype(np.uint8) for low in [0] * 7 + [150] * 6 + [60] * 5]
    expected = histeq.Equalizer(window=4, backend="numpy", **options)
    equalizer = histeq.Equalizer(window=4, **options)
    frame, out = (cupy.zeros(shape, np.dtype(np.uint8)) for _ in range(2))
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="first frame of an Equalizer"):
            equalizer(frame, out=out)
        stream.end_capture()
        equalizer.reset()
        frame.set(clip[0])
        equalizer(frame, out=out)
        stream.synchronize()
        assert same(out.array, expected(clip[0]))
        stream.begin_capture()
        equalizer(frame, out=out)
        graph = stream.end_capture()
        for one in clip[1:]:
            frame.set(one)
            graph.launch(stream)
            stream.synchronize()
            assert same(out.array, expected(one))
        assert equalizer.cut_frames == expected.cut_frames
