r"""Phase space of three weights in series: four sheets of minima, three lines of saddles, and runs that end on either.

$\dot w_i = \prod_{j \ne i} w_j \, (\sigma - w_1 w_2 w_3)$. Minima fill the surface $w_1 w_2 w_3 = \sigma$; critical
points beside it are the axes: strict saddles with eigenvalues $0, \pm \sigma |w_k|$, and the origin, where the Hessian
vanishes. A run misses the minima where two layers have equal squares and the signs are wrong: $w_0 = (1, 1.5, -1)$ ends
at $(0, \sqrt{1.25}, 0)$. Source: Wendin and Altafini (2025), a survey of gradient flow equations for deep linear
networks, fig. 6 and section 6.2.2, which asks for c_1, c_2 != 0 only. Theory is the exact solution for one mode.
"""

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import curvature
from ...exact import unbalanced_mode
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import phase, style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `sigma` and starts are ours."""

    sigma: float = 1.0
    runs: int = 60
    scale: float = 1.0
    seed: int = 4
    obstructed: tuple[tuple[float, float, float], ...] = (
        (1.0, 1.5, -1.0),
        (-1.2, 1.2, 1.8),
        (1.6, -0.9, 0.9),
        (-1.0, -1.0, -1.0),
    )
    horizon: float = 400.0
    at_saddles: float = 14.0  # rounding leaves a saddle's stable manifold after about 36 / |w|; both ways meet near 18
    late: float = 1e4
    points: int = 161
    reach: float = 2.2
    rtol: float = 1e-10


SETTINGS = QUICK = Settings()
SIGNS = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
GOLDEN: dict[str, float] = {
    "w_1 of run 1 in the end": -0.891674165,
    "w_2 of run 1 in the end": -0.6330696977,
    "w_3 of run 1 in the end": 1.771504623,
    "w_1 of run 2 in the end": 0.9091169957,
    "w_2 of run 2 in the end": -1.756759242,
    "w_3 of run 2 in the end": -0.6261349932,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Simulated and exact paths, the surface of minima, the lines of saddles and the Hessians on them."""
    objective = SquaredError.from_moments([[settings.sigma]])
    drawn = settings.scale * np.random.default_rng(settings.seed).standard_normal((settings.runs, 3))
    starts = np.concatenate([drawn, np.array(settings.obstructed)])
    groups = [(drawn, settings.horizon), (np.array(settings.obstructed), settings.at_saddles)]
    clocks = [np.concatenate([[0.0], np.geomspace(1e-3, end, settings.points - 1)]) for _, end in groups]
    path = np.concatenate([_flow(objective, w, ts, settings) for (w, _), ts in zip(groups, clocks, strict=True)])
    clock = np.concatenate([np.tile(ts, (len(w), 1)) for (w, _), ts in zip(groups, clocks, strict=True)])
    exact = np.stack([unbalanced_mode(ts, w, settings.sigma) for w, ts in zip(starts, clock, strict=True)])
    along = np.linspace(-settings.reach, settings.reach, 41)
    lines = np.stack([np.outer(along, axis) for axis in np.eye(3)])
    hessian = jax.jit(jax.vmap(jax.hessian(lambda w: curvature.loss(objective, _chain(w)))))
    spectra = np.stack([np.linalg.eigvalsh(np.asarray(hessian(jnp.asarray(line)))) for line in lines])
    late = unbalanced_mode([0.0, settings.late], settings.obstructed[-1], settings.sigma)[1]
    variables = {
        "path": (("run", "time", "weight"), path, {"long_name": "weights of the simulated flow"}),
        "theory": (("run", "time", "weight"), exact, {"long_name": "weights of the exact solution"}),
        "clock": (("run", "time"), clock, {"long_name": "time of every run"}),
        "at_saddle": ("run", np.arange(len(starts)) >= settings.runs),
        "surface": (("sheet", "row", "column", "weight"), _sheets(settings.sigma, settings.reach)),
        "saddle_lines": (("line", "point", "weight"), lines),
        "late": (
            "weight",
            late,
            {"long_name": "exact weights of the last run, which falls into the origin, at `late`"},
        ),
        "spectra": (("line", "point", "eigenvalue"), spectra, {"long_name": "Hessian's eigenvalues on the axes"}),
    }
    return xr.Dataset(variables, {"weight": [1, 2, 3], "along": ("point", along)}, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """The same space from two sides."""
    figure = Figure(figsize=(8.2, 4.5), layout="constrained")
    for k, view in enumerate(((20.0, -62.0), (32.0, 22.0))):
        ax = figure.add_subplot(1, 2, k + 1, projection="3d")
        phase.phase_space(data, ax, limit=data.attrs["reach"], view=view)
        ax.set_title(("Three weights in series", "from another side")[k], loc="left", fontsize=style.TEXT + 1.5)
    phase.phase_key(figure, saddle="saddles, and runs that end there")
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    ends = data["path"].values[:, -1]
    return {f"w_{k + 1} of run {run + 1} in the end": float(ends[run, k]) for run in (0, 1) for k in range(3)}


def check(data: xr.Dataset) -> list[Checked]:
    """Paths against theory; where runs end; what is conserved; the Hessian on the axes; stored numbers."""
    path, exact, sigma = data["path"].values, data["theory"].values, data.attrs["sigma"]
    missed = data["at_saddle"].values
    ends = path[:, -1]
    laws = path[..., :2] ** 2 - path[..., 1:] ** 2
    expected = np.stack([_saddle_of(start) for start in path[missed, 0]])
    slow = ~expected.any(axis=1)  # all three squares equal: |w| falls as 1 / t only
    along = np.abs(data["along"].values)
    decay = np.linalg.norm(data["late"].values) * data.attrs["late"] * sigma  # z' = -z^2 (sigma + z^3)
    theory = np.stack([-sigma * along, np.zeros_like(along), sigma * along], axis=-1)
    sides = {tuple(np.sign(end).astype(int)) for end in ends[~missed]}
    return [
        at_most(
            "gap of the weights against the exact solution", np.abs(path - exact).max() / np.abs(exact).max(), 1e-7
        ),
        at_most("distance of ends from w_1 w_2 w_3 = sigma", np.abs(ends[~missed].prod(1) - sigma).max(), 1e-8),
        at_least("sheets of minima reached", len(sides & set(SIGNS)), 4.0),
        at_most("drift of w_i^2 - w_{i+1}^2", np.abs(laws - laws[:, :1]).max(), 1e-8),
        at_most("ends of obstructed runs against theory", np.abs(ends[missed] - expected)[~slow].max(), 1e-6),
        at_most("|w| sigma t of the run into the origin against sqrt(3)", abs(decay / np.sqrt(3) - 1), 1e-3),
        at_most("Hessian on the axes against 0, +-sigma |w|", np.abs(data["spectra"].values - theory).max(), 1e-14),
        *golden(measured(data), GOLDEN),
    ]


def _saddle_of(start: np.ndarray) -> np.ndarray:
    """Two weights of equal least squares shrink to zero together; the third keeps its square less theirs."""
    order = np.argsort(np.abs(start), kind="stable")
    third = order[2]
    end = np.zeros(3)
    end[third] = np.sign(start[third]) * np.sqrt(start[third] ** 2 - start[order[0]] ** 2)
    return end


def _flow(objective: SquaredError, starts: np.ndarray, ts: np.ndarray, settings: Settings) -> np.ndarray:
    """Weights (run, time, 3) of all starts in one ensemble."""
    networks = jax.vmap(_chain)(jnp.asarray(starts))
    kept = gradient_flow(objective, networks, ts, rtol=settings.rtol).networks
    return np.stack([np.asarray(W)[..., 0, 0] for W in kept.weights], axis=-1)


def _chain(w) -> Network:
    return Network([w[k].reshape(1, 1) for k in range(3)])


def _sheets(sigma: float, reach: float) -> np.ndarray:
    """The four sheets of w_1 w_2 w_3 = sigma within the box, on a grid of logarithms of two weights."""
    size = np.geomspace(sigma / reach**2, reach, 46)
    a, b = np.meshgrid(size, size, indexing="ij")
    c = sigma / (a * b)
    inside = c <= reach
    sheet = np.where(inside[..., None], np.stack([a, b, c], -1), np.nan)
    return np.stack([sheet * np.array(signs) for signs in SIGNS])
