"""Calls like one before: the launches of that call again, with other addresses.

What a call checks and launches follows from its options and from its arrays' shapes, strides, dtypes, devices
and alignments, and takes Python longer than a small image takes the device. So a call that comes a second
time is recorded: each launch, and where in its arguments the addresses of the caller's arrays are. From then
on it is launched from the record, its *plan*. Only calls have one that do nothing on the device but launch
our kernels, on the caller's arrays, a new result and the workspace. Plans are kept by the workspace, that is,
for one device, stream and thread: they know the addresses of its memory.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any

import cupy
import numpy as np

from histeq._backends.cupy import device as _device

Array = Any
Range = tuple[int, int]
"""Addresses from the first on, and before the second."""
Start = Callable[[tuple[Any, ...]], None]
"""Launches a kernel with these arguments."""

_REPEATED = ("equalize", "clahe", "histogram", "apply")
"""The functions that have plans: for most arguments they launch kernels and do nothing else on the device."""
_MOST_PLANS = 256
"""The most calls that a workspace knows; the first one goes."""
_MOST_LAUNCHES = 64
"""The most launches of a plan."""
_ALIGNMENT = 16
"""Bytes of the longest load: of addresses, what is left of a division by it counts."""
_NUMBERS = (int, float, np.float32, np.float64)
_PLAIN = (NoneType, bool, str, type, *_NUMBERS)
"""The types of options that say all by their type and their `repr` or value."""


def call(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call a public function of arrays on a device, by its plan where there is one."""
    if function.__name__ not in _REPEATED or _device.recording() is not None:
        return function(*arguments, **options)
    key, arrays = _described(function, arguments, options)
    if key is None:
        return function(*arguments, **options)
    index = arrays[0].data.device_id
    if index != cupy.cuda.runtime.getDevice():
        with cupy.cuda.Device(index):
            return call(function, arguments, options)
    plans = _device.device(index).workspace().plans
    plan = plans.get(key)
    if plan is not None:
        if plan.serves(arrays) and (result := plan.launch(arrays)) is not None:
            return result
    elif key not in plans:  # most calls with arrays of ever new shapes come once
        if len(plans) >= _MOST_PLANS:
            del plans[next(iter(plans))]
        plans[key] = None
    else:
        with _device.recorded(Recording(arrays)) as recording:
            result = function(*arguments, **options)
        plans[key] = recording.plan(result)
        return result
    return function(*arguments, **options)


def _described(
    function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...] | None, list[Array]]:
    """Return all that decides what a call launches, None where that is not known, and the arrays."""
    key: list[Any] = [function]
    arrays: list[Array] = []
    pointers: list[int] = []
    named = options.items() if not arguments else (*enumerate(arguments), *options.items())
    for name, value in named:
        kind = type(value)
        if kind is cupy.ndarray:
            data = value.data
            pointer = data.ptr
            arrays.append(value)
            pointers.append(pointer)
            key += (
                name, value.shape, value.strides, value.dtype.str, data.device_id, pointer % _ALIGNMENT,
                pointers.index(pointer),
            )  # fmt: skip
        elif kind is float:
            key += name, value.hex()  # 0.0 == -0.0, and NaN is no NaN
        elif kind in _PLAIN:
            key += name, kind, value
        elif isinstance(value, np.dtype):
            key += name, value.str
        elif kind is tuple and all(type(one) in _NUMBERS for one in value):
            key += name, repr(value)
        else:
            return None, arrays
    return tuple(key), arrays


# Plans -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where an argument of a launch holds an address of the caller's."""

    argument: int
    field: str | None
    """That of a structure; None: the argument is the address."""
    array: int
    """The array, by its number among the call's; the result comes after them."""
    offset: int
    """Bytes from the array's first element."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch, and what differs the next time."""

    start: Start
    arguments: tuple[Any, ...]
    places: tuple[Place, ...]

    def again(self, arrays: list[Array], pointers: list[int]) -> None:
        """Launch the kernel with these arrays, which have these addresses."""
        arguments = list(self.arguments)
        for place in self.places:
            at, which, offset = place.argument, place.array, place.offset
            if place.field is not None:
                structure = arguments[at] = arguments[at].copy()
                structure[place.field] = pointers[which] + offset
            else:  # an array goes by its address
                arguments[at] = np.uint64(pointers[which] + offset) if offset else arrays[which]
        self.start(tuple(arguments))


