"""Deep factorisations learn a matrix from few measurements greedily, one singular value after another.

W* = diag(12, 6, 4, 3, 0, ...) of size 50, seen by 1000 Gaussian sensors, fewer than its 2500 entries; every layer
starts at the same multiple of the identity, with an end-to-end matrix of 1e-4 I. Depth 1 learns all modes at once and
only a part of them, depth 2 one after another with overlap, greater depth one at a time, each long after the last.
Theory is the exact solution for infinitely many sensors, where the modes do not meet. Source: Gissin et al. (2020),
ICLR, the figure of matrix sensing; the draw of sensors, the loss scale (half-mean) and the times shown are ours.
"""

from dataclasses import asdict, dataclass

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...exact import decoupled, regression
from ...flows import gradient_flow
from ...network import Network
from ...objectives import MatrixSensing, SquaredError
from ...plots import style
from .. import overlay
from ..checks import Checked, at_least, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; `horizons` is the end of the run of every depth."""

    size: int = 50
    s: tuple[float, ...] = (12.0, 6.0, 4.0, 3.0)
    sensors: int = 1000
    depths: tuple[int, ...] = (1, 2, 3, 4)
    horizons: tuple[float, ...] = (6.0, 4.0, 10.0, 24.0)
    start: float = 1e-4
    seed: int = 0
    points: int = 201
    rtol: float = 1e-4


SETTINGS = Settings()
QUICK = Settings(size=20, sensors=300, depths=(1, 3), horizons=(6.0, 12.0))
APART, TOGETHER = 0.2, 0.3  # share of the next mode when one has reached half of its end
RECOVERED = 0.01  # |W - W*|^2 / |W*|^2
GOLDEN: dict[str, float] = {"depth 4: theory of mode 2 at half": 0.01311172777}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Strengths of the modes, u_a^T W v_a / s_a, of simulation and theory, and the error of the last matrix."""
    target = np.zeros((settings.size, settings.size))
    modes = np.arange(len(settings.s))
    target[modes, modes] = settings.s
    B = np.random.default_rng(settings.seed).standard_normal((settings.sensors, settings.size, settings.size))
    objective = MatrixSensing(B, np.einsum("nij,ij->n", B, target))
    strengths, errors, times = [], [], []
    for depth, horizon in zip(settings.depths, settings.horizons, strict=True):
        ts = np.linspace(0, horizon, settings.points)
        flow = gradient_flow(objective, start_of(settings, settings.size, depth), ts, rtol=settings.rtol)
        W = np.asarray(flow.end_to_end)
        strengths.append([W[:, modes, modes] / np.array(settings.s), theory(settings, depth, ts)])
        errors.append(np.sum((W[-1] - target) ** 2) / np.sum(target**2))
        times.append(ts)
    variables = {
        "strength": (
            ("depth", "source", "step", "mode"),
            np.array(strengths),
            {"long_name": "mode strength, share of its singular value"},
        ),
        "error": ("depth", errors, {"long_name": "|W - W*|^2 / |W*|^2 in the end"}),
        "time": (("depth", "step"), np.array(times)),
    }
    coordinates = {"depth": list(settings.depths), "source": list(overlay.SOURCES), "mode": modes + 1}
    return xr.Dataset(variables, coordinates, asdict(settings))


def start_of(settings: Settings, size: int, depth: int) -> Network:
    """Layers of equal size, the end-to-end matrix `start` times the identity."""
    return Network([settings.start ** (1 / depth) * jnp.eye(size)] * depth)


def theory(settings: Settings, depth: int, ts: np.ndarray) -> np.ndarray:
    """Exact strengths for infinitely many sensors: the loss is half of |W - W*|^2, and the modes do not meet."""
    k = len(settings.s)
    objective, start = SquaredError.from_singular_values(settings.s, k, k), start_of(settings, k, depth)
    solution = (regression if depth == 1 else decoupled)(objective, start)(ts)
    return np.diagonal(np.asarray(solution.end_to_end), axis1=1, axis2=2) / np.array(settings.s)


def halves(data: xr.Dataset, depth: int) -> np.ndarray:
    """The step at which every mode has reached half of its last strength in the simulation."""
    strength = data["strength"].sel(depth=depth, source="simulation").values
    return np.argmax(strength >= strength[-1] / 2, axis=0)


def overlap(data: xr.Dataset, depth: int) -> np.ndarray:
    """How much of its last strength the next mode has when one passes half of its own."""
    strength = data["strength"].sel(depth=depth, source="simulation").values
    return np.array([strength[i, k + 1] / strength[-1, k + 1] for k, i in enumerate(halves(data, depth)[:-1])])


def figure(data: xr.Dataset) -> Figure:
    """One panel a depth."""
    depths = data["depth"].values
    figure = Figure(figsize=(2.45 * len(depths) + 0.8, 3.2), layout="constrained")
    axes = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for ax, depth in zip(axes, depths, strict=True):
        style.canvas(ax, f"depth {depth}, error {float(data['error'].sel(depth=depth)):.1g}")
        simulated, exact = (data["strength"].sel(depth=depth, source=source).values for source in overlay.SOURCES)
        times = data["time"].sel(depth=depth).values
        for k, s in enumerate(data.attrs["s"]):
            ax.plot(times, simulated[:, k], **style.line(k), label=f"s = {s:g}")
            ax.plot(times, exact[:, k], color=style.ink(), linewidth=0.9, linestyle=(0, (1, 2)), zorder=8)
        ax.set(xlim=(0, times[-1]), ylim=(-0.03, 1.05))
        ax.set_xlabel("time", fontsize=style.TEXT)
    axes[0].set_ylabel(r"mode strength, $u_a^T W v_a / s_a$", fontsize=style.TEXT)
    axes[0].legend(frameon=False, fontsize=style.TEXT, loc="center right", bbox_to_anchor=(1.0, 0.66))
    heading = f"{data.attrs['sensors']} sensors of a {data.attrs['size']} x {data.attrs['size']} matrix of rank 4"
    figure.suptitle(f"{heading}; thin dots: exact, infinitely many sensors", fontsize=style.TEXT + 1, x=0.01, ha="left")
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    last = int(data["depth"].values[-1])
    half = int(halves(data, last)[1])
    strength = data["strength"].sel(depth=last).isel(step=half, mode=1)
    return {f"depth {last}: theory of mode 2 at half": float(strength.sel(source="theory"))}


def check(data: xr.Dataset) -> list[Checked]:
    """One by one and recovered from depth 2 on; all at once and not recovered at depth 1."""
    checks = []
    for depth in map(int, data["depth"].values):
        shares, error = overlap(data, depth), float(data["error"].sel(depth=depth))
        if depth == 1:
            checks += [
                at_least("depth 1: next mode when one is half learned", shares.min(), TOGETHER),
                at_least("depth 1: error", error, 0.1),
            ]
            continue
        checks += [
            at_most(f"depth {depth}: next mode when one is half learned", shares.max(), APART),
            at_least(f"depth {depth}: order of half-times", np.diff(halves(data, depth)).min(), 1.0),
            at_most(f"depth {depth}: error", error, RECOVERED),
        ]
    stored = GOLDEN if data.attrs["size"] == SETTINGS.size else {}
    return checks + golden(measured(data), stored)
