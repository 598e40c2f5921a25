"""Tasks learned one after another by a two-layer network, exactly."""

from collections.abc import Iterable
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import checks_arguments
from .._types import Array
from ..layer_rates import at_unit_rates, objective_at_unit_rates
from ..network import Network
from ..sequences import ROUNDING, TaskSequence
from ..trajectory import Trajectory
from .assumptions import TOLERANCE, Check, NotExact
from .lambda_balanced import TwoLayer, TwoLayerState, two_layer
from .question import checked_times
from .rated import Rated, of_v


class SequenceState(eqx.Module):
    r"""What the solution says at times `ts`, (time,): all of it from the factor of $Q Q^T$, when asked.

    >>> from deeplinear import SquaredError, exact
    >>> there, back = SquaredError.from_moments([[1.0]]), SquaredError.from_moments([[0.0]])
    >>> state = exact.sequence([(there, 20.0), (back, 20.0)], Network([[[0.1]], [[0.1]]]))([20.0, 40.0])
    >>> print(state.task, state.end_to_end[:, 0, 0].round(4), state.loss.round(4))
    [0 1] [1.     0.0244] [0.     0.0003]
    """

    ts: Array
    factor: Array
    """Y (time, d_x + d_y, r) with Q Q^T = Y Y^T, Q = [W_1^T; W_2]."""
    task: Array
    """Number of the task that is being learned, from 0, (time,); where one gives way to the next, the earlier one."""
    tasks: TaskSequence
    warning: str | None = eqx.field(static=True, default=None)
    """Why late times are not to be trusted, and in which task; None where they are."""
    _solution: Any = None

    @property
    def weights(self) -> tuple[Array, ...]:
        """W_1 and W_2, each (time, d_l, d_{l-1}), integrated when asked."""
        return self._solution.weights(self.ts).weights

    @property
    def end_to_end(self) -> Array:
        """W = W_2 W_1, (time, d_y, d_x)."""
        return self._outputs @ jnp.swapaxes(self._inputs, -1, -2)

    @property
    def gram_in(self) -> Array:
        """W_1^T W_1, (time, d_x, d_x)."""
        return self._inputs @ jnp.swapaxes(self._inputs, -1, -2)

    @property
    def gram_out(self) -> Array:
        """W_2 W_2^T, (time, d_y, d_y)."""
        return self._outputs @ jnp.swapaxes(self._outputs, -1, -2)

    @property
    def losses(self) -> Array:
        """The loss on every task, (time, task)."""
        return jax.vmap(self.tasks.losses)(self.end_to_end)

    @property
    def loss(self) -> Array:
        """The loss on the task that is being learned, (time,)."""
        return jnp.take_along_axis(self.losses, self.task[:, None], axis=1)[:, 0]

    @property
    def _inputs(self) -> Array:
        return self.factor[:, : self.tasks.objectives[0].optimum.shape[1], :]

    @property
    def _outputs(self) -> Array:
        return self.factor[:, self.tasks.objectives[0].optimum.shape[1] :, :]


class Sequence(eqx.Module):
    """The exact gradient flow through several tasks: `solution(ts)`; made by `sequence`.

    >>> from deeplinear import SquaredError, exact
    >>> tasks = [(SquaredError.from_singular_values(s, 2, 2), 50.0) for s in ([2.0, 1.0], [1.0, 1.0])]
    >>> solution = exact.sequence(tasks, Network([[[0.1, 0.0], [0.0, 0.1]]] * 2))
    >>> solution.forgetting.round(6).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """

    tasks: TaskSequence
    network: Network
    """The start."""
    parts: tuple[TwoLayer, ...]
    """The solution of every task, from where the one before it ended, with its own `checks` and `limit()`."""

    @property
    def checks(self) -> tuple[Check, ...]:
        """The assumptions of every task, one task after another."""
        return tuple(check for part in self.parts for check in part.checks)

    def __call__(self, ts: Any) -> SequenceState:
        """The state at times `ts` (time,) from 0 to the end of the last task, in any order; `ValueError` for others."""
        ts = _checked(self.tasks, ts)
        starts, durations = self.tasks.starts, self.tasks.durations
        inside = [jnp.clip(ts - start, 0.0, length) for start, length in zip(starts, durations, strict=False)]
        states = [part(local) for part, local in zip(self.parts, inside, strict=True)]
        task = jnp.minimum(jnp.searchsorted(jnp.asarray(starts[1:]), ts, side="left"), len(self.parts) - 1)
        factor = states[0].factor
        for k, state in enumerate(states[1:], start=1):
            factor = jnp.where((task == k)[:, None, None], state.factor, factor)
        warnings = [f"task {k}: {state.warning}" for k, state in enumerate(states, start=1) if state.warning]
        return SequenceState(ts, factor, task, self.tasks, "; ".join(warnings) or None, self)

    def limit(self) -> TwoLayerState:
        """The state for t to infinity if the last task goes on for ever."""
        return self.parts[-1].limit()

    def weights(self, ts: Any) -> Network:
        """The network at times `ts` (time,) in any order, with a leading time axis."""
        order = np.argsort(np.asarray(_checked(self.tasks, ts)), kind="stable")
        networks = self.trajectory(np.asarray(ts, dtype=float)[order]).networks
        return jax.tree.map(lambda W: W[np.argsort(order)], networks)

    @property
    def warning(self) -> str | None:
        """Why late times are not to be trusted, and in which task; None where they are."""
        return self(np.array([self.tasks.total])).warning

    @property
    def limit_losses(self) -> Array:
        """The loss on task j (column) of a network that has learned task k (row) to convergence, (task, task)."""
        return jnp.stack([self.tasks.losses(part.limit().end_to_end) for part in self.parts])

    @property
    def forgetting(self) -> Array:
        r"""How far the loss on task j (column) is above what learning j reaches, once task k (row) has been learned.

        $L_j(W_k^\infty) - L_j(W_j^\infty)$, (task, task). For whitened inputs, the half-mean loss and a start that
        reaches the solutions this is $\frac{1}{2} \|\Sigma_j - \Sigma_k\|_F^2$, whatever the start and the regime.
        Source: Braun et al. (2022), section on continual learning.
        """
        losses = self.limit_losses
        return losses - jnp.diagonal(losses)[None, :]

    def trajectory(self, ts: Any) -> Trajectory:
        """The networks at increasing `ts` (time,) as a `Trajectory`, for `deeplinear.measure`.

        Here the weights are handed from task to task, whose hidden basis is known to about 1e-12.
        """
        ts = _checked(self.tasks, ts)
        task = self.tasks.task_at(np.asarray(ts))
        if np.any(np.diff(task) < 0):
            raise ValueError("`ts`: goes back to an earlier task; sort the times")
        pieces, network = [], self.network
        for k, (objective, duration) in enumerate(zip(self.tasks.objectives, self.tasks.durations, strict=True)):
            part = two_layer(objective, network, tolerance=self.parts[k].checks[0].tolerance)
            local = jnp.clip(ts[task == k] - self.tasks.starts[k], 0.0, duration)
            pieces.append(part.weights(jnp.append(local, duration)))
            network = jax.tree.map(lambda W: W[-1], pieces[-1])
        networks = jax.tree.map(lambda *W: jnp.concatenate([piece[:-1] for piece in W]), *pieces)
        return Trajectory(ts, networks, objective=self.tasks)


