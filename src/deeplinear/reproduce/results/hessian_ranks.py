r"""Ranks of the Hessian: 150, 175 and 250 of 275 at a random point of 25-5-10-10, and r (d_x + d_y - r) at minima.

The rank of the outer product (Gauss-Newton) part, of the functional part and of their sum, read off dense Hessians as
the gap in their spectra, against closed forms. Source: Singh, Bachmann and Hofmann (2021), analytic insights into the
structure and rank of neural network Hessian maps, the figure of linear networks; at minima Wendin and Altafini (2025)
with the dimension of the set of minima corrected. Samples and further shapes are ours.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import curvature, init
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from ..checks import Checked, at_least, at_most, golden

Widths = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    widths: Widths = (25, 5, 10, 10)
    samples: int = 100
    others: tuple[Widths, ...] = ((3, 5, 3), (4, 4, 5, 3), (6, 2, 5, 4), (2, 4, 4, 6))  # minima as well
    condition: float = 2.0
    seed: int = 1


SETTINGS, QUICK = Settings(), Settings(others=((3, 5, 3), (6, 2, 5, 4)))
PARTS = {"outer product": "outer product", "functional": "functional", "total": "whole Hessian"}
ROUNDING = 1e-11  # eigenvalues below this share of the largest are zero; the gap is checked
GOLDEN: dict[str, float] = {
    "rank, outer product": 150,
    "rank, functional": 175,
    "rank, total": 250,
    "weights": 275,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Moduli of all eigenvalues, largest first, and what theory says of their number."""
    shapes = (settings.widths, *settings.others)
    spectra = [_at_random_point(widths, settings) for widths in shapes]
    predicted = [curvature.hessian_ranks(widths)[:3] for widths in shapes]
    minima = [_at_minimum(widths, settings) for widths in settings.others]
    at_minima = [curvature.rank_at_minimum(widths, min(widths[0], widths[-1])) for widths in settings.others]
    name = lambda widths: "-".join(map(str, widths))
    variables = {
        "spectrum": (("shape", "part", "index"), _padded(spectra), {"long_name": "moduli of eigenvalues"}),
        "rank": (("shape", "part"), predicted),
        "minimum_spectrum": (("minimum", "place"), _padded(minima), {"long_name": "moduli of eigenvalues at a minimum"}),
        "minimum_rank": ("minimum", at_minima),
        "dimension": ("minimum", [sum(a * b for a, b in zip(w, w[1:], strict=False)) for w in settings.others]),
    }
    coordinates = {
        "shape": [name(widths) for widths in shapes],
        "minimum": [name(widths) for widths in settings.others],
        "part": list(PARTS),
    }
    return xr.Dataset(variables, coordinates, _attributes(settings))


