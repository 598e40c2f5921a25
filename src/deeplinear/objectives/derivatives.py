"""First and second derivatives of any objective: its closed forms where it has them, else JAX's."""

from collections.abc import Callable

import jax

from .._types import Matrix


def gradient_of(objective: Callable) -> Callable:
    """W -> dL/dW: the objective's own closed form where it has one, else automatic differentiation.

    >>> import jax.numpy as jnp
    >>> gradient_of(lambda W: jnp.sum(W**3))(jnp.array([[2.0]])).tolist()
    [[12.0]]
    """
    return getattr(objective, "gradient", None) or jax.grad(objective)


def hessian_vector(objective: Callable, W: Matrix, V: Matrix) -> Matrix:
    r"""$\nabla^2 L(W)[V]$, shape (d_y, d_x), for a direction V of the same shape.

    The objective's `hessian_vector` where it has one, else forward differentiation of its gradient.

    >>> import jax.numpy as jnp
    >>> hessian_vector(lambda W: jnp.sum(W**3), jnp.array([[2.0]]), jnp.array([[1.0]])).tolist()
    [[12.0]]

    Source: Pearlmutter (1994), Neural Computation 6, eq. (1).
    """
    known = getattr(objective, "hessian_vector", None)
    return known(W, V) if known else jax.jvp(gradient_of(objective), (W,), (V,))[1]


def knows_minimum(objective: Callable, max_rank: int | None = None) -> bool:
    """Whether the smallest loss of a matrix of rank at most `max_rank` (None: any rank) is known, and `excess` with it.

    >>> knows_minimum(lambda W: W.sum())
    False
    """
    if not hasattr(objective, "excess"):
        return False
    known = getattr(objective, "knows_minimum", None)
    return known(max_rank) if known else True
