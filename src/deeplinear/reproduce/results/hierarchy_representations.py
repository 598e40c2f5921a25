"""One function, different representations: a hierarchical task in an 8-8-8 network from five starts.

After learning, all networks compute the same function. Whether a layer's Gram matrix has taken the structure of the
task (task-specific) or is nearly a multiple of the identity (task-agnostic) depends on the start: N(0, 1e-3^2), N(0,
0.42^2), 0-balanced of scale 0.42, lambda = 100 and lambda = -100. Source: Domine et al. (2025), the figure of
representations; the task is the hierarchy of Braun et al. (2022), Fig. 3.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import init
from ...exact import two_layer
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from ...plots.matrices import MAPS
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `horizon` is long enough for the slowest mode from the smallest start."""

    width: int = 8
    small: float = 1e-3
    large: float = 0.42
    lam: float = 100.0
    horizon: float = 20.0
    points: int = 2
    seed: int = 0
    rtol: float = 1e-10


SETTINGS = QUICK = Settings()
STARTS = ("gaussian, small", "gaussian, large", "0-balanced", "lambda = +", "lambda = -")
EXACT = STARTS[2:]
GRAMS = {"gram_in": "inputs, $W_1^T W_1$", "gram_out": "outputs, $W_2 W_2^T$"}
LEARNED = 1e-15  # excess loss
GAP = 1e-11
SPECIFIC, BELOW_RICH, AGNOSTIC = 0.99, 0.95, 0.01
EXPECTED = {
    ("gaussian, small", "gram_in"): "specific",
    ("gaussian, small", "gram_out"): "specific",
    ("0-balanced", "gram_in"): "specific",
    ("0-balanced", "gram_out"): "specific",
    ("lambda = +", "gram_in"): "specific",
    ("lambda = +", "gram_out"): "agnostic",
    ("lambda = -", "gram_in"): "agnostic",
    ("lambda = -", "gram_out"): "specific",
}
GOLDEN: dict[str, float] = {
    "specificity of gram_in, gaussian, small": 0.9999994813,
    "specificity of gram_out, gaussian, small": 1.000000519,
    "specificity of gram_in, gaussian, large": 0.8106767913,
    "specificity of gram_out, gaussian, large": 0.8747525319,
    "specificity of gram_in, 0-balanced": 1,
    "specificity of gram_out, 0-balanced": 1,
    "specificity of gram_in, lambda = +": 1.79528663,
    "specificity of gram_out, lambda = +": 0.000841162142,
    "specificity of gram_in, lambda = -": 0.000841162142,
    "specificity of gram_out, lambda = -": 1.79528663,
}


def hierarchy() -> np.ndarray:
    """Outputs of the 8 items in rows, (8, 8): two levels of binary distinctions, and one feature of each pair."""
    branches = [(1, 1, 1, 0), (1, 1, -1, 0), (1, -1, 0, 1), (1, -1, 0, -1)]
    rows = [(*branch, *(sign * np.eye(4)[k])) for k, branch in enumerate(branches) for sign in (1, -1)]
    return np.array(rows, dtype=float)


def starts(settings: Settings) -> dict[str, Network]:
    """The five starts; for the 0-balanced one the first seed whose determinant has the sign of the task's."""
    widths, seed = (settings.width,) * 3, settings.seed
    sign = np.sign(np.linalg.det(hierarchy()))
    draws = (init.balanced(key, widths, scale=settings.large) for key in range(seed, seed + 100))
    balanced = next(network for network in draws if np.sign(np.linalg.det(network.end_to_end)) == sign)
    return {
        "gaussian, small": init.gaussian(seed, widths, settings.small),
        "gaussian, large": init.gaussian(seed, widths, settings.large),
        "0-balanced": balanced,
        "lambda = +": init.lambda_balanced(seed, widths, settings.lam, settings.large),
        "lambda = -": init.lambda_balanced(seed, widths, -settings.lam, settings.large),
    }


