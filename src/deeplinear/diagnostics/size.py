"""Sizes and effective ranks of the end-to-end matrix and of the layers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import Scalar
from ..network import Network
from .labels import labelled
from .spectrum import singular_values


@labelled((), "Frobenius norm of the end-to-end matrix")
def frobenius(network: Network) -> Scalar:
    r"""Frobenius norm $\|W\|_F$ of the end-to-end matrix.

    >>> float(frobenius(Network([[[3.0, 4.0]]])))
    5.0
    """
    return jnp.linalg.norm(network.end_to_end)


@labelled((), "nuclear norm of the end-to-end matrix")
def nuclear_norm(network: Network) -> Scalar:
    r"""Nuclear norm $\|W\|_* = \sum_a s_a$ of the end-to-end matrix.

    >>> float(nuclear_norm(Network([[[3.0, 0.0], [0.0, 4.0]]])))
    7.0

    Source: Arora et al. (2019), "Implicit regularization in deep matrix factorization".
    """
    return jnp.sum(singular_values(network))


@labelled((), "stable rank of the end-to-end matrix")
def stable_rank(network: Network) -> Scalar:
    r"""Stable rank $\|W\|_F^2 / \|W\|_2^2$ of the end-to-end matrix, from 1 to its rank; 0 for a matrix of zero.

    >>> float(stable_rank(Network([[[2.0, 0.0], [0.0, 1.0]]])))
    1.25

    Source: Rudelson and Vershynin (2007).
    """
    return _stable_rank(singular_values(network))


@labelled((), "effective rank of the end-to-end matrix")
def effective_rank(network: Network) -> Scalar:
    r"""Effective rank $\exp(-\sum_a p_a \ln p_a)$, $p_a = s_a / \sum_b s_b$, of the end-to-end matrix.

    From 1 to its rank; 0 for a matrix of zero.

    >>> round(float(effective_rank(Network([[[2.0, 0.0], [0.0, 2.0]]]))), 12)
    2.0

    Source: Roy and Vetterli (2007).
    """
    return _effective_rank(singular_values(network))


@labelled(("layer",), "Frobenius norm of every layer")
def layer_norms(network: Network) -> Float[Array, " layer"]:
    """Frobenius norm of every layer, shape (h,).

    >>> layer_norms(Network([[[3.0, 4.0]], [[2.0]]])).tolist()
    [5.0, 2.0]
    """
    return jnp.stack([jnp.linalg.norm(W) for W in network.weights])


@labelled(("layer",), "effective rank of every layer")
def layer_effective_ranks(network: Network) -> Float[Array, " layer"]:
    """`effective_rank` of every layer, shape (h,).

    >>> layer_effective_ranks(Network([[[3.0, 4.0]], [[2.0]]])).round(12).tolist()
    [1.0, 1.0]
    """
    return jnp.stack([_effective_rank(jnp.linalg.svd(W, compute_uv=False)) for W in network.weights])


@labelled(("layer",), "stable rank of every layer")
def layer_stable_ranks(network: Network) -> Float[Array, " layer"]:
    """`stable_rank` of every layer, shape (h,).

    >>> layer_stable_ranks(Network([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]])).tolist()
    [1.25, 1.0]
    """
    return jnp.stack([_stable_rank(jnp.linalg.svd(W, compute_uv=False)) for W in network.weights])


def _stable_rank(s: Array) -> Scalar:
    return jnp.sum((s / jnp.where(s[0] > 0, s[0], 1.0)) ** 2)


def _effective_rank(s: Array) -> Scalar:
    p = s / jnp.where(s[0] > 0, jnp.sum(s), 1.0)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0))
    return jnp.where(s[0] > 0, jnp.exp(entropy), 0.0)
