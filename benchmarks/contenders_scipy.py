"""scipy's integrators and plain gradient descent on the numpy field.

A contender is `prepare(problem) -> run(tolerance) -> layers of every member`, each layer (time, d_l, d_{l-1}).
"""

from collections.abc import Callable

import numpy as np
from scipy.integrate import solve_ivp

from .field import Field
from .problems import Problem

Layers = list[np.ndarray]
Run = Callable[[float], list[Layers]]

LARGEST_DENSE = 2000  # weights up to which a dense Jacobian is factorised
ATOL_SHARE = 1e-3  # atol / rtol: weights start at 1e-3 to 1e-1


class NotApplicable(Exception):
    """This contender cannot take this problem; the message says why."""


def require_small(problem: Problem) -> None:
    """Raises `NotApplicable` where a dense Jacobian is out of the question."""
    if problem.size > LARGEST_DENSE:
        raise NotApplicable(f"dense Jacobian of {problem.size} weights (limit {LARGEST_DENSE})")


def _scipy(problem: Problem, method: str, with_jacobian: bool) -> Run:
    field = Field(problem)
    if with_jacobian:
        require_small(problem)
    options = {"jac": field.jacobian} if with_jacobian else {}

    def solve(start: tuple[np.ndarray, ...], tolerance: float) -> Layers:
        solution = solve_ivp(
            field,
            (0.0, problem.horizon),
            field.flat(start),
            method=method,
            t_eval=problem.ts,
            rtol=tolerance,
            atol=ATOL_SHARE * tolerance,
            **options,
        )
        if not solution.success:
            raise ArithmeticError(solution.message)
        return field.layers(np.ascontiguousarray(solution.y.T))

    return lambda tolerance: [solve(start, tolerance) for start in problem.starts]


def rk45(problem: Problem) -> Run:
    """Dormand and Prince's 5(4), the default of `solve_ivp`."""
    return _scipy(problem, "RK45", with_jacobian=False)


def dop853(problem: Problem) -> Run:
    """Dormand and Prince's 8(5,3)."""
    return _scipy(problem, "DOP853", with_jacobian=False)


def lsoda(problem: Problem) -> Run:
    """Adams and BDF with switching, analytic Jacobian."""
    return _scipy(problem, "LSODA", with_jacobian=True)


def radau(problem: Problem) -> Run:
    """Radau IIA of order 5, analytic Jacobian."""
    return _scipy(problem, "Radau", with_jacobian=True)


def descent(problem: Problem) -> Run:
    """Full-batch gradient descent; its error is proportional to its step, `tolerance` times 10 over the sharpness."""
    field = Field(problem)

    def solve(start: tuple[np.ndarray, ...], tolerance: float) -> Layers:
        between = problem.ts[0]  # outputs are evenly spaced
        steps = int(np.ceil(between * problem.stiffest / (10 * tolerance)))
        step, y = between / steps, field.flat(start)
        kept = np.empty((problem.outputs, problem.size))
        for i in range(problem.outputs):
            for _ in range(steps):
                y += step * field.update(y)
            kept[i] = y
        return field.layers(kept)

    return lambda tolerance: [solve(start, tolerance) for start in problem.starts]
