"""A video file, or a pipe, as frames to equalize and packets to copy."""

import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.picture import Picture, Unfit, check_size
from histeq._video.audit import Audit
from histeq._video.clock import Clock
from histeq._video.pixels import Pixels, Recipe, recipe
from histeq._video.reasons import reasons

_HDR = {16: "PQ", 18: "HLG"}  # of FFmpeg's AVColorTransferCharacteristic
# Demuxers of single pictures. They would make a video of one frame, and lose what the picture's file holds.
_PICTURES = ("image2", "_pipe")
_VP_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


_SETTLED = 6
"""So many frames later hardly a decoder holds on to a frame, which then need not be copied to be changed."""


class Frame:
    """A decoded frame, and the values in it that are equalized."""

    __slots__ = ("_bits", "_pixels", "decoded")

    def __init__(self, decoded: Any, how: Recipe) -> None:
        self.decoded = decoded
        self._bits = how.bits
        self._pixels = Pixels(decoded, how)

    @property
    def array(self) -> NDArray[Any]:
        """What the equalizer counts and maps in place: luma (H, W), or colours (H, W, 3)."""
        return self._pixels.array

    def make_writable(self) -> None:
        """Copy the frame if the decoder still needs it for others: `array` may be written to from now on."""
        self.decoded.make_writable()
        self._pixels.move_to(self.decoded)

    def store(self) -> None:
        """Make the array's values the frame's."""
        self._pixels.store()

    def thumbnail(self, width: int) -> NDArray[np.uint8]:
        """Return the frame upright in RGB of 8 bits, at most as wide."""
        shown = self.decoded
        if shown.width > width:
            height = max(1, round(shown.height * width / shown.width))
            shown = shown.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        return np.rot90(shown.to_ndarray(format="rgb24"), round(self.decoded.rotation / 90))

    def image(self) -> Picture:
        """Return the frame as a picture to be written into a file: grey or RGB, of 8 or 16 bits."""
        grey, deep = self.decoded.format.name.startswith("gray"), self._bits > 8
        format = ("gray16le" if deep else "gray") if grey else ("rgb48le" if deep else "rgb24")
        return Picture(self.decoded.to_ndarray(format=format), "HW" if grey else "HWC", "NPY")


