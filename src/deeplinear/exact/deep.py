r"""One mode of a decoupled network of any depth, its layers balanced or not, with any signs.

Layers carry weights $\xi_i$ along the mode, $\dot \xi_i = \prod_{j \ne i} \xi_j \, (s - c \prod_j \xi_j)$. All $\xi_i^2
- \xi_j^2$ are conserved, so that one number is left: y, the weight of least modulus times the sign of the others, with

$$ \xi_i = \pm \sqrt{y^2 + a_i}, \quad \dot y = c R(y) (\sigma - y R(y)), \quad R(y) = \prod \sqrt{y^2 + a_i},
   \quad \sigma = s / c, $$

and the time is the integral of $1 / (c R (\sigma - y R))$. It is taken by Gauss's rule over panels of a coordinate x in
which the integrand is smooth on the scale 1: far from the target, x is $h/2$ times the logarithm of y (or the inverse
hyperbolic sine, where y may change its sign); near it, minus the logarithm of the distance.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from .._arguments import check_times
from .._arrays import floats, number
from .modes import mode_strength
from .pair import WEIGHT, unbalanced_pair

BALANCED = 1e-14  # relative spread of moduli that is rounding
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)  # error below 1e-16 on a panel of length 1
LAST = 345.0  # x at which the distance has shrunk to 1e-150: its square is still a normal number
SETTLED = 1e-8  # size of the last Newton step; what remains is about its square
MAX_STEPS = 40


def unbalanced_mode(ts: Any, weights: Any, s: Any, input_variance: Any = 1.0) -> np.ndarray:
    r"""Weights $\xi_i(t)$ of the layers along one decoupled mode, shape (time, layer): any depth, signs and sizes.

    $\dot \xi_i = \prod_{j \ne i} \xi_j (s - c \prod_j \xi_j)$ with c = `input_variance`. `weights` is (layer,), `ts`
    (time,), `s` a number of any sign; the strength of the mode is the product over layers. Depth 1 and 2 and equal
    moduli are closed forms (`mode_strength`, `unbalanced_pair`); others are one quadrature, see the module. Two weights
    that are zero, or one if s = 0, stay so, and nothing moves. Accurate to about 1e-14 (1 + |d ln xi / d ln t|). Raises
    `ValueError` for values that are not finite, negative times and negative variances.

    >>> xi = unbalanced_mode([0.0, 1.0, 20.0], [-0.1, 0.5, 1.0], s=2.0)  # a weight has to change its sign
    >>> xi.round(4).tolist()
    [[-0.1, 0.5, 1.0], [0.9979, 1.1117, 1.4092], [1.1082, 1.2117, 1.4894]]

    Source: Saxe, McClelland and Ganguli (2014), section 2, without its equal weights.
    """
    ts, xi = check_times(ts), floats("weights", weights, 1, "(layer,)", largest=WEIGHT)
    s, c = number("s", s, "a finite number"), number("input_variance", input_variance, "a finite number")
    if c < 0 or (c == 0 and s != 0) or abs(s) > WEIGHT**2 * c:
        raise ValueError(f"`input_variance`: got {c} with s = {s}; no data has such a mode")
    if is_still(xi, s, c):
        return np.tile(xi, (ts.size, 1))
    if xi.size == 1:
        return mode_strength(ts, xi[0], s, 1, c)[:, None]
    if xi.size == 2:
        return np.stack(unbalanced_pair(ts, xi[0], xi[1], s, c), axis=1)
    signs = np.where(xi < 0, -1.0, 1.0)
    if np.ptp(np.abs(xi)) <= BALANCED * np.abs(xi).max():
        u = mode_strength(ts, np.prod(np.abs(xi)), np.prod(signs) * s, xi.size, c)
        return signs * u[:, None] ** (1 / xi.size)
    m = int(np.argmin(np.abs(xi)))
    least, others = np.abs(xi[m]), np.delete(np.abs(xi), m)
    a, sign = (others - least) * (others + least), np.prod(np.delete(signs, m))
    y = _least_weight(c * ts, sign * xi[m], float(s / c), a)
    moved = np.insert(np.delete(signs, m) * np.sqrt(y[:, None] ** 2 + a), m, sign * y, axis=1)
    return np.where(ts[:, None] == 0, xi, moved)


def is_still(xi: np.ndarray, s: Any, c: Any) -> Any:
    """Whether modes with weights xi (layer, ...) rest for certain: two zeros, or a product 0 that is the target."""
    zeros = np.sum(xi == 0, axis=0)
    return (c == 0) | ((len(xi) > 1) & ((zeros > 1) | ((zeros == 1) & (s == 0))))


class _Journey(NamedTuple):
    """The way of y to where it ends: y and the time per x as functions of x, and x at the start and at the end."""

    y: Callable[[np.ndarray], np.ndarray]
    rate: Callable[[np.ndarray], np.ndarray]
    start: float
    end: float
    destination: float


def _least_weight(t: np.ndarray, y0: float, sigma: float, a: np.ndarray) -> np.ndarray:
    """y(t) of y' = R(y) (sigma - y R(y))."""
    if a.min() == 0 and y0 < 0:  # cannot pass zero; R is even
        return -_least_weight(t, -y0, -sigma, a)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        journey = _fade(y0, sigma, a) if a.min() == 0 and sigma <= 0 else _approach(y0, sigma, a)
        return _travelled(journey, t)


