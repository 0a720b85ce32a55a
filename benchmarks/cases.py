"""What is timed against what, on which images, and the ratios to reach.

What a case is and how each library is called is `histeq/_bench`'s, which `histeq bench` times as well. To
time something new, add it there and a `Row` here; the benchmarks, the JSON and the tables follow.
"""

import importlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._bench import images, machine, peers
from histeq._bench.cases import SIZES, Call, Case, size_of

Array = NDArray[Any]

ALL = ("64", "256", "1080p", "4k", "16k")
EVERY = ("32x32", "64", "224x224", *ALL[1:])
"""The sizes of batches, too."""
QUICK, USUAL, LARGEST = ("32x32", *ALL[:2]), ALL[1:4], ALL[-1]

# Ratios to reach, one a size of ALL, or one for all. Which tier's count depends on the machine: targets().
Targets = Mapping[tuple[str, str], tuple[float | None, ...] | float]
EQUALIZE: Targets = {
    ("avx512", "1 thread"): (1, 3, 5, 4.3, 4.3),
    ("avx512", "all threads"): (1, 3, 4.5, 4, 4),
    ("portable", "1 thread"): (1, 1.5, 2, 2, 2),
    ("portable", "all threads"): (1, 1.5, 2, 2, 2),
}

LUMA: Targets = {key: (None, 3, 4, 4, None) if "avx512" in key else (None, 2, 2, 2, None) for key in EQUALIZE}
CLAHE: Targets = dict.fromkeys(EQUALIZE, (None, 3, 5, 5, None))
CLAHE_16: Targets = dict.fromkeys(EQUALIZE, (None, 10, 5, 3, None))


def everywhere(ratio: float) -> Targets:
    """Return the same target for every tier, number of threads and size but the smallest."""
    return dict.fromkeys(EQUALIZE, (None, ratio, ratio, ratio, ratio))


def always(one: float, all_threads: float) -> Targets:
    """Return a target for one thread and one for all, the same for every tier and size."""
    return {(tier, count): one if count == "1 thread" else all_threads for tier, count in EQUALIZE}


def targets() -> str:
    """Return for which kernels the targets are: "avx512", or "portable" where it is not in use."""
    return "avx512" if machine.describe()["tier"] == "avx512" else "portable"


@dataclass(frozen=True)
class Peer:
    """What histeq is compared with, and on which images."""

    name: str
    """In `peers.PEERS`; "numpy": histeq's backend, which is written to be read."""
    sizes: tuple[str, ...] = USUAL
    contents: tuple[str, ...] = ("natural",)
    targets: Targets = field(default_factory=dict)
    floor: float | None = None
    """The target on contents other than natural."""

    @property
    def title(self) -> str:
        """The name to show."""
        return peers.PEERS[self.name].title if self.name in peers.PEERS else f"histeq ({self.name})"

    @property
    def threaded(self) -> bool:
        """Whether it has threads; without, it is compared with one thread of histeq."""
        return self.name in peers.PEERS and peers.PEERS[self.name].set_threads is not None

    def runs_on(self, size: str, content: str, threads: int) -> bool:
        """Tell whether to compare with it there; peers without threads take minutes on the largest."""
        if size == LARGEST and content != "natural" and not self.threaded:
            return False
        return size in self.sizes and content in self.contents and (threads == 1 or self.threaded)


@dataclass(frozen=True)
class Row:
    """An operation of histeq on one kind of image, with all that it is compared with."""

    name: str
    case: Case
    """Its size and content are those of the first run."""
    peers: tuple[Peer, ...]
    masked: bool = False
    """Whether an ellipse is counted, as large as the image."""

    def rivals(self) -> Iterator[Peer]:
        """Yield the peers and the NumPy backend, of which one small image suffices."""
        yield from self.peers
        if not self.case.batch:
            yield Peer("numpy", sizes=("256",))


@dataclass(frozen=True)
class Run:
    """One implementation of one case on one image: one benchmark."""

    row: Row
    peer: Peer | None
    """None: histeq by itself."""
    size: str
    content: str
    threads: int

    @property
    def case(self) -> Case:
        """What is timed."""
        rows, columns = size_of(self.size)
        return replace(self.row.case, size=self.size, rows=rows, columns=columns, content=self.content)

    @property
    def implementation(self) -> str:
        """Name whose call is timed."""
        return self.peer.title if self.peer else "histeq"

    @property
    def group(self) -> str:
        """Name what all implementations have in common."""
        return f"{self.row.name}, {self.size}, {self.content}, {count(self.threads)}"

    def __str__(self) -> str:
        return f"{self.group}, {self.implementation}"

    def ours(self, image: Array, out: Array | None, inputs: tuple[Array, ...]) -> Call:
        """Return histeq's call that gives exactly the peer's result."""
        way = self._way()
        options = {"rule": way.rule} if way and way.rule else {}
        return self.case.call(image, out, inputs, backend="numba", **options, **self._mask(image))

    def theirs(self, image: Array, out: Array, inputs: tuple[Array, ...]) -> Call:
        """Return the peer's call."""
        assert self.peer is not None
        way = self._way()
        if way is None:
            return self.case.call(image, out, inputs, backend=self.peer.name, **self._mask(image))
        if self.row.masked:
            return partial(masked_by_opencv, image, self._mask(image)["mask"], out)
        return peers.PEERS[self.peer.name].prepare(way, image, out, inputs, self.case.batch)

    def _mask(self, image: Array) -> dict[str, Array]:
        """Return the mask as the argument of a call, where there is one."""
        if not self.row.masked:
            return {}
        y, x = (np.linspace(-1, 1, size) for size in image.shape)
        return {"mask": y[:, None] ** 2 + x**2 < 1}

    def _way(self) -> peers.Way | None:
        library = peers.PEERS.get(self.peer.name) if self.peer else None
        case = self.case
        return library.way(case.op, case.kind, case.dtype) if library else None

    def target(self, tier: str) -> float | None:
        """Return how many times faster than the peer histeq must be."""
        if self.peer is None or self.content != "natural":
            return self.peer.floor if self.peer else None
        ratios = self.peer.targets.get((tier, "1 thread" if self.threads == 1 else "all threads"))
        return ratios[ALL.index(self.size)] if isinstance(ratios, tuple) else ratios


