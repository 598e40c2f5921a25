"""Whether a run fits into memory, and whether JAX traces it."""

import math
from typing import Any

import jax
from jax.core import Tracer

from .. import _memory
from ..network import Network
from ..objectives import SquaredError

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


def is_traced(objective: Any, network: Network, *others: Any) -> bool:
    """Whether JAX is tracing this call: no number can be looked at, and the whole run has to be JAX code."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((objective, network, others))):
        return True
    if isinstance(objective, SquaredError):  # made of arrays alone; numpy computes with them, wherever it is asked
        return False
    if isinstance(jax.device_put(0.0), Tracer):  # inside `jax.jit` even constants become tracers
        return True
    # a plain function may have closed over a tracer; its value shows it
    if not jax.tree_util.all_leaves([objective]) or network.weights[0].ndim > 2:
        return False
    return isinstance(objective(network.end_to_end), Tracer)
