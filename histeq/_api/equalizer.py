"""Equalization of a video, frame by frame, by histograms that are summed over time."""

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np

from histeq._api.clahe import plan_tiles
from histeq._api.interop import any_array
from histeq._api.layout import SPACE, Axes
from histeq._api.request import (
    COLORS,
    Request,
    check_bins,
    check_choice,
    check_levels,
    check_rule,
    request,
)
from histeq._api.tiles import Kind, TileTables
from histeq._api.types import AnyArray, BackendName, Color, FrameT, Range, Rule
from histeq._core import dispatch, rules, tile_grid
from histeq._core.arguments import as_float, integers, is_integer, shown
from histeq._core.array_types import library_of
from histeq._core.backend import Array, Pixels
from histeq._core.memory import available_memory
from histeq._core.shots import AROUND
from histeq._core.window import Smoothing, Tiling, Window

Sizes = int | Sequence[int]
Method = Literal["global", "clahe"]
MOST_FRAMES = 1 << 15
"""The most frames of a window: their counts are kept."""
Roi = Sequence[int] | Sequence[slice] | slice


class Equalizer:
    """Equalize the frames of a video by histograms that are summed over time, so that nothing flickers.

    A frame is mapped by the table of the counts of `window` frames. Where a cut begins a new shot, so does
    the window: a frame is never mapped by the counts of another shot.

    Parameters
    ----------
    method : {"global", "clahe"}
        One table for the whole frame, as `equalize` makes it, or one for each tile, as `clahe` does.
    window : int
        How many frames' counts are summed. With 1 the result is that of `equalize` or `clahe`, bit for bit.
    centered : bool
        Whether the window lies around the frame that is mapped, ``(window - 1) // 2`` frames before it and
        ``window // 2`` after it, and not at the frame and before it. `lag` says how many later frames must
        be known then.
    cuts : bool
        Whether the window ends at cuts. A frame begins a shot if its distance d from the frame before is more
        than 0.15, and more than 2.5 times the distance of each of the three frames before it and, if
        `centered`, of the three after it, as far as there are any in the clip. d is half the L1 distance of
        the two frames' normalised histograms: 0 for the same, 1 for histograms without a common level. A
        frame without counted pixels has the distance 0, and so has the one after it.
    rule : {"opencv", "pillow", "numpy", "skimage", "vips"}
        Whose arithmetic makes the table, as for `equalize`. For method "clahe": "opencv".
    clip_limit : float
        For method "clahe": how many times its even share of a tile's pixels a bin may hold before it is
        clipped, as for `clahe`.
    tiles : int or sequence of int
        For method "clahe": the number of tiles along the spatial axes, (rows, columns).
    tile_size : int or sequence of int, optional
        For method "clahe": the size of a tile in pixels, in place of `tiles`.
    layout : str, optional
        One letter for each axis of a frame: C for channels, D, H and W for space. Frames of two axes are
        "HW"; three and more must be named: "HWC", "CHW". Frames come one by one, without an axis N or T.
    color : {"luma", "luma-bgr", "channels"}
        What to equalize of frames with an axis C. "luma" (the default): the Y of YCrCb, with Cr and Cb kept;
        channels in the order R G B. "luma-bgr": the same for the order B G R of OpenCV. "channels": every
        channel by itself.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped but copied to the result. By
        default it is for two and four channels whose luma is equalized.
    roi : (y, x, height, width) or slices, optional
        The part of each frame whose pixels are counted: where it begins and its size, or one slice for each
        spatial axis. All pixels are mapped.
    mask : array of bool or unsigned integers, optional
        Which pixels of each frame are counted: those where it is not zero. It has the frame's shape without
        the axis C. All pixels are mapped.
    nodata : number, optional
        The value that is not counted and passes through unchanged, as for `equalize`. No other pixel comes
        out as nodata.
    bins : int, optional
        The number of bins for floating-point frames, 256 by default; for method "clahe" as for `clahe`.
    value_range : (low, high), optional
        The values that are counted; those outside are not, and are mapped as the limits are. Integers have
        one bin a value in it, and the result spans it unless `out_range` says otherwise: (0, 1023) for 10
        bits in the low bits of uint16, (16, 235) for limited range. Floating-point frames need it: all frames
        have the same bins.
    out_range : (low, high), optional
        The lowest and the highest output level. By default `value_range`, the whole range of the dtype where
        that is not given, and 0..1 for fractions.
    strength : float
        From 0 to 1: how far a table goes from the one that keeps every pixel to the one of the rule. Each
        entry is ``rint(kept + strength * (equalized - kept))`` in float64, a half rounded to even. 1 gives
        the rule's table, 0 that of a frame without counted pixels. Results of fractions have no other than 1.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. By default the fastest that serves the frames where they are, or the one
        that the environment variable ``HISTEQ_BACKEND`` names. "cupy" with NumPy arrays: on the GPU, and
        back.

    Attributes
    ----------
    lag : int
        How many frames must have been counted after a frame before it can be mapped: 0 unless `centered`;
        then ``window // 2``, and three more with `cuts`, since a cut is known three frames later.
    cut_frames : tuple of int
        The frames that were found to begin a shot, numbered from 0, as far as they are known; of those
        before the last 65,536 none.
    counts : array of int64 or None
        The counts of the frame that was counted last, as `histogram` returns them. With method "clahe" they
        are summed over the tiles, and include the pixels that complete tiles at the far borders.
    table : array, TileTables or None
        The table by which the last frame was mapped.

    Raises
    ------
    TypeError, ValueError
        For a wrong argument; the message names the argument. What depends on the frames is checked with the
        first one.

    Notes
    -----
    The counts are 64-bit integers, and their sums exact: results do not depend on the backend, on the number
    of threads, or on how the clip was cut into calls. An Equalizer can be pickled between any two frames; it
    serves one thread at a time.

    Related methods are those of J. Delon, "Movie and video scale-time equalization", IEEE Transactions on
    Image Processing 15, 2006, and of J. Sanchez, "Midway video equalization", Image Processing On Line 7,
    2017.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> clip = np.random.default_rng(0).integers(0, 100, (5, 48, 64), np.uint8)
    >>> equalizer = histeq.Equalizer(window=15)
    >>> mapped = [equalizer(frame) for frame in clip]    # each by those before it
    >>> bool((mapped[0] == histeq.equalize(clip[0])).all())
    True
    >>> ahead = histeq.Equalizer(window=15, centered=True)
    >>> len(list(ahead.frames(clip)))    # each by those around it
    5
    """

    def __init__(
        self,
        *,
        method: Method = "global",
        window: int = 15,
        centered: bool = False,
        cuts: bool = True,
        rule: Rule = "opencv",
        clip_limit: float = 2.0,
        tiles: Sizes = tile_grid.TILES,
        tile_size: Sizes | None = None,
        layout: str | None = None,
        color: Color = "luma",
        alpha: bool | None = None,
        roi: Roi | None = None,
        mask: AnyArray | None = None,
        nodata: float | None = None,
        bins: int | None = None,
        value_range: Range | None = None,
        out_range: Range | None = None,
        strength: float = 1.0,
        backend: BackendName | None = None,
    ) -> None:
        _check_method(method, rule, tiles, tile_size)
        before, after = _check_window(window, _check_bool("centered", centered))
        ahead = (AROUND if centered else 0) if _check_bool("cuts", cuts) else None
        self._options = _Options(
            method, before, after, ahead, rule, tile_grid.check_clip_limit(clip_limit), tiles, tile_size,
            _check_layout(layout), check_choice("color", color, COLORS), alpha, _check_roi(roi), nodata,
            bins, value_range, out_range, _check_strength(strength), backend,
        )  # fmt: skip
        self._mask = mask
        self._lag = after + (ahead or 0) if after else 0
        self.reset()

    @property
    def lag(self) -> int:
        """How many frames must have been counted after a frame before it can be mapped."""
        return self._lag

    @property
    def cut_frames(self) -> tuple[int, ...]:
        """The frames that were found to begin a shot."""
        return self._window.cuts if self._window else ()

    @property
    def counts(self) -> AnyArray | None:
        """The counts of the frame that was counted last."""
        if self._plan is None or self._window is None or self._window.histogram is None:
            return None
        return self._public(self._window.histogram)

    @property
    def table(self) -> "AnyArray | TileTables | None":
        """The table by which the last frame was mapped."""
        if self._plan is None or self._window is None or self._window.table is None:
            return None
        tiling, table = self._plan.smoothing.tiling, self._window.table
        if tiling is None:
            return self._public(table)
        kind = Kind(
            tiling.grid, tiling.levels, self._plan.pixels.luma, self._plan.lead, self._plan.axes.spatial
        )
        return TileTables(table, (0, 0, 0), kind, None)

    def reset(self) -> None:
        """Forget all frames: the next one begins a new clip, which may have another size and dtype."""
        self._plan: _Plan | None = None
        self._window: Window | None = None
        self._waiting = 0  # frames that were counted and not mapped
        self._finished = False
        self._begun = False  # whether a frame was counted: what follows from the first one holds from then on
        self._plain: Any = None  # what takes the commonest frames, if those of this clip are such

    def update(self, frame: AnyArray) -> None:
        """Count the next frame. Its pixels may change afterwards.

        Parameters
        ----------
        frame : array
            The frame, of dtype uint8, int8, uint16, int16, float16, float32 or float64, with any strides and
            byte order. All frames have the same shape, dtype and library, until `reset`.

        Raises
        ------
        TypeError, ValueError
            For a wrong frame, and for one of another shape, dtype or library than those before.
        RuntimeError
            If `lag` frames wait to be mapped besides the one that can be, or after `finish`.
        """
        can_be = not self._finished and self._waiting <= self._lag
        if self._plain is not None and can_be and self._plain.count(frame):
            self._waiting += 1
            return
        _update(frame, self, mask=None if self._begun else self._mask)

    def apply(self, frame: FrameT, *, out: FrameT | None = None) -> FrameT:
        """Map the first of the counted frames that has not been mapped yet, which is passed once more.

        Parameters
        ----------
        frame : array
            That frame.
        out : array, optional
            Where to write the result: an array of the frame's library, shape and device and of the result's
            dtype. It may be the frame itself, but must share no memory with it otherwise.

        Returns
        -------
        array
            Of the library, shape, memory order and dtype of `frame`; of fractions for rule "skimage" and
            floating-point frames, as `equalize` and `clahe` return them.

        Raises
        ------
        TypeError, ValueError
            For a wrong argument, before any work; the message names the argument.
        RuntimeError
            If fewer than `lag` frames were counted after it, unless `finish` said that there are no more.
        """
        result: FrameT | None = None
        if self._plain is not None and self._waiting > (0 if self._finished else self._lag):
            result = self._plain.map(frame, out)
        if result is None:
            return _apply(frame, self, out=out)
        self._waiting -= 1
        return result

    def finish(self) -> None:
        """Say that no more frames come: those that wait may be mapped. `reset` begins the next clip."""
        self._finished = True
        if self._window:
            self._window.finish()

    def __call__(self, frame: FrameT, *, out: FrameT | None = None) -> FrameT:
        """Count a frame and map it by the window that ends with it.

        Parameters
        ----------
        frame : array
            The frame: see `update`.
        out : array, optional
            Where to write the result: see `apply`. It may be the frame itself.

        Returns
        -------
        array
            Of the library, shape, memory order and dtype of `frame`: see `apply`.

        Raises
        ------
        TypeError, ValueError
            For a wrong argument, before any work; the message names the argument.
        RuntimeError
            If the window is centered: `frames` maps such frames, or `update` and `apply`.
        """
        if self.lag:
            raise RuntimeError(
                f"a frame of a centered window is mapped when the {self.lag} frames after it are known: use "
                "frames(clip), or update(frame) and apply(earlier_frame)"
            )
        if self._finished or self._waiting:
            self.update(frame)  # says why not
        if self._plain is not None and (plain := self._plain.count_and_map(frame, out)) is not None:
            return plain
        result: FrameT = _update_and_apply(frame, self, mask=None if self._begun else self._mask, out=out)
        return result

    def frames(self, clip: Iterable[FrameT], *, in_place: bool = False) -> Iterator[FrameT]:
        """Yield the mapped frames of a clip, in order; the clip begins with a `reset`.

        With ``backend="cupy"`` and frames in host memory each frame is uploaded once, through pinned memory,
        while the one before it is mapped and brought back: a frame is yielded when the next one has been
        read. Frames stay on the device until they are mapped, as far as half of its free memory holds them.

        Parameters
        ----------
        clip : iterable of array
            The frames. As many as `lag` are held, and the next one if it is uploaded ahead: they must keep
            their pixels meanwhile, so that a reader which uses one buffer for all frames must hand over
            copies.
        in_place : bool
            Whether each frame is written into its own memory and yielded itself.

        Yields
        ------
        array
            Each frame, mapped: see `apply`.
        """
        self.reset()
        frames = iter(clip)
        first = tuple(islice(frames, 1))
        late = first and library_of(type(first[0])) != "jax"  # whose results are copied as they are returned
        window = _clip_window(first[0], self, mask=self._mask) if late else None
        mapped = self._one_by_one if window is None else self._overlapped
        yield from mapped(chain(first, frames), in_place)

    def _one_by_one(self, clip: Iterator[FrameT], in_place: bool) -> Iterator[FrameT]:
        """Yield the mapped frames, having read none that is not needed."""
        waiting: deque[FrameT] = deque()
        for frame in clip:
            self.update(frame)
            waiting.append(frame)
            if len(waiting) > self.lag:
                yield self._apply_oldest(waiting, in_place)
        self.finish()
        while waiting:
            yield self._apply_oldest(waiting, in_place)

    def _overlapped(self, clip: Iterator[FrameT], in_place: bool) -> Iterator[FrameT]:
        """Yield the mapped frames, each when the next one has been sent to the device.

        Where there is no next one because of an error, it is raised after that.
        """
        window: Any = self._window
        waiting: deque[FrameT] = deque()
        following = deque(islice(clip, 1))
        failure: Exception | None = None
        with window.overlapped():
            _send(following[0], self)
            window.wait()
            while following:
                frame = following.popleft()
                self.update(frame)
                waiting.append(frame)
                mapped = [self._apply_oldest(waiting, in_place)] if len(waiting) > self.lag else []
                try:
                    for frame in islice(clip, 1):
                        _send(frame, self)
                        following.append(frame)
                except Exception as error:
                    failure = error
                window.wait()
                yield from mapped
                if failure is not None:
                    raise failure
            self.finish()
            while waiting:
                result = self._apply_oldest(waiting, in_place)
                window.wait()
                yield result

    def _apply_oldest(self, waiting: deque[FrameT], in_place: bool) -> FrameT:
        oldest = waiting.popleft()
        return self.apply(oldest, out=oldest if in_place else None)

    def _plan_for(self, frame: Any, mask: Any) -> "tuple[_Plan, Window]":
        """Return what follows from the first frame, which may be this one."""
        if not self._begun or self._plan is None or self._window is None:
            call = _request(frame, self._options, mask)
            self._plan = _plan_of(call, self._options)
            self._window = call.backend.Window(self._plan.smoothing)
        return self._plan, self._window

    def _begin(self, backend: Any) -> None:
        """Take notice that a frame was counted."""
        self._begun, kind, plan = True, backend.PlainFrames, self._plan
        if self._plain is None and kind is not None and plan is not None and plan.counts_all:
            about = plan.shape, plan.pixels, plan.smoothing
            if plan.lead == (False, False) and kind.fits(plan.dtype, *about):
                self._plain = kind(backend, *about, self._window)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plain": None}  # the backend may be missing where it is read

    def _public(self, array: Array) -> AnyArray:
        """Return counts or a table (1, P, bins) with the axis C where frames have channels of their own."""
        planes = slice(None) if self._plan is not None and self._plan.lead[1] else 0
        public: AnyArray = array[0, planes]
        return public


