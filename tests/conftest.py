"""One suite for every backend: the fixture `backend` runs a test once on each."""

import importlib
import os
from enum import Enum

import pytest
from cuda_host import fake_cupy

try:
    import hypothesis
except ImportError:  # on a machine for the tests with a GPU, which do without
    hypothesis = None


if os.environ.get("HISTEQ_CPU_TIER") == "avx512":  # runs everywhere in tests, in this process
    importlib.import_module("emulation").emulate()

collect_ignore = [] if fake_cupy.has_gpu() else ["test_gpu.py"]


class BackendName(Enum):
    NUMBA = "numba"
    NUMPY = "numpy"
    CUPY = "cupy"  # its kernels run on the CPU where there is no GPU: cuda_host/


if hypothesis:
    hypothesis.settings.register_profile(
        "histeq",
        deadline=None,
        derandomize=True,  # a failure must be the change's fault, not the day's
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
        max_examples=10 if os.environ.get("NUMBA_DISABLE_JIT") else 60,
    )
    hypothesis.settings.load_profile("histeq")


@pytest.fixture(params=BackendName, ids=lambda name: name.value)
def backend(request):
    if request.param is BackendName.CUPY:
        request.getfixturevalue("gpu")
    return request.param.value


@pytest.fixture
def gpu():
    """Make the backend "cupy" work: on a GPU, or on the CPU in its stead. Yield the module cupy."""
    if fake_cupy.has_gpu():
        yield importlib.import_module("cupy")
    else:
        with fake_cupy.installed() as cupy:
            yield cupy


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    """Keep the caller's settings out of the tests."""
    monkeypatch.delenv("HISTEQ_BACKEND", raising=False)
    monkeypatch.delenv("HISTEQ_NUM_THREADS", raising=False)
    monkeypatch.setenv("HISTEQ_TUNING", "")


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets an environment variable which the package has read already."""
    from histeq._core import dispatch as _dispatch
    from histeq._core import threads as _threads

    cached = (_dispatch._default, _dispatch.fast_path, _threads._default)

    def set_variable(name, value):
        monkeypatch.setenv(name, value)
        for function in cached:
            function.cache_clear()

    yield set_variable
    for function in cached:
        function.cache_clear()


def pytest_collection_modifyitems(config, items):
    """Leave out what takes minutes unless -m asks for it, and what needs a GPU where there is none."""
    left_out = [] if config.option.markexpr else ["exhaustive"]
    left_out += [] if fake_cupy.has_gpu() else ["gpu"]
    without = {item for item in items if any(item.get_closest_marker(name) for name in left_out)}
    config.hook.pytest_deselected(items=list(without))
    items[:] = [item for item in items if item not in without]
