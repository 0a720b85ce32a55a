"""xarray's DataArrays and Datasets: layouts by name, labels that stay true, files that read back the same."""

import subprocess
import sys

import numpy as np
import pytest

import histeq

xr = pytest.importorskip("xarray")

RANDOM = np.random.default_rng(5)
GREY = RANDOM.integers(20, 220, (23, 31)).astype(np.uint8)
SCENE = RANDOM.integers(0, 3000, (3, 4, 12, 17)).astype(np.uint16)  # time, band, y, x


def grey(**labels):
    coords = {"y": np.arange(23.0)[::-1], "x": np.arange(31.0), "spatial_ref": 0}
    return xr.DataArray(GREY.copy(), dims=("y", "x"), coords=coords, name="tone", **labels)


def scene():
    times = np.array(["2024-01-01", "2024-01-02", "2024-01-04"], "M8[ns]")
    coords = {"time": times, "band": ["nir", "r", "g", "b"], "cloud": ("time", [0.1, 0.2, 0.3])}
    return xr.DataArray(SCENE, dims=("time", "band", "y", "x"), coords=coords, name="scene")


def test_a_grey_image_keeps_its_labels():
    image = grey(attrs={"long_name": "tone", "crs": "EPSG:4326"})
    image.encoding = {"chunks": (10, 10), "grid_mapping": "spatial_ref"}
    for function in (histeq.equalize, histeq.clahe):
        result = function(image)
        assert type(result) is xr.DataArray
        xr.testing.assert_identical(result, image.copy(data=function(GREY)))
        assert result.encoding == image.encoding
    assert np.array_equal(image.data, GREY)


@pytest.mark.parametrize(
    ("dims", "layout"),
    [
        (("y", "x"), "HW"),
        (("lon", "lat"), "WH"),
        (("latitude", "longitude"), "HW"),
        (("row", "col"), "HW"),
        (("dim_0", "dim_1"), "HW"),
        (("northing", "easting"), "HW"),
        (("Y", "X"), "HW"),
        (("time", "lat", "lon"), "NHW"),
        (("scene", "y", "x"), "NHW"),
        (("z", "y", "x"), "DHW"),
        (("y", "x", "rgb"), "HWC"),
        (("height", "width", "s"), "HWC"),
        (("time", "z", "y", "x"), "NDHW"),
    ],
)
def test_names_of_dimensions_are_a_layout(dims, layout):
    image = RANDOM.integers(0, 255, {2: (12, 10), 3: (12, 10, 3), 4: (3, 4, 5, 6)}[len(dims)]).astype(
        np.uint8
    )
    for function in (histeq.equalize, histeq.clahe):
        result = function(xr.DataArray(image, dims=dims))
        assert result.dims == dims
        assert np.array_equal(result.data, function(image, layout=layout))


def test_bands_are_channels():
    image = scene()
    result = histeq.equalize(image, color="channels")
    assert np.array_equal(result.data, histeq.equalize(SCENE, layout="NCHW", color="channels"))
    colors = image.isel(band=[1, 2, 3])  # named r, g, b
    assert np.array_equal(
        histeq.equalize(colors).data, histeq.equalize(colors.data, layout="NCHW", color="luma")
    )
    single = image.isel(band=[0])
    assert np.array_equal(histeq.equalize(single).data, histeq.equalize(SCENE[:, :1], layout="NCHW"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.rename(time="member"), r"layout must say what each of the dimensions \('member', "),
        (lambda a: a.isel(time=0, band=0).rename(y="a"), r"dimensions \('a', 'x'\) of image is, one letter"),
        (lambda a: a.rename(band="z", time="height").isel(z=0), "their names do not tell"),
        (lambda a: a.rename(band="scene"), "several axes of independent images: stack them first"),
        (lambda a: a.isel(x=0), "their names do not tell"),
        (lambda a: a, "color must say what the 4 channels along 'band' are"),
        (lambda a: a.drop_vars("band").isel(band=slice(3)), "color must say what the 3 channels along"),
        (lambda a: a.isel(band=[3, 2, 1]), "color must say"),  # blue, green, red
        (lambda a: a.isel(band=[0, 1]), "color must say what the 2 channels along 'band' are"),
        (lambda a: a.isel(time=0, band=0, drop=True).astype("int8").assign_attrs(_Unsigned="true"),
         r"_Unsigned='true': image.astype\('u1'\) has them"),
        (lambda a: a.isel(time=0, band=0).assign_attrs(_FillValue=0, missing_value=9),
         "nodata must be given for image, whose labels say several: attribute _FillValue 0, attribute miss"),
    ],
)  # fmt: skip
def test_what_names_do_not_tell(change, message):
    with pytest.raises(ValueError, match=message):
        histeq.equalize(change(scene()))


