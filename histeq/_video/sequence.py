"""Sequences of images: a folder, a pattern or a list of files as a video, and frames as files."""

import glob
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq import _files
from histeq._core import stop
from histeq._files.picture import FileError, Picture, Unfit
from histeq._passes.image import Selection
from histeq._video.pixels import Recipe, recipe

_NUMBER = re.compile(r"%(?:0(\d+))?d")
_WHOLE_FORMATS = {  # of arrays: dtype, channels
    ("uint8", 1): "gray", ("uint8", 2): "ya8", ("uint8", 3): "rgb24", ("uint8", 4): "rgba",
    ("uint16", 1): "gray16le", ("uint16", 2): "ya16le", ("uint16", 3): "rgb48le", ("uint16", 4): "rgba64le",
}  # fmt: skip


def is_sequence(source: Any) -> bool:
    """Tell whether a source is a sequence of images: a folder, a pattern, or a list of files."""
    if isinstance(source, list | tuple):
        return True
    if not isinstance(source, str | os.PathLike) or Path(source).is_file():
        return False
    return Path(source).is_dir() or bool(_NUMBER.search(str(source))) or glob.has_magic(str(source))


def files_of(source: Any) -> list[Path]:
    """Return the files of a sequence, in the order of the numbers in their names."""
    if isinstance(source, list | tuple):
        found = [Path(each) for each in source]
    elif Path(source).is_dir():
        found = sorted(filter(_is_image, Path(source).iterdir()), key=_by_number)
    elif glob.has_magic(str(source)):
        found = sorted(map(Path, glob.glob(str(source))), key=_by_number)  # noqa: PTH207, any path
    else:
        parent, name = Path(source).parent, Path(source).name
        before, _, after = name.partition(_NUMBER.search(name)[0])  # type: ignore[index]
        numbered = re.compile(f"{re.escape(before)}\\d+{re.escape(after)}")
        present = parent.iterdir() if parent.is_dir() else ()
        found = sorted((path for path in present if numbered.fullmatch(path.name)), key=_by_number)
    if not found:
        raise FileError(f"{source}: there are no images")
    return found


def _is_image(path: Path) -> bool:
    with suppress(FileError):
        return path.is_file() and bool(_files.format_of(path)) and not path.name.startswith(".")
    return False


def _by_number(path: Path) -> list[Any]:
    """Return a key that sorts img2 before img10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), part) if i % 2 else (0, part) for i, part in enumerate(parts)]


class ImageFrame:
    """An image of a sequence, with the values in it that are equalized."""

    __slots__ = ("_pts", "_rate", "array", "picture_of")

    def __init__(self, picture: Picture, number: int, rate: Fraction) -> None:
        self.picture_of = picture
        pixels = picture.pixels[0] if "N" in picture.layout else picture.pixels
        self.array: NDArray[Any] = pixels
        self._pts, self._rate = number, rate

    def make_writable(self) -> None:
        """Copy the image if its memory must not be written to."""
        if not self.array.flags.writeable:
            self.array = self.array.copy()

    def store(self) -> None:
        """Do nothing: the array is the image."""

    def thumbnail(self, width: int) -> NDArray[np.uint8]:
        """Return the image in RGB of 8 bits, about as wide."""
        step = max(1, self.array.shape[1] // width)
        values = self.array[::step, ::step]
        values = values.reshape(*values.shape[:2], -1)
        colours = values[..., :3] if values.shape[-1] > 2 else values[..., [0, 0, 0]]
        if colours.dtype == np.uint8:
            return colours
        top = 1.0 if colours.dtype.kind == "f" else float(np.iinfo(colours.dtype).max)
        return np.asarray((colours * (255 / top)).clip(0, 255).round().astype(np.uint8))

    def image(self) -> Picture:
        """Return the image with its file's metadata."""
        pixels = self.array[None] if "N" in self.picture_of.layout else self.array
        return Picture.of(self.picture_of.header, pixels)

    @property
    def decoded(self) -> Any:
        """The image as a frame for an encoder."""
        from av.video.frame import VideoFrame

        frame = VideoFrame.from_ndarray(np.ascontiguousarray(self.array), format=_format_of(self.array))
        frame.pts, frame.duration, frame.time_base = self._pts, 1, 1 / self._rate
        return frame


def _format_of(array: NDArray[Any]) -> str:
    channels = array.shape[2] if array.ndim == 3 else 1
    try:
        return _WHOLE_FORMATS[str(array.dtype), channels]
    except KeyError:
        raise Unfit(f"{array.dtype} images of {channels} channels cannot become a video") from None


