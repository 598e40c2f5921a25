"""How long a run without output times may take, and what one that ran out still needs."""

import math
from typing import Any, NamedTuple

import numpy as np

from ..network import Network
from ..objectives import SquaredError
from .problem import Problem

FACTOR = 10.0  # by which the estimate is exceeded before a run gives up
ROUNDING = 37.0  # ln of the growth from rounding to order 1
OVERLAP = 1e-6  # share of a layer that a mode's direction is taken to have at least, where growth is algebraic
SPARED = 0.5  # share of the goal that directions which are not waited for may hold together
GROWN = 1e-2  # share of its gain at the minimum from which a direction counts as grown: it decays, nothing holds it


def latest(problem: Problem, network: Network, goal: float | None) -> float | None:
    r"""Time by which the excess loss has fallen to `goal` unless something holds the run; None: unknown.

    Ten times the sum over modes of the time that they can take to grow one after the other, $37/s_k$ at depth 2 (from
    rounding) and $z^{2-h} / ((h-2) s_k)$ deeper (blow-up from $10^{-6}$ of the smallest layer), and of $\ln(L(0) /
    \text{goal})$ at the slowest rate at the minimum, $\lambda \, w_{\min}^{2-2/h}$. Modes, and eigenvectors of Sigma_xx
    with their variance $\lambda$, count as far as the goal cannot be reached without them.
    """
    objective, depth = problem.objective, network.depth
    if not _is_whole(problem) or goal is None or goal <= 0:
        return None
    W, R = (np.asarray(x) for x in (objective.optimum_at_rank(network.max_rank), objective.root_xx))
    modes = _needed(np.linalg.svd(W @ R, compute_uv=False) ** 2 * float(objective.factor) / 2, goal)
    growth, targets = (np.linalg.svd(M, compute_uv=False)[:modes] for M in (np.asarray(objective.sigma_yx), W))
    growth, targets = growth[growth > 0], targets[targets > 0]
    smallest = OVERLAP * min(float(np.linalg.norm(layer)) for layer in network.weights)
    if not growth.size or not targets.size or smallest == 0:
        return None
    variances, shares = _by_direction(objective, W)
    variances = variances[: _needed(shares, goal)]
    waits = np.zeros(1) if depth == 1 else ROUNDING / growth if depth == 2 else _blow_up(smallest, growth, depth)
    slowest = float(variances[-1] * targets.min() ** (2 - 2 / depth))
    decay = ROUNDING + math.log(max(float(shares.sum()) / goal, 1.0))
    time = FACTOR / float(objective.factor) * (float(waits.sum()) + decay / slowest)
    return time if math.isfinite(time) else None


class Rest(NamedTuple):
    """What a run that ran out of time or steps still needs."""

    variance: float
    """Variance of the inputs along the slowest direction that has to be learned further."""
    rate: float
    """Rate at which its error decays."""
    time: float
    """How long that takes, from where the run stands."""


def rest_of(problem: Problem, network: Network, at: Any, goal: float | None) -> Rest | None:
    r"""The slowest direction that keeps the excess loss above `goal`, where all that is left is decay; else None.

    `at` is the network's end-to-end matrix.

    The error D of the end-to-end matrix along an eigenvector e of Sigma_xx with variance $\lambda$ decays at the rate
    $c \lambda |(W_h \cdots W_2)^T u|^2$ with u the direction of D e: the first layer alone can learn a direction that
    the layers above do not tell apart.
    """
    if not _is_whole(problem) or goal is None or goal <= 0:
        return None
    objective, c = problem.objective, float(problem.objective.factor)
    W = np.asarray(objective.optimum_at_rank(network.max_rank))
    D, above = np.asarray(at) - W, np.eye(len(W))
    if not np.isfinite(D).all():
        return None
    for layer in network.weights[:0:-1]:
        above = above @ np.asarray(layer)
    variances, shares = _by_direction(objective, D)
    last = _needed(shares, goal) - 1
    if not np.isfinite(shares).all() or shares.sum() <= goal or variances[last] <= 0:
        return None
    e = _directions(objective)[1][:, last]
    u = D @ e / np.linalg.norm(D @ e)
    gain, full = float(np.sum((above.T @ u) ** 2)), float(np.linalg.norm(W.T @ u)) ** (2 - 2 / network.depth)
    if not gain > GROWN * full:  # on a plateau growth decides, not decay
        return None
    rate = c * float(variances[last]) * gain
    return Rest(float(variances[last]), rate, math.log(max(float(shares[last]) / (SPARED * goal), math.e)) / (2 * rate))


def _is_whole(problem: Problem) -> bool:
    return isinstance(problem.objective, SquaredError) and problem.mask is None and problem.weight_decay is None


def _directions(objective: SquaredError) -> tuple[np.ndarray, np.ndarray]:
    """Variances of the inputs, largest first, and their directions in columns."""
    values, E = (np.asarray(part) for part in objective.input_spectrum)
    return values[::-1], E[:, ::-1]


def _by_direction(objective: SquaredError, D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances of the inputs, largest first, and the loss of an error D of the end-to-end matrix along each."""
    variances, E = _directions(objective)
    return variances, float(objective.factor) / 2 * variances * np.sum((D @ E) ** 2, axis=0)


def _needed(shares: np.ndarray, goal: float) -> int:
    """How many of the first shares of a loss must vanish for the rest to be well below the goal; at least 1."""
    left = np.cumsum(shares[::-1])[::-1]
    return max(int(np.count_nonzero(left > SPARED * goal)), 1)


def _blow_up(z: float, s: np.ndarray, depth: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.minimum(z, s ** (1 / depth)) ** (2 - depth) / ((depth - 2) * s)
