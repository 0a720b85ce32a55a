"""Stores in S3 and on a web server, real ones on this machine, with and without a cluster: on demand."""

import functools
import gc
import http.server
import importlib.util
import threading
import urllib.request
import warnings

import fsspec
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import histeq
from histeq import FileError
from histeq._cli import cli
from histeq._cluster import client as cluster_client
from histeq._cluster import run as cluster_run

pytestmark = [
    pytest.mark.exhaustive,
    # botocore and moto; sessions of aiohttp that nobody closes, as s3fs leaves them
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]
NEEDED = ("moto", "s3fs", "obstore", "aiohttp", "flask")
BLOCKS = {"memory": "1M"}


@pytest.fixture(autouse=True)
def _libraries():
    """Fail, and do not skip, without what was asked for."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    assert not missing, f"{', '.join(missing)} missing: pip install --group s3 (of pyproject.toml)"


@pytest.fixture
def s3(monkeypatch):
    """A bucket of a server on this machine, which the environment tells everybody about."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),  # obstore
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    system.mkdir("bucket")
    yield system
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with warnings.catch_warnings():  # s3fs leaves it to the garbage collector to close its sessions
        warnings.simplefilter("ignore")
        del system
        gc.collect()


@pytest.fixture
def without_fsspec(monkeypatch):
    """Where s3fs is missing there may be obstore."""

    def missing(*arguments, **keywords):
        raise ImportError

    monkeypatch.setattr(zarr.storage.FsspecStore, "from_url", missing)


def image(shape=(500, 700)):
    return np.random.default_rng(0).integers(0, 120, shape).astype(np.uint8)


def put(tmp_path, system, **settings):
    """A store in a folder, and the same in S3."""
    folder = tmp_path / "a.zarr"
    array = image()
    array[:128] = 0
    settings = {"chunks": (64, 64), "shards": (128, 64), "dtype": "u1"} | settings
    zarr.create_array(folder, shape=array.shape, **settings)[...] = array
    system.put(str(folder), "bucket/a.zarr", recursive=True)
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(system, path):
    return {name.removeprefix(f"{path}/"): system.cat_file(name) for name in system.find(path)}


def test_one_machine(tmp_path, s3):
    folder = put(tmp_path, s3)
    histeq.clahe_file(folder, tmp_path / "b.zarr", overviews=True, **BLOCKS)
    arguments = ["clahe", "s3://bucket/a.zarr", "s3://bucket/b.zarr", "--overviews", "--memory", "1M"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    assert objects(s3, "bucket/b.zarr") == content(tmp_path / "b.zarr")
    again = CliRunner().invoke(cli, arguments)
    assert again.stderr == "histeq: error: s3://bucket/b.zarr: exists already; --overwrite replaces it\n"
    assert CliRunner().invoke(cli, [*arguments, "--overwrite"]).exit_code == 0
    assert objects(s3, "bucket/b.zarr") == content(tmp_path / "b.zarr")
    wrong = CliRunner().invoke(cli, ["info", "s3://other/a.zarr"])
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("histeq: error: s3://other/a.zarr: ")


def test_obstore(tmp_path, s3, without_fsspec):
    folder = put(tmp_path, s3)
    histeq.equalize_file(folder, tmp_path / "b.zarr", **BLOCKS)
    histeq.equalize_file("s3://bucket/a.zarr", "s3://bucket/b.zarr", **BLOCKS)
    histeq.equalize_file("s3://bucket/a.zarr", "s3://bucket/b.zarr", overwrite=True, **BLOCKS)
    assert objects(s3, "bucket/b.zarr") == content(tmp_path / "b.zarr")


class LostError(Exception):
    """The client is lost."""


def test_a_cluster(tmp_path, s3, monkeypatch):
    """Processes write into S3; a run that is lost is gone on with, and a changed input noticed."""
    folder = put(tmp_path, s3)
    monkeypatch.setattr(cluster_run, "_WINDOW", 1 << 14)
    histeq.equalize_file(folder, tmp_path / "b.zarr", overviews=True, **BLOCKS)
    left = [10]

    def progress(done, total):
        if left[0] and done > 0.6 * total:  # half of it is counting
            left[0] = 0
            raise LostError

    with cluster_client.connected("local:2") as client:
        arguments = {"cluster": client, "overviews": True, **BLOCKS}
        call = functools.partial(
            histeq.equalize_file, "s3://bucket/a.zarr", "s3://bucket/b.zarr", **arguments
        )
        with pytest.raises(LostError):
            call(progress=progress)
        assert s3.exists("bucket/b.zarr/.histeq/begun.json")
        with pytest.raises(FileError, match=r"b\.zarr: it is not finished"):
            histeq.equalize_file("s3://bucket/b.zarr", tmp_path / "c.zarr")
        with pytest.raises(FileError, match=r"b\.zarr: it was not finished: --resume goes on with it"):
            call()
        with pytest.raises(FileError, match=r"it was begun with rule='opencv', and .*rule='numpy'"):
            call(resume=True, rule="numpy")
        call(resume=True)
        assert objects(s3, "bucket/b.zarr") == content(tmp_path / "b.zarr")
        left[0] = 10
        with pytest.raises(LostError):
            call(overwrite=True, progress=progress)
        s3.pipe_file("bucket/a.zarr/c/1/1", s3.cat_file("bucket/a.zarr/c/1/2"))
        with pytest.raises(FileError, match=r"a\.zarr was changed since it was begun"):
            call(resume=True)


def test_a_web_server(tmp_path):
    """It is read from, and not written to. (Python's gives no ranges of bytes, which obstore demands.)"""
    array = image()
    zarr.create_array(tmp_path / "a.zarr", shape=array.shape, chunks=(64, 64), dtype="u1")[...] = array
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        histeq.equalize_file(f"{url}/a.zarr", tmp_path / "b.zarr", **BLOCKS)
        with cluster_client.connected("local:1") as client:
            histeq.equalize_file(f"{url}/a.zarr", tmp_path / "c.zarr", cluster=client, **BLOCKS)
        with pytest.raises(FileError, match=rf"^{url}/nix\.zarr: there is no Zarr store"):
            histeq.equalize_file(f"{url}/nix.zarr", tmp_path / "d.zarr")
        with pytest.raises(FileError, match=rf"^{url}/b2\.zarr: cannot write it"):
            histeq.equalize_file(tmp_path / "a.zarr", f"{url}/b2.zarr")
        server.shutdown()
    for name in ("b", "c"):
        assert (zarr.open(tmp_path / f"{name}.zarr")[:] == histeq.equalize(array)).all()
