"""Plant faults in the CUDA kernels, one at a time, and see whether the tests notice.

    python tests/mutate_cuda.py [--third] [FILE ...]

By default all faults, or those of some files; --third plants every third one, and checks of the others that
their texts are there. Each fault is a replacement in one source file. The faulty unit is built for the CPU and put in place of the
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
     "counters.clear();\n        __syncthreads();", "counters.clear();"),
    ("no barrier between counting and folding", "counters.cuh",
     "count_plane(Plane(at, index), counters);\n        __syncthreads();",
     "count_plane(Plane(at, index), counters);"),
    ("the tail of a row is dropped", "common.cuh",
     "b < min(from + VECTOR, bytes); b += sizeof(T))\n                    single",
     "b < min(from + VECTOR, bytes) && from + VECTOR <= bytes; b += sizeof(T))\n                    single"),
    ("the head of a row is dropped", "common.cuh",
     "for (i64 b = max(from, 0ll); b < min(from + VECTOR, bytes); b += sizeof(T))\n                    single",
     "for (i64 b = from < 0 ? bytes : from; b < min(from + VECTOR, bytes); b += sizeof(T))\n"
     "                    single"),
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
    ("the wrong slice", "sliced.cuh", "first(65536 / slices * slice)", "first(0)"),
    ("values of other slices count in the last bin", "sliced.cuh", "min(place, bins)]", "min(place, bins - 1)]"),
    ("the upper pixel of a word is shifted too little", "sliced.cuh", "places >> 16", "places >> 15"),
    ("the upper pixel of a word spoils the lower one", "sliced.cuh", "(in_slice >> 6 & 0x001f001fu)", "(in_slice >> 6 & 0x001fffffu)"),
    ("counters are folded in another order", "sliced.cuh", "counters[spread(bin)]", "counters[bin]"),
    ("a sum goes to the chunk of another slice", "sliced.cuh", "65536 + first / CHUNK + chunk", "65536 + chunk"),
    ("slices are folded before all is counted", "sliced.cuh",
     "count_plane(Plane(at, index), counters);\n        __syncthreads();", "count_plane(Plane(at, index), counters);"),
    ("a chunk forgets the one before it", "sliced.cuh", "if (other < chunk) before", "if (other + 1 < chunk) before"),
    ("a lane forgets those before it", "sliced.cuh", "upto += warp_scan(sum) - sum;", ""),
    ("nodata is in the sums of chunks", "sliced.cuh", "? left_out : 0", "? 0 : 0"),
    ("the last bin is taken for the first", "sliced.cuh", "found = LAST ? max(found, other) : min(found, other)", "found = max(found, other)"),
    ("a chunk is cleared while others look into it", "sliced.cuh", "if (clears) counts", "counts"),
    ("the chunk of nodata is cleared while others look into it", "sliced.cuh", " || chunk == nodata; }", "; }"),
    ("the sums of chunks are not reset", "sliced.cuh", "counts[65536 + i] = 0", ""),
    ("the chunks that others looked into are not reset", "sliced.cuh", "counts[first * CHUNK + i] = counts[last", "counts[last"),
    ("a slice too few is counted", "fused_u16.cu", "ticket % slices, slices", "ticket % (slices - 1), slices"),
    ("a chunk too few", "fused_u16.cu", "making = CHUNKS / warps()", "making = CHUNKS / warps() - 1"),
    ("the last part of 16 bits is not mapped", "fused_u16.cu", "(all - 1) / work.stretches + 1", "all / work.stretches"),
    ("tables are made before all slices are counted", "fused_u16.cu",
     "wait_for_items(counted, counting);", "__syncthreads();"),
    ("tables wait for a slice too few", "fused_u16.cu",
     "wait_for_items(counted, counting);", "wait_for_items(counted, counting - 1);"),
    ("pixels are mapped before all chunks are made", "fused_u16.cu", "wait_for_items(made, making);", "__syncthreads();"),
    ("an item is said to be done while threads work at it", "fused_u16.cu", "void item_is_done(u32* done) {\n    __syncthreads();", "void item_is_done(u32* done) {"),
    ("the count of items of 16 bits is not reset", "fused_u16.cu", "*counted = *made = 0", "*counted = 0"),
    ("counts of 16 bits are not reset", "fused_u16.cu", "looked_into(work.counts, rule).clear(work.counts)", ""),
    ("a word of the table is where another is looked up", "lookup.cuh", "place ^ (place >> 6 & 31u)]", "place]"),
    ("the two levels of a word are exchanged", "lookup.cuh", "= low | high << 16;", "= high | low << 16;"),
    ("a table of int16 is not turned round", "lookup.cuh", "word ^ all.flip / 2", "word"),
    ("the upper level of a word is that of the lower pixel", "lookup.cuh", "levels[places >> 16]) << 16", "levels[places & 0xffffu]) << 16"),
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
    ("a word of a lane is missing in the table", "lookup.cuh",
     "uint4{level, level, level, level}", "uint4{level, level, level, 0}"),
    ("a word of the table is in another row", "lookup.cuh", "rows[i] = uint4", "rows[i ^ (i % 64 == 5 ? 8 : 0)] = uint4"),
    ("the levels of a word in another order", "lookup.cuh", "0x5410", "0x1054"),
    ("the pixels of a word in another order", "common.cuh", "0x4440 + BYTE", "0x4440 + (BYTE ^ 1)"),
    ("a counter is not cleared", "counters.cuh", "all[i] = uint4{0, 0, 0, 0};", "if (i) all[i] = uint4{0, 0, 0, 0};"),
    ("half the copies of a counter are left out", "counters.cuh", "int distance = 4; distance > 0", "int distance = 4; distance > 1"),
    ("copies of a counter are added up twice", "counters.cuh", "if (sum && i % 8 == 0)", "if (sum && (i % 8 == 0 || i == 9))"),
    ("a part is a stretch too short", "common.cuh", "(part + 1) * length}", "(part + 1) * length - 1}"),
    ("a part too few", "fused.cu", "+ work.stretches - 1) /", ") /"),
    ("a row is skipped", "common.cuh", "stretch >= in_row) stretch -= in_row, ++row", "stretch > in_row) stretch -= in_row, ++row"),
    ("a layer is skipped", "common.cuh", "if (row >= rows) row -= rows, ++layer;", ""),
    ("rows backwards are skipped", "common.cuh", "if (stretch < 0) stretch += in_row, --row;", ""),
    ("layers backwards are skipped", "common.cuh", "if (row < 0) row += rows, --layer;", ""),
    ("planes are mapped before they are counted", "fused.cu", "< parts) __nanosleep", "< 0) __nanosleep"),
    ("a plane is thought counted by one part too few", "fused.cu", "< parts) __nanosleep", "+ 1 < parts) __nanosleep"),
    ("a plane is never thought counted", "fused.cu", "< parts) __nanosleep", "< parts + 1) __nanosleep"),
    ("a part is said to be counted too early", "fused.cu",
     "            counters.fold_into(counts);\n            ticket = announced(next);\n            if (threadIdx.x == 0) {",
     "            if (threadIdx.x == 0) atomicAdd(&counted[item.plane], 1u);\n            counters.fold_into(counts);\n"
     "            ticket = announced(next);\n            if (false) {"),
    ("tickets out of order", "fused.cu", "const Item item(work, ticket, parts);", "const Item item(work, items - 1 - ticket, parts);"),
    ("a plane is mapped before its turn", "fused.cu", "plane = later % 2 ? later / 2", "plane = later % 2 ? lag + later / 2 + 1"),
    ("the last planes are not mapped", "fused.cu", "plane = later - (planes - lag);", "plane = min(later - (planes - lag), planes - lag);"),
    ("the next ticket is not reset", "fused.cu", "items + gridDim.x - 1", "items + gridDim.x"),
    ("the parts that were mapped are not reset", "fused.cu", "atomicInc(&taken[item.plane], parts - 1)", "atomicAdd(&taken[item.plane], 1u)"),
    ("the parts that were counted are not reset", "fused.cu", "if (threadIdx.x == 0) counted[item.plane] = 0;", ""),
    ("the counts of a plane are not reset", "fused.cu", "counts[bin] = 0;", ""),
    ("counts are cleared while others need them", "fused.cu", "is_last = found == parts - 1", "is_last = found == 0"),
    ("no barrier between a plane's counts and its table", "fused.cu",
     "                __threadfence();\n            }\n            __syncthreads();", "                __threadfence();\n            }"),
    ("no barrier between a plane's table and its copies", "fused.cu",
     "write_table(counts, rule, levels);\n            __syncthreads();", "write_table(counts, rule, levels);"),
    ("no barrier before the copies are used", "fused.cu",
     "parts - 1);\n            __syncthreads();", "parts - 1);"),
    ("no barrier between clearing and counting a part", "fused.cu",
     "counters.clear();\n                __syncthreads();", "counters.clear();"),
    ("counters are thought clear", "fused.cu", "is_clear = false;", ""),
    ("no barrier between counting and folding a part", "fused.cu",
     "pixels, counters);\n            __syncthreads();", "pixels, counters);"),
    ("no barrier behind an item", "fused.cu",
     "ticket = ticket;\n    __syncthreads();", "ticket = ticket;"),
    ("unaligned results are stored as aligned", "lookup.cuh",
     "reinterpret_cast<u64>(target) % VECTOR == 0", "true"),
    ("the sign bit of int16 is not flipped", "common.cuh", "return value ^ flip;", "return value;"),
    ("the counts of int8 begin at 0", "counters.cuh", "counts[value ^ flip]", "counts[value]"),
    ("values out of range count in a tile", "clahe.cu", "if (bin < levels.bins && value != nodata) atomicAdd(&counts[bin], sum);",
     "if (value != nodata) atomicAdd(&counts[min(bin, static_cast<u32>(levels.bins - 1))], sum);"),
    ("nodata counts in a tile", "clahe.cu", "if (bin < levels.bins && value != nodata)", "if (bin < levels.bins)"),
    ("nodata of 16 bits counts in a tile", "clahe.cu", "add(value == nodata ? ~0u : bin)", "add(bin)"),
    ("tiles of int8 count from 0", "clahe.cu",
     "levels.bin(bin_of(value, static_cast<u32>(levels.flip)));\n            if", "levels.bin(value);\n            if"),
    ("rows of a tile are thought aligned", "clahe.cu", "-static_cast<u32>(reinterpret_cast<u64>(row)) % VECTOR", "0"),
    ("rows of a tile are thought to begin alike", "clahe.cu", "const bool alike = stride % VECTOR == 0;", "const bool alike = true;"),
    ("a vector ends in the next tile", "clahe.cu", "its < tile.rows && before <= behind;", "its < tile.rows;"),
    ("a vector ends beyond the image", "clahe.cu", "min(tiles.size[2], tiles.shape[2] - x)", "tiles.size[2]"),
    ("the rows of a tile end too late", "clahe.cu", "its < tile.rows && before <= behind;", "before <= behind;"),
    ("vectors beyond the image are not folded back", "clahe.cu", "tile.row(its) * stride", "min(tile.y + its, tile.high - 1) * stride"),
    ("the pixels before a vector are dropped", "clahe.cu", "i < before / SIZE ? i : i + skipped", "i + skipped"),
    ("pixels beside vectors are missed in some rows", "clahe.cu",
     "tile.columns - vectors.count(vectors.most)", "tile.columns - vectors.count(vectors.least)"),
    ("threads that are left over count", "clahe.cu",
     "mine < abreast ? static_cast<i64>(blockIdx.x) * abreast + mine : rows;", "static_cast<i64>(blockIdx.x) * abreast + mine;"),
    ("every layer of a tile is the first", "clahe.cu", "folded(z + i, tiles.shape[0])", "z"),
    ("a tile's mask is ignored", "clahe.cu", "tile.mask == nullptr || masked[", "true || masked["),
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
    ("the rest of what is clipped is lost", "clahe.cu", "at % every == 0 && at / every < rest", "false"),
    ("a warp begins without the rest that those before it got", "clahe.cu", " + min(some, rest);", ";"),
    ("a warp begins with what those before it lost", "clahe.cu", "return counted - beyond +", "return counted +"),
    ("a warp begins without its first bin", "clahe.cu", "mine.begin + lane_id(); start < mine.end", "mine.begin + WARP + lane_id(); start < mine.end"),
    ("a clip limit of one pixel at the least", "clahe.cu", "max(__double2ll_rz(limit), 1ll)", "__double2ll_rz(limit)"),
    ("the sums of a tile mix with the next ones", "clahe.cu",
     "    __syncthreads();  // nobody reads the scratch's former content any more\n"
     "    if (lane_id() == 0) scratch()->sums", "    if (lane_id() == 0) scratch()->sums"),
    ("a tile's counts are not reset", "clahe.cu", "counts[bin] = 0;", ""),
    ("a weight after its limit", "clahe.cu", "int below = __float2int_rd(at),", "int below = max(__float2int_rd(at), 0),"),
    ("tiles counted as wide as high", "clahe.cu", "y) * tiles.held[2] *", "y) * tiles.held[1] *"),
    ("another of two nearest tiles", "clahe.cu", "other < tile));", "other > tile));"),
    ("another of two nearest tiles in a row", "clahe.cu", "after - x < x - found[x]", "after - x <= x - found[x]"),
    ("the wrong slice of a tile's bins", "counters.cuh", "blockIdx.z * length", "0"),
    ("bins of another slice count", "counters.cuh",
     "min(bin, static_cast<u32>(bins)) * copies", "bin % static_cast<u32>(bins) * copies"),
    ("a table's row of bins forgets the one before it", "clahe.cu", "upto += __shfl_sync(0xffffffffu, scanned[i]", "if (i) upto += __shfl_sync(0xffffffffu, scanned[i]"),
    ("the tables of a cell are exchanged", "cells.cu", "table_at(y.before, x.after),\n", "table_at(y.after, x.before),\n"),
    ("an entry lies in another lane of its word", "cells.cu", "<< i * BITS", "<< (i ^ 1) * BITS"),
    ("the entry of another table is read", "cells.cu", "0x7440 + which", "0x7440 + (which | 1)"),
    ("the entry of another table of 16 bits is read", "cells.cu", "which / 2 * 32", "0"),
    ("levels of a cell are truncated", "cells.cu", "add(level, 12582912.0f)", "add(subtract(level, 0.5f), 12582912.0f)"),
    ("cells end where tiles do", "cells.cu", "(2 * below + 1) * tiles.size[axis] + 1) / 2;  // but for rounding\n",
     "2 * (below + 1) * tiles.size[axis] + 1) / 2; return at;\n"),
    ("a cell begins a pixel too late", "cells.cu", "while (at > 0 && Between::below(at - 1, reciprocal) >= below) --at;", "++at;"),
    ("the next cell's tables come too early", "cells.cu", "        __syncthreads();  // nobody needs the last cell's tables any more\n", ""),
    ("a cell's tables are used before they are there", "cells.cu", "if (in_shared) four.load();\n        __syncthreads();", "if (in_shared) four.load();"),
    ("pixels beside a cell are written", "cells.cu", "if (i < first || i >= count) continue;", ""),
    ("groups are thought aligned", "cells.cu", "unaligned % static_cast<i64>(sizeof(Few<T>)) == 0", "true"),
    ("blocks share a row of a cell", "cells.cu", "min(y.begin + (blockIdx.x + 1) * length, y.end)", "y.end - 1"),
    ("a cell's blends become nodata", "cells.cu", "if (becomes_nodata) result", "if (false) result"),
    ("nodata is blended in a cell", "cells.cu", "if (few.element[i] == levels.nodata) result.element[i] = few.element[i];", ""),
    ("a cell's 16 bits stay", "cells.cu", "const bool narrow = levels.narrow != 0;", "const bool narrow = false;"),
    ("a blend is fused", "clahe.cu", "return add(multiply(a, weight_a), multiply(b, weight_b));",
     "return fmaf(a, weight_a, b * weight_b);"),
]  # fmt: skip

# The units that a fault in a shared file is planted in; the others have the same text.
UNITS = {
    "sliced.cuh": ("histogram", "fused_u16"), "cells.cu": ("clahe",),
    "the wrong slice of a tile's bins": ("clahe",), "bins of another slice count": ("clahe",),
    "common.cuh": ("histogram", "lut"), "counters.cuh": ("histogram",), "rules.cuh": ("histogram",),
    "floats.cuh": ("float_bins",), "float_bins.cuh": ("float_bins",), "lookup.cuh": ("lut",),
    "groups of three channels begin anywhere": ("luma",), "a mask is thought aligned": ("histogram",),
    "a group of pixels too few": ("histogram",),
    "rows backwards are skipped": ("lut",), "layers backwards are skipped": ("lut",),
    **dict.fromkeys(
        (
            "a word of a lane is missing in the table", "a word of the table is in another row",
            "the levels of a word in another order", "the pixels of a word in another order",
            "a counter is not cleared", "half the copies of a counter are left out",
            "copies of a counter are added up twice", "a part is a stretch too short",
            "the counts of int8 begin at 0", "32-bit offsets of rows",
        ),
        ("fused",),
    ),
    "nodata is counted": ("fused",), "nodata is mapped": ("fused",), "other levels become nodata": ("fused",),
    "the nodata of int16 is taken for unsigned": ("fused_u16",),
    **dict.fromkeys(
        (
            "a word of the table is where another is looked up", "the two levels of a word are exchanged",
            "a table of int16 is not turned round", "the upper level of a word is that of the lower pixel",
        ),
        ("lut", "fused_u16"),
    ),
}  # fmt: skip


def machine(shared=232448, multiprocessors=3, together=4):
    """Make the device one of this kind."""
    fake_cupy.Machine.together = together
    fake_cupy.Machine.shared, fake_cupy.Machine.multiprocessors = shared, multiprocessors
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
                counts = histeq.histogram(on_gpu(piece))
                assert np.array_equal(counts.array, histeq.histogram(piece, backend="numpy"))
                table = histeq.lookup_table(counts, dtype=dtype)
                assert np.array_equal(histeq.apply(on_gpu(piece), table).array, target)
        line = np.zeros(31 * 16 + 1, np.uint8)
        line[-1] = 9
        check(line, mask=np.ones(line.shape, bool))
        check(rng.integers(0, 250, (300, 403), np.uint16))  # several blocks
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


def probe_wide():
    """The same for 16 bits."""
    rng = np.random.default_rng(3)

    def check(image, **keywords):
        result = histeq.equalize(fake_cupy.ndarray.of(image), **keywords).array
        assert np.array_equal(result, histeq.equalize(image, backend="numpy", **keywords))

    fake_cupy.Machine.shuffled = 1
    narrow = rng.integers(900, 9000, (30, 40), np.uint16)
    narrow[:9] = 1300  # nodata, in a chunk that is neither the first nor the last
    for seed, kind in enumerate(
        (
            {"multiprocessors": 1},
            {"shared": 101376},
            {"multiprocessors": 2},
            {"together": 1},
        )
    ):
        fake_cupy.Machine.seed = seed
        machine(**kind)
        for rule in ("opencv", "pillow", "numpy"):
            check(narrow, rule=rule, nodata=1300)
            check(np.stack([narrow, narrow // 2]), layout="NHW", rule=rule, nodata=1300)
        check(rng.integers(0, 65536, 23_000, np.uint16))
        check((rng.integers(0, 4096, 23_000, np.uint16) << 4).view(np.int16))
        assert (
            not importlib.import_module("histeq._backends.cupy.device")
            .device(0)
            .workspace()
            ._memory["counts"]
            .array.any()
        )


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


def probe_rows():
    """The same for layers of rows that are apart, of several stretches."""
    rng = np.random.default_rng(6)
    machine(multiprocessors=1)
    for width in (2050, 4100, 6200):
        layers = rng.integers(0, 200, (3, 9, width), np.uint8)[:, 1:, 3:]
        counts = histeq.histogram(fake_cupy.ndarray.of(layers), layout="DHW")
        assert np.array_equal(counts.array, histeq.histogram(layers, layout="DHW", backend="numpy"))
        table = histeq.lookup_table(counts, dtype=np.uint8)
        mapped = histeq.apply(fake_cupy.ndarray.of(layers), table, layout="DHW").array
        assert np.array_equal(mapped, table.array[layers])


def probe_one_launch():
    """The same for grey images of 8 bits, which have a kernel of their own."""
    rng = np.random.default_rng(1)

    def check(image, **keywords):
        result = histeq.equalize(fake_cupy.ndarray.of(image), **keywords).array
        assert np.array_equal(result, histeq.equalize(image, backend="numpy", **keywords))

    fake_cupy.Machine.shuffled = 1
    frames = rng.integers(0, 200, (5, 60, 103), np.uint8)
    image = rng.integers(0, 200, (150, 503), np.uint8)
    for seed in range(3):
        fake_cupy.Machine.seed = seed
        machine(multiprocessors=1, together=1 + seed)
        for nodata in (None, 255):
            check(frames, layout="NHW", nodata=nodata)
        for _ in range(2):
            check(image)
        check(image[:, 1:].view(np.int8))
        check(np.stack([image, image // 2, image // 3]), layout="NHW")


def probe_cells():
    """The same for CLAHE by cells."""
    rng = np.random.default_rng(6)
    fake_cupy.Machine.shuffled = 1
    importlib.import_module("histeq._backends.cupy.clahe")._CELL = 1
    importlib.import_module("histeq._backends.cupy.clahe")._CELL_ROWS = 4
    importlib.import_module("histeq._backends.cupy.device").GRID_Y = 2
    for seed in range(2):
        fake_cupy.Machine.seed = seed
        machine(multiprocessors=1 + seed)
        for dtype in ("uint8", "int16"):
            whole = rng.integers(0, 100, (44, 80)).astype(dtype)
            for image, tiles in ((whole, (2, 3)), (whole[:, 3:62], (3, 1)), (whole[1:, 1:3], (4, 2))):
                for keywords in (
                    {"bins": 256},
                    {"value_range": (30, 90), "nodata": 40},
                    {"bins": 16, "out_dtype": np.uint8},
                ):
                    result = histeq.clahe(fake_cupy.ndarray.of(image), tiles=tiles, **keywords).array
                    assert np.array_equal(
                        result, histeq.clahe(image, tiles=tiles, backend="numpy", **keywords)
                    )
    image = rng.integers(0, 100, (40, 50), np.uint16) * 650
    result = histeq.clahe(fake_cupy.ndarray.of(image), tiles=(1, 1)).array
    assert np.array_equal(result, histeq.clahe(image, tiles=(1, 1), backend="numpy"))


def probe_tiles():
    """The same for the counts of tiles."""
    rng = np.random.default_rng(7)
    fake_cupy.Machine.shuffled = 1
    machine(multiprocessors=20)
    for dtype in ("uint8", "int8", "int16"):
        memory = rng.integers(0, 100, (60, 272)).astype(dtype)
        unlike = rng.integers(0, 100, (70, 141)).astype(dtype)
        few = {"bins": 64, "tiles": (1, 2)}
        for image, keywords in (
            (memory, few),
            (memory[:, 3:], {"tiles": (7, 2), "nodata": 50, "bins": 64}),
            (unlike, {**few, "value_range": (20, 90), "bins": None}),
            (unlike[:, :96], few),
            (unlike.reshape(7, 10, 141), {"layout": "DHW", "tiles": (2, 1, 2), "bins": 64}),
            (memory, {**few, "mask": memory > 30}),
        ):
            lent = {n: fake_cupy.ndarray.of(v) if n == "mask" else v for n, v in keywords.items()}
            result = histeq.tile_histograms(fake_cupy.ndarray.of(image), **lent).counts.array
            expected = histeq.tile_histograms(image, backend="numpy", **keywords).counts
            assert np.array_equal(result, expected)


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
    "fused.cu": probe_one_launch, "clahe.cu": probe_clahe,
    "window.cu": probe_window,
    "32-bit offsets of rows": probe_far, "32-bit offsets of pixels": probe_far,
    "sliced.cuh": probe_wide, "fused_u16.cu": probe_wide, "cells.cu": probe_cells,
    "the wrong slice of a tile's bins": probe_cells, "bins of another slice count": probe_cells,
    "a table's row of bins forgets the one before it": probe_cells,
    **dict.fromkeys(
        (
            "values out of range count in a tile", "nodata counts in a tile", "nodata of 16 bits counts in a tile",
            "tiles of int8 count from 0", "rows of a tile are thought aligned",
            "rows of a tile are thought to begin alike", "a vector ends in the next tile",
            "a vector ends beyond the image", "the rows of a tile end too late",
            "vectors beyond the image are not folded back", "the pixels before a vector are dropped",
            "pixels beside vectors are missed in some rows", "threads that are left over count",
            "every layer of a tile is the first", "a tile's mask is ignored",
        ),
        probe_tiles,
    ),
    "a word of the table is where another is looked up": probe_wide,
    "the two levels of a word are exchanged": probe_wide,
    "a table of int16 is not turned round": probe_wide,
    "the upper level of a word is that of the lower pixel": probe_wide,
    **dict.fromkeys(("nodata is counted", "nodata is mapped", "other levels become nodata"), probe),
    "a row is skipped": probe_rows, "a layer is skipped": probe_rows,
    "rows backwards are skipped": probe_rows, "layers backwards are skipped": probe_rows,
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
    third, files = "--third" in sys.argv, [name for name in sys.argv[1:] if name != "--third"]
    missed = planted = 0
    faults = [fault for fault in FAULTS if fault[1] in (files or fault[1])]
    for number, (what, file, text, fault) in enumerate(faults):
        start = time.perf_counter()
        modules = UNITS.get(what, UNITS.get(file, (file.partition(".")[0],)))
        places = [module for module in modules if text in right[module]]
        assert places, f"{what}: the text is not in {file} any more"
        if third and number % 3:
            continue
        planted += 1
        units = dict(libraries)
        for module in places:
            faulty = right[module].replace(text, fault)
            units[module] = host.build(faulty, cuda.kernels(module), keep=False)
        default = probe_one_launch if UNITS.get(what) == ("fused",) else probe
        result = caught(units, PROBES.get(what, PROBES.get(file, default)))
        missed += result is None
        verdict = "MISSED" if result is None else f"caught ({result})"
        print(f"{what:58} {verdict}  {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{planted - missed} of {planted} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
