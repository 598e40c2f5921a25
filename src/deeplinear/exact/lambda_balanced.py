"""Exact gradient flow of lambda-balanced two-layer networks, of any widths, rank, lambda and time."""

from functools import partial
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from .._arguments import check_times, checks_arguments
from .._arrays import traced
from .._linalg import thin_svd
from .._types import Array
from ..layer_rates import shared_decay
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from . import hidden, riccati, scalar
from .assumptions import TOLERANCE, Check, require
from .rated import Rated, rated

THEOREM = "two-layer Riccati"
EPS = float(np.finfo(float).eps)
LATE = 1e300  # a time later than any that matters
LOST = 1e-9  # relative error by rounding from which on a start on a saddle's stable manifold is warned of


class TwoLayerState(eqx.Module):
    r"""What the solution says at times `ts`, (time,) or one: all of it from the factor of $Q Q^T$, when asked.

    >>> from deeplinear import Network, exact
    >>> objective = SquaredError.from_moments([[2.0]])
    >>> state = exact.two_layer(objective, Network([[[0.1]], [[0.1]]]))([0.0, 50.0])
    >>> state.end_to_end[:, 0, 0].round(6).tolist(), state.loss.shape
    ([0.01, 2.0], (2,))
    """

    ts: Array
    factor: Array
    """Y (time, d_x + d_y, r) with Q Q^T = Y Y^T, Q = [W_1^T; W_2]."""
    objective: SquaredError
    warning: str | None = eqx.field(static=True, default=None)
    """Why late times are not to be trusted, and from when on; None where they are."""
    _solution: Any = None

    @property
    def qqt(self) -> Array:
        """Q Q^T = [[W_1^T W_1, W^T], [W, W_2 W_2^T]], (time, d_x + d_y, d_x + d_y)."""
        return _block(self.factor, 0, None, 0, None)

    @property
    def end_to_end(self) -> Array:
        """W = W_2 W_1, (time, d_y, d_x)."""
        return _block(self.factor, self._d_x, None, 0, self._d_x)

    @property
    def gram_in(self) -> Array:
        """W_1^T W_1, (time, d_x, d_x)."""
        return _block(self.factor, 0, self._d_x, 0, self._d_x)

    @property
    def gram_out(self) -> Array:
        """W_2 W_2^T, (time, d_y, d_y)."""
        return _block(self.factor, self._d_x, None, self._d_x, None)

    @property
    def weights(self) -> tuple[Array, ...]:
        """W_1 and W_2, each (time, d_l, d_{l-1}), integrated when asked: see `TwoLayer.weights`.

        `ValueError` for the state at infinity, whose hidden rotation is not known.
        """
        if self._solution is None:
            raise ValueError(
                "`weights`: at infinite time the rotation of the hidden layer has no closed form; take "
                "`solution.weights(ts)` at a late time"
            )
        return self._solution.weights(self.ts).weights

    @property
    def loss(self) -> Array:
        """The objective at W (without the penalty of a weight decay), (time,)."""
        return _losses(self.objective, self.end_to_end)

    @property
    def _d_x(self) -> int:
        return self.objective.optimum.shape[-1]


