"""What became faster or slower between two runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from histeq._bench.machine import NOISY
from histeq._bench.report import duration
from histeq._bench.result import BenchRecord, BenchResult
from histeq._bench.statistics import Side, judge

OUTCOMES = ("slower", "faster", "same", "unclear")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one candidate in one case."""

    old: BenchRecord
    new: BenchRecord
    outcome: str
    """faster, slower, same or unclear."""


def changes(old: BenchResult, new: BenchResult) -> list[Change]:
    """Compare what both runs have, case by case."""
    before = {record.key: record for record in old}
    is_noisy = max(old.noise, new.noise) >= NOISY
    found = []
    for records in new.cases().values():
        pairs = [(before[record.key], record) for record in records if record.key in before]
        for pair in pairs:
            others = _others(pair, pairs, old, new)
            found.append(
                Change(
                    *pair,
                    judge(_side(pair[0]), _side(pair[1]), others, threads=pair[1].threads, is_noisy=is_noisy),
                )
            )
    return found


def _side(record: BenchRecord) -> Side:
    return Side(record.seconds, record.samples, record.lows)


def _others(
    pair: tuple[BenchRecord, BenchRecord],
    pairs: Sequence[tuple[BenchRecord, BenchRecord]],
    old: BenchResult,
    new: BenchResult,
) -> list[float]:
    """Return what the shortest times of other libraries were multiplied by, in the same case.

    Not those of copies: how fast memory is copied changes with the addresses.
    """
    unchanged = _same_versions(old, new)
    return [
        min(after.lows) / min(earlier.lows)
        for earlier, after in pairs
        if earlier is not pair[0] and earlier.kind == "peer" and unchanged
    ]


def _same_versions(old: BenchResult, new: BenchResult) -> bool:
    """Tell whether the other libraries are the same ones."""
    versions = [
        {name: number for name, number in result.environment.get("versions", {}).items() if name != "numba"}
        for result in (old, new)
    ]
    return versions[0] == versions[1]


def text(old: BenchResult, new: BenchResult) -> str:
    """Return a line a case, with the shortest times; what changed comes first, the numbers last."""
    found = changes(old, new)
    lines = [
        f"{change.outcome:8} {change.new.case}: {change.new.name}: {duration(min(change.old.lows))} -> "
        f"{duration(min(change.new.lows))} ({min(change.new.lows) / min(change.old.lows):.2f}x)"
        for change in sorted(found, key=lambda change: OUTCOMES.index(change.outcome))
    ]
    known = {change.new.key for change in found}
    alone = [record for result in (old, new) for record in result if record.key not in known]
    lines += [f"in one run only: {record.case}: {record.name}" for record in alone]
    lines += [f"note: {note}" for note in _differences(old, new)]
    counts = {outcome: sum(change.outcome == outcome for change in found) for outcome in OUTCOMES}
    return "\n".join([*lines, ", ".join(f"{count} {outcome}" for outcome, count in counts.items())]) + "\n"


def _differences(old: BenchResult, new: BenchResult) -> list[str]:
    """Say what else differs between the runs."""
    names = ("cpu", "tier", "threads", "quota", "gpu", "python", "commit", "images")
    notes = [
        f"{name} was {old.environment.get(name)!r} and is {new.environment.get(name)!r}"
        for name in names
        if old.environment.get(name) != new.environment.get(name)
    ]
    if not _same_versions(old, new):
        notes.append("other libraries have other versions: their changes are not taken for the machine's")
    loud = max(old.noise, new.noise)
    return [*notes, f"the machine was noisy ({loud:.0%})"] if loud >= NOISY else notes