def test_a_layout_may_be_said():
    image = scene().rename(time="member", band="kind", y="a", x="b")
    result = histeq.equalize(image, layout="TCHW", color="luma-bgr", alpha=True)
    assert np.array_equal(result.data, histeq.equalize(SCENE, layout="NCHW", color="luma-bgr", alpha=True))
    for wrong in ("HWC", "nchw", 3):
        with pytest.raises((TypeError, ValueError), match="layout must"):
            histeq.equalize(image, layout=wrong)


def test_attributes_that_became_false_are_dropped():
    false = {
        "valid_range": (0, 200), "valid_min": 0, "valid_max": 9, "actual_range": (20, 219),
        "scale_factor": 0.1, "add_offset": 3.0, "units": "K",
        "STATISTICS_MEAN": 120.0, "STATISTICS_MAXIMUM": 219,
    }  # fmt: skip
    true = {"long_name": "tone", "AREA_OR_POINT": "Area"}
    image = grey(attrs={**false, **true})
    for result in (
        histeq.equalize(image),
        histeq.clahe(image),
        histeq.match(image, image),
        histeq.apply(image, histeq.lookup_table(histeq.histogram(image), dtype=image.dtype)),
        histeq.apply_tiles(image, histeq.tile_tables(image)),
    ):
        assert result.attrs == true
    assert image.attrs == {**false, **true}


@pytest.mark.parametrize("name", ["_FillValue", "missing_value", "nodata"])
def test_attributes_name_nodata(name):
    image = grey(attrs={name: np.uint8(20)})
    result = histeq.equalize(image)
    assert np.array_equal(result.data, histeq.equalize(GREY, nodata=20))
    assert result.attrs == image.attrs
    assert histeq.histogram(image).data[20] == 0 < histeq.histogram(GREY)[20]
    fractions = histeq.equalize(image, rule="skimage")
    assert fractions.attrs == {name: 20.0}
    assert fractions.attrs[name].dtype == np.float64
    other = histeq.equalize(image, nodata=21)
    assert np.array_equal(other.data, histeq.equalize(GREY, nodata=21))
    assert other.attrs == {name: 21}


def test_nodata_that_no_pixel_can_be_is_none():
    for value in (-9999, np.nan, 20.5, "none", [300, 400]):
        image = grey(attrs={"_FillValue": value})
        assert np.array_equal(histeq.equalize(image).data, histeq.equalize(GREY))
        assert "_FillValue" in histeq.equalize(image).attrs
        assert "_FillValue" not in histeq.equalize(image, rule="skimage").attrs


def test_nodata_of_the_caller_is_an_attribute_of_the_result():
    assert histeq.equalize(grey(), nodata=20).attrs == {"_FillValue": 20}


def test_the_encoding_names_nodata_of_integers():
    image = grey()
    image.encoding = {"_FillValue": 20}
    result = histeq.equalize(image)
    assert np.array_equal(result.data, histeq.equalize(GREY, nodata=20))
    assert result.encoding == {"_FillValue": 20}
    assert result.attrs == {}
    # Of what was made floating-point when it was read, 0.0 is a value like others.
    decoded = image.astype(np.float32) - 20
    decoded.encoding = {"_FillValue": 0, "scale_factor": 0.5, "dtype": "int16", "chunks": (5, 5)}
    result = histeq.equalize(decoded)
    assert np.array_equal(result.data, histeq.equalize(decoded.data))
    assert set(result.encoding) == {"_FillValue", "chunks"}
    assert np.isnan(result.encoding["_FillValue"])


def test_rioxarray_names_nodata():
    class Rio:
        def __init__(self, array):
            self.nodata = array.attrs.get("set_nodata")

    xr.register_dataarray_accessor("rio")(Rio)
    try:
        image = grey(attrs={"set_nodata": 20})
        assert np.array_equal(histeq.equalize(image).data, histeq.equalize(GREY, nodata=20))
        image = grey(attrs={"set_nodata": np.nan, "_FillValue": 21})
        assert np.array_equal(histeq.equalize(image).data, histeq.equalize(GREY, nodata=21))
    finally:
        del xr.DataArray.rio


