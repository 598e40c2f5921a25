"""Samples to moments, in chunks of any size; centring, whitening and the survey's normal form, all invertible."""

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ._arrays import LARGEST, classes, floats, number, place, readable
from ._checks import check_whole, shown
from ._memory import check_moments
from ._remarks import remarks_on
from ._second_moment import SecondMoment, constant_inputs
from ._whitening import Fit, NormalForm, Whitening, check_covariance

__all__ = ["Fit", "Modes", "Moments", "NormalForm", "Whitening", "check_samples", "row_slices", "with_constant"]

CHUNK_BYTES = 2**25
"""Rows are read in slices of about this size, so that memory-mapped arrays larger than memory work."""

REMOVE = "remove or fill such samples"


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
    _rests: tuple[Any, Any] | None = field(default=None, repr=False)  # what rounding left of the means
    _solved: Fit | None = field(default=None, repr=False)  # where it is known better than from the numbers above

    @classmethod
    def of(cls, X: Any, Y: Any = None) -> "Moments":
        """Moments of samples in rows: X (n, d_x), Y (n, d_y) or (n,); a task or moments in place of X give theirs.

        Reads `CHUNK_BYTES` at a time; `numpy.load(..., mmap_mode="r")` therefore serves data larger than memory.
        Raises `ValueError` for empty, ragged, non-numeric or non-finite data.
        """
        known = X if isinstance(X, Moments) else getattr(X, "moments", None)  # of a task
        if isinstance(known, Moments):
            if Y is not None:
                raise ValueError(f"`Y`: got {shown(Y)}, but {shown(X)} has its own outputs; leave it out")
            return known
        X, Y = check_samples(X, Y)
        return cls.from_chunks(row_slices(X, Y))

    @classmethod
    def from_chunks(cls, chunks: Iterable[tuple[Any, Any]]) -> "Moments":
        """Moments of a stream of (X, Y) chunks of any sizes, merged by the stable pairwise update.

        Source: Chan, Golub and LeVeque (1983), The American Statistician 37, eqs. (2.1).
        """
        total: Moments | None = None
        peaks: dict[str, np.ndarray] = {}
        for X, Y in chunks:
            X, Y = check_samples(X, Y)
            part = _one_pass(X, Y, 0 if total is None else int(total.count or 0), peaks)
            total = part if total is None else total.merge(part)
        if total is None:
            raise ValueError("`chunks`: came without any chunk; give at least one pair (X, Y) with one row")
        for name, peak in peaks.items():
            if ((peak > 0) & (peak < 1 / LARGEST)).any():
                column = int(np.argmax((peak > 0) & (peak < 1 / LARGEST)))
                raise ValueError(_beyond(name, f"column {column + 1} never exceeds {peak[column]:.3g}"))
        return total

    @classmethod
    def given(cls, sigma_yx: Any, sigma_xx: Any = None, trace_yy: float | None = None, count: Any = None):
        """Moments that are known already; `sigma_xx=None` stands for the identity (whitened inputs).

        `trace_yy=None`: unknown, the smallest loss is zero. Raises `ValueError` for shapes that do not fit,
        for a sigma_xx that is not symmetric positive semidefinite, for entries that are not finite or whose squares
        leave float64, and for a `count` that is no positive whole number.
        """
        if count is not None:
            check_whole("count", count, 1)
        sigma_yx = floats("sigma_yx", sigma_yx, 2, "(d_y, d_x)")
        d_x = sigma_yx.shape[1]
        check_moments("sigma_yx", d_x)
        sigma_xx = np.eye(d_x) if sigma_xx is None else floats("sigma_xx", sigma_xx, 2, "(d_x, d_x)")
        if sigma_xx.shape != (d_x, d_x):
            raise ValueError(
                f"`sigma_xx`: has shape {sigma_xx.shape}, but sigma_yx has {d_x} columns; it must be ({d_x}, {d_x})"
            )
        check_covariance(sigma_xx)
        if trace_yy is not None:
            trace_yy = number("trace_yy", trace_yy, "E[|y|^2], finite and at least 0", low=0.0)
        for name, values in (("sigma_yx", sigma_yx), ("sigma_xx", np.diagonal(sigma_xx)), ("trace_yy", trace_yy)):
            largest = np.max(np.abs(0.0 if values is None else values))
            if LARGEST**2 < largest < np.inf or 0 < largest < LARGEST**-2:
                raise ValueError(_beyond(name, f"its largest entry is {largest:.3g}"))
        return cls(count, None, None, sigma_xx, sigma_yx, trace_yy)

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
        if self._rests and other._rests:
            dx, dy = dx + (other._rests[0] - self._rests[0]), dy + (other._rests[1] - self._rests[1])
        rest_x, rest_y = self._rests or (0.0, 0.0)
        (x, rest_x), (y, rest_y) = _sum(x_1, rest_x + b * dx), _sum(y_1, rest_y + b * dy)
        blend = lambda mine, theirs, cross: (1 - b) * mine + b * theirs + b * (1 - b) * cross
        return Moments(
            n_1 + n_2,
            x,
            y,
            blend(self.covariance_xx, other.covariance_xx, np.outer(dx, dx)),
            blend(self.covariance_yx, other.covariance_yx, np.outer(dy, dx)),
            float(blend(variance_1, variance_2, dy @ dy)),
            (rest_x, rest_y),
        )

    def _sampled(self) -> tuple[int, np.ndarray, np.ndarray, float]:
        if self.count is None or self.mean_x is None or self.mean_y is None or self.variance_y is None:
            raise ValueError("`other`: moments that were given have no sample count and mean; merge moments of samples")
        return self.count, self.mean_x, self.mean_y, self.variance_y

    @property
    def constants(self) -> np.ndarray:
        """Which inputs (d_x,) vary by no more than the rounding of their mean."""
        mean = np.zeros(self.d_x) if self.mean_x is None else self.mean_x
        return constant_inputs(self.covariance_xx, mean)

    def fit(self) -> Fit:
        """The best linear map, what it leaves, and what is known of E[x x^T]; made once, asked by all."""
        return self._fit if self._solved is None else self._solved

    @cached_property
    def _fit(self) -> Fit:
        moment = SecondMoment.of(self.covariance_xx, self.mean_x)
        images, explained, missed = moment.images(self.covariance_yx, self.mean_y)
        unexplained = None if self.variance_y is None else max(self.variance_y - explained, 0.0) + missed
        return Fit(moment, moment.solve(images), images, unexplained, self.sigma_xx)

    def centered(self) -> "Moments":
        """Moments of x - E[x] and y - E[y]; raises `ValueError` if the means are unknown.

        Inputs that are constant become exactly zero, whatever rounding left of them.
        """
        if self.mean_x is None or self.mean_y is None:
            raise ValueError("`moments`: were given without means and cannot be centred; centre the samples instead")
        kept = np.where(self.constants, 0.0, 1.0)
        return replace(
            self,
            mean_x=np.zeros(self.d_x),
            mean_y=np.zeros(self.d_y),
            covariance_xx=self.covariance_xx * kept * kept[:, None],
            covariance_yx=self.covariance_yx * kept,
            _rests=None,
            _solved=None,
        )

    def whitened(self) -> tuple["Moments", Whitening]:
        r"""Moments of $T x$ with $T = \Lambda^{-1/2} Q^T$, and the `Whitening` that made them.

        $\Sigma_{xx} = Q \Lambda Q^T$ over its non-zero eigenvalues: directions without variance are dropped, so that
        $E[T x x^T T^T] = I$ exactly, of dimension rank($\Sigma_{xx}$). Raises `ValueError` if sigma_xx is zero.
        """
        fit = self.fit()
        whitening = Whitening.from_moment(fit.moment)
        T, identity = whitening.transform, np.eye(fit.moment.rank)
        mean_x = None if self.mean_x is None else T @ self.mean_x
        images = fit.images @ fit.moment.turn
        whole = images if mean_x is None or self.mean_y is None else images - np.outer(self.mean_y, mean_x)
        return replace(
            self,
            mean_x=mean_x,
            covariance_xx=identity if mean_x is None else identity - np.outer(mean_x, mean_x),
            covariance_yx=whole,
            _rests=None,
            _solved=Fit(SecondMoment.of(identity), images, images, fit.unexplained, identity),
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
            _rests=self._rests and (np.concatenate([[0.0], self._rests[0]]), self._rests[1]),
            _solved=None,
        )

    def remarks(self) -> list[str]:
        """What a careful reader should know of these data: what float64 cannot tell, rank, few samples."""
        varying = None if self.mean_x is None else ~self.constants
        return remarks_on(self.count, self.mean_x, self.covariance_xx, varying, self.fit().moment)


