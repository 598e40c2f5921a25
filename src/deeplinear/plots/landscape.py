"""Figures of a loss landscape: its critical points, who lies above whom, and the way that a run took among them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from .._dataset import together
from .style import GREY, TEXT, canvas, colour, ink, numbers, variable
from .words import ranges, short

KINDS = ("strict saddle", "non-strict saddle", "global minimum")
SPREAD = 0.74  # of the distance between ranks, over which points of one rank lie side by side
FEW = 40  # points up to which all are drawn large
LETTER, LINE = 0.56, 1.2  # width and height of a letter in text sizes
PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))  # of a label about its point

FURTHER = tuple((1.3 * x, 2.4 * y) for x, y in PLACES[2:])


def atlas(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw critical points by rank and loss, arrows of the Hasse diagram as thin lines, the path of a run over them.

    Points of one rank lie side by side, the highest at the left; colour tells the kind of the canonical representative.
    Numbers are the learned modes, and the times those at which the run comes nearest to a point. Of a run of `learn`
    its `data.atlas` is drawn. Assumes `critical_value` and `critical_rank` (point,), and draws `critical_kind`,
    `critical_signature`, `arc_from` and `arc_to` (arc,), `visit_point` and `visit_time` (visit,) where present. Labels
    that would cover another are left out. Raises ValueError where the first two are missing.

    >>> import xarray as xr
    >>> points = {"critical_value": ("point", [0.0, 2.0]), "critical_rank": ("point", [1, 0])}
    >>> atlas(xr.Dataset(points)).get_ylabel()
    'loss'
    """
    data = together(data)
    values = variable(data, "critical_value", "point")
    rank = variable(data, "critical_rank", "point").astype(int)
    ax = canvas(ax, "Critical points of the loss")
    columns = sorted(set(rank.tolist()))
    across = _across(values, np.searchsorted(columns, rank))
    _limits(ax, columns, values)
    _arrows(ax, data, across, values)
    visits = _visits(data)
    route = [at for at, _ in visits]
    ax.plot(across[route], values[route], color=colour(4), linewidth=2.6, zorder=3, solid_capstyle="round")
    shown = _points(ax, _kinds(data), across, values)
    if visits:
        shown.append(Line2D([], [], color=colour(4), linewidth=2.6, label="this run"))
    _legend(ax, shown)
    _label(ax, data, visits, across, values)
    return ax


