"""Files on a cluster: the same stores as on one machine, byte for byte, whatever becomes of its processes."""

import contextlib
import io
import os
import signal
import subprocess
import sys

import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import histeq
from histeq import FileError
from histeq._cli import cli
from histeq._cluster import client as cluster_client
from histeq._cluster import run as cluster_run
from histeq._files import zarr as zarr_files
from histeq._files import zarr_plan
from histeq._files.journal import Journal
from histeq._passes import clahe as clahe_passes


@pytest.fixture(scope="module")
def client():
    """Two workers that are threads of this process, each with stores and sources of its own."""
    with (
        LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch):
    monkeypatch.setattr(cluster_run, "_TASK", 1 << 14)
    monkeypatch.setattr(cluster_run, "_TASKS", 1)


BLOCKS = {"memory": "1M"}  # an image of more than 128 KiB is not served as a whole
MORE = {"memory": "2M"}  # of more than 256 KiB


def image(shape, dtype, seed=0):
    """Noise that grows brighter to the lower right."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(*(np.linspace(0, 60, n) for n in shape[:2])).astype(int)
    slope = slope.reshape(slope.shape + (1,) * (len(shape) - 2))
    noise = rng.integers(0, 100, shape) + slope
    return (noise / 7).astype(dtype) if np.dtype(dtype).kind == "f" else noise.astype(dtype)


def store(path, array, chunks, **settings):
    created = zarr.create_array(path, shape=array.shape, chunks=chunks, dtype=array.dtype, **settings)
    created[...] = array
    return path


def content(folder):
    """All files of a store."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(folder, function, *files, client, **arguments):
    """Call a function on one machine and on the cluster: the stores have the same files."""
    arguments = BLOCKS | arguments
    function(*files, folder / "one.zarr", **arguments)
    result = function(*files, folder / "many.zarr", cluster=client, **arguments)
    one, many = content(folder / "one.zarr"), content(folder / "many.zarr")
    assert one.keys() == many.keys()
    assert one == many
    assert len(one) > 3
    return result


def some_of(cases, *always):
    """The cases; all but some on demand."""
    return [name if name in always else pytest.param(name, marks=pytest.mark.exhaustive) for name in cases]


CASES = {
    "shards": ((500, 700), "u1", (32, 32), {"shards": (96, 64)}, {}),
    "16 bits": ((500, 700), "u2", (64, 128), {"zarr_format": 2}, {"rule": "numpy", "out_dtype": "uint8"}),
    "floats": ((500, 300), "f4", (128, 64), {}, {"bins": 300}),
    "floats with a range": ((500, 300), "f8", (128, 64), {}, {"value_range": (2.0, 15.0)}),
    "colour": ((300, 400, 3), "u1", (64, 64, 2), {"dimension_names": ["y", "x", "s"]}, {}),
    "channels": ((300, 400, 4), "u1", (64, 64, 4), {}, {"color": "channels", "alpha": True}),
    "nodata": ((500, 700), "i2", (128, 128), {"attributes": {"_FillValue": 120}}, {}),
    "pages": ((3, 300, 500), "u1", (1, 64, 64), {}, {"pages": "together"}),
    "pages share shards": ((4, 300, 500), "u1", (1, 64, 64), {"shards": (2, 128, 128)}, {}),
    "32 bits": ((400, 300), "u4", (64, 64), {}, {"value_range": (10, 180), "nodata": 150}),
}


@pytest.mark.parametrize("case", some_of(CASES, "shards", "floats", "32 bits"))
def test_equalize(tmp_path, client, case):
    shape, dtype, chunks, settings, arguments = CASES[case]
    array = image(shape if len(shape) == 2 or shape[-1] < 5 else shape[1:] + shape[:1], dtype)
    array = array if array.shape == shape else np.moveaxis(array, -1, 0)
    source = store(tmp_path / "a.zarr", np.ascontiguousarray(array), chunks, **settings)
    assert_same(tmp_path, histeq.equalize_file, source, client=client, **arguments)


