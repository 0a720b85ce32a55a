"""Which backend serves a call, what is imported for it, and what a missing one says."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import histeq


def run(code, *, folder=None, fails=False, **environment):
    """Run Python code in a new process; return what it prints, or its errors where it fails."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], cwd=folder,
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert bool(done.returncode) == fails, done.stderr
    return (done.stderr if fails else done.stdout).strip()


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


WITHOUT_NUMBA = """
    import numpy, warnings, histeq
    image = numpy.array([[1, 2, 2]], "u1")
    info = histeq.backends()[0]
    print(info.name, info.available, info.reason, repr(info.device), sep="|")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        print([histeq.equalize(image).tolist() for _ in range(3)])
        histeq.clahe(image)
        histeq.histogram(image.astype("f4"))
    print(*[f"{warning.category.__name__}: {warning.message}" for warning in seen])
    try:
        histeq.equalize(image, backend="numba")
    except RuntimeError as error:
        print(error)
"""


def check_without_numba(lines, reason):
    info, result, warning, error = lines
    assert info == f"numba|False|{reason}|''"
    assert result == str([[[0, 255, 255]]] * 3)
    assert warning.startswith("RuntimeWarning: images are equalized by NumPy, ")
    assert warning.count(f"({reason})") == warning.count("RuntimeWarning") == 1
    assert error == f"backend='numba' is not available: {reason}"


def test_without_numba():
    code = "import sys; sys.modules['numba'] = None  # as if it were not installed\n"
    code += textwrap.dedent(WITHOUT_NUMBA)
    reason = "import of numba halted; None in sys.modules; to add it: pip install numba"
    check_without_numba(run(code).splitlines(), reason)
    code = code[: code.index("print([hist")] + "\n    histeq.equalize(image)"
    named = run(code + "\n", fails=True, HISTEQ_BACKEND="numba").splitlines()[-1]
    assert named == f"RuntimeError: HISTEQ_BACKEND='numba' is not available: {reason}"


@pytest.mark.parametrize("error", ["AttributeError", "OSError", "SystemError", "ValueError", "KeyError"])
def test_numba_that_cannot_be_imported(error):
    code = f"""
        import sys
        class Broken:
            def find_spec(self, name, *_):
                if name == "numba.core.types":
                    raise {error}("broken")
        sys.meta_path.insert(0, Broken())
    """
    lines = run(textwrap.dedent(code) + textwrap.dedent(WITHOUT_NUMBA)).splitlines()
    check_without_numba(lines, f"{error}: " + ("'broken'" if error == "KeyError" else "broken"))


@pytest.mark.parametrize("error", ["RuntimeError", "numba.core.errors.LoweringError"])
def test_numba_that_cannot_compile(error):
    code = f"""
        import numba.core.dispatcher
        def compile(*_):
            raise {error}("broken")
        numba.core.dispatcher.Dispatcher.compile = compile
    """
    lines = run(textwrap.dedent(code) + textwrap.dedent(WITHOUT_NUMBA)).splitlines()
    check_without_numba(lines, f"{error.rpartition('.')[2]}: broken")


def test_folder_in_the_way_of_a_library_of_numba(tmp_path):
    """Of all names this one: many projects have it in their working directory."""
    (tmp_path / "coverage").mkdir()
    (tmp_path / "coverage" / "__init__.py").touch()
    lines = run(textwrap.dedent(WITHOUT_NUMBA), folder=tmp_path).splitlines()
    check_without_numba(lines, "AttributeError: module 'coverage' has no attribute 'types'")


def test_no_warning_where_numpy_is_asked_for():
    code = "import sys; sys.modules['numba'] = None; import numpy, histeq; image = numpy.zeros((3, 3), 'u1');"
    run(code + "histeq.equalize(image, backend='numpy')")
    run(code + "histeq.equalize(image)", HISTEQ_BACKEND="numpy")


@pytest.mark.parametrize("variable", ["HISTEQ_CPU_TIER", "HISTEQ_NUM_THREADS"])
def test_backends_never_raises(variable):
    code = "import histeq; info = histeq.backends()[0]; print(info.available, info.reason)"
    output = run(code, **{variable: "nonsense"})
    assert output.startswith(f"False ValueError: {variable} must be ")


def test_backends_with_a_broken_cupy():
    code = """
        import sys, types
        class Broken(types.ModuleType):
            def __getattr__(self, name):
                raise SystemError("driver")
        sys.modules["cupy"] = Broken("cupy")
        import histeq
        print(histeq.backends()[2].reason)
    """
    assert run(code) == "SystemError: driver"


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
