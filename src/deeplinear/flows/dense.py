r"""Linear solves of the implicit method with the whole matrix $M = I - \tau J$, where the weights are few.

J, minus the Hessian, is the field's derivative in every direction at once. M is symmetric, and positive definite as
long as $\tau$ times the fastest growth is below 1, so that it is eliminated without pivoting; a pivot that is not
positive says that the step is too long. Six solutions then cost six products with an inverse, or six substitutions.

`pays` tells by shape alone where that is the faster way. M takes N products; conjugate gradients take about 12 for the
six solutions of a step, 100 at worst. Measured (docs/performance.md), M pays

- in one kernel (`running.compiling`), where a product costs as little as its arithmetic, up to 4 weights only;
- elsewhere for wide ends and a thin middle: the preconditioner's eigenvectors, of matrices as wide as the inputs and
  the outputs, cost more than N products made together. Under a mask the preconditioner helps less, and M pays longer.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._linalg import are_fused
from .._types import Array
from ..network import Network

IN_ONE_KERNEL = 4  # weights up to which it pays there
ELSEWHERE, PER_END = 110, 4  # and elsewhere: weights in all, and per input and output
MASKED = 2  # times what under a mask


class Solver(NamedTuple):
    """How the stages of one step solve M u = side."""

    solve: Callable[[Network], tuple[Network, Array]]
    """side -> u, and the products that it took."""
    prepared: Array
    """Products before the first solution."""
    definite: Array
    """False where M is known not to be positive definite; solutions then mean nothing."""


def pays(field: Callable, network: Network) -> bool:
    """Whether M in full is faster than products with it: a matter of shapes and form, not of numbers."""
    N, ends = _count(network), network.widths[0] + network.widths[-1]
    most = IN_ONE_KERNEL if are_fused() else min(ELSEWHERE, PER_END * ends) * (1 if _mask(field) is None else MASKED)
    return most >= N


def dense_solver(field: Callable, network: Network, tau: Array) -> Solver:
    """Factorises I - tau J at `network`; a solve is then exact to rounding.

    Counts N products for the matrix and one for every solution. Elimination is not counted apart: that all N products
    are made together saves about as much as it takes.
    """
    M = matrix(field, network, tau)
    invert, definite = _by_sweeps(M) if are_fused() else _by_cholesky(M)
    solve = lambda side: (_as_network(invert(_as_vector(side)), network), jnp.ones((), dtype=int))
    return Solver(solve, jnp.asarray(_count(network)), definite)


def matrix(field: Callable, network: Network, tau: Array) -> Array:
    """I - tau J (N, N) on the weights of W_1, ..., W_h, each row by row; the identity on weights that a mask holds."""
    _, jacobian = jax.linearize(field, network)
    mask = _mask(field)

    def row(unit: Array) -> Array:
        direction = _as_network(unit, network)
        if mask is not None:  # the field depends on what is held, though nothing moves it
            direction = jax.tree.map(lambda V, learns: jnp.where(learns, V, 0.0), direction, mask)
        return unit - tau * _as_vector(jacobian(direction))

    return jax.vmap(row)(jnp.eye(_count(network)))


def _by_cholesky(M: Array) -> tuple[Callable[[Array], Array], Array]:
    L = jnp.linalg.cholesky(M, symmetrize_input=False)  # NaN where M is not positive definite
    return lambda b: jax.scipy.linalg.cho_solve((L, True), b), jnp.all(jnp.isfinite(L))


def _by_sweeps(M: Array) -> tuple[Callable[[Array], Array], Array]:
    """The inverse by symmetric Gauss-Jordan elimination, in plain arithmetic: one kernel can call no LAPACK.

    Sweeping pivot k takes (A_kk, A_ik, A_ij) to (-1, A_ik, A_ij A_kk - A_ik A_kj) / A_kk; after all of them A = -M^-1.
    Source: Goodnight (1979), The American Statistician 33, 149.
    """

    def sweep(k, carry):
        A, definite = carry
        row = A[k]
        positive = row[k] > 0
        scale = jax.lax.rsqrt(jnp.where(positive, row[k], jnp.inf))  # leaves out what cannot be a pivot
        v = row * scale
        A = (A - v[:, None] * v[None, :]).at[k].set(v * scale).at[:, k].set(v * scale).at[k, k].set(-(scale**2))
        return A, definite & positive

    A, definite = jax.lax.fori_loop(0, len(M), sweep, (M, jnp.asarray(True)))
    add = lambda b: lambda k, u: u - b[k] * A[k]
    # a loop, for a fused sum would compute the side anew for every entry
    return lambda b: jax.lax.fori_loop(0, len(M), add(b), jnp.zeros_like(b)), definite


def _mask(field: Callable) -> Network | None:
    return getattr(field, "mask", None)


def _count(network: Network) -> int:
    return sum(W.size for W in network.weights)


def _as_vector(network: Network) -> Array:
    return jnp.concatenate([W.reshape(-1) for W in network.weights])


def _as_network(vector: Array, like: Network) -> Network:
    parts = jnp.split(vector, list(accumulate(W.size for W in like.weights))[:-1])
    layers = [part.reshape(W.shape) for part, W in zip(parts, like.weights, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), layers)