@dataclass(frozen=True, slots=True)
class _Options:
    """The arguments, but for the mask."""

    method: str
    before: int
    after: int
    ahead: int | None
    """How many frames after it tell whether a frame begins a shot; None: none does."""
    rule: str
    clip_limit: float
    tiles: Any
    tile_size: Any
    layout: str | None
    color: str
    alpha: bool | None
    roi: tuple[slice, ...] | tuple[int, ...] | None
    nodata: float | None
    bins: int | None
    value_range: Any
    out_range: Any
    strength: float
    backend: str | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What follows from the first frame."""

    kind: Any
    """The type of the frames' arrays."""
    shape: tuple[int, ...]
    dtype: np.dtype
    """Of all frames."""
    axes: Axes
    pixels: Pixels
    """Those of every frame, but for its image."""
    channels: int
    lead: tuple[bool, bool]
    """Whether public counts and tables have the axes N and C."""
    roi: tuple[slice, ...] | None
    """What is counted, (D, H, W); None: all."""
    bins: int
    bounds: tuple[float, float] | None
    """The range of the bins of floating frames."""
    result_dtype: np.dtype
    smoothing: Smoothing

    @property
    def counts_all(self) -> bool:
        """Whether the pixels that are counted are those that are mapped."""
        return self.roi is None and self.pixels.mask is None

    def request(self, frame: Any, options: _Options) -> Request:
        """Return a frame with the arguments; raise unless it is like the first one."""
        if type(frame) is not self.kind or frame.shape != self.shape or frame.dtype != self.dtype:
            call = _request(frame, options, None)
            for name, before, now in (
                ("library", self.kind.__module__, type(call.image).__module__),
                ("shape", self.shape, tuple(call.image.shape)),
                ("dtype", self.dtype, call.dtype),
            ):
                if before != now:
                    error = ValueError if name == "shape" else TypeError
                    raise error(
                        f"frame must have the {name} of the frames before, {before}, got {now}: reset() "
                        "begins a new clip"
                    )
            frame = call.image
        backend = dispatch.choose(frame, options.backend, "frame")
        image = self.axes.canonical(frame)[:, : self.channels]
        return Request(backend, frame, self.axes, replace(self.pixels, image=image), self.dtype)

    def count(self, call: Request, window: Window) -> None:
        """Count a frame."""
        pixels, origin = call.pixels, (0, 0, 0)
        if self.roi is not None:
            pixels, origin = pixels.window(self.roi), tuple(part.start for part in self.roi)
        window.count(call.backend, pixels, origin, call.edges(self.bins, self.bounds))

    def map(self, call: Request, out: Any, window: Window, *, counts: bool) -> Any:
        """Map a frame, and count it before."""
        result = self._result(call, out)
        target = call.target(result)
        if counts and self.counts_all:
            edges = call.edges(self.bins, self.bounds)
            window.count_and_map(call.backend, call.pixels, edges, target)
            return result
        if counts:
            self.count(call, window)
        pixels, edges = replace(call.pixels, mask=None), call.edges(self.bins, self.bounds)
        window.map(call.backend, pixels, edges, target)
        return result

    def _result(self, call: Request, out: Any) -> Any:
        """Return where the result goes, checked: in the commonest cases at the least cost."""
        if type(out) is np.ndarray and type(call.image) is np.ndarray and self.pixels.mask is None:
            same = out.dtype == self.result_dtype and out.shape == self.shape and out.flags.carray
            same = same and call.image.flags.c_contiguous
            if same and (out is call.image or not np.may_share_memory(out, call.image)):
                return out
        return call.result(out, self.result_dtype)


