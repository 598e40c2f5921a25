"""What exact solutions share: the question checked at the door, and what an answer looks like.

A solution is made from (objective, network) and holds its `checks`. `solution(ts)` is a value with the times, the
end-to-end matrix and the loss at these times, and more where more is known; `solution.trajectory(ts)` has the weights.
"""

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..network import Network
from ..objectives import SquaredError


class Curve(eqx.Module):
    """What is known at every time of a run, without weights."""

    ts: Float[Array, " time"]
    end_to_end: Float[Array, "time out in"]
    loss: Float[Array, " time"]


def check_objective(objective: Any) -> None:
    """`ValueError` unless the objective is a squared error."""
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: got a {type(objective).__name__}; exact solutions are known for SquaredError")


def check_question(objective: Any, network: Network) -> None:
    """`ValueError` unless the objective is a squared error of the network's inputs and outputs."""
    check_objective(objective)
    d_y, d_x = objective.optimum.shape
    if (d_x, d_y) != (network.widths[0], network.widths[-1]):
        raise ValueError(
            f"`network`: maps {network.widths[0]} inputs to {network.widths[-1]} outputs, but the objective has {d_x} "
            f"and {d_y}"
        )


def checked_times(ts: Any) -> Array:
    """Times as a JAX vector; `ValueError` for another shape and, where they are concrete, for values that are no times.

    Times need not be sorted.
    """
    if np.ndim(ts) != 1:
        raise ValueError(f"`ts`: has shape {np.shape(ts)}; give a list of times")
    if not isinstance(ts, Tracer):
        ts = np.asarray(ts, dtype=float)
        if not np.isfinite(ts).all():
            raise ValueError(f"`ts`: every time must be finite, but one is {ts[~np.isfinite(ts)][0]}")
        if (ts < 0).any():
            raise ValueError(f"`ts`: times must be >= 0, but the smallest is {ts.min()}; count time from the start")
    return jnp.asarray(ts, dtype=float)


def check_decay(weight_decay: Any) -> None:
    """`ValueError` for a weight decay that is concrete and negative or not finite."""
    if not isinstance(weight_decay, Tracer) and not (np.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"`weight_decay`: got {weight_decay}; give a finite number of at least 0")


def losses(objective: SquaredError, W: np.ndarray) -> Float[Array, " time"]:
    """Loss of every matrix (time, d_y, d_x), on the host: no shape has to be compiled."""
    gap = W - np.asarray(objective.optimum)
    excess = np.sum((gap if objective.whitened else gap @ np.asarray(objective.root_xx)) ** 2, axis=(1, 2))
    return jnp.asarray(float(objective.minimum) + float(objective.factor) / 2 * excess)


def gradients(objective: Any, network: Network) -> tuple[Array, ...]:
    """Gradient of the loss with respect to every layer, for any objective of the end-to-end matrix."""
    return jax.grad(lambda point: objective(point.end_to_end))(network).weights


def imbalances(layers: Any) -> tuple:
    """W_{l+1}^T W_{l+1} - W_l W_l^T of every junction."""
    return tuple(above.T @ above - below @ below.T for below, above in pairwise(layers))
