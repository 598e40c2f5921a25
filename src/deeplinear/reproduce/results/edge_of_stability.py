"""Gradient descent ends at minima that are flat enough for its learning rate: the edge of stability.

A 3-3-3 network from one unbalanced start, learning rates up to the largest that any minimum allows. Below 2 / sharpness
of the minimum where the flow ends, descent ends beside it; beyond, steps of finite size take away imbalance until the
sharpness is under 2 / rate. Source: Cohen et al. (2021), Fig. 1, for the phenomenon; Wang et al. (2022) for balancing
by large rates; task, start and rates are our own.
"""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...descent import gradient_descent
from ...diagnostics import imbalance
from ...exact import balance_drift, stability_limit
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    s: tuple[float, ...] = (2.0, 1.0, 0.5)
    small: float = 0.1
    large: float = 2.2
    rates: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.44, 0.48)
    shown: tuple[float, ...] = (0.08, 0.36, 0.44)
    steps: int = 4000
    path: int = 60
    seed: int = 0


SETTINGS = QUICK = Settings()
GOLDEN: dict[str, float] = {
    "sharpness where the flow ends": 6.449660281,
    "sharpness at the end, rate 0.01": 6.442913248,
    "sharpness at the end, rate 0.16": 6.254386355,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Sharpness along the first steps and at the end, of every rate."""
    objective = SquaredError.from_singular_values(settings.s, len(settings.s), len(settings.s))
    start = _start(settings)
    sharpness = _sharpness_of(objective)
    flow = gradient_flow(objective, start, rtol=1e-9)
    counts = np.append(np.arange(settings.path + 1), settings.steps)
    paths, ends, excess, drifts = [], [], [], []
    for rate in settings.rates:
        trajectory = gradient_descent(objective, start, rate, settings.steps, save_at=counts)
        values = np.asarray(trajectory.map(sharpness))
        paths.append(values[:-1])
        ends.append(values[-1])
        excess.append(trajectory.ending.excess)
        drifts.append(_drift_gap(objective, trajectory, rate))
    variables = {
        "sharpness": (("rate", "step"), np.stack(paths), {"long_name": "largest eigenvalue of the Hessian"}),
        "end": ("rate", ends, {"long_name": "sharpness at the end"}),
        "excess": ("rate", excess, {"long_name": "excess loss at the end"}),
        "drift_gap": ("rate", drifts, {"long_name": "change of imbalance in a step against its exact identity"}),
        "flow": ((), float(sharpness(flow[-1])), {"long_name": "sharpness where the flow ends"}),
        "flattest": ((), 2 / stability_limit(objective, 2), {"long_name": "sharpness of balanced minima"}),
    }
    return xr.Dataset(variables, {"rate": list(settings.rates), "step": counts[:-1]}, asdict(settings))


def _start(settings: Settings) -> Network:
    rng, n = np.random.default_rng(settings.seed), len(settings.s)
    first, second = (settings.small * rng.standard_normal((n, n)) for _ in range(2))
    return Network([first, second + settings.large * np.eye(n)])


def _sharpness_of(objective: SquaredError) -> Any:
    """The largest eigenvalue of the dense Hessian, as a function of the network."""

    def sharpness(network: Network) -> Any:
        flat, unravel = jax.flatten_util.ravel_pytree(network)
        hessian = jax.hessian(lambda w: objective(unravel(w).end_to_end))(flat)
        return jnp.linalg.eigvalsh(hessian)[-1]

    return sharpness


def _drift_gap(objective: SquaredError, trajectory: Any, rate: float) -> float:
    """Largest difference between the change of imbalance in one of the first steps and what the identity says."""
    C = np.asarray(trajectory.map(imbalance)[0])
    predicted = np.asarray(trajectory.map(lambda network: balance_drift(objective, network, rate))[0])
    return float(np.abs(np.diff(C, axis=0)[:-1] - predicted[:-2]).max())


def figure(data: xr.Dataset) -> Figure:
    """Sharpness along the steps of three rates; sharpness at the end against the rate."""
    figure = Figure(figsize=(7.4, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    style.canvas(left, "Sharpness along the first steps").set_xlabel("step", fontsize=style.TEXT)
    left.set_ylabel("largest eigenvalue of the Hessian", fontsize=style.TEXT)
    for k, rate in enumerate(data.attrs["shown"]):
        left.plot(
            data["step"], data["sharpness"].sel(rate=rate), color=style.colour(k), linewidth=1.6, label=f"{rate:g}"
        )
        left.axhline(2 / rate, color=style.colour(k), linewidth=0.9, linestyle=(0, (4, 3)))
    low, high = 0.85 * float(data["flattest"]), 1.15 * float(data["sharpness"].max())
    left.set_ylim(low, high)
    left.margins(x=0)
    left.legend(title=r"rate $\eta$; dashed: $2/\eta$", fontsize=style.TEXT, title_fontsize=style.TEXT, frameon=False)
    style.canvas(right, "Sharpness at the end").set_xlabel(r"learning rate $\eta$", fontsize=style.TEXT)
    rates = np.linspace(data["rate"].values[0], data["rate"].values[-1], 400)
    right.plot(rates, 2 / rates, color=style.ink(), linewidth=1.2, linestyle=(0, (4, 3)), label=r"$2/\eta$")
    right.axhline(float(data["flow"]), color=style.colour(4), linewidth=1.2, label="where the flow ends")
    right.axhline(float(data["flattest"]), color=style.GREY, linewidth=1.2, label="balanced minima")
    right.plot(data["rate"], data["end"], "o", color=style.colour(1), markersize=4.5, label="descent")
    right.set_ylim(low, high)
    right.legend(fontsize=style.TEXT, frameon=False)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result; of gentle rates, for beyond the edge steps amplify rounding."""
    return {
        "sharpness where the flow ends": float(data["flow"]),
        "sharpness at the end, rate 0.01": float(data["end"].sel(rate=0.01)),
        "sharpness at the end, rate 0.16": float(data["end"].sel(rate=0.16)),
    }


def check(data: xr.Dataset) -> list[Checked]:
    """All ends are minima between the flattest and the edge; gentle rates end beside the flow, others at the edge."""
    rates, ends, flow = data["rate"].values, data["end"].values, float(data["flow"])
    beyond = rates > 2 / flow
    gentle = rates <= 0.02
    return [
        at_most("largest excess loss at the end", data["excess"].max(), 1e-20),
        at_most("sharpness at the end over 2 / rate, all rates", (ends * rates / 2).max(), 1.0),
        at_least("sharpness at the end over 2 / rate, rates beyond the flow's", (ends * rates / 2)[beyond].min(), 0.8),
        at_least("sharpness at the end over that of balanced minima", ends.min() / float(data["flattest"]), 1.0),
        at_most("sharpness at the end against the flow's, gentle rates", np.abs(ends / flow - 1)[gentle].max(), 0.01),
        at_most("change of imbalance against its identity", data["drift_gap"].max(), 1e-13),
        *golden(measured(data), GOLDEN),
    ]
