"""Exact solutions of layers that learn at different rates: those of V, brought back to W (`layer_rates`)."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from .._types import Array
from ..layer_rates import UnitRates, at_unit_rates, of_unit_rates
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from .assumptions import Check, NotExact
from .question import Answer


class RatedState(Answer):
    """What a solution with layer rates says at times `ts`; `at_unit_rates` is the theorem's own state, of V.

    >>> from deeplinear import SquaredError, exact
    >>> start = Network([[[0.1]], [[0.2]]])
    >>> state = exact.decoupled(SquaredError.from_moments([[2.0]]), start, rates=[1.0, 4.0])([0.0, 20.0])
    >>> state.end_to_end[:, 0, 0].round(6).tolist(), state.at_unit_rates.strengths[:, 0].round(6).tolist()
    ([0.02, 2.0], [0.01, 1.0])
    """

    at_unit_rates: Any
    """The state of V, with everything that its theorem knows."""
    roots: tuple[Any, ...]
    r"""$\sqrt{\eta_l}$, by which W_l is larger than V_l."""
    scale: Any
    """Their product, by which W is larger."""

    @property
    def ts(self) -> Array:
        """The times, (time,)."""
        return self.at_unit_rates.ts

    @property
    def end_to_end(self) -> Array:
        """W = W_h ... W_1, (time, d_y, d_x)."""
        return self.scale * self.at_unit_rates.end_to_end

    @property
    def loss(self) -> Array:
        """The objective at W, (time,): that of V, L(W) = L'(V)."""
        return self.at_unit_rates.loss

    @property
    def weights(self) -> tuple[Array, ...]:
        """W_1, ..., W_h, each (time, d_l, d_{l-1})."""
        return tuple(root * V for root, V in zip(self.roots, self.at_unit_rates.weights, strict=True))

    @property
    def gram_in(self) -> Array:
        """W_1^T W_1, (time, d_x, d_x)."""
        return self.roots[0] ** 2 * self.at_unit_rates.gram_in

    @property
    def gram_out(self) -> Array:
        """W_h W_h^T, (time, d_y, d_y)."""
        return self.roots[-1] ** 2 * self.at_unit_rates.gram_out

    @property
    def warning(self) -> str | None:
        """Why late times are not to be trusted, and from when on; None where they are."""
        return self.at_unit_rates.warning


class Rated(eqx.Module):
    r"""The flow of layers with rates $\eta_l$, from the solution of $V_l = W_l / \sqrt{\eta_l}$; made by `rates=`.

    Times, weights, end-to-end matrices and losses are those of W. What only one theorem knows (strengths, Q Q^T, limits
    of a sequence) is found at `solution.at_unit_rates` and `solution(ts).at_unit_rates`, and speaks of V.

    >>> from deeplinear import SquaredError, exact
    >>> start = Network([[[0.1]], [[0.2]]])
    >>> solution = exact.solve(SquaredError.from_moments([[2.0]]), start, rates=[1.0, 4.0])
    >>> solution.checks[0].theorem, solution.limit().end_to_end.round(6).tolist()
    ('decoupled modes', [[2.0]])
    """

    objective: Any
    """What was descended, a function of the end-to-end matrix of W, or the sequence of tasks."""
    network: Network
    """The start, W."""
    at_unit_rates: Any
    """The theorem's solution, of V."""
    checks: tuple[Check, ...] = eqx.field(static=True)
    """The theorem's assumptions, on V."""
    roots: tuple[Any, ...]
    scale: Any

    @classmethod
    def of(cls, objective: Any, network: Network, change: UnitRates, solution: Any) -> "Rated":
        """The solution of V as one of W, whose start and objective are these."""
        checks = tuple(map(of_unit_rates, solution.checks))
        return cls(objective, network, solution, checks, change.roots, change.scale)

    def __call__(self, ts: Any) -> RatedState:
        """The state at times (time,); `ValueError` for bad times."""
        return self._state(self.at_unit_rates(ts))

    def limit(self) -> RatedState:
        """The state for t to infinity, where the theorem knows it."""
        return self._state(self.at_unit_rates.limit())

    def weights(self, ts: Any) -> Network:
        """The network at times (time,), with a leading time axis."""
        return self._lifted(self.at_unit_rates.weights(ts))

    def trajectory(self, ts: Any) -> Trajectory:
        """The network at times (time,)."""
        found = self.at_unit_rates.trajectory(ts)
        return Trajectory(found.ts, self._lifted(found.networks), objective=self.objective)

    @property
    def warning(self) -> str | None:
        """Why late times are not to be trusted, and from when on; None where they are."""
        return self.at_unit_rates.warning

    def _state(self, state: Any) -> RatedState:
        return RatedState(state, self.roots, self.scale)

    def _lifted(self, network: Network) -> Network:
        layers = [root * V for root, V in zip(self.roots, network.weights, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(self.network), layers)


def rated(
    build: Callable[[SquaredError, Network], Any], objective: SquaredError, network: Network, rates: Any
) -> Rated:
    """The solution that `build` makes of the problem in V; its `NotExact` speaks of V.

    >>> from deeplinear.exact import balanced
    >>> solution = rated(balanced, SquaredError.from_moments([[2.0]]), Network([[[0.1]], [[0.2]]]), [1.0, 4.0])
    >>> solution.checks[0].assumption
    'neighbouring layers are balanced, V_{l+1}^T V_{l+1} = V_l V_l^T, V_l = W_l / sqrt(rate of layer l)'
    """
    change = at_unit_rates(objective, network, rates)
    try:
        solution = build(change.objective, change.network)
    except NotExact as error:
        raise of_v(error) from None
    return Rated.of(objective, network, change, solution)


def of_v(error: NotExact) -> NotExact:
    """A refusal in V, in words that say so.

    >>> print(str(of_v(NotExact([Check("balanced", "W_1 = 0", 1.0, 0.0)])))[:50])
    no exact solution: balanced: V_1 = 0, V_l = W_l /
    """
    return NotExact(map(of_unit_rates, error.measured), error.near_misses)