def _across(values: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Place of every point on the horizontal axis: about its rank, by falling value."""
    across = column.astype(float)
    for k in set(column.tolist()):
        here = np.flatnonzero(column == k)
        order = here[np.argsort(-values[here], kind="stable")]
        across[order] += SPREAD * ((np.arange(here.size) + 0.5) / here.size - 0.5)
    return across


def _limits(ax: Axes, columns: list[int], values: np.ndarray) -> None:
    ax.set_xlabel("number of learned modes", fontsize=TEXT, color=ink(), labelpad=3)
    ax.set_ylabel("loss", fontsize=TEXT, color=ink(), labelpad=3)
    every = -(-len(columns) // 12)
    ax.set_xticks(range(0, len(columns), every), [str(rank) for rank in columns[::every]])
    ax.set_xlim(-0.55, len(columns) - 0.45)
    margin = 0.07 * (values.max() - values.min()) or 1.0
    ax.set_ylim(values.min() - margin, values.max() + margin)


def _arrows(ax: Axes, data: xr.Dataset, across: np.ndarray, values: np.ndarray) -> None:
    if "arc_from" not in data or "arc_to" not in data:
        return
    ends = [_indices(data, name, "arc") for name in ("arc_from", "arc_to")]
    places = np.stack([across, values], axis=1)
    segments = np.stack([places[end] for end in ends], axis=1)
    faint = float(np.clip(40 / max(len(segments), 1), 0.12, 0.55))
    ax.add_collection(LineCollection(list(segments), colors=[GREY], linewidths=0.6, alpha=faint, zorder=1))


def _points(ax: Axes, kinds: list[str], across: np.ndarray, values: np.ndarray) -> list[Line2D]:
    """One marker a kind; returns what the legend shows."""
    large = len(values) <= FEW
    size = 5.5 if large else 3.2
    looks: dict[str, dict[str, Any]] = {
        KINDS[0]: {"marker": "o", "color": GREY},
        KINDS[1]: {"marker": "o", "color": colour(1)},
        KINDS[2]: {"marker": "D", "color": colour(0)},
    }
    shown = []
    for k, (kind, look) in enumerate(looks.items()):
        here = [i for i, found in enumerate(kinds) if found == kind]
        if here:
            drawn = ax.plot(
                across[here], values[here], linestyle="none", markersize=size, zorder=4 + k, label=kind, **look
            )
            shown += drawn
    return shown


def _legend(ax: Axes, shown: list[Line2D]) -> None:
    """At the upper right, which is free: who has learned many modes has a low loss."""
    ax.legend(
        handles=shown,
        loc="upper right",
        frameon=False,
        fontsize=TEXT,
        labelcolor=ink(),
        borderaxespad=0.1,
        handlelength=1.4,
        labelspacing=0.3,
    )


def _label(ax: Axes, data: xr.Dataset, visits: list[tuple[int, float]], across: np.ndarray, values: np.ndarray) -> None:
    """Write learned modes beside points, first on the path, then from the lowest up, where there is room."""
    if "critical_signature" not in data:
        return
    names = [_name(text) for text in data["critical_signature"].values.tolist()]
    times = dict(reversed(visits))
    marks = ax.transData.transform(np.stack([across, values], axis=1))
    letter = TEXT * ax.figure.dpi / 72
    route = marks[[at for at, _ in visits]]
    steps = [a + (b - a) * part for a, b in pairwise(route) for part in np.linspace(0, 1, 40)]
    taken = [_box(place, np.full(2, 0.25 * letter)) for place in [*marks, *steps]]
    taken += [legend.get_window_extent().extents for legend in [ax.get_legend()] if legend is not None]
    frame = ax.get_window_extent()
    page = np.array([frame.x0 + 0.2 * letter, frame.y0, *ax.figure.bbox.max])
    leaders: list[list[np.ndarray]] = []
    for i in sorted(range(len(names)), key=lambda i: (i not in times, i)):
        text = f"{names[i]} (t = {short(times[i])})" if times.get(i) else names[i]
        half = np.array([0.5 * LETTER * len(text) * letter, 0.5 * LINE * letter])
        away = half + np.array([0.65 * letter, 0.2 * letter])
        for side in (*PLACES, *FURTHER) if i in times or len(names) <= FEW else PLACES:
            centre = marks[i] + np.array(side) * away
            box = _box(centre, half)
            if _is_free(box, np.array(taken), page):
                taken.append(box)
                if side in FURTHER:
                    leaders.append([marks[i], np.clip(marks[i], box[:2], box[2:])])
                x, y = ax.transData.inverted().transform(centre)
                strong = {"color": ink()} if i in times else {"color": ink(), "alpha": 0.7}
                ax.text(x, y, text, fontsize=TEXT - 0.5, ha="center", va="center_baseline", zorder=8, **strong)
                break
    lines = [ax.transData.inverted().transform(leader) for leader in leaders]
    ax.add_collection(LineCollection(lines, colors=[ink()], linewidths=0.6, alpha=0.5, zorder=2), autolim=False)


def _box(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Left, bottom, right, top."""
    return np.concatenate([centre - half, centre + half])


def _is_free(box: np.ndarray, taken: np.ndarray, page: np.ndarray) -> bool:
    """Whether a box lies on the page and overlaps none that is taken, (n, 4)."""
    apart = (taken[:, :2] >= box[2:]) | (taken[:, 2:] <= box[:2])
    return bool(np.all(box[:2] >= page[:2]) and np.all(box[2:] <= page[2:]) and np.all(np.any(apart, axis=1)))


def _kinds(data: xr.Dataset) -> list[str]:
    """The first of the kinds that are possible at every point."""
    if "critical_kind" not in data:
        return [KINDS[0]] * data.sizes["point"]
    return [text.split(" or ")[0] for text in data["critical_kind"].values.tolist()]


def _visits(data: xr.Dataset) -> list[tuple[int, float]]:
    """Indices of the points that the run came near to, and when."""
    if "visit_point" not in data or "visit_time" not in data:
        return []
    return list(
        zip(_indices(data, "visit_point", "visit"), variable(data, "visit_time", "visit").tolist(), strict=True)
    )


def _indices(data: xr.Dataset, name: str, dim: str) -> list[int]:
    places = {number: i for i, number in enumerate(numbers(data, "point"))}
    return [places[int(number)] for number in variable(data, name, dim)]


def _name(signature: str) -> str:
    return ranges(int(k) for k in signature.split(",")) if signature else "none"
