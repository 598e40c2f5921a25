"""Sequential learning near the origin and none away from it: a network of widths 11, 6, 6, 6, 6, 4.

198 weights, 39 nodes, 84 independent conserved quantities. Near the origin the four modes are learned one after
another, strongest first; the 5 layers share 4 large singular values each and align, all else stays small. Away from the
origin there is no order, no alignment, and the norm of the weights is not monotone. Source: Wendin and Altafini
(survey), section 6.1 and figure 2, with its errata; Arora et al. (2019) for greedy learning; singular values and draws
are our own.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import diagnostics, init, plots
from ...objectives import SquaredError
from .. import layered_runs
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import late


@dataclass(frozen=True)
class Settings:
    """Parameters; a case has its seed, the standard deviation of its weights and the range of its times,
    finer around where it is expected to learn."""

    widths: tuple[int, ...] = (11, 6, 6, 6, 6, 4)
    s: tuple[float, ...] = (6.0, 4.5, 3.0, 1.5)
    scales: tuple[float, float] = (0.045, 0.9)
    times: tuple[tuple[float, float], ...] = ((1.0, 6e3), (1e-3, 20.0))
    transitions: tuple[tuple[float, ...], ...] = (
        (72.2954, 181.792, 522.266, 4063.81),
        (0.0022098, 0.134072, 0.00357153, 0.0200181),
    )
    seeds: tuple[int, int] = (3, 0)
    points: int = 400
    rtol: float = 1e-7


SETTINGS = QUICK = Settings()
TITLES = {"near": "Start near the origin", "away": "Start away from the origin"}
LARGE = 0.5  # singular values of layers above this part of s_min^(1/h) are large
LOWEST = 1e-3  # loss drawn
GOLDEN: dict[str, float] = {
    "half-time of mode 1, near": 72.29542142,
    "half-time of mode 2, near": 181.792342,
    "half-time of mode 3, near": 522.2656477,
    "half-time of mode 4, near": 4063.81312,
    "half-time of mode 1, away": 0.002209807375,
    "half-time of mode 2, away": 0.1340723803,
    "half-time of mode 3, away": 0.003571528207,
    "half-time of mode 4, away": 0.0200180924,
    "norm of all weights in the end, near": 5.747808086,
    "norm of all weights in the end, away": 12.02335079,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Both runs."""
    objective = SquaredError.from_singular_values(settings.s, settings.widths[0], settings.widths[-1])
    runs = {}
    for k, (case, seed, scale) in enumerate(zip(TITLES, settings.seeds, settings.scales, strict=True)):
        start = init.gaussian(seed, settings.widths, scale)
        ts = layered_runs.times_around(settings.transitions[k], *settings.times[k], settings.points)
        runs[case] = layered_runs.watched(objective, start, ts, settings.rtol)
        runs[case]["conservation_rank"] = int(diagnostics.conservation_rank(start))
        runs[case]["weights"] = sum(W.size for W in start.weights)
    return layered_runs.cases(runs, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """One column a start: loss, singular values of the product and of all layers, norm of the weights, misalignment."""
    return layered_runs.columns(
        data.isel(step=slice(1, None)),
        TITLES,
        (_loss, plots.modes, plots.layers_together, plots.weight_norm, plots.misalignment),
    )


def _loss(run: xr.Dataset, ax: Axes) -> Axes:
    """The loss down to where the plateaus are over."""
    return plots.loss(run.assign(loss=run["loss"].where(run["loss"] > LOWEST)), ax)


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times of all modes, and the norm of the weights in the end."""
    numbers = {
        f"half-time of mode {mode}, {case}": float(data["half_time"].sel(case=case, mode=mode))
        for case in TITLES
        for mode in data["mode"].values
    }
    norms = {f"norm of all weights in the end, {case}": late(data, "weight_norm", case) for case in TITLES}
    return numbers | {name: float(norm) for name, norm in norms.items()}


def large(data: xr.Dataset, case: str) -> int:
    """How many singular values of the layers, together those of the adjacency matrix, are large in the end."""
    s, widths = data.attrs["s"], data.attrs["widths"]
    return int(np.sum(late(data, "layer_singular_values", case) > LARGE * min(s) ** (1 / (len(widths) - 1))))


def separation(data: xr.Dataset, case: str) -> float:
    """The singular value of the layers after the h d_y largest, over the smallest of those, in the end."""
    values = late(data, "layer_singular_values", case)
    ordered = np.sort(values[np.isfinite(values)])[::-1]
    count = (len(data.attrs["widths"]) - 1) * data.attrs["widths"][-1]
    return float(ordered[count] / ordered[count - 1])


def check(data: xr.Dataset) -> list[Checked]:
    """What is counted; order, alignment and size of both runs; what is conserved; stored numbers."""
    widths, s = data.attrs["widths"], np.array(data.attrs["s"])
    end = {case: late(data, "weight_norm", case) for case in TITLES}
    half = {case: data["half_time"].sel(case=case).values for case in TITLES}
    balanced = np.sqrt((len(widths) - 1) * np.sum(s ** (2 / (len(widths) - 1))))
    norm = data["weight_norm"].sel(case="away").values
    ratio = {case: np.min(times[1:] / times[:-1]) for case, times in half.items()}
    strengths = data["mode_strengths"].isel(step=-1).values
    sync = (data["synchronisation"] - data["imbalance_norms"]).max()
    visits = data["greedy_low_rank"].sel(case="near").values
    off = lambda value, expected: abs(float(value) - expected)
    return [
        at_most("weights: 198", off(data["weights"].max(), 198), 0.0),
        at_most("nodes: 39", off(sum(widths), 39), 0.0),
        at_most("conserved quantities, by formula: 84", off(diagnostics.conservation_laws(widths), 84), 0.0),
        at_most("conserved quantities, by their derivative's rank: 84", off(data["conservation_rank"].min(), 84), 0.0),
        at_most("drift of the conserved quantities", layered_runs.drift(data), data.attrs["rtol"]),
        at_most("terms of |C|^2 against their sum", layered_runs.identity_gap(data), 1e-9),
        at_most("singular values of neighbours apart by no more than |C|", sync, 1e-9),
        at_least("near: each mode later than the one before it, smallest ratio", ratio["near"], 1.3),
        at_most("near: closest to the best map of rank 1, 2, 3", visits.min(axis=0)[:3].max(), 0.02),
        at_least("near: they are visited in order", np.diff(visits.argmin(axis=0)).min(), 1.0),
        at_most("near: h d_y = 20 large singular values of A", off(large(data, "near"), 20), 0.0),
        at_most("near: the 21st over the 20th", separation(data, "near"), 0.2),
        at_most("near: misalignment in the end", late(data, "misalignment", "near").max(), 0.05),
        at_most("near: |A| over that of a balanced network, minus 1", off(end["near"] / balanced, 1), 0.01),
        at_most("away: smallest ratio of half-times of neighbours (order is lost)", ratio["away"], 0.5),
        at_least("away: large singular values of A", large(data, "away"), 21.0),
        at_least("away: misalignment in the end", late(data, "misalignment", "away").min(), 1.0),
        at_least("away: |A| rises after it has fallen, relatively", norm[-1] / norm.min() - 1, 1e-3),
        at_most("both learn everything: mode strengths in the end", np.abs(strengths / s - 1).max(), 1e-3),
        *golden(measured(data), GOLDEN),
    ]  # fmt: skip
