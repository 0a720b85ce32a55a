"""The CUDA kernels and the backend around them, executed on the CPU: bit for bit as the NumPy backend.

`pytest -k cupy` runs the suite of all backends on them as well; this file has what concerns them alone.
"""

import contextlib
import importlib
import itertools
import mmap
import subprocess
import sys
import types

import hypothesis
import numpy as np
import pytest
from cuda_host import fake_cupy, host
from cuda_host.fake_cupy import Device, Machine
from hypothesis import strategies as st
from images import DTYPES, FLOATS, INTEGERS, RULES, accepted, arrays, random_float, random_values, same

import histeq

SIZES = (1, 2, 15, 16, 17, 31, 33, 511, 2047, 2048, 2049, 2063, 2064, 2065, 8191, 8209)
GUARD = 40


@pytest.fixture
def cupy(monkeypatch):
    """Yield the CuPy that runs on the CPU, even where there is a GPU."""
    for name in ("multiprocessors", "shared"):
        monkeypatch.setattr(Machine, name, getattr(Machine, name))
    monkeypatch.setattr(Machine, "shuffled", 2)
    with fake_cupy.installed() as module:
        yield module


def device_module():
    return sys.modules["histeq._backends.cupy.device"]


def on_gpu(array):
    return fake_cupy.ndarray.of(array)


