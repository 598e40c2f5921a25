"""A made-up run whose answer is known in closed form, following the schema of the dataset that `learn` makes."""

from __future__ import annotations

import numpy as np
import xarray as xr

DEGENERATE = (0.661438, 0.433013, 0.25, 0.25)


def strength(s: np.ndarray, times: np.ndarray, start: float) -> np.ndarray:
    """u = s / (1 + (s/u0 - 1) exp(-2 s t)): modes of a balanced two-layer network on white data, shape (time, mode)."""
    return s / (1 + (s / start - 1) * np.exp(-2 * s * times[:, None]))


def half_time(s: np.ndarray, start: float) -> np.ndarray:
    """The time at which `strength` is s / 2."""
    return np.log(s / start - 1) / (2 * s)


def run(singular_values=DEGENERATE, *, start: float = 1e-3, points: int = 200, last: float | None = None) -> xr.Dataset:
    """A finished run of a balanced two-layer network: simulation and theory differ by about 1e-7 of each strength."""
    s = np.asarray(singular_values, dtype=float)
    modes = len(s)
    halves = half_time(s, start)
    times = np.linspace(0, 1.6 * halves.max() if last is None else last, points)
    u = strength(s, times, start)
    wiggle = 1 + 1e-7 * np.sin(np.arange(points))[:, None]
    roots = np.sqrt(u)
    excess = 0.5 * ((s - u) ** 2).sum(axis=1)
    overlap = u / (u + 0.02 * s)
    return xr.Dataset(
        {
            "loss": ("time", excess + 0.01),
            "excess_loss": ("time", excess),
            "mode_strengths": (("time", "mode"), u * wiggle),
            "singular_values": (("time", "rank"), u),
            "layer_singular_values": (("time", "layer", "index"), np.stack([roots, roots], axis=1)),
            "imbalance_drift": (("time", "junction"), 1e-9 * times[:, None] / times[-1]),
            "alignment": (("time", "junction", "rank"), overlap[:, None, :]),
            "data_singular_values": ("mode", s),
            "variance_share": ("mode", s**2 / (s**2).sum()),
            "mode_targets": ("mode", s),
            "half_time": ("mode", halves * (1 + 1e-4)),
            "half_time_predicted": ("mode", halves),
            "theory_mode_strengths": (("time", "mode"), u),
        },
        {
            "time": times,
            "mode": np.arange(1, modes + 1),
            "layer": [1, 2],
            "junction": [1],
            "index": np.arange(1, modes + 1),
            "rank": np.arange(1, modes + 1),
        },
        attributes(modes),
    )


def attributes(modes: int) -> dict:
    """The attributes of a run, nested as `learn` writes them."""
    return {
        "title": "Semantic hierarchy, small start",
        "data": "hierarchy",
        "widths": [8, 16, modes],
        "loss_scale": "half mean",
        "loss_formula": "1/(2n) sum ||y - W x||^2",
        "time_unit": "1 (gradient-flow time; one descent step of size eta = eta)",
        "start": "balanced",
        "scale": 1e-3,
        "seed": 7,
        "rtol": 1e-6,
        "tolerance": 1e-6,
        "centered": False,
        "whitened": True,
        "versions": {"deeplinear": "0.1", "jax": "0.10", "python": "3.11"},
        "ending": {
            "kind": "global minimum",
            "loss": 0.01,
            "excess": 3.2e-13,
            "time": 23.4,
            "gradient_norm": 4.1e-7,
            "signature": list(range(1, modes + 1)),
            "message": "the gradient vanishes and the loss is the smallest possible",
        },
        "statistics": {"steps": 812, "evaluations": 4872, "rejected": 9, "solver": "dopri5", "seconds": 0.42},
        "theory": {"name": "two-layer balanced", "formula": "Fukumizu (1998), Theorem 3", "violations": []},
        "warnings": [],
        "experiment": {"data": "hierarchy", "hidden": [16], "init": "balanced", "scale": 1e-3, "seed": 7},
        "command": "deeplinear learn hierarchy --hidden 16 --init balanced --scale 1e-3 --seed 7",
    }
