"""The convex baseline of matrix completion."""

from typing import Any

import numpy as np

from .completion import MatrixCompletion

ACCURACY = 1e-6  # of the solver, absolute and relative


def minimum_nuclear_norm(objective: Any, accuracy: float = ACCURACY) -> np.ndarray:
    r"""The matrix of least nuclear norm $\|W\|_*$ that has the observed entries (or their averages), (d_y, d_x).

    $\min_W \|W\|_*$ subject to $W_{rk} = \bar y_{rk}$ at the observed entries: a semidefinite program of size
    d_x + d_y, solved by SCS through cvxpy (extra `completion`) to the relative `accuracy`. 100 x 100 with 2000 entries
    takes 3 seconds; time grows with the third power of d_x + d_y. Raises `ValueError` for other
    objectives and for an `accuracy` outside (0, 1), `ImportError` without cvxpy, `RuntimeError` if SCS finds no
    solution.

    >>> from deeplinear import MatrixCompletion
    >>> W = minimum_nuclear_norm(MatrixCompletion([1.0, 0.5, 0.5], [[0, 0], [0, 1], [1, 0]]))
    >>> round(float(W[1, 1]), 3)
    0.25

    Source: Candes and Recht (2009), Found. Comput. Math. 9, eq. (1.5); O'Donoghue et al. (2016), JOTA 169, for SCS.
    """
    if not isinstance(objective, MatrixCompletion):
        raise ValueError(f"`objective`: got {objective!r}; give a MatrixCompletion")
    if not 0 < accuracy < 1:
        raise ValueError(f"`accuracy`: got {accuracy}; give a number between 0 and 1")
    try:
        import cvxpy
    except ImportError:
        raise ImportError("the nuclear norm needs cvxpy: pip install 'deeplinear[completion]'") from None
    size = float(np.abs(np.asarray(objective.values)).max()) or 1.0
    W: Any = cvxpy.Variable(objective.shape)
    observed = W[np.asarray(objective.row), np.asarray(objective.column)]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(W)), [observed == np.asarray(objective.values) / size])
    problem.solve(solver=cvxpy.SCS, eps_abs=accuracy, eps_rel=accuracy)
    if W.value is None:
        raise RuntimeError(f"SCS ended with {problem.status!r}; loosen `accuracy`")
    return size * W.value
