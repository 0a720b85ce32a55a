"""How what was written gets its name: a file or a folder is complete before it has one, and nothing is lost.

A new file is linked to its name, which fails where another process was faster. One that replaces another
takes over its owner and its permissions, is on the disk before it is renamed, and the other is locked
meanwhile. Symbolic links stay, and what they lead to is replaced. Of several hard links the one that is named
is replaced; the others keep the old pixels.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from histeq._core import stop
from histeq._files.picture import FileError, Unfit

EXISTS = "exists already; --overwrite replaces it"
_FASTER = "another process has written it meanwhile"
_KEPT_ATTRIBUTES = ("user.", "security.selinux", "system.posix_acl_access")
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def seen(path: str | os.PathLike[str]) -> int:
    """Return the kind of what has a name (stat.S_IFDIR, ...); 0 where nothing is, or may be looked at.

    Path.is_dir and its like raise for folders that may not be looked into.
    """
    with contextlib.suppress(OSError):
        return stat.S_IFMT(Path(path).stat().st_mode)
    return 0


def check_absent(path: Path) -> None:
    """Raise FileError if something has this name already, even a link to nothing. Pipes are written to."""
    try:
        found = _found(path)
    except OSError as error:  # a folder that is none, a link that leads to itself
        raise FileError(f"{path}: cannot write it: {error.strerror}") from error
    if (found is not None and not _is_stream(found)) or (found is None and path.is_symlink()):
        raise FileError(f"{path}: {EXISTS}")


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise if something is in the way of what is to be written, or its folder takes no file."""
    if not overwrite:
        check_absent(path)
    if _found(path) is None:
        folder = Path(os.path.realpath(path)).parent
        if not os.access(folder, os.W_OK | os.X_OK):
            folder.stat()  # raises if there is none
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _found(path: Path) -> os.stat_result | None:
    """Return what is known of a file, links followed; None where there is none."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_stream(found: os.stat_result) -> bool:
    return stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield an empty file under a temporary name, which becomes `path` on success and is removed on failure.

    A pipe or a device is not replaced: what was written is poured into it.
    """
    found, target = _found(path), Path(os.path.realpath(path))
    if found is not None and _is_stream(found):
        if stat.S_ISCHR(found.st_mode):
            _check_no_terminal(path)
        with _temporary(Path(tempfile.gettempdir(), target.name)) as temporary:
            _create(temporary, 0o600)
            yield temporary
            pour(temporary, path)
        return
    if found is None:
        with _temporary(target) as temporary:
            _create(temporary, 0o666)
            yield temporary
            stop.check()
            with stop.held():
                _link(temporary, target)
                _sync(target.parent)
        return
    if not stat.S_ISREG(found.st_mode):
        raise Unfit("it exists already and is no file")
    if not overwrite:
        raise Unfit(EXISTS)
    with _locked(target, found), _temporary_for(target, found.st_mode & 0o777) as temporary:
        yield temporary
        _check_same(target, found)
        _sync(temporary)  # before it may become unreadable
        _take_over(temporary, target, found)
        stop.check()
        with stop.held():
            _rename(temporary, target)


@contextlib.contextmanager
def replacing_folder(
    path: Path,
    may_be_replaced: Callable[[Path], bool],
    *,
    overwrite: bool = True,
    temporary: Path | None = None,
) -> Iterator[Path]:
    """Yield a temporary path, where a folder is to be made that becomes `path` on success.

    `may_be_replaced` tells of a folder that is not empty whether it is one of a kind that is replaced. A
    `temporary` path of the caller's stays on failure.
    """
    found, target = _found(path), Path(os.path.realpath(path))
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise Unfit("there is a file already, and a Zarr store is a folder")
    naming = _temporary(target) if temporary is None else contextlib.nullcontext(temporary)
    if found is None or not any(target.iterdir()):
        with naming as temporary:
            yield temporary
            stop.check()
            with stop.held():
                _rename_new_folder(temporary, target)
                _sync(target.parent)
        return
    if not may_be_replaced(target):
        raise Unfit("the folder is there already and is no Zarr store")
    if not overwrite:
        raise Unfit(EXISTS)
    with _locked(target, found), naming as temporary:
        yield temporary
        _check_same(target, found)
        for each in (temporary, *temporary.rglob("*")):
            if not each.is_dir():
                _sync(each)
            _give_owner(each, found)
        _take_over(temporary, target, found)
        stop.check()
        with stop.held():
            _rename_folder(temporary, target)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a name beside a file; what has it at the end is removed."""
    temporary = target.with_name(f".histeq-{secrets.token_hex(8)}{target.suffix}")
    stop.unfinished.add(temporary)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.unlink()
        stop.unfinished.discard(temporary)


@contextlib.contextmanager
def _temporary_for(target: Path, mode: int) -> Iterator[Path]:
    """Yield an empty file beside a file; elsewhere where its folder takes none but it can be written into."""
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(_temporary(target))
        try:
            _create(temporary, mode)
        except OSError:
            if not os.access(target, os.W_OK):
                raise
            temporary = stack.enter_context(_temporary(Path(tempfile.gettempdir(), target.name)))
            _create(temporary, 0o600)
        yield temporary


def _create(path: Path, mode: int) -> None:
    """Create a file exclusively, so that the encoder cannot overwrite another; the owner may write to it."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode | 0o600))


