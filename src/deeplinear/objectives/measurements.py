r"""Linear measurements $\mathcal{A}(W)_i = \langle B_i, W \rangle$ of a matrix, in three forms of storage.

Each has `__call__(W)` (n,), its adjoint $z \mapsto \sum_i z_i B_i$ (d_y, d_x), `shape` and `count`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from .._linalg import are_fused, product
from .._trees import value
from .._types import Array

CHUNK = 2**22  # numbers of a dense piece of measurements
LARGEST = 3000  # equations or unknowns, the fewer, up to which least squares is solved by a factorisation
CLEAR = 1e-10  # eigenvalues of a Gram matrix above this share of their mean are no rounding
REFINEMENTS = 3  # of the solution from the normal equations, which alone would lose half of the digits


@value()
class Dense:
    """Matrices B_i as they are."""

    matrices: Float[Array, "n d_y d_x"]

    def __call__(self, W: Array) -> Array:
        """<B_i, W>, shape (n,)."""
        return product(self._flat, W.reshape(-1, 1))[:, 0]

    def adjoint(self, z: Array) -> Array:
        """sum_i z_i B_i, shape (d_y, d_x)."""
        return product(z[None, :], self._flat).reshape(self.shape)

    @property
    def _flat(self) -> Array:
        return self.matrices.reshape(self.matrices.shape[0], -1)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_y, d_x)."""
        return self.matrices.shape[-2], self.matrices.shape[-1]

    @property
    def count(self) -> int:
        """n."""
        return self.matrices.shape[-3]

    def rows(self, first: int, last: int) -> np.ndarray:
        """B_first to B_(last - 1), flat, (last - first, d_y d_x)."""
        return np.asarray(self._flat[first:last])


@value()
class RankOne:
    """Matrices u_i v_i^T, kept as their vectors."""

    left: Float[Array, "n d_y"]
    right: Float[Array, "n d_x"]

    def __call__(self, W: Array) -> Array:
        """u_i^T W v_i, shape (n,)."""
        return jnp.sum(product(self.left, W) * self.right, axis=1)

    def adjoint(self, z: Array) -> Array:
        """sum_i z_i u_i v_i^T, shape (d_y, d_x)."""
        return product(self.left.T * z[None, :], self.right)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_y, d_x)."""
        return self.left.shape[-1], self.right.shape[-1]

    @property
    def count(self) -> int:
        """n."""
        return self.left.shape[-2]

    def rows(self, first: int, last: int) -> np.ndarray:
        """B_first to B_(last - 1), flat, (last - first, d_y d_x)."""
        u, v = np.asarray(self.left[first:last]), np.asarray(self.right[first:last])
        return (u[:, :, None] * v[:, None, :]).reshape(len(u), -1)


@value("shape")
class Entries:
    """Single entries, kept as their row and column numbers."""

    row: Int[Array, " n"]
    column: Int[Array, " n"]
    shape: tuple[int, int]

    def __call__(self, W: Array) -> Array:
        """W[row_i, column_i], shape (n,)."""
        return W[self.row, self.column]

    def adjoint(self, z: Array) -> Array:
        """z_i added up at (row_i, column_i), shape (d_y, d_x)."""
        return placed(z, self.row, self.column, self.shape)

    @property
    def count(self) -> int:
        """n."""
        return self.row.shape[-1]


def placed(z: Array, row: Array, column: Array, shape: tuple[int, int]) -> Array:
    """A matrix of zeros with z_i added at (row_i, column_i)."""
    if are_fused():  # XLA compiles no scatter into one kernel
        at_row, at_column = (jax.nn.one_hot(i, d, dtype=z.dtype) for i, d in zip((row, column), shape, strict=True))
        return product(at_row.T * z[None, :], at_column)
    return jnp.zeros(shape, z.dtype).at[row, column].add(z)


Measurements = Dense | RankOne | Entries


def fitted(measurements: Measurements, y: np.ndarray) -> np.ndarray | None:
    """The nearest to y that any matrix W can measure, by least squares on the host; None beyond `LARGEST`.

    Directions whose eigenvalue in the Gram matrix of the measurements is rounding count as unseen.
    """
    if isinstance(measurements, Entries):
        cell = np.asarray(measurements.row) * measurements.shape[1] + np.asarray(measurements.column)
        _, place, counts = np.unique(cell, return_inverse=True, return_counts=True)
        return (np.bincount(place, y) / counts)[place]
    n, unknowns = len(y), int(np.prod(measurements.shape))
    if min(n, unknowns) > LARGEST:
        return None
    gram = _gram(measurements, n) if n <= unknowns else _normal_matrix(measurements, n)
    size = np.trace(gram) / len(gram)
    if n <= unknowns and size > 0 and _is_positive(gram - CLEAR * size * np.eye(n)):
        return y.copy()
    squares, Q = np.linalg.eigh(gram)
    kept = squares > len(gram) * np.finfo(float).eps * squares[-1]
    squares, Q = squares[kept], Q[:, kept]
    if n <= unknowns:
        return Q @ (Q.T @ y)
    apply, adjoint = jax.jit(lambda W: measurements(W)), jax.jit(lambda z: measurements.adjoint(z))
    W = np.zeros(unknowns)
    for _ in range(REFINEMENTS):
        rest = y - np.asarray(apply(jnp.asarray(W.reshape(measurements.shape))))
        W += Q @ ((Q.T @ np.asarray(adjoint(jnp.asarray(rest))).ravel()) / squares)
    return np.asarray(apply(jnp.asarray(W.reshape(measurements.shape))))


def _gram(measurements: Dense | RankOne, n: int) -> np.ndarray:
    """<B_i, B_k>, shape (n, n)."""
    if isinstance(measurements, RankOne):
        u, v = np.asarray(measurements.left), np.asarray(measurements.right)
        return (u @ u.T) * (v @ v.T)
    A = measurements.rows(0, n)
    return A @ A.T


def _normal_matrix(measurements: Dense | RankOne, n: int) -> np.ndarray:
    """Sum of vec(B_i) vec(B_i)^T, from pieces of the measurements."""
    unknowns = int(np.prod(measurements.shape))
    piece, total = max(1, CHUNK // unknowns), np.zeros((unknowns, unknowns))
    for first in range(0, n, piece):
        A = measurements.rows(first, min(first + piece, n))
        total += A.T @ A
    return total


def _is_positive(M: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        return False
    return True
