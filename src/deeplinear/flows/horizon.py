"""How long a run without output times may take: an upper estimate of when its last mode is learned."""

import math

import numpy as np

from ..network import Network
from ..objectives import SquaredError
from .stepping import Problem

FACTOR = 10.0  # by which the estimate is exceeded before a run gives up
ROUNDING = 37.0  # ln of the growth from rounding to order 1
OVERLAP = 1e-6  # share of a layer that a mode's direction is taken to have at least, where growth is algebraic
LEARNABLE = 1e-10  # singular values below this share of the largest are not waited for


def latest(problem: Problem, network: Network, tolerance: float) -> float | None:
    r"""Time by which the excess loss has fallen to `tolerance` unless something holds the run; None: unknown.

    Ten times the sum over modes of the time that they can take to grow one after the other, $37/s_k$ at depth 2 (from
    rounding) and $z^{2-h} / ((h-2) s_k)$ deeper (blow-up from $10^{-6}$ of the smallest layer), and of $\ln(1/
    \text{tolerance})$ at the slowest rate at the minimum, $\lambda_{\min}(\Sigma_{xx})\, w_{\min}^{2-2/h}$.
    """
    objective, depth = problem.objective, network.depth
    if not isinstance(objective, SquaredError) or problem.mask is not None or problem.weight_decay is not None:
        return None
    factor = float(objective.factor)
    growth = _waited_for(np.linalg.svd(np.asarray(objective.sigma_yx), compute_uv=False)[: network.max_rank])
    targets = _waited_for(np.linalg.svd(np.asarray(objective.optimum_at_rank(network.max_rank)), compute_uv=False))
    inputs = np.ones(1) if objective.whitened else objective.second_moment.variances
    smallest = OVERLAP * min(float(np.linalg.norm(W)) for W in network.weights)
    if not growth.size or not targets.size or smallest == 0:
        return None
    waits = np.zeros(1) if depth == 1 else ROUNDING / growth if depth == 2 else _blow_up(smallest, growth, depth)
    slowest = float(inputs.min() * targets.min() ** (2 - 2 / depth))
    time = FACTOR / factor * (float(waits.sum()) + (ROUNDING + math.log(1 / tolerance)) / slowest)
    return time if math.isfinite(time) else None


def _blow_up(z: float, s: np.ndarray, depth: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.minimum(z, s ** (1 / depth)) ** (2 - depth) / ((depth - 2) * s)


def _waited_for(spectrum: np.ndarray) -> np.ndarray:
    return spectrum[spectrum > LEARNABLE * max(float(spectrum.max(initial=0.0)), 1e-300)]
