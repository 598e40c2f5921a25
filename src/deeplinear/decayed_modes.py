r"""Where a 0-balanced mode rests under weight decay, $\dot z = z^{h-1} (s - z^h) - \gamma z$, and up to which decay."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import root_scalar

from ._arrays import number
from ._checks import check_whole

TIGHT = 4 * float(np.finfo(float).eps)  # the finest that root finding accepts, and rounding of ln gamma


MOST_LAYERS = 10**6


class DecayedFixedPoints(NamedTuple):
    """Where a 0-balanced mode rests under weight decay."""

    strengths: np.ndarray
    """u = z^h of every rest, ascending, 0 included where it is one, shape (rest,)."""
    stable: np.ndarray
    """Whether small changes of z >= 0 die out, shape (rest,)."""


class DecayThresholds(NamedTuple):
    """Up to which weight decay a 0-balanced mode is learned at all, and is worth it."""

    exists: float
    """gamma_max: above it, 0 is the only rest."""
    optimal: float
    """gamma_*: above it, 0 is the global minimum although a nonzero minimum may exist."""
    strength: float
    """u of the nonzero minimum at gamma_*."""


def decay_thresholds(s: float, depth: int) -> DecayThresholds:
    r"""Weight decays at which the nonzero minimum of a 0-balanced mode disappears and at which it stops being global.

    $$ \gamma_{\max} = \Big(\frac{s (h-2)}{2h-2}\Big)^{(h-2)/h} \frac{s h}{2h-2}, \quad
       \gamma_* = \Big(\frac{s (h-2)}{h-1}\Big)^{(h-2)/h} \frac{s}{h-1}, \quad u_* = \frac{s (h-2)}{h-1} . $$

    Both are s at depth 2. White inputs, half-mean loss; s at least 0. Raises `ValueError` for depth 1, where decay only
    shrinks, and negative s.

    >>> [round(gamma, 4) for gamma in decay_thresholds(1.0, depth=3)[:2]]
    [0.4725, 0.3969]

    Source: the scalar potential $\frac12 (s - z^h)^2 + \frac{h \gamma}{2} z^2$ of a 0-balanced mode.
    """
    s, depth = number("s", s, "a finite number of at least 0", low=0.0), check_whole("depth", depth, 1, MOST_LAYERS)
    if depth < 2:
        raise ValueError(f"`depth`: got {depth}; with one layer decay has no threshold, u = s / (1 + gamma)")
    peak, switch, power = s * (depth - 2) / (2 * depth - 2), s * (depth - 2) / (depth - 1), (depth - 2) / depth
    return DecayThresholds(peak**power * s * depth / (2 * depth - 2), switch**power * s / (depth - 1), switch)


def decayed_fixed_points(s: float, depth: int, gamma: float) -> DecayedFixedPoints:
    r"""Strengths at which a 0-balanced mode rests under weight decay $\gamma$, and which of them are stable.

    0 from depth 2 on, and the roots of $z^{h-2} (s - z^h) = \gamma$ with $u = z^h$: $s - \gamma$ at depth 2; deeper two
    below `decay_thresholds(s, depth).exists`, the larger one stable, one (half-stable, counted as not) there, none
    above; $s / (1 + \gamma)$ at depth 1. White inputs, half-mean loss; s of any sign. Roots are accurate to rounding
    but near the threshold, where two meet. Raises `ValueError` for negative $\gamma$, values that are not finite and
    depths below 1.

    >>> points = decayed_fixed_points(1.0, depth=3, gamma=0.3)
    >>> points.strengths.round(4).tolist(), points.stable.tolist()
    ([0.0, 0.0295, 0.6545], [True, False, True])

    Source: the potential of `decay_thresholds`.
    """
    s, depth = number("s", s, "a finite number"), check_whole("depth", depth, 1, MOST_LAYERS)
    gamma = number("gamma", gamma, "a finite number of at least 0", low=0.0)
    if max(abs(s), gamma) > 1e150 or 0 < gamma < 1e-150:
        raise ValueError(f"`s`, `gamma`: got {s} and {gamma}; numbers from 1e-150 to 1e150 keep powers within float64")
    if depth == 1:
        return DecayedFixedPoints(np.array([s / (1 + gamma)]), np.array([True]))
    if depth == 2:
        roots = [s - gamma] if s > gamma else []
        return DecayedFixedPoints(np.array([0.0, *roots]), np.array([s <= gamma, *[True] * len(roots)]))
    if s <= 0:
        return DecayedFixedPoints(np.array([0.0]), np.array([True]))
    if gamma == 0:  # 0 is left, if slowly: z' = s z^{h-1}
        return DecayedFixedPoints(np.array([0.0, s]), np.array([False, True]))
    peak, power = s * (depth - 2) / (2 * depth - 2), (depth - 2) / depth
    excess = lambda q: power * q + np.log(s - np.exp(q)) - np.log(gamma)
    if excess(np.log(peak)) < -TIGHT:
        return DecayedFixedPoints(np.array([0.0]), np.array([True]))
    if excess(np.log(peak)) <= TIGHT:
        return DecayedFixedPoints(np.array([0.0, peak]), np.array([True, False]))
    # the small root by its exponent: u^p (s - u) < u^p s, so it is above (gamma / s)^{1/p}
    lowest = min(np.log(gamma / s) / power, np.log(peak)) - 1e-3
    low = root_scalar(excess, bracket=(lowest, np.log(peak)), xtol=TIGHT, rtol=TIGHT).root
    height = lambda u: u**power * (s - u) - gamma
    high = root_scalar(height, bracket=(peak, s), xtol=TIGHT * s, rtol=TIGHT).root
    roots = [0.0, *(_polished(u, s, gamma, power) for u in (np.exp(low), high))]
    return DecayedFixedPoints(np.array(roots), np.array([True, False, True]))


def _polished(u: float, s: float, gamma: float, power: float) -> float:
    """One more Newton step for ln(u^p (s - u) / gamma) = 0, kept where it helps: not at a double root."""
    slope = power - u / (s - u)
    step = np.log(u**power * (s - u) / gamma) / slope if slope else 0.0
    return u * (1 - step) if abs(step) < 1e-6 else u
