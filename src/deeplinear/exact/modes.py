r"""One decoupled mode of a 0-balanced network, solved exactly at any depth.

All h layers carry the same weight $z \ge 0$ along the mode, so that its end-to-end strength is $u = z^h$ and

$$ \dot u = h \, u^{2 - 2/h} (s - c u), $$

with s the data's singular value and c the input variance. The strength goes to its target $s / c$, or to 0 if $s < 0$.

In units of the target, $v = |c u / s|$, the time taken is an incomplete beta function of v. From depth 3 on it is a
function of a coordinate q that runs with time (`_Regime`), such that nothing cancels near v = 0, 1 or infinity, and it
is inverted by Newton's iteration. $b = 2/h$, $p = 1 - b$ and $y = 1/v$ everywhere.
Source: Saxe, McClelland & Ganguli (2014) for depth 2; the others integrate $u^{2/h - 2} / (s - c u)$.
"""

import operator
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from scipy.special import digamma, expit, hyp2f1, log_expit, logit

from .grids import finite_grid, refuse_negative

TERMS = 56  # of a power series in w <= 1/2, up to 2^-56
NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)  # error below 1e-16 for an interval of q of length 1
FLAT = 1e-100  # from depth 3, a target this much smaller than the strength counts as 0: powers of it would underflow
STILL = (
    1e-290  # from depth 3, a strength this much smaller than the target stays: the powers in its time would overflow
)
CONVERGED = 1e-9  # size of the last Newton step; what remains is about its square
MAX_STEPS = 60


def mode_strength(ts: Any, u0: Any, s: Any, depth: Any, input_variance: Any = 1.0) -> np.ndarray:
    r"""Strength u(t) of a mode of a decoupled 0-balanced network.

    $\dot u = h u^{2 - 2/h} (s - c u)$ with h = `depth` and c = `input_variance`. Assumes that all layers start with the
    same weight $u_0^{1/h}$ along the mode, and that modes do not couple (inputs white, or correlated along the modes).

    `u0`, `s` and `input_variance` are numbers or (mode,), with s of any sign and `u0 >= 0` unless depth is 1; `ts` is a
    number, (time,) or (time, mode), in units of the half-mean loss's gradient flow. The result is (time, mode), without
    axes that no argument has. Rounding errs by about 1e-15 (1 + |d ln z / d ln t|), relative to z. Raises `ValueError`
    for values that are negative or infinite where they must not be.
    Source: Saxe, McClelland & Ganguli (2014), section 1 (depth 2); other depths: see the module.

    >>> mode_strength([0.0, 1.0, 10.0], u0=0.1, s=[2.0, 0.5], depth=2).round(4)
    array([[0.1   , 0.1   ],
           [1.4837, 0.2023],
           [2.    , 0.4999]])
    >>> round(float(mode_strength(1.0, u0=0.1, s=2.0, depth=3)), 4)
    1.7466
    """
    h = _checked_depth(depth)
    t, u0, s, c = _checked_grid("ts", ts, u0, s, input_variance, h)
    refuse_negative(t)
    return _strength(t.ravel(), u0.ravel(), s.ravel(), c.ravel(), h).reshape(t.shape)


def mode_time(u1: Any, u0: Any, s: Any, depth: Any, input_variance: Any = 1.0) -> np.ndarray:
    r"""Time at which a mode that starts with strength u0 has strength u1: the inverse of `mode_strength`.

    $t = \int_{u_0}^{u_1} du / (h u^{2 - 2/h} (s - c u))$; 0 if `u1 == u0`, inf if the mode never has strength u1 (the
    target itself takes for ever). Accurate to the last digits, also for u1 close to u0. `u1` is a number, (time,) or
    (time, mode); assumptions, other shapes, units, errors and source are those of `mode_strength`.

    >>> mode_time([0.5, 1.0], u0=0.1, s=[2.0, 0.5], depth=2).round(4)
    array([[0.4615,    inf],
           [0.7361,    inf]])
    >>> round(float(mode_time(1.7466, u0=0.1, s=2.0, depth=3)), 4)
    1.0
    """
    h = _checked_depth(depth)
    u1, u0, s, c = _checked_grid("u1", u1, u0, s, input_variance, h)
    return _time(u1.ravel(), u0.ravel(), s.ravel(), c.ravel(), h).reshape(u1.shape)