@overload
def sequence(
    tasks: Iterable[Any], network: Network, *, tolerance: float = TOLERANCE, rates: None = None
) -> Sequence: ...
@overload
def sequence(tasks: Iterable[Any], network: Network, *, tolerance: float = TOLERANCE, rates: Any) -> Rated: ...
@checks_arguments
def sequence(
    tasks: Iterable[Any], network: Network, *, tolerance: float = TOLERANCE, rates: Any = None
) -> Sequence | Rated:
    r"""The exact gradient flow of a lambda-balanced two-layer network through tasks learned one after another.

    `tasks` = [(objective, duration), ...]. Every task is solved by `two_layer` from where the one before it ended: the
    flow keeps $W_2^T W_2 - W_1 W_1^T = \lambda I$, and $Q Q^T$ needs no hidden basis, so that the next task starts from
    a factor of it. The network that has just learned a task is an ordinary start for the next, except where it lies on
    the stable manifold of a saddle, as a 0-balanced network does for the reversed task $-\Sigma$: it then unlearns,
    and stalls at zero for as long as it took to learn; `solution(ts).warning` says where rounding ends that.

    Times are physical and count from the start of the first task. Raises `NotExact` with every assumption that fails,
    of all tasks (the number of the task in front); `ValueError` for tasks that are no pairs and for widths that do not
    fit. `rates`: as in `two_layer`; the solution is then an `exact.Rated`.

    >>> from deeplinear import SquaredError
    >>> there, back = SquaredError.from_moments([[1.0]]), SquaredError.from_moments([[-1.0]])
    >>> solution = sequence([(there, 4.0), (back, 3.0)], Network([[[0.1]], [[0.1]]]))
    >>> print(solution([4.0, 7.0]).end_to_end[:, 0, 0].round(4))
    [0.9679 0.0012]

    Source: Braun et al. (2022), section on continual learning, for lambda = 0.
    """
    learned = TaskSequence.of(tasks)
    if rates is not None:
        return _rated(learned, network, tolerance, rates)
    parts, start, failed = [], network, []
    for k, (objective, duration) in enumerate(zip(learned.objectives, learned.durations, strict=True), start=1):
        try:
            parts.append(two_layer(objective, start, tolerance=tolerance))
        except NotExact as error:
            failed += [check._replace(assumption=f"task {k}: {check.assumption}") for check in error.checks]
            continue  # the assumptions on the data of later tasks are looked at too
        start = _from_factor(parts[-1](duration).factor, network.widths[0])
    if failed:
        raise NotExact(failed)
    return Sequence(learned, network, tuple(parts))


def _rated(tasks: TaskSequence, network: Network, tolerance: float, rates: Any) -> Rated:
    """The sequence of V, brought back to W."""
    change = at_unit_rates(tasks.objectives[0], network, rates)
    objectives = [objective_at_unit_rates(objective, change.scale) for objective in tasks.objectives]
    try:
        solution = sequence(zip(objectives, tasks.durations, strict=True), change.network, tolerance=tolerance)
    except NotExact as error:
        raise of_v(error) from None
    return Rated.of(tasks, network, change, solution)


def _from_factor(factor: Array, d_x: int) -> Network:
    """A network with this $Q Q^T$, of as many neurons as the factor has columns."""
    return Network([factor[:d_x].T, factor[d_x:]])


def _checked(tasks: TaskSequence, ts: Any) -> Array:
    ts = checked_times(ts)
    if not isinstance(ts, Tracer) and (np.asarray(ts) > tasks.total * (1 + ROUNDING)).any():
        raise ValueError(f"`ts`: {float(ts.max()):g} is after the last task, which ends at {tasks.total:g}")
    return ts
