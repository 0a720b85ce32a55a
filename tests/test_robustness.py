"""What a library meets in the wild; each test runs the real thing in a process of its own."""

import compileall
import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import histeq_kernels
import numba
import numpy as np
import pytest
from histeq_kernels.cpu.core import cache
from histeq_kernels.cpu.core.kernel import compiled
from images import AS_SHIPPED

import histeq

PRELUDE = """
    import sys, os, numpy as np, histeq
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (1080, 1920), np.uint8)
    expected = histeq.equalize(image, backend="numpy")
    strided = image[:, ::2]  # whose kernels are the soonest compiled
    deep = image.astype(np.uint16)[:, ::2]
"""


def start(code, folder=None, **environment):
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def run(code, folder=None, **environment):
    process = start(code, folder, **environment)
    try:
        output, errors = process.communicate(timeout=240)
    finally:
        process.kill()  # it hangs
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


FORKS_WHILE_COMPILING = """
    import multiprocessing, signal, threading, time, warnings
    warnings.simplefilter("ignore")
    small = strided[:30, :40]
    expected = histeq.histogram(small, backend="numpy")

    def work():
        for each in (small.astype(np.uint16), small.astype(np.float32)):
            histeq.equalize(each)

    def is_right(each=small):
        return bool((histeq.histogram(each, backend="numba") == expected).all())

    def forked():
        child = os.fork()
        if child == 0:
            signal.alarm(100)  # a child that hangs is killed
            os._exit(0 if is_right() else 1)
        return child

    compiling = threading.Thread(target=work)
    compiling.start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_while_another_thread_imports_and_compiles(tmp_path):
    code = """
    children = []
    for pause in (0, 0.5, 2):
        time.sleep(pause)
        children.append(forked())
    compiling.join()
    children.append(forked())
    print({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children})
    """
    assert run(FORKS_WHILE_COMPILING + code, NUMBA_CACHE_DIR=str(tmp_path)) == "{0}"


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_pool_that_a_thread_forks_while_another_compiles(tmp_path):
    """As PyTorch's DataLoader does."""
    code = """
    def load(results):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            results += pool.map_async(is_right, [small] * 20).get(timeout=100)

    loaders, results = [], []
    for pause in (0.3, 2):
        time.sleep(pause)
        loaders.append(threading.Thread(target=load, args=(results,)))
        loaders[-1].start()
    for thread in (*loaders, compiling):
        thread.join()
    print(len(results), set(results))
    """
    assert run(FORKS_WHILE_COMPILING + code, NUMBA_CACHE_DIR=str(tmp_path)) == "40 {True}"


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


HELPERS = """
    import ctypes, signal, threading, time, weakref
    threading.excepthook = lambda _: None  # of helpers that are interrupted
    histeq.set_num_threads(3)
    floats = image.astype(np.float32)
    sums = histeq.equalize(floats, backend="numpy")

    def helpers():
        return [each for each in threading.enumerate() if each.name == "histeq" and each.is_alive()]

    def interrupt(thread, exception):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(exception)
        )
"""


def test_helpers_that_died_are_replaced_and_keep_no_image():
    code = """
    for exception in (KeyboardInterrupt, MemoryError, SystemExit):
        histeq.equalize(image)
        before = set(helpers())
        assert len(before) == 2
        for helper in before:
            interrupt(helper, exception)
        for _ in range(50):
            copy = image.copy()
            alive = weakref.ref(copy)
            assert (histeq.equalize(copy) == expected).all()
            del copy
            deadline = time.monotonic() + 10
            while alive() is not None:  # a helper may be about to find that it comes too late
                assert time.monotonic() < deadline, "the image is kept"
                time.sleep(1e-4)
        assert len(helpers()) == 2
        assert not before & set(helpers())
    print("right")
    """
    assert run(HELPERS + code) == "right"


def test_error_keeps_no_image():
    from histeq._core import threads as _threads

    class Image:
        pass

    def fail(image):
        raise KeyError

    images = [Image() for _ in range(3)]
    alive = [weakref.ref(image) for image in images]
    histeq.set_num_threads(2)
    gc.disable()
    try:
        with pytest.raises(KeyError):
            _threads.run(fail, images)
        del images
        time.sleep(0.1)  # for a helper that comes too late
        assert [image() for image in alive] == [None] * 3
    finally:
        gc.enable()
        histeq.set_num_threads(None)


class Interrupt(BaseException):
    pass


class InterruptAt:
    """A profiler that raises at the n-th moment in `threads` and Thread.is_alive at which an interrupt may.

    Python looks for interrupts where a function begins and where one that is written in C has returned.
    """

    def __init__(self, n):
        self.left = n

    def __call__(self, frame, event, _):
        code = frame.f_code
        ours = Path(code.co_filename).name == "threads.py"
        if event in ("call", "c_return") and (ours or code.co_name in ("is_alive", "_wait_for_tstate_lock")):
            self.left -= 1
            if self.left == 0:
                raise Interrupt


