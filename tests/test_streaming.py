"""Host arrays on the GPU, piece by piece: late streams, pinned memory, and little memory on the device."""

import importlib
import pickle

import numpy as np
import pytest
from cuda_host import fake_cupy
from cuda_host.fake_cupy import Machine
from images import DTYPES, FLOATS, INTEGERS, RULES, random_float, random_values, same

import histeq


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setattr(Machine, "memory", Machine.memory)
    with fake_cupy.installed() as module:
        yield module


@pytest.fixture
def pieces(cupy, monkeypatch):
    """Return the module that cuts images into pieces, of 4 KB at most."""
    module = importlib.import_module("histeq._backends.cupy.pieces")
    monkeypatch.setattr(module, "PIECE", 4096)
    return module


@pytest.fixture
def transfer(pieces):
    """Return the module of the streams; pieces have 4 KB at most."""
    return importlib.import_module("histeq._backends.cupy.transfer")


def check(image, **keywords):
    expected = histeq.equalize(image, backend="numpy", **keywords)
    result = histeq.equalize(image, backend="cupy", **keywords)
    assert type(result) is np.ndarray
    assert result.strides == expected.strides
    assert same(result, expected)


def random_image(rng, dtype, shape):
    if dtype in FLOATS:
        return random_float(rng, dtype, shape)
    return random_values(rng, int(np.prod(shape)), dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_of_many_pieces(dtype, pieces):
    rng = np.random.default_rng(0)
    image = random_image(rng, dtype, (70, 203))
    check(image)
    check(image[:, 3:180])
    check(image[::-2, ::-1])
    check(np.asfortranarray(image))
    check(image, mask=image > np.median(image))
    check(image, nodata=image[5, 5].item() if np.isfinite(image[5, 5]) else 0.5)
    check(image.astype(image.dtype.newbyteorder()))
    for keywords in ({}, {"value_range": (-1, 2), "bins": 77}) if dtype in FLOATS else ({},):
        counts = histeq.histogram(image, backend="cupy", **keywords)
        assert type(counts) is np.ndarray
        assert same(counts, histeq.histogram(image, backend="numpy", **keywords))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_rules(rule, dtype, pieces):
    image = random_image(np.random.default_rng(1), dtype, (60, 130))
    check(image, rule=rule, out_range=(16, 100) if rule != "skimage" else (-1, 2.5))
    check(image, rule=rule, value_range=(5, 99))
    if rule != "skimage":
        check(image, rule=rule, out_dtype=np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_and_volumes(dtype, pieces):
    rng = np.random.default_rng(2)
    check(random_image(rng, dtype, (9, 20, 31)), layout="NHW")  # several images a piece
    images = random_image(rng, dtype, (3, 90, 80))  # several pieces an image
    check(images, layout="NHW")
    check(images, layout="DHW")
    check(images, layout="CHW", color="channels")
    check(images, layout="NHW", mask=images > 0)
    check(images, layout="NHW", mask=images[0] > 0)
    check(random_image(rng, dtype, (1, 9000)))
    check(images[:0], layout="NHW")
    check(images[:, :0], layout="NHW")


@pytest.mark.parametrize("color", ["luma", "luma-bgr", "channels"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_color(dtype, channels, color, pieces):
    rng = np.random.default_rng(3)
    image = random_image(rng, dtype, (2, 60, 50, channels))
    check(image, layout="NHWC", color=color)
    check(image[0, :9, :7], layout="HWC", color=color)
    check(np.ascontiguousarray(np.moveaxis(image, -1, 1)), layout="NCHW", color=color, nodata=5)


SHARES = [(1.5, "uint8"), (1.5, "int16"), (1.5, "float32"), (4, "uint8"), (0.75, "float32")]
ALIKE = [(4, "int16"), (4, "float32"), (0.75, "uint8"), (0.75, "int16")]


@pytest.mark.parametrize(
    ("share", "dtype"), [*SHARES, *(pytest.param(*case, marks=pytest.mark.exhaustive) for case in ALIKE)]
)
def test_images_larger_than_the_device(share, dtype, cupy):
    """The fake device refuses what it has no memory for."""
    image = random_image(np.random.default_rng(4), dtype, (700, 1900 // np.dtype(dtype).itemsize))
    kept = 1 << 22 if dtype == "int16" else 1 << 18  # counts of 65,536 levels, in the workspaces of 3 streams
    Machine.memory = Machine.with_left(kept + int(image.nbytes / share))
    check(image)
    out = image.copy()
    if dtype != "float32" or image.dtype == "float32":
        assert histeq.equalize(out, out=out, backend="cupy") is out
        assert same(out, histeq.equalize(image, backend="numpy"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_clahe_of_images_larger_than_the_device(dtype, cupy, monkeypatch):
    """Counted tile by tile; tiles without a counted pixel get the tables of others."""
    rng = np.random.default_rng(11)
    image = random_image(rng, dtype, (203, 400))
    histeq.histogram(image, backend="cupy")
    monkeypatch.setattr(importlib.import_module("histeq._backends.cupy.pieces"), "SHARE", 12)
    if dtype == "int16":  # all counts of this image are larger than the image is
        monkeypatch.setattr(
            importlib.import_module("histeq._backends.cupy.streaming"), "_fits", lambda *_: False
        )
    few = {"bins": 512} if dtype == "int16" else {}
    mask = np.zeros(image.shape, np.bool_)
    mask[:140, 300:] = image[:140, 300:] > np.median(image)
    cases = [{"tiles": (2, 3), "mask": mask}, {"tiles": 2, "nodata": image[5, 5].item()}]
    for keywords in cases[:1] if dtype == "int16" else cases:
        expected = histeq.clahe(image, backend="numpy", **keywords, **few)
        histeq.clahe(image[:9], backend="cupy", **{**keywords, "mask": None}, **few)  # workspaces stay
        Machine.memory = Machine.with_left(1 << 22 if dtype == "int16" else image.nbytes - 1000)
        assert same(histeq.clahe(image, backend="cupy", **keywords, **few), expected)
        Machine.memory = 1 << 33


def test_clahe_of_colored_batches_larger_than_the_device(cupy, monkeypatch):
    frames = np.random.default_rng(12).integers(0, 200, (2, 90, 200, 3), np.uint8)
    keywords = {"layout": "NHWC", "tiles": 2}
    expected = histeq.clahe(frames, backend="numpy", **keywords)
    histeq.clahe(frames[:, :9, :9], backend="cupy", **keywords)  # workspaces stay
    monkeypatch.setattr(importlib.import_module("histeq._backends.cupy.pieces"), "SHARE", 12)
    Machine.memory = Machine.with_left(frames[0].nbytes - 1000)
    assert same(histeq.clahe(frames, backend="cupy", **keywords), expected)


def test_out_of_memory_says_what_to_do(cupy):
    image = np.random.default_rng(13).integers(0, 200, (300, 400), np.uint8)
    lent = cupy.asarray(image)
    Machine.memory = Machine.with_left(2000)
    for call, remedies in (
        (lambda: histeq.equalize(lent), ("free_all_blocks", "empty_cache", "out=image", "backend='cupy'")),
        (lambda: histeq.clahe(lent, out=lent), ("tiles or bins", "backend='cupy'")),
        (lambda: histeq.clahe(image, backend="cupy"), ("free_all_blocks", "backend='numba'", "tiles")),
    ):
        with pytest.raises(MemoryError) as caught:
            call()
        assert len(caught.value.__notes__) == 1
        assert all(remedy in caught.value.__notes__[0] for remedy in remedies)
    assert np.array_equal(lent.array, image)
    Machine.memory = 1 << 33
    assert same(histeq.clahe(lent, out=lent).array, histeq.clahe(image, backend="numpy"))
    assert same(histeq.clahe(image, backend="cupy"), histeq.clahe(image, backend="numpy"))


def test_pieces_stay_on_the_device_while_there_is_room(pieces, monkeypatch):
    uploads = []
    upload = pieces.upload
    monkeypatch.setattr(pieces, "upload", lambda *arguments: uploads.append(1) or upload(*arguments))
    image = np.arange(64 * 512, dtype=np.uint8).reshape(64, 512)
    histeq.equalize(image, backend="cupy")
    assert len(uploads) == 8
    uploads.clear()
    monkeypatch.setattr(pieces, "free_memory", lambda: 1 << 15)
    histeq.equalize(image, backend="cupy")
    assert len(uploads) == 64 + 32  # 512 bytes each; 16 KB stay


def test_table_apply_and_match(pieces):
    rng = np.random.default_rng(5)
    for dtype in DTYPES:
        image, reference = (random_image(rng, dtype, shape) for shape in ((90, 80), (50, 60)))
        assert same(
            histeq.match(image, reference, backend="cupy"), histeq.match(image, reference, backend="numpy")
        )
        if dtype in INTEGERS:
            counts = histeq.histogram(image)
            table = histeq.lookup_table(counts, dtype=dtype, rule="pillow", backend="cupy")
            assert same(table, histeq.lookup_table(counts, dtype=dtype, rule="pillow", backend="numpy"))
            out = np.empty(image.shape[::-1], dtype).T
            assert histeq.apply(image, table, out=out, backend="cupy") is out
            assert same(out, histeq.apply(image, table, backend="numpy"))


def test_wrong_arguments_are_refused(pieces, cupy):
    image = np.zeros((4, 5), np.uint8)
    on_gpu = fake_cupy.ndarray.of(image)
    with pytest.raises(TypeError, match="out must be an array of the image's kind, got ndarray"):
        histeq.equalize(image, out=on_gpu, backend="cupy")
    with pytest.raises(TypeError, match="mask must be an array of the image's kind, got ndarray"):
        histeq.equalize(image, mask=on_gpu, backend="cupy")
    with pytest.raises(ValueError, match="share no memory"):
        histeq.equalize(image[:3], out=image[1:], backend="cupy")
    read_only = np.zeros((4, 5), np.uint8)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writable"):
        histeq.equalize(image, out=read_only, backend="cupy")


@pytest.mark.parametrize("forgotten", ["synchronize", "held"])
def test_a_missing_wait_shows(forgotten, transfer, monkeypatch):
    """The streams of the fake are late, and its pinned memory is taken back: mistakes show."""
    if forgotten == "held":
        stream = transfer.TransferStream
        monkeypatch.setattr(stream, "upload", _leaky(stream.upload))
    else:
        monkeypatch.setattr(fake_cupy.Stream, "synchronize", lambda self: None)
    with pytest.raises((AssertionError, RuntimeError)):
        check(np.arange(64 * 512, dtype=np.uint8).reshape(64, 512) // 2)


def _leaky(upload):
    def upload_and_forget(self, array):
        copied = upload(self, array)
        self._pinned.clear()
        return copied

    return upload_and_forget


def test_error_in_the_middle_leaves_the_streams_clean(pieces, transfer, monkeypatch):
    image = np.arange(64 * 512, dtype=np.uint8).reshape(64, 512)
    upload, calls = pieces.upload, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise fake_cupy.OutOfMemoryError("Out of memory allocating 4,096 bytes")
        return upload(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "upload", failing)
        with pytest.raises(MemoryError):
            histeq.equalize(image, backend="cupy")
    for stream in next(iter(transfer._local.unused.values()))[-1]:
        assert not stream.stream.queue
        assert not stream._pinned
        assert not stream._downloads
    check(image)


def clip_of(shots=(7, 6, 5), shape=(24, 33), dtype=np.uint8):
    rng = np.random.default_rng(len(shots))
    frames = [rng.integers(40 * s, 40 * s + 40, (n, *shape)) for n, s in zip(shots, (0, 2, 1), strict=False)]
    return np.concatenate(frames).astype(dtype)


MASK = np.random.default_rng(5).random((24, 33)) < 0.6


class TestFrames:
    """Those of a clip: each is uploaded once, while the one before it is mapped."""

    @pytest.fixture
    def uploads(self, transfer, monkeypatch):
        """Return a list of the sizes in bytes of what is uploaded."""
        upload, sizes = transfer.TransferStream.upload, []

        def counted(self, array):
            sizes.append(array.nbytes)
            return upload(self, array)

        monkeypatch.setattr(transfer.TransferStream, "upload", counted)
        return sizes

    @pytest.mark.parametrize("centered", [True, False])
    @pytest.mark.parametrize(
        ("clip", "options"),
        [
            (clip_of(), {"mask": MASK, "nodata": 77, "strength": 0.25}),
            (clip_of((3, 2), dtype=">i2"), {"value_range": (-9, 99), "roi": (3, 5, 15, 20)}),
            (clip_of()[:, ::-1, 3:-2], {"rule": "skimage"}),
            (clip_of((3, 2), (20, 31, 4)), {"layout": "HWC"}),
            (np.moveaxis(clip_of((3, 2), (20, 31, 3)), 3, 1), {"layout": "CHW", "color": "channels"}),
            (clip_of((3, 2), dtype=np.float32), {"value_range": (0, 99), "bins": 64}),
            (clip_of((3, 2)), {"method": "clahe", "tiles": (2, 3), "mask": MASK}),
            (clip_of((3, 2)), {"method": "clahe", "tiles": (2, 3), "roi": (3, 5, 15, 20)}),
        ],
        ids=range(8),
    )
    def test_as_on_the_cpu(self, clip, options, centered, uploads):
        own, other = (
            histeq.Equalizer(window=4, centered=centered, backend=backend, **options)
            for backend in ("cupy", "numpy")
        )
        expected = list(other.frames(clip))
        found = list(own.frames(iter(clip)))
        assert all(map(same, found, expected))
        assert [frame.strides for frame in found] == [frame.strides for frame in expected]
        assert own.cut_frames == other.cut_frames
        assert same(own.counts, other.counts)
        if options.get("method") is None:
            assert same(own.table, other.table)
        size = np.prod(clip.shape[1:4]) * clip.itemsize * 3 // 4 if clip.shape[-1] == 4 else clip[0].nbytes
        assert uploads.count(size) == len(clip) + (clip.itemsize == 1 and "mask" in options)
        if found[0].dtype == clip.dtype:
            lent = [frame.copy(order="K") for frame in clip]
            for frame, given, mapped in zip(own.frames(lent, in_place=True), lent, expected, strict=True):
                assert frame is given
                assert same(frame, mapped)

    @pytest.fixture
    def queues(self, transfer, monkeypatch):
        """Return a list of all streams, which fills as they are made."""
        streams, make = [], transfer.TransferStream.__init__

        def recorded(self):
            make(self)
            streams.append(self.stream)

        monkeypatch.setattr(transfer.TransferStream, "__init__", recorded)
        return streams

    def test_the_next_one_may_be_faster(self, transfer, queues, monkeypatch):
        """Its upload may be done before the kernels of the one before begin: it takes no memory of theirs."""
        wait = transfer.TransferStream.wait

        def others_first(self):
            for stream in queues:
                if stream is not self.stream:
                    stream.drain()
            wait(self)

        monkeypatch.setattr(transfer.TransferStream, "wait", others_first)
        clip = clip_of()
        for window in (2, 4):  # a frame is mapped on the stream that uploaded it, and on the other
            options = {"window": window, "centered": True}
            own, other = (histeq.Equalizer(backend=backend, **options) for backend in ("cupy", "numpy"))
            assert all(map(same, own.frames(clip), other.frames(clip)))

    def test_the_next_one_is_under_way(self, queues):
        """When a frame is there, the next one's copy is still queued, and nothing else."""
        for centered in (True, False):
            equalizer = histeq.Equalizer(window=2, centered=centered, backend="cupy")
            under_way = [sum(len(s.queue) for s in queues) for _ in equalizer.frames(clip_of((9,)))]
            read_ahead = len(under_way) - 1 - equalizer.lag
            assert all(under_way[:read_ahead])
            assert not any(under_way[read_ahead:])

    def test_little_memory(self, cupy, uploads, monkeypatch):
        clip = clip_of((70,), (60, 80))
        expected = list(histeq.Equalizer(window=100, centered=True, backend="numpy").frames(clip))
        equalizer = histeq.Equalizer(window=100, centered=True, backend="cupy")
        next(equalizer.frames(clip[:1]))  # workspaces stay
        equalizer.reset()
        monkeypatch.setattr(Machine, "memory", Machine.with_left(1_100_000))
        assert all(map(same, equalizer.frames(clip), expected))
        assert uploads.count(4800) > 1 + len(clip)  # some twice

    def test_frames_too_large_go_in_pieces(self, cupy, uploads, monkeypatch):
        clip = clip_of((3,), (60, 80))
        next(histeq.Equalizer(backend="cupy").frames(clip))  # workspaces stay
        monkeypatch.setattr(Machine, "memory", Machine.with_left(64 * 4799))
        uploads.clear()
        expected = histeq.Equalizer(window=3, backend="numpy").frames(clip)
        assert all(map(same, histeq.Equalizer(window=3, backend="cupy").frames(clip), expected))
        assert 0 < max(uploads) < 4800

    @pytest.mark.parametrize("centered", [True, False])
    @pytest.mark.parametrize("in_place", [True, False])
    def test_errors_lose_no_frame(self, in_place, centered, transfer):
        def reader(clip, wrong):
            yield from clip[:8].copy()
            if wrong is None:
                raise OSError("the disk is gone")
            yield wrong

        clip = clip_of()
        equalizer = histeq.Equalizer(window=2, centered=centered, backend="cupy")
        other = histeq.Equalizer(window=2, centered=centered, backend="numpy")
        for wrong, error in ((None, OSError), (clip[0, 1:], ValueError), (clip[0].astype(int), TypeError)):
            found, expected, messages = [], [], []
            for one, frames in ((equalizer, found), (other, expected)):
                with pytest.raises(error) as caught:
                    frames.extend(one.frames(reader(clip, wrong), in_place=in_place))
                messages.append(str(caught.value))
            assert messages[0] == messages[1]
            assert len(found) == 8 - equalizer.lag
            assert all(map(same, found, expected))
        for streams in transfer._local.unused.values():
            assert not any(stream.stream.queue or stream._pinned for pair in streams for stream in pair)

    def test_left_pickled_and_in_turns(self, cupy):
        """A clip is left and goes on by other calls; two clips and an image share the device."""
        clip = clip_of()
        for centered in (True, False):
            options = {"window": 4, "centered": centered}
            expected = list(histeq.Equalizer(backend="numpy", **options).frames(clip))
            one, two = (histeq.Equalizer(backend="cupy", **options) for _ in range(2))
            first, second = one.frames(clip), two.frames(clip)
            for mapped, _ in zip(expected[:4], range(4), strict=True):
                assert same(next(first), mapped)
                check(clip[3])
                assert same(next(second), mapped)
            again = pickle.loads(pickle.dumps(one))
            first.close()
            for left in (one, again):
                found = []
                for frame in clip[4 + left.lag :]:
                    left.update(frame)
                    found.append(left.apply(clip[4 + len(found)]))
                left.finish()
                found += [left.apply(frame) for frame in clip[4 + len(found) :]]
                assert all(map(same, found, expected[4:]))
                assert left.cut_frames == (7, 13)
            assert all(map(same, second, expected[4:]))
