"""Histogram equalization of large images and video frames, on the CPU and the GPU.

The pixels OpenCV would give (or Pillow, scikit-image, libvips or the plain NumPy recipe, by name),
bit for bit, on the array that you already hold.

>>> import numpy as np
>>> import histeq
>>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
>>> histeq.equalize(image)
array([[  0, 159, 159],
       [ 32, 159, 223],
       [159, 223, 255]], dtype=uint8)
"""

from typing import TYPE_CHECKING, Any

from histeq_kernels import locks as _locks

if TYPE_CHECKING:
    from histeq._api.bench import BenchRecord, BenchResult, bench
    from histeq._api.clahe import apply_tiles, clahe, tile_histograms, tile_tables
    from histeq._api.equalize import equalize
    from histeq._api.equalizer import Equalizer
    from histeq._api.files import FileResult, clahe_file, equalize_file, match_file
    from histeq._api.flicker import Flicker, flicker
    from histeq._api.histogram import apply, histogram, lookup_table
    from histeq._api.match import match
    from histeq._api.tiles import TileHistograms, TileTables
    from histeq._api.video import VideoResult, equalize_video
    from histeq._core.dispatch import BackendInfo, backends
    from histeq._core.threads import set_num_threads, threads
    from histeq._files import FileError

__version__ = "0.1.0"

# Where each public name lives. A module is imported when the first of its names is used, so that
# `import histeq` costs nothing to a program that may never equalize an image.
_HOMES = {
    "apply": "_api.histogram",
    "apply_tiles": "_api.clahe",
    "clahe": "_api.clahe",
    "clahe_file": "_api.files",
    "equalize": "_api.equalize",
    "equalize_file": "_api.files",
    "equalize_video": "_api.video",
    "flicker": "_api.flicker",
    "histogram": "_api.histogram",
    "lookup_table": "_api.histogram",
    "match": "_api.match",
    "match_file": "_api.files",
    "FileError": "_files",
    "FileResult": "_api.files",
    "tile_histograms": "_api.clahe",
    "tile_tables": "_api.clahe",
    "Equalizer": "_api.equalizer",
    "Flicker": "_api.flicker",
    "TileHistograms": "_api.tiles",
    "TileTables": "_api.tiles",
    "VideoResult": "_api.video",
    "BackendInfo": "_core.dispatch",
    "BenchRecord": "_api.bench",
    "BenchResult": "_api.bench",
    "bench": "_api.bench",
    "backends": "_core.dispatch",
    "set_num_threads": "_core.threads",
    "threads": "_core.threads",
}
__all__ = [
    "BackendInfo",
    "BenchRecord",
    "BenchResult",
    "Equalizer",
    "FileError",
    "FileResult",
    "Flicker",
    "TileHistograms",
    "TileTables",
    "VideoResult",
    "apply",
    "apply_tiles",
    "backends",
    "bench",
    "clahe",
    "clahe_file",
    "equalize",
    "equalize_file",
    "equalize_video",
    "flicker",
    "histogram",
    "lookup_table",
    "match",
    "match_file",
    "set_num_threads",
    "threads",
    "tile_histograms",
    "tile_tables",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'histeq' has no attribute {name!r}")
    from importlib import import_module

    with _locks.importing():
        value = getattr(import_module(f"histeq.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
