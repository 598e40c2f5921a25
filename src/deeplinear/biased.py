r"""Two layers with biases and one output: what they share with least squares, and where they do not.

$\hat z = [1, [1, X] U] v$ with samples X (n, d) in rows, $U$ (d + 1, m) whose first row is the hidden biases and v
(m + 1,) whose first entry is the output's bias. Cost: $\frac12 \sum_i (z_i - \hat z_i)^2$, the scale `HALF_SUM`.
"""

from typing import Any, NamedTuple

import numpy as np

from ._arguments import checks_arguments
from ._arrays import LARGEST, floats
from ._checks import TOLERANCE, Check, check_whole
from .data import with_constant


class Weights(NamedTuple):
    """Weights of the model, or derivatives with respect to them.

    >>> predictions(*Weights(np.array([[1.0], [2.0]]), np.array([0.5, 3.0])), [[1.0]]).tolist()
    [9.5]
    """

    U: np.ndarray
    """Shape (d + 1, m), the hidden biases in the first row."""
    v: np.ndarray
    """Shape (m + 1,), the output's bias first."""


def predictions(U: Any, v: Any, X: Any) -> np.ndarray:
    r"""$\hat z = [1, [1, X] U] v$, shape (n,).

    >>> predictions([[1.0], [2.0]], [0.5, 3.0], [[1.0], [0.0]]).tolist()
    [9.5, 3.5]
    """
    if X is None:
        raise ValueError("`X`: is None; give samples in rows, (n, d)")
    U, v, X = _checked(U, v, X)
    return X @ U @ v[1:] + v[0]


def cost(U: Any, v: Any, X: Any, z: Any) -> float:
    r"""$C = \frac12 \sum_i (z_i - \hat z_i)^2$.

    >>> cost([[1.0], [2.0]], [0.5, 3.0], [[1.0], [0.0]], [9.5, 4.5])
    0.5
    """
    return float(np.sum(_deviations(U, v, X, z) ** 2)) / 2


def collapsed(U: Any, v: Any) -> np.ndarray:
    r"""Coefficients w = $U v_h + v_0 e_0$, (d + 1,), of the linear regression $\hat z = [1, X] w$ that the model is.

    >>> collapsed([[1.0], [2.0]], [0.5, 3.0]).tolist()
    [3.5, 6.0]
    """
    U, v, _ = _checked(U, v)
    w = U @ v[1:]
    w[0] += v[0]
    return w


def least_squares(X: Any, z: Any) -> np.ndarray:
    r"""Coefficients of least squares with an intercept, (d + 1,); the shortest where they are not unique.

    >>> least_squares([[0.0], [1.0]], [1.0, 3.0]).round(12).tolist()
    [1.0, 2.0]
    """
    X, z = _checked_data(X, z)
    return np.linalg.lstsq(X, z, rcond=None)[0]


def normal_residuals(U: Any, v: Any, X: Any, z: Any) -> np.ndarray:
    r"""$g = [1, X]^T d$ with $d = \hat z - z$, (d + 1,): zero where w solves the normal equations of least squares.

    >>> normal_residuals([[0.0], [0.0]], [1.0, 0.0], [[0.0], [1.0]], [0.0, 2.0]).tolist()
    [0.0, -1.0]
    """
    d = _deviations(U, v, X, z)
    return with_constant(X).T @ d


def gradients(U: Any, v: Any, X: Any, z: Any) -> Weights:
    r"""$\partial C / \partial U = g v_h^T$ and $\partial C / \partial v = [g_0, U^T g]$, with g the normal residuals.

    The gradient flow is minus this. With $d = \hat z - z$; the opposite sign, printed once, contradicts the gradients.

    >>> gradients([[0.0], [1.0]], [0.0, 1.0], [[0.0], [1.0]], [0.0, 3.0]).U.tolist()
    [[-2.0], [-2.0]]
    """
    g = normal_residuals(U, v, X, z)
    U, v, _ = _checked(U, v)
    return Weights(np.outer(g, v[1:]), np.concatenate([g[:1], U.T @ g]))


def conserved(U: Any, v: Any) -> np.ndarray:
    r"""$U^T U - v_h v_h^T$, (m, m), with the hidden biases and without $v_0$: constant along the gradient flow.

    >>> conserved([[1.0], [2.0]], [0.5, 3.0]).tolist()
    [[-4.0]]
    """
    U, v, _ = _checked(U, v)
    return U.T @ U - np.outer(v[1:], v[1:])


