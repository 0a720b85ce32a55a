"""Times of packets that go on where a file's times begin anew."""

from fractions import Fraction
from typing import Any

# Containers that are cut and joined as bytes, and whose times may then jump back.
_JOINED = ("mpegts", "mpeg", "mpegtsraw")
_JUMP = Fraction(1, 2)


class Clock:
    """Adds to the times of all streams what makes them go on after a jump back.

    Streams are interleaved: those whose packets jump later take the same offset as the first.
    """

    def __init__(self, format: str) -> None:
        self._joined = format in _JOINED
        self._offsets: dict[int, Fraction] = {}
        self._ends: dict[int, Fraction] = {}
        self._latest = Fraction(0)

    def shift(self, packet: Any) -> None:
        """Change a packet's times."""
        if not self._joined or packet.dts is None:
            return
        index, unit = packet.stream.index, packet.time_base
        time, end = packet.dts * unit, self._ends.get(packet.stream.index)
        offset = self._offsets.get(index, Fraction(0))
        if end is not None and end - (time + offset) > _JUMP:
            if time + self._latest < end - _JUMP:
                self._latest = max(self._ends.values()) - time
            offset = self._offsets[index] = self._latest
        self._ends[index] = time + offset + (packet.duration or 0) * unit
        ticks = round(offset / unit)
        if ticks:
            packet.dts += ticks
            if packet.pts is not None:
                packet.pts += ticks