def half_time(u0: Any, s: Any, depth: Any, input_variance: Any = 1.0) -> np.ndarray:
    r"""Time at which a mode has half of its target s / c.

    Depth 2: $\ln(s / (c u_0) - 1) / (2 s)$; depth 1: $\ln(2 (1 - c u_0 / s)) / c$; deeper: `mode_time`. 0 if the mode
    starts there or beyond; inf if s = 0 and, from depth 2, if s < 0 or u0 = 0. The result has the shape of the
    arguments, (mode,) or none; assumptions, units, errors and source are those of `mode_strength`.

    >>> half_time(u0=1e-3, s=[3.0, 1.0, 0.0], depth=2).round(4)
    array([1.3343, 3.4534,    inf])
    """
    h = _checked_depth(depth)
    _, u0, s, c = _checked_grid("start", 0.0, u0, s, input_variance, h)
    half = _target(s, c) / 2
    times = _time(half.ravel(), u0.ravel(), s.ravel(), c.ravel(), h).reshape(half.shape)
    return np.where(s == 0, np.inf, np.where(np.sign(s) * (u0 - half) >= 0, 0.0, times))


def _strength(t: np.ndarray, u0: np.ndarray, s: np.ndarray, c: np.ndarray, h: int) -> np.ndarray:
    """u(t) of arrays of one shape (k,)."""
    sigma = _target(s, c)
    end = sigma if h == 1 else np.maximum(sigma, 0)
    with np.errstate(over="ignore", divide="ignore"):  # limits of infinite exponents and logarithms are right
        if h == 1:
            u = np.where(c > 0, u0 * np.exp(-c * t) - sigma * np.expm1(-c * t), u0)
        elif h == 2:
            # u0 e^{2st} / (1 + c u0 (e^{2st} - 1) / s), with the growing exponential divided out
            shrink, unit = np.exp(-2 * np.abs(s) * t), np.where(s == 0, 1.0, np.abs(s))
            gain = c * u0 * np.where(s == 0, 2 * t, -np.expm1(-2 * np.abs(s) * t) / unit)
            up, down = np.where(s < 0, shrink, 1.0), np.where(s < 0, 1.0, shrink) + gain
            u = u0 * up / np.where(u0 > 0, down, 1.0)
        else:
            u = u0.copy()
            moves, flat = (u0 > STILL * np.abs(sigma)) & (c > 0) & (t > 0), np.abs(sigma) <= FLAT * u0
            on, m = moves & flat, 2 - 2 / h  # s = 0: u' = -h c u^{1 + m}
            u[on] *= np.exp(-np.logaddexp(0.0, np.log(h * m * c[on] * t[on]) + m * np.log(u0[on])) / m)
            for regime, here in _regimes(u0, sigma, h):
                on = moves & here & ~flat
                unit = np.abs(sigma[on])
                q = regime.after(h * c[on] * unit**m * t[on], regime.place(u0[on], sigma[on]))
                u[on] = unit * regime.strength(q)
    return np.clip(u, np.minimum(u0, end), np.maximum(u0, end))  # rounding does not pass the start or the target


def _time(u1: np.ndarray, u0: np.ndarray, s: np.ndarray, c: np.ndarray, h: int) -> np.ndarray:
    """Time from u0 to u1, of arrays of one shape (k,)."""
    sigma = _target(s, c)
    times, end = np.where(u1 == u0, 0.0, np.inf), sigma if h == 1 else np.maximum(sigma, 0)
    met = (np.minimum(u0, end) < u1) & (u1 < np.maximum(u0, end)) & (c > 0)
    with np.errstate(over="ignore", divide="ignore"):  # a time above 1e308 is inf
        if h == 1:
            times[met] = np.log1p((u1 - u0)[met] / (sigma - u1)[met]) / c[met]
            return times
        still = (STILL if h > 2 else 0.0) * np.abs(sigma)
        on = met & (u0 > 0) & (u0 <= still) & (sigma > 0)  # u' = h s u^m: the way up to u1 takes no time beside this
        times[on] = np.exp((2 / h - 1) * np.log(u0[on])) / ((h - 2) * c[on] * sigma[on]) if h > 2 else np.inf
        met &= u0 > still
        flat, m = np.abs(sigma) <= (FLAT if h > 2 else 0.0) * u0, 2 - 2 / h
        on = met & flat  # s = 0: (u1^{-m} - u0^{-m}) / (h m c)
        times[on] = -np.expm1(m * _log_ratio(u1[on], u0[on], u1[on] - u0[on])) / u1[on] ** m / (h * m * c[on])
        if h == 2:
            on = met & ~flat
            times[on] = _logistic_time(u1[on], u0[on], sigma[on]) / c[on]
            return times
        for regime, here in _regimes(u0, sigma, h):
            on = met & here & ~flat
            start, step = regime.place(u0[on], sigma[on]), regime.step(u0[on], u1[on], sigma[on])
            times[on] = regime.duration(start, step) / np.abs(sigma[on]) ** m / (h * c[on])
    return times


