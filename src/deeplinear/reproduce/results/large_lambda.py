"""Kernels and representations at large lambda: a 3-3-3 network with lambda = -50, 0 and 50.

At large |lambda| the tangent kernel hardly moves (lazy), although one of the two layers still takes the structure of
the task; at lambda = 0 both do (rich). Source: Domine et al. (2025); our own draws of task and start.
"""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .. import lambda_cases, overlay
from ..checks import Checked, at_least, at_most, golden
from ..lambda_cases import LambdaSettings

SETTINGS = QUICK = LambdaSettings((3, 3, 3), lambdas=(-50.0, 0.0, 50.0), horizons=(0.12, 20.0, 0.12), scale=0.1, seed=4)
GAP = 1e-10  # relative to the largest entry; one layer is 50 times smaller than the other
INVERSE_GAP = 1e-8  # W_2 is inverted, which multiplies its error by the square of its condition number, here 1e4
SHOWN = ("function", "gram_in", "gram_out", "loss", "ntk", "rsm_input")
LAZY, RICH = 0.05, 1.0  # relative movement of the kernel
GOLDEN: dict[str, float] = {
    "loss at half time, lambda -50": 0.5609792456,
    "trace of the tangent kernel at half time, lambda -50": 450.0899265,
    "loss at half time, lambda 0": 0.5920571574,
    "trace of the tangent kernel at half time, lambda 0": 5.64072559,
    "loss at half time, lambda 50": 0.5609792456,
    "trace of the tangent kernel at half time, lambda 50": 450.0899265,
}


def run(settings: LambdaSettings = SETTINGS) -> xr.Dataset:
    """Simulation and theory of every lambda."""
    return lambda_cases.simulate(settings)


def figure(data: xr.Dataset) -> Figure:
    """One column a lambda."""
    heading = "Large $|\\lambda|$ in a 3–3–3 network: six entries of each matrix"
    return overlay.grid(data, "lam", SHOWN, heading, lambda lam: f"$\\lambda = {lam:g}$")


def gram_of_function(data: xr.Dataset) -> float:
    r"""Gap of $W_1^T W_1 = -\lambda / 2 + \sqrt{\lambda^2 / 4 + W^T W}$ in the simulation, relative to the largest."""
    gaps = []
    for lam in data["lam"].values:
        run = data.sel(lam=lam, source="simulation")
        W, G = run["function"].values, run["gram_in"].values
        _, s, Vt = np.linalg.svd(W)
        eigenvalues = s**2 / (np.sqrt(lam**2 / 4 + s**2) + abs(lam) / 2) + max(-lam, 0.0)
        predicted = (np.swapaxes(Vt, 1, 2) * eigenvalues[:, None, :]) @ Vt
        gaps.append(np.abs(predicted - G).max() / np.abs(G).max())
    return float(max(gaps))


def check(data: xr.Dataset) -> list[Checked]:
    """Gaps, the regimes told apart by the movement of the kernel, and stored numbers."""
    bound = lambda name: INVERSE_GAP if name == "rsm_output" else GAP
    gaps = [at_most(f"gap of {name}", data["gap"].sel(quantity=name).max(), bound(name)) for name in overlay.NAMES]
    moved = lambda_cases.kernel_movement(data)
    regimes = [
        at_most(f"kernel moves little, lambda {lam:g}", distance, LAZY)
        if lam
        else at_least("kernel moves, lambda 0", distance, RICH)
        for lam, distance in moved.items()
    ]
    closed = at_most("W_1^T W_1 from the function alone", gram_of_function(data), GAP)
    return [*gaps, *regimes, closed, *golden(lambda_cases.measured(data), GOLDEN)]
