"""Matrix sensing: squared error of linear measurements of the end-to-end matrix."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arrays import traced
from .._trees import set_fields, value
from .._types import Array, Matrix, Scalar
from ..conventions import HALF_MEAN, LossScale
from .arguments import as_map, check_shape, indices, numbers
from .measurements import Dense, Entries, Measurements, RankOne, fitted


@value("scale", init=False)
class MatrixSensing:
    r"""Squared error of measurements: $L(W) = \frac{c}{2n} \sum_i (\langle B_i, W \rangle - y_i)^2$, i = 1, ..., n.

    `B`: matrices (n, d_y, d_x); `y`: what they measured, (n,). For matrices u_i v_i^T and for single entries there are
    `rank_one` and `entries`, which store vectors and numbers. c is the factor of the loss scale, where every
    measurement counts as a sample of one output. A pytree; inside `jit`, `vmap` and `grad` shapes are checked and
    numbers are not. Raises `ValueError` for shapes that do not fit, no measurements, and numbers that are not finite.

    >>> objective = MatrixSensing([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]], [3.0, 0.0])
    >>> W = jnp.array([[1.0, 1.0], [0.0, 1.0]])
    >>> float(objective(W)), objective.gradient(W).tolist(), float(objective.minimum)
    (0.5, [[-0.5, 0.5], [0.0, -0.5]], 0.0)

    Source: Recht, Fazel and Parrilo (2010), SIAM Review 52, section 1; Gunasekar et al. (2017), eq. (1).
    """

    measurements: Measurements
    """The B_i: `Dense`, `RankOne` or `Entries`."""
    y: Float[Array, " n"]
    minimum: Scalar | None
    """Smallest loss of any matrix; None beyond 3000 measurements and unknowns, and where the objective was traced."""
    _fitted: Array | None
    scale: LossScale

    def __init__(self, B: Any, y: Any, scale: LossScale = HALF_MEAN):
        stored = isinstance(B, Dense | RankOne | Entries)
        kept = B if stored else Dense(numbers("B", B, 3, "(n, d_y, d_x)"))
        set_fields(self, measurements=kept, y=numbers("y", y, 1, "(n,)"), scale=scale)
        n = self.measurements.count
        if n != len(self.y):
            raise ValueError(f"`y`: has {len(self.y)} values, but there are {n} measurements; give one for each")
        best = None if traced(B, y) else fitted(self.measurements, np.asarray(self.y))
        best = None if best is None else jnp.asarray(best)
        minimum = None if best is None else self._weight / 2 * jnp.sum((self.y - best) ** 2)
        set_fields(self, _fitted=best, minimum=minimum)

    @classmethod
    def rank_one(cls, U: Any, V: Any, y: Any, scale: LossScale = HALF_MEAN) -> "MatrixSensing":
        """Measurements u_i^T W v_i with u_i the rows of U (n, d_y) and v_i those of V (n, d_x); y (n,).

        >>> float(MatrixSensing.rank_one([[1.0, 2.0]], [[1.0]], [3.0])(jnp.array([[1.0], [0.0]])))
        2.0
        """
        U, V = numbers("U", U, 2, "(n, d_y)"), numbers("V", V, 2, "(n, d_x)")
        if len(U) != len(V):
            raise ValueError(f"`V`: has {len(V)} rows, but U has {len(U)}; give one pair for each measurement")
        return cls(RankOne(U, V), y, scale)

    @classmethod
    def entries(
        cls, row: Any, column: Any, y: Any, shape: tuple[int, int], scale: LossScale = HALF_MEAN
    ) -> "MatrixSensing":
        """Measurements W[row_i, column_i], numbered from 0, of a matrix of `shape` (d_y, d_x); y (n,).

        An entry that is measured twice counts twice. `MatrixCompletion` does the same faster.

        >>> float(MatrixSensing.entries([0, 0], [1, 1], [1.0, 3.0], (2, 2)).minimum)
        0.5
        """
        shape = check_shape(shape)
        row, column = indices("row", row, shape[0], "rows"), indices("column", column, shape[1], "columns")
        if len(row) != len(column):
            raise ValueError(f"`column`: has {len(column)} numbers, but row has {len(row)}; give one pair an entry")
        return cls(Entries(jnp.asarray(row), jnp.asarray(column), shape), y, scale)

    def __call__(self, W: Matrix) -> Scalar:
        """Loss of the end-to-end matrix W (d_y, d_x)."""
        return self._weight / 2 * jnp.sum((self.measurements(as_map(W, self.shape)) - self.y) ** 2)

    def gradient(self, W: Matrix) -> Matrix:
        r"""$\frac{c}{n} \sum_i (\langle B_i, W \rangle - y_i) B_i$, shape (d_y, d_x)."""
        return self.measurements.adjoint(self._weight * (self.measurements(as_map(W, self.shape)) - self.y))

    def hessian_vector(self, W: Matrix, V: Matrix) -> Matrix:
        r"""$\frac{c}{n} \sum_i \langle B_i, V \rangle B_i$, shape (d_y, d_x), the same at every W."""
        return self.measurements.adjoint(self._weight * self.measurements(as_map(V, self.shape, "V")))

    def knows_minimum(self, max_rank: int | None = None) -> bool:
        """Whether `minimum` is known and a matrix of rank `max_rank` can reach it for certain."""
        return self.minimum is not None and (max_rank is None or max_rank >= min(self.shape))

    def excess(self, W: Matrix, max_rank: int | None = None) -> Scalar:
        """Loss above the smallest loss of any matrix; at least 0 and accurate near it.

        Raises `ValueError` where the smallest loss is not known: of ranks below min(d_y, d_x) it never is.
        """
        if not self.knows_minimum(max_rank) or self._fitted is None:
            raise ValueError(f"`max_rank`: got {max_rank}; the smallest loss of such matrices is not known here")
        return self._weight / 2 * jnp.sum((self.measurements(as_map(W, self.shape)) - self._fitted) ** 2)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_y, d_x) of the matrices that are measured."""
        return self.measurements.shape

    @property
    def _weight(self) -> float:
        """c / n: what multiplies half of the sum of squares."""
        n = self.y.shape[-1]
        return self.scale.factor(n, 1) / n

    def __repr__(self) -> str:
        d_y, d_x = self.shape
        kind = type(self.measurements).__name__
        return f"MatrixSensing({self.y.shape[-1]} measurements of {d_y} x {d_x}, {kind}, {self.scale})"
