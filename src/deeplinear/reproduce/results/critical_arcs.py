r"""Loss along the arcs between all critical points: monotone between nested signatures, else one minimum, no maximum.

$\Phi(\alpha) = (1 - \alpha) S_1 \Sigma + \alpha S_2 \Sigma$ for all 16 signatures of 11-6-6-6-6-4. Source: Wendin and
Altafini (2025), a survey of gradient flow equations for deep linear networks, fig. 4 and theorem 24, which leaves
mixed arcs open ("local minima/maxima", dependent on the lift): the loss depends on $\Phi$ alone and is a parabola with
its minimum at $\sum_{S_2 \setminus S_1} \sigma^2 / \sum_{S_1 \triangle S_2} \sigma^2$. Singular values are ours.
"""

from dataclasses import asdict, dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ... import landscape
from ...objectives import SquaredError
from ...plots import arcs as drawing
from ...plots import style
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    sigma: tuple[float, ...] = (6.0, 4.5, 3.0, 1.5)
    widths: tuple[int, ...] = (11, 6, 6, 6, 6, 4)
    points: int = 101
    lifted: int = 24
    seed: int = 0


SETTINGS = QUICK = Settings()
KINDS = {
    "constant": "$S_1 = S_2$: constant",
    "decreasing": r"$S_1 \subset S_2$: falls",
    "increasing": r"$S_1 \supset S_2$: rises",
    "interior minimum": "mixed: one minimum inside",
}
GOLDEN: dict[str, float] = {
    "alpha* from {1, 4} to {2, 3}": 0.4333333333,
    "loss there": 8.2875,
    "highest critical value": 33.75,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Every arc between two critical points, in closed form, and the loss of networks above some of them."""
    objective = SquaredError.from_singular_values(settings.sigma, settings.widths[0], settings.widths[-1])
    alphas, rng = np.linspace(0, 1, settings.points), np.random.default_rng(settings.seed)
    signatures = [point.signature for point in landscape.critical_points(objective, settings.widths)]
    pairs = [(a, b) for a in signatures for b in signatures]
    found = [landscape.arc(objective, a, b, alphas) for a, b in pairs]
    chosen = rng.choice(len(pairs), settings.lifted, replace=False)
    some = np.linspace(0, settings.points - 1, 6).astype(int)
    lifted = np.array(
        [[_lifted(objective, found[k], float(alphas[i]), rng, settings.widths) for i in some] for k in chosen]
    )
    name = lambda S: "{" + ", ".join(map(str, S)) + "}"
    variables = {
        "loss": (("arc", "alpha"), np.stack([arc.loss for arc in found]), {"long_name": "loss along the arc"}),
        "kind": ("arc", [arc.kind for arc in found]),
        "lowest_alpha": ("arc", [arc.lowest.alpha for arc in found]),
        "lowest_loss": ("arc", [arc.lowest.loss for arc in found]),
        "learned": ("arc", [len(a) for a, _ in pairs]),
        "formula_alpha": ("arc", [_alpha_star(a, b, settings.sigma) for a, b in pairs]),
        "nested": ("arc", [set(a) <= set(b) or set(b) <= set(a) for a, b in pairs]),
        "lifted_loss": (("lifted", "some"), lifted, {"long_name": "loss of networks above the arc, in random bases"}),
    }
    coordinates = {
        "alpha": alphas,
        "first": ("arc", [name(a) for a, _ in pairs]),
        "second": ("arc", [name(b) for _, b in pairs]),
        "lifted": chosen,
        "some": some,
    }
    return xr.Dataset(variables, coordinates, asdict(settings) | {"modes": len(settings.sigma)})


def figure(data: xr.Dataset) -> Figure:
    """One panel a kind of arc; colours tell how many modes are learned where it begins."""
    figure = Figure(figsize=(7.4, 5.2), layout="constrained")
    for ax, (kind, title) in zip(figure.subplots(2, 2, sharey=True).flat, KINDS.items(), strict=True):
        drawing.arc_losses(data, ax, kind)
        count = int(np.sum(data["kind"].values == kind))
        ax.set_title(f"{title} ({count} arcs)", loc="left", fontsize=style.TEXT + 1.5)
    handles = [
        Line2D([], [], color=drawing.arc_colour(k, data), linewidth=2, label=f"{k}")
        for k in range(data.attrs["modes"] + 1)
    ]
    handles.append(Line2D([], [], color=style.ink(), marker="o", markersize=3, linestyle="none", label="minimum"))
    figure.legend(
        handles=handles, title="modes learned at the arc's beginning", loc="outside lower center", ncols=6,
        frameon=False, fontsize=style.TEXT, title_fontsize=style.TEXT,
    )  # fmt: skip
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    mixed = data.isel(arc=np.flatnonzero((data["first"].values == "{1, 4}") & (data["second"].values == "{2, 3}")))
    return {
        "alpha* from {1, 4} to {2, 3}": float(mixed["lowest_alpha"].item()),
        "loss there": float(mixed["lowest_loss"].item()),
        "highest critical value": float(data["loss"].max()),
    }


def check(data: xr.Dataset) -> list[Checked]:
    """Counts, shapes of all arcs from their samples alone, the place of the minimum, lifts; stored numbers."""
    loss, kind, alphas = data["loss"].values, data["kind"].values, data["alpha"].values
    steps, nested, modes = np.diff(loss, axis=1), data["nested"].values, data.attrs["modes"]
    falls, rises = kind == "decreasing", kind == "increasing"
    mixed = ~nested
    inside = (loss[:, 1:-1] < loss[:, :-2]) & (loss[:, 1:-1] <= loss[:, 2:])
    tops = (loss[:, 1:-1] > loss[:, :-2] + 1e-12) & (loss[:, 1:-1] > loss[:, 2:] + 1e-12)
    # a parabola through three samples knows nothing of the formula
    fits = np.polyfit(alphas, loss[mixed].T, 2)
    seen = -fits[1] / (2 * fits[0])
    lifted = loss[data["lifted"].values][:, data["some"].values]
    return [
        at_most("arcs of another number than 3^d - 2^d falling", abs(falls.sum() - (3**modes - 2**modes)), 0.0),
        at_most("mixed arcs without exactly one minimum inside", np.sum(inside[mixed].sum(1) != 1), 0.0),
        at_most("nested arcs with a minimum inside", inside[nested & (kind != "constant")].sum(), 0.0),
        at_most("arcs with a maximum inside", tops.sum(), 0.0),
        at_least("smallest fall of a step to a larger signature", -steps[falls].max(), 1e-5),
        at_least("smallest rise of a step to a smaller signature", steps[rises].min(), 1e-5),
        at_most(
            "alpha* against a parabola fitted to the samples",
            np.abs(data["lowest_alpha"].values[mixed] - seen).max(),
            1e-12,
        ),
        at_most("alpha* against the formula", np.nanmax(np.abs(data["lowest_alpha"] - data["formula_alpha"])), 1e-13),
        at_most(
            "loss of networks above the arcs", np.abs(lifted - data["lifted_loss"].values).max() / loss.max(), 1e-12
        ),
        *golden(measured(data), GOLDEN),
    ]


def _alpha_star(a: tuple[int, ...], b: tuple[int, ...], sigma: tuple[float, ...]) -> float:
    """The minimum of the parabola; NaN for equal signatures."""
    square = lambda modes: sum(sigma[k - 1] ** 2 for k in modes)
    gained, lost = square(set(b) - set(a)), square(set(a) - set(b))
    return gained / (gained + lost) if gained + lost else float("nan")


def _lifted(objective: SquaredError, arc, alpha: float, rng: np.random.Generator, widths: tuple[int, ...]) -> float:
    """Loss of a network above the arc, in a random hidden basis."""
    bases = [rng.standard_normal((d, d)) + 3 * np.eye(d) for d in widths[1:-1]]
    network = landscape.change_basis(arc.network(alpha, widths), bases)
    return float(objective(jax.numpy.asarray(network.end_to_end)))