CLAHE_CASES = {
    "plain": ((500, 700), "u1", {}),
    "small tiles": ((500, 700), "u1", {"tile_size": (31, 40), "nodata": 110}),
    "floats": ((300, 413), "f4", {"tiles": (7, 9)}),
    "masked colour": ((300, 400, 3), "u1", {"tiles": (9, 5), "color": "luma", "masked": True}),
    "a range": ((300, 501), "u2", {"tiles": (4, 5), "value_range": (30, 120)}),
}


@pytest.mark.parametrize("all_tiles", [True, False])
@pytest.mark.parametrize("case", some_of(CLAHE_CASES, "masked colour"))
def test_clahe(tmp_path, client, monkeypatch, case, all_tiles):
    """Tables of all tiles, or of those around a region, which workers count by themselves."""
    shape, dtype, arguments = CLAHE_CASES[case]
    monkeypatch.setattr(clahe_passes, "_ALL_TILES", 1 << 26 if all_tiles else 0)
    monkeypatch.setattr(clahe_passes, "_TILES_ACROSS", 1)
    source = store(tmp_path / "a.zarr", image(shape, dtype), (64, 64, *shape[2:]))
    arguments = dict(arguments)
    if arguments.pop("masked", False):
        mask = np.zeros(shape[:2], np.uint8)
        mask[120:, :250] = 1
        arguments["mask"] = store(tmp_path / "mask.zarr", mask, (100, 100))
    assert_same(tmp_path, histeq.clahe_file, source, client=client, **arguments)


