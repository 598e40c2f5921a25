"""What gradient flow conserves: the imbalance of neighbouring layers."""

from collections.abc import Callable
from itertools import pairwise

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from .._arguments import checks_arguments
from ..network import Network
from .labels import labelled


@checks_arguments
def imbalance(network: Network) -> tuple[Array, ...]:
    r"""$C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$ of every junction, a tuple of h - 1 symmetric matrices (d_l, d_l).

    Conserved by gradient flow for every objective of the end-to-end matrix. The survey's $C_l$ is the negative.

    >>> imbalance(Network([[[1.0]], [[2.0]]]))[0].tolist()
    [[3.0]]

    Source: Arora, Cohen and Hazan (2018), eq. (11); Altafini, proposition 6.
    """
    return tuple(above.T @ above - below @ below.T for below, above in pairwise(network.weights))


@labelled(("junction",), "conserved imbalance between layer l and l + 1, Frobenius norm")
@checks_arguments
def imbalance_norms(network: Network) -> Float[Array, " junction"]:
    r"""$\|C_l\|_F$ of every junction, shape (h - 1,); a network is $\delta$-balanced if none is above $\delta$.

    >>> imbalance_norms(Network([[[1.0]], [[2.0]]])).tolist()
    [3.0]

    Source: Arora et al. (2019), "A convergence analysis of gradient descent", definition 1.
    """
    return jnp.array([jnp.linalg.norm(C) for C in imbalance(network)])


@checks_arguments
def imbalance_drift(start: Network) -> Callable[[Network], Float[Array, " junction"]]:
    r"""$\|C_l - C_l(\text{start})\|_F$ of every junction, shape (h - 1,): zero along an exact flow.

    >>> start = Network([[[1.0]], [[2.0]]])
    >>> imbalance_drift(start)(Network([[[1.0]], [[3.0]]])).tolist()
    [5.0]
    """
    label = labelled(("junction",), "drift of the conserved imbalance between layer l and l + 1, Frobenius norm")
    return label(Partial(_drift, imbalance(start)))


@checks_arguments
def _drift(conserved: tuple[Array, ...], network: Network) -> Float[Array, " junction"]:
    return jnp.array([jnp.linalg.norm(C - C0) for C, C0 in zip(imbalance(network), conserved, strict=True)])
