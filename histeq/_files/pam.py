"""What GDAL keeps of an image in a file beside it (.aux.xml): nodata of each band, and what the bands are."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Header, Source, Window
from histeq._files.tiff.settings import nodata_of

_MOST = 1 << 24
"""Bytes that such a file may have."""


def known_beside(file: Any, source: Source) -> None:
    """Enter into a source what the file beside it says, where the source itself says nothing."""
    text = _text(file)
    if not text or source.mask is not None:
        return
    header = source.header
    bands = [_band(text, number + 1) for number in range(header.channels)]
    kinds = [_value(band, "ColorInterp").lower() for band in bands][:3]
    color = kinds == ["red", "green", "blue"] or False
    if header.format == "TIFF" and any(kinds) and header.keep.get("color") != color:
        header = dataclasses.replace(header, keep={**header.keep, "color": color})
    values = [nodata_of(_value(band, "NoDataValue"), header.dtype) for band in bands]
    if header.nodata is None and len({str(value) for value in values}) == 1:
        header = dataclasses.replace(header, nodata=values[0])
    elif header.nodata is None:
        source.mask = _Valid(source, values)
        if header.format == "TIFF":  # which has one nodata value for all bands, but can have a mask
            masks = dict.fromkeys(range(header.pages))
            header = dataclasses.replace(header, keep={**header.keep, "masks": masks})
    source.header = header


def _text(file: Any) -> str:
    if not isinstance(file, str | os.PathLike):
        return ""
    path = Path(f"{os.fspath(file)}.aux.xml")
    if not path.is_file() or path.stat().st_size > _MOST:
        return ""
    return path.read_bytes().decode("utf-8", "replace")


def _band(text: str, number: int) -> str:
    found = re.search(rf'<PAMRasterBand band="{number}">(.*?)</PAMRasterBand>', text, re.DOTALL)
    return found[1] if found else ""


def _value(band: str, name: str) -> str:
    found = re.search(rf"<{name}\b[^>]*>([^<]*)</{name}>", band)
    return found[1].strip() if found else ""


class _Valid:
    """Where no band of an image is nodata, each of which has a value of its own."""

    mask: Source | None = None

    def __init__(self, source: Source, values: Sequence[float | None]) -> None:
        header = source.header
        self.header = Header(
            format=header.format, pages=header.pages, height=header.height, width=header.width, channels=1,
            dtype=np.dtype(np.uint8), layout=header.layout.replace("C", ""),
        )  # fmt: skip
        self.damage, self.in_blocks, self.blocks = source.damage, source.in_blocks, source.blocks
        self._source, self._values = source, values

    def read(self, window: Window) -> NDArray[Any]:
        """Return what is not zero where pixels are valid."""
        pixels = self._source.read(window)
        valid = np.ones(pixels.shape[:2], np.bool_)
        for channel, value in enumerate(self._values):
            if value is not None:
                band = pixels[..., channel]
                valid &= ~np.isnan(band) if value != value else band != value
        return valid.view(np.uint8)

    def close(self) -> None:
        """Leave the source open, which is the image's."""
