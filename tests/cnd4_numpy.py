"""A reference step of CND4, a stabilised explicit Runge-Kutta method of order 4 for y' = f(y), in numpy.

The table comes from tools/generate_cnd4.py, which states the method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]
Real = float | np.floating


def cnd4_step(
    field: Field, y: np.ndarray, slope: np.ndarray, step: Real, member: int, table: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step from y with slope = f(y): the new state, its slope and the error estimate; s + 3 evaluations."""
    first, last = table["offset"][member : member + 2]
    beta, eps, interval = table["beta"][first:last], table["eps"][first:last], table["interval"][member]
    (p, q), (lam, b1, b2, b3, e_a) = table["place"][member], table["repair"][member]
    stages = last - first
    b = interval / (2 * stages**2)
    before, here = np.zeros_like(y), (2 * b / interval * step) * slope
    total, linear, error = beta[0] * here, np.zeros_like(y), eps[0] * here
    defect = np.zeros_like(y)
    rate = field(y + here) - slope  # k_j - k_0
    linear = beta[0] * rate
    for j in range(2, stages + 1):
        if j == p + 1:
            defect = step * (field(y + lam * here) - slope - lam * rate)
        before, here = here, 2 * here - before + (4 * step / interval) * (rate + b * slope)
        if j == q:
            here = here + b1 * defect
        rate = field(y + here) - slope
        total, linear, error = total + beta[j - 1] * here, linear + beta[j - 1] * rate, error + eps[j - 1] * here
    middle = field(y + total)
    new = y + (total + b2 * defect + b3 * step * (middle - slope - linear))
    new_slope = field(new)
    return new, new_slope, error + e_a * defect + (step / interval) * (new_slope - middle)
