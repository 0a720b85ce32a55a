"""Which backend serves a call, what is imported for it, and what a missing one says."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import histeq


def run(code, **environment):
    """Run Python code in a new process; return what it prints."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing():
    modules = run("import sys, histeq; print(*sys.modules)").split()
    for name in ("numpy", "numba", "cupy", "dask", "PIL", "click", "matplotlib", "tifffile", "asyncio"):
        assert name not in modules, name


def test_numpy_backend_does_not_load_numba():
    code = """
        import sys, numpy, histeq
        histeq.equalize(numpy.zeros((3, 3), "u1"), backend="numpy")
        print("numba" in sys.modules)
    """
    assert run(code) == "False"


def test_backends():
    numba, numpy, cupy = histeq.backends()
    assert (numba.name, numpy.name, cupy.name) == ("numba", "numpy", "cupy")
    assert numba.available
    assert numpy.available
    assert numba.reason == numpy.reason == ""
    assert "CPU" in numba.device
    histeq.set_num_threads(3)
    try:
        assert "3 threads" in histeq.backends()[0].device
    finally:
        histeq.set_num_threads(None)


def test_without_numba():
    code = """
        import sys
        sys.modules["numba"] = None  # as if it were not installed
        import numpy, histeq
        info = histeq.backends()[0]
        print(info.name, info.available, info.reason, repr(info.device), sep="|")
        print(histeq.equalize(numpy.array([[1, 2, 2]], "u1")).tolist())
        try:
            histeq.equalize(numpy.zeros((3, 3), "u1"), backend="numba")
        except RuntimeError as error:
            print(error)
    """
    info, result, error = run(code).splitlines()
    reason = "import of numba halted; None in sys.modules; to add it: pip install numba"
    assert info == f"numba|False|{reason}|''"
    assert result == "[[0, 255, 255]]"
    assert error == f"backend='numba' is not available: {reason}"
    variable = run(
        code.replace(', backend="numba"', "").replace("print(histeq.eq", "None and (histeq.eq"),
        HISTEQ_BACKEND="numba",
    )
    assert variable.splitlines()[-1] == f"HISTEQ_BACKEND='numba' is not available: {reason}"


def test_default_is_the_fastest(environment):
    from histeq._core import dispatch as _dispatch

    assert _dispatch.choose(np.zeros(3, np.uint8), None).name == "numba"
    environment("HISTEQ_BACKEND", "numpy")
    assert _dispatch.choose(np.zeros(3, np.uint8), None).name == "numpy"
    assert _dispatch.choose(np.zeros(3, np.uint8), "numba").name == "numba"


def test_every_backend_has_every_function():
    from histeq._core import dispatch as _dispatch
    from histeq._core.backend import Backend

    functions = {name for name in vars(Backend) if not name.startswith("_")}
    for info in histeq.backends():
        if info.available:
            module = _dispatch.choose(np.zeros(3, np.uint8), info.name)
            assert functions <= set(dir(module)), info.name


def test_dir_and_all():
    assert set(histeq.__all__) <= set(dir(histeq))
    for name in histeq.__all__:
        assert getattr(histeq, name).__doc__, name


@pytest.mark.parametrize("function", ["equalize", "histogram", "lookup_table", "apply", "match"])
def test_docstrings_name_every_parameter(function):
    import inspect

    call = getattr(histeq, function)
    for name in inspect.signature(call).parameters:
        assert name in call.__doc__, name