def test_interrupt_of_the_caller_at_every_moment():
    """The caller sees its interrupt when no helper is at work any more, and the next call is right."""
    from histeq._core import threads as _threads

    caller, begun, ended = threading.current_thread(), [], []

    def work(i):
        begun.append(i)
        if threading.current_thread() is not caller:
            time.sleep(1e-3)  # longer than the caller waits busily
        while len(begun) < 2 and time.monotonic() < deadline:  # for a helper
            time.sleep(1e-5)
        ended.append(i)

    histeq.set_num_threads(3)
    previous, is_interrupted, moments = sys.getprofile(), True, 0
    try:
        while is_interrupted:
            moments, deadline = moments + 1, time.monotonic() + 0.05
            begun.clear()
            ended.clear()
            profiler = InterruptAt(moments)
            sys.setprofile(profiler)
            try:
                _threads.run(work, range(4))
            except Interrupt:
                pass
            finally:
                sys.setprofile(previous)
            is_interrupted = profiler.left <= 0
            assert set(begun) == set(ended) if is_interrupted else sorted(ended) == list(range(4))
    finally:
        histeq.set_num_threads(None)
    assert moments > 20


@pytest.mark.exhaustive
def test_interrupts_of_helpers_at_any_moment():
    """A call returns the right pixels or raises; it never waits for a helper that is gone."""
    code = """
    for each in (image, floats):
        histeq.equalize(each)  # an interrupted import could keep Python's own lock of imports
    stop = False

    def disturb():
        while not stop:
            for helper in helpers():
                interrupt(helper, KeyboardInterrupt)
            time.sleep(rng.random() * 2e-3)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    raised, end = 0, time.monotonic() + 6
    while time.monotonic() < end:
        for each, right in ((image, expected), (floats, sums)):
            try:
                assert (histeq.equalize(each) == right).all()
            except RuntimeError as error:
                assert "interrupted" in str(error)
                raised += 1
            except KeyboardInterrupt:
                raised += 1
    stop = True
    disturber.join()
    assert (histeq.equalize(floats) == sums).all()
    print("right")
    """
    assert run(HELPERS + code) == "right"


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_interrupts_of_the_caller_at_any_moment():
    code = """
    for each in (image, floats):
        histeq.equalize(each)  # an interrupted import could keep Python's own lock of imports

    class Interrupt(BaseException):
        pass

    def interrupted(*_):
        if busy:
            raise Interrupt

    busy = False
    signal.signal(signal.SIGALRM, interrupted)
    count, end = 0, time.monotonic() + 6
    while time.monotonic() < end:
        for each, right in ((image, expected), (floats, sums)):
            out = np.empty_like(each)
            try:
                busy = True
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + rng.random() * 5e-3)
                histeq.equalize(each, out=out)
                busy = False
            except Interrupt:
                busy = False
                count += 1
                left = out.copy()
                time.sleep(1e-3)
                assert (out == left).all(), "a helper still writes"
            else:
                assert (out == right).all()
    assert count
    assert (histeq.equalize(floats) == sums).all()
    print("right")
    """
    assert run(HELPERS + code) == "right"


