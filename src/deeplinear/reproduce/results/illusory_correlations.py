"""Illusory correlations: half-way through learning a tree, an item is believed to have what its relatives have.

Eight items, the leaves of a binary tree; each of 10 000 features is +1 or -1 at the root and flips with probability .15
along every branch. From a tiny random start the network learns the tree level by level, the similarities of its hidden
layer differentiate in the same order, and features that an item does not share with its branch are first believed and
then unlearned. Source: Saxe, McClelland and Ganguli (2019), with the features of the Neuromatch tutorial on it (3
levels of branches, flips .15, 10 000 features); start, width and draw are our own.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import diagnostics, init
from ...flows import gradient_flow
from ...objectives import SquaredError
from ...plots import style
from ...plots.matrices import MAPS
from ...predict import learning_times
from .. import overlay
from ..checks import Checked, at_least, at_most, golden
from ..layered_runs import crossings


@dataclass(frozen=True)
class Settings:
    """Parameters; a belief is wrong beyond `doubt` of what a true one becomes."""

    branchings: int = 3
    flip: float = 0.15
    features: int = 10_000
    hidden: int = 16
    scale: float = 1e-6
    horizon: float = 130.0
    points: int = 261
    doubt: float = 0.1
    seed: int = 0
    rtol: float = 1e-8


SETTINGS = QUICK = Settings()
LEVELS = ((0,), (1,), (2, 3), (4, 5, 6, 7))
SHOWN = (20.0, 31.0, 42.0, 90.0)
GAP = 0.01
GOLDEN: dict[str, float] = {
    "half-time of level 1": 23.07146151,
    "half-time of level 2": 29.09487036,
    "half-time of level 3": 33.81262336,
    "half-time of level 4": 46.86140180,
    "strongest wrong belief": 0.7211132573,
}


def sampled_tree(settings: Settings) -> np.ndarray:
    """Features of the items, +1 and -1, shape (item, feature): one chain of flips from the root to every leaf."""
    rng = np.random.default_rng(settings.seed)
    nodes = np.where(rng.random((1, settings.features)) < 0.5, 1.0, -1.0)
    for _ in range(settings.branchings):
        nodes = np.repeat(nodes, 2, axis=0)
        nodes = nodes * np.where(rng.random(nodes.shape) < settings.flip, -1.0, 1.0)
    return nodes


def branchings_apart(count: int) -> np.ndarray:
    """How many branchings up the tree two items have their common ancestor, shape (2^count, 2^count)."""
    items = np.arange(2**count)
    return np.array([[int(a ^ b).bit_length() for b in items] for a in items])


def expected_variances(settings: Settings) -> np.ndarray:
    """Eigenvalues of the covariance of items: relatives k branchings below their ancestor share (1 - 2 flip)^(2k)."""
    shared = (1 - 2 * settings.flip) ** (2 * branchings_apart(settings.branchings))
    return np.linalg.eigvalsh(shared)[::-1]


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """The flow; the strongest wrong belief, and how many beliefs are wrong; the hidden layer's similarities."""
    Y = sampled_tree(settings)
    items, scale = len(Y), np.sqrt(len(Y) * settings.features)
    objective = SquaredError.from_moments(Y.T / scale)  # white one-hot items, mean square of a feature
    start = init.gaussian(settings.seed, (items, settings.hidden, settings.features), settings.scale)
    ts = np.linspace(0, settings.horizon, settings.points)
    flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
    strengths, s = np.asarray(flow.map(diagnostics.mode_strengths(objective))), np.asarray(objective.modes.s)
    first, beliefs = np.asarray(flow.kept.weights[0]), np.asarray(flow.end_to_end) * scale
    similarity = np.einsum("thi,thj->tij", first, first)
    length = np.sqrt(np.einsum("tii->ti", similarity))
    cosine = similarity / (length[:, :, None] * length[:, None, :])
    apart = branchings_apart(settings.branchings)
    wrong = [-(belief.T * Y) for belief in beliefs]  # positive where the sign is wrong
    strongest = int(np.argmax([against.max() for against in wrong]))
    item, feature = divmod(int(np.argmax(wrong[strongest])), settings.features)
    kin = np.arange(1, settings.branchings + 1)
    variables = {
        "loss": ("time", [0.5 * np.mean((belief.T - Y) ** 2) for belief in beliefs], {"long_name": "loss"}),
        "mode_strengths": (("time", "mode"), strengths, {"long_name": "strength of the mode"}),
        "singular_values": ("mode", s, {"long_name": "singular values of the data"}),
        "half_time": (
            ("source", "mode"),
            np.stack([crossings(ts, strengths, s / 2), learning_times(objective, start).half_times]),
            {"long_name": "time of half strength"},
        ),
        "belief": (("time", "item"), beliefs[:, feature], {"long_name": "belief in one feature, by item"}),
        "truth": ("item", Y[:, feature], {"long_name": "that feature"}),
        "wrong": (
            "time",
            [float(np.mean(against > settings.doubt)) for against in wrong],
            {"long_name": "share of beliefs of the wrong sign"},
        ),
        "last_error": ((), float(np.abs(beliefs[-1].T - Y).max()), {"long_name": "largest error in the end"}),
        "similarity": (("time", "item", "other_item"), cosine, {"long_name": "cosine of hidden activities"}),
        "kinship": (
            ("time", "branchings"),
            np.stack([cosine[:, apart == k].mean(axis=1) for k in kin], axis=1),
            {"long_name": "mean cosine of items whose common ancestor is so many branchings up"},
        ),
    }
    coordinates = {"time": ts, "mode": np.arange(1, len(s) + 1), "branchings": kin, "source": list(overlay.SOURCES)}
    return xr.Dataset(variables, coordinates, {**asdict(settings), "item": item, "feature": feature})


