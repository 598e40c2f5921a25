"""What gradient flow conserves: the imbalance of neighbouring layers."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Float

from .._arguments import check_rates, checks_arguments
from .._types import Array
from ..layer_rates import network_at_unit_rates
from ..network import Network
from .labels import labelled


@checks_arguments
def imbalance(network: Network, rates: Any = None) -> tuple[Array, ...]:
    r"""$C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$ of every junction, a tuple of h - 1 symmetric matrices (d_l, d_l).

    Conserved by gradient flow for every objective of the end-to-end matrix. The survey's $C_l$ is the negative. With
    `rates` $\eta_l$, one learning rate per layer or one for all, it is $W_{l+1}^T W_{l+1} / \eta_{l+1} - W_l W_l^T /
    \eta_l$ that is conserved, and returned. Raises `ValueError` for rates that are not above 0 or too many or too few.

    >>> network = Network([[[1.0]], [[2.0]]])
    >>> imbalance(network)[0].tolist(), imbalance(network, rates=[1.0, 4.0])[0].tolist()
    ([[3.0]], [[0.0]])

    Source: Arora, Cohen and Hazan (2018), eq. (11); Altafini, proposition 6.
    """
    layers = network_at_unit_rates(network, rates).weights
    return tuple(above.T @ above - below @ below.T for below, above in pairwise(layers))


@labelled(("junction",), "conserved imbalance between layer l and l + 1, Frobenius norm")
@checks_arguments
def imbalance_norms(network: Network, rates: Any = None) -> Float[Array, " junction"]:
    r"""$\|C_l\|_F$ of every junction, shape (h - 1,); a network is $\delta$-balanced if none is above $\delta$.

    `rates`: as of `imbalance`.

    >>> imbalance_norms(Network([[[1.0]], [[2.0]]])).tolist()
    [3.0]

    Source: Arora et al. (2019), "A convergence analysis of gradient descent", definition 1.
    """
    return jnp.array([jnp.linalg.norm(C) for C in imbalance(network, rates)])


@checks_arguments
def imbalance_drift(start: Network, rates: Any = None) -> Callable[[Network], Float[Array, " junction"]]:
    r"""$\|C_l - C_l(\text{start})\|_F$ of every junction, shape (h - 1,): zero along an exact flow.

    `rates`: as of `imbalance`.

    >>> start = Network([[[1.0]], [[2.0]]])
    >>> imbalance_drift(start)(Network([[[1.0]], [[3.0]]])).tolist()
    [5.0]
    """
    label = labelled(("junction",), "drift of the conserved imbalance between layer l and l + 1, Frobenius norm")
    rates = check_rates(rates, start.depth)
    return label(Partial(_drift, imbalance(start, rates), rates))


@checks_arguments
def _drift(conserved: tuple[Array, ...], rates: Any, network: Network) -> Float[Array, " junction"]:
    return jnp.array([jnp.linalg.norm(C - C0) for C, C0 in zip(imbalance(network, rates), conserved, strict=True)])
