"""Zarr to Zarr, lazily with Dask: time and peak memory beside histeq's own file path and the usual recipes.

    python -m benchmarks.dask                  # 20000 x 20000 pixels: minutes, and 2 GB of temporary files
    python -m benchmarks.dask --side 4000 --rounds 1
    python -m benchmarks.dask --only CLAHE
    python -m benchmarks.dask --alive          # what of a source is in memory at once

All take turns, each run a new process with a warm file cache, on the threads that Dask has by default. A time
is that of the work, without imports and compilation, which the whole process's time includes. The image is a
photograph, tiled to size, with noise; chunks of 2048 x 2048, zstd. Beside the time that passed stands that of
the processors, and so with ratios: on a busy machine it says more.
"""

import argparse
import dataclasses
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.files import measured, tiles
from histeq._bench.images import natural
from histeq._bench.machine import describe

_CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    work: Callable[[str, str], None]
    beside: str = ""
    """The case to whose time this one's is a ratio."""
    same_pixels: bool = False
    """Whether the result is that of the case beside which it stands."""
    target: str = ""


def files(source: str, target: str) -> None:
    import histeq

    histeq.equalize_file(source, target)


def lazily(source: str, target: str) -> None:
    import dask.array as da

    import histeq

    histeq.equalize(da.from_zarr(source)).to_zarr(target)


def labelled(source: str, target: str) -> None:
    import dask.array as da
    import xarray as xr

    import histeq

    image = xr.DataArray(da.from_zarr(source), dims=("y", "x"), name="image")
    histeq.equalize(image).to_dataset().to_zarr(target, consolidated=False)


def interpolated(source: str, target: str) -> None:
    """As answers on the web have it: Dask's histogram, and each chunk through np.interp."""
    import dask.array as da

    image = da.from_zarr(source)
    counts, edges = da.histogram(image, bins=256, range=(0, 256))
    cumulated = counts.cumsum(axis=0).compute()
    levels = cumulated * 255 / cumulated[-1]
    image.map_blocks(lambda x: np.interp(x, edges[:-1], levels).astype(np.uint8), dtype=np.uint8).to_zarr(
        target
    )