def test_match(tmp_path, client):
    source = store(tmp_path / "a.zarr", image((500, 700), "u2"), (128, 128))
    model = store(tmp_path / "b.zarr", image((300, 500), "u2", 1) * 3, (99, 99))
    np.save(tmp_path / "mask.npy", image((500, 700), "u1") // 100)
    assert_same(tmp_path, histeq.match_file, source, model, client=client, mask=tmp_path / "mask.npy")


def test_a_pyramid_of_ome_zarr(tmp_path, client):
    """Its reduced levels are made by the workers, and what else is in the group is kept."""
    store(tmp_path / "a.zarr", image((500, 700), "u2"), (64, 64))
    source = tmp_path / "ome.zarr"
    histeq.equalize_file(tmp_path / "a.zarr", source, overviews=True)
    labels = zarr.open_group(source, mode="r+").create_group("labels")
    labels.create_array("cells", shape=(5, 5), dtype="u1")
    result = assert_same(tmp_path, histeq.equalize_file, source, client=client, nodata=77)
    assert (tmp_path / "many.zarr" / "labels" / "cells" / "zarr.json").is_file()
    assert set(result.seconds) == {"read", "compute", "write"}
    assert min(result.seconds.values()) > 0


@pytest.mark.parametrize("name", ["a.tif", pytest.param("a.npy", marks=pytest.mark.exhaustive)])
def test_other_sources(tmp_path, client, monkeypatch, name):
    monkeypatch.setattr(zarr_plan, "_CHUNK", 1 << 14)
    array = image((500, 700), "u1")
    if name == "a.npy":
        np.save(tmp_path / name, array)
    else:
        tifffile.imwrite(
            tmp_path / name, array, tile=(64, 64), compression="zlib", extratags=[(42113, 2, 0, "99", True)]
        )
    assert_same(tmp_path, histeq.equalize_file, tmp_path / name, client=client, **MORE)


@pytest.mark.exhaustive
def test_several_files_together(tmp_path, client):
    sources = [store(tmp_path / f"{i}.zarr", image((400, 500), "u1", i) + i, (99, 99)) for i in range(2)]
    one, many = ([tmp_path / f"{name}{i}.zarr" for i in range(2)] for name in ("one", "many"))
    histeq.equalize_file(sources, one, **BLOCKS)
    seen = []
    progress = lambda done, total: seen.append((done, total))  # noqa: E731
    histeq.equalize_file(sources, many, **BLOCKS, cluster=client, progress=progress)
    assert [content(path) for path in one] == [content(path) for path in many]
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


class LostError(Exception):
    """The client is lost."""


def lost_after(calls):
    """A progress that loses the client after so many calls."""
    left = [calls]

    def progress(done, total):
        left[0] -= 1
        if left[0] < 0:
            raise LostError

    return progress


@pytest.fixture
def written(monkeypatch):
    """The windows that are written by workers in this process."""
    windows, write = [], zarr_files._Level.write

    def noting(level, window, pixels):
        windows.append((level.height, window))
        write(level, window, pixels)

    monkeypatch.setattr(zarr_files._Level, "write", noting)
    return windows


@pytest.fixture
def lost(tmp_path, client, monkeypatch):
    """A source, and the arguments of a call that loses its client in the middle of its writes."""
    monkeypatch.setattr(cluster_run, "_WINDOW", 1 << 13)
    array = image((500, 700), "u1")
    array[:128] = 0  # chunks that are not stored
    source = store(tmp_path / "a.zarr", array, (64, 64), shards=(64, 128))
    arguments = {"cluster": client, "overviews": True, "nodata": 150, **BLOCKS}
    with pytest.raises(LostError):
        histeq.equalize_file(source, tmp_path / "b.zarr", progress=lost_after(40), **arguments)
    client.call_stack()  # waits for the scheduler, which has cancelled what is left
    assert not (tmp_path / "b.zarr").exists()
    assert (tmp_path / "b.unfinished.zarr").is_dir()
    return source, arguments


def test_a_lost_run_is_gone_on_with(tmp_path, client, lost, written):
    source, arguments = lost
    unfinished = Journal(zarr.storage.LocalStore(tmp_path / "b.unfinished.zarr"))
    done = unfinished.done("2")
    assert 0 < len(done) < 24
    assert unfinished.load("1").sum() == np.count_nonzero(zarr.open(source)[:] != 150)
    seen = []
    progress = lambda done, total: seen.append(done / total)  # noqa: E731
    histeq.equalize_file(source, tmp_path / "b.zarr", resume=True, progress=progress, **arguments)
    assert seen[-1] == 1
    first = [window for height, window in written if height == 500]
    assert 0 < len(first) < 48
    histeq.equalize_file(source, tmp_path / "one.zarr", overviews=True, nodata=150, **BLOCKS)
    assert content(tmp_path / "b.zarr") == content(tmp_path / "one.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr", "one.zarr"]


def test_what_is_not_finished_is_no_input(tmp_path, lost):
    result = CliRunner().invoke(cli, ["info", str(tmp_path / "b.unfinished.zarr")])
    assert result.exit_code == 1
    assert "it is not finished" in result.stderr


def test_other_arguments_and_another_input_are_noticed(tmp_path, lost):
    source, arguments = lost
    target = tmp_path / "b.zarr"
    for name, value, then in (("nodata", 151, 150), ("rule", "numpy", "opencv"), ("overviews", None, True)):
        with pytest.raises(FileError, match=rf"b\.zarr: it was begun with {name}={then!r}, and .*{value!r}"):
            histeq.equalize_file(source, target, resume=True, **arguments | {name: value})
    zarr.open(source, mode="r+")[0, 0] = 1
    with pytest.raises(FileError, match=r"b\.zarr: .*a\.zarr was changed since it was begun"):
        histeq.equalize_file(source, target, resume=True, **arguments)
    with pytest.raises(FileError, match=r"b\.unfinished\.zarr was not finished: --resume goes on"):
        histeq.equalize_file(source, target, **arguments)
    histeq.equalize_file(source, target, overwrite=True, **arguments)
    expected = histeq.equalize(zarr.open(source)[:], nodata=150)
    assert (zarr.open(target)["0"][:] == expected).all()


def test_what_is_replaced_stays_until_the_end(tmp_path, client, lost):
    source, arguments = lost
    old = store(tmp_path / "b.zarr", image((5, 5), "u1"), (5, 5))
    before = content(old)
    with pytest.raises(FileError, match="exists already; --overwrite replaces it"):
        histeq.equalize_file(source, old, resume=True, **arguments)
    with pytest.raises(LostError):
        histeq.equalize_file(source, old, overwrite=True, resume=True, progress=lost_after(2), **arguments)
    assert content(old) == before
    histeq.equalize_file(source, old, overwrite=True, resume=True, **arguments)
    assert zarr.open(old)["0"].shape == (500, 700)


@pytest.mark.exhaustive
def test_resume_of_nothing_begins(tmp_path, client):
    source = store(tmp_path / "a.zarr", image((300, 300), "u1"), (99, 99))
    assert_same(tmp_path, histeq.clahe_file, source, client=client)
    histeq.clahe_file(source, tmp_path / "c.zarr", cluster=client, resume=True, **BLOCKS)
    assert content(tmp_path / "c.zarr") == content(tmp_path / "one.zarr")


def test_a_folder_in_the_way_is_kept(tmp_path, client):
    source = store(tmp_path / "a.zarr", image((30, 30), "u1"), (9, 9))
    other = store(tmp_path / "b.unfinished.zarr", image((30, 30), "u1"), (9, 9))
    for arguments in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(FileError, match=r"b\.unfinished\.zarr is in the way"):
            histeq.equalize_file(source, tmp_path / "b.zarr", cluster=client, **arguments)
    assert zarr.open(other).shape == (30, 30)


BAD = {
    "format": ({"dst": "b.tif"}, FileError, r"b\.tif: a cluster writes Zarr, .* and not TIFF"),
    "zip": ({"dst": "b.zarr.zip"}, FileError, "and not a ZIP file"),
    "no folder": ({"dst": "nix/b.zarr"}, FileError, r"nix/b\.zarr: .*No such file or directory"),
    "no source": ({"src": "nix.zarr"}, FileError, r"nix\.zarr: No such file"),
    "open file": ({"src": io.BytesIO()}, TypeError, "src must be a path or a URL for a cluster, got BytesIO"),
    "array": ({"mask": np.ones((30, 30), bool)}, TypeError, "mask must be a path or a URL for a cluster"),
    "png": ({"src": "a.png"}, FileError, r"a\.png: PNG cannot be read in blocks, and so not by a cluster"),
    "lenient": ({"lenient": True}, ValueError, "lenient is for one machine"),
    "nothing": ({"cluster": None, "resume": True}, ValueError, "resume is for a cluster"),
    "local:0": ({"cluster": "local:0"}, ValueError, "cluster must be the address of a scheduler .*'local:0'"),
    "nonsense": ({"cluster": "nonsense"}, ValueError, "cluster must be .*got 'nonsense'"),
    "type": ({"cluster": 5}, ValueError, "cluster must be .*got 5"),
    "nobody": ({"cluster": "tcp://127.0.0.1:1"}, RuntimeError, "cluster must .* and none answers within 1 "),
    "rule": ({"rule": "odd"}, ValueError, "rule must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tmp_path, client, monkeypatch, case):
    arguments, error, message = BAD[case]
    monkeypatch.setattr(cluster_client, "_PATIENCE", 1)
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "a.zarr", image((30, 30), "u1"), (9, 9))
    tifffile.imwrite("a.tif", image((30, 30), "u1"))
    histeq.equalize_file("a.tif", "a.png")
    before = sorted(tmp_path.iterdir())
    call = {"src": "a.zarr", "dst": "b.zarr", "cluster": client} | arguments
    with pytest.raises(error, match=message):
        histeq.equalize_file(**call)
    assert sorted(tmp_path.iterdir()) == before


def test_workers_of_another_version_are_named(tmp_path, client, monkeypatch):
    """A worker finds histeq by its name, and no function of it travels before."""
    source = store(tmp_path / "a.zarr", image((30, 30), "u1"), (9, 9))
    (address,) = client.scheduler_info()["workers"]
    versions = iter(["0.0.1", ModuleNotFoundError("No module named 'histeq'")])
    monkeypatch.setattr(cluster_client, "_version", lambda: lambda: answer())

    def answer():
        found = next(versions)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(client, "run", lambda function, *_, **__: {address: run_here(function)})

    def run_here(function):
        try:
            return function()
        except Exception as error:
            return error

    for what in ("has histeq 0.0.1", "has no histeq: No module named 'histeq'"):
        with pytest.raises(RuntimeError, match=rf"the worker {address} {what}; all workers need histeq"):
            histeq.equalize_file(source, tmp_path / "b.zarr", cluster=client)


def test_paths_that_workers_do_not_see_are_named(tmp_path, client, monkeypatch):
    source = store(tmp_path / "a.zarr", image((30, 30), "u1"), (9, 9))
    monkeypatch.setattr(cluster_client, "lasting_identity", lambda *_, **__: "here", raising=False)
    monkeypatch.setattr(histeq._api.files, "lasting_identity", lambda *_, **__: "here")
    with pytest.raises(RuntimeError, match=r"a\.zarr: the cluster's worker inproc:.* there is another file"):
        histeq.equalize_file(source, tmp_path / "b.zarr", cluster=client)
    monkeypatch.undo()
    monkeypatch.setattr(cluster_client, "_unreached", lambda *_: "it does not see it there")
    with pytest.raises(RuntimeError, match=r"b\.zarr: the cluster's worker inproc:.* cannot write it"):
        histeq.equalize_file(source, tmp_path / "b.zarr", cluster=client)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


@contextlib.contextmanager
def died_once(client, folder):
    """Have the worker die that writes a certain block, whichever it is, but only once."""

    def arm(folder=str(folder)):
        from histeq._files import zarr as files

        write = files._Level.write

        def dying(level, window, pixels):
            if (window.top, window.left) == (128, 0):
                try:
                    os.close(os.open(f"{folder}/died", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    pass
                else:
                    write(level, window._replace(height=64), pixels[:64])  # in the middle
                    os.kill(os.getpid(), signal.SIGKILL)
            write(level, window, pixels)

        files._Level.write = dying
        return os.getpid()

    before = set(client.run(arm).values())
    yield before
    assert (folder / "died").exists()
    after = set(client.run(os.getpid).values())
    assert len(before - after) == 1


def test_a_worker_that_is_killed_changes_no_pixel(tmp_path):
    """Two processes, one of which dies within a block, half of which is written."""
    source = store(tmp_path / "a.zarr", image((500, 700), "u1"), (64, 64))
    histeq.equalize_file(source, tmp_path / "one.zarr", **BLOCKS)
    with cluster_client.connected("local:2") as client:
        client.wait_for_workers(2)
        with died_once(client, tmp_path):
            histeq.equalize_file(source, tmp_path / "many.zarr", cluster=client, **BLOCKS)
    assert content(tmp_path / "one.zarr") == content(tmp_path / "many.zarr")


@pytest.mark.exhaustive
def test_the_command_stopped_by_a_signal_can_be_gone_on_with(tmp_path):
    """SIGTERM ends the command and its workers; it comes from within a write."""
    source = store(tmp_path / "a.zarr", image((500, 700), "u1"), (64, 64))
    script = tmp_path / "script.py"
    script.write_text(STOPPED)
    arguments = [str(source), str(tmp_path / "b.zarr"), "--memory", "1M", "--cluster", "local:1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    command = [sys.executable, script, "equalize", *arguments]
    stopped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert stopped.returncode == -signal.SIGTERM
    assert stopped.stderr.strip() == "histeq: error: stopped by SIGTERM"
    worker = int((tmp_path / "worker").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert (tmp_path / "b.unfinished.zarr").is_dir()
    result = CliRunner().invoke(cli, ["equalize", *arguments, "--resume"])
    assert result.exit_code == 0, result.stderr
    histeq.equalize_file(source, tmp_path / "one.zarr", **BLOCKS)
    assert content(tmp_path / "b.zarr") == content(tmp_path / "one.zarr")


STOPPED = """
import os, signal
from pathlib import Path
from histeq import __main__
from histeq._cluster import run
from histeq._files import zarr

run._TASK, run._TASKS = 1 << 14, 1
write = zarr._Level.write

def stopping(level, window, pixels):
    write(level, window, pixels)
    if window.top == 128:
        Path(__file__).with_name("worker").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGTERM)

zarr._Level.write = stopping
if __name__ == "__main__":
    __main__.main()
"""


def at(url):
    return zarr.storage.FsspecStore.from_url(url)


@pytest.fixture
def memory():
    """A file system of fsspec's, in this process."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def objects(system, path):
    return {name.removeprefix(path): system.cat_file(name) for name in system.find(path)}


@pytest.mark.parametrize("many", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_stores_by_url(tmp_path, client, memory, many):
    """A store at a URL is the same as in a folder; it says itself whether it is finished."""
    array = image((500, 700), "u1")
    source = store(tmp_path / "a.zarr", array, (64, 64), shards=(128, 64))
    store(at("memory://x/a.zarr"), array, (64, 64), shards=(128, 64))
    cluster = {"cluster": client} if many else {}
    histeq.equalize_file(source, tmp_path / "b.zarr", overviews=True, **BLOCKS)
    arguments = {"overviews": True, **BLOCKS, **cluster}
    histeq.equalize_file("memory://x/a.zarr", "memory://x/b.zarr", **arguments)
    expected = content(tmp_path / "b.zarr")
    assert objects(memory, "/x/b.zarr/") == expected
    with pytest.raises(FileError, match=r"^memory://x/b\.zarr: exists already; --overwrite replaces it"):
        histeq.equalize_file("memory://x/a.zarr", "memory://x/b.zarr", **arguments)
    progress = lost_after(6 if many else 1)
    with pytest.raises(LostError):
        histeq.equalize_file(
            "memory://x/a.zarr", "memory://x/b.zarr", overwrite=True, progress=progress, **arguments
        )
    assert bool(objects(memory, "/x/b.zarr/")) == many
    if many:
        client.call_stack()
        with pytest.raises(FileError, match=r"^memory://x/b\.zarr: it is not finished"):
            histeq.equalize_file("memory://x/b.zarr", tmp_path / "c.zarr")
        with pytest.raises(FileError, match=r"b\.zarr: it was not finished: --resume goes on with it"):
            histeq.equalize_file("memory://x/a.zarr", "memory://x/b.zarr", **arguments)
    histeq.equalize_file("memory://x/a.zarr", "memory://x/b.zarr", resume=many, **arguments)
    assert objects(memory, "/x/b.zarr/") == expected


@pytest.mark.exhaustive
def test_the_command_takes_urls(tmp_path, memory):
    """Also where a path has taken a slash away."""
    store(at("memory://x/a.zarr"), image((30, 30), "u1"), (9, 9))
    run = lambda *names: CliRunner().invoke(cli, ["equalize", *map(str, names)])  # noqa: E731
    assert run("memory://x/a.zarr", tmp_path / "b.zarr").exit_code == 0
    assert run((tmp_path / "b.zarr").as_uri(), "memory://x/y/").exit_code == 0
    assert run((tmp_path / "b.zarr"), (tmp_path / "c.zarr").as_uri()).exit_code == 0
    assert (zarr.open(at("memory://x/y/b.zarr"))[:] == zarr.open(tmp_path / "c.zarr")[:]).all()
    refused = run("memory://x/nix.zarr", tmp_path / "d.zarr")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("histeq: error: memory://x/nix.zarr: there is no Zarr store")
    assert "fsspec knows no odd://" in run("odd://x/a.zarr", tmp_path / "d.zarr").stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zarr", "c.zarr"]


def test_a_changed_store_at_a_url_is_noticed(client, memory):
    store(at("memory://x/a.zarr"), image((300, 300), "u1"), (64, 64))

    def changing(done, total):
        memory.pipe_file("/x/a.zarr/c/0/0", memory.cat_file("/x/a.zarr/c/0/1"))

    with pytest.raises(FileError, match=r"^memory://x/a\.zarr: the file was changed while it was read"):
        histeq.equalize_file("memory://x/a.zarr", "memory://x/b.zarr", progress=changing)
    assert not memory.find("/x/b.zarr")
