r"""What is known of E[x x^T]: a factor, its rank and its inverse, decided in units in which every input has variance 1.

Mean and covariance stay apart, $E[x x^T] = C + m m^T$, and nothing large is subtracted from anything large: with D the
standard deviations, $D^{-1} C D^{-1} = Q L Q^T$ is a correlation matrix, in which rounding is rounding, whatever the
units and the offsets of the inputs. numpy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

EPS = float(np.finfo(float).eps)
CONSTANT = 4 * EPS
"""Standard deviation, relative to the mean, below which an input is constant: its spread is the mean's rounding."""
GRADED = 1e-6
"""Ratio of the variances (smallest, that is not zero, to largest) below which products with E[x x^T] lose digits."""
PIVOT = 0.01
"""An input is taken as independent of others if this share of the most independent one's size is left of it."""
UNRELATED = 1e-13
"""Coefficient, in units of the inputs' sizes, up to which inputs are unrelated, where no more is known."""


def rank_tolerance(n: int) -> float:
    """Relative size below which an eigenvalue of an n x n covariance is rounding."""
    return 4 * n * EPS


@dataclass(frozen=True, eq=False)
class SecondMoment:
    """E[x x^T] = T T^T; made by `of` and `of_root`.

    >>> moment = SecondMoment.of(np.diag([4.0, 1.0, 0.0]))
    >>> moment.rank, moment.variances.tolist(), moment.graded
    (2, [4.0, 1.0], False)
    """

    factor: np.ndarray
    """T, shape (d, rank), of full column rank."""
    inverse: np.ndarray
    """T^+, shape (rank, d)."""
    variances: np.ndarray
    """Eigenvalues of E[x x^T] that are not zero, largest first, shape (rank,)."""
    axes: np.ndarray
    """Their eigenvectors in columns, shape (d, rank)."""
    turn: np.ndarray
    """The orthogonal matrix with T turn = axes variances^(1/2), shape (rank, rank)."""
    graded: bool
    """Whether the variances differ so much that products with E[x x^T] lose the small ones."""
    correlated: float
    """Smallest eigenvalue of the correlation matrix that is not zero."""
    intercept: str
    """"hidden" where a constant is among the inputs as a combination of some that vary, and not as an input;

    "doubtful" where rounding may have made it one, and it does not count; else "".
    """
    _varying: np.ndarray | None  # (d, k): (x - m) @ _varying is white
    _offset: np.ndarray | None  # (k,): the mean in these coordinates

    @classmethod
    def of(cls, covariance: np.ndarray, mean: np.ndarray | None = None) -> "SecondMoment":
        """From the covariance (d, d) and the mean (d,); without a mean `covariance` is E[x x^T] itself."""
        mean = np.zeros(len(covariance)) if mean is None else mean
        constants = constant_inputs(covariance, mean)
        D = np.where(constants, np.abs(mean), np.sqrt(np.diagonal(covariance).clip(min=0)))
        D = np.where(D > 0, D, 1.0)
        Q, L = _correlations(covariance, D, ~constants)
        shift, roots = mean / D, np.sqrt(L)
        along = Q.T @ shift
        beside = _outside(shift, Q)  # the part of the mean that no variation reaches: a constant among the inputs
        far = np.linalg.norm(shift[~constants])
        noise = rank_tolerance(len(D)) * (1 + far + np.linalg.norm(along / L))
        intercept, part = "", np.linalg.norm(beside[~constants])
        if beside[constants].any():
            beside[~constants] = 0.0
        elif part > noise:  # inputs may repeat each other up to rounding, eps |m|, which moves standard deviations
            intercept = "hidden" if part > rank_tolerance(len(D)) * far**2 else "doubtful"
        blur = rank_tolerance(len(D)) / L.min(initial=1.0)
        if beside[constants].any() or intercept == "hidden":
            T, inverse = _beside_a_constant(Q, roots, shift, along / roots, beside)
            rows = lambda: _with_constant_row(Q, D, shift, beside, constants, blur)
        else:
            T, inverse = _turned_to_the_mean(Q, roots, shift, along / roots, beside)
            rows = lambda: _independent_rows(Q, D, blur)
        parts = _principal(T, inverse, D, covariance + np.outer(mean, mean), rows)
        return cls(*parts, float(L.min(initial=1.0)), intercept, Q / roots / D[:, None], along / roots)

    @classmethod
    def of_root(cls, root: np.ndarray) -> "SecondMoment":
        """From T itself, shape (d, k), whose columns are independent but for columns of zeros."""
        T = root[:, root.any(axis=0)]
        D = np.linalg.norm(T, axis=1)
        D = np.where(D > 0, D, 1.0)
        T = T / D[:, None]
        lengths = np.linalg.norm(T, axis=0)
        inverse = np.linalg.pinv(T / lengths, rcond=EPS) / lengths[:, None]
        rows = lambda: _independent_rows(np.linalg.qr(T / lengths)[0], D, UNRELATED)
        parts = _principal(T, inverse, D, root @ root.T, rows)
        return cls(*parts, np.nan, "", None, None)

    @property
    def rank(self) -> int:
        """Number of directions in which inputs occur."""
        return self.factor.shape[1]

    @property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """All d eigenvalues of E[x x^T], ascending and exactly 0 in its kernel, and eigenvectors in columns."""
        d, rank = self.factor.shape
        kernel = np.linalg.qr(self.axes, mode="complete")[0][:, rank:]
        return np.concatenate([np.zeros(d - rank), self.variances[::-1]]), np.hstack([kernel, self.axes[:, ::-1]])

    @property
    def root(self) -> np.ndarray:
        """R with R R^T = E[x x^T], shape (d, d): the symmetric one, or where that would lose digits T beside zeros."""
        if self.graded:
            return np.pad(self.factor, ((0, 0), (0, len(self.factor) - self.rank)))
        return (self.axes * np.sqrt(self.variances)) @ self.axes.T

    def solve(self, images: np.ndarray) -> np.ndarray:
        """The W (k, d) of least norm with W T = `images` (k, rank)."""
        W = images @ self.inverse
        for _ in range(1 + self.graded):  # turned coordinates mix large and small; the products W T do not
            W = W + (images - W @ self.factor) @ self.inverse
        return W

    def images(self, covariance_yx: np.ndarray, mean_y: np.ndarray | None) -> tuple[np.ndarray, float, float]:
        r"""W* T (d_y, rank) of the best W*, and of E[|y|^2] the explained variance and the part of the mean missed.

        With $z = L^{-1/2} Q^T D^{-1} (x - m)$, $B = E[y z^T]$ and u the mean in these coordinates: where no input is
        constant the mean of y is met up to $|m_y - B u|^2 / (1 + |u|^2)$, otherwise exactly.
        """
        assert self._varying is not None and self._offset is not None
        B, u = covariance_yx @ self._varying, self._offset
        mean_y = np.zeros(len(B)) if mean_y is None else mean_y
        explained, length = float(np.sum(B**2)), float(np.linalg.norm(u))
        if self.rank > len(u):
            return np.hstack([mean_y[:, None], B]), explained, 0.0
        if not length:
            return B, explained, float(mean_y @ mean_y)
        H = _reflection(u / length)
        first = (B @ H[:, :1] + length * mean_y[:, None]) / np.hypot(1.0, length)
        missed = np.sum(((mean_y - B @ u) / np.hypot(1.0, length)) ** 2)
        return np.hstack([first, B @ H[:, 1:]]), explained, float(missed)


