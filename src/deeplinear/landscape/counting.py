"""Signs of the Hessian's eigenvalues by numbers: from the matrix, or from its products with random blocks."""

import numpy as np

from .forms import Quadratic, Weights
from .inertia import Inertia

LARGEST_DENSE = 2000
"""Weights up to which the Hessian is formed."""
BLOCK, LARGEST_BASIS = 64, 2**28
"""Directions of the first block; entries that a basis of the Hessian's range may have (2 GB)."""


def dense_inertia(loss: Quadratic, weights: Weights, tolerance: float) -> Inertia:
    """Signs of all eigenvalues; those below `tolerance` times the Hessian's size are zeros.

    Raises `ValueError` for more than `LARGEST_DENSE` weights.
    """
    size = sum(W.size for W in weights)
    if size > LARGEST_DENSE:
        raise ValueError(
            f"`inertia`: 'dense' forms the Hessian of {size} weights; at most {LARGEST_DENSE}, else use 'formula'"
        )
    return _signs(np.linalg.eigvalsh(loss.hessian(weights)), size, _scale(loss, weights), tolerance)


def lanczos_inertia(loss: Quadratic, weights: Weights, tolerance: float) -> Inertia:
    """The same by block Lanczos: blocks are added, each twice the last, until one shows that the range is exhausted.

    A block must be larger than the highest multiplicity, and saddles have high ones: a single vector would see each
    distinct eigenvalue once. What is left out is zero but for the tolerance. Raises `ValueError` where the range is too
    large.
    """
    size, scale, rng = sum(W.size for W in weights), _scale(loss, weights), np.random.default_rng(0)
    basis, block = np.zeros((0, size)), min(BLOCK, size)
    while True:
        image = loss.times_rows(weights, rng.standard_normal((block, size)) / size**0.5)
        for _ in range(2):  # once leaves components of the size of the rounding that it removed
            image = image - (image @ basis.T) @ basis
        _, s, right = np.linalg.svd(image, full_matrices=False)
        kept = s > tolerance * scale * 1e-2  # random directions see a small eigenvalue weakly
        basis = np.vstack([basis, right[kept]])
        if not kept.all() or len(basis) >= size:
            break
        block = min(2 * block, size - len(basis))
        if (len(basis) + block) * size > LARGEST_BASIS:
            raise ValueError(
                f"`inertia`: 'lanczos' has met {len(basis)} eigenvalues of {size} and would not end soon; use 'formula'"
            )
    inner = basis @ loss.times_rows(weights, basis).T
    return _signs(np.linalg.eigvalsh((inner + inner.T) / 2), size, scale, tolerance)


def _signs(values: np.ndarray, size: int, scale: float, tolerance: float) -> Inertia:
    n_minus, n_plus = (int(np.count_nonzero(sign * values > tolerance * scale)) for sign in (-1, 1))
    return Inertia(n_minus, size - n_minus - n_plus, n_plus)


def _scale(loss: Quadratic, weights: Weights) -> float:
    """Size of the Hessian, by a product with a random direction; never less than a thousandth of the residual's.

    Without a floor a Hessian of rounding errors would count as large.
    """
    norms = [np.linalg.norm(W, 2) for W in weights]
    residual = np.linalg.norm(loss.M) + np.linalg.norm(loss.S, 2) * np.prod(norms)
    V = np.random.default_rng(1).standard_normal(sum(W.size for W in weights))
    image = loss.times_rows(weights, V[None] / np.linalg.norm(V))
    return float(max(np.linalg.norm(image), 1e-3 * loss.c * residual if len(weights) > 1 else 0.0))
