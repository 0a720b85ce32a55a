"""A video file, or a pipe, that is being written."""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from histeq._files.picture import Unfit
from histeq._video import encoder, streams
from histeq._video.encoder import Wanted
from histeq._video.reasons import plainly, reasons
from histeq._video.source import Frame, Source

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi",
            ".ts": "mpegts", ".m2ts": "mpegts", ".mts": "mpegts", ".mpg": "vob", ".mpeg": "vob",
            ".nut": "nut", ".y4m": "yuv4mpegpipe", ".flv": "flv", ".wmv": "asf", ".mxf": "mxf", ".ogv": "ogv",
            ".3gp": "3gp", ".gif": "gif", ".vob": "vob"}  # fmt: skip


_OFF = Fraction(1, 5)  # of a frame: more than times of milliseconds are rounded by

_NEVER = -(1 << 55)
"""No time is so early; x265 gives such for clips of one or two frames."""


class Sink:
    """Takes equalized frames and packets; the output is set up when the first frame comes.

    Parameters
    ----------
    file : path or binary file
        Where to write.
    format : str
        The container, as FFmpeg calls it.
    source : Source
        What is equalized.
    drop : sequence of str
        Types of streams to leave out.
    """

    def __init__(
        self, file: Any, format: str, source: Source, wanted: Wanted, drop: Sequence[str], raw: bool = False
    ) -> None:
        self._file, self._format, self._raw = file, format, raw
        self._source, self._wanted, self._drop = source, wanted, drop
        self._early: list[Any] = []
        self._container: Any = None
        self._streams: dict[int, Any] = {}
        self._durations: dict[int, int] = {}
        self._last: int | None = None
        self._is_rounded = False
        self.encoder = ""
        self.pixel_format = ""
        self.notes: list[str] = []

    def copy(self, packet: Any) -> None:
        """Write a packet of another stream as it is."""
        if self._container is None:
            self._early.append(packet)
        elif packet.stream.index in self._streams:
            for each in self._streams[packet.stream.index].packets(packet):
                with plainly():
                    self._container.mux(each)

    def write(self, frame: Frame) -> None:
        """Encode a frame."""
        decoded = frame.decoded
        if self._container is None:
            self._begin(decoded)
            early, self._early = self._early, []
            for packet in early:
                self.copy(packet)
        ready = self._prepared(decoded)
        self._time(decoded, ready)
        with plainly():
            self._mux(self._video.encode(ready))

    def finish(self) -> None:
        """Write what the encoder holds, and the end of the file."""
        with plainly():
            self._mux(self._video.encode(None))
            container, self._container = self._container, None
            container.close()
        if self._raw and hasattr(self._file, "flush"):
            self._file.flush()

    def close(self) -> None:
        """Close the file if it was not finished: it is of no use."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(Exception):  # something has failed already
                container.close()

    def _begin(self, first: Any) -> None:
        """Open the output, with all its streams: whatever it cannot hold is told before any work."""
        import av

        source = self._source
        self._container = container = av.open(
            self._file,
            "w",
            format=self._format,
            container_options=streams.muxer_options(self._format, source),
        )
        codec = source.stream.codec_context.codec.canonical_name if source.stream is not None else None
        self.encoder, notes = encoder.choose(container, codec, source.recipe, self._wanted, self._raw)
        self.notes += notes
        if source.stream is None:
            self.pixel_format = encoder.pixel_format_of_images(
                self.encoder, container.format.name, source.recipe, first
            )
            self._video = self._add_video(self._prepared(first))
        else:
            self.pixel_format, notes = encoder.pixel_format(
                self.encoder, container.format.name, source.recipe
            )
            self.notes += notes
            self._add_all(first)
        with reasons():
            container.start_encoding()

    def _add_all(self, first: Any) -> None:
        """Add the streams of the source, in their order, its chapters and its metadata."""
        source = self._source
        for stream in source.container.streams:
            if stream is source.stream:
                self._video = self._add_video(first)
                continue
            kept, note = streams.add(self._container, stream, source, self._drop)
            self.notes += [note] if note else []
            if kept is not None:
                self._streams[stream.index] = kept
        self.notes += streams.describe(self._container, source, self._video)

    def _prepared(self, decoded: Any) -> Any:
        """Return a frame with the pixels to be encoded: images have no matrix of colours to keep."""
        if self._source.stream is not None or decoded.format.name == self.pixel_format:
            return decoded
        if not self.pixel_format.startswith("yuv"):
            return decoded.reformat(format=self.pixel_format)
        range_ = "JPEG" if self.pixel_format.startswith("yuvj") else "MPEG"
        return decoded.reformat(format=self.pixel_format, dst_colorspace="ITU709", dst_color_range=range_)

    def _add_video(self, first: Any) -> Any:
        stream, wanted = self._source.stream, self._wanted
        chosen = encoder.options(self.encoder, self._format, self.pixel_format, wanted, stream, first)
        if encoder.loses_fields(self.encoder, first):
            self.notes.append(f"interlacing: {self.encoder} does not keep it")
        target = self._container.add_stream(self.encoder, rate=self._source.rate, options=chosen)
        target.pix_fmt = self.pixel_format
        encoder.configure(target, self.encoder, stream, first)
        self._constant = encoder.has_constant_rate(self._container, self.encoder)
        unit = 1 / self._source.rate if self._constant else first.time_base
        target.time_base = target.codec_context.time_base = self._unit = Fraction(unit)
        if self.pixel_format.startswith("yuva") and self.encoder.startswith("libvpx"):
            target.metadata["alpha_mode"] = "1"
        if first.rotation:
            target.set_display_rotation(first.rotation)
        if self.encoder == "libx265" and self._format in ("mp4", "mov"):
            target.codec_context.codec_tag = "hvc1"
        return target

    def _time(self, decoded: Any, ready: Any) -> None:
        """Bring a frame's time into the encoder's units, after that of the frame before."""
        exact = decoded.pts * decoded.time_base / self._unit
        time = round(exact)
        if self._constant and abs(exact - time) > _OFF and not self._is_rounded:
            self._is_rounded = True
            self.notes.append(f"the frames' times: they became multiples of 1/{float(1 / self._unit):g} s")
        if self._last is not None and time <= self._last:
            time = self._last + 1
        length = round(decoded.duration * decoded.time_base / self._unit)
        ready.time_base, ready.pts, ready.duration = self._unit, time, max(1, length)
        self._last = time
        self._durations[time] = max(1, length)

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            length = self._durations.pop(packet.pts, 0)
            if not packet.duration:
                packet.duration = length
            if packet.dts is None or packet.dts < _NEVER:
                packet.dts = packet.pts
            self._container.mux(packet)


def format_of(path: Path) -> str:
    """Return the container that the suffix of a file name stands for."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise Unfit(f"the name must end in one of {' '.join(_FORMATS)}") from None