@any_array
def _update(frame: Any, equalizer: Equalizer, *, mask: Any) -> None:
    """Count a frame."""
    if equalizer._finished:
        raise RuntimeError("frames must not come after finish(): reset() begins a new clip")
    if equalizer._waiting > equalizer.lag:
        raise RuntimeError(
            f"apply must map the oldest of the {equalizer._waiting} frames that wait for it before another "
            "is counted"
        )
    plan, window = equalizer._plan_for(frame, mask)
    call = plan.request(frame, equalizer._options)
    plan.count(call, window)
    equalizer._waiting += 1
    equalizer._begin(call.backend)


@any_array
def _apply(frame: Any, equalizer: Equalizer, *, out: Any) -> Any:
    """Map the oldest frame that waits for it."""
    missing = (0 if equalizer._finished else equalizer.lag) + 1 - equalizer._waiting
    if missing > 0:
        raise RuntimeError(
            "frame must be one that update has counted and apply has not mapped: there is none"
            if equalizer._waiting == 0
            else f"{missing} more frames must be counted before this one is mapped, or finish() called"
        )
    plan, window = equalizer._plan_for(frame, None)
    result = plan.map(plan.request(frame, equalizer._options), out, window, counts=False)
    equalizer._waiting -= 1
    return result


@any_array
def _update_and_apply(frame: Any, equalizer: Equalizer, *, mask: Any, out: Any) -> Any:
    """Count a frame and map it."""
    plan, window = equalizer._plan_for(frame, mask)
    call = plan.request(frame, equalizer._options)
    result = plan.map(call, out, window, counts=True)
    equalizer._begin(call.backend)
    return result


