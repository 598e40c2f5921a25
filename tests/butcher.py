"""Independent checks of an explicit Runge-Kutta step: its Butcher tableau, and the order on a nonlinear system."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.integrate import solve_ivp

Table = Mapping[str, np.ndarray]
Step = Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]


def tableau(step: Step, member: int, table: Table, evaluations: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (n, n), b (n,) and error weights (n,), read off by running the step on coefficient vectors of h k_0, h k_1, ...

    The last of the n evaluations is the slope at the new point, so that its row of A is b.
    """
    rows = [np.zeros(evaluations)]

    def field(stage: np.ndarray) -> np.ndarray:
        rows.append(stage.copy())
        return np.eye(evaluations)[len(rows) - 1]

    new, _, error = step(field, np.zeros(evaluations), np.eye(evaluations)[0], 1.0, member, table)
    assert len(rows) == evaluations
    return np.array(rows), new, error


def order_defects(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Left minus right side of the 8 order conditions of order 4, in the usual order (1, 2, 3, 3, 4, 4, 4, 4)."""
    c = a.sum(axis=1)
    left = [b.sum(), b @ c, b @ c**2, b @ a @ c, b @ c**3, b @ (c * (a @ c)), b @ a @ c**2, b @ a @ a @ c]
    return np.array(left) - 1 / np.array([1, 2, 3, 6, 4, 8, 12, 24])


def error_moments(a: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The four sums that vanish when the companion solution y_1 + error has order 3."""
    c = a.sum(axis=1)
    return np.array([weights.sum(), weights @ c, weights @ c**2, weights @ a @ c])


def amplification(step: Step, member: int, table: Table, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R(z), the error estimate's polynomial, and the largest |stage| over all stages, for y' = z y with h = 1."""
    largest = np.ones_like(z)

    def field(stage: np.ndarray) -> np.ndarray:
        np.maximum(largest, np.abs(stage), out=largest)
        return z * stage

    new, _, error = step(field, np.ones_like(z), z.copy(), 1.0, member, table)
    return new, error, largest


def nonlinear(y: np.ndarray) -> np.ndarray:
    """A smooth nonlinear system of four components whose fourth is the time: no symmetry, coupled."""
    u, v, w, t = y
    return np.array([v * w + np.cos(t), -u * w + 0.3 * v**2 - t * u, np.sin(u) - 0.51 * u * v * w, 1.0])


START = np.array([0.4, 1.0, -0.7, 0.0])


def global_errors(step: Step, member: int, table: Table, counts: list[int]) -> np.ndarray:
    """Error at time 1 with each number of equal steps."""
    exact = solve_ivp(lambda _, y: nonlinear(y), (0, 1), START, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
    errors = []
    for count in counts:
        y, slope = START, nonlinear(START)
        for _ in range(count):
            y, slope, _ = step(nonlinear, y, slope, 1 / count, member, table)
        errors.append(np.linalg.norm(y - exact))
    return np.array(errors)


def estimated_errors(step: Step, member: int, table: Table, sizes: np.ndarray) -> np.ndarray:
    """Norm of the error estimate of the first step, for each step size."""
    slope = nonlinear(START)
    return np.array([np.linalg.norm(step(nonlinear, START, slope, h, member, table)[2]) for h in sizes])


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least-squares slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def round_off(step: Step, member: int, table: Table) -> float:
    """Rounding error of one step relative to |y|, on the heat equation with the stiffest rate at 0.95 of the interval.

    Not diagonal on purpose: only where components mix does the rounding of the large ones reach the stiff ones.
    """
    scale = 0.95 * table["interval"][member] / 4
    start = np.sin(np.pi * np.arange(1, 100) / 100) + 0.3

    def heat(y: np.ndarray) -> np.ndarray:
        padded = np.concatenate([[0], y, [0]])
        return scale * (padded[2:] - 2 * y + padded[:-2])

    wide_table = dict(table) | {k: v.astype(np.longdouble) for k, v in table.items() if v.dtype == float}
    wide = start.astype(np.longdouble)
    exact = step(heat, wide, heat(wide), np.longdouble(1), member, wide_table)[0]
    new = step(heat, start, heat(start), 1.0, member, table)[0]
    return float(np.linalg.norm((new - exact).astype(float)) / np.linalg.norm(start))
