"""Whether the thresholds of the automatic choice suit this machine."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import histeq
from histeq._bench import images
from histeq._bench.statistics import Summary, take_turns
from histeq._bench.worker import on_host
from histeq._core.threads import usable_cpus

SIDES = tuple(128 << n for n in range(5)) + tuple(181 << n for n in range(5))
"""Sides of square images: every number of pixels is twice the one before."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number of pixels from which something pays."""

    name: str
    """In the file; empty where dispatch has no such threshold."""
    what: str
    built_in: int | None
    measured: int | None
    """None: it paid at no size."""
    divisor: int = 1
    """The file's number is that of the pixels of a thread."""

    @property
    def agrees(self) -> bool:
        """Tell whether the built-in one is right within a factor of two."""
        if self.built_in is None:
            return True
        return self.measured is not None and self.built_in / 2 <= self.measured <= self.built_in * 2

    def __str__(self) -> str:
        found = "pays at no size" if self.measured is None else f"pays from {self.measured:,} pixels"
        if self.built_in is None:
            return f"{self.what}: {found}"
        return f"{self.what}: {found}; in use: {self.built_in:,}{'' if self.agrees else ' (differs)'}"


def calibrate(
    seconds: float = 20,
    *,
    progress: Callable[[str, float], object] | None = None,
    timed: Callable[[str, int, int], float] | None = None,
) -> list[Threshold]:
    """Measure from which size on more threads, and the GPU, pay.

    Parameters
    ----------
    seconds : float
        About how long it may take.
    timed : callable, optional
        Times a call of an operation on a square image: of the operation, the side and the threads, where 0
        stands for the GPU.
    """
    threads, timed = usable_cpus(), timed or _timed
    here = {info.name for info in histeq.backends() if info.available}
    plans = [("equalize", "equalize", 1), ("lut", "piece", 2), ("clahe", "clahe piece", 2)]
    rivals: list[tuple[str, str, int, int]] = []
    if "numba" in here and threads > 1:
        rivals += [(op, name, divisor, threads) for op, name, divisor in plans]
    if "cupy" in here:
        rivals += [("equalize", "", 1, 0), ("clahe", "", 1, 0)]
    found = []
    for number, (op, name, divisor, many) in enumerate(rivals):
        sides = sorted(SIDES)
        pays = []
        for place, side in enumerate(sides):
            if progress is not None:
                progress(f"{op} of {side} x {side}", (number + place / len(sides)) / len(rivals))
            one = threads if many == 0 else 1
            share = seconds / len(rivals) / len(sides)
            calls = {
                "one": lambda side=side, one=one, op=op: timed(op, side, one),
                "many": lambda side=side, many=many, op=op: timed(op, side, many),
            }
            times = take_turns(calls, share)
            pays.append(Summary.of(times["many"]).is_clearly_less(Summary.of(times["one"])))
        what = f"{op}: the GPU, from host memory and back" if many == 0 else f"{op}: {many} threads"
        in_use = _in_use(name) * divisor if name else None
        found.append(Threshold(name, what, in_use, crossover([side * side for side in sides], pays), divisor))
    return found


def crossover(sizes: list[int], pays: list[bool]) -> int | None:
    """Return the smallest size from which on something pays at every size, or None."""
    found = None
    for size, does in zip(reversed(sizes), reversed(pays), strict=True):
        if not does:
            break
        found = size
    return found


def to_keep(thresholds: list[Threshold]) -> dict[str, int]:
    """Return what the file shall hold: of those that differ from the built-in ones, and paid somewhere."""
    return {
        each.name: max(1, each.measured // each.divisor)
        for each in thresholds
        if each.name and not each.agrees and each.measured is not None
    }


def _places() -> dict[str, tuple[Any, str]]:
    """Return where each threshold stands."""
    from histeq._backends.numba import clahe, parallel, views

    return {"equalize": (parallel, "WORTH_IT"), "piece": (views, "PIECE"), "clahe piece": (clahe, "_PIECE")}


def _in_use(name: str) -> int:
    module, attribute = _places()[name]
    return int(getattr(module, attribute))


@contextlib.contextmanager
def _forced(many: bool) -> Iterator[None]:
    """Have threads work however small the image, or the fastest way of one thread however large."""
    from histeq._backends.numba import fast_path

    places = [*_places().values(), (fast_path, "_ONE_THREAD")]
    before = [getattr(module, attribute) for module, attribute in places]
    try:
        for (module, attribute), value in zip(places, before, strict=True):
            setattr(module, attribute, 256 if many else 1 << 40 if module is fast_path else value)
        yield
    finally:
        for (module, attribute), value in zip(places, before, strict=True):
            setattr(module, attribute, value)


def _timed(op: str, side: int, threads: int) -> float:
    """Time a call, after one that is not timed; a short one several times."""
    image = images.make("natural", (side, side), "uint8")
    options: dict[str, Any] = {"backend": "cupy"} if threads == 0 else {"out": np.empty_like(image)}
    table = (np.arange(256, dtype=np.uint8)[::-1].copy(),) if op == "lut" else ()
    functions: dict[str, Callable[..., Any]] = {
        "equalize": histeq.equalize,
        "clahe": histeq.clahe,
        "lut": histeq.apply,
    }

    def call() -> Any:
        return functions[op](image, *table, **options)

    with _forced(threads > 1), histeq.threads(max(1, threads)):
        call()
        return float(np.median([on_host(call).seconds for _ in range(5)]))
