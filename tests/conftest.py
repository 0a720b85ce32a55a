"""One suite for every backend: the fixture `backend` runs a test once on each."""

import os
from enum import Enum

import hypothesis
import pytest


class BackendName(Enum):
    NUMBA = "numba"
    NUMPY = "numpy"


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
    return request.param.value


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    """Keep the caller's settings out of the tests."""
    monkeypatch.delenv("HISTEQ_BACKEND", raising=False)
    monkeypatch.delenv("HISTEQ_NUM_THREADS", raising=False)


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets an environment variable which the package has read already."""
    from histeq import _dispatch, _threads

    cached = (_dispatch._from_environment, _threads._default)

    def set_variable(name, value):
        monkeypatch.setenv(name, value)
        for function in cached:
            function.cache_clear()

    yield set_variable
    for function in cached:
        function.cache_clear()


def pytest_collection_modifyitems(config, items):
    """Leave out what takes minutes unless -m asks for it."""
    if config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
