"""Calls on a CUDA device that were made before, without one: each goes by its plan, with the right pixels.

Wherever a call is made three times, the third one is launched from the plan that the second one left.
"""

import gc
import sys
import threading
import weakref

import hypothesis
import numpy as np
import pytest
from cuda_host import fake_cupy
from cuda_host.fake_cupy import Device, Machine
from hypothesis import strategies as st
from images import DTYPES, accepted, arrays, random_float, random_values, same

import histeq


@pytest.fixture
def cupy(monkeypatch):
    """Yield the CuPy that runs on the CPU, even where there is a GPU."""
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture
def planned(cupy, monkeypatch):
    """Return the list of the numbers of launches of all calls that went by a plan."""
    histeq.histogram(cupy.asarray(np.zeros((1, 1), np.uint8)))  # imports the backend
    found, launch = [], plans().Plan.launch

    def recorded(plan, arrays):
        found.append(len(plan.launches))
        return launch(plan, arrays)

    monkeypatch.setattr(plans().Plan, "launch", recorded)
    return found


def plans():
    return sys.modules["histeq._backends.cupy.plans"]


def on_gpu(array):
    return fake_cupy.ndarray.of(array)


def image_of(rng, dtype, shape):
    if np.dtype(dtype).kind == "f":
        return random_float(rng, dtype, shape)
    return random_values(rng, int(np.prod(shape)), dtype).reshape(shape)


def moved(array, content):
    """Return an array with some content in new memory, of the same strides and alignment."""
    steps = [step * (size - 1) for step, size in zip(array.strides, array.shape, strict=True)]
    before = -sum(step for step in steps if step < 0)
    memory = np.zeros(before + sum(step for step in steps if step > 0) + array.itemsize + 64, np.uint8)
    begin = before + (array.ctypes.data - memory.ctypes.data - before) % 16
    result = np.ndarray(array.shape, array.dtype, memory, begin, array.strides)
    assert (result.ctypes.data - array.ctypes.data) % 16 == 0
    result[...] = content
    return result


