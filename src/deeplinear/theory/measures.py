"""What statements measure with: slopes without rounding, second variations, dense matrices of small networks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..blockshift import BlockMatrix, blk, rho
from ..curvature.lanczos import Problem, ends
from ..landscape.forms import apart, flat, squared_norm
from .question import Layers, Question, adjacency, product

DENSE_NODES, DENSE_WEIGHTS = 1200, 600
"""Nodes up to which adjacency matrices are written out; weights up to which Hessians are."""
STEPS = 40
"""Products with a Hessian that is not formed."""
TINY = 1e-120
"""So small that its third power vanishes, where terms of first order may too."""
CANCELLED = 1e-3
"""Share of its terms below which a gradient is measured relative to them: rounding is all that is left near zero."""


def square_loss(sigma: np.ndarray, weights: Layers) -> Any:
    r"""$\frac12 \sum (\Sigma - W_{1:h})^2$, of complex weights too."""
    return ((sigma - product(weights)) ** 2).sum() / 2


def slope(function: Callable[[Layers], Any], weights: Layers, V: Layers) -> float:
    """Derivative of a polynomial of the weights along V, by a complex step: exact to rounding, no differences."""
    return float(np.imag(function([W + 1j * TINY * D for W, D in zip(weights, V, strict=True)])) / TINY)


def second_variation(sigma: np.ndarray, weights: Layers, V: Layers) -> tuple[float, float]:
    r"""$\|\rho_1(A, V)\|_F^2 - 2 \, \mathrm{tr}(\rho_2(A, V) (E - A^h)^T)$, eq. (22), and the size of its two terms."""
    A, direction = adjacency(weights), adjacency(V)
    residual = blk(A.depth, [sigma - product(weights)], A.widths)
    first, second = rho(A, direction, 1), rho(A, direction, 2)
    gain, bend = float(first.inner(first)), 2 * float(second.inner(residual))
    size = gain + 2 * float(second.norm()) * float(residual.norm()) if second.blocks else gain
    return gain - bend, size


def inner(V: Layers, U: Layers) -> float:
    """Inner product of two directions."""
    return float(sum(np.vdot(v, u) for v, u in zip(V, U, strict=True)))


def dense(A: BlockMatrix) -> np.ndarray | None:
    """The matrix over all nodes, or None where it would be large."""
    return A.dense() if sum(A.widths) <= DENSE_NODES else None


def extreme_curvatures(question: Question, weights: Layers) -> tuple[float, float, str]:
    """Lowest and highest eigenvalue of the Hessian, and how they were found.

    Of large networks they are Ritz values: the lowest is an upper bound, so a negative one is certain.
    """
    quadratic, size = question.quadratic, sum(W.size for W in weights)
    if size <= DENSE_WEIGHTS:
        values = np.linalg.eigvalsh(quadratic.hessian(weights))
        return float(values[0]), float(values[-1]), "dense Hessian"
    rng = question.rng()
    problem = Problem(
        apply=lambda v: flat(quadratic.times(weights, apart(v, weights))),
        draw=lambda: rng.standard_normal(size),
        inside=lambda v: v,
        dimension=size,
        basis=STEPS,
        tolerance=1e-8,
        noise=1e-13,
        products=STEPS,
    )
    found, used = ends(problem, 1, 1)
    return float(found.values[0]), float(found.values[-1]), f"{used} Lanczos steps"


def curvature_unit(question: Question, weights: Layers) -> float:
    """A curvature against which eigenvalues of the Hessian are zero: that of all layers at their largest."""
    norms = [float(np.linalg.norm(W, 2)) for W in weights]
    reach = max((float(np.prod(np.delete(norms, j))) for j in range(len(norms))), default=1.0)
    natural = float(question.target.sigma[0]) ** (1 - 1 / len(weights)) if question.target.rank else 1.0
    return max(reach, natural) ** 2


def least_gradient(sigma: np.ndarray, weights: Layers) -> float:
    """A gradient so small that rounding of its terms is felt: the size against which smaller ones are measured."""
    norms = [float(np.linalg.norm(W, 2)) for W in weights]
    reach = sum(float(np.prod(np.delete(norms, j))) ** 2 for j in range(len(norms))) ** 0.5
    return CANCELLED * reach * float(np.linalg.norm(sigma) + np.linalg.norm(product(weights)))


def unit(V: Layers) -> Layers:
    """A direction of norm 1."""
    length = squared_norm(V) ** 0.5
    return [v / length for v in V]
