"""What only a GPU can show. `python -m pytest -m gpu tests/test_gpu.py` needs CuPy, NumPy and pytest alone.

Expected pixels come from the NumPy backend, which is compared with the real libraries elsewhere.
"""

import importlib
import importlib.util
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

import histeq

# Without a GPU this file is not collected (see conftest.py): test_cuda.py runs the kernels on the CPU then.
cupy = pytest.importorskip("cupy")
pytestmark = pytest.mark.gpu

INTEGERS = ("uint8", "int8", "uint16", "int16")
FLOATS = ("float16", "float32", "float64")
RULES = ("opencv", "pillow", "numpy", "skimage", "vips")


def contents(rng, shape, dtype):
    """Yield images that the kernels treat differently."""
    if dtype in FLOATS:
        image = rng.normal(size=shape).astype(dtype)
        image.flat[: min(3, image.size)] = (np.nan, np.inf, -np.inf)[: min(3, image.size)]
        yield from (image, np.full(shape, 0.5, dtype), rng.integers(0, 9, shape).astype(dtype))
        return
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max) + 1
    yield rng.integers(low, high, shape).astype(dtype)
    yield np.full(shape, high - 1, dtype)
    yield rng.choice([low, high - 1], shape).astype(dtype)
    yield np.clip(rng.normal((low + high) / 2, (high - low) / 40, shape), low, high - 1).astype(dtype)


def check(image, **keywords):
    expected = histeq.equalize(image, backend="numpy", **keywords)
    result = histeq.equalize(cupy.asarray(image), **keywords)
    assert isinstance(result, cupy.ndarray)
    assert result.dtype == expected.dtype
    assert np.array_equal(result.get(), expected, equal_nan=image.dtype.kind == "f")


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (13, 17), (480, 641), (2160, 3840)])
def test_contents(shape, dtype):
    for image in contents(np.random.default_rng(0), shape, dtype):
        check(image)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_rules(rule, dtype):
    rng = np.random.default_rng(1)
    for image in contents(rng, (301, 403), dtype):
        check(image, rule=rule)
        check(image, rule=rule, nodata=int(image[0, 0]))
        check(image, rule=rule, out_range=(16, 100))
        check(image, rule=rule, value_range=(5, 99))
        if rule != "skimage":
            check(image, rule=rule, out_dtype=np.uint8)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_sizes_and_alignments(dtype):
    rng = np.random.default_rng(2)
    memory = cupy.asarray(next(contents(rng, (70_000,), dtype)))
    for size in (*range(1, 70), 2047, 2048, 2049, 32767, 32769, 65553):
        for start in (0, 1, 3):
            part = memory[start : start + size]
            expected = histeq.equalize(part.get(), backend="numpy")
            out = cupy.zeros(size + 40, dtype)
            histeq.equalize(part, out=out[7 : 7 + size])
            assert np.array_equal(out[7 : 7 + size].get(), expected)
            assert not out[:7].any()
            assert not out[7 + size :].any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_color_batches_masks_and_windows(dtype):
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 250, (5, 200, 301, 3)).astype(dtype)
    check(frames, layout="NHWC")
    check(frames, layout="NHWC", color="luma-bgr", nodata=3)
    check(frames, layout="NHWC", color="channels")
    check(np.ascontiguousarray(np.moveaxis(frames, -1, 1)), layout="NCHW")
    window = frames[2, 11:150, 7:290, 1]
    check(window)
    mask = window > 99
    result = histeq.equalize(cupy.asarray(frames)[2, 11:150, 7:290, 1], mask=cupy.asarray(mask))
    assert np.array_equal(result.get(), histeq.equalize(window, mask=mask, backend="numpy"))
    in_place = cupy.asarray(window)
    assert histeq.equalize(in_place, out=in_place) is in_place
    assert np.array_equal(in_place.get(), histeq.equalize(window, backend="numpy"))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_match_and_host_arrays(dtype):
    rng = np.random.default_rng(4)
    image, reference = (rng.integers(0, 200, shape).astype(dtype) for shape in ((99, 80), (50, 60)))
    expected = histeq.match(image, reference, backend="numpy")
    assert np.array_equal(histeq.match(cupy.asarray(image), cupy.asarray(reference)).get(), expected)
    brought_back = histeq.equalize(image, backend="cupy")
    assert type(brought_back) is np.ndarray
    assert np.array_equal(brought_back, histeq.equalize(image, backend="numpy"))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_host_arrays_in_pieces(dtype, monkeypatch):
    """Many pieces, with and without room to keep them between the passes."""
    histeq.equalize(np.zeros((2, 2), dtype), backend="cupy")
    from histeq._backends.cupy import pieces

    rng = np.random.default_rng(10)
    image = next(contents(rng, (3000, 2100), dtype))
    expected = histeq.equalize(image, backend="numpy")
    for free in (None, 1 << 22):
        if free is not None:
            monkeypatch.setattr(pieces, "free_memory", lambda: free)  # noqa: B023
        monkeypatch.setattr(pieces, "PIECE", 1 << 20)
        for _ in range(3):
            result = histeq.equalize(image, backend="cupy")
            assert np.array_equal(result, expected, equal_nan=dtype in FLOATS)
    batch = np.stack([image[:300], image[300:600], image[600:900]] * 5)
    result = histeq.equalize(batch, layout="NHW", backend="cupy")
    expected = histeq.equalize(batch, layout="NHW", backend="numpy")
    assert np.array_equal(result, expected, equal_nan=dtype in FLOATS)