class TwoLayer(eqx.Module):
    r"""The exact gradient flow from one start: `solution(ts)`; made by `two_layer`.

    >>> from deeplinear import Network, exact
    >>> solution = exact.two_layer(SquaredError.from_moments([[2.0]]), Network([[[0.1]], [[0.1]]]))
    >>> [round(float(state.end_to_end[0, 0]), 4) for state in (solution(1.0), solution.limit())]
    [0.4306, 2.0]
    """

    objective: SquaredError
    network: Network
    """The start."""
    lam: Array
    """lambda, the mean eigenvalue of W_2^T W_2 - W_1 W_1^T."""
    checks: tuple[Check, ...] = eqx.field(static=True)
    """The assumptions, with how far off each is; empty where JAX traces the call."""
    _flow: riccati.Flow
    _scalar: bool = eqx.field(static=True)  # one input and one output: no balance needed

    def __call__(self, ts: Any) -> TwoLayerState:
        """The state at times `ts` >= 0, (time,) in any order, or one time; `ValueError` for others.

        Rounding errs by about 1e-14 of Q Q^T, and of W, at any time.
        """
        given = check_times(ts, single=True)
        ts, Y = _factors(*self._parts, given)
        return TwoLayerState(ts, Y, self.objective, self._warning(given), self)

    def limit(self) -> TwoLayerState:
        """The state for t to infinity.

        The modes that grow fastest, as many as the start reaches: a direction that lies at rounding level in the span
        of faster ones (1e-10) counts as missing, so that a start on the stable manifold of a saddle ends there.
        """
        return TwoLayerState(jnp.array(jnp.inf), _limit(*self._parts), self.objective)

    def weights(self, ts: Any) -> Network:
        r"""W_1(t) and W_2(t) with a leading time axis (none for one time).

        $Q Q^T$ leaves a rotation of the hidden layer open, which has no closed form; it is integrated by Magnus steps
        of 9th order, to about 1e-12 (one hidden neuron, or one input and one output: closed form). The part of a wide
        layer outside the span of the start's columns stays 0. `ts` as for a call.
        """
        ts = jnp.asarray(check_times(ts, single=True))
        d_x = self.network.widths[0]
        Q = _hidden(*self._parts, self.network, self.lam, jnp.atleast_1d(ts))
        Q = Q.reshape(*ts.shape, *Q.shape[1:])
        W1, W2 = jnp.swapaxes(Q[..., :d_x, :], -1, -2), Q[..., d_x:, :]
        return eqx.tree_at(lambda network: network.weights, self.network, (W1, W2))

    def trajectory(self, ts: Any) -> Trajectory:
        """The networks at `ts` (time,) as a `Trajectory`, for `deeplinear.measure`."""
        ts = jnp.atleast_1d(jnp.asarray(check_times(ts, single=True)))
        return Trajectory(ts, self.weights(ts), objective=self.objective)

    @property
    def warning(self) -> str | None:
        """Why late times are not to be trusted, and from when on; None where they are."""
        return self._warning(np.array(LATE))

    @property
    def _parts(self) -> tuple[riccati.Flow, Array, Array, bool]:
        """What compiled functions need: `checks`, of numbers that JAX does not trace, would compile them every time."""
        return self._flow, self.objective.optimum, self.objective.factor, self._scalar

    def _warning(self, ts: Array | np.ndarray) -> str | None:
        flow, factor = self._flow, self.objective.factor
        if self._scalar or any(isinstance(x, Tracer) for x in (ts, flow.rates, flow.B, factor)) or not ts.size:
            return None
        last, factor = float(ts.max()), float(factor)
        if float(np.asarray(flow.rates).max() - np.asarray(flow.decay)) * factor * last <= np.log(LOST / EPS):
            return None  # nothing has had the time to grow
        rate = float(_escape_rate(flow)) * factor
        if rate * last <= np.log(LOST / EPS):
            return None
        return (
            f"the start lies on the stable manifold of a saddle, to rounding, which grows as exp({rate:.4g} t): "
            f"a relative error of {LOST:g} from t = {np.log(LOST / EPS) / rate:.4g} on, "
            f"no correct digit from t = {-np.log(EPS) / rate:.4g} on"
        )


@overload
def two_layer(
    objective: SquaredError,
    network: Network,
    *,
    tolerance: float = TOLERANCE,
    weight_decay: Any = 0.0,
    rates: None = None,
) -> TwoLayer: ...
@overload
def two_layer(
    objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, weight_decay: Any = 0.0, rates: Any
) -> Rated: ...
@checks_arguments
def two_layer(
    objective: SquaredError,
    network: Network,
    *,
    tolerance: float = TOLERANCE,
    weight_decay: Any = 0.0,
    rates: Any = None,
) -> TwoLayer | Rated:
    r"""The exact gradient flow of a lambda-balanced two-layer network: `solution(ts)`, `.limit()`, `.weights(ts)`.

    With $Q = [W_1^T; W_2]$, $W_2^T W_2 - W_1 W_1^T = \lambda I$ and $\Sigma_{xx} = c I$

    $$ Q Q^T(t) = e^{Ft} Q_0 \Big[I + c\, Q_0^T \int_0^t e^{2Fs} ds\, Q_0\Big]^{-1} Q_0^T e^{Ft}, \quad
       F = \begin{pmatrix} -c \lambda / 2 & \Sigma_{yx}^T \\ \Sigma_{yx} & c \lambda / 2 \end{pmatrix}, $$

    of which $W = W_2 W_1$ is the lower left block. Any widths, ranks, lambda (lambda > 0 needs d_1 <= d_y, lambda < 0
    d_1 <= d_x) and times. Balance is not needed with one hidden neuron, or with one input and one output.
    $\Sigma_{xx} = c \Pi$ with a projector $\Pi$ will do if $W_1 = W_1 \Pi$. `weight_decay` gamma adds
    $\frac{\gamma}{2} (|W_1|^2 + |W_2|^2)$ to the loss and needs lambda = 0; F then loses gamma on its diagonal.

    `rates` $\eta$: the learning rates of the two layers, or one for both; the solution is then an `exact.Rated`, all
    of this is assumed of $V_l = W_l / \sqrt{\eta_l}$, and one decay per layer will do if $\eta_l \gamma_l$ agree.

    Times are physical: a loss scale of factor f runs f times faster. Works under `jax.jit` and `jax.vmap`, where values
    are not checked. Raises `NotExact` with every assumption that fails by more than `tolerance`, relative to the
    largest of $|W_1|^2, |W_2|^2, |\lambda|$ or to $\Sigma_{xx}$; `ValueError` for widths that do not fit the objective.

    >>> from deeplinear import Network
    >>> objective = SquaredError.from_singular_values([3.0, 1.0], d_x=2, d_y=2)
    >>> solution = two_layer(objective, Network([[[0.1, 0.0], [0.0, 0.1]]] * 2))
    >>> solution([0.0, 1.0, 1e6]).end_to_end[:, 0, 0].round(4).tolist()
    [0.01, 1.723, 3.0]

    Source: Fukumizu (1998), theorem 2; Braun et al. (2022), theorem 3.1 (lambda = 0); Domine et al. (2025), theorem
    3.1 (any lambda); one input and one output: Saxe, McClelland & Ganguli (2014), appendix.
    """
    checks = _structure(objective, network, tolerance)
    weight_decay, alike = shared_decay(THEOREM, weight_decay, rates, network.depth)
    if rates is not None:
        require([*checks, alike])
        return rated(partial(two_layer, tolerance=tolerance, weight_decay=weight_decay), objective, network, rates)
    is_traced = traced(objective, network, weight_decay)
    if any(W.dtype != float for W in network.weights):
        network = Network([W.astype(float) for W in network.weights])
    modes, variance = _modes(objective)
    decay = weight_decay if is_traced else np.float64(weight_decay)
    flow, lam = _prepared(network.weights, modes, variance, objective.factor, decay)
    if is_traced:
        checks = []
    else:
        checks += [] if objective.whitened else _input_checks(objective, network, float(variance), tolerance)
        checks += _balance_checks(network, np.asarray(flow.Q0), weight_decay, tolerance)
    decays = isinstance(weight_decay, Tracer) or bool(weight_decay != 0)
    checks += [] if alike.holds else [alike]
    return TwoLayer(objective, network, lam, require(checks), flow, network.widths[::2] == (1, 1) and not decays)