def raw(kind):
    """Return an image as it lies in a file, with what the file says of it."""
    values = RANDOM.integers(-300, 300, (23, 31))
    match kind:
        case "plain":
            return GREY, {}
        case "fill":
            return GREY, {"_FillValue": np.uint8(255)}
        case "scaled":
            return values.astype(np.int16), {"scale_factor": 0.01, "add_offset": 5.0}
        case "scaled with fill":
            return values.astype(np.int16), {"scale_factor": 0.01, "_FillValue": np.int16(-300)}
        case "zero means missing":
            return values.astype(np.int16), {"scale_factor": 0.5, "_FillValue": np.int16(0)}
        case "missing":
            attributes = {"missing_value": np.float32(-300), "_FillValue": np.float32(-300)}
            return values.astype(np.float32), attributes
        case "coarse":
            return values.astype(np.float64), {}
    raise AssertionError


def stored(dataset, how, folder):
    """Write a Dataset; return what is read again, decoded or not."""
    zarr = pytest.importorskip("zarr")
    if how == "netcdf":
        dataset.to_netcdf(folder / "a.nc", engine="scipy")
        return lambda decode: xr.open_dataset(folder / "a.nc", engine="scipy", mask_and_scale=decode).load()
    store = zarr.storage.MemoryStore()
    dataset.to_zarr(store, zarr_format=int(how[-1]), consolidated=False)
    return lambda decode: xr.open_zarr(store, consolidated=False, mask_and_scale=decode, chunks=None)


@pytest.mark.parametrize("how", ["zarr2", "zarr3", "netcdf"])
@pytest.mark.parametrize(
    "kind", ["plain", "fill", "scaled", "scaled with fill", "zero means missing", "missing", "coarse"]
)
@pytest.mark.parametrize("decode", [True, False])
def test_results_read_back_as_they_were_written(kind, how, decode, tmp_path):
    values, attributes = raw(kind)
    if how == "netcdf" and values.dtype == np.uint8:
        values = values.astype(np.int16)  # netCDF 3 has no unsigned integers
        attributes = {name: np.int16(value) for name, value in attributes.items()}
    file = xr.Dataset({"v": (("y", "x"), values, attributes)})
    if kind == "coarse" and how == "zarr2":
        numcodecs = pytest.importorskip("numcodecs")
        rounds = numcodecs.FixedScaleOffset(offset=0, scale=0.1, dtype="<f8", astype="<i2")
        file.v.encoding = {"filters": [rounds]}
    image = stored(file, how, tmp_path)(decode).v
    results = [histeq.equalize(image), histeq.equalize(image, rule="skimage"), histeq.clahe(image)]
    results += (
        [histeq.equalize(image, out_dtype="uint8")] if image.dtype == np.int16 and not attributes else []
    )
    for result in results:
        if how == "netcdf" and result.dtype == np.uint8:
            continue
        nodata = result.attrs.get("_FillValue", result.encoding.get("_FillValue"))
        read = stored(result.to_dataset(), how, tmp_path)
        expected = result.data if nodata is None else np.where(result == nodata, np.nan, result)
        np.testing.assert_array_equal(read(True).v.data, expected)
        exact = np.where(np.isnan(result), nodata, result) if result.dtype.kind == "f" else result
        np.testing.assert_array_equal(read(False).v.data, exact)
        assert read(False).v.dtype == result.dtype


