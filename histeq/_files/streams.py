"""Open files: those that cannot seek are read from, and written to, by way of a temporary file."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from histeq._core import stop
from histeq._files import foreign
from histeq._files.errors import File, name_of, reading
from histeq._files.formats import recognize


def seekable(file: File, stack: contextlib.ExitStack) -> File:
    """Return a file that can be read at any place: a copy of standard input, of a pipe of the shell's."""
    if isinstance(file, str | os.PathLike):
        # Others have a name on the disk, and opening one might wait for ever.
        named = Path(file).parent.name != "fd" and Path(file).name != "stdin"
        if named or not Path(file).is_fifo():
            return file
        stream = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115
    elif not hasattr(file, "read") or can(file, "seek"):
        return file
    else:
        stream = file
    with reading(file):
        start = stream.read(foreign.SIZE)
        recognize(start)  # before endless nonsense fills the disk
        copy = stack.enter_context(_nameless(name_of(file)))
        copy.write(start)
        shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
    return copy


def can(file: Any, deed: str) -> bool:
    """Tell whether an open file says that it can read or seek; those that do not say can if they look it."""
    says = getattr(file, f"{deed}able", None)
    return hasattr(file, deed) if says is None else bool(says())


def _nameless(name: str) -> Any:
    """Return a temporary file that no folder lists; errors call it by the name given."""
    file: Any = tempfile.TemporaryFile()  # noqa: SIM115
    getattr(file, "file", file).raw.name = name  # it would be a number
    return file


@contextlib.contextmanager
def opened_to_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is there. When something has failed, failing to close it is no news."""
    file = path.open("r+b")
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    file.close()


@contextlib.contextmanager
def poured(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Yield a file whose content goes into a stream, such as standard output, when it is complete."""
    with _nameless(name_of(stream)) as file:
        yield file
        stop.check()
        file.seek(0)
        shutil.copyfileobj(file, stream, 1 << 20)
        stream.flush()
