"""xarray's DataArrays and Datasets: dimensions say the layout, attributes the nodata; results bear labels.

Imported only when a caller holds one of them. What they hold goes to the same public function once more, as
an array of NumPy, CuPy or Dask, and so stays as lazy as it was.
"""

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from histeq._api.layout import axes_of
from histeq._api.request import check_dtype
from histeq._core import rules
from histeq._files import axes, cf

Function = Callable[..., Any]
Options = dict[str, Any]

_NODATA = ("_FillValue", "missing_value", "fill_value", "nodata")
"""The attributes that may say which value is nodata: those of CF, of rioxarray and of odc-stac."""
_ENCODED_NODATA = _NODATA[:2]
_OF_OLD_VALUES = (
    "scale_factor", "add_offset", "filters",
    "least_significant_digit", "significant_digits", "quantize_mode",
)  # fmt: skip
"""How values were stored: levels of 0..1 would be rounded away."""
_OF_OLD_DTYPE = ("dtype", "rasterio_dtype", "_Unsigned", "serializer", "fill_value")
_CLASSES = ("flag_values", "flag_masks", "flag_meanings")
"""Attributes by which numbers are names of classes, and no levels."""
_RGB = (("r", "red"), ("g", "green"), ("b", "blue"))


def call(function: Function, bound: inspect.BoundArguments) -> Any:
    """Call a public function with the arrays of DataArrays; return its result with labels.

    Parameters
    ----------
    function : callable
        The function, which takes arrays of any library.
    bound : inspect.BoundArguments
        Its signature and the arguments that were given, the first a DataArray or a Dataset.
    """
    signature = bound.signature
    first = next(iter(signature.parameters))
    given = {name: value for name, value in bound.arguments.items() if value is not None or name == "dtype"}
    image = given.pop(first)
    if isinstance(image, xr.Dataset):
        return _of_variables(function, signature, image, given)
    return _planned(function, signature, image, given)()


def _of_variables(function: Function, signature: inspect.Signature, image: xr.Dataset, given: Options) -> Any:
    """Serve a Dataset variable by variable; those that are no images are handed on as they are."""
    name_of = function.__name__
    if name_of in ("tile_histograms", "tile_tables", "apply_tiles"):
        raise TypeError(f"image must be a DataArray for {name_of}, got a Dataset; image[name] is one")
    for name in ("out", "layout"):
        if name in given:
            raise TypeError(
                f"{name} must be None for a Dataset, whose variables differ; image[name] takes it"
            )
    images = [
        name for name, array in image.data_vars.items() if name_of == "lookup_table" or _is_image(array)
    ]
    if not images:
        raise ValueError(
            "image must have a variable with dimensions for rows and columns, such as y and x, got "
            f"{', '.join(f'{name}{array.dims}' for name, array in image.data_vars.items()) or 'none'}"
        )
    calls = {}
    for name in images:
        with _naming(name):
            calls[name] = _planned(function, signature, image[name], _of_variable(given, name))
    results: dict[Hashable, Any] = {}
    for name, call in calls.items():
        with _naming(name):
            results[name] = call()
    return xr.Dataset(results) if name_of == "histogram" else image.assign(results)


