"""Files larger than memory, in whole processes: time and peak memory beside libvips.

    python -m benchmarks.files                 # 20000 x 20000 pixels: minutes, and 3 GB of temporary files
    python -m benchmarks.files --side 4000 --rounds 1
    python -m benchmarks.files --only deflate

Both programs take turns, each run a new process with a warm file cache. libvips is called through pyvips (its
`hist_equal`, streaming); imports count. The image is a photograph, tiled to size, with noise.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from histeq._bench.images import natural
from histeq._bench.machine import describe

_TILE = 512

_VIPS = """
import sys, pyvips
image = pyvips.Image.new_from_file(sys.argv[1], access="random")
{work}
result.tiffsave(sys.argv[2], tile=True, tile_width=512, tile_height=512, bigtiff=True, {options})
"""
_GREY = "result = image.hist_equal()"
# The same recipe as OpenCV's: what the luma gains is added to each channel.
_LUMA = """
luma = image.recomb([[0.299, 0.587, 0.114]]).rint().cast("uchar")
result = (image + (luma.hist_equal() - luma)).cast("uchar").copy(interpretation="srgb")
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    target: str
    """What is to be reached: of libvips' time, and peak memory in MB."""
    dtype: str = "uint8"
    channels: int = 0
    compression: str = "none"
    command: tuple[str, ...] = ("equalize",)
    vips: str | None = _GREY
    vips_options: str = 'compression="none"'
    scale: float = 1.0


_DEFLATE = 'compression="deflate", predictor="horizontal"'
CASES = [
    Case("uint8, raw", "0.6, 170 MB"),
    Case("uint8, raw, a quarter of the pixels", "a quarter of the time", scale=0.5),
    Case("uint8, deflate", "0.5, 180 MB", compression="deflate", vips_options=_DEFLATE),
    Case("uint8, LZW", "0.68, 180 MB", compression="lzw",
         vips_options='compression="lzw", predictor="horizontal"'),
    Case("uint16, raw", "0.5, 180 MB", dtype="uint16", scale=0.7),
    Case("uint16, deflate", "0.5, 180 MB", dtype="uint16", compression="deflate", vips_options=_DEFLATE,
         scale=0.7),
    Case("uint8, deflate, pyramid", "0.65, 200 MB", compression="deflate",
         command=("equalize", "--overviews"), vips_options=f"{_DEFLATE}, pyramid=True"),
    Case("RGB luma, deflate", "0.5, 200 MB", channels=3, compression="deflate", vips=_LUMA,
         vips_options=_DEFLATE, scale=0.5),
    Case("CLAHE 8 x 8 tiles, raw", "1.6 of equalize, 200 MB", command=("clahe",), vips=None),
    Case("CLAHE tiles of 256 pixels, raw", "1.6 of equalize, 200 MB",
         command=("clahe", "--tile-size", "256"), vips=None),
    Case("CLAHE tiles of 256 pixels, uint16, raw", "", dtype="uint16", scale=0.7,
         command=("clahe", "--tile-size", "256"), vips=None),
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.files", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--side", type=int, default=20000, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains TEXT")
    parser.add_argument("--folder", type=Path, help="where to put the images")
    arguments = parser.parse_args()
    about = describe()
    print(f"{about['cpu']}, tier {about['tier']}, {os.cpu_count()} cores\n")
    print(f"{arguments.side} x {arguments.side} pixels, median of {arguments.rounds} rounds\n")
    print("| work | target | histeq | libvips | ratio | histeq's peak | libvips' peak | sizes |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for case in CASES:
            if arguments.only in case.name:
                print(row(case, Path(folder), arguments.side, arguments.rounds), flush=True)


def row(case: Case, folder: Path, side: int, rounds: int) -> str:
    """Run a case, and return its row of the table."""
    source = folder / f"{case.dtype}-{case.channels}-{case.compression}-{case.scale}.tif"
    if not source.exists():
        make(source, case, int(side * case.scale))
    targets = folder / "a.tif", folder / "b.tif"
    ours = [sys.executable, "-m", "histeq", *case.command, source, targets[0], "--overwrite"]
    theirs = [
        sys.executable,
        "-c",
        _VIPS.format(work=case.vips, options=case.vips_options),
        source,
        targets[1],
    ]
    runs: list[list[tuple[float, float]]] = [[], []]
    for _ in range(rounds + 1):
        runs[0].append(measured(ours))
        if case.vips:
            runs[1].append(measured(theirs))
    times = [statistics.median(seconds for seconds, _ in each[1:]) if each else None for each in runs]
    peaks = [max(peak for _, peak in each) if each else None for each in runs]
    sizes = [f"{path.stat().st_size / 1e6:.0f}" if path.exists() else "" for path in targets]
    for path in targets:
        path.unlink(missing_ok=True)
    ratio = f"{times[0] / times[1]:.2f}" if times[0] and times[1] else ""
    cells = [case.name, case.target, *(f"{t:.2f} s" if t else "" for t in times), ratio]
    cells += [f"{peak:.0f} MB" if peak else "" for peak in peaks] + [" / ".join(filter(None, sizes)) + " MB"]
    return f"| {' | '.join(cells)} |"


# A process inherits the peak memory of the one that starts it: a small one does.
_STARTER = """
import os, sys, time
start = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def measured(command: list[Any]) -> tuple[float, float]:
    """Run a process; return its seconds and its peak memory in MB."""
    starter = [sys.executable, "-I", "-S", "-c", _STARTER, *map(str, command)]
    result = subprocess.run(starter, stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak, code = result.stdout.split()[-3:]
    if code != "0":
        sys.exit(f"{command} failed")
    return float(seconds), int(peak) / (1024 if sys.platform != "darwin" else 1 << 20)


def make(path: Path, case: Case, side: int) -> None:
    """Write an image tile by tile."""
    photograph = natural("astronaut" if case.channels else "camera", (2048, 2048), case.dtype)
    shape = (side, side, 3) if case.channels else (side, side)
    tifffile.imwrite(
        path, tiles(photograph, side), shape=shape, dtype=case.dtype, tile=(_TILE, _TILE), bigtiff=True,
        compression=None if case.compression == "none" else case.compression,
        predictor=case.compression != "none", photometric="rgb" if case.channels else "minisblack",
        metadata=None,
    )  # fmt: skip


def tiles(photograph: NDArray[Any], side: int) -> Iterator[NDArray[Any]]:
    """Yield the tiles of a large image, each with noise of its own."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-3, 4, (1 << 20, *photograph.shape[2:]))
    top_level = np.iinfo(photograph.dtype).max
    many = -(-side // _TILE)
    for y in range(many):
        for x in range(many):
            top, left = y * _TILE % len(photograph), x * _TILE % len(photograph)
            part = photograph[top : top + _TILE, left : left + _TILE].astype(np.int32)
            start = int(rng.integers(len(noise) - _TILE * _TILE))
            own = noise[start : start + _TILE * _TILE].reshape(part.shape)
            yield np.clip(part + own, 0, top_level).astype(photograph.dtype)


if __name__ == "__main__":
    main()
