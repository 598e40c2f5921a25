r"""The matrix Riccati equation of a lambda-balanced two-layer network, evaluated without overflow or cancellation.

With $Q = [W_1^T; W_2]$ (n, d_1), n = d_x + d_y, and $W_2^T W_2 - W_1 W_1^T = \lambda I$, $\Sigma_{xx} = c I$,

$$ \dot Q = F Q - \tfrac{c}{2} Q Q^T Q, \qquad
   F = \begin{pmatrix} -h I & \Sigma_{yx}^T \\ \Sigma_{yx} & h I \end{pmatrix} - \gamma I, \quad h = c \lambda / 2, $$

$$ Q Q^T(t) = e^{Ft} Q_0 \Big[ I + c\, Q_0^T \int_0^t e^{2Fs} ds\, Q_0 \Big]^{-1} Q_0^T e^{Ft}. $$

The bracket is K^T K with K = [G; I] and one row of G per eigenvector of F, of size $e^{l t}$. Read literally it has no
correct digit from $l t \approx 20$ on. Here every column of K is divided by its size, after rotations of the hidden
layer that leave one large row per column (`_triangular`), so that K stays well conditioned; all sizes are logarithms.
Times here are canonical. Source of the closed form: Fukumizu (1998), theorem 2; Braun et al. (2022), theorem 3.1;
Domine et al. (2025), theorem 3.1.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .._linalg import thin_svd

SIDE_BY_SIDE = 8  # largest rank at which several times are evaluated together
SEQUENTIAL = 32  # up to this rank the pivots are found one by one; above, a guess of all of them is tried first
GROWTH = 3.0  # ln of the largest entry of K that a guess of the pivots may leave: it costs as many digits
HUGE = 1400.0  # an exponent beyond, times a number, is beyond 1 unless the number is 0
SEPARATED = 1e4  # difference of exponents that stands for infinite time
CHUNK = 4096  # columns of a wide Q that are compressed together
AT_ONCE = 1 << 15  # numbers that are handled together where times are vectorised
REPEATED = 3e-14  # rates of growth closer than this, relative to the largest, are one
DEPENDENT = 1e-10  # a row with a smaller part outside the span of others, relative, lies in their span


class Flow(eqx.Module):
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

    def out_of_modes(self, H: Array) -> Array:
        """Rows [along v; along u; kernel] back in the coordinates of [W_1^T; W_2] (n, r)."""
        m = self.s.shape[0]
        top, bottom, rest = self.V @ H[:m], self.U @ H[m : 2 * m], self.kernel @ H[2 * m :]
        if self.V.shape[0] > self.U.shape[0]:
            return jnp.concatenate([top + rest, bottom])
        return jnp.concatenate([top, bottom + rest])

    def out_of_eigenvectors(self, H: Array) -> Array:
        """Rows along the eigenvectors of F as rows [along v; along u; kernel]."""
        m, (cos, sin) = self.s.shape[0], self.angle
        plus, minus = H[:m], H[m : 2 * m]
        top, bottom = cos[:, None] * plus - sin[:, None] * minus, sin[:, None] * plus + cos[:, None] * minus
        return jnp.concatenate([top, bottom, H[2 * m :]])


@eqx.filter_jit
def prepared(Q0: Array, sigma_yx: Array, lam: Array, variance: Array, decay: Array) -> Flow:
    """The eigenvectors of F and the start in them."""
    U, s, V = thin_svd(sigma_yx)
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


@eqx.filter_jit
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
    _, size, V = jnp.linalg.svd(jnp.linalg.qr(Q0, mode="r"), full_matrices=False)
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


class _Weights(NamedTuple):
    """Rows in logarithms: a row of K is B times exp(grown + integral), of e^{Ft} Q0 B times exp(grown + decayed)."""

    growth: Array  # the positive part of l
    t: Array
    decayed: Array  # the negative part of l, times t
    integral: Array  # ln sqrt(c int_0^t e^{2 l (s - t^+)} ds)
    floor: Array | None = None  # a row with a smaller rest counts as dependent

    @property
    def grown(self) -> Array:
        """The positive part of l, times t."""
        return self.growth * self.t

    def gap(self, pivots: Array) -> Array:
        """ln of the weights in K against those of the pivots (N, r).

        Differences of rates before they are multiplied: a fused multiplication and subtraction of two equal products
        would leave their rounding, which grows with t.
        """
        return (self.growth[:, None] - self.growth[pivots][None, :]) * self.t + (
            self.integral[:, None] - self.integral[pivots][None, :]
        )


def factor_at(flow: Flow, t: Array) -> Array:
    """Y (n, r) with Q Q^T(t) = Y Y^T."""
    l = flow.exponents()
    safe = jnp.where(t > 0, t, 1.0)
    size = jnp.where(l == 0, 1.0, jnp.abs(l))
    integral = jnp.where(l == 0, safe, -jnp.expm1(-2 * size * safe) / (2 * size))
    in_K = (jnp.log(integral) + jnp.log(flow.variance)) / 2
    weights = _Weights(jnp.maximum(l, 0), safe, jnp.minimum(l, 0) * safe, in_K)
    largest = jnp.max(weights.grown + weights.integral + _log_norms(flow.B))
    calm = (jnp.max(jnp.abs(flow.rates)) * safe <= 1) & (largest <= 0)
    H, K = lax.cond(calm, lambda: _calm(flow, weights, safe), lambda: _stable(flow, weights))
    return jnp.where(t > 0, flow.out_of_modes(_divided(H, K)), flow.Q0)


def factor_at_infinity(flow: Flow) -> Array:
    """The limit of `factor_at`: differences of rates of growth become `SEPARATED`, equal ones stay equal."""
    return flow.out_of_modes(_divided(*_stable(flow, _limit_weights(flow)[0])))


def escape_rate(flow: Flow) -> Array:
    """Rate at which rounding takes the start off the stable manifold of a saddle that it lies on; 0 if on none.

    It lies on one if a row that grows faster than a pivot's lies in the span of others.
    """
    weights, grade = _limit_weights(flow)
    _, pivots, sizes = _triangular(flow.B, weights)
    rank, l = flow.B.shape[1], jnp.maximum(flow.exponents(), 0.0)
    order = jnp.argsort(-grade)[:rank]
    used = sizes > 0
    missed = grade[order] > jnp.where(used, grade[pivots], 0)
    return jnp.max(jnp.where(missed, l[order] - jnp.where(used, l[pivots], 0.0), 0.0))


def _limit_weights(flow: Flow) -> tuple[_Weights, Array]:
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
    growth, decayed = SEPARATED * grade.astype(l.dtype), jnp.where(l < 0, -SEPARATED, 0.0)
    size = jnp.where(l == 0, 1.0, 2 * jnp.abs(l))
    integral = jnp.where(l == 0, SEPARATED / 2, (jnp.log(flow.variance) - jnp.log(size)) / 2)
    noise = 8 * float(jnp.finfo(l.dtype).eps) * flow.B.shape[0] ** 0.5 * jnp.linalg.norm(flow.B)
    floor = jnp.maximum(DEPENDENT * jnp.linalg.norm(flow.B, axis=1), noise)
    return _Weights(growth, jnp.ones(()), decayed, integral, floor), grade


def _calm(flow: Flow, weights: _Weights, t: Array) -> tuple[Array, Array]:
    """Early times: e^{Ft} in blocks of positive entries, so that a tiny W_1 beside a large W_2 keeps its digits."""
    m, s, half = flow.s.shape[0], flow.s, flow.half
    l = flow.rates[:m]
    safe = jnp.where(l > 0, l, 1.0)
    near, far = 1 + jnp.abs(half) / safe, s**2 / (safe * (safe + jnp.abs(half)))  # 1 + |h| / l and 1 - |h| / l
    up, down = jnp.where(l > 0, jnp.exp(l * t), 1.0) / 2, jnp.where(l > 0, jnp.exp(-l * t), 1.0) / 2
    with_h, against_h = near * up + far * down, far * up + near * down
    v_v = jnp.where(l > 0, jnp.where(half > 0, against_h, with_h), 1.0)
    u_u = jnp.where(l > 0, jnp.where(half > 0, with_h, against_h), 1.0)
    v_u = jnp.where(l > 0, s / safe * jnp.sinh(l * t), 0.0)
    d_x = flow.V.shape[0]
    along_v, along_u = flow.V.T @ flow.Z[:d_x], flow.U.T @ flow.Z[d_x:]
    top = v_v[:, None] * along_v + v_u[:, None] * along_u
    bottom = v_u[:, None] * along_v + u_u[:, None] * along_u
    rest = jnp.exp(flow.rates[2 * m :] * t)[:, None] * flow.B[2 * m :]
    H = jnp.exp(-flow.decay * t) * jnp.concatenate([top, bottom, rest])
    G = jnp.exp(weights.grown + weights.integral)[:, None] * flow.B
    return H, jnp.concatenate([G, jnp.eye(G.shape[1])])


def _stable(flow: Flow, weights: _Weights) -> tuple[Array, Array]:
    """All other times: K with columns of size 1 at most."""
    T, pivots, sizes = _triangular(flow.B, weights)
    log_size = jnp.where(sizes > 0, jnp.log(jnp.where(sizes > 0, sizes, 1.0)), -jnp.inf)
    omega = weights.grown[pivots] + weights.integral[pivots] + log_size
    large, own = (omega > 0)[None, :], (weights.grown + weights.integral)[:, None]
    log_size = jnp.where(omega > 0, log_size, 0.0)[None, :]
    in_K = jnp.where(large, weights.gap(pivots) - log_size, own)
    decayed = (weights.decayed - weights.integral)[:, None]
    K = jnp.concatenate([_times_exp(T, in_K), jnp.diag(jnp.exp(-jnp.maximum(omega, 0.0)))])
    return flow.out_of_eigenvectors(_times_exp(T, in_K + decayed)), K


def _times_exp(T: Array, exponent: Array) -> Array:
    """T exp(exponent) where the product is moderate, though the factors may be far from it."""
    half = jnp.exp(jnp.minimum(exponent, HUGE) / 2)
    return (T * half) * half


def _divided(H: Array, K: Array) -> Array:
    """H R^{-1} with K = (orthonormal) R and positive diagonal of R."""
    if K.shape[1] <= SIDE_BY_SIDE:
        return _divided_by_columns(H, K)
    R = jnp.linalg.qr(K, mode="r")
    R = R * jnp.where(jnp.diagonal(R) < 0, -1.0, 1.0)[:, None]
    return jax.scipy.linalg.solve_triangular(R, H.T, trans=1).T


def _divided_by_columns(H: Array, K: Array) -> Array:
    """`_divided` for few columns: arithmetic that fuses over many times, five times as fast as calls of LAPACK there.

    Modified Gram-Schmidt, whose R is as good as that of reflections (Bjorck 1967, BIT 7, section 5).
    """
    columns, images = list(K.T), list(H.T)
    for k in range(len(columns)):
        size = jnp.sqrt(jnp.sum(columns[k] ** 2))
        direction, images[k] = columns[k] / size, images[k] / size
        for j in range(k + 1, len(columns)):
            share = jnp.sum(direction * columns[j])
            columns[j], images[j] = columns[j] - share * direction, images[j] - share * images[k]
    return jnp.stack(images, axis=1)


def _log_norms(B: Array) -> Array:
    """ln |row|; -inf for a row of zeros."""
    squares = jnp.sum(B**2, axis=1)
    return jnp.where(squares > 0, jnp.log(jnp.where(squares > 0, squares, 1.0)) / 2, -jnp.inf)


def _triangular(B: Array, weights: _Weights) -> tuple[Array, Array, Array]:
    """B rotated from the right so that pivot k, the heaviest row left, is 0 beyond column k; pivots, |T[pivot k, k]|.

    The rotation of a row does not depend on its weight, so nothing overflows, and rows keep their relative accuracy.
    """
    rank = B.shape[1]
    if rank > SEQUENTIAL:
        T, pivots, sizes, good = _guessed(B, weights)
        return lax.cond(good, lambda: (T, pivots, sizes), lambda: _one_by_one(B, weights))
    return _one_by_one(B, weights)


def _guessed(B: Array, weights: _Weights) -> tuple[Array, Array, Array, Array]:
    """`_triangular` with the rows of largest weight as pivots, and whether that was good enough."""
    rank, own = B.shape[1], weights.grown + weights.integral
    pivots = jnp.argsort(-(own + _log_norms(B)))[:rank]
    T = B @ jnp.linalg.qr(B[pivots].T)[0]
    place = jnp.full(B.shape[0], rank).at[pivots].set(jnp.arange(rank))
    columns = jnp.arange(rank)
    T = jnp.where(columns[None, :] > place[:, None], 0.0, T)
    sizes = jnp.abs(T[pivots, columns])
    scale = jnp.where(sizes > 0, sizes, 1.0)
    large = own[pivots] + jnp.log(scale) > 0
    relative = jnp.where(large[None, :], weights.gap(pivots) - jnp.log(scale)[None, :], own[:, None])
    entries = jnp.where(T != 0, jnp.log(jnp.where(T != 0, jnp.abs(T), 1.0)) + relative, -jnp.inf)
    floor = 0.0 if weights.floor is None else weights.floor[pivots]
    return T, pivots, sizes, jnp.all(sizes > floor) & (jnp.max(entries) <= GROWTH)


def _one_by_one(B: Array, weights: _Weights) -> tuple[Array, Array, Array]:
    """`_triangular` by one reflection per pivot."""
    rank, own = B.shape[1], weights.grown + weights.integral
    columns, rows = jnp.arange(rank), jnp.arange(B.shape[0])

    def step(k, carry):
        T, free, pivots, sizes = carry
        tail = jnp.where(columns[None, :] >= k, T, 0.0)
        norms = _log_norms(tail)
        if weights.floor is not None:
            negligible = free & (norms <= jnp.log(weights.floor))
            norms = jnp.where(negligible, -jnp.inf, norms)
            T = jnp.where(negligible[:, None] & (columns[None, :] >= k), 0.0, T)
        p = jnp.argmax(jnp.where(free, own + norms, -jnp.inf))
        x = jnp.where(columns >= k, T[p], 0.0) * free[p].astype(B.dtype)  # no free row left: nothing to rotate
        size = jnp.linalg.norm(x)
        end = jnp.where(x[k] > 0, -size, size)
        v = jnp.where(columns == k, x - end, x)
        square = v @ v
        T = T - (T @ (v * 2 / jnp.where(square > 0, square, 1.0)))[:, None] * v[None, :]
        row = jnp.where(columns > k, 0.0, jnp.where(columns == k, end, T[p]))
        T = jnp.where((rows == p)[:, None] & free[p], row[None, :], T)
        return T, free & (rows != p), pivots.at[k].set(p), sizes.at[k].set(size)

    if rank == 1:  # no rotation, not even of the sign
        p = jnp.argmax(own + _log_norms(B))
        return B, p[None], jnp.abs(B[p])
    start = (B, jnp.ones(B.shape[0], bool), jnp.zeros(rank, int), jnp.zeros(rank))
    T, _, pivots, sizes = lax.fori_loop(0, rank, step, start)
    return T, pivots, sizes
