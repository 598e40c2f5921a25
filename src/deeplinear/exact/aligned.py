"""Networks aligned with the modes of the data: every mode is a problem of h numbers, solved exactly."""

from functools import partial
from itertools import pairwise
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import checks_arguments
from .._types import Array
from ..frames import shared_frames
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from .assumptions import TOLERANCE, Check, require
from .deep import BALANCED, is_still, unbalanced_mode
from .modes import mode_strength
from .pair import unbalanced_pair
from .question import Answer, check_objective, checked_times, losses
from .rated import Rated, rated

LAST = 1e300  # a time at which even what approaches by a power of time has arrived


class DecoupledCurve(Answer):
    """What is known of decoupled modes at every time."""

    ts: Float[Array, "*time"]
    end_to_end: Float[Array, "*time out in"]
    loss: Float[Array, "*time"]
    strengths: Float[Array, "*time mode"]
    """u_a^T W v_a, u and v the columns of the last and the first of `solution.frames`."""
    layer_weights: Float[Array, "*time layer mode"]
    """xi, whose product over layers is the strength; 0 in layers that a mode does not reach."""
    _solution: Any
    warning: str | None = eqx.field(static=True, default=None)
    """Why late times are not to be trusted: None, they are."""

    @property
    def weights(self) -> tuple[Array, ...]:
        """W_1, ..., W_h, each (time, d_l, d_{l-1}): what does not belong to a mode stays as it is."""
        start, frames = self._solution.network.weights, pairwise(self._solution.frames)
        change = np.asarray(self.layer_weights) - np.asarray(self._solution.layer_weights)
        return tuple(
            jnp.asarray(np.asarray(W) + _between(above, change[..., l, :], below))
            for l, (W, (below, above)) in enumerate(zip(start, frames, strict=True))
        )


class Decoupled(eqx.Module):
    """The flow of decoupled modes; made by `decoupled`."""

    objective: SquaredError
    network: Network
    checks: tuple[Check, ...] = eqx.field(static=True)
    s: Float[Array, " mode"]
    input_variances: Float[Array, " mode"]
    frames: tuple[Float[Array, "_ mode"], ...]
    """R_0 .. R_h: W_l = R_l diag(xi_l) R_{l-1}^T, and what no mode reaches and never moves."""
    layer_weights: Float[Array, "layer mode"]
    """xi of the start."""

    def __call__(self, ts: Any) -> DecoupledCurve:
        """Strengths, end-to-end matrix and loss at times (time,); `ValueError` for times negative or not finite."""
        ts = checked_times(ts)
        return self._curve(ts, self._moved(np.asarray(ts)))

    def limit(self) -> DecoupledCurve:
        """The state for t to infinity, without a time axis; a mode that starts at a saddle stays there."""
        return self._curve(jnp.array(jnp.inf), self._moved(np.array([LAST / float(self.objective.factor)]))[0])

    def weights(self, ts: Any) -> Network:
        """The network at times (time,), with a leading time axis."""
        return jax.tree.unflatten(jax.tree.structure(self.network), self(ts).weights)

    @property
    def warning(self) -> None:
        """Why late times are not to be trusted: None, they are."""

    def _curve(self, ts: Array, xi: np.ndarray) -> DecoupledCurve:
        strengths = np.prod(xi, axis=-2)
        W = _between(self.frames[-1], strengths, self.frames[0])
        loss = losses(self.objective, W.reshape(-1, *W.shape[-2:])).reshape(ts.shape)
        return DecoupledCurve(ts, jnp.asarray(W), loss, jnp.asarray(strengths), jnp.asarray(xi), self)

    def trajectory(self, ts: Any) -> Trajectory:
        """The network at times (time,), in its own frames: what does not belong to a mode stays as it is."""
        return Trajectory(checked_times(ts), self.weights(ts), objective=self.objective)

    def _moved(self, ts: np.ndarray) -> np.ndarray:
        """xi at times, shape (time, layer, mode)."""
        xi, s, c = np.asarray(self.layer_weights), np.asarray(self.s), np.asarray(self.input_variances)
        t, h = float(self.objective.factor) * ts, len(xi)
        moved = np.tile(xi, (ts.size, 1, 1))
        moves, sizes = ~is_still(xi, s, c), np.abs(xi)
        if h == 1:
            moved[:, 0, moves] = mode_strength(t, xi[0, moves], s[moves], 1, c[moves])
        elif h == 2:
            moved[:, :, moves] = np.stack(unbalanced_pair(t, xi[0, moves], xi[1, moves], s[moves], c[moves]), axis=1)
        else:
            even = moves & (np.ptp(sizes, axis=0) <= BALANCED * sizes.max(axis=0))
            signs = np.where(xi < 0, -1.0, 1.0)
            sign = np.prod(signs, axis=0)
            u = mode_strength(t, np.prod(sizes, axis=0)[even], (sign * s)[even], h, c[even])
            moved[:, :, even] = signs[:, even] * u[:, None, :] ** (1 / h)
            for a in np.flatnonzero(moves & ~even):
                moved[:, :, a] = unbalanced_mode(t, xi[:, a], s[a], c[a])
        return np.where(ts[:, None, None] == 0, xi, moved)