@contextmanager
def _naming(variable: Hashable) -> Iterator[None]:
    """Say in errors which variable is meant."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{error} (variable {variable!r})") from error


def _is_image(array: xr.DataArray) -> bool:
    """Tell whether a variable is an image: neither bounds, strings, times, masks nor classes."""
    letters = [_letter_of(name) for name in array.dims]
    is_plane = letters.count("H") == letters.count("W") == 1
    return is_plane and array.dtype.kind in "iufc" and not any(name in array.attrs for name in _CLASSES)


def _of_variable(given: Options, name: Hashable) -> Options:
    """Return the arguments for a variable: those that are Datasets, too, give theirs of the same name."""
    own = dict(given)
    for argument, value in given.items():
        if isinstance(value, xr.Dataset):
            if name not in value.data_vars:
                raise ValueError(
                    f"{argument} must have the variables of the image, got {list(value.data_vars)}"
                )
            own[argument] = value[name]
    return own


def _planned(
    function: Function, signature: inspect.Signature, image: xr.DataArray, given: Options
) -> Callable[[], Any]:
    """Check what labels can tell; return the call that does the work."""
    for name, value in given.items():
        if isinstance(value, xr.Dataset):
            raise TypeError(f"{name} must be an array or a DataArray, got a Dataset; {name}[variable] is one")
    if "layout" not in signature.parameters:  # counts
        return lambda: image.copy(deep=False, data=function(image.data, **given))
    check_dtype("image", image.dtype)
    _refuse_other_sign(image)
    layout = _layout_of(image, "image", given.get("layout"))
    if "layout" not in given and signature.parameters["color"].default == "luma" and "color" not in given:
        _check_color(image, layout)
    options = {**given, "layout": layout.letters}
    nodata = given.get("nodata")
    if nodata is None and "nodata" in signature.parameters:
        nodata = options["nodata"] = _nodata_of(image, "image", "nodata")
    for name, aligned in (("mask", _aligned_mask), ("out", _aligned_out), ("table", _aligned_table)):
        if isinstance(given.get(name), xr.DataArray):
            options[name] = aligned(given[name], image, layout)
    if isinstance(given.get("reference"), xr.DataArray):
        options |= _reference(given, image, layout)

    def work() -> Any:
        result = function(image.data, **options)
        if not hasattr(result, "dtype"):  # TileTables serve images of any library
            return result
        if function.__name__ == "histogram":
            return _counts(result, image, layout, given.get("value_range"))
        out = given.get("out")
        target = image.copy(deep=False, data=result) if out is None else out
        if isinstance(target, xr.DataArray):
            _relabel(target, nodata, image.dtype)
        return target

    return work


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which dimension is which."""

    letters: str
    dims: tuple[Hashable, ...]

    def dim(self, letter: str) -> Hashable | None:
        """Return the dimension of a letter; None where the image has none."""
        return self.dims[self.letters.index(letter)] if letter in self.letters else None


def _letter_of(dim: Hashable) -> str | None:
    return axes.LETTERS.get(dim.lower()) if isinstance(dim, str) else None


def _layout_of(image: xr.DataArray, name: str, given: Any) -> _Layout:
    """Return the layout that the names of the dimensions tell; ValueError where they do not."""
    dims = image.dims
    if given is not None:
        axes_of(given, image.shape)
        return _Layout(given.replace("T", "N"), dims)
    if dims == ("dim_0", "dim_1"):
        return _Layout("HW", dims)
    found = [_letter_of(dim) for dim in dims]
    letters = "".join("N" if letter == "T" else letter or "?" for letter in found)
    once = all(letters.count(letter) == 1 for letter in letters)
    if "?" in letters or "H" not in letters or "W" not in letters or not once:
        several = letters.count("N") > 1 and set(letters) <= set("NCDHW")
        raise ValueError(
            f"layout must say what each of the dimensions {dims} of {name} is, one letter each: N (or T) "
            "independent images, C channels, D H W space; their names "
            + ("tell of several axes of independent images: stack them first" if several else "do not tell")
        )
    return _Layout(letters, dims)


def _check_color(image: xr.DataArray, layout: _Layout) -> None:
    """Raise unless the channels are known to be colours: the luma of other bands means nothing."""
    dim = layout.dim("C")
    if dim is None or image.sizes[dim] == 1 or str(dim).lower() in axes.COLOR:
        return
    coordinate = image.coords.get(dim)
    labels = [] if coordinate is None else [str(label).lower() for label in coordinate.values]
    if len(labels) in (3, 4) and all(label in names for label, names in zip(labels, _RGB, strict=False)):
        return
    raise ValueError(
        f"color must say what the {image.sizes[dim]} channels along {dim!r} are: 'channels' equalizes each "
        "by itself, 'luma' takes them for red, green and blue (documentation: layouts)"
    )


