"""Second derivatives of the loss as functions of directions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh_tridiagonal

from ._types import Scalar
from .network import Network

DENSE = 64  # weights up to which the Hessian is formed
CONVERGED = 1e-10  # residual of an eigenvalue, relative to the Hessian; its error is about the square
STEPS = 300  # of Lanczos; each keeps a vector of the size of all weights


def loss(objective: Any, network: Network) -> Scalar:
    """The objective at the network's end-to-end matrix.

    >>> from deeplinear import SquaredError
    >>> float(loss(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[1.0]]])))
    0.5
    """
    return objective(network.end_to_end)


def hvp(objective: Any, network: Network, V: Network) -> Network:
    """Hessian of the loss times a direction V (a `Network` of the same widths), forward over reverse differentiation.

    >>> from deeplinear import SquaredError
    >>> network = Network([[[0.0]], [[0.0]]])
    >>> hvp(SquaredError.from_moments([[2.0]]), network, Network([[[1.0]], [[0.0]]])).weights[1].tolist()
    [[-2.0]]

    Source: Pearlmutter (1994), Neural Computation 6, eq. (1).
    """
    return jax.jvp(jax.grad(lambda point: loss(objective, point)), (network,), (V,))[1]


def lowest_eigenvalue(objective: Any, network: Network) -> float:
    """Smallest eigenvalue of the Hessian of the loss with respect to all weights, by Lanczos (dense when small).

    >>> from deeplinear import SquaredError
    >>> lowest_eigenvalue(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]))
    -2.0
    """
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    product = jax.jit(lambda v: jax.flatten_util.ravel_pytree(hvp(objective, network, unravel(v)))[0])
    if flat.size <= DENSE:
        return float(np.linalg.eigvalsh(np.asarray(jax.vmap(product)(jnp.eye(flat.size))))[0])
    return _lanczos(lambda v: np.asarray(product(jnp.asarray(v))), np.random.default_rng(0).standard_normal(flat.size))


def _lanczos(product: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> float:
    """Smallest eigenvalue of a symmetric product, with full reorthogonalisation: saddles have few distinct eigenvalues.

    ARPACK does not stop where the Krylov space of such a spectrum is exhausted; it misses the end or raises.
    """
    basis, diagonal, beside = [start / np.linalg.norm(start)], [], []
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):  # once leaves components of the size of the rounding that it removed
            image = image - np.stack(basis).T @ (np.stack(basis) @ image)
        length = float(np.linalg.norm(image))
        ritz, vectors = eigh_tridiagonal(diagonal, beside)
        residual, size = length * abs(vectors[-1, 0]), np.abs(ritz).max()
        if residual <= CONVERGED * size or len(basis) == min(STEPS, start.size):
            return float(ritz[0])
        basis.append(image / length)
        beside.append(length)
