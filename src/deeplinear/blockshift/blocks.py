"""Matrices over the nodes of a network as the blocks between its layers: sums, products, powers, transposes."""

import operator
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import checks_arguments
from .._checks import shown
from ..network import Network


class BlockMatrix(eqx.Module):
    r"""An (n_v, n_v) matrix over all nodes as its nonzero blocks: `blocks[l, m]`, (d_l, d_m), leads from layer m to l.

    Layers are numbered from 0, the inputs, to h, the outputs. `@`, `+`, `-`, `.T`, `**` and multiplication by a number
    work on blocks alone; the whole matrix exists only where `dense()` asks for it. A frozen pytree whose blocks are
    numpy arrays, or JAX's while JAX traces. Raises `ValueError` for blocks that do not fit the widths.

    >>> A = adjacency(Network([[[1.0, 2.0]], [[3.0]]]))
    >>> A, (A @ A)[2, 0].tolist()
    (BlockMatrix(2 -> 1 -> 1: 2 blocks of 4 x 4), [[3.0, 6.0]])
    >>> (A**2).dense().tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 6.0, 0.0, 0.0]]

    Source: Altafini, section 2.1.1; its block (j, k) is `blocks[j - 1, k - 1]`.
    """

    widths: tuple[int, ...] = eqx.field(static=True)
    blocks: dict[tuple[int, int], Any]

    def __init__(self, widths: Sequence[int], blocks: Mapping[tuple[int, int], Any]):
        self.widths = tuple(int(d) for d in widths)
        self.blocks = {(int(l), int(m)): _array(block) for (l, m), block in blocks.items()}
        for (l, m), block in self.blocks.items():
            if not (0 <= l <= self.depth and 0 <= m <= self.depth):
                raise ValueError(f"`blocks`: has a block {(l, m)}, but layers are numbered 0 to {self.depth}")
            if block.shape != (self.widths[l], self.widths[m]):
                raise ValueError(
                    f"`blocks`: block {(l, m)} has shape {block.shape}; between layers of these widths it must be "
                    f"{(self.widths[l], self.widths[m])}"
                )

    @property
    def depth(self) -> int:
        """Number of weight layers h; there are h + 1 layers of nodes."""
        return len(self.widths) - 1

    @property
    def T(self) -> "BlockMatrix":
        """The transpose."""
        return BlockMatrix(self.widths, {(m, l): block.T for (l, m), block in self.blocks.items()})

    @property
    def layers(self) -> tuple[Any, ...]:
        """W_1 .. W_h of a matrix blk_1(W_1, ..., W_h); raises `ValueError` for blocks elsewhere."""
        strays = sorted((l, m) for l, m in self.blocks if l != m + 1)
        if strays:
            raise ValueError(f"`A`: has a block {strays[0]}; an adjacency matrix has blocks (l, l - 1) alone")
        return self.diagonal(1)

    @property
    def network(self) -> Network:
        """The network with this adjacency matrix; raises `ValueError` for blocks elsewhere.

        >>> adjacency(Network([[[1.0, 2.0]]])).network
        Network(2 -> 1: 2 weights, float64)
        """
        return Network(self.layers)

    def __getitem__(self, layers: tuple[int, int]) -> Any:
        try:
            l, m = (operator.index(layer) for layer in layers)
        except (TypeError, ValueError):
            raise TypeError(f"a block is between two layers, A[l, m]; got A[{shown(layers)}]") from None
        if not (0 <= l <= self.depth and 0 <= m <= self.depth):
            raise IndexError(f"layers are numbered 0 to {self.depth}; got A[{l}, {m}]")
        return self.blocks.get((l, m), np.zeros((self.widths[l], self.widths[m])))

    __iter__ = None  # its blocks have two numbers: it is no sequence

    def diagonal(self, k: int) -> tuple[Any, ...]:
        """The blocks of the k-th diagonal below the main one (above it for k < 0), absent ones as zeros.

        >>> [block.shape for block in identity((3, 2)).diagonal(1)]
        [(2, 3)]
        """
        return tuple(self[m + k, m] for m in range(self.depth + 1) if 0 <= m + k <= self.depth)

    def dense(self) -> Any:
        """The whole matrix, (n_v, n_v)."""
        xp = jnp if any(isinstance(block, Tracer) for block in self.blocks.values()) else np
        size = range(self.depth + 1)
        return xp.block([[self[l, m] for m in size] for l in size])

    def inner(self, other: "BlockMatrix") -> Any:
        r"""$\langle A, B \rangle_F = \mathrm{tr}(A^T B)$.

        >>> float(identity((3, 2)).inner(identity((3, 2))))
        5.0
        """
        self._check_same(other)
        shared = self.blocks.keys() & other.blocks.keys()
        return sum(((self.blocks[key] * other.blocks[key]).sum() for key in sorted(shared)), start=0.0)

    def norm(self) -> Any:
        """Frobenius norm."""
        return self.inner(self) ** 0.5

    def __add__(self, other: "BlockMatrix") -> "BlockMatrix":
        self._check_same(other)
        added = dict(self.blocks)
        for key, block in other.blocks.items():
            added[key] = added[key] + block if key in added else block
        return BlockMatrix(self.widths, added)

    def __mul__(self, number: Any) -> "BlockMatrix":
        return BlockMatrix(self.widths, {key: number * block for key, block in self.blocks.items()})

    __rmul__ = __mul__

    def __neg__(self) -> "BlockMatrix":
        return self * -1.0

    def __sub__(self, other: "BlockMatrix") -> "BlockMatrix":
        return self + -other

    def __matmul__(self, other: "BlockMatrix") -> "BlockMatrix":
        self._check_same(other)
        rows: dict[int, list] = {}
        for (k, m), block in other.blocks.items():
            rows.setdefault(k, []).append((m, block))
        found: dict[tuple[int, int], Any] = {}
        for (l, k), left in self.blocks.items():
            for m, right in rows.get(k, ()):
                found[l, m] = found[l, m] + left @ right if (l, m) in found else left @ right
        return BlockMatrix(self.widths, found)

    def __pow__(self, k: int) -> "BlockMatrix":
        """A^k for k >= 0: of an adjacency matrix blk_k(W_{1:k}, ..., W_{h+1-k:h}), without blocks for k > h."""
        if not isinstance(k, Integral) or k < 0:
            raise ValueError(f"`k`: got {k}; powers are defined for integers of at least 0")
        power = identity(self.widths) if k == 0 else self
        for _ in range(int(k) - 1):
            if not power.blocks:
                break
            power = self @ power
        return power

    def __repr__(self) -> str:
        size = sum(self.widths)
        return f"BlockMatrix({' -> '.join(map(str, self.widths))}: {len(self.blocks)} blocks of {size} x {size})"

    def _check_same(self, other: "BlockMatrix") -> None:
        if self.widths != other.widths:
            raise ValueError(f"`widths`: {self.widths} and {other.widths} differ; both matrices need the same layers")


