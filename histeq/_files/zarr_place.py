"""Where a Zarr store is made, and how it gets its name.

- A folder is made under a temporary name, and renamed.
- A folder that the workers of a cluster write has a name that lasts, NAME.unfinished.zarr, and stays there
  when a run is lost: the next one goes on with it.
- What is at a URL cannot be renamed. It has its own name from the start, and until it is finished a journal
  that says so.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from histeq._core import stop
from histeq._files import urls
from histeq._files.naming import EXISTS, check_target, replacing_folder, seen
from histeq._files.picture import Unfit

if TYPE_CHECKING:
    from histeq._files.journal import Journal

METADATA = ("zarr.json", ".zarray", ".zgroup")
_GO_ON = "--resume goes on with it, --overwrite begins anew"


@dataclass(frozen=True, slots=True)
class Shared:
    """How a store is begun that several processes write."""

    begun: Mapping[str, Any]
    """The arguments and the state of the files: a run that goes on must have the same."""
    resume: bool
    """Whether this run goes on with a store that was begun."""


class Place(NamedTuple):
    """Where a store is made."""

    target: Any
    """A path, or a store of zarr's."""
    journal: "Journal | None" = None
    again: bool = False
    """Whether the arrays are there already."""


def is_store(path: Path) -> bool:
    """Tell whether a folder is an array or a group of Zarr's."""
    return any(seen(path / name) == stat.S_IFREG for name in METADATA)


@contextlib.contextmanager
def placed(file: str | os.PathLike[str], *, overwrite: bool, shared: Shared | None) -> Iterator[Place]:
    """Yield where a store is to be made that gets its name on success."""
    url = urls.address(file)
    if url is not None:
        with _at_url(url, overwrite, shared) as place:
            yield place
    elif shared is not None:
        with _in_lasting_folder(Path(file), overwrite, shared) as place:
            yield place
    else:
        with replacing_folder(Path(file), is_store, overwrite=overwrite) as temporary:
            yield Place(temporary)


@contextlib.contextmanager
def _in_lasting_folder(path: Path, overwrite: bool, shared: Shared) -> Iterator[Place]:
    import zarr

    from histeq._files.journal import Journal

    check_target(path, overwrite=overwrite)  # zarr would make all folders above it
    target = Path(os.path.realpath(path))
    folder = target.with_name(f"{target.stem}.unfinished{target.suffix}")
    journal = Journal(zarr.storage.LocalStore(folder))
    again = False
    if seen(folder):
        begun = journal.begun()
        if begun is None:
            raise Unfit(f"{folder.name} is in the way, which is no unfinished store of histeq's")
        again = _goes_on(begun, shared)
        if not again and not overwrite:
            raise Unfit(f"{folder.name} was not finished: {_GO_ON}")
        if not again:
            shutil.rmtree(folder)
    with replacing_folder(path, is_store, overwrite=overwrite, temporary=folder):
        if not again:
            journal.begin(shared.begun)
        try:
            yield Place(folder, journal, again)
        except BaseException:
            if not again and not journal.used:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        stop.check()
        journal.end()


@contextlib.contextmanager
def _at_url(url: str, overwrite: bool, shared: Shared | None) -> Iterator[Place]:
    from zarr.core.sync import sync

    from histeq._files.journal import Journal

    store = urls.store(url, read_only=False)
    journal = Journal(store)
    begun = journal.begun()
    again = begun is not None and shared is not None and _goes_on(begun, shared)
    if not again:
        if not overwrite and begun is not None:
            raise Unfit(f"it was not finished: {_GO_ON if shared is not None else '--overwrite begins anew'}")
        there = is_there(store)
        if not overwrite and there:
            raise Unfit(EXISTS)
        if begun is not None or there:
            sync(store.delete_dir(""))
        journal.begin({} if shared is None else shared.begun)
    try:
        yield Place(store, journal, again)
        stop.check()
    except BaseException:
        if not again and not journal.used:
            with contextlib.suppress(Exception):
                sync(store.delete_dir(""))
        raise
    journal.end()


def _goes_on(begun: Mapping[str, Any], shared: Shared) -> bool:
    """Tell whether a run goes on with a store; raise where it may not."""
    if not shared.resume:
        return False
    for name, now in shared.begun.items():
        then = begun.get(name)
        if then != now and name.startswith("state of "):
            raise Unfit(f"{name.removeprefix('state of ')} was changed since it was begun: {_ANEW}")
        if then != now:
            raise Unfit(f"it was begun with {name}={then}, and this run has {name}={now}: {_ANEW}")
    return True


_ANEW = "--overwrite without --resume begins anew"


def is_there(store: Any) -> bool:
    """Tell whether a store of zarr's holds an array or a group."""
    from zarr.core.sync import sync

    return any(sync(store.exists(name)) for name in METADATA)


def unfinished(store: Any) -> bool:
    """Tell whether a store of zarr's has a journal."""
    from histeq._files.journal import Journal

    return Journal(store).begun() is not None
