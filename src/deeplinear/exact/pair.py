"""Two weights in series, whatever their sizes and signs: the two-layer mode without any balance."""

from typing import Any

import numpy as np

from .grids import Values, finite_grid, refuse_negative

WEIGHT = 1e75  # the fourth power of weights, and of the root of a target, stays within float64


def unbalanced_pair(ts: Any, w1: Any, w2: Any, s: Any, input_variance: Any = 1.0) -> tuple[np.ndarray, np.ndarray]:
    r"""Weights (w1, w2) at times ts of $\dot w_1 = w_2 (s - c w_1 w_2)$, $\dot w_2 = w_1 (s - c w_1 w_2)$.

    With $p = w_1 + w_2$, $q = w_1 - w_2$ (pq is conserved), $\sigma = s / c$, $k = \sqrt{4 \sigma^2 + p_0^2 q_0^2}$,
    $E_\pm = k \pm 2 \sigma$ and $e = e^{-k c t}$

    $$ g^2 = \frac{E_+ + E_- e + q_0^2 (1 - e)}{E_- + E_+ e + p_0^2 (1 - e)}, \quad
       w_{1,2}(t) = \frac{p_0 g \pm q_0 / g}{2} . $$

    Every term is positive, so nothing cancels. `w1`, `w2`, `s` and `input_variance` (c) are numbers or (mode,), of any
    sign but c; `ts` is a number or (time,), in units of the half-mean loss's gradient flow. Both results have shape
    (time, mode), without axes that no argument has, and are accurate to about 1e-14 of the larger weight. Raises
    `ValueError` for values that are not finite, negative times, and variances that are not positive.

    >>> w1, w2 = unbalanced_pair([0.0, 1.0, 10.0], w1=-1.0, w2=0.5, s=2.0)  # the product has to change its sign
    >>> (w1 * w2).round(4).tolist()
    [-0.5, 1.393, 2.0]

    Source: Saxe, McClelland and Ganguli (2014), appendix A, along the hyperbola $w_1^2 - w_2^2$ = const.
    """
    t, w1, w2, s, c = finite_grid(ts=ts, w1=w1, w2=w2, s=s, input_variance=input_variance)
    refuse_negative(t)
    _check_size(w1, w2, s, c)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        turn = _log_gain(c * t, w1, w2, s / c)
        p, q = w1 + w2, w1 - w2
        up, down = np.where(p == 0, 0.0, p * np.exp(turn)), np.where(q == 0, 0.0, q * np.exp(-turn))
        # a small turn moves little: so a small weight beside a large one keeps its digits
        near, ch, sh = np.abs(turn) < 1, np.cosh(turn), np.sinh(turn)
        first = np.where(near, w1 * ch + w2 * sh, (up + down) / 2)
        second = np.where(near, w2 * ch + w1 * sh, (up - down) / 2)
        rest = (s == 0) & (p * q == 0)  # k = 0
        slow = 1 / np.sqrt(1 + np.maximum(p**2, q**2) * c * t / 2)
        return np.where(rest, w1 * slow, first), np.where(rest, w2 * slow, second)


def unbalanced_pair_time(u1: Any, w1: Any, w2: Any, s: Any, input_variance: Any = 1.0) -> np.ndarray:
    r"""Time at which the product of two weights in series, $w_1 w_2$ at the start, is u1.

    $$ k c t = \ln \frac{(E_+ - p_0^2)(p_1^2 + E_-)}{(p_0^2 + E_-)(E_+ - p_1^2)}, \quad
       p^2 = 2 u + \sqrt{4 u^2 + p_0^2 q_0^2}, $$

    in the letters of `unbalanced_pair`; 0 if the product is u1 at the start, inf if it never is. `u1` is a number or
    (time,); other shapes, units, errors and source are those of `unbalanced_pair`.

    >>> unbalanced_pair_time([0.0, 1.0, 3.0], w1=-1.0, w2=0.5, s=2.0).round(4)
    array([0.2476, 0.802 ,    inf])
    """
    u1, w1, w2, s, c = finite_grid(u1=u1, w1=w1, w2=w2, s=s, input_variance=input_variance)
    _check_size(w1, w2, s, c)
    u0, kept, side = w1 * w2, np.abs((w1 - w2) * (w1 + w2)), np.where(w1 * w2 < 0, -1.0, 1.0)
    met = ((u1 - u0) * (s / c - u1) > 0) & ((kept > 0) | (u0 * u1 > 0))  # equal moduli never pass 0
    # below zero p^2 is the smaller square: there the roles of p and q, of s and -s are changed
    start, end, sigma = side * u0, side * u1, side * s / c
    r0, r1, k = (np.hypot(2 * u, kept) for u in (start, end, sigma))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        square = lambda u, r: np.where(u >= 0, r + 2 * u, kept / (r - 2 * u) * kept)
        x0, x1, high, low = square(start, r0), square(end, r1), square(sigma, k), square(-sigma, k)
        # the fraction - 1, with both differences of squares written as differences of products
        gained = (end - start) * (x1 + x0) / (r1 + r0)
        left = (sigma - end) * (high + x1) / (k + r1)
        times = np.log1p(2 * k * gained / ((x0 + low) * left)) / k
        times = np.where(k == 0, (1 / end - 1 / start) / 2, times) / c
    return np.where(u1 == u0, 0.0, np.where(met, times, np.inf))


def _check_size(w1: Values, w2: Values, s: Values, c: Values) -> None:
    """`ValueError` for variances that are not positive, and where squares of weights and targets leave float64."""
    if (c <= 0).any():
        raise ValueError(f"`input_variance`: a variance must be positive here, but one is {c.min()}")
    for name, values in (("w1", w1), ("w2", w2), ("s", np.sqrt(np.abs(s) / c))):
        if (np.abs(values) > WEIGHT).any():
            raise ValueError(f"`{name}`: makes weights beyond {WEIGHT:g}, whose powers leave float64; rescale it")


def _log_gain(t: Values, w1: Values, w2: Values, sigma: Values) -> np.ndarray:
    """ln g, exact where g is near 1 and where the exponential underflows."""
    p, q = w1 + w2, w1 - w2
    k = np.hypot(2 * sigma, p * q)
    wide = k + 2 * np.abs(sigma)
    narrow = np.where(wide > 0, (p * q) ** 2 / np.where(wide > 0, wide, 1.0), 0.0)
    plus, minus = np.where(sigma >= 0, wide, narrow), np.where(sigma >= 0, narrow, wide)
    e, gone = np.exp(-k * t), -np.expm1(-k * t)
    over, under = plus + q**2 * gone, minus + p**2 * gone  # what stays of g^2 when e has underflowed
    ratio = (over + minus * e) / (under + plus * e)
    change = 4 * gone * (sigma - w1 * w2) / (under + plus * e)  # g^2 - 1
    exact = np.where(change > -0.5, np.log1p(np.maximum(change, -0.5)), np.log(ratio)) / 2
    exact = np.where((over == 0) & (k > 0), (np.log(minus / under) - k * t) / 2, exact)
    return np.where((under == 0) & (k > 0), (np.log(over / plus) + k * t) / 2, exact)
