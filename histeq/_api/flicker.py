"""How much a video flickers: by how much pixels change that stood still before it was processed."""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histeq._api.histogram import histogram
from histeq._api.types import AnyArray
from histeq._core.arguments import is_integer, shown
from histeq._core.array_types import library_of
from histeq._core.shots import AROUND, Shots

Frame = NDArray[Any]


class Flicker(NamedTuple):
    """By how many levels pixels change from frame to frame whose input is still, as `flicker` returns it.

    Attributes
    ----------
    mean : float
        The mean over all pairs of frames of the mean change of a pair's still pixels; NaN where there is no
        pair of frames with a still pixel.
    percentile_95 : float
        The mean over all pairs of frames of the level that the change of 95 % of a pair's still pixels does
        not exceed.
    curve : array of float64, shape (frames,)
        The mean change of each frame's still pixels from the frame before. NaN: for the first frame, for one
        that begins a shot, and for one without still pixels, none of which count.
    """

    mean: float
    percentile_95: float
    curve: NDArray[np.float64]


def flicker(
    frames_before: Iterable[AnyArray], frames_after: Iterable[AnyArray], *, still: int = 1
) -> Flicker:
    """Measure by how much pixels of a processed video change whose input is still.

    For each pair of successive frames x, y of the input and X, Y of the output, the still pixels are those
    where ``abs(y - x) <= still``, and their flicker is ``abs(Y - X)``. Its mean and its 95th percentile over
    these pixels are averaged over all pairs of frames but those with a cut between them, which `Equalizer`
    finds with ``centered=True``. Compare the value of an output with that of the input itself,
    ``flicker(clip, clip)``.

    Parameters
    ----------
    frames_before, frames_after : iterable of array
        The frames before and after processing, of integers: NumPy, CuPy, PyTorch or whatever DLPack hands
        over. Each frame is read once, and few are held: generators serve. The elements of frames with several
        channels count by themselves.
    still : int
        By how many levels a still pixel of the input may change: 1, which is noise, by default; 4 for the
        same in 10 bits.

    Returns
    -------
    Flicker
        The named tuple (mean, percentile_95, curve), in levels of `frames_after`.

    Raises
    ------
    TypeError, ValueError
        For frames that are no arrays of integers, for frames of different shapes, and where one clip has more
        frames than the other.

    Notes
    -----
    The measure is our own. It needs no motion to be estimated: what does not move in the input must not move
    in the output.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> clip = np.random.default_rng(0).integers(0, 100, (20, 48, 64), np.uint8)
    >>> alone = histeq.flicker(clip, (histeq.equalize(frame) for frame in clip))
    >>> smooth = histeq.flicker(clip, histeq.Equalizer(centered=True).frames(clip))
    >>> smooth.mean < alone.mean
    True
    """
    if not is_integer(still):
        raise TypeError(f"still must be an int, got {type(still).__name__}")
    if still < 0:
        raise ValueError(f"still must be at least 0, got {shown(still)}")
    if frames_before is frames_after and iter(frames_before) is frames_before:
        raise ValueError("frames_before and frames_after must be two iterables: one iterator ends once")
    shots = Shots(AROUND)
    cuts: list[int] = []
    changes: list[tuple[float, float]] = []
    before: tuple[Frame, Frame] | None = None
    for pair in _pairs(frames_before, frames_after):
        cuts += shots.add(histogram(pair[0].reshape(-1)))
        changes.append((np.nan, np.nan) if before is None else change(before, pair, int(still)))
        before = pair
    cuts += shots.finish()
    means, percentiles = np.array(changes, np.float64).reshape(-1, 2).T.copy()
    means[cuts] = percentiles[cuts] = np.nan
    counted = ~np.isnan(means)
    if not counted.any():
        return Flicker(np.nan, np.nan, means)
    return Flicker(float(means[counted].mean()), float(percentiles[counted].mean()), means)


def _pairs(
    frames_before: Iterable[AnyArray], frames_after: Iterable[AnyArray]
) -> Iterator[tuple[Frame, Frame]]:
    """Yield the frames before and after, of their own memory: a reader may use its buffer again."""
    end = object()
    shape = None
    for number, (one, other) in enumerate(zip_longest(frames_before, frames_after, fillvalue=end)):
        if one is end or other is end:
            names = ("frames_before", "frames_after")
            longer, shorter = names if other is end else names[::-1]
            raise ValueError(f"{longer} must have as many frames as {shorter}, {number}, got more")
        before, after = _frame("frames_before", one), _frame("frames_after", other)
        shape = before.shape if shape is None else shape
        for name, frame in (("frames_before", before), ("frames_after", after)):
            if frame.shape != shape:
                raise ValueError(
                    f"{name} must have frames of one shape, {shape}, got {frame.shape} as number {number}"
                )
        yield before, after


def _frame(name: str, frame: Any) -> Frame:
    """Return a copy of a frame in host memory."""
    kind: Any = type(frame)
    match library_of(kind):
        case "torch":
            frame = frame.detach().cpu()
        case "cupy":
            frame = frame.get()
        case "other" if not hasattr(frame, "__array__") and hasattr(frame, "__dlpack_device__"):
            frame = np.from_dlpack(frame)
    copied = np.array(frame)
    if copied.dtype.kind not in "iu" or copied.itemsize > 2:
        raise TypeError(f"{name} must have frames of integers of 8 or 16 bits, got {copied.dtype}")
    return np.ascontiguousarray(copied.astype(copied.dtype.newbyteorder("="), copy=False))


def change(before: tuple[Frame, Frame], after: tuple[Frame, Frame], still: int) -> tuple[float, float]:
    """Return the mean and the 95th percentile of the change of the pixels whose input is still."""
    (old, new), (old_mapped, new_mapped) = zip(before, after, strict=True)
    change = _difference(old_mapped, new_mapped)[_difference(old, new) <= still]
    if not change.size:
        return np.nan, np.nan
    counts = np.bincount(change)
    at_most = np.cumsum(counts)
    return float(change.mean()), float(np.argmax(at_most >= 0.95 * change.size))


def _difference(a: Frame, b: Frame) -> Frame:
    """Return the absolute difference of two frames."""
    if a.dtype.kind == "i":
        return np.abs(a.astype(np.int32) - b)
    return np.maximum(a, b) - np.minimum(a, b)
