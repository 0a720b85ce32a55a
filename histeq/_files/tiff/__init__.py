"""TIFF: tifffile for the directories, imagecodecs for the blocks."""

from pathlib import Path
from typing import BinaryIO

from histeq._files.blocks import Damage, Header, Options
from histeq._files.tiff.sink import TiffSink, check
from histeq._files.tiff.source import TiffSource

__all__ = ["check", "create", "open"]


def open(file: Path | BinaryIO, limit: int, damage: Damage | None = None) -> TiffSource:
    """Return a TIFF file as a source of windows, whose pages have at most so many pixels together."""
    return TiffSource(file, limit, damage or Damage())


def create(file: Path | BinaryIO, header: Header, options: Options) -> TiffSink:
    """Return a TIFF file, which is overwritten, as a sink of windows. A binary file must be readable, too."""
    return TiffSink(file, header, options)
