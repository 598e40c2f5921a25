"""The structure of critical points: canonical form, blocks beside it, changes of basis of hidden layers."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .target import Target


def assemble(
    target: Target, widths: Sequence[int], signature: tuple[int, ...], blocks: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """A_1 + Z of the survey's (32) and (33), in the target's coordinates."""
    r, h = len(signature), len(widths) - 1
    S = [k - 1 for k in signature]
    Q = [k for k in range(target.d_y) if k not in S]
    sizes = [target.d_x, *widths[1:]]
    weights = [np.zeros((b, a)) for a, b in pairwise(sizes)]
    if h == 1:
        weights[0][S] = target.matrix[S]
        weights[0][Q] = blocks[0]
        return weights
    weights[0][:r], weights[0][r:] = target.matrix[S], blocks[0]
    for W, Z in zip(weights[1:-1], blocks[1:-1], strict=True):
        W[:r, :r], W[r:, r:] = np.eye(r), Z
    weights[-1][S, :r] = np.eye(r)
    weights[-1][Q, r:] = blocks[-1]
    return weights


def change_basis(weights: Sequence[np.ndarray], changes: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """P_l W_l P_{l-1}^{-1}, from pairs (P_l, its inverse) of the hidden layers."""
    moved = list(weights)
    for l, (P, inverse) in enumerate(changes):
        moved[l], moved[l + 1] = P @ moved[l], moved[l + 1] @ inverse
    return moved
