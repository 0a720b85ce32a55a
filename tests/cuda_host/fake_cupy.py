"""A CuPy without a GPU: arrays in host memory, kernels executed by host.py.

It has what the backend uses, and refuses what CuPy refuses: an array does not turn into NumPy's by itself,
and a kernel takes arrays, NumPy scalars and structures only.

Streams other than the null stream are as late as they may be: kernels and copies wait until somebody
synchronises, so that a missing wait shows as wrong pixels. Memory is limited, new arrays hold no zeros.
"""

import contextlib
import ctypes
import functools
import sys
import types
import warnings
import weakref
from typing import ClassVar

import numpy as np
from histeq_kernels import cuda as kernels
from histeq_kernels.cuda.interface import CLUSTER

from . import host


class Pointer:
    def __init__(self, ptr, owner=None):
        self.ptr, self.owner = ptr, owner

    def copy_from_host_async(self, address, size, stream):
        Pinned.check(address, size)
        stream.do(lambda: Pinned.check(address, size) or ctypes.memmove(self.ptr, address, size))

    def copy_to_host_async(self, address, size, stream):
        Pinned.check(address, size)
        stream.do(lambda: Pinned.check(address, size) or ctypes.memmove(address, self.ptr, size))


class Pinned:
    """Pinned memory: given back when the caller lets go of it, as by CuPy's pool."""

    blocks: ClassVar = {}  # {address: (size, memory)}

    @classmethod
    def allocate(cls, size):
        memory = np.full(size, 0xA5, np.uint8)
        address = memory.ctypes.data
        cls.blocks[address] = (size, memory)
        handle = (ctypes.c_char * size).from_buffer(memory)
        weakref.finalize(handle, cls.blocks.pop, address).atexit = False
        return handle

    @classmethod
    def check(cls, address, size):
        start = max((start for start in cls.blocks if start <= address), default=None)
        if start is None or address + size > start + cls.blocks[start][0]:
            raise RuntimeError("a copy without pinned memory, or with memory that was given back")


class Stream:
    """A stream that puts off its work."""

    current: ClassVar = []
    count = 0

    def __init__(self, non_blocking=False):
        assert non_blocking, "it would wait for the null stream"
        Stream.count += 1
        self.ptr, self.queue, self.alive = 64 * Stream.count, [], []

    def do(self, work):
        self.queue.append(work)

    def drain(self):
        """Do what is to be done. Arrays stay: what comes next on this stream may be given their addresses."""
        for work in self.queue:
            work()
        self.queue.clear()

    def synchronize(self):
        self.drain()
        self.alive.clear()

    def __enter__(self):
        Stream.current.append(self)
        return self

    def __exit__(self, *error):
        assert Stream.current.pop() is self


class NullStream:
    ptr = 0

    def do(self, work):
        work()

    def drain(self):
        pass


def current_stream():
    return Stream.current[-1] if Stream.current else NullStream()


class OutOfMemoryError(MemoryError):
    pass


def account(array):
    """Count what a new array takes until it is gone."""
    if Machine.used + array.array.nbytes > Machine.memory:
        raise OutOfMemoryError(f"Out of memory allocating {array.array.nbytes:,} bytes")
    Machine.used += array.array.nbytes
    weakref.finalize(array.array, _release, array.array.nbytes).atexit = False
    return array


def _release(size):
    Machine.used -= size


class Device:
    current = 0

    def __init__(self, index=0):
        self.id = int(index)

    def __eq__(self, other):
        return self.id == other.id

    def __hash__(self):
        return self.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    @property
    def attributes(self):
        return {
            "MultiProcessorCount": Machine.multiprocessors,
            "MaxSharedMemoryPerBlockOptin": Machine.shared,
            "L2CacheSize": Machine.cache,
            "CooperativeLaunch": Machine.cooperates,
        }

    @property
    def compute_capability(self):
        return Machine.compute_capability

    def __enter__(self):
        self.before, Device.current = Device.current, self.id
        return self

    def __exit__(self, *error):
        Device.current = self.before


