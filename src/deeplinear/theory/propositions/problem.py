"""The problem: its reduction to singular values, its minima, its loss and gradient as functions of one matrix."""

import numpy as np

from ...blockshift import flow, loss
from ...landscape.forms import Quadratic, lifted, reduced, squared_norm, weights_of
from ...landscape.representatives import change_basis
from ...network import Network
from ..assuming import first, no_bottleneck, several_layers, worst
from ..measures import inner, least_gradient, slope, square_loss
from ..points import make_point
from ..question import Question, relative, velocity
from ..statement import Finding, statement

FAR = 1e3
"""Factor by which a change of basis moves a minimum."""
JACOBIAN = 4_000_000
"""Entries up to which the differential of the end-to-end matrix is formed."""


def _flow_is_that_of_sigma(question: Question) -> Finding:
    """As printed: the printed equivalence taken to hold for the gradient flow too, in any unit of time."""
    return Finding(_transport(question, preconditioned=False), 1e-10, "rounding", "velocities, best unit of time")


@statement(
    "A.2",
    name="Normal form",
    source="Altafini, (5) and appendix A.2",
    words="The data enter through singular values alone: the loss is half a squared distance to Sigma plus a constant.",
    latex=r"L = L_{\min} + \frac{c}{2} \|\Sigma - W_{1:h}\|_F^2, \quad W_1 = \bar W_1 M, \quad "
    r"\dot W_1 = -c \, \nabla_{W_1} \tfrac12 \|\Sigma - W_{1:h}\|_F^2 \, M^\top M",
    erratum="Printed as an equivalence. The landscapes are equivalent (and (4) is twice (5) plus a constant), the "
    "gradient flows are not: unless the inputs are white, W_1 moves with the extra factor M^T M.",
    as_printed=_flow_is_that_of_sigma,
)
def normal_form(question: Question) -> Finding:
    """Losses in both coordinates, and the data's velocity against the survey's with its factor."""
    value, factor = float(question.objective(question.network.end_to_end)), question.target.factor
    expected = question.target.minimum + factor * question.loss
    size = factor * float(np.sum(question.sigma**2)) / 2
    off = worst([relative(value - expected, value, expected, size), _transport(question, preconditioned=True)])
    return Finding(off, 1e-10, "rounding, times the condition of sigma_xx")


def _transport(question: Question, preconditioned: bool) -> float:
    """Distance of the data's velocity, moved to the survey's coordinates, from the survey's own."""
    quadratic, form = Quadratic.of(question.objective), question.form
    moving = reduced(question.target, [-G for G in quadratic.gradient(weights_of(question.network))])
    own = [question.target.factor * V for V in question.velocity]
    stretch = max(1.0, float(np.linalg.norm(form.input_map, 2)) ** 2)
    least = question.target.factor * stretch * least_gradient(question.sigma, question.weights)
    if preconditioned:
        own[0] = own[0] @ form.input_map.T @ form.input_map
        return relative([a - b for a, b in zip(moving, own, strict=True)], moving, own, least)
    unit = inner(moving, own) / (inner(own, own) or 1.0)
    return relative([a - unit * b for a, b in zip(moving, own, strict=True)], moving, least)


def _bound_on_the_dimension(question: Question) -> Finding:
    r"""As printed: dim M_0 at least $\sum_i d_i^2$."""
    fails = first(several_layers(question), no_bottleneck(question))
    if fails is not None:
        return fails
    dimension, bound = _dimension(question), sum(d * d for d in question.widths[1:-1])
    return Finding(max(bound - dimension, 0) / bound, 0.0, "integers", f"dimension {dimension}, printed bound {bound}")


