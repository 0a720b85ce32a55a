"""What a library meets in the wild; each test runs the real thing in a process of its own."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import histeq_kernels
import pytest

import histeq

PRELUDE = """
    import sys, os, numpy as np, histeq
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (1080, 1920), np.uint8)
    expected = histeq.equalize(image, backend="numpy")
"""


def start(code, **environment):
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def run(code, **environment):
    process = start(code, **environment)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output.strip()


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_eight_threads_at_once(threads):
    code = """
        from concurrent.futures import ThreadPoolExecutor
        images = [np.roll(image, i) for i in range(8)]
        floats = [image.astype(np.float32) for image in images]
        sums = histeq.equalize(floats[0], backend="numpy")
        def work(i):
            good = all((histeq.equalize(images[i]) == np.roll(expected, i)).all() for _ in range(20))
            return good and (histeq.equalize(floats[i]) == np.roll(sums, i)).all()
        with ThreadPoolExecutor(8) as pool:
            print(all(pool.map(work, range(8))))
    """
    assert run(code, HISTEQ_NUM_THREADS=threads) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_use():
    code = """
        import warnings
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork with threads
        histeq.set_num_threads(2)
        assert (histeq.equalize(image) == expected).all()
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                good = (histeq.equalize(image) == expected).all()
                os._exit(0 if good else 1)
            children.append(child)
        assert (histeq.equalize(image) == expected).all()
        print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    """
    assert run(code) == "[0, 0, 0]"


def test_multiprocessing_pool():
    code = """
        import multiprocessing, warnings
        warnings.simplefilter("ignore")
        histeq.equalize(image)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.map(histeq.equalize, [image] * 4)
        print(all((result == expected).all() for result in results))
    """
    assert run(code) == "True"


def test_call_while_the_interpreter_shuts_down():
    code = """
        import atexit, threading
        histeq.set_num_threads(2)
        histeq.equalize(image)
        atexit.register(lambda: print((histeq.equalize(image) == expected).all()))
    """
    assert run(code) == "True"


def copied_package(tmp_path):
    """Return a copy of the installed packages without any compiled cache."""
    for package in (histeq, histeq_kernels):
        source = Path(package.__file__).parent
        shutil.copytree(source, tmp_path / "site" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return str(tmp_path / "site")


def test_read_only_installation_without_a_home(tmp_path):
    """Files in place of the cache folders stop even root from writing there."""
    site = copied_package(tmp_path)
    for folder in (tmp_path / "site").rglob("*"):
        if folder.is_dir():
            (folder / "__pycache__").touch()
    home = tmp_path / "home"
    home.touch()
    code = """
        import histeq_kernels
        assert histeq_kernels.__file__.startswith(os.environ["PYTHONPATH"])
        deep = image.astype(np.uint16)
        assert (histeq.histogram(deep) == histeq.histogram(deep, backend="numpy")).all()
        from histeq_kernels.cpu.histogram import grey
        print(type(grey.histogram_16.u16._cache).__name__)
    """
    environment = {
        "PYTHONPATH": site,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert run(code, **environment) == "NullCache"


def test_two_processes_compile_at_once_into_one_empty_cache(tmp_path):
    site = copied_package(tmp_path)
    code = """
        for dtype in (np.uint16, np.int16):  # variants of the same kernels
            converted = image.astype(dtype)
            counts = histeq.histogram(converted, backend="numpy")
            assert (histeq.histogram(converted, backend="numba") == counts).all(), dtype
            tables = [histeq.lookup_table(counts, dtype=dtype, backend=b) for b in ("numba", "numpy")]
            assert (tables[0] == tables[1]).all(), dtype
        print("right")
    """
    environment = {"PYTHONPATH": site, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    processes = [start(code, **environment) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert output.strip() == "right", errors
    assert list((tmp_path / "cache").rglob("*.nbi"))
    assert run(code, **environment) == "right"  # and the cache they left is whole


def test_one_visible_cpu():
    code = """
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import threading
        from histeq._core.threads import num_threads
        assert (histeq.equalize(image) == expected).all()
        print(num_threads(), threading.active_count())
    """
    assert run(code) == "1 1"


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", 8)]
)
def test_container_quota(quota, expected, monkeypatch):
    from histeq._core import threads as _threads

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: quota)
    assert _threads.usable_cpus.__wrapped__() == expected


def test_set_num_threads_limits_the_threads():
    code = """
        import threading
        histeq.set_num_threads(1)
        histeq.equalize(image)
        one = threading.active_count()
        histeq.set_num_threads(3)
        for _ in range(20):
            histeq.equalize(image)
        print(one, 1 < threading.active_count() <= 3)
    """
    assert run(code) == "1 True"


def test_error_in_a_piece_reaches_the_caller():
    from histeq._core import threads as _threads

    done = []

    def work(piece):
        if piece == 3:
            raise KeyError(piece)
        done.append(piece)

    histeq.set_num_threads(2)
    try:
        with pytest.raises(KeyError):
            _threads.run(work, range(100))
        assert len(done) < 100
        done.clear()
        _threads.run(done.append, range(100))
        assert sorted(done) == list(range(100))
    finally:
        histeq.set_num_threads(None)
