r"""Every critical value of four landscapes: its signature, kind and inertia, against dense Hessians.

Semantic development (16 signatures, two of equal singular values), correlated inputs at depth 3, a bottleneck, fewer
inputs than outputs. Source: Achour, Malgouyres and Gerchinovitz (2024) for the classification; Wendin and Altafini
(2025), a survey of gradient flow equations for deep linear networks, propositions 14 and 18, with the exact condition
for critical points and the inertia derived here. Data other than the semantic are ours.
"""

from dataclasses import asdict, dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import curvature, landscape, tasks
from ...landscape import classify, network_on_fibre
from ...network import Network
from ...objectives import SquaredError
from ...plots import critical as drawing
from ...plots import style
from ..checks import Checked, at_least, at_most, golden

Widths = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """Parameters: which landscapes, and how many further points of each fibre are classified."""

    landscapes: tuple[str, ...] = ("semantic", "correlated", "bottleneck", "few inputs")
    drawn: int = 2
    seed: int = 0


SETTINGS = Settings()
QUICK = Settings(landscapes=("semantic", "bottleneck"), drawn=1)
ZERO = 1e-9  # eigenvalues below this share of the largest are zero; the gap is checked
SIGNS = ("negative", "zero", "positive")
GOLDEN: dict[str, float] = {
    "semantic: signatures": 16,
    "semantic: highest value": 0.375,
    "semantic: value where only mode 1 is learned": 0.15625,
    "semantic: strict saddles": 15,
}


def landscape_of(name: str) -> tuple[SquaredError, Widths]:
    """Objective and widths of one of the landscapes."""
    rng = np.random.default_rng(3)
    if name == "semantic":
        return SquaredError.from_data(tasks.semantic().moments), (4, 5, 7)
    if name == "correlated":
        X = rng.standard_normal((40, 4)) @ np.diag([1.4, 1.1, 0.9, 0.6])
        Y = X @ rng.standard_normal((4, 3)) + 0.3 * rng.standard_normal((40, 3))
        return SquaredError.of(X, Y), (4, 3, 4, 3)
    if name == "bottleneck":
        return SquaredError.from_singular_values([4.0, 3.0, 2.0, 1.0], 4, 4), (4, 2, 3, 4)
    return SquaredError.from_singular_values([3.0, 2.0, 1.0], 3, 5), (3, 4, 3, 4, 5)


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """All critical points of every landscape, by formula and by dense Hessian of a representative."""
    rows = [
        _row(name, *landscape_of(name), point, settings)
        for name in settings.landscapes
        for point in landscape.critical_points(*landscape_of(name))
    ]
    column = lambda key: [row[key] for row in rows]
    variables = {
        "inertia": (("point", "sign"), column("inertia"), {"long_name": "signs of eigenvalues by formula"}),
        "counted": (("point", "sign"), column("counted"), {"long_name": "signs of eigenvalues of the dense Hessian"}),
        **{
            key: ("point", column(key))
            for key in ("value", "loss", "gradient_norm", "gap", "kind", "kind_counted", "signature", "landscape")
        },
        **{key: ("point", column(key)) for key in ("classified", "wrong_kinds", "certificates", "highest_certificate")},
    }
    widths = {name: "-".join(map(str, landscape_of(name)[1])) for name in settings.landscapes}
    attributes = asdict(settings) | {"widths": [widths[name] for name in settings.landscapes]}
    return xr.Dataset(variables, {"sign": list(SIGNS)}, attributes)


