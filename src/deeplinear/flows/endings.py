"""What the last network of a run is: a minimum, a saddle, or just where time ran out."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..network import Network
from ..objectives import SquaredError
from ..running.landmarks import AT_REST, Landmarks, Standing
from ..trajectory import Ending
from .stepping import Problem

MESSAGES = AT_REST | {
    "time": "stopped at the last time asked for",
    "steps": "the budget of {steps} steps is spent; raise `max_steps`, loosen `rtol`, or give a time limit",
    "interrupted": "interrupted; the trajectory holds everything up to here",
    "stalled": "the step size fell below rounding; the weights are beyond float64 or on their way there",
}


BOUNDED = "still {excess:.3g} above the smallest loss at t = {time:.3g}, long after the last transition was expected"
OBSTRUCTED = {
    False: "; the exact flow ends at loss {loss:.6g} or above: {reason}",
    True: "; rounding or `rtol` led the run away from the exact flow, which ends at loss {loss:.6g} or above: {reason}",
}
"""Added where the start obstructs the flow, by whether the run came to the minimum all the same."""


class Outcome(NamedTuple):
    """What an integration leaves behind, whoever did it."""

    kind: str
    """Why it stopped: "time", "steps", "stalled", ..."""
    ts: Any
    networks: Network
    last: Network
    """Where it stopped, at the last of `ts`."""
    gradient_norm: float
    counts: tuple[int, int | None, int, str]
    """Steps, evaluations, rejected steps and the solver's name, as in `Statistics`."""


def judge(
    kind: str,
    problem: Problem,
    network: Network,
    stand: Standing,
    marks: Landmarks,
    t: float,
    gradient_norm: float,
    goal: float | None,
    steps: int,
) -> Ending:
    """The ending of a run; "time" and "critical point" are made more precise where the smallest loss is known."""
    excess = None if stand.excess is None else float(stand.excess)
    if excess is not None and goal is not None and kind in ("time", "critical point"):
        if excess <= goal:
            kind = "global minimum"
        elif kind == "critical point" and problem.mask is None:
            kind = "saddle"
    message = MESSAGES[kind].format(excess=float("nan") if excess is None else excess, steps=steps)
    rate = _escape_rate(problem.objective, network) if kind == "saddle" else None
    W, loss = np.asarray(stand.W), float(stand.loss)
    if not np.isfinite(W).all() and np.isnan(loss):  # inf - inf, or inf, as the compiler happens to add
        loss = np.inf
    return Ending(kind, loss, excess, t, gradient_norm, marks.learned(W), rate, message)


def _escape_rate(objective: Any, network: Network) -> float:
    from ..curvature import lowest_eigenvalue  # a fortieth of a second that only runs which end at saddles wait for

    return max(-lowest_eigenvalue(objective, network), 0.0)


def explained(ending: Ending, problem: Problem, start: Network, bound: float | None) -> Ending:
    """The ending, with what keeps the exact flow from the minimum where theory says that something does.

    `bound` is the time limit that the run set itself, if it did.
    """
    if bound is not None and ending.kind == "time":
        ending = replace(ending, message=BOUNDED.format(time=bound, excess=ending.excess))
    whole = problem.mask is None and problem.weight_decay is None
    if not whole or not isinstance(problem.objective, SquaredError):
        return ending
    from ..obstructions import obstruction  # as above

    found = obstruction(problem.objective, start)
    if found is None:
        return ending
    more = OBSTRUCTED[ending.kind == "global minimum"].format(loss=found.loss, reason=found.reason)
    return replace(ending, message=ending.message + more, predicted_loss=found.loss)
