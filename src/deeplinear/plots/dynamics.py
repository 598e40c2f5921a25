"""Figures of one run: each takes the dataset that `learn` makes and, if wished, axes to draw on, and returns the axes.

A figure draws what the dataset holds and computes nothing. Without `ax` it makes a new figure, reached as
`ax.figure` (for instance `modes(data).figure.savefig("modes.png")`); pyplot is never imported. The time axis is linear,
or logarithmic where the first transition would lie in its first twentieth.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .labels import End, label_ends, last_drawn
from .style import (
    COLOURED,
    GREY,
    SIZE,
    TEXT,
    canvas,
    colour,
    dots,
    ink,
    line,
    log_values,
    numbers,
    time_axis,
    variable,
)
from .words import numbered, percent

BAR_LABELS = 12  # more bars than this leave no room for a label on each


def modes(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the strength of each mode over time, the theory dotted over it, the targets as ticks at the right.

    Assumes `mode_strengths` (time, mode); draws `theory_mode_strengths` (of the coloured modes: dots over thin grey
    lines would hide them) and `mode_targets` where present.
    Raises ValueError where `mode_strengths` is missing or has other dimensions.

    >>> import xarray as xr
    >>> run = xr.Dataset({"mode_strengths": (("time", "mode"), [[0.0], [0.5], [1.0]])}, {"time": [0.0, 1.0, 2.0]})
    >>> modes(run).lines[0].get_ydata().tolist()
    [0.0, 0.5, 1.0]
    """
    strengths = variable(data, "mode_strengths", "time", "mode")
    ax = canvas(ax, "Strength of each mode")
    times = data["time"].values
    drawn = [strengths]
    listed = numbers(data, "mode")
    for k, mode in enumerate(listed):
        ax.plot(times, strengths[:, k], label=f"mode {mode}", **line(k))
    if "theory_mode_strengths" in data:
        theory = variable(data, "theory_mode_strengths", "time", "mode")
        drawn.append(theory)
        for k, mode in enumerate(listed[:COLOURED]):
            if np.isfinite(theory[:, k]).any():
                ax.plot(times, theory[:, k], label=f"theory, mode {mode}", **dots())
        _key(ax)
    if "mode_targets" in data:
        targets = variable(data, "mode_targets", "mode")
        drawn.append(targets)
        widths = [0.8 if k < COLOURED else 0.3 for k in range(len(targets))]
        ax.hlines(targets, 0.955, 1.0, transform=ax.get_yaxis_transform(), color=ink(), alpha=0.5, linewidth=widths)
    time_axis(ax, data)
    _linear_values(ax, np.concatenate([values.ravel() for values in drawn]))
    _label(ax, "mode", listed, strengths)
    return ax


