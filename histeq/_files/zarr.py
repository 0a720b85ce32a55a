"""Zarr, versions 2 and 3, and OME-Zarr, through zarr.

An array becomes pages: see `axes`. A chunk or a shard is read, changed and written as a whole, so two writers
in one lose pixels: the blocks of what is written are its shards, or its chunks where it has none.
"""

import contextlib
import dataclasses
import itertools
import math
import os
import shutil
import threading
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files import cf, ome, urls
from histeq._files.axes import Axes, axes_for, axes_of, check_array
from histeq._files.blocks import Damage, Header, Item, Level, Options, Source, Window
from histeq._files.picture import Unfit
from histeq._files.reasons import reason as reason_of
from histeq._files.zarr_place import METADATA, is_store, unfinished
from histeq._files.zarr_plan import New, Node, Plan, note, plan

_SHARED = 1 << 25
"""Bytes up to which pages that share chunks are decoded together. Those of two rows of chunks are kept."""
_AT_ONCE = 4096
"""Chunks that zarr reads or writes at a time: each takes two kilobytes beside its pixels."""
_PATIENCE = 10.0
"""Seconds to wait for writes that have failed."""


class ZarrSource:
    """An array, or the image of a group."""

    in_blocks = True
    mask: Source | None = None

    def __init__(self, node: Node, limit: int, damage: Damage, store: Any = None) -> None:
        from histeq._files.zarr_limits import limited

        array, axes = node.arrays[0], node.axes[0]
        dtype = np.dtype(array.dtype)
        check_array(axes, dtype, limit)
        self.damage = damage
        blocks = array.shards or array.chunks
        if math.prod(blocks) > max(limit, 1):
            raise Unfit(f"chunks of {blocks} are larger than --max-pixels {limit} allows")
        self._level, self._store = _Level(limited(array), axes, damage=damage), store
        depth, axis = axes.depth(array.chunks)
        size = axes.channels * axes.height * axes.width * dtype.itemsize
        few = not _halves(Window(0, 0, 0, axes.height, axes.width), axes.of_rows(array.chunks))
        together = few and 1 < depth <= _SHARED // max(size, 1)
        self._shared = _Shared(self._level, depth, axis) if together else None
        self.header = Header(
            format="Zarr",
            pages=axes.pages,
            height=axes.height,
            width=axes.width,
            channels=axes.channels,
            dtype=dtype.newbyteorder("="),
            layout=axes.layout,
            alpha=axes.alpha,
            nodata=cf.nodata(array.attrs.asdict(), dtype),
            levels=tuple((level.height, level.width) for level in node.axes[1:]),
            own=_own(node),
            keep={"node": node, "axes": axes, "color": axes.color},
        )

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a chunk: that of a shard's chunks, which are read one by one."""
        return self._level.axes.of_rows(self._level.array.chunks)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        return (self._shared or self._level).read(window)

    def close(self) -> None:
        """Close the store if it was opened here."""
        if self._store is not None:
            self._store.close()


def _own(node: Node) -> tuple[Item, ...]:
    """Return what only Zarr files have."""
    attributes = sorted(name for name in node.arrays[0].attrs.asdict() if name not in cf.KNOWN)
    own = [Item(f"the attributes {', '.join(attributes)}", ("Zarr",))] if attributes else []
    return (*own, *([Item("the attributes of its group", ("Zarr",))] if node.attributes else []))


