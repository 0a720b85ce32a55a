"""A CuPy without a GPU: arrays in host memory, kernels executed by host.py.

It has what the backend uses, and refuses what CuPy refuses: an array does not turn into NumPy's by itself,
and a kernel takes arrays, NumPy scalars and structures only.

Streams other than the null stream are as late as they may be: kernels and copies wait until somebody
synchronises, so that a missing wait shows as wrong pixels. Memory is limited, new arrays hold no zeros.

A stream that captures a graph does nothing; the graph knows addresses, not arrays. What an array lets go of
is lent to the next one on its stream, as by CuPy's pool: a graph that still uses it shows as wrong pixels.
"""

import collections
import contextlib
import ctypes
import functools
import gc
import sys
import threading
import types
import warnings
import weakref
from typing import ClassVar

import numpy as np
from histeq_kernels import cuda as kernels

from . import host


class Pointer:
    """A place in a device's memory that begins at the address `base`; `owner` keeps it alive."""

    def __init__(self, ptr, base, owner, device_id):
        self.ptr, self.base, self.owner, self.device_id = ptr, base, owner, device_id

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


class CUDARuntimeError(RuntimeError):
    pass


class Current(threading.local):
    """What is current in a thread: the device, and on each device the streams, the innermost last."""

    def __init__(self):
        self.device = 0
        self.streams = collections.defaultdict(list)


current = Current()


class Stream:
    """A stream that puts off its work, or captures it."""

    count = 0
    known: ClassVar = weakref.WeakValueDictionary()  # {ptr: stream}

    def __init__(self, non_blocking=False):
        assert non_blocking, "it would wait for the null stream"
        Stream.count += 1
        self.ptr, self.queue, self.alive = 64 * Stream.count, [], []
        self.device_id = current.device
        self.captured = None  # the work of a graph in the making
        Stream.known[self.ptr] = self

    @classmethod
    def from_external(cls, other):
        version, ptr = other.__cuda_stream__()
        assert version == 0
        return cls.known[ptr] if ptr else NullStream()

    def do(self, work):
        (self.queue if self.captured is None else self.captured).append(work)

    def drain(self):
        """Do what is to be done. Arrays stay: what comes next on this stream may be given their addresses."""
        self.refuse_capture()
        for work in self.queue:
            work()
        self.queue.clear()

    def synchronize(self):
        self.drain()
        self.alive.clear()

    def begin_capture(self):
        self.synchronize()
        self.captured = []

    def end_capture(self):
        captured, self.captured = self.captured, None
        return Graph(captured)

    def is_capturing(self):
        return self.captured is not None

    def refuse_capture(self):
        if self.is_capturing():
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
            )

    def __enter__(self):
        if self.device_id != current.device:
            raise RuntimeError("The device that the stream is created on does not match with the current one")
        current.streams[self.device_id].append(self)
        return self

    def __exit__(self, *error):
        assert current.streams[self.device_id].pop() is self


class NullStream:
    ptr = 0

    def __init__(self):
        self.device_id = current.device

    def do(self, work):
        work()

    def drain(self):
        pass

    synchronize = refuse_capture = drain

    def is_capturing(self):
        return False

    __enter__, __exit__ = Stream.__enter__, Stream.__exit__


class Graph:
    def __init__(self, work):
        self.work = work

    def launch(self, stream=None):
        for work in self.work:
            (stream or current_stream()).do(work)


def external_stream(ptr, device_id=-1):
    """Stand for the class ExternalStream, which CuPy 14 deprecates."""
    warnings.warn(
        "ExternalStream is deprecated. Use Stream.from_external()", DeprecationWarning, stacklevel=2
    )
    return Stream.known[ptr] if ptr else NullStream()


def current_stream():
    return current.streams[current.device][-1] if current.streams[current.device] else NullStream()


class OutOfMemoryError(MemoryError):
    pass


class Pool:
    """Device memory as CuPy lends it: each stream has what its arrays let go of, and is lent that first."""

    unused: ClassVar = {}  # {(device, stream, size): [bytes]}
    allocators: ClassVar = []  # that are used in its stead

    @classmethod
    def allocate(cls, size):
        """Return a pointer to new memory."""
        if cls.allocators:
            return cls.allocators[-1](size)
        device = current.device
        if Machine.used + size > Machine.memory:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        Machine.used_on[device] += size
        unused = cls.unused.setdefault((device, current_stream().ptr, size), [])
        memory = unused.pop() if unused else np.empty(size + 1, np.uint8)
        owner = (ctypes.c_char * (size + 1)).from_buffer(memory)
        weakref.finalize(owner, cls._take_back, unused, memory, size, device).atexit = False
        address = memory.ctypes.data
        Memory.add(address, size, device, owner)
        return Pointer(address, address, owner, device)

    @staticmethod
    def _take_back(unused, memory, size, device):
        Machine.used_on[device] -= size
        unused.append(memory)

    @classmethod
    @contextlib.contextmanager
    def using_allocator(cls, allocator):
        cls.allocators.append(allocator)
        try:
            yield
        finally:
            cls.allocators.pop()