def figure(data: xr.Dataset) -> Figure:
    """Above: loss, modes, one feature, wrong beliefs over time; below: similarities of items at four times."""
    figure = Figure(figsize=(10.4, 5.0), layout="constrained")
    above, below = figure.subplots(2, 4, height_ratios=(1.15, 1))
    axes = [
        style.canvas(ax, title)
        for ax, title in zip(
            above,
            ("Loss", "Modes, level by level", "One feature of 8 items", "Beliefs of the wrong sign"),
            strict=True,
        )
    ]
    time, item = data["time"].values, data.attrs["item"]
    axes[0].plot(time, data["loss"], **overlay.solid(style.colour(0)))
    for k, level in enumerate(LEVELS):
        for mode in level:
            axes[1].plot(time, data["mode_strengths"][:, mode], **overlay.solid(style.colour(k)))
            axes[1].axvline(float(data["half_time"][1, mode]), color=style.colour(k), linewidth=0.6, linestyle=":")
    for i in np.argsort(np.arange(data.sizes["item"]) == item, kind="stable"):
        axes[2].plot(time, data["belief"][:, i], **overlay.solid(style.colour(1 if i == item else 0)))
    axes[2].set_yticks([-1, 0, 1])
    axes[3].plot(time, 100 * data["wrong"], **overlay.solid(style.colour(1)))
    labels = ("loss", "strength", f"belief (item {item + 1} coloured)", "percent of all beliefs")
    for ax, label in zip(axes, labels, strict=True):
        ax.set_ylabel(label, fontsize=style.TEXT)
        ax.set_xlabel("time", fontsize=style.TEXT)
        ax.set_xlim(0, SHOWN[-1])
    images = []
    for ax, t in zip(below, SHOWN, strict=True):
        style.canvas(ax, f"Similarity at t = {t:g}")
        cosines = data["similarity"].sel(time=t, method="nearest")
        images.append(ax.imshow(cosines, cmap=MAPS[0], vmin=-1, vmax=1))
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel("item", fontsize=style.TEXT)
        ax.set_ylabel("item", fontsize=style.TEXT)
    bar = figure.colorbar(images[0], ax=below, shrink=0.8)
    bar.set_label("cosine of hidden activities", fontsize=style.TEXT)
    return figure


def _strongest(data: xr.Dataset) -> float:
    """How strongly one item is believed to have the opposite of one of its features, 1 as strongly as a true one."""
    item = data.attrs["item"]
    return float((-data["belief"][:, item] * data["truth"][item]).max())


def measured(data: xr.Dataset) -> dict[str, float]:
    """Half-times of the levels and the strongest wrong belief."""
    halves = data["half_time"].values[0]
    numbers = {f"half-time of level {k}": float(halves[level[0]]) for k, level in enumerate(LEVELS, 1)}
    return {**numbers, "strongest wrong belief": _strongest(data)}


def check(data: xr.Dataset) -> list[Checked]:
    """Variances of the tree, order and times of learning, differentiation, the illusion and its end, stored numbers."""
    simulated, predicted = data["half_time"].values
    variances = data["singular_values"].values ** 2 * data.sizes["item"]
    expected = expected_variances(Settings(**{key: data.attrs[key] for key in Settings.__dataclass_fields__}))
    ratios = [simulated[list(after)].min() / simulated[list(level)].max() for level, after in pairwise(LEVELS)]
    known = data.isel(time=data["time"].values > simulated[0])  # the network tells no items apart yet when this begins
    apart = [float(known["time"][int(np.argmax(column < 0.7))]) for column in known["kinship"].values.T[::-1]]
    return [
        at_most("variances from those of the tree, relative", np.abs(variances / expected - 1).max(), 0.057),
        at_least("each level is learned after the one above: least ratio of half-times", min(ratios), 1.1),
        at_most(
            "half-times from those predicted from the start, relative", np.abs(simulated / predicted - 1).max(), GAP
        ),
        at_least(
            "near relatives become distinct after far ones: least ratio of times",
            min(near / far for far, near in pairwise(apart)),
            1.1,
        ),
        at_least("strength of the strongest wrong belief", _strongest(data), 0.5),
        at_most("beliefs of the wrong sign at first", data["wrong"][0], 0.0),
        at_least("beliefs of the wrong sign half-way", data["wrong"].max(), 0.1),
        at_most("beliefs of the wrong sign in the end", data["wrong"][-1], 0.0),
        at_most("error of all beliefs in the end", data["last_error"], 1e-6),
        *golden(measured(data), GOLDEN),
    ]
