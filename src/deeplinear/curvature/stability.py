"""The largest eigenvalue of the Hessian as JAX code, and what it says about the learning rate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import checks_arguments
from .._types import Array, Scalar
from ..network import Network
from .arguments import Point, checked, masked
from .chain import chain_of
from .coordinates import image_of, inside, length_of
from .operators import Operator

BASIS = 24  # Lanczos vectors between restarts
RESTARTS = 40
TOLERANCE = 1e-8  # residual relative to the largest Ritz value; the error of the eigenvalue is about its square


class Stability(NamedTuple):
    """Sharpness against the learning rate.

    >>> from deeplinear import SquaredError
    >>> bool(edge_of_stability(SquaredError.from_moments([[4.0]]), Network([[[2.0]], [[2.0]]]), 0.1).ratio < 1)
    True
    """

    sharpness: Scalar
    """Largest eigenvalue of the Hessian."""
    threshold: Scalar
    """2 / learning rate."""
    ratio: Scalar
    """Sharpness over threshold: above 1 gradient descent on the quadratic model diverges."""


@checks_arguments
def sharpness(objective: Any, network: Network, *, mask: Network | None = None, weight_decay: Any = 0.0) -> Scalar:
    r"""Largest eigenvalue $\lambda_{\max}$ of the Hessian of the loss in all weights that learn.

    JAX code (`jit`, `vmap`), by restarted Lanczos in the subspace that layers' images span, from a fixed random start,
    until the residual is 1e-8 of it or 960 products are spent. `extreme_eigenvalues` has eigenvectors and residuals,
    outside `jit`. `mask`, `weight_decay` and errors: as of `hessian_operator`.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([4.0, 1.0], 2, 2)
    >>> float(sharpness(objective, Network([[[2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])).round(9))
    8.0

    Source: Cohen et al. (2021), ICLR, "Gradient descent on neural networks typically occurs at the edge of stability".
    """
    return _sharpness(checked(objective, network, mask, weight_decay))


@checks_arguments
def edge_of_stability(
    objective: Any,
    network: Network,
    learning_rate: Any,
    *,
    mask: Network | None = None,
    weight_decay: Any = 0.0,
) -> Stability:
    r"""The sharpness beside $2 / \eta$, above which gradient descent of step $\eta$ leaves a minimum.

    JAX code. At 0-balanced minima in closed form: `exact.stability_limit`. Raises `ValueError` as `sharpness` does, and
    for a learning rate that is not a finite number above 0.

    >>> from deeplinear import SquaredError
    >>> network = Network([[[2.0]], [[2.0]]])
    >>> [float(x.round(9)) for x in edge_of_stability(SquaredError.from_moments([[4.0]]), network, 0.5)]
    [8.0, 4.0, 2.0]

    Source: Cohen et al. (2021), section 2.
    """
    if not isinstance(learning_rate, Tracer) and not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"`learning_rate`: got {learning_rate}; give a finite number above 0")
    largest = sharpness(objective, network, mask=mask, weight_decay=weight_decay)
    threshold = 2 / jnp.asarray(learning_rate, dtype=float)
    return Stability(largest, threshold, largest / threshold)


@eqx.filter_jit
def _sharpness(point: Point) -> Scalar:
    if point.mask is None:
        chain = chain_of(point, with_frames=True)
        length, dimension = length_of(chain)
        start = inside(chain, _random(length))
        largest = _largest(lambda v: image_of(point, chain, None, v), start)
        if dimension == sum(W.size for W in point.network.weights):
            return largest
        return jnp.maximum(largest, 0.0 if point.weight_decay is None else point.weight_decay)
    operator = Operator(point, chain_of(point))
    flat, unravel = jax.flatten_util.ravel_pytree(point.network)
    apply = lambda v: jax.flatten_util.ravel_pytree(operator(unravel(v)))[0]
    start = jax.flatten_util.ravel_pytree(masked(point.mask, unravel(_random(flat.size))))[0]
    return _largest(apply, start)


def _random(size: int) -> Array:
    return jax.random.normal(jax.random.key(0), (size,))


def _largest(apply: Callable[[Array], Array], start: Array) -> Scalar:
    """Largest eigenvalue by Lanczos, begun again from its Ritz vector after every `BASIS` products."""
    m = min(start.size, BASIS)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, v, _ = state
        Q, T, rest = _tridiagonal(apply, v, m)
        values, Y = jnp.linalg.eigh(T)
        settled = rest * jnp.abs(Y[-1, -1]) <= TOLERANCE * jnp.max(jnp.abs(values))
        return jnp.where(settled, RESTARTS, count + 1), Y[:, -1] @ Q, values[-1]

    first = start / jnp.maximum(jnp.sqrt(jnp.sum(start**2)), 1e-300)
    state = (jnp.zeros((), dtype=int), first, jnp.zeros(()))
    return jax.lax.while_loop(lambda state: state[0] < RESTARTS, again, state)[2]


def _tridiagonal(apply: Callable[[Array], Array], first: Array, m: int) -> tuple[Array, Array, Array]:
    """m Lanczos vectors in rows, the operator between them, and the length of the last residual.

    Where the Krylov space ends early, the rows that remain are zero; their place in the matrix gets the first Rayleigh
    quotient, which is never above the largest Ritz value.
    """

    def step(j: Array, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        Q, T, v, length = state
        Q = Q.at[j].set(v)
        image = apply(v)
        quotient = jnp.sum(image * v)
        T = T.at[j, j].set(jnp.where(jnp.any(v != 0), quotient, T[0, 0]))
        for _ in range(2):
            image = image - Q.T @ (Q @ image)
        length = jnp.sqrt(jnp.sum(image**2))
        size = jnp.sqrt(jnp.sum(T**2))
        goes_on = length > 1e-14 * size
        length = jnp.where(goes_on, length, 0.0)
        after = jnp.minimum(j + 1, m - 1)
        off = jnp.where(j + 1 < m, length, 0.0)
        T = T.at[j, after].add(off).at[after, j].add(off)
        return Q, T, jnp.where(goes_on, image / jnp.where(goes_on, length, 1.0), 0.0), length

    state = (jnp.zeros((m, first.size)), jnp.zeros((m, m)), first, jnp.zeros(()))
    Q, T, _, length = jax.lax.fori_loop(0, m, step, state)
    return Q, T, length
