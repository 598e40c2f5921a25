"""Steps of descent in bounded segments, and how a gradient becomes a step."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array
from ..network import Network
from ..running.compiling import as_suits, in_one_kernel, jitted
from ..running.fields import velocity
from .noise import Draws

LARGEST = 1e75  # size of the end-to-end matrix beyond which squares of gradients leave float64


@dataclass(frozen=True)
class Rule:
    """How a gradient becomes a step; compiled in."""

    schedule: Callable | None = None
    """Number of steps taken -> learning rate; None: it is constant."""
    momentum: float = 0.0
    nesterov: bool = False
    optimizer: Any = None
    """An optax transformation that takes the place of all this."""

    @property
    def name(self) -> str:
        """What `Statistics` calls it."""
        if self.optimizer is not None:
            return "optax"
        kind = "Nesterov momentum" if self.nesterov else "momentum"
        return f"gradient descent, {kind} {self.momentum:g}" if self.momentum else "gradient descent"

    def begin(self, network: Network) -> Any:
        """What is remembered before the first step."""
        transformation = self._transformation()
        return () if transformation is None else transformation.init(network)

    def direction(self, slope: Network, memory: Any, network: Network) -> tuple[Network, Any]:
        """What is added to the weights, times the learning rate, and what is remembered; `slope` is minus the gradient.

        An optimizer's own learning rate is in its direction already.
        """
        transformation = self._transformation()
        if transformation is None:
            return slope, memory
        if self.optimizer is None:
            return transformation.update(slope, memory)
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies by integers, whatever the user has set
            return transformation.update(jax.tree.map(jnp.negative, slope), memory, network)

    def _transformation(self) -> Any:
        if self.optimizer is not None or not self.momentum:
            return self.optimizer
        import optax  # takes a second

        return optax.trace(self.momentum, self.nesterov)


class Problem(eqx.Module):
    """What is descended, and the learning rate."""

    objective: Any
    mask: Network | None
    weight_decay: Array | None
    rate: Array
    """The constant learning rate; 1 where schedule or optimizer have their own."""
    draws: Draws | None

    def slope(self, network: Network, k: Array, order: Array | None) -> Network:
        """Minus the gradient that step k goes by."""
        objective = self.objective
        if self.draws is not None:
            objective = self.draws.objective(objective, k, order)
        return velocity(objective, network, self.mask, self.weight_decay)


class Position(NamedTuple):
    """Where a descent stands; the carry of the loop."""

    k: Array
    """Steps taken."""
    t: Array
    network: Network
    memory: Any
    """What the rule remembers."""
    order: Array | None
    """Order of samples in this epoch."""
    alive: Array
    """Whether the next network is within float64 too."""


def begin(rule: Rule, problem: Problem, network: Network) -> Position:
    """The position before the first step."""
    order = None if problem.draws is None else problem.draws.first_order()
    k, t = jnp.zeros((), dtype=int), jnp.zeros(())
    return Position(k, t, network, rule.begin(network), order, jnp.asarray(True))


def step(rule: Rule, problem: Problem, at: Position) -> Position:
    """One step, all layers at once; where it leads out of float64 the position stays and is not alive."""
    order = None if problem.draws is None else problem.draws.order(at.k, at.order)
    slope = problem.slope(at.network, at.k, order)
    direction, memory = rule.direction(slope, at.memory, at.network)
    if problem.mask is not None:
        direction = jax.tree.map(lambda m, D: jnp.where(m, D, 0.0), problem.mask, direction)
    if rule.schedule is None:
        rate = problem.rate
        t = rate * (at.k + 1).astype(rate.dtype)
    else:
        rate = jnp.asarray(rule.schedule(at.k), dtype=at.t.dtype)
        t = at.t + rate
    if rule.optimizer is not None:
        rate = jnp.ones_like(rate)
    network = jax.tree.map(lambda W, D: W + rate * D, at.network, direction)
    size = sum(jnp.sum(jnp.abs(W)) for W in network.weights)
    alive = at.alive & (size <= LARGEST ** (1 / network.depth))  # false for NaN
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)
    return Position(keep(at.k + 1, at.k), keep(t, at.t), keep(network, at.network), memory, order, alive)


def advance(rule: Rule, problem: Problem, at: Position, targets: Any, budget: Any) -> tuple:
    """One segment of at most `budget` steps, compiled once per rule and shape in the form that suits the network.

    The new position, the number of outputs, their times (buffer,) and networks (buffer, ...): those after `targets`
    steps, increasing and beyond the position.
    """
    state = rule, problem, at, targets, budget
    if problem.draws is not None:  # random numbers do not go into one kernel
        return _plain(*state)
    return as_suits(problem.objective, at.network, lambda: _kernel(*state), lambda: _plain(*state))


def _advance(rule: Rule, problem: Problem, at: Position, targets: Array, budget: Array) -> tuple:
    count, stop = jnp.zeros((), dtype=int), at.k + budget
    times = jnp.zeros(targets.shape, dtype=at.t.dtype)
    networks = jax.tree.map(lambda W: jnp.zeros((*targets.shape, *W.shape), dtype=W.dtype), at.network)

    def unfinished(carry):
        at, count, _, _ = carry
        return at.alive & (count < targets.size) & (at.k < stop)

    def to_next_output(carry):
        at, count, times, networks = carry
        until = jnp.minimum(targets[count], stop)
        at = jax.lax.while_loop(lambda at: at.alive & (at.k < until), lambda at: step(rule, problem, at), at)
        times = times.at[count].set(at.t)
        networks = jax.tree.map(lambda all, W: all.at[count].set(W), networks, at.network)
        return at, count + (at.k == targets[count]).astype(int), times, networks

    return jax.lax.while_loop(unfinished, to_next_output, (at, count, times, networks))


def as_jax_code(rule: Rule, problem: Problem, network: Network, outputs: np.ndarray) -> tuple[Array, Network]:
    """Times and networks after these numbers of steps, in one piece that JAX can differentiate."""
    gaps = np.diff(outputs, prepend=0)
    at, parts = begin(rule, problem, network), []
    one_step = lambda _, at: step(rule, problem, at)
    for gap, several in groupby(gaps.tolist()):

        def to_output(at: Position, _: None, gap: int = gap) -> tuple[Position, tuple[Array, Network]]:
            at = jax.lax.fori_loop(0, gap, one_step, at)
            return at, (at.t, at.network)

        at, found = jax.lax.scan(to_output, at, None, length=len(list(several)))
        parts.append(found)
    return jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *parts)


_plain = jitted(_advance)
_kernel = jitted(lambda *state: in_one_kernel(_advance, *state))
