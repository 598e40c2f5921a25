r"""The hidden coordinates of a lambda-balanced two-layer flow, which $Q Q^T$ leaves open.

$Q(t + \tau) = e^{F \tau} Q(t)\, M^{-1/2} O$ with $M = I + c\, Q^T \int_0^\tau e^{2Fs} ds\, Q$ and a rotation
$O' = K O$, $O(0) = I$. In the eigenvectors of $M = E \,\mathrm{diag}(r^2) E^T$

$$ (E^T K E)_{ij} = \frac{(r_i - r_j) (E^T M' E)_{ij}}{2 r_i r_j (r_i + r_j)}, \quad M' = c\, Q^T e^{2 F \tau} Q, $$

and $K = O(\tau^2)$. There is no closed form of O beyond one hidden neuron. A step takes
$O = \exp(\Omega_1 + \Omega_2)$, Magnus's series with both integrals by Gauss's rule: the first term left out is of
order $\tau^{10}$.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._types import Array
from .riccati import Flow

NODES, GAUSS = (np.array(x) for x in np.polynomial.legendre.leggauss(8))
NODES, GAUSS = (NODES + 1) / 2, GAUSS / 2  # on [0, 1]; error below 1e-15 for a step of `REACH`
REACH = 0.7  # of a step, times the rates at play: the integrand's nearest singularity is farther than that
SETTLED = 1e-13  # relative: a row whose slope is smaller stands still, and what it could still feel is left out
NEGLIGIBLE = 1e-17  # a row that adds less than this to M has no say in the length of a step
FAINT = 1e-16  # a row that decays and is smaller than this, relative, need not be followed


def rows_at(flow: Flow, ts: Array) -> Array:
    """Q(t) in the eigenvectors of F (time, N, r), for ascending ts."""

    def to_next(carry, t):
        now, C, still = carry
        condition = lambda state: state[0] < t
        now, C, still = lax.while_loop(condition, lambda state: _step(flow, *state, t), (now, C, still))
        return (now, C, still), C

    start = (jnp.zeros((), flow.B.dtype), flow.B, jnp.zeros(flow.B.shape[0], bool))
    return lax.scan(to_next, start, ts)[1]


def _step(flow: Flow, now: Array, C: Array, still: Array, end: Array) -> tuple[Array, Array, Array]:
    """One step towards `end`, of a length that the rows still in motion allow."""
    l = flow.exponents()
    still, C = _settled(flow, C, still)
    moving = jnp.where(still[:, None], 0.0, C)
    length, done = _length(flow, moving)
    whole = done | (now + length >= end)
    length = jnp.where(whole, end - now, length)
    moved = jnp.where(done, C, jnp.where(still[:, None], C, _moved(moving, l, flow.variance, length)))
    return jnp.where(whole, end, now + length), moved, still


def _settled(flow: Flow, C: Array, still: Array) -> tuple[Array, Array]:
    """Rows that have reached their limit, all others apart from them in the hidden layer: they move no more."""
    l = flow.exponents()
    squares = jnp.sum(C**2, axis=1)
    at_limit = (l > 0) & (jnp.abs(flow.variance * squares - 2 * l) <= SETTLED * 2 * l)
    norms = jnp.sqrt(squares)
    overlap = jnp.abs(C @ C.T)
    other = ~jnp.eye(C.shape[0], dtype=bool)
    # what grows at least as fast must be apart relative to its own size, for it may come
    faster = l[None, :] >= l[:, None]
    bound = SETTLED * norms[:, None] * jnp.where(faster, norms[None, :], norms[:, None])
    apart = jnp.all(~other | (overlap <= bound), axis=1)
    new = still | (at_limit & apart)
    Z = jnp.where(new[:, None], C / jnp.where(norms > 0, norms, 1.0)[:, None], 0.0)
    return new, jnp.where(new[:, None], C, C - (C @ Z.T) @ Z)


def _length(flow: Flow, C: Array) -> tuple[Array, Array]:
    """Length of a step, and whether nothing moves at all."""
    l, c = flow.exponents(), flow.variance
    squares = jnp.sum(C**2, axis=1)
    slope = l[:, None] * C - c / 2 * (C @ (C.T @ C))
    top = jnp.max(jnp.abs(l)) + c * jnp.sum(squares)
    unmoved = jnp.linalg.norm(slope, axis=1) <= SETTLED * top * jnp.sqrt(squares)
    gone = (l <= 0) & (c * squares <= NEGLIGIBLE * jnp.maximum(2 * jnp.abs(l), 1e-300))
    rate = jnp.max(jnp.where(gone | (squares == 0), 0.0, jnp.abs(l))) + c * jnp.sum(squares)
    faint = (l <= 0) & (squares <= FAINT**2 * jnp.sum(squares))
    return REACH / jnp.where(rate > 0, rate, 1.0), jnp.all(unmoved | faint) | (jnp.max(squares) == 0)


def _moved(C: Array, l: Array, c: Array, length: Array) -> Array:
    """C after one step: e^{l tau} C M^{-1/2} exp(Omega)."""
    l = jnp.where(jnp.any(C != 0, axis=1), l, 0.0)  # rows that are 0 stay so, however long the step
    size = jnp.where(l == 0, 1.0, 2 * l)

    def in_step(t):
        integral = jnp.where(l == 0, t, jnp.expm1(2 * l * t) / size)
        M = jnp.eye(C.shape[1]) + c * (C.T @ (integral[:, None] * C))
        squares, E = jnp.linalg.eigh(M)
        return jnp.sqrt(squares), E

    def generator(t):
        r, E = in_step(t)
        slope = E.T @ (c * (C.T @ (jnp.exp(2 * l * t)[:, None] * C))) @ E
        ri, rj = r[:, None], r[None, :]
        return E @ ((ri - rj) * slope / (2 * ri * rj * (ri + rj))) @ E.T

    K = jax.vmap(generator)(length * jnp.asarray(NODES))
    Omega = length * jnp.tensordot(jnp.asarray(GAUSS), K, axes=1)
    running = length * jnp.tensordot(jnp.asarray(ANTIDERIVATIVE), K, axes=1)  # int_0^{t_i} K
    brackets = K @ running - running @ K
    Omega = Omega + length / 2 * jnp.tensordot(jnp.asarray(GAUSS), brackets, axes=1)
    r, E = in_step(length)
    return jnp.exp(l * length)[:, None] * C @ ((E / r[None, :]) @ E.T) @ jax.scipy.linalg.expm(Omega)


def _antiderivative() -> np.ndarray:
    """Row i integrates the interpolant through the nodes from 0 to node i."""
    powers = np.arange(NODES.size)
    vandermonde = NODES[:, None] ** powers
    return (NODES[:, None] ** (powers + 1) / (powers + 1)) @ np.linalg.inv(vandermonde)


ANTIDERIVATIVE = _antiderivative()