def constant_inputs(covariance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Which inputs (d,) vary by no more than the rounding of their mean."""
    return np.sqrt(np.diagonal(covariance).clip(min=0)) <= CONSTANT * np.abs(mean)


def singular_values(T: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(U, s, V) of a T (d, k) of full column rank, every singular value to high relative accuracy.

    Accurate for T = D_1 B D_2 with diagonal D and well-conditioned B. Source: Drmac and Veselic (2008), SIAM J. Matrix
    Anal. Appl. 29, LAPACK's `gejsv` with full row pivoting.
    """
    from scipy.linalg import get_lapack_funcs  # a fifth of a second that few inputs need

    gejsv: Any = get_lapack_funcs("gejsv", (T,))
    s, U, V, work, _, info = gejsv(T, joba=2, jobu=0, jobv=0, jobr=1, jobt=0, jobp=0)
    if info:
        raise np.linalg.LinAlgError("the singular values of the inputs' second moment did not converge")
    return U, s * (work[0] / work[1]), V


def _principal(
    T: np.ndarray, inverse: np.ndarray, D: np.ndarray, sigma_xx: np.ndarray, independent: Callable[[], tuple]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """The first six fields of a `SecondMoment`, from D^-1 T and a left inverse of it.

    `independent()` gives inputs of which the others are combinations, and all inputs in terms of them.
    """
    factor, (d, rank) = T * D[:, None], T.shape
    variances, axes = np.linalg.eigh((sigma_xx + sigma_xx.T) / 2)
    variances, axes = variances[::-1][:rank], axes[:, ::-1][:, :rank]
    if not rank or variances[-1] > GRADED * variances[0]:
        turn = (axes / np.sqrt(variances)).T @ factor
        inverse = inverse / D if rank == d else (turn.T / np.sqrt(variances)) @ axes.T
        return factor, inverse, variances, axes, turn.T, False
    if rank == d:
        axes, s, turn = singular_values(factor)
        return factor, inverse / D, s**2, axes, turn, True
    rows, relations = independent()
    relations = relations * (D[:, None] / D[rows])
    G = np.asarray(np.linalg.qr(relations[np.argsort(-np.linalg.norm(relations, axis=1))], mode="r"))
    span = np.linalg.solve(G.T, relations.T).T  # orthonormal columns, relations = span G
    axes, s, turn = singular_values(G @ factor[rows])
    least = np.linalg.solve(G.T, ((inverse / D) @ relations).T).T @ span.T
    for _ in range(2):  # least norm is known to fewer digits than what it must map to what
        least = least + (np.eye(rank) - least @ factor) @ (inverse / D)
    return factor, least, s**2, span @ axes, turn, True


def _independent_rows(basis: np.ndarray, D: np.ndarray, blur: float) -> tuple[list[int], np.ndarray]:
    """Rows that the others are combinations of, of large D where there is a choice, and all rows in terms of them.

    Coefficients up to `blur` are rounding. Inputs that repeat others are recognised here, where every input has
    variance 1: in the user's units rounding of a large one exceeds a small one.
    """
    rest, rows = basis.copy(), []
    for _ in range(basis.shape[1]):
        size = np.linalg.norm(rest, axis=1)
        rows.append(int(np.argmax(np.where(size >= PIVOT * size.max(), D, -1.0))))
        direction = rest[rows[-1]] / size[rows[-1]]
        rest -= np.outer(rest @ direction, direction)
        rest[rows] = 0.0
    relations = basis @ np.linalg.inv(basis[rows])
    relations[rows] = np.eye(len(rows))
    relations[np.abs(relations) <= blur] = 0.0
    return rows, relations


def _with_constant_row(
    Q: np.ndarray, D: np.ndarray, shift: np.ndarray, beside: np.ndarray, constants: np.ndarray, blur: float
) -> tuple[list[int], np.ndarray]:
    """The same for inputs Q z + shift with a constant among them, or among their combinations."""
    rows, relations = _independent_rows(Q, D, blur)
    left = shift - relations @ shift[rows]  # what an input has of the constant beyond its share of the rows
    clear = np.abs(left) > 64 * EPS * (np.abs(shift) + np.abs(relations) @ np.abs(shift[rows]))
    left = np.where(clear, left, 0.0) if clear.any() else beside
    size = np.where(constants, np.abs(left), 0.0) if (constants & (left != 0)).any() else np.abs(left)
    row = int(np.argmax(np.where(size >= PIVOT * size.max(), D, -1.0)))
    share = left / left[row]
    relations = relations - np.outer(share, relations[row])
    relations[row] = 0.0
    return [*rows, row], np.hstack([relations, share[:, None]])


def _correlations(covariance: np.ndarray, D: np.ndarray, varying: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors (d, k) and eigenvalues (k,) of D^-1 C D^-1 that are not rounding; constant inputs take no part."""
    at = np.flatnonzero(varying)
    scaled = covariance[np.ix_(at, at)] / D[at] / D[at, None]
    L, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
    kept = rank_tolerance(len(at)) * np.abs(L).max(initial=0.0) < L
    Q = np.zeros((len(D), int(kept.sum())))
    Q[at] = vectors[:, kept]
    return Q, L[kept]


def _outside(vector: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """The part of a vector that is orthogonal to the columns of Q, to the last digit of what is left."""
    for _ in range(3):
        vector = vector - Q @ (Q.T @ vector)
    return vector


def _beside_a_constant(Q, roots, shift, offset, beside) -> tuple[np.ndarray, np.ndarray]:
    """T = [m, Q L^(1/2)], in units of D, and its inverse, where the mean has a direction of its own."""
    constant = beside / (beside @ shift)
    varying = Q.T / roots[:, None] - offset[:, None] * constant
    return np.hstack([shift[:, None], Q * roots]), np.vstack([constant, varying])


def _turned_to_the_mean(Q, roots, shift, offset, beside) -> tuple[np.ndarray, np.ndarray]:
    """T = Q L^(1/2) (I + u u^T)^(1/2), in units of D and turned: its first column alone has the mean.

    What is `beside` the range is too small to count, but stays in the mean.
    """
    length = float(np.linalg.norm(offset))
    if not length:
        return Q * roots, Q.T / roots[:, None]
    H = _reflection(offset / length)
    grown, turned = np.hypot(1.0, length), (Q * roots) @ H
    along = (shift - beside) / length if length > 1 else turned[:, 0]
    turned[:, 0] = along * grown + beside * (length / grown)
    inverse = H.T @ (Q.T / roots[:, None])
    inverse[0] /= grown
    return turned, inverse


def _reflection(direction: np.ndarray) -> np.ndarray:
    """An orthogonal matrix with this unit vector as its first column."""
    sign = -1.0 if direction[0] > 0 else 1.0
    v = direction.copy()
    v[0] -= sign
    H = np.eye(len(v)) - (2 / (v @ v)) * np.outer(v, v)
    H[:, 0] *= sign
    return H
