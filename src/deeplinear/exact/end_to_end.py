r"""0-balanced networks of any depth: the end-to-end matrix moves by a differential equation of its own.

$$ \dot W = \sum_{l=1}^h (W W^T)^{(h-l)/h} \, \Xi \, (W^T W)^{(l-1)/h}, \quad \Xi = c (\Sigma_{yx} - W \Sigma_{xx}) $$

(Arora, Cohen and Hazan 2018). Correlated inputs leave no closed form, so it is integrated, at a tight tolerance: not
for W itself, whose small singular values drown in the rounding of the large ones, but for the factors of the smallest
0-balanced network with this W. Its hidden layers have rank(W) units, so the rank stays what it is, as it must; its
singular values are $s^{1/h}$, so that small ones keep their digits; and no fractional power is ever taken. The given
network moves as this one does, in hidden frames that stay.
"""

from collections.abc import Iterator
from functools import partial, reduce
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.integrate import DOP853

from .._arguments import checks_arguments
from .._arrays import LARGEST, floats
from .._checks import check_whole
from .._linalg import on_device, rank_tolerance
from .._types import Array
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from .assumptions import TOLERANCE, Check, require
from .question import Answer, check_objective, checked_times, imbalances, losses
from .rated import Rated, rated

RTOL = 3e-14  # near the finest that float64 allows an explicit method
FAINT = 1e-3  # times RTOL times the smallest start: the absolute tolerance, so that small modes are not lost
REACH = 3.0  # longest step, times the fastest rate: half of what is stable, beyond which errors stop shrinking
AT_REST = 1e-14  # residual along the modes, relative to its parts, that is rounding: nothing moves any more


class BalancedCurve(Answer):
    """What is known of a 0-balanced network at every time."""

    ts: Float[Array, " time"]
    end_to_end: Float[Array, "time out in"]
    loss: Float[Array, " time"]
    layer_singular_values: Float[Array, "time mode"]
    """Singular values of every layer, one each for the rank of the network, descending; their h-th powers are W's."""
    _core: tuple[Array, ...]
    _frames: tuple[Array, ...]
    warning: str | None = eqx.field(static=True, default=None)
    """Why late times are not to be trusted: None, they are."""

    @property
    def weights(self) -> tuple[Array, ...]:
        """W_1, ..., W_h, each (time, d_l, d_{l-1})."""
        weights = list(self._core)
        for l, R in enumerate(self._frames):
            weights[l], weights[l + 1] = R @ weights[l], weights[l + 1] @ R.T
        return tuple(weights)


class Balanced(eqx.Module):
    """The flow of a 0-balanced network; made by `balanced`."""

    objective: SquaredError
    network: Network
    checks: tuple[Check, ...] = eqx.field(static=True)
    core: Network
    """The smallest 0-balanced network with the same end-to-end matrix."""
    frames: tuple[Float[Array, "_ _"], ...]
    """R_1 .. R_{h-1}: W_l = R_l core_l R_{l-1}^T, without R_0 and R_h."""

    def __call__(self, ts: Any) -> BalancedCurve:
        """End-to-end matrix, loss and singular values at times (time,); `ValueError` for bad times."""
        ts, core = self._core_at(ts)
        layers = [np.asarray(A) for A in core]
        W = reduce(lambda below, A: A @ below, layers)
        values = jnp.asarray(np.linalg.svd(layers[0], compute_uv=False))
        return BalancedCurve(ts, jnp.asarray(W), losses(self.objective, W), values, core, self.frames)

    def limit(self) -> BalancedCurve:
        """Not known: raises `ValueError`, for the equation is integrated and has no closed form to take to infinity."""
        raise ValueError(
            "`limit`: the end-to-end flow has no closed form at infinite time; `gradient_flow(objective, network)` "
            "runs to a certified critical point"
        )

    def weights(self, ts: Any) -> Network:
        """The network at times (time,), with a leading time axis."""
        return jax.tree.unflatten(jax.tree.structure(self.network), self(ts).weights)

    @property
    def warning(self) -> None:
        """Why late times are not to be trusted: None, they are."""

    def trajectory(self, ts: Any) -> Trajectory:
        """The network at times (time,)."""
        return Trajectory(checked_times(ts), self.weights(ts), objective=self.objective)

    def _core_at(self, ts: Any) -> tuple[Array, tuple[Array, ...]]:
        """The times, and the layers of the smallest network at each."""
        ts = checked_times(ts)
        asked = np.asarray(ts)
        inputs = _Inputs.of(self.objective)
        start = [np.asarray(A) for A in self.core.weights]
        order = np.argsort(asked, kind="stable")
        layers: list[Any] = [np.empty((asked.size, *A.shape)) for A in start]
        states = _integrated(start, inputs, asked[order])
        for i, now in zip(order, states, strict=True):
            for kept, A in zip(layers, now, strict=True):
                kept[i] = A
        return ts, tuple(jnp.asarray(A) for A in layers)