@any_array
def _clip_window(frame: Any, equalizer: Equalizer, *, mask: Any) -> Any:
    """Return the window for a clip that goes to a device and back, by its first frame; None for any other."""
    plan, _ = equalizer._plan_for(frame, mask)
    call = plan.request(frame, equalizer._options)
    kind = call.backend.ClipWindow
    if kind is None or not kind.fits(call.pixels, plan.smoothing, plan.bins):
        return None
    equalizer._window, equalizer._begun = kind(plan.smoothing), True
    return equalizer._window


@any_array
def _send(frame: Any, equalizer: Equalizer) -> None:
    """Upload a frame of a clip before it is counted."""
    plan, window = equalizer._plan_for(frame, None)
    window.send(plan.request(frame, equalizer._options).pixels)  # type: ignore[attr-defined]


def _request(frame: Any, options: _Options, mask: Any) -> Request:
    return request(
        frame, options.backend, layout=options.layout, color=options.color, alpha=options.alpha, mask=mask,
        nodata=options.nodata, value_range=options.value_range, name="frame",
    )  # fmt: skip


def _plan_of(call: Request, options: _Options) -> _Plan:
    """Check what depends on the frames, by the first one."""
    dtype, luma = call.dtype, call.pixels.luma
    if dtype.kind == "f" and options.value_range is None:
        raise ValueError(f"value_range must be given for frames of {dtype}: all have the same bins; got None")
    rule = check_rule(options.rule, dtype, luma)
    if options.strength != 1 and rule == "skimage":
        raise ValueError(
            f"strength must be 1 where results are fractions, as those of {dtype} by rule {rule!r} are, got "
            f"{shown(options.strength)}"
        )
    kept = levels = tiling = None
    if options.method == "global":
        bins, bounds = check_bins(options.bins, options.value_range, dtype)
        levels = check_levels(options.out_range, None, call.pixels.value_range, rule, dtype, luma)
        result_dtype, lowest = rules.result_dtype(rule, dtype, levels), None if levels is None else levels.low
        if options.strength != 1:
            kept = rules.unchanged(call.pixels.bins(None), levels or rules.whole_range(dtype))
    else:
        grid, tile_levels, bounds = plan_tiles(
            call, call.pixels.histograms[1], options.tiles, options.tile_size, options.bins,
            options.value_range, options.out_range, None,
        )  # fmt: skip
        bins, tiling = tile_levels.bins, Tiling(grid, tile_levels, options.clip_limit)
        _check_memory(call, options, grid.tiles, bins)
        result_dtype, lowest = tile_levels.result_dtype_for(dtype), tile_levels.lowest_pixel
        if options.strength != 1:
            kept = tile_grid.unchanged(tile_levels).astype(np.int64)
    call = call.for_result(result_dtype, lowest)
    smoothing = Smoothing(
        options.before, options.after, options.ahead, rule, dtype, levels, tiling, kept, options.strength
    )
    pixels = replace(call.pixels, image=None)
    return _Plan(
        type(call.image), tuple(call.image.shape), dtype, call.axes, pixels, call.pixels.image.shape[1],
        call.lead, _roi_of(options.roi, call), bins, bounds, result_dtype, smoothing,
    )  # fmt: skip


