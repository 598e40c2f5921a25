"""Deep aligned networks learn as fast as shallow ones, but for a finite delay, even at infinite depth.

One balanced mode in L layers follows du/dt = L u^(2 - 2/L) (s - u). In the time L t (the learning rate that stays
stable falls as 1/L) its half-time does not grow without bound with L: the delay has a limit. Source: Saxe, McClelland
and Ganguli (2014), section 2 and the figure on depth; target, start and depths are our own.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import init
from ...exact import half_time, infinite_depth_half_time, infinite_depth_strength, mode_strength
from ...flows import gradient_flow
from ...objectives import SquaredError
from ...plots import style
from .. import overlay
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import crossings


@dataclass(frozen=True)
class Settings:
    """Parameters; `horizon` is of L t."""

    s: float = 1.0
    start: float = 0.1
    depths: tuple[int, ...] = (2, 3, 5)
    far: tuple[int, ...] = (2, 3, 4, 5, 7, 10, 20, 50, 100, 300, 1000, 10_000)
    starts: tuple[float, ...] = (0.2, 0.1, 0.05)
    horizon: float = 20.0
    points: int = 401
    seed: int = 0
    rtol: float = 1e-10


SETTINGS = QUICK = Settings()
GAP = 1e-9
GOLDEN: dict[str, float] = {
    "half-time of 2 layers": 2.197224092,
    "half-time of 3 layers": 3.575588424,
    "half-time of 5 layers": 5.373993299,
    "half-time of infinite depth": 10.19722458,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Simulated and exact strengths at several depths, the limit, and half-times up to very large depths."""
    objective = SquaredError.from_moments([[settings.s]])
    ts = np.linspace(0, settings.horizon, settings.points)
    values = np.empty((2, len(settings.depths), len(ts)))
    for k, L in enumerate(settings.depths):
        start = init.decoupled(settings.seed, objective, (1,) * (L + 1), settings.start)
        values[0, k] = np.ravel(gradient_flow(objective, start, ts / L, rtol=settings.rtol).end_to_end)
        values[1, k] = mode_strength(ts / L, settings.start, settings.s, L)
    delays = np.array([[L * float(half_time(u0, settings.s, L)) for L in settings.far] for u0 in settings.starts])
    variables = {
        "strength": (("source", "depth", "time"), values, {"long_name": "strength of the mode"}),
        "limit": ("time", infinite_depth_strength(ts, settings.start, settings.s), {"long_name": "infinite depth"}),
        "delay": (("start", "layers"), delays, {"long_name": "half-time in L t"}),
        "last_delay": ("start", infinite_depth_half_time(np.array(settings.starts), settings.s)),
        "simulated_delay": (
            "depth",
            [float(crossings(ts, curve[:, None], np.array([settings.s / 2]))[0]) for curve in values[0]],
        ),
    }
    coordinates = {
        "source": list(overlay.SOURCES),
        "depth": list(settings.depths),
        "time": ts,
        "start": list(settings.starts),
        "layers": list(settings.far),
    }
    return xr.Dataset(variables, coordinates, {**asdict(settings), "first": settings.start})


def figure(data: xr.Dataset) -> Figure:
    """Strengths over L t at the left, half-times against depth at the right."""
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    style.canvas(left, "One mode in L layers")
    for k, L in enumerate(data["depth"].values):
        simulated, exact = data["strength"].sel(depth=L).values
        left.plot(data["time"], simulated, label=f"L = {L}", **overlay.solid(style.colour(k)))
        left.plot(data["time"], exact, **overlay.dotted())
    left.plot(data["time"], data["limit"], label="L → ∞", color=style.GREY, linewidth=2.2, linestyle="--")
    left.margins(x=0)
    left.set_xlabel("L × time", fontsize=style.TEXT)
    left.set_ylabel("strength", fontsize=style.TEXT)
    left.legend(frameon=False, fontsize=style.TEXT)
    style.canvas(right, "The delay has a limit")
    for k, u0 in enumerate(data["start"].values):
        right.plot(
            data["layers"],
            data["delay"].sel(start=u0),
            "o-",
            color=style.colour(k),
            markersize=3.5,
            linewidth=1.4,
            label=f"start {u0:g}",
        )
        right.axhline(
            float(data["last_delay"].sel(start=u0)), color=style.GREY, linewidth=0.9, linestyle="--", zorder=1
        )
    right.set_xscale("log")
    right.set_ylim(0, 1.35 * float(data["delay"].max()))
    right.set_xlabel("number of layers L (dashed: infinite depth)", fontsize=style.TEXT)
    right.set_ylabel("half-time in L × time", fontsize=style.TEXT)
    right.legend(frameon=False, fontsize=style.TEXT)
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times in L t, simulated, and their limit."""
    numbers = {
        f"half-time of {L} layers": float(t)
        for L, t in zip(data["depth"].values, data["simulated_delay"].values, strict=True)
    }
    return numbers | {"half-time of infinite depth": float(data["last_delay"].sel(start=data.attrs["first"]))}


def check(data: xr.Dataset) -> list[Checked]:
    """Simulation beside theory, the limit by hand and as a limit, its approach as 1/L, stored numbers."""
    simulated, exact = data["strength"].values
    u0, s = data["start"].values, data.attrs["s"]
    limit = data["last_delay"].values
    by_hand = (np.log(s / u0 - 1) + s / u0 - 2) / s**2
    delay = data["delay"]
    left = abs(delay / data["last_delay"] - 1)
    apart = np.abs(exact - data["limit"].values[None]).max(axis=1)
    return [
        at_most("gap of simulation and theory", np.abs(simulated - exact).max() / exact.max(), GAP),
        at_most("infinite depth by hand: ln(s/u0 - 1) + s/u0 - 2, over s^2", np.abs(limit / by_hand - 1).max(), 1e-12),
        at_most("10 000 layers from infinite depth", left.sel(layers=10_000).max(), 2e-3),
        at_most(
            "delay closes as 1/L: ratio at 1000 and 10 000 layers over 10, less 1",
            abs(left.sel(layers=1000) / left.sel(layers=10_000) / 10 - 1).max(),
            0.02,
        ),
        at_least("delay grows with depth", np.diff(delay.values, axis=1).min(), 0.0),
        at_least("curves come closer to the limit", -np.diff(apart).max(), 0.0),
        *golden(measured(data), GOLDEN),
    ]
