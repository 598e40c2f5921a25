"""Dormand and Prince's pair of order 8(5, 3), for tight tolerances; the tableau is that of `scipy.integrate.DOP853`."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from .._types import Array
from ..network import Network
from .algebra import combine, layer_norms, norm, plus, relative_norm

STAGES = 12


class Dopri8(NamedTuple):
    """A step of order 8 whose error is estimated by the embedded orders 5 and 3."""

    name: str = "dopri8"
    order: int = 8
    """The error estimate behaves like h^order."""
    safety: float = 0.9
    calibration: float = 0.4
    """Tolerance per step that gives a trajectory error of about rtol, relative to rtol."""

    def begin(self, field: Callable, network: Network, slope: Network) -> tuple[tuple[()], Array]:
        """What the method remembers between steps (nothing), and evaluations."""
        return (), jnp.zeros((), dtype=int)

    def longest(self, memory: tuple[()]) -> Array:
        """Step beyond which it is unstable; this method finds out by its error estimate."""
        return jnp.asarray(jnp.inf)

    def step(
        self, field: Callable, network: Network, slope: Network, h: Array, memory: tuple[()], rtol: Array, atol: Array
    ):
        """The network after h, its slope, the error in units of the tolerance, evaluations."""
        from scipy.integrate import DOP853  # a quarter of a second that other methods need not wait

        slopes = [slope]
        for row in DOP853.A[1:STAGES]:
            slopes.append(field(plus(network, h, combine(map(float, row), slopes))))
        after = plus(network, h, combine(map(float, DOP853.B), slopes))
        slopes.append(field(after))
        sizes = [atol + rtol * size for size in layer_norms(network)]
        fifth, third = (relative_norm(combine(map(float, E), slopes), sizes) for E in (DOP853.E5, DOP853.E3))
        both = jnp.sqrt(fifth**2 + 0.01 * third**2)
        error = h * fifth**2 / jnp.where(both > 0, both, 1.0)
        return after, slopes[-1], jnp.where(jnp.isfinite(norm(slopes[-1])), error, jnp.inf), jnp.asarray(STAGES)

    def refresh(
        self,
        field: Callable,
        network: Network,
        slope: Network,
        memory: tuple[()],
        accepted: Array,
        h: Array,
        spent: Array,
    ):
        """Nothing to learn from a step."""
        return memory, jnp.zeros((), dtype=int)
