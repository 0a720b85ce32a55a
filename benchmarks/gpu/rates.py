"""The two rates that decide how fast we are: python -m benchmarks.gpu.rates. The first step on a GPU.

How many counters a multiprocessor updates a clock: each lane of a warp in a bank of its own as in
`histogram_u8`, for different values and for equal ones, and lanes that meet in banks as in `histogram_u16`;
and how fast the L2 cache is read, for buffers of several sizes: from some size on it does not keep them.
`benchmarks/predict.py` assumes ranges of both.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import backend_device, cupy_module, describe, occasion
from benchmarks.gpu.timing import Clock

THREADS, BLOCKS = 512, 2
"""Threads of a block, and blocks of a multiprocessor."""
TURNS, COUNTED = 2000, 16
SIZES = tuple(n << 20 for n in (4, 8, 16, 24, 32, 48, 64, 96))
"""Bytes that are read again and again."""

SOURCE = """
typedef unsigned int u32;
extern __shared__ u32 counters[];  // 256 rows of a word for each lane

// Every thread updates its lane's counters of 16 values again and again, or, where `spread` is above 1, any
// counters: the lanes meet in banks. `cycles`: what each block took.
extern "C" __global__ void __launch_bounds__(512, 2) count(u32 turns, u32 spread, long long* cycles) {
    for (u32 i = threadIdx.x; i < 256 * 32; i += blockDim.x) counters[i] = 0;
    u32* at[16];
#pragma unroll
    for (u32 k = 0; k < 16; ++k) {
        const u32 own = (threadIdx.x * 37 + k * 101) * spread % 256 * 32 + threadIdx.x % 32;
        at[k] = &counters[spread > 1 ? (threadIdx.x * 16 + k) * spread >> 19 : own];
    }
    __syncthreads();
    const long long start = clock64();
#pragma unroll 1
    for (u32 turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (u32 k = 0; k < 16; ++k) atomicAdd(at[k], 1u);
    }
    __syncthreads();
    if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - start;
}

// All blocks read all vectors once, those of a block from another place on, past the L1 cache.
extern "C" __global__ void __launch_bounds__(512, 2) read(const uint4* from, u32 vectors, u32* sink) {
    const u32 step = gridDim.x * blockDim.x;
    u32 sum = 0;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i + 3 * step < vectors; i += 4 * step) {
        uint4 loaded[4];
#pragma unroll
        for (u32 k = 0; k < 4; ++k) loaded[k] = __ldcg(from + i + k * step);
#pragma unroll
        for (u32 k = 0; k < 4; ++k) sum += loaded[k].x ^ loaded[k].y ^ loaded[k].z ^ loaded[k].w;
    }
    if (sum == 0x12345678u) *sink = sum;
}
"""


def updates_a_clock(cupy: Any, module: Any, spread: int) -> float:
    """Return the counter updates a clock and multiprocessor, by what SOURCE says of `spread`."""
    blocks = BLOCKS * backend_device().multiprocessors
    cycles = cupy.zeros(blocks, np.int64)
    count = module.get_function("count")
    arguments = (np.uint32(TURNS), np.uint32(spread), cycles)
    for _ in range(3):  # the first ones wake the device up
        count((blocks,), (THREADS,), arguments, shared_mem=256 * 32 * 4)
    return BLOCKS * THREADS * TURNS * COUNTED / float(np.median(cycles.get()))


def bytes_a_second(cupy: Any, module: Any, clock: Clock, size: int) -> float:
    """Return how fast a buffer is read that was read just before."""
    blocks = BLOCKS * backend_device().multiprocessors
    step = blocks * THREADS * 4
    vectors = size // 16 // step * step  # whole turns of all blocks
    buffer, sink = cupy.zeros(size, np.uint8), cupy.zeros(1, np.uint32)
    read, arguments = module.get_function("read"), (buffer, np.uint32(vectors), sink)
    job = [lambda: read((blocks,), (THREADS,), arguments)] * 20
    return vectors * 16 / clock.graph(job)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.rates", description=__doc__)
    parser.add_argument("--json", metavar="FILE", type=Path, default=Path(".benchmarks", "rates.json"))
    parser.add_argument("--quick", action="store_true", help="time each shortly")
    options = parser.parse_args()
    cupy = cupy_module(stand_in=False)
    module = cupy.RawModule(code=SOURCE, options=("--std=c++17",))
    clock = Clock(cupy, 0.05 if options.quick else 0.15)
    record: dict[str, Any] = {"machine": {**describe(cupy), **occasion()}}
    record["counter_updates_a_clock"] = {
        "different values": updates_a_clock(cupy, module, 1),
        "one value": updates_a_clock(cupy, module, 0),
        "any bank": updates_a_clock(cupy, module, 2654435761),  # scatters them: 2.5 turns
    }
    record["l2_bytes_a_second"] = {size: bytes_a_second(cupy, module, clock, size) for size in SIZES}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n")
    for values, updates in record["counter_updates_a_clock"].items():
        print(f"counters, {values}: {updates:.1f} updates a clock and multiprocessor")
    for size, rate in record["l2_bytes_a_second"].items():
        print(f"{size >> 20} MiB read again and again: {rate / 1e12:.2f} TB/s")


if __name__ == "__main__":
    main()
