"""`with threads(n)`: how many threads a call may use, for the calls of one thread or task."""

import asyncio
import threading

import numpy as np
import pytest
from images import same

import histeq
from histeq._core import threads as _threads

LARGE = np.random.default_rng(0).integers(0, 256, (1500, 1400), np.uint8)  # worth several threads
CALLS = [
    histeq.equalize,
    lambda image: histeq.equalize(image, rule="pillow"),
    lambda image: histeq.equalize(image, mask=image > 100),
    histeq.histogram,
    histeq.clahe,
    histeq.tile_histograms,
]


@pytest.fixture(autouse=True)
def _three_threads():
    """Allow three threads, on whatever machine this is."""
    histeq.set_num_threads(3)
    yield
    histeq.set_num_threads(None)


@pytest.fixture
def helpers(monkeypatch):
    """Return a list to which every use of helping threads adds their number."""
    asked, real = [], _threads.helping.__init__

    def count(self, work, number, **options):
        asked.append(number)
        real(self, work, number, **options)

    monkeypatch.setattr(_threads.helping, "__init__", count)
    return asked


@pytest.mark.parametrize("call", CALLS)
def test_a_call_uses_no_more_threads(call, helpers):
    def used():
        helpers.clear()
        result = call(LARGE)
        return 1 + max(helpers, default=0), getattr(result, "counts", result)

    (many, expected), limited = used(), []
    for n in (1, 2):
        with histeq.threads(n):
            limited.append(used())
    assert [count for count, _ in limited] == [1, 2]
    assert many == 3
    assert all(same(result, expected) for _, result in limited)
    assert used()[0] == 3


@pytest.mark.parametrize("call", CALLS)
def test_no_thread_keeps_the_image(call):
    """Memory can be resized, or closed if it is shared, as soon as a call returns."""
    for _ in range(30):
        memory = bytearray(LARGE)
        call(np.frombuffer(memory, np.uint8).reshape(LARGE.shape))
        memory.append(0)  # a BufferError if there is a reference


def test_nested_blocks():
    seen = []
    with histeq.threads(5):
        seen.append(_threads.num_threads())
        with histeq.threads(2):
            seen.append(_threads.num_threads())
            with histeq.threads(None):
                seen.append(_threads.num_threads())
            seen.append(_threads.num_threads())
        histeq.set_num_threads(4)
        seen.append(_threads.num_threads())
    assert [*seen, _threads.num_threads()] == [5, 2, 3, 2, 5, 4]


def test_one_block_entered_again():
    block = histeq.threads(2)
    with block:
        with block:
            assert _threads.num_threads() == 2
        assert _threads.num_threads() == 2
    assert _threads.num_threads() == 3


def test_an_exception_ends_a_block():
    with pytest.raises(RuntimeError, match="ours"), histeq.threads(2):  # noqa: PT012, the block is what is tested
        assert _threads.num_threads() == 2
        raise RuntimeError("ours")
    assert _threads.num_threads() == 3


def test_each_thread_has_its_own():
    """Threads do not see each other's blocks, and one that is started inside a block does not inherit it."""
    barrier, seen = threading.Barrier(3), {}

    def work(n):
        before = _threads.num_threads()
        with histeq.threads(n):
            barrier.wait(10)
            seen[n] = before, _threads.num_threads()
            barrier.wait(10)

    with histeq.threads(7):
        workers = [threading.Thread(target=work, args=(n,)) for n in (1, 2)]
        for worker in workers:
            worker.start()
        barrier.wait(10)
        seen[7] = _threads.num_threads()
        barrier.wait(10)
        for worker in workers:
            worker.join()
    assert seen == {1: (3, 1), 2: (3, 2), 7: 7}


def test_each_task_has_its_own():
    async def work(n, seen):
        with histeq.threads(n):
            await asyncio.sleep(0.01)  # the other task enters its block
            seen.append((n, _threads.num_threads()))

    async def both():
        seen = []
        await asyncio.gather(work(1, seen), work(2, seen))
        return seen

    assert sorted(asyncio.run(both())) == [(1, 1), (2, 2)]


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ValueError, "n must be from 1 to 4096, got 0"),
        (-1, ValueError, "n must be from 1 to 4096, got -1"),
        (4097, ValueError, "n must be from 1 to 4096, got 4097"),
        (2.0, TypeError, "n must be an int or None, got float"),
        (True, TypeError, "n must be an int or None, got bool"),
        ("2", TypeError, "n must be an int or None, got str"),
    ],
)
def test_wrong_numbers(n, error, message):
    for act in (histeq.threads, histeq.set_num_threads):
        with pytest.raises(error, match=message):
            act(n)
    assert _threads.num_threads() == 3
