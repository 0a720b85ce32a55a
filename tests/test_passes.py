"""Files by blocks: the pixels are those of the whole image, whatever the blocks and the memory."""

import io
import itertools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from click.testing import CliRunner

import histeq
from histeq import FileError, _files
from histeq._cli import cli
from histeq._files import npy, opened
from histeq._passes import run as run_module
from histeq._passes.levels import reduced

RANDOM = np.random.default_rng(15)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Make blocks of small images."""
    monkeypatch.setattr(run_module, "SMALL", 100)
    monkeypatch.setattr(run_module, "_WINDOW", 5000)
    monkeypatch.setattr(run_module, "_DEVICE_WINDOW", 20000)
    monkeypatch.setattr(npy, "_ROWS", 16)


def photograph(dtype, *shape):
    values = RANDOM.normal(100, 20, shape)
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else np.clip(values, 0, 127).astype(dtype)


def layout(image):
    return "HW" if image.ndim == 2 else "HWC"


def through(folder, function, image, *arguments, **options):
    """Save an image, run a function of files on it, and return the result's pixels."""
    np.save(folder / "in.npy", image)
    result = function(folder / "in.npy", *arguments, folder / "out.npy", overwrite=True, **options)
    assert result.height * result.width * result.pages * result.channels == image.size
    return np.load(folder / "out.npy")


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("channels", [(), (3,), (4,)], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_equalize(tmp_path, dtype, channels):
    image = photograph(dtype, 61, 53, *channels)
    color = "luma" if channels != (4,) and dtype[0] == "u" else "channels"
    same(
        through(tmp_path, histeq.equalize_file, image, color=color),
        histeq.equalize(image, layout=layout(image), color=color),
    )


def test_every_backend(tmp_path, backend):
    image = photograph("uint8", 50, 40)
    same(through(tmp_path, histeq.equalize_file, image, backend=backend), histeq.equalize(image))
    model = photograph("uint8", 30, 30) // 2
    np.save(tmp_path / "model.npy", model)
    same(
        through(tmp_path, histeq.match_file, image, tmp_path / "model.npy", backend=backend),
        histeq.match(image, model),
    )
    same(
        through(tmp_path, histeq.clahe_file, image, tiles=(3, 2), backend=backend),
        histeq.clahe(image, tiles=(3, 2)),
    )


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint8", {"rule": "numpy", "out_range": (16, 235)}),
        ("uint8", {"rule": "skimage"}),
        ("uint8", {"nodata": 100, "out_range": (100, 200)}),
        ("uint16", {"value_range": (90, 120), "out_dtype": np.uint8}),
        ("int16", {"nodata": 95, "rule": "vips"}),
        ("float32", {"bins": 1000, "nodata": 99.5, "out_range": (-1, 3)}),
        ("float64", {"value_range": (80.25, 120)}),
        ("float16", {}),
    ],
    ids=str,
)
def test_arguments(tmp_path, dtype, options):
    image = photograph(dtype, 60, 50)
    mask = RANDOM.random((60, 50)) < 0.3
    expected = histeq.equalize(image, mask=mask, **options)
    same(through(tmp_path, histeq.equalize_file, image, mask=mask, **options), expected)
    np.save(tmp_path / "mask.npy", mask.astype(np.uint8))
    same(through(tmp_path, histeq.equalize_file, image, mask=tmp_path / "mask.npy", **options), expected)


@pytest.mark.parametrize("values", [(np.nan, np.nan), (np.nan, np.inf), (5, 5), (5, np.nan)], ids=str)
@pytest.mark.parametrize("function", ["equalize", "clahe"])
def test_floats_of_few_values(tmp_path, function, values):
    image = RANDOM.choice(np.array(values, np.float32), (40, 30))
    for nodata in (None, 5):
        expected = getattr(histeq, function)(image, nodata=nodata)
        same(through(tmp_path, getattr(histeq, f"{function}_file"), image, nodata=nodata), expected)


def test_all_nodata(tmp_path):
    image = np.full((40, 30), 7, np.uint8)
    for function in (histeq.equalize_file, histeq.clahe_file):
        same(through(tmp_path, function, image, nodata=7), image)


