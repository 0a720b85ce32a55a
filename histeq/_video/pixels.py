"""Where in a decoded frame the values are that are equalized: its luma, or its colours if it has none."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.picture import Unfit

FULL = 2  # of FFmpeg's AVColorRange
# Formats of several samples in one plane: the first luma sample, and the samples from one to the next.
_PACKED_LUMA = {
    "yuyv422": (0, 2), "yvyu422": (0, 2), "uyvy422": (1, 2), "ya8": (0, 2),
    "ya16le": (0, 2), "ya16be": (0, 2), "y210le": (0, 2), "y212le": (0, 2), "y216le": (0, 2),
}  # fmt: skip
# Formats of colours in one plane: the first colour's place, whether red is the last, the samples of a pixel.
_PACKED_RGB = {
    "rgb24": (0, False, 3), "bgr24": (0, True, 3), "rgba": (0, False, 4), "bgra": (0, True, 4),
    "rgb0": (0, False, 4), "bgr0": (0, True, 4), "argb": (1, False, 4), "abgr": (1, True, 4),
    "0rgb": (1, False, 4), "0bgr": (1, True, 4), "rgb48le": (0, False, 3), "rgb48be": (0, False, 3),
    "bgr48le": (0, True, 3), "bgr48be": (0, True, 3), "rgba64le": (0, False, 4), "rgba64be": (0, False, 4),
    "bgra64le": (0, True, 4), "bgra64be": (0, True, 4),
}  # fmt: skip
# What has no samples of its own, or of several pixels in a byte, becomes what has.
_CONVERTED = {
    "pal8": "bgra", "rgb8": "rgb24", "bgr8": "rgb24", "rgb4_byte": "rgb24", "bgr4_byte": "rgb24",
    "rgb444le": "rgb24", "rgb555le": "rgb24", "rgb555be": "rgb24", "rgb565le": "rgb24", "rgb565be": "rgb24",
    "bgr555le": "rgb24", "bgr555be": "rgb24", "bgr565le": "rgb24", "bgr565be": "rgb24",
    "x2rgb10le": "gbrp10le", "x2bgr10le": "gbrp10le", "monow": "gray", "monob": "gray",
    "vuyx": "yuv444p", "vuya": "yuva444p", "xv30le": "yuv444p10le", "xv36le": "yuv444p12le",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How frames of one pixel format and range are equalized."""

    format: str
    """The name of the pixel format that frames have, or are converted into."""
    bits: int
    value_range: tuple[int, int]
    """The lowest and the highest level: those of the range, limited or full, in `bits`."""
    layout: str
    """Of the array: "HW" for luma, "HWC" for colours."""
    color: str
    """How colours are ordered: "luma" for red, green, blue, "luma-bgr" for the reverse."""
    shift: int
    """How many bits to the left of their place the samples are stored (P010 and the like)."""
    big_endian: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """The samples' type in memory."""
        return np.dtype(np.uint8) if self.bits == 8 else np.dtype(">u2" if self.big_endian else "<u2")


def recipe(format: Any, color_range: int) -> Recipe:
    """Return how frames of a format (PyAV's `VideoFormat`) are equalized.

    The range is full for RGB and grey, for what says so, and for the formats whose names begin with yuvj;
    else it is limited.

    Raises
    ------
    Unfit
        If the format has no samples that could be equalized.
    """
    from av.video.format import VideoFormat

    if format.name in _CONVERTED:
        format = VideoFormat(_CONVERTED[format.name])
    name, parts = format.name, format.components
    bits = parts[0].bits if parts else 0
    luma = bool(parts) and parts[0].is_luma
    whole = (format.is_planar or len(parts) == 1) and not format.has_palette
    known = name in _PACKED_RGB or name in _PACKED_LUMA or (whole and (luma or format.is_rgb))
    if not known or not 8 <= bits <= 16 or "f16" in name or "f32" in name:
        raise Unfit(f"frames of the pixel format {name} cannot be equalized")
    grey = luma and len([part for part in parts if not part.is_alpha]) == 1
    full = format.is_rgb or name.startswith("yuvj") or color_range == FULL or (grey and color_range == 0)
    limits = (0, 2**bits - 1) if full else (16 << (bits - 8), 235 << (bits - 8))
    upper = "msb" in name or name.startswith(("p0", "p2", "p4", "y21"))
    backwards = name in _PACKED_RGB and _PACKED_RGB[name][1]
    return Recipe(
        name, bits, limits, "HW" if luma else "HWC", "luma-bgr" if backwards else "luma",
        16 - bits if upper else 0, format.is_big_endian,
    )  # fmt: skip


class Pixels:
    """The values of one frame, as an array that the equalizer counts and maps in place.

    Most often a view of the frame's memory. Colours in planes of their own, samples in the upper bits and
    samples of the other byte order are copies, which `store` puts back.
    """

    __slots__ = ("_how", "_planes", "array")

    def __init__(self, frame: Any, how: Recipe) -> None:
        self._planes = _planes(frame, how)
        self._how = how
        together = self._planes[0]
        if how.layout == "HWC" and len(self._planes) == 3:
            together = np.stack(self._planes, axis=-1)
        if how.shift:
            together = together >> how.shift
        if not together.dtype.isnative:
            together = together.astype(together.dtype.newbyteorder("="))
        self.array: NDArray[Any] = together

    def move_to(self, frame: Any) -> None:
        """Go on with a frame of the same values, as the same one is whose memory is another now."""
        is_view, self._planes = self.array is self._planes[0], _planes(frame, self._how)
        if is_view:
            self.array = self._planes[0]

    def store(self) -> None:
        """Put the values of the array into the frame."""
        if self.array is self._planes[0]:
            return
        values = self.array << self._how.shift if self._how.shift else self.array
        if len(self._planes) == 1:
            self._planes[0][...] = values
        else:
            for channel, plane in enumerate(self._planes):
                plane[...] = values[..., channel]


def _planes(frame: Any, how: Recipe) -> list[NDArray[Any]]:
    """Return views of a frame's memory: of luma, of the colours of a plane, or of red, green and blue."""
    if how.format in _PACKED_LUMA:
        first, step = _PACKED_LUMA[how.format]
        return [_view(frame, 0, how, step)[..., first]]
    if how.format in _PACKED_RGB:
        first, _, samples = _PACKED_RGB[how.format]
        return [_view(frame, 0, how, samples)[..., first : first + 3]]
    if how.layout == "HWC":
        return [_view(frame, frame.format.components[i].plane, how, 1)[..., 0] for i in range(3)]
    return [_view(frame, 0, how, 1)[..., 0]]


def _view(frame: Any, index: int, how: Recipe, samples: int) -> NDArray[Any]:
    """Return a plane as (H, W, samples of a pixel), without the padding of its rows."""
    plane = frame.planes[index]
    size = how.dtype.itemsize
    return np.ndarray(
        (frame.height, frame.width, samples), how.dtype, buffer=memoryview(plane),
        strides=(plane.line_size, samples * size, size),
    )  # fmt: skip