def _modes(objective: SquaredError) -> tuple[tuple[Array, Array, Array], Array]:
    """(U, s, V) of c W* and c, where sigma_xx is c times a projector; when `jit` traces, if the objective is known."""
    arrays = objective.optimum, None if objective.whitened else objective.sigma_xx
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(arrays)):
        return _modes_of(*arrays)
    with jax.ensure_compile_time_eval():
        return _modes_of(*arrays)


@jax.jit
def _modes_of(optimum: Array, sigma_xx: Array | None) -> tuple[tuple[Array, Array, Array], Array]:
    variance = jnp.ones((), optimum.dtype)
    if sigma_xx is not None:  # 1 where there is no variance at all, and nothing moves
        trace = jnp.trace(sigma_xx)
        variance = jnp.where(trace > 0, jnp.sum(sigma_xx**2) / jnp.where(trace > 0, trace, 1.0), variance)
    return thin_svd(variance * optimum), variance


@jax.jit
def _prepared(
    weights: tuple[Array, Array], modes: tuple[Array, Array, Array], variance: Array, factor: Array, decay: Array
) -> tuple[riccati.Flow, Array]:
    """The flow from these weights, and their lambda."""
    W1, W2 = weights
    Q0 = riccati.narrowed(jnp.concatenate([W1.T, W2]))
    inputs, outputs = (jnp.sum(part**2) for part in jnp.split(Q0, [W1.shape[1]]))
    total = outputs - inputs
    lam = jnp.where(jnp.abs(total) <= 4 * EPS * (outputs + inputs), 0.0, total / W1.shape[0])
    return riccati.prepared(Q0, modes, lam, variance, decay / factor), lam


@partial(jax.jit, static_argnums=(1, 2, 3, 4))  # with the slices inside: they cost as much as the rest outside
def _block(Y: Array, top: int, bottom: int | None, left: int, right: int | None) -> Array:
    """Rows from top to bottom and columns from left to right of Q Q^T = Y Y^T, at every time."""
    return Y[..., top:bottom, :] @ jnp.swapaxes(Y[..., left:right, :], -1, -2)


@jax.jit
def _losses(objective: SquaredError, W: Array) -> Array:
    return jax.vmap(objective)(W.reshape(-1, *W.shape[-2:])).reshape(W.shape[:-2])


def _structure(objective: Any, network: Any, tolerance: float) -> list[Check]:
    """What can be checked of shapes alone; raises if any of it fails."""
    squared = isinstance(objective, SquaredError)
    checks = [
        Check(THEOREM, "the objective is a SquaredError", 0.0 if squared else np.inf, tolerance),
        Check(THEOREM, "the network has two layers", 0.0 if network.depth == 2 else np.inf, tolerance),
    ]
    return list(require(checks))


