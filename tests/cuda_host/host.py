"""The kernels on the CPU: the very sources, compiled by g++ with host.h, launched through ctypes."""

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
from histeq_kernels import cuda
from histeq_kernels.cuda.interface import DEFINES

HEADER, FIBERS = (Path(__file__).with_name(name) for name in ("host.h", "host.cpp"))
COMPILER = os.environ.get("CXX", "g++")
FLAGS = (
    "-std=c++17", "-fPIC", "-U_FORTIFY_SOURCE", "-w", "-fno-strict-aliasing",
    "-ffp-contract=off", "-fno-exceptions", "-fvisibility=hidden",
    # What CUDA leaves undefined or traps on: host.h turns these into a failed launch.
    "-fsanitize=alignment,shift,signed-integer-overflow", "-fsanitize-undefined-trap-on-error", *DEFINES,
)  # fmt: skip


@functools.cache
def cache_folder():
    """Return the folder of what was compiled, which all processes share."""
    folder = Path(tempfile.gettempdir()) / f"histeq-cuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def build(source, names, keep=True):
    """Compile a unit with a launcher for each kernel; return the library.

    A library is kept under the digest of all that it is made of, and compiled once for all processes.
    One that is not kept runs so shortly that optimizing it would take longer.
    """
    launchers = "\n".join(
        f'extern "C" __attribute__((visibility("default"))) const char* launch_{name}'
        "(const unsigned* shape, void** arguments, unsigned count) "
        f"{{ return host::launch_kernel({name}, shape, arguments, count); }}"
        for name in names
    )
    source = source.replace("extern __shared__ uint4 shared_memory[];", "")  # host.h has it
    fibers = _compiled(FIBERS.read_text(encoding="utf-8"), ".cpp", ".o", ("-c", *_with_header("-O1")))
    options = ("-shared", str(fibers), *_with_header("-O1" if keep else "-O0"))
    library = _compiled(f"{source}\n{launchers}", ".cpp", ".so", options)
    loaded = ctypes.CDLL(str(library))
    if not keep:
        library.unlink()
    return loaded


def _with_header(level):
    """Return the options that include the header, precompiled at a level of optimization."""
    header = _compiled(HEADER.read_text(encoding="utf-8"), ".h", ".h.gch", (level,))
    return level, "-include", str(header.with_suffix(""))  # beside which g++ looks for the precompiled one


def _compiled(text, kind, result, options=()):
    """Compile a text that is a file of a kind, unless that was done before; return the resulting file."""
    key = hashlib.sha256(repr((text, FLAGS, options, COMPILER)).encode()).hexdigest()[:20]
    folder = cache_folder()
    file = folder / f"{key}{result}"
    if not file.exists():
        source, unfinished = (folder / f"{key}.{os.getpid()}{suffix}" for suffix in (kind, result))
        source.write_text(text, encoding="utf-8")
        command = [COMPILER, *FLAGS, *options, str(source), "-o", str(unfinished)]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[:5000])
        source.replace(folder / f"{key}{kind}")
        unfinished.replace(file)
    return file


@functools.cache
def load(module):
    return build(cuda.source(module), cuda.kernels(module))


_LAUNCHING = threading.Lock()  # the fibers are those of one launch


class LaunchError(RuntimeError):
    pass


def launch(library, name, grid, threads, arguments, shared=0, seed=0, together=1):
    """Run a kernel. Arguments: NumPy arrays of a structured dtype go by value, others as pointers.

    `together`: how many blocks run at the same time, the others after them.
    """
    grid = (*grid, 1, 1)[:3]
    shape = (ctypes.c_uint32 * 7)(*grid, threads, shared, seed, together)
    values = [_value(argument) for argument in arguments]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    function = getattr(library, f"launch_{name}")
    function.restype = ctypes.c_char_p
    with _LAUNCHING:
        message = function(shape, pointers, len(values))
    if message is not None:
        raise LaunchError(f"{name}: {message.decode()}")


def _value(argument):
    """Return an argument's bytes as an array that stays alive during the launch."""
    if argument is None:
        return np.zeros(1, np.uint64)
    if isinstance(argument, np.ndarray) and argument.dtype.names:
        return argument
    if isinstance(argument, np.ndarray):
        return np.array([argument.__array_interface__["data"][0]], np.uint64)
    if isinstance(argument, float):
        return np.array([argument], np.float64)
    if isinstance(argument, int):
        return np.array([argument], np.int64)
    return np.array([argument])