class ImageSource:
    """A sequence of images, which have one size, dtype and number of channels."""

    stream = container = None
    settled_after = 0

    def __init__(self, files: Sequence[Path], rate: Fraction, max_pixels: int) -> None:
        self.files, self.rate, self._max_pixels = files, rate, max_pixels
        self.announced = len(files)
        self._first: Any = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the equalizer is to know of the frames."""
        selected = Selection().of(self._first)
        return {name: value for name, value in selected.items() if name != "backend"}

    @property
    def recipe(self) -> Recipe:
        """How the images would be equalized as frames of a video."""
        from av.video.format import VideoFormat

        shape = self._first.shape(1, 1)
        return recipe(VideoFormat(_format_of(np.empty(shape, self._first.dtype)), 1, 1), 2)

    def items(self) -> Iterator[ImageFrame]:
        """Yield the images."""
        for number, path in enumerate(self.files):
            picture = _files.read(path, max_pixels=self._max_pixels)
            header = picture.header
            if header.pages > 1:
                raise FileError(f"{path}: it has {header.pages} pages: a sequence has an image a file")
            if self._first is None:
                Selection().check(header)
                self._first = header
            self._check_alike(path, header)
            yield ImageFrame(picture, number, self.rate)

    def lost(self) -> tuple[int, str]:
        """Return that nothing was lost: an image that cannot be read is an error."""
        return 0, ""

    def close(self) -> None:
        """Do nothing: each image was closed when it was read."""

    def _check_alike(self, path: Path, header: Any) -> None:
        now, first = (
            f"{each.width} x {each.height} {each.dtype}, {each.channels} channels"
            for each in (header, self._first)
        )
        if now != first:
            raise FileError(f"{path}: it has {now}, and the images before it {first}")


class ImageSink:
    """Writes frames as image files, which appear in their folder together.

    Parameters
    ----------
    target : path
        A folder, or a pattern such as "frames/%05d.png" that numbers the frames from 0.
    names : sequence of str, optional
        The files' names in a folder; by default they are numbered.
    """

    encoder = pixel_format = ""

    def __init__(
        self, target: Any, names: Sequence[str] | None, quality: int | None, overwrite: bool
    ) -> None:
        path = Path(target)
        pattern = _NUMBER.search(path.name)
        self._folder = path.parent if pattern else path
        self._pattern = path.name if pattern else "%06d.png"
        _files.format_of(Path(self._pattern))
        self._names, self._quality, self._overwrite = None if pattern else names, quality, overwrite
        self._written: list[str] = []
        self.notes: list[str] = []
        if not overwrite:
            self._check_absent()
        self._temporary = self._folder.with_name(f".histeq-{secrets.token_hex(8)}")

    def _check_absent(self) -> None:
        if self._names is not None:
            for name in self._names:
                _files.check_absent(self._folder / name)
        elif self._folder.is_dir():
            before, number, after = (*_parted(self._pattern),)
            taken = re.compile(f"{re.escape(before)}\\d{{{number},}}{re.escape(after)}")
            for path in self._folder.iterdir():
                if taken.fullmatch(path.name):
                    _files.check_absent(path)

    def write(self, frame: Any) -> None:
        """Write a frame."""
        if not self._written:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            stop.unfinished.add(self._temporary)
            self._temporary.mkdir()
        number = len(self._written)
        name = self._names[number] if self._names is not None else self._pattern % number
        try:
            _files.write(frame.image(), self._temporary / name, quality=self._quality)
        except FileError as error:
            raise FileError(str(error).replace(str(self._temporary), str(self._folder))) from error
        self._written.append(name)

    def copy(self, packet: Any) -> None:
        """Leave out whatever is no picture."""

    def finish(self) -> None:
        """Put the files into their folder."""
        stop.check()
        if not self._folder.exists():
            self._temporary.replace(self._folder)
            return
        for name in self._written:
            if not self._overwrite:
                _files.check_absent(self._folder / name)
            (self._temporary / name).replace(self._folder / name)

    def close(self) -> None:
        """Remove what was not put into its place."""
        shutil.rmtree(self._temporary, ignore_errors=True)
        stop.unfinished.discard(self._temporary)


def is_folder_or_pattern(target: Any, source: Any) -> bool:
    """Tell whether frames are to be written as files: into a folder, or by a pattern.

    A path without a suffix is a folder for a sequence of images.
    """
    if not isinstance(target, str | os.PathLike):
        return False
    text = os.fspath(target)
    if is_sequence(source) and not Path(text).suffix:
        return True
    return text.endswith(("/", os.sep)) or bool(_NUMBER.search(text)) or Path(target).is_dir()


def _parted(pattern: str) -> tuple[str, int, str]:
    """Split a pattern into what is before its number, the digits, and what is after it."""
    found = _NUMBER.search(pattern)
    assert found is not None
    return pattern[: found.start()], int(found[1] or 1), pattern[found.end() :]