@overload
def balanced(
    objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: None = None
) -> Balanced: ...
@overload
def balanced(objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: Any) -> Rated: ...
@checks_arguments
def balanced(
    objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: Any = None
) -> Balanced | Rated:
    r"""Gradient flow of a 0-balanced network of any depth, for any $\Sigma_{xx}$, from its end-to-end matrix alone.

    $\dot W = \sum_l (W W^T)^{(h-l)/h} \Xi (W^T W)^{(l-1)/h}$ with $\Xi = c (\Sigma_{yx} - W \Sigma_{xx})$ and c the
    factor of the loss scale. The end-to-end flow has no closed form here; it is integrated at a relative tolerance of
    3e-14 (see the module), where `regression`, `decoupled` and, for two layers and white inputs, the Riccati solution
    are closed. The rank of W stays. Late times cost steps until nothing moves. Assumes $W_{l+1}^T W_{l+1} = W_l W_l^T$;
    raises `NotExact` if it fails by more than `tolerance` of the largest $|W_l|^2$, `ValueError` for other objectives
    and widths. `rates` $\eta_l$: one learning rate per layer, or one for all; then $W_l W_l^T / \eta_l$ must agree, and
    the solution is an `exact.Rated`.

    `solution(ts)` has `ts` (time,), `end_to_end` (time, d_y, d_x), `loss` (time,) and `layer_singular_values` (time,
    rank); `solution.trajectory(ts)` the networks with all their weights. Computed on the host, so not inside `jit`.

    >>> from deeplinear import init
    >>> objective = SquaredError.from_moments([[2.0, 1.0]], [[1.0, 0.5], [0.5, 2.0]])
    >>> solution = balanced(objective, init.balanced(0, (2, 3, 4, 1), product=[[0.1, 0.2]]))
    >>> print(solution([0.0, 1.0, 40.0]).end_to_end[:, 0].round(4))
    [[0.1    0.2   ] [1.4062 0.4034] [2.     0.    ]]

    Source: Arora, Cohen and Hazan (2018), theorem 1.
    """
    check_objective(objective)
    if rates is not None:
        return rated(partial(balanced, tolerance=tolerance), objective, network, rates)
    layers = [np.asarray(W) for W in network.weights]
    largest = max(float(np.linalg.norm(W, 2)) for W in layers)
    off = max((float(np.linalg.norm(C, 2)) for C in imbalances(layers)), default=0.0) / max(largest**2, 1e-300)
    assumption = "neighbouring layers are balanced, W_{l+1}^T W_{l+1} = W_l W_l^T"
    checks = require([Check("end-to-end flow", assumption, off, tolerance)])
    core, frames = _smallest(layers)
    return Balanced(objective, network, checks, Network(core), tuple(jnp.asarray(R) for R in frames))


@checks_arguments
def end_to_end_velocity(W: Any, residual: Any, depth: int) -> Array:
    r"""$\dot W = \sum_{l=1}^h (W W^T)^{(h-l)/h} \, \Xi \, (W^T W)^{(l-1)/h}$ of a 0-balanced network of h layers.

    `residual` is $\Xi$, minus the gradient of any objective with respect to W; both (d_y, d_x). In the singular
    vectors of W (full bases), entry (a, b) is $\Xi_{ab} \sum_l s_a^{2(h-l)/h} s_b^{2(l-1)/h}$ with $0^0 = 1$; singular
    values at rounding of the largest count as 0, so that the rank stays. Works under `jit` and `vmap`.

    >>> end_to_end_velocity(jnp.array([[0.25]]), jnp.array([[1.0]]), depth=2).tolist()
    [[0.5]]

    Source: Arora, Cohen and Hazan (2018), eq. (5). Never through eigenvalues of $W^T W$: their rounding, at the power
    1/h, is far larger.
    """
    W, residual = floats("W", W, 2, "(d_y, d_x)", largest=LARGEST), floats("residual", residual, 2, "(d_y, d_x)")
    if W.shape != residual.shape:
        raise ValueError(f"`residual`: has shape {residual.shape}, but W has {W.shape}; both are (d_y, d_x)")
    depth = check_whole("depth", depth, 1, 10**6)
    W, residual = on_device(W), on_device(residual)
    U, s, Vt = jnp.linalg.svd(W, full_matrices=True)
    s = jnp.where(s > rank_tolerance(max(W.shape)) * s[0], s, 0.0)  # rounding, which small powers would blow up
    out, into = (jnp.zeros(n).at[: s.size].set(s) for n in W.shape)
    l = np.arange(1, depth + 1)
    weights = (out[:, None] ** (2 * (depth - l) / depth)[None, :]) @ (into[:, None] ** (2 * (l - 1) / depth)[None, :]).T
    return U @ (weights * (U.T @ residual @ Vt.T)) @ Vt


