"""What every function here checks at its door."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import check_decay, check_single
from .._types import Array
from ..masks import check_mask
from ..network import Network


class Point(NamedTuple):
    """Where second derivatives are asked for: the loss, the weights, which of them learn, and weight decay."""

    objective: Any
    network: Network
    mask: Network | None
    weight_decay: Array | None
    """None: no decay."""

    @property
    def learning(self) -> int:
        """How many weights learn."""
        if self.mask is None:
            return sum(W.size for W in self.network.weights)
        return sum(int(np.count_nonzero(m)) for m in self.mask.weights)


def checked(objective: Any, network: Any, mask: Any = None, weight_decay: Any = 0.0) -> Point:
    """The point; `ValueError` in one line for what does not fit together."""
    if not callable(objective):
        raise ValueError(f"`objective`: got a {type(objective).__name__}; give a function of the end-to-end matrix")
    check_single(network)
    network = jax.tree.map(lambda W: W.astype(float), network)
    return Point(objective, network, check_mask(mask, network), check_decay(weight_decay))


def direction_of(point: Point, V: Any) -> Network:
    """The direction V, zero where the mask holds a weight; `ValueError` for other widths."""
    if V.widths != point.network.widths or any(D.ndim != 2 for D in V.weights):
        raise ValueError(f"`V`: has widths {V.widths}; a direction has those of the network, {point.network.widths}")
    return masked(point.mask, jax.tree.map(lambda D: D.astype(float), V))


def masked(mask: Network | None, V: Network) -> Network:
    """V, zero where the mask holds a weight."""
    return V if mask is None else jax.tree.map(lambda m, D: jnp.where(m, D, 0.0), mask, V)


def check_size(point: Point, most: int, instead: str) -> None:
    """`ValueError` where a dense matrix would be too large."""
    if point.learning > most:
        raise ValueError(
            f"`network`: has {point.learning:,} weights that learn; a dense matrix is for at most {most:,}: {instead}"
        )


def check_concrete(point: Point) -> None:
    """`ValueError` inside `jax.jit`, where a loop on the host cannot look at numbers."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((point.objective, point.network, point.weight_decay))):
        raise ValueError(
            "`network`: is being traced by JAX, but this looks at numbers on the host; call it outside `jax.jit` and "
            "`jax.vmap`, or use `largest_eigenvalue`, `hvp` or `hessian`"
        )