def test_one_launch():
    """Images and batches, again and again."""
    rng = np.random.default_rng(11)
    for shape in ((1, 1), (181, 239), (1080, 1920), (2160, 3840)):
        image = rng.integers(0, 200, shape, np.uint8)
        lent, expected = cupy.asarray(image), histeq.equalize(image, backend="numpy")
        for _ in range(20):
            assert np.array_equal(histeq.equalize(lent).get(), expected)
    frames = rng.integers(0, 200, (70, 1080, 1920), np.uint8)
    frames[3] = 9
    lent = cupy.asarray(frames)
    for rule in ("opencv", "pillow"):
        expected = histeq.equalize(frames, layout="NHW", rule=rule, backend="numpy")
        for _ in range(5):
            assert np.array_equal(histeq.equalize(lent, layout="NHW", rule=rule).get(), expected)
    small = cupy.asarray(frames[:, :100, :99])
    expected = histeq.equalize(frames[:, :100, :99], layout="NHW", backend="numpy")
    assert np.array_equal(histeq.equalize(small, layout="NHW").get(), expected)


@pytest.mark.parametrize("multiprocessors", [1, 3, 1000])
def test_one_launch_of_small_images(multiprocessors, monkeypatch):
    """As many blocks as for a device of this size: each has many items of work, or one, or none."""
    device = importlib.import_module("histeq._backends.cupy.device")
    gpu = device.device(cupy.cuda.Device().id)
    monkeypatch.setattr(gpu, "multiprocessors", multiprocessors)
    launched = []
    launch = device.Device.launch

    def recorded(self, module, name, *arguments, **keywords):
        launched.append(name)
        launch(self, module, name, *arguments, **keywords)

    monkeypatch.setattr(device.Device, "launch", recorded)
    rng = np.random.default_rng(13)
    shapes = ((1, 1), (1, 17), (31, 33), (129, 255), (300, 401))
    for images, (rows, columns) in itertools.product((1, 40), shapes):
        for image in contents(rng, (images, rows, columns), "uint8"):
            for rule, start in itertools.product(("opencv", "pillow"), (0, 3)):
                expected = histeq.equalize(image, layout="NHW", rule=rule, backend="numpy")
                memory = cupy.zeros(image.size + 40, cupy.uint8)
                lent = memory[start : start + image.size].reshape(image.shape)
                lent[...] = cupy.asarray(image)
                launched.clear()
                gpu.workspace().plans.clear()  # they know how many blocks there were
                histeq.equalize(lent, layout="NHW", rule=rule, out=lent)
                assert launched == ["equalize_u8"]
                assert np.array_equal(lent.get(), expected)
                assert not memory[:start].any()
                assert not memory[start + image.size :].any()
    gpu.workspace().plans.clear()


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_clahe(dtype):
    rng = np.random.default_rng(12)
    for image in contents(rng, (301, 403), dtype):
        for keywords in ({}, {"tiles": (3, 5), "clip_limit": 7.5}, {"tile_size": (64, 50)}):
            expected = histeq.clahe(image, backend="numpy", **keywords)
            result = histeq.clahe(cupy.asarray(image), **keywords).get()
            assert np.array_equal(result, expected, equal_nan=dtype in FLOATS)
    mask = image > np.median(image)
    mask[:150, :200] = False
    expected = histeq.clahe(image, mask=mask, backend="numpy")
    result = histeq.clahe(cupy.asarray(image), mask=cupy.asarray(mask)).get()
    assert np.array_equal(result, expected, equal_nan=dtype in FLOATS)


