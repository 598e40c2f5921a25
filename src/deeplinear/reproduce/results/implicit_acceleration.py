r"""Depth accelerates gradient descent on an l4 loss, and not on squared error.

$L(w) = \frac1p \sum_i a_i (w_i - y_i)^p$ of a linear map with two inputs and one output, y = (10, 1), a = (1, .1), as
1, 2 or 3 layers of width 1: loss against steps, every depth at its best constant rate. Beside it how far the deep
networks are from the end-to-end rule $w \leftarrow w + \eta \dot w$ of balanced networks, which explains the
acceleration. Source: Arora et al. (2018), theorem 1 and section 5; targets, start and rates are our own.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ... import init
from ...descent import gradient_descent
from ...exact import end_to_end_velocity
from ...network import Network
from ...plots import style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `goal` is the loss that counts as learned."""

    y: tuple[float, float] = (10.0, 1.0)
    a: tuple[float, float] = (1.0, 0.1)
    start: tuple[float, float] = (0.01, 0.005)
    powers: tuple[int, ...] = (2, 4)
    depths: tuple[int, ...] = (1, 2, 3)
    rates: tuple[float, ...] = tuple(np.geomspace(1e-4, 1.8, 25).tolist())
    goal: float = 1e-4
    steps: int = 8000
    horizon: float = 0.01
    counts: tuple[int, ...] = (500, 1000, 2000, 4000)


SETTINGS = QUICK = Settings()
GOLDEN: dict[str, float] = {
    "steps, l2, depth 1": 25.0,
    "steps, l2, depth 2": 47.0,
    "steps, l2, depth 3": 75.0,
    "steps, l4, depth 1": 5839.0,
    "steps, l4, depth 2": 1831.0,
    "steps, l4, depth 3": 1656.0,
    "gap of depth 2 at the smallest rate": 0.0007307487967,
}


def loss_of(power: int, settings: Settings) -> Callable:
    """The lp loss as an objective of the end-to-end matrix."""
    y, a = jnp.asarray([settings.y]), jnp.asarray([settings.a])
    return lambda W: jnp.sum(a * (W - y) ** power) / power


def start_of(depth: int, settings: Settings) -> Network:
    """The balanced network of width 1 with the given end-to-end matrix."""
    return init.balanced(0, (2, *(1,) * depth), product=np.array([settings.start]))


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """The best run of every power and depth, and the gap to the end-to-end rule."""
    shape = len(settings.powers), len(settings.depths)
    losses, learned, best = np.zeros((*shape, settings.steps + 1)), np.zeros(shape), np.zeros(shape)
    for i, power in enumerate(settings.powers):
        objective = loss_of(power, settings)
        for j, depth in enumerate(settings.depths):
            learned[i, j], best[i, j], losses[i, j] = _best(objective, depth, settings)
    deep = [depth for depth in settings.depths if depth > 1]
    objective = loss_of(settings.powers[-1], settings)
    gaps = [[_gap(objective, depth, count, settings) for count in settings.counts] for depth in deep]
    variables = {
        "loss": (("power", "depth", "step"), losses, {"long_name": "loss"}),
        "learned": (("power", "depth"), learned, {"long_name": "steps until the loss is below the goal"}),
        "best": (("power", "depth"), best, {"long_name": "the rate that learns first"}),
        "gap": (("deep", "rate"), gaps, {"long_name": "largest distance from the end-to-end rule, relative to y"}),
    }
    coordinates = {
        "power": list(settings.powers),
        "depth": list(settings.depths),
        "step": np.arange(settings.steps + 1),
        "deep": deep,
        "rate": settings.horizon / np.array(settings.counts),
    }
    return xr.Dataset(variables, coordinates, asdict(settings))


