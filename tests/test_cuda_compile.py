"""Every CUDA kernel compiles for every architecture, without a warning and within its limits."""

import concurrent.futures
import functools
import hashlib
import importlib
import os
import pickle
import re

import numpy as np
import pytest
from cuda_host.host import cache_folder
from cuda_host.nvrtc import ARCHITECTURES, CompileError, Nvrtc, usage
from histeq_kernels import cuda
from histeq_kernels.cuda.interface import STRUCTURES

# 65,536 registers of a multiprocessor hold two blocks of 512 threads with 64 registers each.
MOST_REGISTERS = 64
# Bytes a thread of local memory. What there is belongs to the call of the function that makes the table, once
# in a launch; spilled registers in a loop over pixels would be more.
MOST_STACK = 96
OPTIONS = (*cuda.OPTIONS, "-ftz=true")  # which CuPy adds
CASES = [(a, m) for m in cuda.MODULES for a in ARCHITECTURES]
# The oldest has the fewest instructions, and sm_90 is what the kernels are made for: the others on demand.
LIKE_OTHERS = ("sm_80", "sm_86", "sm_89", "sm_100", "sm_120")


def compile_unit(nvrtc, architecture, module):
    """Return a unit's PTX and {kernel: Usage}; kept under the digest of all that they are made of."""
    made_of = (cuda.source(module), architecture, OPTIONS, nvrtc.version())
    file = cache_folder() / (hashlib.sha256(repr(made_of).encode()).hexdigest()[:20] + ".pickle")
    if not file.exists():
        ptx, cubin = nvrtc.compile(cuda.source(module), architecture, OPTIONS)
        unfinished = file.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(pickle.dumps((ptx, usage(cubin))))
        unfinished.replace(file)
    return pickle.loads(file.read_bytes())


@functools.cache
def compiled():
    """Compile all units for all architectures, on all processors; return futures of the results."""
    nvrtc = Nvrtc()
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count())
    return {case: pool.submit(compile_unit, nvrtc, *case) for case in CASES if case[0] not in LIKE_OTHERS}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("architecture", "module"), [case for case in CASES if case[0] in LIKE_OTHERS])
def test_compiles_for_similar_architectures(architecture, module):
    _, kernels = compile_unit(Nvrtc(), architecture, module)
    check_limits(kernels, module)


@pytest.mark.parametrize(("architecture", "module"), [case for case in CASES if case[0] not in LIKE_OTHERS])
def test_compiles_within_its_limits(architecture, module):
    _, kernels = compiled()[architecture, module].result()
    check_limits(kernels, module)


def check_limits(kernels, module):
    assert set(kernels) == set(cuda.kernels(module))
    for name, taken in kernels.items():
        assert 0 < taken.registers <= MOST_REGISTERS, name
        assert taken.stack <= MOST_STACK, name
        assert taken.shared <= 1024, name  # static: what the system reserves; ours is dynamic
        assert taken.instructions, name


@pytest.mark.parametrize("module", cuda.MODULES)
def test_small_floats_are_not_flushed_to_zero(module):
    """CuPy's option reaches no operation that matters to a float32 below 1.2e-38; see rounding.cuh."""
    ptx, _ = compiled()["sm_90", module].result()
    flushing = set(re.findall(r"\S+\.ftz\S*", ptx))
    # Roundings to integers, and comparisons of Bins::guess, for which such a number is 0 anyway.
    harmless = re.compile(r"cvt\.r[nmz]i\.ftz\.s(32|64)\.f32|setp\.\w+\.ftz\.f32")
    assert [name for name in flushing if not harmless.fullmatch(name)] == []


def test_rates():
    """The kernels that measure a GPU; that of counters updates them as ours do."""
    rates = importlib.import_module("benchmarks.gpu.rates")
    ptx, cubin = Nvrtc().compile(rates.SOURCE, "sm_90", ("--std=c++17",))
    assert {name for name, taken in usage(cubin).items() if not taken.stack} == {"count", "read"}
    assert len(re.findall(r"\bred\.shared|\batom\.shared", ptx)) == rates.COUNTED


# Structures ------------------------------------------------------------------------------------------


def assertions(name, dtype):
    """Return C++ that compiles only if a structure has the size and the fields of a dtype."""
    yield f"static_assert(sizeof({name}) == {dtype.itemsize});"
    for field, (kind, offset, *_) in dtype.fields.items():
        yield f"static_assert(__builtin_offsetof({name}, {field}) == {offset});"
        yield f"static_assert(sizeof({name}::{field}) == {kind.itemsize});"
        if kind.fields is None:
            is_floating = str(kind.base.kind == "f").lower()
            yield f"static_assert(IsFloating<decltype({name}::{field})>::value == {is_floating});"


TRAITS = """
template <class T> struct IsFloating { static constexpr bool value = false; };
template <> struct IsFloating<double> { static constexpr bool value = true; };
"""


def compile_with(name, dtype):
    units = [text for text in map(cuda.source, cuda.MODULES) if f"\nstruct {name} {{" in text]
    text = "\n".join([min(units, key=len), TRAITS, *assertions(name, dtype)])
    Nvrtc().compile(text, "compute_90", OPTIONS)


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_those_of_the_host(name):
    compile_with(name, STRUCTURES[name])


def test_other_structures_are_noticed():
    rule = STRUCTURES["Rule"].descr
    renamed = [("named" if field == "name" else field, kind) for field, kind in rule]
    exchanged = [rule[1], rule[0], *rule[2:]]
    integers = [(field, "<i8") for field, _ in rule]
    for fields in (renamed, exchanged, integers, rule[:-1], [*rule, ("more", "<i8")]):
        with pytest.raises(CompileError, match=r"static assertion|has no member"):
            compile_with("Rule", np.dtype(fields))