def check(image, **keywords):
    """Compare all that a call can return with the reference."""
    expected = histeq.equalize(image, backend="numpy", **keywords)
    result = histeq.equalize(on_gpu(image), **keywords)
    assert type(result) is fake_cupy.ndarray
    assert same(result.array, expected)
    counting = {k: v for k, v in keywords.items() if k not in ("rule", "out_range", "out_dtype")}
    expected = histeq.histogram(image, backend="numpy", **counting)
    assert same(histeq.histogram(on_gpu(image), **counting).array, expected)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_alignment(size, dtype, cupy):
    rng = np.random.default_rng(size)
    values = random_values(rng, size, dtype)
    expected = histeq.equalize(values, backend="numpy")
    itemsize = values.itemsize
    for start in (0, 1, 3, 8, 16 // itemsize - 1):
        for target_start in (start, 0 if start % 2 else 5):
            memory = np.zeros(size + 64, dtype)
            first = -memory.__array_interface__["data"][0] % 16 // itemsize + start
            image = memory[first : first + size]
            image[...] = values
            whole = np.full(size + 2 * GUARD, 90, dtype)
            out = whole[GUARD + target_start : GUARD + target_start + size]
            histeq.equalize(on_gpu(image), out=on_gpu(out))
            assert same(out, expected)
            assert (whole[: GUARD + target_start] == 90).all()
            assert (whole[GUARD + target_start + size :] == 90).all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_window_with_an_odd_offset(dtype, cupy):
    rng = np.random.default_rng(0)
    frame = random_values(rng, 90 * 203, dtype).reshape(90, 203)
    for x, width in ((1, 180), (3, 7), (0, 203), (200, 3)):
        window = frame[5:80, x : x + width]
        check(window)
        target = np.full(frame.shape, 7, dtype)
        histeq.equalize(on_gpu(window), out=on_gpu(target[5:80, x : x + width]))
        assert same(target[5:80, x : x + width], histeq.equalize(window, backend="numpy"))
        target[5:80, x : x + width] = 7
        assert (target == 7).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_rules_and_contents(rule, dtype, cupy):
    rng = np.random.default_rng(1)
    for _ in range(12 if dtype == "uint8" else 4):
        image = random_values(rng, 41 * 57, dtype).reshape(41, 57)
        check(image, rule=rule)
        check(image, rule=rule, nodata=int(image[3, 3]))
        check(image, rule=rule, out_range=(16, 100) if rule != "skimage" else (-1, 2.5))
        check(image, rule=rule, value_range=(5, 99))
        if rule != "skimage":
            check(
                image[:, 3:], rule=rule, value_range=(-9, 99) if dtype[0] == "i" else None, out_dtype=np.uint8
            )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_three_steps_of_a_range(dtype, cupy, monkeypatch):
    """Batches in groups of images, with a table for each and with one for all."""
    images = np.random.default_rng(14).integers(0, 127, (3, 25, 31)).astype(dtype)
    span = {"value_range": (10, 90)}
    check(images, layout="NHW", **span)
    monkeypatch.setattr(device_module(), "COUNTS", 1)
    check(images, layout="NHW", **span)
    counts = histeq.histogram(on_gpu(images), layout="NHW", **span)
    table = histeq.lookup_table(counts, dtype=dtype, out_dtype=np.uint8, **span)
    result = histeq.apply(on_gpu(images), table, layout="NHW", **span)
    expected = histeq.equalize(images, layout="NHW", out_dtype=np.uint8, backend="numpy", **span)
    assert same(result.array, expected)
    one = histeq.apply(on_gpu(images), table[1], layout="NHW", **span)
    assert same(one.array, histeq.apply(images, table.array[1], layout="NHW", backend="numpy", **span))
    matched = histeq.match(on_gpu(images), on_gpu(images[:1]), layout="NHW", **span)
    assert same(matched.array, histeq.match(images, images[:1], layout="NHW", backend="numpy", **span))


@pytest.mark.parametrize("multiprocessors", [1, 2])
def test_layers_of_rows_that_are_apart(multiprocessors, cupy):
    """Every block has several stretches, in several rows and layers."""
    Machine.multiprocessors = multiprocessors
    rng = np.random.default_rng(21)
    for width in (2050, 4100, 6200):
        layers = rng.integers(0, 200, (3, 9, width), np.uint8)[:, 1:, 3:]
        check(layers, layout="DHW")
        result = histeq.apply(on_gpu(layers), on_gpu(np.arange(256, dtype=np.uint8)[::-1]), layout="DHW")
        assert same(result.array, 255 - layers)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_no_pixels(dtype, cupy):
    for shape in ((0, 5), (5, 0), (3, 0, 5), (0, 4, 5)):
        empty = np.zeros(shape, dtype)
        layout = "NDHW"[-len(shape) :]
        assert histeq.equalize(on_gpu(empty), layout=layout).shape == shape
        assert not histeq.histogram(on_gpu(empty), layout=layout).array.any()
        mask = on_gpu(np.zeros(shape, bool))
        assert histeq.equalize(on_gpu(empty), layout=layout, mask=mask).shape == shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_about_as_long_as_a_warp(dtype, cupy):
    """Whether a warp has one more group of pixels to handle depends on the length and on the alignment."""
    rng = np.random.default_rng(20)
    group = 16 // np.dtype(dtype).itemsize
    row = rng.integers(0, 99, 70 * group).astype(dtype)
    mask = rng.random(row.size) < 0.5
    planar = rng.integers(0, 99, (3, 70 * group)).astype(dtype)
    interleaved = np.ascontiguousarray(planar.T)
    first = -row.__array_interface__["data"][0] % 16 // row.itemsize
    lengths = (32,) if dtype in ("uint16", "int16") else (31, 32, 63)  # those of 16 bits take long here
    for groups, extra in itertools.product(lengths, range(-1, 3)):
        for start in (first, first + 1, first + group - 1):
            part = slice(start, start + groups * group + extra)
            image, counted = row[part], mask[part]
            check(image, layout="W")
            result = histeq.equalize(on_gpu(image), layout="W", mask=on_gpu(counted))
            expected = histeq.equalize(image, layout="W", mask=counted, backend="numpy")
            assert same(result.array, expected)
            if dtype in ("uint8", "uint16"):
                check(interleaved[part], layout="WC")
                check(planar[:, part], layout="CW")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_groups_of_color_pixels(dtype, cupy):
    """Interleaved and planar channels go in vectors from the first aligned pixel on, wherever that is."""
    rng = np.random.default_rng(12)
    whole = rng.integers(0, 250, (5, 120, 3)).astype(dtype)
    group = 16 // whole.itemsize
    for x in range(group + 2):
        for width in (1, group - 1, group, group + 1, 47):
            image = whole[:, x : x + width]
            check(image, layout="HWC", color=("luma", "luma-bgr")[x % 2], nodata=9)
            grey = np.where(image[..., :1] < 200, image[..., :1], image)  # some of them become white
            check(grey, layout="HWC", color=("luma", "luma-bgr")[x % 2], nodata=np.iinfo(dtype).max)
    planar = np.zeros((3, 8, 160), dtype)  # planes are multiples of 16 bytes apart
    planar[...] = rng.integers(0, 250, planar.shape)
    for x, width in ((0, 160), (3, 150), (9, 30)):
        image = planar[:, :, x : x + width]
        check(image, layout="CHW")
        check(image[::-1], layout="CHW", color="luma-bgr")
        mask = rng.random((8, width)) < 0.5
        result = histeq.equalize(on_gpu(image), layout="CHW", mask=on_gpu(mask))
        assert same(result.array, histeq.equalize(image, layout="CHW", mask=mask, backend="numpy"))
        target = np.zeros((8, 200, 3), dtype).transpose(2, 0, 1)[:, :, 5 : 5 + width]
        histeq.equalize(on_gpu(image), layout="CHW", out=on_gpu(target))
        assert same(target, histeq.equalize(image, layout="CHW", backend="numpy"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_every_alignment(dtype, cupy):
    rng = np.random.default_rng(13)
    whole = rng.integers(0, 99, (4, 200)).astype(dtype)
    masks = rng.random((4, 200)) < 0.5
    for x, shift in ((0, 0), (1, 0), (0, 1), (5, 3), (8, 8)):
        image, mask = whole[:, x : x + 150], masks[:, shift : shift + 150]
        result = histeq.equalize(on_gpu(image), mask=on_gpu(mask))
        assert same(result.array, histeq.equalize(image, mask=mask, backend="numpy"))


@pytest.mark.parametrize("multiprocessors", [1, 2, 7, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_launch_shapes(dtype, multiprocessors, cupy):
    Machine.multiprocessors = multiprocessors
    rng = np.random.default_rng(2)
    make = random_float if dtype in FLOATS else None
    for shape in ((3, 150, 301), (7, 9, 5)):
        images = make(rng, dtype, shape) if make else rng.integers(0, 200, shape).astype(dtype)
        check(images, layout="NHW")
        check(images, layout="CHW", color="channels")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_more_planes_than_the_grid_has(dtype, cupy, monkeypatch):
    images = np.random.default_rng(3).integers(0, 99, (9, 20, 31)).astype(dtype)
    check(images[:1], layout="NHW")
    monkeypatch.setattr(device_module(), "GRID_Y", 2)
    check(images, layout="NHW")
    monkeypatch.setattr(device_module(), "COUNTS", 1)  # image by image
    check(images, layout="NHW")
    check(images.reshape(3, 3, 20, 31), layout="NCHW", color="channels")
    masks = images > 20
    result = histeq.equalize(on_gpu(images), layout="NHW", mask=on_gpu(masks))
    assert same(result.array, histeq.equalize(images, layout="NHW", mask=masks, backend="numpy"))


@pytest.mark.parametrize("slices", [2, 4, 8, 16])
def test_counters_of_65536_bins_in_slices(slices, cupy):
    """Devices with less shared memory count the values in more slices."""
    Machine.shared = 1024 + 262144 // slices + 16
    rng = np.random.default_rng(4)
    for dtype in ("uint16", "int16"):
        check(rng.integers(0, 65536, (60, 70), np.uint16).view(dtype))
    check(rng.integers(0, 65536, (30, 40, 3), np.uint16), layout="HWC")


@pytest.mark.parametrize("shift", [0, 1, 4, 6, 8])
def test_values_that_share_low_bits(shift, cupy):
    """Counters and entries of tables lie apart from their order, so that such values meet in no bank."""
    values = np.arange(65536 >> shift, dtype=np.uint16) << shift
    check(np.random.default_rng(5).permutation(np.repeat(values, 1 << max(shift - 4, 0))))
    check(values[: len(values) // 3])


@pytest.mark.parametrize(
    ("rows", "shared", "is_there"), [(90, 232448, True), (90, 101376, False), (50, 232448, False)]
)
def test_table_of_16_bits_in_shared_memory(rows, shared, is_there, cupy):
    """Where blocks map enough pixels each, and the device has as much."""
    Machine.multiprocessors, Machine.shared = 1, shared
    images = np.random.default_rng(5).integers(0, 65536, (2, rows, 111), np.uint16)
    check(images, layout="NHW", nodata=9)
    check(images[:, 1:, 3:100].view(np.int16), layout="NHW", nodata=-7)
    check(images, layout="NHW", rule="numpy", out_range=(9, 300), nodata=10)
    assert is_there == ("apply_lut_u16_shared" in device_module().device(0)._kernels)


def test_workspace_is_clean_after_every_launch(cupy):
    rng = np.random.default_rng(6)
    for dtype in DTYPES:
        histeq.equalize(on_gpu(rng.integers(0, 99, (5, 64, 65)).astype(dtype)), layout="NHW")
        histeq.histogram(on_gpu(rng.integers(0, 99, (64, 65)).astype(dtype)))
    spaces = device_module().device(0)._workspaces.values()
    assert spaces
    for space in spaces:
        for name in ("counts", "tickets"):
            assert not space._memory[name].array.any()


def test_launches(cupy):
    for dtype, keywords, launches in (
        ("uint8", {}, 1),
        ("int8", {"layout": "NHW"}, 1),
        ("uint8", {"layout": "NHW", "color": "channels"}, 1),
        ("uint8", {"rule": "skimage"}, 2),
        ("uint16", {}, 1),
        ("uint16", {"layout": "NHW"}, 3),
    ):
        image = on_gpu(np.zeros((2, 50, 60) if "layout" in keywords else (50, 60), dtype))
        before = Machine.launches
        histeq.equalize(image, **keywords)
        assert Machine.launches - before == launches


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bins", [1, 2, 255, 256, 257, 1000, 8192, 8193])
def test_bins(dtype, bins, cupy):
    rng = np.random.default_rng(bins)
    image = random_float(rng, dtype, (50, 61))
    check(image, bins=bins)
    check(image, bins=bins, value_range=(-1, 1.5))
    check(image, bins=bins, mask=None, nodata=float(image[7, 7]) if np.isfinite(image[7, 7]) else 0.5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_edges_of_extreme_ranges(dtype, cupy):
    """The range of the dtype, subnormal steps, neighbouring and equal values."""
    limits = np.finfo(dtype)
    tiny = limits.smallest_subnormal
    for low, high in (
        (limits.min, limits.max), (0, tiny), (-tiny, 3 * tiny), (1, 1 + limits.eps), (0, limits.max),
        (5, 5), (limits.max, limits.max), (limits.tiny, 2 * limits.tiny),
    ):  # fmt: skip
        for bins in (1, 3, 256, 1000):
            image = np.array([[low, high, low]], dtype)
            check(image, bins=bins)


def test_every_half(cupy):
    """All 65,536 float16 values go there and back."""
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    check(finite[np.abs(finite) < 1000], bins=300)
    check(halves, value_range=(-2, 2), bins=77)


def test_offsets_beyond_32_bits(cupy):
    """Pixels more than 4 GB apart, in memory that is never touched in between."""
    gigabyte = 1 << 30
    memory = mmap.mmap(-1, 6 * gigabyte, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # no reserve
    for dtype in (np.uint8, np.uint16, np.float32):
        step = np.dtype(dtype).itemsize
        whole = np.frombuffer(memory, dtype)
        image = np.lib.stride_tricks.as_strided(
            whole[gigabyte // 8 :], (2, 3, 40), (3 * gigabyte, gigabyte + 64, step)
        )
        image[...] = np.random.default_rng(7).integers(0, 90, image.shape)
        check(image, layout="DHW")
        check(image, layout="NHW")
        expected = histeq.equalize(image, layout="DHW", backend="numpy")
        if dtype != np.float32:
            histeq.equalize(on_gpu(image), layout="DHW", out=on_gpu(image))
            assert same(np.ascontiguousarray(image), expected)
    del whole, image
    memory.close()


@hypothesis.given(drawn=arrays(), data=st.data())
@hypothesis.settings(max_examples=40)
def test_any_array(drawn, data):
    image, layout = drawn
    with fake_cupy.installed():
        color, alpha = data.draw(st.sampled_from(accepted(image, layout)))
        coupled = color != "channels" and "C" in layout and image.shape[layout.index("C")] > 2
        rules = ["skimage"] if image.dtype.kind == "f" else RULES
        rule = data.draw(st.sampled_from([r for r in rules if not (coupled and r == "skimage")]))
        keywords = {"layout": layout, "color": color, "alpha": alpha}
        if data.draw(st.booleans()) and image.size:
            keywords["nodata"] = image.flat[data.draw(st.integers(0, image.size - 1))].item()
        check(image, rule=rule, **keywords)
        letters = [n for n in layout if n != "C" and (n != "N" or data.draw(st.booleans()))]
        mask = np.random.default_rng(8).random([image.shape[layout.index(n)] for n in letters]) < 0.6
        result = histeq.equalize(on_gpu(image), rule=rule, mask=on_gpu(mask), **keywords)
        assert same(result.array, histeq.equalize(image, rule=rule, mask=mask, backend="numpy", **keywords))


# The backend around the kernels ----------------------------------------------------------------------


def test_arrays_stay_where_they_are(cupy):
    image = np.asfortranarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    result = histeq.equalize(on_gpu(image))
    assert result.array.flags.f_contiguous
    counts = histeq.histogram(on_gpu(image))
    table = histeq.lookup_table(counts, dtype=np.uint8)
    assert type(counts) is type(table) is fake_cupy.ndarray
    assert same(histeq.apply(on_gpu(image), table).array, result.array)
    out = on_gpu(np.zeros((20, 30), np.uint8))
    assert histeq.equalize(on_gpu(image), out=out) is out
    in_place = on_gpu(image.copy())
    assert histeq.equalize(in_place, out=in_place) is in_place
    assert same(in_place.array, np.ascontiguousarray(result.array))


def test_device_of_the_image_is_used(cupy):
    with Device(1):
        image = on_gpu(np.arange(600, dtype=np.uint8).reshape(20, 30))
    result = histeq.equalize(image)  # the fake refuses a launch on another device than its arrays'
    assert result.device.id == 1
    assert cupy.cuda.runtime.getDevice() == 0


def test_two_devices_in_turns(cupy):
    """Each has its own kernels, workspaces and tickets; a plan of one is none of the other's."""
    rng = np.random.default_rng(30)
    images = [rng.integers(0, 200, (40, 50)).astype(dtype) for dtype in ("uint8", "uint16", "float32")]
    for _, image in itertools.product(range(3), images):
        for index in (0, 1):
            with Device(index):
                lent = on_gpu(image)
            for function, keywords in (
                (histeq.equalize, {}), (histeq.clahe, {"tiles": 2, "bins": 256}), (histeq.histogram, {}),
            ):  # fmt: skip
                result = function(lent, **keywords)
                assert result.device.id == index
                assert same(result.array, function(image, backend="numpy", **keywords))
    assert cupy.cuda.runtime.getDevice() == 0


def test_arrays_of_two_devices_are_refused(cupy):
    image = on_gpu(np.zeros((4, 5), np.uint8))
    with Device(1):
        other = on_gpu(np.zeros((4, 5), np.uint8))
    with pytest.raises(
        ValueError, match=r"out must be on the image's device <CUDA Device 0>, got <CUDA Device 1>"
    ):
        histeq.equalize(image, out=other)
    with pytest.raises(ValueError, match="mask must be on the image's device"):
        histeq.equalize(image, mask=other)


def test_out_of_memory(cupy, monkeypatch):
    image = on_gpu(np.zeros((400, 500), np.uint8))
    monkeypatch.setattr(Machine, "memory", Machine.with_left(100_000))
    with pytest.raises(MemoryError, match="Out of memory allocating 200,000 bytes") as caught:
        histeq.equalize(image)
    assert any(
        "backend='cupy', which takes it through the device in pieces" in n for n in caught.value.__notes__
    )
    assert same(histeq.equalize(image, out=image).array, np.zeros((400, 500), np.uint8))


def test_clahe_of_more_than_the_device_holds(cupy, monkeypatch):
    """An array on the device gets the remedy; the remedy works."""
    image = np.random.default_rng(31).integers(0, 256, (300, 400), np.uint8)
    lent = on_gpu(image)
    monkeypatch.setattr(Machine, "memory", Machine.with_left(90_000))
    with pytest.raises(MemoryError) as caught:
        histeq.clahe(lent, tiles=2)
    assert any(
        "pass the image as a NumPy array with backend='cupy'" in note for note in caught.value.__notes__
    )
    monkeypatch.setattr(importlib.import_module("histeq._backends.cupy.pieces"), "PIECE", 4096)
    result = histeq.clahe(image, tiles=2, backend="cupy")
    assert same(result, histeq.clahe(image, tiles=2, backend="numpy"))


def test_mixed_libraries_are_refused(cupy):
    image = np.zeros((4, 5), np.uint8)
    with pytest.raises(TypeError, match="out must be an array of the image's kind, got ndarray"):
        histeq.equalize(on_gpu(image), out=image)
    with pytest.raises(TypeError, match="mask must be an array of the image's kind, got ndarray"):
        histeq.equalize(on_gpu(image), mask=image)
    with pytest.raises(
        TypeError, match=r"image must be in host memory for backend='numpy', got a CuPy array; cupy"
    ):
        histeq.equalize(on_gpu(image), backend="numpy")
    with pytest.raises(TypeError, match="out must be an array of the image's kind"):
        histeq.equalize(image, out=on_gpu(image))
    for one, other in ((image, on_gpu(image)), (on_gpu(image), image)):
        with pytest.raises(TypeError, match="reference must be an array of the image's kind, got ndarray"):
            histeq.match(one, other)
        with pytest.raises(TypeError, match="table must be an array of the image's kind, got ndarray"):
            histeq.apply(one, other)
    with pytest.raises(TypeError, match=r"image must have one of the dtypes .* got int32"):
        histeq.equalize(on_gpu(image.astype(np.int32)))
    with pytest.raises(ValueError, match="share no memory"):
        histeq.equalize(on_gpu(image[:3]), out=on_gpu(image[1:]))


def test_misaligned_elements(cupy):
    for dtype in ("uint16", "float64"):
        memory = np.zeros(8 * 601, np.uint8)
        image = memory[1 : 1 + 600 * np.dtype(dtype).itemsize].view(dtype).reshape(20, 30)
        image[...] = np.arange(600).reshape(20, 30)
        check(image)
        expected = histeq.equalize(image, backend="numpy")
        whole = np.zeros(expected.nbytes + 1, np.uint8)
        out = whole[1:].view(expected.dtype).reshape(20, 30)
        histeq.equalize(on_gpu(image), out=on_gpu(out))
        assert same(out, expected)


def backends_line(setup):
    code = f"import sys\n{setup}\nimport histeq\nprint(histeq.backends()[2])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_without_cupy():
    assert "CuPy is not installed" in backends_line("sys.modules['cupy'] = None")
    assert "pip install cupy-cuda12x" in backends_line("sys.modules['cupy'] = None")


def test_cupy_for_another_cuda():
    """What importing it says, a library that is missing, is passed on."""
    setup = """
import builtins
whole = builtins.__import__
def broken(name, *rest):
    if name == 'cupy': raise ImportError('libnvrtc.so.12: cannot open shared object file')
    return whole(name, *rest)
builtins.__import__ = broken
"""
    line = backends_line(setup)
    assert "libnvrtc.so.12: cannot open shared object file" in line
    assert "cupy-cuda13x for a driver of CUDA 13" in line


def test_without_driver():
    setup = """
import types
cupy = sys.modules['cupy'] = types.ModuleType('cupy')
class CUDARuntimeError(RuntimeError): pass
def count(): raise CUDARuntimeError('cudaErrorInsufficientDriver: CUDA driver version is insufficient')
runtime = types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=count)
cupy.cuda = types.SimpleNamespace(runtime=runtime)
"""
    assert "CuPy finds no usable CUDA device or driver (cudaErrorInsufficientDriver" in backends_line(setup)
    assert "there is no CUDA device" in backends_line(
        setup.replace("raise CUDARuntimeError('cuda", "return ('' and 'cuda")
    )


class Tensor:
    """As much of a PyTorch tensor on the CPU as histeq asks for."""

    __module__ = "torch"
    device = types.SimpleNamespace(type="cpu")

    def __init__(self, array, requires_grad=False):
        self.array, self.requires_grad = array, requires_grad

    def detach(self):
        return self

    def numpy(self):
        return self.array


def test_torch_on_the_cpu(monkeypatch):
    torch = types.ModuleType("torch")
    torch.from_numpy = Tensor
    monkeypatch.setitem(sys.modules, "torch", torch)
    image = np.arange(600, dtype=np.uint8).reshape(20, 30)
    result = histeq.equalize(Tensor(image))
    assert type(result) is Tensor
    assert same(result.array, histeq.equalize(image))
    out = Tensor(np.zeros_like(image))
    assert histeq.equalize(Tensor(image), out=out) is out
    assert same(out.array, result.array)
    assert type(histeq.histogram(Tensor(image))) is Tensor
    with pytest.raises(TypeError, match="mask must be an array of the image's kind, Tensor, got ndarray"):
        histeq.equalize(Tensor(image), mask=image > 3)
    out = Tensor(np.zeros_like(image), requires_grad=True)
    with pytest.raises(TypeError, match=r"out must not require grad: .*; out.detach\(\) shares its memory"):
        histeq.equalize(Tensor(image), out=out)
    assert not out.array.any()
    assert same(histeq.equalize(Tensor(image, requires_grad=True)).array, result.array)
    local, tables = histeq.clahe(Tensor(image)), histeq.tile_tables(Tensor(image))
    assert same(local.array, histeq.clahe(image))
    assert same(tables.tables, histeq.tile_tables(image).tables)
    assert same(histeq.apply_tiles(Tensor(image), tables).array, local.array)


class Array:
    """As much of a JAX array on the CPU as histeq asks for."""

    __module__ = "jax"

    def __init__(self, array):
        self.array = array

    def devices(self):
        return [types.SimpleNamespace(platform="cpu")]

    def __array__(self, *_, **__):
        return self.array


class Tracer(Array):
    __module__ = "jax"


def test_jax_on_the_cpu(monkeypatch):
    jax = types.ModuleType("jax")
    wide = [False]

    @contextlib.contextmanager
    def enable_x64(value):
        wide[0] = value
        yield
        wide[0] = False

    jax.enable_x64 = enable_x64
    narrow = {"int64": np.int32, "float64": np.float32}
    jax.numpy = types.SimpleNamespace(
        asarray=lambda a: Array(a if wide[0] else a.astype(narrow.get(a.dtype.name, a.dtype)))
    )
    monkeypatch.setitem(sys.modules, "jax", jax)
    image = np.arange(600, dtype=np.uint8).reshape(20, 30)
    result = histeq.equalize(Array(image))
    assert type(result) is Array
    assert same(result.array, histeq.equalize(image))
    assert same(histeq.histogram(Array(image)).array, histeq.histogram(image))
    fractions = histeq.equalize(Array(image), rule="skimage").array
    assert same(fractions, histeq.equalize(image, rule="skimage"))
    with pytest.raises(TypeError, match="out must be None for JAX arrays"):
        histeq.equalize(Array(image), out=Array(image))
    with pytest.raises(TypeError, match=r"concrete JAX array: call histeq outside of jax.jit"):
        histeq.equalize(Tracer(image))


def test_dlpack_on_the_cpu():
    class Exporter:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **keywords):
            return self.array.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    image = np.arange(600, dtype=np.uint8).reshape(20, 30)
    assert same(histeq.equalize(Exporter(image)), histeq.equalize(image))
    out = np.zeros_like(image)
    assert same(histeq.equalize(Exporter(image), mask=Exporter(image), out=Exporter(out)).array, out)


class Claim:
    """What claims to be an array and is none."""


@pytest.mark.parametrize("protocol", ["__dlpack_device__", "__dlpack__", "__cuda_array_interface__"])
@pytest.mark.parametrize("value", [None, 3, (1, 0), lambda **_: (1, 0), lambda **_: None, lambda **_: 1 / 0])
def test_claims_of_arrays(protocol, value, cupy):
    for given in (type("Class", (Claim,), {protocol: value})(), Claim()):
        setattr(given, protocol, value)
        with pytest.raises(TypeError, match=r"^image must"):
            histeq.equalize(given)


def test_claims_that_raise():
    class Raises(Claim):
        @property
        def __dlpack_device__(self):
            raise ArithmeticError

    with pytest.raises(TypeError, match=r"^image must be an array"):
        histeq.equalize(Raises())


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_last_pixel_of_a_row(dtype, channels, cupy):
    """Rows that begin at an aligned address, of a pixel more than a warp's share of vectors."""
    size = np.dtype(dtype).itemsize * (channels if channels > 1 else 1)
    color = {} if channels == 1 else {"layout": "HWC", "color": "channels" if "f" in dtype else "luma"}
    vector = 16 // np.dtype(dtype).itemsize
    memory = np.zeros(64 * vector * size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    for width in (*range(31 * vector - 1, 31 * vector + 3), 32 * vector + 1):
        image = memory[start : start + width * size].view(dtype).reshape(1, width, channels)
        image[...] = np.random.default_rng(width).integers(0, 200, image.shape)
        image = image[..., 0] if channels == 1 else image
        result = histeq.equalize(cupy.ndarray.of(image), **color).array
        assert same(result, histeq.equalize(image, **color, backend="numpy")), width


def test_launch_errors_are_seen():
    """The CPU in place of the GPU notices what a GPU would punish."""
    source = """
extern "C" __global__ void diverge(int n) { if (threadIdx.x < 32) __syncthreads(); }
extern "C" __global__ void misaligned(const char* p) { volatile int x = *(const int*)(p + 1); (void)x; }
"""
    library = host.build(source, ("diverge", "misaligned"))
    with pytest.raises(host.LaunchError, match="others miss"):
        host.launch(library, "diverge", (1,), 64, [np.int32(0)])
    with pytest.raises(host.LaunchError, match="misaligned"):
        host.launch(library, "misaligned", (1,), 32, [np.zeros(16, np.uint8)])
    with pytest.raises(host.LaunchError, match="shape that CUDA refuses"):
        host.launch(library, "diverge", (1,), 33, [np.int32(0)])


# One launch instead of two ---------------------------------------------------------------------------


def check_one_launch(images, layout, memory, **keywords):
    """Compare with the reference, in memory of several alignments; see that it was one launch, every time."""
    expected = histeq.equalize(images, layout=layout, backend="numpy", **keywords)
    for start in memory:
        whole = np.full(images.size + 100, 90, images.dtype)
        lent = whole[16 + start :][: images.size].reshape(images.shape)
        lent[...] = images
        out = np.full_like(whole, 90)
        target = out[20:][: images.size].reshape(images.shape)
        before = Machine.launches
        histeq.equalize(on_gpu(lent), layout=layout, out=on_gpu(target), **keywords)
        histeq.equalize(on_gpu(lent), layout=layout, out=on_gpu(lent), **keywords)
        assert Machine.launches - before == 2
        assert same(target, expected)
        assert same(lent, expected)
        assert (out[:20] == 90).all()
        assert (out[20 + images.size :] == 90).all()


@pytest.mark.parametrize("together", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 17, 2064, 33_000, 190_000])
def test_one_image_in_one_launch(size, together, cupy, monkeypatch):
    """However few blocks run at the same time, none waits for ever."""
    monkeypatch.setattr(Machine, "together", together)
    rng = np.random.default_rng(size)
    for rule in ("opencv", "pillow"):
        check_one_launch(random_values(rng, size, "uint8"), "W", (0, 5), rule=rule)
    image = random_values(rng, size, "uint8")
    check_one_launch(image, "W", (3,), nodata=int(image[0]), out_range=(16, 235))
    check_one_launch(image, "W", (3,), nodata=16, out_range=(16, 235))


@pytest.mark.parametrize(("together", "shared"), [(1, 232448), (5, 101376), (40, 65536), (3, 232448)])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_image_of_16_bits_in_one_launch(dtype, together, shared, cupy, monkeypatch):
    """With 2, 4 and 8 slices, and with fewer blocks than these; with a shared table and without."""
    monkeypatch.setattr(Machine, "together", together)
    Machine.shared = shared
    for multiprocessors, size in ((1, 20_000), (9, 777)):
        Machine.multiprocessors = multiprocessors
        if "histeq._backends.cupy.device" in sys.modules:
            device_module().device.cache_clear()
        image = random_values(np.random.default_rng(size), size, dtype)
        check_one_launch(image, "W", (0, 3))
        check_one_launch(image, "W", (1,), nodata=int(image[3]), rule="pillow")
        check_one_launch(image, "W", (1,), nodata=16, out_range=(16, 300))


def test_other_images_of_16_bits(cupy):
    """Rows that are apart, values that are few; and what takes several launches."""
    rng = np.random.default_rng(3)
    frame = rng.integers(900, 1100, (60, 70), np.uint16)
    for rule in RULES:
        check(frame[:, 1:60], rule=rule, nodata=1000)
    for value in (0, 65535, 255, 256):
        check(np.full((9, 9), value, np.uint16))
        check(np.full((9, 9), value, np.uint16), nodata=value)
    check(frame[:, ::2])
    check(np.stack([frame, frame // 2]), layout="NHW")
    result = histeq.equalize(on_gpu(frame), mask=on_gpu(frame > 950))
    assert same(result.array, histeq.equalize(frame, mask=frame > 950, backend="numpy"))
    for space in device_module().device(0)._workspaces.values():
        assert not space._memory["counts"].array.any()
        assert not space._memory["tickets"].array.any()


@pytest.mark.parametrize("together", [1, 3])
def test_batch_in_one_launch(together, cupy, monkeypatch):
    """Frames of one part, and of several; rows that are apart; more images than it counts at once."""
    monkeypatch.setattr(Machine, "together", together)
    rng = np.random.default_rng(10)
    small = rng.integers(0, 200, (9, 60, 71), np.uint8)
    small[2] = 7
    check(small[:, 3:, 5:], layout="NHW")
    check_one_launch(small, "NHW", (0, 3))
    check_one_launch(small, "NHW", (0,), nodata=255)
    check_one_launch((small[:3] - 100).view(np.int8), "NHW", (1,), rule="vips", nodata=-100)
    check_one_launch(rng.integers(0, 200, (4, 300, 401), np.uint8), "NHW", (1,))
    monkeypatch.setattr(device_module(), "COUNTS", 4 * 8 * 256)
    check(small, layout="NHW", rule="vips", nodata=7)


def test_work_of_a_launch(cupy, monkeypatch):
    """Blocks for all multiprocessors, parts of a plane for all blocks; what is mapped was counted by then."""
    histeq.equalize(on_gpu(np.zeros((3, 4), np.uint8)))
    fused = sys.modules["histeq._backends.cupy.fused"]
    region_of = sys.modules["histeq._backends.cupy.layout"].merged_region_of
    monkeypatch.setattr(Machine, "multiprocessors", 132)
    gpu = device_module().Device(0)

    def plan(*shape):
        return fused.plan_of(gpu, region_of(on_gpu(np.broadcast_to(np.uint8(0), shape))))

    assert plan(1, 1, 1, 1080, 1920) == fused.Plan(256, 127, 8, 1)
    assert plan(1, 1, 1, 2160, 3840) == fused.Plan(512, 254, 16, 1)
    assert plan(1, 1, 1, 1 << 15, 1 << 15) == fused.Plan(512, 264, 64, 1)
    assert plan(64, 1, 1, 1080, 1920) == fused.Plan(512, 264, 32, 7)
    assert plan(16, 1, 1, 2160, 3840) == fused.Plan(512, 264, 32, 2)
    assert plan(1, 1, 1, 1, 1) == fused.Plan(256, 1, 8, 1)
    assert plan(9, 1, 1, 5, 7).lag == 7


@pytest.mark.parametrize(("rows", "columns"), [(1080, 1920), (2160, 3840), (1 << 15, 1 << 15), (5, 9)])
def test_work_of_a_launch_of_16_bits(cupy, monkeypatch, rows, columns):
    """Every multiprocessor counts at most one item, and maps at most one."""
    histeq.equalize(on_gpu(np.zeros((3, 4), np.uint16)))
    fused = sys.modules["histeq._backends.cupy.fused_u16"]
    region_of = sys.modules["histeq._backends.cupy.layout"].merged_region_of
    monkeypatch.setattr(Machine, "multiprocessors", 132)
    gpu = device_module().Device(0)
    image = on_gpu(np.broadcast_to(np.uint16(0), (1, 1, 1, rows, columns)))
    plan = fused.plan_of(gpu, region_of(image))
    stretches = -(-(2 * rows * columns + 30) // 2048)  # that the kernel finds
    mapping, counting = -(-stretches // plan.stretches), -(-stretches // (2 * plan.stretches)) * 2
    assert max(mapping, counting) <= 132
    assert min(mapping, counting) > 120 or rows == 5


def test_workspace_after_one_launch(cupy):
    image = np.random.default_rng(9).integers(0, 256, (60, 70), np.uint8)
    for _ in range(3):
        check(image)
        check(image[:, 1:60])  # contiguous rows
        check(image[:, ::2])  # strided: two launches
    for space in device_module().device(0)._workspaces.values():
        assert not space._memory["counts"].array.any()
        assert not space._memory["tickets"].array.any()