class Source:
    """An opened video.

    Parameters
    ----------
    file : path or binary file
        What to read.
    stream : int
        Which of the video streams, cover pictures not counted.
    hdr : bool
        Whether footage in PQ or HLG is taken.
    max_pixels : int
        The most pixels that a frame may have.

    Raises
    ------
    Unfit
        If there is no such stream, or nothing can be made of it.
    """

    def __init__(self, file: Any, *, stream: int, hdr: bool, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self.container, pipe = _opened(file)
        try:
            self.stream = _video_stream(self.container, stream)
            _check_stream(self.stream, hdr, max_pixels)
        except BaseException:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        self._decoder = self.stream.codec_context
        if {name.lower(): value for name, value in self.stream.metadata.items()}.get("alpha_mode") == "1":
            self._decoder = _decoder_with_alpha(self.stream)
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        # How many frames later a frame can be changed at the least cost. Who sends by a pipe may be waiting.
        self.settled_after = _SETTLED if pipe is None else 0
        self.audit = Audit(self.container, self.stream, pipe)
        self.recipe: Recipe
        self._reference: tuple[Any, ...] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the equalizer is to know of the frames."""
        how = self.recipe
        return {"layout": how.layout, "color": how.color, "value_range": how.value_range}

    @property
    def announced(self) -> int:
        """How many frames there should be; 0 if nothing says so."""
        if self.stream.frames:
            return int(self.stream.frames)
        length = self.audit.announced_seconds
        return round(length * self.rate) if length else 0

    def lost(self) -> tuple[int, str]:
        """Return how many frames are lost or damaged, about, and a sentence about them; 0 and "" for none."""
        return self.audit.lost()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def items(self) -> Iterator[Any]:
        """Yield frames (`Frame`) in the order in which they are shown, and packets of other streams."""
        clock = Clock(self.container.format.name)
        last: Any = None
        for packet in self._packets():
            empty = packet.size == 0 and packet.dts is None and packet.pts is None
            if not empty:
                clock.shift(packet)
            if packet.stream is not self.stream:
                if not empty:
                    self.audit.other(packet)
                    yield packet
                continue
            self.audit.packet(packet, empty)
            for decoded in self._decoded(packet):
                if self._is_like_the_first(decoded):
                    self._time(decoded, last)
                    last = decoded.pts, decoded.duration
                    self.audit.frame(decoded)
                    yield self._frame(decoded)

    def _packets(self) -> Iterator[Any]:
        """Demux; what is broken ends the file, and is told by the audit."""
        packets = self.container.demux()
        while True:
            try:
                packet = next(packets, None)
            except (OSError, ValueError) as error:
                self.audit.broken(error)
                packet = None
            if packet is None:
                break
            yield packet
        if self.audit.is_broken:  # the demuxer has not asked for the last frames
            from av.packet import Packet

            end = Packet()
            end.stream = self.stream
            yield end

    def _decoded(self, packet: Any) -> list[Any]:
        from av.error import FFmpegError

        try:
            return list(self._decoder.decode(packet))
        except FFmpegError as error:
            if isinstance(error, EOFError):
                return []
            self.audit.undecoded(error)
            return []

    def _is_like_the_first(self, decoded: Any) -> bool:
        """Tell whether a frame has the size and format of the first; the recipe is made from that one."""
        now = decoded.width, decoded.height, decoded.format.name
        if self._reference is None:
            check_size(decoded.width * decoded.height, self._max_pixels)
            self.recipe = recipe(decoded.format, decoded.color_range or self.stream.color_range)
            self._reference = now
        if now != self._reference:
            self.audit.other_size(now, self._reference)
        return now == self._reference

    def _time(self, decoded: Any, last: Any) -> None:
        """Give a time to a frame that has none, or one not after that of the frame before."""
        step = decoded.duration or max(1, round(1 / (self.rate * decoded.time_base)))
        if decoded.pts is None:
            decoded.pts = last[0] + (last[1] or step) if last else 0
        elif last and decoded.pts <= last[0]:
            decoded.pts = last[0] + 1
        if not decoded.duration:
            decoded.duration = step

    def _frame(self, decoded: Any) -> Frame:
        if decoded.format.name != self.recipe.format:
            decoded = _converted(decoded, self.recipe.format)
        decoded.pict_type = 0  # the encoder chooses
        return Frame(decoded, self.recipe)


def _converted(decoded: Any, format: str) -> Any:
    """Return a frame in another format, with its times."""
    other = decoded.reformat(format=format)
    other.pts, other.time_base, other.duration = decoded.pts, decoded.time_base, decoded.duration
    return other


class _Pipe:
    """A file that is read once, from the beginning, and how much of it was."""

    def __init__(self, file: Any) -> None:
        self._file, self.size = file, 0

    def read(self, size: int) -> bytes:
        """Read the next bytes."""
        data: bytes = self._file.read(size)
        self.size += len(data)
        return data


def _opened(file: Any) -> tuple[Any, _Pipe | None]:
    """Return the opened container, and the pipe if it comes through one."""
    import av

    target: Any = file
    if not hasattr(file, "read"):
        path = Path(file)
        about = path.stat()
        if stat.S_ISREG(about.st_mode) and about.st_size == 0:
            raise Unfit("the file is empty")
        # A name such as "a:b.mp4" is a file's all the same. A pipe has no end to seek to.
        regular = stat.S_ISREG(about.st_mode)
        target = f"file:{os.fspath(path)}" if regular else _Pipe(path.open("rb", buffering=0))
    elif not (hasattr(file, "seek") and getattr(file, "seekable", lambda: True)()):
        target = _Pipe(file)
    # Metadata that is no UTF-8 is an error in PyAV 18 unless this is said; PyAV 19 hands the bytes on.
    tolerant = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
    with reasons("broken video file: "):
        container = av.open(target, **tolerant)
    name = container.format.name
    if name.startswith(_PICTURES[0]) or name.endswith(_PICTURES[1]):
        container.close()
        raise Unfit("a picture, no video: `histeq equalize` takes it")
    return container, target if isinstance(target, _Pipe) else None


def _video_stream(container: Any, index: int) -> Any:
    """Return the video stream of that number, cover pictures not counted."""
    from av.stream import Disposition

    found = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not found:
        raise Unfit("there is no video in it")
    if index >= len(found):
        many = f"{len(found)} video streams" if len(found) > 1 else "one video stream"
        raise Unfit(f"it has {many}, and --stream counts from 0: there is no {index}")
    return found[index]


def _check_stream(stream: Any, hdr: bool, max_pixels: int) -> None:
    context = stream.codec_context
    if context is None:
        raise Unfit("its video codec is unknown")
    if context.width and context.height:
        check_size(context.width * context.height, max_pixels)
    curve = _HDR.get(context.color_trc)
    if curve and not hdr:
        raise Unfit(
            f"it is HDR footage ({curve}), and equalizing changes what its curve means; --hdr does it still "
            "(documentation: video)"
        )


def _decoder_with_alpha(stream: Any) -> Any:
    """Return the decoder that does not drop the alpha of VP8 and VP9."""
    from av.codec import Codec, CodecContext

    try:
        decoder: Any = CodecContext.create(Codec(_VP_ALPHA[stream.codec_context.codec.canonical_name], "r"))
    except (KeyError, ValueError):
        return stream.codec_context
    decoder.extradata = stream.codec_context.extradata
    decoder.thread_type = "AUTO"
    return decoder