def test_subnormal_floats():
    """CuPy compiles with -ftz=true: it must not reach the pixels."""
    tiny = np.float32(1e-45)
    image = (np.arange(6000, dtype=np.float32) * tiny).reshape(60, 100)
    check(image)
    check(image, nodata=float(tiny))
    check(image - 3000 * tiny, bins=77)


def test_more_than_2_to_the_32_pixels():
    row = cupy.zeros(1 << 16, cupy.uint8)
    row[:3] = cupy.array([9, 200, 200], cupy.uint8)
    image = cupy.broadcast_to(row, ((1 << 16) + 1, 1 << 16))
    counts = histeq.histogram(image).get()
    rows = (1 << 16) + 1
    assert counts[[0, 9, 200]].tolist() == [((1 << 16) - 3) * rows, rows, 2 * rows]


def test_streams_run_on_their_own():
    rng = np.random.default_rng(5)
    images = [rng.integers(0, 200 + i, (700, 900), np.uint8) for i in range(8)]
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in images]
    lent = [cupy.asarray(image) for image in images]
    cupy.cuda.Device().synchronize()
    results = []
    for _ in range(20):
        results = []
        for stream, image in zip(streams, lent, strict=True):
            with stream:
                results.append(histeq.equalize(image))
    cupy.cuda.Device().synchronize()
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result.get(), histeq.equalize(image, backend="numpy"))


def test_threads():
    rng = np.random.default_rng(6)
    image = rng.integers(0, 256, (500, 600), np.uint8)
    expected = histeq.equalize(image, backend="numpy")
    wrong = []

    def work():
        lent = cupy.asarray(image)
        for _ in range(50):
            if not np.array_equal(histeq.equalize(lent).get(), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("function", [histeq.equalize, histeq.clahe])
@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_graph_capture(dtype, function):
    """A captured call is replayed on new pixels: nothing in it waits, remembers, or uses others' memory."""
    rng = np.random.default_rng(7)
    stream = cupy.cuda.Stream(non_blocking=True)
    image = cupy.zeros((300, 400), dtype)
    out = cupy.empty((300, 400), function(image).dtype)
    with stream:
        function(image, out=out)  # compiles, and makes the workspace
        stream.begin_capture()
        function(image, out=out)
        graph = stream.end_capture()
        others = [cupy.zeros(1 << size, cupy.uint8) for size in range(9, 25) for _ in range(3)]
        for _ in range(5):
            new = rng.integers(0, 99, image.shape).astype(dtype)
            image.set(new)
            graph.launch(stream)
            stream.synchronize()
            assert np.array_equal(out.get(), function(new, backend="numpy"))
        assert not any(other.any() for other in others)


def test_capture_without_workspace():
    """The zeros of a workspace must not become part of a graph."""
    image = np.random.default_rng(14).integers(0, 200, (300, 401), np.uint8)
    lent, expected = cupy.asarray(image), histeq.equalize(image, backend="numpy")
    floating = lent.astype(cupy.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match="make the same call once on this stream"):
                histeq.equalize(lent)
            with pytest.raises(RuntimeError, match="match cannot be captured"):
                histeq.match(floating, floating)
        finally:
            stream.end_capture()
        for _ in range(3):
            assert np.array_equal(histeq.equalize(lent).get(), expected)


def test_out_of_memory():
    pool = cupy.get_default_memory_pool()
    image = cupy.zeros((4000, 4000), cupy.uint8)
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + 1)
    try:
        with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
            histeq.equalize(image, rule="skimage")
    finally:
        pool.set_limit(size=0)
    check(np.arange(3000, dtype=np.uint8))


def test_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    image = rng.integers(0, 200, (300, 401), np.uint8)
    tensor = torch.from_numpy(image).cuda()
    result = histeq.equalize(tensor)
    assert isinstance(result, torch.Tensor)
    assert result.device == tensor.device
    assert np.array_equal(result.cpu().numpy(), histeq.equalize(image, backend="numpy"))
    out = torch.empty_like(tensor)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert histeq.equalize(tensor, out=out) is out
        torch.cuda.current_stream().synchronize()
    assert torch.equal(out, result)
    with pytest.raises(TypeError, match="must be on the image's device"):
        histeq.equalize(tensor, out=out.cpu())
    for shape in ((0,), (0, 5)):
        assert histeq.equalize(tensor.new_empty(shape), layout="HW"[-len(shape) :]).shape == shape
    with pytest.raises(ValueError, match="share no memory"):
        histeq.equalize(tensor[:-1], out=tensor[1:])
    local = histeq.clahe(tensor).cpu().numpy()
    assert np.array_equal(local, histeq.clahe(image, backend="numpy"))


