"""Gradient descent tends to the exact flow in proportion to the learning rate, in 50 networks of random shapes.

Widths from 2 to 50, seven learning rates from 0.05 to 0.0005: the largest deviation of the function along the path, on
logarithmic axes a line of slope 1. Source: Braun et al. (2022), Fig. 2c and d; shapes and tasks are our own draws.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...descent import gradient_descent
from ...exact import two_layer
from ...network import Network
from ...objectives import SquaredError
from ...plots import style
from ..checks import Checked, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters; targets are Gaussian matrices whose largest singular value is about 1."""

    shapes: int = 50
    smallest: int = 2
    largest: int = 50
    rates: tuple[float, ...] = tuple(np.geomspace(0.05, 0.0005, 7).tolist())
    horizon: float = 10.0
    times: int = 20
    scale: float = 0.3
    seed: int = 0


SETTINGS = Settings()
QUICK = Settings(shapes=3, largest=12)
SLOPE = 0.005  # how far from 1 the slope of the whole range may be: terms of second order at the largest rate
GOLDEN: dict[str, float] = {
    "slope of shape 1": 1.000333962,
    "deviation of shape 1 at rate 0.05": 0.007452012606,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Deviation of every shape at every rate."""
    rng = np.random.default_rng(settings.seed)
    widths = rng.integers(settings.smallest, settings.largest + 1, (settings.shapes, 3))
    deviations = np.array(
        [
            deviation(settings, tuple(int(d) for d in shape), settings.seed + number)
            for number, shape in enumerate(widths)
        ]
    )
    slopes = np.polyfit(np.log(settings.rates), np.log(deviations).T, 1)[0]
    variables = {
        "deviation": (
            ("shape", "rate"),
            deviations,
            {"long_name": "largest deviation of W from the exact flow, |W - W*| / |S|"},
        ),
        "slope": ("shape", slopes, {"long_name": "slope of log deviation against log rate"}),
        "widths": (("shape", "layer"), widths),
    }
    coordinates = {"shape": np.arange(1, settings.shapes + 1), "rate": list(settings.rates), "layer": [0, 1, 2]}
    return xr.Dataset(variables, coordinates, asdict(settings))


def deviation(settings: Settings, widths: tuple[int, ...], seed: int) -> list[float]:
    """Largest deviation along the path at every rate, of one network.

    Everything is filled up with zeros to the largest shape, which neither descent nor flow leave: one compiled program
    serves all shapes.
    """
    d_x, _, d_y = widths
    n = settings.largest
    rng = np.random.default_rng([settings.seed, seed])
    S = rng.standard_normal((d_y, d_x)) / (np.sqrt(d_x) + np.sqrt(d_y))
    start = _start(settings, widths, S, rng)
    objective = SquaredError.from_moments(_filled(S, n))
    network = Network([_filled(np.asarray(W), n) for W in start.weights])
    exact, found = two_layer(objective, network), []
    for rate in settings.rates:
        counts = np.unique(np.round(np.linspace(0, settings.horizon, settings.times + 1) / rate).astype(int))
        descended = gradient_descent(objective, network, rate, int(counts[-1]), save_at=counts, reduce=False)
        gap = np.asarray(descended.end_to_end) - np.asarray(exact(counts * rate).end_to_end)
        found.append(float(np.linalg.norm(gap, axis=(1, 2)).max() / np.linalg.norm(S)))
    return found


def _start(settings: Settings, widths: tuple[int, ...], S: np.ndarray, rng: np.random.Generator) -> Network:
    """A 0-balanced start; of square networks one whose determinant has the sign of the task's.

    Made by numpy: `init.balanced` would compile its pieces for each of the shapes.
    """
    d_x, d_1, d_y = widths
    rank = min(widths)
    V, E, U = (np.linalg.qr(rng.standard_normal((d, rank)))[0] for d in (d_x, d_1, d_y))
    z = np.sqrt(settings.scale / max(widths)) * np.linalg.svd(rng.standard_normal((rank, rank)))[1] ** 0.5
    if d_x == d_y == rank and np.linalg.slogdet(U @ V.T)[0] != np.linalg.slogdet(S)[0]:
        U[:, 0] *= -1
    return Network([(E * z[None, :]) @ V.T, (U * z[None, :]) @ E.T])


def _filled(M: np.ndarray, n: int) -> np.ndarray:
    return np.pad(M, [(0, n - M.shape[0]), (0, n - M.shape[1])])


def figure(data: xr.Dataset) -> Figure:
    """One line a shape, with a line of slope 1."""
    figure = Figure(figsize=style.SIZE, layout="constrained")
    ax = style.canvas(figure.subplots(), "Gradient descent tends to gradient flow")
    rates, values = data["rate"].values, data["deviation"].values
    ax.loglog(rates, values.T, color=style.GREY, linewidth=0.7, marker="o", markersize=2.5)
    ax.loglog(rates, np.exp(np.log(values).mean(0)), color=style.colour(0), linewidth=2.0, marker="o", markersize=4)
    middle = np.exp(np.log(values).mean()) / np.exp(np.log(rates).mean())
    ax.loglog(rates, 1.9 * middle * rates, **(style.dots() | {"linewidth": 2.0}))
    ax.annotate("slope 1", (rates[3], 1.9 * middle * rates[3]), xytext=(-8, 8), textcoords="offset points",
                fontsize=style.TEXT, ha="right")  # fmt: skip
    ax.set_xlabel("learning rate", fontsize=style.TEXT)
    ax.set_ylabel(r"largest deviation, $\max_t |W - W_{\rm exact}| / |\Sigma|$", fontsize=style.TEXT)
    mean, count = float(data["slope"].mean()), data.sizes["shape"]
    ax.text(0.98, 0.04, f"{count} networks (grey) and their mean\nfitted slopes {mean:.3f} on average",
            transform=ax.transAxes, ha="right", fontsize=style.TEXT)  # fmt: skip
    return figure


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    return {
        "slope of shape 1": float(data["slope"][0]),
        "deviation of shape 1 at rate 0.05": float(data["deviation"][0, 0]),
    }


def check(data: xr.Dataset) -> list[Checked]:
    """Slopes of the whole range and of the smallest rates."""
    log = np.log(data["deviation"].values)
    last = np.diff(log[:, -2:], axis=1)[:, 0] / np.diff(np.log(data["rate"].values[-2:]))
    checks = [
        at_most("slope differs from 1, mean of shapes", abs(float(data["slope"].mean()) - 1), SLOPE),
        at_most("slope differs from 1, worst shape", np.abs(data["slope"].values - 1).max(), 2 * SLOPE),
        at_most("slope of the two smallest rates differs from 1, worst shape", np.abs(last - 1).max(), 0.001),
    ]
    stored = GOLDEN if data.attrs["largest"] == SETTINGS.largest else {}  # other widths are drawn
    return checks + golden(measured(data), stored)
