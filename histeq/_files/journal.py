"""The journal of a store that is not finished: how it was begun, what was counted, which blocks are written.

It lies in the store itself, and goes when the store is finished: a store that has one is not. Whoever writes
a block notes it here, so that a run that is lost can be gone on with. This module needs zarr.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

FOLDER = ".histeq"
_BEGUN = f"{FOLDER}/begun.json"


class Journal:
    """The journal of a store of zarr's, to which one may be written or not."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.used = False
        """Whether there is anything that is worth keeping."""

    def begun(self) -> dict[str, Any] | None:
        """Return how the store was begun; None: it is finished, or is none."""
        found = self._get(_BEGUN)
        return None if found is None else dict(json.loads(found))

    def begin(self, how: Mapping[str, Any]) -> None:
        """Note how the store is begun, before anything else is written."""
        self._set(_BEGUN, json.dumps(how, indent=1).encode())

    def load(self, step: str) -> NDArray[Any] | None:
        """Return what a step has counted."""
        found = self._get(f"{FOLDER}/{step}.npy")
        return None if found is None else np.load(io.BytesIO(found), allow_pickle=False)

    def save(self, step: str, counted: NDArray[Any]) -> None:
        """Note what a step has counted."""
        file = io.BytesIO()
        np.save(file, counted, allow_pickle=False)
        self._set(f"{FOLDER}/{step}.npy", file.getvalue())

    def done(self, step: str) -> set[int]:
        """Return the numbers of the tasks of a step that are done."""
        return {int(key.rpartition("/")[2]) for key in sync(self._listed(f"{FOLDER}/{step}/"))}

    def mark(self, step: str, number: int) -> None:
        """Note that a task is done."""
        self._set(f"{FOLDER}/{step}/{number}", b"done")

    def end(self) -> None:
        """Remove the journal: the store is finished."""
        sync(self._store.delete_dir(FOLDER))

    async def _listed(self, prefix: str) -> list[str]:
        return [key async for key in self._store.list_prefix(prefix)]

    def _get(self, key: str) -> bytes | None:
        value = sync(self._store.get(key, prototype=default_buffer_prototype()))
        return None if value is None else value.to_bytes()

    def _set(self, key: str, value: bytes) -> None:
        sync(self._store.set(key, default_buffer_prototype().buffer.from_bytes(value)))