class Machine:
    """The device: few multiprocessors keep the number of blocks small."""

    @classmethod
    def order(cls):
        """Return the seed of a launch; 0: threads in order."""
        return cls.seed if cls.seed % cls.shuffled == 0 else 0

    multiprocessors = 3
    shared = 232448
    cache = 1 << 40  # so that batches go by clusters where a test says so only
    cooperates = 0  # likewise
    together = 4  # blocks that the device holds
    compute_capability = "90"
    memory = 1 << 33  # bytes; what arrays made by CuPy's functions take is counted
    used = 0
    seed = 0
    shuffled = 4  # one launch in so many has its threads in a drawn order, which takes longer
    launches = 0


def plain(value):
    """Return a value with NumPy's arrays in place of ours."""
    if isinstance(value, ndarray):
        return value.array
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    return value


def wrapped(value, device=None):
    if isinstance(value, np.ndarray | np.generic):
        return ndarray.of(np.asarray(value), device)
    if isinstance(value, tuple | list):
        return type(value)(wrapped(one) for one in value)
    return value


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801
    __module__ = "cupy"
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, memptr=None):
        if memptr is None:
            self.array = np.empty(shape, dtype)
        else:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            buffer = (ctypes.c_char * size).from_address(memptr.ptr)
            self.array = np.frombuffer(buffer, dtype).reshape(shape)
            self.owner = memptr.owner
        self.device = Device(Device.current)

    @classmethod
    def of(cls, array, device=None):
        self = cls.__new__(cls)
        self.array, self.device = array, device or Device(Device.current)
        if Stream.current:  # what the stream has still to do may use it
            Stream.current[-1].alive.append(array)
        return self

    @property
    def data(self):
        return Pointer(self.array.__array_interface__["data"][0], self)

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "version": 3, "stream": 1}

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        current_stream().drain()
        keywords = {name: tuple(map(plain, v)) if name == "out" else plain(v) for name, v in keywords.items()}
        for value in inputs:
            if isinstance(value, np.ndarray) and value.ndim:
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        result = getattr(ufunc, method)(*map(plain, inputs), **keywords)
        if "out" in keywords:
            return inputs[0] if plain(inputs[0]) is keywords["out"][0] else wrapped(result, self.device)
        return wrapped(result, self.device)

    def __array_function__(self, function, _, arguments, keywords):
        return wrapped(
            function(*map(plain, arguments), **{k: plain(v) for k, v in keywords.items()}), self.device
        )

    def __getitem__(self, index):
        return ndarray.of(np.asarray(self.array[plain(index)]), self.device)

    def __setitem__(self, index, value):
        current_stream().drain()
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        self.array[plain(index)] = plain(value)

    def __len__(self):
        return len(self.array)

    def __bool__(self):
        return bool(self.array)

    def __float__(self):
        return float(self.array)

    def get(self):
        current_stream().drain()
        return self.array.copy(order="K")


def _forward_property(name):
    return property(lambda self: getattr(self.array, name))


def _forward_method(name):
    def method(self, *arguments, **keywords):
        if name not in ("transpose", "reshape", "view"):
            current_stream().drain()
        arguments, keywords = map(plain, arguments), {k: plain(v) for k, v in keywords.items()}
        return wrapped(getattr(self.array, name)(*arguments, **keywords), self.device)

    return method


for _name in ("shape", "strides", "dtype", "itemsize", "size", "ndim", "nbytes", "flags", "T"):
    setattr(ndarray, _name, _forward_property(_name))
ndarray.T = property(lambda self: wrapped(self.array.T, self.device))
for _name in ("transpose", "astype", "reshape", "ravel", "copy", "view", "sum", "min", "max", "all", "any"):
    setattr(ndarray, _name, _forward_method(_name))


class Kernel:
    def __init__(self, library, name):
        self.library, self.name = library, name
        self.max_dynamic_shared_size_bytes = 49152

    @property
    def kernel(self):
        return self

    def __call__(self, grid, block, arguments, *, shared_mem=0, enable_cooperative_groups=False):
        together = CLUSTER if self.name.endswith("_clusters") else 1
        if enable_cooperative_groups:  # CuPy makes the grid smaller, without a word
            assert len(grid) == 1
            grid = (min(*grid, Machine.together),)
            together = grid[0]
        if shared_mem > self.max_dynamic_shared_size_bytes or shared_mem > Machine.shared:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        if not all(1 <= n <= most for n, most in zip(grid, (2**31 - 1, 65535, 65535), strict=False)):
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        for argument in arguments:
            known = isinstance(argument, ndarray | np.generic) or (
                isinstance(argument, np.ndarray) and argument.dtype.names
            )
            if not known:
                raise TypeError(f"Unsupported type {type(argument)}")
            if isinstance(argument, ndarray) and argument.device.id != Device.current:
                raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an array of another device")
        Machine.seed += 1
        Machine.launches += 1
        seed, values = Machine.order(), list(map(plain, arguments))
        current_stream().do(
            lambda: host.launch(self.library, self.name, grid, block[0], values, shared_mem, seed, together)
        )