def _input_checks(objective: SquaredError, network: Network, variance: float, tolerance: float) -> list[Check]:
    check = lambda assumption, violation: Check(THEOREM, assumption, float(violation), tolerance)
    moment, W1 = objective.second_moment, np.asarray(network.weights[0])
    projector = np.abs(moment.variances / variance - 1).max(initial=0.0)
    if moment.rank == W1.shape[1]:
        return [check("sigma_xx is a multiple of the identity", projector)]
    unseen = np.linalg.norm(W1 - (W1 @ moment.axes) @ moment.axes.T) / max(np.linalg.norm(W1), np.finfo(float).tiny)
    if projector > tolerance:
        return [check("sigma_xx is a multiple of the identity or of a projector", projector)]
    return [
        check("sigma_xx is a multiple of a projector", projector),
        check("W_1 is zero on inputs without variance", unseen),
    ]


def _balance_checks(network: Network, Q: np.ndarray, weight_decay: Any, tolerance: float) -> list[Check]:
    check = lambda assumption, violation: Check(THEOREM, assumption, float(violation), tolerance)
    d_x, width, d_y = network.widths
    D = Q[d_x:].T @ Q[d_x:] - Q[:d_x].T @ Q[:d_x]
    lam = np.trace(D) / width
    outside = (width - D.shape[0]) ** 0.5 * abs(lam)  # the other neurons are 0 in these coordinates
    size = max((Q[:d_x] ** 2).sum(), (Q[d_x:] ** 2).sum(), abs(lam), np.finfo(float).tiny)
    free = width == 1 or (d_x == d_y == 1 and weight_decay == 0)
    violation = np.hypot(np.linalg.norm(D - lam * np.eye(len(D))), outside) / size
    checks = [] if free else [check("the start is lambda-balanced, W_2^T W_2 - W_1 W_1^T = lambda I", violation)]
    if weight_decay != 0:
        checks.append(check("lambda = 0 where weights decay", abs(lam) / size))
    return checks


@partial(jax.jit, static_argnums=3)
def _factors(flow: riccati.Flow, optimum: Array, factor: Array, scalar_case: bool, ts: Array) -> tuple[Array, Array]:
    """The times, and Y at each; large problems block after block: memory is bounded, and branches are taken."""
    times = ts.reshape(-1) * factor
    of_scalars = lambda: scalar.batched(flow.Q0, optimum[0, 0], times * flow.variance)
    Y = of_scalars() if scalar_case else _in_blocks(flow, times)
    return ts, Y.reshape(*ts.shape, *Y.shape[1:])


def _in_blocks(flow: riccati.Flow, times: Array) -> Array:
    """Y (time, n, r)."""
    length = riccati.block_length(flow)
    of_block = lambda block: jnp.moveaxis(riccati.factors_at(flow, block), -1, 0)
    if times.size <= length:
        return of_block(times)
    Y = lax.map(of_block, jnp.pad(times, (0, -times.size % length)).reshape(-1, length))
    return Y.reshape(-1, *Y.shape[2:])[: times.size]


@partial(jax.jit, static_argnums=3)
def _limit(flow: riccati.Flow, optimum: Array, factor: Array, scalar_case: bool) -> Array:
    if scalar_case:
        return scalar.limit_of(flow.Q0, optimum[0, 0])
    return riccati.factor_at_infinity(flow)


@jax.jit
def _escape_rate(flow: riccati.Flow) -> Array:
    return riccati.escape_rate(flow)


@partial(jax.jit, static_argnums=3)
def _hidden(
    flow: riccati.Flow, optimum: Array, factor: Array, scalar_case: bool, network: Network, lam: Array, ts: Array
) -> Array:
    """Q (time, n, d_1)."""
    times = ts * factor
    W1, W2 = network.weights
    start = jnp.concatenate([W1.T, W2])
    if scalar_case:
        return scalar.batched(start, optimum[0, 0], times * flow.variance)
    if start.shape[1] == 1:
        Q = _in_blocks(flow, times)
    else:
        frame = None
        if start.shape[1] > start.shape[0]:  # the neurons that the start uses
            frame, R = jnp.linalg.qr(start.T)
            flow = riccati.prepared(R.T, (flow.U, flow.s, flow.V), lam, flow.variance, flow.decay)
        order = jnp.argsort(times)
        rows = hidden.rows_at(flow, times[order])[jnp.argsort(order)]
        neurons = flow.hidden if frame is None else frame @ flow.hidden
        Q = jax.vmap(lambda C: flow.out_of_modes(*flow.out_of_eigenvectors(C)) @ neurons.T)(rows)
    return jnp.where(times[:, None, None] > 0, Q, start[None])