@contextlib.contextmanager
def _locked(target: Path, found: os.stat_result) -> Iterator[None]:
    """Refuse what another process is about to replace. Where there are no such locks, this does nothing."""
    descriptor = None
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        descriptor = os.open(target, os.O_RDONLY)
    if descriptor is None:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unfit("another process is writing it") from None
        _check_same(target, found)
        yield
    finally:
        os.close(descriptor)


def _check_same(target: Path, found: os.stat_result) -> None:
    """Raise if a file has been replaced. Some file systems number files anew: the time counts, too."""
    now = _found(target)
    if now is not None and now.st_ino != found.st_ino and now.st_mtime_ns != found.st_mtime_ns:
        raise Unfit(_FASTER)


def _take_over(temporary: Path, target: Path, found: os.stat_result) -> None:
    """Give a file the owner, permissions and attributes of the one that it replaces, as far as is allowed.

    Shares of Windows and object stores refuse some, and what was written is worth more than its permissions.
    """
    _give_owner(temporary, found)
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(target):
                if name.startswith(_KEPT_ATTRIBUTES):
                    with contextlib.suppress(OSError):
                        os.setxattr(temporary, name, os.getxattr(target, name))
    with contextlib.suppress(OSError):
        temporary.chmod(found.st_mode & 0o777)


def _give_owner(path: Path, found: os.stat_result) -> None:
    """Give a file an owner and a group, as far as is allowed."""
    now = path.lstat()
    if hasattr(os, "lchown") and (now.st_uid, now.st_gid) != (found.st_uid, found.st_gid):
        for owner in ((found.st_uid, -1), (-1, found.st_gid)):
            with contextlib.suppress(OSError):
                os.lchown(path, *owner)


def _sync(path: Path) -> None:
    """Wait until a file is on the disk; of a folder its names, as far as the system offers that."""
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder or os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder and error.errno not in _NO_SYNC:
            raise


def _link(temporary: Path, target: Path) -> None:
    """Give a file a name that nothing else has."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise Unfit(_FASTER) from None
    except OSError:  # no hard links here: an empty file claims the name
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            raise Unfit(_FASTER) from None
        try:
            temporary.replace(target)
        except OSError:
            target.unlink()
            raise


def _rename(temporary: Path, target: Path) -> None:
    """Replace a file; write into it where it cannot be replaced.

    That is so where it is mounted into a container by itself, and where its folder may not be written to.
    """
    try:
        temporary.replace(target)
    except OSError:
        _write_through(temporary, target)
    else:
        _sync(target.parent)


def _write_through(temporary: Path, target: Path) -> None:
    with temporary.open("rb") as result, target.open("r+b") as file:
        size, before = result.seek(0, os.SEEK_END), file.seek(0, os.SEEK_END)
        if size > before and hasattr(os, "posix_fallocate"):
            try:  # a full disk shows before anything is overwritten
                os.posix_fallocate(file.fileno(), before, size - before)
            except OSError as error:
                file.truncate(before)
                if error.errno not in _NO_SYNC:
                    raise
        result.seek(0)
        file.seek(0)
        try:
            shutil.copyfileobj(result, file, 1 << 20)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            kept = temporary.rename(temporary.with_name(temporary.name.removeprefix(".")))
            raise Unfit(f"{error.strerror} in the middle; the whole result is {kept}") from error


def _rename_new_folder(temporary: Path, target: Path) -> None:
    """Give a folder a name that nothing but an empty folder has."""
    try:
        temporary.rename(target)
    except OSError as error:
        if target.is_dir() and any(target.iterdir()):
            raise Unfit(_FASTER) from None
        if error.errno != errno.EBUSY:
            raise
        _move_into(temporary, target)


def _rename_folder(temporary: Path, target: Path) -> None:
    """Replace a folder; what is in it where it is mounted into a container by itself."""
    old = temporary.with_name(f"{temporary.stem}-old{temporary.suffix}")
    try:
        target.rename(old)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _move_into(temporary, target)
        return
    try:
        temporary.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _move_into(temporary: Path, target: Path) -> None:
    """Replace what is in a folder: everything new is there before anything old is gone."""
    new, old = target / temporary.name, target / f"{temporary.name}-old"
    try:
        shutil.copytree(temporary, new, symlinks=True)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    before = [entry for entry in target.iterdir() if entry != new]
    old.mkdir()
    for entry in before:
        entry.rename(old / entry.name)
    for entry in list(new.iterdir()):
        entry.rename(target / entry.name)
    new.rmdir()
    shutil.rmtree(old, ignore_errors=True)


def _check_no_terminal(path: Path) -> None:
    with path.open("wb", buffering=0) as device:
        if device.isatty():
            raise Unfit("a picture is not written to a terminal")


def pour(temporary: Path, stream: Path) -> None:
    """Write a file into a pipe or a device."""
    with temporary.open("rb") as result, stream.open("wb") as file:
        shutil.copyfileobj(result, file, 1 << 20)
