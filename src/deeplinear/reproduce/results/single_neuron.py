"""Paths of a single linear neuron f(x) = a <w, x> from lazy to rich, for seven delta = a^2 - |w|^2.

White inputs, target (0, 1), start beta = a w = (-1, 0), until t = 20: the path of beta in the plane, its alignment with
the target, and how far the tangent kernel has moved. Source: Kunin et al. (2024), the figure of a single neuron; theory
is the exact solution with one hidden neuron.
"""

from dataclasses import asdict, dataclass

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import diagnostics
from ...diagnostics import TangentKernel
from ...exact import two_layer
from ...flows import gradient_flow
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from .. import overlay
from ..checks import Checked, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    deltas: tuple[float, ...] = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
    target: tuple[float, float] = (0.0, 1.0)
    beta: tuple[float, float] = (-1.0, 0.0)
    horizon: float = 20.0
    points: int = 401
    rtol: float = 1e-11


SETTINGS = QUICK = Settings()
GAP = 1e-11
GOLDEN: dict[str, float] = {
    "alignment at t = 2, delta -4": 0.08432606303,
    "alignment at t = 2, delta -2": 0.3169243489,
    "alignment at t = 2, delta -1": 0.6851005119,
    "alignment at t = 2, delta 0": 0.9640275801,
    "alignment at t = 2, delta 1": 0.9984928793,
    "alignment at t = 2, delta 2": 0.9999557818,
    "alignment at t = 2, delta 4": 0.9999999756,
    "kernel_distance at t = 2, delta -4": 0.1603949889,
    "kernel_distance at t = 2, delta -2": 0.4561113513,
    "kernel_distance at t = 2, delta -1": 0.6942985014,
    "kernel_distance at t = 2, delta 0": 0.5818112075,
    "kernel_distance at t = 2, delta 1": 0.3098233779,
    "kernel_distance at t = 2, delta 2": 0.156769597,
    "kernel_distance at t = 2, delta 4": 0.05418956342,
}
NAMES = {
    "beta": r"$\beta = a w$",
    "alignment": r"alignment of $w$ with the target",
    "kernel_distance": r"kernel movement $|K - K_0| / |K_0|$",
    "loss": "loss",
}


