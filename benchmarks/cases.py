"""The one table of what is timed against what, on which images, and of the ratios to reach.

To time something new, add a `Case`, or a `Peer` to one; the benchmarks, the JSON and the tables follow.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

import histeq
from benchmarks import images, machine, peers

Array = NDArray[Any]
Call = Callable[[], Any]

SIZES = {
    "64x64": (64, 64),
    "256x256": (256, 256),
    "1080x1920": (1080, 1920),
    "2160x3840": (2160, 3840),
    "16384x16384": (16384, 16384),
}
ALL = tuple(SIZES)
QUICK, USUAL, LARGEST = ALL[:2], ALL[1:4], ALL[-1]

# Ratios to reach, one a size of SIZES. Which tier's count depends on the machine: machine.targets().
Targets = Mapping[tuple[str, str], tuple[float | None, ...]]
EQUALIZE: Targets = {
    ("avx512", "1 thread"): (1.5, 3, 4, 3.5, 3),
    ("avx512", "all threads"): (1.5, 3, 3.5, 3.5, 2.5),
    ("portable", "1 thread"): (1.5, 1.5, 2.5, 2.5, 2.5),
    ("portable", "all threads"): (1.5, 1.5, 2, 2, 2),
}

CLAHE: Targets = dict.fromkeys(EQUALIZE, (None, 3, 5, 5, None))
CLAHE_16: Targets = dict.fromkeys(EQUALIZE, (None, 10, 3, None, None))


def everywhere(ratio: float) -> Targets:
    """Return the same target for every tier, number of threads and size but the smallest."""
    return dict.fromkeys(EQUALIZE, (None, ratio, ratio, ratio, ratio))


@dataclass(frozen=True)
class Peer:
    """What histeq is compared with."""

    name: str
    prepare: Callable[..., Call]
    options: Mapping[str, Any] = field(default_factory=dict)
    """The keywords with which histeq gives exactly this peer's result."""
    threaded: bool = False
    """Whether it has threads; without, it is compared with one thread of histeq."""
    sizes: tuple[str, ...] = USUAL
    contents: tuple[str, ...] = ("natural",)
    targets: Targets = field(default_factory=dict)
    floor: float | None = None
    """The target on contents other than natural."""

    def runs_on(self, size: str, content: str, threads: int) -> bool:
        """Tell whether to compare with it there; peers without threads take minutes on the largest."""
        if size == LARGEST and content != "natural" and not self.threaded:
            return False
        return size in self.sizes and content in self.contents and (threads == 1 or self.threaded)


