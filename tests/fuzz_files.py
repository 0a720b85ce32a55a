"""Broken files by the thousand: `python tests/fuzz_files.py`, or as many as `--count` says.

Small files of every format and codec are damaged at random, some of them where their format is known
(TIFF's tags, PNG's chunks under new checksums). Workers with a limit on memory and time equalize each.
What must not be: a crash, a hang, a traceback, a gigabyte, more than one line, or a success whose pixels are
in part not those of the file. A success is believed if an independent reader, strict where it can be, finds
pixels whose equalization is what was written, or if all independent readers accept the file.

The same seed makes the same mutants; `--keep FOLDER` saves those that fail.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))
sys.path.insert(0, str(Path(__file__).parents[1]))

ADDRESS_SPACE = 4 << 30
MEMORY = 1 << 20
"""KiB of memory that may be in use."""
SECONDS = 20
HEIGHT, WIDTH = 40, 48


def picture(*shape, dtype="uint8"):
    """Return something smooth with some noise, which every codec has to work for."""
    random_ = np.random.default_rng(5)
    y, x = np.mgrid[: shape[0], : shape[1]]
    planes = [90 + 60 * np.sin(y / (5 + c)) + 50 * np.cos(x / (7 - c)) for c in range((*shape, 1)[2])]
    values = np.stack(planes, -1).reshape(shape) + random_.normal(0, 4, shape)
    scale = 257 if np.dtype(dtype).itemsize == 2 else 1
    return (np.clip(values, 0, 255) * scale).astype(dtype)


def samples():
    """Return the sound files: names that begin with a suffix, and bytes."""
    import imagecodecs
    import tifffile
    from PIL import Image

    grey, rgb, deep = (
        picture(HEIGHT, WIDTH),
        picture(HEIGHT, WIDTH, 3),
        picture(HEIGHT, WIDTH, dtype="uint16"),
    )
    found = {}

    def by_pillow(name, pixels, kind, mode=None, **options):
        file = io.BytesIO()
        image = Image.fromarray(pixels)
        (image.convert(mode) if mode else image).save(file, kind, **options)
        found[name] = file.getvalue()

    found["png grey"] = imagecodecs.png_encode(grey)
    found["png rgb16"] = imagecodecs.png_encode(picture(HEIGHT, WIDTH, 3, dtype="uint16"))
    found["png alpha"] = imagecodecs.png_encode(picture(HEIGHT, WIDTH, 4))
    by_pillow("png palette", rgb, "PNG", "P")
    by_pillow("png bilevel", grey, "PNG", "1")
    by_pillow("jpg rgb", rgb, "JPEG", quality=90)
    by_pillow("jpg grey", grey, "JPEG")
    by_pillow("jpg progressive", rgb, "JPEG", progressive=True, subsampling=0)
    by_pillow("jpg restart", rgb, "JPEG", restart_marker_blocks=2)
    by_pillow("webp lossy", rgb, "WEBP")
    by_pillow("webp lossless", picture(HEIGHT, WIDTH, 4), "WEBP", lossless=True)
    by_pillow("bmp rgb", rgb, "BMP")
    by_pillow("bmp palette", rgb, "BMP", "P")
    for name, options in {
        "strips": {"rowsperstrip": 8},
        "tiles": {"tile": (16, 16)},
        "one": {},
        "deflate": {"tile": (16, 16), "compression": "zlib", "predictor": True},
        "lzw": {"rowsperstrip": 16, "compression": "lzw", "predictor": True},
        "zstd": {"tile": (32, 32), "compression": "zstd"},
        "packbits": {"rowsperstrip": 8, "compression": "packbits"},
        "lzma": {"rowsperstrip": 16, "compression": "lzma"},
        "jpeg": {"tile": (16, 16), "compression": "jpeg"},
        "jpeg2000": {"tile": (32, 32), "compression": "jpeg2000"},
        "webp": {"tile": (32, 32), "compression": "webp"},
        "png": {"tile": (32, 32), "compression": "png"},
        "big": {"tile": (16, 16), "bigtiff": True},
    }.items():
        for kind, pixels in (("rgb", rgb), ("deep", deep)):
            if kind == "deep" and name in ("jpeg", "webp"):
                continue
            file = io.BytesIO()
            tifffile.imwrite(file, pixels, metadata=None, **options)
            found[f"tif {name} {kind}"] = file.getvalue()
    for compression in ("group3", "group4", "tiff_ccitt"):
        by_pillow(f"tif {compression}", grey, "TIFF", "1", compression=compression, strip_size=120)
    file = io.BytesIO()
    np.save(file, deep)
    found["npy deep"] = file.getvalue()
    return found | {f"zarr {name}": data for name, data in stores(grey)}


def stores(pixels):
    """Yield Zarr stores as ZIP files, which are unpacked once they are damaged."""
    import zarr

    for name, options in {"raw": {"compressors": None}, "zstd": {}, "v2": {"zarr_format": 2}}.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.zip")
            with zarr.storage.ZipStore(path, mode="w") as store:
                array = zarr.create_array(store, shape=pixels.shape, chunks=(16, 16), dtype="u1", **options)
                array[...] = pixels
            yield name, path.read_bytes()


def damaged(data, kind, chooser):
    """Return damaged bytes of a file of some kind."""
    ways = [flipped, flipped, cut, longer, shorter, blank]
    ways += {"tif": [other_tag] * 4, "png": [other_chunk] * 4}.get(kind, [])
    return chooser.choice(ways)(data, chooser)


def flipped(data, chooser):
    data = bytearray(data)
    for _ in range(chooser.choice([1, 1, 1, 2, 8])):
        data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
    return bytes(data)


def cut(data, chooser):
    return data[: chooser.randrange(len(data))]


def longer(data, chooser):
    place = chooser.randrange(len(data))
    return data[:place] + chooser.randbytes(chooser.randint(1, 40)) + data[place:]


def shorter(data, chooser):
    place = chooser.randrange(len(data))
    return data[:place] + data[place + chooser.randint(1, 200) :]


def blank(data, chooser):
    place, size = chooser.randrange(len(data)), chooser.randint(1, 300)
    return (
        data[:place]
        + chooser.choice([b"\0", b"\xff"]) * len(data[place : place + size])
        + data[place + size :]
    )


def other_tag(data, chooser):
    """Change the type, the number or a value of an entry of the first directory of a TIFF file."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    number, size = (8, 20) if big else (2, 12)
    entries = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    entry = start + number + size * chooser.randrange(entries)
    data = bytearray(data)
    values = [0, 1, 2, 3, 7, 8, 16, 255, 32768, 65535, 2**31, 2**32 - 1, len(data), len(data) - 3]
    value = chooser.choice([*values, chooser.randrange(70000)])
    place = chooser.choice(["kind", "count", "value", "value", "value", "item", "item"])
    if place == "kind":
        struct.pack_into(order + "H", data, entry + 2, chooser.randrange(20))
    elif place == "count":
        struct.pack_into(order + "I", data, entry + 4, value)
    elif place == "value":
        struct.pack_into(order + "I", data, entry + (12 if big else 8), value)
    else:  # one of an array elsewhere
        array = struct.unpack_from(order + "I", data, entry + (12 if big else 8))[0]
        count = struct.unpack_from(order + "I", data, entry + 4)[0]
        where = array + 4 * chooser.randrange(max(1, min(count, 64)))
        if where + 4 <= len(data):
            struct.pack_into(order + "I", data, where, value)
    return bytes(data)