def test_masks_are_aligned():
    image = scene()
    mask = image.isel(band=0, drop=True) > 1000
    expected = histeq.equalize(SCENE, layout="NCHW", color="channels", mask=mask.data)
    for same in (mask, mask.transpose("x", "time", "y"), mask.data):
        assert np.array_equal(histeq.equalize(image, color="channels", mask=same).data, expected)
    one = mask.isel(time=0)
    expected = histeq.equalize(SCENE, layout="NCHW", color="channels", mask=one.data)
    assert np.array_equal(histeq.equalize(image, color="channels", mask=one.T).data, expected)
    band = image.isel(band=[0])  # as rioxarray reads grey rasters, and masks made of them
    expected = histeq.equalize(SCENE[:, 0], layout="NHW", mask=mask.data)
    assert np.array_equal(histeq.equalize(band, mask=band > 1000).data[:, 0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m.assign_coords(y=m.y + 0.5),
            "mask must have the coordinates of the image along 'y', got oth",
        ),
        (lambda m: m.sortby("y"), "mask must have the coordinates of the image along 'y'"),
        (
            lambda m: m.rename(y="row"),
            r"mask must have the dimensions of the image, \('y', 'x'\), got \('row', ",
        ),
        (lambda m: m.expand_dims(time=2), r"mask must have the dimensions of the image, \('y', 'x'\)"),
        (
            lambda m: m[:20],
            r"mask must have the image's shape without its channels, \(23, 31\), got \(20, 31\)",
        ),
        (
            lambda m: m.isel(x=0),
            r"mask must have the image's shape without its channels, \(23, 31\), got \(23,\)",
        ),
        (lambda m: m.astype(float), "mask must be bool or unsigned"),
        (lambda m: m.to_dataset(), r"mask must be an array or a DataArray, got a Dataset"),
    ],
)
def test_masks_that_do_not_fit(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        histeq.equalize(grey(), mask=change(grey() > 99))


def test_out():
    image = grey(attrs={"units": "K", "_FillValue": 20})
    expected = histeq.equalize(GREY, nodata=20)
    out = xr.zeros_like(image).T
    out.attrs = {"units": "K", "title": "mine"}
    assert histeq.equalize(image, out=out) is out
    assert np.array_equal(out.T.data, expected)
    assert out.attrs == {"title": "mine", "_FillValue": 20}
    plain = np.empty_like(GREY)
    assert histeq.equalize(image, out=plain) is plain
    assert np.array_equal(plain, expected)
    assert histeq.equalize(image, out=image) is image
    assert np.array_equal(image.data, expected)
    assert image.attrs == {"_FillValue": 20}
    with pytest.raises(ValueError, match=r"out must have the dimensions of the image, \('y', 'x'\)"):
        histeq.equalize(grey(), out=out.rename(y="row"))


def test_histograms_bear_the_values_of_their_bins():
    counts = histeq.histogram(grey())
    assert (counts.dims, counts.name) == (("tone_bin",), "tone")
    assert counts.tone_bin.dtype == np.int64
    assert counts.sel(tone_bin=50) == (GREY == 50).sum()
    assert "spatial_ref" in counts.coords

    image = scene()
    counts = histeq.histogram(image, color="channels", value_range=(100, 999))
    assert dict(counts.sizes) == {"time": 3, "band": 4, "scene_bin": 900}
    xr.testing.assert_equal(counts.cloud, image.cloud.assign_coords(counts.cloud.coords))
    assert counts.sel(scene_bin=700, band="g").isel(time=1) == (SCENE[1, 2] == 700).sum()
    counts = histeq.histogram(image, color="luma", alpha=True)
    assert counts.dims == ("time", "scene_bin")
    counts = histeq.histogram(image, color="channels", alpha=True)
    assert counts.band.values.tolist() == ["nir", "r", "g"]

    floats = grey().astype(np.float32).rename(None)
    assert histeq.histogram(floats).coords.keys() == {"spatial_ref"}  # the range is that of the pixels
    counts = histeq.histogram(floats, bins=4, value_range=(0, 8))
    assert counts.bin.values.tolist() == [1, 3, 5, 7]


def test_the_steps_together():
    image = scene()
    for options in ({"color": "channels"}, {"color": "luma", "alpha": True}):
        counts = histeq.histogram(image, **options)
        table = histeq.lookup_table(counts, dtype=image.dtype)
        assert type(table) is xr.DataArray
        assert table.coords.keys() == counts.coords.keys()
        result = histeq.apply(image, table.transpose(..., "time"), **options)
        xr.testing.assert_identical(result, histeq.equalize(image, **options))
        assert np.array_equal(histeq.apply(image, table.data, **options), result)
    with pytest.raises(ValueError, match="table must have the coordinates of the image along 'time'"):
        histeq.apply(image, table.assign_coords(time=table.time[::-1].data), color="luma", alpha=True)
    with pytest.raises(ValueError, match="table must have one dimension for its levels"):
        histeq.apply(image, table.rename(time="t0"), color="luma", alpha=True)
    tables = histeq.tile_tables(image, color="channels")
    window = histeq.apply_tiles(image[:, :, 3:9], tables, origin=(3, 0), color="channels")
    xr.testing.assert_identical(window, histeq.clahe(image, color="channels")[:, :, 3:9])


def test_a_reference_has_names_of_its_own():
    image, model = scene(), scene().isel(time=1).rename(y="lat", x="lon")[:, :9]
    expected = histeq.match(SCENE, SCENE[1:2, :, :9], layout="NCHW")
    for reference in (model, model.transpose("lon", "band", "lat"), model.expand_dims("scene")):
        xr.testing.assert_identical(histeq.match(image, reference), image.copy(data=expected))
    mask = model.isel(band=0, drop=True) > 500
    expected = histeq.match(SCENE, SCENE[1:2, :, :9], layout="NCHW", reference_mask=mask.data)
    result = histeq.match(image, model.transpose("lon", "band", "lat"), reference_mask=mask)
    assert np.array_equal(result.data, expected)
    with pytest.raises(
        ValueError, match=r"reference must have dimensions as the image has, .* got \('lat', 'lo"
    ):
        histeq.match(image, model.isel(band=0))
    with pytest.raises(ValueError, match=r"dimensions \('a', 'x'\) of reference"):
        histeq.match(grey(), grey().rename(y="a"))


def test_a_reference_has_nodata_of_its_own():
    image, model = grey(attrs={"_FillValue": 30}), grey()
    model[:5] = 7
    for attrs, own in (({}, None), ({"_FillValue": 7}, 7)):
        expected = histeq.match(GREY, model.data, nodata=30, reference_nodata=own)
        assert np.array_equal(histeq.match(image, model.assign_attrs(attrs)).data, expected)
    result = histeq.match(image, model, nodata=7)  # of both, as for plain arrays
    assert np.array_equal(result.data, histeq.match(GREY, model.data, nodata=7))
    result = histeq.match(image, model.assign_attrs(nodata=7), reference_nodata=9)
    assert np.array_equal(result.data, histeq.match(GREY, model.data, nodata=30, reference_nodata=9))


def dataset():
    bounds = np.arange(46.0).reshape(23, 2)
    return xr.Dataset(
        {
            "tone": grey(attrs={"_FillValue": 20, "units": "K"}),
            "fine": grey().astype(np.uint16) * 200,
            "bounds": (("y", "bnds"), bounds),
            "profile": ("y", np.arange(23)),
            "valid": grey() > 50,
            "land": (("y", "x"), GREY, {"flag_values": [1, 2], "flag_meanings": "sea land"}),
            "place": "somewhere",
        },
        attrs={"title": "a scene"},
    )


def test_datasets_go_variable_by_variable():
    image = dataset()
    image.encoding = {"source": "a.nc"}
    for function in (histeq.equalize, histeq.clahe):
        result = function(image)
        assert (result.attrs, result.encoding) == (image.attrs, image.encoding)
        assert list(result.data_vars) == list(image.data_vars)
        for name in image.data_vars:
            expected = function(image[name]) if name in ("tone", "fine") else image[name]
            xr.testing.assert_identical(result[name], expected)
    mask = image.valid
    xr.testing.assert_identical(
        histeq.equalize(image, mask=mask).fine, histeq.equalize(image.fine, mask=mask)
    )
    counts = histeq.histogram(image)
    assert dict(counts.sizes) == {"tone_bin": 256, "fine_bin": 65536}
    images = image[["tone"]]
    table = histeq.lookup_table(histeq.histogram(images), dtype=np.uint8)
    xr.testing.assert_identical(histeq.apply(images, table), histeq.equalize(images))
    xr.testing.assert_identical(histeq.match(image, image).tone, histeq.match(image.tone, image.tone))
    xr.testing.assert_identical(histeq.match(images, image.tone).tone, histeq.match(image.tone, image.tone))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: histeq.equalize(a, out=a), "out must be None for a Dataset"),
        (lambda a: histeq.equalize(a, layout="HW"), "layout must be None for a Dataset"),
        (lambda a: histeq.tile_tables(a), r"image must be a DataArray for tile_tables, got a Dataset"),
        (lambda a: histeq.equalize(a[["place", "profile"]]),
         r"image must have a variable with dimensions for rows and columns.*got place\(\), profile\('y',\)"),
        (lambda a: histeq.equalize(a.drop_vars(a)), "got none"),
        (lambda a: histeq.equalize(a.assign(wide=a.fine.astype(int))), r"got int64.*\(variable 'wide'\)"),
        (lambda a: histeq.equalize(a.assign(more=a.fine.expand_dims("member"))),
         r"layout.*\(variable 'more'\)"),
        (lambda a: histeq.match(a, a[["tone"]]), r"reference must have the variables of the image"),
        (lambda a: histeq.equalize(a, nodata=300), r"nodata must be a value that uint8.*\(variable 'tone'\)"),
        (lambda a: histeq.match(a.tone, a), "reference must be an array or a DataArray, got a Dataset"),
    ],
)  # fmt: skip
def test_datasets_that_do_not_fit(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(dataset())


def test_an_equalizer_takes_the_arrays_inside():
    with pytest.raises(TypeError, match=r"frame must be an array in memory, got DataArray of xarray"):
        histeq.Equalizer()(grey())


def test_stacked_dimensions_and_their_labels():
    parts = scene().isel(band=[0, 2])
    image = parts.stack(n=("time", "band"))
    result = histeq.equalize(image)
    assert result.coords.equals(image.coords)
    unstacked = result.unstack("n").transpose(*parts.dims)
    assert np.array_equal(unstacked.data, histeq.equalize(parts, color="channels").data)
    counts = histeq.histogram(image)
    assert counts.sel(n=("2024-01-02", "g")).sum() == 12 * 17


def test_an_image_opened_but_not_loaded(tmp_path):
    grey(attrs={"_FillValue": np.uint8(20)}).to_dataset().to_zarr(
        tmp_path / "a.zarr", zarr_format=2, consolidated=False
    )
    image = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=None, mask_and_scale=False).tone
    assert np.array_equal(histeq.equalize(image).data, histeq.equalize(GREY, nodata=20))


