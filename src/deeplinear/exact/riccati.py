r"""The matrix Riccati equation of a lambda-balanced two-layer network, evaluated without overflow or cancellation.

With $Q = [W_1^T; W_2]$ (n, d_1), n = d_x + d_y, and $W_2^T W_2 - W_1 W_1^T = \lambda I$, $\Sigma_{xx} = c I$,

$$ \dot Q = F Q - \tfrac{c}{2} Q Q^T Q, \qquad
   F = \begin{pmatrix} -h I & \Sigma_{yx}^T \\ \Sigma_{yx} & h I \end{pmatrix} - \gamma I, \quad h = c \lambda / 2, $$

$$ Q Q^T(t) = e^{Ft} Q_0 \Big[ I + c\, Q_0^T \int_0^t e^{2Fs} ds\, Q_0 \Big]^{-1} Q_0^T e^{Ft}. $$

The bracket is K^T K with K = [G; I] and one row of G per eigenvector of F, of size $e^{l t}$. Read literally it has no
correct digit from $l t \approx 20$ on. Here every column of K is divided by its size, after rotations of the hidden
layer that leave one large row per column (`elimination.triangular`), so that K stays well conditioned; rates of growth
are subtracted before they are multiplied by a time and exponentiated.

Arrays have the time as their last axis: for small networks all times go through one program side by side, in which the
innermost loops run over times; for large ones a block is a single time. Times here are canonical.

Source of the closed form: Fukumizu (1998), theorem 2; Braun et al. (2022), theorem 3.1; Domine et al. (2025), theorem
3.1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._types import Array
from . import elimination
from .elimination import Weights

SEPARATED = 1e4  # difference of exponents that stands for infinite time
CHUNK = 4096  # columns of a wide Q that are compressed together
AT_ONCE = 1 << 15  # numbers that are handled together where times are vectorised
REPEATED = 3e-14  # rates of growth closer than this, relative to the largest, are one
DEPENDENT = 1e-10  # a row with a smaller part outside the span of others, relative, lies in their span


class Flow(NamedTuple):
    """F by its eigenvectors, and the start in their coordinates.

    Rows of `B` and `rates`: modes along +l, modes along -l, then the kernel of the wider of inputs and outputs.
    """

    V: Array
    """Input modes (d_x, m)."""
    U: Array
    """Output modes (d_y, m)."""
    kernel: Array
    """The part of the start outside the modes, orthonormal (d_x or d_y, k)."""
    s: Array
    """Singular values of sigma_yx (m,)."""
    half: Array
    """c lambda / 2."""
    variance: Array
    """c."""
    decay: Array
    """gamma."""
    angle: tuple[Array, Array]
    """Cosine and sine (m,): the eigenvectors are [cos v; sin u] at l and [-sin v; cos u] at -l."""
    rates: Array
    """Eigenvalues of F, without the decay (N,)."""
    Q0: Array
    """[W_1^T; W_2], or a square factor with the same Q Q^T if the network is wide (n, r)."""
    Z: Array
    """Q0 in hidden coordinates of which those beyond the rank are 0 (n, r)."""
    hidden: Array
    """Z = Q0 hidden, but for rounding (r, r)."""
    B: Array
    """Z in the eigenvectors of F (N, r)."""

    def exponents(self) -> Array:
        """Eigenvalues of F with the decay (N,)."""
        return self.rates - self.decay

    def out_of_modes(self, top: Array, bottom: Array, rest: Array) -> Array:
        """Rows along v, along u and in the kernel back in the coordinates of [W_1^T; W_2]: (n, r), or (n, r, time)."""
        top, bottom, rest = (jnp.tensordot(*x, axes=1) for x in ((self.V, top), (self.U, bottom), (self.kernel, rest)))
        if self.V.shape[0] > self.U.shape[0]:
            return jnp.concatenate([top + rest, bottom])
        return jnp.concatenate([top, bottom + rest])

    def out_of_eigenvectors(self, H: Array) -> tuple[Array, Array, Array]:
        """Rows along the eigenvectors of F as rows along v, along u and in the kernel."""
        m, (cos, sin) = self.s.shape[0], (x.reshape(-1, *(1,) * (H.ndim - 1)) for x in self.angle)
        plus, minus = H[:m], H[m : 2 * m]
        return cos * plus - sin * minus, sin * plus + cos * minus, H[2 * m :]


def prepared(Q0: Array, modes: tuple[Array, Array, Array], lam: Array, variance: Array, decay: Array) -> Flow:
    """The eigenvectors of F and the start in them; `modes` (U, s, V) are those of sigma_yx."""
    U, s, V = modes
    half = variance * lam / 2
    Z, rotation = _without_noise(Q0)
    inputs, outputs = Z[: V.shape[0]], Z[V.shape[0] :]
    along_v, along_u = V.T @ inputs, U.T @ outputs
    many_inputs = V.shape[0] > U.shape[0]
    kernel, rest = _outside(V, inputs) if many_inputs else _outside(U, outputs)
    l = jnp.hypot(half, s)
    cos, sin = _angle(l, s, half)
    plus = cos[:, None] * along_v + sin[:, None] * along_u
    minus = cos[:, None] * along_u - sin[:, None] * along_v
    outer = jnp.full(rest.shape[:1], -half if many_inputs else half)
    rates = jnp.concatenate([l, -l, outer])
    B = jnp.concatenate([plus, minus, rest])
    return Flow(V, U, kernel, s, half, variance, decay, (cos, sin), rates, Q0, Z, rotation, B)


def narrowed(Q: Array) -> Array:
    """A factor with the same Q Q^T (n, d_1) and at most n columns, without a matrix of size d_1."""
    n, width = Q.shape
    if width <= n:
        return Q
    short = max(CHUNK, n)
    if width > 2 * short:
        padded = jnp.pad(Q, ((0, 0), (0, -width % short)))
        chunks = padded.reshape(n, -1, short).transpose(1, 2, 0)
        return jnp.linalg.qr(jnp.linalg.qr(chunks, mode="r").reshape(-1, n), mode="r").T
    return jnp.linalg.qr(Q.T, mode="r").T


def _without_noise(Q0: Array) -> tuple[Array, Array]:
    """Q0 rotated from the right such that directions at rounding level are exactly 0, and the rotation."""
    if Q0.shape[1] == 1:
        return Q0, jnp.ones((1, 1))
    tall = Q0.shape[0] > 2 * Q0.shape[1]
    _, size, V = jnp.linalg.svd(jnp.linalg.qr(Q0, mode="r") if tall else Q0, full_matrices=False)
    noise = 8 * float(jnp.finfo(Q0.dtype).eps) * max(Q0.shape)
    return (Q0 @ V.T) * (size > noise * size[0]).astype(Q0.dtype)[None, :], V.T


def _outside(V: Array, X: Array) -> tuple[Array, Array]:
    """Orthonormal frame orthogonal to V (d, m) that holds the rest of X, and the rest in it; at most d - m columns."""
    k = min(V.shape[0] - V.shape[1], X.shape[1])
    if k == 0:
        return jnp.zeros((V.shape[0], 0)), jnp.zeros((0, X.shape[1]))
    project = lambda X: X - V @ (V.T @ X)
    rest = project(project(X))
    frame = jnp.linalg.svd(rest, full_matrices=False)[0][:, :k] if k < X.shape[1] else jnp.linalg.qr(rest)[0]
    frame = project(frame)
    return frame, frame.T @ rest


def _angle(l: Array, s: Array, half: Array) -> tuple[Array, Array]:
    """Cosine and sine of the eigenvectors; exactly equal for half = 0."""
    safe = jnp.where(l > 0, l, 1.0)
    larger = jnp.sqrt(jnp.where(l > 0, (1 + jnp.abs(half) / safe) / 2, 0.5))
    smaller = jnp.where(half == 0, larger, s / (2 * safe * larger))
    return jnp.where(half > 0, smaller, larger), jnp.where(half > 0, larger, smaller)


def block_length(flow: Flow) -> int:
    """How many times `factors_at` should take together."""
    # times side by side make the compiler work for minutes where the rank is large, and save little there
    return max(AT_ONCE // flow.B.size, 1) if flow.B.shape[1] <= elimination.SIDE_BY_SIDE else 1


def factors_at(flow: Flow, ts: Array) -> Array:
    """Y (n, r, time) with Q Q^T(t) = Y Y^T at the times ts (time,)."""
    t = jnp.where(ts > 0, ts, 1.0)
    weights, top = _weights(flow, t), jnp.max(jnp.abs(flow.rates))
    calm = (top * t <= 1) & (jnp.max(weights.scores(jnp.sum(flow.B**2, axis=1)[:, None]), axis=0) <= 0)
    early = jnp.minimum(t, 1 / jnp.where(top > 0, top, 1.0))  # what is not calm is computed there, and not used
    as_is = lambda: elimination.unrotated(flow.B, t.size)
    rotated = _either(calm, as_is, lambda: elimination.triangular(flow.B, weights))
    G, ones = elimination.scaled(*rotated, weights)
    H = _either(calm, lambda: _calm(flow, early), lambda: flow.out_of_eigenvectors(G * weights.ratio[:, None]))
    return jnp.where((ts > 0)[None, None], flow.out_of_modes(*elimination.divided(H, G, ones)), flow.Q0[:, :, None])


def _either(where: Array, one: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """One of two trees of arrays (..., time), time by time; a single time takes only one of the branches."""
    if where.size == 1:
        return lax.cond(where[0], one, other)
    return jax.tree.map(lambda a, b: jnp.where(where.reshape(*(1,) * (a.ndim - 1), -1), a, b), one(), other())


def _weights(flow: Flow, t: Array) -> Weights:
    l = flow.exponents()[:, None]
    size = jnp.where(l == 0, 1.0, jnp.abs(l))
    fallen = jnp.expm1(-size * t[None])
    integral = jnp.where(l == 0, t[None], -fallen * (2 + fallen) / (2 * size))  # int_0^t e^{2 l (s - t^+)} ds
    amplitude = jnp.sqrt(flow.variance * integral)
    return Weights(jnp.maximum(l, 0.0), t, amplitude, jnp.where(l < 0, 1 + fallen, 1.0) / amplitude)


def factor_at_infinity(flow: Flow) -> Array:
    """The limit of `factors_at`, (n, r): differences of rates of growth become `SEPARATED`, equal ones stay equal."""
    weights = _limit_weights(flow)[0]
    G, ones = elimination.scaled(*elimination.triangular(flow.B, weights), weights)
    H = flow.out_of_eigenvectors(G * weights.ratio[:, None])
    return flow.out_of_modes(*elimination.divided(H, G, ones))[:, :, 0]


def escape_rate(flow: Flow) -> Array:
    """Rate at which rounding takes the start off the stable manifold of a saddle that it lies on; 0 if on none.

    It lies on one if a row that grows faster than a pivot's lies in the span of others.
    """
    weights, grade = _limit_weights(flow)
    _, pivots, sizes = (x[..., 0] for x in elimination.triangular(flow.B, weights))
    rank, l = flow.B.shape[1], jnp.maximum(flow.exponents(), 0.0)
    order = jnp.argsort(-grade)[:rank]
    used = sizes > 0
    missed = grade[order] > jnp.where(used, grade[pivots], 0)
    return jnp.max(jnp.where(missed, l[order] - jnp.where(used, l[pivots], 0.0), 0.0))


def _limit_weights(flow: Flow) -> tuple[Weights, Array]:
    """Weights that stand for infinite time, and the class of every row's rate, 0 where it does not grow (N,)."""
    m, top = flow.s.shape[0], jnp.max(jnp.abs(flow.rates))
    s = jnp.where(flow.s <= REPEATED * flow.s[0], 0.0, flow.s)
    known = jnp.hypot(flow.half, s)  # without the rounding of singular values that are 0
    l = jnp.concatenate([known, -known, flow.rates[2 * m :]]) - flow.decay
    l = jnp.where((flow.decay != 0) & (jnp.abs(l) <= REPEATED * top), 0.0, l)
    order = jnp.argsort(l)
    steps = jnp.diff(l[order], prepend=l[order[:1]]) > REPEATED * top
    first = jnp.concatenate([jnp.array([True]), l[order][:-1] <= 0])  # the smallest growing rate opens a class
    classes = jnp.cumsum(((steps | first) & (l[order] > 0)).astype(int))
    grade = jnp.zeros_like(classes).at[order].set(jnp.where(l[order] > 0, classes, 0))
    growth = jnp.where(l == 0, SEPARATED / 2, SEPARATED * grade.astype(l.dtype))  # l = 0 grows, but as a root of t
    amplitude = jnp.where(l == 0, 1.0, jnp.sqrt(flow.variance / jnp.where(l == 0, 1.0, 2 * jnp.abs(l))))
    noise = 8 * float(jnp.finfo(l.dtype).eps) * flow.B.shape[0] ** 0.5 * jnp.linalg.norm(flow.B)
    floor = jnp.maximum(DEPENDENT * jnp.linalg.norm(flow.B, axis=1), noise)
    columns = (x[:, None] for x in (growth, amplitude, jnp.where(l > 0, 1 / amplitude, 0.0), floor))
    growth, amplitude, ratio, floor = columns
    return Weights(growth, jnp.ones(1), amplitude, ratio, floor), grade


