r"""Two layers between one input and one output: solved at any width, from any start.

With rows $a = W_1$, $b = W_2^T$ and $p = a + b$, $q = a - b$ the flow only rescales: $p(t) = g p_0$, $q(t) = q_0 / g$,

$$ g^2 = \frac{\alpha_+ + \alpha_- e + |q_0|^2 \phi}{\alpha_- + \alpha_+ e + |p_0|^2 \phi}, \quad
   k = \sqrt{4 s^2 + |p_0|^2 |q_0|^2}, \quad \alpha_\pm = 1 \pm 2 s / k, \quad e = e^{-kt}, \quad \phi = (1 - e) / k $$

with s the target and time in units of 1 / c. No term is negative, so nothing cancels.
Source: Saxe, McClelland & Ganguli (2014), section 1.3 and its appendix (hyperbolic coordinates), for vectors a and b.
"""

import jax
import jax.numpy as jnp

from .._types import Array

DIRECT = 0.5  # up to this change, relative, of g^2 the weights are moved, and not rebuilt from p and q
FAR = 1400.0  # |ln g^2| of weights that are not 0 stays below


def rescaled(Q0: Array, target: Array, t: Array) -> Array:
    """Q(t) = [a; b] (2, r) from Q0 (2, r) at canonical time t times c; `target` is s / c."""
    a, b = Q0
    log_g = _log_square(a, b, target, t) / 2
    cosh, sinh = jnp.cosh(jnp.clip(log_g, -1, 1)), jnp.sinh(jnp.clip(log_g, -1, 1))
    near = jnp.stack([cosh * a + sinh * b, sinh * a + cosh * b])
    g = jnp.exp(log_g)
    p, q = (a + b) * g, (a - b) / g
    far = jnp.stack([p + q, p - q]) / 2
    return jnp.where(t > 0, jnp.where(jnp.abs(log_g) <= DIRECT / 2, near, far), Q0)


def limit_of(Q0: Array, target: Array) -> Array:
    """`rescaled` for t to infinity."""
    a, b = Q0
    product = jnp.sum((a + b) ** 2) * jnp.sum((a - b) ** 2)
    rate = jnp.sqrt(4 * target**2 + product)
    # what decays with rate k is gone after 800 / k; without a rate it decays as 1 / t to 0
    late = rescaled(Q0, target, 800.0 / jnp.where(rate > 0, rate, 1.0))
    return jnp.where(rate > 0, late, jnp.zeros_like(Q0))


def _log_square(a: Array, b: Array, target: Array, t: Array) -> Array:
    """ln g^2, accurate where it is small."""
    P, R = jnp.sum((a + b) ** 2), jnp.sum((a - b) ** 2)
    k = jnp.sqrt(4 * target**2 + P * R)
    unit = jnp.where(k > 0, k, 1.0)
    larger = 1 + 2 * jnp.abs(target) / unit
    smaller = jnp.where(k > 0, P * R / unit**2 / larger, 1.0)
    up, down = jnp.where(target > 0, larger, smaller), jnp.where(target > 0, smaller, larger)
    phi = jnp.where(k > 0, -jnp.expm1(-k * t) / unit, t)
    log = lambda x: jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), -jnp.inf)
    above = jnp.logaddexp(log(up + R * phi), log(down) - k * t)
    below = jnp.logaddexp(log(down + P * phi), log(up) - k * t)
    change = 4 * phi * (target - a @ b) * jnp.exp(-below)
    small = jnp.abs(change) < DIRECT
    ratio = jnp.where(small, jnp.log1p(jnp.where(small, change, 0.0)), above - below)
    return jnp.clip(ratio, -FAR, FAR)


def batched(Q0: Array, target: Array, ts: Array) -> Array:
    """`rescaled` at many times (time, 2, r)."""
    return jax.vmap(lambda t: rescaled(Q0, target, t))(ts)
