"""An adaptive explicit Runge-Kutta pair of order 8 on networks, run in bounded segments.

The tableau is Dormand and Prince's 8(5,3) as scipy publishes it (`scipy.integrate.DOP853`). A segment ends when its
buffer of outputs is full, its budget of steps is spent, or a stop condition holds; the host then looks, reports, and
calls again. Everything that distinguishes one problem from another of the same shape is an argument, so that one
compilation serves them all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.integrate import DOP853

from ..network import Network
from .fields import velocity

STAGES = DOP853.n_stages
SAFETY = 0.9
SHRINK, GROW = 0.2, 5.0
EXPONENT = 1 / 8  # the combined error estimate behaves like h^8
MEMORY = 0.4  # share of the previous error in the step-size control; damps oscillation at the stability limit
BUFFER = 64  # outputs held on the device before the host fetches them

RUNNING, REACHED, GOAL, STATIONARY, STALLED = range(5)


class Progress(NamedTuple):
    """Where an integration stands; the carry of the loop."""

    t: Array
    network: Network
    slope: Network
    """velocity(network), kept from the last accepted step."""
    h: Array
    """Step to try next."""
    error: Array
    """Error of the last accepted step in units of the tolerance."""
    recorded: Array
    """End-to-end matrix at the last output."""
    recorded_t: Array
    speed: Array
    """How fast the end-to-end matrix moved in the last accepted step."""
    steps: Array
    rejected: Array
    status: Array


class Limits(NamedTuple):
    """When to record and when to stop; arrays, so that changing them compiles nothing."""

    targets: Array
    """Times to step onto exactly, shape (`BUFFER`,), padded with infinity."""
    longest_t: Array
    longest_W: Array
    """Outputs are no further apart than this, in t and in the end-to-end matrix; infinite where `targets` say when."""
    goal: Array
    """Excess loss at which to stop; minus infinity where it does not count."""
    noise: Array
    """Rounding error of the gradient with respect to the end-to-end matrix."""
    rtol: Array
    atol: Array


class Problem(eqx.Module):
    """What is integrated: the field, and the measure that says when the goal is reached."""

    objective: Any
    mask: Network | None
    weight_decay: Array | None

    def field(self, network: Network) -> Network:
        return velocity(self.objective, network, self.mask, self.weight_decay)

    def excess(self, W: Array) -> Array:
        """Loss above the smallest loss of any matrix, or the plain loss where that is unknown."""
        return getattr(self.objective, "excess", self.objective)(W)


def begin(problem: Problem, network: Network, t: float) -> Progress:
    """The state before the first step; the first step size is a small share of the time in which weights change."""
    slope = problem.field(network)
    size, speed = tree_norm(network), tree_norm(slope)
    h = jnp.where(speed > 0, 1e-3 * jnp.maximum(size, 1e-300) / jnp.where(speed > 0, speed, 1.0), 1.0)
    zero = jnp.zeros((), dtype=int)
    start = jnp.asarray(t, dtype=h.dtype)
    return Progress(start, network, slope, h, jnp.ones_like(h), network.end_to_end, start, 0 * h, zero, zero, zero)


def advance(
    problem: Problem, progress: Progress, limits: Limits, budget: Array
) -> tuple[Progress, Array, Array, Network]:
    """One segment: the new state, the number of outputs, their times (`BUFFER`,) and networks (`BUFFER`, ...)."""
    count = jnp.zeros((), dtype=int)
    times = jnp.zeros((BUFFER,), dtype=progress.t.dtype)
    networks = jax.tree.map(lambda W: jnp.zeros((BUFFER, *W.shape), dtype=W.dtype), progress.network)
    first = progress.steps + progress.rejected

    def unfinished(carry):
        progress, count, _, _ = carry
        return (progress.status == RUNNING) & (count < BUFFER) & (progress.steps + progress.rejected - first < budget)

    def body(carry):
        progress, count, times, networks = carry
        progress, accepted, on_target = _try_step(problem, progress, limits, count)
        W = progress.network.end_to_end
        far_t = progress.t - progress.recorded_t >= limits.longest_t / 2
        far_W = jnp.linalg.norm(W - progress.recorded) >= limits.longest_W / 2
        record = accepted & (on_target | (progress.status != RUNNING) | far_t | far_W)
        times = times.at[count].set(progress.t)
        networks = jax.tree.map(lambda all, W: all.at[count].set(W), networks, progress.network)
        progress = progress._replace(
            recorded=jnp.where(record, W, progress.recorded),
            recorded_t=jnp.where(record, progress.t, progress.recorded_t),
        )
        return progress, count + record.astype(int), times, networks

    return jax.lax.while_loop(unfinished, body, (progress, count, times, networks))


def _try_step(problem: Problem, progress: Progress, limits: Limits, count: Array) -> tuple[Progress, Array, Array]:
    """One step: accepted or not, and whether it landed on the next target."""
    chosen = jnp.isfinite(limits.longest_t)  # outputs are chosen here, not given
    target = limits.targets[jnp.where(chosen, 0, count)]
    h = jnp.minimum(progress.h, jnp.minimum(limits.longest_t, limits.longest_W / jnp.maximum(progress.speed, 1e-300)))
    on_target = progress.t + 1.01 * h >= target
    h = jnp.where(on_target, target - progress.t, h)
    network, slope, error = _step(problem.field, progress.network, progress.slope, h, limits.rtol, limits.atol)
    error = jnp.where(jnp.isfinite(error), error, 1e8)  # overflow in a trial step is a step too long
    accepted = error <= 1
    factor = SAFETY * jnp.maximum(error, 1e-10) ** (-(1 - MEMORY / 2) * EXPONENT)
    factor = factor * jnp.maximum(progress.error, 1e-4) ** (MEMORY / 2 * EXPONENT)
    factor = jnp.clip(factor, SHRINK, jnp.where(accepted, GROW, 1.0))
    h_next = jnp.where(accepted, jnp.maximum(h * factor, jnp.where(h < progress.h, progress.h, 0.0)), h * factor)
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)
    t = jnp.where(accepted, jnp.where(on_target, target, progress.t + h), progress.t)
    speed = jnp.linalg.norm(network.end_to_end - progress.network.end_to_end) / h
    network, slope = keep(network, progress.network), keep(slope, progress.slope)
    last_target = jnp.max(jnp.where(jnp.isfinite(limits.targets), limits.targets, -jnp.inf))
    status = jnp.where(h_next < 1e-14 * jnp.maximum(t, 1e-300), STALLED, RUNNING)
    still = tree_norm(slope) <= limits.noise * _sensitivity(network)
    status = jnp.where(still & chosen, STATIONARY, status)
    status = jnp.where(problem.excess(network.end_to_end) <= limits.goal, GOAL, status)
    status = jnp.where(jnp.isfinite(last_target) & (t >= last_target), REACHED, status)
    progress = progress._replace(
        t=t,
        network=network,
        slope=slope,
        h=h_next,
        error=jnp.where(accepted, error, progress.error),
        speed=jnp.where(accepted, speed, progress.speed),
        steps=progress.steps + accepted.astype(int),
        rejected=progress.rejected + (~accepted).astype(int),
        status=status,
    )
    return progress, accepted, on_target


def _sensitivity(network: Network) -> Array:
    """Sum over layers of the product of the other layers' norms: by how much the field can exceed the gradient in W."""
    norms = jnp.stack([jnp.linalg.norm(W) for W in network.weights])
    return jnp.sum(jnp.prod(jnp.where(jnp.eye(norms.size, dtype=bool), 1.0, norms[None, :]), axis=1))