def _between(above: Array, values: np.ndarray, below: Array) -> np.ndarray:
    """R diag(values) R'^T at every time."""
    return (np.asarray(above) * values[..., None, :]) @ np.asarray(below).T


@overload
def decoupled(
    objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: None = None
) -> Decoupled: ...
@overload
def decoupled(objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: Any) -> Rated: ...
@checks_arguments
def decoupled(
    objective: SquaredError, network: Network, *, tolerance: float = TOLERANCE, rates: Any = None
) -> Decoupled | Rated:
    r"""Gradient flow of a network that is aligned with the modes of the data, at any depth, balanced or not.

    $W_l = R_l \, \mathrm{diag}(\xi_l) R_{l-1}^T$ with $R_0, R_h$ the modes $\Sigma_{yx} = R_h \mathrm{diag}(s) R_0^T$
    and any orthonormal frames between, found from the weights. Then the frames stay, and every mode moves alone:

    $$ \dot \xi_l = \prod_{j \ne l} \xi_j \, (s - c \, u), \quad u = \prod_l \xi_l , $$

    with c the mode's input variance. Closed forms at depth 1, at depth 2 (balanced or not) and for layers of equal
    modulus; one quadrature a mode otherwise. Strengths and layers may have any signs and zeros; s = 0 and starts beyond
    the target are covered. Assumes that the modes are eigenvectors of $\Sigma_{xx}$ and that layers are diagonal
    between common frames; raises `NotExact` with each that fails by more than `tolerance`, relative, `ValueError` for
    other objectives and widths. `rates` $\eta_l$: one learning rate per layer, or one for all; the solution is then an
    `exact.Rated`, with $\xi_l / \sqrt{\eta_l}$ in the place of $\xi_l$.

    `solution(ts)` has `ts` (time,), `end_to_end` (time, d_y, d_x), `loss` (time,), `strengths` (time, mode) and
    `layer_weights` (time, layer, mode); `solution.trajectory(ts)` the networks with all their weights. Computed on the
    host, so not inside `jit`.

    >>> from deeplinear import init
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], d_x=3, d_y=2)
    >>> solution = decoupled(objective, init.decoupled(0, objective, (3, 5, 4, 2), strengths=[0.1, 0.05]))
    >>> solution([0.0, 2.0, 100.0]).strengths.round(4).tolist()
    [[0.1, 0.05], [1.9998, 0.6242], [2.0, 1.0]]

    Source: Saxe, McClelland and Ganguli (2014), section 1 and appendix A, for balanced layers and depth 2.
    """
    check_objective(objective)
    if rates is not None:
        return rated(partial(decoupled, tolerance=tolerance), objective, network, rates)
    found = shared_frames(objective, [np.asarray(W) for W in network.weights])
    name = "decoupled modes"
    checks = (
        Check(name, "every mode of the data is an eigenvector of sigma_xx", found.off_inputs, tolerance),
        Check(name, "the end-to-end matrix is diagonal in the modes of the data", found.off_end_to_end, tolerance),
        Check(name, "every layer is diagonal between common orthonormal frames", found.off_layers, tolerance),
    )
    s, c, xi = jnp.asarray(found.s), jnp.asarray(found.c), jnp.asarray(found.xi)
    frames = tuple(jnp.asarray(R) for R in found.bases)
    return Decoupled(objective, network, require(checks), s, c, frames, xi)