def test_pages(tmp_path):
    pages = np.stack([photograph("uint8", 40, 30), photograph("uint8", 40, 30) // 2])
    for limit in (100, 1 << 20):
        run_module.SMALL = limit
        same(through(tmp_path, histeq.equalize_file, pages), histeq.equalize(pages, layout="NHW"))
        same(through(tmp_path, histeq.clahe_file, pages), histeq.clahe(pages, layout="NHW"))
    together = through(tmp_path, histeq.equalize_file, pages, pages="together")
    same(together, histeq.equalize(pages.reshape(80, 30)).reshape(pages.shape))
    masks = RANDOM.random(pages.shape) < 0.5
    expected = histeq.equalize(pages, layout="NHW", mask=masks)
    same(through(tmp_path, histeq.equalize_file, pages, mask=masks), expected)
    np.save(tmp_path / "mask.npy", masks.astype(np.uint8))
    same(through(tmp_path, histeq.equalize_file, pages, mask=tmp_path / "mask.npy"), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_files_together(tmp_path, dtype):
    images = [photograph(dtype, 30 + 10 * i, 40) // (i + 1) for i in range(3)]
    sources = [tmp_path / f"{i}.npy" for i in range(3)]
    targets = [tmp_path / f"out{i}.npy" for i in range(3)]
    for path, image in zip(sources, images, strict=True):
        np.save(path, image)
    results = histeq.equalize_file(sources, targets)
    assert [result.height for result in results] == [30, 40, 50]
    expected = histeq.equalize(np.concatenate(images))
    same(np.concatenate([np.load(path) for path in targets]), expected)


def test_together_needs_alike(tmp_path):
    np.save(tmp_path / "a.npy", photograph("uint8", 20, 20))
    np.save(tmp_path / "b.npy", photograph("uint16", 20, 20))
    sources, targets = [tmp_path / "a.npy", tmp_path / "b.npy"], [tmp_path / "c.npy", tmp_path / "d.npy"]
    with pytest.raises(
        FileError, match=r"b\.npy: it has 1 channels of uint16, and .*a\.npy 1 channels of uint8"
    ):
        histeq.equalize_file(sources, targets)
    assert not any(path.exists() for path in targets)
    with pytest.raises(ValueError, match="dst must be a sequence of 2 files"):
        histeq.equalize_file(sources, targets[:1])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_match(tmp_path, dtype):
    image, model = photograph(dtype, 40, 30, 3), photograph(dtype, 25, 70, 3) // 2
    np.save(tmp_path / "model.npy", model)
    same(
        through(tmp_path, histeq.match_file, image, tmp_path / "model.npy", nodata=50),
        histeq.match(image, model, layout="HWC", nodata=50),
    )


def _random_clahe(folder, seed):
    rng = np.random.default_rng(seed)
    dtype = str(rng.choice(["uint8", "uint16", "int16", "float32"]))
    channels = [(), (), (3,), (4,)][rng.integers(4)]
    image = photograph(dtype, *rng.integers(20, 200, 2), *channels)
    options = {"color": "luma" if channels != (4,) and dtype[0] == "u" else "channels"}
    if rng.random() < 0.5:
        options["tiles"] = tuple(map(int, rng.integers(1, 12, 2)))
    else:
        options["tile_size"] = tuple(map(int, rng.integers(5, 90, 2)))
    if rng.random() < 0.4:
        image[:, : image.shape[1] // 3] = image[image.shape[0] // 2 :] = 7
        options["nodata"] = 7
    if rng.random() < 0.3:
        options["mask"] = mask = np.zeros(image.shape[:2], bool)
        y, x = rng.integers(0, np.array(mask.shape) - 10)
        mask[y : y + 60, x : x + 40] = True
    if rng.random() < 0.2 and dtype != "float32":
        options["value_range"] = (90, 110)
    npy._ROWS = int(rng.choice([8, 16, 64]))
    memory = int(rng.choice([1 << 30, 4 << 20, 1 << 20] if dtype == "uint8" else [1 << 30, 400 << 20]))
    same(
        through(folder, histeq.clahe_file, image, memory=memory, **options),
        histeq.clahe(image, layout=layout(image), **options),
    )


@pytest.mark.parametrize("seed", range(12))
def test_clahe(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(npy, "_ROWS", 16)
    _random_clahe(tmp_path, seed)


@pytest.mark.exhaustive
def test_clahe_of_hundreds(tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "_ROWS", 16)
    for seed in range(100, 500):
        _random_clahe(tmp_path, seed)


def test_open_files(tmp_path):
    image = photograph("uint8", 40, 30)
    source, target = io.BytesIO(), io.BytesIO()
    np.save(source, image)
    source.seek(0)
    histeq.equalize_file(source, target)
    target.seek(0)
    same(np.load(target), histeq.equalize(image))
    with pytest.raises(ValueError, match="dst must not be src"):
        histeq.equalize_file(source, source)


def test_open_files_in_memory_have_no_copies(monkeypatch):
    monkeypatch.setattr(run_module, "_WINDOW", 1 << 20)
    image = photograph("uint8", 2000, 2000)
    expected = histeq.equalize(image)
    source, target = io.BytesIO(), io.BytesIO(bytes(10_000_000))  # longer than the result
    np.save(source, image[:9])
    histeq.equalize_file(source, io.BytesIO())  # imports take memory, too
    source.seek(0)
    np.save(source, image)
    tracemalloc.start()
    histeq.equalize_file(source, target, memory="1M")
    assert tracemalloc.get_traced_memory()[1] < 7 << 20  # the target takes 4 MB
    tracemalloc.stop()
    assert len(target.getvalue()) == len(source.getvalue())
    target.seek(0)
    same(np.load(target), expected)
    target.close()  # which it cannot be while its memory is in use


def test_open_files_together():
    images = [photograph("uint8", 40, 30), photograph("uint8", 40, 30) // 2]
    sources, targets = [io.BytesIO(), io.BytesIO()], [io.BytesIO(), io.BytesIO()]
    for file, image in zip(sources, images, strict=True):
        np.save(file, image)
    histeq.equalize_file(sources, targets)
    for file in targets:
        file.seek(0)
    same(np.concatenate([np.load(file) for file in targets]), histeq.equalize(np.concatenate(images)))


def test_many_small_tiles(tmp_path, monkeypatch):
    """Of a picture whose tables take more memory than itself only few are held, whatever its format."""
    image = photograph("uint16", 300, 300)
    imagecodecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
    held = []
    tables_of = histeq.tile_tables

    def counted(counts, **arguments):
        held.append(counts._canonical.nbytes)
        return tables_of(counts, **arguments)

    monkeypatch.setattr(histeq, "tile_tables", counted)
    expected = histeq.clahe(image, tile_size=30)
    np.save(tmp_path / "a.npy", image)
    for name in ("a.npy", "a.png"):
        histeq.clahe_file(tmp_path / name, tmp_path / "b.npy", tile_size=30, memory="32M", overwrite=True)
        same(np.load(tmp_path / "b.npy"), expected)
    assert 0 < max(held) <= 8 << 20


def test_tables_of_many_tiles_are_held_in_part(tmp_path):
    """Where pixels can be written anywhere, bands are narrow; strips that need too much are refused."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    image = photograph("uint16", 40, 500)
    expected = histeq.clahe(image, tile_size=16)
    np.save(tmp_path / "a.npy", image)
    ways = {"raw": {}, "deflate": {"compression": 8}, "tiles": {"rowsperstrip": None, "tile": (32, 32)}}
    for name, options in ways.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, image, metadata=None, **{"rowsperstrip": 32, **options})
    pairs = [("a.npy", "b.npy"), ("raw.tif", "b.tif"), ("deflate.tif", "b.npy"), ("tiles.tif", "b.npy")]
    for source, target in pairs:
        files = tmp_path / source, tmp_path / target
        tracemalloc.start()
        histeq.clahe_file(*files, tile_size=16, memory="64M", overwrite=True)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        tracemalloc.stop()
        same(np.load(files[1]) if target == "b.npy" else tifffile.imread(files[1]), expected)
    says = r"c\.tif: blocks of 500 x 32 pixels, .* need \d+ MiB of memory for tiles of 16 x 16, .* 64 MiB"
    with pytest.raises(FileError, match=says):
        histeq.clahe_file(tmp_path / "deflate.tif", tmp_path / "c.tif", tile_size=16, memory="64M")
    assert not (tmp_path / "c.tif").exists()


def test_match_of_a_small_picture(tmp_path, monkeypatch):
    """The reference is read in blocks, even if the picture is not."""
    image, model = photograph("uint8", 8, 8), photograph("uint8", 600, 500) // 2
    imagecodecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
    np.save(tmp_path / "model.npy", model)
    read, sizes = npy.NpySource.read, []

    def noted(source, window):
        sizes.append(window.height)
        return read(source, window)

    monkeypatch.setattr(npy.NpySource, "read", noted)
    histeq.match_file(tmp_path / "a.png", tmp_path / "model.npy", tmp_path / "b.npy", memory="1M")
    same(np.load(tmp_path / "b.npy"), histeq.match(image, model))
    assert max(sizes) < 300


@pytest.mark.parametrize("memory", ["1G", "1M"])
def test_fractions_take_more_memory(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(run_module, "SMALL", 1 << 24)
    pages = photograph("uint8", 3, 300, 200)
    result = through(tmp_path, histeq.equalize_file, pages, rule="skimage", memory=memory)
    same(result, histeq.equalize(pages, layout="NHW", rule="skimage"))


def test_on_device_by_several_threads(tmp_path, backend, monkeypatch):
    """Each thread has streams and pinned memory of its own."""
    monkeypatch.setattr(run_module, "_DEVICE_WINDOW", 1000)
    image = photograph("uint8", 160, 40)
    with histeq.threads(4):
        same(through(tmp_path, histeq.equalize_file, image, backend=backend), histeq.equalize(image))
        result = through(tmp_path, histeq.clahe_file, image, tiles=(5, 2), backend=backend)
        same(result, histeq.clahe(image, tiles=(5, 2)))


def test_progress(tmp_path):
    seen = []
    image = photograph("uint8", 600, 50)
    through(tmp_path, histeq.equalize_file, image, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == (60000, 60000)


def test_notes(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "a.zarr", data=photograph("uint8", 40, 30))
    array.attrs["units"] = "m"
    array.attrs["scale_factor"] = 2
    result = histeq.equalize_file(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert sorted(result.notes) == ["scale_factor not carried", "units not carried"]
    arguments = ["equalize", str(tmp_path / "a.zarr"), str(tmp_path / "c.zarr")]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0
    assert shown.output.count(f"histeq: note: {tmp_path / 'c.zarr'}: units not carried\n") == 1


def test_a_broken_mask_is_named(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    data = imagecodecs.png_encode(photograph("uint8", 40, 30))
    (tmp_path / "m.png").write_bytes(data[: len(data) // 2])
    np.save(tmp_path / "a.npy", photograph("uint8", 40, 30))
    with pytest.raises(FileError, match=r"m\.png: "):
        histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.npy", mask=tmp_path / "m.png")
    assert not (tmp_path / "b.npy").exists()


def test_overviews_know_nodata_as_the_dtype_has_it(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    image = photograph("float32", 600, 600)
    image[:, :400] = np.float32(0.1)
    np.save(tmp_path / "a.npy", image)
    seen = []
    histeq.equalize_file(
        tmp_path / "a.npy",
        tmp_path / "b.tif",
        nodata=np.float64(0.1),
        overviews=True,
        progress=lambda *n: seen.append(n),
    )
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        first, *copies = (
            file.pages[0].asarray(),
            *[page.asarray() for page in file.pages[0].pages or file.pages[1:]],
        )
    assert (first[:, :400] == np.float32(0.1)).all()
    assert copies
    half = copies[0]
    assert (half[:, :200] == np.float32(0.1)).all()
    assert (half[:, 200:] != np.float32(0.1)).all()
    assert seen[-1][0] == seen[-1][1] == 3 * first.size + sum(copy.size for copy in copies)


def test_no_other_backend_than_the_one_asked_for(tmp_path):
    np.save(tmp_path / "in.npy", photograph("uint8", 40, 30))
    code = """
import sys, histeq
for function in (histeq.equalize_file, histeq.clahe_file):
    function("in.npy", "out.npy", overwrite=True, backend="numpy")
sys.exit("numba" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_threads(tmp_path, monkeypatch):
    image = photograph("uint16", 60, 50)
    expected = histeq.equalize(image)
    for n in (1, 2, 7):
        with histeq.threads(n):
            same(through(tmp_path, histeq.equalize_file, image), expected)


def test_what_exists_is_kept(tmp_path):
    np.save(tmp_path / "a.npy", photograph("uint8", 20, 20))
    (tmp_path / "b.npy").write_bytes(b"precious")
    with pytest.raises(FileError, match=r"b\.npy: exists already"):
        histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.npy")

    def stop(done, total):
        raise KeyboardInterrupt

    for error, options in (
        (KeyboardInterrupt, {"progress": stop}),
        (FileError, {"max_pixels": 100}),
        (ValueError, {"nodata": 300}),
        (ValueError, {"rule": "none"}),
        (ValueError, {"format": "npy"}),
        (FileError, {"mask": np.ones((20, 21), bool)}),
    ):
        with pytest.raises(error):
            histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.npy", overwrite=True, **options)
        assert (tmp_path / "b.npy").read_bytes() == b"precious"
        assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_changes(tmp_path):
    np.save(tmp_path / "a.npy", photograph("uint8", 60, 50))

    def change(done, total):
        np.save(tmp_path / "a.npy", np.zeros((60, 50), np.uint8))

    with pytest.raises(FileError, match="the file was changed while it was read"):
        histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.npy", progress=change)
    assert not (tmp_path / "b.npy").exists()


@pytest.mark.parametrize("kind", ["folder", "zip", "array", "array in zip", "together"])
def test_a_chunk_that_changes(tmp_path, kind):
    """The folder of a Zarr store looks the same when a chunk within has changed."""
    zarr = pytest.importorskip("zarr")
    is_zip = "zip" in kind
    path = tmp_path / ("a.zarr.zip" if is_zip else "a.zarr")
    store = zarr.storage.ZipStore(path, mode="w") if is_zip else path
    array = zarr.create_array(store, data=photograph("uint8", 60, 50), chunks=(16, 16))
    if is_zip:
        store.close()
        array = zarr.open(zarr.storage.ZipStore(path, mode="r"), mode="r")
    source = array if "array" in kind else path

    def change(done, total):
        if is_zip:  # another file has the name
            (tmp_path / "new").write_bytes(path.read_bytes())
            (tmp_path / "new").replace(path)
        else:
            (path / "c/1/1").write_bytes((path / "c/0/0").read_bytes())

    files = source, tmp_path / "b.zarr"
    if kind == "together":
        files = [path, path], [tmp_path / "b.zarr", tmp_path / "c.zarr"]
    with pytest.raises(FileError, match="the file was changed while it was read"):
        histeq.equalize_file(*files, progress=change)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_memory(tmp_path, monkeypatch):
    from PIL import Image

    Image.fromarray(photograph("uint8", 1100, 1000)).save(tmp_path / "a.png")
    with pytest.raises(FileError, match=r"PNG cannot be read in blocks: 1000 x 1100 .* 1 MiB.*allows 1 MiB"):
        histeq.equalize_file(tmp_path / "a.png", tmp_path / "b.png", memory="1M")
    monkeypatch.setattr(npy, "_ROWS", 1000)
    monkeypatch.setattr(npy, "_COLUMNS", 1000)
    np.save(tmp_path / "a.npy", photograph("uint8", 1100, 1000))
    with pytest.raises(FileError, match=r"its blocks take 4 MiB of memory each, and --memory allows 2 MiB"):
        histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.npy", memory="2MiB")
    monkeypatch.setattr(npy, "_ROWS", 16)
    with pytest.raises(FileError, match=r"b\.png: its format cannot be written in blocks: 1000 x 1100 "):
        histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.png", memory="1M")
    for memory in ("much", 0, "100K", -(1 << 30), 2.5e9):
        with pytest.raises(ValueError, match="memory must be a number of bytes"):
            histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.npy", memory=memory)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp", "zarr", "tif"])
def test_formats(tmp_path, kind):
    pytest.importorskip("zarr")
    image = photograph("uint8", 40, 48, 3)
    np.save(tmp_path / "a.npy", image)
    histeq.equalize_file(tmp_path / "a.npy", tmp_path / f"b.{kind}")
    with opened(tmp_path / f"b.{kind}") as source:
        assert (source.header.height, source.header.width, source.header.channels) == (40, 48, 3)
    if kind not in ("jpg",):
        histeq.equalize_file(tmp_path / f"b.{kind}", tmp_path / "c.npy")
        once = histeq.equalize(image, layout="HWC")
        same(np.load(tmp_path / "c.npy"), histeq.equalize(once, layout="HWC"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("nodata", [None, 3])
def test_reduced(dtype, nodata):
    rng = np.random.default_rng(0)
    for height, width, fy, fx in ((8, 6, 2, 2), (9, 7, 2, 2), (12, 12, 4, 3), (5, 5, 1, 2)):
        image = rng.integers(0, 6, (height, width)).astype(dtype)
        shape = -(-height // fy), -(-width // fx)
        result = reduced(image, shape, (fy, fx), nodata)
        padded = np.pad(image, ((0, shape[0] * fy - height), (0, shape[1] * fx - width)), "edge")
        for y, x in np.ndindex(shape):
            block = padded[y * fy : (y + 1) * fy, x * fx : (x + 1) * fx].astype(float)
            valid = block[block != nodata] if nodata is not None else block
            if valid.size == 0:
                assert result[y, x] == nodata
                continue
            mean = valid.mean() if dtype == "float32" else np.floor(valid.mean() + 0.5)
            if mean == nodata:
                mean = np.nextafter(np.float32(3), np.float32(0)) if dtype == "float32" else 2
            assert result[y, x] == np.dtype(dtype).type(mean)


def test_reduced_pixels():
    image = np.array([[[3, 3, 3, 9], [3, 5, 7, 1]], [[3, 3, 3, 1], [3, 3, 3, 1]]], np.uint8)
    one = reduced(image, (1, 1), (2, 2), 3, by_pixel=True, alpha=True)
    assert one.tolist() == [[[3, 5, 7, 3]]]  # the one pixel with data; alpha is averaged
    each = reduced(image, (1, 1), (2, 2), 3, by_pixel=False, alpha=True)
    assert each.tolist() == [[[3, 5, 7, 3]]]
    nan = np.array([[np.nan, 1], [2, np.nan]], np.float32)
    assert reduced(nan, (1, 1), (2, 2)).tolist() == [[1.5]]
    assert np.isnan(reduced(nan * np.nan, (1, 1), (2, 2))).all()


def _pyramid(path, image, subifds, **options):
    import tifffile

    levels = [image, image[::2, ::2], image[::4, ::4]]
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate(levels):
            settings = {"subfiletype": 1} if number else {"subifds": 2 if subifds else 0}
            file.write(level, tile=(16, 16), compression="zlib", metadata=None, **settings, **options)


@pytest.mark.parametrize("subifds", [True, False])
@pytest.mark.parametrize("nodata", [None, 100])
def test_pyramids_are_made_of_the_new_pixels(tmp_path, subifds, nodata):
    import tifffile

    image = photograph("uint8", 70, 90)
    image[:20] = image[50, 3] = 100
    tag = [] if nodata is None else [(42113, 2, 4, b"100\0", True)]
    _pyramid(tmp_path / "a.tif", image, subifds, extratags=tag)
    for function in (histeq.equalize_file, histeq.clahe_file):
        function(tmp_path / "a.tif", tmp_path / "b.tif", overwrite=True)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            pages = file.pages[0].pages if subifds else file.pages[1:]
            levels = [page.asarray() for page in [file.pages[0], *pages]]
        same(levels[0], getattr(histeq, function.__name__.removesuffix("_file"))(image, nodata=nodata))
        assert [level.shape for level in levels] == [(70, 90), (35, 45), (18, 23)]
        for upper, lower in itertools.pairwise(levels):
            same(lower, reduced(upper, lower.shape, (2, 2), nodata))
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "c.tif", overviews=False)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        assert len(file.pages) == 1
        assert not file.pages[0].pages


def test_new_overviews(tmp_path):
    import tifffile

    image = photograph("uint16", 300, 200)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32))
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.tif", overviews=True, compression="zstd")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        levels = [page.asarray() for page in file.pages]
        assert {page.compression for page in file.pages} == {50000}
        assert [page.is_reduced for page in file.pages] == [False, *[True] * (len(levels) - 1)]
    assert len(levels) > 2
    same(levels[0], histeq.equalize(image))
    for upper, lower in itertools.pairwise(levels):
        same(lower, reduced(upper, lower.shape, (2, 2)))


@pytest.mark.parametrize("options", [{"tile": (16, 32)}, {"rowsperstrip": 5}, {}], ids=str)
@pytest.mark.parametrize("planar", [False, True])
def test_tiff_by_blocks(tmp_path, options, planar):
    """Also from strips to other blocks, and back."""
    import tifffile

    image = photograph("uint8", 70, 90, 3)
    stored = np.moveaxis(image, -1, 0) if planar else image
    planes = "separate" if planar else "contig"
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planes, compression="lzw", **options
    )
    for function in (histeq.equalize_file, histeq.clahe_file):
        expected = getattr(histeq, function.__name__.removesuffix("_file"))(image, layout="HWC")
        for first, second in (("b.tif", None), ("c.zarr", "d.tif"), ("e.npy", None), ("f.png", None)):
            function(tmp_path / "a.tif", tmp_path / first, overwrite=True)
            same(_files.read(tmp_path / first).pixels, expected)
            if second:  # pages and blocks of another kind, mapped by a rule that changes nothing
                histeq.match_file(
                    tmp_path / first, tmp_path / first, tmp_path / second, overwrite=True, color="channels"
                )
                same(_files.read(tmp_path / second).pixels, expected)
