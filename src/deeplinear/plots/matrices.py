"""Figures of matrices that change over time: similarities of samples, kernels."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .style import TEXT, canvas, ink, numbers, variable

MOST_NUMBERS = 12  # more rows than this leave no room for a number on each
MAPS = ("PuOr_r", "Oranges")  # of values of both signs and of one; the same orange is the same thing


def similarity(data: xr.Dataset, ax: Axes | None = None, name: str = "rsm_input", time: float | None = None) -> Axes:
    """Draw a square matrix that changes over time, at the recorded time nearest to `time` (None: the last).

    Assumes the variable `name` (time, a, b) with as many a as b, such as `diagnostics.rsm_input` or a kernel gives. The
    colours span the values drawn; white is zero. Raises ValueError where the variable is missing, is not square, or has
    no finite value at that time.

    >>> import xarray as xr
    >>> values = [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.5], [0.5, 1.0]]]
    >>> run = xr.Dataset({"rsm_input": (("time", "sample", "other_sample"), values)}, {"time": [0.0, 1.0]})
    >>> similarity(run).images[0].get_array().tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    dims = tuple(str(dim) for dim in data[name].dims) if isinstance(data, xr.Dataset) and name in data else ()
    square = [dim for dim in dims if dim != "time"]
    values = variable(data, name, "time", *square)
    if len(square) != 2 or values.shape[1] != values.shape[2]:
        raise ValueError(f"`data` variable '{name}' has dimensions {dims}; a square matrix at every time is needed")
    times = variable(data, "time", "time")
    nearest = len(times) - 1 if time is None else int(np.argmin(np.abs(times - time)))
    finite = values[nearest][np.isfinite(values[nearest])]
    if not finite.size:
        raise ValueError(f"`data` variable '{name}' has no finite value at t = {times[nearest]:.3g}; nothing to draw")
    low, high = float(finite.min()), float(finite.max()) or 1.0
    signed, bound = low < 0, max(abs(low), high)
    title = data[name].attrs.get("long_name", name)
    ax = canvas(ax, f"{title[:1].upper()}{title[1:]}, t = {times[nearest]:.3g}")
    image = ax.imshow(
        values[nearest],
        cmap=MAPS[0] if signed else MAPS[1],
        vmin=-bound if signed else 0.0,
        vmax=bound,
        interpolation="nearest",
    )
    ax.spines[["top", "right"]].set_visible(True)
    for axis, dim in ((ax.yaxis, square[0]), (ax.xaxis, square[1])):
        listed = numbers(data, dim)
        step = -(-len(listed) // MOST_NUMBERS)
        axis.set_ticks(range(0, len(listed), step), [str(n) for n in listed[::step]])
        axis.set_label_text(dim.replace("_", " "), fontsize=TEXT, color=ink())
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04)  # about as high as the square
    bar.ax.tick_params(labelsize=TEXT, labelcolor=ink(), color=ink())
    bar.outline.set(edgecolor=ink(), alpha=0.5, linewidth=0.8)
    return ax
