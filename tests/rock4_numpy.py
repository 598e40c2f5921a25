"""A reference step of the stabilised explicit Runge-Kutta method ROCK4 for y' = f(y), in numpy.

Method: A. Abdulle, SIAM J. Sci. Comput. 23 (2002) 2041-2054. The table comes from tools/generate_rock4.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]
Real = float | np.floating


def rock4_step(
    field: Field, y: np.ndarray, slope: np.ndarray, step: Real, member: int, table: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step from y with slope = f(y): the new state, its slope and the error estimate; s evaluations."""
    first, last = table["offset"][member : member + 2]
    mu, ka = table["mu"][first:last], table["ka"][first:last]
    previous, current = y, y + step * mu[0] * slope
    for mu_j, ka_j in zip(mu[1:], ka[1:], strict=True):
        # (1 + ka) g - ka g' as g + ka (g - g'): fewer roundings
        following = current + ka_j * (current - previous) + (step * mu_j) * field(current)
        previous, current = current, following
    a21, a31, a32, a41, a42, a43, b1, b2, b3, b4 = step * table["finish"][member]
    k1 = field(current)
    k2 = field(current + a21 * k1)
    k3 = field(current + a31 * k1 + a32 * k2)
    k4 = field(current + a41 * k1 + a42 * k2 + a43 * k3)
    new = current + (b1 * k1 + b2 * k2 + b3 * k3 + b4 * k4)
    k5 = field(new)
    e1, e2, e3, e4, e5 = step * table["error"][member]
    return new, k5, e1 * k1 + e2 * k2 + e3 * k3 + e4 * k4 + e5 * k5
