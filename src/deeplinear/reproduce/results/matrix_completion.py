"""Matrix completion by deep factorisation: depth 1 learns what it sees, depth 2 and more the whole matrix.

A 100 x 100 matrix of rank 5 and norm 100, of which 2000 or 5000 entries are seen; gradient flow of depth 1 to 4 from
small Gaussian starts to a training error of 1e-6, beside the matrix of least nuclear norm. The error is the mean square
over entries that were not seen, whose variance is 1. Source: Arora et al. (2019), NeurIPS, Fig. 1 and 3; the draw of
matrix, entries and starts is ours (their nuclear norms 210.15 and 221.03 belong to theirs), and so is the size of the
starts: N(0, alpha^(2/h) / n) in every one of h layers, alpha = 1e-3. Without cvxpy the least nuclear norm is left out.
"""

from dataclasses import asdict, dataclass
from importlib.util import find_spec

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import diagnostics, init
from ...conventions import MEAN
from ...flows import gradient_flow
from ...network import Network
from ...objectives import MatrixCompletion, minimum_nuclear_norm
from ...plots import style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `seen` is how many entries are observed."""

    size: int = 100
    rank: int = 5
    norm: float = 100.0
    seen: tuple[int, ...] = (2000, 5000)
    depths: tuple[int, ...] = (1, 2, 3, 4)
    alpha: float = 1e-3
    training_error: float = 1e-6
    seed: int = 0
    rtol: float = 1e-3


SETTINGS = Settings()
QUICK = Settings(size=30, rank=2, norm=30.0, seen=(360,), depths=(1, 3))
CONVEX = "nuclear norm"
FLOOR = 1e-8  # of the figure; exact recovery lies below
RECOVERED = 0.1  # error of depth 3 and more
BETTER = 0.5  # error of depth 2 against that of depth 1
GOLDEN: dict[str, float] = {"nuclear norm of W*": 221.5488510013}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Errors, nuclear norms, effective ranks and singular values of every method at every number of seen entries."""
    target, order = problem(settings)
    methods = [f"depth {depth}" for depth in settings.depths] + [CONVEX] * (find_spec("cvxpy") is not None)
    matrices = []
    for seen in settings.seen:
        places = np.stack(np.unravel_index(order[:seen], target.shape), axis=1)
        objective = MatrixCompletion(target[places[:, 0], places[:, 1]], places, target.shape, MEAN)
        matrices.append([_deep(settings, objective, depth) for depth in settings.depths])
        if CONVEX in methods:
            matrices[-1].append(minimum_nuclear_norm(objective))
    ends = np.array(matrices)
    hidden = np.ones((len(settings.seen), target.size), dtype=bool)
    for i, seen in enumerate(settings.seen):
        hidden[i, order[:seen]] = False
    squares = ((ends - target) ** 2).reshape(*ends.shape[:2], -1)
    mean = lambda mask: np.array([square[:, m].mean(axis=1) for square, m in zip(squares, mask, strict=True)])
    values = np.linalg.svd(ends, compute_uv=False)
    variables = {
        "error": (("seen", "solution"), mean(hidden), {"long_name": "mean square error of unseen entries"}),
        "training_error": (("seen", "solution"), mean(~hidden), {"long_name": "mean square error of seen entries"}),
        "nuclear_norm": (("seen", "solution"), values.sum(axis=-1), {"long_name": "nuclear norm"}),
        "effective_rank": (("seen", "solution"), _effective_ranks(values), {"long_name": "effective rank"}),
        "singular_value": (("seen", "solution", "index"), values, {"long_name": "singular value"}),
        "target_value": ("index", np.linalg.svd(target, compute_uv=False), {"long_name": "singular value of W*"}),
    }
    coordinates = {"seen": list(settings.seen), "solution": methods, "index": np.arange(1, settings.size + 1)}
    return xr.Dataset(variables, coordinates, asdict(settings))