def looked_up(source: str, target: str) -> None:
    """As an expert would write it: one bincount a chunk, a sum, and each chunk through a table."""
    import dask.array as da

    image = da.from_zarr(source)
    counts = image.map_blocks(
        lambda x: np.bincount(x.ravel(), minlength=256)[None], dtype=np.int64, chunks=(1, 256)
    ).compute()
    cumulated = counts.reshape(-1, 256).sum(axis=0).cumsum()
    table = (cumulated * 255 // cumulated[-1]).astype(np.uint8)
    image.map_blocks(lambda x: table[x], dtype=np.uint8).to_zarr(target)


def by_chunks(source: str, target: str) -> None:
    """scikit-image on each chunk by itself: seams everywhere, and so no equalization of the image."""
    import dask.array as da
    import skimage.exposure

    equalize_hist: Any = skimage.exposure.equalize_hist
    image = da.from_zarr(source)
    image.map_blocks(lambda x: (equalize_hist(x) * 255).astype(np.uint8), dtype=np.uint8).to_zarr(target)


def clahe_files(source: str, target: str) -> None:
    import histeq

    histeq.clahe_file(source, target)


def clahe_lazily(source: str, target: str) -> None:
    import dask.array as da

    import histeq

    histeq.clahe(da.from_zarr(source)).to_zarr(target)


def small_tiles_files(source: str, target: str) -> None:
    import histeq

    histeq.clahe_file(source, target, tile_size=256)


def small_tiles_lazily(source: str, target: str) -> None:
    import dask.array as da

    import histeq

    histeq.clahe(da.from_zarr(source), tile_size=256).to_zarr(target)


def overlapping(source: str, target: str) -> None:
    """scikit-image's CLAHE on each chunk with a border of one tile: about the image's, with seams."""
    import dask.array as da
    import skimage.exposure

    equalize_adapthist: Any = skimage.exposure.equalize_adapthist

    def local(x: NDArray[Any]) -> NDArray[Any]:
        return (equalize_adapthist(x, 256, clip_limit=2 / 256) * 255).astype(np.uint8)

    da.from_zarr(source).map_overlap(local, depth=256, boundary="reflect", dtype=np.uint8).to_zarr(target)


_FILE = "equalize_file"
_CLAHE = "clahe_file, 8 x 8 tiles"
_SMALL = "clahe_file, tiles of 256 pixels"
CASES = [
    Case(_FILE, files),
    Case("equalize, lazily", lazily, _FILE, True, "at most 1.5, 400 MB"),
    Case("equalize, lazily, a DataArray", labelled, _FILE, False, "at most 1.5, 400 MB"),
    Case("da.histogram, np.interp a chunk", interpolated, "equalize, lazily", target="at least 3"),
    Case("np.bincount, table[x] a chunk", looked_up, "equalize, lazily"),
    Case("scikit-image's equalize_hist a chunk", by_chunks, "equalize, lazily", target="at least 3"),
    Case(_CLAHE, clahe_files),
    Case("CLAHE, lazily, 8 x 8 tiles", clahe_lazily, _CLAHE, True),
    Case(_SMALL, small_tiles_files),
    Case("CLAHE, lazily, tiles of 256 pixels", small_tiles_lazily, _SMALL, True),
    Case("scikit-image's equalize_adapthist, map_overlap", overlapping, "CLAHE, lazily, tiles of 256 pixels"),
]


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.dask", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--side", type=int, default=20000, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose name matches")
    parser.add_argument("--folder", type=Path, help="where to put the images")
    parser.add_argument("--alive", action="store_true", help="what of the source is in memory at once")
    parser.add_argument("--run", nargs=3, metavar=("CASE", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--source", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run)
    elif arguments.source:
        print(*alive(*arguments.source))
    else:
        about = describe()
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(f"{about['cpu']}, tier {about['tier']}, {os.cpu_count()} cores, load {load:.1f}, ", end="")
        print(time.strftime("%Y-%m-%d"), end="\n\n")
        if arguments.alive:
            print_alive()
        else:
            print_times(arguments)


def print_times(arguments: argparse.Namespace) -> None:
    """Time the cases by turns."""
    print(f"{arguments.side} x {arguments.side} pixels, median of {arguments.rounds} rounds\n")
    print("| work | wanted | time | ratio | beside | pixels | whole process | peak |")
    print("|---|---|---|---|---|---|---|---|")
    chosen = [case for case in CASES if re.search(arguments.only, case.name)]
    runs: dict[str, list[tuple[float, ...]]] = {case.name: [] for case in chosen}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source = Path(folder) / "source.zarr"
        make(source, arguments.side)
        pixels: dict[str, int] = {}
        for _ in range(arguments.rounds):
            for case in chosen:
                target = Path(folder) / "target.zarr"
                said = Path(folder) / "seconds"
                command = [sys.executable, "-m", "benchmarks.dask", "--run", case.name, source, target]
                seconds, peak = measured(["/usr/bin/env", f"HISTEQ_BENCHMARK={said}", *command])
                runs[case.name].append((*map(float, said.read_text().split()), seconds, peak))
                print(f"{case.name}: {runs[case.name][-1]}", file=sys.stderr)
                if case.name not in pixels:
                    pixels[case.name] = digest(target)
                shutil.rmtree(target)
    times, busy = (
        {name: statistics.median(run[clock] for run in each) for name, each in runs.items()}
        for clock in (0, 1)
    )
    for case in chosen:
        ratio = ""
        if case.beside in times:
            ratio = " / ".join(f"{clock[case.name] / clock[case.beside]:.2f}" for clock in (times, busy))
        same = pixels[case.name] == pixels.get(case.beside)
        if case.same_pixels and case.beside in times and not same:
            sys.exit(f"{case.name} has other pixels than {case.beside}")
        whole = statistics.median(seconds for *_, seconds, _ in runs[case.name])
        peak = max(peak for *_, peak in runs[case.name])
        cells = [case.name, case.target, f"{times[case.name]:.2f} / {busy[case.name]:.2f} s", ratio,
                 case.beside if ratio else "", "the same" if same else "", f"{whole:.2f} s",
                 f"{peak:.0f} MB"]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


def run(name: str, source: str, target: str) -> None:
    """Do the work of a case once in small, and then in earnest; leave the seconds in a file."""
    import zarr

    (case,) = (case for case in CASES if case.name == name)
    with tempfile.TemporaryDirectory() as folder:
        small = f"{folder}/small.zarr"
        corner = zarr.open_array(source, mode="r")[: 2 * _CHUNK, : 2 * _CHUNK]
        zarr.create_array(small, shape=corner.shape, chunks=(_CHUNK, _CHUNK), dtype="uint8")[:] = corner
        case.work(small, f"{folder}/result.zarr")
    start, busy = time.perf_counter(), time.process_time()
    case.work(source, target)
    took = f"{time.perf_counter() - start} {time.process_time() - busy}"
    Path(os.environ["HISTEQ_BENCHMARK"]).write_text(took)


def make(path: Path, side: int) -> None:
    """Write an image, a row of chunks at a time."""
    import zarr

    array = zarr.create_array(path, shape=(side, side), chunks=(_CHUNK, _CHUNK), dtype="uint8")
    photograph = natural("camera", (2048, 2048), "uint8")
    many = -(-side // 512)
    rows = np.empty((_CHUNK, many * 512), np.uint8)
    tile = tiles(photograph, side)
    for top in range(0, side, _CHUNK):
        height = min(_CHUNK, side - top)
        for y in range(0, height, 512):
            for x in range(many):
                rows[y : y + 512, x * 512 : x * 512 + 512] = next(tile)
        array[top : top + height] = rows[:height, :side]


def digest(path: Path) -> int:
    """Return what tells the pixels of a store from others, a row of chunks at a time."""
    import zlib

    import zarr

    array = zarr.open(path, mode="r")
    array = array["image"] if isinstance(array, zarr.Group) else array
    value = 0
    for top in range(0, array.shape[0], _CHUNK):
        value = zlib.crc32(np.asarray(array[top : top + _CHUNK]).tobytes(), value)
    return value


SOURCES = ("blockwise", "sliced", "rechunked", "rechunked to 700", "delayed", "stacked", "Zarr")


def print_alive() -> None:
    """Print what of the source is in memory at once, in a process a kind."""
    print("| source, 40 x 40 chunks of 512 x 512 | bytes of its chunks alive | all that is allocated "
          "| without counting: alive | allocated |")  # fmt: skip
    print("|---|---|---|---|---|")
    for kind in SOURCES:
        command = [sys.executable, "-m", "benchmarks.dask", "--source", kind]
        runs = [subprocess.run([*command, what], capture_output=True, text=True, check=True)
                for what in ("equalize", "apply")]  # fmt: skip
        cells = [f"{float(share):.1f} %" for each in runs for share in each.stdout.split()[-2:]]
        print(f"| {' | '.join([kind, *cells])} |", flush=True)


class Chunks:
    """Chunks as a store hands them over, and how many bytes of them are alive."""

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, side: int) -> None:
        self.shape = (side, side)
        self._lock = threading.Lock()
        self._alive = self.most = 0
        self._row = natural("camera", (1024, 1024), "uint8")

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        height, width = (s.stop - s.start for s in index)
        array = np.empty((height, width), np.uint8)
        array[:] = self._row[:height, :width]
        self._count(array.nbytes)
        weakref.finalize(array, self._count, -array.nbytes)
        return array

    def _count(self, size: int) -> None:
        with self._lock:
            self._alive += size
            self.most = max(self.most, self._alive)


def delayed(chunks: Chunks, size: int, y: int, x: int) -> Any:
    """Return a chunk as an array made of a delayed call."""
    import dask
    import dask.array as da

    rows, columns = (slice(n * size, n * size + size) for n in (y, x))
    return da.from_delayed(dask.delayed(chunks.__getitem__)((rows, columns)), (size, size), np.uint8)


def alive(kind: str, what: str) -> tuple[float, float]:
    """Equalize an image from a source of a kind, or map it; return the peaks of its bytes and of all."""
    import dask.array as da

    import histeq

    side, chunk = 40 * 512, 512
    chunks = Chunks(side + chunk)
    larger = da.from_array(chunks, chunks=chunk, name="source")
    image = larger.blocks[:40, :40]
    match kind:
        case "blockwise":
            image = image ^ 1
        case "sliced":
            image = larger[100 : 100 + side, 100 : 100 + side]
        case "rechunked":
            image = image.rechunk(1024)
        case "rechunked to 700":
            image = image.rechunk(700)
        case "delayed":
            image = da.block([[delayed(chunks, chunk, y, x) for x in range(40)] for y in range(40)])
        case "stacked":
            image = da.stack([image, image ^ 1])[1]

    class Nowhere:
        def __setitem__(self, index: Any, value: Any) -> None:
            pass

    table = np.arange(256, dtype=np.uint8)
    result = histeq.apply(image, table) if what == "apply" else histeq.equalize(image)
    result[:512, :512].compute()
    chunks.most = 0
    tracemalloc.start()
    da.store(result, Nowhere(), lock=False, num_workers=2)
    return 100 * chunks.most / side**2, 100 * tracemalloc.get_traced_memory()[1] / side**2


if __name__ == "__main__":
    main()
