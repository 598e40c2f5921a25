"""Changes of basis in the hidden layers, and the rotations among them, under which the gradient flow is equivariant."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .._arguments import checks_arguments
from .._checks import TOLERANCE, Check
from .._linalg import haar
from .._types import Key
from ..init.arguments import check_key, check_widths
from .blocks import BlockMatrix


@checks_arguments
def change_of_basis(hidden: Sequence[Any], widths: Sequence[int]) -> BlockMatrix:
    r"""$P = \mathrm{blk}_0(I, P_1, \dots, P_{h-1}, I)$ from the bases P_1 .. P_{h-1} of the hidden layers.

    $P A P^{-1}$ (`P @ A @ inverse(P)`) has the layers $P_i W_i P_{i-1}^{-1}$ and the same end-to-end matrix. Raises
    `ValueError` for matrices that do not fit or are singular.

    >>> P = change_of_basis([[[2.0]]], widths=(1, 1, 1))
    >>> P.dense().diagonal().tolist(), inverse(P).dense().diagonal().tolist()
    ([1.0, 2.0, 1.0], [1.0, 0.5, 1.0])

    Source: Altafini, section 3.5.
    """
    widths = check_widths(widths)
    if len(hidden) != len(widths) - 2:
        raise ValueError(f"`hidden`: has {len(hidden)} matrices; these widths have {len(widths) - 2} hidden layers")
    outer = {(l, l): np.eye(widths[l]) for l in (0, len(widths) - 1)}
    P = BlockMatrix(widths, outer | {(l, l): np.asarray(B, dtype=float) for l, B in enumerate(hidden, start=1)})
    for l, B in enumerate(P.diagonal(0)):
        if np.linalg.matrix_rank(B) < len(B):
            raise ValueError(f"`hidden`: the matrix of layer {l} is singular; a basis has full rank")
    return P


def inverse(P: BlockMatrix) -> BlockMatrix:
    r"""$P^{-1}$ of a change of basis, block by block.

    >>> inverse(change_of_basis([[[4.0]]], widths=(1, 1, 1)))[1, 1].tolist()
    [[0.25]]
    """
    return BlockMatrix(P.widths, {(l, l): np.linalg.inv(B) for l, B in enumerate(P.diagonal(0))})


@checks_arguments
def random_rotation(key: Key, widths: Sequence[int]) -> BlockMatrix:
    r"""A change of basis with Haar-distributed orthogonal blocks, $P^{-1} = P^T$: a symmetry of the gradient flow.

    $A_2(0) = P A_1(0) P^T$ gives $A_2(t) = P A_1(t) P^T$ for all t; for other changes of basis this fails.

    >>> P = random_rotation(0, (3, 4, 2))
    >>> orthogonality(P).holds
    True

    Source: Altafini, proposition 8.
    """
    widths = check_widths(widths)
    keys = jax.random.split(check_key(key), len(widths))
    return change_of_basis([np.asarray(haar(keys[l], d, d)) for l, d in enumerate(widths[1:-1])], widths)


@checks_arguments
def orthogonality(P: BlockMatrix, *, tolerance: float = TOLERANCE) -> Check:
    r"""Whether a change of basis is in the orthogonal subgroup: violation $\max_l \|P_l^T P_l - I\|_2$.

    >>> orthogonality(change_of_basis([[[2.0]]], widths=(1, 1, 1))).violation
    3.0

    Source: Altafini, section 3.5.
    """
    off = max(float(np.linalg.norm(B.T @ B - np.eye(len(B)), 2)) for B in P.diagonal(0))
    return Check("orthogonal change of basis", "P^T P = I", off, tolerance)
