"""What every start checks at the door: its key, its widths, its size and its end-to-end matrix."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray

from .._checks import check_whole, shown
from .._types import Key

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
    if len(widths) < 2:
        raise ValueError(f"`widths`: got {tuple(widths)}; give at least the number of inputs and of outputs")
    try:
        return tuple(check_whole("widths", d, 1, 2**31 - 1) for d in widths)
    except ValueError:
        raise ValueError(f"`widths`: got {shown(tuple(widths))}; every width is an int of at least 1") from None


def check_scale(scale: Any) -> Any:
    """A scale above 0, as a float unless JAX traces it."""
    if isinstance(scale, Tracer):
        return scale
    if scale is None or not np.isfinite(scale) or scale <= 0:
        raise ValueError(f"`scale`: got {scale}; give a finite number above 0")
    return float(scale)


def check_product(product: Any, widths: tuple[int, ...]) -> Array:
    """An end-to-end matrix that these widths allow; its numbers are not looked at where JAX traces them."""
    product = jnp.asarray(product, dtype=float)
    if product.shape != (widths[-1], widths[0]):
        raise ValueError(f"`product`: has shape {product.shape}; for these widths it must be {(widths[-1], widths[0])}")
    if isinstance(product, Tracer):
        return product
    if not jnp.isfinite(product).all():
        raise ValueError("`product`: has entries that are NaN or infinite; give a finite matrix")
    s, rank = np.linalg.svd(product, compute_uv=False), min(widths)
    if len(s) > rank and s[rank] > RANK * s[0]:
        raise ValueError(f"`product`: has rank above {rank}, the smallest of the widths; widen that layer")
    return product
