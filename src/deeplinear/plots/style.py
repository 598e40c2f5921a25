"""The house style: which line gets which colour, how axes look, where labels go.

Colours. At most six lines of one figure are coloured; all others are thin and grey. The six are ordered by lightness
(so their order survives a black-and-white print), keep a contrast of at least 3:1 to the page, alternate between the
blue and the yellow side (so that colour-blind readers tell neighbours apart), and differ in their dashes as well.
Text and axes follow matplotlib's `text.color`; where that is light, the palette for dark pages is used.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .words import power

LIGHT = ("#1b2a7a", "#8c1733", "#6b45b8", "#b8500c", "#3584d0", "#a88a14")  # on a white page, dark to light
DARK = ("#c3d4ff", "#ffa593", "#b49cff", "#e88a3c", "#4a93e6", "#9a7f1e")  # on a near-black page, light to dark
GREY = "#858585"  # contrast above 3:1 on white and on near-black
COLOURED = len(LIGHT)

SIZE = (5.4, 3.4)  # inches
BOX = (0.105, 0.135, 0.73, 0.745)  # axes in the figure: left, bottom, width, height; room for labels at the right
TEXT = 8.5  # points

_DASHES = ("-", (0, (5.5, 1.3)), (0, (5.5, 1.3, 1.2, 1.3)))
_DOTS = (0, (0.01, 3.4))  # round caps make each zero-length dash a dot

SQUEEZED = 0.05  # a first transition within this part of the time axis is too narrow to read: use a logarithmic axis


def ink() -> Any:
    """The colour of text and axes."""
    return mpl.rcParams["text.color"]


def palette() -> tuple[str, ...]:
    """The six line colours that suit the page, most important first."""
    return DARK if sum(to_rgb(ink())) > 1.5 else LIGHT


def colour(k: int) -> str:
    """Colour of the k-th series, counted from 0."""
    return palette()[k] if k < COLOURED else GREY


def line(k: int) -> dict[str, Any]:
    """Line properties of the k-th series, from 0; dashed lines lie on top, so both of a coinciding pair show."""
    if k >= COLOURED:
        return {"color": GREY, "linewidth": 0.7, "zorder": 2.0}
    dashes = k % len(_DASHES)
    return {"color": colour(k), "linewidth": 1.9, "linestyle": _DASHES[dashes], "zorder": 3 + dashes - 0.01 * k}


def dots() -> dict[str, Any]:
    """Line properties of a theory drawn over a coloured series."""
    return {"color": ink(), "linestyle": _DOTS, "dash_capstyle": "round", "linewidth": 3.6, "zorder": 7}


def variable(data: xr.Dataset, name: str, *dims: str) -> np.ndarray:
    """Values of one variable with exactly these dimensions in this order, or a ValueError naming it."""
    if not isinstance(data, xr.Dataset):
        raise ValueError(f"`data` must be an xarray.Dataset as made by `learn`, got {type(data).__name__}")
    if name not in data:
        raise ValueError(f"`data` has no variable '{name}'; record it, or draw a figure that does not need it")
    found = data[name].dims
    if set(found) != set(dims):
        raise ValueError(
            f"`data` variable '{name}' has dimensions {found}, expected {dims}; select a single run first, "
            "for instance with data.isel(...)"
        )
    if not data[name].size:
        raise ValueError(
            f"`data` variable '{name}' is empty, of sizes {dict(data[name].sizes)}; there is nothing to draw"
        )
    return np.asarray(data[name].transpose(*dims).values, dtype=float)


def numbers(data: xr.Dataset, dim: str) -> list[int]:
    """The numbers a person reads along a dimension: its coordinate, or 1, 2, ... where that holds no numbers."""
    if dim in data.coords and np.issubdtype(data[dim].dtype, np.number):
        return [int(n) for n in data[dim].values]
    return list(range(1, data.sizes[dim] + 1))


def canvas(ax: Axes | None, title: str) -> Axes:
    """The given axes, or those of a new figure, in the house style."""
    if ax is None:
        ax = Figure(figsize=SIZE).add_axes(BOX)
    ax.set_title(title, loc="left", fontsize=TEXT + 1.5, color=ink(), pad=8)
    ax.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set(color=ink(), alpha=0.5, linewidth=0.8)
    ax.tick_params(which="both", color=ink(), labelcolor=ink(), labelsize=TEXT, width=0.8)
    ax.tick_params(which="minor", length=2, width=0.5)
    return ax


def time_axis(ax: Axes, data: xr.Dataset) -> None:
    """Label and range of the time axis: linear, unless the first transition lies in its first twentieth.

    Then the axis is logarithmic and starts a decade before that transition (or at the first positive time).
    """
    ax.set_xlabel("time", fontsize=TEXT, color=ink(), labelpad=3)
    times = variable(data, "time", "time")
    first, last = times[0], times[-1]
    if not last > first:
        return
    ax.set_xlim(first, last)
    halves = variable(data, "half_time", "mode") if "half_time" in data and data.sizes["mode"] else np.array([])
    halves = halves[np.isfinite(halves) & (halves > 0)]
    if halves.size and halves.min() < SQUEEZED * last:
        ax.set_xscale("log")
        start = max(halves.min() / 10, times[times > 0].min())
        ax.set_xlim(start, last)
        _powers(ax.xaxis, start, last)


def log_values(ax: Axes, values: np.ndarray, *also: float) -> bool:
    """A logarithmic value axis that shows every positive value and `also`; False where there is none to show.

    Zeros and negative values stay in the lines but are not drawn.
    """
    positive = values[np.isfinite(values) & (values > np.finfo(float).tiny)]
    if not positive.size:
        return False
    shown = np.append(positive, also)
    low, high = shown.min() / 1.6, shown.max() * 1.6
    if math.floor(math.log10(high)) < math.log10(low):  # no power of ten in the range, so no label
        low = 10.0 ** math.floor(math.log10(low))
    ax.set_yscale("log", nonpositive="mask")
    ax.set_ylim(low, high)
    _powers(ax.yaxis, low, high)
    return True


def _powers(axis: Any, low: float, high: float) -> None:
    """Label a logarithmic axis by powers of ten; by 2 and 5 as well where it is short."""
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda x, _: power(round(math.log10(x)))))
    if high / low < 40:
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    elif high / low < 1e5:
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_minor_locator(NullLocator())