def _calm(flow: Flow, t: Array) -> tuple[Array, Array, Array]:
    """e^{Ft} Q0 early, in blocks of positive entries, so that a tiny W_1 beside a large W_2 keeps its digits."""
    m, d_x, s, half = flow.s.shape[0], flow.V.shape[0], flow.s, flow.half
    l = flow.rates[:m]
    safe = jnp.where(l > 0, l, 1.0)
    near, far = 1 + jnp.abs(half) / safe, s**2 / (safe * (safe + jnp.abs(half)))  # 1 + |h| / l and 1 - |h| / l
    of_v, of_u = (jnp.where(half > 0, *pair)[:, None] for pair in ((far, near), (near, far)))
    moves, change = (l > 0)[:, None], jnp.expm1(l[:, None] * t[None])
    up = 1 + change
    v_v = jnp.where(moves, (of_v * up + of_u / up) / 2, 1.0)[:, None]
    u_u = jnp.where(moves, (of_u * up + of_v / up) / 2, 1.0)[:, None]
    v_u = jnp.where(moves, (s / safe)[:, None] * change * (2 + change) / (2 * up), 0.0)[:, None]  # s / l sinh(l t)
    along_v, along_u = (flow.V.T @ flow.Z[:d_x])[:, :, None], (flow.U.T @ flow.Z[d_x:])[:, :, None]
    rest = jnp.exp(flow.rates[2 * m :, None] * t[None])[:, None] * flow.B[2 * m :, :, None]
    H = v_v * along_v + v_u * along_u, v_u * along_v + u_u * along_u, rest
    fallen = jnp.exp(-flow.decay * t)[None, None]
    return H[0] * fallen, H[1] * fallen, H[2] * fallen