_HELD = 32
"""As many frames every clip may have; of a longer window memory is taken as frames come."""


def _check_memory(call: Request, options: _Options, tiles: tuple[int, ...], bins: int) -> None:
    """Raise if memory does not hold the counts of a window's tiles: the system would end the process."""
    frames = min(options.before + options.after + (options.ahead or 0) + 1, _HELD)
    size = 8 * bins * math.prod(call.pixels.histograms) * math.prod(tiles) * (frames + 2)
    kind: Any = type(call.image)
    if library_of(kind) != "cupy" and size > available_memory(unsaid=sys.maxsize):
        raise ValueError(
            f"tiles must be fewer: the counts of {frames} frames of {math.prod(tiles)} tiles of {bins} bins "
            f"take {size / 1e9:.3g} GB, which is more than the memory that is free"
        )


def _check_window(window: Any, centered: bool) -> tuple[int, int]:
    """Return how many frames before and after a frame a window has."""
    if not is_integer(window):
        raise TypeError(f"window must be an int, got {type(window).__name__}")
    if not 1 <= window <= MOST_FRAMES:
        raise ValueError(f"window must be from 1 to {MOST_FRAMES} frames, got {shown(window)}")
    others = int(window) - 1
    return (others // 2, others - others // 2) if centered else (others, 0)


def _check_method(method: Any, rule: Any, tiles: Any, tile_size: Any) -> None:
    check_choice("method", method, ("global", "clahe"))
    check_choice("rule", rule, rules.NAMES)
    if method == "clahe":
        if rule not in ("opencv", "skimage"):
            raise ValueError(f"rule must be 'opencv' for method 'clahe', got {rule!r}")
    elif tile_size is not None or not tile_grid.is_default(tiles):
        raise ValueError("tiles and tile_size must not be given for method 'global': 'clahe' has tiles")


def _check_layout(layout: Any) -> str | None:
    if isinstance(layout, str) and set(layout) & set("NT"):
        raise ValueError(
            f"layout must be that of one frame, without N or T, got {layout!r}: frames(clip) takes "
            "the frames of an array one after the other"
        )
    if layout is not None and not isinstance(layout, str):
        raise TypeError(f"layout must be a string such as 'HWC', got {type(layout).__name__}")
    return layout


def _check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}")
    return bool(value)


