"""What balance does to neighbouring layers: equal singular values, and aligned singular vectors where those differ.

Junction l joins layer l (below) to layer l + 1 (above). Singular values are completed by zeros to the d_l of the unit
space between them, singular vectors to an orthonormal basis; matrices are padded with NaN to the widest hidden layer.
"""

from itertools import pairwise
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from .._arguments import checks_arguments
from .._linalg import thin_svd
from .._types import Array
from ..layer_rates import network_at_unit_rates
from ..network import Network
from .alignment import alignment
from .labels import labelled


@labelled(("junction",), "distance of the squared singular values of layer l and l + 1")
@checks_arguments
def synchronisation(network: Network, rates: Any = None) -> Float[Array, " junction"]:
    r"""$\big(\sum_k (s_{l,k}^2 - s_{l+1,k}^2)^2\big)^{1/2}$ of every junction, shape (h - 1,).

    Never above $\|C_l\|_F$ (`imbalance_norms`), which the flow conserves: layers of small imbalance learn together.
    `rates`: as of `imbalance`; singular values are then those of $W_l / \sqrt{\eta_l}$.

    >>> synchronisation(Network([[[1.0, 0.0]], [[2.0], [0.0]]])).tolist()
    [3.0]

    Source: Altafini, proposition 36, eq. (58).
    """
    junctions = _junctions(network_at_unit_rates(network, rates))
    distances = [jnp.linalg.norm(below - above) for below, above, _ in junctions]
    return jnp.stack(distances) if distances else jnp.zeros(0)


@labelled(("junction", "above", "below"), "squared overlap of singular vectors, (v_{l+1,k}^T u_{l,m})^2")
@checks_arguments
def overlap(network: Network) -> Float[Array, "junction above below"]:
    r"""$\bar\Theta_{km} = (v_{l+1,k}^T u_{l,m})^2$ of every junction, doubly stochastic, shape (h - 1, d, d).

    d is the widest hidden layer. The identity for aligned layers. Vectors of equal singular values (all those of
    singular value zero as well) are determined only together, so are their overlaps.

    >>> overlap(Network([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]])).tolist()
    [[[0.0, 1.0], [1.0, 0.0]]]

    Source: Altafini, eq. (59).
    """
    return _padded([Theta for _, _, Theta in _junctions(network)], network)


@labelled(("junction", "index", "other_index"), "Laplacian of the overlap of singular vectors")
@checks_arguments
def overlap_laplacian(network: Network) -> Float[Array, "junction index other_index"]:
    r"""$L = I - (\bar\Theta + \bar\Theta^T) / 2$ of every junction, positive semidefinite, shape (h - 1, d, d).

    0 for aligned layers. $2 \mu^T L \mu$ with $\mu_k = s_{l,k}^2$ approximates $\|C_l\|_F^2$ where the singular values
    of both layers nearly agree, but does not bound it; `imbalance_terms` is exact.

    >>> overlap_laplacian(Network([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]])).tolist()
    [[[1.0, -1.0], [-1.0, 1.0]]]

    Source: Altafini, eq. (60), there as a bound.
    """
    return _padded([jnp.eye(Theta.shape[0]) - (Theta + Theta.T) / 2 for _, _, Theta in _junctions(network)], network)


@labelled(("junction", "above", "below"), "part of |C_l|^2 of each pair of singular vectors")
@checks_arguments
def imbalance_terms(network: Network, rates: Any = None) -> Float[Array, "junction above below"]:
    r"""$\bar\Theta_{km} (s_{l,m}^2 - s_{l+1,k}^2)^2$ of every junction, whose sum is $\|C_l\|_F^2$ exactly.

    So $\bar\Theta_{km} \le \|C_l\|_F^2 / (s_{l,m}^2 - s_{l+1,k}^2)^2$: vectors align where their singular values are
    much further apart than the imbalance. Shape (h - 1, d, d). `rates`: as of `synchronisation`.

    >>> imbalance_terms(Network([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]])).round(12).tolist()
    [[[0.0, 64.0], [9.0, 0.0]]]

    Source: the exact form of Altafini, eqs. (59) and (60).
    """
    junctions = _junctions(network_at_unit_rates(network, rates))
    return _padded([_terms(*junction) for junction in junctions], network)


@labelled(("junction",), "misalignment of neighbouring layers, |V_{l+1}^T U_l - I|^2")
@checks_arguments
def misalignment(network: Network) -> Float[Array, " junction"]:
    r"""$\|V_{l+1}^T U_l - I\|_F^2$ of the first min(widths) singular vectors at every junction, shape (h - 1,).

    The sign of each pair of vectors is chosen so that $v_{l+1,k}^T u_{l,k} \ge 0$. 0 where aligned, at most 2
    min(widths). NaN where singular values are not simple, as in `alignment`.

    >>> misalignment(Network([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]])).tolist()
    [4.0]

    Source: Altafini, figure 2.
    """
    rank, known = network.max_rank, alignment(network)
    distances = []
    for (U, _, _), (_, _, V) in pairwise([thin_svd(W) for W in network.weights]):
        turn = V[:, :rank].T @ U[:, :rank]
        signs = jnp.where(jnp.diagonal(turn) < 0, -1.0, 1.0)
        distances.append(jnp.sum((turn * signs[None, :] - jnp.eye(rank)) ** 2))
    found = jnp.stack(distances) if distances else jnp.zeros(0)
    return jnp.where(jnp.isnan(known).any(axis=1), jnp.nan, found)


def _terms(below: Array, above: Array, Theta: Array) -> Array:
    return Theta * (below[None, :] - above[:, None]) ** 2


def _junctions(network: Network) -> list[tuple[Array, Array, Array]]:
    """Squared singular values of layer l and of layer l + 1, (d_l,) each, and the overlap, (d_l, d_l)."""
    found = []
    for below, above in pairwise(network.weights):
        U, s, _ = jnp.linalg.svd(below)
        _, t, Vt = jnp.linalg.svd(above)
        fill = lambda values, d=below.shape[0]: jnp.pad(values**2, (0, d - values.shape[0]))
        found.append((fill(s), fill(t), (Vt @ U) ** 2))
    return found


def _padded(matrices: list[Array], network: Network) -> Array:
    widest = max(network.widths[1:-1], default=0)
    if not matrices:
        return jnp.zeros((0, 0, 0))
    return jnp.stack([jnp.pad(M, (0, widest - M.shape[0]), constant_values=jnp.nan) for M in matrices])
