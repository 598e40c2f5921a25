"""Alignment of layers needs well separated modes: two delta-balanced runs of widths 11, 6, 6, 6, 6, 4, delta = 0.04.

With singular values 1.5 apart the singular vectors of neighbouring layers align as each mode is learned; where they are
pairwise 0.1 apart, the pairs stay turned within their planes, while vectors of different pairs are still orthogonal.
Exactly, (v^T u)^2 <= |C|^2 / (s^2 - s'^2)^2 for vectors of neighbouring layers with singular values s' and s. Source:
Wendin and Altafini (survey), sections 5.3.1, 6.1 and figure 3, with its errata; Arora et al. (2019) for delta-balance;
singular values and draws are our own.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import diagnostics, init, plots
from ...network import Network
from ...objectives import SquaredError
from .. import layered_runs
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import late


@dataclass(frozen=True)
class Settings:
    """Parameters; `spectra` are the singular values of the two tasks, `transitions` where times are finer."""

    widths: tuple[int, ...] = (11, 6, 6, 6, 6, 4)
    spectra: tuple[tuple[float, ...], ...] = ((6.0, 4.5, 3.0, 1.5), (6.0, 5.9, 3.0, 2.9))
    delta: float = 0.04
    times: tuple[float, float] = (1.0, 1e4)
    transitions: tuple[tuple[float, ...], ...] = (
        (124.722, 313.591, 900.804, 6978.88),
        (122.886, 230.564, 653.192, 646.159),
    )
    seed: int = 3
    points: int = 400
    rtol: float = 1e-7


SETTINGS = QUICK = Settings()
TITLES = {"apart": "Modes 1.5 apart: the layers align", "pairs": "Modes pairwise 0.1 apart: they do not"}
GOLDEN: dict[str, float] = {
    "half-time of mode 1, apart": 124.7216843,
    "least alignment of pair 1 in the end, apart": 0.9985062585,
    "half-time of mode 2, apart": 313.5912488,
    "least alignment of pair 2 in the end, apart": 0.998449527,
    "half-time of mode 3, apart": 900.8040643,
    "least alignment of pair 3 in the end, apart": 0.9994033477,
    "half-time of mode 4, apart": 6978.88042,
    "least alignment of pair 4 in the end, apart": 0.9999451275,
    "half-time of mode 1, pairs": 122.8862151,
    "least alignment of pair 1 in the end, pairs": 0.6908459477,
    "half-time of mode 2, pairs": 230.5635439,
    "least alignment of pair 2 in the end, pairs": 0.6908725846,
    "half-time of mode 3, pairs": 653.1919047,
    "least alignment of pair 3 in the end, pairs": 0.9848801909,
    "half-time of mode 4, pairs": 646.15918,
    "least alignment of pair 4 in the end, pairs": 0.9851324191,
}


def start_of(settings: Settings) -> Network:
    r"""A Gaussian start, scaled until the largest $\|C_l\|_F$ is delta."""
    network = init.gaussian(settings.seed, settings.widths, 1.0)
    scale = (settings.delta / float(diagnostics.imbalance_norms(network).max())) ** 0.5
    return Network([scale * W for W in network.weights])


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Both runs, from one start."""
    start, runs = start_of(settings), {}
    for case, s, transitions in zip(TITLES, settings.spectra, settings.transitions, strict=True):
        ts = layered_runs.times_around(transitions, *settings.times, settings.points)
        objective = SquaredError.from_singular_values(s, settings.widths[0], settings.widths[-1])
        runs[case] = layered_runs.watched(objective, start, ts, settings.rtol)
    return layered_runs.cases(runs, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """One column a task: mode strengths, singular values of all layers, alignment of the pairs of singular vectors."""
    return layered_runs.columns(data, TITLES, (plots.modes, plots.layers_together, plots.alignment, plots.misalignment))


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times, and the least alignment of every pair in the end."""
    numbers = {}
    for case in TITLES:
        for mode in data["mode"].values:
            numbers[f"half-time of mode {mode}, {case}"] = float(data["half_time"].sel(case=case, mode=mode))
            aligned = late(data, "alignment", case)[:, mode - 1].min()
            numbers[f"least alignment of pair {mode} in the end, {case}"] = float(aligned)
    return numbers


def bounded(data: xr.Dataset) -> float:
    """The largest squared overlap over the bound that |C|^2 and the gap of the singular values give it."""
    overlaps, terms = data["overlap"].values, data["imbalance_terms"].values
    norms = data["imbalance_norms"].values[..., None, None]
    seen = overlaps > 1e-9  # rounding below that
    return float(np.max(terms[seen] / np.broadcast_to(norms**2, terms.shape)[seen]))


def across(data: xr.Dataset) -> float:
    """The largest overlap |v^T u| between vectors of different pairs in the end."""
    blocks = np.sqrt(late(data, "overlap", "pairs")[:, :4, :4])
    return float(max(blocks[:, :2, 2:].max(), blocks[:, 2:, :2].max()))


def laplacian_excess(data: xr.Dataset) -> float:
    r"""How far the printed bound $2 \mu^T L \mu \le \|C_l\|_F^2$ is passed anywhere, as a ratio; 1: it holds."""
    spectra, Theta = data["layer_singular_values"].values, data["overlap"].values
    mu = np.nan_to_num(spectra[:, :, :-1, : Theta.shape[-1]]) ** 2  # of the layer below the junction
    symmetric = (Theta + np.swapaxes(Theta, -1, -2)) / 2
    form = np.sum(symmetric * (mu[..., :, None] - mu[..., None, :]) ** 2, axis=(-1, -2))
    return float(np.max(form / data["imbalance_norms"].values ** 2))


def check(data: xr.Dataset) -> list[Checked]:
    """delta-balance and what follows from it at all times, alignment in the end, stored numbers."""
    delta, spectra = data.attrs["delta"], np.array(data.attrs["spectra"])
    strengths = data["mode_strengths"].isel(step=-1).values
    pairs = late(data, "alignment", "pairs")
    return [
        at_most("delta in use", data["imbalance_norms"].max(), delta * (1 + 1e-7)),
        at_most("drift of the conserved quantities", layered_runs.drift(data), data.attrs["rtol"]),
        at_most("singular values of neighbours apart by no more than delta", data["synchronisation"].max(), delta),
        at_most("terms of |C|^2 against their sum", layered_runs.identity_gap(data), 1e-9),
        at_most("every overlap over its bound |C|^2 / (s^2 - s'^2)^2", bounded(data), 1 + 1e-6),
        at_least(
            "the printed form of that bound, with equal singular values, fails: ratio", laplacian_excess(data), 1.01
        ),
        at_least("apart: least alignment in the end", late(data, "alignment", "apart").min(), 0.99),
        at_most("apart: misalignment in the end", late(data, "misalignment", "apart").max(), 0.02),
        at_most("pairs: least alignment in the end", pairs.min(), 0.9),
        at_least("pairs: misalignment in the end", late(data, "misalignment", "pairs").max(), 0.5),
        at_most("pairs: overlap of vectors of different pairs in the end", across(data), 0.1),
        at_most("both learn everything: mode strengths in the end", np.abs(strengths / spectra - 1).max(), 1e-3),
        *golden(measured(data), GOLDEN),
    ]
