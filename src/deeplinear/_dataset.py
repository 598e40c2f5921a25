"""The dataset that the library returns: xarray's, with attributes that netCDF can store and a group inside."""

import json
from typing import Any

import numpy as np
import xarray as xr

ATLAS = "atlas"
"""Attribute that holds the critical points around a run, as `xarray.Dataset.to_dict` writes a dataset."""
SMALL = 2**31
"""Whole numbers that netCDF 3 can store are below this."""


class Dataset(xr.Dataset):
    """An `xarray.Dataset` whose nested attributes (`attrs["ending"]["kind"]`) become JSON text in netCDF files.

    Critical points are a dataset of their own, `data.atlas`: their dimensions have nothing to do with time, and
    `to_dataframe` has a row for every combination of dimensions. What xarray makes of it (`isel`, `assign`, `mean`) is
    of the same class.

    >>> import tempfile
    >>> data = Dataset({"loss": ("time", [1.0])}, attrs={"ending": {"kind": "saddle"}, "seed": 2**40})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data.to_netcdf(f"{folder}/run.nc")
    ...     xr.load_dataset(f"{folder}/run.nc").attrs
    {'ending': '{"kind": "saddle"}', 'seed': '1099511627776'}
    """

    __slots__ = ()

    @property
    def atlas(self) -> "Dataset":
        """The critical points around the run (see `landscape.atlas`); raises `ValueError` where there are none.

        >>> points = xr.Dataset({"critical_value": ("point", [0.0, 2.0])}, {"point": [1, 2]})
        >>> with_atlas(Dataset({"loss": ("time", [1.0])}), points).atlas["critical_value"].values.tolist()
        [0.0, 2.0]
        """
        found = atlas_of(self)
        if found is None:
            raise ValueError("`data`: holds no critical points; `landscape.atlas` makes them")
        return found

    def to_netcdf(self, *args: Any, **kwargs: Any) -> Any:
        """As `xarray.Dataset.to_netcdf`; attributes that netCDF does not know are written as JSON text."""
        data = xr.Dataset(self.data_vars, self.coords, {key: storable(value) for key, value in self.attrs.items()})
        for variable in data.variables.values():
            variable.attrs = {key: storable(value) for key, value in variable.attrs.items()}
        return data.to_netcdf(*args, **kwargs)


def with_atlas(data: Dataset, atlas: xr.Dataset) -> Dataset:
    """`data` with critical points as a dataset inside.

    >>> with_atlas(Dataset(), xr.Dataset({"critical_rank": ("point", [1, 0])})).attrs["atlas"]["dims"]
    {'point': 2}
    """
    return data.assign_attrs({ATLAS: atlas.to_dict()})


def atlas_of(data: xr.Dataset) -> Dataset | None:
    """The critical points in a dataset, whether it was read from a record or from netCDF; None where there are none.

    >>> atlas_of(xr.Dataset()) is None
    True
    """
    found = data.attrs.get(ATLAS)
    if found is None:
        return None
    try:
        return Dataset.from_dict(json.loads(found) if isinstance(found, str) else found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`data`: its attribute {ATLAS!r} is no dataset ({' '.join(str(error).split())})") from None


def together(data: xr.Dataset) -> xr.Dataset:
    """`data` and the critical points inside it, side by side, for figures.

    >>> points = xr.Dataset({"critical_rank": ("point", [1, 0])})
    >>> sorted(together(with_atlas(Dataset({"loss": ("time", [1.0])}), points)))
    ['critical_rank', 'loss']
    """
    atlas = atlas_of(data)
    if atlas is None:
        return data
    return data.drop_vars(atlas.variables, errors="ignore").merge(atlas, combine_attrs="override")


def storable(value: Any) -> Any:
    """A value as an attribute of netCDF: text and numbers as they are, everything else as JSON text.

    >>> storable("digits"), storable(3), storable({"kind": "time", "at": None}), storable([1, 2]), storable(None)
    ('digits', 3, '{"kind": "time", "at": null}', '[1, 2]', 'null')
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate is no text
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, float | np.floating):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and -SMALL < value < SMALL:
        return value
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
