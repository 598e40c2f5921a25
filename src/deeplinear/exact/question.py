"""What exact solutions share: the question checked at the door, and what an answer looks like.

A solution is made from (objective, network) and holds its `checks`. `solution(ts)` is a value with the times, the
end-to-end matrix and the loss at these times, and more where more is known; `solution.trajectory(ts)` has the weights.
"""

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import check_times
from .._types import Array
from ..network import Network
from ..objectives import SquaredError


class Answer(eqx.Module):
    """What every solution says at times `ts`: `end_to_end`, `loss`, `weights`, `gram_in`, `gram_out`, `warning`.

    Arrays have a leading time axis; a `limit()` has none.
    """

    @property
    @abstractmethod
    def weights(self) -> tuple[Array, ...]:
        """W_1, ..., W_h, each (time, d_l, d_{l-1})."""

    @property
    def gram_in(self) -> Array:
        """W_1^T W_1, (time, d_x, d_x)."""
        W = self.weights[0]
        return jnp.swapaxes(W, -1, -2) @ W

    @property
    def gram_out(self) -> Array:
        """W_h W_h^T, (time, d_y, d_y)."""
        W = self.weights[-1]
        return W @ jnp.swapaxes(W, -1, -2)


class Curve(Answer):
    """What is known at every time of a run of one layer."""

    ts: Float[Array, "*time"]
    end_to_end: Float[Array, "*time out in"]
    loss: Float[Array, "*time"]
    warning: str | None = eqx.field(static=True, default=None)
    """Why late times are not to be trusted: None, they are."""

    @property
    def weights(self) -> tuple[Array, ...]:
        """The one layer, (time, d_y, d_x)."""
        return (self.end_to_end,)


def check_objective(objective: Any) -> None:
    """`ValueError` unless the objective is a squared error."""
    if not isinstance(objective, SquaredError):
        raise ValueError(f"`objective`: got a {type(objective).__name__}; exact solutions are known for SquaredError")


def checked_times(ts: Any) -> Array:
    """Times as a vector of JAX's, in any order; `ValueError` for others, see `check_times`."""
    return jnp.asarray(check_times(ts))


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
