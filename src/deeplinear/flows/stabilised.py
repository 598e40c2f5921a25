"""Stabilised explicit Runge-Kutta methods of order 4: long steps where a learned network is stiff.

The Jacobian of a gradient flow is minus a Hessian: symmetric, so that its spectrum is real. A step of s stages whose
stability polynomial is of Chebyshev type is stable for h rho <= 0.35 s^2 (rho: the spectral radius), against about 3.3
per 6 evaluations of an ordinary method. On a plateau accuracy allows steps of h rho = 1e4.

Two families with the same stability polynomials share the work, step by step:

- ROCK4 (Abdulle 2002): a three-term recurrence and four finishing stages. Cheapest, but its finishing stages amplify
  rounding like s^8, so that the tolerance caps s.
- CND4 (Chebyshev stages with nonlinear defects): all stages in increments from the start of the step, whose weights are
  Chebyshev coefficients; two defects that vanish for linear fields repair the nonlinear order conditions. s + 3
  evaluations, rounding of 1e-13 up to s = 160.

The tables are made by tools/generate_rock4.py and tools/generate_cnd4.py, where the formulas are.
"""

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array
from ..network import Network
from .algebra import combine, layer_norms, norm, plus, relative_norm, scaled

ROUNDING = 5e-20  # rounding of a ROCK4 step relative to the state is this times s^8
ROUNDING_SHARE = 0.1  # of the tolerance that rounding may use
MARGIN = 1.1  # by which the power iteration's estimate is raised
COLD, WARM = 20, 3  # power iterations at the start, and at each refresh
REFRESH = 8  # accepted steps between estimates of the spectral radius
SETTLED = 0.02  # relative change below which the power iteration stops
DIFFERENCE = 1e-7  # size of the finite difference for Hessian products, relative to the weights


class Memory(NamedTuple):
    """What is known of the spectrum."""

    vector: Network
    """Approximate eigenvector of the largest eigenvalue in modulus."""
    radius: Array
    """Spectral radius, with its margin."""
    age: Array
    """Accepted steps since the last estimate."""