def test_torch_graph():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(15)
    tensor = torch.zeros((300, 401), dtype=torch.uint8, device="cuda")
    out = torch.empty_like(tensor)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # the one that captures: its workspace is needed
        histeq.clahe(tensor, out=out)
        histeq.equalize(out, out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        histeq.clahe(tensor, out=out)
        histeq.equalize(out, out=out)
    for _ in range(3):
        new = rng.integers(0, 200, tensor.shape, np.uint8)
        tensor.copy_(torch.from_numpy(new))
        graph.replay()
        expected = histeq.equalize(histeq.clahe(new, backend="numpy"), backend="numpy")
        assert np.array_equal(out.cpu().numpy(), expected)


def test_cuda_array_interface():
    class Foreign:
        def __init__(self, array):
            self.__cuda_array_interface__ = array.__cuda_array_interface__
            self.array = array

    image = np.random.default_rng(16).integers(0, 200, (300, 401), np.uint8)
    lent = cupy.asarray(image)
    assert np.array_equal(histeq.equalize(Foreign(lent)).get(), histeq.equalize(image, backend="numpy"))
    with pytest.raises(ValueError, match="share no memory"):
        histeq.equalize(Foreign(lent[:-1]), out=Foreign(lent[1:]))


def test_jax():
    jax = pytest.importorskip("jax")
    image = np.random.default_rng(9).integers(0, 200, (300, 401), np.uint8)
    result = histeq.equalize(jax.numpy.asarray(image))
    assert isinstance(result, jax.Array)
    assert np.array_equal(np.asarray(result), histeq.equalize(image, backend="numpy"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"centered": True},
        {"value_range": (16, 235), "strength": 0.5},
        {"layout": "CHW"},
        {"method": "clahe"},
    ],
    ids=str,
)
def test_frames_of_a_video(options):
    rng = np.random.default_rng(11)
    shape = (3, 270, 481) if "layout" in options else (270, 481)
    clip = [(rng.integers(0, 60, shape) + low).astype(np.uint8) for low in [0] * 7 + [150] * 6 + [60] * 5]
    expected = histeq.Equalizer(window=4, backend="numpy", **options)
    equalizer = histeq.Equalizer(window=4, **options)
    for found, frame in zip(equalizer.frames(map(cupy.asarray, clip)), expected.frames(clip), strict=True):
        assert np.array_equal(found.get(), frame)
    assert equalizer.cut_frames == expected.cut_frames == (7, 13)


def test_frames_of_a_video_by_a_graph():
    rng = np.random.default_rng(12)
    clip = [(rng.integers(0, 60, (270, 481)) + low).astype(np.uint8) for low in [0] * 7 + [150] * 6]
    expected, equalizer = histeq.Equalizer(window=4, backend="numpy"), histeq.Equalizer(window=4)
    frame, out = cupy.asarray(clip[0]), cupy.empty((270, 481), np.uint8)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        assert np.array_equal(equalizer(frame, out=out).get(), expected(clip[0]))
        stream.begin_capture()
        equalizer(frame, out=out)
        graph = stream.end_capture()
        for one in clip[1:]:
            frame.set(one)
            graph.launch(stream)
            assert np.array_equal(out.get(), expected(one))


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("options", [{}, {"method": "clahe"}, {"layout": "HWC"}], ids=str)
def test_frames_of_a_video_in_host_memory(options, centered):
    """Each is uploaded while the one before it is mapped: no copy may come too early or too late."""
    rng = np.random.default_rng(14)
    shape = (540, 960, 3) if "layout" in options else (540, 960)
    clip = [(rng.integers(0, 60, shape) + low).astype(np.uint8) for low in [0] * 9 + [150] * 8 + [60] * 7]
    own, other = (
        histeq.Equalizer(window=4, centered=centered, backend=backend, **options)
        for backend in ("cupy", "numpy")
    )
    expected = list(other.frames(clip))
    assert all(map(np.array_equal, own.frames(clip), expected))
    assert own.cut_frames == other.cut_frames == (9, 17)
    for found, frame in zip(own.frames(clip, in_place=True), expected, strict=True):
        assert np.array_equal(found, frame)


