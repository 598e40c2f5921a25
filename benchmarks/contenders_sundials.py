"""SUNDIALS CVODE, through scikit-sundae."""

import numpy as np
from sksundae.cvode import CVODE, CVODEJacTimes

from .contenders_scipy import ATOL_SHARE, LARGEST_DENSE, Layers, Run
from .field import Field
from .problems import Problem

KRYLOV = 20  # dimensions of GMRES


def bdf(problem: Problem) -> Run:
    """Variable-order BDF: dense analytic Jacobian up to 2000 weights, else GMRES with analytic products."""
    field = Field(problem)
    options = _dense(field) if problem.size <= LARGEST_DENSE else _matrix_free(field)

    def velocity(t, y, out):
        out[:] = field.update(y)

    def solve(start: tuple[np.ndarray, ...], tolerance: float) -> Layers:
        solver = CVODE(velocity, rtol=tolerance, atol=ATOL_SHARE * tolerance, max_num_steps=10**8, **options)
        solution = solver.solve(np.concatenate([[0.0], problem.ts]), field.flat(start))
        if not solution.success:
            raise ArithmeticError(str(solution.message))
        return field.layers(solution.y[1:])

    return lambda tolerance: [solve(start, tolerance) for start in problem.starts]


def _dense(field: Field) -> dict:
    def jacobian(t, y, velocity, out):
        out[:] = field.jacobian(t, y)

    return {"linsolver": "dense", "jacfn": jacobian}


def _matrix_free(field: Field) -> dict:
    def setup(t, y, velocity):
        field.update(y)

    def product(t, y, velocity, v, out):
        out[:] = field.jacobian_product(v)

    return {"linsolver": "gmres", "krylov_dim": KRYLOV, "jactimes": CVODEJacTimes(setup, product)}