class Memory:
    """Which device has which memory, as far as it is known."""

    blocks: ClassVar = collections.defaultdict(dict)  # {device: {address: block}}

    @classmethod
    def add(cls, address, size, device, owner):
        """Take note of memory, until its owner is gone."""
        cls.blocks[device][address] = block = range(address, address + size)
        weakref.finalize(owner, cls._remove, cls.blocks[device], block).atexit = False

    @staticmethod
    def _remove(blocks, block):
        if blocks.get(block.start) is block:
            del blocks[block.start]

    @classmethod
    def check(cls, values):
        """Refuse arguments of a launch with an address on another device, in structures, too."""
        elsewhere = [blocks for device, blocks in cls.blocks.items() if device != current.device]
        others = [block for blocks in elsewhere for block in list(blocks.values())]
        for value in values if others else ():
            kind = value.dtype
            if kind.names:
                found = [value[name] for name in kind.names if kind[name] == np.uint64]
            else:
                found = [value] if kind == np.uint64 else []
            for address in map(int, found):
                if any(address in block for block in others):
                    raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an address on another device")


class UnownedMemory:
    def __init__(self, ptr, size, owner, device_id=-1):
        if not ptr and device_id < 0:
            raise RuntimeError("UnownedMemory requires explicit device ID for a null pointer.")
        self.ptr, self.owner, self.device_id = ptr, owner, device_id


def memory_pointer(memory, offset):
    return Pointer(memory.ptr + offset, memory.ptr, memory, memory.device_id)


class Held:
    """Memory at an address, seen by NumPy as an array that keeps the memory's owner alive."""

    def __init__(self, address, shape, dtype, owner, strides=None):
        self.__array_interface__ = {
            "data": (address, False), "shape": shape, "typestr": np.dtype(dtype).str, "strides": strides,
            "version": 3,
        }  # fmt: skip
        self.owner = owner


def unheld(value):
    """Return a value with NumPy's arrays in place of ours, which keep nothing alive."""
    if isinstance(value, tuple | list):
        return type(value)(map(unheld, value))
    if not isinstance(value, ndarray):
        return value
    array = value.array
    address = array.__array_interface__["data"][0]
    return np.asarray(Held(address, array.shape, array.dtype, None, array.strides))


class Device:
    def __init__(self, index=None):
        self.id = current.device if index is None else int(index)
        self.before = []  # the devices that were current when this one became so

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
        }

    @property
    def compute_capability(self):
        return Machine.compute_capability

    def synchronize(self):
        for stream in list(Stream.known.values()):
            if stream.device_id == self.id:
                stream.synchronize()

    def __enter__(self):
        self.before.append(current.device)
        current.device = self.id
        return self

    def __exit__(self, *error):
        current.device = self.before.pop()


class Devices(type):
    @property
    def used(cls):
        """The bytes that are used of the current device's memory."""
        return cls.used_on[current.device]


class Machine(metaclass=Devices):
    """Two devices that are alike: few multiprocessors keep the number of blocks small."""

    @classmethod
    def order(cls):
        """Return the seed of a launch; 0: threads in order."""
        return cls.seed if cls.seed % cls.shuffled == 0 else 0

    @classmethod
    def with_left(cls, size):
        """Return the `memory` of which `size` bytes are left, however late Python collects its garbage."""
        gc.collect()
        return cls.used + size

    multiprocessors = 3
    shared = 232448
    cache = 50 << 20
    together = 4  # blocks of a kernel whose blocks wait for one another that run at the same time
    compute_capability = "90"
    memory = 1 << 33  # bytes of each; what arrays made by CuPy's functions take is counted
    used_on: ClassVar = collections.Counter()
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


def wrapped(value, device=None, source=None):
    """Return a value with our arrays in place of NumPy's; views of the array `source` are of its memory."""
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        is_view = source is not None and np.may_share_memory(value, source.array)
        return ndarray.of(value, device, source.base if is_view else None)
    if isinstance(value, tuple | list):
        return type(value)(wrapped(one) for one in value)
    return value


