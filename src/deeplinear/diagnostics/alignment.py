"""How neighbouring layers line up."""

from itertools import pairwise

import jax.numpy as jnp
from jaxtyping import Float

from .._arguments import checks_arguments
from .._linalg import thin_svd
from .._types import Array
from ..network import Network
from .labels import labelled

SIMPLE = 1e-8  # gap below which rounding mixes two singular vectors visibly, relative to the largest singular value


@labelled(("junction", "rank"), "alignment of neighbouring layers, |v_{l+1,a}^T u_{l,a}|")
@checks_arguments
def alignment(network: Network) -> Float[Array, "junction rank"]:
    r"""Overlap $|v_{l+1,a}^T u_{l,a}|$ of singular vectors, right of layer l + 1 and left of layer l.

    Shape (h - 1, min(widths)), between 0 and 1 (aligned). NaN where the a-th singular value of either layer is not
    simple (a neighbour within `SIMPLE` of the largest): its singular vector is then undetermined, so is the overlap.

    >>> alignment(Network([[[1.0, 0.0], [0.0, 0.5]], [[2.0, 0.0], [0.0, 1.0]]])).tolist()
    [[1.0, 1.0]]

    Source: Altafini, section 5.3; Ji and Telgarsky (2019), theorem 1.
    """
    decompositions = [thin_svd(W) for W in network.weights]
    rank = network.max_rank
    rows = []
    for (U, below, _), (_, above, V) in pairwise(decompositions):
        overlap = jnp.abs(jnp.sum(V[:, :rank] * U[:, :rank], axis=0))
        rows.append(jnp.where(_simple(below)[:rank] & _simple(above)[:rank], overlap, jnp.nan))
    return jnp.stack(rows) if rows else jnp.zeros((0, rank))


def _simple(s: Array) -> Array:
    """Which singular values (largest first) differ from their neighbours."""
    gaps = -jnp.diff(s) > SIMPLE * s[0]
    edge = jnp.ones((1,), dtype=bool)
    return jnp.concatenate([edge, gaps]) & jnp.concatenate([gaps, edge])
