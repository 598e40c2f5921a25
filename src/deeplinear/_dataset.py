"""The dataset that the library returns: xarray's, with attributes that netCDF can store and a group inside."""

import json
import math
import numbers
from typing import Any

import numpy as np
import xarray as xr

SMALL = 2**31
"""Whole numbers that netCDF 3 can store are below this."""


class Dataset(xr.Dataset):
    """An `xarray.Dataset` whose nested attributes (`attrs["ending"]["kind"]`) become JSON text in netCDF files.

    What xarray makes of it (`isel`, `assign`, arithmetic) is of the same class. `xarray.Dataset(data)` takes it off.

    >>> import tempfile
    >>> data = Dataset({"loss": ("time", [1.0])}, attrs={"ending": {"kind": "saddle"}, "seed": 2**40})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data.to_netcdf(f"{folder}/run.nc")
    ...     xr.load_dataset(f"{folder}/run.nc").attrs
    {'ending': '{"kind": "saddle"}', 'seed': '1099511627776'}
    """

    __slots__ = ()

    def to_netcdf(self, *args: Any, **kwargs: Any) -> Any:
        """As `xarray.Dataset.to_netcdf`; attributes that netCDF does not know are written as JSON text."""
        data = xr.Dataset(self.data_vars, self.coords, {key: storable(value) for key, value in self.attrs.items()})
        for variable in data.variables.values():
            variable.attrs = {key: storable(value) for key, value in variable.attrs.items()}
        return data.to_netcdf(*args, **kwargs)


def storable(value: Any) -> Any:
    """A value as an attribute of netCDF: text and numbers as they are, everything else as JSON text.

    >>> storable("digits"), storable(3), storable({"kind": "time", "at": None}), storable([1, 2]), storable(None)
    ('digits', 3, '{"kind": "time", "at": null}', '[1, 2]', 'null')
    """
    if isinstance(value, str | np.ndarray):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) and abs(value) < SMALL:
        return value
    if isinstance(value, float | np.floating):
        return float(value)
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