@checks_arguments
def blk(k: int, blocks: Sequence[Any], widths: Sequence[int] | None = None) -> BlockMatrix:
    r"""$\mathrm{blk}_k(F_1, \dots, F_{h+1-k})$: the blocks on the k-th diagonal below the main one, zero elsewhere.

    F_i has shape (d_{i+k-1}, d_{i-1}). `widths` are needed where the blocks do not touch every layer (2 k > h + 1).
    Raises `ValueError` for shapes that do not fit.

    >>> blk(1, [np.ones((2, 3)), np.ones((1, 2))]).widths
    (3, 2, 1)
    >>> blk(2, [np.ones((1, 3))], widths=(3, 2, 1))
    BlockMatrix(3 -> 2 -> 1: 1 blocks of 6 x 6)

    Source: Altafini, section 2.1.1.
    """
    if k < 0 or (widths is not None and len(blocks) != len(widths) - k):
        count = "" if widths is None else f" and {len(blocks)} blocks for {len(widths)} layers"
        raise ValueError(f"`k`: got {k}{count}; the k-th of the h + 1 diagonals, from 0, has h + 1 - k blocks")
    if widths is None:
        known = {m: np.shape(block)[1] for m, block in enumerate(blocks)}
        known = {m + k: np.shape(block)[0] for m, block in enumerate(blocks)} | known
        if len(known) < len(blocks) + k:
            raise ValueError(
                f"`widths`: are needed, because {len(blocks)} blocks on diagonal {k} do not touch all layers"
            )
        widths = [known[l] for l in range(len(known))]
    return BlockMatrix(widths, {(m + k, m): block for m, block in enumerate(blocks)})


@checks_arguments
def identity(widths: Sequence[int]) -> BlockMatrix:
    """The identity over all nodes.

    >>> identity((2, 1)).dense().tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return BlockMatrix(widths, {(l, l): np.eye(d) for l, d in enumerate(widths)})


@checks_arguments
def adjacency(network: Network) -> BlockMatrix:
    r"""The weighted adjacency matrix $A = \mathrm{blk}_1(W_1, \dots, W_h)$; `adjacency(network).network` leads back.

    >>> adjacency(Network([[[2.0]], [[3.0]]])).dense().tolist()
    [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]

    Source: Altafini, eq. (10).
    """
    if any(W.ndim != 2 for W in network.weights):
        raise ValueError(
            "`network`: has weights with a leading axis; take one network of a trajectory, `trajectory[i]`"
        )
    return blk(1, network.weights)


def _array(block: Any) -> Any:
    """Numpy's, so that no product has to be compiled; JAX's where JAX traces."""
    return block if isinstance(block, Tracer) else np.asarray(block)