FUNCTIONS = {
    "equalize": histeq.equalize,
    "clahe": lambda image, **keywords: histeq.clahe(image, tiles=2, **keywords),
    "histogram": histeq.histogram,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_new_arrays(dtype, name, cupy, planned):
    rng, function = np.random.default_rng(0), FUNCTIONS[name]
    few = {"bins": 512} if name == "clahe" and dtype[-2:] == "16" else {}
    for _ in range(4):
        image = image_of(rng, dtype, (20, 31))
        result = function(cupy.asarray(image), **few)
        expected = function(image, backend="numpy", **few)
        assert same(result.array, expected)
        if name != "histogram":
            out = cupy.empty(image.shape, expected.dtype)
            assert function(cupy.asarray(image), out=out, **few) is out
            assert same(out.array, expected)
    assert len(planned) == (2 if name == "histogram" else 4)


def test_batches_in_place(cupy, planned):
    rng = np.random.default_rng(1)
    for _ in range(4):
        for layout, shape in (("NHW", (5, 20, 31)), ("HWC", (20, 31, 3))):
            image = image_of(rng, "uint8", shape)
            expected = histeq.equalize(image, layout=layout, backend="numpy")
            lent = cupy.asarray(image)
            assert histeq.equalize(lent, layout=layout, out=lent) is lent
            assert same(lent.array, expected)
    assert len(planned) == 4


@hypothesis.given(drawn=arrays(), data=st.data())
@hypothesis.settings(max_examples=25)
def test_any_array(drawn, data):
    """Whatever has a plan and what has none: the same pixels each time."""
    image, layout = drawn
    color, alpha = data.draw(st.sampled_from(accepted(image, layout)))
    keywords = {"layout": layout, "color": color, "alpha": alpha}
    if data.draw(st.booleans()) and image.size:
        keywords["nodata"] = image.flat[0].item()
    letters = [n for n in layout if n != "C"]
    rng = np.random.default_rng(8)
    mask = rng.random([image.shape[layout.index(n)] for n in letters]) < 0.6
    masked, kind = data.draw(st.booleans()), data.draw(st.sampled_from([np.bool_, np.uint8]))
    has_out, in_place = data.draw(st.booleans()), data.draw(st.booleans())
    with fake_cupy.installed():
        for _ in range(3):
            content = rng.permutation(image.ravel()).reshape(image.shape)
            lent = on_gpu(moved(image, content))
            of_mask = rng.permutation(mask.ravel()).reshape(mask.shape).astype(kind) if masked else None
            expected = histeq.equalize(content, mask=of_mask, backend="numpy", **keywords)
            out = None
            if has_out:
                is_same = in_place and expected.dtype == image.dtype
                out = lent if is_same else on_gpu(np.zeros_like(expected))
            lent_mask = None if of_mask is None else on_gpu(moved(mask.astype(kind), of_mask))
            result = histeq.equalize(lent, mask=lent_mask, out=out, **keywords)
            assert same(result.array, expected)
            assert out is None or result is out


def test_memory_order_and_rest_of_memory(cupy, planned):
    """The result of a plan lies in memory as any result; nothing beside a window is written."""
    rng = np.random.default_rng(2)
    for _ in range(4):
        image = np.asfortranarray(image_of(rng, "uint8", (20, 31)))
        result = histeq.equalize(on_gpu(moved(image, image)))
        assert result.array.flags.f_contiguous
        assert same(result.array, histeq.equalize(image, backend="numpy"))
        frame = image_of(rng, "uint8", (40, 50))
        before, lent = frame.copy(), on_gpu(frame)
        window = lent[3:23, 7:38]
        assert histeq.equalize(window, out=window) is window
        before[3:23, 7:38] = histeq.equalize(before[3:23, 7:38], backend="numpy")
        assert same(frame, before)
    assert len(planned) == 4


def test_masks_tables_and_alignments_change(cupy, planned):
    rng = np.random.default_rng(3)
    image = image_of(rng, "uint8", (20, 31))
    lent, memory = cupy.asarray(image), cupy.zeros(4000, np.dtype(np.uint8))
    for start in (0, 16, 32, 1, 17, 33, 8, 24, 40):
        mask, table = rng.random((20, 31)) < 0.5, rng.integers(0, 256, 256, np.uint8)
        result = histeq.equalize(lent, mask=cupy.asarray(mask))
        assert same(result.array, histeq.equalize(image, mask=mask, backend="numpy"))
        out = memory[start : start + 620].reshape(20, 31)
        memory.array[...] = 0
        assert histeq.apply(lent, cupy.asarray(table), out=out) is out
        assert same(out.array, table[image])
        assert int(memory.array.sum(dtype=int)) == int(table[image].sum(dtype=int))
    assert len(planned) == 3 * 1 + 7  # a plan for each of three alignments of out; one for all masks


def test_arrays_that_share_memory(cupy, planned):
    """Every call looks whether out shares memory with another argument."""
    rng = np.random.default_rng(4)
    rgb = on_gpu(image_of(rng, "uint8", (12, 30, 3)))
    frame, other = (on_gpu(image_of(rng, "uint8", (24, 30))) for _ in range(2))
    for _ in range(3):
        histeq.equalize(frame[:12], out=other[:12])
        histeq.equalize(frame[:12], mask=other[:12].view(np.bool_), out=frame[12:])
    assert len(planned) == 2
    for start in (1, 11):
        with pytest.raises(ValueError, match="partial overlap"):
            histeq.equalize(frame[:12], out=frame[start : start + 12])
        with pytest.raises(ValueError, match="share no memory with mask"):
            histeq.equalize(frame[:12], mask=other[:12].view(np.bool_), out=other[start : start + 12])
    for _ in range(4):  # pixels in turn
        expected = histeq.equalize(rgb.array[..., 0].copy(), backend="numpy")
        histeq.equalize(rgb[..., 0], out=rgb[..., 2])
        assert same(np.ascontiguousarray(rgb.array[..., 2]), expected)
        rgb.array[..., 0] = rng.integers(0, 99, (12, 30))
    assert len(planned) == 2


def test_in_place_and_elsewhere(cupy, planned):
    rng = np.random.default_rng(10)
    for in_place in (True, True, True, False, False, False, True):
        image = image_of(rng, "uint8", (20, 31))
        lent, other = cupy.asarray(image), cupy.zeros((20, 31), np.dtype(np.uint8))
        out = lent if in_place else other
        assert histeq.equalize(lent, out=out) is out
        assert same(out.array, histeq.equalize(image, backend="numpy"))
        assert in_place or np.array_equal(lent.array, image)
    assert len(planned) == 3


def test_options_that_compare_equal(cupy):
    """True == 1 == 1.0 and 0.0 == -0.0, but they do not say the same."""
    image, floating = cupy.asarray(np.eye(9, dtype=np.uint8)), cupy.asarray(np.eye(9))
    colored = cupy.asarray(np.zeros((5, 6, 2), np.uint8))
    for _ in range(3):
        histeq.equalize(image, nodata=1)
        histeq.equalize(colored, layout="HWC", color="channels", alpha=True)
        histeq.clahe(image, tiles=2)
        assert not np.signbit(histeq.equalize(floating, out_range=(0.0, 1.0)).array).any()
        with pytest.raises(TypeError, match="nodata must be"):
            histeq.equalize(image, nodata=True)
        with pytest.raises(TypeError, match="alpha must be"):
            histeq.equalize(colored, layout="HWC", color="channels", alpha=1)
        with pytest.raises(TypeError, match="tiles must be"):
            histeq.clahe(image, tiles=2.0)
        with pytest.raises(ValueError, match="rule must be"):
            histeq.equalize(image, rule="nonsense")
    for value in (0.5, -0.5, 0.0, -0.0, float("nan")) * 3:
        expected = histeq.equalize(floating.array, nodata=value, backend="numpy")
        assert same(histeq.equalize(floating, nodata=value).array, expected)


def test_streams_and_graphs(cupy, planned):
    """A plan is a stream's: its workspace is. What is captured is what the plan launches."""
    rng = np.random.default_rng(5)
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    image = cupy.zeros((20, 31), np.dtype(np.uint8))
    kept = []
    for _ in range(4):
        for stream in streams:
            new = image_of(rng, "uint8", (20, 31))
            with stream:
                kept.append((stream, new, histeq.equalize(cupy.asarray(new))))
    for stream, new, result in kept:
        assert not np.array_equal(result.array, histeq.equalize(new, backend="numpy"))  # nobody waited
        stream.synchronize()
        assert same(result.array, histeq.equalize(new, backend="numpy"))
        break
    for stream, new, result in kept:
        stream.synchronize()
        assert same(result.array, histeq.equalize(new, backend="numpy"))
    assert len(planned) == 4
    out = cupy.zeros((20, 31), np.dtype(np.uint8))
    with streams[0] as stream:
        for _ in range(2):
            histeq.clahe(image, tiles=2, out=out)
        stream.begin_capture()
        histeq.clahe(image, tiles=2, out=out)
        graph = stream.end_capture()
        assert len(planned) == 5
        for _ in range(3):
            new = image_of(rng, "uint8", (20, 31))
            image.set(new)
            graph.launch(stream)
            histeq.clahe(cupy.asarray(image_of(rng, "uint8", (20, 31))), tiles=2)
            stream.synchronize()
            assert same(out.array, histeq.clahe(new, tiles=2, backend="numpy"))


def test_threads_on_two_devices(cupy, planned):
    rng = np.random.default_rng(6)
    images = [image_of(rng, "uint8", (20, 31)) for _ in range(8)]
    expected = [histeq.equalize(image, backend="numpy") for image in images]
    wrong, ended = [], threading.Barrier(4)

    def work(number):
        try:
            for i in range(8):
                device = (number + i) % 2
                with Device(device):
                    lent = cupy.asarray(images[i])
                with Device((number + i // 2) % 2):
                    result = histeq.equalize(lent)
                if result.device.id != device or not np.array_equal(result.array, expected[i]):
                    wrong.append((number, i))
        except Exception as error:
            wrong.append(error)
        ended.wait(60)  # the workspace, with its plans, of a thread that is gone would serve another one

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(planned) == 4 * 2 * 2


def test_arrays_of_two_devices_are_refused(cupy, planned):
    image, mask = (cupy.asarray(np.ones((20, 31), kind)) for kind in (np.uint8, np.bool_))
    with Device(1):
        others = {"mask": cupy.asarray(mask.array), "out": cupy.asarray(image.array)}
        table = cupy.asarray(np.arange(256, dtype=np.uint8))
    for _ in range(3):
        histeq.equalize(image, mask=mask, out=image)
        histeq.apply(image, cupy.asarray(table.array))
        for name, other in others.items():
            with pytest.raises(ValueError, match=rf"{name} must be on the image's device"):
                histeq.equalize(image, **{"mask": mask, "out": image, name: other})
        with pytest.raises(ValueError, match="table must be on the image's device"):
            histeq.apply(image, table)
        with pytest.raises(ValueError, match="reference must be on the image's device"):
            histeq.match(image, others["out"])
    assert len(planned) == 2
    here, there = (histeq.tile_histograms(lent, tiles=2) for lent in (image, others["out"]))
    with pytest.raises(ValueError, match="on one device, got <CUDA Device 0> and <CUDA Device 1>"):
        here + there
    with pytest.raises(ValueError, match="add_to must be on the image's device"):
        histeq.tile_histograms(image, add_to=there)
    with pytest.raises(ValueError, match="tables must be on the image's device"):
        histeq.apply_tiles(image, histeq.tile_tables(there))


def test_out_of_memory(cupy, planned, monkeypatch):
    image = image_of(np.random.default_rng(7), "uint8", (200, 310))
    lent = cupy.asarray(image)
    for _ in range(3):
        histeq.equalize(lent)
    monkeypatch.setattr(Machine, "memory", Machine.with_left(1000))
    with pytest.raises(MemoryError) as caught:
        histeq.equalize(lent)
    assert any("out=" in note for note in caught.value.__notes__)
    monkeypatch.setattr(Machine, "memory", 1 << 33)
    assert same(histeq.equalize(lent).array, histeq.equalize(image, backend="numpy"))
    assert len(planned) >= 2


def test_plans_are_few_and_keep_no_arrays(cupy, planned, monkeypatch):
    monkeypatch.setattr(plans(), "_MOST_PLANS", 5)
    rng = np.random.default_rng(8)
    lost = []
    for _ in range(2):
        for size in range(1, 9):
            for _ in range(3):
                image = image_of(rng, "uint8", (size, 7))
                lent = cupy.asarray(image)
                out = cupy.zeros((size, 7), np.dtype(np.uint8))
                assert same(histeq.equalize(lent, out=out).array, histeq.equalize(image, backend="numpy"))
                lost += [weakref.ref(lent), weakref.ref(out)]
    del lent, out
    gc.collect()
    assert not any(reference() is not None for reference in lost)
    workspace = sys.modules["histeq._backends.cupy.device"].device(0).workspace()
    assert len(workspace.plans) == 5
    assert len(planned) == 16


def test_calls_that_do_more_than_launch(cupy, planned):
    """They have no plan, and are right each time."""
    rng = np.random.default_rng(9)
    for _ in range(3):
        image = image_of(rng, "uint8", (20, 31, 4))
        mask = rng.integers(0, 2, (20, 31), np.uint8)
        for keywords in (
            {"layout": "HWC"},  # copies alpha
            {"layout": "HWC", "mask": mask},
            {"layout": "HWC", "color": "channels", "value_range": (5, 99)},
        ):
            lent = {k: cupy.asarray(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
            expected = histeq.equalize(image, backend="numpy", **keywords)
            assert same(histeq.equalize(cupy.asarray(image), **lent).array, expected)
        floating = rng.random((20, 31), np.float32)
        limits = (np.float32(0.1), np.float64(0.7))
        expected = histeq.equalize(floating, value_range=limits, backend="numpy")
        assert same(histeq.equalize(cupy.asarray(floating), value_range=limits).array, expected)
        crooked = moved(np.zeros(1241, np.uint8)[1:].view(np.uint16), rng.integers(0, 999, 620, np.uint16))
        expected = histeq.equalize(crooked, layout="W", backend="numpy")
        assert same(histeq.equalize(on_gpu(crooked), layout="W").array, expected)
    assert not planned
