"""Starts from which the flow cannot reach the smallest loss, and where it ends instead."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .network import Network
from .objectives import SquaredError
from .reduction import reachable_rank

BALANCED = 1e-9
"""Imbalance, relative to the squared weights, up to which a start counts as 0-balanced."""
FULL_RANK = 1e-12
"""Singular values below this share of the largest count as zero."""


class Obstruction(NamedTuple):
    """Why a start misses the smallest loss, and what it reaches."""

    rank: int
    """Rank of the end-to-end matrix in the limit."""
    loss: float
    """Smallest loss at that rank: the exact flow ends there, or above if the start is aligned with the data's modes."""
    reason: str


def obstruction(objective: SquaredError, network: Network) -> Obstruction | None:
    r"""What keeps the flow from `network` from the smallest loss of its widths, or None.

    - Rank: the weights and the data span subspaces that the flow never leaves (`reduction.reachable_rank`); zero and
      rank-deficient starts are cases.
    - Sign: for a 0-balanced start with $d_x = d_y$ and no bottleneck the rank of W(t) stays full for all times, and
      with it the sign of det W(t). If it is not that of $\det \Sigma_{yx}$, the flow ends at the best map of rank
      d_x - 1, on whose stable manifold it runs. Half of all random 0-balanced square starts do so.

    Rounding leaves such a manifold after about 36 time constants: a simulation then goes on to the minimum, the exact
    flow never does. Assumes no mask and no weight decay. Raises `ValueError` for an objective other than `SquaredError`
    and widths that do not fit.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> obstruction(objective, Network([[[0.1, 0.0], [0.0, 0.1]], [[0.1, 0.0], [0.0, -0.1]]])).loss
    0.5

    Source: for the sign, conservation of W_{l+1}^T W_{l+1} - W_l W_l^T (Arora, Cohen and Hazan 2018), by which a
    0-balanced network keeps its rank; Bah et al. (2022), Information and Inference 11, on the manifold of fixed rank.
    """
    best = float(objective.minimum_at_rank(network.max_rank))
    rank = reachable_rank(objective, network)
    loss = float(objective.minimum_at_rank(rank))
    if loss - best > FULL_RANK * max(float(objective.minimum_at_rank(0)) - best, 1e-300):
        return Obstruction(rank, loss, f"weights and data span {rank} dimensions only, which the flow never leaves")
    if not _wrong_sign(objective, network):
        return None
    rank = objective.optimum.shape[0] - 1
    reason = "the start is 0-balanced and the sign of det W(0), which is kept for ever, is not that of the solution"
    return Obstruction(rank, float(objective.minimum_at_rank(rank)), reason)


def _wrong_sign(objective: SquaredError, network: Network) -> bool:
    """Whether a 0-balanced start has a determinant whose sign the solution does not have."""
    weights = [np.asarray(W) for W in network.weights]
    d_y, d_x = objective.optimum.shape
    if d_x != d_y or network.max_rank < d_x or len(weights) == 1:
        return False
    imbalance = max(float(np.linalg.norm(b.T @ b - a @ a.T)) for a, b in pairwise(weights))
    if imbalance > BALANCED * max(float(np.linalg.norm(W)) for W in weights) ** 2:
        return False
    signs = []
    for M in (np.asarray(network.end_to_end), np.asarray(objective.optimum)):
        s = np.linalg.svd(M, compute_uv=False)
        if s[-1] <= FULL_RANK * s[0]:
            return False
        signs.append(np.linalg.slogdet(M)[0])
    return bool(signs[0] != signs[1])