def _step(field: Callable, network: Network, slope: Network, h: Array, rtol: Array, atol: Array):
    """The network after h, its slope, and the error in units of the tolerance."""
    slopes = [slope]
    for row in DOP853.A[1:STAGES]:
        slopes.append(field(_plus(network, h, _combine(row, slopes))))
    after = _plus(network, h, _combine(DOP853.B, slopes))
    slopes.append(field(after))
    sizes = [
        atol + rtol * jnp.maximum(jnp.linalg.norm(a), jnp.linalg.norm(b))
        for a, b in zip(network.weights, after.weights, strict=True)
    ]
    fifth, third = (_relative_norm(_combine(E, slopes), sizes) for E in (DOP853.E5, DOP853.E3))
    both = jnp.sqrt(fifth**2 + 0.01 * third**2)
    return after, slopes[-1], h * fifth**2 / jnp.where(both > 0, both, 1.0)


def _combine(coefficients: np.ndarray, slopes: list[Network]) -> Network:
    terms = [(float(c), slope) for c, slope in zip(coefficients, slopes, strict=False) if c != 0]
    return jax.tree.map(
        lambda *parts: sum(c * part for (c, _), part in zip(terms, parts, strict=True)), *[k for _, k in terms]
    )


def _plus(network: Network, h: Array, direction: Network) -> Network:
    return jax.tree.map(lambda W, V: W + h * V, network, direction)


def _relative_norm(error: Network, sizes: list[Array]) -> Array:
    """Root mean square over layers of the error's Frobenius norm in units of the layer's tolerance."""
    return jnp.sqrt(sum(jnp.sum((E / size) ** 2) for E, size in zip(error.weights, sizes, strict=True)) / len(sizes))


def tree_norm(network: Network) -> Array:
    """Frobenius norm of all weights together."""
    return jnp.sqrt(sum(jnp.sum(W**2) for W in network.weights))


# Eigen's threads cost more than they bring at the widths of these networks: 2.3 times faster without
JIT_OPTIONS: dict[str, Any] = {"compiler_options": {"xla_cpu_multi_thread_eigen": False}}
compiled_advance = eqx.filter_jit(advance, **JIT_OPTIONS)
"""`advance`, compiled once per shape."""
