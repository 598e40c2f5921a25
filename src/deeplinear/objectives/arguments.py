"""What all objectives check of their arguments."""

from typing import Any

import numpy as np

from .._arrays import LARGEST, floats, readable, traced
from .._checks import check_whole, shown
from .._linalg import on_device
from .._types import Array

MOST = 2**31 - 1


def numbers(name: str, value: Any, ndim: int | tuple[int, ...], axes: str) -> Array:
    """`value` as JAX's floats with `ndim` axes, none of them empty; `ValueError` for other shapes, NaN and infinity."""
    return on_device(floats(name, value, ndim, axes, instead="drop or fill them first", largest=LARGEST))


def samples(X: Any, Y: Any, name: str = "Y") -> tuple[Array, Array]:
    """Inputs X (n, d_x) and targets Y (n, d_y), where Y may be (n,) for one output."""
    X, Y = numbers("X", X, 2, "(n, d_x)"), numbers(name, Y, (1, 2), "(n, d_y)")
    if len(Y) != len(X):
        raise ValueError(f"`{name}`: has {len(Y)} rows, but X has {len(X)}; give one row a sample")
    return X, Y.reshape(len(X), -1)


def indices(name: str, value: Any, size: int, what: str) -> Any:
    """Whole numbers (n,) from 0 to size - 1, on the host unless they are traced; `ValueError` for others."""
    array = value if traced(value) else readable(name, value)
    if array.dtype.kind == "f" and not traced(value) and (array == np.trunc(array)).all():
        array = array.astype(int)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise ValueError(f"`{name}`: has shape {array.shape} and type {array.dtype}; give whole numbers (n,), n >= 1")
    if not traced(value):
        outside = array[(array < 0) | (array >= size)]
        if outside.size:
            raise ValueError(f"`{name}`: has the value {outside[0]}; {what} are numbered 0 to {size - 1}")
    return array


def check_shape(shape: Any) -> tuple[int, int]:
    """A pair (d_y, d_x) of whole numbers of at least 1."""
    try:
        d_y, d_x = shape
    except (TypeError, ValueError):
        raise ValueError(f"`shape`: got {shown(shape)}; give (d_y, d_x)") from None
    return check_whole("shape", d_y, 1, MOST), check_whole("shape", d_x, 1, MOST)


def as_map(W: Any, shape: tuple[int, ...], name: str = "W") -> Any:
    """An end-to-end matrix, also of lists; `ValueError` for another shape, which arithmetic would stretch unasked."""
    W = W if hasattr(W, "ndim") else on_device(floats(name, W))
    if tuple(W.shape) != tuple(shape[-2:]):
        raise ValueError(f"`{name}`: has shape {tuple(W.shape)}; the end-to-end matrix has {tuple(shape[-2:])}")
    return W
