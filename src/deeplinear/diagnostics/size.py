"""Sizes and effective ranks of the end-to-end matrix and of the layers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Float

from .._arguments import checks_arguments
from .._types import Array, Scalar
from ..network import Network
from .labels import labelled
from .spectrum import singular_values


@labelled((), "Frobenius norm of the end-to-end matrix")
@checks_arguments
def frobenius(network: Network) -> Scalar:
    r"""Frobenius norm $\|W\|_F$ of the end-to-end matrix.

    >>> float(frobenius(Network([[[3.0, 4.0]]])))
    5.0
    """
    return jnp.linalg.norm(network.end_to_end)


@labelled((), "nuclear norm of the end-to-end matrix")
@checks_arguments
def nuclear_norm(network: Network) -> Scalar:
    r"""Nuclear norm $\|W\|_* = \sum_a s_a$ of the end-to-end matrix.

    >>> float(nuclear_norm(Network([[[3.0, 0.0], [0.0, 4.0]]])))
    7.0

    Source: Arora et al. (2019), "Implicit regularization in deep matrix factorization".
    """
    return jnp.sum(singular_values(network))


@labelled((), "stable rank of the end-to-end matrix")
@checks_arguments
def stable_rank(network: Network) -> Scalar:
    r"""Stable rank $\|W\|_F^2 / \|W\|_2^2$ of the end-to-end matrix, from 1 to its rank; 0 for a matrix of zero.

    >>> float(stable_rank(Network([[[2.0, 0.0], [0.0, 1.0]]])))
    1.25

    Source: Rudelson and Vershynin (2007).
    """
    return _stable_rank(singular_values(network))


@labelled((), "effective rank of the end-to-end matrix")
@checks_arguments
def effective_rank(network: Network) -> Scalar:
    r"""Effective rank $\exp(-\sum_a p_a \ln p_a)$, $p_a = s_a / \sum_b s_b$, of the end-to-end matrix.

    From 1 to its rank; 0 for a matrix of zero.

    >>> round(float(effective_rank(Network([[[2.0, 0.0], [0.0, 2.0]]]))), 12)
    2.0

    Source: Roy and Vetterli (2007).
    """
    return _effective_rank(singular_values(network))


@labelled(("layer",), "Frobenius norm of every layer")
@checks_arguments
def layer_norms(network: Network) -> Float[Array, " layer"]:
    """Frobenius norm of every layer, shape (h,).

    >>> layer_norms(Network([[[3.0, 4.0]], [[2.0]]])).tolist()
    [5.0, 2.0]
    """
    return jnp.stack([jnp.linalg.norm(W) for W in network.weights])


@labelled((), "Frobenius norm of all weights together")
@checks_arguments
def weight_norm(network: Network) -> Scalar:
    r"""$\|A\|_F = (\sum_l \|W_l\|_F^2)^{1/2}$, the norm of all weights together.

    >>> float(weight_norm(Network([[[3.0]], [[4.0]]])))
    5.0

    Source: Altafini, section 3.6.1, where A is the adjacency matrix.
    """
    return jnp.linalg.norm(layer_norms(network))


def weight_norm_rate(objective: Any) -> Callable[[Network], Scalar]:
    r"""$\frac{d}{dt} \|A\|_F^2 = -2 h \langle \nabla L(W), W \rangle$ along the gradient flow of any objective.

    For whitened inputs $2 h \langle \Sigma - W, W \rangle$. Of either sign: the loss falls, the weights need not.

    >>> from deeplinear import SquaredError
    >>> float(weight_norm_rate(SquaredError.from_moments([[2.0]]))(Network([[[1.0]], [[3.0]]])))
    -12.0

    Source: Altafini, proposition 9, eq. (23).
    """
    return labelled((), "rate of change of the squared norm of all weights")(Partial(_norm_rate, objective))


@checks_arguments
def layer_ranks(threshold: float = 0.0) -> Callable[[Network], Float[Array, " layer"]]:
    """Number of singular values of every layer above a threshold, shape (h,).

    0: their rank, with max(shape) eps of the largest counted as zero. Raises `ValueError` for a negative threshold.

    >>> layer_ranks(0.5)(Network([[[2.0, 0.0], [0.0, 0.1]], [[1.0, 0.0]]])).tolist()
    [1, 1]
    """
    if not threshold >= 0:
        raise ValueError(f"`threshold`: got {threshold}; singular values are at least 0")
    words = f"number of singular values of every layer above {threshold:g}" if threshold else "rank of every layer"
    return labelled(("layer",), words)(Partial(_layer_ranks, threshold))


@labelled(("layer",), "effective rank of every layer")
@checks_arguments
def layer_effective_ranks(network: Network) -> Float[Array, " layer"]:
    """`effective_rank` of every layer, shape (h,).

    >>> layer_effective_ranks(Network([[[3.0, 4.0]], [[2.0]]])).round(12).tolist()
    [1.0, 1.0]
    """
    return jnp.stack([_effective_rank(jnp.linalg.svd(W, compute_uv=False)) for W in network.weights])


@labelled(("layer",), "stable rank of every layer")
@checks_arguments
def layer_stable_ranks(network: Network) -> Float[Array, " layer"]:
    """`stable_rank` of every layer, shape (h,).

    >>> layer_stable_ranks(Network([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]])).tolist()
    [1.25, 1.0]
    """
    return jnp.stack([_stable_rank(jnp.linalg.svd(W, compute_uv=False)) for W in network.weights])


@checks_arguments
def _norm_rate(objective: Any, network: Network) -> Scalar:
    W = network.end_to_end
    gradient = getattr(objective, "gradient", None) or jax.grad(objective)
    return -2 * network.depth * jnp.sum(gradient(W) * W)


@checks_arguments
def _layer_ranks(threshold: Any, network: Network) -> Array:
    spectra = [jnp.linalg.svd(W, compute_uv=False) for W in network.weights]
    noise = [max(W.shape) * jnp.finfo(W.dtype).eps * s[0] for W, s in zip(network.weights, spectra, strict=True)]
    return jnp.stack([jnp.sum(s > jnp.maximum(threshold, low)) for s, low in zip(spectra, noise, strict=True)])


def _stable_rank(s: Array) -> Scalar:
    return jnp.sum((s / jnp.where(s[0] > 0, s[0], 1.0)) ** 2)


def _effective_rank(s: Array) -> Scalar:
    p = s / jnp.where(s[0] > 0, jnp.sum(s), 1.0)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0))
    return jnp.where(s[0] > 0, jnp.exp(entropy), 0.0)