def figure(data: xr.Dataset) -> Figure:
    """One panel a landscape: a bar for every critical value, the lowest below."""
    names, widths = list(data.attrs["landscapes"]), list(data.attrs["widths"])
    figure = Figure(figsize=(8.6, 2.9 * ((len(names) + 1) // 2) + 0.7), layout="constrained")
    axes = figure.subplots((len(names) + 1) // 2, 2).ravel()
    for ax, name, shape in zip(axes, names, widths, strict=True):
        drawing.inertia_bars(data.isel(point=np.flatnonzero(data["landscape"].values == name)), ax)
        ax.set_title(f"{name}, {shape}", loc="left", fontsize=style.TEXT + 1.5)
    drawing.inertia_key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    semantic = data.isel(point=np.flatnonzero(data["landscape"].values == "semantic"))
    kinds = semantic["kind"].values
    return {
        "semantic: signatures": float(kinds.size),
        "semantic: highest value": float(semantic["value"].max()),
        "semantic: value where only mode 1 is learned": float(semantic["value"].values[semantic["signature"] == "{1}"][0]),
        "semantic: strict saddles": float(np.sum(kinds == "strict saddle")),
    }


def check(data: xr.Dataset) -> list[Checked]:
    """Values, gradients, inertia and kinds against dense Hessians; further points of the fibres; stored numbers."""
    scale = max(float(data["value"].max()), 1.0)
    return [
        at_most("loss of representatives against the formula", np.abs(data["loss"] - data["value"]).max() / scale, 1e-13),
        at_most("gradient norm of representatives", data["gradient_norm"].max(), 1e-12),
        at_most("signs of eigenvalues off the formula", np.abs(data["inertia"] - data["counted"]).sum(), 0),
        at_most("kinds off the dense Hessian's", np.sum(data["kind"].values != data["kind_counted"].values), 0),
        at_least("narrowest gap in a spectrum, as a ratio", data["gap"].min(), 1e3),
        at_least("further points classified", data["classified"].sum(), data.sizes["point"]),
        at_most("further points whose kind is not the dense Hessian's", data["wrong_kinds"].sum(), 0),
        at_least("certificates of strict saddles", data["certificates"].sum(), 1),
        at_most("highest certificate", data["highest_certificate"].max(), -1e-3),
        *golden(measured(data), GOLDEN),
    ]


def _row(name: str, objective: SquaredError, widths: Widths, point, settings: Settings) -> dict:
    """What is known and what is counted of one critical value."""
    network = network_on_fibre(objective, point.signature, settings.seed, widths)
    counted, gap = _signs(objective, network)
    wrong, certificates = 0, []
    generators = ("two zero", "cyclic")[: settings.drawn]
    for k, generator in enumerate(generators):
        other = network_on_fibre(
            objective, point.signature, 1 + k, widths, generator=generator, basis="general", condition=3.0
        )
        found = classify(objective, other)
        wrong += found.kind != _kind_of(point, _signs(objective, other)[0])
        if found.certificate is not None:
            certificates.append(float(curvature.quadratic_form(objective, other, found.certificate.direction)))
    gradient = np.asarray(objective.gradient(network.end_to_end))
    return {
        "landscape": name,
        "signature": "{" + ", ".join(map(str, point.signature)) + "}",
        "value": point.value,
        "loss": float(objective(network.end_to_end)),
        "gradient_norm": _gradient_norm(network, gradient),
        "inertia": tuple(point.inertia),
        "counted": counted,
        "kind": point.kind,
        "kind_counted": _kind_of(point, counted),
        "gap": gap,
        "classified": len(generators),
        "wrong_kinds": wrong,
        "certificates": len(certificates),
        "highest_certificate": max(certificates, default=-1.0),
    }


def _signs(objective: SquaredError, network: Network) -> tuple[tuple[int, int, int], float]:
    """Negative, zero and positive eigenvalues of the dense Hessian, and the ratio that separates zero from the rest."""
    H = np.asarray(curvature.hessian(objective, network))
    values = np.linalg.eigvalsh((H + H.T) / 2)
    size = np.abs(values).max()
    if size < 1e-12:  # the origin of a deep network
        return (0, values.size, 0), np.inf
    negative, positive = int(np.sum(values < -ZERO * size)), int(np.sum(values > ZERO * size))
    moduli = np.abs(values) / size
    gap = moduli[moduli > ZERO].min() / max(moduli[moduli <= ZERO].max(initial=0.0), 1e-17)
    return (negative, values.size - negative - positive, positive), float(gap)


def _kind_of(point, counted: tuple[int, int, int]) -> str:
    """What the dense Hessian says; it cannot tell a minimum from a non-strict saddle, the value can."""
    if counted[0]:
        return "strict saddle"
    lowest = point.target.value(tuple(range(1, point.target.max_rank(point.widths) + 1)))
    return "global minimum" if point.value <= lowest * (1 + 1e-12) + 1e-12 else "non-strict saddle"


def _gradient_norm(network: Network, gradient: np.ndarray) -> float:
    """Norm of the gradient with respect to all weights, W_{l+1:h}^T G W_{1:l-1}^T."""
    h, parts = network.depth, []
    for l in range(1, h + 1):
        below = np.asarray(network.product(1, l - 1)) if l > 1 else np.eye(network.widths[0])
        above = np.asarray(network.product(l + 1, h)) if l < h else np.eye(network.widths[-1])
        parts.append(np.linalg.norm(above.T @ gradient @ below.T))
    return float(jnp.linalg.norm(jnp.asarray(parts)))
