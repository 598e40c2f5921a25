"""Continual learning of four tasks by a 5-10-6 network: what is forgotten depends on the tasks alone.

Once the next task is learned, the loss on task j is 1/2 |S_j - S_k|^2 above its minimum, whatever the start. Source:
Braun et al. (2022), the figure of continual learning: 25 samples, start 1e-4, a sequence of 4 tasks; tasks and start
are our own draws.
"""

from dataclasses import asdict, dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import init
from ...exact import sequence
from ...flows import gradient_flow
from ...plots import style
from ...plots.labels import End, label_ends
from .. import overlay
from ..checks import Checked, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; every task is learned to convergence."""

    widths: tuple[int, int, int] = (5, 10, 6)
    samples: int = 25
    tasks: int = 4
    duration: float = 200.0
    scale: float = 1e-4
    seed: int = 2
    points: int = 100
    rtol: float = 1e-11


SETTINGS = QUICK = Settings()
FORGETTING, GAP = 1e-6, 1e-10
SHOWN = 40.0  # time after the beginning of a task that is drawn
GOLDEN: dict[str, float] = {
    "forgetting of task 1 in the end": 0.8243403166,
    "forgetting of task 2 in the end": 0.8218144473,
    "forgetting of task 3 in the end": 0.8768192232,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Losses on all tasks over time, simulated and exact, and what is forgotten."""
    d_x, _, d_y = settings.widths
    objectives = []
    for k in range(settings.tasks):
        X, Y = overlay.whitened_samples(settings.seed + 100 * k, settings.samples, d_x, d_y)
        objectives.append(overlay.whitened_objective(X, Y))
    tasks = [(objective, settings.duration) for objective in objectives]
    start = init.balanced(settings.seed, settings.widths, scale=settings.scale)
    inside = settings.duration * np.linspace(0, 1, settings.points + 1)[1:] ** 3  # dense where a task begins
    ts = np.concatenate([[0.0], *(k * settings.duration + inside for k in range(settings.tasks))])
    flow = gradient_flow(tasks, start, ts, rtol=settings.rtol)
    exact = sequence(tasks, start)
    state = exact(ts)
    simulated = np.asarray(jax.vmap(flow.objective.losses)(flow.end_to_end))
    gap = np.abs(flow.end_to_end - state.end_to_end).max(axis=(1, 2)) / np.abs(state.end_to_end).max()
    S, minima = [np.asarray(objective.optimum) for objective in objectives], [o.minimum for o in objectives]
    variables = {
        "losses": (("source", "time", "task"), np.stack([simulated, state.losses]), {"long_name": "loss on each task"}),
        "gap": ("time", gap, {"long_name": "largest difference of W over its largest entry"}),
        "current_task": ("time", np.asarray(state.task) + 1),
        "minimum": ("task", np.array(minima, dtype=float)),
        "forgetting_formula": (("learned", "task"), [[0.5 * np.sum((a - b) ** 2) for a in S] for b in S]),
        "forgetting_exact": (("learned", "task"), np.asarray(exact.forgetting)),
        "forgetting": (("learned", "task"), simulated[settings.points :: settings.points] - np.array(minima)[None, :]),
    }
    numbers = np.arange(1, settings.tasks + 1)
    coordinates = {"time": ts, "source": list(overlay.SOURCES), "task": numbers, "learned": numbers}
    return xr.Dataset(variables, coordinates, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """The loss on every task while each is learned; levels of forgetting by the formula as bars at the right."""
    figure = Figure(figsize=(7.4, 3.2))
    simulated, exact = data["losses"].values
    duration, count = data.attrs["duration"], data.sizes["task"]
    axes = figure.subplots(1, count, sharey=True)
    figure.subplots_adjust(left=0.075, right=0.9, bottom=0.24, top=0.86, wspace=0.08)
    levels = data["minimum"].values[None, :] + data["forgetting_formula"].values
    for learned, ax in enumerate(axes):
        style.canvas(ax, f"learns task {learned + 1}")
        local = data["time"].values - learned * duration
        here = (local >= 0) & (local <= SHOWN)
        for k in range(count):
            ax.plot(local[here], simulated[here, k], **overlay.solid(style.colour(k)))
            ax.plot(local[here], exact[here, k], **overlay.dotted())
        ax.hlines(
            levels[learned], 0.9 * SHOWN, SHOWN, colors=[style.colour(k) for k in range(count)], linewidth=6, alpha=0.45
        )
        ax.set_xlim(0, SHOWN)
        ax.set_xticks([0, 10, 20, 30])
    axes[0].set_ylim(0, 1.05 * data["losses"].values.max())
    axes[0].set_ylabel("loss on each task", fontsize=style.TEXT)
    figure.supxlabel(
        "time since the task began (bars: level predicted from the tasks alone)", fontsize=style.TEXT, y=0.1
    )
    label_ends(axes[-1], [End(levels[-1, k], style.colour(k), f"task {k + 1}") for k in range(count)])
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    last = data.sizes["task"] - 1
    exact = data["forgetting_exact"].values[last]
    return {f"forgetting of task {k + 1} in the end": float(exact[k]) for k in range(last)}


def check(data: xr.Dataset) -> list[Checked]:
    """Forgetting of every task after every other against the formula; the flow against theory; stored numbers."""
    formula = data["forgetting_formula"].values
    return [
        at_most(
            "forgetting of the flow against 1/2 |S_j - S_k|^2",
            np.abs(data["forgetting"].values - formula).max(),
            FORGETTING,
        ),
        at_most(
            "forgetting of the exact solution, in the limit",
            np.abs(data["forgetting_exact"].values - formula).max(),
            1e-10,
        ),
        at_most("gap of the function", data["gap"].max(), GAP),
        *golden(measured(data), GOLDEN),
    ]