def _logistic_time(u1: np.ndarray, u0: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Time of u' = 2 u (sigma - u) from u0 to u1: ln(1 + x) / |2 sigma|, with x > 0 for either sign of sigma."""
    near, far = np.where(sigma > 0, u0, u1), np.where(sigma > 0, u1, u0)
    log_x = np.log(np.abs(sigma)) + np.log(np.abs(u1 - u0)) - np.log(near) - np.log(np.abs(sigma - far))
    return np.logaddexp(0.0, log_x) / np.abs(2 * sigma)  # x itself may overflow


def _log_ratio(end: np.ndarray, start: np.ndarray, change: np.ndarray) -> np.ndarray:
    """ln(end / start) of positive numbers, of which `change = end - start` is known better than their difference."""
    small = np.abs(change) < start / 2
    return np.where(small, np.log1p(np.where(small, change / start, 0.0)), np.log(end / start))


class _Regime(ABC):
    """A range of strengths with a coordinate q that grows along the flow, h c |s / c|^{2 - 2/h} dt = rate(q) dq."""

    alpha: ClassVar[int]  # q = alpha ln v - beta ln|1 - s v / |s||
    beta: ClassVar[int]
    latest: ClassVar[float]  # on the clock: from here on u changes no more

    def __init__(self, h: int):
        self.b, self.p = 2 / h, 1 - 2 / h

    def place(self, u: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """q of the strength u."""
        return self.alpha * np.log(u / np.abs(sigma)) - self.beta * np.log(np.abs(sigma - u) / np.abs(sigma))

    def step(self, u0: np.ndarray, u1: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Difference in q of two strengths, without cancellation."""
        to_target = _log_ratio(np.abs(sigma - u1), np.abs(sigma - u0), (u0 - u1) * np.sign(sigma - u0))
        return self.alpha * _log_ratio(u1, u0, u1 - u0) - self.beta * to_target

    def after(self, duration: np.ndarray, q0: np.ndarray) -> np.ndarray:
        """q reached from q0: Newton's iteration, monotone after one step because `rate` is monotone."""
        reading = np.minimum(self.clock(q0) + duration, self.latest)
        q = self.bound(reading, q0)
        for _ in range(MAX_STEPS):
            change = (reading - self.clock(q)) / self.rate(q)
            q = q + change
            if np.all(np.abs(change) <= CONVERGED):
                break
        return q

    def duration(self, q0: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Time from q0 to q0 + step; by Gauss's rule for short steps, where a difference of clocks would cancel."""
        short = np.minimum(step, 1.0) / 2
        mean = sum(w * self.rate(q0 + short * (1 + x)) for x, w in zip(NODES, WEIGHTS, strict=True))
        return np.where(step < 1, short * mean, self.clock(q0 + step) - self.clock(q0))

    @abstractmethod
    def strength(self, q: np.ndarray) -> np.ndarray:
        """v at q."""

    @abstractmethod
    def rate(self, q: np.ndarray) -> np.ndarray:
        """Time per q."""

    @abstractmethod
    def clock(self, q: np.ndarray) -> np.ndarray:
        """Antiderivative of `rate`."""

    @abstractmethod
    def bound(self, reading: np.ndarray, q0: np.ndarray) -> np.ndarray:
        """A bound, close at both ends, on the q >= q0 at which the clock has this reading."""


class _Rise(_Regime):
    """0 < u < s / c: q = logit(v)."""

    alpha, beta, latest = 1, 1, 100.0

    def strength(self, q):
        return expit(q)

    def rate(self, q):
        return np.exp(-self.p * log_expit(q))  # v^{-p}

    def clock(self, q):
        # 1/(v^{2-b} (1-v)) = v^{b-2} + v^{b-1} + v^b/(1-v), the second integrated from 1 lest small b cancel
        log_v = log_expit(q)
        return -np.exp(-self.p * log_v) / self.p + np.expm1(self.b * log_v) / self.b + _beta_minus(q, self.b)

    def bound(self, reading, q0):
        # below: for q < 0 by (1 + e^{-q})^p <= e^{-pq} + p e^{bq}; everywhere as clock - q grows to -1/p - H_b
        early = -np.log(self.p * np.maximum(-1 - reading, CONVERGED)) / self.p
        return np.maximum(np.maximum(q0, np.minimum(early, 0.0)), reading + 1 / self.p + _harmonic(self.b))


class _Fall(_Regime):
    """u > s / c > 0: q = logit(y)."""

    alpha, beta, latest = 0, 1, 100.0

    def strength(self, q):
        return 1 + np.exp(-q)

    def rate(self, q):
        return np.exp((1 + self.p) * log_expit(q))  # y^{1+p}

    def clock(self, q):
        return _beta_minus(q, self.p)

    def bound(self, reading, q0):
        # above: the clock is at least y^{1+p} / (1+p), and at least q - H_p
        early = logit(np.minimum(((1 + self.p) * reading) ** (1 / (1 + self.p)), 1.0))
        return np.minimum(early, reading + _harmonic(self.p))


class _Decay(_Regime):
    """u > 0 > s: q = ln y."""

    alpha, beta, latest = -1, 0, 1e300

    def strength(self, q):
        return np.exp(-q)

    def rate(self, q):
        return np.exp(self.p * q) * expit(q)  # y^{1+p} / (1 + y)

    def clock(self, q):
        # y > 1: y^p/(1+y) = y^{p-1} - y^{p-2} + y^{p-2}/(1+y), the last again a beta integral, of 1/y
        late, constant = np.maximum(q, 0.0), 1 / self.b - np.pi / np.sin(np.pi * self.b)
        power = np.exp(self.p * late) / self.p + np.expm1(-self.b * late) / self.b
        return np.where(q > 0, power + constant - _beta_plus(-late, self.b), _beta_plus(np.minimum(q, 0.0), self.p))

    def bound(self, reading, q0):
        # below: the clock is at most y^p / p, and at most y^{1+p} / (1+p)
        return np.maximum(np.log(self.p * reading) / self.p, np.log((1 + self.p) * reading) / (1 + self.p))


def _regimes(u0: np.ndarray, sigma: np.ndarray, h: int) -> list[tuple[_Regime, np.ndarray]]:
    """The regimes of depth h, each with the mask of the strengths u0 > 0 that are in it for targets sigma."""
    return [(_Rise(h), u0 < sigma), (_Fall(h), (sigma > 0) & (sigma < u0)), (_Decay(h), sigma < 0)]


def _beta_minus(q: np.ndarray, a: float) -> np.ndarray:
    """Integral of x^a / (1 - x) from 0 to v = expit(q), for 0 < a < 1."""
    # scipy's hyp2f1 is accurate up to v = 1/2 and can be wrong in every digit beyond (a = 1/6, v = 0.998)
    early, late = np.minimum(q, 0.0), np.maximum(q, 0.0)
    v, w = expit(early), expit(-late)
    near_one = np.polynomial.polynomial.polyval(w, _series(a)) - _harmonic(a) - log_expit(-late)
    return np.where(q > 0, near_one, v ** (1 + a) / (1 + a) * hyp2f1(1, 1 + a, 2 + a, v))


def _beta_plus(q: np.ndarray, a: float) -> np.ndarray:
    """Integral of x^a / (1 + x) from 0 to e^q, for q <= 0 and 0 < a < 1."""
    w = expit(q)  # by Pfaff's transformation a series of positive terms in w = e^q / (1 + e^q) <= 1/2
    return np.exp((1 + a) * q) * (1 - w) / (1 + a) * hyp2f1(1, 1, 2 + a, w)


@lru_cache
def _series(a: float) -> np.ndarray:
    """Power series in w of the integral of (1 - x^a) / (1 - x) from 1 - w to 1: |binom(a, n)| / n for n >= 1."""
    n = np.arange(1, TERMS + 1)
    return np.concatenate([[0.0], np.cumprod(np.concatenate([[a], (n[:-1] - a) / n[1:]])) / n])


def _harmonic(a: float) -> float:
    """H_a, the integral of (1 - x^a) / (1 - x) from 0 to 1."""
    return float(digamma(1 + a)) + np.euler_gamma


def _target(s: np.ndarray, c: np.ndarray) -> np.ndarray:
    """s / c, and 0 where both are 0."""
    return np.divide(s, c, out=np.zeros_like(s), where=c > 0)


def _checked_depth(depth: Any) -> int:
    try:
        h = operator.index(depth)
    except TypeError:
        raise ValueError(f"`depth`: the number of layers is an int, not {depth!r}") from None
    if h < 1:
        raise ValueError(f"`depth`: a network has at least one layer, not {h}")
    return h


def _checked_grid(name: str, along: Any, u0: Any, s: Any, input_variance: Any, h: int) -> list[np.ndarray]:
    """The argument with the time axis, then u0, s and c, as arrays of one shape."""
    t, u0, s, c = finite_grid(**{name: along, "u0": u0, "s": s, "input_variance": input_variance})
    if h > 1 and np.any(u0 < 0):
        raise ValueError(f"`u0`: from depth 2 a strength must be >= 0, but one is {u0.min()}; flip the sign of `s` too")
    if np.any(c < 0):
        raise ValueError(f"`input_variance`: a variance must be >= 0, but one is {c.min()}")
    if np.any(((c == 0) & (s != 0)) | (np.abs(s) * 1e-300 > c)):
        raise ValueError("`input_variance`: the target `s` / `input_variance` is not finite; no data has such a mode")
    return [t, u0, s, c]
