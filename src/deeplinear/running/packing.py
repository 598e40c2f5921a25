"""Many small arrays as one: handing an array to compiled code, or taking one back, costs microseconds each."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._trees import value
from .._types import Array


@dataclass(frozen=True)
class Layout:
    """How a tree of arrays lies in one vector of float64; hashable, so that programs can be compiled for it.

    Counts and booleans become numbers and come back as they were: float64 holds integers up to 2^53.
    """

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]

    def unpack(self, numbers: Any) -> Any:
        """The tree from vectors (..., n): views on the host where types allow, JAX code where it is traced."""
        leaves, start, leading = [], 0, numbers.shape[:-1]
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            part = numbers[..., start : start + math.prod(shape)].reshape((*leading, *shape))
            leaves.append(part if part.dtype == dtype else part.astype(dtype))
            start += math.prod(shape)
        return jax.tree.unflatten(self.structure, leaves)


def layout_of(tree: Any, leading: int = 0) -> Layout:
    """The layout of a tree of arrays, without their first `leading` axes."""
    leaves, structure = jax.tree.flatten(tree)
    return Layout(structure, tuple(x.shape[leading:] for x in leaves), tuple(x.dtype for x in leaves))


def packed(tree: Any, leading: int = 0) -> np.ndarray:
    """The numbers of a tree of arrays on the host, whose first `leading` axes are shared, (..., n)."""
    parts = [np.asarray(x) for x in jax.tree.leaves(tree)]
    return np.concatenate([x.reshape((*x.shape[:leading], -1)) for x in parts], axis=-1, dtype=float)


def traced_packed(tree: Any) -> Array:
    """The numbers of a tree of arrays inside compiled code, (n,)."""
    return jnp.concatenate([jnp.ravel(x).astype(float) for x in jax.tree.leaves(tree)])


@value("layout")
class Packed:
    """A tree of arrays on its way from compiled code to the host."""

    numbers: Array
    layout: Layout

    @classmethod
    def of(cls, tree: Any) -> "Packed":
        """Inside compiled code."""
        return cls(traced_packed(tree), layout_of(tree))

    def unpack(self) -> Any:
        """On the host."""
        return self.layout.unpack(np.asarray(self.numbers))