def loss(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the loss, and the excess over the smallest loss that can be reached, on a logarithmic axis.

    Assumes `loss` (time,) or `excess_loss` (time,) or both, and draws `theory_loss` (time,) where present; values that
    are zero or negative are not drawn.
    Raises ValueError where both are missing.

    >>> import xarray as xr
    >>> run = xr.Dataset({"loss": ("time", [1.0, 0.1, 0.01])}, {"time": [0.0, 1.0, 2.0]})
    >>> loss(run).get_yscale()
    'log'
    """
    names = [name for name in ("loss", "excess_loss") if name in data]
    if not names:
        raise ValueError("`data` has neither a variable 'loss' nor 'excess_loss'; record one of them")
    series = {name: variable(data, name, "time") for name in names}
    ax = canvas(ax, "Loss")
    ends = []
    for k, (name, values) in enumerate(series.items()):
        # in ink: the colours stand for modes
        ax.plot(data["time"].values, values, label=name, **(line(k) | {"color": ink()}))
        ends.append(End(last_drawn(values, above=0.0), ink(), name.replace("excess_loss", "excess")))
    if "theory_loss" in data:
        ax.plot(data["time"].values, variable(data, "theory_loss", "time"), label="theory", **dots())
        _key(ax)
    time_axis(ax, data)
    values = np.concatenate(list(series.values()))
    if log_values(ax, values):
        label_ends(ax, ends)
    else:
        _nothing(ax, values)
    return ax


def layer_spectra(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the singular values of every layer over time, one colour to a layer; small indices are thicker.

    Assumes `layer_singular_values` (time, layer, index), padded with NaN. Raises ValueError where it is missing.

    >>> import xarray as xr
    >>> values = [[[0.1], [0.1]], [[1.0], [1.0]]]
    >>> run = xr.Dataset({"layer_singular_values": (("time", "layer", "index"), values)}, {"time": [0.0, 1.0]})
    >>> len(layer_spectra(run).lines)
    2
    """
    spectra = variable(data, "layer_singular_values", "time", "layer", "index")
    ax = canvas(ax, "Singular values of each layer")
    for k, layer in enumerate(numbers(data, "layer")):
        for index in range(spectra.shape[2]):
            values = spectra[:, k, index]
            if not np.isfinite(values).any():
                continue
            properties = line(k)
            if k < COLOURED:
                properties["linewidth"] = 1.7 if index < COLOURED else 0.6
            ax.plot(data["time"].values, values, label=f"layer {layer}, {index + 1}", **properties)
    time_axis(ax, data)
    _linear_values(ax, spectra.ravel())
    _label(ax, "layer", numbers(data, "layer"), spectra[:, :, 0])
    return ax


def imbalance(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw how far each conserved quantity W_{l+1}^T W_{l+1} - W_l W_l^T has drifted from its start.

    The axis is logarithmic and always reaches down to the rounding of float64 (for weights of order one), so that a
    drift is seen for what it is; the solver's relative tolerance `rtol` is marked where the dataset knows it.
    Of layers with rates of their own W_{l+1}^T W_{l+1} / eta_{l+1} - W_l W_l^T / eta_l is conserved, and drawn.
    Assumes `imbalance_drift` (time, junction); exact zeros are not drawn. Raises ValueError where it is missing.

    >>> import xarray as xr
    >>> run = xr.Dataset({"imbalance_drift": (("time", "junction"), [[0.0], [1e-9]])}, {"time": [0.0, 1.0]})
    >>> imbalance(run).lines[0].get_label()
    'layers 1–2'
    """
    drift = variable(data, "imbalance_drift", "time", "junction")
    ax = canvas(ax, "Drift of the conserved quantities")
    ends = []
    for k, junction in enumerate(numbers(data, "junction")):
        label = f"layers {junction}–{junction + 1}"
        ax.plot(data["time"].values, drift[:, k], label=label, **line(k))
        ends.append(End(last_drawn(drift[:, k], above=0.0), colour(k), label))
    time_axis(ax, data)
    marks = {float(np.finfo(float).eps): "rounding"}
    rtol = data.attrs.get("rtol")
    if isinstance(rtol, (int, float)) and rtol > 0:
        marks[float(rtol)] = "rtol"
    if not log_values(ax, drift, *marks):
        _nothing(ax, drift)
        return ax
    for value, name in marks.items():
        ax.hlines(value, 0, 1, transform=ax.get_yaxis_transform(), color=ink(), alpha=0.4, linewidth=0.8, linestyle=":")
        ends.append(End(value, ink(), name))
    label_ends(ax, ends)
    return ax


def alignment(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw how well the singular vectors of neighbouring layers line up: 0 not at all, 1 perfectly.

    Colour tells the pair (singular vectors in order of size); where there are several junctions, the thickest line
    is the one nearest the input.
    Assumes `alignment` (time, junction, rank) in [0, 1]. Raises ValueError where it is missing.

    >>> import xarray as xr
    >>> run = xr.Dataset({"alignment": (("time", "junction", "rank"), [[[0.2]], [[1.0]]])}, {"time": [0.0, 1.0]})
    >>> len(alignment(run).lines)
    1
    """
    overlap = variable(data, "alignment", "time", "junction", "rank")
    ax = canvas(ax, "Alignment of neighbouring layers")
    junctions = numbers(data, "junction")
    for k, pair in enumerate(numbers(data, "rank")):
        for j, junction in enumerate(junctions):
            properties = line(k)
            properties["linewidth"] *= 1 - 0.6 * j / max(len(junctions) - 1, 1)
            ax.plot(data["time"].values, overlap[:, j, k], label=f"pair {pair}, junction {junction}", **properties)
    time_axis(ax, data)
    ax.set_ylim(0, 1.03)
    _label(ax, "pair", numbers(data, "rank"), overlap[:, 0, :])
    return ax


def data_spectrum(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the singular values of the data as bars, each with its share of the explained variance.

    Assumes `data_singular_values` (mode,); writes `variance_share` (mode,) where present (on each bar up to twelve
    modes, as one sum for the coloured ones beyond). Raises ValueError where `data_singular_values` is missing.

    >>> import xarray as xr
    >>> bars = data_spectrum(xr.Dataset({"data_singular_values": ("mode", [2.0, 1.0])})).patches
    >>> [float(bar.get_height()) for bar in bars]
    [2.0, 1.0]
    """
    strengths = variable(data, "data_singular_values", "mode")
    ax = canvas(ax, "Singular values of the data")
    places = numbers(data, "mode")
    bars = ax.bar(places, strengths, width=0.72, color=[colour(k) for k in range(len(places))])
    ax.set_xlabel("mode", fontsize=TEXT, color=ink(), labelpad=3)
    margin = max(0.8, (6 - len(places)) / 2)  # so that a few bars stay slim
    ax.set_xlim(places[0] - margin, places[-1] + margin)
    ax.set_ylim(0, 1.12 * np.max(strengths, where=np.isfinite(strengths), initial=0) or 1.0)
    if len(places) <= BAR_LABELS:
        ax.set_xticks(places)
    if "variance_share" not in data:
        return ax
    shares = variable(data, "variance_share", "mode")
    if len(places) <= BAR_LABELS:
        ax.bar_label(bars, [percent(share) for share in shares], fontsize=TEXT - 0.5, color=ink(), padding=2)
    else:
        total = f"modes 1–{COLOURED}: {percent(np.nansum(shares[:COLOURED]))} of the variance"
        ax.text(0.98, 0.95, total, transform=ax.transAxes, ha="right", va="top", fontsize=TEXT, color=ink())
    return ax


def overview(data: xr.Dataset) -> Figure:
    """The two figures that tell a run, side by side: mode strengths at the left, loss at the right.

    Assumes the variables that `modes` and `loss` need and raises their errors.

    >>> import xarray as xr
    >>> run = xr.Dataset({"mode_strengths": (("time", "mode"), [[0.0], [1.0]]), "loss": ("time", [1.0, 0.5])},
    ...                  {"time": [0.0, 1.0]})
    >>> len(overview(run).axes)
    2
    """
    figure = Figure(figsize=(2 * SIZE[0], SIZE[1]))
    modes(data, figure.add_axes((0.05, 0.135, 0.365, 0.745)))
    loss(data, figure.add_axes((0.56, 0.135, 0.365, 0.745)))
    return figure


def _label(ax: Axes, noun: str, listed: list[int], values: np.ndarray) -> None:
    """Label the coloured columns of values (time, number) one by one and all grey ones together, at their median."""
    last = [last_drawn(column) for column in values.T]
    coloured = list(zip(last, listed, strict=True))[:COLOURED]
    ends = [End(end, colour(k), f"{noun} {n}") for k, (end, n) in enumerate(coloured)]
    grey = [end for end in last[COLOURED:] if np.isfinite(end)]
    if grey:
        ends.append(End(float(np.median(grey)), GREY, numbered(noun, listed[COLOURED:])))
    label_ends(ax, ends)


def _linear_values(ax: Axes, values: np.ndarray) -> None:
    """A linear value axis from zero (or below) to a little above the largest value."""
    finite = values[np.isfinite(values)]
    low, high = min(finite.min(initial=0), 0), max(finite.max(initial=0), 0)
    margin = 0.04 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)


def _key(ax: Axes) -> None:
    """Say once, above the axes, which line is simulated and which is theory."""
    handles = [Line2D([], [], color=ink(), linewidth=2, label="simulated"), Line2D([], [], label="theory", **dots())]
    ax.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=TEXT,
        labelcolor=ink(),
        borderaxespad=0.3,
        handlelength=1.8,
        columnspacing=1.2,
    )


def _nothing(ax: Axes, values: np.ndarray) -> None:
    """Say in words what a logarithmic axis cannot show."""
    why = "exactly zero throughout" if np.all(values == 0) else "no positive value"
    ax.set_ylim(-1, 1)
    ax.set_yticks([0])
    ax.text(0.5, 0.55, why, transform=ax.transAxes, ha="center", va="bottom", fontsize=TEXT, color=ink())
