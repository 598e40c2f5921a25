"""Reversal learning stalls: a 4-6-4 network that has learned a task from a balanced start cannot unlearn it.

The learned network lies on the stable manifold of the saddle at zero of the reversed task -S. The exact flow goes to
that saddle; a simulation stays until rounding has grown, and a shallow network does not stall at all, nor does a deep
one from a start that is not balanced. Source: Braun et al. (2022), the figure of reversal learning; task and start are
our own draws.
"""

from dataclasses import asdict, dataclass

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import init
from ...exact import regression, sequence
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from ...plots.labels import End, label_ends
from ...trajectory import Trajectory
from .. import overlay
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; the first task is learned to rounding before it is reversed."""

    widths: tuple[int, int, int] = (4, 6, 4)
    s: tuple[float, ...] = (1.5, 1.2, 0.9, 0.6)
    duration: float = 40.0
    scale: float = 0.1
    unbalanced: float = 0.5
    seed: int = 0
    points: int = 200
    rtol: float = 1e-11


SETTINGS = QUICK = Settings()
KINDS = {"balanced": "deep, balanced", "unbalanced": "deep, not balanced", "shallow": "shallow"}
SETTLED, PLATEAU = 5.0, 1e-3  # time after the reversal by which W has decayed, and the share of the loss that is left
GAP = 1e-11
GOLDEN: dict[str, float] = {
    "balanced: exact loss at t = 4": 0.4112978599,
    "balanced: exact loss one after the reversal": 2.703969857,
    "shallow: exact loss one after the reversal": 1.315458953,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Loss on the task of the moment: simulation of all, theory of those that have one."""
    objective, reverse = problem(settings)
    tasks = [(objective, settings.duration), (reverse, settings.duration)]
    inside = np.linspace(0, settings.duration, settings.points + 1)[1:]
    ts = np.concatenate([[0.0], inside, settings.duration + inside])
    start = balanced_start(settings, objective)
    starts = {
        "balanced": start,
        "unbalanced": init.gaussian(settings.seed, settings.widths, settings.unbalanced),
        "shallow": Network([start.end_to_end]),
    }
    flows = {kind: gradient_flow(tasks, network, ts, rtol=settings.rtol) for kind, network in starts.items()}
    simulated = [_current_losses(flow) for flow in flows.values()]
    exact = sequence(tasks, start)
    state = exact(ts)
    first = regression(objective, starts["shallow"])(np.append(inside, settings.duration))
    second = regression(reverse, Network([first.end_to_end[-1]]))(inside)
    shallow = np.concatenate([[simulated[2][0]], first.loss[:-1], second.loss])
    theory = [np.asarray(state.loss), np.full(ts.shape, np.nan), shallow]
    variables = {
        "loss": (
            ("source", "kind", "time"),
            np.array([simulated, theory]),
            {"long_name": "loss on the task of the moment"},
        ),
        "norm": ("time", np.linalg.norm(np.asarray(state.end_to_end), axis=(1, 2)), {"long_name": "|W|, exact"}),
        "limit_loss": ((), float(exact.limit_losses[1, 1]), {"long_name": "loss of the exact flow for t to infinity"}),
        "loss_of_zero": ((), float(reverse(0 * start.end_to_end))),
    }
    coordinates = {"time": ts, "source": list(overlay.SOURCES), "kind": list(KINDS)}
    return xr.Dataset(variables, coordinates, asdict(settings) | {"warning": state.warning or ""})


def _current_losses(flow: Trajectory) -> np.ndarray:
    """The loss on the task of the moment, at every time of a sequence of tasks."""
    losses = np.asarray(jax.vmap(flow.objective.losses)(flow.end_to_end))
    return losses[np.arange(len(losses)), flow.objective.task_at(flow.ts)]


def problem(settings: Settings) -> tuple[SquaredError, SquaredError]:
    """A task with the singular values `s` in random frames, and its reversal; white inputs."""
    rng = np.random.default_rng(settings.seed)
    U, V = (np.linalg.qr(rng.standard_normal((len(settings.s),) * 2))[0] for _ in range(2))
    S = (U * np.array(settings.s)[None, :]) @ V.T
    return SquaredError.from_moments(S), SquaredError.from_moments(-S)


def balanced_start(settings: Settings, objective: SquaredError) -> Network:
    """A 0-balanced start whose determinant has the sign of the task's, so that the first task can be learned."""
    sign = np.sign(np.linalg.det(objective.optimum))
    draws = (
        init.balanced(key, settings.widths, scale=settings.scale) for key in range(settings.seed, settings.seed + 100)
    )
    return next(network for network in draws if np.sign(np.linalg.det(network.end_to_end)) == sign)


