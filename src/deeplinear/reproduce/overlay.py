"""Two-layer dynamics, simulated and exact, read in the same quantities, and drawn one over the other.

Theory is computed from the exact solution alone, never from simulated weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import diagnostics
from ..diagnostics import TangentKernel, rsm_from_factor, rsm_from_gram
from ..network import Network
from ..objectives import SquaredError
from ..plots import style

SHOWN = style.COLOURED  # entries drawn of a matrix
NAMES = {
    "function": "function $W_2 W_1$",
    "gram_in": "$W_1^T W_1$",
    "gram_out": "$W_2 W_2^T$",
    "loss": "loss",
    "ntk": "tangent kernel",
    "rsm_input": "similarity of inputs",
    "rsm_output": "similarity of outputs",
}
SOURCES = ("simulation", "theory")


def whitened_samples(seed: int, n: int, d_x: int, d_y: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, d_x) with X^T X / n = I, and independent targets N(0, 1) (n, d_y)."""
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.standard_normal((n, d_x)))
    return frame * np.sqrt(n), rng.standard_normal((n, d_y))


def whitened_objective(X: np.ndarray, Y: np.ndarray) -> SquaredError:
    """Half-mean squared error of samples whose inputs are white to rounding: their second moment is taken as I."""
    return SquaredError.from_moments(Y.T @ X / len(X), trace_yy=float(np.sum(Y**2)) / len(X))


def exact_readings(state: Any, X: np.ndarray, Y: np.ndarray) -> dict[str, np.ndarray]:
    """All quantities of an exact solution's state, from its Q Q^T and the factor of it, (time, ...)."""
    gram_in, gram_out = state.gram_in, state.gram_out
    readings = {
        "function": state.end_to_end,
        "gram_in": gram_in,
        "gram_out": gram_out,
        "loss": state.loss,
        "ntk": TangentKernel.two_layer(gram_in, gram_out).full(),
        "rsm_input": rsm_from_gram(X, gram_in),
        "rsm_output": rsm_from_factor(Y, state.factor[:, X.shape[1] :]),
    }
    return {name: np.asarray(values) for name, values in readings.items()}


def simulated_readings(networks: Network, objective: Any, X: np.ndarray, Y: np.ndarray) -> dict[str, np.ndarray]:
    """The same quantities of simulated networks with a leading time axis, from their weights."""
    rsm_in, rsm_out = diagnostics.rsm_input(X), diagnostics.rsm_output(Y)

    def read(network: Network) -> dict[str, Any]:
        W1, W2 = network.weights
        return {
            "function": network.end_to_end,
            "gram_in": W1.T @ W1,
            "gram_out": W2 @ W2.T,
            "loss": objective(network.end_to_end),
            "ntk": diagnostics.ntk(network).full(),
            "rsm_input": rsm_in(network),
            "rsm_output": rsm_out(network),
        }

    return {name: np.asarray(values) for name, values in jax.jit(jax.vmap(read))(networks).items()}


def dataset(cases: Mapping[Any, tuple[np.ndarray, dict, dict]], case: str, attributes: Mapping[str, Any]) -> xr.Dataset:
    """Times, simulation and theory of every case, with the gap between them.

    `cases` maps the value of the coordinate named `case` to (times, simulated readings, exact readings). The gap is the
    largest difference over time and entries, relative to the largest entry of the theory.
    """
    quantities = list(next(iter(cases.values()))[1])
    variables: dict[str, Any] = {}
    for name in quantities:
        values = np.stack([np.stack([simulated[name], exact[name]]) for _, simulated, exact in cases.values()])
        entries = tuple(f"{name}_{axis}" for axis in ("row", "column")[: values.ndim - 3])
        variables[name] = ((case, "source", "step", *entries), values, {"long_name": NAMES[name]})
    gaps = [
        [float(np.abs(simulated[name] - exact[name]).max() / np.abs(exact[name]).max()) for name in quantities]
        for _, simulated, exact in cases.values()
    ]
    variables["gap"] = ((case, "quantity"), gaps, {"long_name": "largest difference over largest value"})
    variables["time"] = ((case, "step"), np.stack([np.asarray(ts) for ts, _, _ in cases.values()]))
    return xr.Dataset(variables, {case: list(cases), "source": list(SOURCES), "quantity": quantities}, dict(attributes))


def most_moving(values: np.ndarray) -> list[tuple[int, ...]]:
    """Indices of the entries (of a time series of matrices or numbers) that change most, each symmetric pair once."""
    if values.ndim == 1:
        return [()]
    entries = [index for index in np.ndindex(values.shape[1:])]
    if values.shape[1] == values.shape[2] and np.allclose(values, np.swapaxes(values, 1, 2)):
        entries = [index for index in entries if index[0] <= index[1]]
    span = {index: np.ptp(values[(slice(None), *index)]) for index in entries}
    return sorted(sorted(entries, key=lambda index: -span[index])[:SHOWN])


def panel(ax: Any, times: np.ndarray, simulated: np.ndarray, exact: np.ndarray) -> None:
    """Solid simulation under dotted theory of the entries that move most."""
    for k, index in enumerate(most_moving(exact)):
        colour = style.GREY if simulated.ndim == 1 else style.colour(k)
        ax.plot(times, simulated[(slice(None), *index)], **solid(colour))
        ax.plot(times, exact[(slice(None), *index)], **dotted())


def solid(colour: Any) -> dict[str, Any]:
    """Line properties of a simulation in a small panel: broad and pale, so that dots on it are seen."""
    return {"color": colour, "alpha": 0.6, "linewidth": 2.6, "zorder": 3}


def dotted() -> dict[str, Any]:
    """Line properties of theory in a small panel."""
    return style.dots() | {"linewidth": 1.5, "linestyle": (0, (0.01, 2.6))}


def grid(
    data: xr.Dataset, case: str, quantities: Sequence[str], heading: str, name_of: Any, log_from: float = 0.0
) -> Figure:
    """One column a case, one row a quantity: simulation solid, theory dotted; time logarithmic from `log_from` on."""
    labels = data[case].values
    columns, rows = len(labels), len(quantities)
    figure = Figure(figsize=(2.55 * columns + 0.6, 1.32 * rows + 1.0), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex="col")
    for i, quantity in enumerate(quantities):
        for j, label in enumerate(labels):
            ax = style.canvas(axes[i, j], name_of(label) if i == 0 else "")
            simulated, exact = (data[quantity].sel({case: label, "source": source}).values for source in SOURCES)
            panel(ax, data["time"].sel({case: label}).values, simulated, exact)
            ax.margins(x=0)
            if log_from:
                ax.set_xscale("log")
                ax.set_xlim(log_from)
            if j == 0:
                ax.set_ylabel(NAMES[quantity], fontsize=style.TEXT, color=style.ink())
            if i == rows - 1:
                ax.set_xlabel("time", fontsize=style.TEXT, color=style.ink())
    figure.align_ylabels(axes[:, 0])
    figure.suptitle(heading, fontsize=style.TEXT + 2, x=0.01, ha="left")
    key(figure)
    return figure


def key(figure: Figure, simulation: str = "simulation", theory: str = "exact solution") -> None:
    """What solid and dotted lines mean, below the figure."""
    handles = [
        Line2D([], [], **solid(style.colour(0)), label=simulation),
        Line2D([], [], **dotted(), label=theory),
    ]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False, fontsize=style.TEXT)
