"""Videos in files: check the arguments, and hand over to the loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from histeq import _files
from histeq._api.equalizer import Equalizer, Method, Roi, Sizes
from histeq._api.types import AnyArray, BackendName, Rule
from histeq._core import tile_grid
from histeq._core.arguments import is_integer, shown
from histeq._video.encoder import Wanted
from histeq._video.job import Done, Job, process
from histeq._video.run import Watch

VideoLike = Any
"""A path, a binary file, or a sequence of images: a folder, a pattern, a list of paths."""
_LIMITED = (16, 235)
STREAMS = ("audio", "subtitle", "attachment", "data", "video")


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What was done to a video.

    Attributes
    ----------
    source, target : str
        The names of the files that were read and written.
    width, height : int
        The size of a frame.
    frames : int
        How many frames were written.
    rate : float
        Frames a second, on average.
    codec, pixel_format : str
        FFmpeg's names of the encoder and of the format of the pixels; empty for image files.
    cuts : tuple of int
        The frames that begin a shot, numbered from 0.
    lost : int
        How many frames of the source were lost or damaged, about. Not 0 only if `lenient`.
    seconds : float
        How long it took.
    notes : tuple of str
        What the source has and the target has not, or not as it was.
    """

    source: str
    target: str
    width: int
    height: int
    frames: int
    rate: float
    codec: str
    pixel_format: str
    cuts: tuple[int, ...]
    lost: int
    seconds: float
    notes: tuple[str, ...] = ()


def equalize_video(
    src: VideoLike,
    dst: VideoLike,
    *,
    method: Method = "global",
    window: int = 15,
    centered: bool = True,
    cuts: bool = True,
    strength: float = 1.0,
    rule: Rule = "opencv",
    clip_limit: float = 2.0,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    roi: Roi | None = None,
    mask: AnyArray | None = None,
    stream: int = 0,
    codec: str | None = None,
    quality: int | None = None,
    preset: str | None = None,
    format: str | None = None,
    drop: Sequence[str] = (),
    rate: float | Fraction | None = None,
    hdr: bool = False,
    lenient: bool = False,
    overwrite: bool = False,
    max_pixels: int = _files.MAX_PIXELS,
    progress: Callable[[int, int], object] | None = None,
    backend: BackendName | None = None,
) -> VideoResult:
    """Equalize the frames of a video file, without flicker, and keep everything else that is in it.

    Parameters
    ----------
    src : path, binary file or sequence of images
        The video to read: whatever FFmpeg can decode. A folder, a pattern such as ``"frames/%05d.tif"`` or
        ``"frames/*.png"``, or a list of paths is a sequence of images, in the order of the numbers in their
        names; they have one size and dtype.
    dst : path or binary file
        The video to write; a path's suffix names its container: .mp4, .mov, .mkv, .webm, .avi, ... A folder
        (an existing one, or a name that ends in /) or a pattern takes the frames as images: those of a
        sequence with the names, depth and metadata of their files. A binary file takes a stream in YUV4MPEG,
        if `src` is one, or else NUT. Nothing appears under a path before it is complete.
    method : {"global", "clahe"}
        One table for the whole frame, as `histeq.equalize` makes it, or one for each tile, as `histeq.clahe`
        does.
    window : int
        How many frames' histograms are summed to make a frame's table: more of them change more slowly. 1
        equalizes each frame by itself, which flickers.
    centered : bool
        Whether the window lies around the frame, which so many frames are held in memory for, or ends with
        it, as for a stream that is not to be delayed.
    cuts : bool
        Whether the window ends at cuts: see `histeq.Equalizer`.
    strength : float
        From 0 to 1: how much of the change is made.
    rule : {"opencv", "pillow", "numpy", "vips"}
        Whose arithmetic makes the table: see `histeq.equalize`.
    clip_limit : float
        For method "clahe": the limit on the amplification of contrast, as in OpenCV; 0: none.
    tiles : int or sequence of int
        For method "clahe": the number of tiles, (rows, columns).
    tile_size : int or sequence of int, optional
        For method "clahe": the size of a tile in pixels, in place of `tiles`.
    roi : (y, x, height, width) or slices, optional
        The part of each frame whose pixels are counted, such as a picture without its letterbox. All pixels
        are mapped.
    mask : array of bool, optional
        Which pixels of each frame are counted: (H, W). All pixels are mapped.
    stream : int
        Which of the video streams is equalized, numbered from 0; the others are copied.
    codec : str, optional
        The codec or FFmpeg's encoder for the result: "h264", "hevc", "libsvtav1", "ffv1", ... By default that
        of `src`, else that which the container has by default.
    quality : int, optional
        As the encoder counts: CRF for H.264 (20 by default), HEVC (22), AV1 (28), VP9 (28); 1 to 31 for
        MPEG-4, MPEG-2 and MJPEG (3). Less is better and larger. Of JPEG files 1 to 100.
    preset : str, optional
        How much time the encoder takes: "ultrafast" to "veryslow" for H.264 and HEVC, "0" to "13" for AV1 (8
        by default), "0" to "8" for VP8 and VP9 (4), slow to fast.
    format : str, optional
        The container as FFmpeg names it, or a suffix, if that of `dst` does not tell.
    drop : sequence of {"audio", "subtitle", "attachment", "data", "video"}
        Types of other streams to leave out, such as what the container cannot hold.
    rate : float or Fraction, optional
        The frames a second of a sequence of images, 25 by default.
    hdr : bool
        Whether HDR footage (PQ, HLG) is equalized all the same. It is refused by default, since equalizing
        changes what its curve means.
    lenient : bool
        Whether a video with lost or damaged frames is written without them; it is an error by default.
    overwrite : bool
        Whether a file that exists is replaced.
    max_pixels : int
        The most pixels that a frame may have; larger ones are refused before they are decoded.
    progress : callable, optional
        Is called with the frames done and the frames to do, which is 0 if nothing tells.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work.

    Returns
    -------
    VideoResult
        What was done.

    Raises
    ------
    FileError
        If a file cannot be read or written, or exists already, or frames were lost. The message is one line
        that begins with the file's name; a file that was there before is unchanged.
    TypeError, ValueError
        For a wrong argument, before anything is written; the message names the argument.
    ImportError
        If PyAV is not installed: ``pip install "histeq[video]"``.

    Notes
    -----
    Only luma is changed, at the depth and in the range (limited or full) of the stream; frames of a codec
    that stores RGB are equalized by the luma of their colours. Times, variable frame rates, aspect ratio,
    rotation, colour tags, fields, chapters and metadata are kept, and audio and subtitles copied packet by
    packet; what a container cannot hold is an error, or a note of the result. What is equalized has more
    contrast, and takes up to twice the bits at the same quality.

    FFmpeg is silent about what it cannot read. Frames are therefore counted against packets, and times and
    numbers against what the container announces.

    Examples
    --------
    >>> import histeq
    >>> result = histeq.equalize_video("in.mp4", "out.mp4", quality=18)    # doctest: +SKIP
    >>> result.frames, result.cuts    # doctest: +SKIP
    (250, (57, 101))
    """
    return run(
        src, dst, method=method, window=window, centered=centered, cuts=cuts, strength=strength, rule=rule,
        clip_limit=clip_limit, tiles=tiles, tile_size=tile_size, roi=roi, mask=mask, stream=stream,
        codec=codec, quality=quality, preset=preset, format=format, drop=drop, rate=rate, hdr=hdr,
        lenient=lenient, overwrite=overwrite, max_pixels=max_pixels, progress=progress, backend=backend,
    )  # fmt: skip


