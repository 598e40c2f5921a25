"""Convergence: the loss as a Lyapunov function, boundedness, and what the points are at which trajectories end."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ...blockshift import flow
from ...diagnostics import weight_bounds
from ...landscape.forms import squared_norm
from ...landscape.settling import relative_gradient
from ...network import Network
from ..assuming import several_layers, worst
from ..measures import inner, least_gradient, second_variation, slope, square_loss
from ..points import Point, is_critical, is_top, largest_rank, learned, made, make_point
from ..question import Layers, Question, product, relative, velocity
from ..statement import Finding, statement
from .second_order import exchange

ROUNDING = "rounding of products of h matrices"
STEP = 1e-2
"""Share of a singular value by which a saddle is left."""
RISE = 1e-6
"""Rise of the loss relative to its start, and of a norm beyond its bound, that an integrator may leave."""


@statement(
    "12",
    name="Proposition 12",
    source="Altafini, Proposition 12",
    words="Solutions exist and are bounded; equilibria are the critical points; each solution converges to "
    "one of them.",
    latex=r"\dot L = -\|\dot A\|_F^2 \text{, so } \dot L(A^*) = 0 \Leftrightarrow \dot A = 0, \quad "
    r"\|A(t)\| < \infty, \quad A(t) \to A^*",
    assumptions="none; bounds of the norms (`diagnostics.weight_bounds`) and the end are read from a given trajectory",
)
def convergence(question: Question) -> Finding:
    """The slope of the loss along the velocity; of a path: norms within bounds, falling loss, the end's gradient."""
    moving = question.velocity
    along = slope(lambda weights: square_loss(question.sigma, weights), question.weights, moving)
    off = relative(along + inner(moving, moving), _fall(question, moving))
    if not question.path:
        return Finding(off, 1e-12, ROUNDING, "no trajectory given")
    losses = [float(square_loss(question.sigma, weights)) for _, weights in question.path]
    rise = max((after - before for before, after in pairwise(losses)), default=0.0) / max(losses[0], 1e-300)
    filled = _filled(question)
    note = f"the path fills {filled:.2g} of its bound; {_end(question)}"
    along_path = worst([rise, max(0.0, filled - 1)])
    if not along_path <= RISE:
        return Finding(along_path, RISE, "error of an integrator", note)
    return Finding(off, 1e-12, ROUNDING, note)


def _filled(question: Question) -> float:
    """Largest share of a layer's norm in the bound that holds for all times of a flow from the path's start."""
    networks = [weights for _, weights in question.given_path]
    bounds = weight_bounds(question.objective, Network(networks[0])).layers
    return worst(
        float(np.linalg.norm(W, 2)) / max(bound, 1e-300)
        for weights in networks
        for W, bound in zip(weights, bounds, strict=True)
    )


def _end(question: Question) -> str:
    """How the run ended, and the relative gradient there."""
    kind = getattr(getattr(question.trajectory, "ending", None), "kind", None)
    still = relative_gradient(question.target, question.path[-1][1])
    return f"relative gradient {still:.1e} at the end{f' ({kind})' if kind else ''}"


def _rise(question: Question, weights: Layers) -> float:
    """Relative rise of the loss along the velocity of a network on the path."""
    moving = velocity(question.sigma, weights)
    rate = slope(lambda layers: square_loss(question.sigma, layers), weights, moving)
    return max(0.0, rate) / max(inner(moving, moving), least_gradient(question.sigma, weights) ** 2, 1e-300)


def _fall(question: Question, moving: Layers) -> float:
    """Size of the loss's slope along the velocity, no less than what rounding of the gradient leaves."""
    speed = squared_norm(moving) ** 0.5
    return speed * max(speed, least_gradient(question.sigma, question.weights))


@statement(
    "13",
    name="Proposition 13",
    source="Altafini, Proposition 13, (27)",
    words="The loss is at least 0 and falls along the flow, by one square for every layer.",
    latex=r"L \ge 0, \quad \dot L = -\sum_{j=1}^h \|(A^{h-j})^\top (E - A^h) (A^{j-1})^\top\|_F^2 \le 0",
    erratum="In the proof the diagonal block is (j, j), of size d_{j-1}, not (j+1, j+1).",
)
def lyapunov(question: Question) -> Finding:
    """The slope of the loss along the velocity by a complex step, against the sum of squares of the terms of (12)."""
    A, h = question.A, question.depth
    residual = question.E - A**h
    terms = [(A ** (h - j)).T @ residual @ (A ** (j - 1)).T for j in range(1, h + 1)]
    squares = sum(float(term.inner(term)) for term in terms)
    moving = [np.asarray(W) for W in flow(A, question.E).layers]
    along = slope(lambda weights: square_loss(question.sigma, weights), question.weights, moving)
    rises = worst(_rise(question, weights) for _, weights in question.path)
    return Finding(
        worst([relative(along + squares, _fall(question, moving)), max(0.0, -question.loss), rises]), 1e-12, ROUNDING
    )


