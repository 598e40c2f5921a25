"""What all objectives check of their arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .._linalg import on_device


def traced(*values: Any) -> bool:
    """Whether JAX is tracing any of these: shapes can be checked then, numbers cannot."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def numbers(name: str, value: Any, ndim: int, axes: str) -> Array:
    """`value` as floats with `ndim` axes, none of them empty; `ValueError` for other shapes and for NaN or infinity."""
    try:
        array = jnp.asarray(value, dtype=float) if traced(value) else np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}`: cannot be read as numbers ({error}); give an array {axes}") from None
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"`{name}`: has shape {array.shape}; give an array {axes}, with no empty axis")
    if not traced(value):
        bad = np.count_nonzero(~np.isfinite(array))
        if bad:
            raise ValueError(f"`{name}`: has {bad} entries that are not finite; drop or fill them first")
    return on_device(array)


def samples(X: Any, Y: Any, name: str = "Y") -> tuple[Array, Array]:
    """Inputs X (n, d_x) and targets Y (n, d_y), where Y may be (n,) for one output."""
    X, ndim = numbers("X", X, 2, "(n, d_x)"), max(1, np.ndim(Y))
    Y = numbers(name, Y, min(ndim, 2), "(n, d_y)")
    if len(Y) != len(X):
        raise ValueError(f"`{name}`: has {len(Y)} rows, but X has {len(X)}; give one row a sample")
    return X, Y.reshape(len(X), -1)


def indices(name: str, value: Any, size: int, what: str) -> Any:
    """Whole numbers (n,) from 0 to size - 1, on the host unless they are traced; `ValueError` for others."""
    array = value if traced(value) else np.asarray(value)
    if array.dtype.kind == "f" and not traced(value) and (array == np.trunc(array)).all():
        array = array.astype(int)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise ValueError(f"`{name}`: has shape {array.shape} and type {array.dtype}; give whole numbers (n,), n >= 1")
    if not traced(value):
        outside = array[(array < 0) | (array >= size)]
        if outside.size:
            raise ValueError(f"`{name}`: has the value {outside[0]}; {what} are numbered 0 to {size - 1}")
    return array
