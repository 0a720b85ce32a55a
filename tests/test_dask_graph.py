"""Reading a Dask array twice: what is copied, what waits for what, and how much is held."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import Task, TaskRef
from dask_sources import Live, live_bytes, read_from, sources

from histeq._dask.graph import Source, add, array_of, chunks_of, small_name, tree

CHUNK = 8
IMAGE = np.random.default_rng(1).integers(0, 256, (12 * CHUNK, 12 * CHUNK), np.uint8)
KINDS = list(sources(IMAGE, Live(), CHUNK))


def count(chunk):
    return np.array([chunk.size])


def scaled(x):
    """Return an array times the sum of its pixels: as simple as what needs two readings can be."""
    name, partial = f"scaled-{x.name}", small_name("count", x.name)
    counts = {(partial, *at): Task((partial, *at), count, TaskRef(key)) for at, key in chunks_of(x)}
    total = small_name("sum", x.name)
    again = Source(x).reread({key: [total] for _, key in chunks_of(x)}, total)
    tasks = {
        (name, *at): Task((name, *at), lambda c, n: c * n.sum(), TaskRef(again.keys[key]), TaskRef(total))
        for at, key in chunks_of(x)
    }
    small = {**counts, **tree(list(counts), total, add)}
    return array_of(name, {**small, **again.tasks, **tasks}, x.chunks, x._meta * 1, [x])


@pytest.mark.parametrize("kind", KINDS)
def test_holds_few_chunks(kind):
    live = Live()
    x = sources(IMAGE, live, CHUNK)[kind]
    result = scaled(x)
    assert (result.compute(scheduler="sync") == IMAGE * np.int64(IMAGE.size)).all()
    made, most = live_bytes(result, live)
    once, _ = live_bytes(x, live)
    assert made == 2 * once
    assert most <= 0.02 * IMAGE.nbytes


def test_overlapping_chunks_are_held_as_dask_holds_them():
    live = Live()
    x = sources(IMAGE, live, CHUNK)["store"].map_overlap(lambda c: c, depth=1, boundary="reflect")
    _, alone = live_bytes(x, live)
    made, most = live_bytes(scaled(x), live)
    assert made == 2 * IMAGE.nbytes
    assert most <= 2 * alone


def test_few_tasks_a_chunk():
    for kind in ("store", "blockwise", "arithmetic"):
        x = sources(IMAGE, Live(), CHUNK)[kind]
        (result,) = dask.optimize(scaled(x))
        assert len(dict(result.__dask_graph__())) <= 4.2 * x.npartitions


@pytest.mark.parametrize("more", [lambda x: x, lambda x: x + 0, lambda x: x[1:, 2:], lambda x: x.rechunk(12)])
def test_what_is_persisted_is_not_read(more):
    live = Live()
    x = more(sources(IMAGE, live, CHUNK)["sliced"].persist(scheduler="sync"))
    made, _ = live_bytes(scaled(x), live)
    assert made == 0


def test_a_crop_reads_only_its_own_chunks_again():
    live = Live()
    x = sources(IMAGE, live, CHUNK)["store"]
    made, _ = live_bytes(scaled(x)[: CHUNK + 1, :CHUNK], live)
    assert made == IMAGE.nbytes + 2 * CHUNK**2


def test_the_same_call_gives_the_same_tasks():
    live = Live()
    a, b = (scaled(sources(IMAGE, live, CHUNK)["store"].persist(scheduler="sync") + 0) for _ in range(2))
    x = sources(IMAGE, live, CHUNK)["rechunked"]
    assert set(scaled(x).__dask_graph__()) == set(scaled(x).__dask_graph__())
    assert a.name != b.name  # two objects that were read: nothing says that they are alike


def test_counts_are_not_made_again_for_a_second_step():
    live = Live()
    x = sources(IMAGE, live, CHUNK)["store"]
    made, most = live_bytes(scaled(scaled(x)), live)
    # Counting reads once; what is scaled is made twice, once to be counted.
    assert made == 3 * IMAGE.nbytes
    assert most <= 0.02 * IMAGE.nbytes


@pytest.mark.parametrize("first", [lambda y: y, lambda y: dask.optimize(y)[0]])
def test_small_values_that_are_fused_are_found(first):
    x = da.from_array(IMAGE, chunks=CHUNK)
    name = small_name("one")
    small = array_of(name, {(name, 0): Task((name, 0), np.ones, 1)}, ((1,),), np.ones(0), [])
    y = first(x * (small + 1)[:, None])
    assert (scaled(y).compute(scheduler="sync") == 2.0 * IMAGE * IMAGE.size).all()


def test_a_chunk_waits_only_for_what_it_is_told_to():
    x = read_from(IMAGE, Live(), CHUNK).rechunk((CHUNK, 2 * CHUNK))
    keys = [key for _, key in chunks_of(x)][:2]
    tables = {("table", number): Task(("table", number), int) for number in range(2)}
    copy = Source(x).reread(dict(zip(keys, [[key] for key in tables], strict=True)), "token")
    waiting = [set(task.dependencies) & set(tables) for task in copy.tasks.values()]
    assert sum(map(bool, waiting)) == 4
    assert all(len(found) <= 1 for found in waiting)
    shared = x.rechunk((CHUNK, CHUNK // 2))
    keys = [key for _, key in chunks_of(shared)][:2]  # halves of one chunk that is read
    copy = Source(shared).reread(dict(zip(keys, [[key] for key in tables], strict=True)), "token")
    assert any(set(tables) <= task.dependencies for task in copy.tasks.values())


def test_what_is_annotated_stays_so():
    with dask.annotate(resources={"GPU": 1}):
        x = read_from(IMAGE, Live(), CHUNK)
    result = scaled(x[1:])
    assert result.__dask_graph__().layers[result.name].annotations == {"resources": {"GPU": 1}}
    with dask.annotate(priority=3):
        y = read_from(IMAGE, Live(), CHUNK)
    both = scaled(x + y)
    assert both.__dask_graph__().layers[both.name].annotations is None


@pytest.mark.parametrize("number", [1, 2, 16, 17, 300])
def test_tree(number):
    values = {("v", i): Task(("v", i), np.array, [i, 1]) for i in range(number)}
    tasks = tree(list(values), ("total", 0), add)
    found = dask.get({**values, **tasks}, ("total", 0))
    assert found.tolist() == [sum(range(number)), number]
    assert max(len(task.dependencies) for task in tasks.values()) <= 16


def test_adding_leaves_what_is_added_alone():
    counts = [np.full(3, n) for n in (1, 2, 3)]
    assert add(*counts).tolist() == [6, 6, 6]
    assert [c.tolist() for c in counts] == [[1] * 3, [2] * 3, [3] * 3]


def test_is_pickled():
    x = da.from_array(IMAGE, chunks=CHUNK)
    result = pickle.loads(pickle.dumps(x + 1))
    assert (scaled(result).compute(scheduler="sync") == (IMAGE + np.uint8(1)) * np.int64(IMAGE.size)).all()
