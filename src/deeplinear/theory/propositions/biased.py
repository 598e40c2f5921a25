"""A two-layer model with biases and one output, and least squares."""

from typing import NamedTuple

import numpy as np

from ... import biased
from ..measures import slope
from ..question import Question, relative
from ..statement import Finding, statement
from .unwhitened import two_layers

SOURCE = "Two-layer linear network with biases as least squares"
INPUTS = 20
"""Inputs and hidden nodes of the network that are used: the statements are about any number."""


class Model(NamedTuple):
    """Weights and samples of the biased model."""

    U: np.ndarray
    v: np.ndarray
    X: np.ndarray
    z: np.ndarray


def printed_prediction(question: Question) -> Finding:
    """(2) with a hidden bias u_0 in the place of v_0."""
    model = _model(question)
    right = biased.predictions(*model[:3])
    return Finding(relative(right - model.v[0] + model.U[0, 0] - right, right), 1e-12, "rounding of a sum")


@statement(
    "003.1",
    name="Collapsed coefficients",
    source=f"{SOURCE}, (1) to (3), (9), (10)",
    words="The two layers with biases are a linear regression with an intercept.",
    latex=r"\hat z = [1, [1, X] U] v = [1, X] w, \quad w = U v_h + v_0 e_0",
    erratum="(2) prints u_0 in the place of v_0.",
    as_printed=printed_prediction,
)
def collapsed(question: Question) -> Finding:
    """Predictions of both forms on random samples."""
    U, v, X, _ = _model(question)
    both = np.hstack([np.ones((len(X), 1)), X]) @ biased.collapsed(U, v), biased.predictions(U, v, X)
    return Finding(relative(both[0] - both[1], both[1]), 1e-12, "rounding of a sum")


def printed_gradients(question: Question) -> Finding:
    """The gradients with (8), d = z - z_hat."""
    return _gradients(question, -1.0)


@statement(
    "003.2",
    name="Gradients",
    source=f"{SOURCE}, section 2",
    words="Both gradients are made of the samples' deviations from their targets.",
    latex=r"\frac{\partial C}{\partial U} = [1, X]^\top d\, v_h^\top, \quad \frac{\partial C}{\partial v} = [1, Y]^\top"
    r" d, \quad d = -(z - \hat z)",
    erratum="(8) prints d = z - z_hat, against the definition of d before.",
    as_printed=printed_gradients,
)
def gradients(question: Question) -> Finding:
    """Against derivatives of the cost along random directions, by steps along i."""
    return _gradients(question, 1.0)


def printed_equivalence(question: Question) -> Finding:
    """Least squares at a critical point with v_h = 0: the size of the normal residuals there."""
    _, v, X, z = _model(question)
    point = biased.extra_saddle(X, z, len(v) - 1)
    return Finding(biased.critical_point_is_least_squares(*point, X, z).violation, 1e-9, "rounding of the gradient")


@statement(
    "003.3",
    name="Equivalence with least squares",
    source=f"{SOURCE}, section 3, (4) to (6) and (11) to (13)",
    words="Critical points that use the hidden layer solve the normal equations of least squares, and all solutions of"
    " those are critical.",
    latex=r"\Big| [1, X]^\top d \Big| = \frac{\|\partial C / \partial U\|_F}{|v_h|}, \quad [1, X]^\top d = 0"
    r" \Rightarrow"
    r" \nabla C = 0",
    assumptions="v_h is not 0",
    erratum="Printed for all critical points; where v_h = 0 there are saddles that solve no normal equations. (7) lacks"
    ' "= 0", and v is not constant but trained.',
    as_printed=printed_equivalence,
)
def least_squares(question: Question) -> Finding:
    """The norm identity at the weights; the gradient at weights that are made from the least-squares solution."""
    U, v, X, z = _model(question)
    residuals, slopes = biased.normal_residuals(U, v, X, z), biased.gradients(U, v, X, z)
    identity = relative(np.linalg.norm(slopes.U) - np.linalg.norm(residuals) * np.linalg.norm(v[1:]), slopes.U)
    wanted = biased.least_squares(X, z)
    wanted[0] -= v[0]
    moved = U + np.outer(wanted - U @ v[1:], v[1:]) / (v[1:] @ v[1:])
    at_rest = biased.gradients(moved, v, X, z)
    size = np.linalg.norm(X) * np.linalg.norm(z) * (np.linalg.norm(moved) + np.linalg.norm(v))
    return Finding(max(identity, relative([at_rest.U, at_rest.v], size)), 1e-11, "rounding of least squares")


def printed_constant(question: Question) -> Finding:
    """v as a constant: its velocity, relative to that of all weights."""
    slopes = biased.gradients(*_model(question))
    return Finding(relative(slopes.v, [slopes.U, slopes.v]), 1e-12, "rounding of the gradient")


@statement(
    "003.4",
    name="What training keeps",
    source=f"{SOURCE}, section 3",
    words="The weights v are trained; what the flow keeps is a difference of squares of both layers.",
    latex=r"\frac{d}{dt} \big( U^\top U - v_h v_h^\top \big) = 0",
    erratum='Printed: "the coefficients v_1 and v_2 are constant".',
    as_printed=printed_constant,
)
def kept(question: Question) -> Finding:
    """The derivative along the flow; U with the hidden biases, v_h without v_0."""
    U, v, X, z = _model(question)
    slopes = biased.gradients(U, v, X, z)
    first, second = U.T @ slopes.U, np.outer(v[1:], slopes.v[1:])
    rate = first + first.T - second - second.T
    return Finding(relative(rate, first, second), 1e-11, "rounding of products")


def _model(question: Question) -> Model:
    """The question's network, taken as two layers, with random biases; random samples of its first output, noisy."""
    rng = question.rng()
    W21, W32 = two_layers(question)
    W21 = W21[:INPUTS, :INPUTS]
    width, d = W21.shape
    U = np.vstack([rng.standard_normal(width), W21.T])
    v = np.concatenate([[0.5], W32[0, :width]])
    if np.linalg.norm(v[1:]) < 1e-6:
        v[1:] = rng.standard_normal(width)
    X = rng.standard_normal((3 * d + 5, d))
    z = 1 + X @ np.asarray(question.objective.optimum)[0, :d] + 0.3 * rng.standard_normal(len(X))
    return Model(U, v, X, z)


def _gradients(question: Question, sign: float) -> Finding:
    U, v, X, z = _model(question)
    rng, worst = question.rng(), 0.0
    slopes = biased.gradients(U, v, X, z)
    for _ in range(3):
        dU, dv = rng.standard_normal(U.shape), rng.standard_normal(v.shape)
        cost = lambda at: np.sum((z - at[1][0] - (at[0][0] + X @ at[0][1:]) @ at[1][1:]) ** 2) / 2
        measured = slope(cost, [U, v], [dU, dv])
        formula = sign * float(np.sum(slopes.U * dU) + slopes.v @ dv)
        size = np.hypot(np.linalg.norm(slopes.U), np.linalg.norm(slopes.v)) * np.hypot(
            np.linalg.norm(dU), np.linalg.norm(dv)
        )
        worst = max(worst, abs(measured - formula) / max(float(size), 1e-300))
    return Finding(worst, 1e-10, "rounding where terms cancel")
