"""Tightened critical points: which of those that learned the strongest modes are non-strict saddles."""

from functools import reduce
from typing import NamedTuple

import numpy as np

from .._arguments import checks_arguments
from .._checks import TOLERANCE, Check
from ..blockshift.blocks import adjacency, blk
from ..blockshift.dynamics import pullback
from ..network import Network
from ..objectives import SquaredError

STATEMENT = "every pivot i > j has a product of rank r around it"


class Pivot(NamedTuple):
    """Two layers i > j, and how far the two products around them are from the rank of the end-to-end matrix.

    >>> Pivot(i=2, j=1, between=1.0, around=0.0).violation
    0.0
    """

    i: int
    j: int
    between: float
    """(r + 1)-th singular value of W_{i-1} ... W_{j+1}, relative to the layers' norms; 0: its rank is r."""
    around: float
    """The same of W_{j-1} ... W_1 sigma_yx^T W_h ... W_{i+1}."""

    @property
    def violation(self) -> float:
        """0 where the pivot is tightened: one of the products has rank r."""
        return min(self.between, self.around)


@checks_arguments
def pivots(objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE) -> tuple[Pivot, ...]:
    r"""All pairs of layers i > j with the ranks that decide whether the network is tightened.

    r is the rank of the end-to-end matrix: its singular values above `tolerance` times the product of the layers'
    spectral norms. Raises `ValueError` for an objective other than `SquaredError` and widths that do not fit.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> pivots(objective, Network([[[0.0, 0.0], [0.0, 0.0]]] * 2))
    (Pivot(i=2, j=1, between=1.0, around=1.0),)

    Source: Achour, Malgouyres and Gerchinovitz (2024), theorem 7, as the survey numbers it (proposition 18).
    """
    _check(objective, network)
    W, sigma_xy = [np.asarray(layer) for layer in network.weights], np.asarray(objective.sigma_yx).T
    h, rank = len(W), _rank(network, tolerance)
    excess = lambda factors, d: _singular_value(factors, d, rank)
    return tuple(
        Pivot(i, j, excess(W[j : i - 1], W[j - 1].shape[0]), excess([*W[i:], sigma_xy, *W[: j - 1]], 0))
        for i in range(2, h + 1)
        for j in range(1, i)
    )


@checks_arguments
def tightened(objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE) -> Check:
    r"""Whether every pivot, a pair of layers i > j, has a product of rank r around it, r the rank of W.

    W is the end-to-end matrix. The products are $W_{i-1} \cdots W_{j+1}$ and
    $W_{j-1} \cdots W_1 \Sigma_{xy} W_h \cdots W_{i+1}$; empty ones are the identity, and one of the two suffices. A
    critical point that has learned the r strongest modes, but not all, is a non-strict saddle if it is tightened and a
    strict one if not. Assumes a critical point: the note says how large the gradient is. With two layers no saddle is
    tightened (the survey calls A_1 of (32) always tightened: that takes three layers). Violation: of the pivot that is
    furthest from it (`pivots`). Raises `ValueError` as `pivots` does.

    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> zeros = [[0.0, 0.0], [0.0, 0.0]]
    >>> [tightened(objective, Network([zeros] * depth)).holds for depth in (2, 3)]
    [False, True]

    Source: Achour, Malgouyres and Gerchinovitz (2024), theorem 7; Altafini, section 4.4 and proposition 18.
    """
    found = pivots(objective, network, tolerance=tolerance)
    note = f"rank {_rank(network, tolerance)}, gradient {_gradient_norm(objective, network):.1e}"
    if not found:
        return Check("tightened", STATEMENT, 0.0, tolerance, note=f"{note}, one layer has no pivot")
    loosest = max(found, key=lambda pivot: pivot.violation)
    note += f", loosest pivot ({loosest.i}, {loosest.j})"
    return Check("tightened", STATEMENT, loosest.violation, tolerance, note=note)


def _singular_value(factors: list[np.ndarray], identity: int, rank: int) -> float:
    """The (rank + 1)-th singular value of a product, the first factor applied first, relative to the factors' norms."""
    if not factors:
        return float(identity > rank)
    s = np.linalg.svd(_product(factors), compute_uv=False)
    size = float(np.prod([np.linalg.norm(factor, 2) for factor in factors]))
    return float(s[rank]) / size if len(s) > rank and size > 0 else 0.0


def _rank(network: Network, tolerance: float) -> int:
    layers = [np.asarray(W) for W in network.weights]
    s = np.linalg.svd(_product(layers), compute_uv=False)
    return int(np.count_nonzero(s > tolerance * np.prod([np.linalg.norm(W, 2) for W in layers])))


def _product(factors: list[np.ndarray]) -> np.ndarray:
    return reduce(lambda below, factor: factor @ below, factors)


def _gradient_norm(objective: SquaredError, network: Network) -> float:
    outer = blk(network.depth, [objective.gradient(network.end_to_end)], network.widths)
    return float(pullback(adjacency(network), outer).norm())


def _check(objective: SquaredError, network: Network) -> None:
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: is a {type(objective).__name__}; pivots exist for squared error only")
