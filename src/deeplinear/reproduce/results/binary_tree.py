"""A binary tree of 8 items and 15 features is learned level by level, broad distinctions first.

The features have the singular values sqrt 15, sqrt 7, sqrt 3 (twice) and 1 (four times), one for each level of the
tree; from equal small starts each level is learned at its own time, by the closed form of a balanced mode. Source: Saxe
et al. (2019), hierarchical structure and progressive differentiation; the start is our own.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import diagnostics, init, tasks
from ...exact import half_time, mode_strength
from ...flows import gradient_flow
from ...objectives import SquaredError
from ...plots import style
from ...plots.matrices import MAPS
from .. import overlay
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import crossings


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    levels: int = 4
    hidden: int = 16
    start: float = 1e-3
    horizon: float = 50.0
    points: int = 1001
    seed: int = 0
    rtol: float = 1e-10


SETTINGS = QUICK = Settings()
SQUARES = (15, 7, 3, 3, 1, 1, 1, 1)
LEVELS = ((0,), (1,), (2, 3), (4, 5, 6, 7))
GAP = 1e-8
GOLDEN: dict[str, float] = {
    "half-time of level 1": 6.382955858,
    "half-time of level 2": 8.766116037,
    "half-time of level 3": 12.40838995,
    "half-time of level 4": 19.28112622,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """The flow from equal strengths beside the closed form, and the modes of the tree."""
    task = tasks.hierarchy(settings.levels)
    objective = SquaredError.from_data(task.moments)
    widths = (task.X.shape[1], settings.hidden, task.Y.shape[1])
    start = init.decoupled(settings.seed, objective, widths, settings.start)
    ts = np.linspace(0, settings.horizon, settings.points)
    flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
    _, s, V = (np.asarray(part) for part in objective.modes)
    simulated = np.asarray(flow.map(diagnostics.mode_strengths(objective)))
    variables = {
        "strength": (
            ("source", "time", "mode"),
            np.stack([simulated, mode_strength(ts, settings.start, s, 2)]),
            {"long_name": "strength of the mode"},
        ),
        "half_time": (
            ("source", "mode"),
            np.stack([crossings(ts, simulated, s / 2), half_time(settings.start, s, 2)]),
            {"long_name": "time of half strength"},
        ),
        "singular_values": ("mode", s * len(task.Y), {"long_name": "singular values of the features"}),
        "features": (("item", "feature"), task.Y, {"long_name": "features of the items"}),
        "item_modes": (("item", "mode"), V, {"long_name": "what a mode distinguishes"}),
        "norm": ("time", np.linalg.norm(np.asarray(flow.end_to_end), axis=(1, 2)), {"long_name": "size of the map"}),
    }
    return xr.Dataset(
        variables, {"source": list(overlay.SOURCES), "time": ts, "mode": np.arange(1, len(s) + 1)}, asdict(settings)
    )


def figure(data: xr.Dataset) -> Figure:
    """The features, what the modes distinguish, and their strengths over time."""
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.6))
    for row, (name, title, label) in enumerate(
        (("features", "Features of 8 items", "feature"), ("item_modes", "What each mode distinguishes", "mode"))
    ):
        ax = style.canvas(figure.add_subplot(grid[row, 0]), title)
        values = data[name].values
        bound = np.abs(values).max()
        ax.imshow(values, cmap=MAPS[0], vmin=-bound, vmax=bound, interpolation="nearest", aspect="auto")
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(label, fontsize=style.TEXT)
        ax.set_ylabel("item", fontsize=style.TEXT)
    ax = style.canvas(figure.add_subplot(grid[:, 1]), "Levels of the tree are learned one after another")
    for k, level in enumerate(LEVELS):
        square = SQUARES[level[0]]
        label = rf"$\sqrt{{{square}}}$" + (f" ({len(level)} times)" if len(level) > 1 else "")
        simulated, exact = data["strength"].values[:, :, level[0]]
        ax.plot(data["time"], simulated, label=label, **overlay.solid(style.colour(k)))
        for mode in level[1:]:
            ax.plot(data["time"], data["strength"].values[0][:, mode], **overlay.solid(style.colour(k)))
        ax.plot(data["time"], exact, **overlay.dotted())
    ax.margins(x=0)
    ax.set_ylim(0, 0.82)
    ax.set_xlabel("time", fontsize=style.TEXT)
    ax.set_ylabel("strength of the mode", fontsize=style.TEXT)
    ax.legend(frameon=False, fontsize=style.TEXT, title="singular value of the features", title_fontsize=style.TEXT)
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times of the levels, from the simulation."""
    halves = data["half_time"].sel(source="simulation").values
    return {f"half-time of level {k + 1}": float(halves[level[0]]) for k, level in enumerate(LEVELS)}


def check(data: xr.Dataset) -> list[Checked]:
    """Singular values, half-times by hand, modes of levels, the order of learning, stored numbers."""
    simulated, exact = data["strength"].values
    halves = data["half_time"].sel(source="simulation").values
    s = np.sqrt(np.array(SQUARES)) / 8
    by_hand = np.log(s / data.attrs["start"] - 1) / (2 * s)
    first = data["item_modes"].values
    pairs = first.reshape(4, 2, 8)
    order = [halves[list(after)].min() / halves[list(level)].max() for level, after in pairwise(LEVELS)]
    return [
        at_most(
            "singular values: sqrt 15, sqrt 7, sqrt 3 twice, 1 four times",
            np.abs(data["singular_values"].values - np.sqrt(SQUARES)).max(),
            1e-12,
        ),
        at_most("gap of simulation and theory", np.abs(simulated - exact).max() / exact.max(), GAP),
        at_most("half-times from ln(s / u0 - 1) / (2 s)", np.abs(halves / by_hand - 1).max(), 1e-4),
        at_most("mode 1 is the same for all items", np.ptp(np.abs(first[:, 0])), 1e-12),
        at_most("mode 2 tells the two halves apart", np.abs(first[:4, 1] + first[4:, 1]).max(), 1e-12),
        at_most("modes 3 and 4 do not tell siblings apart", np.abs(np.ptp(pairs[:, :, 2:4], axis=1)).max(), 1e-12),
        at_most("modes 5 to 8 tell siblings apart", np.abs(pairs[:, :, 4:].sum(axis=1)).max(), 1e-12),
        at_least("each level is learned after the one above: least ratio of half-times", min(order), 1.3),
        *golden(measured(data), GOLDEN),
    ]
