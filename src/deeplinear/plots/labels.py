"""Labels at the right end of lines, moved apart so that none covers another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from .style import TEXT, ink

GAP = 0.02  # between the axes and the label, where a thin leader runs; in axes widths


@dataclass(frozen=True)
class End:
    """The right end of a line: its value, its colour, and what to write beside it."""

    value: float
    colour: str
    text: str


def last_drawn(values: np.ndarray, above: float = -np.inf) -> float:
    """The last finite value of a line that lies above a bound; NaN where there is none."""
    drawn = values[np.isfinite(values) & (values > above)]
    return float(drawn[-1]) if drawn.size else float("nan")


def label_ends(ax: Axes, ends: Iterable[End]) -> None:
    """Write beside each end what it is, the first of several equal ends on top.

    The limits of the axes must have been set. Ends that are not finite, or not positive on a logarithmic axis, get no
    label.
    """
    floor = 0.0 if ax.get_yscale() == "log" else -np.inf
    placed = [(_height(ax, end.value), end) for end in ends if np.isfinite(end.value) and end.value > floor]
    if not placed:
        return
    placed = sorted(reversed(placed), key=lambda item: round(item[0], 3))
    # one line of text in axes heights; the window is in pixels, text in points of 1/72 inch
    spacing = 1.25 * TEXT * ax.figure.dpi / 72 / ax.get_window_extent().height
    heights = _spread(np.array([height for height, _ in placed]), spacing)
    leaders = []
    for target, (height, end) in zip(heights, placed, strict=True):
        ax.text(
            1 + 1.5 * GAP,
            target,
            end.text,
            transform=ax.transAxes,
            color=end.colour,
            fontsize=TEXT,
            va="center_baseline",
            clip_on=False,
        )
        leaders.append([(1 + 0.2 * GAP, height), (1 + 1.2 * GAP, target)])
    ax.add_collection(
        LineCollection(leaders, transform=ax.transAxes, clip_on=False, linewidths=0.6, colors=[ink()], alpha=0.5),
        autolim=False,
    )


def _height(ax: Axes, value: float) -> float:
    """A value as a part of the height of the axes, kept inside them."""
    pixel = ax.transData.transform((ax.get_xlim()[1], value))
    return float(np.clip(ax.transAxes.inverted().transform(pixel)[1], 0, 1))


def _spread(heights: np.ndarray, spacing: float) -> np.ndarray:
    """Sorted heights moved as little as needed (in the sense of least squares) to lie at least `spacing` apart."""
    # subtracting k * spacing turns "at least spacing apart" into "non-decreasing": isotonic regression by pooling
    shifted = heights - spacing * np.arange(len(heights))
    pools: list[list[float]] = []
    for value in shifted:
        pools.append([float(value)])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    fitted = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    top = 1 - spacing * (len(heights) - 1)
    return np.clip(fitted, min(0.0, top), max(0.0, top)) + spacing * np.arange(len(heights))
