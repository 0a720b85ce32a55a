"""What is timed: an operation on one kind of image. The benchmarks and `histeq bench` take it from here."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq._bench import images

Array = NDArray[Any]
Call = Callable[[], Any]

SIZES = {
    "64": (64, 64),
    "256": (256, 256),
    "1080p": (1080, 1920),
    "4k": (2160, 3840),
    "8k": (4320, 7680),
    "16k": (16384, 16384),
}
"""Rows and columns by name."""
DTYPES = {"u8": "uint8", "u16": "uint16", "f32": "float32"}
OPS = {"equalize": "equalize", "clahe": "clahe", "histogram": "histogram", "lut": "apply", "match": "match"}
"""The function of histeq by the name of the operation."""
RULES = ("opencv", "pillow", "numpy", "skimage", "vips")
LAYOUTS = ("HW", "HWC", "NHW", "NHWC")


@dataclass(frozen=True, slots=True)
class Case:
    """An operation on one kind of image."""

    op: str
    dtype: str
    """u8, u16 or f32."""
    size: str
    """A name of `SIZES`, or rows x columns."""
    rows: int
    columns: int
    content: str = "natural"
    """One of `images.CONTENTS`, or the name of a file."""
    layout: str = "HW"
    batch: int = 0
    """How many images; 0: the layout has no axis N."""
    color: str = "luma"

    @property
    def channels(self) -> int:
        """3 for colour images, else 0."""
        return 3 if "C" in self.layout else 0

    @property
    def pixels(self) -> int:
        """The pixels of all images."""
        return max(1, self.batch) * self.rows * self.columns

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        images = (self.batch,) if self.batch else ()
        return (*images, self.rows, self.columns, *([3] if self.channels else []))

    @property
    def bytes(self) -> int:
        """The size of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(DTYPES[self.dtype]).itemsize

    @property
    def kind(self) -> str:
        """What one image is: "grey", or what of its colour is processed, "luma" or "channels"."""
        return self.color if self.channels else "grey"

    def __str__(self) -> str:
        batch = f"{self.batch} x " if self.batch else ""
        kind = "" if self.kind == "grey" else f", RGB {self.kind}"
        return f"{self.op} {self.dtype} {batch}{self.size}{kind}, {self.content}"

    def image(self) -> Array:
        """Make the image."""
        image = images.make(self.content, (self.rows, self.columns), DTYPES[self.dtype], self.channels)
        if not self.batch:
            return image
        batch = np.empty(self.shape, image.dtype)
        for n in range(self.batch):  # the images differ, their histograms hardly
            batch[n] = np.roll(image, n * 7, axis=1)
        return batch

    def inputs(self, image: Array) -> tuple[Array, ...]:
        """Return what the operation takes after the image: the table, the reference image."""
        if self.op == "lut":
            first = image[0] if self.batch else image
            layout = self.layout[1:] if self.batch else self.layout
            counts = histeq.histogram(
                first, layout=layout, color="luma" if self.kind == "luma" else "channels"
            )
            table = histeq.lookup_table(counts, dtype=image.dtype)
            return (table[0] if table.ndim > 1 else table,)
        if self.op == "match":
            reference = images.natural(
                "astronaut" if self.channels else "moon", (self.rows, self.columns), "uint8"
            )
            if self.dtype == "u16":
                reference = reference.astype(np.uint16) * 257
            return (reference if self.dtype != "f32" else (reference / np.float32(255)).astype(np.float32),)
        return ()

    def call(self, image: Array, out: Array | None, inputs: Sequence[Array], **options: Any) -> Call:
        """Return the call of histeq's function."""
        if self.op != "histogram" and out is not None:
            options["out"] = out
        if self.layout != "HW":
            options |= {"layout": self.layout}
        if self.channels:
            options |= {"color": self.color}
        return partial(getattr(histeq, OPS[self.op]), image, *inputs, **options)

    def refused(self) -> str:
        """Say why there is no such case; empty where there is one."""
        if self.op == "lut" and self.dtype == "f32":
            return "tables are timed on integers"
        if self.op == "match" and self.batch:
            return "match is timed on single images"
        return ""


def size_of(name: str) -> tuple[int, int]:
    """Return the rows and columns that a name of `SIZES`, or text such as 1080x1920, stands for."""
    if name.lower() in SIZES:
        return SIZES[name.lower()]
    parts = name.lower().split("x")
    if len(parts) == 2 and all(part.isdecimal() and 0 < int(part) <= 1 << 20 for part in parts):
        return int(parts[0]), int(parts[1])
    raise ValueError(f"size must be one of {', '.join(SIZES)}, or ROWSxCOLUMNS, got {name!r}")


def cases(
    ops: Sequence[str],
    dtypes: Sequence[str],
    sizes: Sequence[str],
    contents: Sequence[str],
    layout: str,
    batches: Sequence[int],
    color: str,
) -> Iterator[Case]:
    """Yield every combination, small images first."""
    ordered = sorted(sizes, key=lambda size: np.prod(size_of(size)))
    several = batches if "N" in layout else [0]
    for op, dtype, batch, size, content in itertools.product(ops, dtypes, several, ordered, contents):
        yield Case(op, dtype, size.lower(), *size_of(size), content, layout, batch, color)
