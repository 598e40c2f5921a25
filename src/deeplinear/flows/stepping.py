"""Adaptive integration of a flow in bounded segments, whatever the method.

A segment ends when its buffer of outputs is full, its budget of steps is spent, or a stop condition holds; the host
then looks, reports, and calls again. Where segments end changes nothing: every step and every output follows from the
state alone. Everything that distinguishes one problem from another of the same shape is an argument, so that one
compilation serves them all.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from .._types import Array
from ..network import Network
from ..running.fields import sensitivity
from .algebra import norm
from .problem import Problem
from .projection import imbalances, projected

SHRINK, GROW = 0.1, 5.0  # bounds of the change of a step size
NEGLIGIBLE = 1e-4  # error in units of the tolerance below which it tells no trend
TINY = 1e-100  # a single layer below this size counts as zero: it does not grow out of itself
SHORTEST = 1e-300  # step below which a run has stalled, whatever the time
BUFFER, BUFFER_BYTES = 128, 2**24  # outputs held on the device before the host fetches them, and what they may take
TIME_SPACING = 1 / 100  # distance of chosen outputs, as a share of the time so far; then thinned to `keep`
MATRIX_SPACING = 1 / 250  # and as a share of the size of W

RUNNING, REACHED, GOAL, STATIONARY, STALLED = range(5)


@runtime_checkable
class Method(Protocol):
    """What a method of integration offers; `dopri8.Dopri8` and `stabilised.Stabilised` are two."""

    @property
    def name(self) -> str: ...
    @property
    def order(self) -> int: ...
    @property
    def safety(self) -> float: ...
    @property
    def calibration(self) -> float: ...
    def begin(self, field: Callable, network: Network, slope: Network) -> tuple[Any, Array]: ...
    def longest(self, memory: Any) -> Array: ...
    def step(
        self, field: Callable, network: Network, slope: Network, h: Array, memory: Any, rtol: Array, atol: Array
    ) -> tuple[Network, Network, Array, Array]: ...
    def refresh(
        self, field: Callable, network: Network, slope: Network, memory: Any, accepted: Array, h: Array, spent: Array
    ) -> tuple[Any, Array]: ...


class Progress(NamedTuple):
    """Where an integration stands; the carry of the loop."""

    t: Array
    network: Network
    slope: Network
    """velocity(network), kept from the last accepted step."""
    h: Array
    """Step to try next."""
    memory: Any
    """What the method remembers."""
    grows: Array
    """Whether the next step may be longer: not right after a rejected one."""
    recorded: Array
    """End-to-end matrix at the last output."""
    recorded_t: Array
    speed: Array
    """How fast the end-to-end matrix moved in the last accepted step."""
    steps: Array
    rejected: Array
    evaluations: Array
    status: Array
    last: tuple[Array, Array]
    """Length and error of the last accepted step."""
    conserved: tuple[Array, ...] = ()
    """Imbalances of the start, where outputs are projected back onto them."""


class Limits(NamedTuple):
    """When to record and when to stop; arrays, so that changing them compiles nothing."""

    targets: Array
    """Times to step onto exactly, shape (buffer,), padded with infinity."""
    time_unit: Array
    matrix_size: Array
    """Smallest time and matrix that distances of chosen outputs are shares of; infinite where `targets` say when."""
    goal: Array
    """Excess loss at which to stop; minus infinity where it does not count."""
    noise: Array
    """Rounding error of the gradient with respect to the end-to-end matrix."""
    rtol: Array
    atol: Array
    spread: Array
    """How many times farther apart chosen outputs may be than `TIME_SPACING` and `MATRIX_SPACING` say."""


def per_step(method: Method, tolerance: Any, network: Network) -> Any:
    """The tolerance of every layer in a step that gives a relative error of `tolerance` along the whole path.

    A relative error of every one of h layers makes one h times as large in their product.
    """
    return method.calibration * tolerance / network.depth


def buffer_of(shapes: Iterable[tuple[int, ...]]) -> int:
    """Outputs that a segment holds of a network with layers of these shapes."""
    return max(1, min(BUFFER, BUFFER_BYTES // (8 * sum(map(math.prod, shapes)))))


def begin(method: Method, problem: Problem, network: Network, rtol: Any) -> Progress:
    """The state before the first step, whose size follows from the first two derivatives.

    Source: Hairer, Norsett and Wanner (1993), section II.4, on the norm of all weights.
    """
    slope = problem(network)
    memory, evaluations = method.begin(problem, network, slope)
    size, speed = norm(network), jnp.maximum(norm(slope), 1e-300)
    size = jnp.where(size < TINY, 0.0, size) if network.depth == 1 else size
    probe = 0.01 * jnp.where(size > 0, size, 1.0) / speed
    ahead = problem(jax.tree.map(lambda W, V: W + probe * V, network, slope))
    bend = norm(jax.tree.map(jnp.subtract, ahead, slope)) / probe
    h = jnp.minimum(100 * probe, rtol**0.25 * size / jnp.maximum(speed, jnp.sqrt(size * bend)))
    h = jnp.where(size > 0, h, probe)
    zero, start = jnp.zeros((), dtype=int), jnp.zeros_like(h)
    W = network.end_to_end
    counts = zero, zero, evaluations + 2, zero
    conserved = imbalances(network) if problem.project else ()
    state = start, network, slope, h, memory, jnp.asarray(True), W, start, 0 * h, *counts
    return Progress(*state, (h, jnp.ones_like(h)), conserved)


def advance(
    method: Method, problem: Problem, progress: Progress, limits: Limits, budget: Array
) -> tuple[Progress, Array, Array, Network]:
    """One segment: the new state, the number of outputs, their times (buffer,) and networks (buffer, ...)."""
    count = jnp.zeros((), dtype=int)
    buffer = limits.targets.shape[0]
    times = jnp.zeros((buffer,), dtype=progress.t.dtype)
    networks = jax.tree.map(lambda W: jnp.zeros((buffer, *W.shape), dtype=W.dtype), progress.network)
    first, chosen = progress.steps + progress.rejected, _are_chosen(limits)

    def unfinished(carry):
        progress, count, _, _ = carry
        return (progress.status == RUNNING) & (count < buffer) & (progress.steps + progress.rejected - first < budget)

    def body(carry):
        progress, count, times, networks = carry
        apart = _spacing(progress, limits)
        before, (progress, accepted, on_target) = progress, _try_step(method, problem, progress, limits, apart, count)
        look = lambda: _look(problem, before, progress, limits, apart, accepted)
        progress, far = jax.lax.cond(chosen, look, lambda: (progress, jnp.asarray(False)))
        record = accepted & (on_target | (progress.status != RUNNING) | far)
        if problem.project:
            progress = _on_imbalances(problem, progress, record)
        times = times.at[count].set(progress.t)
        networks = jax.tree.map(lambda all, W: all.at[count].set(W), networks, progress.network)
        return progress, count + record.astype(int), times, networks

    return jax.lax.while_loop(unfinished, body, (progress, count, times, networks))


def _spacing(progress: Progress, limits: Limits) -> tuple[Array, Array]:
    """How far apart outputs may be in t and in the end-to-end matrix."""
    size = jnp.fmax(limits.matrix_size, jnp.linalg.norm(progress.recorded))
    longest_t = TIME_SPACING * limits.spread * jnp.maximum(progress.recorded_t, limits.time_unit)
    return longest_t, MATRIX_SPACING * limits.spread * jnp.maximum(size, 1e-300)


def _try_step(
    method: Method, problem: Problem, progress: Progress, limits: Limits, apart: tuple[Array, Array], count: Array
):
    """One step: the new state, whether it was accepted, and whether it landed on the next target."""
    target = limits.targets[jnp.where(_are_chosen(limits), 0, count)]
    h, on_target = _length(method, progress, apart, target)
    network, slope, error, spent = method.step(
        problem, progress.network, progress.slope, h, progress.memory, limits.rtol, limits.atol
    )
    accepted = error <= 1  # false for NaN: overflow in a trial step is a step too long
    h_next, last = _next_length(method, progress, h, error, accepted)
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)
    t = jnp.where(accepted, jnp.where(on_target, target, progress.t + h), progress.t)
    network, slope = keep(network, progress.network), keep(slope, progress.slope)
    memory, learned = method.refresh(problem, network, slope, progress.memory, accepted, h, spent)
    progress = progress._replace(
        t=t,
        network=network,
        slope=slope,
        h=h_next,
        memory=memory,
        grows=accepted,
        last=last,
        steps=progress.steps + accepted.astype(int),
        rejected=progress.rejected + (~accepted).astype(int),
        evaluations=progress.evaluations + spent + learned,
        status=_status(t, h_next, limits),
    )
    return progress, accepted, on_target


def _next_length(
    method: Method, progress: Progress, h: Array, error: Array, accepted: Array
) -> tuple[Array, tuple[Array, Array]]:
    """The step to try after one of length h, and what the next choice has to know of this one.

    Error is taken to behave like h^order; where it has grown from step to step, it is expected to go on growing.

    Source: Gustafsson (1994), ACM Trans. Math. Softw. 20, 496-517; Hairer and Wanner (1996), section IV.8, eq. (8.25).
    """
    error = jnp.clip(jnp.nan_to_num(error, nan=jnp.inf), 1e-12, 1e12)
    factor = method.safety * error ** (-1 / method.order)
    last_h, last_error = progress.last
    trend = (h / last_h) * (last_error / error) ** (1 / method.order)
    factor = jnp.where(accepted & progress.grows, factor * jnp.minimum(trend, 1.0), factor)
    # a step that was cut to land on an output and shows no error says little about the next
    blind = accepted & (h < progress.h) & (factor >= GROW)
    factor = jnp.clip(factor, SHRINK, jnp.where(accepted & progress.grows, GROW, 1.0))
    keep = lambda new, old: jnp.where(accepted, new, old)
    last = keep(h, last_h), keep(jnp.maximum(error, NEGLIGIBLE), last_error)
    return jnp.where(blind, jnp.maximum(h * factor, progress.h), h * factor), last


def _on_imbalances(problem: Problem, progress: Progress, record: Array) -> Progress:
    """The state with the imbalances of the start, where an output is due."""

    def project() -> Progress:
        network = projected(progress.network, progress.conserved)
        return progress._replace(network=network, slope=problem(network), evaluations=progress.evaluations + 1)

    return jax.lax.cond(record, project, lambda: progress)


def _length(method: Method, progress: Progress, apart: tuple[Array, Array], target: Array) -> tuple[Array, Array]:
    """The step to try, within stability and the spacing of outputs, and whether it lands on the target."""
    by_path = jnp.minimum(apart[0], apart[1] / jnp.maximum(progress.speed, 1e-300))
    h = jnp.minimum(jnp.minimum(progress.h, method.longest(progress.memory)), by_path)
    left = target - progress.t
    on_target = 1.01 * h >= left
    # two equal steps to the target rather than a long one and a stub
    return jnp.where(on_target, left, jnp.where(2 * h > left, left / 2, h)), on_target


def _status(t: Array, h: Array, limits: Limits) -> Array:
    """Whether time and step size allow to go on."""
    last_target = jnp.max(jnp.where(jnp.isfinite(limits.targets), limits.targets, -jnp.inf))
    # in this form NaN stalls too: the start or its slope was beyond float64
    status = jnp.where(h >= jnp.maximum(1e-14 * t, SHORTEST), RUNNING, STALLED)
    return jnp.where(jnp.isfinite(last_target) & (t >= last_target), REACHED, status)


def _are_chosen(limits: Limits) -> Array:
    """Whether outputs are chosen here, not given."""
    return jnp.isfinite(limits.time_unit)


def _look(
    problem: Problem, before: Progress, progress: Progress, limits: Limits, apart: tuple[Array, Array], accepted: Array
) -> tuple[Progress, Array]:
    """The state after a step of a run that chooses its outputs and its end, and whether an output is due."""
    W = progress.network.end_to_end
    speed = jnp.linalg.norm(W - before.network.end_to_end) / (progress.t - before.t)
    still = norm(progress.slope) <= limits.noise * sensitivity(progress.network)
    status = jnp.where(still & (progress.status != REACHED), STATIONARY, progress.status)
    at_goal = (problem.excess(W) <= limits.goal) & (progress.status != REACHED)
    status = jnp.where(at_goal, GOAL, status)
    far = (progress.t - progress.recorded_t >= apart[0] / 2) | (jnp.linalg.norm(W - progress.recorded) >= apart[1] / 2)
    record = accepted & (far | (status != RUNNING))
    return progress._replace(
        status=status,
        speed=jnp.where(accepted, speed, progress.speed),
        recorded=jnp.where(record, W, progress.recorded),
        recorded_t=jnp.where(record, progress.t, progress.recorded_t),
    ), far
