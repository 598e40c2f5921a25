"""Gradient descent on a 4-5-3 network follows the exact solution of a zero-balanced start.

Learning rate 0.05, 10 000 steps, 10 samples with white inputs: function, Gram matrices, tangent kernel and loss.
Source: Braun et al. (2022), Fig. 2a and b; task and start are our own draws.
"""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ... import init
from ...descent import gradient_descent
from ...exact import two_layer
from ...flows import gradient_flow
from .. import overlay
from ..checks import Checked, at_most, golden


@dataclass(frozen=True)
class Settings:
    """Parameters."""

    widths: tuple[int, int, int] = (4, 5, 3)
    samples: int = 10
    rate: float = 0.05
    steps: int = 10_000
    scale: float = 0.2
    seed: int = 3
    points: int = 240
    rtol: float = 1e-11


SETTINGS = QUICK = Settings()
DESCENT_GAP = 0.02  # of first order in the learning rate
FLOW_GAP = 1e-10
SHOWN = ("function", "gram_in", "gram_out", "ntk", "loss")
GOLDEN: dict[str, float] = {
    "exact loss at the middle step": 0.8479423001,
    "descent loss at the middle step": 0.8479422363,
    "gap of the function, descent": 0.01164779069,
}


def run(settings: Settings = SETTINGS) -> xr.Dataset:
    """Descent and flow, each beside the exact solution at its own times."""
    d_x, _, d_y = settings.widths
    X, Y = overlay.whitened_samples(settings.seed, settings.samples, d_x, d_y)
    objective = overlay.whitened_objective(X, Y)
    start = init.balanced(settings.seed, settings.widths, scale=settings.scale)
    steps = np.unique(np.concatenate([[0], np.geomspace(1, settings.steps, settings.points).astype(int)]))
    ts = steps * settings.rate
    exact = overlay.exact_readings(two_layer(objective, start)(ts), X, Y)
    descended = gradient_descent(objective, start, settings.rate, settings.steps, save_at=steps).networks
    flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
    cases = {
        kind: (ts, overlay.simulated_readings(networks, objective, X, Y), exact)
        for kind, networks in {"descent": descended, "flow": flow.networks}.items()
    }
    return overlay.dataset(cases, "rule", asdict(settings))


def figure(data: xr.Dataset) -> Figure:
    """Descent in the left column, flow in the right, on a logarithmic time axis."""
    heading = "A zero-balanced 4–5–3 network: six entries of each matrix"
    titles = {"descent": f"gradient descent, rate {data.attrs['rate']:g}", "flow": "gradient flow"}
    return overlay.grid(data, "rule", SHOWN, heading, titles.__getitem__, log_from=data.attrs["rate"] * 4)


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers that identify the result."""
    at = data.isel(step=data.sizes["step"] // 2)
    read = lambda rule, source: float(at["loss"].sel(rule=rule, source=source))
    return {
        "exact loss at the middle step": read("descent", "theory"),
        "descent loss at the middle step": read("descent", "simulation"),
        "gap of the function, descent": float(data["gap"].sel(rule="descent", quantity="function")),
    }


def check(data: xr.Dataset) -> list[Checked]:
    """Gaps of both, and stored numbers."""
    gaps = [
        at_most(f"gap of {name}, {rule}", data["gap"].sel(rule=rule, quantity=name), bound)
        for rule, bound in (("descent", DESCENT_GAP), ("flow", FLOW_GAP))
        for name in SHOWN
    ]
    return gaps + golden(measured(data), GOLDEN)
