"""The loss along arcs between critical points."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .style import TEXT, canvas, ink, variable


def arc_losses(data: xr.Dataset, ax: Axes | None = None, kind: str | None = None) -> Axes:
    r"""Draw the loss along every arc from a critical point to another, and a dot where it has a minimum inside.

    Assumes `loss` (arc, alpha) with coordinate `alpha`; colours tell `learned` (arc,), the number of modes learned at
    the arc's beginning, dark for few, where present; `lowest_alpha` and `lowest_loss` (arc,) are drawn where the kind
    is "interior minimum". `kind`: draw the arcs whose `kind` (arc,) it is (None: all). Raises ValueError where `loss`
    is missing or no arc is of that kind.

    >>> import xarray as xr
    >>> data = xr.Dataset({"loss": (("arc", "alpha"), [[1.0, 0.25, 0.0]])}, {"alpha": [0.0, 0.5, 1.0]})
    >>> arc_losses(data).lines[0].get_ydata().tolist()
    [1.0, 0.25, 0.0]
    """
    variable(data, "loss", "arc", "alpha")
    if kind is not None:
        chosen = np.flatnonzero(data["kind"].values == kind)
        if not chosen.size:
            raise ValueError(f"`kind`: no arc is {kind!r}; there are {sorted(set(data['kind'].values.tolist()))}")
        data = data.isel(arc=chosen)
    loss = variable(data, "loss", "arc", "alpha")
    ax = canvas(ax, "")
    learned = variable(data, "learned", "arc") if "learned" in data else np.zeros(len(loss))
    for values, count in zip(loss, learned, strict=True):
        ax.plot(data["alpha"].values, values, color=arc_colour(int(count), data), linewidth=1.0, alpha=0.8)
    if "kind" in data and "lowest_alpha" in data:
        inside = data["kind"].values == "interior minimum"
        low, where = (variable(data, name, "arc")[inside] for name in ("lowest_loss", "lowest_alpha"))
        ax.scatter(where, low, s=9, color=ink(), zorder=4, linewidths=0)
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1])
    ax.set_xlabel(r"$\alpha$", fontsize=TEXT + 1, color=ink())
    ax.set_ylabel("loss", fontsize=TEXT, color=ink())
    return ax


def arc_colour(learned: int, data: xr.Dataset) -> tuple:
    """Colour of arcs that begin where this many modes are learned; `data.attrs["modes"]` is the largest number.

    >>> len(arc_colour(0, xr.Dataset()))
    4
    """
    most = max(int(data.attrs.get("modes", 1)), 1)
    return mpl.colormaps["viridis"](0.88 * learned / most)
