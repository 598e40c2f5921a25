"""What the last network of a run is: a minimum, a saddle, or just where time ran out."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from .._trees import remembered
from ..network import Network
from ..objectives import SquaredError
from ..obstructions import FULL_RANK, Obstacles, Obstruction, has_sign, kept_sign_of
from ..running.landmarks import AT_REST, Landmarks, Standing, landmarks
from ..trajectory import Ending
from .horizon import rest_of
from .problem import Problem

MESSAGES = {
    "time": "stopped at the last time asked for",
    "steps": "the budget of {steps} steps is spent; raise `max_steps`, loosen `rtol`, or give a time limit",
    "interrupted": "interrupted; the trajectory holds everything up to here",
    "stalled": "the step size fell below rounding; the weights are beyond float64 or on their way there",
    "late": (
        "times near t = {t:.3g} are {gap:.2g} apart in float64, longer than the steps of the transition that begins "
        "there; follow it from the last network, whose time then counts from 0, or start from larger weights"
    ),
}
LEFT = 1e-6
"""Singular values below this share of the largest do not tell the sign of a determinant: about the errors of a run."""
SLOW = (
    "; the slowest inputs that still count have variance {variance:.3g}, their error decays at the rate {rate:.3g}: "
    "about {time:.3g} more would be needed"
)
BOUNDED = "stopped at t = {time:.3g}, long after the last transition was expected, {excess:.3g} above the smallest loss"
BELOW = "the gradient is below its own rounding, {excess:.3g} above the smallest loss"
AT_SADDLE = "the loss is within {gap:.3g} of that of the saddle at which the exact flow ends, {loss:.6g}: {reason}"
NOT_THERE = "; the exact flow ends at loss {loss:.6g} or above: {reason}"
LEFT_BEHIND = (
    "rounding or `rtol` led the run away from the exact flow, which ends at loss {loss:.6g} or above: {reason}"
)
CHANGED_SIGN = (
    "rounding or `rtol` led the run away from the exact flow: the start is 0-balanced, so that the sign of det W(0) is "
    "kept for ever, and det W has the other one"
)
JUDGED = ("left the flow", "time", "critical point", "global minimum", "saddle")
"""Kinds that speak of where a run stands and not of what stopped it."""


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


class Fate(NamedTuple):
    """What theory says beforehand of the flow from a start."""

    obstruction: Obstruction | None = None
    sign: float | None = None
    """The sign of det W that the flow keeps, None: nothing keeps it."""


def fate_of(problem: Problem, start: Network, obstacles: Obstacles | None) -> Fate:
    """What is known of the flow from a start; `obstacles` as `obstacles_of` gives them."""
    if problem.mask is not None:
        return Fate()
    found = None if obstacles is None else obstacles.before(start)
    decay = problem.weight_decay
    alike = decay is None or np.ptp(np.asarray(decay)) == 0  # otherwise balance is not kept
    return Fate(found, kept_sign_of(start) if alike else None)


def obstacles_of(problem: Problem, objective: Any) -> Obstacles | None:
    """What obstructs starts of a problem with this objective; None where nothing is known of it."""
    whole = problem.mask is None and problem.weight_decay is None
    if not (whole and isinstance(objective, SquaredError)):
        return None
    host = objective.on_host
    return remembered(host, "obstacles", lambda: Obstacles(host))


def judge(
    kind: str,
    problem: Problem,
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
        if marks.is_minimum(excess, goal):
            kind = "global minimum"
        elif kind == "critical point" and problem.mask is None:
            kind = "saddle"
    W, loss = np.asarray(stand.W), float(stand.loss)
    if kind in AT_REST:
        message = marks.words(kind, excess)
    else:
        late = kind == "stalled" and t > 0 and marks.matrix_size > 0 and float(np.abs(W).max()) <= marks.matrix_size
        message = MESSAGES["late" if late else kind].format(steps=steps, t=t, gap=float(np.spacing(t)))
    if not np.isfinite(W).all() and np.isnan(loss):  # inf - inf, or inf, as the compiler happens to add
        loss = np.inf
    share = marks.unexplained(excess)
    return Ending(kind, loss, excess, t, gradient_norm, marks.learned(W), None, message, unexplained=share)


def explained(ending: Ending, problem: Problem, at: tuple[Network, Any], goal: float | None, bound: float | None):
    """The ending of a run that chose its own end, with what would have been needed where it stopped too early.

    `at`: the network where it stands, and its end-to-end matrix. `bound` is the time limit that the run set itself, if
    it did.
    """
    if ending.kind not in ("time", "steps", "saddle"):
        return ending
    rest = rest_of(problem, *at, goal)
    message = ending.message
    if ending.kind == "saddle":  # where all that is left is decay, it is no saddle: the gradient drowned on the way
        if rest is None:
            return ending
        message = BELOW.format(excess=ending.excess) + SLOW.format(**rest._asdict())
        return replace(ending, kind="stalled", message=message)
    if rest is None and bound is not None and ending.kind == "time":
        message = BOUNDED.format(time=bound, excess=ending.excess)
    elif rest is not None:
        message += SLOW.format(**rest._asdict())
    return replace(ending, message=message)


def fated(ending: Ending, fate: Fate, W: np.ndarray, goal: float | None) -> Ending:
    """The ending held against what theory says of the exact flow: a run that cannot be it is no minimum.

    W (d_y, d_x) is the end-to-end matrix where the run stands; `goal` the excess loss that counts as converged.
    """
    found, kind = fate.obstruction, ending.kind
    left = fate.sign is not None and not has_sign(fate.sign, W, LEFT)
    if found is None:
        if not left:
            return ending
        judged = kind in JUDGED
        message = CHANGED_SIGN if judged else f"{ending.message}; {CHANGED_SIGN}"
        return replace(ending, kind="left the flow" if judged else kind, message=message)
    words = {"loss": found.loss, "reason": found.reason}
    goal = 0.0 if goal is None else goal
    gap = np.nan if ending.excess is None else ending.excess - found.excess
    if kind in JUDGED and (left or gap < -goal):
        kind, message = "left the flow", LEFT_BEHIND.format(**words)
    elif kind in ("time", "global minimum") and gap <= goal:
        kind, message = "saddle", AT_SADDLE.format(gap=abs(gap), **words)
    else:
        message = ending.message + NOT_THERE.format(**words)
    return replace(ending, kind=kind, message=message, predicted_loss=found.loss)


def kept_signs(network: Network, mask: Any) -> list[float | None]:
    """The sign of det W that every flow of a network keeps, or of each member of an ensemble."""
    if mask is not None or any(isinstance(W, Tracer) for W in network.weights):
        return [None]
    several = network.weights[0].ndim == 3
    members = zip(*network.weights, strict=True) if several else [network.weights]
    return [kept_sign_of(Network(list(member))) for member in members]


def refated(
    ending: Ending, sign: float | None, objective: Any, begins: Network, ends: Network, tolerance: float | None
) -> Ending:
    """The ending of a task after others, whose first network keeps `sign`: its own start may have lost it.

    `tolerance`: None with weight decay, where no closed form says what there is to reach.
    """
    if sign is None:
        return ending
    marks = landmarks(objective, begins)
    goal = None if tolerance is None else marks.goal(tolerance)[0]
    if not has_sign(sign, np.asarray(begins.end_to_end), FULL_RANK) and ending.kind in JUDGED:
        # what was said rests on a sign that is only an error of the tasks before
        reached = ending.excess is not None and goal is not None and marks.is_minimum(ending.excess, goal)
        kind = "global minimum" if reached else "time"
        message = marks.words(kind, ending.excess) if reached else MESSAGES[kind]
        ending = replace(ending, kind=kind, message=message, predicted_loss=None)
    elif ending.predicted_loss is not None:
        return ending
    known = tolerance is not None and isinstance(objective, SquaredError)
    found = Obstacles(objective).of_sign(sign, begins) if known else None
    return fated(ending, Fate(found, sign), np.asarray(ends.end_to_end), goal)


def with_escape_rate(ending: Ending, objective: Any, network: Network) -> Ending:
    """The ending of a run that stands at a saddle, with the rate at which that is left."""
    if ending.kind != "saddle":
        return ending
    from ..curvature import lowest_eigenvalue  # a fortieth of a second that only runs which end at saddles wait for

    return replace(ending, escape_rate=max(-lowest_eigenvalue(objective, network), 0.0))