def start_of(delta: float, beta: tuple[float, float]) -> Network:
    """The neuron with a w = beta and a^2 - |w|^2 = delta, a > 0."""
    a = _output_weight(delta, float(np.linalg.norm(beta)))
    return Network([np.array([beta]) / a, [[a]]])


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Simulation and theory of every delta."""
    objective = SquaredError.from_moments([settings.target])
    ts = np.linspace(0, settings.horizon, settings.points)
    variables: dict[str, list] = {name: [] for name in NAMES}
    limits = []
    for delta in settings.deltas:
        start = start_of(delta, settings.beta)
        flow, exact = gradient_flow(objective, start, ts, rtol=settings.rtol), two_layer(objective, start)
        state, target = exact(ts), np.asarray(settings.target)
        w = np.asarray(flow.networks.weights[0])[:, 0]
        beta = np.stack([flow.end_to_end[:, 0], state.end_to_end[:, 0]])
        size = np.stack([np.linalg.norm(w, axis=-1), np.sqrt(np.trace(state.gram_in, axis1=1, axis2=2))])
        a = np.stack([np.asarray(flow.networks.weights[1])[:, 0, 0], np.sqrt(state.gram_out[:, 0, 0])])
        kernel = TangentKernel.two_layer(state.gram_in, state.gram_out)
        moved = kernel.distance(kernel[0]) / kernel[0].norm
        variables["beta"].append(beta)
        variables["alignment"].append((beta @ target) / (a * size * np.linalg.norm(target)))
        variables["kernel_distance"].append(np.stack([flow.map(diagnostics.kernel_distance(start)), moved]))
        variables["loss"].append(np.stack([flow.map(diagnostics.loss(objective)), state.loss]))
        limit = exact.limit()
        last = TangentKernel.two_layer(limit.gram_in, limit.gram_out)
        limits.append(float(last.distance(kernel[0]) / kernel[0].norm))
    dims = {"beta": ("delta", "source", "time", "coordinate")}
    data = {
        name: (dims.get(name, ("delta", "source", "time")), np.stack(values), {"long_name": NAMES[name]})
        for name, values in variables.items()
    }
    gap = [
        [np.abs(values[k][0] - values[k][1]).max() / np.abs(values[k][1]).max() for values in variables.values()]
        for k in range(len(settings.deltas))
    ]
    data |= {"gap": (("delta", "quantity"), gap), "kernel_distance_limit": ("delta", limits)}
    coordinates = {"delta": list(settings.deltas), "source": list(overlay.SOURCES), "time": ts, "quantity": list(NAMES)}
    return xr.Dataset(data, coordinates, asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """The plane of beta, alignment and kernel movement over time; one colour a delta."""
    figure = Figure(figsize=(7.4, 2.9), layout="constrained")
    plane, *others = figure.subplots(1, 3, width_ratios=(1.0, 1.0, 1.0))
    style.canvas(plane, r"Path of $\beta$")
    deltas = data["delta"].values
    for k, delta in enumerate(deltas):
        of = data.sel(delta=delta)
        colour = _colour(k, len(deltas))
        x, y = (np.moveaxis(of["beta"].values, -1, 0)[c] for c in (0, 1))
        plane.plot(x[0], y[0], **overlay.solid(colour), label=f"{delta:g}")
        plane.plot(x[1], y[1], **overlay.dotted())
        for ax, name in zip(others, ("alignment", "kernel_distance"), strict=True):
            simulated, exact = of[name].values
            ax.plot(data["time"], simulated, **overlay.solid(colour))
            ax.plot(data["time"], exact, **overlay.dotted())
    plane.plot(*data.attrs["beta"], "o", color=style.ink(), markersize=4)
    plane.plot(*data.attrs["target"], "*", color=style.ink(), markersize=9)
    plane.set_aspect("equal", adjustable="datalim")
    plane.set_xlabel(r"$\beta_1$", fontsize=style.TEXT)
    plane.set_ylabel(r"$\beta_2$", fontsize=style.TEXT)
    for ax, title in zip(others, ("Alignment with the target", "Movement of the kernel"), strict=True):
        style.canvas(ax, title).set_xlabel("time", fontsize=style.TEXT)
        ax.margins(x=0)
    others[0].set_ylabel(r"$\cos(w, \beta_*)$", fontsize=style.TEXT)
    others[1].set_ylabel("$|K - K_0| / |K_0|$", fontsize=style.TEXT)
    handles, labels = plane.get_legend_handles_labels()
    figure.legend(handles, labels, title=r"$\delta = a^2 - |w|^2$", loc="outside right center", frameon=False,
                  fontsize=style.TEXT, title_fontsize=style.TEXT)  # fmt: skip
    overlay.key(figure)
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers of the theory that identify the result."""
    middle = data.sel(source="theory").isel(time=data.sizes["time"] // 10)
    return {
        f"{name} at t = 2, delta {delta:g}": float(middle[name].sel(delta=delta))
        for name in ("alignment", "kernel_distance")
        for delta in data["delta"].values
    }


def check(data: xr.Dataset) -> list[Checked]:
    r"""Gaps; where the kernel ends, by hand; stored numbers.

    |beta| is 1 at both ends, hence a and |w| are the same as well: $K - K_0 = w w^T - w_0 w_0^T$ with w orthogonal to
    w_0, of norm $\sqrt 2 |w|^2$, and $|K_0|^2 = (a^2 + |w|^2)^2 + a^4$.
    """
    gaps = [at_most(f"gap of {name}", data["gap"].sel(quantity=name).max(), GAP) for name in data["quantity"].values]
    a2 = np.array([_output_weight(delta, 1.0) for delta in data["delta"].values]) ** 2
    w2 = 1 / a2
    by_hand = np.sqrt(2) * w2 / np.hypot(a2 + w2, a2)
    limit = at_most(
        "kernel movement in the limit, by hand", np.abs(data["kernel_distance_limit"].values - by_hand).max(), 1e-12
    )
    return [*gaps, limit, *golden(measured(data), GOLDEN)]


def _output_weight(delta: float, size: float) -> float:
    """a > 0 of a^2 - |w|^2 = delta and a |w| = size; without cancellation for delta < 0."""
    root = np.hypot(delta / 2, size)
    return float(np.sqrt(delta / 2 + root if delta >= 0 else size**2 / (root - delta / 2)))


def _colour(k: int, count: int) -> tuple:
    """From dark (small delta) to light (large): an ordered scale that ends before it is too light to see."""
    return mpl.colormaps["viridis"](0.88 * k / max(count - 1, 1))
