"""Exact learning dynamics from lazy to rich: a 3-2-3 network with lambda = -1, 0 and 1.

Function, Gram matrices of both layers, loss, tangent kernel and similarities of hidden representations under gradient
flow, with the exact solution on top. Source: Domine et al. (2025), the figure of exact dynamics, with our own draws of
task and start.
"""

import xarray as xr
from matplotlib.figure import Figure

from .. import lambda_cases, overlay
from ..checks import Checked, at_most, golden
from ..lambda_cases import LambdaSettings

SETTINGS = QUICK = LambdaSettings((3, 2, 3), lambdas=(-1.0, 0.0, 1.0), horizons=(12.0,) * 3, scale=0.25, seed=1)
GAP = 1e-10  # the flow at rtol, through transitions that amplify its error
SHOWN = ("function", "gram_in", "gram_out", "loss", "ntk", "rsm_input")
GOLDEN: dict[str, float] = {
    "loss at half time, lambda -1": 1.069289896,
    "trace of the tangent kernel at half time, lambda -1": 7.316380651,
    "loss at half time, lambda 0": 1.008648956,
    "trace of the tangent kernel at half time, lambda 0": 4.652315008,
    "loss at half time, lambda 1": 1.010115958,
    "trace of the tangent kernel at half time, lambda 1": 7.891711125,
}


def run(settings: LambdaSettings = SETTINGS) -> xr.Dataset:
    """Simulation and theory of every lambda."""
    return lambda_cases.simulate(settings)


def figure(data: xr.Dataset) -> Figure:
    """One column a lambda."""
    heading = "Exact dynamics of a 3–2–3 network: six entries of each matrix"
    return overlay.grid(data, "lam", SHOWN, heading, lambda lam: f"$\\lambda = {lam:g}$")


def check(data: xr.Dataset) -> list[Checked]:
    """Gaps of all quantities, and stored numbers."""
    gaps = [at_most(f"gap of {name}", data["gap"].sel(quantity=name).max(), GAP) for name in data["quantity"].values]
    return gaps + golden(lambda_cases.measured(data), GOLDEN)
