"""Changes between the stabilised explicit and the linearly implicit method, both ways, by what a unit of time costs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._types import Array
from ..network import Network
from . import stabilised
from .rosenbrock import Rosenbrock
from .stabilised import Stabilised

# at rest conjugate gradients need no product, and whoever forms the whole matrix would soon be sent away
EXPLICIT, IMPLICIT = Stabilised(), Rosenbrock(whole=False)
LONG = 0.2  # share of the limit of stability from which an explicit step counts as long (70 stages)
PATIENCE = 3  # long explicit steps in a row before the implicit method is tried
TRIAL = 4  # implicit steps before it is judged
LIMIT_COST = 165.0  # evaluations of an explicit step at the limit of stability
PRODUCT_COST = 2.0  # evaluations that a Hessian product by forward differentiation costs
IMPATIENT = 3  # by how much patience grows each time that it was not worth it
MEMORY = 0.7  # weight of the steps before, when it is judged: a single rejected step is no reason to leave
MOST_SAVED = 3.0  # that counts of a step, in its own cost


class Memory(NamedTuple):
    """The explicit method's memory, and which method has the word."""

    spectrum: stabilised.Memory
    implicit: Array
    streak: Array
    """Long explicit steps in a row, or steps since the implicit method took over."""
    patience: Array
    """Long explicit steps before the implicit method is tried."""
    spent: Array
    """What the last implicit steps cost, in evaluations ..."""
    saved: Array
    """... and what explicit ones would have cost."""


class Automatic(NamedTuple):
    """ROCK4 and CND4 while they are the cheaper ones, RODAS where the problem is stiffer than they can serve."""

    name: str = "auto"
    order: int = 4
    """The error estimate behaves like h^order."""
    safety: float = 0.8
    calibration: float = EXPLICIT.calibration
    """Tolerance per step that gives a trajectory error of about rtol, relative to rtol."""

    def begin(self, field: Callable, network: Network, slope: Network) -> tuple[Memory, Array]:
        """Starts explicitly."""
        spectrum, evaluations = EXPLICIT.begin(field, network, slope)
        zero = jnp.zeros((), dtype=int)
        none = jnp.zeros_like(spectrum.radius)
        return Memory(spectrum, jnp.asarray(False), zero, zero + PATIENCE, none, none), evaluations

    def longest(self, memory: Memory) -> Array:
        """The explicit method's limit of stability, while it has the word."""
        return jnp.where(memory.implicit, jnp.inf, EXPLICIT.longest(memory.spectrum))

    def step(
        self, field: Callable, network: Network, slope: Network, h: Array, memory: Memory, rtol: Array, atol: Array
    ) -> tuple[Network, Network, Array, Array]:
        """A step of the method that has the word."""
        return jax.lax.cond(
            memory.implicit,
            lambda: IMPLICIT.step(field, network, slope, h, (), rtol, atol),
            lambda: EXPLICIT.step(field, network, slope, h, memory.spectrum, rtol, atol),
        )

    def refresh(
        self, field: Callable, network: Network, slope: Network, memory: Memory, accepted: Array, h: Array, spent: Array
    ) -> tuple[Memory, Array]:
        """Follows the spectral radius and decides who takes the next step."""
        spectrum, evaluations = EXPLICIT.refresh(field, network, slope, memory.spectrum, accepted, h, spent)
        limit = EXPLICIT.longest(spectrum)
        long = accepted & (h > LONG * limit)
        streak = jnp.where(memory.implicit | long, memory.streak + 1, 0)
        cost = PRODUCT_COST * spent.astype(h.dtype)
        # no step saves more than a few times what it costs: what was saved long ago does not count for ever
        saved = jnp.minimum(jnp.where(accepted, LIMIT_COST * h / limit, 0.0), MOST_SAVED * cost)
        cost, saved = MEMORY * memory.spent + cost, MEMORY * memory.saved + saved
        tried = memory.implicit & (streak >= TRIAL)
        back, forth = tried & (cost > saved), ~memory.implicit & (streak >= memory.patience)
        # a method that served and has to go, because a transition came, was no mistake
        failed = back & (streak == TRIAL)
        patience = jnp.where(failed, memory.patience * IMPATIENT, memory.patience)
        new = lambda total: jnp.where(memory.implicit & ~back, total, 0.0)
        return Memory(
            spectrum,
            jnp.where(back, False, jnp.where(forth, True, memory.implicit)),
            jnp.where(back | forth, 0, streak),
            jnp.where(tried & ~back, PATIENCE, patience),
            new(cost),
            new(saved),
        ), evaluations
