"""Sources that travel to the workers of a cluster: as the arguments that open them, once in each process."""

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from histeq import _files
from histeq._files import Source, Window, urls
from histeq._files.blocks import Damage, Header
from histeq._files.zarr_place import is_there
from histeq._passes.image import Image, lasting_identity

_OPEN = 8
"""How many sources a process keeps open."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What opens a source elsewhere."""

    file: str
    layout: str | None
    max_pixels: int
    memory: int
    state: Any
    """Of the file: what was open when it was another is not read again."""


class Travelling:
    """A source, opened here or to be opened where it arrives."""

    def __init__(self, ticket: Ticket, source: Source, opening: Any = None) -> None:
        self._ticket, self._source, self._opening = ticket, source, opening
        self.header: Header = source.header
        self.damage: Damage = source.damage
        self.in_blocks, self.mask = source.in_blocks, source.mask

    def __reduce__(self) -> Any:
        return arrived, (self._ticket,)

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a page's blocks."""
        return self._source.blocks(page)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        return self._source.read(window)

    def close(self) -> None:
        """Do nothing: who opened the source closes it."""


@functools.lru_cache(_OPEN)
def arrived(ticket: Ticket) -> Travelling:
    """Open a source; it is closed when nobody has it any more."""
    limits: dict[str, Any] = {"max_pixels": ticket.max_pixels, "memory": ticket.memory}
    opening = _files.opened(ticket.file, layout=ticket.layout, **limits)
    return Travelling(ticket, opening.__enter__(), opening)


def travelling(image: Image, what: str, *, layout: str | None, max_pixels: int, memory: int) -> Image:
    """Return an image that workers can open, too; `what` is the name of the argument."""
    if isinstance(image.source, Travelling):
        return image
    file = absolute(image.file, what)
    ticket = Ticket(file, layout, max_pixels, memory, lasting_identity(file))
    return replace(image, source=Travelling(ticket, image.source))


def absolute(file: Any, what: str) -> str:
    """Return a path that means the same in another folder, or the URL; `what` is the name of the argument."""
    file = urls.local(file)
    if not isinstance(file, str | os.PathLike):
        raise TypeError(f"{what} must be a path or a URL for a cluster, got {type(file).__name__}")
    url = urls.address(file)
    return url if url is not None else os.path.abspath(file)  # noqa: PTH100, links stay


def unseen(file: str, state: str | None) -> str | None:
    """Return why a file cannot be read here, None where it can; workers are asked.

    `state` is what `lasting_identity` says of it elsewhere, if `shallow`.
    """
    url = urls.address(file)
    try:
        if url is not None:
            return None if is_there(urls.store(url, read_only=True)) else "nothing is there"
        if not os.access(file, os.R_OK):
            Path(file).stat()  # raises if there is none
            return "it may not be read"
        return None if lasting_identity(file, shallow=True) == state else "there is another file"
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # libraries raise all kinds of exceptions
        return str(error)
