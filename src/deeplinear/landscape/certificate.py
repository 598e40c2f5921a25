"""Certificates of strict saddles: explicit directions along which the Hessian's form is negative."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..network import Network
from ._pivots import Pivot
from .forms import Quadratic, Weights, lifted, squared_norm
from .frame import Frame


class Certificate(NamedTuple):
    """A direction of negative curvature.

    >>> from deeplinear import SquaredError
    >>> from deeplinear.landscape import classify
    >>> found = classify(SquaredError.from_singular_values([1.0], 1, 1), Network([[[0.0]], [[0.0]]])).certificate
    >>> f"{found.value:.3f}", found.direction.widths
    ('-1.000', (1, 1, 1))
    """

    direction: Network
    """V, of norm 1 over all weights."""
    value: float
    """$d^2 L(W + \\epsilon V) / d\\epsilon^2$ at 0, below 0; an upper bound of the lowest eigenvalue of the Hessian."""


def certificate_of(
    frame: Frame,
    products: list[list[np.ndarray]],
    pivots: Sequence[Pivot],
    loss: Quadratic,
    weights: Weights,
    tolerance: float,
) -> Certificate | None:
    r"""The most negative of the directions that theory names, as a unit vector, with its form at the given weights.

    (A) where a mode i is left and a smaller one j learned: exchange them, with form $\sigma_j^2 - \sigma_i^2$. (B) at a
    pivot (i, j) that is not tightened: one singular vector pair through $V_i$ and $V_j$. The form is evaluated anew
    from the moments and the weights, in the data's coordinates. None if nothing is negative there.
    """
    best = None
    for one, other in _planes(frame, products, pivots, tolerance):
        direction, value = _lowest(loss, weights, *(lifted(frame.target, frame.turn_back(V)) for V in (one, other)))
        if value < 0 and (best is None or value < best[1]):
            best = direction, value
    return None if best is None else Certificate(Network(best[0]), best[1])


def _planes(
    frame: Frame, products: list[list[np.ndarray]], pivots: Sequence[Pivot], tolerance: float
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Pairs of directions, each in one layer, that span a plane with negative form."""
    if _exchangeable(frame):
        yield _exchange(frame)
    for pivot in pivots:
        if not pivot.tightened:
            yield from _through(frame, products, pivot.i, pivot.j, tolerance)


def _exchangeable(frame: Frame) -> bool:
    groups = frame.target.groups
    return bool(frame.S.size and frame.Q.size and groups[frame.Q[0]] < groups[frame.S[-1]])


def _exchange(frame: Frame) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(A): the largest mode left, i, takes the place of the smallest one learned."""
    i, h = frame.Q[0], len(frame.Z)
    below = np.outer(frame.E[1][:, -1], np.eye(frame.target.d_x)[i]) * frame.target.sigma[i]
    above = np.outer(np.eye(frame.target.d_y)[i], frame.F[h - 1][-1])
    return _in_layer(frame, 1, below), _in_layer(frame, h, above)


def _through(
    frame: Frame, products: list[list[np.ndarray]], i: int, j: int, tolerance: float
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """(B): V_i = p q^T and V_j = a b^T, where the end-to-end matrix feels one of the two not at all.

    b, p are singular vectors of the outer product of the pivot. Either q annihilates Z_{i-1} ... Z_1, or Z_h ...
    Z_{j+1} annihilates a; the other of the two makes q^T (inner product) a large.
    """
    n = len(products)
    inner, outer = products[j][i - 1 - j], products[i][(j - 1 - i) % n]
    left, _, right = np.linalg.svd(outer)
    b, p = left[:, 0], right[0]
    for rows, columns in (
        (_kernel(products[0][i - 1].T, tolerance), np.eye(inner.shape[1])),
        (np.eye(inner.shape[0]), _kernel(products[j][n - 1 - j], tolerance)),
    ):
        if rows.shape[1] and columns.shape[1]:
            left, s, right = np.linalg.svd(rows.T @ inner @ columns)
            if s[0] > tolerance:
                q, a = rows @ left[:, 0], columns @ right[0]
                V_i = np.outer(frame.N[i] @ p, q @ frame.M[i - 1])
                V_j = np.outer(frame.N[j] @ a, b @ frame.M[j - 1])
                yield _in_layer(frame, i, V_i), _in_layer(frame, j, V_j)


def _kernel(A: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal basis of the directions that A takes below an absolute tolerance."""
    if not A.size:
        return np.eye(A.shape[1])
    _, s, right = np.linalg.svd(A)
    return right[np.count_nonzero(s > tolerance) :].T


def _in_layer(frame: Frame, l: int, V: np.ndarray) -> list[np.ndarray]:
    """A direction in layer l alone."""
    sizes = [frame.target.d_x, *(E.shape[0] for E in frame.E[1:])]
    return [V if k == l else np.zeros((sizes[k], sizes[k - 1])) for k in range(1, len(sizes))]


def _lowest(loss: Quadratic, weights: Weights, V: Weights, U: Weights) -> tuple[list[np.ndarray], float]:
    """Unit direction of lowest form in the plane of two directions in different layers, and its form."""
    V, U = ([W / squared_norm(part) ** 0.5 for W in part] for part in (V, U))
    cross = loss.form(weights, V, U)
    form = np.array([[loss.form(weights, V), cross], [cross, loss.form(weights, U)]])
    x, y = np.linalg.eigh(form)[1][:, 0]
    direction = [x * v + y * u for v, u in zip(V, U, strict=True)]
    return direction, loss.form(weights, direction)
