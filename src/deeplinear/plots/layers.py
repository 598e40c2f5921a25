"""Figures of what balance does to the layers of one run, and of the bounds of its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .labels import End, label_ends, last_drawn
from .style import GREY, TEXT, canvas, colour, dots, ink, line, log_values, numbers, time_axis, variable


def layers_together(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw all singular values of all layers over time, one colour to an index: layers that learn together coincide.

    Assumes `layer_singular_values` (time, layer, index), padded with NaN; where `singular_values` (time, rank) is
    present, indices beyond the rank that the end-to-end matrix can have are thin and grey. Raises ValueError where the
    former is missing.

    >>> import xarray as xr
    >>> values = [[[0.1], [0.1]], [[1.0], [1.1]]]
    >>> run = xr.Dataset({"layer_singular_values": (("time", "layer", "index"), values)}, {"time": [0.0, 1.0]})
    >>> len(layers_together(run).lines)
    2
    """
    spectra = variable(data, "layer_singular_values", "time", "layer", "index")
    useful = (
        variable(data, "singular_values", "time", "rank").shape[1] if "singular_values" in data else spectra.shape[2]
    )
    ax = canvas(ax, "Singular values of every layer")
    ends = []
    for k, index in enumerate(numbers(data, "index")):
        properties: dict[str, Any] = (
            line(k) | {"linewidth": 1.2} if k < useful else {"color": GREY, "linewidth": 0.6, "zorder": 2.0}
        )
        drawn = [values for values in spectra[:, :, k].T if np.isfinite(values).any()]
        for values in drawn:
            ax.plot(data["time"].values, values, **properties)
        text = f"index {index}" if k < useful else f"{index} and on" if k == useful < spectra.shape[2] - 1 else ""
        text = f"index {index}" if k == useful == spectra.shape[2] - 1 else text
        if text and drawn:
            ends.append(End(float(np.mean([last_drawn(values) for values in drawn])), properties["color"], text))
    time_axis(ax, data)
    ax.set_ylim(0, 1.05 * np.nanmax(spectra) or 1.0)
    label_ends(ax, ends)
    return ax


def weight_norm(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the norm of all weights together, which need not be monotone although the loss is.

    Assumes `weight_norm` (time,). Raises ValueError where it is missing.

    >>> import xarray as xr
    >>> run = xr.Dataset({"weight_norm": ("time", [2.0, 1.0])}, {"time": [0.0, 1.0]})
    >>> weight_norm(run).lines[0].get_ydata().tolist()
    [2.0, 1.0]
    """
    norm = variable(data, "weight_norm", "time")
    ax = canvas(ax, "Norm of all weights, $|A|$")
    ax.plot(data["time"].values, norm, **(line(0) | {"color": ink()}))
    time_axis(ax, data)
    margin = 0.1 * np.ptp(norm) or 0.1
    ax.set_ylim(norm.min() - margin, norm.max() + margin)
    return ax


def misalignment(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw how far the singular vectors of neighbouring layers are from aligned, one colour to a junction.

    Assumes `misalignment` (time, junction). Raises ValueError where it is missing.

    >>> import xarray as xr
    >>> run = xr.Dataset({"misalignment": (("time", "junction"), [[4.0], [0.1]])}, {"time": [0.0, 1.0]})
    >>> misalignment(run).lines[0].get_label()
    'layers 1–2'
    """
    values = variable(data, "misalignment", "time", "junction")
    ax = canvas(ax, r"Misalignment, $|V_{l+1}^T U_l - I|^2$")
    ends = []
    for k, junction in enumerate(numbers(data, "junction")):
        label = f"layers {junction}–{junction + 1}"
        properties: dict[str, Any] = line(k) | {"linewidth": 1.2}
        ax.plot(data["time"].values, values[:, k], label=label, **properties)
        ends.append(End(last_drawn(values[:, k]), colour(k), label))
    time_axis(ax, data)
    ax.set_ylim(0, 1.05 * np.nanmax(values, initial=0.0) or 1.0)
    label_ends(ax, ends)
    return ax


def loss_bounds(data: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the loss above its minimum under the upper bounds that theory gives, dotted, on a logarithmic axis.

    Assumes `excess_loss` (time,) and `loss_bounds` (bound, time), as `diagnostics.loss_bounds` makes; the bounds are
    named by the numbers of their propositions. Raises ValueError where one is missing.

    >>> import xarray as xr
    >>> values = {"excess_loss": ("time", [1.0, 0.1]), "loss_bounds": (("bound", "time"), [[1.0, 0.2]])}
    >>> len(loss_bounds(xr.Dataset(values, {"time": [0.0, 1.0], "bound": [26]})).lines)
    2
    """
    excess = variable(data, "excess_loss", "time")
    bounds = variable(data, "loss_bounds", "bound", "time")
    ax = canvas(ax, "Excess loss and its upper bounds")
    ax.plot(data["time"].values, excess, label="excess loss", **(line(0) | {"color": ink()}))
    ends = [End(last_drawn(excess, above=0.0), ink(), "excess loss")]
    for k, proposition in enumerate(numbers(data, "bound")):
        ax.plot(data["time"].values, bounds[k], **(dots() | {"color": colour(k), "linewidth": 2.4}))
        ends.append(End(last_drawn(bounds[k], above=0.0), colour(k), f"proposition {proposition}"))
    time_axis(ax, data)
    if log_values(ax, np.append(excess, bounds.ravel())):
        ax.set_ylabel("loss above its minimum", fontsize=TEXT, color=ink())
        label_ends(ax, ends)
    return ax