def figure(data: xr.Dataset) -> Figure:
    """Spectra at the random point at the left, at minima at the right; ticks where theory says that they end."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    published = data.isel(shape=0)
    for k, (part, text) in enumerate(PARTS.items()):
        rank = int(published["rank"].sel(part=part))
        _spectrum(left, published["spectrum"].sel(part=part).values, rank, k, f"{text}: {rank}")
    _finish(left, f"Random point of {published['shape'].item()}", "lower left")
    for k, shape in enumerate(data["minimum"].values):
        rank, size = int(data["minimum_rank"][k]), int(data["dimension"][k])
        _spectrum(right, data["minimum_spectrum"].values[k], rank, k, f"{shape}: {rank} of {size}")
    _finish(right, "Global minima", "upper right")
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    ranks = _ranks(data["spectrum"].values[0])
    return {f"rank, {part}": float(rank) for part, rank in zip(PARTS, ranks, strict=True)} | {
        "weights": float(np.isfinite(data["spectrum"].values[0, 0]).sum())
    }


def check(data: xr.Dataset) -> list[Checked]:
    """Ranks of dense Hessians against the formulas; how clear the gaps are; the published numbers."""
    spectra, minima = data["spectrum"].values, data["minimum_spectrum"].values
    ranks, at_minima = _ranks(spectra), _ranks(minima)
    return [
        at_most("ranks at random points off the formulas", np.abs(ranks - data["rank"].values).sum(), 0),
        at_most("ranks at minima off r (d_x + d_y - r)", np.abs(at_minima - data["minimum_rank"].values).sum(), 0),
        at_least("narrowest gap in a spectrum, as a ratio", min(_gap(spectra), _gap(minima)), 1e4),
        at_least("largest share of zeros at a minimum", (1 - at_minima / data["dimension"].values).max(), 0.3),
        *golden(measured(data), GOLDEN),
    ]


def _at_random_point(widths: Widths, settings: Settings) -> np.ndarray:
    """Moduli of the eigenvalues of the three matrices, (part, index)."""
    rng = np.random.default_rng(settings.seed)
    X, Y = (rng.standard_normal((settings.samples, d)) for d in (widths[0], widths[-1]))
    objective = SquaredError.of(X, Y)
    network = Network([rng.standard_normal((b, a)) / a**0.5 for a, b in zip(widths, widths[1:], strict=False)])
    fitted = SquaredError.of(X, X @ np.asarray(network.end_to_end).T)  # no residual: the outer product alone
    whole, outer = (np.asarray(curvature.hessian(loss, network)) for loss in (objective, fitted))
    return np.stack([_moduli(H) for H in (outer, whole - outer, whole)])


def _at_minimum(widths: Widths, settings: Settings) -> np.ndarray:
    s = np.linspace(2.0, 1.0, min(widths[0], widths[-1]))
    objective = SquaredError.from_singular_values(s, widths[0], widths[-1])
    best = objective.optimum_at_rank(min(widths))
    network = init.from_product(settings.seed, widths, best, condition=settings.condition)
    return _moduli(np.asarray(curvature.hessian(objective, network)))


def _moduli(H: np.ndarray) -> np.ndarray:
    return np.sort(np.abs(np.linalg.eigvalsh((H + H.T) / 2)))[::-1]


def _ranks(spectra: np.ndarray) -> np.ndarray:
    return np.nansum(spectra > ROUNDING * np.nanmax(spectra, axis=-1, keepdims=True), axis=-1)


def _gap(spectra: np.ndarray) -> float:
    """Smallest eigenvalue that counts over the largest that does not, in the worst spectrum that has zeros."""
    shares = spectra / np.nanmax(spectra, axis=-1, keepdims=True, where=spectra > 0, initial=1e-300)
    kept = np.where(shares > ROUNDING, shares, np.inf).min(axis=-1)
    lost = np.nanmax(np.where(shares > ROUNDING, 0.0, shares), axis=-1)
    real = np.isfinite(kept) & (np.nanmax(spectra, axis=-1) > 1e-12)
    return float((kept[real] / np.maximum(lost[real], 1e-17)).min())


def _padded(spectra: list[np.ndarray]) -> np.ndarray:
    longest = max(spectrum.shape[-1] for spectrum in spectra)
    pad = lambda spectrum: [(0, 0)] * (spectrum.ndim - 1) + [(0, longest - spectrum.shape[-1])]
    return np.stack([np.pad(spectrum, pad(spectrum), constant_values=np.nan) for spectrum in spectra])


def _attributes(settings: Settings) -> dict:
    """The settings; lists of shapes of different lengths as text, for they fit into no array."""
    return {key: str(value) if key == "others" else value for key, value in asdict(settings).items()}


def _spectrum(ax: Axes, values: np.ndarray, rank: int, k: int, label: str) -> None:
    values = values[np.isfinite(values)]
    ax.plot(np.arange(1, values.size + 1), np.maximum(values, 1e-19), color=style.colour(k), linewidth=1.5, label=label)
    ax.axvline(rank + 0.5, color=style.colour(k), linewidth=0.9, linestyle=":")


def _finish(ax: Axes, title: str, key: str) -> None:
    style.canvas(ax, title)
    ax.set_yscale("log")
    ax.set_ylim(1e-19, 1e3)
    ax.set_xlim(left=0)
    ax.set_xlabel("number of the eigenvalue", fontsize=style.TEXT)
    ax.set_ylabel("modulus", fontsize=style.TEXT)
    ax.legend(title="rank by theory (dotted)", fontsize=style.TEXT - 0.5, title_fontsize=style.TEXT - 0.5, frameon=False,
              loc=key)  # fmt: skip