def other_chunk(data, chooser):
    """Damage a chunk of a PNG file, and make its checksum right."""
    chunks, position = [], 8
    while position + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        chunks.append((name, data[position + 8 : position + 8 + size]))
        position += 12 + size
    number = chooser.randrange(len(chunks))
    name, body = chunks[number]
    chunks[number] = (
        name,
        chooser.choice([flipped, cut, longer, shorter, blank])(body, chooser) if body else b"?",
    )
    if chooser.random() < 0.1:
        del chunks[number]
    parts = [struct.pack(">I4s", len(b), n) + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return data[:8] + b"".join(parts)


def write_mutant(folder, name, data, chooser):
    """Write a damaged file, or the damaged store that a ZIP file holds; return its path."""
    kind = name.split()[0]
    path = Path(folder, f"in.{kind}")
    if kind != "zarr":
        path.write_bytes(damaged(data, kind, chooser))
        return path
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {member: file.read(member) for member in file.namelist()}
    victim = chooser.choice(sorted(members))
    members[victim] = damaged(members[victim], kind, chooser)
    for member, content in members.items():
        target = path / member
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def readings(path):
    """Yield what independent readers find in a file: a name, and pixels or an error."""
    import cv2
    import pyvips
    import tifffile
    import zarr
    from PIL import Image

    def by_pillow():
        with Image.open(path) as image:
            image.load()
            if image.mode == "1":
                image = image.convert("L")
            elif image.mode == "P":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            return np.asarray(image)

    def by_vips():
        return pyvips.Image.new_from_file(str(path), fail_on="warning", access="sequential").numpy()

    def by_opencv():
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError
        return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]

    readers = {
        "tif": [tifffile.imread, by_vips, by_pillow],
        "npy": [np.load],
        "zarr": [lambda path: np.asarray(zarr.open_array(path, mode="r")[...])],
    }.get(path.suffix[1:], [by_vips, by_pillow, by_opencv])
    for reader in readers:
        name = getattr(reader, "__name__", "")
        try:
            yield name, reader() if name.startswith("by_") else reader(path)
        except Exception as error:
            yield name, error


# Others read files of these kinds although pixels are missing.
STRICT = ("jpg", "tif jpeg rgb", "tif group", "tif tiff_ccitt")


