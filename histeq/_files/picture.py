"""A decoded picture, and the helpers that the modules of all formats share."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files import exif
from histeq._files.blocks import Header


class FileError(Exception):
    """A file that cannot be read or written. The message is one line that begins with the path."""


class Unfit(Exception):  # noqa: N818
    """Raised for a valid file of an unsupported kind, and for a picture that a format cannot hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file."""

    pixels: NDArray[Any]
    """The pixels as stored; the orientation has not been applied."""
    layout: str
    """"HW", "HWC", "NHW" or "NHWC"; N is the axis of the pages of a TIFF file."""
    format: str
    """The name of its format: see `Header`."""
    alpha: bool = False
    """Whether the last channel is alpha."""
    nodata: float | None = None
    """The value of GDAL's nodata tag, if the dtype can represent it."""
    icc: bytes | None = None
    exif: bytes | None = None
    """The EXIF data as a TIFF block, without the prefix "Exif" that JPEG files have."""
    xmp: bytes | None = None
    iptc: bytes | None = None
    resources: bytes | None = None
    dpi: tuple[float, float] | None = None
    value_range: tuple[int, int] | None = None
    """The values that pixels can have, where the file uses fewer bits than the dtype has."""
    keep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What only this format can store: PNG chunks, JPEG tables, the TIFF tags of each page."""
    valid: NDArray[np.bool_] | None = None
    """Which pixels are valid by the file's mask, (H, W) or (N, H, W); None: it has none."""

    @classmethod
    def of(cls, header: Header, pixels: NDArray[Any]) -> "Picture":
        """Return a picture with the given pixels and everything else from `header`."""
        names = (
            "layout",
            "format",
            "alpha",
            "nodata",
            "icc",
            "exif",
            "xmp",
            "iptc",
            "resources",
            "dpi",
            "value_range",
            "keep",
        )
        return cls(pixels, **{name: getattr(header, name) for name in names})

    @property
    def header(self) -> Header:
        """All but the pixels."""
        pages, height, width, channels = self.batch.shape
        return Header(
            format=self.format, pages=pages, height=height, width=width, channels=channels,
            dtype=self.pixels.dtype, layout=self.layout, alpha=self.alpha, nodata=self.nodata, icc=self.icc,
            exif=self.exif, xmp=self.xmp, iptc=self.iptc, resources=self.resources, dpi=self.dpi,
            value_range=self.value_range, keep=self.keep,
        )  # fmt: skip

    @property
    def batch(self) -> NDArray[Any]:
        """A view of the pixels as (N, H, W, C)."""
        pixels = self.pixels if "N" in self.layout else self.pixels[None]
        return pixels if "C" in self.layout else pixels[..., None]

    @property
    def first(self) -> NDArray[Any]:
        """The first page as a C-contiguous array: (H, W), or (H, W, C) if it has several channels."""
        pixels = self.batch[0]
        return np.ascontiguousarray(pixels[..., 0] if self.channels == 1 else pixels)

    @property
    def channels(self) -> int:
        """The number of channels, alpha included."""
        return self.batch.shape[-1]

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8; 1 is upright."""
        return exif.orientation(self.exif)


def check_size(pixels: int, limit: int) -> None:
    """Raise `Unfit` if a header announces too many pixels or none, before memory is allocated for them."""
    if pixels > limit:
        raise Unfit(f"{pixels} pixels are more than --max-pixels {limit} allows")
    if pixels < 1:
        raise Unfit("the picture has no pixels")
