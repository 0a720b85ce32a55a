"""Bad files, full disks and violent ends: one line says what is wrong, and nothing is lost."""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from PIL import Image
from test_tiff import first_block, next_directory, of_other_size, patched, written

import histeq
from histeq._cli import cli
from histeq._files import read

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")

RANDOM = np.random.default_rng(11)
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "error"}
MOST_MEMORY = 400 << 10  # in KiB; beside some 150 MiB of the program itself
FAILED = 1


def noise(*shape, dtype=np.uint8):
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def command(*arguments):
    backend = () if arguments[0] == "info" else ("--backend", "numpy")
    return [sys.executable, "-m", "histeq", *map(str, arguments), *backend]


# A process inherits the peak memory of the one that starts it: a small one does.
STARTER = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
print(usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def program(*arguments, **options):
    """Run the command as a process; return its exit code and its lines on standard error."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", STARTER, *command(*arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        start_new_session=True,
        text=True,
        **options,
    )
    try:
        output, text = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    memory, code = map(int, output.split()[-2:])
    assert "Traceback" not in text, text
    assert memory < MOST_MEMORY, text
    return code, text.splitlines()


def inside(*arguments, code=0):
    """Run the command in this process; return its lines on standard error."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result.stderr.splitlines()


def fails(*arguments, says, code=1):
    lines = inside(*arguments, code=code)
    if code == FAILED:
        assert len(lines) == 1
        assert lines[0].startswith("histeq: error: ")
    assert says in lines[-1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def broken_files(folder):
    """Make broken files; return what is to be said of each."""
    grey = noise(300, 200)
    said = {}

    def make(name, data, message):
        (folder / name).write_bytes(data)
        said[name] = message

    for suffix in ("png", "jpg", "webp", "bmp"):
        Image.fromarray(grey).save(folder / "sound", {"jpg": "jpeg"}.get(suffix, suffix))
        make(f"cut.{suffix}", (folder / "sound").read_bytes()[:3000], "broken")
    np.save(folder / "sound.npy", grey)
    make("cut.npy", (folder / "sound.npy").read_bytes()[:-1], "truncated")
    make("head.npy", (folder / "sound.npy").read_bytes()[:40], "truncated within its header")
    huge = (folder / "sound.npy").read_bytes().replace(b"(300, 200)", b"(9999999999, 9999999999)")
    make("huge.npy", huge, "truncated|pixels are more")
    make("object.npy", b"\x93NUMPY\1\0\1\0x", "broken NPY file")
    tiles = written(tile=(16, 16), compression=8)
    make("cut.tif", written(tile=(16, 16))[:-100], "truncated")
    make("headless.tif", tiles[:100], "broken TIFF file")
    make("offset.tif", patched(tiles, 324, 10**6, item=3), "truncated")
    make("count.tif", patched(tiles, 325, 60000, item=3), "truncated")
    make("shifted.tif", patched(tiles, 324, 9, item=3), "a block cannot be decoded")
    make("unknown.tif", patched(tiles, 259, 65000), "compression are not handled")
    start = int.from_bytes(tiles[4:8], "little")
    make("circle.tif", next_directory(written(), 0, start), "point back")
    jpeg = first_block(written(compression="jpeg", tile=(16, 16)), of_other_size)
    make("jpeg.tif", jpeg, "holds 65500 x 65500")
    with tifffile.TiffWriter(folder / "sound.tif") as file:
        file.write(noise(16, 16), tile=(16, 16), compression=8, metadata=None)
    small = (folder / "sound.tif").read_bytes()
    make("wide.tif", patched(patched(small, 322, 60000), 323, 60000), "larger than the image")
    make("large.png", imagecodecs.png_encode(noise(1100, 1000)), "PNG cannot be read in blocks")
    tifffile.imwrite(folder / "a.tif", noise(2048, 1024), tile=(1024, 1024), compression=8)
    make("blocks.tif", (folder / "a.tif").read_bytes(), "--memory allows 1 MiB")
    make("empty.png", b"", "the file is empty")
    make("text.png", b"just some text", "not a picture")
    for name, device, message in (
        ("null.png", "/dev/null", "a device or a pipe"),
        ("zero.png", "/dev/zero", "no file"),
    ):
        (folder / name).symlink_to(device)
        said[name] = message
    os.mkfifo(folder / "pipe.png")
    said["pipe.png"] = "a device or a pipe"
    (folder / "folder.png").mkdir()
    said["folder.png"] = "a folder among other files"
    (folder / "folder.zarr").mkdir()
    said["folder.zarr"] = "no Zarr store"
    said["missing.png"] = "No such file"
    (folder / "loop.png").symlink_to("loop.png")
    said["loop.png"] = "symbolic links"
    array = zarr.create_array(folder / "cut.zarr", shape=(80, 80), chunks=(20, 20), dtype="u1")
    array[...] = noise(80, 80)
    chunk = folder / "cut.zarr/c/1/1"
    os.truncate(chunk, chunk.stat().st_size // 2)
    said["cut.zarr"] = "a chunk within"
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zarr.json", bytes(1 << 27))
    said["bomb.zip"] = "zarr.json has more than 16777216 bytes"
    with (folder / "sparse.png").open("wb") as file:
        file.write(imagecodecs.png_encode(noise(9, 9))[:-12])
        file.truncate(1 << 36)
    said["sparse.png"] = "MiB"
    return said


@pytest.mark.parametrize("name", ["equalize", "clahe"])
def test_broken_files(tmp_path, name):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    said = broken_files(source)
    for each in said:
        if not each.endswith(".zarr"):
            (target / each).write_bytes(b"old")
    before = names(target)
    limit = 2 << 30  # of address space
    code, lines = program(
        name, *(source / each for each in said), target, "--overwrite", "--memory", "1M",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert code == FAILED
    wrong = [
        (each, line)
        for (each, message), line in zip(said.items(), lines, strict=True)
        if not line.startswith(f"histeq: error: {source / each}: ") or not re.search(message, line)
    ]
    assert not wrong
    assert names(target) == before
    assert all((target / each).read_bytes() == b"old" for each in before)


def large(folder, size=8192):
    """Make a file that takes seconds to be compressed again: no signal comes after the end."""
    path = folder / "large.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(noise(size, size), tile=(256, 256), metadata=None)
    return path


def _has_begun(folder):
    left = [*folder.glob(".histeq-*"), *folder.glob(".histeq-*/c/0/*")]
    return any(path.is_file() and path.stat().st_size > 9000 for path in left)


@contextlib.contextmanager
def running(target, *arguments):
    """Run the command until it has begun to write; yield the process."""
    process = subprocess.Popen(
        command(*arguments, target, "--overwrite", "--compression", "deflate"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not _has_begun(target.parent):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_kill(tmp_path, suffix):
    source, target = large(tmp_path), tmp_path / f"b{suffix}"
    with running(target, "equalize", source) as process:
        process.kill()
        process.wait()
    (left,) = (path for path in tmp_path.iterdir() if path != source)
    assert left.name.startswith(".histeq-")


@pytest.mark.parametrize(
    ("number", "code", "name", "suffix"),
    [
        (signal.SIGKILL, -9, "equalize", ".tif"),
        (signal.SIGTERM, -15, "equalize", ".tif"),
        (signal.SIGINT, -2, "equalize", ".tif"),
        (signal.SIGTERM, -15, "equalize", ".zarr"),
        (signal.SIGTERM, -15, "clahe", ".npy"),
    ],
)
def test_stop(tmp_path, number, code, name, suffix):
    """What was there before stays, and nothing is left but by SIGKILL."""
    source, target = large(tmp_path, 3000 if name == "clahe" else 8192), tmp_path / f"b{suffix}"
    old = noise(9, 9)
    if suffix == ".zarr":
        zarr.create_array(target, data=old)
    else:
        {".tif": tifffile.imwrite, ".npy": np.save}[suffix](target, old)
    with running(target, name, source) as process:
        process.send_signal(number)
        assert process.wait(10) == code
        assert "Traceback" not in process.stderr.read()
    np.testing.assert_array_equal(read(target).pixels, old)
    left = [path for path in tmp_path.iterdir() if path not in (source, target)]
    assert len(left) == (number == signal.SIGKILL)


@pytest.mark.parametrize("change", ["cut", "written"])
def test_a_file_that_changes(tmp_path, change):
    source, target = large(tmp_path), tmp_path / "b.tif"
    target.write_bytes(b"old")
    with running(target, "equalize", source) as process:
        if change == "cut":
            os.truncate(source, 10**6)
        else:
            with source.open("r+b") as file:
                file.seek(10**6)
                file.write(b"other")
        assert process.wait(10) == FAILED
        (line,) = process.stderr.read().splitlines()
    assert line.startswith(f"histeq: error: {source}: ")
    assert "changed" in line or "truncated" in line
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["b.tif", "large.tif"]


def test_no_space(tmp_path):
    """Of every format, with a limit on the size of files in place of a full disk."""
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(noise(1000, 800)).save(source / "a.png")
    for suffix in ("jpg", "webp", "bmp", "tif", "npy", "zarr", "zarr.zip"):
        shutil.copy(source / "a.png", source / f"a.{suffix}")
    tifffile.imwrite(source / "b.tif", noise(1000, 800), tile=(256, 256), compression=8)
    for name, chunks in (("c.zarr", (1000, 800)), ("d.zarr.zip", (256, 256))):
        store = zarr.storage.ZipStore(source / name, mode="w") if name.endswith("zip") else source / name
        array = zarr.create_array(store, shape=(1000, 800), chunks=chunks, dtype="u1")
        array[...] = noise(1000, 800)
        getattr(store, "close", bool)()
    target = tmp_path / "out"
    target.mkdir()
    sources = sorted(source.iterdir())
    for path in sources:
        if path.suffix != ".zarr":
            (target / path.name).write_bytes(b"old")
    before = names(target)
    limit = 30000
    code, lines = program(
        "equalize", *sources, target, "--overwrite",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert code == FAILED
    starts = [f"histeq: error: {target / path.name}: cannot write it: " for path in sources]
    wrong = [(a, b) for a, b in zip(starts, lines, strict=True) if not b.startswith(a)]
    assert not wrong
    assert names(target) == before
    assert all((target / name).read_bytes() == b"old" for name in before)


def test_larger_than_memory(tmp_path):
    """References and masks are held against --memory as images are."""
    np.save(tmp_path / "a.npy", noise(1100, 1000))
    np.save(tmp_path / "small.npy", noise(9, 9))
    (tmp_path / "large.png").write_bytes(imagecodecs.png_encode(np.zeros((1100, 1000), np.uint8)))
    limited = (tmp_path / "b.npy", "--memory", "1M", "--backend", "numpy")
    fails("match", tmp_path / "small.npy", tmp_path / "large.png", *limited, says="large.png: PNG cannot be")
    fails(
        "equalize",
        tmp_path / "a.npy",
        *limited,
        "--mask",
        tmp_path / "large.png",
        says="large.png: PNG cannot",
    )
    inside("match", tmp_path / "small.npy", tmp_path / "a.npy", *limited)
    for name in ("b.png", "b.jpg"):
        fails(
            "equalize", tmp_path / "a.npy", tmp_path / name, *limited[1:], says="cannot be written in blocks"
        )
    np.save(tmp_path / "f.npy", np.zeros((1100, 1000), np.float32))
    np.save(tmp_path / "small.npy", np.zeros((9, 9), np.float32))
    limited = (tmp_path / "c.npy", "--memory", "1M", "--backend", "numpy")
    fails("match", tmp_path / "small.npy", tmp_path / "f.npy", *limited, says="--memory allows")
    fails("equalize", tmp_path / "f.npy", *limited, "--bins", "100000", says="100000 bins take")
    (tmp_path / "half.png").write_bytes(imagecodecs.png_encode(np.zeros((600, 1000), np.uint8)))
    half = (tmp_path / "half.png", tmp_path / "c.tif", "--memory", "1M", "--backend", "numpy")
    inside("equalize", *half)  # but not with a mask as large
    fails(
        "equalize",
        *half,
        "--overwrite",
        "--mask",
        tmp_path / "half.png",
        says="1.1 MiB of memory are needed, and --memory allows 1 MiB: ",
    )
    assert "c.npy" not in names(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".zarr"])
def test_in_place(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pixels = noise(300, 200) // 2
    if suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    elif suffix == ".tif":
        tifffile.imwrite(path, pixels, tile=(64, 64), compression=8)
    elif suffix == ".npy":
        np.save(path, pixels)
    else:
        zarr.create_array(path, data=pixels, chunks=(64, 64))
    fails("equalize", path, path, says="exists already; --overwrite replaces it")
    np.testing.assert_array_equal(read(path).pixels, pixels)
    inside("equalize", path, path, "--overwrite", "--mask", path, "--memory", "1M")
    np.testing.assert_array_equal(read(path).pixels, histeq.equalize(pixels, mask=pixels != 0))
    assert names(tmp_path) == [path.name]


def test_targets_that_are_no_files(tmp_path):
    np.save(tmp_path / "a.npy", noise(9, 9))
    (tmp_path / "folder" / "a.npy").mkdir(parents=True)
    fails(
        "equalize",
        tmp_path / "a.npy",
        tmp_path / "folder",
        "--overwrite",
        says="exists already and is no file",
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "b.npy"))
    fails(
        "equalize",
        tmp_path / "a.npy",
        tmp_path / "b.npy",
        "--overwrite",
        says="exists already and is no file",
    )
    fails("equalize", tmp_path / "a.npy", tmp_path / "a.npy" / "b.npy", says="Not a directory")
    fails("equalize", tmp_path / "a.npy", tmp_path / "none" / "b.npy", says="No such file")
    other = tmp_path / "photos.zarr"
    other.mkdir()
    (other / "precious").touch()
    for out in (other, f"{other}/"):
        fails("equalize", tmp_path / "a.npy", out, "--overwrite", says="is no Zarr store")
        fails("equalize", tmp_path / "a.npy", out, says="exists already")
        fails("equalize", tmp_path / "a.npy", tmp_path / "b.npy", out, says="OUT must be a folder", code=2)
    assert names(other) == ["precious"]
    assert names(tmp_path) == ["a.npy", "b.npy", "folder", "photos.zarr"]


@pytest.mark.parametrize("command", ["equalize", "clahe", "match"])
def test_folders_that_are_made_for_nothing(tmp_path, command):
    (tmp_path / "a.npy").touch()
    np.save(tmp_path / "b.npy", noise(9, 9))
    model = [tmp_path / "b.npy"] if command == "match" else []
    fails(command, tmp_path / "a.npy", *model, f"{tmp_path}/c/d/", says="the file is empty")
    assert names(tmp_path) == ["a.npy", "b.npy"]
    inside(command, tmp_path / "b.npy", *model, f"{tmp_path}/c/d/")
    fails(command, tmp_path / "a.npy", *model, f"{tmp_path}/c/e/", says="the file is empty")
    assert names(tmp_path / "c") == ["d"]


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may do everything")
def test_permission(tmp_path):
    np.save(tmp_path / "a.npy", noise(9, 9))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder").chmod(0o500)
    for name in ("b.npy", "b.tif", "b.zarr"):
        fails(
            "equalize",
            tmp_path / "a.npy",
            tmp_path / "folder" / name,
            says=f"{name}: cannot write it: Permission",
        )
    (tmp_path / "a.npy").chmod(0)
    fails("equalize", tmp_path / "a.npy", tmp_path / "b.npy", says="a.npy: Permission denied")
    assert not names(tmp_path / "folder")


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr", ".zip", ".png", ".bmp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (20000, 1)])
def test_odd_sizes(tmp_path, suffix, shape):
    pixels = noise(*shape)
    np.save(tmp_path / "a.npy", pixels)
    target = tmp_path / f"b{suffix}"
    inside("equalize", tmp_path / "a.npy", target, "--overviews", "--memory", "1M")
    np.testing.assert_array_equal(read(target).pixels, histeq.equalize(pixels))


@pytest.mark.parametrize("command", ["equalize", "clahe"])
def test_nothing_to_count(tmp_path, command):
    tifffile.imwrite(tmp_path / "a.tif", np.full((99, 88), np.nan, np.float32), tile=(16, 16))
    tags = [(42113, 2, 2, b"7\0", True)]
    tifffile.imwrite(tmp_path / "b.tif", np.full((99, 88), 7, np.uint8), tile=(16, 16), extratags=tags)
    for name in ("a.tif", "b.tif"):
        inside(command, tmp_path / name, tmp_path / f"new-{name}", "--backend", "numpy", "--overviews")
        np.testing.assert_array_equal(read(tmp_path / f"new-{name}").pixels, read(tmp_path / name).pixels)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--compression", "nonsense"), "no compression 'nonsense'"),
        (("--layout", "HWC"), "a.npy: --layout must have one letter for each"),
        (("--layout", "XY"), "a.npy: --layout must name each axis once"),
        (("--memory", "1K"), "memory must be a number of bytes"),
        (("--nodata", "300"), "nodata must be a value that uint8 holds"),
        (("--mask", "missing.png"), "missing.png: No such file"),
        (("--mask", "/dev/zero"), "a device or a pipe, no file"),
    ],
)
def test_odd_arguments(tmp_path, arguments, says):
    np.save(tmp_path / "a.npy", noise(9, 9))
    fails("equalize", tmp_path / "a.npy", tmp_path / "b.tif", *arguments, says=says)
    assert names(tmp_path) == ["a.npy"]
