"""The loss between critical points."""

from itertools import combinations

import numpy as np

from ...landscape import arc
from ...landscape.arcs import Arc
from ...landscape.forms import reduced, weights_of
from ...landscape.generators import orthogonal_matrix
from ...landscape.representatives import change_basis
from ..assuming import several_layers, worst
from ..measures import slope, square_loss
from ..points import learned, make_point, signatures
from ..question import Question, relative
from ..statement import Finding, does_not_apply, statement

ALPHAS = np.linspace(0.0, 1.0, 9)
MOST = 12
"""Arcs that are looked at, of each sort."""
ROUNDING = "rounding, times h-th roots and their powers"


def _arcs_as_printed(question: Question) -> Finding:
    """As printed: the loss without 1/2; of mixed arcs 'nothing can be said', they can have inner maxima."""
    if (fails := several_layers(question)) is not None:
        return fails
    size = float(np.sum(question.target.sigma**2))
    S = signatures(question)[-1]
    left = [k for k in range(question.target.d_y) if k + 1 not in S]
    value = float(square_loss(question.sigma, make_point(question, S).weights))
    halved = relative(value - float(np.sum(question.target.sigma[left] ** 2)), size)
    inner = [0.0 if _has_inner_maximum(found) else 1.0 for found, _, _ in _arcs(question) if _mixed(found)]
    return Finding(worst([halved, *inner]), 1e-9, ROUNDING, f"{len(inner)} mixed arcs, each without inner maximum")


@statement(
    "24",
    name="Theorem 24",
    source="Altafini, Theorem 24",
    words="Along the line between the products of two critical points the loss is the same for all networks above it: "
    "constant for equal signatures, falling to the larger of nested ones, else with exactly one minimum inside.",
    latex=r"L(\alpha) = \tfrac12 \Big( \sum_{i \notin S_1 \cup S_2} \sigma_i^2 + \alpha^2 \sum_{S_1 \setminus S_2} "
    r"\sigma_i^2 + (1 - \alpha)^2 \sum_{S_2 \setminus S_1} \sigma_i^2 \Big), \quad "
    r"\alpha^* = \frac{\sum_{S_2 \setminus S_1} \sigma_i^2}{\sum_{S_1 \triangle S_2} \sigma_i^2}",
    assumptions="two layers or more",
    erratum="Printed: of mixed arcs nothing can be said, they can have local maxima and depend on the lift. The loss "
    "is the same for every lift, strictly convex, with one inner minimum and never a maximum. In item 1 the "
    "factor 1/2 is missing.",
    as_printed=_arcs_as_printed,
)
def arcs_between(question: Question) -> Finding:
    """Losses of networks above arcs, in two bases, against the closed form; the shape of each arc."""
    if (fails := several_layers(question)) is not None:
        return fails
    found = _arcs(question)
    gaps = [
        gap for line, S1, S2 in found for gap in (_lift_gap(question, line, S1, S2), _shape_gap(question, line, S1, S2))
    ]
    counted = _nested_everywhere(question)
    kinds = [line.kind for line, _, _ in found]
    note = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return Finding(worst([*gaps, counted]), 1e-9, ROUNDING, note)


def _arcs(question: Question) -> list[tuple[Arc, tuple[int, ...], tuple[int, ...]]]:
    """Arcs between made signatures that have networks above them."""
    room, chosen = min(question.widths), signatures(question)
    pairs = [(a, a) for a in chosen[:1]] + [*combinations(chosen, 2)]
    pairs = [(a, b) for a, b in pairs if len({*a, *b}) <= room][:MOST]
    return [(arc(question.objective, a, b, ALPHAS), a, b) for a, b in pairs]


def _mixed(found: Arc) -> bool:
    return found.kind == "interior minimum"


def _has_inner_maximum(found: Arc) -> bool:
    steps = np.diff(found.loss)
    return bool(np.any((steps[:-1] > 0) & (steps[1:] < 0)))


def _sums(question: Question, S1: tuple[int, ...], S2: tuple[int, ...]) -> tuple[float, float, float]:
    """Sums of squares over neither, the first alone, the second alone."""
    squares, modes = question.target.sigma**2, range(1, question.target.d_y + 1)
    over = lambda inside: float(sum(squares[k - 1] for k in modes if inside(k)))
    return (
        over(lambda k: k not in S1 and k not in S2),
        over(lambda k: k in S1 and k not in S2),
        over(lambda k: k in S2 and k not in S1),
    )