@statement(
    "14",
    name="Proposition 14",
    source="Altafini, Proposition 14, (31)",
    words="At a critical point the end-to-end matrix has learned some modes and no other. With the strongest modes, as "
    "many as data and widths allow, it is a global minimum, else a saddle: there are lower and higher losses nearby. "
    "The loss is neither convex nor concave.",
    latex=r"A^h = \mathrm{blk}_h(S \Sigma), \quad L = \tfrac12 \sum_i (1 - s_i) \sigma_i^2",
    assumptions="two layers or more",
    erratum="After it: L(0) is half of |Sigma|^2. Item 3(b): r runs from 0. Behind a bottleneck (against assumption 1) "
    "'rank d_y' becomes the largest rank that fits.",
)
def critical_values(question: Question) -> Finding:
    """Gradient, product and loss of made points (and of the network where it is critical); steps off each saddle."""
    if (fails := several_layers(question)) is not None:
        return fails
    points = made(question)
    off = worst(value_gap(question, point.signature, point.weights) for point in points)
    steps = worst(gap for point in points for gap in saddle_gaps(question, point))
    curved = _bends_both_ways(question)
    note = f"{len(points)} critical points"
    if is_critical(question, question.weights):
        signature = learned(question, question.weights)
        off = worst([off, value_gap(question, signature, question.weights)])
        note += f"; the network is critical, S = {{{', '.join(map(str, signature))}}}"
    return Finding(worst([off, steps, curved]), 1e-9, "rounding, times the condition of the hidden bases", note)


def value_gap(question: Question, signature: tuple[int, ...], weights: Layers) -> float:
    """How far a point is from critical, and what it is worth from (31); of equal modes any mixture is allowed."""
    sigma, target = question.sigma, question.target
    left = [k for k in range(target.d_y) if k + 1 not in signature]
    value = float(np.sum(target.sigma[left] ** 2)) / 2
    size = float(np.sum(target.sigma**2)) / 2
    W = product(weights)
    # W = Pi Sigma with a projector that commutes with Sigma Sigma^T; without equal modes it is S
    shares = np.linalg.eigvalsh(W @ np.linalg.pinv(sigma, rcond=1e-12)) if W.any() else np.zeros(1)
    whole = float(np.abs(shares - shares.round()).max())
    here = float(square_loss(sigma, weights))
    return worst([relative_gradient(target, weights), relative(here - value, size), whole])


def saddle_gaps(question: Question, point: Point) -> Iterator[float]:
    """Violations of 'a lower loss is nearby' and 'a higher one is' at a point that is no global minimum."""
    if is_top(question, point.signature) and point.rank == largest_rank(question):
        return
    if point.rank < largest_rank(question) and not any(block.any() for block in point.blocks):
        for sign in (1.0, -1.0):
            yield _step_gap(question, point, sign)
    elif point.rank:
        sigma = question.sigma
        stretched = [(1 + STEP) * point.weights[0], *point.weights[1:]]
        yield max(0.0, float(square_loss(sigma, point.weights) - square_loss(sigma, stretched)))
        if not is_top(question, point.signature):
            yield max(0.0, second_variation(sigma, point.weights, exchange(question, point))[0])


def _step_gap(question: Question, point: Point, sign: float) -> float:
    r"""One more mode i at strength $\pm s$: the loss changes by $\sigma_i^2 (\mp s + s^2 / 2)$ exactly."""
    i = next(k for k in range(question.target.rank) if k + 1 not in point.signature)
    r, value = point.rank, float(question.target.sigma[i])
    added = [W.copy() for W in point.plain]
    share = STEP ** (1 / question.depth)
    added[0][r, i] += share * value
    for W in added[1:-1]:
        W[r, r] += share
    added[-1][i, r] += sign * share
    moved = point.conjugate(added)
    change = float(square_loss(question.sigma, moved) - square_loss(question.sigma, point.weights))
    expected = value**2 * (STEP**2 / 2 - sign * STEP)
    size = float(np.sum(question.target.sigma**2))
    return worst([relative(change - expected, size), max(0.0, sign * change) / size])


def _bends_both_ways(question: Question) -> float:
    """Second derivatives along the ray to a minimum: positive at its end, negative before."""
    if not question.target.rank:
        return 0.0
    h = question.depth
    W = make_point(question, tuple(range(1, largest_rank(question) + 1))).weights
    t = ((h - 1) / (2 * (2 * h - 1))) ** (1 / h)
    at_end, size = second_variation(question.sigma, W, W)
    before, size_before = second_variation(question.sigma, [t * layer for layer in W], W)
    return max(0.0, -at_end / size, before / size_before)
