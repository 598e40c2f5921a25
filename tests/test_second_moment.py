"""Rank, optimum and minimum in any units and with any offsets, against least squares in exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplinear._linalg import one_thread
from deeplinear._remarks import ALIKE, FAR
from deeplinear._second_moment import rank_tolerance
from deeplinear.data import Moments

EPS = float(np.finfo(float).eps)


def whole(column):
    """A column of floats as whole numbers times one power of 2."""
    mantissas, exponents = np.frexp(column)
    lowest = int(exponents[mantissas != 0].min(initial=0)) - 53
    return [int(m * 2.0**53) << (int(e) - 53 - lowest) for m, e in zip(mantissas, exponents, strict=True)], lowest


def solved(gram, right):
    """Independent columns of a Gram matrix of whole numbers, and numerators and denominator of G^-1 b (Bareiss)."""
    rows, columns, last = [[*row, b] for row, b in zip(gram, right, strict=True)], [], 1
    for column in range(len(gram)):
        pivot = rows[column]
        if not pivot[column]:
            continue  # a positive semidefinite matrix: its whole row is zero by now
        for i, row in enumerate(rows):
            if i != column:
                rows[i] = [(pivot[column] * a - row[column] * b) // last for a, b in zip(row, pivot, strict=True)]
        last = pivot[column]
        columns.append(column)
    return columns, [rows[column][-1] for column in columns], last


def exact_fit(X, y):
    """Rank of X, the least-squares residuals of y (n,) and their mean square, all exact for these floats."""
    columns = [whole(column)[0] for column in X.T]
    y, unit = whole(y)
    inner = lambda a, b: sum(p * q for p, q in zip(a, b, strict=True))
    chosen, W, below = solved([[inner(a, b) for b in columns] for a in columns], [inner(a, y) for a in columns])
    left = [y[i] * below - sum(w * columns[j][i] for w, j in zip(W, chosen, strict=True)) for i in range(len(y))]
    mean_square = Fraction(sum(value * value for value in left), below * below * len(y))
    return len(chosen), [float(Fraction(value, below)) * 2.0**unit for value in left], float(mean_square) * 4.0**unit


def exact_correlations(X):
    """Eigenvalues of the correlation matrix of the columns that vary, entries exact before rounding; its rank."""
    columns = [whole(column)[0] for column in X.T if np.ptp(column) > 0]
    centred = [[len(column) * x - sum(column) for x in column] for column in columns]
    inner = lambda i, j: sum(a * b for a, b in zip(centred[i], centred[j], strict=True))
    n, length = len(columns), [inner(i, i) for i in range(len(columns))]
    rank = len(solved([[inner(i, j) for j in range(n)] for i in range(n)], [0] * n)[0])
    cosine = lambda i, j: (1 if inner(i, j) > 0 else -1) * (inner(i, j) ** 2 / (length[i] * length[j])) ** 0.5
    R = np.array([[1.0 if i == j else cosine(i, j) for j in range(n)] for i in range(n)]).reshape(n, n)
    return np.linalg.eigvalsh(R), rank


def drawn(seed):
    """Samples of random units, offsets, repetitions, constants; and outputs that they explain, or partly."""
    rng = np.random.default_rng(seed)
    n, bases = int(rng.integers(1, 13)), int(rng.integers(1, 5))
    Z = rng.integers(-50, 51, (n, bases)).astype(float) if rng.random() < 0.7 else rng.standard_normal((n, bases))
    columns = list(Z.T * (2.0 ** rng.integers(-20, 21, bases) if rng.random() < 0.5 else np.ones(bases))[:, None])
    offsets = rng.choice([0, 1, 10**3, 10**6, 10**8], bases) if rng.random() < 0.7 else np.zeros(bases)
    columns = [column + offset * np.ceil(np.ptp(column)) for column, offset in zip(columns, offsets, strict=True)]
    for _ in range(int(rng.integers(0, 4))):
        a, b = (columns[int(i)] for i in rng.integers(0, len(columns), 2))
        columns.append(
            [a, 2 * a, a + b, a - b, 2 * a + 3, np.full(n, rng.choice([0.0, 1.0, 0.1, 1e6]))][rng.integers(6)]
        )
    X = np.stack(columns, axis=1)
    W = rng.standard_normal(X.shape[1]) if rng.random() < 0.5 else rng.integers(-2, 3, X.shape[1])
    spread = X - X.mean(axis=0)
    y = spread @ W / max(np.abs(spread @ W).max(), 1e-300)
    y = y + rng.choice([0.0, 1e-6, 1.0]) * rng.standard_normal(n) + rng.choice([0.0, 1.0, 1e6])
    powers = rng.integers(-12, 13, X.shape[1])
    units = 10.0**powers if rng.random() < 0.5 else 2.0 ** (3 * powers)  # powers of 2 round nothing
    return X * units, y * 10.0 ** rng.integers(-6, 7)


def check_case(X, y):
    """Asserts that the fit is right within what is stated, or that the remarks say what float64 cannot tell."""
    moments = Moments.of(X, y)
    fit, remarks = moments.fit(), " ".join(moments.remarks())
    rank, left, least = exact_fit(X, y)
    spectrum, varying = exact_correlations(X)
    smallest = min(fit.moment.correlated, 1.0)
    assert smallest > ALIKE or "combinations" in remarks
    assert (fit.moment.rank < X.shape[1]) == ("singular" in remarks)
    size = float(moments.variance_y or 0.0)
    if not met_exactly(X):
        size += float(np.sum(moments.mean_y**2))
    W = fit.optimum[0]
    here = y.astype(np.longdouble) - X.astype(np.longdouble) @ W
    rounding = 64 * EPS * (np.abs(X) @ np.abs(W) + np.abs(y))
    allowed = rounding.max() + 64 * len(X) * EPS * np.sqrt(size) / smallest
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.abs(moments.mean_x) / np.sqrt(np.diagonal(moments.covariance_xx))
    far = np.max(np.where(moments.constants, 0.0, far), initial=0.0)
    assert (far > FAR) == ("far above" in remarks)
    if far > 100 * FAR or "may be constant" in remarks:
        return "cannot tell"
    # the map that is returned reaches the loss that is returned, whatever the rank: inputs that repeat each other do so
    # up to the rounding of their values, in units of their spread
    alike = np.count_nonzero(spectrum > 64 * rank_tolerance(X.shape[1])) < varying
    reached = abs(fit.unexplained - float(np.mean(here**2)))
    blur = 64 * len(X) * EPS * size / smallest * (1 + far * alike)
    assert reached <= blur + np.mean(allowed * (np.abs(here) + allowed)), (reached, blur, fit.unexplained, size, alike)
    if fit.moment.rank < rank and (far > FAR or hidden_constant(X) > 1e6):
        assert "singular" in remarks
        return "cannot tell"
    if alike:
        assert any(word in remarks for word in ("singular", "combination"))
        return "cannot tell"
    assert fit.moment.rank == rank
    assert abs(fit.unexplained - least) <= 64 * len(X) * EPS * size / smallest, (fit.unexplained, least, size)
    assert (np.abs(here - left) <= allowed).all(), np.abs(here - left) / allowed
    return "right"


def hidden_constant(X):
    """Weights, in units of the inputs' spreads, of the combination of inputs that is 1."""
    columns = [whole(column)[0] for column in X.T]
    inner = lambda a, b: sum(p * q for p, q in zip(a, b, strict=True))
    chosen, W, below = solved([[inner(a, b) for b in columns] for a in columns], [sum(a) for a in columns])
    spread = [max(column) - min(column) for column in columns]
    return sum(abs(w) * spread[j] / abs(below) for w, j in zip(W, chosen, strict=True))


def met_exactly(X):
    """Whether the inputs contain a constant: a column, or a combination of columns."""
    ones = np.ones((len(X), 1))
    return exact_fit(X, ones[:, 0])[2] == 0


@pytest.mark.search
@given(seed=st.integers(0, 2**32 - 1))
def test_any_units_offsets_and_repetitions(seed):
    with one_thread():
        check_case(*drawn(seed))
