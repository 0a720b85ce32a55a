"""Which candidate wins a case, and whether the automatic choice is right."""

from collections.abc import Sequence

from histeq._bench.machine import NOISY
from histeq._bench.result import BenchRecord, BenchResult


def fastest(records: Sequence[BenchRecord]) -> BenchRecord | None:
    """Return the one that is clearly the fastest of those with the default rule's pixels, or None."""
    ordered = sorted((r for r in records if r.pixels == "identical"), key=lambda r: r.seconds)
    if not ordered or not all(ordered[0].summary.is_clearly_less(r.summary) for r in ordered[1:]):
        return None
    return ordered[0]


def winner(records: Sequence[BenchRecord]) -> str:
    """Say in a line who wins a case, and by how much."""
    ordered = sorted((r for r in records if r.pixels == "identical"), key=lambda r: r.seconds)
    if not ordered:
        return "nothing to compare"
    if len(ordered) == 1:
        return f"{ordered[0].name} is the only one"
    best = fastest(records)
    if best is not None:
        return (
            f"fastest: {best.name}, {_times(ordered[1].seconds / best.seconds)} as fast as {ordered[1].name}"
        )
    level = [r for r in ordered[1:] if not ordered[0].summary.is_clearly_less(r.summary)]
    return f"no clear winner: {', '.join(r.name for r in (ordered[0], *level))}"


def automatic(result: BenchResult) -> tuple[str, int]:
    """Return the backend and the number of threads that a call without arguments would take."""
    backends = {record.candidate for record in result if record.kind == "backend"}
    if "numba" not in backends:
        return "numpy", 1
    return "numba", int(result.environment.get("threads", 1))


def sentence(result: BenchResult) -> str:
    """Say what the automatic choice would take for arrays in host memory, and whether that is right."""
    backend, threads = automatic(result)
    chosen = f"{backend}, {threads} thread{'s' if threads > 1 else ''}"
    text = f"For arrays in host memory the automatic choice would take {chosen}"
    judged, better = 0, []
    for case, records in result.cases().items():
        ours = [r for r in records if r.kind == "backend" and r.candidate != "cupy-device"]
        auto = next((r for r in ours if (r.candidate, r.threads) == (backend, threads)), None)
        if auto is None or len(ours) < 2:
            continue
        judged += 1
        faster = [r for r in ours if r.summary.is_clearly_less(auto.summary)]
        if faster:
            best = min(faster, key=lambda r: r.seconds)
            better.append(f"{case} ({best.name}: {_times(auto.seconds / best.seconds)})")
    if not judged:
        return f"{text}; it was not measured beside others."
    if not better:
        text += ", and nothing of histeq's was clearly faster in any case"
    else:
        text += f", which is right in {judged - len(better)} of {judged} cases"
        text += f"; faster would be {', '.join(better)}"
    doubt = "; the machine was noisy: better run it again when it is quiet" if result.noise >= NOISY else ""
    return f"{text}{_gpu(result)}{doubt}."


def _gpu(result: BenchResult) -> str:
    """Say from how many images on the GPU pays, as far as that was measured."""
    found: dict[int, bool] = {}
    for records in result.cases().values():
        host = [r for r in records if r.candidate in ("numba", "numpy")]
        device = [r for r in records if r.candidate == "cupy"]
        if host and device:
            best = min(host, key=lambda r: r.seconds)
            pays = device[0].summary.is_clearly_less(best.summary)
            found[max(1, device[0].batch)] = found.get(max(1, device[0].batch), True) and pays
    if not found:
        return ""
    paying = [n for n in sorted(found) if all(found[m] for m in found if m >= n)]
    if not paying:
        return f"; the GPU did not pay with up to {_images(max(found))} a call, transfers included"
    return f"; the GPU pays from {_images(paying[0])} a call, transfers included"


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x" if ratio >= 10 else f"{ratio:.2f}x"
