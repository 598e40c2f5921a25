"""What the last network of a run is: a minimum, a saddle, or just where time ran out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..curvature import lowest_eigenvalue
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Ending
from .explicit import Problem

MESSAGES = {
    "global minimum": "the excess loss fell to the tolerance: {excess:.3g} above the smallest that the widths allow",
    "saddle": "the gradient is zero to rounding, {excess:.3g} above the smallest loss: a saddle, not a minimum",
    "critical point": "the gradient is zero to rounding; no closed form says here whether it is a minimum",
    "time": "stopped at the last time asked for",
    "steps": "the budget of {steps} steps is spent; raise `max_steps`, loosen `rtol`, or give a time limit",
    "interrupted": "interrupted; the trajectory holds everything up to here",
    "stalled": "the step size fell below rounding; the weights may be growing without bound",
}


def judge(
    kind: str, problem: Problem, network: Network, t: float, gradient_norm: float, goal: float | None, steps: int
) -> Ending:
    """The ending of a run; "time" and "critical point" are made more precise where the smallest loss is known."""
    objective, W = problem.objective, network.end_to_end
    excess = float(objective.excess(W, network.max_rank)) if hasattr(objective, "excess") else None
    if excess is not None and goal is not None and kind in ("time", "critical point"):
        if excess <= goal:
            kind = "global minimum"
        elif kind == "critical point" and problem.mask is None:
            kind = "saddle"
    message = MESSAGES[kind].format(excess=float("nan") if excess is None else excess, steps=steps)
    rate = None
    if kind == "saddle":
        rate = max(-lowest_eigenvalue(objective, network), 0.0)
    learned = learned_modes(objective, W, network.max_rank)
    return Ending(kind, float(objective(W)), excess, t, gradient_norm, learned, rate, message)


def learned_modes(objective: Any, W: Any, max_rank: int) -> tuple[int, ...] | None:
    """Numbers (from 1) of the modes whose strength u_a^T W v_a is beyond half of its value at the optimum."""
    progressions = mode_progressions(objective, max_rank)
    if progressions is None:
        return None
    return tuple(int(a) + 1 for a in np.flatnonzero(progressions(np.asarray(W)[None])[0] > 0.5))


def mode_progressions(objective: Any, max_rank: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """(T, d_y, d_x) -> (T, mode): strengths u_a^T W v_a over those of the best matrix of that rank; 0 where that is 0.

    None for objectives without modes.
    """
    if not isinstance(objective, SquaredError):
        return None
    U, _, V = (np.asarray(part) for part in objective.modes)
    targets = np.sum(U * (np.asarray(objective.optimum_at_rank(max_rank)) @ V), axis=0)
    seen = np.abs(targets) > 1e-12 * np.abs(targets).max(initial=0.0)
    scales = np.where(seen, 1 / np.where(seen, targets, 1.0), 0.0)
    return lambda matrices: np.sum(U[None] * (matrices @ V), axis=1) * scales
