r"""Biases and skips in a plain chain of matrices: units that copy a unit of the layer below, by weights that are held.

Layer l of a wired chain is, in this order: a constant 1 where a bias is above it; its neurons; the copies that skips
carry past it. A copy's incoming weights are held by the mask and are one 1 and zeros; that is how copies are told from
neurons, so that a chain and its mask say everything. Matrices W_1, ..., W_h here; `network.Network` has the methods.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Skip(NamedTuple):
    """A connection from layer `source` to layer `target`, which passes the layers between by."""

    source: int
    target: int
    matrix: Any
    """What multiplies the source's neurons, shape (d_target, d_source)."""


class Wiring(NamedTuple):
    """What the units of every layer 0, ..., h are."""

    copies: list[np.ndarray]
    """The unit of the layer below that a unit copies; -1 where it copies none."""
    constant: list[bool]
    """Whether a layer's first unit is the constant 1."""

    @classmethod
    def of(cls, weights: Sequence[Any], mask: Sequence[Any] | None) -> "Wiring":
        """Read from held weights; without a mask there are no copies. Leading axes share their wiring."""
        widths = (np.shape(weights[0])[-1], *(np.shape(W)[-2] for W in weights))
        copies = [np.full(d, -1) for d in widths]
        if mask is not None:
            for l in range(1, len(weights)):  # outputs are never copies
                copies[l] = _copied(weights[l - 1], mask[l - 1])
        constant = [False] * len(copies)
        for l in range(1, len(weights)):
            constant[l] = bool(copies[l][0] == 0 and (l == 1 or constant[l - 1]))
        constant[0] = constant[min(1, len(weights))]
        return cls(copies, constant)

    def neurons(self, l: int) -> np.ndarray:
        """Units of layer l that are neither copied nor constant."""
        return np.flatnonzero(self.copies[l] < 0)[int(l == 0 and self.constant[0]) :]

    def passing(self, l: int) -> np.ndarray:
        """Copies in layer l that a skip carries."""
        return np.flatnonzero(self.copies[l] >= 0)[int(self.constant[l] and l > 0) :]

    def origin(self, l: int, unit: int) -> tuple[int, int]:
        """Layer and number of the unit that this one is a copy of."""
        while self.copies[l][unit] >= 0:
            l, unit = l - 1, int(self.copies[l][unit])
        return l, unit


def with_biases(
    weights: Sequence[Any], mask: Sequence[Any] | None, biases: Sequence[Any] | None, layers: Iterable[int] | None
) -> tuple[list[Any], list[np.ndarray]]:
    """The chain with a constant unit below every layer that has a bias, and what learns in it."""
    wiring, depth, (xp, weights) = Wiring.of(weights, mask), len(weights), _fast(weights, biases)
    chosen = sorted(set(range(1, depth + 1) if layers is None else layers))
    if not chosen or not all(isinstance(l, int | np.integer) and 1 <= l <= depth for l in chosen):
        raise ValueError(f"`layers`: got {layers}; layers are numbered from 1 to {depth}, and one at least has a bias")
    if wiring.constant[0]:
        raise ValueError("`mask`: this network has biases already; name all layers that have one in one call")
    given = _checked_biases(biases, [wiring.neurons(l).size for l in range(1, depth + 1)], chosen)
    wired, learns = [], []
    for l, (W, learn) in enumerate(zip(weights, _all_learn(weights, mask), strict=True), start=1):
        if l <= chosen[-1]:
            rows = wiring.neurons(l)
            column = np.eye(len(learn), dtype=W.dtype)[:, rows] @ xp.asarray(given[l - 1], W.dtype)[:, None]
            W = xp.hstack([column, W])
            learn = np.hstack([np.zeros((len(learn), 1), bool), learn])
            learn[rows, 0] = l in chosen
        if l < chosen[-1]:
            W = xp.vstack([np.eye(1, W.shape[1], dtype=W.dtype), W])
            learn = np.vstack([np.zeros((1, learn.shape[1]), bool), learn])
        wired.append(W)
        learns.append(learn)
    return wired, learns


def with_skip(
    weights: Sequence[Any], mask: Sequence[Any] | None, source: int, target: int, matrix: Any, learn: bool
) -> tuple[list[Any], list[np.ndarray]]:
    """The chain with the neurons of layer `source` carried past the layers between and added at layer `target`."""
    depth, wiring, (xp, weights) = len(weights), Wiring.of(weights, mask), _fast(weights, matrix)
    if source < 0 or not source + 2 <= target <= depth:
        raise ValueError(
            f"`source`, `target`: got {source}, {target}; a skip passes at least one layer, 0 <= source, "
            f"source + 2 <= target <= {depth}"
        )
    below, above = wiring.neurons(source), wiring.neurons(target)
    B = _checked_matrix(matrix, (above.size, below.size), (source, target))
    wired, learns, size = list(weights), _all_learn(weights, mask), below.size
    for l in range(source + 1, target + 1):
        W, m = wired[l - 1], learns[l - 1]
        beside = np.eye(len(m))[:, above] @ xp.asarray(B, W.dtype) if l == target else np.zeros((len(m), size))
        beneath = np.eye(m.shape[1])[below] if l == source + 1 else np.eye(size, m.shape[1] + size, k=m.shape[1])
        if l > source + 1:
            W, m = xp.hstack([W, beside.astype(W.dtype)]), np.pad(m, ((0, 0), (0, size)))
        if l < target:
            W, m = xp.vstack([W, beneath.astype(W.dtype)]), np.pad(m, ((0, size), (0, 0)))
        else:
            m[above, -size:] = learn
        wired[l - 1], learns[l - 1] = W, m
    return wired, learns


