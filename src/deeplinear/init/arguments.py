"""What every start checks at the door: its key, its widths, its size and its end-to-end matrix."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import _memory
from .._arrays import floats, number, traced
from .._checks import check_whole, shown
from .._linalg import on_device
from .._types import Array, Key

DRAWN = 3
"""Copies of a network that exist while it is drawn: random bits, numbers, and numbers times their scale."""
RANK = 1e-12  # singular values below this part of the largest do not count for the rank


def check_key(key: Key) -> PRNGKeyArray:
    """A jax key of a key or an int."""
    if isinstance(key, jax.Array):
        return key
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not 0 <= key < 2**63:
            raise ValueError(f"`key`: got {shown(key)}; a seed is an int of at least 0 and below 2^63, or a jax key")
        return jax.random.key(int(key))
    raise ValueError(f"`key`: got {key!r}; give an int or a jax key")


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Widths (d_x, d_1, ..., d_y) as ints."""
    if isinstance(widths, str) or not hasattr(widths, "__iter__"):
        raise ValueError(f"`widths`: got {shown(widths)}; give a list (d_x, d_1, ..., d_y)")
    found = tuple(widths)
    if len(found) < 2:
        raise ValueError(f"`widths`: got {found}; give at least the number of inputs and of outputs")
    try:
        return tuple(check_whole("widths", d, 1) for d in found)
    except ValueError:
        raise ValueError(f"`widths`: got {shown(found)}; every width is an int of at least 1") from None


def check_drawn(widths: Sequence[int], bases: bool = False) -> tuple[int, ...]:
    """Widths of a network that is about to be drawn, refused where it does not fit into memory.

    `bases`: square matrices in every hidden layer are drawn as well.
    """
    widths = check_widths(widths)
    numbers = sum(below * above for below, above in pairwise(widths))
    squares = sum(d * d for d in widths[1:-1]) if bases else 0
    words = " -> ".join(map(_memory.short, widths))
    needed = 8 * (DRAWN * numbers + DRAWN * squares)
    _memory.check("widths", f"a network of widths {words}", needed, "take smaller layers")
    return widths


def check_scale(scale: Any) -> Any:
    """A scale above 0, as a float unless JAX traces it."""
    return number("scale", scale, "a finite number above 0", above=0.0)


def check_product(product: Any, widths: tuple[int, ...]) -> Array:
    """An end-to-end matrix that these widths allow; its numbers are not looked at where JAX traces them."""
    product = floats("product", product, 2, "(d_y, d_x)")
    if product.shape != (widths[-1], widths[0]):
        raise ValueError(f"`product`: has shape {product.shape}; for these widths it must be {(widths[-1], widths[0])}")
    if traced(product):
        return product
    s, rank = np.linalg.svd(product, compute_uv=False), min(widths)
    if len(s) > rank and s[rank] > RANK * s[0]:
        raise ValueError(f"`product`: has rank above {rank}, the smallest of the widths; widen that layer")
    return on_device(product)
