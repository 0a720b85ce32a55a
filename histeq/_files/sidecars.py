"""Files that lie beside an image file and belong to it, by the names that GDAL and its users give them.

World files and `.prj` say where an image lies, and `.msk` which of its pixels are valid: they are copied
beside the output, under its name. What holds pixels or numbers made of them (`.ovr`, `.aux.xml`) is not
copied, but named; and if it lies beside the output, it is named too, because readers would take it for the
new pixels'. Nothing is removed.
"""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

_OF_PIXELS = (".ovr", ".aux.xml")
"""They follow the whole name, as the mask does."""
_MASK = ".msk"
_WORLD = ".wld"
_NO_PICTURES = (".zarr", ".zip", ".npy")
"""Formats for which nobody looks for such files."""


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside a source and a target."""

    copies: tuple[tuple[Path, Path], ...] = ()
    """What is copied, from where to where."""
    notes: tuple[str, ...] = ()
    """What is not, and what is stale, in words."""

    def copy(self) -> None:
        """Copy what belongs to the target as well."""
        for source, target in self.copies:
            shutil.copyfile(source, target)


def beside(source: Any, target: Any) -> Beside:
    """Find what lies beside a source and a target. Only paths of files have neighbours."""
    if not all(isinstance(each, str | os.PathLike) and not Path(each).is_dir() for each in (source, target)):
        return Beside()
    old, new = Path(source), Path(target)
    in_place = new.exists() and old.exists() and old.samefile(new)
    stale = [path for path in _named(new) if path.is_file()]
    notes = [f"{path.name} is of the old pixels: make it anew or remove it" for path in stale]
    if in_place:
        return Beside(notes=tuple(notes))
    notes += [f"{path.name} not carried" for path in _named(old) if path.is_file() and path not in stale]
    copies = []
    places = [(path, new.with_suffix(suffix)) for path, suffix in _places(old, new)]
    mask, of_new = (path.with_name(path.name + _MASK) for path in (old, new))
    if mask.is_file():
        places.append((mask, of_new))
    elif of_new.is_file():
        notes.append(f"{of_new.name} is of the old pixels: make it anew or remove it")
    for path, copied in places:
        if new.suffix.lower() in _NO_PICTURES:
            notes.append(f"{path.name} not carried")
        elif copied.exists() and not new.exists():  # somebody else's
            notes.append(f"{path.name} not carried: there is a {copied.name} already")
        elif not (copied.exists() and copied.samefile(path)):
            copies.append((path, copied))
    return Beside(tuple(copies), tuple(notes))


def _named(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _OF_PIXELS]


def _places(old: Path, new: Path) -> list[tuple[Path, str]]:
    """Return the files that say where an image lies, and the suffixes of their copies."""
    found = []
    worlds = {_world(old.suffix): _world(new.suffix), f"{old.suffix}w": f"{new.suffix}w", _WORLD: _WORLD}
    for suffix, becomes in {**worlds, ".prj": ".prj"}.items():
        if not (suffix.startswith(".") and becomes.startswith(".")):
            continue  # names without a suffix have no world files
        path = old.with_suffix(suffix)
        if path.is_file():
            found.append((path, becomes))
    return found


def _world(suffix: str) -> str:
    """Return the suffix of a world file: the first and the last letter of the image's, and w."""
    return f".{suffix[1]}{suffix[-1]}w" if len(suffix) > 2 else ""
