"""Critical points as bars: how many directions lead down, along and up."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .style import TEXT, canvas, ink, variable
from .words import short

DOWN, FLAT, UP = "#c2182b", "#d9d9d9", "#3584d0"
KINDS = {"global minimum": "#1a7f37", "strict saddle": "#c2182b", "non-strict saddle": "#b8500c"}


def inertia_bars(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the signs of the Hessian's eigenvalues at every critical point, the lowest value at the bottom.

    Assumes `inertia` (point, sign), signs in the order negative, zero, positive, with `value`, `kind` and `signature`
    (point,); dots mark `counted` (point, sign), the same counted elsewhere, where present. Names are coloured by kind.
    Raises ValueError where `inertia` is missing or has other dimensions.

    >>> import xarray as xr
    >>> data = xr.Dataset({"inertia": (("point", "sign"), [[0, 1, 2]]), "value": ("point", [0.0]),
    ...                    "kind": ("point", ["global minimum"]), "signature": ("point", ["{1}"])})
    >>> [float(bar.get_width()) for bar in inertia_bars(data).patches]
    [0.0, 1.0, 2.0]
    """
    inertia = variable(data, "inertia", "point", "sign")
    ax = canvas(ax, "")
    edges = np.concatenate([np.zeros((len(inertia), 1)), np.cumsum(inertia, axis=1)], axis=1)
    rows = np.arange(len(inertia))
    for k, colour in enumerate((DOWN, FLAT, UP)):
        ax.barh(rows, inertia[:, k], left=edges[:, k], height=0.72, color=colour)
    if "counted" in data:
        ends = np.cumsum(variable(data, "counted", "point", "sign"), axis=1)[:, :2]
        for column in ends.T:
            ax.plot(column, rows, "o", color=ink(), markersize=2.6, zorder=4, clip_on=False)
    signatures, values = data["signature"].values, variable(data, "value", "point")
    ax.set_yticks(rows, [f"{name}  {short(value)}" for name, value in zip(signatures, values, strict=True)])
    for label, kind in zip(ax.get_yticklabels(), data["kind"].values, strict=True):
        label.set(color=KINDS.get(str(kind), ink()), fontsize=TEXT - 1)
    ax.set_xlim(0, edges[:, -1].max())
    ax.set_xlabel("eigenvalues of the Hessian", fontsize=TEXT, color=ink())
    return ax


def inertia_key(figure: Figure, columns: int = 7) -> None:
    """What colours of bars and of names mean, below the figure.

    >>> figure = Figure()
    >>> inertia_key(figure)
    >>> len(figure.legends[0].get_texts())
    7
    """
    handles: list = [Patch(color=c, label=name) for c, name in ((DOWN, "negative"), (FLAT, "zero"), (UP, "positive"))]
    handles.append(Line2D([], [], color=ink(), marker="o", markersize=3, linestyle="none", label="dense Hessian"))
    handles += [Line2D([], [], linestyle="none", label=name) for name in KINDS]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=TEXT,
                           columnspacing=1.2, handletextpad=0.5)  # fmt: skip
    for text, colour in zip(legend.get_texts()[4:], KINDS.values(), strict=True):
        text.set_color(colour)
