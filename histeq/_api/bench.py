"""Timing the backends beside other libraries."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from histeq._api.types import BackendName
from histeq._bench.result import BenchRecord, BenchResult, LeftOut

__all__ = ["BenchRecord", "BenchResult", "LeftOut", "bench"]

Op = Literal["equalize", "clahe", "histogram", "lut", "match"]
Peer = Literal[
    "opencv", "skimage", "pillow", "vips", "recipe", "torchvision", "kornia", "cvcuda", "cucim"
]  # fmt: skip


def bench(
    image: NDArray[Any] | None = None,
    *,
    ops: Sequence[Op] = ("equalize", "clahe", "histogram", "lut"),
    sizes: Sequence[str] | None = None,
    dtypes: Sequence[Literal["u8", "u16", "f32"]] | None = None,
    contents: Sequence[Literal["natural", "constant", "two-valued", "noise"]] | None = None,
    layout: Literal["HW", "HWC", "NHW", "NHWC"] | None = None,
    batch: int | Sequence[int] | None = None,
    color: Literal["luma", "channels"] = "luma",
    backends: Sequence[BackendName] | None = None,
    peers: Sequence[Peer] | None = None,
    threads: Sequence[int] | None = None,
    seconds: float = 60,
    progress: Callable[[str, float], object] | None = None,
) -> BenchResult:
    """Time histeq's backends and other libraries, and say which is the fastest here.

    Every library runs in a process of its own; all of them take turns in rounds, on the same image, after
    their pixels have been compared. One that fails, hangs or gives other pixels is left out, which the result
    says.

    Parameters
    ----------
    image : array, optional
        An image of dtype uint8, uint16 or float32 to time everything on; of two axes, or as `layout` says. By
        default images of `sizes`, `dtypes` and `contents` are made.
    ops : sequence of str
        What to time: "equalize", "clahe", "histogram", "lut" (`histeq.apply`), "match".
    sizes : sequence of str, optional
        "64", "256", "1080p", "4k", "8k", "16k" or rows x columns, such as "1000x1500". By default 256, 1080p
        and 4k.
    dtypes : sequence of str, optional
        "u8" (the default), "u16", "f32".
    contents : sequence of str, optional
        "natural" (the default), "constant", "two-valued", "noise": how fast counting is depends on it.
    layout : str, optional
        "HW" (the default), "HWC", "NHW" or "NHWC".
    batch : int or sequence of int, optional
        With an axis N: how many images. 16 by default.
    color : {"luma", "channels"}
        With an axis C: what of the colour is processed.
    backends : sequence of str, optional
        Of `histeq.backends`. By default those that work here.
    peers : sequence of str, optional
        Other libraries: "opencv", "skimage", "pillow", "vips", "recipe" (the textbook's, in NumPy),
        "torchvision", "kornia", "cvcuda", "cucim". By default those that are installed; an empty sequence:
        none.
    threads : sequence of int, optional
        Numbers of threads, for all that have threads. By default one, and as many as this process may use.
    seconds : float
        About how long the timing may take. Preparing takes some time more: every library is imported, and
        what must be compiled is.
    progress : callable, optional
        Is called with what is being done and which share of everything is done, 0 to 1.

    Returns
    -------
    BenchResult
        The records, what was left out and why, the environment; ``verdict()`` is one sentence about the
        automatic choice.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of what there is, or the image does not fit `layout`.

    Notes
    -----
    The medians are of samples from several visits to a case, tens of seconds apart; a winner is named only
    where the quartiles of the fastest and of all others are apart. ``share_of_copy`` compares with memory
    copied in the same rounds: the bytes of the image, read once, and of the result, written once, in a
    second. ``equalize`` must read twice, so that of an image larger than the caches it can reach two thirds
    of a copy; a histogram writes nothing and can exceed one.

    Examples
    --------
    >>> import histeq
    >>> few = {"ops": ["equalize"], "sizes": ["64"], "backends": ["numpy"], "peers": []}
    >>> result = histeq.bench(**few, seconds=0.05)
    >>> [record.candidate for record in result if record.kind == "backend"]
    ['numpy']
    """
    from histeq._bench.plan import plan
    from histeq._bench.session import Session

    if not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ValueError(f"seconds must be a number above 0, got {seconds!r}")
    found = plan(
        image, ops=ops, sizes=sizes, dtypes=dtypes, contents=contents, layout=layout, batch=batch,
        color=color, backends=backends, peers=peers, threads=threads,
    )  # fmt: skip
    session = Session(
        found.cases, found.candidates, seconds=seconds, given=found.given, left_out=found.left_out,
        selection={**found.selection, "seconds": seconds}, progress=progress,
    )  # fmt: skip
    session.run()
    return session.result()