@statement(
    "3",
    name="Proposition 3",
    source="Altafini, Proposition 3",
    words="Without bottleneck the smallest loss of (5) is 0. Its minima form an unbounded manifold of dimension "
    "N - d_x d_y, so there are infinitely many and none is isolated.",
    latex=r"\min L = 0, \quad \dim \mathcal{M}_0 = \sum_{i=1}^h d_i d_{i-1} - d_x d_y, \quad "
    r"\sup_{\mathcal{M}_0} \|A\|_F = \infty",
    assumptions="two layers or more; Sigma of full rank, no hidden layer narrower than min(d_x, d_y)",
    erratum="Printed: every M_c has dimension at least the sum of d_i^2. False for wide hidden layers, whose changes "
    "of basis do not act freely ((1, 2, 1): 3 < 4). Printed: every M_c is unbounded; see Proposition 15. "
    "M_c is the intersection of the critical points with a level set.",
    as_printed=_bound_on_the_dimension,
)
def minima(question: Question) -> Finding:
    """A minimum, the same in another basis far away, and the rank of the differential of the end-to-end matrix."""
    fails = first(several_layers(question), no_bottleneck(question))
    if fails is not None:
        return fails
    point = make_point(question, tuple(range(1, question.target.rank + 1)))
    far = change_basis(point.weights, [(FAR * np.eye(d), np.eye(d) / FAR) for d in question.widths[1:-1]])
    losses = [float(square_loss(question.sigma, weights)) for weights in (point.weights, far)]
    size = float(np.sum(question.sigma**2)) / 2
    moved = (squared_norm(far) / squared_norm(point.weights)) ** 0.5
    total = sum(W.size for W in question.weights)
    dimension = _dimension(question)
    gap = abs(total - question.sigma.size - dimension) / total
    note = f"dimension {dimension} of {total}; a minimum {moved:.3g} times as far from 0"
    return Finding(worst([*(value / size for value in losses), gap]), 1e-12, "rounding; ranks are integers", note)


def _dimension(question: Question) -> int:
    """N - rank of the differential at a minimum: by its singular values where small, else by ranks of the layers."""
    weights = make_point(question, tuple(range(1, question.target.rank + 1))).weights
    total = sum(W.size for W in weights)
    if total * question.sigma.size > JACOBIAN:
        from ...landscape import fibre_dimension

        return fibre_dimension(Network(lifted(question.target, weights))) - _unseen(question)
    below, above = [np.eye(weights[0].shape[1])], [np.eye(weights[-1].shape[0])]
    for W in weights[:-1]:
        below.append(W @ below[-1])
    for W in weights[:0:-1]:
        above.append(above[-1] @ W)
    columns = [np.kron(left, right.T) for left, right in zip(above[::-1], below, strict=True)]
    return total - int(np.linalg.matrix_rank(np.hstack(columns), tol=1e-9 * float(np.linalg.norm(columns[0], 2))))


def _unseen(question: Question) -> int:
    """Weights along null directions of sigma_xx, which the survey's coordinates do not have."""
    return question.widths[1] * (question.network.widths[0] - question.widths[0])


@statement(
    "4",
    name="Proposition 4",
    source="Altafini, Proposition 4, (11) and (12)",
    words="Loss and gradient flow are functions of the adjacency matrix.",
    latex=r"L(A) = \tfrac12 \|E - A^h\|_F^2, \quad "
    r"\dot A = \sum_{j=1}^h (A^{h-j})^\top (E - A^h) (A^{j-1})^\top = -\nabla_A L",
    erratum="In the proof a factor 1/2 is missing before the derivative of tr((A^h)^T A^h).",
)
def adjacency_form(question: Question) -> Finding:
    """Loss from powers of A, and its slope along a random direction against the flow."""
    A, E = question.A, question.E
    gap = E - A**question.depth
    value = float(gap.inner(gap)) / 2
    V, size = question.random_direction(), float(np.sum(question.sigma**2)) / 2
    moving = [np.asarray(W) for W in flow(A, E).layers]
    along = slope(lambda weights: square_loss(question.sigma, weights), question.weights, V)
    least = least_gradient(question.sigma, question.weights)
    scale = max(squared_norm(moving) ** 0.5, least) * squared_norm(V) ** 0.5
    off = worst(
        [
            relative(value - question.loss, question.loss, size),
            relative(float(loss(A, E)) - question.loss, question.loss, size),
            relative(along + inner(moving, V), scale),
            relative(
                [a - b for a, b in zip(moving, velocity(question.sigma, question.weights), strict=True)], moving, least
            ),
        ]
    )
    return Finding(off, 1e-12, "rounding of products of h matrices", "slope by a complex step")
