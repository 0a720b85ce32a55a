"""Plant faults in the CUDA kernels, one at a time, and see whether the tests notice.

    python tests/mutate_cuda.py

Each fault is a replacement in one source file. The faulty unit is built for the CPU and put in place of the
right one; the quick probes below must then fail. Exit code 1 if any fault goes unnoticed.

What goes wrong only where memory is weakly ordered, such as a missing __threadfence, shows on a GPU alone.
"""

# ruff: noqa: E402, E501

import importlib
import mmap
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "kernels")]

import numpy as np
from cuda_host import fake_cupy, host
from histeq_kernels import cuda

import histeq

# (what is wrong, file, right text, faulty text)
FAULTS = [
    ("no barrier between clearing and counting", "counters.cuh",
     "counters.clear(counts);\n        __syncthreads();", "counters.clear(counts);"),
    ("no barrier between counting and folding", "counters.cuh",
     "[&](u32 bin) { counters.add(bin); });\n        __syncthreads();",
     "[&](u32 bin) { counters.add(bin); });"),
    ("the tail of a row is dropped", "common.cuh",
     "b < min(from + VECTOR, bytes); b += sizeof(T))\n                    visit",
     "b < min(from + VECTOR, bytes) && from + VECTOR <= bytes; b += sizeof(T))\n                    visit"),
    ("the head of a row is dropped", "common.cuh",
     "for (i64 b = max(from, 0ll); b < min(from + VECTOR, bytes); b += sizeof(T))\n                    visit",
     "for (i64 b = from < 0 ? bytes : from; b < min(from + VECTOR, bytes); b += sizeof(T))\n"
     "                    visit"),
    ("one stretch too few when rows begin inside a vector", "common.cuh",
     "return (bytes + 2 * (VECTOR - 1)) / VECTOR;", "return bytes / VECTOR;"),
    ("the workspace is not reset", "rules.cuh", "mine[bin] = 0;", ";"),
    ("the ticket is not reset", "common.cuh", "atomicInc(ticket, parts - 1)", "atomicAdd(ticket, 1u)"),
    ("the wrong block is taken for the last", "common.cuh",
     "atomicInc(ticket, parts - 1) == parts - 1", "atomicInc(ticket, parts - 1) == 0"),
    ("no barrier after the ticket", "common.cuh",
     "parts - 1;\n    __syncthreads();\n    const bool last", "parts - 1;\n    const bool last"),
    ("the scan's guard is off by one", "rules.cuh", "lane_id() >= distance", "lane_id() > distance"),
    ("the scan stops early", "rules.cuh", "distance < WARP; distance *= 2", "distance < WARP / 2; distance *= 2"),
    ("a warp begins its scan without those before it", "rules.cuh", "if (w < warp_id()) before +=", "if (w < 0) before +="),
    ("the level is truncated, not rounded", "rules.cuh", "__float2ll_rn(multiply", "__float2ll_rd(multiply"),
    ("double where float is meant", "rules.cuh",
     "__float2ll_rn(multiply(__ll2float_rn(above), all.scale))",
     "__double2ll_rn(__ll2double_rn(above) * all.scale)"),
    ("nodata is counted", "rules.cuh", "bin == rule.nodata ? 0 :", "bin == -2 ? 0 :"),
    ("nodata is mapped", "lookup.cuh", "return at == bin ? nodata :", "return at == -2 ? nodata :"),
    ("other levels become nodata", "lookup.cuh", "level == nodata ? beside : level", "level"),
    ("the nodata of int16 is taken for unsigned", "lookup.cuh",
     "static_cast<Level>(__double2ll_rz(number))", "static_cast<Level>(max(__double2ll_rz(number), 0ll))"),
    ("other colours become nodata", "luma.cu", "if (pixel.is(nodata)) pixel.fill(beside);", ""),
    ("a colour of one channel alike becomes nodata", "luma.cu",
     "if (pixel.is(nodata)) pixel.fill(beside);", "if (pixel.red == nodata) pixel.fill(beside);"),
    ("other fractions become nodata", "interpolate.cu",
     "if (widen(Number<Fraction>::store(level)) == nodata) level = beside;", ""),
    ("fractions are compared before they are rounded", "interpolate.cu",
     "widen(Number<Fraction>::store(level)) == nodata", "level == nodata"),
    ("other pixels of one launch become nodata", "fused.cu",
     "table.load(levels, tables)", "table.load(levels, Tables{nullptr, 0, 0, -1, 0, 0, 0})"),
    ("other pixels of a cluster become nodata", "fused_clusters.cu",
     "table.load(mine.levels, tables)", "table.load(mine.levels, Tables{nullptr, 0, 0, -1, 0, 0, 0})"),
    ("blends become nodata", "clahe.cu",
     "if (value == levels.nodata) value = static_cast<Result>(levels.beside_nodata);", ""),
    ("blended colours become nodata", "clahe.cu",
     "if (pixel.is(levels.nodata)) pixel.fill(levels.beside_nodata);", ""),
    ("blended fractions become nodata", "clahe.cu",
     "== levels.nodata_value) value = levels.beside_nodata_value;", "== levels.nodata_value) ;"),
    ("the mask is ignored", "common.cuh", "mask == nullptr || mask[", "true || mask["),
    ("the mask is ignored where it comes in vectors", "histogram.cu", "if (counted.byte[e]) count", "count"),
    ("a group of pixels too few", "common.cuh",
     "(at.columns + 2 * N - 1) / N", "(at.columns + 2 * (N - 1)) / N"),
    ("the pixels before the first group are dropped", "common.cuh",
     "const i64 x = head - N + (s.begin", "const i64 x = head + (s.begin"),
    ("groups of three channels begin anywhere", "common.cuh", "(CHANNELS == 3 ? 11 : 1)", "1"),
    ("a mask is thought aligned", "common.cuh", "reinterpret_cast<u64>(from) % N == 0", "true"),
    ("blue goes where red was", "luma.cu", "swaps ? pixel.red : pixel.blue", "pixel.blue"),
    ("32-bit offsets of rows", "common.cuh",
     "const AlignedRow row(plane + s.layer * at.image.layer + s.row * at.image.row, bytes);",
     "const AlignedRow row(plane + static_cast<int>(s.layer * at.image.layer + s.row * at.image.row), bytes);"),
    ("32-bit offsets of pixels", "common.cuh",
     "i64 image, out, mask;\n    __device__", "int image, out, mask;\n    __device__"),
    ("an overflow of a low counter is not handed over", "counters.cuh",
     "one == 1 && (before & 0xffffu) == 0xffffu", "false"),
    ("a carry out of the word is lost", "counters.cuh", "before > 0xffffffffu - one", "false"),
    ("a borrow of the word is lost", "counters.cuh",
     "if (atomicSub(word, 0x10000u) < 0x10000u)", "if (atomicSub(word, 0x10000u) < 0u)"),
    ("overflow is thought impossible too soon", "counters.cuh", "share > 0xffff}", "share > 0xffffff}"),
    ("the wrong slice", "counters.cuh", "blockIdx.z * bins, bins,", "0, bins,"),
    ("the banked table mixes lanes", "lookup.cuh", "lane_id() * 4 + value % 4", "lane_id() * 4 + value % 3"),
    ("no barrier after loading the table", "lut.cu",
     "tables);\n        __syncthreads();", "tables);"),
    ("a frame is kept where the last one is", "window.cu", "w.ring + frame % w.slots * w.counters", "w.ring"),
    ("the leaving frame stays in the sum", "window.cu", "f < low && !anew", "f < low && false"),
    ("a cut is not heeded", "window.cu", "begin = cut;", ""),
    ("the next shot is summed, too", "window.cu", "end = cut;", ""),
    ("the frames after a cut do not tell it", "window.cu", "min(frame + w.ahead, last)", "min(frame, last)"),
    ("the frame itself tells its cut", "window.cu", "if (other != frame) begins", "begins"),
    ("the last frames are not judged", "window.cu", "frame < frames; ++frame) judge", "frame < 0; ++frame) judge"),
    ("no barrier before the scratch is used again", "window.cu",
     "__syncthreads();  // nobody reads the scratch's former content any more\n    if (lane_id() == 0) scratch()->sums",
     "if (lane_id() == 0) scratch()->sums"),
    ("planes of counts are thought dense", "window.cu", "plane * stride + i", "plane * bins + i"),
    ("the blend is truncated", "window.cu", "__double2ll_rn(add(same", "__double2ll_rz(add(same"),
    ("signed levels are blended as unsigned ones", "window.cu", "static_cast<short*>(tables)", "static_cast<u16*>(tables)"),
    ("a tile is left out of the histogram", "window.cu", "tile < tiles; ++tile", "tile < tiles - 1; ++tile"),
    ("blocks do not wait for one another", "fused.cu", "wait_for_grid(&results.tickets[1]);", "__syncthreads();"),
    ("the count of waiting blocks is not reset", "fused.cu", "results.tickets[1] = 0", ""),
    ("blocks wait for one too few", "fused.cu",
     "*static_cast<volatile u32*>(arrived) < gridDim.x", "*static_cast<volatile u32*>(arrived) + 1 < gridDim.x"),
    ("blocks wait for one too many", "fused.cu",
     "*static_cast<volatile u32*>(arrived) < gridDim.x", "*static_cast<volatile u32*>(arrived) <= gridDim.x"),
    ("counts are cleared while others need them", "fused.cu",
     "is_last_block(&results.tickets[0], gridDim.x)", "is_last_block(&results.tickets[0], 1)"),
    ("no barrier between the table and its copies", "fused.cu",
     "levels);\n    __syncthreads();", "levels);"),
    ("the blocks of a cluster do not wait for the counts", "fused_clusters.cu",
     "wait_for_cluster();  // all counts", "__syncthreads();  // all counts"),
    ("the blocks of a cluster do not wait for the readers", "fused_clusters.cu",
     "wait_for_cluster();  // nobody", "__syncthreads();  // nobody"),
    ("a cluster's last block is left out", "fused_clusters.cu", "block < CLUSTER", "block < CLUSTER - 1"),
    ("one stretch more is kept than fits", "fused_clusters.cu",
     "if (ordinal < kept) mine.place", "if (ordinal <= kept) mine.place"),
    ("what is kept lands on other threads' places", "fused_clusters.cu",
     "(ordinal * VECTORS + k) * THREADS", "(ordinal + k) * THREADS"),
    ("no barrier before a cluster's table is used", "fused_clusters.cu",
     "table.load(mine.levels, tables);\n        __syncthreads();", "table.load(mine.levels, tables);"),
    ("unaligned results are stored as aligned", "lookup.cuh",
     "reinterpret_cast<u64>(target) % VECTOR == 0", "true"),
    ("the sign bit of int16 is not flipped", "common.cuh", "return value ^ flip;", "return value;"),
    ("the counts of int8 begin at 0", "counters.cuh", "&counts[bin ^ flip]", "&counts[bin]"),
    ("values out of range count in a tile", "clahe.cu", "counted = bin == nearest;", "counted = true;"),
    ("tables of a range begin at the lowest value", "clahe.cu", "(place >> bin_shift) - first", "(place >> bin_shift)"),
    ("16 bits stay", "clahe.cu", "if (levels.narrow)", "if (false)"),
    ("chroma is not limited", "luma.cu", "limited((11682", "((11682"),
    ("float16 rounds down", "floats.cuh", "__double2ll_rn(multiply(size, scale))", "__double2ll_rz(size * scale)"),
    ("the edges do not decide", "float_bins.cuh",
     "return is_right ? bin : search(value);", "return guess(value);"),
    ("the keys of the range are not reset", "float_bins.cu",
     "if (threadIdx.x == 0) keys[2 * index] = keys[2 * index + 1] = 0;", ""),
    ("the first centre is not the beginning", "interpolate.cu",
     "value < first.centre", "value < first.centre - 1"),
    ("a tile beyond the image is not folded back", "clahe.cu", "return min(at, period - at);", "return size - 1;"),
    ("no barrier between counting a tile and folding", "clahe.cu",
     "        __syncthreads();\n        counters.fold_into", "        counters.fold_into"),
    ("the rest of what is clipped is lost", "clahe.cu", "at % step == 0 && at / step < rest", "false"),
    ("a clip limit of one pixel at the least", "clahe.cu", "max(__double2ll_rz(limit), 1ll)", "__double2ll_rz(limit)"),
    ("the sums of a tile mix with the next ones", "clahe.cu",
     "    __syncthreads();  // nobody reads the scratch's former content any more\n"
     "    if (lane_id() == 0) scratch()->sums", "    if (lane_id() == 0) scratch()->sums"),
    ("a tile's counts are not reset", "clahe.cu", "counts[bin] = 0;", ""),
    ("a weight after its limit", "clahe.cu", "int below = __float2int_rd(at),", "int below = max(__float2int_rd(at), 0),"),
    ("tiles counted as wide as high", "clahe.cu", "y) * tiles.held[2] *", "y) * tiles.held[1] *"),
    ("another of two nearest tiles", "clahe.cu", "other < tile));", "other > tile));"),
    ("another of two nearest tiles in a row", "clahe.cu", "after - x < x - found[x]", "after - x <= x - found[x]"),
    ("a blend is fused", "clahe.cu", "return add(multiply(a, weight_a), multiply(b, weight_b));",
     "return fmaf(a, weight_a, b * weight_b);"),
]  # fmt: skip

