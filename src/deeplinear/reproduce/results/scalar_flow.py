"""The scalar flow of one balanced mode, z' = z^(h-1) (sigma - z^h): its graph, and when modes are learned in order.

Zeros of the graph are 0 and sigma^(1/h), for even depth h also -sigma^(1/h); around 0 it is flat of order h - 1. From
equal small starts the stronger mode is learned first, from unequal ones not always. Theory is the exact solution of
`exact.mode_strength`. Source: Wendin and Altafini (survey), section 5.4 and figure 1, with its errata; Saxe et al.
(2014) for the flow; parameters are our own.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import diagnostics, init
from ...exact import half_time, mode_strength
from ...flows import gradient_flow
from ...objectives import SquaredError
from ...plots import style
from .. import overlay
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import crossings


@dataclass(frozen=True)
class Settings:
    """Parameters; the graphs are of `sigma` and all `depths`, the trajectories of modes `s` in `depth` layers."""

    sigma: float = 2.0
    depths: tuple[int, ...] = (2, 3, 4)
    reach: float = 1.65
    zoom: float = 0.32
    s: tuple[float, float] = (3.0, 1.0)
    depth: int = 3
    equal: tuple[float, float] = (0.1, 0.1)
    unequal: tuple[float, float] = (0.035, 0.2)
    horizon: float = 13.0
    points: int = 651
    rtol: float = 1e-11


SETTINGS = QUICK = Settings()
CASES = {"equal": "Equal starts: the stronger mode first", "unequal": "Unequal starts: the weaker mode first"}
GAP = 1e-9
GOLDEN: dict[str, float] = {
    "half-time of mode 1, equal starts": 3.136261187,
    "half-time of mode 2, equal starts": 9.144747608,
    "half-time of mode 1, unequal starts": 9.327234019,
    "half-time of mode 2, unequal starts": 4.129684997,
}


def field(z: np.ndarray, sigma: float, h: int) -> np.ndarray:
    """z^(h-1) (sigma - z^h)."""
    return z ** (h - 1) * (sigma - z**h)


def zeros(sigma: float, h: int) -> list[float]:
    """Where the field vanishes."""
    positive = sigma ** (1 / h)
    return [-positive, 0.0, positive] if h % 2 == 0 else [0.0, positive]


def slope(z: float, sigma: float, h: int) -> float:
    """Derivative of the field: a zero is stable where it is negative."""
    return (h - 1) * z ** (h - 2) * (sigma - z**h) - h * z ** (2 * h - 2)


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Graphs of the flow, and simulated beside exact trajectories of two modes."""
    objective = SquaredError.from_singular_values(settings.s, 2, 2)
    ts, h = np.linspace(0, settings.horizon, settings.points), settings.depth
    values = np.empty((2, len(CASES), len(ts), 2))
    halves = np.empty((2, len(CASES), 2))
    for k, case in enumerate(CASES):
        u0 = np.array(getattr(settings, case)) ** h
        start = init.decoupled(0, objective, (2,) * (h + 1), u0)
        flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
        values[0, k] = np.asarray(flow.map(diagnostics.mode_strengths(objective))) ** (1 / h)
        values[1, k] = mode_strength(ts[:, None], u0, np.array(settings.s), h) ** (1 / h)
        halves[1, k] = half_time(u0, np.array(settings.s), h)
        targets = (np.array(settings.s) / 2) ** (1 / h)
        halves[0, k] = crossings(ts, values[0, k], targets)
    z = {name: np.linspace(-end, end, 401) for name, end in (("z", settings.reach), ("zoom", settings.zoom))}
    variables = {
        "value": (("source", "case", "time", "mode"), values, {"long_name": "singular value of every layer"}),
        "half_time": (("source", "case", "mode"), halves, {"long_name": "time of half strength"}),
    }
    for name, grid in z.items():
        graphs = [field(grid, settings.sigma, depth) for depth in settings.depths]
        variables[f"field_{name}"] = (("depth", name), np.stack(graphs), {"long_name": "dz/dt"})
    coordinates = {"source": list(overlay.SOURCES), "case": list(CASES), "time": ts, "mode": [1, 2]}
    return xr.Dataset(variables, coordinates | z | {"depth": list(settings.depths)}, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """At the left the graph and its middle enlarged, at the right the two pairs of trajectories."""
    figure = Figure(figsize=(7.4, 4.9), layout="constrained")
    left, right = figure.subplots(2, 2).T
    sigma = data.attrs["sigma"]
    for ax, name, title in zip(left, ("z", "zoom"), (r"Graph, $\sigma = 2$", "Around zero, enlarged"), strict=True):
        style.canvas(ax, title.replace("2", f"{sigma:g}") if name == "z" else title)
        ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1)
        for k, depth in enumerate(data["depth"].values):
            ax.plot(data[name], data[f"field_{name}"].sel(depth=depth), label=f"$h = {depth}$", **style.line(k))
            for zero in zeros(sigma, int(depth)):
                if abs(zero) <= data[name].values[-1]:
                    stable = slope(zero, sigma, int(depth)) < 0
                    ax.plot(zero, 0, "o", color=style.colour(k), markersize=5, zorder=8,
                            markerfacecolor=style.colour(k) if stable else "white")  # fmt: skip
        ax.margins(x=0)
        ax.set_xlabel("$z$", fontsize=style.TEXT)
        ax.set_ylabel(r"$\dot z = z^{h-1} (\sigma - z^h)$", fontsize=style.TEXT)
    left[0].set_ylim(-2.6, 2.6)
    left[0].text(0.02, 0.03, "filled: stable, open: unstable", fontsize=style.TEXT, transform=left[0].transAxes)
    left[1].legend(frameon=False, fontsize=style.TEXT, loc="lower right")
    for ax, case in zip(right, CASES, strict=True):
        style.canvas(ax, CASES[case])
        for k, mode in enumerate(data["mode"].values):
            simulated, exact = data["value"].sel(case=case, mode=mode).values
            strength = data.attrs["s"][k]
            ax.plot(
                data["time"], simulated, **overlay.solid(style.colour(3 * k)), label=rf"$\sigma_{mode} = {strength:g}$"
            )
            ax.plot(data["time"], exact, **overlay.dotted())
            ax.axhline(strength ** (1 / data.attrs["depth"]), color=style.GREY, linewidth=0.8, linestyle=":", zorder=1)
        ax.margins(x=0)
        ax.set_ylim(0, 1.08 * max(data.attrs["s"]) ** (1 / data.attrs["depth"]))
        ax.set_xlabel("time", fontsize=style.TEXT)
        ax.set_ylabel(f"$z$ of each layer, $h = {data.attrs['depth']}$", fontsize=style.TEXT)
        ax.legend(frameon=False, fontsize=style.TEXT, loc="lower right")
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times of both modes in both cases, from the simulation."""
    halves = data["half_time"].sel(source="simulation")
    return {
        f"half-time of mode {mode}, {case} starts": float(halves.sel(case=case, mode=mode))
        for case in CASES
        for mode in data["mode"].values
    }


def check(data: xr.Dataset) -> list[Checked]:
    """Zeros and their stability, flatness at zero, simulation beside theory, the order of learning, stored numbers."""
    sigma, h = data.attrs["sigma"], data.attrs["depth"]
    simulated, exact = data["value"].values
    half = data["half_time"].sel(source="simulation")
    first = lambda case: float(half.sel(case=case, mode=2) - half.sel(case=case, mode=1))
    s = np.array(data.attrs["s"])
    late = half_time(0.45 * s[1], s, h)  # equal starts below half of either, but not small
    return [
        at_most("zeros: 0 and both roots for even h, 0 and one for odd h", _zeros_missed(data), 0.0),
        at_most(
            "flat at zero: z'/ (sigma z^(h-1)) - 1",
            _flatness(data),
            float(data.attrs["zoom"] ** min(data["depth"].values)),
        ),
        at_most("slope is -1/h of the second derivative of (sigma - z^h)^2 / 2", _slope_gap(sigma, data), 1e-6),
        at_most("gap of simulation and theory", np.abs(simulated - exact).max() / exact.max(), GAP),
        at_most("gap of the half-times", np.abs(half - data["half_time"].sel(source="theory")).max(), 1e-4),
        at_least(
            "equal starts: the stronger mode is ahead at all times", (exact[0, 1:, 0] - exact[0, 1:, 1]).min(), 0.0
        ),
        at_least("equal starts: delay of the weaker mode", first("equal"), 0.1),
        at_most("unequal starts: delay of the weaker mode", first("unequal"), -0.1),
        at_most("equal starts that are not small: delay of the weaker mode", late[1] - late[0], -0.01),
        *golden(measured(data), GOLDEN),
    ]


def _zeros_missed(data: xr.Dataset) -> float:
    """How often the number of real roots of z^(h-1) (sigma - z^h) is not the number of zeros."""
    missed = 0
    for depth in data["depth"].values:
        roots = np.roots([-1.0, *[0.0] * (depth - 1), data.attrs["sigma"]])
        real = np.sort(np.append(roots[np.abs(roots.imag) < 1e-12].real, 0.0))
        known = zeros(data.attrs["sigma"], int(depth))
        missed += len(real) != len(known) or np.abs(real - known).max() > 1e-12
    return float(missed)


def _flatness(data: xr.Dataset) -> float:
    z = data["zoom"].values[data["zoom"].values != 0]
    kept = data["field_zoom"].sel(zoom=z)
    return max(
        float(np.abs(kept.sel(depth=depth).values / (data.attrs["sigma"] * z ** (depth - 1)) - 1).max())
        for depth in data["depth"].values
    )


def _slope_gap(sigma: float, data: xr.Dataset) -> float:
    """Slope against differences of the loss along one mode, which is h times less steep in z than in the weights."""
    z, step = np.linspace(-1.4, 1.4, 57), 1e-4
    gaps = []
    for h in map(int, data["depth"].values):
        loss = lambda x, h=h: (sigma - x**h) ** 2 / 2
        second = (loss(z + step) - 2 * loss(z) + loss(z - step)) / step**2
        gaps.append(np.abs(np.array([slope(x, sigma, h) for x in z]) + second / h).max() / np.abs(second).max())
    return float(max(gaps))
