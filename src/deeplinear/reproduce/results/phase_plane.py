r"""Phase plane and loss of two weights in series: hyperbolas, two minima on each, and the line that parts their basins.

$\dot w_1 = w_2 (\sigma - w_1 w_2)$, $\dot w_2 = w_1 (\sigma - w_1 w_2)$: every run keeps $c = w_1^2 - w_2^2$ and ends
at $\pm w_e(c)$, by the sign of $w_1 + w_2$; on $w_1 + w_2 = 0$ it ends at the saddle in the origin. Source: Wendin and
Altafini (2025), a survey of gradient flow equations for deep linear networks, fig. 5 and section 6.2.1, where each
hyperbola has one minimum only. Theory is the exact solution for two weights.
"""

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ... import curvature
from ...exact import unbalanced_pair
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import phase, style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `sigma` is ours."""

    sigma: float = 1.0
    conserved: tuple[float, ...] = (-4.0, -2.5, -1.2, -0.4, 0.0, 0.4, 1.2, 2.5, 4.0)
    reach: float = 2.6
    horizon: float = 60.0
    points: int = 241
    grid: int = 24
    offset: float = 1e-3
    rtol: float = 1e-10


SETTINGS = QUICK = Settings()
GOLDEN: dict[str, float] = {
    "w_1 in the end, c = -2.5": 0.5922677261,
    "w_2 in the end, c = -2.5": 1.688425616,
    "w_1 in the end, c = 0.4": 1.104447329,
    "w_2 in the end, c = 0.4": 0.9054302307,
}


def starts_of(settings: Settings) -> np.ndarray:
    """Two starts on each branch of each hyperbola, from either side of the minima, shape (run, 2)."""
    starts = []
    for c in settings.conserved:
        for sign in (1.0, -1.0):
            for along in (-settings.reach, settings.reach):
                if c == 0:
                    starts.append((sign * settings.reach * 0.9, along * 0.9))
                elif c > 0:
                    inner = np.sqrt(max(settings.reach**2 - c, 0.0))
                    starts.append((sign * settings.reach, np.copysign(inner, along)))
                else:
                    inner = np.sqrt(max(settings.reach**2 + c, 0.0))
                    starts.append((np.copysign(inner, along), sign * settings.reach))
    return np.array(starts)


def limit_of(start: np.ndarray, sigma: float) -> np.ndarray:
    r"""$w_e \, \mathrm{sign}(w_1 + w_2)$, (..., 2); the origin on the line $w_1 + w_2 = 0$."""
    w1, w2 = start[..., 0], start[..., 1]
    c = (w1 - w2) * (w1 + w2)
    larger = np.sqrt((np.abs(c) + np.hypot(c, 2 * sigma)) / 2)  # the smaller would cancel: sigma / larger
    ends = np.where((c > 0)[..., None], np.stack([larger, sigma / larger], -1), np.stack([sigma / larger, larger], -1))
    return ends * np.sign(w1 + w2)[..., None]


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Paths on the hyperbolas, their exact counterparts, the basins on a grid, curves of minima, loss."""
    objective = SquaredError.from_moments([[settings.sigma]])
    starts = starts_of(settings)
    ts = np.concatenate([[0.0], np.geomspace(1e-3, settings.horizon, settings.points - 1)])
    path = _flow(objective, starts, ts, settings.rtol)
    exact = np.stack(unbalanced_pair(ts, starts[:, 0], starts[:, 1], np.full(len(starts), settings.sigma)), -1)
    exact = np.moveaxis(exact, 0, 1)
    line = np.linspace(-settings.reach, settings.reach, settings.grid)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    grid = grid[np.abs(grid.sum(1)) > 1e-9]
    beside = np.stack([line + settings.offset * side for side in (-1, 1)]).ravel()
    tried = np.concatenate([grid, np.stack([beside, -np.tile(line, 2)], -1)])
    ends = _flow(objective, tried, np.array([0.0, settings.horizon]), settings.rtol)[:, -1]
    fine = np.linspace(-settings.reach, settings.reach, 201)
    w = np.geomspace(settings.sigma / settings.reach, settings.reach, 200)
    sheet = np.stack([w, settings.sigma / w], -1)
    at_origin = curvature.hvp(objective, Network([[[0.0]], [[0.0]]]), Network([[[1.0]], [[1.0]]]))
    variables = {
        "path": (("run", "time", "weight"), path, {"long_name": "weights of the simulated flow"}),
        "theory": (("run", "time", "weight"), exact, {"long_name": "weights of the exact solution"}),
        "limit": (("run", "weight"), limit_of(starts, settings.sigma)),
        "at_saddle": ("run", starts.sum(1) == 0),
        "minima": (("sheet", "point", "weight"), np.stack([sheet, -sheet])),
        "saddles": (("saddle", "weight"), np.zeros((1, 2))),
        "tried": (("trial", "weight"), tried),
        "ends": (("trial", "weight"), ends),
        "loss": (("row", "column"), (settings.sigma - fine[:, None] * fine[None, :]) ** 2 / 2),
        "curvature_at_origin": ((), -float(at_origin.weights[0][0, 0])),
    }
    return xr.Dataset(variables, {"time": ts, "weight": [1, 2], "row": fine, "column": fine}, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """The plane with both basins at the left, the loss as a landscape with the same runs at the right."""
    figure = Figure(figsize=(8.2, 4.2), layout="constrained")
    plane = figure.add_subplot(1, 2, 1)
    reach, fine = data.attrs["reach"], data["row"].values
    sides = np.sign(fine[None, :] + fine[:, None])
    plane.imshow(
        sides, extent=(-reach, reach, -reach, reach), origin="lower", cmap=ListedColormap(["#f6efe4", "#e8eef7"]),
        interpolation="nearest", zorder=0,
    )  # fmt: skip
    phase.phase_plane(data, plane, limit=reach)
    plane.plot([-reach, reach], [reach, -reach], color=phase.SADDLE, linewidth=1.6, linestyle=(0, (4, 2)), zorder=4)
    plane.set_title("Phase plane", loc="left", fontsize=style.TEXT + 1.5)
    for x, y, text in ((1.35, 2.3, "to $+w_e$"), (-2.35, -2.35, "to $-w_e$")):
        plane.text(x, y, text, fontsize=style.TEXT, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    _landscape(data, figure.add_subplot(1, 2, 2, projection="3d"))
    boundary = Line2D([], [], color=phase.SADDLE, linewidth=1.6, linestyle=(0, (4, 2)), label="$w_1 + w_2 = 0$")
    phase.phase_key(figure, [boundary])
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    c = np.asarray(data.attrs["conserved"])
    ends = {value: data["path"].values[4 * k + 1, -1] for k, value in enumerate(c)}
    return {f"w_{j + 1} in the end, c = {value:g}": float(ends[value][j]) for value in (-2.5, 0.4) for j in (0, 1)}


def check(data: xr.Dataset) -> list[Checked]:
    """Path and end against theory; conservation; the basins on the grid and beside the boundary; stored numbers."""
    path, exact, limit = data["path"].values, data["theory"].values, data["limit"].values
    size = np.linalg.norm(exact, axis=-1).max()
    kept = path[..., 0] ** 2 - path[..., 1] ** 2
    sides = np.sign(data["tried"].values.sum(1))
    reached = np.sign(data["ends"].values.sum(1))
    ends = np.abs(data["ends"].values - limit_of(data["tried"].values, data.attrs["sigma"])).max()
    on_line = data["at_saddle"].values
    both = [c for k, c in enumerate(data.attrs["conserved"]) if c and _opposite(data, k)]
    return [
        at_most("gap of the weights against the exact solution", np.abs(path - exact).max() / size, 1e-8),
        at_most("end of every run against +-w_e, by the sign of w_1 + w_2", np.abs(path[:, -1] - limit).max(), 1e-8),
        at_most("drift of w_1^2 - w_2^2", np.abs(kept - kept[:, :1]).max(), 1e-8),
        at_least("hyperbolas with c != 0 whose two minima are both reached", len(both), _nonzero(data)),
        at_most("trials on the wrong side of w_1 + w_2 = 0", np.sum(sides != reached), 0.0),
        at_most("ends of all trials against +-w_e", ends, 1e-8),
        at_most("distance from the origin of runs on w_1 + w_2 = 0", np.abs(path[on_line, -1]).max(), 1e-8),
        at_least("runs on w_1 + w_2 = 0", on_line.sum(), 2.0),
        at_most("escape rate at the origin against sigma", abs(data["curvature_at_origin"] - data.attrs["sigma"]), 0.0),
        *golden(measured(data), GOLDEN),
    ]


def _opposite(data: xr.Dataset, k: int) -> bool:
    """Whether runs of the k-th hyperbola reached both of its minima."""
    ends = data["path"].values[4 * k : 4 * k + 4, -1]
    return bool(np.any(ends[:, 0] > 0) and np.any(ends[:, 0] < 0))


def _nonzero(data: xr.Dataset) -> float:
    return float(np.count_nonzero(data.attrs["conserved"]))


def _flow(objective: SquaredError, starts: np.ndarray, ts: np.ndarray, rtol: float) -> np.ndarray:
    """Weights (run, time, 2) of all starts in one ensemble."""
    networks = jax.vmap(lambda w: Network([w[0].reshape(1, 1), w[1].reshape(1, 1)]))(jnp.asarray(starts))
    kept = gradient_flow(objective, networks, ts, rtol=rtol).networks
    return np.stack([np.asarray(W)[..., 0, 0] for W in kept.weights], axis=-1)


def _landscape(data: xr.Dataset, ax) -> None:
    """The loss over the plane, its floor of minima and the runs on it; heights as roots, which shows the plateau."""
    fine, height = data["row"].values, lambda loss: np.sqrt(2 * loss)
    surface = height(data["loss"].values)
    surface = np.where(surface <= 4.2, surface, np.nan)
    X, Y = np.meshgrid(fine, fine, indexing="ij")
    ax.plot_surface(X, Y, surface, cmap="Greys", vmin=-2, vmax=6, alpha=0.55, linewidth=0, rstride=4, cstride=4)
    for path, red in zip(data["path"].values, data["at_saddle"].values, strict=True):
        z = height((data.attrs["sigma"] - path[:, 0] * path[:, 1]) ** 2 / 2)
        shown = z <= 4.2
        ax.plot(*path[shown].T, z[shown] + 0.03, color=phase.SADDLE if red else phase.PATH, linewidth=1.0, zorder=5)
    for sheet in data["minima"].values:
        ax.plot(*sheet.T, 0.03, color=phase.MINIMUM, linewidth=2.4, zorder=6)
    ax.plot([0], [0], [data.attrs["sigma"] + 0.05], "o", color=phase.SADDLE, markersize=5.5, zorder=7)
    phase.space(ax, (1, 2, 3), data.attrs["reach"], (32.0, -70.0))
    ax.set(zlim=(0, 4.2), zticks=[0, 2, 4])
    ax.zaxis.set_label_text(r"$|\sigma - w_1 w_2| = \sqrt{2 L}$", fontsize=style.TEXT)
    ax.zaxis.labelpad = -4
    ax.set_box_aspect((1, 1, 0.75), zoom=0.94)
    ax.set_title("Loss", loc="left", fontsize=style.TEXT + 1.5)