@dataclass(frozen=True, slots=True)
class Plan:
    """The launches of a call."""

    launches: tuple[Launch, ...]
    extents: tuple[Range, ...]
    """Which bytes the arrays have, from their first elements on; before these where strides descend."""
    pairs: tuple[tuple[int, int], ...]
    """The arrays that began at different addresses: none of them shared memory."""
    returned: int | None
    """The array that the call returns, by its number; None: a new one."""
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """Those of what is returned; None: it is contiguous."""
    dtype: np.dtype

    def serves(self, arrays: list[Array]) -> bool:
        """Tell whether the arrays share no memory, as those of the recorded call did not.

        Where they do, the call may be wrong, and the public function has to check it.
        """
        if not self.launches:
            return False
        for i, j in self.pairs:
            a, b = arrays[i].data.ptr, arrays[j].data.ptr
            (a_start, a_stop), (b_start, b_stop) = self.extents[i], self.extents[j]
            if a + a_start < b + b_stop and b + b_start < a + a_stop:
                return False
        return True

    def launch(self, arrays: list[Array]) -> Array:
        """Launch the kernels on arrays like those of the recorded call; return the result.

        None where there is no memory for one, which the public function says better.
        """
        try:
            result = self._new() if self.returned is None else arrays[self.returned]
        except Exception as error:
            if not _device.is_out_of_memory(error):
                raise
            return None
        lent = [*arrays, result]
        pointers = [array.data.ptr for array in lent]
        for launch in self.launches:
            launch.again(lent, pointers)
        return result

    def _new(self) -> Array:
        if self.strides is None:
            return cupy.empty(self.shape, self.dtype)
        memory = cupy.empty(max(math.prod(self.shape), 1), self.dtype)
        return cupy.ndarray(self.shape, self.dtype, memory.data, self.strides)


class Recording:
    """What a call launches, and on which memory."""

    def __init__(self, arrays: list[Array]) -> None:
        self._arrays, self._given = list(arrays), len(arrays)
        self._launches: list[Launch] = []
        self._is_complete = all(array.size for array in arrays)
        self._workspace = _device.device(arrays[0].data.device_id).workspace()

    def made(self, array: Array) -> None:
        """Take note of a new array: the result of the call, if it is the only one."""
        self._arrays.append(array)

    def give_up(self) -> None:
        """Say that the call does something that no plan does."""
        self._is_complete = False

    def add(self, start: Start, arguments: tuple[Any, ...]) -> None:
        """Take note of a launch."""
        kept: list[Any] = []
        places: list[Place] = []
        for at, argument in enumerate(arguments):
            found: list[Place] = []
            if isinstance(argument, np.ndarray):
                argument = argument.copy()
                for field in _addresses_in(argument.dtype):
                    found += self._place(at, field, int(argument[field]))
                kept.append(argument if found else _device.ready(argument))
            elif isinstance(argument, cupy.ndarray | np.uint64):
                pointer = int(argument) if isinstance(argument, np.uint64) else argument.data.ptr
                found = self._place(at, None, pointer)
                kept.append(None if found else argument)  # a plan keeps none of the caller's arrays alive
            else:
                kept.append(argument)
            places += found
        self._launches.append(Launch(start, tuple(kept), tuple(places)))

    def _place(self, at: int, field: str | None, pointer: int) -> list[Place]:
        """Return the place of an address of the caller's; none where it is the workspace's, or no address."""
        if pointer == 0 or self._workspace.holds(pointer):
            return []
        for number, array in enumerate(self._arrays):
            first, (start, stop) = array.data.ptr, _extent(array)
            if first + start <= pointer < first + stop:
                return [Place(at, field, number, pointer - first)]
        self._is_complete = False
        return []

    def plan(self, returned: Array) -> Plan:
        """Return the plan of the call, one that serves nothing where it has none."""
        arrays, made = self._arrays[: self._given], self._arrays[self._given :]
        extents = tuple(map(_extent, arrays))
        pairs = tuple(
            (i, j)
            for i, j in itertools.combinations(range(self._given), 2)
            if arrays[i].data.ptr != arrays[j].data.ptr
        )
        number = next((i for i, array in enumerate(arrays) if array is returned), None)
        plan = Plan(tuple(self._launches), extents, pairs, number, *_memory_of(returned))
        is_made = len(made) == 1 and returned.nbytes == made[0].nbytes and _is_dense(returned)
        is_known = not made if number is not None else is_made
        is_served = self._is_complete and is_known and len(self._launches) <= _MOST_LAUNCHES
        return plan if is_served and plan.serves(arrays) else replace(plan, launches=())


def _memory_of(array: Array) -> tuple[tuple[int, ...], tuple[int, ...] | None, np.dtype]:
    """Return an array's shape, its strides unless it is contiguous, and its dtype."""
    return array.shape, None if array.flags.c_contiguous else array.strides, array.dtype


def _is_dense(array: Array) -> bool:
    """Tell whether an array has all bytes between its first and its last one."""
    return _extent(array) == (0, array.nbytes)


@functools.cache
def _addresses_in(dtype: np.dtype) -> tuple[str, ...]:
    """Return the fields of a structure that are addresses: no other has 64 bits without a sign."""
    return tuple(name for name in dtype.names or () if dtype[name] == np.uint64)


def _extent(array: Array) -> Range:
    """Return which bytes an array has, from its first element on."""
    ends = [stride * (size - 1) for stride, size in zip(array.strides, array.shape, strict=True)]
    return sum(end for end in ends if end < 0), sum(end for end in ends if end > 0) + array.itemsize