def test_geotiff(tmp_path):
    """As rioxarray hands it over: the band first, and GDAL's statistics among the attributes."""
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    transform = rasterio.Affine(0.5, 0, 10, 0, -0.5, 50)
    with rasterio.open(path, "w", driver="GTiff", height=23, width=31, count=1, dtype="uint8", nodata=20,
                       crs="EPSG:4326", transform=transform) as file:  # fmt: skip
        file.write(GREY, 1)
        file.update_tags(1, STATISTICS_MEAN="9")
    with rasterio.open(path) as file:
        xs, ys = (np.arange(n) * 0.5 for n in (31, 23))
        image = xr.DataArray(
            file.read(),
            dims=("band", "y", "x"),
            coords={"band": [1], "y": 50 - ys, "x": 10 + xs},
            attrs={"_FillValue": file.nodata, **file.tags(1)},
        )
    histeq.equalize_file(path, tmp_path / "b.tif")
    with rasterio.open(tmp_path / "b.tif") as file:
        result = histeq.equalize(image)
        assert np.array_equal(result.data, file.read())
        assert result.attrs == {"_FillValue": file.nodata}


def test_xarray_is_imported_for_its_objects_alone():
    script = (
        "import sys, numpy, histeq\n"
        "image = numpy.zeros((9, 9), numpy.uint8)\n"
        "histeq.equalize(image, backend='numpy'), histeq.clahe(image, backend='numpy')\n"
        "histeq.histogram(image, nodata=0, backend='numpy')\n"
        "assert 'xarray' not in sys.modules and 'dask' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def lazy(image):
    """Return an image of which chunks say when they are computed."""
    pytest.importorskip("dask")
    return image.chunk({dim: -(-size // 2) for dim, size in image.sizes.items()})


def test_what_is_lazy_stays_lazy():
    import dask

    def computed(*_, **__):
        raise AssertionError("computed at the call")

    image = grey(attrs={"_FillValue": 20, "units": "K"})
    model = (image + 9).astype(np.uint8)
    calls = [
        lambda a, b: histeq.equalize(a, mask=b > 60),
        lambda a, b: histeq.equalize(a, rule="skimage"),
        lambda a, b: histeq.match(a, b),
        lambda a, b: histeq.histogram(a),
        lambda a, b: histeq.apply(a, histeq.lookup_table(histeq.histogram(a), dtype=a.dtype)),
        lambda a, b: histeq.clahe(a),
        lambda a, b: histeq.equalize(a.to_dataset()),
    ]
    with dask.config.set(scheduler=computed):
        results = [call(lazy(image), lazy(model)) for call in calls]
    for result, call in zip(results, calls, strict=True):
        assert dask.is_dask_collection(result)
        xr.testing.assert_identical(result.compute(), call(image, model))


def test_lazy_results_are_written_and_read_again():
    zarr = pytest.importorskip("zarr")
    store, target = zarr.storage.MemoryStore(), zarr.storage.MemoryStore()
    image = grey(attrs={"_FillValue": np.uint8(20)}).to_dataset()
    image.tone.encoding["chunks"] = (8, 8)
    image.to_zarr(store, zarr_format=3, consolidated=False)
    opened = xr.open_zarr(store, consolidated=False, mask_and_scale=False)
    histeq.equalize(opened).to_zarr(target, consolidated=False)
    written = xr.open_zarr(target, consolidated=False, mask_and_scale=False).load()
    xr.testing.assert_identical(written, histeq.equalize(opened.load()))
