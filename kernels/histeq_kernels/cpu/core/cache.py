"""The cache of machine code on disk: Numba's, of which no trouble reaches a caller.

An entry that is damaged, or whose index is, is compiled and written anew. Where nothing can be written (a
full disk, a limit on files, no folder that may be written), kernels are compiled in every process.
"""

import pickle
import warnings
import zlib
from contextlib import suppress
from types import FunctionType
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

_warned = False


class _CheckedResults(CompileResultCacheImpl):
    """Compiled functions with a checksum: damaged machine code would end the process."""

    def reduce(self, cres):
        data = dumps(super().reduce(cres))
        return zlib.crc32(data), data

    def rebuild(self, target_context, payload):
        checksum, data = payload
        if zlib.crc32(data) != checksum:
            raise ValueError("the machine code is damaged")
        return super().rebuild(target_context, pickle.loads(data))


class _Cache(FunctionCache):
    _impl_class = _CheckedResults

    def load_overload(self, sig, target_context):
        try:
            # Numba's own method prepares for compiling first: it imports all that its functions may call,
            # linear algebra by SciPy among it. Machine code needs no more than the runtime's symbols.
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except Exception:  # of damaged files anything at all
            with suppress(Exception):
                self.flush()  # or the entry could not be written anew
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn(error)


def cache_of(function: FunctionType) -> Any:
    """Return the cache of a function's machine code; it keeps nothing where nothing can be kept."""
    try:
        return _Cache(function)
    except Exception as error:  # no folder can be written, or the sources are not files
        _warn(error)
        return NullCache()


def _warn(error: Exception) -> None:
    """Say once why starting takes long."""
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        "compiled kernels cannot be kept on disk, so that every process spends seconds on compiling them; "
        f"NUMBA_CACHE_DIR can name a folder that may be written ({type(error).__name__}: {error})",
        RuntimeWarning,
        stacklevel=2,
    )