def apart(weights: Sequence[Any], mask: Sequence[Any]) -> tuple[list[Any], list[Any], list[Skip]]:
    """Neurons' weights, their biases (zeros where there are none) and the skips; weights may have leading axes."""
    wiring, depth, (_, weights) = Wiring.of(weights, mask), len(weights), _fast(weights)
    plain, biases, skips = [], [], []
    for l, W in enumerate(weights, start=1):
        rows, columns = wiring.neurons(l), wiring.neurons(l - 1)
        part = W[..., rows, :]
        plain.append(part[..., columns])
        biases.append(part[..., 0] if wiring.constant[l - 1] else np.zeros(part.shape[:-1], part.dtype))
        carried_on = set(wiring.copies[l].tolist()) if l < depth else set()
        ending: dict[int, list[tuple[int, int]]] = {}
        for unit in wiring.passing(l - 1):
            if int(unit) not in carried_on:
                source, first = wiring.origin(l - 1, int(unit))
                ending.setdefault(source, []).append((int(unit), first))
        for source, pairs in sorted(ending.items()):
            units, firsts = np.array(pairs).T
            neurons = wiring.neurons(source)
            places = np.eye(neurons.size, dtype=part.dtype)[np.searchsorted(neurons, firsts)]
            skips.append(Skip(source, l, part[..., units] @ places))
    return plain, biases, skips


def learns_something(weights: Sequence[Any], mask: Sequence[Any]) -> bool:
    """Whether an entry that learns lies on a path from an input to an output, along weights that are not 0 or learn."""
    edges = [np.asarray(m) | np.any(np.asarray(W) != 0, axis=tuple(range(np.ndim(W) - 2)))
             for W, m in zip(weights, mask, strict=True)]  # fmt: skip
    reached = [np.ones(edges[0].shape[1], bool)]
    for edge in edges:
        reached.append((edge & reached[-1]).any(axis=1))
    useful = np.ones(len(edges[-1]), bool)
    for edge, m, below in zip(edges[::-1], mask[::-1], reached[-2::-1], strict=True):
        if (np.asarray(m) & useful[:, None] & below).any():
            return True
        useful = (edge & useful[:, None]).any(axis=0)
    return False


def _copied(W: Any, mask: Any) -> np.ndarray:
    """For every row the column of its only entry, a 1, if all of it is held; -1 for other rows."""
    if isinstance(W, Tracer) or isinstance(mask, Tracer):
        raise ValueError("`mask`: copies are told by held weights, which JAX traces here; do this outside of jit")
    W = np.asarray(W)[(0,) * (np.ndim(W) - 2)]
    is_copy = ~np.asarray(mask).any(axis=1) & ((W != 0).sum(axis=1) == 1) & ((W == 1).sum(axis=1) == 1)
    return np.where(is_copy, np.argmax(W != 0, axis=1), -1)


def _all_learn(weights: Sequence[Any], mask: Sequence[Any] | None) -> list[np.ndarray]:
    if mask is None:
        return [np.ones(W.shape, bool) for W in weights]
    return [np.array(m) for m in mask]


def _checked_biases(biases: Any, sizes: list[int], chosen: list[int]) -> list[Any]:
    """One vector a layer."""
    if biases is None:
        return [np.zeros(size) for size in sizes]
    if len(biases) != len(sizes):
        raise ValueError(f"`biases`: came with {len(biases)} vectors; give one for each of {len(sizes)} layers")
    for l, (b, size) in enumerate(zip(biases, sizes, strict=True), start=1):
        if np.shape(b) != (size,):
            raise ValueError(f"`biases`: that of layer {l} has shape {np.shape(b)}; it must be ({size},)")
        if not isinstance(b, Tracer) and (not np.isfinite(b).all() or (l not in chosen and np.any(b))):
            raise ValueError(f"`biases`: that of layer {l} must be finite, and zero in layers that are to have none")
    return list(biases)


def _checked_matrix(matrix: Any, shape: tuple[int, int], ends: tuple[int, int]) -> Any:
    """What a skip multiplies by."""
    if matrix is None:
        if shape[0] != shape[1]:
            raise ValueError(
                f"`source`, `target`: layers {ends[0]} and {ends[1]} have {shape[1]} and {shape[0]} neurons; without a "
                "`matrix` a skip is the identity and they must be equal"
            )
        return np.eye(shape[0])
    if np.shape(matrix) != shape:
        raise ValueError(
            f"`matrix`: has shape {np.shape(matrix)}; from layer {ends[0]} to {ends[1]} it must be {shape}"
        )
    return matrix


def _fast(weights: Sequence[Any], *others: Any) -> tuple[Any, list[Any]]:
    """numpy and the matrices as its arrays, so that no shape is compiled; JAX and its own where it traces any."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((tuple(weights), others))):
        return jnp, list(weights)
    return np, [np.asarray(W) for W in weights]