def believed(path, sample, written):
    """Tell whether a success is one: see the head of this file. Return what is wrong, or None."""
    import histeq

    accepted = True
    seen = []
    for name, pixels in readings(path):
        if isinstance(pixels, Exception) and "is not a known file format" in str(pixels):
            continue  # nothing is known about its pixels
        seen.append(f"{name}: {pixels!r:.60}" if isinstance(pixels, Exception) else name)
        if isinstance(pixels, Exception):
            accepted = False
            continue
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        strict = name == "by_vips" or not sample.startswith(STRICT)
        inverted = [np.invert(pixels)] if path.suffix == ".tif" and pixels.dtype.kind == "u" else []
        for one in (pixels, *inverted) if strict else ():
            with contextlib.suppress(ValueError, TypeError):
                result = histeq.equalize(one, backend="numpy", layout="HWC"[: one.ndim], color="luma")
                if result.shape == written.shape and (result == written).all():
                    return None
    return None if accepted else "partial success; " + ", ".join(seen)


def judged(path, sample, folder, most=MEMORY):
    """Equalize a file; return what came of it, and what is wrong with that, or None.

    `most` is how many KiB of memory the process may have taken.
    """
    from click.testing import CliRunner

    from histeq._cli import cli

    target = Path(folder, "out.npy")
    options = ["--backend", "numpy", "--overwrite", "--max-pixels", "5000000", "--memory", "256M"]
    for leniently in (False, True):
        target.write_bytes(b"old")
        more = ["--lenient"] if leniently else []
        result = CliRunner().invoke(cli, ["equalize", str(path), str(target), *options, *more])
        lines = result.stderr.splitlines()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            return "error", f"traceback: {result.exception!r}"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if memory > most:
            return "error", f"{memory >> 10} MiB of memory"
        if result.exit_code == 1:
            if len(lines) != 1 or not lines[0].startswith(f"histeq: error: {path}: "):
                return "error", f"not one line: {lines}"
            if target.read_bytes() != b"old":
                return "error", "the output was touched"
        elif result.exit_code != 0:
            return "error", f"exit code {result.exit_code}: {lines}"
        elif not leniently or not lines:
            wrong = believed(path, sample, np.load(target))
            return "success", wrong and f"{wrong}{' leniently, without a warning' if leniently else ''}"
    return ("refused" if result.exit_code else "kept with a warning"), None


def work(connection, seed):
    """Serve numbers of mutants."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # what libraries written in C print
    sound = samples()
    names = sorted(sound)
    with tempfile.TemporaryDirectory() as folder:
        while (number := connection.recv()) is not None:
            chooser = random.Random(f"{seed} {number}")
            name = names[number % len(names)]
            path = write_mutant(folder, name, sound[name], chooser)
            outcome, wrong = judged(path, name, folder)
            connection.send((name, outcome, wrong))
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def mutant(number, seed, folder):
    """Write one mutant again, and return its path."""
    sound = samples()
    name = sorted(sound)[number % len(sound)]
    return write_mutant(folder, name, sound[name], random.Random(f"{seed} {number}"))


class Worker:
    """A process, and the mutant that it has."""

    def __init__(self, seed):
        context = multiprocessing.get_context("spawn")
        self.end, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, seed), daemon=True)
        self.process.start()
        other.close()
        self.number, self.since = None, 0.0

    def give(self, number):
        self.number, self.since = number, time.monotonic()
        self.end.send(number)


def fuzz(count, seed, jobs, minutes=60):
    """Judge so many mutants; return the outcomes, counted, and what failed: number, name and reason."""
    deadline = time.monotonic() + 60 * minutes
    workers, outcomes, failed = [Worker(seed) for _ in range(jobs)], Counter(), []
    numbers = iter(range(count))
    done = 0
    first = set(workers)  # it takes a while until these are imported
    for worker in workers:
        worker.give(next(numbers))
    while done < count:
        if time.monotonic() > deadline:
            failed.append((done, "", "out of time"))
            break
        ready = multiprocessing.connection.wait(
            [worker.end for worker in workers if worker.number is not None], 1
        )
        for place, worker in enumerate(workers):
            if worker.number is None:
                continue
            hung = time.monotonic() - worker.since > SECONDS * (6 if worker in first else 1)
            if worker.end not in ready and not hung:
                continue
            try:
                name, outcome, wrong = worker.end.recv() if worker.end in ready else ("", "error", "a hang")
            except EOFError:
                worker.process.join()
                name, outcome, wrong = "", "error", f"a crash, exit code {worker.process.exitcode}"
            done += 1
            outcomes[outcome] += 1
            first.discard(worker)
            if wrong:
                failed.append((worker.number, name, wrong))
                print(f"mutant {worker.number} ({name}): {wrong}", flush=True)
            if outcome == "error" and (hung or not worker.process.is_alive()):
                worker.process.kill()
                worker = workers[place] = Worker(seed)
                first.add(worker)
            worker.number = None
            with contextlib.suppress(StopIteration):
                worker.give(next(numbers))
    for worker in workers:
        worker.process.kill()
        worker.process.join()
    return outcomes, failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the mutants that fail here")
    arguments = parser.parse_args()
    start = time.monotonic()
    outcomes, failed = fuzz(arguments.count, arguments.seed, arguments.jobs)
    print(json.dumps(outcomes), f"{time.monotonic() - start:.0f} s")
    for number, _, _ in failed if arguments.keep else ():
        folder = arguments.keep / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        mutant(number, arguments.seed, folder)
    sys.exit(f"{len(failed)} mutants failed" if failed else 0)


if __name__ == "__main__":
    main()