@dataclass(frozen=True)
class Case:
    """A function of histeq on one kind of image."""

    name: str
    function: str
    peers: tuple[Peer, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "uint8"
    channels: int = 0
    inputs: Callable[[Array], tuple[Array, ...]] = lambda image: ()
    """What the function takes after the image: the table, the reference image."""

    def prepare(self, image: Array, out: Array | None, *inputs: Array, **options: Any) -> Call:
        """Return the call of histeq's function, as the functions in `peers` do."""
        if self.function != "histogram":
            options["out"] = out
        function = getattr(histeq, self.function)
        return partial(function, image, *inputs, **{"backend": "numba", **self.options, **options})

    def rivals(self) -> Iterator[Peer]:
        """Yield the peers and the NumPy backend, which is written to be read: one small image suffices."""
        yield from self.peers
        yield Peer("histeq (numpy)", partial(self.prepare, backend="numpy"), sizes=("256x256",))


@dataclass(frozen=True)
class Run:
    """One implementation of one case on one image: one benchmark."""

    case: Case
    peer: Peer | None
    """None: histeq by itself."""
    size: str
    content: str
    threads: int

    @property
    def implementation(self) -> str:
        """Name whose call is timed."""
        return self.peer.name if self.peer else "histeq"

    @property
    def group(self) -> str:
        """Name what all implementations have in common."""
        return f"{self.case.name}, {self.size}, {self.content}, {count(self.threads)}"

    def __str__(self) -> str:
        return f"{self.group}, {self.implementation}"

    def image(self) -> Array:
        """Make the image."""
        return images.make(self.content, SIZES[self.size], self.case.dtype, self.case.channels)

    def target(self, tier: str) -> float | None:
        """Return how many times faster than the peer histeq must be."""
        if self.peer is None or self.content != "natural":
            return self.peer.floor if self.peer else None
        ratios = self.peer.targets.get((tier, "1 thread" if self.threads == 1 else "all threads"))
        return ratios[ALL.index(self.size)] if ratios else None


def count(threads: int) -> str:
    """Say how many threads."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def runs(quick: bool = False, threads: int | None = None, only: str = "") -> Iterator[Run]:
    """Yield every run whose name contains `only`, those on one image one after the other.

    `threads` None: both one and all, on the side of histeq and of the peers that have threads.
    """
    sizes = QUICK if quick else ALL
    counts = sorted({1, machine.threads()}) if threads is None else [threads]
    for case in CASES:
        for size, content, n in itertools.product(sizes, images.CONTENTS, counts):
            rivals = [peer for peer in case.rivals() if peer.runs_on(size, content, n)]
            group = [Run(case, peer, size, content, n) for peer in ([None, *rivals] if rivals else [])]
            yield from (run for run in group if only in str(run))


def _table(image: Array) -> tuple[Array]:
    return (histeq.lookup_table(histeq.histogram(image), dtype=image.dtype),)


def _moon(image: Array) -> tuple[Array]:
    rows, columns = image.shape
    return (images.natural("moon", (rows, columns), str(image.dtype)),)


CASES = (
    Case(
        "equalize uint8",
        "equalize",
        (
            Peer(
                "OpenCV",
                peers.cv2_equalize,
                threaded=True,
                sizes=ALL,
                contents=images.CONTENTS,
                targets=EQUALIZE,
                floor=1.5,
            ),
            Peer("NumPy", peers.numpy_equalize, {"rule": "numpy"}),
            Peer("Pillow", peers.pillow_equalize, {"rule": "pillow"}),
            Peer("scikit-image", peers.skimage_equalize, {"rule": "skimage"}),
            Peer("libvips", peers.vips_equalize, {"rule": "vips"}, threaded=True),
        ),
    ),
    Case(
        "equalize uint16",
        "equalize",
        (
            Peer(
                "NumPy",
                peers.numpy_equalize,
                {"rule": "numpy"},
                sizes=ALL[1:],
                contents=images.CONTENTS,
                targets=everywhere(5),
            ),
            Peer("scikit-image", peers.skimage_equalize, {"rule": "skimage"}),
        ),
        dtype="uint16",
    ),
    Case(
        "equalize RGB, luma",
        "equalize",
        (Peer("OpenCV", peers.cv2_luma, threaded=True, targets=everywhere(2)),),
        {"layout": "HWC"},
        channels=3,
    ),
    Case(
        "equalize RGB, channels",
        "equalize",
        (
            Peer("OpenCV", peers.cv2_channels, threaded=True, targets=everywhere(2)),
            Peer("Pillow", peers.pillow_equalize, {"rule": "pillow"}),
        ),
        {"layout": "HWC", "color": "channels"},
        channels=3,
    ),
    Case(
        "histogram uint8",
        "histogram",
        (
            Peer("OpenCV", peers.cv2_histogram, threaded=True, sizes=ALL[1:], contents=images.CONTENTS),
            Peer("NumPy", peers.numpy_histogram),
            Peer("Pillow", peers.pillow_histogram),
            Peer("scikit-image", peers.skimage_histogram),
        ),
    ),
    Case(
        "histogram uint16",
        "histogram",
        (
            Peer("OpenCV", peers.cv2_histogram, threaded=True),
            Peer("NumPy", peers.numpy_histogram),
        ),
        dtype="uint16",
    ),
    Case(
        "apply uint8",
        "apply",
        (
            Peer("OpenCV", peers.cv2_apply, threaded=True, sizes=ALL[1:]),
            Peer("NumPy", peers.numpy_apply),
            Peer("Pillow", peers.pillow_apply),
        ),
        inputs=_table,
    ),
    Case(
        "apply uint16",
        "apply",
        (
            Peer("OpenCV", peers.cv2_apply, threaded=True),
            Peer("NumPy", peers.numpy_apply),
        ),
        dtype="uint16",
        inputs=_table,
    ),
    Case(
        "clahe uint8",
        "clahe",
        (Peer("OpenCV", peers.cv2_clahe, threaded=True, contents=images.CONTENTS, targets=CLAHE),),
    ),
    Case(
        "clahe uint16",
        "clahe",
        (Peer("OpenCV", peers.cv2_clahe, threaded=True, contents=images.CONTENTS, targets=CLAHE_16),),
        dtype="uint16",
    ),
    Case(
        "clahe RGB, luma",
        "clahe",
        (Peer("OpenCV", peers.cv2_clahe_luma, threaded=True),),
        {"layout": "HWC"},
        channels=3,
    ),
    Case(
        "match uint8",
        "match",
        (Peer("scikit-image", peers.skimage_match),),
        inputs=_moon,
    ),
)
