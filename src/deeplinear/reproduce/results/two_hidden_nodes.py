r"""Slices of the four weights of one hidden layer with two nodes: where runs end, and the quadric of minima.

$W_1 = (w_1, w_2)^T$, $W_2 = (w_3, w_4)$: minima fill $w_1 w_3 + w_2 w_4 = \sigma$, the origin is the only saddle. Small
starts have small conserved $C = W_1 W_1^T - W_2^T W_2$, hence end with $w_3 \approx w_1$, $w_4 \approx w_2$, $w_1^2 +
w_2^2 \approx \sigma$; large ones anywhere on the quadric. Source: Wendin and Altafini (2025), a survey of gradient flow
equations for deep linear networks, fig. 7 and section 6.2.3. Theory is the exact two-layer solution; starts are ours.
"""

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ... import curvature
from ...exact import two_layer
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import phase, style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    sigma: float = 1.0
    runs: int = 120
    small: float = 0.1
    large: float = 1.0
    seed: int = 7
    horizon: float = 60.0
    points: int = 81
    reach: float = 2.2
    slices: tuple[float, ...] = (0.0, 0.8, 1.6)
    thickness: float = 0.12
    rtol: float = 1e-10


SETTINGS = QUICK = Settings()
PALE = "#9bc7a6"  # ends of runs from large starts
PAIRS = ((1, 3), (2, 4), (1, 2), (1, 4))
GOLDEN: dict[str, float] = {
    "w_1 of the first run, small start": -0.4182913906,
    "w_2 of the first run, small start": -0.9061704865,
    "w_3 of the first run, small start": -0.4191887259,
    "w_4 of the first run, small start": -0.9100461526,
    "w_1 of the first run, large start": 1.007493706,
    "w_2 of the first run, large start": 0.03793691612,
    "w_3 of the first run, large start": 0.990518977,
    "w_4 of the first run, large start": 0.05425756933,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Runs from small and large starts, the exact map and its limit, the surface of minima in every slice."""
    objective = SquaredError.from_moments([[settings.sigma]])
    rng = np.random.default_rng(settings.seed)
    starts = np.stack([scale * rng.standard_normal((settings.runs, 4)) for scale in (settings.small, settings.large)])
    ts = np.concatenate([[0.0], np.geomspace(1e-2, settings.horizon, settings.points - 1)])
    networks = jax.vmap(_network)(jnp.asarray(starts.reshape(-1, 4)))
    kept = gradient_flow(objective, networks, ts, rtol=settings.rtol).networks
    path = np.concatenate([np.asarray(W).reshape(*W.shape[:2], 2) for W in kept.weights], axis=-1)
    path = path.reshape(2, settings.runs, ts.size, 4)
    chosen = [0]  # run whose map is held against theory, of both sizes
    exact = np.stack(
        [[two_layer(objective, _network(starts[k, i]))(ts).end_to_end[:, 0, 0] for i in chosen] for k in (0, 1)]
    )
    spectrum = jax.hessian(lambda w: curvature.loss(objective, _network(w)))(jnp.zeros(4))
    variables = {
        "path": (("size", "run", "time", "weight"), path, {"long_name": "weights of the simulated flow"}),
        "theory": (("size", "checked", "time"), exact, {"long_name": "end-to-end map of the exact solution"}),
        "surface": (("slice", "sheet", "row", "column", "weight"), _surfaces(settings)),
        "origin_spectrum": ("eigenvalue", np.linalg.eigvalsh(np.asarray(spectrum))),
    }
    coordinates = {"time": ts, "weight": [1, 2, 3, 4], "slice": list(settings.slices), "size": ["small", "large"]}
    return xr.Dataset(variables, coordinates | {"checked": chosen}, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """Above: ends of runs from small and large starts in pairs of weights. Below: slices, w_4 fixed, with ends near."""
    figure = Figure(figsize=(8.6, 6.2), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=(1.0, 1.25))
    above, below = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    for ax, pair in zip(above.subplots(1, 4), PAIRS, strict=True):
        _pair(data, ax, pair)
        ax.set_title(f"$w_{pair[0]}$, $w_{pair[1]}$", loc="left", fontsize=style.TEXT + 1.5)
    for k, value in enumerate(data["slice"].values):
        ax = below.add_subplot(1, len(data["slice"]), k + 1, projection="3d")
        _slice(data, ax, float(value))
    large = Line2D([], [], color=PALE, marker="o", markersize=3, linestyle="none", label="from large starts (above)")
    phase.phase_key(figure, [large], saddle="saddle (the origin)")
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    ends = data["path"].values[:, 0, -1]
    return {f"w_{k + 1} of the first run, {size} start": float(ends[i, k]) for i, size in enumerate(("small", "large"))
            for k in range(4)}  # fmt: skip


def check(data: xr.Dataset) -> list[Checked]:
    """The map against theory; ends on the quadric; three laws; what small starts share; the origin; stored numbers."""
    path, sigma = data["path"].values, data.attrs["sigma"]
    W = path[..., 0] * path[..., 2] + path[..., 1] * path[..., 3]
    below, above = path[..., :2], path[..., 2:]
    C = below[..., :, None] * below[..., None, :] - above[..., :, None] * above[..., None, :]
    ends, laws = path[..., -1, :], np.abs(C - C[..., :1, :, :]).max()
    tied = np.abs(ends[..., :2] - ends[..., 2:]).max(axis=(1, 2))
    # |W_1 - W_2^T|^2 = |W_1|^2 + |W_2|^2 - 2 W, and |W_1|^2 + |W_2|^2 = sqrt(4 sigma^2 + p^2 q^2) in the end
    start = path[..., 0, :]
    p, q = (np.sum((start[..., :2] + sign * start[..., 2:]) ** 2, axis=-1) for sign in (1, -1))
    size = np.sum(ends**2, axis=-1) - np.sqrt(4 * sigma**2 + p * q)
    gap = np.abs(W[:, data["checked"].values] - data["theory"].values).max()
    return [
        at_most("gap of the map against the exact solution", gap, 1e-9),
        at_most("distance of ends from w_1 w_3 + w_2 w_4 = sigma", np.abs(W[..., -1] - sigma).max(), 1e-9),
        at_most("drift of the three conservation laws", laws, 1e-9),
        at_most("|w|^2 in the end against sqrt(4 sigma^2 + |p|^2 |q|^2)", np.abs(size).max(), 1e-9),
        at_most("largest |w_1 - w_3|, |w_2 - w_4| in the end, small starts", tied[0], 0.25),
        at_least("largest |w_1 - w_3|, |w_2 - w_4| in the end, large starts", tied[1], 1.0),
        at_most("Hessian at the origin against -+sigma twice", _origin(data), 1e-14),
        *golden(measured(data), GOLDEN),
    ]


def _origin(data: xr.Dataset) -> float:
    sigma = data.attrs["sigma"]
    return float(np.abs(data["origin_spectrum"].values - np.array([-sigma, -sigma, sigma, sigma])).max())


def _network(w) -> Network:
    return Network([w[:2].reshape(2, 1), w[2:].reshape(1, 2)])


def _surfaces(settings: Settings) -> np.ndarray:
    r"""Minima with w_4 fixed: $w_1 w_3 = \sigma$ where it is 0, else $w_2 = (\sigma - w_1 w_3) / w_4$."""
    size = np.geomspace(settings.sigma / settings.reach, settings.reach, 71)
    line = np.linspace(-settings.reach, settings.reach, 71)
    slices = []
    for w4 in settings.slices:
        if w4 == 0:
            a, b = np.meshgrid(size, line, indexing="ij")
            sheets = [np.stack([side * a, b, side * settings.sigma / a, np.zeros_like(a)], -1) for side in (1, -1)]
        else:
            a, c = np.meshgrid(line, line, indexing="ij")
            b = (settings.sigma - a * c) / w4
            inside = (np.abs(b) <= settings.reach)[..., None]
            sheet = np.where(inside, np.stack([a, b, c, np.full_like(a, w4)], -1), np.nan)
            sheets = [sheet, np.full_like(sheet, np.nan)]
        slices.append(np.stack(sheets))
    return np.stack(slices)


def _pair(data: xr.Dataset, ax, pair: tuple[int, int]) -> None:
    """Ends of all runs, large starts pale and small ones on top."""
    style.canvas(ax, "")
    x, y = (k - 1 for k in pair)
    ends = data["path"].values[:, :, -1]
    ax.plot(ends[1, :, x], ends[1, :, y], "o", color=PALE, markersize=2.6)
    ax.plot(ends[0, :, x], ends[0, :, y], "o", color=phase.MINIMUM, markersize=2.6)
    ax.plot([0], [0], "o", color=phase.SADDLE, markersize=phase.MARK + 1)
    limit = data.attrs["reach"] + 0.3
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    ax.set_aspect("equal")
    ax.set_xlabel(f"$w_{pair[0]}$", fontsize=style.TEXT + 1)
    ax.set_ylabel(f"$w_{pair[1]}$", fontsize=style.TEXT + 1, labelpad=-4)


def _slice(data: xr.Dataset, ax, value: float) -> None:
    """The minima with w_4 = value, and the last stretch of runs that end within the slice's thickness."""
    limit = data.attrs["reach"]
    path = data["path"].values.reshape(-1, data.sizes["time"], 4)
    near = (np.abs(path[:, -1, 3] - value) <= data.attrs["thickness"]) & (np.abs(path[:, -1]).max(-1) <= limit)
    inside = np.abs(path[near]).max(-1, keepdims=True) <= limit
    shown = xr.Dataset(
        {
            "path": (("run", "time", "weight"), np.where(inside, path[near], np.nan)),
            "surface": data["surface"].sel(slice=value),
        },
        {"weight": data["weight"].values},
    )
    phase.phase_space(shown, ax, (1, 2, 3), limit, (24.0, -52.0))
    if value == 0:
        ax.plot([0], [0], [0], "o", color=phase.SADDLE, markersize=phase.MARK + 1)
    ax.set_title(f"slice $w_4 = {value:g}$", loc="left", fontsize=style.TEXT + 1.5)
