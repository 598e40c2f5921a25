"""Which weights learn: masks, networks of booleans with True where an entry learns.

Biases and skips come with masks of their own (`Network.with_biases`, `Network.with_skip`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from . import _wiring
from ._arguments import as_network, checks_arguments
from ._types import Key
from .init.arguments import check_drawn, check_key
from .network import Network


@checks_arguments
def sparse(key: Key, widths: Sequence[int], density: float) -> Network:
    """A random mask in which every entry learns with probability `density`, on its own; some path always learns.

    Hold the other entries at zero (`pruned`) for a sparsely connected network. Raises `ValueError` for a density that
    is not above 0 and at most 1.

    >>> mask = sparse(0, (30, 40, 20), density=0.25)
    >>> mask.widths, abs(float(jnp.mean(mask.weights[0])) - 0.25) < 0.05
    ((30, 40, 20), True)
    """
    if not 0 < density <= 1:
        raise ValueError(f"`density`: got {density}; give a share of the weights above 0 and at most 1")
    widths, path_key, key = check_drawn(widths), *jax.random.split(check_key(key))
    path_keys, keys = jax.random.split(path_key, len(widths)), jax.random.split(key, len(widths) - 1)
    path = [int(jax.random.randint(k, (), 0, d)) for k, d in zip(path_keys, widths, strict=True)]
    drawn = [jax.random.bernoulli(k, density, (d, e)) for k, (e, d) in zip(keys, pairwise(widths), strict=True)]
    return Network([m.at[i, j].set(True) for m, (j, i) in zip(drawn, pairwise(path), strict=True)])


@checks_arguments
def pruned(network: Network, mask: Network) -> Network:
    """The network with zeros where the mask holds an entry.

    >>> pruned(Network([[[2.0, 3.0]]]), Network([[[True, False]]])).weights[0].tolist()
    [[2.0, 0.0]]
    """
    return jax.tree.map(lambda W, m: jnp.where(m, W, 0.0), network, mask)


@checks_arguments
def check_mask(mask: Any, network: Network) -> Network | None:
    """The mask as a `Network` of booleans of the network's widths, under which something can be learned; None for None.

    >>> check_mask([[[True]]], Network([[[2.0]]])).weights[0].dtype.name
    'bool'
    """
    if mask is None:
        return None
    mask = as_network(mask, "mask")
    if mask.widths != network.widths or any(m.dtype != bool or m.ndim != 2 for m in mask.weights):
        raise ValueError(f"`mask`: must be a Network of booleans with widths {network.widths}; True entries learn")
    check_paths(network, mask)
    return mask


@checks_arguments
def check_paths(network: Network, mask: Network) -> None:
    """`ValueError` for a mask under which the network can learn nothing.

    That is: no entry that learns lies on a path from an input to an output whose weights learn or are not zero. Where
    JAX traces weights nothing is looked at.

    >>> check_paths(Network([[[2.0]], [[0.0]]]), Network([[[True]], [[False]]]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: `mask`: no entry that learns lies on a path from an input to an output, along weights that learn or ...
    """
    leaves: list[Any] = [*network.weights, *mask.weights]
    if any(isinstance(leaf, Tracer) for leaf in leaves) or _wiring.learns_something(network.weights, mask.weights):
        return
    raise ValueError(
        "`mask`: no entry that learns lies on a path from an input to an output, along weights that learn or are not "
        "zero; the network can learn nothing, so let a whole path learn"
    )
