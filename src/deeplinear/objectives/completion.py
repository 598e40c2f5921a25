"""Matrix completion: squared error on the observed entries of a matrix."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from .._arrays import booleans, floats, place, readable, traced
from .._trees import set_fields, value
from .._types import Array, Matrix, Scalar
from ..conventions import HALF_MEAN, LossScale
from .arguments import as_map, check_shape, indices, numbers
from .measurements import placed

SPARSE = 1 / 16  # share of observed entries below which they are kept one by one; above, as matrices of the size of W


@value("shape", "weight", "scale", init=False)
class MatrixCompletion:
    r"""Squared error on observed entries: $L(W) = \frac{c}{2n} \sum_{i=1}^n (W_{r_i k_i} - y_i)^2$.

    `values`: the y_i, shape (n,). `observed`: their places, whole numbers (n, 2) of rows and columns from 0, of a
    matrix of `shape` (d_y, d_x) (None: just large enough). Or `values` is the whole matrix and `observed` booleans of
    its shape, True where an entry was observed; the others are not looked at, and may be NaN. An entry observed more
    than once counts as often: its values are averaged, the average gets their number as its weight, and `minimum` is
    the loss that their disagreement leaves.
    c is the factor of the loss scale, every observation being a sample of one output. Where less than a sixteenth of
    the entries is observed, memory grows with their number alone. Inside `jit`, `vmap` and `grad` the values may be
    traced, the places may not. Raises `ValueError` for places outside the matrix, nothing observed, numbers that are
    not finite, and arrays that do not fit.

    >>> objective = MatrixCompletion([1.0, 2.0, 4.0, 5.0], [[0, 0], [1, 1], [1, 1], [0, 1]])
    >>> objective
    MatrixCompletion(3 of 2 x 2 entries, half-mean)
    >>> float(objective.minimum), objective.gradient(jnp.zeros((2, 2))).tolist()
    (0.25, [[-0.25, -1.25], [0.0, -1.5]])

    >>> MatrixCompletion([[1.0, float("nan")], [3.0, 4.0]], [[True, False], [True, True]])
    MatrixCompletion(3 of 2 x 2 entries, half-mean)

    Source: Candes and Recht (2009), Found. Comput. Math. 9, section 1; Arora, Cohen, Hu and Luo (2019), eq. (2).
    """

    row: Int[Array, " m"]
    """Rows of the observed entries, each entry once, row by row."""
    column: Int[Array, " m"]
    values: Float[Array, " m"]
    """What was observed there, on average."""
    counts: Float[Array, " m"]
    """How often."""
    minimum: Scalar
    """Smallest loss of any matrix: 0 unless an entry was observed with different values."""
    _dense: tuple[Array, Array] | None
    """Weights and targets of all entries, where many are observed."""
    shape: tuple[int, int]
    """(d_y, d_x)."""
    weight: float
    """c / n: what multiplies half of the sum of squares."""
    scale: LossScale

    def __init__(self, values: Any, observed: Any, shape: tuple[int, int] | None = None, scale: LossScale = HALF_MEAN):
        if not traced(observed) and readable("observed", observed).dtype == bool:
            values, observed, shape = _seen("values", values, "observed", observed, shape)
        y = numbers("values", values, 1, "(n,)")
        row, column, (d_y, d_x) = _places(observed, len(y), shape)
        weight = scale.factor(len(y), 1) / len(y)
        cells, place, counts = np.unique(row * d_x + column, return_inverse=True, return_counts=True)
        row, column, counts = jnp.asarray(cells // d_x), jnp.asarray(cells % d_x), jnp.asarray(counts, dtype=float)
        means = jnp.zeros(len(cells)).at[place].add(y) / counts
        minimum, dense = weight / 2 * jnp.sum((y - means[place]) ** 2), None
        if len(cells) >= SPARSE * d_y * d_x:
            at = jnp.zeros((d_y, d_x)).at[row, column]
            dense = at.set(weight * counts), at.set(means)
        set_fields(self, row=row, column=column, values=means, counts=counts, minimum=minimum, _dense=dense)
        set_fields(self, shape=(d_y, d_x), weight=weight, scale=scale)

    @classmethod
    def of(cls, matrix: Any, mask: Any, scale: LossScale = HALF_MEAN) -> "MatrixCompletion":
        """The entries of a matrix (d_y, d_x) where `mask` is True; the others are not looked at, and may be NaN.

        >>> MatrixCompletion.of([[1.0, float("nan")]], [[True, False]]).values.tolist()
        [1.0]
        """
        return cls(*_seen("matrix", matrix, "mask", mask), scale)

    def __call__(self, W: Matrix) -> Scalar:
        """Loss of the end-to-end matrix W (d_y, d_x)."""
        return self.minimum + self.excess(W)

    def excess(self, W: Matrix, max_rank: int | None = None) -> Scalar:
        """Loss above the smallest loss of any matrix; at least 0 and accurate near it.

        Raises `ValueError` for a `max_rank` below min(d_y, d_x): what such matrices can reach is not known.
        """
        if not self.knows_minimum(max_rank):
            raise ValueError(f"`max_rank`: got {max_rank}; the smallest loss of such matrices is not known")
        W = as_map(W, self.shape)
        if self._dense is not None:
            weights, targets = self._dense
            return jnp.sum(weights * (W - targets) ** 2) / 2
        return self.weight / 2 * jnp.sum(self.counts * (W[self.row, self.column] - self.values) ** 2)

    def gradient(self, W: Matrix) -> Matrix:
        r"""$\frac{c}{n} m_{rk} (W_{rk} - \bar y_{rk})$ at the observed entries, m their counts; 0 elsewhere."""
        W = as_map(W, self.shape)
        if self._dense is not None:
            weights, targets = self._dense
            return weights * (W - targets)
        return self._placed(W[self.row, self.column] - self.values)

    def hessian_vector(self, W: Matrix, V: Matrix) -> Matrix:
        r"""$\frac{c}{n} m_{rk} V_{rk}$ at the observed entries, 0 elsewhere; the same at every W."""
        V = as_map(V, self.shape, "V")
        return self._placed(V[self.row, self.column]) if self._dense is None else self._dense[0] * V

    def gradient_between(self, left: Float[Array, "d_y k"], right: Float[Array, "k d_x"]) -> tuple[Array, Array]:
        r"""$(A^T G, \, G B^T)$, shapes (k, d_x) and (d_y, k), with A = `left`, B = `right`, G the gradient at A B.

        Sparse times dense: cost and memory grow with k times the observed entries, and no d_y x d_x matrix is formed.

        >>> objective = MatrixCompletion([1.0], [[0, 1]], (2, 2))
        >>> [part.tolist() for part in objective.gradient_between(jnp.array([[2.0], [0.0]]), jnp.array([[1.0, 1.0]]))]
        [[[0.0, 2.0]], [[1.0], [0.0]]]
        """
        A, B = left[self.row], right.T[self.column]
        slope = (self.weight * self.counts * (jnp.sum(A * B, axis=1) - self.values))[:, None]
        below = jnp.zeros((self.shape[1], A.shape[1]), slope.dtype).at[self.column].add(slope * A)
        return below.T, jnp.zeros((self.shape[0], A.shape[1]), slope.dtype).at[self.row].add(slope * B)

    def knows_minimum(self, max_rank: int | None = None) -> bool:
        """Whether a matrix of rank `max_rank` can reach `minimum` for certain."""
        return max_rank is None or max_rank >= min(self.shape)

    def is_thin(self, k: int) -> bool:
        """Whether `gradient_between` factors of inner width k costs less than matrices of the size of W."""
        return self._dense is None and 2 * k * self.row.shape[-1] <= self.shape[0] * self.shape[1]

    def _placed(self, z: Array) -> Matrix:
        """z, weighted, at the observed entries of a matrix of zeros."""
        return placed(self.weight * self.counts * z, self.row, self.column, self.shape)

    def __repr__(self) -> str:
        d_y, d_x = self.shape
        return f"MatrixCompletion({self.row.shape[-1]} of {d_y} x {d_x} entries, {self.scale})"


def _seen(
    name: str, matrix: Any, name_of_mask: str, mask: Any, shape: tuple[int, int] | None = None
) -> tuple[Any, np.ndarray, tuple[int, int]]:
    """The values of a matrix where a mask is True, their places, and the matrix's shape."""
    mask = booleans(name_of_mask, mask, 2, "(d_y, d_x)")
    matrix = floats(name, matrix, 2, "(d_y, d_x)", finite=False)
    if matrix.shape != mask.shape or (shape is not None and tuple(shape) != mask.shape):
        wanted = matrix.shape if shape is None else tuple(shape)
        raise ValueError(
            f"`{name_of_mask}`: has shape {mask.shape}, but the matrix has {wanted}; give booleans of its shape, True "
            "where an entry was observed"
        )
    at = np.argwhere(mask)
    if not len(at):
        raise ValueError(f"`{name_of_mask}`: is False everywhere; a loss needs an observed entry")
    values = matrix[mask]
    if not traced(values) and not np.isfinite(values).all():
        bad = tuple(at[~np.isfinite(values)][0])
        raise ValueError(f"`{name}`: has {matrix[bad]}{place(bad)}, where `{name_of_mask}` is True")
    return values, at, mask.shape


def _places(observed: Any, n: int, shape: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Rows and columns of n observations, and the shape of the matrix."""
    if traced(observed):
        raise ValueError(
            "`observed`: is traced by JAX; the places must be plain numbers, only the values may be traced"
        )
    places = floats("observed", observed, instead="give whole numbers")
    if places.ndim != 2 or places.shape[1] != 2 or len(places) != n:
        raise ValueError(
            f"`observed`: has shape {places.shape}; give (row, column) for each of the {n} values, ({n}, 2)"
        )
    if shape is None:
        shape = (int(places[:, 0].max()) + 1, int(places[:, 1].max()) + 1)
    shape = check_shape(shape)
    sides = zip(("rows", "columns"), places.T, shape, strict=True)
    row, column = (indices("observed", part, size, what) for what, part, size in sides)
    return row, column, shape