def perform(function, arguments, keywords, device=None):
    """Call a NumPy function with our arrays: now, or whenever the graph that is captured is launched."""
    stream = current_stream()
    source = next((one for one in arguments if isinstance(one, ndarray)), None)
    if not stream.is_capturing():
        stream.drain()
        result = function(*map(plain, arguments), **{name: plain(one) for name, one in keywords.items()})
        return wrapped(result, device, source)
    inputs, named = unheld(tuple(arguments)), {name: unheld(one) for name, one in keywords.items()}
    if named.get("out") is not None:
        stream.do(lambda: function(*inputs, **named))
        return None
    shown = np.asarray(function(*inputs, **named))
    if source is not None and np.may_share_memory(shown, source.array):
        return wrapped(function(*map(plain, arguments), **keywords), device, source)
    result = ndarray(shown.shape, shown.dtype)
    target = unheld(result)
    stream.do(lambda: np.copyto(target, function(*inputs, **named)))
    return result


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801
    __module__ = "cupy"
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = Pool.allocate(size) if memptr is None else memptr
        if size:
            shape = tuple(map(int, np.atleast_1d(shape)))
            self.array = np.asarray(Held(pointer.ptr, shape, dtype, pointer.owner, strides))
        else:
            self.array = np.empty(shape, dtype)
        self.base, self.device = pointer.base, Device(pointer.device_id)

    @classmethod
    def of(cls, array, device=None, base=None):
        """Import an array, as from another library: where its memory begins is where the array does."""
        self = cls.__new__(cls)
        self.array, self.device = array, device or Device()
        self.base = array.__array_interface__["data"][0] if base is None else base
        stream = current_stream()
        if stream.ptr and not stream.is_capturing():
            stream.alive.append(array)  # what the stream has still to do may use it
        return self

    @property
    def data(self):
        return Pointer(self.array.__array_interface__["data"][0], self.base, self.array, self.device.id)

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "version": 3, "stream": 1}

    def __dlpack__(self):
        """Return what `from_dlpack` takes, in place of a capsule."""
        return self.array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        for value in inputs:
            if isinstance(value, np.ndarray) and value.ndim:
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        result = perform(getattr(ufunc, method), inputs, keywords, self.device)
        return keywords["out"][0] if "out" in keywords else result

    def __array_function__(self, function, _, arguments, keywords):
        return perform(function, arguments, keywords, self.device)

    def __getitem__(self, index):
        return wrapped(np.asarray(self.array[plain(index)]), self.device, self)

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        perform(lambda target, at, new, out: target.__setitem__(at, new), (self, index, value), {"out": True})

    def __len__(self):
        return len(self.array)

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def get(self, *, out=None):
        current_stream().drain()
        if out is None:
            return self.array.copy(order="K")
        out[...] = self.array
        return out

    def set(self, array):
        current_stream().drain()
        self.array[...] = array


def _forward_property(name):
    return property(lambda self: getattr(self.array, name))


def _forward_method(name):
    def method(self, *arguments, **keywords):
        if name in ("transpose", "reshape", "view"):
            return wrapped(getattr(self.array, name)(*arguments, **keywords), self.device, self)
        function = lambda array, *rest, **named: getattr(array, name)(*rest, **named)  # noqa: E731
        return perform(function, (self, *arguments), keywords, self.device)

    return method


for _name in ("shape", "strides", "dtype", "itemsize", "size", "ndim", "nbytes", "flags", "T"):
    setattr(ndarray, _name, _forward_property(_name))
ndarray.T = property(lambda self: wrapped(self.array.T, self.device, self))
for _name in ("transpose", "astype", "reshape", "ravel", "copy", "view", "sum", "min", "max", "all", "any"):
    setattr(ndarray, _name, _forward_method(_name))


class CNumpyArray:
    """An argument made ready: CuPy takes microseconds to find the address of a structure."""

    def __init__(self, value):
        self.value = value


class Kernel:
    def __init__(self, library, name):
        self.library, self.name, self.device = library, name, current.device
        self.max_dynamic_shared_size_bytes = 49152

    @property
    def kernel(self):
        return self

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        together = Machine.together if self.name in ("equalize_u8", "equalize_u16") else 1
        if shared_mem > self.max_dynamic_shared_size_bytes or shared_mem > Machine.shared:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        if not all(1 <= n <= most for n, most in zip(grid, (2**31 - 1, 65535, 65535), strict=False)):
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        arguments = [one.value if isinstance(one, CNumpyArray) else one for one in arguments]
        for argument in arguments:
            known = isinstance(argument, ndarray | np.generic) or (
                isinstance(argument, np.ndarray) and argument.dtype.names
            )
            if not known:
                raise TypeError(f"Unsupported type {type(argument)}")
            if isinstance(argument, ndarray) and argument.device.id != current.device:
                raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an array of another device")
        if self.device != current.device:
            raise RuntimeError("CUDA_ERROR_INVALID_HANDLE: a kernel of another device")
        Machine.seed += 1
        Machine.launches += 1
        seed = Machine.order()
        values = [np.uint64(one.data.ptr) if isinstance(one, ndarray) else one.copy() for one in arguments]
        Memory.check(values)
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