class _Level:
    """An array that is read, or written by whole shards."""

    def __init__(self, array: Any, axes: Axes, *, new: bool = False, damage: Damage | None = None) -> None:
        self.array, self.axes, self._damage = array, axes, damage or Damage()
        self._damage.parts = math.prod(-(-n // of) for n, of in zip(array.shape, array.chunks, strict=True))
        self.height, self.width = axes.height, axes.width
        self._blocks = array.shards or array.chunks
        several = any(size > 1 for size in axes.of_pages(self._blocks)) and axes.pages > 1
        # Pages that share a chunk are written one after another.
        self._lock = threading.Lock() if several else contextlib.nullcontext()
        self._new = new
        self._skips = new and np.dtype(array.dtype).kind != "f"  # floats have two zeros

    def __reduce__(self) -> Any:
        """Travel to a worker of a cluster; no two of them write one block."""
        return _unpickled, (self.array, self.axes, self._new)

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a shard, or of a chunk."""
        return self.axes.of_rows(self._blocks)

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Write the pixels of a window made of whole blocks."""
        rows, columns = self.blocks(window.page)
        _check_whole(window.top, window.height, rows, self.height)
        _check_whole(window.left, window.width, columns, self.width)
        halves = _halves(window, (rows, columns))
        if halves:
            for half in halves:
                top, left = half.top - window.top, half.left - window.left
                self.write(half, pixels[top : top + half.height, left : left + half.width])
            return
        stored = self.axes.stored(pixels).astype(self.array.dtype, copy=False)
        if self._skips and stored.flat[0] == self.array.fill_value and (stored == stored.flat[0]).all():
            return  # what was never written is the fill value
        with self._lock:
            self.array[self.axes.index(window)] = stored

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        halves = _halves(window, self.axes.of_rows(self.array.chunks))
        if halves:
            beside = halves[0].height == window.height
            return np.concatenate([self.read(half) for half in halves], axis=int(beside))
        return self.axes.pixels(self.stored(self.axes.index(window), window))

    def stored(self, index: tuple[int | slice, ...], window: Window) -> NDArray[Any]:
        """Return what the array has at an index; the error for a broken chunk names the window."""
        try:
            return np.asarray(self.array[index])
        except (MemoryError, Unfit):
            raise
        except Exception as error:  # codecs raise all kinds of exceptions
            if not self._damage.lenient:
                rows, columns = (f"{part.start} to {part.stop}" for part in window.slices)
                page = f"page {window.page}, " if self.axes.pages > 1 else ""
                reason = reason_of(error)
                self._damage.found(f"a chunk within {page}rows {rows}, columns {columns}: {reason}")
        return self._rescued(index)

    def _rescued(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        """Return what the array has at an index, chunk by chunk: the fill value where one is broken."""
        whole = [part if isinstance(part, slice) else slice(part, part + 1) for part in index]
        starts = [part.start or 0 for part in whole]
        stops = [
            n if part.stop is None else part.stop for part, n in zip(whole, self.array.shape, strict=True)
        ]
        found = np.full(
            [b - a for a, b in zip(starts, stops, strict=True)], self.array.fill_value or 0, self.array.dtype
        )
        chunks = self.array.chunks
        ranges = [range(a // n, -(-b // n)) for a, b, n in zip(starts, stops, chunks, strict=True)]
        for number in itertools.product(*ranges):
            parts = [
                slice(max(a, n * of), min(b, (n + 1) * of))
                for a, b, n, of in zip(starts, stops, number, chunks, strict=True)
            ]
            target = tuple(slice(p.start - a, p.stop - a) for p, a in zip(parts, starts, strict=True))
            try:
                found[target] = self.array[tuple(parts)]
            except MemoryError:
                raise
            except Exception as error:
                self._damage.found(error, number)
        return found[tuple(slice(None) if isinstance(part, slice) else 0 for part in index)]


def _unpickled(array: Any, axes: Axes, new: bool) -> _Level:
    return _Level(array, axes, new=new)


class _Shared:
    """The pages of an array whose chunks hold several: they are decoded together, not again for each."""

    def __init__(self, level: _Level, depth: int, axis: int) -> None:
        self._level, self._depth, self._axis = level, depth, axis
        self._decoded: dict[int, NDArray[Any]] = {}
        self._lock = threading.Lock()

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        level, axis = self._level, self._axis
        index = list(level.axes.index(Window(window.page, 0, 0, level.height, level.width)))
        number = index[axis]
        assert isinstance(number, int)
        within = number % self._depth
        first = window.page - within
        with self._lock:
            if first not in self._decoded:
                if len(self._decoded) > 1:
                    del self._decoded[next(iter(self._decoded))]
                index[axis] = slice(number - within, number - within + self._depth)
                self._decoded[first] = level.stored(tuple(index), window)
            pages = self._decoded[first]
        before = sum(isinstance(part, slice) for part in index[:axis])
        page = level.axes.pixels(pages.take(within, axis=before))
        return np.array(page[window.slices], order="C")


def _halves(window: Window, chunks: tuple[int, int]) -> list[Window]:
    """Return the halves of a window that has too many chunks for zarr; an empty list if it has not."""
    down, across = -(-window.height // chunks[0]), -(-window.width // chunks[1])
    if down * across <= _AT_ONCE:
        return []
    if down >= across:
        first = down // 2 * chunks[0]
        below = window._replace(top=window.top + first, height=window.height - first)
        return [window._replace(height=first), below]
    first = across // 2 * chunks[1]
    behind = window._replace(left=window.left + first, width=window.width - first)
    return [window._replace(width=first), behind]


def _check_whole(start: int, size: int, block: int, end: int) -> None:
    stop = start + size
    if start % block or (stop % block and stop != end):
        raise ValueError(f"pixels {start} to {stop} are not whole blocks of {block}")


def open(store: Any, limit: int, layout: str | None = None, damage: Damage | None = None) -> ZarrSource:
    """Open an array, the image of an OME-Zarr group, or the only image of another group.

    Parameters
    ----------
    store : path, or array or group of zarr's
        A folder or a ZIP file.
    limit : int
        The most pixels that the image may have.
    layout : str, optional
        A letter for each axis of the array: N or T, C, D, H, W. By default the metadata of OME-Zarr, the
        names of the axes or xarray's say what they are, else the shape does.
    damage : Damage, optional
        Takes what cannot be decoded.
    """
    import zarr

    from histeq._files.zarr_limits import MOST_METADATA, LimitedStore

    damage = damage or Damage()
    if not isinstance(store, str | os.PathLike):
        return ZarrSource(_node(store, None, layout), limit, damage)
    path, url = Path(store), urls.address(store)
    if url is not None:
        opened = urls.store(url, read_only=True)
    elif path.is_dir():
        if not is_store(path):
            raise Unfit(f"the folder is no Zarr store: it has no {', '.join(METADATA)}")
        opened = zarr.storage.LocalStore(path, read_only=True)
    else:
        _check_zip(path)
        opened = zarr.storage.ZipStore(path, mode="r")
    with contextlib.ExitStack() as stack:
        stack.callback(opened.close)
        limited = LimitedStore(opened, MOST_METADATA)
        with _reached(url), _described():
            # A ZIP file has no journal: it is written by one process, and closed at the end.
            if not isinstance(opened, zarr.storage.ZipStore) and unfinished(limited):
                raise Unfit("it is not finished: what writes it was interrupted, or is still at work")
            # Consolidated metadata may be out of date.
            root = zarr.open(limited, mode="r", use_consolidated=False)
        source = ZarrSource(_node(root, path if path.is_dir() else None, layout), limit, damage, opened)
        stack.pop_all()
        return source


@contextlib.contextmanager
def _reached(url: str | None) -> Iterator[None]:
    """Tell of what is at a URL whether nothing is there, or whether it cannot be reached."""
    try:
        yield
    except Exception as error:
        if url is None or isinstance(error, Unfit):
            raise
        if isinstance(error, FileNotFoundError):
            raise Unfit(f"there is no Zarr store: it has no {', '.join(METADATA)}") from error
        reason = reason_of(str(error).partition("\n")[0])  # obstore's go on for a page
        raise Unfit(f"it cannot be read from there: {reason}") from error


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        for info in file.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python's module decodes these without a limit.
                raise Unfit(f"in the ZIP file, {info.filename} is neither stored nor deflated")
    if not any(name in METADATA for name in names):
        if any(name.endswith(".npy") for name in names):
            raise Unfit("an .npz archive holds several arrays; save the one that is meant with numpy.save")
        raise Unfit("the ZIP file is no Zarr store: its root has no " + ", ".join(METADATA))


@contextlib.contextmanager
def _described() -> Iterator[None]:
    """Tell what is not supported from what is broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        text = " ".join(str(error).split())
        if any(word in text.lower() for word in ("codec", "data type", "rectilinear", "chunk grid")):
            raise Unfit(f"zarr cannot read it: {text}") from error
        raise


def _node(root: Any, folder: Path | None, layout: str | None) -> Node:
    """Find the arrays of the image."""
    import zarr

    if isinstance(root, zarr.Array):
        return Node((root,), (_axes(root, layout),), ("",), {}, None)
    if not isinstance(root, zarr.Group):
        raise TypeError(f"expected a path or an array or a group of zarr's, got {type(root).__name__}")
    attributes = root.attrs.asdict()
    scales = ome.scales(attributes)
    if scales is not None:
        names = scales.paths
        arrays = tuple(_array(root, name) for name in names)
        axes = tuple(_axes(array, layout, scales.axes) for array in arrays)
        for name, one in zip(names, axes, strict=True):
            larger = one.height > axes[0].height or one.width > axes[0].width
            if larger or one.letters != axes[0].letters or one.channels != axes[0].channels:
                raise ValueError(f"its array {name} has the shape {one.shape}, its first {axes[0].shape}")
    else:
        with _described():
            named = {name: node for name, node in root.members() if isinstance(node, zarr.Array)}
        images = [name for name, node in named.items() if node.ndim > 1]
        if len(images) != 1:
            raise Unfit(_which(root, images))
        names, arrays = (images[0],), (named[images[0]],)
        axes = (_axes(arrays[0], layout),)
    return Node(arrays, axes, names, attributes, folder)


def _which(group: Any, images: list[str]) -> str:
    """Return the sentence for a group that holds no image of its own, or several."""
    if images:
        return f"the group holds {len(images)} images; name one of {', '.join(sorted(images)[:9])}"
    with _described():
        groups = sorted(name for name, _ in group.groups())
    inside = f", but the groups {', '.join(groups[:9])}: name the image's" if groups else ""
    return f"the group holds no image{inside}"


def _array(group: Any, name: str) -> Any:
    import zarr

    with _described():
        try:
            node = group[name]
        except KeyError:
            raise ValueError(f"its array {name} is missing") from None
    if not isinstance(node, zarr.Array):
        raise ValueError(f"{name} is no array")
    return node


def _axes(array: Any, layout: str | None, names: Sequence[str] | None = None) -> Axes:
    """Return the axes of an array: by the layout, the names that its group gives, or its own."""
    if names is not None:
        axes = axes_of(array.shape, names, layout)
        # The channels of OME-Zarr are those of a microscope.
        return dataclasses.replace(axes, color=False)
    own = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return axes_of(array.shape, own if isinstance(own, list | tuple) else None, layout)


class ZarrSink:
    """An array or a group that is being written."""

    def __init__(
        self, header: Header, levels: Sequence[_Level], not_carried: list[str], store: Any = None
    ) -> None:
        self.header = header
        self.levels: Sequence[Level] = levels
        self.masks: Sequence[Level] = ()
        self.notes = not_carried
        """What the source has and the sink has not, in words."""
        self.then = contextlib.ExitStack()
        """What is done at last."""
        self.journal: Any = None
        self._store, self._finished = store, False

    def finish(self) -> None:
        """Copy what belongs to the image, and close the store."""
        self.then.close()
        if self._store is not None:
            self._store.close()
        self._finished = True

    def close(self) -> None:
        """Close an incomplete store."""
        if not self._finished:
            _abandon(self._store)


def create(
    target: Any,
    header: Header,
    options: Options,
    *,
    blocks: tuple[int, int] | None = None,
    again: bool = False,
    journal: Any = None,
) -> ZarrSink:
    """Create an array or a group, or write into one of the caller's.

    Parameters
    ----------
    target : path, or array, group or store of zarr's
        A folder that is created, or a ZIP file. An array must have the image's shape and dtype; it is written
        by its own chunks or shards. In a group, the image becomes a multiscale one of OME-Zarr.
    header : Header
        Of the image; that of a Zarr source says how it is stored.
    options : Options
        compression: none, zstd, lz4, blosc, gzip or deflate.
    blocks : tuple of two int, optional
        The blocks of a source of another format: chunks are multiples of them.
    again : bool
        Whether everything was created before, and is opened to be written.
    journal : Journal, optional
        Of the store, for those who write it.
    """
    import zarr

    if isinstance(target, zarr.Array):
        return ZarrSink(header, (_Level(target, _fitting(target, header)),), [])
    in_group = isinstance(target, zarr.Group)
    planned = plan(header, options, blocks, in_group)
    is_path = isinstance(target, str | os.PathLike)
    zipped = is_path and Path(target).suffix.lower() == ".zip"
    store = zarr.storage.ZipStore(target, mode="w") if zipped else None
    with contextlib.ExitStack() as stack:
        stack.callback(_abandon, store)
        sink = ZarrSink(header, _written(store or target, planned, again), planned.not_carried, store)
        stack.pop_all()
    sink.journal = journal
    if is_path and not zipped:
        sink.then.callback(_complete, Path(target), planned)
    return sink


def check(header: Header, options: Options, blocks: tuple[int, int] | None) -> list[str]:
    """Raise if the image cannot be written like this; return notes of what would not be carried."""
    return plan(header, options, blocks, False).not_carried


def _abandon(store: Any) -> None:
    """Close an incomplete ZIP file, or folder. As something has failed, failing to close it is no news."""
    _settle()
    with contextlib.suppress(OSError):
        if store is not None:
            store.close()


def _fitting(array: Any, header: Header) -> Axes:
    """Return the axes of the caller's array; `Unfit` where it cannot take the image."""
    kept = header.keep.get("axes")
    axes = kept if isinstance(kept, Axes) and kept.shape == array.shape else axes_for(header)
    if axes.shape != array.shape:
        raise Unfit(f"the array has the shape {array.shape}, the image {axes.shape}")
    if np.dtype(array.dtype).newbyteorder("=") != header.dtype:
        raise Unfit(f"the array has the dtype {array.dtype}, the image {header.dtype}")
    return axes


def _written(target: Any, planned: Plan, again: bool) -> list[_Level]:
    """Create what is planned, or open it."""
    import zarr

    # zarr itself looks for chunks of nothing but the fill value in one thread, and takes several times as
    # long as for writing them (zarr 3.1).
    config = {"write_empty_chunks": True}
    if again:
        return [_reopened(target, new, config) for new in planned.arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of codecs that Zarr 3 does not specify
        if planned.attributes is None:
            ((_, axes, settings),) = planned.arrays
            array = zarr.create_array(target, shape=axes.shape, config=config, **settings)
            return [_Level(array, axes, new=True)]
        if isinstance(target, zarr.Group):
            group, version = target, target.metadata.zarr_format
            if version != planned.version:
                raise Unfit(f"the group has Zarr's format {version}, and the image {planned.version}")
            group.attrs.update(planned.attributes)
        else:
            group = zarr.create_group(target, zarr_format=planned.version, attributes=planned.attributes)
        levels = []
        for name, axes, settings in planned.arrays:
            of_array = {key: value for key, value in settings.items() if key != "zarr_format"}
            array = group.create_array(name, shape=axes.shape, config=config, **of_array)
            levels.append(_Level(array, axes, new=True))
        return levels


def _reopened(target: Any, new: New, config: dict[str, Any]) -> _Level:
    import zarr

    # zarr.open takes a config, and does without it where the array exists (zarr 3.1).
    array = zarr.open_array(target, path=new.name, mode="r+").with_config(config)
    stored = {"chunks": array.chunks, "shards": array.shards, "shape": array.shape}
    planned = {name: new.settings.get(name) for name in ("chunks", "shards")} | {"shape": new.axes.shape}
    for name, value in planned.items():
        if stored[name] != value:
            raise Unfit(f"its array {new.name} has the {name} {stored[name]}, and {value} is to be written")
    return _Level(array, new.axes, new=True)


def _complete(folder: Path, planned: Plan) -> None:
    """Copy from the source's group what is not the image, and consolidate the metadata if they were."""
    node = planned.node
    if node is None or node.folder is None:
        return
    written = {name.strip("/").split("/")[0] for name in node.names}
    for entry in sorted(node.folder.iterdir()):
        copied = folder / entry.name
        if entry.name in written or copied.exists() or not (entry.is_dir() and is_store(entry)):
            continue
        if entry.is_symlink():  # it may lead anywhere
            note(planned.not_carried, [f"the link {entry.name}"])
            continue
        shutil.copytree(entry, copied, symlinks=True)
    if _is_consolidated(node.folder):
        import zarr

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Zarr 3 does not specify it
            zarr.consolidate_metadata(folder, zarr_format=planned.version)


def _is_consolidated(folder: Path) -> bool:
    if (folder / ".zmetadata").is_file():
        return True
    with contextlib.suppress(OSError):
        return b'"consolidated_metadata"' in (folder / "zarr.json").read_bytes()
    return False


def _settle() -> None:
    """Wait for what zarr still writes: of a write that fails or is interrupted it leaves the rest running.

    That would create the folder, or open the file, again.
    """
    import asyncio  # takes a while, and zarr has loaded it

    from zarr.core.sync import sync

    async def settled() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_PATIENCE)

    sync(settled())