def _refuse_other_sign(image: xr.DataArray) -> None:
    """Raise ValueError for integers that stand for others: netCDF 3 has no unsigned ones."""
    other = {"true": "i", "false": "u"}.get(str(image.attrs.get("_Unsigned")).lower())
    if image.dtype.kind == other:
        sign = "u" if other == "i" else "i"
        raise ValueError(
            f"image must hold the values that it stands for, got {image.dtype} with the attribute _Unsigned="
            f"{image.attrs['_Unsigned']!r}: image.astype('{sign}{image.dtype.itemsize}') has them"
        )


def _nodata_of(image: xr.DataArray, name: str, argument: str) -> float | None:
    """Return the value that is nodata by the attributes, the encoding or rioxarray; NaN needs no saying.

    What the encoding says of floating-point values was made NaN when they were read.
    """
    sources: list[tuple[str, Mapping[Any, Any], tuple[str, ...]]] = [("attribute ", image.attrs, _NODATA)]
    if image.dtype.kind != "f":
        sources.append(("encoding ", image.encoding, _ENCODED_NODATA))
    if hasattr(type(image), "rio"):  # registered by rioxarray
        with suppress(Exception):  # whatever it makes of odd attributes
            sources.append(("", {"rio.nodata": image.rio.nodata}, ("rio.nodata",)))
    said = {}
    for where, labels, names in sources:
        for label in names:
            for value in np.ravel(labels.get(label, ())):
                number = cf.representable(value, image.dtype)
                if number is not None and number == number:
                    said[f"{where}{label}"] = number
    values = set(said.values())
    if len(values) > 1:
        found = ", ".join(f"{label} {value:g}" for label, value in said.items())
        raise ValueError(f"{argument} must be given for {name}, whose labels say several: {found}")
    return values.pop() if values else None


def _aligned_mask(
    mask: xr.DataArray, image: xr.DataArray, layout: _Layout, name: str = "mask", of: str = "image"
) -> Any:
    """Return the array of a mask, its axes in the order of the image's."""
    channels = layout.dim("C")
    if channels in mask.dims and mask.sizes[channels] == image.sizes[channels] == 1:
        mask = mask.isel({channels: 0})
    dims = [dim for dim in image.dims if dim in mask.dims and dim != channels]
    _check_labels(mask, image, dims, name, of)
    return mask.transpose(*dims).data


def _aligned_out(out: xr.DataArray, image: xr.DataArray, layout: _Layout) -> Any:
    """Return the array to write to, its axes in the order of the image's."""
    _check_labels(out, image, list(image.dims), "out", "image")
    return out.transpose(*image.dims).data


def _aligned_table(table: xr.DataArray, image: xr.DataArray, layout: _Layout) -> Any:
    """Return the array of a table, the axis of its levels last."""
    lead = [dim for letter in "NC" if (dim := layout.dim(letter)) in table.dims]
    levels = [dim for dim in table.dims if dim not in lead]
    if len(levels) != 1:
        raise ValueError(
            "table must have one dimension for its levels, and those of the image for images and channels, "
            f"got {table.dims}"
        )
    _check_labels(table, image, [*lead, *levels], "table", "image")
    return table.transpose(*lead, *levels).data


def _check_labels(array: xr.DataArray, image: xr.DataArray, dims: list[Hashable], name: str, of: str) -> None:
    """Raise ValueError unless an array has these dimensions, and where the image has them its coordinates."""
    if set(array.dims) != set(dims):
        raise ValueError(f"{name} must have the dimensions of the {of}, {image.dims}, got {array.dims}")
    for dim in dims:
        ours, theirs = image.indexes.get(dim), array.indexes.get(dim)
        if ours is not None and theirs is not None and len(ours) == len(theirs) and not ours.equals(theirs):
            raise ValueError(
                f"{name} must have the coordinates of the {of} along {dim!r}, got others; "
                f"{name}.reindex_like({of}) brings them in line"
            )


