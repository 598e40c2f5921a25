"""The dataset of a run as other programs take it: netCDF, pandas, critical points in a dataset of their own."""

import json
import math

import numpy as np
import pytest
import xarray as xr

import deeplinear as dl
from deeplinear import records
from deeplinear._dataset import Dataset, atlas_of, together, with_atlas


@pytest.fixture(scope="module")
def learned():
    return dl.learn(dl.tasks.semantic(), hidden=5, scale=0.1)


BACKENDS = ["scipy", pytest.param("h5netcdf", marks=[])]


def backend_or_skip(engine):
    if engine == "h5netcdf":
        pytest.importorskip("h5netcdf")


@pytest.mark.parametrize("engine", BACKENDS)
def test_a_run_goes_to_netcdf_and_back(tmp_path, learned, engine):
    backend_or_skip(engine)
    learned.to_netcdf(tmp_path / "run.nc", engine=engine)
    back = xr.load_dataset(tmp_path / "run.nc", engine=engine)
    for name, variable in learned.variables.items():
        np.testing.assert_array_equal(back[name].values, variable.values)
        assert back[name].attrs == variable.attrs
    assert json.loads(back.attrs["ending"])["kind"] == learned.attrs["ending"]["kind"] == "global minimum"
    assert json.loads(back.attrs["experiment"]) == learned.attrs["experiment"]
    assert json.loads(back.attrs["centered"]) is False and json.loads(back.attrs["warnings"]) == []
    assert back.attrs["title"] == learned.attrs["title"] and back.attrs["rtol"] == 1e-6
    assert atlas_of(back).identical(learned.atlas), "the critical points are in the file as well"
    assert dl.plots.atlas(back).get_ylabel() == "loss"


@pytest.mark.parametrize("engine", BACKENDS)
@pytest.mark.parametrize(
    "value",
    [None, True, np.True_, {"a": None}, {}, [], [1, "a"], (1, 2), ["a", "b"], 2**62, -(2**40), np.int64(2**40), "",
     "é→", np.float32(0.5), float("inf"), [{"a": [True]}], np.array([1, 2]), {"n": np.int64(3)}],
)  # fmt: skip
def test_every_attribute_has_a_place_in_netcdf(tmp_path, engine, value):
    backend_or_skip(engine)
    data = Dataset({"x": ("n", [1.0], {"note": value})}, attrs={"note": value})
    data.to_netcdf(tmp_path / "x.nc", engine=engine)
    back = xr.load_dataset(tmp_path / "x.nc", engine=engine)
    for attrs in (back.attrs, back["x"].attrs):
        if isinstance(value, str | float | np.floating | np.ndarray):
            np.testing.assert_array_equal(attrs["note"], value)
        else:
            plain = (
                value.item() if isinstance(value, np.generic) else list(value) if isinstance(value, tuple) else value
            )
            assert json.loads(attrs["note"]) == plain
    assert data.attrs["note"] is value, "the dataset itself stays as it was"


def test_what_is_made_of_a_run_goes_to_netcdf_too(tmp_path, learned):
    made = [
        learned.isel(time=-1),
        learned[["loss"]],
        learned.assign(twice=2 * learned["loss"]),
        learned.drop_vars("loss"),
        learned.mean("time", keep_attrs=True),
        learned.copy(deep=True),
        learned.rename(loss="error"),
        records.load(records.save(learned, tmp_path / "run.zarr")),
        learned.atlas,
        dl.landscape.atlas(dl.SquaredError.from_singular_values([2.0, 1.0], 2, 2), (2, 3, 2)),
    ]
    for k, data in enumerate(made):
        data.to_netcdf(tmp_path / f"{k}.nc")
        assert xr.load_dataset(tmp_path / f"{k}.nc").sizes == data.sizes


def test_a_table_of_a_run_has_no_rows_for_critical_points(learned):
    table = learned.to_dataframe()
    assert len(table) == math.prod(learned.sizes.values()) < 1e5
    assert not {"point", "arc", "visit", "sign"} & {*table.index.names}
    assert len(learned[["mode_strengths"]].to_dataframe()) == learned.sizes["time"] * learned.sizes["mode"]
    assert len(learned.atlas.to_dataframe()) > 0


def test_critical_points_are_a_dataset_of_their_own(tmp_path, learned):
    atlas = learned.atlas
    assert atlas.sizes["point"] == 16 and atlas["critical_inertia"].dtype == np.int64
    assert atlas["critical_signature"].values[0] == "1,2,3,4" and atlas["critical_signature"].values[-1] == ""
    back = records.load(records.save(learned, tmp_path / "run.zarr"))
    assert back.atlas.identical(atlas) and type(back) is type(learned)
    whole = together(back)
    assert {"critical_value", "loss"} <= set(whole) and whole.attrs == back.attrs
    assert together(whole).identical(whole), "records of earlier versions hold critical points beside the run"
    assert dl.plots.atlas(together(learned).drop_attrs()).get_ylabel() == "loss"
    with pytest.raises(ValueError, match=r"^`data`: holds no critical points; `landscape\.atlas` makes them$"):
        _ = Dataset().atlas
    for wrong in (3, "words", "[", {"data_vars": 3}, {"coords": {}, "data_vars": {"a": {}}, "attrs": {}, "dims": {}}):
        with pytest.raises(ValueError, match=r"^`data`: its attribute 'atlas' is no dataset"):
            print(with_atlas(Dataset(), xr.Dataset()).assign_attrs(atlas=wrong).atlas)
