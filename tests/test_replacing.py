"""How a finished file gets its name: nothing is lost, whatever refuses, races, interrupts or is mounted."""

import contextlib
import errno
import gc
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

import histeq
from histeq import _files
from histeq._core import stop
from histeq._files import FileError, naming, read

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files and signals")

RANDOM = np.random.default_rng(5)
OLD, IMAGE = (RANDOM.integers(0, 99, (40, 50), np.uint8) for _ in range(2))
NEW = histeq.equalize(IMAGE)
TRACED = (str(Path(histeq.__file__).parent), contextlib.__file__)
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("in") / "a.npy"
    np.save(path, IMAGE)
    return path


@pytest.fixture
def listening():
    """Let signals be recorded as in the program, and as before afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    hooks = sys.excepthook, sys.unraisablehook
    stop.listen()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    sys.excepthook, sys.unraisablehook = hooks
    stop._signal = None


def make(path, pixels):
    """Write pixels in the format that the name stands for."""
    if path.suffix == ".zarr":
        zarr.create_array(path, data=pixels, chunks=(20, 25))
    else:
        np.save(path, pixels)


def equalized(source, target, **options):
    return histeq.equalize_file(source, target, backend="numpy", **{"overwrite": True, **options})


def holds(path, pixels):
    np.testing.assert_array_equal(read(path).pixels, pixels)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestSignals:
    """A run that is stopped is no success; it leaves what was there or what is complete, and nothing else."""

    def interrupted(self, source, target, moment, number=signal.SIGTERM):
        """Send a signal at one of the lines that are run; return whether that stopped it, and the lines."""
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            if not frame.f_code.co_filename.startswith(TRACED):
                return None
            lines += 1
            if lines == moment:
                signal.raise_signal(number)
                signal.raise_signal(number)  # which changes nothing
            return trace

        stopped = False
        gc.collect()  # what an earlier run left would be closed among the lines of this one
        gc.disable()
        stop.listen()
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            equalized(source, target)
            stop.check()
        except stop.Stopped:
            stopped = True
        finally:
            sys.settrace(before)
            gc.enable()
        stop.remove_unfinished()
        return stopped, lines

    def moments(self, source, folder, suffix, step):
        target = folder / f"b{suffix}"
        make(target, OLD)
        equalized(source, target)  # imports what it takes
        gc.freeze()  # so that collecting takes no time
        _, lines = self.interrupted(source, target, 0)
        contents = []
        for moment in range(1, lines + 1, step):
            shutil.rmtree(target, ignore_errors=True)
            target.unlink(missing_ok=True)
            make(target, OLD)
            stopped, reached = self.interrupted(source, target, moment)
            assert stopped == (reached >= moment)
            assert names(folder) == [target.name]
            contents.append(bool((read(target).pixels == NEW).all()))
            holds(target, NEW if contents[-1] else OLD)
        gc.unfreeze()
        return contents

    @pytest.mark.parametrize(("suffix", "step"), [(".npy", 41), (".zarr", 199)])
    def test_at_some_moments(self, tmp_path, source, listening, suffix, step):
        contents = self.moments(source, tmp_path, suffix, step)
        assert len(contents) > 10
        assert not all(contents)

    @pytest.mark.exhaustive
    @pytest.mark.parametrize(("suffix", "step"), [(".npy", 1), (".zarr", 7)])
    def test_at_any_moment(self, tmp_path, source, listening, suffix, step):
        self.moments(source, tmp_path, suffix, step)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    def test_swallowed(self, tmp_path, source, listening, number, suffix):
        """An exception in a destructor is lost; the signal is not."""

        class Trap:
            def __del__(self):
                signal.raise_signal(number)

        target = tmp_path / f"b{suffix}"
        make(target, OLD)
        traps = [Trap()]
        with pytest.raises(stop.Stopped):
            equalized(source, target, progress=lambda *_: traps.clear())
        assert names(tmp_path) == [target.name]
        holds(target, OLD)

    def test_in_a_block_that_is_done_as_a_whole(self, listening):
        done = []

        def block():
            with stop.held():
                signal.raise_signal(signal.SIGTERM)
                done.append(1)

        with pytest.raises(stop.Stopped):
            block()
        assert done

    def test_ignored_signals_stay_ignored(self, listening):
        """As those of a program that nohup starts."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop.listen()
        signal.raise_signal(signal.SIGHUP)
        stop.check()

    def test_the_program_ends_by_the_signal(self, source):
        """Even where the last exception is lost; the code is what a shell wants for its own loops."""
        code = f"""
import signal, sys
from histeq._cli import batch, cli
from histeq import __main__
batch.run = lambda *_: signal.raise_signal(signal.SIGTERM)
class Trap:
    def __del__(self):
        signal.raise_signal(signal.SIGHUP)
def run(*arguments, **options):
    global trap
    del trap
trap, batch.run = Trap(), run
sys.argv[1:] = ["equalize", {str(source)!r}, "b.npy"]
__main__.main()
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (-signal.SIGHUP, "histeq: error: stopped by SIGHUP\n")


class TestWhatStays:
    """Of the file that is replaced."""

    def test_permissions(self, tmp_path, source):
        target = tmp_path / "b.npy"
        make(target, OLD)
        target.chmod(0o640)
        with contextlib.suppress(OSError):
            os.setxattr(target, "user.origin", b"here")
        had = set(os.listxattr(target)) if hasattr(os, "listxattr") else set()
        if ROOT:
            os.chown(target, 1234, 4321)
        equalized(source, target)
        found = target.stat()
        assert stat.S_IMODE(found.st_mode) == 0o640
        if ROOT:
            assert (found.st_uid, found.st_gid) == (1234, 4321)
        assert not had or set(os.listxattr(target)) == had
        holds(target, NEW)

    @pytest.mark.skipif(not ROOT, reason="only root gives files away")
    def test_the_owner_of_a_store(self, tmp_path, source):
        target = tmp_path / "b.zarr"
        make(target, OLD)
        target.chmod(0o750)
        os.chown(target, 1234, 4321)
        equalized(source, target)
        assert {(each.stat().st_uid, each.stat().st_gid) for each in [target, *target.rglob("*")]} == {
            (1234, 4321)
        }
        assert stat.S_IMODE(target.stat().st_mode) == 0o750
        holds(target, NEW)

    def test_a_file_that_may_not_be_read(self, tmp_path, source):
        target = tmp_path / "b.npy"
        make(target, OLD)
        target.chmod(0o200)
        equalized(source, target)
        assert stat.S_IMODE(target.stat().st_mode) == 0o200
        target.chmod(0o600)
        holds(target, NEW)

    def test_refused_permissions(self, tmp_path, source, monkeypatch):
        """Shares of Windows and object stores have none: the result is not thrown away for that."""

        def refused(*_, **options):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        target = tmp_path / "b.npy"
        make(target, OLD)
        os.utime(target, (0, 0))
        for name in ("chmod", "lchown", "setxattr", "listxattr"):
            monkeypatch.setattr(os, name, refused, raising=False)
        equalized(source, target)
        holds(target, NEW)

    def test_links(self, tmp_path, source):
        """A symbolic link stays and what it leads to is replaced; another name of the file keeps the old."""
        real = tmp_path / "real.npy"
        make(real, OLD)
        os.link(real, tmp_path / "other.npy")
        (tmp_path / "link.npy").symlink_to("real.npy")
        equalized(source, tmp_path / "link.npy")
        assert (tmp_path / "link.npy").is_symlink()
        holds(real, NEW)
        holds(tmp_path / "other.npy", OLD)
        (tmp_path / "nowhere.npy").symlink_to("new.npy")
        with pytest.raises(FileError, match="exists already"):
            equalized(source, tmp_path / "nowhere.npy", overwrite=False)
        equalized(source, tmp_path / "nowhere.npy")
        holds(tmp_path / "new.npy", NEW)

    def test_on_the_disk_before_it_is_renamed(self, tmp_path, source, monkeypatch):
        target = tmp_path / "b.npy"
        make(target, OLD)
        done = []
        fsync, replace = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_ino) or fsync(file))
        monkeypatch.setattr(Path, "replace", lambda *names: done.append("renamed") or replace(*names))
        equalized(source, target)
        assert done == [target.stat().st_ino, "renamed", tmp_path.stat().st_ino]


class TestRivals:
    """Two processes with one output: the second is refused, and no result is lost."""

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_new(self, tmp_path, source, suffix, overwrite):
        target = tmp_path / f"b{suffix}"

        def rival(*_):
            if not target.exists():
                equalized(source, target, out_range=(1, 2))

        with pytest.raises(FileError, match="another process has written it meanwhile"):
            equalized(source, target, overwrite=overwrite, progress=rival)
        assert names(tmp_path) == [target.name]
        holds(target, histeq.equalize(IMAGE, out_range=(1, 2)))

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    def test_replaced(self, tmp_path, source, suffix):
        target = tmp_path / f"b{suffix}"
        make(target, OLD)
        refused = []

        def rival(*_):
            if refused:
                return
            with pytest.raises(FileError, match="another process is writing it"):
                equalized(source, target, out_range=(1, 2))
            refused.append(1)

        equalized(source, target, progress=rival)
        assert refused
        holds(target, NEW)
        equalized(source, target, out_range=(1, 2))  # no lock is left

    def test_without_locks(self, tmp_path, source, monkeypatch):
        import fcntl

        def refused(*_):
            raise OSError(errno.ENOLCK, "no locks")

        monkeypatch.setattr(fcntl, "flock", refused)
        target = tmp_path / "b.npy"
        make(target, OLD)
        other = tmp_path / "other.npy"
        make(other, OLD + 1)
        os.utime(target, (0, 0))
        with pytest.raises(FileError, match="another process has written it"):
            equalized(source, target, progress=lambda *_: other.exists() and other.replace(target))
        holds(target, OLD + 1)

    def test_without_hard_links(self, tmp_path, source, monkeypatch):
        def refused(*_):
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(os, "link", refused)
        target = tmp_path / "b.npy"
        with pytest.raises(FileError, match="another process has written it"):
            equalized(source, target, progress=lambda *_: make(target, OLD))
        holds(target, OLD)
        target.unlink()
        equalized(source, target)
        holds(target, NEW)
        assert names(tmp_path) == ["b.npy"]


class TestWhatCannotBeRenamed:
    @pytest.fixture
    def target(self, tmp_path, monkeypatch):
        """A file on which nothing can be renamed, as if it were mounted by itself."""
        target = tmp_path / "b.npy"
        make(target, OLD)

        def busy(self, target):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

        monkeypatch.setattr(Path, "replace", busy)
        return target

    @pytest.mark.parametrize("size", [10, 100000])
    def test_written_through(self, target, source, size):
        target.write_bytes(bytes(size))
        number = target.stat().st_ino
        equalized(source, target)
        assert target.stat().st_ino == number
        assert target.stat().st_size == len((source).read_bytes())
        holds(target, NEW)
        assert names(target.parent) == ["b.npy"]

    def test_full_disk(self, target, source, monkeypatch):
        """It shows before anything is lost."""

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        target.write_bytes(b"old")
        allocate = os.posix_fallocate
        monkeypatch.setattr(
            os, "posix_fallocate", lambda n, at, size: full() if at == 3 else allocate(n, at, size)
        )
        with pytest.raises(FileError, match=r"No space left on device$"):
            equalized(source, target)
        assert target.read_bytes() == b"old"
        assert names(target.parent) == ["b.npy"]

    def test_failure_in_the_middle(self, target, source, monkeypatch):
        """The result is kept, under a name that the error tells."""

        def broken(*_):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(shutil, "copyfileobj", broken)
        with pytest.raises(
            FileError, match="Input/output error in the middle; the whole result is /"
        ) as error:
            equalized(source, target)
        holds(Path(str(error.value).rsplit(" is ")[-1]), NEW)

    def test_a_folder_that_takes_no_file(self, target, source, monkeypatch):
        create = naming._create

        def refused(path, mode):
            if path.parent == target.parent:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            create(path, mode)

        monkeypatch.setattr(naming, "_create", refused)
        equalized(source, target)
        holds(target, NEW)
        with pytest.raises(FileError, match="Permission denied"):
            equalized(source, target.with_name("c.npy"))
        assert names(target.parent) == ["b.npy"]

    @pytest.mark.parametrize("there", [True, False])
    def test_a_store(self, tmp_path, source, monkeypatch, there):
        target = tmp_path / "b.zarr"
        target.mkdir()
        if there:
            shutil.rmtree(target)
            make(target, OLD)
        number, rename = target.stat().st_ino, Path.rename

        def busy(self, other):
            if target in (self, Path(other)):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            return rename(self, other)

        monkeypatch.setattr(Path, "rename", busy)
        equalized(source, target)
        assert target.stat().st_ino == number
        assert names(tmp_path) == ["b.zarr"]
        assert not [name for name in names(target) if "histeq" in name]
        holds(target, NEW)

    @pytest.mark.exhaustive
    @pytest.mark.skipif(not ROOT or not shutil.which("unshare"), reason="only root mounts")
    def test_mounts(self, tmp_path, source):
        """A file and a store, each mounted by itself."""
        for name in ("b.npy", "b.zarr"):
            make(tmp_path / f"real-{name}", OLD)
        (tmp_path / "b.npy").touch()
        (tmp_path / "b.zarr").mkdir()
        run = f"{sys.executable} -m histeq equalize {source}"
        script = " && ".join(
            f"mount --bind real-{name} {name} && {run} {name} --overwrite" for name in ("b.npy", "b.zarr")
        )
        if subprocess.run(["unshare", "-m", "mount", "--bind", tmp_path, tmp_path], check=False).returncode:
            pytest.skip("nothing can be mounted here")
        subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=tmp_path, check=True)
        for name in ("b.npy", "b.zarr"):
            holds(tmp_path / f"real-{name}", NEW)


class TestStreams:
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_pipe_is_written_to(self, tmp_path, source, overwrite):
        pipe = tmp_path / "b.npy"
        os.mkfifo(pipe)
        got = []
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
        reader.start()
        equalized(source, pipe, overwrite=overwrite)
        reader.join()
        assert pipe.is_fifo()
        assert names(tmp_path) == ["b.npy"]
        (tmp_path / "c.npy").write_bytes(got[0])
        holds(tmp_path / "c.npy", NEW)

    def test_devices(self, source):
        equalized(source, "/dev/null", format="NPY")
        assert Path("/dev/null").is_char_device()
        with pytest.raises(FileError, match="cannot write it: No space left on device"):
            equalized(source, "/dev/full", format="NPY")

    @pytest.mark.parametrize("format", ["NPY", "TIFF", "PNG"])
    def test_files_that_only_go_forward(self, tmp_path, source, format):
        target = tmp_path / f"b.{format.lower()}"
        ours, theirs = os.pipe()
        with os.fdopen(theirs, "wb") as file:
            file.write(source.read_bytes())
        with os.fdopen(ours, "rb") as pipe, target.open("wb") as file:
            equalized(pipe, file, format=format)
        holds(target, NEW)

    def test_files_that_cannot_be_read_back(self, tmp_path, source):
        import gzip

        with gzip.open(tmp_path / "b.tif.gz", "wb") as file:
            equalized(source, file, format="TIFF")
        with gzip.open(tmp_path / "b.tif.gz") as file:
            holds(file, NEW)

    def test_nonsense_is_not_waited_for(self):
        class Endless:
            def seekable(self):
                return False

            def read(self, size):
                return bytes(size)

        with pytest.raises(FileError, match="not a picture"):
            _files.read(Endless())
