"""One task learned from starts of several lambda: what two results share."""

from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr

from .. import init
from ..exact import two_layer
from ..flows import gradient_flow
from . import overlay


@dataclass(frozen=True)
class LambdaSettings:
    """Parameters; `scale` is the size of the start beyond what lambda asks for, `horizons` the end of every case."""

    widths: tuple[int, int, int]
    lambdas: tuple[float, ...]
    horizons: tuple[float, ...]
    scale: float
    seed: int
    samples: int = 10
    points: int = 121
    rtol: float = 1e-11


def simulate(settings: LambdaSettings) -> xr.Dataset:
    """Simulation and theory of every lambda."""
    d_x, _, d_y = settings.widths
    X, Y = overlay.whitened_samples(settings.seed, settings.samples, d_x, d_y)
    objective = overlay.whitened_objective(X, Y)
    cases = {}
    for lam, horizon in zip(settings.lambdas, settings.horizons, strict=True):
        start = init.lambda_balanced(settings.seed, settings.widths, lam, settings.scale)
        ts = np.linspace(0, horizon, settings.points)
        flow = gradient_flow(objective, start, ts, rtol=settings.rtol)
        exact = overlay.exact_readings(two_layer(objective, start)(ts), X, Y)
        cases[lam] = ts, overlay.simulated_readings(flow.networks, objective, X, Y), exact
    return overlay.dataset(cases, "lam", asdict(settings))


def kernel_movement(data: xr.Dataset) -> dict[float, float]:
    """How far the exact tangent kernel has moved in the end, relative to its start, of every lambda."""
    kernels = {lam: data["ntk"].sel(lam=lam, source="theory").values for lam in data["lam"].values}
    return {float(lam): float(np.linalg.norm(K[-1] - K[0]) / np.linalg.norm(K[0])) for lam, K in kernels.items()}


def measured(data: xr.Dataset) -> dict[str, float]:
    """Numbers of the theory that identify the result."""
    numbers = {}
    for lam in data["lam"].values:
        middle = data.sel(lam=lam, source="theory").isel(step=data.sizes["step"] // 2)
        numbers[f"loss at half time, lambda {lam:g}"] = float(middle["loss"])
        numbers[f"trace of the tangent kernel at half time, lambda {lam:g}"] = float(np.trace(middle["ntk"].values))
    return numbers