@checks_arguments
def critical_point_is_least_squares(U: Any, v: Any, X: Any, z: Any, *, tolerance: float = TOLERANCE) -> Check:
    r"""Whether these weights solve the normal equations, as every critical point with $v_h \ne 0$ does.

    Because $\partial C / \partial U = g v_h^T$, $|g| = \|\partial C / \partial U\|_F / |v_h|$ exactly. Where $v_h = 0$
    the gradient vanishes for any g with $g_0 = 0$ and $U^T g = 0$: a strict saddle, at which the equivalence with least
    squares fails (`extra_saddle`). Violation: $|g|$ relative to $|[1, X]| (|z| + |\hat z|)$; margin: $|v_h|$ relative
    to all weights; the note says what the gradient is.

    >>> X, z = [[0.0], [1.0]], [1.0, 3.0]
    >>> critical_point_is_least_squares([[0.0], [1.0]], [1.0, 2.0], X, z).holds
    True
    >>> check = critical_point_is_least_squares(*extra_saddle(X, z, width=2), X, z)
    >>> check.holds, check.note
    (False, 'gradient 0.0e+00: a critical point with v_h = 0, an extra saddle')
    """
    g, slopes = normal_residuals(U, v, X, z), gradients(U, v, X, z)
    U, v, ones_and_X = _checked(U, v, X)
    size = float(np.linalg.norm(ones_and_X) * (np.linalg.norm(z) + np.linalg.norm(predictions(U, v, X))))
    gradient = float(np.hypot(np.linalg.norm(slopes.U), np.linalg.norm(slopes.v)))
    weights = float(np.hypot(np.linalg.norm(U), np.linalg.norm(v)))
    violation, share = np.linalg.norm(g) / max(size, 1e-300), np.linalg.norm(v[1:]) / max(weights, 1e-300)
    note = f"gradient {gradient:.1e}"
    if violation > tolerance and gradient <= tolerance * size * max(weights, 1.0):
        note += ": a critical point with v_h = 0, an extra saddle"
    return Check("normal equations", "[1, X]^T (z_hat - z) = 0", float(violation), tolerance, float(share), note)


@checks_arguments
def extra_saddle(X: Any, z: Any, width: int, U: Any = None) -> Weights:
    r"""A critical point that least squares does not have: $v_h = 0$, $v_0$ the mean of z, columns of U orthogonal to g.

    `U` (d + 1, width) is projected so that $U^T g = 0$; zero for None. A strict saddle where the inputs explain
    anything: the second derivative of the cost along $\dot U = -g b^T$, $\dot v_h = b$ is
    $|[1, X] U b|^2 - 2 |b|^2 |g|^2$, negative for the U of None.

    >>> extra_saddle([[0.0], [1.0]], [1.0, 3.0], width=1).v.tolist()
    [2.0, 0.0]
    """
    ones_and_X, z = _checked_data(X, z)
    width = check_whole("width", width, 1)
    U = np.zeros((ones_and_X.shape[1], width)) if U is None else _numbers("U", U, 2, "(d + 1, width)")
    if U.shape != (ones_and_X.shape[1], width):
        raise ValueError(
            f"`U`: has shape {U.shape}; for these inputs and width it must be {ones_and_X.shape[1], width}"
        )
    v = np.concatenate([[z.mean()], np.zeros(width)])
    g = ones_and_X.T @ (v[0] - z)
    g[0] = 0.0  # the sum of deviations from the mean
    if g @ g > 0:
        U = U - np.outer(g, g @ U / (g @ g))
    return Weights(U, v)


def _numbers(name: str, value: Any, ndim: int, axes: str) -> np.ndarray:
    return floats(name, value, ndim, axes, largest=LARGEST)


def _deviations(U: Any, v: Any, X: Any, z: Any) -> np.ndarray:
    """d = z_hat - z."""
    _, z = _checked_data(X, z)
    return predictions(U, v, X) - z


def _checked(U: Any, v: Any, X: Any = None) -> tuple[np.ndarray, np.ndarray, Any]:
    """U, v and [1, X], if the shapes fit."""
    U, v = _numbers("U", U, 2, "(d + 1, m)"), _numbers("v", v, 1, "(m + 1,)")
    if v.shape != (U.shape[1] + 1,):
        raise ValueError(
            f"`U`, `v`: have shapes {U.shape} and {v.shape}; U is (d + 1, m) with the biases first, v is (m + 1,)"
        )
    if X is None:
        return U, v, None
    X = with_constant(_numbers("X", X, 2, "(n, d)"))
    if X.shape[1] != len(U):
        raise ValueError(
            f"`X`: has {X.shape[1] - 1} columns, but U has {len(U)} rows; U has one row more than X columns"
        )
    return U, v, X


def _checked_data(X: Any, z: Any) -> tuple[np.ndarray, np.ndarray]:
    """[1, X] and z, if the shapes fit."""
    X, z = with_constant(_numbers("X", X, 2, "(n, d)")), _numbers("z", z, 1, "(n,)")
    if z.shape != (len(X),):
        raise ValueError(f"`z`: has shape {z.shape}; for {len(X)} samples it must be ({len(X)},)")
    return X, z
