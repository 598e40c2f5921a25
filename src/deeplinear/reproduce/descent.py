"""Full-batch gradient descent with a fixed learning rate, as the published simulations use it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..network import Network


@partial(jax.jit, static_argnames="steps")
def every_step(objective: Any, network: Network, rate: Any, steps: int) -> Network:
    r"""The networks after 0, 1, ..., `steps` steps of $W_l \leftarrow W_l - \eta\, \partial L / \partial W_l$.

    `rate` is eta; the weights get a leading axis (steps + 1).
    """

    def step(network: Network, _: None) -> tuple[Network, Network]:
        return _stepped(objective, network, rate), network

    last, before = lax.scan(step, network, None, length=steps)
    return jax.tree.map(lambda path, end: jnp.concatenate([path, end[None]]), before, last)


@jax.jit
def at_steps(objective: Any, network: Network, rate: Any, counts: Array) -> Array:
    """The end-to-end matrix after each of the increasing numbers of steps `counts`, (count, d_y, d_x)."""

    def until(state: tuple[Array, Network], count: Array) -> tuple[tuple[Array, Network], Array]:
        done, network = state
        step = lambda _, network: _stepped(objective, network, rate)
        network = lax.fori_loop(done, count, step, network)
        return (count, network), network.end_to_end

    return lax.scan(until, (jnp.zeros_like(counts[0]), network), counts)[1]


def _stepped(objective: Any, network: Network, rate: Any) -> Network:
    gradient = jax.grad(lambda network: objective(network.end_to_end))(network)
    return jax.tree.map(lambda W, G: W - rate * G, network, gradient)
