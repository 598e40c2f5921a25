r"""Weight decay: where a mode rests against the decay $\gamma$, at depths 2, 3 and 4, and how imbalances die out.

At depth 2 the strength falls to 0 continuously, $u = s - \gamma$. Deeper, a stable and an unstable root meet at
$\gamma_{\max}$ and 0 is stable; above $\gamma_*$ it is the global minimum. Flows from 0-balanced starts on either side
of the unstable root go to the rest on their side. In a network that is not balanced $C_l(t) = C_l(0) e^{-2 \gamma t}$.
Source: Wendin and Altafini (survey), proposition 10, for the imbalances; the roots and thresholds are derived here.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import diagnostics, init, landscape
from ...exact import decayed_imbalance
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters: one mode of strength `s`; flows at `shares` of gamma_max; a random network of `widths`."""

    s: float = 1.7
    depths: tuple[int, ...] = (2, 3, 4)
    points: int = 241
    shares: tuple[float, ...] = (0.15, 0.4, 0.65, 0.9, 1.1)
    horizon: float = 150.0
    widths: tuple[int, ...] = (3, 4, 4, 2)
    gammas: tuple[float, ...] = (0.05, 0.2, 0.5)
    rtol: float = 1e-10
    seed: int = 1


SETTINGS = Settings()
QUICK = Settings(shares=(0.4, 1.1), gammas=(0.2,))
GOLDEN: dict[str, float] = {
    "h = 2: the mode exists up to": 1.7,
    "h = 3: the mode exists up to": 0.9586053051,
    "h = 3: the mode is worth learning up to": 0.8051780016,
    "h = 4: the mode exists up to": 0.8531423397,
    "h = 4: the mode is worth learning up to": 0.6032627337,
}
ROOTS = ("stable", "unstable")
STARTS = ("above", "below")


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Roots by formula, the ends of flows beside them, and imbalances of a network beside their theory."""
    mode = SquaredError.from_singular_values([settings.s], 1, 1)
    folds = [landscape.decayed_modes(mode, h, settings.s).exists[0] for h in settings.depths]
    near = np.outer(folds, 1 - np.array([1e-2, 1e-3, 1e-4, 1e-6])).ravel()  # where the two roots meet
    gammas = np.sort(np.append(np.linspace(0, 1.15 * settings.s, settings.points)[1:], near))
    shape = len(settings.depths), len(ROOTS)
    thresholds, roots = np.empty((len(settings.depths), 2)), np.empty((*shape, len(gammas)))
    decays = np.empty((len(settings.depths), len(settings.shares)))
    starts, ends, rests = (np.empty((*shape, len(settings.shares))) for _ in range(3))
    for i, h in enumerate(settings.depths):
        found = [landscape.decayed_modes(mode, h, gamma) for gamma in gammas]
        roots[i] = [[getattr(modes, name)[0] for modes in found] for name in ROOTS]
        thresholds[i] = found[0].exists[0], found[0].optimal[0]
        decays[i] = thresholds[i, 0] * np.array(settings.shares)
        for k, gamma in enumerate(decays[i]):
            modes = landscape.decayed_modes(mode, h, gamma)
            # on either side of the barrier where there is one
            barrier = np.nan_to_num(modes.unstable[0], nan=0.5 * settings.s)
            starts[i, :, k] = min(1.3 * barrier, 0.5 * (barrier + settings.s)), 0.7 * barrier
            alive = np.nan_to_num(modes.stable[0])
            rests[i, :, k] = alive, 0.0 if np.isfinite(modes.unstable[0]) else alive
            for side, u in enumerate(starts[i, :, k]):
                chain = init.decoupled(0, mode, (1,) * (h + 1), u)
                flow = gradient_flow(mode, chain, [settings.horizon], weight_decay=gamma, rtol=settings.rtol)
                ends[i, side, k] = float(flow[-1].end_to_end[0, 0])
    variables = {
        "root": (("depth", "kind", "gamma"), roots, {"long_name": "strength at the root"}),
        "threshold": (("depth", "name"), thresholds, {"long_name": "weight decay"}),
        "decay": (("depth", "run"), decays, {"long_name": "weight decay of a flow"}),
        **{
            name: (("depth", "side", "run"), values, {"long_name": f"strength {words}"})
            for name, values, words in (
                ("start", starts, "at the start"),
                ("end", ends, "at the end"),
                ("rest", rests, "where theory ends"),
            )
        },
        **_imbalances(settings),
    }
    coordinates = {"depth": list(settings.depths), "kind": list(ROOTS), "gamma": gammas, "side": list(STARTS)}
    return xr.Dataset(variables, coordinates | {"name": ["exists", "optimal"]}, asdict(settings))


def _imbalances(settings: Settings) -> dict:
    """Norms of the imbalances of a random network along flows with decay, and by theory."""
    rng, widths = np.random.default_rng(settings.seed), settings.widths
    start = Network([0.6 * rng.standard_normal((b, a)) for a, b in pairwise(widths)])
    X = rng.standard_normal((20, widths[0]))
    objective = SquaredError.of(X, X @ rng.standard_normal((widths[0], widths[-1])))
    ts = np.linspace(0, 6, 25)
    norms, gaps = np.empty((2, len(settings.gammas), len(ts))), []
    for k, gamma in enumerate(settings.gammas):
        flow = gradient_flow(objective, start, ts, weight_decay=gamma, rtol=settings.rtol)
        simulated = [np.asarray(C) for C in flow.map(diagnostics.imbalance)]
        exact = [np.asarray(C) for C in decayed_imbalance(start, ts, gamma)]
        gaps.append(max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(simulated, exact, strict=True)))
        for side, series in enumerate((simulated, exact)):
            norms[side, k] = np.sqrt(sum(np.sum(C**2, axis=(1, 2)) for C in series))
    return {
        "imbalance": (("source", "network", "time"), norms, {"long_name": "norm of all imbalances"}),
        "imbalance_gap": ("network", gaps, {"long_name": "largest difference over largest entry"}),
        "network_decay": ("network", list(settings.gammas), {"long_name": "weight decay"}),
        "time": ("time", ts, {"long_name": "time"}),
    }


def figure(data: xr.Dataset) -> Figure:
    """A panel for every depth, and one for the imbalances."""
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.subplots(2, (len(data["depth"]) + 2) // 2).ravel()
    for ax, depth in zip(axes, data["depth"].values, strict=False):
        _bifurcation(ax, data.sel(depth=depth), int(depth), data.attrs["s"])
    ax = style.canvas(axes[-1], f"Imbalance of a random {'–'.join(map(str, data.attrs['widths']))} network")
    dots: dict[str, Any] = style.dots() | {"linewidth": 2.2}
    for k, gamma in enumerate(data["network_decay"].values):
        simulated, exact = data["imbalance"].isel(network=k).values
        ax.plot(data["time"], simulated, **style.line(2 * k), label=rf"$\gamma = {gamma:g}$")
        ax.plot(data["time"], exact, **dots)
    ax.set_yscale("log")
    ax.margins(x=0)
    ax.set_xlabel("time", fontsize=style.TEXT)
    ax.set_ylabel(r"$\|C\|$, dotted: $e^{-2 \gamma t}$", fontsize=style.TEXT)
    ax.legend(frameon=False, fontsize=style.TEXT, loc="lower left")
    return figure


def _bifurcation(ax: Axes, data: xr.Dataset, depth: int, s: float) -> None:
    """Roots against the decay, flows as arrows from start to end."""
    style.canvas(ax, f"{depth} layers")
    exists, optimal = data["threshold"].values
    gamma = data["gamma"].values
    ax.plot(gamma, data["root"].sel(kind="stable"), color=style.colour(0), linewidth=1.9, label="stable")
    zero_from = exists if depth == 2 else 0.0
    ax.plot([zero_from, gamma[-1]], [0, 0], color=style.colour(0), linewidth=1.9, clip_on=False)
    unstable: dict[str, Any] = {"color": style.colour(1), "linewidth": 1.6, "linestyle": (0, (4, 2))}
    if depth == 2:
        ax.plot([0, exists], [0, 0], **unstable, label="unstable", clip_on=False)
    else:
        ax.plot(gamma, data["root"].sel(kind="unstable"), **unstable, label="unstable")
        ax.axvline(optimal, color=style.GREY, linewidth=0.9, linestyle=":")
        ax.text(optimal, 1.04 * s, r"$\gamma_*$", fontsize=style.TEXT, ha="right")
        ax.text(exists, 1.04 * s, r" $\gamma_{\max}$", fontsize=style.TEXT, ha="left")
        ax.axvline(exists, color=style.GREY, linewidth=0.9)
    for k, decay in enumerate(data["decay"].values):
        for side in range(2):
            start, end = float(data["start"][side, k]), float(data["end"][side, k])
            ax.annotate("", (decay, end), (decay, start), arrowprops={"arrowstyle": "->", "color": style.GREY})
            ax.plot(decay, end, "o", color=style.ink(), markersize=3.6, zorder=8, clip_on=False)
    ax.set_xlim(0, gamma[-1])
    ax.set_ylim(0, 1.15 * s)
    ax.set_xlabel(r"weight decay $\gamma$", fontsize=style.TEXT)
    ax.set_ylabel("strength $u$ of the mode", fontsize=style.TEXT)
    ax.legend(frameon=False, fontsize=style.TEXT, loc="upper right")


def measured(data: xr.Dataset) -> dict[str, float]:
    """Thresholds of all depths."""
    exists, optimal = data["threshold"].sel(name="exists"), data["threshold"].sel(name="optimal")
    numbers = {}
    for depth in data["depth"].values:
        numbers[f"h = {depth}: the mode exists up to"] = float(exists.sel(depth=depth))
        if depth > 2:
            numbers[f"h = {depth}: the mode is worth learning up to"] = float(optimal.sel(depth=depth))
    return numbers


def check(data: xr.Dataset) -> list[Checked]:
    """Ends of flows at the rests, roots against their equation, thresholds against the potential, decay of balance."""
    s, equation, even = data.attrs["s"], [], []
    for depth in map(int, data["depth"].values):
        here = data.sel(depth=depth)
        for kind in ROOTS:
            u = here["root"].sel(kind=kind)
            off = np.abs(u ** ((depth - 2) / depth) * (s - u) - u["gamma"]).values
            equation.append(float(off[np.isfinite(off)].max(initial=0.0)))
        optimal = float(here["threshold"].sel(name="optimal"))
        if depth > 2:  # learning and not learning cost the same at gamma_*
            u = s * (depth - 2) / (depth - 1)
            even.append(abs((s - u) ** 2 / 2 + optimal * depth / 2 * u ** (2 / depth) - s**2 / 2))
    apart = np.abs(data["end"].sel(side="above") - data["end"].sel(side="below"))
    gap = np.abs(data["end"] - data["rest"]).max()
    return [
        at_most("flows end at the rests of theory", gap, 1e-6),
        at_most("roots: u^((h-2)/h) (s - u) - gamma", max(equation), 1e-13),
        at_most("both minima are even at gamma_*", max(even), 1e-14),
        at_least("flows that differ in their end by their start alone", np.sum(apart > 0.1), 2.0),
        at_most("imbalances against exp(-2 gamma t)", data["imbalance_gap"].max(), 1e-8),
        *golden(measured(data), GOLDEN),
    ]