def test_nv12_surface_through_dlpack():
    """As of PyNvVideoCodec: the first H of H * 3 / 2 rows are the luma; the rest stays."""
    torch = pytest.importorskip("torch")
    surfaces = np.random.default_rng(13).integers(16, 200, (4, 405, 480)).astype(np.uint8)
    expected, equalizer = (
        histeq.Equalizer(value_range=(16, 235), **how) for how in ({"backend": "numpy"}, {})
    )
    for surface in surfaces:
        lent = torch.from_numpy(surface).cuda()
        luma = lent[:270]
        assert equalizer(luma, out=luma) is luma
        assert np.array_equal(lent[:270].cpu().numpy(), expected(surface[:270]))
        assert np.array_equal(lent[270:].cpu().numpy(), surface[270:])


# The examples ---------------------------------------------------------------------------------------


def example(name):
    path = Path(__file__).parents[1] / "docs" / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_of_a_torch_augmentation():
    torch = pytest.importorskip("torch")
    module = example("torch_augmentation")
    batch = torch.stack([module.Noise()[i] for i in range(16)])
    expected = histeq.equalize(batch.numpy(), layout="NCHW", rule="pillow", color="channels", backend="numpy")
    for _ in range(4):  # the third call goes by a plan
        result = module.RandomEqualize(1.0)(batch.cuda())
        assert result.is_cuda
        assert np.array_equal(result.cpu().numpy(), expected)
    lent = batch.cuda()
    some = module.RandomEqualize(0.5)(lent).cpu().numpy()
    for image, found, other in zip(batch.numpy(), some, expected, strict=True):
        assert np.array_equal(found, image) or np.array_equal(found, other)
    assert torch.equal(lent.cpu(), batch)
    assert 0.2 < module.main("cuda") < 0.6


def test_example_of_a_video_with_cupy():
    module, rng = example("cupy_video"), np.random.default_rng(20)
    clip = [rng.integers(0, 60 + i, (270, 481, 3), np.uint8) for i in range(20)]
    for frame, found in zip(clip, module.equalized(clip, batch=8), strict=True):
        assert np.array_equal(found, histeq.equalize(frame, layout="HWC", backend="numpy"))
    expected = histeq.Equalizer(layout="HWC", backend="numpy")
    for frame, found in zip(clip, module.steadied(clip), strict=True):
        assert np.array_equal(found, expected(frame))


def test_example_of_numba_cuda():
    cuda = pytest.importorskip("numba.cuda")
    if not cuda.is_available():
        pytest.skip("numba.cuda finds no device")
    module = example("numba_cuda")
    image = cuda.device_array((1080, 1920), np.uint8)
    module.draw[(68, 120), (16, 16)](image)
    assert np.array_equal(module.main(), histeq.equalize(image.copy_to_host(), backend="numpy"))
    result = histeq.equalize(image)
    assert isinstance(result, cupy.ndarray)
    assert np.array_equal(cuda.as_cuda_array(result).copy_to_host(), module.main())


def test_example_of_jax():
    jax = pytest.importorskip("jax")
    module = example("jax_images")
    assert module.main() > 1
    images = np.random.default_rng(21).integers(0, 100, (4, 300, 401), np.uint8)
    expected = histeq.equalize(images, layout="NHW", backend="numpy")
    for _ in range(4):  # the arrays live no longer than the call
        result = histeq.equalize(jax.numpy.asarray(images), layout="NHW")
        assert np.array_equal(np.asarray(result), expected)


# Plans and devices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("name", ["equalize", "clahe", "histogram"])
def test_calls_by_plans(name, dtype):
    """The third call on a stream goes by the plan of the second, on other arrays."""
    rng, function = np.random.default_rng(22), getattr(histeq, name)
    for stream in (cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream.null):
        results = []
        with stream:
            for _ in range(6):
                image = rng.integers(0, 99, (300, 401)).astype(dtype)
                results.append((function(cupy.asarray(image)), function(image, backend="numpy")))
        stream.synchronize()
        for found, expected in results:
            assert np.array_equal(found.get(), expected)


def test_two_devices():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one device")
    rng = np.random.default_rng(23)
    images = [rng.integers(0, 200, (300, 401), np.uint8) for _ in range(2)]
    for _ in range(4):
        lent = []
        for device, image in enumerate(images):
            with cupy.cuda.Device(device):
                lent.append(cupy.asarray(image))
        for device, image in enumerate(images):
            result = histeq.equalize(lent[device])
            assert result.device.id == device
            assert np.array_equal(cupy.asnumpy(result), histeq.equalize(image, backend="numpy"))
    with pytest.raises(ValueError, match="must be on the image's device"):
        histeq.equalize(lent[0], out=lent[1])
