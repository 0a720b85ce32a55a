"""Arguments that nobody should pass: refused by name, or the result is right, on every backend alike."""

import inspect
import itertools
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from images import same

import histeq

rng = np.random.default_rng(0)
GREY = rng.integers(0, 200, (12, 10), np.uint8)
RGB = rng.integers(0, 200, (6, 7, 3), np.uint8)
FLOAT = rng.random((12, 10), np.float32)


class Hostile:
    """An object all of whose methods fail."""

    def _fail(self, *_, **__):
        raise ArithmeticError("nobody knows what this is about")

    __repr__ = __str__ = __eq__ = __ne__ = __bool__ = __float__ = __int__ = __index__ = __len__ = _fail
    __iter__ = __getitem__ = __array__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _fail
    __dlpack__ = __dlpack_device__ = _fail
    __hash__ = object.__hash__


class HostileSequence(Hostile, list):
    """One that claims to be a sequence."""


class HostileInteger(int):
    """A number that does not like to be written."""

    def __repr__(self):
        raise ArithmeticError("nobody knows what this is about")

    __str__ = __repr__


NUMBERS = [
    10**400, -(10**400), 10**5000, 2**63, 2**31, 7, -1, 0, 0.5, 1.5, 1e308, -1e308,
    5e-324, np.nan, np.inf, -np.inf,
    Fraction(1, 3), Fraction(10**400), Decimal("0.5"), Decimal("1e999"), Decimal("nan"),
    Decimal("snan"), 1j,
    np.complex64(1), True, np.bool_(True), np.float16(65504), np.float32(0.25),
    np.float64(1e300), np.int8(-1),
    np.uint64(2**64 - 1), np.longdouble(1), HostileInteger(3), HostileInteger(-3),
]  # fmt: skip
OBJECTS = [
    "", "hwc", "HW", "channels", "\0", "8", b"88", [], (), {}, set(), [[]], object, object(), print, ...,
    NotImplemented, slice(3), range(10**9), range(10**30), Hostile(), HostileSequence([1, 2]), np.array(3),
    np.array([1, 2], object), np.array(["luma", "channels"]), np.datetime64("2020"), np.ma.masked,
    np.dtype("V4"), "f4,f4", memoryview(b"\2\3"), np.random.default_rng(1),
]  # fmt: skip
ARRAYS = [
    np.zeros(0), np.zeros((0, 3), np.uint8), np.zeros((12, 10), "f4,f4"), np.zeros((12, 10), object),
    np.zeros((12, 10), "U3"), np.zeros((12, 10), "M8[s]"), np.ones((12, 10), bool),
    np.ones((12, 10), complex),
    np.zeros((3, 12, 10), np.uint8), np.ones((12, 10), ">u2"), np.ones((10, 12), bool).T,
    np.ones((12, 10), np.int8),
    np.broadcast_to(np.uint8(7), (12, 10)), np.ones((12, 10), bool).view(np.matrix),
    np.ma.masked_array(GREY, GREY > 9), np.full(256, np.nan), np.full(256, -1), np.full(256, 2**62),
    np.full(256, 2**63, np.uint64), np.zeros(255, np.uint8), np.zeros(256, np.uint8),
    np.ones((1, 1, 1, 1, 1, 1, 1)),
    np.full((12, 10), np.inf, np.float32), np.full(9, np.nan, np.float32), GREY, FLOAT,
    FLOAT.astype(np.float16),
]  # fmt: skip
PAIRS = [
    (0, 10**400), (-(10**400), 1), (10**400, 10**401), (0, 10**5000), (1e308, -1e308),
    (-1e308, 1e308), (0, 1e39),
    (1, 1), (1, 1 + 1e-12), (np.nan, 1), (0, np.inf), ("0", "1"), "01", (0,), (0, 1, 2),
    (None, 1), (1j, 2),
    (Fraction(1, 3), Fraction(2, 3)), (Decimal(0), Decimal("1e400")), (0, Hostile()),
    np.array([0.25, 0.75]),
    np.array([0, 9]), np.array([[0, 1]]), (np.float16(0.1), np.float64(0.9)), (np.int64(0), np.uint8(1)),
    (np.array([0, 1]), 2), {0: 1, 1: 2}, (x / 2 for x in range(2)), (HostileInteger(0),
    HostileInteger(9)),
    (False, True), (5e-324, 1e-323), (0.25, 0.5), (16, 235),
]  # fmt: skip


def tables_of(image, backend, **keywords):
    return histeq.tile_tables(image, tiles=(2, 3), backend=backend, **keywords)


