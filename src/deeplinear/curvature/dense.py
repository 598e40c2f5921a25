"""The Hessian and its Gauss-Newton part as matrices, for small networks."""

from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import checks_arguments
from .._types import Array
from ..network import Network
from .arguments import Point, check_size, checked
from .chain import chain_of
from .operators import Operator

LARGEST = 2000  # weights; the matrix then takes 32 MB
INSTEAD = "use `hessian_operator`, `gauss_newton_operator` or `extreme_eigenvalues`"


@checks_arguments
def hessian(
    objective: Any, network: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> Float[Array, "weight weight"]:
    r"""The Hessian of the loss in all weights that learn, N <= 2000, shape (N, N), symmetric to the last bit.

    Weights in the order of W_1, ..., W_h, each row by row; those that `mask` holds are left out. See
    `hessian_operator` for the loss. Raises `ValueError` for more weights, with their number.

    >>> from deeplinear import SquaredError
    >>> hessian(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[3.0]]])).tolist()
    [[9.0, 4.0], [4.0, 1.0]]

    Source: Altafini, section 3.3, as a matrix.
    """
    return _dense(objective, network, mask, weight_decay, with_residual=True)


@checks_arguments
def gauss_newton(
    objective: Any, network: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> Float[Array, "weight weight"]:
    r"""The matrix of `gauss_newton_operator`, N <= 2000, shape (N, N), in the order of `hessian`.

    Raises `ValueError` for more weights, with their number.

    >>> from deeplinear import SquaredError
    >>> gauss_newton(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[3.0]]])).tolist()
    [[9.0, 3.0], [3.0, 1.0]]

    Source: Schraudolph (2002), Neural Computation 14, section 3.
    """
    return _dense(objective, network, mask, weight_decay, with_residual=False)


def _dense(objective: Any, network: Network, mask: Any, weight_decay: Any, with_residual: bool) -> Array:
    point = checked(objective, network, mask, weight_decay)
    check_size(point, LARGEST, INSTEAD)
    return dense_of(point, learning_of(point), with_residual)


def learning_of(point: Point) -> np.ndarray:
    """Numbers of the weights that learn, from 0."""
    if point.mask is None:
        return np.arange(point.learning)
    return np.flatnonzero(np.concatenate([np.asarray(m).ravel() for m in point.mask.weights]))


@eqx.filter_jit
def dense_of(point: Point, learn: Any, with_residual: bool = True) -> Array:
    """The matrix of the operator on the weights `learn`."""
    operator = Operator(point, chain_of(point, with_residual))
    flat, unravel = jax.flatten_util.ravel_pytree(point.network)
    row = lambda i: jax.flatten_util.ravel_pytree(operator(unravel(jnp.zeros(flat.size).at[i].set(1.0))))[0][learn]
    matrix = jax.vmap(row)(jnp.asarray(learn))
    return (matrix + matrix.T) / 2
