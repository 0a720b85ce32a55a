"""The cluster of a call: found or started, and asked whether its workers can do the work."""

import contextlib
import logging
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import histeq
from histeq._cluster.travel import unseen
from histeq._core.arguments import shown

if TYPE_CHECKING:
    from distributed import Client

    from histeq._files.journal import Journal

_PATIENCE = 5
"""Seconds to wait for a scheduler."""
_PATIENCE_FOR_WORKERS = 30
_FAILURES = 10
"""How many workers may die of one task on this machine; Dask's 3 are few where memory is short."""
_NEED = "cluster must be the address of a scheduler such as 'tcp://host:8786', 'local:4' for processes here, "


@contextlib.contextmanager
def connected(cluster: Any) -> "Iterator[Client]":
    """Yield a client of a cluster; a context that closes what it opened.

    Parameters
    ----------
    cluster : str or distributed.Client
        "tcp://host:port", or "local:N": N processes on this machine, which end with the context.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            'cluster needs dask.distributed: pip install "histeq[dask]" (documentation: files)',
            name="distributed",
        ) from error
    if isinstance(cluster, Client):
        if cluster.asynchronous:
            raise ValueError("cluster must be a client that waits, got one with asynchronous=True")
        yield cluster
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        yield stack.enter_context(_client(cluster, stack))


def _client(cluster: Any, stack: contextlib.ExitStack) -> "Client":
    from distributed import Client

    local = re.fullmatch(r"local:(\d+)", cluster) if isinstance(cluster, str) else None
    if local is not None and int(local[1]) > 0:
        client = Client(stack.enter_context(_local(int(local[1]))), set_as_default=False)
        client.run(_ignore_interrupts)
        return client
    if not isinstance(cluster, str) or not re.fullmatch(r"(tcp|tls|ucx|ucxx|wss?)://.+", cluster):
        raise ValueError(f"{_NEED}or a distributed.Client, got {shown(cluster)}")
    try:
        return Client(cluster, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise RuntimeError(
            f"cluster must be the address of a scheduler, and none answers within {_PATIENCE} seconds at "
            f"{cluster}: {error}"
        ) from error


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the one that ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _local(processes: int) -> Any:
    """Start processes on this machine."""
    import dask
    from distributed import LocalCluster

    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": _FAILURES}):
            return LocalCluster(
                n_workers=processes, threads_per_worker=1, host="127.0.0.1", silence_logs=logging.CRITICAL,
                dashboard_address="127.0.0.1:0",
            )  # fmt: skip
    except RuntimeError as error:
        raise RuntimeError(
            "cluster='local:...' starts processes, which import the main program: it must begin its work "
            "below \"if __name__ == '__main__':\""
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs and warns of: workers come and go, and versions are compared here."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"distributed\.|dask\.")
            yield
    finally:
        logger.setLevel(before)


def dashboard(client: "Client", cluster: Any) -> str | None:
    """Return the address of the dashboard of a cluster, None where there is none."""
    if str(cluster).startswith("local:") and find_spec("bokeh") is None:
        return None  # Dask serves a page that says so
    info: dict[str, Any] = client.scheduler_info(n_workers=0)
    return client.dashboard_link if info.get("services", {}).get("dashboard") else None


def check_workers(client: "Client", files: Mapping[str, Any]) -> None:
    """Raise unless all workers have this histeq, and see files; these have the states given."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_FOR_WORKERS)
    except TimeoutError as error:
        raise RuntimeError(
            f"cluster must have workers, and {client.scheduler.address} has none after "
            f"{_PATIENCE_FOR_WORKERS} seconds"
        ) from error
    ours = ".".join(map(str, sys.version_info[:2]))
    for address, about in client.get_versions()["workers"].items():
        theirs = ".".join(about["host"]["python"].split(".")[:2])
        if theirs != ours:  # what travels is pickled
            raise RuntimeError(f"cluster: the worker {address} has Python {theirs}, and this is {ours}")
    for address, found in client.run(_version(), on_error="return").items():
        if found != histeq.__version__:
            what = f"histeq {found}" if isinstance(found, str) else f"no histeq: {found}"
            raise RuntimeError(
                f"cluster: the worker {address} has {what}; all workers need histeq {histeq.__version__}"
            )
    for file, state in files.items():
        for address, reason in client.run(unseen, file, state, on_error="return").items():
            if reason is not None:
                raise RuntimeError(f"{file}: the cluster's worker {address} does not see it: {reason}")


def check_target(client: "Client", file: str, journal: "Journal") -> None:
    """Raise unless all workers can write into a store that was begun here."""
    begun = journal.begun()
    for address, reason in client.run(_unreached, journal, begun, on_error="return").items():
        if reason is not None:
            raise RuntimeError(f"{file}: the cluster's worker {address} cannot write it: {reason}")


def _version() -> "Callable[[], str]":
    def version() -> str:  # travels by value: a worker may have no histeq
        import histeq

        return str(histeq.__version__)

    return version


def _unreached(journal: "Journal", begun: Any) -> str | None:
    if journal.begun() != begun:
        return "it does not see it there"
    try:
        journal.mark("reached", 0)
    except OSError as error:
        return error.strerror or str(error)
    return None
