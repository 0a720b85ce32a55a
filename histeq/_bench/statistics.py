"""When the times suffice, and what they tell. Quantiles throughout: one interrupted call moves no median."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SPREAD = 0.02
"""A median known to this much needs no more samples."""
FEWEST, MOST = 3, 40
"""Samples of a visit."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The median and the quartiles of some times."""

    median: float
    q1: float
    q3: float
    samples: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary":
        """Summarize at least one value."""
        q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
        return cls(median, q1, q3, len(values))

    @property
    def uncertainty(self) -> float:
        """How well the median is known, as a fraction of it (McGill's notches)."""
        if self.samples < FEWEST:
            return math.inf
        return 1.57 * (self.q3 - self.q1) / math.sqrt(self.samples) / self.median if self.median > 0 else 0.0

    def is_clearly_less(self, other: "Summary") -> bool:
        """Tell whether the interquartile intervals are apart."""
        return min(self.samples, other.samples) >= FEWEST and self.q3 < other.q1


def take_turns(
    calls: Mapping[str, Callable[[], float]],
    seconds: float,
    *,
    first: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Call each in rounds until every median is known well, or the time is up.

    The speed of a shared machine drifts within seconds, and a call runs the better the less the one before it
    left in the caches or the hotter it left the processor: so all take turns, and another one begins every
    round. Slow ones sit out when they have had their share of the time, but not before each was called once.

    Parameters
    ----------
    calls : mapping of str to callable
        Each makes a call and returns what it took.
    seconds : float
        For all of them together.
    first : int
        Which of them begins the first round.

    Returns
    -------
    dict of str to list of float
        The times of each.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    begin = clock()
    for turn in range(MOST):
        start = (first + turn) % len(names) if names else 0
        playing = [
            name
            for name in names[start:] + names[:start]
            if not _had_enough(times[name], spent[name], seconds / len(names))
        ]
        if not playing or (turn and clock() - begin > seconds):
            break
        for name in playing:
            before = clock()
            times[name].append(calls[name]())
            spent[name] += clock() - before
    return times


def _had_enough(times: Sequence[float], spent: float, share: float) -> bool:
    if not times:
        return False
    if spent >= share:
        return True
    return len(times) >= 5 and Summary.of(times).uncertainty <= SPREAD


# Comparing two runs -----------------------------------------------------------------------------------

MARGIN = math.log(1.05)
"""A change below this is none: what two runs of the same program differ by on a quiet machine."""
MARGIN_IN_NOISE = math.log(1.15)
"""The same on a noisy one."""
FEWEST_IN_NOISE = 12
"""With fewer samples the shortest time on a noisy machine may be one of a call that was disturbed."""


@dataclass(frozen=True, slots=True)
class Side:
    """The times of one case in one run."""

    median: float
    samples: int
    lows: Sequence[float]
    """The shortest time of each visit; the visits lie tens of seconds apart."""

    @property
    def low(self) -> float:
        """The shortest time."""
        return min(self.lows)

    @property
    def gap(self) -> float:
        """By how much the shortest time of the second-best visit is longer, as a logarithm."""
        return math.log(sorted(self.lows)[1] / self.low)


def judge(
    old: Side, new: Side, others: Sequence[float] = (), *, threads: int = 1, is_noisy: bool = False
) -> str:
    """Say what became of a case between two runs: "faster", "slower", "same" or "unclear".

    Whatever else a machine does only adds to a time: the shortest ones are what two runs have in common, and
    where they agree, that is no accident. A change must exceed what the machine itself did between the runs,
    as the others of the same rounds show, must be there beside them, too, and the medians must agree. On a
    noisy machine several threads may have had to share one processor.

    Parameters
    ----------
    others : sequence of float
        What the shortest times of others, which did not change, were multiplied by: those of other libraries.
    threads : int
        Of the candidate.
    is_noisy : bool
        Whether the machine was noisy in either run.
    """
    samples = min(old.samples, new.samples)
    if samples < FEWEST or min(len(old.lows), len(new.lows)) < 2:
        return "unclear"
    margin = MARGIN_IN_NOISE if is_noisy else MARGIN
    change, of_medians = math.log(new.low / old.low), math.log(new.median / old.median)
    machine = float(np.median(np.log(others))) if len(others) else 0.0
    beside = change - machine
    if min(abs(change), abs(beside)) <= margin:
        return "same"
    noise = max(margin, old.gap, new.gap, abs(machine))
    if is_noisy:
        if samples < FEWEST_IN_NOISE:
            return "unclear"
        noise = max(noise, math.log(threads), *(abs(math.log(each)) for each in others))
    if min(change, beside, of_medians) > noise:
        return "slower"
    return "faster" if max(change, beside, of_medians) < -noise else "unclear"
