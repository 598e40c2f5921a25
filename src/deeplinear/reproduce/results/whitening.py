"""What whitening changes: the same function is learned in another order, and correlated inputs couple the modes.

Three inputs with variances 4, 1 and 1/4 and a map of strengths .4, 1.2 and 3.2 have modes of strength 1.6, 1.2, .8 as
they are and .8, 1.2, 1.6 after whitening: the order of learning is reversed. Where the principal axes of the inputs are
those of the map, both flows have a closed form, s / d at the rate of d; where they are turned, only the whitened flow
has, and the other is held against the flow of the end-to-end matrix. Source: Saxe, McClelland and Ganguli (2014),
section 1, for white inputs; correlations that commute with the modes and the numbers are our own.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import diagnostics, exact, init
from ...data import Moments
from ...exact import half_time, mode_strength
from ...flows import gradient_flow
from ...objectives import SquaredError
from ...plots import style
from .. import overlay
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import crossings


@dataclass(frozen=True)
class Settings:
    """Parameters; `turn` is the angle in degrees of the principal axes against the map's, about (1, 1, 1)."""

    variances: tuple[float, ...] = (4.0, 1.0, 0.25)
    strengths: tuple[float, ...] = (0.4, 1.2, 3.2)
    turn: float = 40.0
    hidden: int = 5
    start: float = 1e-3
    horizon: float = 60.0
    points: int = 2401
    seed: int = 0
    rtol: float = 1e-11


SETTINGS = QUICK = Settings()
CASES = {
    "aligned": "Aligned correlations",
    "aligned, whitened": "The same, whitened",
    "turned": "Turned correlations",
    "turned, whitened": "The same, whitened",
}
SHOWN = 12.0  # time that is drawn
GAP = 1e-11
GOLDEN: dict[str, float] = {
    "half-time of mode 1, aligned": 1.871549295,
    "half-time of mode 3, aligned": 5.044120645,
    "half-time of mode 1, aligned, whitened": 2.305355568,
    "half-time of mode 3, aligned, whitened": 4.177100805,
    "half-time of mode 1, turned": 0.626314963,
    "half-time of mode 3, turned": 7.788129416,
    "half-time of mode 1, turned, whitened": 1.18066952,
    "half-time of mode 3, turned, whitened": 6.666592428,
}


