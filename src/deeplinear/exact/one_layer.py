"""One layer: linear regression by gradient flow, solved for any inputs."""

from functools import partial
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float

from .._arguments import checks_arguments
from .._types import Array
from ..layer_rates import shared_decay
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from .assumptions import Check, require
from .question import Curve, check_objective, checked_times
from .rated import Rated, rated


class Regression(eqx.Module):
    """The flow of one layer; made by `regression`."""

    objective: SquaredError
    checks: tuple[Check, ...] = eqx.field(static=True)
    _start: Float[Array, "out in"]  # W(0) Q, in the eigenvectors Q of sigma_xx
    _limit: Float[Array, "out in"]  # where W Q goes
    _optimum: Float[Array, "out in"]  # W* Q
    _rates: Float[Array, " in"]
    _variances: Float[Array, " in"]
    _Q: Float[Array, "in in"]

    def __call__(self, ts: Any) -> Curve:
        """End-to-end matrix and loss at times (time,); raises `ValueError` for times that are negative or infinite."""
        ts = checked_times(ts)
        decay = jnp.exp(-self._rates[None, :] * ts[:, None])[:, None, :]
        rise = -jnp.expm1(-self._rates[None, :] * ts[:, None])[:, None, :]
        start, limit, optimum = self._start[None], self._limit[None], self._optimum[None]
        # written as what is left, so that the loss keeps its digits where W is at its target to rounding
        left = (start - limit) * decay + (limit - optimum)
        return Curve(ts, (start * decay + limit * rise) @ self._Q.T, self._loss(left))

    def limit(self) -> Curve:
        """The state for t to infinity, without a time axis; what lies along inputs that never occur stays."""
        end = jnp.where(self._rates[None, :] > 0, self._limit, self._start)
        return Curve(jnp.array(jnp.inf), end @ self._Q.T, self._loss(end - self._optimum))

    def weights(self, ts: Any) -> Network:
        """The network at times (time,), with a leading time axis."""
        return self.trajectory(ts).networks

    @property
    def warning(self) -> None:
        """Why late times are not to be trusted: None, they are."""

    def _loss(self, left: Array) -> Array:
        excess = jnp.sum(left**2 * self._variances[(None,) * (left.ndim - 1)], axis=(-2, -1))
        return self.objective.minimum + self.objective.factor / 2 * excess

    def trajectory(self, ts: Any) -> Trajectory:
        """The network at times (time,)."""
        curve = self(ts)
        networks = jax.tree.unflatten(jax.tree.structure(Network([self._Q])), [curve.end_to_end])
        return Trajectory(curve.ts, networks, objective=self.objective)


@overload
def regression(
    objective: SquaredError, network: Network, *, weight_decay: Any = 0.0, rates: None = None
) -> Regression: ...
@overload
def regression(objective: SquaredError, network: Network, *, weight_decay: Any = 0.0, rates: Any) -> Rated: ...
@checks_arguments
def regression(
    objective: SquaredError, network: Network, *, weight_decay: Any = 0.0, rates: Any = None
) -> Regression | Rated:
    r"""Gradient flow of a network of one layer, for any $\Sigma_{xx}$, singular ones included.

    $$ W(t) = W_0 e^{-K t} + c \, \Sigma_{yx} \int_0^t e^{-K r} dr, \quad K = c \, \Sigma_{xx} + \gamma I $$

    with c the factor of the loss scale and $\gamma$ = `weight_decay` (the descended function is $L + \frac{\gamma}{2}
    \|W\|^2$; the loss that is returned is L). `solution(ts)` has `ts` (time,), `end_to_end` (time, d_y, d_x) and `loss`
    (time,); `solution.trajectory(ts)` the networks. Accurate to rounding at any time; the excess loss keeps its
    relative accuracy as it vanishes. With `rates` $\eta$ the layer moves $\eta$ times as fast, and the solution is an
    `exact.Rated`. Works under `jit` and `vmap`. Raises `NotExact` for deeper networks, `ValueError` for other
    objectives, negative decay and rates that are not above 0.

    >>> objective = SquaredError.from_moments([[2.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]])  # the second input never occurs
    >>> solution = regression(objective, Network([[[0.0, 1.0]]]))
    >>> solution([0.0, 1.0, 1e6]).end_to_end[:, 0].round(4).tolist()
    [[0.0, 1.0], [1.2642, 1.0], [2.0, 1.0]]

    Source: Le Cun, Kanter and Solla (1991), Phys. Rev. Lett. 66; with sources it is the variation of constants.
    """
    check_objective(objective)
    off = 0.0 if network.depth == 1 else float("inf")
    checks = require([Check("regression", "the network has one layer", off, 0.0)])
    weight_decay, _ = shared_decay("regression", weight_decay, rates, network.depth)
    if rates is not None:
        return rated(partial(regression, weight_decay=weight_decay), objective, network, rates)
    W0, optimum, factor = network.weights[0], objective.optimum, objective.factor
    variances, Q = objective.input_spectrum
    speeds = factor * variances + weight_decay
    share = jnp.where(speeds > 0, factor * variances / jnp.where(speeds > 0, speeds, 1.0), 0.0)
    rotated = optimum @ Q
    return Regression(objective, checks, W0 @ Q, rotated * share[None, :], rotated, speeds, variances, Q)
