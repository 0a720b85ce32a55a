"""What was lost while a video was decoded: FFmpeg does not tell."""

import re
from fractions import Fraction
from typing import Any

# Containers whose header says how long they are; others are estimated from their size.
_MEASURED = {"mov", "mp4", "matroska", "webm", "avi", "asf", "flv", "nut"}
_PATIENCE = Fraction(1, 10)  # seconds


class Audit:
    """Counts what comes out of a decoder against what goes in and what the file announces.

    Of what comes through a pipe, `pipe.size` tells in the end how long it is.
    """

    def __init__(self, container: Any, stream: Any, pipe: Any = None) -> None:
        self._stream, self._pipe = stream, pipe
        self._measured = bool(_MEASURED & set(container.format.name.split(",")))
        self._is_avi = container.format.name == "avi"
        self._container_seconds = Fraction(container.duration or 0, 1_000_000)
        # Frames as they are follow each other to the end of the file.
        self._size = (container.size or 0) if container.format.name == "yuv4mpegpipe" else 0
        self._position = 0
        self._container_start = Fraction(container.start_time or 0, 1_000_000)
        self._packets = self._discarded = self._corrupt = self._other_size = self._undecoded = 0
        self._end = self._last_end = Fraction(0)
        self._error = ""
        self.frames = 0
        self.is_broken = False

    @property
    def announced_seconds(self) -> Fraction:
        """How long the video stream should be; 0 if nothing says so."""
        end = self._announced_end
        return end - self._start if end else Fraction(0)

    @property
    def _start(self) -> Fraction:
        return Fraction(self._stream.start_time or 0) * self._stream.time_base

    @property
    def _announced_end(self) -> Fraction:
        """When the video stream should end; 0 if nothing says so."""
        if self._stream.duration:
            return self._start + Fraction(self._stream.duration) * self._stream.time_base
        # Matroska has a tag, which counts from the beginning of the file.
        return _seconds(self._stream.metadata.get("DURATION", ""))

    def packet(self, packet: Any, empty: bool) -> None:
        """Count a packet of the video."""
        if empty:
            return
        self._packets += 1
        self._discarded += bool(packet.is_discard)
        self._corrupt += bool(packet.is_corrupt)
        self._position = (packet.pos or 0) + packet.size
        self.other(packet)

    def other(self, packet: Any) -> None:
        """Note the time of a packet of any stream."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            self._last_end = max(self._last_end, (time + (packet.duration or 0)) * packet.time_base)

    def frame(self, frame: Any) -> None:
        """Count a frame."""
        self.frames += 1
        self._corrupt += bool(frame.is_corrupt)
        self._end = max(self._end, (frame.pts + (frame.duration or 0)) * frame.time_base)

    def other_size(self, now: tuple[Any, ...], first: tuple[Any, ...]) -> None:
        """Count a frame that differs from the first, and so cannot be in the same file."""
        self._other_size += 1
        self._error = self._error or (
            f"after {self.frames} frames of {first[0]} x {first[1]} ({first[2]}) it goes on with "
            f"{now[0]} x {now[1]} ({now[2]})"
        )

    def broken(self, error: Exception) -> None:
        """Note that the file cannot be read on."""
        self.is_broken = True
        self._error = self._error or f"it cannot be read on ({getattr(error, 'strerror', None) or error})"

    def undecoded(self, error: Exception) -> None:
        """Count a packet that the decoder refuses."""
        self._undecoded += 1

    def lost(self) -> tuple[int, str]:
        """Return how many frames are lost or damaged, about, and a sentence about them; 0 and "" for none."""
        unread = max(0, self._stream.frames - self._discarded - self._shown - self._other_size)
        undecoded = max(0, self._packets - self._discarded - self.frames - self._other_size, self._undecoded)
        size = self._pipe.size if self._pipe is not None and self._size else self._size
        rest = int(self._position < size)
        missing = max(unread, undecoded, self._short(), rest)
        total = missing + self._corrupt + self._other_size
        if not total and not self.is_broken:
            return 0, ""
        parts = [f"{missing} of {self.frames + missing} frames are missing"] if missing else []
        parts += [f"{self._corrupt} are damaged"] if self._corrupt else []
        parts += [self._error] if self._error else []
        return max(total, 1), ", ".join(parts) or "it is damaged"

    @property
    def _shown(self) -> int:
        """How many frames the file was to announce: AVI counts repetitions, too, which it does not store."""
        if not self._is_avi:
            return self.frames
        return round((self._end - self._start) * (self._stream.average_rate or 25)) - self._other_size

    def _short(self) -> int:
        """Return how many frames the last one is short of the announced end."""
        if not self._measured or not self.frames:
            return 0
        short = self._announced_end - self._end if self._announced_end else Fraction(0)
        whole = self._container_seconds and self._container_start + self._container_seconds - self._last_end
        missing = max(short, Fraction(whole or 0))
        if missing <= _PATIENCE:
            return 0
        return max(1, round(missing * (self._stream.average_rate or 25)))


def _seconds(text: str) -> Fraction:
    """Return the seconds of a time such as Matroska's tags have, "00:00:04.800000000"; else 0."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)\x00*", text)
    return int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3]) if found else Fraction(0)