def turned(degrees: float) -> np.ndarray:
    """The rotation about (1, 1, 1) / sqrt 3 by an angle."""
    axis, angle = np.ones(3) / np.sqrt(3), np.deg2rad(degrees)
    cross = np.cross(np.eye(3), -axis)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Flows of four problems in the map's own coordinates, each beside its closed form where there is one."""
    W, d = np.diag(settings.strengths), np.asarray(settings.variances)
    ts = np.linspace(0, settings.horizon, settings.points)
    maps, theory = np.empty((4, len(ts), 3, 3)), np.full((4, len(ts), 3, 3), np.nan)
    half, closed, drift = np.full((2, 4, 3), np.nan), np.zeros(4, dtype=bool), np.empty(4)
    for k, axes in enumerate((np.eye(3), turned(settings.turn))):
        sigma_xx = axes * d @ axes.T
        moments = Moments.given(W @ sigma_xx, sigma_xx, trace_yy=float(np.trace(W @ sigma_xx @ W.T)))
        white, whitening = moments.whitened()
        for case, data, back in ((2 * k, moments, np.eye(3)), (2 * k + 1, white, whitening.transform)):
            objective = SquaredError.from_data(data)
            start = init.decoupled(settings.seed, objective, (3, settings.hidden, 3), settings.start)
            flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
            maps[case] = np.asarray(flow.end_to_end) @ back
            closed[case] = "decoupled modes" in exact.applicable(objective, start).theorems
            U, s, V = (np.asarray(part) for part in objective.modes)
            spread = np.einsum("ia,ij,ja->a", V, data.sigma_xx, V)
            strengths = np.asarray(flow.map(diagnostics.mode_strengths(objective)))
            half[0, case] = crossings(ts, strengths, strengths[-1] / 2)
            if closed[case]:
                u = mode_strength(ts[:, None] * spread, settings.start, s / spread, 2)
                theory[case] = np.einsum("ia,ta,ja->tij", U, u, V) @ back
                half[1, case] = half_time(settings.start, s / spread, 2) / spread
            else:
                theory[case] = np.asarray(exact.balanced(objective, start)(ts).end_to_end) @ back
            drift[case] = float(np.asarray(flow.map(diagnostics.imbalance_drift(start))).max())
    variables = {
        "map": (
            ("source", "case", "time", "output", "input"),
            np.stack([maps, theory]),
            {"long_name": "end-to-end map"},
        ),
        "half_time": (("source", "case", "mode"), half, {"long_name": "time of half strength"}),
        "closed": ("case", closed, {"long_name": "modes have a closed form"}),
        "drift": ("case", drift, {"long_name": "largest change of the imbalance"}),
    }
    coordinates = {"source": list(overlay.SOURCES), "case": list(CASES), "time": ts, "mode": [1, 2, 3]}
    return xr.Dataset(variables, coordinates, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """What is known of each entry of the map over time, in the original coordinates of all four problems."""
    figure = Figure(figsize=(10.0, 3.2), layout="constrained")
    for ax, (case, title) in zip(figure.subplots(1, 4, sharey=True), CASES.items(), strict=True):
        style.canvas(ax, title)
        simulated, exact_map = data["map"].sel(case=case).values
        for i, strength in enumerate(data.attrs["strengths"]):
            label = f"{strength:g}, variance {data.attrs['variances'][i]:g}"
            ax.plot(data["time"], simulated[:, i, i] / strength, label=label, **overlay.solid(style.colour(i)))
            ax.plot(data["time"], exact_map[:, i, i] / strength, **overlay.dotted())
        ax.set_xlim(0, SHOWN)
        ax.set_xlabel("time", fontsize=style.TEXT)
    figure.axes[0].set_ylabel("learned part of $W_{aa}$", fontsize=style.TEXT)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    title = "strength in the map"
    figure.legend(
        lines, labels, title=title, loc="outside lower left", ncols=3, frameon=False,
        fontsize=style.TEXT, title_fontsize=style.TEXT,
    )  # fmt: skip
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times of the strongest and the weakest mode of each problem, from the simulation."""
    halves = data["half_time"].sel(source="simulation")
    return {f"half-time of mode {m}, {case}": float(halves.sel(case=case, mode=m)) for case in CASES for m in (1, 3)}


def check(data: xr.Dataset) -> list[Checked]:
    """Closed forms where there are any, the reversed order, the common end, kept imbalances, stored numbers."""
    simulated, theory = data["map"].values
    W = np.diag(data.attrs["strengths"])
    known = data["closed"].values
    halves, formula = data["half_time"].values
    progress = [np.einsum("tii->ti", simulated[case]) / np.diag(W) for case in (0, 1)]
    first = [[int(np.argmax(column > 0.5)) for column in part.T] for part in progress]
    coupling = np.abs(simulated[2] - simulated[3]).max() / np.abs(W).max()
    return [
        at_most("gap of simulation and theory", np.abs(simulated - theory).max() / np.abs(W).max(), GAP),
        at_most("half-times from the closed form, relative", np.abs(halves / formula - 1)[known].max(), 1e-5),
        at_least("aligned: entry 2 is half learned after entry 1, entry 3 after entry 2", np.diff(first[0]).min(), 1.0),
        at_least("whitened: entry 2 before entry 1, entry 3 before entry 2", -np.diff(first[1]).max(), 1.0),
        at_least(
            "modes have a closed form: both whitened problems, and aligned correlations", known[[0, 1, 3]].min(), 1.0
        ),
        at_most("and not those of turned correlations", known[2], 0.0),
        at_least("paths of turned and whitened inputs apart, relative to the map", coupling, 0.05),
        at_most("all end in the same map", np.abs(simulated[:, -1] - W).max() / np.abs(W).max(), 1e-9),
        at_most("change of the imbalance", data["drift"].max(), 1e-9),
        *golden(measured(data), GOLDEN),
    ]