def trusted_until(data: xr.Dataset) -> float:
    """Time after the reversal at which rounding in a simulation, 1e-16 e^{st}, has reached 1e-9."""
    return float(np.log(1e-9 / np.finfo(float).eps) / max(data.attrs["s"]))


def figure(data: xr.Dataset) -> Figure:
    """Losses over both tasks."""
    figure = Figure(figsize=(6.6, 3.3))
    ax = style.canvas(figure.add_axes((0.09, 0.15, 0.68, 0.72)), "Learning a task, then its reversal")
    duration, ends = data.attrs["duration"], []
    last = duration + trusted_until(data)
    for k, (kind, label) in enumerate(KINDS.items()):
        simulated, exact = data["loss"].sel(kind=kind).values
        ax.plot(data["time"], simulated, **overlay.solid(style.colour(k)))
        known = np.isfinite(exact) & ((data["time"].values <= last) | (kind != "balanced"))
        ax.plot(data["time"].values[known], exact[known], **overlay.dotted())
        ends.append(End(simulated[-1], style.colour(k), label))
    zero, top = float(data["loss_of_zero"]), 1.1 * float(data["loss"].max())
    ax.axhline(zero, color=style.GREY, linewidth=0.8, zorder=1)
    ax.text(last + 0.5, 1.03 * zero, "rounding leaves the saddle", fontsize=style.TEXT, va="bottom")
    ax.text(0.98 * duration, 1.03 * zero, "loss at the saddle W = 0", fontsize=style.TEXT, ha="right", va="bottom")
    ax.axvline(duration, color=style.GREY, linewidth=0.8, zorder=1)
    for at, text in ((0.5 * duration, "task S"), (1.5 * duration, "task −S")):
        ax.text(at, top, text, fontsize=style.TEXT, ha="center", va="top")
    ax.set(xlim=(0, 2 * duration), ylim=(0, top))
    ax.set_xlabel("time", fontsize=style.TEXT)
    ax.set_ylabel("loss on the task of the moment", fontsize=style.TEXT)
    label_ends(ax, ends)
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result; those after the stall are rounding."""
    at = lambda kind, t: float(data["loss"].sel(source="theory", kind=kind).sel(time=t, method="nearest"))
    return {
        "balanced: exact loss at t = 4": at("balanced", 4.0),
        "balanced: exact loss one after the reversal": at("balanced", data.attrs["duration"] + 1),
        "shallow: exact loss one after the reversal": at("shallow", data.attrs["duration"] + 1),
    }


def check(data: xr.Dataset) -> list[Checked]:
    """The balanced network stalls and says so, in simulation and in theory; the others do not."""
    duration, zero = data.attrs["duration"], float(data["loss_of_zero"])
    after = data["time"].values - duration
    stalled = (after >= SETTLED) & (after <= trusted_until(data))
    loss = data["loss"].sel(kind="balanced").values[:, stalled]
    shallow = data["loss"].sel(kind="shallow").values
    reversed_now = after > 0
    by_hand = 2 * np.sum(np.square(data.attrs["s"])) * np.exp(-2 * after[reversed_now])
    final = data["loss"].sel(source="simulation").isel(time=-1)
    return [
        at_least("times seen of the stall", stalled.sum(), 10.0),
        at_most("balanced: simulation stays at the saddle", np.abs(loss[0] / zero - 1).max(), PLATEAU),
        at_most("balanced: theory stays at the saddle", np.abs(loss[1] / zero - 1).max(), PLATEAU),
        at_most("balanced: theory for ever", abs(float(data["limit_loss"]) / zero - 1), 1e-9),
        at_least("balanced: the solution warns of the saddle", float("saddle" in data.attrs["warning"]), 1.0),
        at_most("balanced: gap of the loss up to then", np.abs(np.subtract(*loss)).max() / zero, GAP),
        at_most("shallow: gap of the loss", np.abs(np.subtract(*shallow)).max() / zero, GAP),
        at_most("shallow: loss 2 |S|^2 e^(-2t) by hand", np.abs(shallow[0][reversed_now] - by_hand).max() / zero, GAP),
        at_most("shallow: loss in the end", float(final.sel(kind="shallow")) / zero, 1e-9),
        at_most("not balanced: loss in the end", float(final.sel(kind="unbalanced")) / zero, 1e-6),
        *golden(measured(data), GOLDEN),
    ]
