"""NVRTC through ctypes: compiles for any architecture without a GPU, and tells what each kernel takes."""

import ctypes
import ctypes.util
import importlib.util
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def library():
    """Return the path of NVRTC: of the package nvidia-cuda-nvrtc, or the system's."""
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations or () if package else ():
        found = sorted(Path(folder).glob("**/libnvrtc.so.*")) + sorted(Path(folder).glob("**/nvrtc64_*.dll"))
        found = [path for path in found if "alt" not in path.name and "builtins" not in path.name]
        if found:
            return str(found[-1])
    return ctypes.util.find_library("nvrtc")


class Nvrtc:
    def __init__(self):
        path = library()
        if path is None:
            raise RuntimeError("NVRTC is missing: pip install nvidia-cuda-nvrtc")
        self.calls = ctypes.CDLL(path)

    def _call(self, name, *arguments):
        code = getattr(self.calls, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with code {code}")

    def version(self):
        """Return the version of NVRTC, (major, minor)."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def compile(self, source, architecture, options):
        """Return the PTX and the cubin, which is empty for a virtual architecture.

        CompileError has the compiler's messages, warnings included.
        """
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        try:
            flags = [f"--gpu-architecture={architecture}", *options]
            array = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
            failed = self.calls.nvrtcCompileProgram(program, len(flags), array)
            log = self._text("nvrtcGetProgramLog", program).decode().strip("\0\n ")
            if failed or log:
                raise CompileError(log or f"code {failed}")
            cubin = b"" if architecture.startswith("compute_") else self._text("nvrtcGetCUBIN", program)
            return self._text("nvrtcGetPTX", program).decode(), cubin
        finally:
            self.calls.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, name, program):
        size = ctypes.c_size_t()
        self._call(f"{name}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(name, program, buffer)
        return buffer.raw


class CompileError(Exception):
    pass


@dataclass
class Usage:
    registers: int = 0
    stack: int = 0  # bytes a thread: where spilled registers would go
    shared: int = 0  # bytes, static
    instructions: int = 0


def usage(cubin):
    """Read from a cubin (an ELF file) what each kernel takes: {name: Usage}."""
    (sections_at,) = struct.unpack_from("<Q", cubin, 0x28)
    entry, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, sections_at + i * entry) for i in range(count)]

    def text(section, offset):
        start = headers[section][4] + offset
        return cubin[start : cubin.index(b"\0", start)].decode()

    names = [text(names_index, header[0]) for header in headers]
    symbols_at = names.index(".symtab")
    symbols = headers[symbols_at]
    strings = symbols[6]

    def symbol(index):
        (name,) = struct.unpack_from("<I", cubin, symbols[4] + 24 * index)
        return text(strings, name)

    kernels = {name[6:]: Usage() for name in names if name.startswith(".text.")}
    for name, header in zip(names, headers, strict=True):
        if name.startswith(".text."):
            kernels[name[6:]].instructions = header[5] // 16
        elif name.startswith(".nv.shared.") and name[11:] in kernels:
            kernels[name[11:]].shared = header[5]
    info = headers[names.index(".nv.info")]
    at, end = info[4], info[4] + info[5]
    fields = {0x2F: "registers", 0x11: "stack"}  # EIATTR_REGCOUNT, EIATTR_FRAME_SIZE
    while at < end:
        form, attribute, size = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if form == 4:
            if attribute in fields:
                index, value = struct.unpack_from("<II", cubin, at)
                if symbol(index) in kernels:
                    setattr(kernels[symbol(index)], fields[attribute], value)
            at += size
    return kernels


def main():
    """Print what each kernel takes on each architecture: python tests/cuda_host/nvrtc.py [sm_90 ...]."""
    sys.path.append(str(Path(__file__).parents[2] / "kernels"))
    from histeq_kernels import cuda
    from histeq_kernels.cuda.interface import THREADS

    nvrtc = Nvrtc()
    for architecture in sys.argv[1:] or ARCHITECTURES:
        # Threads that a multiprocessor holds.
        threads = {"sm_75": 1024, "sm_86": 1536, "sm_89": 1536, "sm_120": 1536}.get(architecture, 2048)
        print(f"\n{architecture:24} registers  stack  instructions  occupancy by registers")
        for module in cuda.MODULES:
            _, cubin = nvrtc.compile(cuda.source(module), architecture, cuda.OPTIONS)
            for name, taken in sorted(usage(cubin).items()):
                blocks = min(65536 // (THREADS * taken.registers), threads // THREADS)
                line = f"{name:24} {taken.registers:9} {taken.stack:6} {taken.instructions:13}"
                print(f"{line} {blocks * THREADS / threads:11.0%}")


if __name__ == "__main__":
    main()