def count(threads: int) -> str:
    """Say how many threads."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def runs(quick: bool = False, threads: int | None = None, only: str = "") -> Iterator[Run]:
    """Yield every run whose name contains `only`, those on one image one after the other.

    `threads` None: both one and all, on the side of histeq and of the peers that have threads.
    """
    sizes = QUICK if quick else EVERY
    counts = sorted({1, machine.threads()}) if threads is None else [threads]
    for row in ROWS:
        for size, content, n in itertools.product(sizes, (*images.CONTENTS, images.DEEP), counts):
            rivals = [peer for peer in row.rivals() if peer.runs_on(size, content, n)]
            group = [Run(row, peer, size, content, n) for peer in ([None, *rivals] if rivals else [])]
            yield from (run for run in group if only in str(run))


def masked_by_opencv(image: Array, mask: Array, out: Array) -> Array:
    """Count the pixels of a mask by OpenCV, make the table by NumPy, and map all pixels by OpenCV."""
    cv2 = importlib.import_module("cv2")
    counts = cv2.calcHist([image], [0], mask.view(np.uint8), [256], [0, 256])
    cdf = np.cumsum(counts.ravel().astype(np.int64))
    above = np.maximum(cdf - cdf[np.argmax(cdf > 0)], 0).astype(np.float32)
    levels = np.rint(above * (np.float32(255) / above[-1])).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, levels, out))


def _case(op: str, dtype: str = "u8", layout: str = "HW", color: str = "luma", batch: int = 0) -> Case:
    return Case(op, dtype, "64", *SIZES["64"], layout=layout, color=color, batch=batch)


_COLOR_BATCH = always(3, 3)
_EVERY = images.CONTENTS
ROWS = (
    Row("equalize uint8", _case("equalize"), (
        Peer("opencv", ALL, _EVERY, EQUALIZE, 1.2), Peer("recipe"), Peer("pillow"), Peer("skimage"),
        Peer("vips"),
    )),
    Row("equalize uint16", _case("equalize", "u16"), (
        Peer("recipe", ALL[1:], _EVERY, everywhere(5)), Peer("skimage"),
    )),
    Row("equalize float32", _case("equalize", "f32"), (Peer("skimage"),)),
    Row("equalize uint8, masked", _case("equalize"), (Peer("opencv", targets=always(5, 5)),), masked=True),
    Row("equalize uint8, batch of 2000", _case("equalize", layout="NHW", batch=2000), (
        Peer("opencv", ("64",), targets=always(2.5, 4)),
    )),
    Row("equalize uint8, batch of 16", _case("equalize", layout="NHW", batch=16), (
        Peer("opencv", ("1080p",), targets=always(4.3, 4)),
    )),
    Row("equalize RGB, luma, batch of 500", _case("equalize", layout="NHWC", batch=500), (
        Peer("opencv", ("32x32",), targets=_COLOR_BATCH),
    )),
    Row("equalize RGB, luma, batch of 256", _case("equalize", layout="NHWC", batch=256), (
        Peer("opencv", ("224x224",), targets=_COLOR_BATCH),
    )),
    Row("equalize RGB, channels, batch of 500", _case("equalize", "u8", "NHWC", "channels", 500), (
        Peer("opencv", ("32x32",), targets=_COLOR_BATCH),
    )),
    Row("equalize RGB, channels, batch of 256", _case("equalize", "u8", "NHWC", "channels", 256), (
        Peer("opencv", ("224x224",), targets=_COLOR_BATCH),
    )),
    Row("equalize RGB, luma", _case("equalize", layout="HWC"), (Peer("opencv", targets=LUMA),)),
    Row("equalize RGB, channels", _case("equalize", layout="HWC", color="channels"), (
        Peer("opencv", targets=everywhere(2)), Peer("pillow"),
    )),
    Row("histogram uint8", _case("histogram"), (
        Peer("opencv", ALL[1:], _EVERY), Peer("recipe"), Peer("pillow"), Peer("skimage"),
    )),
    Row("histogram uint16", _case("histogram", "u16"), (Peer("opencv"), Peer("recipe"))),
    Row("apply uint8", _case("lut"), (Peer("opencv", ALL[1:]), Peer("recipe"), Peer("pillow"))),
    Row("apply uint16", _case("lut", "u16"), (Peer("opencv"), Peer("recipe"))),
    Row("clahe uint8", _case("clahe"), (Peer("opencv", contents=_EVERY, targets=CLAHE),)),
    Row("clahe uint16", _case("clahe", "u16"), (
        Peer("opencv", contents=(*_EVERY, images.DEEP), targets=CLAHE_16, floor=3),
    )),
    Row("clahe RGB, luma", _case("clahe", layout="HWC"), (Peer("opencv"),)),
    Row("match uint8", _case("match"), (Peer("skimage"),)),
)  # fmt: skip