def problem(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The matrix, and the order in which its entries are seen."""
    rng = np.random.default_rng(settings.seed)
    n, rank = settings.size, settings.rank
    target = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))
    return settings.norm * target / np.linalg.norm(target), rng.permutation(n * n)


def _deep(settings: Settings, objective: MatrixCompletion, depth: int) -> np.ndarray:
    """Where the flow of a network of that depth ends."""
    n = settings.size
    start = init.gaussian(settings.seed, (n,) * (depth + 1), settings.alpha ** (1 / depth) * n**-0.5)
    whole = float(objective.excess(jnp.zeros((n, n))))
    tolerance = settings.training_error / whole
    return np.asarray(gradient_flow(objective, start, rtol=settings.rtol, tolerance=tolerance, keep=50).end_to_end[-1])


def _effective_ranks(values: np.ndarray) -> np.ndarray:
    of = lambda s: float(diagnostics.effective_rank(Network([np.diag(s)])))
    return np.array([[of(s) for s in row] for row in values])


def figure(data: xr.Dataset) -> Figure:
    """Error and effective rank of every solution, and the leading singular values where fewest entries are seen."""
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    _by_method(style.canvas(left, "Error on unseen entries (▼: less)"), data, "error")
    left.set(yscale="log", ylim=(FLOOR / 2, 3))
    _by_method(style.canvas(middle, "Effective rank"), data, "effective_rank")
    middle.axhline(data.attrs["rank"], color=style.GREY, linewidth=0.8, zorder=1)
    across = middle.get_yaxis_transform()  # shares of the axes' width, values upwards
    middle.text(0.02, 1.02 * data.attrs["rank"], "rank of W*", fontsize=style.TEXT, transform=across)
    middle.set(yscale="log", ylim=(0.9 * data.attrs["rank"], data.attrs["size"]))
    middle.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    middle.yaxis.set_minor_formatter(lambda x, _: f"{x:g}" if x / 10 ** np.floor(np.log10(x)) in (2, 5) else "")
    left.legend(frameon=False, fontsize=style.TEXT, loc="lower left")
    few = data.isel(seen=0)
    style.canvas(right, f"Singular values, {int(few['seen'])} entries seen")
    shown = slice(0, 3 * data.attrs["rank"])
    for k, method in enumerate(data["solution"].values):
        values = few["singular_value"].sel(solution=method).values[shown]
        right.plot(data["index"].values[shown], values, **style.line(k), label=method, marker="o", markersize=2.5)
    right.plot(data["index"].values[shown], few["target_value"].values[shown], "o", color=style.ink(), zorder=8,
               markerfacecolor="none", markersize=7, label="W*")  # fmt: skip
    right.set_xlabel("index", fontsize=style.TEXT)
    right.legend(frameon=False, fontsize=style.TEXT)
    return figure


def _by_method(ax: Axes, data: xr.Dataset, name: str) -> None:
    methods, deep = [str(method) for method in data["solution"].values], len(_depths(data))
    for k, seen in enumerate(data["seen"].values):
        values = np.maximum(data[name].sel(seen=seen).values, FLOOR)
        ax.plot(range(deep), values[:deep], **style.line(k), marker="o", markersize=4, label=f"{seen} seen")
        for at, value in enumerate(values[deep:], start=deep):
            mark = "v" if value == FLOOR else "D"  # below the axes, or where it stands
            ax.plot(at, value, mark, color=style.colour(k), markersize=5, zorder=6)
    ax.set_xticks(range(len(methods)), [method.replace(" ", "\n") for method in methods])
    ax.set_xlim(-0.3, len(methods) - 0.7)


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    return {"nuclear norm of W*": float(data["target_value"].sum())}


def check(data: xr.Dataset) -> list[Checked]:
    """Depth 1 does not learn unseen entries, depth 2 does in part, depth 3 and more recover the matrix."""
    checks = [at_most("training error of all depths", _deepest(data, "training_error").max(), 1.1e-6)]
    for seen in data["seen"].values:
        error = {int(name.split()[1]): float(data["error"].sel(seen=seen, solution=name)) for name in _depths(data)}
        checks.append(at_least(f"{seen} seen, depth 1: error", error[1], 0.9))
        if 2 in error:
            checks.append(at_most(f"{seen} seen, depth 2: error", error[2] / error[1], BETTER))
        deep = [error[depth] for depth in error if depth > 2]
        checks.append(at_most(f"{seen} seen, depth 3 and more: error", max(deep), RECOVERED))
        ranks = data["effective_rank"].sel(seen=seen)
        excess = float(ranks.sel(solution="depth 3")) - data.attrs["rank"]
        checks.append(at_most(f"{seen} seen, depth 3: effective rank above the rank", excess, 0.5))
        norms = data["nuclear_norm"].sel(seen=seen)
        if CONVEX in data["solution"].values:
            less = float(norms.sel(solution=CONVEX)) / float(norms.sel(solution="depth 3"))
            checks.append(at_most(f"{seen} seen: least nuclear norm over that of depth 3", less, 1.001))
    return checks + golden(measured(data), GOLDEN if data.attrs["size"] == SETTINGS.size else {})


def _depths(data: xr.Dataset) -> list[str]:
    return [str(name) for name in data["solution"].values if name != CONVEX]


def _deepest(data: xr.Dataset, name: str) -> np.ndarray:
    return np.array([data[name].sel(solution=depth).values for depth in _depths(data)])
