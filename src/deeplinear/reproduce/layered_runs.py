"""Deep runs whose layers are watched: what the results on balance and alignment share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator

from .. import diagnostics
from ..flows import gradient_flow
from ..learning import first_crossings
from ..measuring import measure
from ..network import Network
from ..objectives import SquaredError
from ..plots import style

LEFT, WIDTH, HEIGHT, GAP = (0.055, 0.56), 0.33, 1.15, 0.74  # columns and width in figure widths, panels in inches


def times_around(transitions: Sequence[float], first: float, last: float, points: int) -> np.ndarray:
    """0, then times spaced geometrically, finer and finer towards where transitions are expected."""
    near = [(t, np.geomspace(0.01 * min(t, 1.0), 0.3 * t, points // 8)) for t in transitions]
    around = [t + side * away for t, away in near for side in (-1, 1)]
    every = np.unique(np.concatenate([np.geomspace(first, last, points), *around]))
    return np.append(0.0, every[(every >= first) & (every <= last)])


def crossings(ts: np.ndarray, curves: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """When each column of curves (time, mode) first passes its level, by a monotone cubic through four times."""
    found = first_crossings(ts, curves, levels)
    for a, level in enumerate(levels):
        i = int(np.searchsorted(ts, found[a])) if np.isfinite(found[a]) else 0
        values = curves[i - 2 : i + 2, a] - level
        if 2 <= i < len(ts) - 1 and np.all(np.diff(values) > 0):
            found[a] = ts[i] + float(PchipInterpolator(values, ts[i - 2 : i + 2] - ts[i])(0.0))
    return found


def watched(objective: SquaredError, start: Network, ts: np.ndarray, rtol: float) -> xr.Dataset:
    """One flow with everything that its layers do, times numbered by `step`."""
    readings = {
        "loss": diagnostics.loss(objective),
        "mode_strengths": diagnostics.mode_strengths(objective),
        "singular_values": diagnostics.singular_values,
        "layer_singular_values": diagnostics.layer_singular_values,
        "weight_norm": diagnostics.weight_norm,
        "weight_norm_rate": diagnostics.weight_norm_rate(objective),
        "misalignment": diagnostics.misalignment,
        "alignment": diagnostics.alignment,
        "overlap": diagnostics.overlap,
        "imbalance_terms": diagnostics.imbalance_terms,
        "imbalance_norms": diagnostics.imbalance_norms,
        "imbalance_drift": diagnostics.imbalance_drift(start),
        "synchronisation": diagnostics.synchronisation,
        "greedy_low_rank": diagnostics.greedy_low_rank(objective),
    }
    data = measure(gradient_flow(objective, start, ts, rtol=rtol), **readings)
    half = crossings(ts, data["mode_strengths"].values, np.asarray(objective.modes.s) / 2)
    data["half_time"] = ("mode", half, {"long_name": "time at half of the final strength"})
    numbered = data.drop_vars("time").rename_dims(time="step")
    numbered["time"] = ("step", ts)
    return numbered


def cases(runs: Mapping[str, xr.Dataset], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Several such runs along a dimension `case`; of longer ones the first times are left out."""
    shortest = min(run.sizes["step"] for run in runs.values())
    runs = {
        case: run.isel(step=np.r_[0, 1 + run.sizes["step"] - shortest : run.sizes["step"]])
        for case, run in runs.items()
    }
    together = xr.concat(list(runs.values()), "case", combine_attrs="drop")
    return together.assign_coords(case=list(runs)).assign_attrs(attributes)


def one(data: xr.Dataset, case: str) -> xr.Dataset:
    """The run of one case with its own times, as the figures of `plots` take it."""
    return data.sel(case=case, drop=True).swap_dims(step="time").set_coords("time")


def columns(
    data: xr.Dataset, titles: Mapping[str, str], panels: Sequence[Callable[[xr.Dataset, Axes], Axes]]
) -> Figure:
    """One column a case, one row a figure of `plots`, with room for labels at the right of each."""
    top = 0.55
    height = top + len(panels) * (HEIGHT + GAP)
    figure = Figure(figsize=(9.0, height))
    for left, (case, title) in zip(LEFT, titles.items(), strict=True):
        run = one(data, case)
        for row, panel in enumerate(panels):
            bottom = 1 - (top + row * (HEIGHT + GAP) + HEIGHT + 0.12) / height
            panel(run, figure.add_axes((left, bottom, WIDTH, HEIGHT / height)))
        figure.text(left, 1 - 0.2 / height, title, fontsize=style.TEXT + 2.5, weight="bold", va="center")
    return figure


def identity_gap(data: xr.Dataset) -> float:
    """How far the terms of |C_l|^2 by pairs of singular vectors are from their sum, relative, at all times."""
    squares = data["imbalance_norms"].values ** 2
    return float(np.abs(data["imbalance_terms"].sum(("above", "below")).values / squares - 1).max())


def drift(data: xr.Dataset) -> float:
    """Largest drift of a conserved quantity in either run, relative to the square of the largest weight matrix."""
    largest = data["layer_singular_values"].max(("step", "layer", "index"))
    return float((data["imbalance_drift"].max(("step", "junction")) / largest**2).max())


def late(data: xr.Dataset, name: str, case: str) -> np.ndarray:
    """A variable of one case at its last time."""
    return np.asarray(data[name].sel(case=case).isel(step=-1).values)