def _smallest(layers: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The layers with as many hidden units as their rank, and the hidden frames that lead back.

    From the singular values z of the first layer, not from those of W: z keeps what z^h has lost to rounding.
    """
    if len(layers) == 1:
        return layers, []
    R, z, _ = np.linalg.svd(layers[0], full_matrices=False)
    rank = max(int(np.sum(z > rank_tolerance(max(layers[0].shape)) * z[0])), 1)
    frames = [R[:, :rank]]
    for W in layers[1:-1]:
        Q, T = np.linalg.qr(W @ frames[-1])  # columns of length z, orthogonal already, the largest first
        frames.append(Q * np.where(np.diagonal(T) < 0, -1.0, 1.0))
    core = [frames[0].T @ layers[0]]
    core += [above.T @ W @ below for W, (below, above) in zip(layers[1:-1], pairwise(frames), strict=True)]
    return [*core, layers[-1] @ frames[-1]], frames


class _Inputs(NamedTuple):
    """The moments, times the factor of the loss scale."""

    sigma_yx: np.ndarray
    sigma_xx: np.ndarray
    optimum: np.ndarray
    root: np.ndarray | None  # where products with sigma_xx lose the small variances, else None
    share: float  # of the smallest variance in the largest, where that matters: below it nothing is at rest

    @classmethod
    def of(cls, objective: SquaredError) -> "_Inputs":
        factor, optimum = float(objective.factor), np.asarray(objective.optimum)
        moments = factor * np.asarray(objective.sigma_yx), factor * np.asarray(objective.sigma_xx)
        if not objective.graded:
            return cls(*moments, optimum, None, 1.0)
        variances = objective.second_moment.variances
        return cls(*moments, optimum, factor**0.5 * np.asarray(objective.root_xx), variances[-1] / variances[0])

    def residual(self, W: np.ndarray) -> np.ndarray:
        """Minus the gradient with respect to the end-to-end matrix."""
        if self.root is None:
            return self.sigma_yx - W @ self.sigma_xx
        return ((self.optimum - W) @ self.root) @ self.root.T


def _integrated(start: list[np.ndarray], inputs: _Inputs, ts: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Layers at sorted times."""
    shapes = [A.shape for A in start]
    cuts = np.cumsum([A.size for A in start])[:-1]
    split = lambda y: [part.reshape(shape) for part, shape in zip(np.split(y, cuts), shapes, strict=True)]
    field = lambda _, y: np.concatenate([slope.ravel() for slope in _slopes(split(y), inputs)])
    values = np.linalg.svd(start[0], compute_uv=False)
    atol = FAINT * RTOL * float(np.min(values, where=values > 0, initial=1.0))
    y, t, step = np.concatenate([A.ravel() for A in start]), 0.0, None
    rest = len(start) > 1 and not values.any()  # a network of zeros
    for end in ts:
        if end > t and not rest:
            stepper = DOP853(field, t, y, end, rtol=RTOL, atol=atol, first_step=step and min(step, end - t))
            while stepper.status == "running" and not rest:
                before = stepper.h_abs
                stepper.max_step = REACH / max(_sharpness(split(stepper.y), inputs.sigma_xx), 1e-290)
                message = stepper.step()
                if stepper.status == "failed":
                    raise RuntimeError(f"the end-to-end flow could not be integrated at t = {stepper.t:.6g}: {message}")
                step = before if stepper.status == "finished" else stepper.h_abs  # the last one is cut short
                rest = _at_rest(split(stepper.y), inputs)
            t, y = end, stepper.y
        yield split(y)


def _slopes(layers: list[np.ndarray], inputs: _Inputs) -> list[np.ndarray]:
    """W_{l+1:h}^T Xi W_{1:l-1}^T of every layer."""
    below = list(accumulate(layers, lambda below, A: A @ below))
    above, slopes = inputs.residual(below[-1]), []
    for A, product in zip(layers[:0:-1], below[-2::-1], strict=True):
        slopes.append(above @ product.T)
        above = A.T @ above
    return [above, *slopes[::-1]]


def _sharpness(layers: list[np.ndarray], sigma_xx: np.ndarray) -> float:
    """The fastest rate at a minimum with these singular values: h z^{2h - 2} times the largest input variance."""
    h = len(layers)
    return h * float(np.linalg.norm(layers[0], 2)) ** (2 * h - 2) * float(np.linalg.norm(sigma_xx, 2))


def _at_rest(layers: list[np.ndarray], inputs: _Inputs) -> bool:
    """Whether the residual vanishes along the rows and the columns of W, up to rounding."""
    W = reduce(lambda below, A: A @ below, layers)
    residual, fitted = inputs.residual(W), np.linalg.norm(W @ inputs.sigma_xx)
    allowed = AT_REST * inputs.share * (np.linalg.norm(inputs.sigma_yx) + fitted)
    if len(layers) == 1:
        return bool(np.linalg.norm(residual) <= allowed)
    rows, columns = np.linalg.qr(layers[0].T)[0], np.linalg.qr(layers[-1])[0]
    return bool(max(np.linalg.norm(residual @ rows), np.linalg.norm(columns.T @ residual)) <= allowed)
