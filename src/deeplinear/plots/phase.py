"""Phase portraits of networks with a handful of weights: paths of runs, minima, saddles, in the plane and in space.

Each takes a dataset with `path` (run, time, weight) and, where they exist, `minima` (sheet, point, weight), curves or
point clouds of global minima, and `saddles` (saddle, weight). Green is a minimum, red a saddle, everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import GREY, TEXT, canvas, ink, numbers, variable

MINIMUM, SADDLE = "#1a7f37", "#c2182b"
PATH = "#3584d0"
MARK = 4.0  # points


def phase_plane(
    data: xr.Dataset, ax: Axes | None = None, weights: tuple[int, int] = (1, 2), limit: float | None = None
) -> Axes:
    """Draw runs in the plane of two weights, with a dot where each ends, the minima and the saddles.

    Assumes `path` (run, time, weight); draws `minima` (sheet, point, weight) and `saddles` (saddle, weight) where
    present. `weights`: their numbers on the axes; `limit`: both axes reach from -limit to limit. A run whose attribute
    variable `at_saddle` (run,) is true ends in red. Raises ValueError where `path` is missing or a weight is unknown.

    >>> import xarray as xr
    >>> run = xr.Dataset({"path": (("run", "time", "weight"), [[[0.1, 0.2], [1.0, 1.0]]])})
    >>> phase_plane(run).lines[0].get_xdata().tolist()
    [0.1, 1.0]
    """
    path = variable(data, "path", "run", "time", "weight")
    x, y = _columns(data, weights)
    ax = canvas(ax, "")
    for run, end in zip(path, _end_colours(data), strict=True):
        ax.plot(run[:, x], run[:, y], color=SADDLE if end == SADDLE else PATH, linewidth=0.9, alpha=0.75, zorder=3)
    if "minima" in data:
        for sheet in variable(data, "minima", "sheet", "point", "weight"):
            ax.plot(sheet[:, x], sheet[:, y], color=MINIMUM, linewidth=2.2, zorder=4)
    ax.scatter(
        path[:, -1, x],
        path[:, -1, y],
        s=(MARK + 1) ** 2,
        color=_end_colours(data),
        zorder=5,
        edgecolors="white",
        linewidths=0.6,
    )
    if "saddles" in data:
        saddles = variable(data, "saddles", "saddle", "weight")
        ax.plot(saddles[:, x], saddles[:, y], "o", color=SADDLE, markersize=MARK + 1.5, zorder=6)
    _name_axes(ax, weights)
    if limit is not None:
        ax.set_xlim(-limit, limit)
        ax.set_ylim(-limit, limit)
    ax.set_aspect("equal", adjustable="box")
    return ax


def phase_space(
    data: xr.Dataset,
    ax: Any = None,
    weights: tuple[int, int, int] = (1, 2, 3),
    limit: float = 2.0,
    view: tuple[float, float] = (22.0, -58.0),
) -> Any:
    """Draw runs in the space of three weights, with the surfaces of minima and the lines of saddles.

    Assumes `path` (run, time, weight); draws `surface` (sheet, row, column, weight), NaN where there is none, and
    `saddle_lines` (line, point, weight) where present. `view`: elevation and azimuth in degrees. Raises ValueError
    where `path` is missing or a weight is unknown.

    >>> import xarray as xr
    >>> run = xr.Dataset({"path": (("run", "time", "weight"), [[[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]]])})
    >>> phase_space(run).name
    '3d'
    """
    path = variable(data, "path", "run", "time", "weight")
    chosen = _columns(data, weights)
    if ax is None:
        ax = Figure(figsize=(4.6, 4.4)).add_subplot(projection="3d")
    if "surface" in data:
        for sheet in variable(data, "surface", "sheet", "row", "column", "weight"):
            ax.plot_surface(
                *(sheet[..., k] for k in chosen), color=MINIMUM, alpha=0.28, linewidth=0, rstride=1, cstride=1,
                antialiased=True, shade=False,
            )  # fmt: skip
    if "saddle_lines" in data:
        for line in variable(data, "saddle_lines", "line", "point", "weight"):
            ax.plot(*(line[:, k] for k in chosen), color=SADDLE, linewidth=2.0)
    for run, end in zip(path, _end_colours(data), strict=True):
        red = end == SADDLE
        ax.plot(*(run[:, k] for k in chosen), color=SADDLE if red else PATH, linewidth=1.4 if red else 0.8, alpha=0.8)
    ends = path[:, -1]
    ax.scatter(*(ends[:, k] for k in chosen), s=MARK**2, color=_end_colours(data), depthshade=False, linewidths=0)
    space(ax, weights, limit, view)
    return ax


def space(ax: Any, weights: Sequence[int], limit: float, view: tuple[float, float]) -> None:
    """The house style of axes in three dimensions."""
    for axis, number in zip((ax.xaxis, ax.yaxis, ax.zaxis), weights, strict=True):
        axis.set_label_text(f"$w_{number}$", fontsize=TEXT + 1, color=ink())
        axis.set_ticks([-np.floor(limit), 0, np.floor(limit)])
        axis.set_major_formatter("{x:g}")
        axis.pane.set_alpha(0.0)
        axis._axinfo["grid"].update(color=(0.5, 0.5, 0.5, 0.25), linewidth=0.5)
        axis.labelpad = -6
    ax.tick_params(labelsize=TEXT - 1, labelcolor=ink(), pad=-3)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit))
    ax.view_init(*view)
    ax.set_box_aspect((1, 1, 1), zoom=1.0)


def phase_key(figure: Figure, more: Sequence[Line2D] = (), saddle: str = "saddle", columns: int = 8) -> None:
    """What the colours of a phase portrait mean, below the figure.

    >>> from matplotlib.figure import Figure
    >>> figure = Figure()
    >>> phase_key(figure)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['gradient flow', 'global minima', 'saddle']
    """
    handles = [
        Line2D([], [], color=PATH, linewidth=1.4, label="gradient flow"),
        Line2D([], [], color=MINIMUM, marker="o", markersize=MARK, linewidth=2.2, label="global minima"),
        Line2D([], [], color=SADDLE, marker="o", markersize=MARK + 1, linestyle="none", label=saddle),
        *more,
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=TEXT)


def _columns(data: xr.Dataset, weights: Sequence[int]) -> list[int]:
    listed = numbers(data, "weight")
    unknown = [w for w in weights if w not in listed]
    if unknown:
        raise ValueError(f"`weights`: there is no weight {unknown[0]}; the dataset has {listed}")
    return [listed.index(w) for w in weights]


def _end_colours(data: xr.Dataset) -> list[str]:
    """Green for runs that ended at a minimum, red for those that the dataset says stopped at a saddle."""
    if "at_saddle" not in data:
        return [MINIMUM] * data.sizes["run"]
    return [SADDLE if at else MINIMUM for at in data["at_saddle"].values]


def _name_axes(ax: Axes, weights: Sequence[int]) -> None:
    for axis, number in zip((ax.xaxis, ax.yaxis), weights, strict=False):
        axis.set_label_text(f"$w_{number}$", fontsize=TEXT + 1, color=ink())
    ax.axhline(0, color=GREY, linewidth=0.5, zorder=1)
    ax.axvline(0, color=GREY, linewidth=0.5, zorder=1)