@cache
def table(name: str) -> dict[str, np.ndarray]:
    """Coefficients of "rock4" or "cnd4"."""
    with (
        resources.files("deeplinear.flows").joinpath(f"{name}.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as data,
    ):
        return dict(data)


class Stabilised(NamedTuple):
    """ROCK4 up to the number of stages at which its rounding reaches the tolerance, CND4 above."""

    name: str = "rock4"
    order: int = 4
    safety: float = 0.8
    calibration: float = 0.25
    """Tolerance per step that gives a trajectory error of about rtol, relative to rtol: a start's plateau amplifies."""

    def begin(self, field: Callable, network: Network, slope: Network) -> tuple[Memory, Array]:
        """A first estimate of the spectral radius, and evaluations."""
        vector = jax.tree.map(_noise, network)
        vector, radius, evaluations = _power(field, network, slope, vector, COLD)
        return Memory(vector, MARGIN * radius, jnp.zeros((), dtype=int)), evaluations

    def longest(self, memory: Memory) -> Array:
        """Step that the largest member still takes stably."""
        return table("rock4")["interval"][-1] / jnp.maximum(memory.radius, 1e-300)

    def step(
        self, field: Callable, network: Network, slope: Network, h: Array, memory: Memory, rtol: Array, atol: Array
    ):
        """The network after h, its slope, the error in units of the tolerance, evaluations."""
        rock4, cnd4 = table("rock4"), table("cnd4")
        intervals, stages = jnp.asarray(rock4["interval"]), jnp.asarray(rock4["stages"])
        member = jnp.minimum(jnp.sum(intervals < h * memory.radius), len(intervals) - 1)
        most = (ROUNDING_SHARE * rtol / ROUNDING) ** 0.125
        rounds = (stages[member].astype(h.dtype) > most) & (member > 0)
        after, after_slope, error = jax.lax.cond(
            rounds,
            lambda: _cnd4(field, network, slope, h, jnp.maximum(member - 1, 0), cnd4),
            lambda: _rock4(field, network, slope, h, member, rock4),
        )
        sizes = [atol + rtol * size for size in layer_norms(network)]
        size = relative_norm(error, sizes)
        finite = jnp.isfinite(norm(after_slope)) & jnp.isfinite(size)
        return after, after_slope, jnp.where(finite, size, jnp.inf), stages[member] + 3 * rounds.astype(int)

    def refresh(
        self, field: Callable, network: Network, slope: Network, memory: Memory, accepted: Array, h: Array, spent: Array
    ):
        """A new estimate of the spectral radius every `REFRESH` accepted steps and after every rejected one."""
        due = ~accepted | (memory.age + 1 >= REFRESH)

        def estimate() -> tuple[Memory, Array]:
            stirred = jax.tree.map(lambda V: V + jnp.where(accepted, 0.0, 0.1) * _noise(V), memory.vector)
            vector, radius, evaluations = _power(field, network, slope, stirred, WARM)
            radius = jnp.where(accepted, MARGIN * radius, jnp.maximum(MARGIN * radius, memory.radius))
            return Memory(vector, radius, jnp.zeros((), dtype=int)), evaluations

        waiting = memory._replace(age=memory.age + 1)
        return jax.lax.cond(due, estimate, lambda: (waiting, jnp.zeros((), dtype=int)))


def _rock4(field: Callable, network: Network, slope: Network, h: Array, member: Array, data: dict[str, np.ndarray]):
    mu, ka = jnp.asarray(data["mu"]), jnp.asarray(data["ka"])
    first, last = jnp.asarray(data["offset"])[member], jnp.asarray(data["offset"])[member + 1]

    def stage(carry):
        j, before, here = carry
        rate = field(here)
        # (1 + ka) g - ka g' as g + ka (g - g'): fewer roundings
        after = jax.tree.map(lambda g, g0, k: g + ka[j] * (g - g0) + (h * mu[j]) * k, here, before, rate)
        return j + 1, here, after

    start = (first + 1, network, plus(network, h * mu[first], slope))
    _, _, g = jax.lax.while_loop(lambda carry: carry[0] < last, stage, start)
    a21, a31, a32, a41, a42, a43, *b = h * jnp.asarray(data["finish"])[member]
    k1 = field(g)
    k2 = field(plus(g, a21, k1))
    k3 = field(plus(g, 1.0, combine((a31, a32), (k1, k2))))
    k4 = field(plus(g, 1.0, combine((a41, a42, a43), (k1, k2, k3))))
    after = plus(g, 1.0, combine(b, (k1, k2, k3, k4)))
    k5 = field(after)
    return after, k5, combine(h * jnp.asarray(data["error"])[member], (k1, k2, k3, k4, k5))


def _cnd4(field: Callable, network: Network, slope: Network, h: Array, member: Array, data: dict[str, np.ndarray]):
    beta, eps = jnp.asarray(data["beta"]), jnp.asarray(data["eps"])
    first, interval = jnp.asarray(data["offset"])[member], jnp.asarray(data["interval"])[member]
    stages = jnp.asarray(data["stages"])[member]
    p, q = jnp.asarray(data["place"])[member]
    lam, b1, b2, b3, e_a = jnp.asarray(data["repair"])[member]
    b = interval / (2 * stages.astype(interval.dtype) ** 2)
    rate_from = lambda d: jax.tree.map(jnp.subtract, field(plus(network, 1.0, d)), slope)  # k_j - k_0

    def stage(carry):
        j, here, gain, total, linear, error, defect = carry
        rate = rate_from(here)
        defect = jax.lax.cond(
            j == p,
            lambda: jax.tree.map(lambda far, near: h * (far - lam * near), rate_from(scaled(lam, here)), rate),
            lambda: defect,
        )
        total, linear = plus(total, beta[first + j - 1], here), plus(linear, beta[first + j - 1], rate)
        error, repair = plus(error, eps[first + j - 1], here), jnp.where(j + 1 == q, b1, 0.0)
        follow = lambda d, k, k0, e: d + (4 * h / interval) * (k + b * k0) + repair * e
        gain = jax.tree.map(follow, gain, rate, slope, defect)
        return j + 1, plus(here, 1.0, gain), gain, total, linear, error, defect

    here, zero = scaled(2 * b / interval * h, slope), jax.tree.map(jnp.zeros_like, network)
    start = jnp.ones((), dtype=int), here, here, zero, zero, zero, zero
    *_, total, linear, error, defect = jax.lax.while_loop(lambda carry: carry[0] <= stages, stage, start)
    choose = lambda condition, new, old: jax.tree.map(lambda x, y: jnp.where(condition, x, y), new, old)
    repaired = plus(network, 1.0, combine((1.0, b2), (total, defect)))

    def finish(carry):
        i, point, middle, _ = carry
        rate = field(point)
        bend = jax.tree.map(lambda m, k, l: h * (m - k - l), rate, slope, linear)
        first = i == 0
        return i + 1, choose(first, plus(repaired, b3, bend), point), choose(first, rate, middle), rate

    _, after, middle, after_slope = jax.lax.while_loop(
        lambda carry: carry[0] < 2, finish, (jnp.zeros((), dtype=int), plus(network, 1.0, total), slope, slope)
    )
    kink = jax.tree.map(lambda new, old: (h / interval) * (new - old), after_slope, middle)
    return after, after_slope, combine((1.0, e_a, 1.0), (error, defect, kink))


def _power(field: Callable, network: Network, slope: Network, vector: Network, most: int):
    """Power iteration on Hessian products by differences of the field: vector, largest modulus, evaluations."""
    size = norm(network)
    eps = DIFFERENCE * jnp.where(size > 0, size, 1.0)

    def unsettled(carry):
        i, _, radius, change = carry
        return (i < most) & (change > SETTLED * radius)

    def iterate(carry):
        i, vector, radius, _ = carry
        length = norm(vector)
        unit = jax.tree.map(lambda V: V / jnp.maximum(length, 1e-300), vector)
        image = jax.tree.map(lambda a, b: (a - b) / eps, field(plus(network, eps, unit)), slope)
        new = norm(image)
        vanished = ~(new > 0)  # every direction is flat: keep the vector
        image = jax.tree.map(lambda a, b: jnp.where(vanished, a, b), unit, image)
        return i + 1, image, jnp.maximum(radius, jnp.where(vanished, 0.0, new)), jnp.abs(new - radius)

    start = (jnp.zeros((), dtype=int), vector, jnp.zeros(()), jnp.asarray(jnp.inf))
    i, vector, radius, _ = jax.lax.while_loop(unsettled, iterate, start)
    return vector, radius, i


def _noise(W: Array) -> Array:
    """A fixed pattern without structure, of norm 1: the fractional parts of multiples of the golden ratio."""
    pattern = (jnp.arange(1, W.size + 1, dtype=W.dtype) * 0.6180339887498949) % 1.0 - 0.5
    return (pattern / jnp.sqrt(W.size / 12)).reshape(W.shape)
