"""A video on the GPU with CuPy: frames equalized in place, each by itself in batches, or without flicker.

Needs CuPy and a GPU. Frames come from a decoder, as NumPy arrays here.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import cupy
import numpy as np

import histeq


def equalized(frames: Iterable[np.ndarray], batch: int = 64) -> Iterator[np.ndarray]:
    """Yield RGB frames (H, W, 3) of uint8, each equalized by its own histogram."""
    frames = iter(frames)
    while held := list(islice(frames, batch)):
        on_device = cupy.asarray(np.stack(held))
        histeq.equalize(on_device, layout="NHWC", out=on_device)  # one call for the batch
        yield from cupy.asnumpy(on_device)


def steadied(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same frames, each mapped by the histograms of the last 15 of its shot: nothing flickers."""
    equalizer = histeq.Equalizer(layout="HWC")
    for frame in frames:
        on_device = cupy.asarray(frame)
        equalizer(on_device, out=on_device)
        yield cupy.asnumpy(on_device)


def main() -> None:
    rng = np.random.default_rng(0)
    clip = [rng.integers(0, 60 + i, (270, 480, 3), np.uint8) for i in range(100)]
    for way in (equalized, steadied):
        print(way.__name__, np.mean([frame.mean() for frame in way(clip)]))


if __name__ == "__main__":
    main()
