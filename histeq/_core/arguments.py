"""Numbers as callers give them, of any type and size, and errors that show them."""

import itertools
import math
import numbers
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

_LONGEST = 200
"""The most characters of a value that an error repeats."""


def shown(value: Any) -> str:
    """Return a value as an error shows it."""
    try:
        text = str(value) if isinstance(value, numbers.Number) else repr(value)
    except Exception:  # Python's own of integers of more than 4300 digits, or anything of another class
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def as_float(number: Any) -> float:
    """Return a number as a float: infinity where it exceeds them all."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def is_integer(value: Any) -> bool:
    """Tell whether a value is an integer of Python or NumPy, which a bool is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def integers(name: str, need: str, value: Any, count: int) -> list[int]:
    """Return the integers of a sequence of `count` ones; `need` says in errors what the argument must be."""
    if type(value) is tuple and len(value) == count and all(type(number) is int for number in value):
        return list(value)  # in a third of the time
    found: list[Any] = []
    if isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim == 1):
        with suppress(Exception):  # whatever a sequence of another class raises
            found = list(itertools.islice(value, count + 1))  # range(10**9) is a sequence, too
    if isinstance(value, str | bytes) or not found or not all(map(is_integer, found)):
        raise TypeError(f"{name} must be {need}, got {shown(value)}")
    if len(found) != count:
        raise ValueError(f"{name} must be {need}, got {shown(value)}")
    return [int(number) for number in found]