def test_exit_during_calls():
    code = """
    def work():
        while True:
            histeq.equalize(floats)
            histeq.equalize(image)

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.5)
    print("right")
    """
    assert run(HELPERS + code) == "right"


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
        import warnings
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for each in (strided, deep):
                assert (histeq.histogram(each) == histeq.histogram(each, backend="numpy")).all()
        from histeq_kernels.cpu.histogram import grey
        print(type(grey.histogram_strided.u16._cache).__name__, *[w.category.__name__ for w in seen])
    """
    environment = {
        "PYTHONPATH": site,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert run(code, **environment) == "NullCache RuntimeWarning"


def add_one(numbers):
    numbers[0] += 1


def hits():
    """Compile `add_one`, or load it from the cache; return how often it was there."""
    kernel = compiled(add_one, "add_one", "void(int64[::1])")
    numbers = np.zeros(1, np.int64)
    kernel(numbers)
    assert numbers[0] == 1
    return sum(kernel.stats.cache_hits.values())


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_warned", False)
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def put_zeros_in_the_middle(file):
    content = file.read_bytes()
    third = len(content) // 3
    file.write_bytes(content[:third] + bytes(third) + content[2 * third :])


def replace_by_folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = {
    "garbage": lambda file: file.write_bytes(bytes(range(256)) * 20),
    "text": lambda file: file.write_text("no space left on device"),
    "empty": lambda file: file.write_bytes(b""),
    "cut": cut,
    "zeros": put_zeros_in_the_middle,
    "missing": Path.unlink,
}
needs_cache = pytest.mark.skipif(not AS_SHIPPED, reason="nothing is compiled, or in another way")


@needs_cache
@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_cache_entries_are_written_anew(damage, kind, cache_folder):
    assert (hits(), hits()) == (0, 1)
    [file] = cache_folder.rglob(kind)
    damage(file)
    assert (hits(), hits()) == (0, 1)


@needs_cache
def test_cache_entry_that_is_a_folder(cache_folder):
    hits()
    [file] = cache_folder.rglob("*.nbi")
    replace_by_folder(file)
    with pytest.warns(RuntimeWarning, match="compiled kernels cannot be kept on disk"):
        assert hits() == 0
    assert hits() == 0  # one warning is enough


@needs_cache
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_cache_that_cannot_be_written(number, cache_folder, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "_save_data", fail)
    with pytest.warns(RuntimeWarning, match=f"seconds on compiling .*{os.strerror(number)}"):
        assert hits() == 0
    assert hits() == 0
    monkeypatch.undo()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(cache_folder))
    assert (hits(), hits()) == (0, 1)


@needs_cache
def test_cache_path_that_is_a_file(cache_folder, monkeypatch):
    file = cache_folder / "file"
    file.touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    hits()
    assert hits() == 1  # beside the source


def test_limit_on_the_size_of_files(tmp_path):
    pytest.importorskip("resource")
    code = """
        import resource, warnings
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for each in (strided, deep):
                assert (histeq.histogram(each) == histeq.histogram(each, backend="numpy")).all()
        [warning] = seen
        print(warning.category.__name__, warning.message)
    """
    output = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert output.startswith("RuntimeWarning compiled kernels cannot be kept on disk")
    assert os.strerror(errno.EFBIG) in output


@pytest.mark.parametrize("form", ["zip", "bytecode"])
def test_packages_without_sources_on_disk(form, tmp_path):
    site = Path(copied_package(tmp_path))
    if form == "zip":
        site = Path(shutil.make_archive(str(tmp_path / "packages"), "zip", site))
    else:
        assert compileall.compile_dir(site, quiet=1, legacy=True)
        for file in site.rglob("*.py"):
            file.unlink()
    code = """
        import warnings
        import histeq_kernels.cuda
        assert histeq_kernels.__file__.startswith(os.environ["PYTHONPATH"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # not every Numba has a cache for these
            assert (histeq.histogram(strided) == histeq.histogram(strided, backend="numpy")).all()
        assert "histogram_u8" in histeq_kernels.cuda.kernels("histogram")
        from histeq_kernels.cpu.core.kernel import digest_of_sources
        print(digest_of_sources())
    """
    environment = {"PYTHONPATH": str(site), "HOME": str(tmp_path / "home")}
    assert run(code, **environment) == run(code, **environment)


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", ["--onedir", "--onefile"])
def test_frozen_application(form, tmp_path):
    code = """
        import numpy as np, sys, histeq
        assert sys.frozen
        image = np.random.default_rng(0).integers(0, 200, (300, 400), np.uint8)
        for function in (histeq.equalize, histeq.clahe):
            assert (function(image, backend="numba") == function(image, backend="numpy")).all()
        import histeq_kernels.cuda
        assert histeq_kernels.cuda.kernels("histogram")
        from histeq_kernels.cpu.core.kernel import digest_of_sources
        print(digest_of_sources(), [name for name in ("PIL", "click") if name in sys.modules])
    """
    (tmp_path / "app.py").write_text(textwrap.dedent(code))
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", form, "app.py"], cwd=tmp_path, check=True, capture_output=True
    )
    program = tmp_path / "dist" / "app"
    program = program / "app" if program.is_dir() else program
    outputs = set()
    for _ in range(2):
        done = subprocess.run(
            [program], cwd=tmp_path, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path)}
        )
        assert (done.returncode, done.stderr) == (0, "")
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_two_processes_compile_at_once_into_one_empty_cache(tmp_path):
    site = copied_package(tmp_path)
    code = """
        for each in (strided, deep):  # variants of the same kernels
            table = np.arange(256**each.itemsize, dtype=each.dtype)[::-1].copy()
            counts = [histeq.histogram(each, backend=b) for b in ("numba", "numpy")]
            assert (counts[0] == counts[1]).all(), each.dtype
            assert (histeq.apply(each, table) == table[each]).all(), each.dtype
        print("right")
    """
    environment = {"PYTHONPATH": site, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    processes = [start(code, **environment) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert output.strip() == "right", errors
    assert list((tmp_path / "cache").rglob("*.nbi"))
    code = code.replace('print("right")', 'print("right", "scipy.linalg" in sys.modules)')
    assert run(code, **environment) == "right False"  # the cache they left is whole: nothing was compiled


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