class RawModule:
    units = None  # {source: library}, in place of the real ones

    def __init__(self, *, code, options):
        assert options == kernels.OPTIONS
        module = next(name for name in kernels.MODULES if kernels.source(name) == code)
        self.library = RawModule.units[module] if RawModule.units else host.load(module)

    def get_function(self, name):
        return Kernel(self.library, name)


class CUDARuntimeError(RuntimeError):
    pass


def module():
    """Return the module to put into sys.modules as "cupy"."""
    fake = types.ModuleType("cupy")
    fake.__path__ = []
    fake.ndarray, fake.RawModule = ndarray, RawModule
    fake.asnumpy = lambda array, **_: array.get() if isinstance(array, ndarray) else np.asarray(array)
    fake.asarray = lambda array, dtype=None: (
        array if isinstance(array, ndarray) else ndarray.of(np.array(array, dtype, order="K"))
    )
    fake.may_share_memory = lambda a, b: np.may_share_memory(plain(a), plain(b))
    for name in (
        "ascontiguousarray", "broadcast_to", "unique", "cumsum", "searchsorted", "isfinite", "where",
        "maximum", "stack",
    ):  # fmt: skip
        setattr(fake, name, _wrapping(getattr(np, name)))
    fake.zeros = lambda shape, dtype: account(ndarray.of(np.zeros(shape, dtype)))
    fake.empty = lambda shape, dtype: _poisoned(np.empty(shape, dtype))
    fake.empty_like = lambda array, dtype=None: _poisoned(np.empty_like(plain(array), dtype))
    fake.lib = types.SimpleNamespace(
        stride_tricks=types.SimpleNamespace(as_strided=_wrapping(np.lib.stride_tricks.as_strided))
    )
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 2,
        getDevice=lambda: Device.current,
        memGetInfo=lambda: (Machine.memory - Machine.used, Machine.memory),
        getDeviceProperties=lambda _: {"name": b"no GPU: kernels on the CPU", "major": 9, "minor": 0},
        CUDARuntimeError=CUDARuntimeError,
    )
    fake.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        alloc_pinned_memory=Pinned.allocate,
        get_current_stream=current_stream,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=runtime,
    )
    fake.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 0)
    return fake


def _poisoned(array):
    array.fill(np.frombuffer(b"\xa5" * array.itemsize, array.dtype)[0])
    return account(ndarray.of(array))


def _wrapping(function):
    def call(*arguments, **keywords):
        current_stream().drain()
        return wrapped(function(*map(plain, arguments), **{k: plain(v) for k, v in keywords.items()}))

    return call


@functools.cache
def has_gpu():
    """Tell whether the real CuPy is here and finds a device."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # CuPy says a missing driver in several ways
        return False


@contextlib.contextmanager
def installed():
    """Put the fake in place of CuPy, and let the backend be imported anew."""
    before = _modules()
    _replace({"cupy": module()})
    try:
        yield sys.modules["cupy"]
    finally:
        _replace(before)


def _modules():
    """Return CuPy, real or fake, and the modules that have imported it."""
    ours = "histeq._backends.cupy"
    names = [name for name in sys.modules if name in ("cupy", ours) or name.startswith(f"{ours}.")]
    return {name: sys.modules[name] for name in names}


def _replace(modules):
    import histeq._backends
    from histeq._core import dispatch as _dispatch

    for name in _modules():
        del sys.modules[name]
    vars(histeq._backends).pop("cupy", None)
    sys.modules.update(modules)
    if "histeq._backends.cupy" in modules:
        histeq._backends.cupy = modules["histeq._backends.cupy"]
    _dispatch._load.cache_clear()
    _dispatch._default.cache_clear()
    _dispatch.fast_path.cache_clear()