# The units that a fault in a shared file is planted in; the others have the same text.
UNITS = {
    "common.cuh": ("histogram", "lut"), "counters.cuh": ("histogram",), "rules.cuh": ("histogram",),
    "floats.cuh": ("float_bins",), "float_bins.cuh": ("float_bins",), "lookup.cuh": ("lut",),
    "groups of three channels begin anywhere": ("luma",), "a mask is thought aligned": ("histogram",),
    "a group of pixels too few": ("histogram",),
}  # fmt: skip


def machine(shared=232448, multiprocessors=3, cooperates=0, cache=1 << 40):
    """Make the device one of this kind."""
    fake_cupy.Machine.shared, fake_cupy.Machine.multiprocessors = shared, multiprocessors
    fake_cupy.Machine.cooperates, fake_cupy.Machine.cache = cooperates, cache
    importlib.import_module("histeq._backends.cupy.device").device.cache_clear()


def probe():
    """Run what shows a fault; raise AssertionError or LaunchError when there is one."""
    rng = np.random.default_rng(0)
    on_gpu = fake_cupy.ndarray.of

    def check(image, mask=None, **keywords):
        expected = histeq.equalize(image, backend="numpy", mask=mask, **keywords)
        lent = None if mask is None else on_gpu(mask)
        result = histeq.equalize(on_gpu(image), mask=lent, **keywords).array
        assert np.array_equal(result, expected, equal_nan=image.dtype.kind == "f")

    fake_cupy.Machine.shuffled = 1
    for seed in range(4):
        fake_cupy.Machine.seed = seed
        for dtype in ("uint8", "int8", "uint16", "int16"):
            frame = rng.integers(0, 250 if dtype != "int8" else 128, (70, 203)).astype(dtype)
            if dtype.startswith("i"):
                frame -= 99
            out = np.zeros((70, 190), dtype)
            window = frame[:, 3:184]
            histeq.equalize(on_gpu(window), out=on_gpu(out[:, 2:183]))
            assert np.array_equal(out[:, 2:183], histeq.equalize(window, backend="numpy"))
            check(frame, nodata=int(frame[5, 5]), rule="numpy")
            low = -50 if dtype == "int16" else 9
            check(frame, nodata=low, out_range=(low, 70))
            check(rng.integers(0, 3000, 5000, np.uint16).astype(dtype))
            check(frame, mask=frame % 3 == 0, rule="pillow")
            check(frame[:, 3:184], mask=(frame % 3 == 0)[:, 4:185])
            check(frame[:, ::2], mask=(frame % 3 == 0)[:, ::2])
            check(np.stack([frame, frame // 2, frame // 3]), layout="NHW", rule="vips")
            line = rng.integers(0, 250, 6200, np.uint8).astype(dtype)
            for start, size in ((1, 2048), (5, 4096), (0, 6150)):
                out = np.zeros(6200, dtype)
                piece, target = line[start : start + size], out[3 : 3 + size]
                histeq.equalize(on_gpu(piece), out=on_gpu(target))
                assert np.array_equal(target, histeq.equalize(piece, backend="numpy"))
        line = np.zeros(31 * 16 + 1, np.uint8)
        line[-1] = 9
        check(line, mask=np.ones(line.shape, bool))
        check(rng.integers(0, 250, (300, 403), np.uint8))  # several blocks
        color = rng.integers(0, 256, (30, 40, 3), np.uint8)
        color[:3] = (255, 0, 0)
        check(color, layout="HWC")
        check(color[:, 1:], layout="HWC", color="luma-bgr")
        grey = np.where(color[..., 1:2] < 200, color[..., :1], color)
        for nodata in (int(histeq.equalize(grey, layout="HWC", backend="numpy")[9, 9, 0]), 255):
            check(grey, layout="HWC", nodata=nodata)
        for dtype in ("float16", "float32"):
            check(rng.normal(size=(2, 40, 50)).astype(dtype), layout="NHW", rule="skimage", bins=300)
            check(rng.integers(0, 9, (40, 50)).astype(dtype), rule="skimage", bins=7, value_range=(0, 7))
            check(rng.integers(2, 9, (40, 50)).astype(dtype), nodata=1.0)
            image = rng.normal(9, 1, (40, 50)).astype(dtype)
            check(image, nodata=float(histeq.equalize(image, backend="numpy")[5, 5]))


def probe_packed_counters():
    """The same for counters of 16 bits."""
    rng = np.random.default_rng(3)
    on_gpu = fake_cupy.ndarray.of
    fake_cupy.Machine.shuffled = 1
    machine(shared=1024 + 65536)
    image = rng.integers(0, 65536, (30, 40), np.uint16)
    assert np.array_equal(histeq.equalize(on_gpu(image)).array, histeq.equalize(image, backend="numpy"))
    machine(multiprocessors=1)
    for values in ([6], [7], [6, 7, 7]):
        image = rng.choice(np.array(values, np.uint16), (300, 1100))
        assert np.array_equal(
            histeq.histogram(on_gpu(image)).array, np.bincount(image.ravel(), minlength=65536)
        )
    # The low counter of a word wraps while the high one is full.
    both = np.repeat(np.array([7, 6], np.uint16), (65535, 65536))
    for _ in range(3):  # two images: one block for each
        counts = histeq.histogram(on_gpu(np.stack([both, both])), layout="NW").array
        assert np.array_equal(counts[0], np.bincount(both, minlength=65536))


def probe_far():
    """The same for pixels that are far from one another."""
    rng = np.random.default_rng(4)
    space = mmap.mmap(-1, 5 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # no reserve
    memory = np.frombuffer(space, np.uint8)
    image = np.lib.stride_tricks.as_strided(memory, (2, 64), (4 << 30, 1))
    image[...] = rng.integers(0, 99, image.shape)
    for one in (image, image[:, ::2]):
        result = histeq.equalize(fake_cupy.ndarray.of(one)).array
        assert np.array_equal(result, histeq.equalize(one, backend="numpy"))


def probe_one_launch():
    """The same for what goes in one launch, which has units of its own."""
    rng = np.random.default_rng(1)

    def check(image, **keywords):
        result = histeq.equalize(fake_cupy.ndarray.of(image), **keywords).array
        assert np.array_equal(result, histeq.equalize(image, backend="numpy", **keywords))

    fake_cupy.Machine.shuffled = 1
    for seed in range(8):
        fake_cupy.Machine.seed = seed
        machine(cooperates=1)
        for _ in range(2):
            check(rng.integers(0, 200, (400, 403), np.uint8))
        check(rng.integers(0, 200, (40, 43), np.uint8), nodata=255)
        machine(multiprocessors=16, cache=20_000)
        check(rng.integers(0, 200, (5, 60, 103), np.uint8), layout="NHW")
        check(rng.integers(0, 200, (5, 60, 103), np.uint8), layout="NHW", nodata=255)
    machine(multiprocessors=8, cache=900_000)
    check(rng.integers(0, 200, (2, 600, 1001), np.uint8), layout="NHW")
    machine(shared=101376, multiprocessors=8, cache=900_000)
    check(rng.integers(0, 200, (2, 600, 1001), np.uint8), layout="NHW")


def probe_clahe():
    """The same for CLAHE."""
    rng = np.random.default_rng(2)
    on_gpu = fake_cupy.ndarray.of
    fake_cupy.Machine.shuffled = 1
    for seed in range(4):
        fake_cupy.Machine.seed = seed
        for dtype in ("uint8", "uint16"):
            image = rng.integers(0, 256, (61, 87)).astype(dtype)
            mask = rng.random(image.shape) < 0.1
            mask[:40, 20:50] = False  # three tiles in a row: the middle one is as far from either side
            for keywords in ({"clip_limit": 2.0}, {"clip_limit": 0.01}, {"clip_limit": 0.0, "mask": mask}):
                keywords |= {"tiles": (5, 9), "bins": 256}
                lent = {n: on_gpu(v) if n == "mask" else v for n, v in keywords.items()}
                result = histeq.clahe(on_gpu(image), **lent).array
                assert np.array_equal(result, histeq.clahe(image, backend="numpy", **keywords))
        for keywords in ({"value_range": (20, 200)}, {"out_dtype": np.uint8, "bins": 256}):
            result = histeq.clahe(on_gpu(image), tiles=(2, 3), **keywords).array
            assert np.array_equal(result, histeq.clahe(image, tiles=(2, 3), backend="numpy", **keywords))
        for dtype, keywords in (
            ("uint8", {"nodata": 100}),
            ("uint8", {"nodata": 100, "layout": "HWC"}),
            ("float32", {"nodata": 1.0}),
        ):
            image = rng.integers(120, 250, (30, 40)).astype(dtype)
            keywords = {**keywords, "tiles": (2, 2), "out_range": (0, 1) if dtype == "float32" else (20, 160)}
            image = np.repeat(image[..., None], 3, axis=2) if "layout" in keywords else image
            result = histeq.clahe(on_gpu(image), **keywords).array
            assert np.array_equal(result, histeq.clahe(image, backend="numpy", **keywords))


# By file, or by what is wrong.
def probe_window():
    """Frames of a video: cuts, windows that move, ranges, planes, blends and tiles."""
    rng = np.random.default_rng(3)
    for dtype, options in (
        ("uint8", {"window": 4}),
        ("uint8", {"window": 4, "centered": True}),
        ("int16", {"window": 3, "value_range": (-300, 200), "strength": 0.3}),
        ("uint8", {"window": 3, "layout": "CHW", "color": "channels", "value_range": (20, 220)}),
        ("uint8", {"window": 3, "method": "clahe", "tiles": (2, 2)}),
    ):
        shape = (2, 12, 17) if "layout" in options else (12, 17)
        low = (0, 100, 180, 20) if dtype == "uint8" else (-300, -200, 90, -100)
        clip = [rng.integers(low[t // 6], low[t // 6] + 60, shape).astype(dtype) for t in range(20)]
        expected = histeq.Equalizer(backend="numpy", **options)
        found = histeq.Equalizer(**options)
        mapped = [frame.get() for frame in found.frames(map(sys.modules["cupy"].asarray, clip))]
        assert all(map(np.array_equal, mapped, expected.frames(clip)))
        assert found.cut_frames == expected.cut_frames
        assert found.cut_frames[-1] == 18
        assert np.array_equal(found.counts.get(), expected.counts)


PROBES = {
    "fused.cu": probe_one_launch, "fused_clusters.cu": probe_one_launch, "clahe.cu": probe_clahe,
    "window.cu": probe_window,
    "32-bit offsets of rows": probe_far, "32-bit offsets of pixels": probe_far,
    "an overflow of a low counter is not handed over": probe_packed_counters,
    "a carry out of the word is lost": probe_packed_counters,
    "a borrow of the word is lost": probe_packed_counters,
    "overflow is thought impossible too soon": probe_packed_counters,
    "the wrong slice": probe_packed_counters,
}  # fmt: skip


def caught(replaced, probe):
    """Tell what a probe says with some units replaced; None: all is well."""
    fake_cupy.RawModule.units = replaced
    try:
        with fake_cupy.installed(), np.errstate(all="ignore"):
            machine()
            probe()
    except (AssertionError, host.LaunchError) as error:
        return str(error).splitlines()[0][:60] if str(error) else "wrong pixels"
    except (IndexError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:60]
    finally:
        fake_cupy.RawModule.units = None
    return None


def main():
    right = {module: cuda.source(module) for module in cuda.MODULES}
    libraries = {module: host.load(module) for module in cuda.MODULES}
    for one in {probe, *PROBES.values()}:
        assert caught(libraries, one) is None, "the probes fail on the right kernels"
    missed = 0
    for what, file, text, fault in FAULTS:
        start = time.perf_counter()
        units, planted = dict(libraries), 0
        for module in UNITS.get(what, UNITS.get(file, (file.partition(".")[0],))):
            if text in right[module]:
                planted += 1
                units[module] = host.build(
                    right[module].replace(text, fault), cuda.kernels(module), keep=False
                )
        assert planted, f"{what}: the text is not in {file} any more"
        result = caught(units, PROBES.get(what, PROBES.get(file, probe)))
        missed += result is None
        verdict = "MISSED" if result is None else f"caught ({result})"
        print(f"{what:58} {verdict}  {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
