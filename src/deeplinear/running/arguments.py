"""What flows and descents check of a problem at the door."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .. import _memory
from ..masks import check_paths
from ..network import Network


def as_network(network: Any) -> Network:
    """A network, also of a list of matrices."""
    return network if isinstance(network, Network) else Network(network)


def check_widths(objective: Any, network: Network) -> None:
    """`ValueError` for a network whose end-to-end matrix has another shape than the objective's."""
    shape = (network.widths[-1], network.widths[0])
    d_y, d_x = objective.optimum.shape[-2:] if hasattr(objective, "optimum") else getattr(objective, "shape", shape)
    if (d_y, d_x) != shape:
        raise ValueError(
            f"`network`: maps {shape[1]} inputs to {shape[0]} outputs, but the objective has {d_x} and {d_y}"
        )


WORKING = 12
"""Copies of a network that a method works with: slopes, stages, the state before a step."""


def check_kept(network: Network, times: int, knob: str) -> None:
    """`ValueError` where the networks that a run keeps do not fit into memory; `knob` says how to keep fewer."""
    size = sum(W.size for W in network.weights)
    members = math.prod(network.weights[0].shape[:-2])
    words = f"{members} networks" if members > 1 else "networks"
    _memory.check(
        "network",
        f"keeping {words} of widths {' -> '.join(map(str, network.widths))} at {times} times",
        8 * size * (2 * times + WORKING / members),  # what is kept is copied once, into one array a layer
        f"keep fewer times with {knob}, or take smaller layers",
    )


def check_mask(mask: Any, network: Network) -> Network | None:
    """The mask as a `Network` of booleans of the network's widths."""
    if mask is None:
        return None
    mask = as_network(mask)
    if mask.widths != network.widths or any(m.dtype != bool or m.ndim != 2 for m in mask.weights):
        raise ValueError(f"`mask`: must be a Network of booleans with widths {network.widths}; True entries learn")
    check_paths(network, mask)
    return mask


def check_decay(weight_decay: Any) -> Array | None:
    """The weight decay as a number of at least 0; None for 0."""
    concrete = not isinstance(weight_decay, Tracer)
    if concrete and (not np.isfinite(weight_decay) or weight_decay < 0):
        raise ValueError(f"`weight_decay`: got {weight_decay}; give a finite number of at least 0")
    return None if concrete and not weight_decay else jnp.asarray(weight_decay, dtype=float)


def is_traced(objective: Any, network: Network, *others: Any) -> bool:
    """Whether JAX is tracing this call: no number can be looked at, and the whole run has to be JAX code."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((objective, network, others))):
        return True
    if isinstance(jax.device_put(0.0), Tracer):  # inside `jax.jit` even constants become tracers
        return True
    # a plain function may have closed over a tracer; its value shows it
    if isinstance(objective, eqx.Module) or network.weights[0].ndim > 2:
        return False
    return isinstance(objective(network.end_to_end), Tracer)