def _best(objective: Callable, depth: int, settings: Settings) -> tuple[float, float, np.ndarray]:
    """Steps, rate and losses of the rate that learns first; infinitely many steps where none does."""
    found = (np.inf, np.nan, np.full(settings.steps + 1, np.nan))
    for rate in settings.rates:
        trajectory = gradient_descent(objective, start_of(depth, settings), rate, settings.steps, save_every=1)
        if trajectory.ending.kind == "diverged":
            break  # larger rates do as well
        losses = np.asarray(jax.vmap(objective)(trajectory.end_to_end))
        below = np.flatnonzero(losses < settings.goal)
        if below.size and below[0] < found[0]:
            found = (float(below[0]), rate, losses)
    return found


def _gap(objective: Callable, depth: int, count: int, settings: Settings) -> float:
    """Largest distance of the deep network from the end-to-end rule in `count` steps to the horizon."""
    rate, gradient = settings.horizon / count, jax.grad(objective)

    def step(W: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        return W + rate * end_to_end_velocity(W, -gradient(W), depth), W

    rule = jax.lax.scan(step, jnp.asarray([settings.start]), None, length=count)[1]
    trajectory = gradient_descent(objective, start_of(depth, settings), rate, count, save_every=1)
    gap = np.linalg.norm(np.asarray(trajectory.end_to_end)[:-1] - np.asarray(rule), axis=(1, 2))
    return float(gap.max() / np.linalg.norm(settings.y))


def figure(data: xr.Dataset) -> Figure:
    """Loss against steps for both losses; the gap to the end-to-end rule against the rate."""
    figure = Figure(figsize=(8.6, 2.9), layout="constrained")
    axes = figure.subplots(1, 1 + data.sizes["power"])
    for ax, power in zip(axes, data["power"].values, strict=False):
        name = "Squared error" if power == 2 else rf"$\ell_{power}$ loss"
        style.canvas(ax, f"{name}, best rates").set_xlabel("step", fontsize=style.TEXT)
        of = data.sel(power=power)
        last = int(of["learned"].max())
        for k, depth in enumerate(data["depth"].values):
            values = of["loss"].sel(depth=depth).values[: last + 1]
            ax.loglog(
                np.arange(1, len(values)), values[1:], color=style.colour(k), linewidth=1.7, label=f"depth {depth}"
            )
        ax.axhline(data.attrs["goal"], color=style.GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        ax.set_ylim(bottom=0.1 * data.attrs["goal"])
        ax.set_ylabel("loss", fontsize=style.TEXT)
    axes[-2].legend(fontsize=style.TEXT, frameon=False)
    ax = style.canvas(axes[-1], "Gap to the end-to-end rule")
    for k, depth in enumerate(data["deep"].values, start=1):
        ax.loglog(data["rate"], data["gap"].sel(deep=depth), "o-", color=style.colour(k), label=f"depth {depth}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(r"learning rate $\eta$", fontsize=style.TEXT)
    ax.set_ylabel("relative to the target", fontsize=style.TEXT)
    ax.legend(fontsize=style.TEXT, frameon=False)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    steps = {f"steps, l{p}, depth {d}": float(data["learned"].sel(power=p, depth=d)) for p in (2, 4) for d in (1, 2, 3)}
    return steps | {"gap of depth 2 at the smallest rate": float(data["gap"].sel(deep=2)[-1])}


def check(data: xr.Dataset) -> list[Checked]:
    """Depth 1 learns first with squared error and last with the l4 loss; the rule is met to first order in the rate."""
    quadratic, quartic = (data["learned"].sel(power=power).values for power in (2, 4))
    slopes = np.polyfit(np.log(data["rate"].values), np.log(data["gap"].values).T, 1)[0]
    return [
        at_least("squared error: steps of depth 2 over steps of depth 1", quadratic[1] / quadratic[0], 1.5),
        at_least("squared error: steps of depth 3 over steps of depth 1", quadratic[2] / quadratic[0], 1.5),
        at_least("l4 loss: steps of depth 1 over steps of depth 2", quartic[0] / quartic[1], 2.0),
        at_least("l4 loss: steps of depth 1 over steps of depth 3", quartic[0] / quartic[2], 1.5),
        at_most("slope of the gap to the end-to-end rule differs from 1", np.abs(slopes - 1).max(), 0.05),
        *golden(measured(data), GOLDEN),
    ]
