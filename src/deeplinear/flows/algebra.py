"""Arithmetic on networks as vectors, and the norm in which errors of a step are measured."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array
from ..network import Network


def plus(network: Network, h: Any, direction: Network) -> Network:
    """network + h direction."""
    return jax.tree.map(lambda W, V: W + h * V, network, direction)


def scaled(factor: Any, network: Network) -> Network:
    """factor network."""
    return jax.tree.map(lambda W: factor * W, network)


def combine(coefficients: Iterable[Any], slopes: Iterable[Network]) -> Network:
    """Sum of coefficient times slope; coefficients that are the Python number 0 cost nothing."""
    terms = [(c, k) for c, k in zip(coefficients, slopes, strict=False) if not (isinstance(c, float) and c == 0)]
    return jax.tree.map(
        lambda *parts: sum(c * part for (c, _), part in zip(terms, parts, strict=True)), *[k for _, k in terms]
    )


def norm(network: Network) -> Array:
    """Frobenius norm of all weights together."""
    return jnp.sqrt(sum(jnp.sum(W**2) for W in network.weights))


def layer_norms(network: Network) -> list[Array]:
    """Frobenius norm of every layer."""
    return [jnp.sqrt(jnp.sum(W**2)) for W in network.weights]


def relative_norm(error: Network, sizes: list[Array]) -> Array:
    """Root mean square over layers of the error's Frobenius norm in units of the layer's tolerance.

    Invariant under rotations of hidden layers, as the flow is.
    """
    return jnp.sqrt(sum(jnp.sum((E / size) ** 2) for E, size in zip(error.weights, sizes, strict=True)) / len(sizes))


def layer_sizes(network: Network) -> np.ndarray:
    """Frobenius norms on the host, shape (layer, ...) for leading axes ...; squares neither overflow nor vanish."""
    # rows of equal length, so that a network gives the same digits alone and in a batch
    rows = [np.asarray(W).reshape(*W.shape[:-2], -1) for W in network.weights]
    return np.stack([_row_norms(row) for row in rows])


def _row_norms(rows: np.ndarray) -> Any:
    """Lengths of rows; where squares are beyond float64 in units of the power of 2 next to their largest entry."""
    with np.errstate(over="ignore", under="ignore"):
        plain = np.sqrt(np.sum(np.square(rows), axis=-1))
    usual = (plain > 1e-140) & (plain < 1e150)
    if usual.all():
        return plain
    unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(rows).max(axis=-1), np.finfo(float).tiny))))
    return np.where(usual, plain, unit * np.sqrt(np.sum(np.square(rows / unit[..., None]), axis=-1)))


def size_of(network: Network) -> np.ndarray:
    """Frobenius norm of all weights together, on the host."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.sum(layer_sizes(network) ** 2, axis=0)))
