"""What Dask has to do for an image of terapixels: graphs built and scheduled, with kernels that do nothing.

    python -m benchmarks.scaling                       # 50 gigapixels, chunks of 4096 x 4096: two minutes
    python -m benchmarks.scaling --pixels 1e12 --chunk 16384
    python -m benchmarks.scaling --no-cluster

The graph is the one that ``dask.array.store`` runs for an equalized image. Each of its tasks is then replaced
by one that does nothing and depends on the same tasks, and Dask schedules them: on threads, and on a
LocalCluster of two processes, where functions and results travel. Beside the time that passed stands that of
the processor, of this process: on a busy machine it says more. docs/scaling.md says what follows.
"""

import argparse
import math
import os
import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask._task_spec import Alias, DataNode, Task, TaskRef
from dask.base import collections_to_expr

import histeq
from histeq._bench.machine import describe


class Anywhere:
    """An image of any size that is read from nowhere and written to nowhere."""

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, side: int) -> None:
        self.shape = (side, side)

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError("nothing is computed")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise NotImplementedError("nothing is computed")


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "map_blocks, for comparison": lambda x: x.map_blocks(np.invert, dtype=x.dtype),
    "equalize": histeq.equalize,
    "histogram, computed first": histeq.histogram,
    "apply, with its table": lambda x: histeq.apply(x, np.arange(256, dtype=np.uint8)),
    "CLAHE, 8 x 8 tiles": histeq.clahe,
    "CLAHE, tiles of 1024 pixels": lambda x: histeq.clahe(x, tile_size=1024),
}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.scaling", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--pixels", type=float, default=50e9)
    parser.add_argument("--chunk", type=int, default=4096, help="rows and columns of a chunk")
    parser.add_argument("--only", default="", metavar="PATTERN", help="operations whose name matches")
    parser.add_argument("--no-cluster", action="store_true", help="threads alone")
    arguments = parser.parse_args()
    about, side, load = describe(), math.isqrt(int(arguments.pixels)), os.getloadavg()[0]
    print(f"{about['cpu']}, {os.cpu_count()} cores, load {load:.1f}, dask {dask.__version__}, ", end="")
    print(f"{time.strftime('%Y-%m-%d')}; {side} x {side} pixels in chunks of {arguments.chunk} x ", end="")
    print(f"{arguments.chunk}\n")
    print("| graph | built | tasks | a chunk | pickled | scheduled on threads | on two processes |")
    print("|---|---|---|---|---|---|---|")
    client = None if arguments.no_cluster else cluster()
    for name, operation in OPERATIONS.items():
        if re.search(arguments.only, name):
            print(row(name, operation, side, arguments.chunk, client), flush=True)
    if client is not None:
        client.close()
        client.cluster.close()


def cluster() -> Any:
    from distributed import Client, LocalCluster

    processes = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    return Client(processes)


def row(name: str, operation: Callable[[Any], Any], side: int, chunk: int, client: Any) -> str:
    """Build the graph of an operation and schedule it; return its row of the table."""
    source = da.from_array(Anywhere(side), chunks=chunk, name="source", meta=np.empty((0, 0), np.uint8))
    start = clocks()
    result = operation(source)
    stored = result if result.ndim == 1 else da.store(result, Anywhere(side), lock=False, compute=False)
    graph = dict(collections_to_expr([stored], True).optimize().__dask_graph__())
    built = since(start)
    pickled = size(graph)
    keys = list(dask.core.flatten(stored.__dask_keys__()))
    empty = emptied(graph)
    tasks = sum(not isinstance(task, DataNode) for task in empty.values())
    start = clocks()
    dask.threaded.get(empty, keys)
    cells = [name, built, f"{tasks:,}", f"{tasks / source.npartitions:.1f}",
             f"{pickled / 1e6:.1f} MB", since(start)]  # fmt: skip
    if client is not None:
        start = clocks()
        with warnings.catch_warnings():  # large graphs are what this is about
            warnings.simplefilter("ignore")
            client.get(empty, keys)
        cells += [since(start)]
    return f"| {' | '.join(cells)} |"


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> str:
    """Return the seconds that passed, and those of the processor in this process."""
    return " / ".join(f"{now - then:.1f}" for now, then in zip(clocks(), start, strict=True)) + " s"


def size(graph: Any) -> int:
    """Return how many bytes a client sends for a graph."""
    from distributed.protocol import pickle

    return len(pickle.dumps(graph))


def emptied(graph: dict[Any, Any]) -> dict[Any, Any]:
    """Return a graph of the same keys and dependencies, in which nothing is done."""
    result: dict[Any, Any] = {}
    for key, task in graph.items():
        if isinstance(task, Alias):
            result[key] = task
        elif isinstance(task, DataNode):
            result[key] = DataNode(key, None)
        else:
            result[key] = Task(key, nothing, *map(TaskRef, task.dependencies))
    return result


def nothing(*_: Any) -> None:
    """Take what a task takes, and do nothing."""


if __name__ == "__main__":
    main()
