"""Singular values, and strengths of the data's modes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Float

from .._arguments import check_ends, checks_arguments
from .._types import Array, Scalar
from ..conventions import HALF_MEAN, LossScale
from ..network import Network
from ..objectives import SquaredError
from .labels import labelled


def loss(objective: Any) -> Callable[[Network], Scalar]:
    """The objective at the end-to-end matrix, as a diagnostic.

    >>> from deeplinear import SquaredError
    >>> float(loss(SquaredError.from_moments([[2.0]]))(Network([[[1.0]]])))
    0.5
    """
    units = getattr(getattr(objective, "scale", None), "name", "1")
    return labelled((), "loss", units)(Partial(_loss, objective))


def held_out_loss(X: Any, Y: Any, scale: LossScale = HALF_MEAN) -> Callable[[Network], Scalar]:
    """The loss on samples that training does not see, X (n, d_x) and Y (n, d_y), as a diagnostic.

    `measure(trajectory, train=loss(objective), test=held_out_loss(X, Y))` gives both curves. Raises `ValueError` for
    samples that are not finite numbers in matching rows.

    >>> float(held_out_loss([[1.0]], [[2.0]])(Network([[[1.0]]])))
    0.5
    """
    return labelled((), "loss on held-out samples", scale.name)(Partial(_loss, SquaredError.of(X, Y, scale)))


def task_losses(objectives: Any) -> Callable[[Network], Float[Array, " task"]]:
    """The loss on every one of several tasks, shape (task,).

    >>> from deeplinear import SquaredError
    >>> tasks = [SquaredError.from_moments([[2.0]]), SquaredError.from_moments([[0.0]])]
    >>> task_losses(tasks)(Network([[[1.0]]])).tolist()
    [0.5, 0.5]
    """
    return labelled(("task",), "loss on every task")(Partial(_task_losses, tuple(objectives)))


@checks_arguments
def excess_loss(objective: Any, max_rank: int | None = None) -> Callable[[Network], Scalar]:
    """Loss above the smallest loss of a matrix of rank at most `max_rank`, at least 0.

    >>> from deeplinear import SquaredError
    >>> float(excess_loss(SquaredError.from_moments([[2.0]], trace_yy=5.0))(Network([[[2.0]]])))
    0.0
    """
    label = labelled((), "loss above the smallest that these widths can reach", objective.scale.name)
    return label(Partial(_excess, objective, max_rank))


def mode_strengths(objective: Any) -> Callable[[Network], Float[Array, " mode"]]:
    r"""Strength $u_a^T W v_a$ of every mode $(u_a, s_a, v_a)$ of the data, shape (mode,), largest $s_a$ first.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> mode_strengths(objective)(Network([[[0.5, 0.0], [0.0, 0.25]]])).tolist()
    [0.5, 0.25]

    Source: Saxe, McClelland and Ganguli (2014), section 2.
    """
    U, _, V = objective.modes
    label = labelled(("mode",), "strength of the data's mode, u_a^T W v_a")
    return label(Partial(_strengths, U, V))


def greedy_low_rank(objective: Any) -> Callable[[Network], Float[Array, " rank"]]:
    r"""Distance of W from the best map of every rank r >= 1 that the data allow, shape (min(d_x, d_y),).

    $\|(W - W^*_r) R\|_F / \|W^* R\|_F$ with $R = \Sigma_{xx}^{1/2}$ and $W^*_r$ = `optimum_at_rank(r)`. A run that
    learns greedily comes close to r = 1, then to r = 2, and so on: its minima over time are small and in order.
    `objective` is a `SquaredError`.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([4.0, 3.0], 2, 2)
    >>> greedy_low_rank(objective)(Network([[[4.0, 0.0], [0.0, 0.0]]])).round(12).tolist()
    [0.0, 0.6]

    Source: Eckart and Young (1936); Arora et al. (2019), "Implicit regularization in deep matrix factorization".
    """
    best = jnp.stack([objective.optimum_at_rank(r) for r in range(1, min(objective.optimum.shape) + 1)])
    label = labelled(("rank",), "distance from the best map of rank r, relative to the best of any rank")
    return label(Partial(_distances, best, objective.root_xx))


@labelled(("rank",), "singular values of the end-to-end matrix")
@checks_arguments
def singular_values(network: Network) -> Float[Array, " rank"]:
    """Singular values of the end-to-end matrix that its widths allow, largest first, shape (min(widths),).

    >>> singular_values(Network([[[3.0, 0.0], [0.0, 4.0]]])).tolist()
    [4.0, 3.0]
    """
    return jnp.linalg.svd(network.end_to_end, compute_uv=False)[: network.max_rank]


@labelled(("layer", "index"), "singular values of every layer")
@checks_arguments
def layer_singular_values(network: Network) -> Float[Array, "layer index"]:
    """Singular values of every layer, shape (layer, index), largest first, padded with NaN.

    >>> layer_singular_values(Network([[[3.0, 0.0], [0.0, 4.0]], [[2.0, 0.0]]])).tolist()
    [[4.0, 3.0], [2.0, nan]]
    """
    values = [jnp.linalg.svd(W, compute_uv=False) for W in network.weights]
    longest = max(s.shape[0] for s in values)
    return jnp.stack([jnp.pad(s, (0, longest - s.shape[0]), constant_values=jnp.nan) for s in values])


# Functions with their arrays as arguments: a new objective of the same shape compiles nothing.


@checks_arguments
def _loss(objective: Any, network: Network) -> Scalar:
    return objective(network.end_to_end)


@checks_arguments
def _task_losses(objectives: tuple, network: Network) -> Float[Array, " task"]:
    W = network.end_to_end
    return jnp.stack([objective(W) for objective in objectives])


@checks_arguments
def _excess(objective: Any, max_rank: int | None, network: Network) -> Scalar:
    return objective.excess(network.end_to_end, max_rank)


@checks_arguments
def _strengths(U: Array, V: Array, network: Network) -> Float[Array, " mode"]:
    check_ends(network, V.shape[0], U.shape[0])
    return jnp.sum(U * (network.end_to_end @ V), axis=0)


@checks_arguments
def _distances(best: Array, root: Array, network: Network) -> Float[Array, " rank"]:
    check_ends(network, best.shape[-1], best.shape[-2])
    whole = jnp.linalg.norm(best[-1] @ root)
    return jnp.linalg.norm((network.end_to_end[None] - best) @ root, axis=(1, 2)) / whole
