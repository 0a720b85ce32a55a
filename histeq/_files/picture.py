"""A decoded picture, and the helpers that the modules of all formats share."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Header

ORIENTATION = 274
TEXT_TAGS = (270, 271, 272, 305, 306, 315, 33432)  # description, maker, ..., copyright: in EXIF and in TIFF


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
    """PNG, JPEG, WebP, BMP or TIFF."""
    alpha: bool = False
    """Whether the last channel is alpha."""
    nodata: float | None = None
    """The value of GDAL's nodata tag, if the dtype can represent it."""
    icc: bytes | None = None
    exif: bytes | None = None
    """The EXIF data as a TIFF block, without the prefix "Exif" that JPEG files have."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    keep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What only this format can store: PNG chunks, JPEG tables, the TIFF tags of each page."""

    @classmethod
    def of(cls, header: Header, pixels: NDArray[Any]) -> "Picture":
        """Return a picture with the given pixels and everything else from `header`."""
        names = ("layout", "format", "alpha", "nodata", "icc", "exif", "xmp", "dpi", "keep")
        return cls(pixels, **{name: getattr(header, name) for name in names})

    @property
    def header(self) -> Header:
        """All but the pixels."""
        pages, height, width, channels = self.batch.shape
        return Header(
            format=self.format, pages=pages, height=height, width=width, channels=channels,
            dtype=self.pixels.dtype, layout=self.layout, alpha=self.alpha, nodata=self.nodata, icc=self.icc,
            exif=self.exif, xmp=self.xmp, dpi=self.dpi, keep=self.keep,
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
        value = exif_tags(self.exif).get(ORIENTATION, 1)
        return value if value in range(1, 9) else 1


def check_size(pixels: int, limit: int) -> None:
    """Raise `Unfit` if a header announces too many pixels or none, before memory is allocated for them."""
    if pixels > limit:
        raise Unfit(f"{pixels} pixels are more than --max-pixels {limit} allows")
    if pixels < 1:
        raise Unfit("the picture has no pixels")


def exif_tags(block: bytes | None) -> Any:
    """Return the tags of an EXIF block: an empty mapping if there is no block or it is broken."""
    if block is None:
        return {}
    from PIL import Image

    exif = Image.Exif()
    with contextlib.suppress(Exception):  # even a broken block is copied to the result
        exif.load(b"Exif\0\0" + block)
    return exif


def exif_block(tags: Mapping[int, Any]) -> bytes | None:
    """Encode tags as an EXIF block; return None if there are no tags."""
    if not tags:
        return None
    from PIL import Image

    exif = Image.Exif()
    exif.update(tags)
    return exif.tobytes().removeprefix(b"Exif\0\0")
