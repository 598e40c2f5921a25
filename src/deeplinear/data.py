"""Samples to moments, in chunks of any size; centring, whitening and the survey's normal form, all invertible."""

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ._memory import check_moments

CHUNK_BYTES = 2**25
"""Rows are read in slices of about this size, so that memory-mapped arrays larger than memory work."""


class Modes(NamedTuple):
    """The modes of a data set: sigma_yx = U diag(s) V^T, largest singular value first, signs fixed."""

    U: Any
    """Output singular vectors, shape (d_y, mode)."""
    s: Any
    """Singular values, shape (mode,)."""
    V: Any
    """Input singular vectors, shape (d_x, mode)."""


@dataclass(frozen=True, eq=False)
class Moments:
    r"""First and second moments of samples $(x, y)$: all that a linear network can see of them.

    $\Sigma_{xx} = E[x x^T]$, $\Sigma_{yx} = E[y x^T]$, $\mathrm{tr}\, E[y y^T]$. Kept as means and covariances, so that
    centring subtracts nothing large from anything large. Nothing is centred unless `centered` is called.

    >>> moments = Moments.of([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0], [2.0], [3.0]])
    >>> moments.count, moments.d_x, moments.d_y
    (3, 2, 1)
    >>> bool(np.allclose(3 * moments.sigma_yx, [[4.0, 5.0]]))
    True
    """

    count: int | None
    """Number of samples; None for moments that were given."""
    mean_x: np.ndarray | None
    mean_y: np.ndarray | None
    covariance_xx: np.ndarray
    covariance_yx: np.ndarray
    variance_y: float | None
    """Trace of the covariance of y; None where it is unknown and the smallest loss is taken to be zero."""

    @classmethod
    def of(cls, X: Any, Y: Any) -> "Moments":
        """Moments of samples in rows: X (n, d_x), Y (n, d_y) or (n,).

        Reads `CHUNK_BYTES` at a time; `numpy.load(..., mmap_mode="r")` therefore serves data larger than memory.
        Raises `ValueError` for empty, ragged, non-numeric or non-finite data.
        """
        X, Y = check_samples(X, Y)
        return cls.from_chunks(row_slices(X, Y))

    @classmethod
    def from_chunks(cls, chunks: Iterable[tuple[Any, Any]]) -> "Moments":
        """Moments of a stream of (X, Y) chunks of any sizes, merged by the stable pairwise update.

        Source: Chan, Golub and LeVeque (1983), The American Statistician 37, eqs. (2.1).
        """
        total: Moments | None = None
        for X, Y in chunks:
            X, Y = check_samples(X, Y)
            part = _one_pass(X, Y, offset=0 if total is None else int(total.count or 0))
            total = part if total is None else total.merge(part)
        if total is None:
            raise ValueError("`chunks`: came without any chunk; give at least one pair (X, Y) with one row")
        return total

    @classmethod
    def given(cls, sigma_yx: Any, sigma_xx: Any = None, trace_yy: float | None = None, count: int | None = None):
        """Moments that are known already; `sigma_xx=None` stands for the identity (whitened inputs).

        `trace_yy=None`: unknown, the smallest loss is zero. Raises `ValueError` for shapes that do not fit,
        for a sigma_xx that is not symmetric positive semidefinite, and for non-finite entries.
        """
        sigma_yx = _finite_matrix("sigma_yx", sigma_yx)
        d_x = sigma_yx.shape[1]
        check_moments("sigma_yx", d_x)
        sigma_xx = np.eye(d_x) if sigma_xx is None else _finite_matrix("sigma_xx", sigma_xx)
        if sigma_xx.shape != (d_x, d_x):
            raise ValueError(
                f"`sigma_xx`: has shape {sigma_xx.shape}, but sigma_yx has {d_x} columns; it must be ({d_x}, {d_x})"
            )
        check_covariance(sigma_xx)
        if trace_yy is not None and not (np.isfinite(trace_yy) and trace_yy >= 0):
            raise ValueError(f"`trace_yy`: got {trace_yy}; E[|y|^2] must be finite and at least 0")
        return cls(count, None, None, sigma_xx, sigma_yx, None if trace_yy is None else float(trace_yy))

    @property
    def d_x(self) -> int:
        return self.covariance_yx.shape[1]

    @property
    def d_y(self) -> int:
        return self.covariance_yx.shape[0]

    @property
    def sigma_xx(self) -> np.ndarray:
        """E[x x^T], shape (d_x, d_x)."""
        return self.covariance_xx if self.mean_x is None else self.covariance_xx + np.outer(self.mean_x, self.mean_x)

    @property
    def sigma_yx(self) -> np.ndarray:
        """E[y x^T], shape (d_y, d_x)."""
        if self.mean_x is None or self.mean_y is None:
            return self.covariance_yx
        return self.covariance_yx + np.outer(self.mean_y, self.mean_x)

    @property
    def trace_yy(self) -> float | None:
        """E[|y|^2], or None where it is unknown."""
        if self.variance_y is None or self.mean_y is None:
            return self.variance_y
        return self.variance_y + float(self.mean_y @ self.mean_y)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of samples together; raises `ValueError` if either was not made from samples."""
        (n_1, x_1, y_1, variance_1), (n_2, x_2, y_2, variance_2) = self._sampled(), other._sampled()
        if (self.d_x, self.d_y) != (other.d_x, other.d_y):
            raise ValueError(
                f"`other`: has {other.d_x} inputs and {other.d_y} outputs, but this has {self.d_x} and {self.d_y}"
            )
        b = n_2 / (n_1 + n_2)
        dx, dy = x_2 - x_1, y_2 - y_1
        blend = lambda mine, theirs, cross: (1 - b) * mine + b * theirs + b * (1 - b) * cross
        return Moments(
            n_1 + n_2,
            x_1 + b * dx,
            y_1 + b * dy,
            blend(self.covariance_xx, other.covariance_xx, np.outer(dx, dx)),
            blend(self.covariance_yx, other.covariance_yx, np.outer(dy, dx)),
            float(blend(variance_1, variance_2, dy @ dy)),
        )

    def _sampled(self) -> tuple[int, np.ndarray, np.ndarray, float]:
        if self.count is None or self.mean_x is None or self.mean_y is None or self.variance_y is None:
            raise ValueError("`other`: moments that were given have no sample count and mean; merge moments of samples")
        return self.count, self.mean_x, self.mean_y, self.variance_y

    def centered(self) -> "Moments":
        """Moments of x - E[x] and y - E[y]; raises `ValueError` if the means are unknown."""
        if self.mean_x is None or self.mean_y is None:
            raise ValueError("`moments`: were given without means and cannot be centred; centre the samples instead")
        return replace(self, mean_x=np.zeros(self.d_x), mean_y=np.zeros(self.d_y))

    def whitened(self) -> tuple["Moments", "Whitening"]:
        r"""Moments of $T x$ with $T = \Lambda^{-1/2} Q^T$, and the `Whitening` that made them.

        $\Sigma_{xx} = Q \Lambda Q^T$ over its non-zero eigenvalues: directions without variance are dropped, so that
        $E[T x x^T T^T] = I$ exactly, of dimension rank($\Sigma_{xx}$). Raises `ValueError` if sigma_xx is zero.
        """
        whitening = Whitening.of(self.sigma_xx)
        T = whitening.transform
        mean_x = None if self.mean_x is None else T @ self.mean_x
        identity = np.eye(T.shape[0])
        covariance_xx = identity if mean_x is None else identity - np.outer(mean_x, mean_x)
        return replace(
            self, mean_x=mean_x, covariance_xx=covariance_xx, covariance_yx=self.covariance_yx @ T.T
        ), whitening

    def with_constant(self) -> "Moments":
        """Moments of inputs (1, x), for networks with biases; raises `ValueError` if the means are unknown.

        >>> Moments.of([[1.0], [3.0]], [[2.0], [6.0]]).with_constant().sigma_yx.tolist()
        [[4.0, 10.0]]
        """
        if self.mean_x is None:
            raise ValueError("`moments`: were given without means, so that of 1 and x is unknown; give samples")
        widened = lambda covariance, corner: np.pad(covariance, ((corner, 0), (1, 0)))
        return replace(
            self,
            mean_x=np.concatenate([[1.0], self.mean_x]),
            covariance_xx=widened(self.covariance_xx, 1),
            covariance_yx=widened(self.covariance_yx, 0),
        )

    def remarks(self) -> list[str]:
        """What a careful reader should know of these data: constant columns, singular sigma_xx, few samples."""
        remarks = []
        if self.count is not None and self.count < self.d_x:
            remarks.append(f"fewer samples ({self.count}) than inputs ({self.d_x})")
        if self.mean_x is not None:
            noise = 4 * np.finfo(float).eps * np.abs(self.mean_x)
            constant = np.flatnonzero(np.diagonal(self.covariance_xx) <= noise**2)
            if constant.size:
                which = ", ".join(str(i + 1) for i in constant[:6]) + (", ..." if constant.size > 6 else "")
                remarks.append(f"{constant.size} constant input column{'s'[: constant.size > 1]} ({which})")
        rank = Whitening.of(self.sigma_xx).transform.shape[0] if np.any(self.sigma_xx) else 0
        if rank < self.d_x:
            remarks.append(
                f"sigma_xx is singular (rank {rank} of {self.d_x}): weights along its null space never change the "
                "loss, and the solution is not unique"
            )
        return remarks


@dataclass(frozen=True, eq=False)
class Whitening:
    """The invertible step from inputs x to T x with identity second moment, on the range of sigma_xx.

    >>> whitening = Whitening.of(np.diag([4.0, 1.0, 0.0]))
    >>> whitening.transform.tolist()
    [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    transform: np.ndarray
    """T, shape (rank, d_x)."""
    inverse: np.ndarray
    """T^+, shape (d_x, rank)."""

    @classmethod
    def of(cls, sigma_xx: np.ndarray) -> "Whitening":
        """Principal-axes whitening of E[x x^T] = sigma_xx, directions of largest variance first."""
        eigenvalues, Q = np.linalg.eigh(check_covariance(np.asarray(sigma_xx, dtype=float)))
        kept = eigenvalues > _covariance_tolerance(eigenvalues)
        if not kept.any():
            raise ValueError("`sigma_xx`: is zero, so there is nothing to whiten; check that the inputs vary")
        roots, Q = np.sqrt(eigenvalues[kept][::-1]), Q[:, kept][:, ::-1]
        return cls(Q.T / roots[:, None], Q * roots)

    def to_whitened(self, network):
        """The network on whitened inputs with the same function on the data: W_1 <- W_1 T^+.

        Same function and loss; the gradient flow of the two networks differs unless sigma_xx is the identity.
        """
        return network.between(input_map=self.inverse)

    def to_original(self, network):
        """The network on the original inputs: W_1 <- W_1 T."""
        return network.between(input_map=self.transform)


@dataclass(frozen=True, eq=False)
class NormalForm:
    r"""The survey's reduction of a data set to its singular values (appendix A.2), and the way back.

    With $\Sigma_{xx} = Q \Lambda Q^T$ (range only) and $\Sigma_{yx} Q \Lambda^{-1/2} = U_Y \Sigma V_Y^T$ the half-mean
    loss of $\bar W_1, \dots, \bar W_h$ is $\frac12 \|\Sigma - W_h \cdots W_1\|_F^2$ + const with $W_h = U_Y^T \bar
    W_h$, $W_1 = \bar W_1 Q \Lambda^{1/2} V_Y$. The LANDSCAPES are the same (critical points, signs of the Hessian); the
    gradient FLOWS are the same only if $\Sigma_{xx}$ is the identity, because $W_1$ is transformed by a map that is not
    orthogonal.

    >>> form = NormalForm.of(Moments.given([[0.0, 2.0], [1.0, 0.0]]))
    >>> form.sigma.tolist(), form.same_flow
    ([[2.0, 0.0], [0.0, 1.0]], True)

    Source: Altafini, appendix A.2, with the constant and the flow corrected.
    """

    sigma: np.ndarray
    """Sigma, shape (d_y, rank of sigma_xx): singular values on the diagonal, zero elsewhere."""
    output_map: np.ndarray
    """U_Y^T, orthogonal (d_y, d_y)."""
    input_map: np.ndarray
    """Q Lambda^(1/2) V_Y, shape (d_x, rank)."""
    inverse_input_map: np.ndarray
    """Its pseudo-inverse V_Y^T Lambda^(-1/2) Q^T, shape (rank, d_x)."""
    same_flow: bool
    """Whether sigma_xx is the identity, so that gradient flows agree too."""

    @classmethod
    def of(cls, moments: Moments) -> "NormalForm":
        """Normal form of any moments; null directions of sigma_xx, which the loss does not see, are dropped."""
        whitening = Whitening.of(moments.sigma_xx)
        U, s, Vt = np.linalg.svd(moments.sigma_yx @ whitening.transform.T)
        sigma = np.zeros((U.shape[0], Vt.shape[0]))
        np.fill_diagonal(sigma, s)
        identity = moments.sigma_xx.shape == (Vt.shape[0],) * 2 and np.allclose(
            moments.sigma_xx, np.eye(Vt.shape[0]), rtol=0, atol=1e-12
        )
        return cls(sigma, U.T, whitening.inverse @ Vt.T, Vt @ whitening.transform, bool(identity))

    def reduce(self, network):
        """The network of the reduced problem: same half-mean loss up to the constant, same products inside."""
        return network.between(input_map=self.input_map, output_map=self.output_map)

    def lift(self, network):
        """The network of the original problem; along null(sigma_xx), where the loss is blind, W_1 is zero."""
        return network.between(input_map=self.inverse_input_map, output_map=self.output_map.T)


def with_constant(X: Any) -> np.ndarray:
    """Samples (n, d) with a first column of ones: the inputs of a network with biases.

    >>> with_constant([[2.0], [3.0]]).tolist()
    [[1.0, 2.0], [1.0, 3.0]]
    """
    X = np.asarray(_numeric("X", X), dtype=float)
    if X.ndim != 2:
        raise ValueError(f"`X`: has shape {X.shape}; samples are rows, so it must be (n, d)")
    return np.hstack([np.ones((len(X), 1)), X])


def row_slices(X: Any, Y: Any) -> Iterator[tuple[Any, Any]]:
    """Slices of rows of about `CHUNK_BYTES`; of memory maps, what was read is given back at once.

    >>> [x.shape for x, _ in row_slices(np.zeros((5, 2)), np.zeros(5))]
    [(5, 2)]
    """
    rows = max(1, CHUNK_BYTES // (8 * (X.shape[1] + (Y.shape[1] if Y.ndim == 2 else 1))))
    for start in range(0, X.shape[0], rows):
        yield X[start : start + rows], Y[start : start + rows]
        for array in (X, Y):
            # pages of a private map (mode "c") may hold changes that are nowhere else
            if isinstance(array, np.memmap) and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
                array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def check_samples(X: Any, Y: Any) -> tuple[Any, Any]:
    """X (n, d_x) and Y (n, d_y) as arrays of numbers with equally many rows, else one clear `ValueError`.

    >>> X, Y = check_samples([[1, 2], [3, 4]], [5, 6])
    >>> X.shape, Y.shape
    ((2, 2), (2, 1))
    """
    X, Y = _numeric("X", X), _numeric("Y", Y)
    if X.ndim != 2:
        raise ValueError(f"`X`: has shape {X.shape}; samples are rows, so it must be (n, d_x)")
    Y = Y[:, None] if Y.ndim == 1 else Y
    if Y.ndim != 2:
        raise ValueError(f"`Y`: has shape {Y.shape}; samples are rows, so it must be (n, d_y)")
    if X.shape[0] != Y.shape[0]:
        raise ValueError(f"`Y`: has {Y.shape[0]} rows, but X has {X.shape[0]}; every sample needs both")
    if 0 in X.shape or 0 in Y.shape:
        raise ValueError(f"`X`, `Y`: have shapes {X.shape} and {Y.shape}; there must be a sample, an input, an output")
    return X, Y


def check_covariance(sigma: np.ndarray) -> np.ndarray:
    """`sigma` made exactly symmetric; `ValueError` if it is not symmetric positive semidefinite to rounding.

    >>> check_covariance(np.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not np.allclose(sigma, sigma.T, rtol=0, atol=1e-10 * max(float(np.abs(sigma).max()), 1e-300)):
        raise ValueError("`sigma_xx`: is not symmetric; it must be E[x x^T]")
    sigma = (sigma + sigma.T) / 2
    lowest, highest = np.linalg.eigvalsh(sigma)[[0, -1]]
    if lowest < -1e-10 * max(highest, 1e-300):
        raise ValueError(f"`sigma_xx`: has the negative eigenvalue {lowest:.3g}; it must be E[x x^T]")
    return sigma


def _covariance_tolerance(eigenvalues: np.ndarray) -> float:
    return 4 * len(eigenvalues) * float(np.finfo(float).eps) * float(np.abs(eigenvalues).max())


def _numeric(name: str, values: Any) -> Any:
    try:
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
    except ValueError:
        raise ValueError(f"`{name}`: its rows have different lengths; every sample needs the same columns") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`{name}`: has entries of type {array.dtype}; give real numbers")
    return array


def _finite_matrix(name: str, values: Any) -> np.ndarray:
    matrix = np.array(_numeric(name, values), dtype=float)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"`{name}`: has shape {matrix.shape}; it must be a matrix with rows and columns")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(
            f"`{name}`: has {matrix[row, column]} at row {row + 1}, column {column + 1}; give finite numbers"
        )
    return matrix


def _one_pass(X: Any, Y: Any, offset: int) -> Moments:
    """Moments of one chunk in memory; `offset` rows came before it (for messages)."""
    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
    for name, array in (("X", X), ("Y", Y)):
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(
                f"`{name}`: has {array[row, column]} at row {offset + row + 1}, column {column + 1}; "
                "remove or fill such samples"
            )
    n = X.shape[0]
    check_moments("X", X.shape[1])
    mean_x, mean_y = _mean(X), _mean(Y)
    X, Y = X - mean_x, Y - mean_y
    return Moments(n, mean_x, mean_y, X.T @ X / n, Y.T @ X / n, float(np.vdot(Y, Y)) / n)


def _mean(X: np.ndarray) -> np.ndarray:
    """Mean of the rows, once corrected: exact for a constant column, whose variance is then zero."""
    mean = X.mean(axis=0)
    return mean + (X - mean).mean(axis=0)