def _lift_gap(question: Question, line: Arc, S1: tuple[int, ...], S2: tuple[int, ...]) -> float:
    """Losses of networks above the arc, and of them in another basis, against the formula."""
    rng, gaps = question.rng(), []
    neither, one, other = _sums(question, S1, S2)
    bases = [orthogonal_matrix(rng, d) for d in question.widths[1:-1]]
    for alpha in ALPHAS[::4]:
        expected = (neither + alpha**2 * one + (1 - alpha) ** 2 * other) / 2
        weights = reduced(question.target, weights_of(line.network(float(alpha), question.network.widths)))
        for lift in (weights, change_basis(weights, [(3 * Q, Q.T / 3) for Q in bases])):
            gaps.append(float(square_loss(question.sigma, lift)) - expected)
    return relative(gaps, float(np.sum(question.target.sigma**2)))


def _shape_gap(question: Question, line: Arc, S1: tuple[int, ...], S2: tuple[int, ...]) -> float:
    """0, or 1 where the values along the arc are not of the shape that the signatures say."""
    _, one, other = _sums(question, S1, S2)
    steps, rounding = np.diff(line.loss), 1e-12 * float(np.sum(question.target.sigma**2)) * question.target.factor
    if set(S1) == set(S2):
        return float(np.abs(steps).max() > rounding)
    if set(S1) < set(S2) or set(S2) < set(S1):
        return float(np.any(steps * (1 if set(S2) < set(S1) else -1) < -rounding))
    turns = np.diff(np.sign(steps))
    bottom = abs(line.lowest.alpha - other / (one + other))
    return max(float(np.any(turns < 0) or not _mixed(line)), bottom if question.target.rank else 0.0)


def _nested_everywhere(question: Question) -> float:
    """0, or 1 where an arc to a larger signature does not fall: item 3, one arc for each of them (some, where many)."""
    modes = range(1, question.target.rank + 1)
    S = next((S for S in signatures(question) if 0 < len(S) < question.target.rank), ())
    rest = [k for k in modes if k not in S]
    room = min(question.widths) - len(S)
    larger = [(*S, *more) for k in range(1, min(room, len(rest)) + 1) for more in combinations(rest[:5], k)]
    return float(any(arc(question.objective, S, T, ALPHAS[::4]).kind != "decreasing" for T in larger[:31]))


@statement(
    "25",
    name="Remark 25",
    source="Altafini, Remark 25",
    words="All arcs from A = 0 fall, and it has the largest critical value; but it is no maximum.",
    latex=r"L(0) = \tfrac12 \sum_i \sigma_i^2 = \max_c c, \quad "
    r"\frac{d^h}{d\epsilon^h} L(\epsilon V) \Big|_0 = -h! \, \langle \Sigma, V_{1:h} \rangle \text{ of both signs}",
    assumptions="two layers or more; Sigma is not zero",
)
def origin(question: Question) -> Finding:
    """Values at the other made points, arcs to them, and the loss a step towards and away from Sigma."""
    if (fails := several_layers(question)) is not None:
        return fails
    if not question.target.rank:
        return does_not_apply("Sigma is zero")
    size = float(np.sum(question.target.sigma**2))
    zero = [np.zeros_like(W) for W in question.weights]
    value = float(square_loss(question.sigma, zero))
    others = [make_point(question, S).weights for S in signatures(question) if S]
    above = max((float(square_loss(question.sigma, weights)) - value for weights in others), default=0.0)
    falling = [arc(question.objective, (), learned(question, weights), ALPHAS).kind for weights in others]
    steps = worst(_step_gap(question, sign) for sign in (1.0, -1.0))
    wrong = float(any(kind != "decreasing" for kind in falling))
    off = worst([relative(value - size / 2, size), max(0.0, above / size), wrong, steps])
    return Finding(off, 1e-12, "rounding", f"{len(falling)} arcs")


def _step_gap(question: Question, sign: float) -> float:
    r"""Away from 0 along the first mode with strength $\pm \sigma_1 / 100$: the slope has the sign that it should."""
    h, first = question.depth, float(question.target.sigma[0])
    V = [np.zeros_like(W) for W in question.weights]
    for W in V:
        W[0, 0] = (first / 100) ** (1 / h)
    V[-1] *= sign
    along = slope(lambda weights: square_loss(question.sigma, weights), V, V)
    expected = -h * sign * first**2 / 100 * (1 - sign / 100)
    return relative(along - expected, first**2)