def specificity(gram: np.ndarray, task: np.ndarray) -> float:
    r"""How far a Gram matrix has the structure of the task: 0 for multiples of the identity, 1 for the rich solution.

    More than 1 where large modes outweigh small ones even more, as in $\Sigma^T \Sigma / \lambda$.

    $\langle G', T' \rangle \|T\| / (\|G\| \|T'\|^2)$ with $T$ the Gram matrix of the balanced solution, $\sqrt{\Sigma^T
    \Sigma}$ or $\sqrt{\Sigma \Sigma^T}$, and primes for what remains when the multiple of the identity is taken away.
    """
    off = lambda M: M - np.trace(M) / len(M) * np.eye(len(M))
    return float(
        np.sum(off(gram) * off(task)) * np.linalg.norm(task) / np.linalg.norm(off(task)) ** 2 / np.linalg.norm(gram)
    )


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Final Gram matrices of all starts, simulated and (where the start is balanced) exact."""
    Sigma = hierarchy().T  # white inputs: one-hot items, scaled to unit second moment
    objective = SquaredError.from_moments(Sigma)
    ts = np.linspace(0, settings.horizon, settings.points)
    grams = {name: np.full((len(STARTS), 2, *Sigma.shape), np.nan) for name in ("function", *GRAMS)}
    excess = np.zeros(len(STARTS))
    for k, (name, start) in enumerate(starts(settings).items()):
        flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
        W1, W2 = (np.asarray(W) for W in flow[len(flow) - 1].weights)
        excess[k] = float(objective.excess(flow.end_to_end[-1]))
        sources: list[dict[str, Any]] = [{"function": W2 @ W1, "gram_in": W1.T @ W1, "gram_out": W2 @ W2.T}]
        if name in EXACT:
            state = two_layer(objective, start)(ts[-1:])
            sources.append(
                {"function": state.end_to_end[0], "gram_in": state.gram_in[0], "gram_out": state.gram_out[0]}
            )
        for i, readings in enumerate(sources):
            for quantity, values in readings.items():
                grams[quantity][k, i] = values
    U, s, Vt = np.linalg.svd(Sigma)
    rich = {"gram_in": (Vt.T * s[None, :]) @ Vt, "gram_out": (U * s[None, :]) @ U.T}
    scores = [[specificity(grams[name][k, 0], rich[name]) for name in GRAMS] for k in range(len(STARTS))]
    gap = [
        [np.abs(grams[name][k, 0] - grams[name][k, 1]).max() / np.abs(grams[name][k, 1]).max() for name in grams]
        for k in range(len(STARTS))
    ]
    variables: dict[str, Any] = {
        name: (("start", "source", f"{name}_row", f"{name}_column"), values) for name, values in grams.items()
    }
    variables |= {f"rich_{name}": ((f"{name}_row", f"{name}_column"), values) for name, values in rich.items()}
    variables |= {
        "excess": ("start", excess),
        "specificity": (("start", "gram"), scores),
        "gap": (("start", "quantity"), gap),
    }
    coordinates = {
        "start": list(STARTS),
        "source": ["simulation", "theory"],
        "gram": list(GRAMS),
        "quantity": list(grams),
    }
    return xr.Dataset(variables, coordinates, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """Function and both Gram matrices of every start, with the score of each; every panel has its own colour scale."""
    lam = data.attrs["lam"]
    heads = (
        f"Gaussian, σ = {data.attrs['small']:g}",
        f"Gaussian, σ = {data.attrs['large']:g}",
        "0-balanced",
        f"λ = {lam:g}",
        f"λ = −{lam:g}",
    )
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.subplots(3, len(STARTS))
    for j, name in enumerate(STARTS):
        for i, quantity in enumerate(("function", *GRAMS)):
            ax = axes[i, j]
            values = data[quantity].sel(start=name, source="simulation").values
            bound = np.abs(values).max()
            ax.imshow(values, cmap=MAPS[0], vmin=-bound, vmax=bound, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            if i == 0:
                ax.set_title(heads[j], fontsize=style.TEXT)
            else:
                score = float(data["specificity"].sel(start=name, gram=quantity))
                ax.set_xlabel(f"specificity {score:.2f}", fontsize=style.TEXT)
            if j == 0:
                ax.set_ylabel({"function": "function, $W_2 W_1$", **GRAMS}[quantity], fontsize=style.TEXT)
    heading = (
        "The same function, different representations of an 8-item hierarchy (white: 0; panels have their own scales)"
    )
    figure.suptitle(heading, x=0.01, ha="left", fontsize=style.TEXT + 1)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    return {
        f"specificity of {gram}, {name}": float(data["specificity"].sel(start=name, gram=gram))
        for name in STARTS
        for gram in GRAMS
    }


def check(data: xr.Dataset) -> list[Checked]:
    r"""All networks learn; which Gram matrix is task-specific; exact ones agree, also with a closed form by hand.

    By hand, for a lambda-balanced network that has learned: $W_1^T W_1 = -\lambda / 2 + \sqrt{\lambda^2 / 4 + \Sigma^T
    \Sigma}$.
    """
    between = [(gram, abs(float(data["specificity"].sel(start=STARTS[1], gram=gram)))) for gram in GRAMS]
    checks = [at_most(f"{gram} is less task-specific, {STARTS[1]}", score, BELOW_RICH) for gram, score in between]
    checks += [at_most(f"excess loss, {name}", data["excess"].sel(start=name), LEARNED) for name in STARTS]
    for (name, gram), kind in EXPECTED.items():
        score, label = float(data["specificity"].sel(start=name, gram=gram)), f"{gram} is task-{kind}, {name}"
        checks.append(at_least(label, score, SPECIFIC) if kind == "specific" else at_most(label, abs(score), AGNOSTIC))
    for name in EXACT:
        checks += [
            at_most(f"gap of {quantity}, {name}", data["gap"].sel(start=name, quantity=quantity), GAP)
            for quantity in data["quantity"].values
        ]
    s2, V = np.linalg.eigh(hierarchy() @ hierarchy().T)
    for name, lam in zip(EXACT, (0.0, data.attrs["lam"], -data.attrs["lam"]), strict=True):
        by_hand = (V * (np.sqrt(lam**2 / 4 + s2) - lam / 2)[None, :]) @ V.T
        error = np.abs(data["gram_in"].sel(start=name, source="theory").values - by_hand).max() / np.abs(by_hand).max()
        checks.append(at_most(f"W_1^T W_1 by hand, {name}", error, GAP))
    return [*checks, *golden(measured(data), GOLDEN)]
