"""Every path of the CUDA backend, bit for bit as the NumPy backend: python -m benchmarks.gpu.smoke.

--quick takes smaller images and fewer of them; --sanitized allocates every array by itself, so that memcheck
sees where each ends, and leaves out what works with CuPy's pool alone.
"""

import argparse
import contextlib
import itertools
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.device import backend_device, cupy_module, describe, histeq

INTEGERS = ("uint8", "uint16", "int16", "int8")
FLOATS = ("float16", "float32", "float64")
RULES = ("opencv", "pillow", "numpy", "skimage", "vips")
Check = tuple[str, Callable[[], None]]


class WrongPixelsError(AssertionError):
    """A result that is not the NumPy backend's."""


class Smoke:
    """The checks, for images of the sizes that a run has time for."""

    def __init__(self, cupy: Any, options: argparse.Namespace) -> None:
        self.cupy, self.stand_in, self.pooled = cupy, options.stand_in, not options.sanitized
        self.is_tiny = options.stand_in or options.sanitized  # every launch takes long
        self.is_short = options.quick or self.is_tiny
        self.rng = np.random.default_rng(0)
        self.integers: tuple[str, ...] = INTEGERS[:1] if options.stand_in else INTEGERS
        self.floats: tuple[str, ...] = FLOATS[1:2] if options.stand_in else FLOATS
        self.dtypes = (*self.integers, *self.floats)
        shapes = [(1, 1), (1, 17), (13, 39), (131, 257), (480, 641), (1080, 1920), (2160, 3840)]
        self.shapes = shapes[1:3] if self.is_tiny else shapes[: 4 if options.quick else None]
        self.side = 40 if self.is_tiny else 120 if options.quick else 300
        """The rows of images whose size does not matter."""

    def checks(self) -> Iterator[Check]:
        """Yield every check with its name, the most telling first."""
        for dtype in self.dtypes:
            yield f"sizes and contents, {dtype}", partial(self.sizes_and_contents, dtype)
        for multiprocessors in (1, 3, 1000):
            name = f"one launch, blocks for {multiprocessors} multiprocessors"
            yield name, partial(self.one_launch, multiprocessors)
        for dtype in self.integers:
            yield f"rules, {dtype}", partial(self.rules, dtype)
        for dtype in self.dtypes:
            yield f"windows, strides and masks, {dtype}", partial(self.views, dtype)
            yield f"batches and channels, {dtype}", partial(self.batches, dtype)
            yield f"CLAHE, {dtype}", partial(self.clahe, dtype)
            yield f"match, {dtype}", partial(self.match, dtype)
            yield f"arrays in host memory, {dtype}", partial(self.host_arrays, dtype)
            if self.pooled:
                yield f"graphs, {dtype}", partial(self.graphs, dtype)
        for dtype in self.integers[:2]:
            yield f"luma, {dtype}", partial(self.luma, dtype)
        yield "random calls", self.random_calls
        for dtype in self.floats:
            yield f"bins, {dtype}", partial(self.bins, dtype)
        yield "overlapping arrays", self.overlap
        with contextlib.suppress(ImportError):
            if not self.stand_in:
                import torch

                yield "PyTorch", lambda: self.torch(torch)

    # Comparing -------------------------------------------------------------------------------------------

    def lend(self, value: Any) -> Any:
        """Return a NumPy array on the device; other values as they are."""
        return self.cupy.asarray(value) if isinstance(value, np.ndarray) else value

    def same(self, function: Callable[..., Any], image: Any, *rest: Any, **keywords: Any) -> None:
        """Compare a function's results, for arrays that are brought to the device."""
        expected = function(image, *rest, backend="numpy", **keywords)
        lent = {name: self.lend(value) for name, value in keywords.items()}
        result = function(self.lend(image), *map(self.lend, rest), **lent)
        self.compare(result, expected, f"{function.__name__}, {image.shape}, {describe_keywords(keywords)}")

    def compare(self, result: Any, expected: Any, what: str) -> None:
        """Raise WrongPixelsError unless a result on the device is bit for bit as expected."""
        brought = result if isinstance(result, np.ndarray) else result.get()
        if brought.dtype != expected.dtype or brought.shape != expected.shape:
            kinds = [f"{array.dtype} {array.shape}" for array in (brought, expected)]
            raise WrongPixelsError(f"{what}: {kinds[0]}, not {kinds[1]}")
        unlike = brought != expected
        if expected.dtype.kind == "f":
            unlike &= ~(np.isnan(brought) & np.isnan(expected))
        if unlike.any():
            first = tuple(int(i) for i in np.argwhere(unlike)[0])
            raise WrongPixelsError(
                f"{what}: {int(unlike.sum())} of {unlike.size} differ, the first at {first}: "
                f"{brought[first]}, not {expected[first]}"
            )

    def contents(self, shape: tuple[int, ...], dtype: str) -> Iterator[Any]:
        """Yield images that the kernels treat differently."""
        if dtype in FLOATS:
            image = self.rng.normal(size=shape).astype(dtype)
            image.flat[:3] = [np.nan, np.inf, -np.inf][: min(3, image.size)]
            yield from (image, np.full(shape, 0.5, dtype), self.rng.integers(0, 9, shape).astype(dtype))
            return
        limits = np.iinfo(dtype)
        low, high = int(limits.min), int(limits.max)
        yield self.noise(shape, dtype)
        yield np.full(shape, high, dtype)
        if not self.is_short:
            yield self.rng.choice([low, high], shape).astype(dtype)
        normal = self.rng.normal((low + high) / 2, (high - low) / 40, shape)
        yield np.clip(normal, low, high).astype(dtype)

    def noise(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Return uniform noise; of floating dtypes, in steps."""
        if dtype in FLOATS:
            return (self.rng.integers(0, 200, shape) / 100).astype(dtype)
        limits = np.iinfo(dtype)
        return self.rng.integers(limits.min, limits.max + 1, shape).astype(dtype)

    # The checks ------------------------------------------------------------------------------------------

    def sizes_and_contents(self, dtype: str) -> None:
        for shape in self.shapes:
            if dtype != "uint8" and shape[0] > 1080:
                continue
            for image in self.contents(shape, dtype):
                self.same(histeq.equalize, image)
                self.same(histeq.histogram, image)
        group = 16 // np.dtype(dtype).itemsize  # pixels of a load; a warp loads 32 times, or 128
        for groups, extra in itertools.product((31,) if self.is_tiny else (31, 127), (-1, 0, 1, 2)):
            row = self.noise((groups * group + extra,), dtype)
            self.same(histeq.equalize, row, layout="W")
            self.same(histeq.equalize, row, layout="W", mask=self.rng.random(row.shape) < 0.5)
        for _ in range(1 if self.is_short else 20):  # again and again: what one launch leaves, the next finds
            self.same(histeq.equalize, image)

    def one_launch(self, multiprocessors: int) -> None:
        """Equalize uint8 of odd sizes and alignments by as many blocks as for a device of this size."""
        gpu = backend_device()
        before, launch = gpu.multiprocessors, gpu.launch
        launched = []

        def recorded(module: str, name: str, *arguments: Any, **keywords: Any) -> None:
            launched.append(name)
            launch(module, name, *arguments, **keywords)

        gpu.multiprocessors, gpu.launch = multiprocessors, recorded
        try:
            shapes = self.shapes[-1:] if self.is_tiny else self.shapes[:4]
            for images, (rows, columns) in itertools.product((1, 9), shapes):
                for image in self.contents((images, rows, columns), "uint8"):
                    for rule, start in itertools.product(("opencv", "pillow"), (0, 5)):
                        gpu.workspace().plans.clear()  # they know how many blocks there were
                        self._in_place(image, rule, start)
                        if launched != ["equalize_u8"]:
                            raise AssertionError(f"launched {launched}")
                        launched.clear()
        finally:
            gpu.multiprocessors = before
            gpu.workspace().plans.clear()
            del gpu.launch

    def _in_place(self, image: Any, rule: str, start: int) -> None:
        """Equalize a batch in place, in the middle of memory that must stay as it is."""
        memory = self.cupy.asarray(np.full(image.size + 40, 7, np.uint8))
        lent = memory[start : start + image.size].reshape(image.shape)
        lent[...] = self.cupy.asarray(image)
        histeq.equalize(lent, layout="NHW", rule=rule, out=lent)
        expected = np.full(memory.shape, 7, np.uint8)
        result = histeq.equalize(image, layout="NHW", rule=rule, backend="numpy")
        expected[start : start + image.size] = result.ravel()
        self.compare(memory, expected, f"in place from byte {start}, {image.shape}, {rule}")

    def rules(self, dtype: str) -> None:
        for image, rule in itertools.product(self.contents((self.side, self.side + 3), dtype), RULES):
            self.same(histeq.equalize, image, rule=rule)
            self.same(histeq.equalize, image, rule=rule, nodata=int(image[0, 0]))
            self.same(histeq.equalize, image, rule=rule, out_range=(16, 100))
            self.same(histeq.equalize, image, rule=rule, value_range=(5, 99), nodata=7)
            if rule != "skimage":
                self.same(histeq.equalize, image, rule=rule, out_dtype=np.uint8)
        counts = np.bincount(self.rng.integers(0, 256, 999), minlength=256)
        self.same(histeq.lookup_table, counts, dtype=np.dtype("uint8"))

    def views(self, dtype: str) -> None:
        """Windows, strides of either sign, misaligned elements and masks."""
        side = self.side
        whole = self.noise((side + 20, side + 31), dtype)
        mask = self.rng.random((side, side)) < 0.4
        mask[: side // 2, : side // 2] = False
        lent = self.cupy.asarray(whole)
        for row, column in ((0, 0), (3, 1), (5, 16), (8, 31)):
            window = (slice(row, row + side), slice(column, column + side))
            expected = histeq.equalize(whole[window], mask=mask, backend="numpy")
            result = histeq.equalize(lent[window], mask=self.cupy.asarray(mask))
            self.compare(result, expected, f"a window from {row}, {column} with a mask")
        back, apart = slice(None, None, -1), slice(None, None, 2)
        for index in ((back, apart), (apart, back)):
            expected = histeq.equalize(whole[index], backend="numpy")
            self.compare(histeq.equalize(lent[index]), expected, f"strides {index}")
        expected = histeq.equalize(whole.T, backend="numpy")
        self.compare(histeq.equalize(lent.T), expected, "the transposed image")
        self.same(histeq.equalize, whole[:side, :side].copy(), mask=mask.astype(np.uint8))
        if whole.itemsize > 1:
            memory = np.zeros(whole.nbytes + 1, np.uint8)
            memory[1:] = whole.view(np.uint8).ravel()
            crooked = self.cupy.asarray(memory)[1:].view(whole.dtype).reshape(whole.shape)
            expected = histeq.equalize(whole, backend="numpy")
            self.compare(histeq.equalize(crooked), expected, "misaligned elements")

    def batches(self, dtype: str) -> None:
        frames = self.noise((6, self.side, self.side + 7, 3), dtype)
        self.same(histeq.equalize, frames, layout="NHWC", color="channels")
        planar = np.ascontiguousarray(np.moveaxis(frames, -1, 1))
        self.same(histeq.equalize, planar, layout="NCHW", color="channels")
        self.same(histeq.equalize, planar[:, 1], layout="NHW")
        self.same(histeq.histogram, planar[:, 2], layout="DHW")
        table = histeq.lookup_table(
            histeq.histogram(planar[:, 0], layout="NHW", backend="numpy")
            if dtype in INTEGERS
            else np.ones((6, 256), np.int64),
            dtype=frames.dtype,
            backend="numpy",
        )
        limits = {} if dtype in INTEGERS else {"value_range": (0.25, 1.5)}
        self.same(histeq.apply, planar[:, 1], table, layout="NHW", **limits)

    def random_calls(self) -> None:
        """Sizes, alignments, strides, layouts, masks and functions as they come."""
        rng = self.rng
        for _ in range(5 if self.is_tiny else 150 if self.is_short else 400):
            dtype = str(rng.choice(self.dtypes))
            layout = str(rng.choice(["HW", "NHW", "HWC", "CHW", "NHWC", "DHW"]))
            sizes = {"N": 3, "C": int(rng.integers(1, 5)), "D": 3}
            shape = [sizes.get(letter) or int(rng.integers(1, self.side)) for letter in layout]
            whole = self.noise(tuple(n + 5 for n in shape), dtype)
            index = tuple(
                slice(start, start + n) if rng.random() < 0.8 else slice(start + n - 1, start - 1, -1)
                for n, start in zip(shape, rng.integers(1, 5, len(shape)).tolist(), strict=True)
            )
            image, lent = whole[index], self.cupy.asarray(whole)[index]
            is_luma = shape[layout.index("C")] in (1, 3) and dtype[0] == "u" if "C" in layout else True
            keywords: dict[str, Any] = {"layout": layout, "color": "luma" if is_luma else "channels"}
            if rng.random() < 0.3:
                keywords["nodata"] = image.flat[0].item()
            mask = None
            if rng.random() < 0.4:
                mask = rng.random([n for n, letter in zip(shape, layout, strict=True) if letter != "C"]) < 0.6
            clahe = {"tiles": 2, **few(dtype)}
            for function, more in ((histeq.equalize, {}), (histeq.clahe, clahe), (histeq.histogram, {})):
                expected = function(image, mask=mask, backend="numpy", **keywords, **more)
                result = function(lent, mask=self.lend(mask), **keywords, **more)
                what = f"{function.__name__}, {dtype} {shape} of {index}, {describe_keywords(keywords)}"
                self.compare(result, expected, f"{what}, mask: {mask is not None}")

    def luma(self, dtype: str) -> None:
        frames = self.noise((4, self.side, self.side + 5, 4), dtype)
        for color in ("luma", "luma-bgr"):
            self.same(histeq.equalize, frames, layout="NHWC", color=color)  # the fourth is alpha
            for width in (1, 17, self.side):
                part = frames[..., 1 : 1 + width, :3]
                self.same(histeq.equalize, part, layout="NHWC", color=color, nodata=3)
            planar = np.ascontiguousarray(np.moveaxis(frames[..., :3], -1, 1))
            self.same(histeq.equalize, planar, layout="NCHW", color=color)
            self.same(histeq.clahe, frames[..., :3], layout="NHWC", color=color, tiles=(2, 3), **few(dtype))
        self.same(histeq.equalize, frames, layout="NHWC", color="channels", alpha=True, rule="skimage")

    def bins(self, dtype: str) -> None:
        image = next(self.contents((self.side, self.side + 1), dtype))
        for bins in (1, 255, 1000) if self.is_short else (1, 2, 255, 256, 257, 1000, 8192, 8193):
            self.same(histeq.equalize, image, bins=bins)
            self.same(histeq.histogram, image, bins=bins, value_range=(-1, 1.5))
        self.same(histeq.equalize, image, nodata=float(image[-1, -1]))
        tiny = np.arange(600).reshape(20, 30) * np.finfo(dtype).smallest_subnormal
        self.same(histeq.equalize, tiny.astype(dtype), bins=77)  # CuPy compiles with -ftz=true

    def clahe(self, dtype: str) -> None:
        shape = (self.side, self.side + 13)
        grids: tuple[dict[str, Any], ...] = (
            {"tiles": (1, 2)}, {"tiles": (3, 5), "clip_limit": 7.5}, {"tile_size": (17, 20)}, {},
        )  # fmt: skip
        for image in self.contents(shape, dtype):
            for keywords in grids[: 2 if self.is_short else None]:
                self.same(histeq.clahe, image, **keywords, **few(dtype))
        image = self.noise(shape, dtype)
        if few(dtype) and not self.is_tiny:  # 65,536 bins, counted in slices
            self.same(histeq.clahe, image, tiles=(1, 2))
        mask = self.rng.random(shape) < 0.5
        mask[: shape[0] // 2, : shape[1] // 2] = False
        nodata = image[0, 0].item()
        limits = (0, 1) if dtype in FLOATS else (16, 100)
        for case in ({"mask": mask}, {"nodata": nodata}, {"out_range": limits}):
            self.same(histeq.clahe, image, tiles=(3, 4), **case, **few(dtype))
        if dtype in INTEGERS:
            self.same(histeq.clahe, image, tiles=(3, 4), value_range=(5, 99), nodata=7)
            self.same(histeq.clahe, image, tiles=(3, 4), out_dtype=np.uint8, **few(dtype))
        volumes = self.noise((5, 24, 33), dtype)
        self.same(histeq.clahe, volumes, layout="DHW", tiles=(2, 2, 3), **few(dtype))
        self.same(histeq.clahe, volumes, layout="NHW", tiles=(2, 3), **few(dtype))
        whole = histeq.clahe(image, tiles=(3, 4), backend="numpy", **few(dtype))
        lent = self.cupy.asarray(image)
        tables = histeq.tile_tables(lent, tiles=(3, 4), **few(dtype))
        window = histeq.apply_tiles(lent[5:30, 7:], tables, origin=(5, 7))
        self.compare(window, whole[5:30, 7:], "a window of CLAHE")

    def match(self, dtype: str) -> None:
        image, reference = self.noise((self.side, self.side), dtype), self.noise((31, 40), dtype)
        self.same(histeq.match, image, reference)
        self.same(histeq.match, np.stack([image, image[::-1]]), reference[None], layout="NHW")

    def host_arrays(self, dtype: str) -> None:
        """NumPy arrays there and back, whole and in pieces of a few rows."""
        import histeq._backends.cupy.pieces as pieces

        image, before = self.noise((3 * self.side, 2 * self.side + 1), dtype), pieces.PIECE
        frames = image.reshape(3, self.side, -1)
        for size in (before, image.nbytes // 7):
            pieces.PIECE = size
            try:
                for function, keywords in self._calls(dtype):
                    expected = function(image, backend="numpy", **keywords)
                    self.compare(function(image, backend="cupy", **keywords), expected, "from the host")
                expected = histeq.equalize(frames, layout="NHW", backend="numpy")
                brought = histeq.equalize(frames, layout="NHW", backend="cupy")
                self.compare(brought, expected, "a batch from the host")
            finally:
                pieces.PIECE = before

    def _calls(self, dtype: str) -> tuple[tuple[Callable[..., Any], dict[str, Any]], ...]:
        return (histeq.equalize, {}), (histeq.clahe, {"tiles": (2, 3), **few(dtype)})

    def graphs(self, dtype: str) -> None:
        """Captured calls, replayed on other pixels while others use the memory that they let go of."""
        shape, stream = (self.side, self.side + 9), self.cupy.cuda.Stream(non_blocking=True)
        for function, keywords in self._calls(dtype):
            image = self.cupy.asarray(self.noise(shape, dtype))
            with stream:
                out = function(image, **keywords)
                stream.begin_capture()
                try:
                    function(image, out=out, **keywords)
                finally:
                    graph = stream.end_capture()
                others = [self.cupy.zeros(1 << size, np.uint8) for size in range(9, 21)]
                for _ in range(2):
                    new = self.noise(shape, dtype)
                    image.set(new)
                    graph.launch(stream)
                    stream.synchronize()
                    expected = function(new, backend="numpy", **keywords)
                    self.compare(out, expected, f"{function.__name__} from a graph")
                for other in others:
                    self.compare(other, np.zeros(other.shape, np.uint8), "others' memory")
        self._refused(stream)

    def _refused(self, stream: Any) -> None:
        """See that a capture which needs more workspace is refused, and does no harm."""
        image = self.noise((self.side, self.side), "uint8")
        frames = self.cupy.asarray(np.broadcast_to(image, (600, *image.shape)))
        with stream:
            stream.begin_capture()
            try:
                histeq.histogram(frames, layout="NHW")
            except RuntimeError as error:
                if "before the capture" not in str(error):
                    raise
            else:
                raise AssertionError("a workspace grew while a graph was captured")
            finally:
                stream.end_capture()
            expected = histeq.histogram(image, backend="numpy")
            self.compare(histeq.histogram(frames[7]), expected, "after a refused capture")

    def overlap(self) -> None:
        """Arrays that share memory in part are refused, however they came here."""

        class Foreign:
            def __init__(self, array: Any) -> None:
                self.array, self.__cuda_array_interface__ = array, array.__cuda_array_interface__

        memory = self.cupy.asarray(self.noise((self.side, self.side), "uint8"))
        for lend in (Foreign, lambda array: array):
            try:
                histeq.equalize(lend(memory[1:]), out=lend(memory[:-1]))
            except ValueError as error:
                if "share no memory" not in str(error):
                    raise
            else:
                raise AssertionError("arrays that overlap in part were taken")

    def torch(self, torch: Any) -> None:
        image = self.noise((self.side, self.side + 1), "uint8")
        tensor = torch.from_numpy(image).cuda()
        expected = histeq.equalize(image, backend="numpy")
        self.compare(histeq.equalize(tensor).cpu().numpy(), expected, "a tensor")
        stream = torch.cuda.Stream()
        out = torch.zeros_like(tensor)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            histeq.equalize(tensor, out=out)
        stream.synchronize()
        self.compare(out.cpu().numpy(), expected, "a tensor, on another stream")
        if histeq.equalize(tensor.new_empty((0, 5))).shape != (0, 5):
            raise AssertionError("an empty tensor")
        try:
            histeq.equalize(tensor[1:], out=tensor[:-1])
        except ValueError:
            pass
        else:
            raise AssertionError("tensors that overlap in part were taken")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            histeq.equalize(tensor, out=out)
        new = self.noise(image.shape, "uint8")
        tensor.copy_(torch.from_numpy(new))
        graph.replay()
        expected = histeq.equalize(new, backend="numpy")
        self.compare(out.cpu().numpy(), expected, "a tensor, from a graph")


def few(dtype: str) -> dict[str, int]:
    """Return keywords that spare 65,536 bins a tile."""
    return {"bins": 512} if dtype in ("uint16", "int16") else {}


def describe_keywords(keywords: dict[str, Any]) -> str:
    """Return keywords as text, arrays by their shapes."""
    shown = {
        name: value.shape if isinstance(value, np.ndarray) else value for name, value in keywords.items()
    }
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.smoke", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller images, fewer of them")
    parser.add_argument("--stand-in", action="store_true", help="tiny images, kernels on the CPU: no GPU")
    parser.add_argument("--sanitized", action="store_true", help="every array by itself")
    parser.add_argument("--only", metavar="TEXT", default="", help="the checks whose name contains TEXT")
    options = parser.parse_args()
    cupy = cupy_module(options.stand_in)
    if options.sanitized:
        cupy.cuda.set_allocator(None)
    print(describe(cupy), flush=True)
    failed, smoke = [], Smoke(cupy, options)
    with np.errstate(all="ignore"):
        for name, check in smoke.checks():
            if options.only not in name:
                continue
            start = time.perf_counter()
            try:
                check()
                outcome = "right"
            except Exception as error:  # the others tell more about it
                failed.append(name)
                outcome = f"{type(error).__name__}: {error}"
                if not isinstance(error, WrongPixelsError):
                    traceback.print_exc(file=sys.stdout)
            print(f"{name}: {outcome}, {time.perf_counter() - start:.2f} s", flush=True)
    print(f"wrong: {'; '.join(failed)}" if failed else "every result is the NumPy backend's")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
