"""A linearly implicit method of order 4 for stiff stretches: its step is bounded by accuracy alone.

Every stage solves (I - gamma h J) u = right-hand side with J minus the Hessian at the start of the step. The matrix is
symmetric and, wherever the flow contracts, at least the identity, so that conjugate gradients apply without a
factorisation, and the residual bounds the error. The stiff part of J is inverted beforehand (`preconditioner`), so
that a few products suffice where a stabilised explicit method would need thousands of stages. Where there are few
weights the matrix is factorised instead (`dense`).

The method is RODAS of Hairer and Wanner (1996), Solving Ordinary Differential Equations II, section IV.7, table of code
RODAS: six stages, order 4 with an embedded order 3, L-stable, stiffly accurate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._types import Array
from ..network import Network
from .algebra import combine, layer_norms, norm, plus, relative_norm
from .dense import Solver, dense_solver, pays
from .preconditioner import gauss_newton_inverse

GAMMA = 0.25
# Stage arguments y + sum_j ARGUMENTS_ij u_j and right-hand sides gamma (h f + sum_j SIDES_ij u_j)
ARGUMENTS = [
    [0, 0, 0, 0, 0, 0],
    [1.544, 0, 0, 0, 0, 0],
    [0.9466785280815826, 0.2557011698983284, 0, 0, 0, 0],
    [3.314825187068521, 2.896124015972201, 0.9986419139977817, 0, 0, 0],
    [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 0, 0],
    [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1, 0],
]
SIDES = [
    [0, 0, 0, 0, 0, 0],
    [-5.6688, 0, 0, 0, 0, 0],
    [-2.430093356833875, -0.2063599157091915, 0, 0, 0, 0],
    [-0.1073529058151375, -9.594562251023355, -20.47028614809616, 0, 0, 0],
    [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160, 0, 0],
    [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054, 0],
]
STAGES = 6
SOLVED = 0.01  # residual of a linear solve in units of the tolerance
MOST = 3000  # products of one step; a step whose solves need more is too long


class Rosenbrock(NamedTuple):
    """RODAS with conjugate gradients on Hessian products, or, with few weights, the whole matrix."""

    name: str = "rodas4"
    order: int = 4
    """The error estimate behaves like h^order."""
    safety: float = 0.8
    calibration: float = 0.25
    """Tolerance per step that gives a trajectory error of about rtol, relative to rtol."""
    whole: bool = True
    """Whether the matrix is formed where that pays over a whole run."""

    def begin(self, field: Callable, network: Network, slope: Network) -> tuple[Any, Array]:
        """What the method remembers between steps (nothing), and evaluations."""
        return (), jnp.zeros((), dtype=int)

    def longest(self, memory: Any) -> Array:
        """Step beyond which it is unstable: there is none."""
        return jnp.asarray(jnp.inf)

    def step(
        self, field: Callable, network: Network, slope: Network, h: Array, memory: Any, rtol: Array, atol: Array
    ) -> tuple[Network, Network, Array, Array]:
        """The network after h, its slope, the error in units of the tolerance, evaluations and products."""
        sizes = [atol + rtol * size for size in layer_norms(network)]
        if self.whole and pays(field, network):
            solve, prepared, definite = dense_solver(field, network, GAMMA * h)
        else:
            solve, prepared, definite = _conjugate_gradients(field, network, GAMMA * h, sizes)

        def stage(carry):
            i, stages, _, _, spent = carry
            point = plus(network, 1.0, combine(jnp.asarray(ARGUMENTS)[i], stages))
            rate, earlier = field(point), combine(jnp.asarray(SIDES)[i], stages)
            side = jax.tree.map(lambda k, e: GAMMA * (h * k + e), rate, earlier)
            u, more = solve(side)
            keep = lambda j, old: jax.tree.map(lambda new, old: jnp.where(i == j, new, old), u, old)
            return i + 1, tuple(keep(j, old) for j, old in enumerate(stages)), point, u, spent + more

        # a loop over stages, so that the solver and the field are compiled once
        zero = jax.tree.map(jnp.zeros_like, network)
        start = (jnp.zeros((), dtype=int), (zero,) * STAGES, zero, zero, prepared)
        _, _, point, u, spent = jax.lax.while_loop(lambda carry: carry[0] < STAGES, stage, start)
        after = plus(point, 1.0, u)
        after_slope = field(after)
        error = relative_norm(u, sizes)
        finite = jnp.isfinite(norm(after_slope)) & (spent < MOST) & definite
        return after, after_slope, jnp.where(finite, error, jnp.inf), spent + STAGES + 1

    def refresh(
        self, field: Callable, network: Network, slope: Network, memory: Any, accepted: Array, h: Array, spent: Array
    ) -> tuple[Any, Array]:
        """Nothing to learn from a step."""
        return memory, jnp.zeros((), dtype=int)


def _conjugate_gradients(field: Callable, network: Network, tau: Array, sizes: list[Array]) -> Solver:
    """Solutions of (I - tau J) u = side to a residual of `SOLVED` tolerances."""
    _, jacobian = jax.linearize(field, network)
    product = lambda V: jax.tree.map(lambda a, b: a - tau * b, V, jacobian(V))
    precondition = gauss_newton_inverse(field, network, tau)
    inner = lambda a, b: sum(jnp.sum(x * y) for x, y in zip(a.weights, b.weights, strict=True))

    def unsolved(carry):
        i, _, residual, _, _ = carry
        return (i < MOST // 2) & (relative_norm(residual, sizes) > SOLVED)

    def iterate(carry):
        i, u, residual, direction, square = carry  # square: of the residual, in the preconditioner's norm
        image = product(direction)
        along = inner(direction, image)
        step = square / jnp.where(along > 0, along, jnp.inf)  # a direction that grows faster than 1 / (gamma h) ends it
        u, residual = plus(u, step, direction), plus(residual, -step, image)
        nearer = precondition(residual)
        new = inner(residual, nearer)
        direction = plus(nearer, new / square, direction)
        return jnp.where(along > 0, i + 1, MOST), u, residual, direction, new

    def solve(side: Network) -> tuple[Network, Array]:
        nearer = precondition(side)
        start = (jnp.zeros((), dtype=int), jax.tree.map(jnp.zeros_like, side), side, nearer, inner(side, nearer))
        spent, u, *_ = jax.lax.while_loop(unsolved, iterate, start)
        return u, spent

    return Solver(solve, jnp.zeros((), dtype=int), jnp.asarray(True))
