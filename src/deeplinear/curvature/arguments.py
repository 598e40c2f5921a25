"""What every function here checks at its door."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

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
    network = network if isinstance(network, Network) else Network(network)
    if any(W.ndim != 2 for W in network.weights):
        raise ValueError("`network`: has a leading axis of members or times; give one network, or use `jax.vmap`")
    network = jax.tree.map(lambda W: W.astype(float), network)
    d_y, d_x = getattr(getattr(objective, "optimum", None), "shape", (network.widths[-1], network.widths[0]))
    if (d_x, d_y) != (network.widths[0], network.widths[-1]):
        raise ValueError(
            f"`network`: maps {network.widths[0]} inputs to {network.widths[-1]} outputs, but the objective has "
            f"{d_x} and {d_y}"
        )
    if mask is not None:
        mask = mask if isinstance(mask, Network) else Network(mask)
        if mask.widths != network.widths or any(m.dtype != bool for m in mask.weights):
            raise ValueError(f"`mask`: must be a Network of booleans with widths {network.widths}; True entries learn")
    concrete = not isinstance(weight_decay, Tracer)
    if concrete and not (np.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"`weight_decay`: got {weight_decay}; give a finite number of at least 0")
    decay = None if concrete and not weight_decay else jnp.asarray(weight_decay, dtype=float)
    return Point(objective, network, mask, decay)


def direction_of(point: Point, V: Any) -> Network:
    """The direction V, zero where the mask holds a weight; `ValueError` for other widths."""
    V = V if isinstance(V, Network) else Network(V)
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
