"""What a run found: records, and what they depend on. Kept as JSON."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histeq._bench.statistics import Summary

FORMAT = "histeq bench 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRecord:
    """The times of one candidate in one case.

    Attributes
    ----------
    op, dtype, size, content, layout, color : str
        What was timed, on what.
    rows, columns, batch : int
        The size of the image, and how many of them; 0: the array has no axis N.
    candidate : str
        A backend ("numba", "numpy", "cupy": arrays in host memory there and back; "cupy-device": arrays that
        are on the device), another library, or what is a ceiling ("memcpy", "device copy").
    kind : str
        Which of these it is: "backend", "peer" or "ceiling".
    threads : int
        How many threads it could use.
    pixels : str
        "identical" to histeq's default, or the rule with which histeq gives the same: "rule pillow".
    seconds : float
        The median of a call's time, until the result is there.
    q1, q3 : float
        The quartiles of that time.
    samples : int
        How many samples these are of. A sample of a short call is the median of several in a row.
    visits : tuple of float
        The medians of the visits: each case is timed several times, tens of seconds apart.
    lows : tuple of float
        The shortest times of the visits, which two runs are compared by.
    mpixels_per_second : float
        Millions of pixels a second.
    bytes_per_second : float
        Bytes a second, each byte of the image read once and of the result written once.
    share_of_copy : float or None
        The same as a share of what copying memory moved in the same rounds with as many threads; of the
        device's copy for arrays on it.
    first_call_seconds : float
        The first call of this case in its process, which compiles what must be, or loads it.
    cold_start_seconds : float or None
        From starting the process to its first result; None where the process had made others before.
    host_seconds, device_seconds : float or None
        For arrays on a device: until the call returned, and what the device took by its events.
    upload_seconds, download_seconds : float or None
        For arrays on a device: the transfers there and back, which are not in `seconds`.
    """

    op: str
    dtype: str
    size: str
    rows: int
    columns: int
    content: str
    layout: str
    batch: int
    color: str
    candidate: str
    kind: str
    threads: int
    pixels: str
    seconds: float
    q1: float
    q3: float
    samples: int
    visits: tuple[float, ...]
    lows: tuple[float, ...]
    mpixels_per_second: float
    bytes_per_second: float
    share_of_copy: float | None
    first_call_seconds: float
    cold_start_seconds: float | None = None
    host_seconds: float | None = None
    device_seconds: float | None = None
    upload_seconds: float | None = None
    download_seconds: float | None = None

    @property
    def case(self) -> str:
        """What was timed, in words."""
        batch = f"{self.batch} x " if self.batch else ""
        kind = f", RGB {self.color}" if "C" in self.layout else ""
        return f"{self.op} {self.dtype} {batch}{self.size}{kind}, {self.content}"

    @property
    def name(self) -> str:
        """The candidate with its threads, where it has several."""
        return self.candidate if self.threads == 1 else f"{self.candidate} ({self.threads} threads)"

    @property
    def key(self) -> tuple[str, str, int]:
        """What is the same in another run."""
        return self.case, self.candidate, self.threads

    @property
    def summary(self) -> Summary:
        """The median and the quartiles."""
        return Summary(self.seconds, self.q1, self.q3, self.samples)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not timed, and why."""

    what: str
    why: str


@dataclass(slots=True, kw_only=True)
class BenchResult:
    """What `histeq.bench` found.

    Iterating over it, and `len`, go over the records.

    Attributes
    ----------
    records : list of BenchRecord
        The times, those of a case one after the other.
    left_out : list
        What was not timed, its `what`, and its `why`: libraries that are not installed (with the command
        that adds them), that failed, hung or gave other pixels, and sizes for which there is no memory.
    wrong : list of str
        Backends of histeq whose pixels were not those of the others. Please report these.
    environment : dict
        The processor, its threads, affinity and quota, the GPU and its driver, versions, the commit.
    noise : float
        How much the time of the same work varied before measuring, as a share: below 0.05 is quiet.
    selection : dict
        The arguments.
    interrupted : bool
        Whether the run was interrupted; the records are those measured until then.
    """

    records: list[BenchRecord]
    left_out: list[LeftOut] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    noise: float = 0.0
    selection: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    def __iter__(self) -> Iterator[BenchRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def cases(self) -> dict[str, list[BenchRecord]]:
        """Return the records by case."""
        found: dict[str, list[BenchRecord]] = {}
        for record in self.records:
            found.setdefault(record.case, []).append(record)
        return found

    def verdict(self) -> str:
        """Say what the automatic choice would take here, and whether that is right."""
        from histeq._bench import verdict

        return verdict.sentence(self)

    def to_json(self) -> str:
        """Return everything as JSON, which `from_json` reads."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "BenchResult":
        """Return a result that was kept as JSON.

        Raises
        ------
        ValueError
            If it is not one.
        """
        try:
            found = json.loads(text)
            if found.pop("format") != FORMAT:
                raise ValueError("another format")
            found["records"] = [_record(each) for each in found["records"]]
            found["left_out"] = [LeftOut(**each) for each in found["left_out"]]
            return cls(**found)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it holds no result of histeq bench ({error})") from error

    @classmethod
    def load(cls, path: Path) -> "BenchResult":
        """Read a file; ValueError, which begins with its name, if it holds no result."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from error
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error


def _record(found: dict[str, Any]) -> BenchRecord:
    """Return a record that was kept; ValueError if its times are none."""
    record = BenchRecord(**{**found, "visits": tuple(found["visits"]), "lows": tuple(found["lows"])})
    times = (record.seconds, record.q1, record.q3, *record.visits, *record.lows)
    if not record.lows or not all(isinstance(each, int | float) and 0 < each < 1e9 for each in times):
        raise ValueError(f"the times of {record.name} are none")
    return record
