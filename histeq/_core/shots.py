"""Where a cut begins a new shot of a video, told by the histograms of its frames.

All of it is integers and single operations of float64, so that every backend decides alike.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

AROUND = 3
"""The frames before and after with which the distance of a cut is compared."""
LEAST = 0.15
"""The least distance of a cut: see `threshold`."""
TIMES = 2.5
"""How many times the distances around it that of a cut is."""
UNIT = 1 << 40
"""What the shares of a frame's pixels that its levels have add up to, but for fractions that are cut off."""
MOST_CUTS = 1 << 16
"""The most cuts that are remembered: a stream goes on for months."""


def distance(histogram: Counts, shares: Counts) -> float:
    """Return half the L1 distance of a frame's normalised histogram from that of the frame before.

    `shares` are those of the frame before, in units of 1 / `UNIT`, and become those of this frame. The
    distance is 0 where one of the two frames has no counted pixel.
    """
    total = int(histogram.sum())
    before = shares.copy()
    shares[...] = histogram / float(total) * UNIT if total else 0
    if not before.any() or not total:
        return 0.0
    return int(np.abs(shares - before).sum()) / (2.0 * UNIT)


def threshold(around: list[float]) -> float:
    """Return the distance beyond which a frame begins a shot.

    `around` are the distances of the frames before and after it, as far as there are any.
    """
    return max(LEAST, TIMES * max(around, default=0.0))


class Shots:
    """The shots of a clip whose frames come one by one.

    Parameters
    ----------
    ahead : int
        With how many frames after it a frame is compared, besides the three before it.
    """

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.frames = 0
        """How many frames were added."""
        self.judged = 1
        """Of the frames before this one it is known whether they begin a shot."""
        self.cuts: deque[int] = deque(maxlen=MOST_CUTS)
        """The frames that begin a shot, but for the first one."""
        self._shares: Counts | None = None
        self._distances: deque[float] = deque(maxlen=AROUND + 1 + ahead)  # those of the latest frames

    def add(self, histogram: Counts, distance: Callable[[Counts, Counts], float] = distance) -> list[int]:
        """Add the next frame; return the cuts that are known now."""
        if self._shares is None:
            self._shares = np.zeros_like(histogram)
            distance(histogram, self._shares)
        else:
            return self.note(distance(histogram, self._shares))
        self.frames += 1
        return []

    @property
    def shares(self) -> Counts | None:
        """Those of the latest frame: see `distance`. None: there was no frame."""
        return self._shares

    @property
    def next_threshold(self) -> float:
        """The distance beyond which the next frame begins a shot, going by the frames before it alone."""
        return threshold(list(self._distances)[-AROUND:])

    def note(self, d: float) -> list[int]:
        """Add the next frame, at a distance `d` from the one before; return the cuts that are known now."""
        self._distances.append(d)
        self.frames += 1
        return self._judge(self.frames - self.ahead)

    def finish(self) -> list[int]:
        """Say that there are no more frames; return the last cuts."""
        return self._judge(self.frames)

    def _judge(self, stop: int) -> list[int]:
        """Return the cuts among the frames before `stop` that were not judged yet."""
        found = []
        for frame in range(self.judged, stop):
            at = len(self._distances) - (self.frames - frame)
            if self._distances[at] > LEAST:
                d = list(self._distances)
                around = d[max(at - AROUND, 0) : at] + d[at + 1 : at + 1 + self.ahead]
                if d[at] > threshold(around):
                    found.append(frame)
        self.judged = max(self.judged, stop)
        self.cuts.extend(found)
        return found
