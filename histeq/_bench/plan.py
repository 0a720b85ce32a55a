"""From the arguments of `histeq.bench` to cases and candidates; wrong ones are told what there is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq._bench import images, peers
from histeq._bench.cases import DTYPES, LAYOUTS, OPS, Case, cases, size_of
from histeq._bench.result import LeftOut
from histeq._bench.session import Candidate
from histeq._core.arguments import shown
from histeq._core.threads import MOST_THREADS, usable_cpus

Array = NDArray[Any]

DEFAULT_OPS = ("equalize", "clahe", "histogram", "lut")
DEFAULT_SIZES = ("256", "1080p", "4k")
COLORS = ("luma", "channels")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be timed."""

    cases: list[Case]
    candidates: list[Candidate]
    given: dict[Case, Array]
    left_out: list[LeftOut]
    selection: dict[str, Any]


def plan(
    image: Array | None = None,
    *,
    name: str = "image",
    ops: Sequence[str] | None = None,
    sizes: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    contents: Sequence[str] | None = None,
    layout: str | None = None,
    batch: int | Sequence[int] | None = None,
    color: str | None = None,
    backends: Sequence[str] | None = None,
    peers: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
) -> Plan:
    """Check the arguments and list what is to be timed.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of what there is.
    """
    ops = _names("ops", ops, OPS, DEFAULT_OPS)
    color = _one("color", color or "luma", COLORS)
    count = [usable_cpus()] if threads is None else _numbers("threads", threads, MOST_THREADS)
    several = sorted({1, *count}) if threads is None else count
    rivals, missing = _peers(peers)
    ours, absent = _backends(backends)
    candidates = [
        *(
            Candidate(library, "backend", n)
            for library in ours
            for n in (several if library == "numba" else [1])
        ),
        *(Candidate(library, "peer", n) for library in rivals for n in _threads_of(library, several)),
        *(Candidate("memcpy", "ceiling", n) for n in several),
        *([Candidate("device copy", "ceiling", 1)] if "cupy-device" in ours else []),
    ]
    given: dict[Case, Array] = {}
    if image is not None:
        for argument, value in (
            ("sizes", sizes),
            ("dtypes", dtypes),
            ("contents", contents),
            ("batch", batch),
        ):
            if value is not None:
                raise ValueError(f"{argument} is the image's own: leave it out, or the image")
        given = _of_image(image, name, ops, layout, color)
        found = list(given)
    else:
        sizes = _sizes(sizes)
        dtypes = _names("dtypes", dtypes, DTYPES, ("u8",), {name: short for short, name in DTYPES.items()})
        contents = _names("contents", contents, images.CONTENTS, ("natural",))
        layout = _one("layout", layout or "HW", LAYOUTS)
        if batch is not None and "N" not in layout:
            raise ValueError(f"batch needs a layout with N, such as NHW, got layout {layout!r}")
        batches = _numbers("batch", (batch,) if isinstance(batch, int) else batch or (16,), 1 << 20)
        found = list(cases(ops, dtypes, sizes, contents, layout, batches, color))
    selection = {
        "ops": ops, "sizes": None if given else sizes, "dtypes": None if given else dtypes,
        "contents": None if given else contents, "layout": layout, "batch": _listed(batch), "color": color,
        "backends": _listed(backends), "peers": _listed(peers), "threads": _listed(threads),
    }  # fmt: skip
    return Plan(found, candidates, given, [*absent, *missing], selection)


def _of_image(
    image: Array, name: str, ops: Sequence[str], layout: str | None, color: str
) -> dict[Case, Array]:
    """Return the cases of one image of the caller's."""
    image = np.asarray(image)
    short = {np.dtype(long): short for short, long in DTYPES.items()}.get(image.dtype)
    if short is None:
        raise ValueError(f"image must be of dtype {', '.join(DTYPES.values())}, got {image.dtype}")
    layout = _one("layout", layout or ("HW" if image.ndim == 2 else ""), LAYOUTS)
    if image.ndim != len(layout):
        raise ValueError(
            f"image must have the {len(layout)} axes of layout {layout!r}, got shape {image.shape}"
        )
    if image.size == 0:
        raise ValueError(f"image must not be empty, got shape {image.shape}")
    if layout.endswith("C") and image.shape[-1] != 3:
        raise ValueError(f"image must have 3 channels for layout {layout!r}, got {image.shape[-1]}")
    first = int("N" in layout)
    rows, columns = image.shape[first : first + 2]
    batch = image.shape[0] if first else 0
    size = f"{rows}x{columns}"
    return {Case(op, short, size, rows, columns, name, layout, batch, color): image for op in ops}


def _sizes(sizes: Sequence[str] | None) -> list[str]:
    given = _listed(DEFAULT_SIZES if sizes is None else sizes)
    for size in given:
        if not isinstance(size, str):
            raise TypeError(f"sizes must be names, got {shown(size)}")
        size_of(size)
    return list(dict.fromkeys(size.lower() for size in given))


def _backends(asked: Sequence[str] | None) -> tuple[list[str], list[LeftOut]]:
    """Return the backends to time; by default those that work here."""
    here = {info.name: info for info in histeq.backends()}
    names = _names("backends", asked, here, tuple(here))
    absent = [LeftOut(name, here[name].reason) for name in names if not here[name].available]
    working = [name for name in names if here[name].available]
    return [
        each for name in working for each in ((name, "cupy-device") if name == "cupy" else (name,))
    ], absent


def _peers(asked: Sequence[str] | None) -> tuple[list[str], list[LeftOut]]:
    """Return the libraries to time, by default those installed, and the command that adds each other one."""
    names = _names("peers", asked, peers.PEERS, tuple(peers.PEERS))
    missing = [
        LeftOut(name, f"not installed; to add it: {peers.PEERS[name].install}")
        for name in names
        if not peers.installed(name)
    ]
    return [name for name in names if peers.installed(name)], missing


def _threads_of(library: str, several: Sequence[int]) -> Sequence[int]:
    return several if peers.PEERS[library].set_threads else [1]


def _names(
    argument: str,
    asked: Sequence[str] | None,
    known: Iterable[str],
    default: Sequence[str],
    also: dict[str, str] | None = None,
) -> list[str]:
    """Return names that are known, each once; `also`: other words for them."""
    if asked is None:
        return list(default)
    if isinstance(asked, str):
        asked = (asked,)
    found = []
    for name in asked:
        word = (also or {}).get(name, name) if isinstance(name, str) else name
        if word not in list(known):
            raise ValueError(f"{argument} must be of {', '.join(known)}, got {shown(name)}")
        found.append(word)
    if not found and argument in ("ops", "dtypes", "contents", "backends"):
        raise ValueError(f"{argument} must name at least one of {', '.join(known)}")
    return list(dict.fromkeys(found))


def _one(argument: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{argument} must be one of {', '.join(known)}, got {shown(value)}")
    return value


def _numbers(argument: str, values: Sequence[int], most: int) -> list[int]:
    if isinstance(values, int) and not isinstance(values, bool):
        values = (values,)
    for n in values:
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= most:
            raise ValueError(f"{argument} must be whole numbers from 1 to {most}, got {shown(n)}")
    if not values:
        raise ValueError(f"{argument} must name at least one number")
    return sorted(set(values))


def _listed(value: Any) -> Any:
    """Return a list of what was given, to be kept as JSON."""
    return value if value is None else [value] if isinstance(value, str | int) else list(value)
