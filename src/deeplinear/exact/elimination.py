"""Rotations and divisions that keep a matrix of rows of widely different size well conditioned, at many times at once.

A row of K is a row of B times amplitude e^{growth t}, too large for a float. `triangular` rotates B from the right so
that every column has one row, its pivot, beside which the others are small; `scaled` divides the columns by their
pivots; `divided` takes the factor R of what is left out of another matrix. The last axis of all arrays is time.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._linalg import computed_once
from .._types import Array

SIDE_BY_SIDE = 8  # largest rank at which several times are evaluated together
SEQUENTIAL = 32  # up to this rank the pivots are found one by one; above, a guess of all of them is tried first
GROWTH = 20.0  # largest entry of K that a guess of the pivots may leave: it costs as many digits
HUGE = 1400.0  # an exponent beyond, times a number, is beyond 1 unless the number is 0


class Weights(NamedTuple):
    """Rows of K are those of B times amplitude e^{growth t}; rows of e^{Ft} Q0 are those of K times ratio."""

    growth: Array
    """The positive part of a rate (N, 1)."""
    t: Array
    """(time,)"""
    amplitude: Array
    """(N, time)"""
    ratio: Array
    """(N, time)"""
    floor: Array | None = None
    """A row with a smaller rest counts as dependent (N, 1)."""

    def scores(self, squares: Array) -> Array:
        """log2 of |row|^2 of K, roughly, for rows of B with |row|^2 = squares (N, time)."""
        return 2 / np.log(2) * self.growth * self.t[None] + _rough_log2(self.amplitude**2 * squares)


def triangular(B: Array, weights: Weights) -> tuple[Array, Array, Array]:
    """B rotated from the right so that pivot k, the heaviest row left, is 0 beyond column k.

    T (N, r, time), pivots (r, time), |T[pivot k, k]| (r, time). The rotation of a row does not depend on its weight,
    so nothing overflows, and rows keep their relative accuracy.
    """
    if B.shape[1] <= SEQUENTIAL:
        return _one_by_one(B, weights)
    guess = _guessed(B, weights)
    G, _ = scaled(*guess, weights)
    floor = 0.0 if weights.floor is None else weights.floor[guess[1][:, 0]]
    good = jnp.all(guess[2] > floor) & (jnp.max(jnp.abs(G)) <= GROWTH)
    return lax.cond(good, lambda: guess, lambda: _one_by_one(B, weights))


def unrotated(B: Array, times: int) -> tuple[Array, Array, Array]:
    """In the form of `triangular` B as it is, none of whose columns `scaled` divides."""
    (N, rank), none = B.shape, (B.shape[1], times)
    return jnp.broadcast_to(B[:, :, None], (N, rank, times)), jnp.zeros(none, int), jnp.zeros(none, B.dtype)


@computed_once
def scaled(T: Array, pivots: Array, sizes: Array, weights: Weights) -> tuple[Array, Array]:
    """K with every column divided by its pivot's entry where that is beyond 1, and 1 divided by the same (r, time).

    Differences of rates before they are multiplied: a fused multiplication and subtraction of two equal products would
    leave their rounding, which grows with t.
    """
    growth, t = weights.growth, weights.t
    of_pivot = growth[:, 0].at[pivots].get(mode="promise_in_bounds")
    size = weights.amplitude.at[pivots, jnp.arange(t.size)[None]].get(mode="promise_in_bounds") * sizes
    large = 2 / np.log(2) * of_pivot * t[None] + _rough_log2(size**2) > 0
    unit = jnp.where(large, 1 / jnp.where(large, size, 1.0), 1.0)
    apart = growth[:, None] - jnp.where(large, of_pivot, 0.0)[None]
    root = jnp.exp(
        jnp.minimum(apart * t[None, None], HUGE) / 2
    )  # T times its square is moderate, though the factors may not be
    G = (T * root) * root * (weights.amplitude[:, None] * unit[None])
    return G, jnp.where(large, jnp.exp(-of_pivot * t[None]) * unit, 1.0)


def divided(H: Sequence[Array], G: Array, ones: Array) -> list[Array]:
    """Every part of H (rows, r, time) times R^{-1}, where K = [G; diag(ones)] = (orthonormal) R, diagonal of R > 0.

    At every time; beyond `SIDE_BY_SIDE` columns at one time.
    """
    rank = G.shape[1]
    if rank <= SIDE_BY_SIDE:
        return [_merged(images) for images in _divided_by_columns(H, G, ones)]
    R = jnp.linalg.qr(jnp.concatenate([G[..., 0], jnp.diag(ones[:, 0])]), mode="r")
    R = R * jnp.where(jnp.diagonal(R) < 0, -1.0, 1.0)[:, None]
    return [jax.scipy.linalg.solve_triangular(R, part[..., 0].T, trans=1).T[..., None] for part in H]


@computed_once
def _divided_by_columns(H: Sequence[Array], G: Array, ones: Array) -> list[tuple[Array, ...]]:
    """The columns of `divided` where they are few: arithmetic that fuses over many times.

    Modified Gram-Schmidt, whose R is as good as that of reflections (Bjorck 1967, BIT 7, section 5).
    """
    ranks = range(G.shape[1])
    unit = lambda k: jnp.where(jnp.arange(len(ranks))[:, None] == k, ones[k][None], 0.0)
    inner = lambda a, b: jnp.sum(a[0] * b[0], axis=0) + jnp.sum(a[1] * b[1], axis=0)
    columns = [[G[:, k], unit(k), *(part[:, k] for part in H)] for k in ranks]
    for k in ranks:
        size = jnp.sqrt(inner(columns[k], columns[k]))
        columns[k] = [part / size[None] for part in columns[k]]
        for j in ranks[k + 1 :]:
            share = inner(columns[k], columns[j])
            columns[j] = [b - share[None] * a for a, b in zip(columns[k], columns[j], strict=True)]
    return list(zip(*columns, strict=True))[2:]


def _merged(columns: Sequence[Array]) -> Array:
    """`jnp.stack(columns, axis=1)` by selections, which become vector instructions as that does not."""
    place = jnp.arange(len(columns))[None, :, None]
    chosen = lambda Y, k: jnp.where(place == k, columns[k][:, None], Y)
    return reduce(chosen, range(1, len(columns)), columns[0][:, None])


def _rough_log2(x: Array) -> Array:
    """log2 of x >= 0 within 0.09, read off the bits of the number: pivots need no more."""
    kind = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(x, f"int{kind.bits}").astype(x.dtype)
    return jnp.where(x > 0, bits / 2.0**kind.nmant - (2.0 ** (kind.nexp - 1) - 1), -jnp.inf)


def _heaviest(scores: Array) -> Array:
    """argmax along the first axis; unlike it, in loops that the compiler turns into vector instructions."""
    last = scores.shape[0] - 1
    rows = jnp.arange(last + 1)[:, None]
    return jnp.min(jnp.where(scores == jnp.max(scores, axis=0)[None], rows, last), axis=0)


def _guessed(B: Array, weights: Weights) -> tuple[Array, Array, Array]:
    """`triangular` at one time, with the rows of largest weight as pivots."""
    rank = B.shape[1]
    pivots = jnp.argsort(-weights.scores(jnp.sum(B**2, axis=1)[:, None])[:, 0])[:rank]
    T = B @ jnp.linalg.qr(B[pivots].T)[0]
    place = jnp.full(B.shape[0], rank).at[pivots].set(jnp.arange(rank))
    columns = jnp.arange(rank)
    T = jnp.where(columns[None, :] > place[:, None], 0.0, T)
    return T[..., None], pivots[:, None], jnp.abs(T[pivots, columns])[:, None]


def _one_by_one(B: Array, weights: Weights) -> tuple[Array, Array, Array]:
    """`triangular` by one reflection per pivot; none for the last, where it would only turn the sign."""
    (N, rank), times = B.shape, weights.t.size
    if rank == 1:  # without other columns a row lies in no span, however small it is
        weights = weights._replace(floor=None)
    if rank <= SIDE_BY_SIDE:
        T, free, found = B[:, :, None], jnp.ones((N, 1), bool), []  # what does not yet depend on time
        for k in range(rank):
            T, free, *pivot = computed_once(partial(_reflected, weights, k, k == rank - 1))(T, free)
            found.append(pivot)
        pivots, sizes = (jnp.stack(x) for x in zip(*found, strict=True))
        return T, pivots, sizes

    def step(k, carry):
        T, free, pivots, sizes = carry
        T, free, p, size = _reflected(weights, k, False, T, free)
        return T, free, pivots.at[k].set(p), sizes.at[k].set(size)

    T, pivots, sizes = unrotated(B, times)
    T, _, pivots, sizes = lax.fori_loop(0, rank, step, (T, jnp.ones((N, times), bool), pivots, sizes))
    return T, pivots, sizes


def _reflected(weights: Weights, k: Any, last: bool, T: Array, free: Array) -> tuple[Array, Array, Array, Array]:
    """T rotated such that the heaviest free row is 0 beyond column k; rows still free, that row, |T[row, k]|."""
    columns, rows = jnp.arange(T.shape[1])[:, None], jnp.arange(T.shape[0])[:, None]
    tail = columns[None] >= k
    squares = jnp.sum(jnp.where(tail, T, 0.0) ** 2, axis=1)
    if weights.floor is not None:
        negligible = free & (squares <= weights.floor**2)
        squares = jnp.where(negligible, 0.0, squares)
        T = jnp.where(negligible[:, None] & tail, 0.0, T)
    p = _heaviest(jnp.where(free, weights.scores(squares), -jnp.inf))
    chosen = free & (rows == p[None])  # none where no free row is left: nothing to rotate
    x = jnp.sum(jnp.where(chosen[:, None] & tail, T, 0.0), axis=0)
    square = jnp.sum(x**2, axis=0)
    size = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    if last:
        return T, free & ~chosen, p, size
    end = jnp.where(x[k] > 0, -size, size)
    v = jnp.where(columns == k, x - end[None], x)
    half_square = size * (size + jnp.abs(x[k]))
    along = jnp.sum(T * v[None], axis=1) / jnp.where(half_square > 0, half_square, 1.0)[None]
    row = jnp.where(columns[None] > k, 0.0, jnp.where(columns[None] == k, end[None], T))
    T = jnp.where(chosen[:, None], row, T - along[:, None] * v[None])
    return T, free & ~chosen, p, size