def may_share_memory(a, b):
    """Tell it as CuPy does: never where the memory of the arrays begins at different addresses."""
    return a.base == b.base and a.size and b.size and np.may_share_memory(a.array, b.array)


def asarray(array, dtype=None):
    """Return an array on the device: the same, one with the same memory, or a copy."""
    if isinstance(array, ndarray):
        return array
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        held = Held(
            interface["data"][0], interface["shape"], interface["typestr"], array, interface["strides"]
        )
        return ndarray.of(np.asarray(held))
    current_stream().refuse_capture()
    copied = np.array(array, dtype, order="K")
    Memory.add(copied.ctypes.data, copied.nbytes, current.device, copied)
    return ndarray.of(copied)


def module():
    """Return the module to put into sys.modules as "cupy"."""
    fake = types.ModuleType("cupy")
    fake.__path__, fake.__version__ = [], "14, its stand-in"
    fake.ndarray, fake.RawModule = ndarray, RawModule
    fake.asnumpy = lambda array, **_: array.get() if isinstance(array, ndarray) else np.asarray(array)
    fake.asarray = asarray
    fake.from_dlpack = lambda exporter: ndarray.of(exporter.__dlpack__())
    fake.may_share_memory = fake.shares_memory = may_share_memory
    for name in (
        "ascontiguousarray", "broadcast_to", "unique", "cumsum", "searchsorted", "isfinite", "where",
        "maximum", "stack", "true_divide",
    ):  # fmt: skip
        setattr(fake, name, _wrapping(getattr(np, name)))
    fake.copyto = lambda target, source: target.__setitem__(..., source)
    fake.zeros, fake.empty, fake.empty_like = zeros, empty, empty_like
    fake.lib = types.SimpleNamespace(
        stride_tricks=types.SimpleNamespace(as_strided=_wrapping(np.lib.stride_tricks.as_strided))
    )
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 2,
        getDevice=lambda: current.device,
        memGetInfo=lambda: (Machine.memory - Machine.used, Machine.memory),
        driverGetVersion=lambda: 0,
        runtimeGetVersion=lambda: 0,
        getDeviceProperties=lambda _: {"name": b"no GPU: kernels on the CPU", "major": 9, "minor": 0},
        CUDARuntimeError=CUDARuntimeError,
    )
    fake.cuda = types.SimpleNamespace(
        Device=Device,
        Stream=Stream,
        alloc_pinned_memory=Pinned.allocate,
        get_current_stream=current_stream,
        ExternalStream=external_stream,
        MemoryPointer=memory_pointer,
        function=types.SimpleNamespace(CNumpyArray=CNumpyArray),
        UnownedMemory=UnownedMemory,
        using_allocator=Pool.using_allocator,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=runtime,
    )
    pool = types.SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)
    fake.get_default_memory_pool = lambda: pool
    return fake


def zeros(shape, dtype):
    array = ndarray(shape, dtype)
    target = unheld(array)
    current_stream().do(lambda: target.fill(0))  # a memset: while a graph is captured, a part of it
    return array


def empty(shape, dtype):
    array = ndarray(shape, dtype)
    target = unheld(array)
    poison = np.frombuffer(b"\xa5" * target.itemsize, target.dtype)[0]
    if current_stream().is_capturing():
        target.fill(poison)
    else:
        current_stream().do(lambda: target.fill(poison))
    return array


def empty_like(array, dtype=None):
    """Return a new array whose axes lie in memory as those of `array`."""
    strides = np.empty_like(array.array).strides
    order = sorted(range(array.ndim), key=lambda axis: -strides[axis])
    shape = tuple(array.shape[axis] for axis in order)
    inverse = tuple(order.index(axis) for axis in range(array.ndim))
    return empty(shape, array.dtype if dtype is None else dtype).transpose(inverse)


def _wrapping(function):
    def call(*arguments, **keywords):
        if function is np.unique:  # it waits for the number of values
            current_stream().refuse_capture()
        return perform(function, arguments, keywords)

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
        Pool.unused.clear()


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