def _fade(y0: float, sigma: float, a: np.ndarray) -> _Journey:
    """From y0 > 0 to 0, which is never passed since another weight has the same modulus; x = h/2 ln(y0 / y)."""
    kappa = (len(a) + 1) / 2
    y = lambda x: y0 * np.exp(-x / kappa)

    def rate(x):
        now = y(x)
        R = np.prod(np.sqrt(now[..., None] ** 2 + a), axis=-1)
        return now / R / (kappa * (now * R - sigma))

    return _Journey(y, rate, 0.0, kappa * LAST, 0.0)


def _approach(y0: float, sigma: float, a: np.ndarray) -> _Journey:
    """From y0 to the y* at which y R(y) = sigma; the distance in ln y or arsinh y is ln(1 + e^{-x}) / kappa."""
    kappa, goal = (len(a) + 1) / 2, _target(sigma, a)
    size = float(np.sqrt(a.min()))  # below it, y is on the scale of its passage through zero
    if size:
        end = np.arcsinh(goal / size)
        gap = np.arcsinh(y0 / size) - end
        side = np.sign(gap)
        place = lambda g: size * np.sinh(end + side * g)
        pace = lambda g: size * np.cosh(end + side * g)
        left = lambda g: 2 * size * np.cosh(end + side * g / 2) * np.sinh(g / 2)  # |y - y*|
    else:
        gap = np.log(y0 / goal)
        side = np.sign(gap)
        place = pace = lambda g: goal * np.exp(side * g)
        left = lambda g: goal * np.abs(np.expm1(side * g))
    distance = lambda x: np.logaddexp(0.0, -x) / kappa

    def rate(x):
        g = distance(x)
        y = place(g)
        R = np.prod(np.sqrt(y[..., None] ** 2 + a), axis=-1)
        return pace(g) / left(g) * expit(-x) / kappa / (R * _slope(y, R, goal, a))

    far = kappa * abs(float(gap))
    start = -far - np.log(-np.expm1(-far)) if far else np.inf
    return _Journey(lambda x: place(distance(x)), rate, float(start), LAST, goal)


def _target(sigma: float, a: np.ndarray) -> float:
    """y* with y* R(y*) = sigma, by Newton's iteration for ln y from above: ln(y R) is convex and grows in ln y."""
    if sigma == 0:
        return 0.0
    size = abs(sigma)
    log_y = min(np.log(size) / (len(a) + 1), np.log(size) - np.sum(np.log(a)) / 2)
    for _ in range(MAX_STEPS):
        y2 = np.exp(2 * log_y)
        change = (log_y + np.sum(np.log(y2 + a)) / 2 - np.log(size)) / (1 + np.sum(y2 / (y2 + a)))
        log_y = log_y - change
        if abs(change) < SETTLED:
            break
    y = np.exp(log_y)
    off = np.expm1(np.log(y / size) + np.sum(np.log(y**2 + a)) / 2)  # once more, without the rounding of ln y
    return float(np.copysign(y * (1 - off / (1 + np.sum(y**2 / (y**2 + a)))), sigma))


def _slope(y: np.ndarray, R: np.ndarray, goal: float, a: np.ndarray) -> np.ndarray:
    """(y* R(y*) - y R(y)) / (y* - y), a sum of positive terms: the product's rule for differences."""
    here, there = np.sqrt(y[..., None] ** 2 + a), np.sqrt(goal**2 + a)
    above = np.concatenate([np.cumprod(here[..., :0:-1], axis=-1)[..., ::-1], np.ones((*y.shape, 1))], axis=-1)
    below = np.concatenate([[1.0], np.cumprod(there[:-1])])
    K = np.sum(below * above / (here + there), axis=-1)
    ahead = goal * (goal + y)
    return np.where(ahead >= 0, R + ahead * K, np.prod(there) + y * (goal + y) * K)


def _travelled(journey: _Journey, t: np.ndarray) -> np.ndarray:
    """y at times t: the panel by its clock, then Newton's iteration within it."""
    if not journey.start < journey.end:
        return np.full(t.shape, journey.destination)
    edges = np.arange(journey.start, journey.end + 1.0)
    durations = journey.rate(edges[:-1, None] + (1 + NODES) / 2) @ WEIGHTS / 2
    clock = np.concatenate([[0.0], np.cumsum(durations)])
    panel = np.minimum(np.searchsorted(clock, t, side="right") - 1, len(durations) - 1)
    left, rest = edges[panel], np.minimum(t, clock[-1]) - clock[panel]
    step = np.clip(rest / durations[panel], 0.0, 1.0)
    for _ in range(MAX_STEPS):
        spent = journey.rate(left[:, None] + step[:, None] * (1 + NODES) / 2) @ WEIGHTS / 2 * step
        change = (rest - spent) / journey.rate(left + step)
        change = np.clip(step + np.where(np.isnan(change), 0.0, change), 0.0, 1.0) - step
        step = step + change
        if np.all(np.abs(change) <= SETTLED):
            break
    return np.where(t >= clock[-1], journey.destination, journey.y(left + step))
