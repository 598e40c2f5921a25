r"""One 0-balanced mode in the limit of infinite depth: $\dot u = u^2 (s - u)$ in the time $t' = h t$.

In units of the target, $\delta = s / u$, the time is a difference of $\Psi(\delta) = -\delta - \ln|1 - \delta|$ over
$s^2$; what is left of the target, $|1 - \delta|$, follows from Wright's omega function, or from Newton's iteration
where that function's argument has lost the digits (a fall from far above).
"""

from typing import Any

import numpy as np
from scipy.special import wrightomega

from .grids import Values, finite_grid, refuse_negative

TERMS = 52  # of the series of ln(1 + x) - x for |x| <= 1/2, up to 2^-52
NEWTON_STEPS = 8
START_OF_TAIL = 2.0  # Psi beyond which the first guess is the tail's


def infinite_depth_strength(ts: Any, u0: Any, s: Any) -> np.ndarray:
    r"""Strength u(t') of a mode of an infinitely deep 0-balanced network, at times $t' = h t$ (time,).

    $\dot u = u^2 (s - u)$. For $0 < u_0 < s$

    $$ u = \frac{s}{1 + \omega(-K)}, \quad K = s^2 t' + \ln\frac{u_0}{s - u_0} - \frac{s - u_0}{u_0} $$

    with Wright's omega function. `u0` (at least 0) and `s` (any sign) are numbers or (mode,); the result is (time,
    mode), without axes that no argument has. Assumes white inputs and balanced layers. Raises `ValueError` for values
    that are not finite and for negative u0 or times.

    >>> infinite_depth_strength([0.0, 3.0, 12.0], u0=0.3, s=1.0).round(4)
    array([0.3   , 0.6117, 0.9999])

    Source: Saxe, McClelland and Ganguli (2014), section 2, the limit of many layers.
    """
    t, u0, s = _grid(ts=ts, u0=u0, s=s)
    refuse_negative(t)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        left = (s - u0) / u0
        rise = s / (1 + wrightomega(-(s**2 * t - np.log(left) - left)))
        fall = s / _delta_at(_psi(s / u0) + s**2 * t, np.sign(s))
        flat = u0 / np.sqrt(1 + 2 * u0**2 * t)
        u = np.select([(u0 == 0) | (u0 == s) | (t == 0), s == 0, u0 < s], [u0, flat, rise], fall)
    end = np.maximum(s, 0.0)
    return np.asarray(np.clip(u, np.minimum(u0, end), np.maximum(u0, end)))


def infinite_depth_time(u1: Any, u0: Any, s: Any) -> np.ndarray:
    r"""Time $t' = h t$ at which a mode that starts with strength u0 has strength u1.

    $t' = \frac{1}{s^2} \ln \frac{u_1 (s - u_0)}{u_0 (s - u_1)} + \frac{1}{s} \big(\frac{1}{u_0} - \frac{1}{u_1}\big)$;
    0 if `u1 == u0`, inf if the mode never has strength u1. `u1` is a number or (time,); other shapes, assumptions,
    errors and source are those of `infinite_depth_strength`.

    >>> infinite_depth_time([0.3, 0.6117, 1.0], u0=0.3, s=1.0).round(3)
    array([ 0.,  3., inf])
    """
    u1, u0, s = _grid(u1=u1, u0=u0, s=s)
    end = np.maximum(s, 0.0)
    met = (np.minimum(u0, end) < u1) & (u1 < np.maximum(u0, end)) & (u0 > 0)
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        change = s * (u1 - u0) / (u0 * (s - u1))  # the logarithm's argument - 1
        # ln(1 + x) - x + x s / u1: for a fall the first two nearly cancel and are taken together
        curved = (_log1p_minus(change) + change * s / u1) / s**2
        risen = (np.log1p(change) + s * (u1 - u0) / (u0 * u1)) / s**2
        flat = (u0 - u1) * (u0 + u1) / (2 * (u0 * u1) ** 2)
        times = np.select([s == 0, u0 < s], [flat, risen], curved)
    return np.where(u1 == u0, 0.0, np.where(met, times, np.inf))


def infinite_depth_half_time(u0: Any, s: Any) -> np.ndarray:
    r"""Time $t' = h t$ at which a mode has half of its target: $\big(\ln(s / u_0 - 1) + s / u_0 - 2\big) / s^2$.

    Finite: in the time $h t$ the delay does not grow with depth. 0 if the mode starts there or beyond, inf if s <= 0
    or u0 = 0. The result has the shape of the arguments, (mode,) or none; assumptions, errors and source are those of
    `infinite_depth_strength`.

    >>> infinite_depth_half_time(u0=[0.1, 0.6], s=1.0).round(4)
    array([10.1972,  0.    ])
    """
    _, u0, s = _grid(start=0.0, u0=u0, s=s)
    late = (u0 < s / 2) & (u0 > 0)
    beyond = np.where(late, s, 2.0) / np.where(late, u0, 1.0) - 2
    times = (np.log1p(beyond) + beyond) / np.where(late, s, 1.0) ** 2
    return np.where(late, times, np.where((u0 >= s / 2) & (s > 0), 0.0, np.inf))


def _psi(delta: Values) -> Values:
    """-delta - ln(1 - delta) for delta < 1: s^2 times the time of the fall from infinity to s / delta."""
    return -_log1p_minus(-delta)


def _log1p_minus(x: Values) -> Values:
    """ln(1 + x) - x."""
    small = np.where(np.abs(x) <= 0.5, x, 0.0)
    series = np.polynomial.polynomial.polyval(-small, 1 / np.arange(2.0, TERMS + 2))
    return np.where(np.abs(x) <= 0.5, -(small**2) * series, np.log1p(x) - x)


def _delta_at(psi: Values, sign: Values) -> Values:
    """The delta of this sign, below 1, with a given Psi >= 0."""
    small = sign * np.sqrt(2 * psi)
    tail = np.where(sign > 0, -np.expm1(-1 - psi), -psi - np.log1p(psi))
    delta = np.where(psi > START_OF_TAIL, tail, np.where(sign > 0, small / (1 + small), small))
    for _ in range(NEWTON_STEPS):  # d Psi / d delta = delta / (1 - delta)
        delta = delta - (_psi(delta) - psi) * (1 - delta) / delta
    return np.where(psi == 0, 0.0, delta)


def _grid(**named: Any) -> list[np.ndarray]:
    arrays = finite_grid(**named)
    if np.any(arrays[1] < 0):
        raise ValueError(f"`u0`: a strength must be >= 0, but one is {arrays[1].min()}; flip the sign of `s` too")
    return arrays