CALLS = [
    # function, arguments that are right
    (histeq.equalize, {"image": GREY}),
    (histeq.equalize, {"image": RGB, "layout": "HWC"}),
    (histeq.equalize, {"image": FLOAT}),
    (histeq.histogram, {"image": FLOAT}),
    (histeq.histogram, {"image": RGB, "layout": "HWC", "color": "channels"}),
    (histeq.clahe, {"image": GREY, "tiles": (2, 3)}),
    (histeq.clahe, {"image": FLOAT, "tiles": (2, 3)}),
    (histeq.tile_tables, {"image": GREY, "tile_size": 5}),
    (histeq.match, {"image": GREY, "reference": GREY[:9]}),
    (histeq.match, {"image": FLOAT, "reference": FLOAT[:9]}),
    (histeq.lookup_table, {"counts": histeq.histogram(GREY, backend="numpy"), "dtype": "u1"}),
    (histeq.lookup_table, {"counts": histeq.histogram(FLOAT, backend="numpy"), "dtype": "f4"}),
    (histeq.apply, {"image": GREY, "table": np.arange(256, dtype=np.uint8)[::-1].copy()}),
    (histeq.apply, {"image": FLOAT, "table": np.linspace(0, 1, 9, dtype=np.float32), "value_range": (0, 1)}),
    (histeq.apply_tiles, {"image": GREY, "tables": tables_of(GREY, "numpy")}),
]
ANY = {"image", "layout", "reference"}
"""Arguments that others depend on: an error may name any of those."""


def outcome(function, arguments):
    """Return what a call comes to: an error's type and words, or the result."""
    try:
        result = function(**arguments)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return result.tables if isinstance(result, histeq.TileTables) else result


def copied(arguments):
    """Return arguments none of which is used up or written to by a call."""
    return {
        name: value.copy() if name == "out" and type(value) is np.ndarray and value.flags.writeable else value
        for name, value in arguments.items()
    }


def values_for(name):
    if name in ("value_range", "out_range"):
        return [*PAIRS, *NUMBERS[:6], *OBJECTS]
    if name in ("tiles", "tile_size", "origin"):
        pairs = list(itertools.product(NUMBERS, [3]))
        return [
            *NUMBERS,
            *OBJECTS,
            *pairs,
            *ARRAYS[:3],
            np.array([2, 3]),
            np.array([2.0, 3.0]),
            [2, 3],
            iter([2, 3]),
        ]
    return [*NUMBERS, *OBJECTS, *ARRAYS, [1, 2], None]


@pytest.mark.parametrize("call", range(len(CALLS)), ids=lambda i: f"{CALLS[i][0].__name__}-{i}")
def test_wrong_arguments_are_refused_by_name(call):
    function, right = CALLS[call]
    parameters = inspect.signature(function).parameters
    for name in parameters:
        for value in values_for(name):
            if name == "backend" and value is None:
                continue
            if inspect.isgenerator(value):
                results = [outcome(function, {**right, "backend": "numpy", name: (x / 2 for x in range(2))})]
            elif name == "backend":
                results = [outcome(function, {**right, name: value})]
            else:
                results = [
                    outcome(function, copied({**right, "backend": backend, name: value}))
                    for backend in ("numpy", "numba")
                ]
            case = f"{function.__name__} with {name} a {type(value).__name__}"
            if isinstance(results[0], tuple):
                message = results[0][1]
                # A range that is right asks for a table of another size.
                of_table = ["table"] if name == "value_range" else []
                named = parameters if name in ANY else [name, *of_table]
                assert any(re.search(rf"\b{each}\b", message) for each in named), f"{case}: {message}"
                assert all(result == results[0] for result in results), (case, results)
            else:
                assert all(not isinstance(result, tuple) for result in results), (case, results)
                assert all(same(result, results[0]) for result in results), case


@pytest.mark.parametrize("value", [*NUMBERS, *OBJECTS, *ARRAYS], ids=lambda value: type(value).__name__)
def test_number_of_threads(value):
    got = outcome(histeq.set_num_threads, {"n": value})
    histeq.set_num_threads(None)
    assert got is None or re.match(r"n must be (an int or None|from 1 to 4096), got", got[1]), got


def test_numbers_beyond_all_floats_are_infinite(backend):
    assert same(
        histeq.clahe(GREY, clip_limit=10**400, backend=backend), histeq.clahe(GREY, clip_limit=np.inf)
    )
    assert same(histeq.clahe(GREY, clip_limit=-(10**400), backend=backend), histeq.clahe(GREY, clip_limit=0))
    assert same(histeq.equalize(FLOAT, nodata=10**400, backend=backend), histeq.equalize(FLOAT))
    for number in (10**400, Fraction(10**400), 10**5000):
        with pytest.raises(ValueError, match="nodata must be a value that uint8 holds"):
            histeq.equalize(GREY, nodata=number, backend=backend)