def _check_strength(strength: Any) -> float:
    number = as_float(strength) if not isinstance(strength, str | bytes | bool) else None
    if number is None:
        raise TypeError(f"strength must be a number from 0 to 1, got {type(strength).__name__}")
    if not 0 <= number <= 1:
        raise ValueError(f"strength must be from 0 to 1, got {shown(strength)}")
    return number


_ROI = "(y, x, height, width) or one slice for each spatial axis"


def _check_roi(roi: Any) -> tuple[slice, ...] | tuple[int, ...] | None:
    """Return a region as slices or as four integers."""
    if roi is None:
        return None
    if isinstance(roi, slice):
        roi = (roi,)
    if isinstance(roi, Sequence) and roi and all(isinstance(part, slice) for part in roi):
        if any(part.step not in (None, 1) for part in roi):
            raise ValueError(f"roi must have slices without a step, got {shown(roi)}")
        return tuple(roi)
    y, x, height, width = integers("roi", _ROI, roi, 4)
    if min(y, x) < 0 or min(height, width) < 1:
        raise ValueError(f"roi must be {_ROI} inside the frame, got {shown(roi)}")
    return y, x, height, width


def _roi_of(roi: tuple[slice, ...] | tuple[int, ...] | None, call: Request) -> tuple[slice, ...] | None:
    """Return what is counted of the axes D, H and W."""
    if roi is None:
        return None
    sizes, letters = call.pixels.image.shape[2:], call.axes.spatial
    parts: Any = roi
    if not isinstance(roi[0], slice):
        y, x, height, width = roi
        parts = (slice(y, y + height), slice(x, x + width))
    if len(parts) != len(letters):
        raise ValueError(f"roi must be {_ROI} of {letters}, got {shown(roi)}")
    found = [slice(0, n) for n in sizes]
    for letter, part in zip(letters, parts, strict=True):
        at = SPACE.index(letter)
        start, stop, _ = part.indices(sizes[at])
        if start >= stop or (parts is not roi and part.stop > sizes[at]):
            raise ValueError(
                f"roi must be {_ROI} inside the frame of shape {tuple(call.image.shape)}, got {shown(roi)}"
            )
        found[at] = slice(start, stop)
    return tuple(found)