def with_constant(X: Any) -> np.ndarray:
    """Samples (n, d) with a first column of ones: the inputs of a network with biases.

    >>> with_constant([[2.0], [3.0]]).tolist()
    [[1.0, 2.0], [1.0, 3.0]]
    """
    X = floats("X", X, 2, "(n, d), samples in rows")
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
    if Y is None:
        pair = isinstance(X, tuple | list) and len(X) == 2
        raise ValueError("`X`: is a pair; give two arguments, X, Y" if pair else "`Y`: is missing; give X, Y")
    texts = classes("Y", Y)
    if texts is not None:
        raise ValueError(
            f"`Y`: has the classes {', '.join(texts[0][:3])}; give numbers, such as columns of zeros and ones, one a "
            "class, which `learn` makes"
        )
    X, Y = readable("X", X), readable("Y", Y)
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


def _beyond(name: str, what: str) -> str:
    return (
        f"`{name}`: {what}, and squares of such numbers leave the range of float64; divide by a power of ten, so that "
        "values are near 1"
    )


def _sum(a: np.ndarray, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """a + b as floats and what their rounding left. Source: Knuth, TAOCP 2, section 4.2.2, theorem B."""
    s = a + b
    moved = s - a
    return s, (a - (s - moved)) + (b - moved)


def _one_pass(X: Any, Y: Any, offset: int, peaks: dict[str, np.ndarray]) -> Moments:
    """Moments of one chunk in memory; `offset` rows came before it (for messages), with these largest entries."""
    X, Y = (floats(name, part, instead=REMOVE, before=offset) for name, part in (("X", X), ("Y", Y)))
    for name, array in (("X", X), ("Y", Y)):
        largest = np.abs(array).max(axis=0)
        if not (largest <= LARGEST).all():
            row, column = np.argwhere(np.abs(array) > LARGEST)[0]
            raise ValueError(_beyond(name, f"has {array[row, column]:.6g}{place((row, column), offset)}"))
        peaks[name] = np.maximum(peaks[name], largest) if name in peaks else largest
    check_moments("X", X.shape[1])
    n, (mean_x, rest_x, X), (mean_y, rest_y, Y) = len(X), _mean(X), _mean(Y)
    return Moments(n, mean_x, mean_y, X.T @ X / n, Y.T @ X / n, float(np.vdot(Y, Y)) / n, (rest_x, rest_y))


def _mean(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of the rows, what its rounding left, and the rows without both."""
    mean = X.mean(axis=0)
    X = X - mean
    rest = X.mean(axis=0)
    return *_sum(mean, rest), X - rest