_OF_EQUALIZER = ("method", "window", "centered", "cuts", "strength", "rule", "clip_limit", "tiles",
                 "tile_size", "roi", "mask", "backend")  # fmt: skip
_OF_ENCODER = ("codec", "quality", "preset")
_OF_JOB = ("format", "hdr", "lenient", "overwrite", "progress")


def run(
    src: VideoLike,
    dst: VideoLike,
    *,
    stream: int = 0,
    drop: Sequence[str] = (),
    rate: Any = None,
    max_pixels: int = _files.MAX_PIXELS,
    watch: Watch | None = None,
    **asked: Any,
) -> VideoResult:
    """Do what `equalize_video` does, with its arguments, and let `watch` look on; `dst` may be None."""
    of_equalizer = {name: asked[name] for name in _OF_EQUALIZER if asked.get(name) is not None}
    job = Job(
        source=src, target=dst, make=_maker(of_equalizer), watch=watch,
        wanted=Wanted(**{name: asked.get(name) for name in _OF_ENCODER}),
        stream=_at_least("stream", stream, 0), drop=_checked_drop(drop), rate=_checked_rate(rate),
        max_pixels=_at_least("max_pixels", max_pixels, 1), **{name: asked[name] for name in _OF_JOB},
    )  # fmt: skip
    return _result(job, process(job))


def _maker(asked: dict[str, Any]) -> Callable[..., Equalizer]:
    """Return what makes an equalizer for frames of a kind that is not known yet; check the arguments now."""
    if asked.get("rule") == "skimage":
        raise ValueError("rule must be 'opencv', 'pillow', 'numpy' or 'vips' for a video, got 'skimage'")
    Equalizer(**asked)

    def make(**of_frames: Any) -> Equalizer:
        options = {**asked, **of_frames}
        if options.get("method") == "clahe" and options.get("value_range") == _LIMITED:
            # Bins for all of 256 levels, as OpenCV's CLAHE of luma has them, take a third of the time.
            options["out_range"] = options.pop("value_range")
        return Equalizer(**options)

    return make


def _result(job: Job, done: Done) -> VideoResult:
    """Return what was done as the public result."""
    source = job.source[0] if isinstance(job.source, list | tuple) else job.source
    height, width = done.size
    return VideoResult(
        _files.name_of(source), _files.name_of(job.target), width, height, done.frames, float(done.rate),
        done.codec, done.pixel_format, done.cuts, done.lost, round(done.seconds, 6), done.notes,
    )  # fmt: skip


def _checked_rate(rate: Any) -> Fraction | None:
    """Return a rate as a fraction."""
    if rate is None:
        return None
    try:
        exact = Fraction(rate).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError):
        exact = Fraction(0)
    if not 0 < exact <= 1000:
        raise ValueError(f"rate must be a number above 0 and at most 1000, got {shown(rate)}")
    return exact


def _checked_drop(drop: Any) -> tuple[str, ...]:
    types = (drop,) if isinstance(drop, str) else tuple(drop)
    for each in types:
        if each not in STREAMS:
            raise ValueError(f"drop must name types of streams, {', '.join(STREAMS)}; got {shown(each)}")
    return types


def _at_least(name: str, value: Any, least: int) -> int:
    if not is_integer(value) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {shown(value)}")
    return int(value)
