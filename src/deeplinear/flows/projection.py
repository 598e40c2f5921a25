r"""Back onto the conserved quantities of the flow, from which integration drifts by its tolerance.

Without mask and weight decay the flow keeps $C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$. The smallest change of weights that
repairs it to first order is $V_l = X_l W_l - W_l X_{l-1}$ with symmetric $X_l$ on the hidden layers ($X_0 = X_h = 0$):
a symmetric change of basis of every hidden layer, so that the end-to-end matrix stays, to first order too.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp

from .._linalg import product
from .._types import Array
from ..network import Network

PASSES = 8  # of Newton's method, at most; one or two where the layers have no nearly flat directions
MOST = 3000  # products of a linear solve; a violation in nearly flat directions is left to later passes
SOLVED = 0.01  # residual of a linear solve relative to the violation
ROUNDING = 4 * 2.0**-52  # violation that counts as none, relative to the squares that it is the difference of

Symmetric = tuple[Array, ...]
"""One symmetric matrix (d_l, d_l) for every hidden layer."""


def imbalances(network: Network) -> Symmetric:
    """C_l of every hidden layer, the first first."""
    below, above = network.weights[:-1], network.weights[1:]
    return tuple(product(A.T, A) - product(B, B.T) for B, A in zip(below, above, strict=True))


def projected(network: Network, conserved: Symmetric) -> Network:
    """The network nearby whose imbalances are `conserved` to rounding, by Gauss and Newton.

    Source: Hairer, Lubich and Wanner (2006), Geometric Numerical Integration, section IV.4, for projection;
    Arora, Cohen and Hazan (2018), theorem 1, for what is conserved.
    """
    if not conserved:
        return network
    size = jnp.sqrt(sum(jnp.sum(W**2) for W in network.weights))
    of = lambda network: tuple(c - now for c, now in zip(conserved, imbalances(network), strict=True))

    def unfinished(carry):
        i, _, violation, smaller = carry
        return (i < PASSES) & smaller & (dot(violation, violation) > (ROUNDING * size**2) ** 2)

    def newton(carry):
        i, network, violation, _ = carry
        after = _newton(network, violation)
        left = of(after)
        smaller = dot(left, left) < dot(violation, violation)  # in nearly flat directions a pass may go too far
        keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(smaller, a, b), new, old)
        return i + 1, keep(after, network), keep(left, violation), smaller

    start = (jnp.zeros((), dtype=int), network, of(network), jnp.asarray(True))
    return jax.lax.while_loop(unfinished, newton, start)[1]


def dot(a: Symmetric, b: Symmetric) -> Array:
    """Sum of the inner products of matrices."""
    return jnp.sum(jnp.stack([jnp.sum(x * y) for x, y in zip(a, b, strict=True)]))


def _newton(network: Network, violation: Symmetric) -> Network:
    """The network moved by V such that the imbalances change by the violation, to first order."""
    weights = network.weights
    sums = tuple(product(above.T, above) + product(below, below.T) for below, above in pairwise(weights))
    X = _solve(weights[1:-1], sums, tuple(-(c + c.T) / 2 for c in violation))
    moved = [product(x, W) for x, W in zip(X, weights[:-1], strict=True)] + [jnp.zeros_like(weights[-1])]
    moved = [moved[0], *(V - product(W, x) for V, W, x in zip(moved[1:], weights[1:], X, strict=True))]
    return jax.tree.unflatten(jax.tree.structure(network), [W + V for W, V in zip(weights, moved, strict=True)])


def _decrease(inner: tuple[Array, ...], sums: Symmetric, X: Symmetric) -> Symmetric:
    """S_l X_l + X_l S_l - 2 W_{l+1}^T X_{l+1} W_{l+1} - 2 W_l X_{l-1} W_l^T: by how much V lessens the imbalances.

    S_l = W_{l+1}^T W_{l+1} + W_l W_l^T; `inner` are the layers between hidden ones, so that wide inputs cost nothing.
    """
    halves = [product(S, x) for S, x in zip(sums, X, strict=True)]
    for l, W in enumerate(inner):
        halves[l] = halves[l] - product(product(W.T, X[l + 1]), W)
        halves[l + 1] = halves[l + 1] - product(product(W, X[l]), W.T)
    # symmetric to the last bit: on other matrices the operator is not semidefinite, and rounding would grow
    return tuple(half + half.T for half in halves)


def _solve(inner: tuple[Array, ...], sums: Symmetric, side: Symmetric) -> Symmetric:
    """X with decrease(X) = side, by conjugate gradients: the operator is positive semidefinite."""
    plus = lambda a, c, b: tuple(x + c * y for x, y in zip(a, b, strict=True))

    def unsolved(carry):
        i, _, _, _, square = carry
        return (i < MOST) & (square > SOLVED**2 * dot(side, side))

    def iterate(carry):
        i, X, residual, direction, square = carry
        image = _decrease(inner, sums, direction)
        along = dot(direction, image)
        step = square / jnp.where(along > 0, along, jnp.inf)  # a flat direction ends it
        X, residual = plus(X, step, direction), plus(residual, -step, image)
        new = dot(residual, residual)
        return jnp.where(along > 0, i + 1, MOST), X, residual, plus(residual, new / square, direction), new

    start = (jnp.zeros((), dtype=int), tuple(map(jnp.zeros_like, side)), side, side, dot(side, side))
    return jax.lax.while_loop(unsolved, iterate, start)[1]