def _reference(given: Options, image: xr.DataArray, layout: _Layout) -> Options:
    """Return the arguments for a reference: its dimensions may have other names and another order."""
    reference: xr.DataArray = given["reference"]
    own = _layout_of(reference, "reference", given.get("layout"))
    index: tuple[slice | None, ...] = (slice(None),) * reference.ndim
    if "layout" not in given:
        lacking, more = set(layout.letters) - set(own.letters), set(own.letters) - set(layout.letters)
        if lacking - {"N"} or more:
            raise ValueError(
                f"reference must have dimensions as the image has, {image.dims}, got {reference.dims}"
            )
        reference = reference.transpose(
            *(own.dim(letter) for letter in layout.letters if letter in own.letters)
        )
        index = tuple(slice(None) if letter in own.letters else None for letter in layout.letters)
    options: Options = {"reference": reference.data[index]}
    if isinstance(given.get("reference_mask"), xr.DataArray):
        mask = given["reference_mask"]
        options["reference_mask"] = _aligned_mask(mask, reference, own, "reference_mask", "reference")
    if "reference_nodata" not in given:
        nodata = _nodata_of(reference, "reference", "reference_nodata")
        if nodata is not None or "nodata" not in given:
            options["reference_nodata"] = nodata
    return options


def _counts(counts: Any, image: xr.DataArray, layout: _Layout, value_range: Any) -> xr.DataArray:
    """Label counts: the dimensions of images and channels, then the bins, whose values are a coordinate."""
    lead = [layout.dim(letter) for letter in "NC" if letter in layout.letters][: counts.ndim - 1]
    bins = f"{image.name}_bin" if image.name is not None else "bin"
    coords = image.coords.to_dataset().drop_dims(
        [dim for dim in image.dims if dim not in lead], errors="ignore"
    )
    without_alpha = {dim: slice(size) for dim, size in zip(lead, counts.shape, strict=False)}
    coords = coords.isel(without_alpha, missing_dims="ignore")
    values = _values_of_bins(image.dtype, counts.shape[-1], value_range)
    if values is not None:
        coords = coords.assign_coords({bins: values})
    return xr.DataArray(counts, coords=coords.coords, dims=(*lead, bins), name=image.name)


def _values_of_bins(dtype: np.dtype[Any], bins: int, value_range: Any) -> Any:
    """Return the values of integers, or the centres of bins; None where they depend on the pixels."""
    if dtype.kind == "f":
        if value_range is None:
            return None
        low, high = map(float, value_range)
        edges = np.linspace(low, high, bins + 1)
        return (edges[1:] + edges[:-1]) / 2
    first = rules.whole_range(dtype.newbyteorder("=")).first if value_range is None else int(value_range[0])
    return np.arange(first, first + bins)


def _relabel(result: xr.DataArray, nodata: float | None, before: np.dtype[Any]) -> None:
    """Take away what no longer holds of the pixels, from the attributes and from how they are to be stored.

    Written to a file and read again, the result must have the same pixels.
    """
    after, attrs, encoding = result.dtype, dict(result.attrs), dict(result.encoding)
    stored = encoding.get("dtype", before)
    attrs = {name: value for name, value in attrs.items() if not cf.is_stale(name)}
    encoding = {name: value for name, value in encoding.items() if name not in _OF_OLD_VALUES}
    if stored != after:
        encoding = {name: value for name, value in encoding.items() if name not in _OF_OLD_DTYPE}
    decoded = before.kind == "f" and any(name in encoding for name in _ENCODED_NODATA)
    value = float("nan") if nodata is None and decoded else nodata
    held = [(attrs, name) for name in _NODATA if name in attrs]
    held += [(encoding, name) for name in _ENCODED_NODATA if name in encoding]
    for labels, name in held:
        if value is not None:
            labels[name] = after.type(value)
        elif before != after:
            del labels[name]
    if not held and value is not None:
        attrs["_FillValue"] = after.type(value)
    result.attrs, result.encoding = attrs, encoding
