"""Whether a library's pixels are ours, or by which rule they would be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._bench.cases import RULES, Case

Array = NDArray[Any]


class OtherPixelsError(Exception):
    """A library's result is none of ours; the message says how far it is."""


class Judge:
    """Knows what histeq gives for one case, by every rule."""

    def __init__(self, case: Case, image: Array, inputs: Sequence[Array]) -> None:
        self._case, self._image, self._inputs = case, image, inputs
        self._known: dict[str, Array] = {}

    def expected(self, rule: str = "") -> Array:
        """Return histeq's result, by default with the default rule."""
        if rule not in self._known:
            options = {"rule": rule} if rule else {}
            self._known[rule] = np.asarray(self._case.call(self._image, None, self._inputs, **options)())
        return self._known[rule]

    def compare(self, result: Array, likely: str = "") -> str:
        """Return "identical", or the rule with which a result is; OtherPixelsError where there is none.

        Parameters
        ----------
        likely : str
            A rule to try first.
        """
        if same(result, self.expected()):
            return "identical"
        if self._case.op == "equalize" and self._case.dtype != "f32":
            for rule in dict.fromkeys((likely, *RULES)):
                if rule and same(result, self.expected(rule)):
                    return f"rule {rule}"
        raise OtherPixelsError(distance(result, self.expected()))


def same(theirs: Array, ours: Array) -> bool:
    """Tell whether two results are the same, in whatever shape and dtype they are.

    cv2.calcHist returns a column of float32, which rounds counts above 2**24: so are ours before they are
    compared. Where ours are integers of an image, theirs may be fractions of the largest.
    """
    if theirs.size != ours.size:
        return False
    theirs = theirs.reshape(ours.shape)
    if theirs.dtype == ours.dtype or theirs.dtype.kind == ours.dtype.kind:
        return bool(np.array_equal(theirs, ours, equal_nan=ours.dtype.kind == "f"))
    if np.array_equal(theirs, ours.astype(theirs.dtype) if ours.dtype == np.int64 else ours):
        return True
    if theirs.dtype.kind == "f" and ours.dtype.kind in "ui" and ours.dtype.itemsize < 8:
        return bool(np.array_equal(np.rint(theirs * np.iinfo(ours.dtype).max), ours))
    return False


def distance(theirs: Array, ours: Array) -> str:
    """Say how far a result is from ours."""
    if theirs.size != ours.size:
        return f"other pixels: an array of {theirs.shape} for one of {ours.shape}"
    away = np.abs(theirs.reshape(ours.shape).astype(np.float64) - ours)
    share = np.count_nonzero(away) / away.size
    return f"other pixels: {share:.1%} differ from histeq's, by up to {away.max():g}"
