"""Losses that outliers do not dominate."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from .._arrays import number
from .._trees import set_fields, value
from .._types import Array
from .arguments import samples
from .samples import SampleLoss


@value(init=False)
class Huber(SampleLoss):
    r"""Huber's loss $\frac{1}{n} \sum_{ik} h(y_{ik} - (W x_i)_k)$: quadratic up to a residual of `delta`.

    $h(r) = r^2 / 2$ for $|r| \le \delta$, else $\delta (|r| - \delta / 2)$. X (n, d_x), Y (n, d_y). For `delta` beyond
    every residual it is the squared error at `HALF_MEAN`. No minimum is known in closed form. Raises `ValueError` for a
    `delta` that is not above 0 and arrays that do not fit.

    >>> objective = Huber([[1.0], [1.0]], [[0.0], [10.0]], delta=1.0)
    >>> float(objective(jnp.array([[0.0]]))), objective.gradient(jnp.array([[0.5]])).tolist()
    (4.75, [[-0.25]])

    Source: Huber (1964), Ann. Math. Statist. 35, eq. (1.7).
    """

    X: Float[Array, "n d_x"]
    Y: Float[Array, "n d_y"]
    delta: Float[Array, ""]

    def __init__(self, X: Any, Y: Any, delta: Any = 1.0):
        self._take(*samples(X, Y))
        set_fields(self, delta=jnp.asarray(number("delta", delta, "a finite number above 0", above=0.0), dtype=float))

    def _losses(self, Z: Array) -> Array:
        size = jnp.abs(self.Y - Z)
        inside = jnp.minimum(size, self.delta)
        return inside * (size - inside / 2)

    def _slopes(self, Z: Array) -> Array:
        return jnp.clip(Z - self.Y, -self.delta, self.delta)

    def _bends(self, Z: Array, dZ: Array) -> Array:
        return jnp.where(jnp.abs(Z - self.Y) <= self.delta, dZ, 0.0)
