"""Second variations at critical points: what a change of basis does to them, and where they vanish or are negative."""

from collections.abc import Callable

import numpy as np

from ...blockshift import blk, inverse, rho
from ...landscape.forms import partial_products
from ...landscape.representatives import BASES
from ..assuming import several_layers, worst
from ..measures import DENSE_WEIGHTS, curvature_unit, extreme_curvatures, second_variation, unit
from ..points import CONDITION, Point, is_top, largest_rank, made, make_point, signatures
from ..question import Layers, Question, adjacency, relative
from ..statement import Finding, does_not_apply, statement

CONDITIONED = "rounding, times the condition of the hidden bases"
DIRECTIONS = 8
"""Random directions along which a form is read."""


@statement(
    "19",
    name="Lemma 19",
    source="Altafini, Lemma 19",
    words="A change of basis of the hidden layers acts on variations: at PAP^{-1} along V they are those at A along "
    "P^{-1}VP.",
    latex=r"\rho_k(P A P^{-1}, V) = \rho_k(A, P^{-1} V P), \quad k = 1, \dots, h",
)
def conjugated_variations(question: Question) -> Finding:
    """All h orders, along a random direction, in random bases."""
    rng, A = question.rng(), question.A
    bases = [BASES["general"](rng, d, CONDITION)[0] for d in question.widths[1:-1]]
    P = blk(0, [np.eye(question.widths[0]), *bases, np.eye(question.widths[-1])])
    back, V = inverse(P), adjacency(question.random_direction())
    gaps = []
    for k in range(1, question.depth + 1):
        there, here = rho(P @ A @ back, V, k), rho(A, back @ V @ P, k)
        gaps.append(relative(float((there - here).norm()), float(here.norm())))
    return Finding(worst(gaps), 1e-11, CONDITIONED)


def _vanishing_as_printed(question: Question) -> Finding:
    """As printed: the direction P^{-1} V P at P (A_1 + Z) P^{-1}."""
    return _vanishing(question, lambda point, V: point.conjugate_back(V))


@statement(
    "20",
    name="Proposition 20",
    source="Altafini, Proposition 20",
    words="At every critical point the Hessian's form vanishes along some direction: between the layers where "
    "something is learned, along a single layer elsewhere.",
    latex=r"\mathfrak{h}(A, P V P^{-1}) = 0, \quad "
    r"V = \mathrm{blk}_1([-U_S^\top \Sigma; 0], 0, \dots, 0, [U_S, 0])",
    assumptions="two layers or more (the Hessian of one layer is the identity)",
    erratum="Printed: the direction P^{-1} V P. rho_2 is V A^{h-2} V. With S empty, W_{1:i} may vanish for all i "
    "without A = 0: the direction here is a layer of A itself, or of all ones at A = 0.",
    as_printed=_vanishing_as_printed,
)
def vanishing_direction(question: Question) -> Finding:
    """The form along the named direction at every made point."""
    return _vanishing(question, lambda point, V: point.conjugate(V))


def _vanishing(question: Question, moved: Callable[[Point, Layers], Layers]) -> Finding:
    if (fails := several_layers(question)) is not None:
        return fails
    gaps = []
    for point in made(question):
        V = moved(point, _gauge(question, point)) if point.rank else _single_layer(point.weights)
        value, size = second_variation(question.sigma, point.weights, unit(V))
        gaps.append(abs(value) / max(size, curvature_unit(question, point.weights)))
    return Finding(worst(gaps), 1e-10, CONDITIONED, f"{len(gaps)} critical points")


def _gauge(question: Question, point: Point) -> Layers:
    """The printed V: one layer of A_1 down, the last one up."""
    r, S = point.rank, [k - 1 for k in point.signature]
    V = [np.zeros_like(W) for W in point.weights]
    V[0][:r] = -question.target.matrix[S]
    V[-1][S, :r] = np.eye(r)
    return V


def _single_layer(weights: Layers) -> Layers:
    """The first layer that is not zero, the others zero; where all are, ones in the first."""
    V = [np.zeros_like(W) for W in weights]
    j = next((j for j, W in enumerate(weights) if W.any()), None)
    if j is None:
        V[0] += 1.0
    else:
        V[j] = weights[j]
    return V


def exchange(question: Question, point: Point, shifted: bool = False, printed: bool = False) -> Layers:
    """The direction of Proposition 21 at a point of which a stronger mode i is left than a learned one j.

    `shifted`: with U_K = E_{i,j} instead of the column of j within S (None where there is no column j);
    `printed`: P^{-1} R P.
    """
    i, j = exchanged(question, point)
    column = j if shifted else point.signature.index(j + 1)
    R = [np.zeros_like(W) for W in point.weights]
    R[0][column, i] = question.target.sigma[i]
    R[-1][i, column] = 1.0
    return point.conjugate_back(R) if printed else point.conjugate(R)


def exchanged(question: Question, point: Point) -> tuple[int, int]:
    """The strongest mode i that is left and the weakest learned one j, from 0."""
    left = [k for k in range(question.target.rank) if k + 1 not in point.signature]
    return left[0], point.signature[-1] - 1


def _inverted(question: Question) -> list[Point]:
    """Made points of signatures that leave a stronger mode than they learn."""
    return [point for point in made(question) if not is_top(question, point.signature)]


def _negative_as_printed(question: Question) -> Finding:
    """As printed: the direction P^{-1} R P, and U_K = E_{i,j}, where j may exceed r."""
    return _negative(question, printed=True, shifted=True)


@statement(
    "21",
    name="Proposition 21",
    source="Altafini, Proposition 21",
    words="Where a stronger mode i is left than a learned one j, exchanging them is a direction of negative curvature.",
    latex=r"\mathfrak{h}(A, P R P^{-1}) = \sigma_j^2 - \sigma_i^2 < 0, \quad "
    r"R = \mathrm{blk}_1([U_K^\top \Sigma; 0], 0, \dots, 0, [U_K, 0]), \quad U_K = E_{i, \mathrm{pos}(j)}",
    assumptions="two layers or more; two different singular values above 0",
    erratum="Printed: the direction P^{-1} R P. Printed: U_K = E_{i,j} of r columns; j may exceed r, the column is the "
    "position of j within S. In the proof [S Sigma]_{ii} = 0 is meant.",
    as_printed=_negative_as_printed,
)
def negative_direction(question: Question) -> Finding:
    """The form along that direction at every made point whose signature is not the strongest modes."""
    return _negative(question)


def _negative(question: Question, printed: bool = False, shifted: bool = False) -> Finding:
    points = _inverted(question)
    if question.depth < 2 or not points:
        return does_not_apply("no critical point leaves a stronger mode than it learns")
    gaps, sigma = [], question.target.sigma
    for point in points:
        i, j = exchanged(question, point)
        if shifted and j >= point.rank:
            gaps.append(np.inf)  # U_K has no column j
            continue
        value, _ = second_variation(question.sigma, point.weights, exchange(question, point, shifted, printed))
        expected = float(sigma[j] ** 2 - sigma[i] ** 2)
        gaps.append(abs(value - expected) / float(sigma[i] ** 2 + sigma[j] ** 2))
    return Finding(worst(gaps), 1e-9, CONDITIONED, f"{len(points)} critical points, value against formula")


@statement(
    "22",
    name="Remark 22",
    source="Altafini, Remark 22",
    words="Within the diagonal networks, which the flow keeps, the Hessian can have no negative direction at a strict "
    "saddle.",
    latex=r"\mathfrak{h}(A, V) \ge 0 \ \forall V \text{ diagonal}, \quad \lambda_{\min}(\mathrm{Hess}\, L(A)) < 0",
    assumptions="three layers or more; two different singular values above 0",
)
def diagonal_saddle(question: Question) -> Finding:
    """At the diagonal point that learned the second of two different modes: the form within, and along an exchange."""
    if (fails := several_layers(question, 3)) is not None:
        return fails
    sigma = question.target.sigma
    weaker = [k for k in range(1, largest_rank(question)) if sigma[k] < sigma[0] * (1 - 1e-6)]
    if not weaker:
        return does_not_apply("needs two different singular values within the narrowest layer")
    j, h = weaker[0], question.depth
    modes = sorted({0, j, *range(min(largest_rank(question), 4))})
    weights = [np.zeros_like(W) for W in question.weights]
    for W in weights:
        W[j, j] = sigma[j] ** (1 / h)
    form = question.quadratic.form
    basis = [_single_entry(weights, l, k, k) for l in range(h) for k in modes]
    within = np.array([[form(weights, V, U) for U in basis] for V in basis])
    V = _single_entry(weights, 0, j, 0)
    V[-1][0, j] = 1.0
    outside, size = second_variation(question.sigma, weights, V)
    expected = 2 * float(sigma[j]) ** ((h - 2) / h) * float(sigma[j] - sigma[0])
    lowest, scale = float(np.linalg.eigvalsh(within)[0]), float(np.abs(within).max())
    note = f"lowest within {lowest / scale:.1e}, along an exchange of modes {outside:.3g}"
    return Finding(worst([max(0.0, -lowest / scale), abs(outside - expected) / size]), 1e-11, "rounding", note)


def _single_entry(weights: Layers, layer: int, row: int, column: int) -> Layers:
    """A direction with one entry, 1."""
    V = [np.zeros_like(W) for W in weights]
    V[layer][row, column] = 1.0
    return V


def _sum_of_squares_as_printed(question: Question) -> Finding:
    """As printed: lower index h - l_3 - 1 in (38) and (41), and sigma_j^2 G_kj in (42)."""
    if (fails := several_layers(question, 3)) is not None:
        return fails
    points = _tightened(question)
    gaps = [squares_gap(question, point, squared=False, late=True) for point in points]
    return Finding(worst(gaps), 1e-9, CONDITIONED, f"{len(points)} critical points")


@statement(
    "23",
    name="Proposition 23",
    source="Altafini, Proposition 23, (36)-(46)",
    words="At a critical point that learned the r strongest modes, three of its blocks Z being zero, the "
    "Hessian's form is nowhere negative.",
    latex=r"S = \{1..r\},\ Z_{l_1} = Z_{l_2} = Z_{l_3} = 0 \Rightarrow \mathfrak{h}(A, V) \ge 0, \quad "
    r"\Big\| \sum_{k \ge l_3} Z_h \cdots Z_{k+1} V_{21}^{(k)} \Sigma_S \Big\|_F^2 = \sum_{j,k} \sigma_j^2 G_{kj}^2",
    assumptions="three layers or more",
    erratum="Printed: (42) with sigma_j^2 G_kj; (38) and (41) from j = h - l_3 - 1, which loses terms of deep networks "
    "(j = l_3 is right). (37) is an inequality where d_x > d_y.",
    as_printed=_sum_of_squares_as_printed,
)
def nonnegative_form(question: Question) -> Finding:
    """Lowest curvature at tightened points of the strongest modes, the form along random directions, and (41)-(42)."""
    if (fails := several_layers(question, 3)) is not None:
        return fails
    points, gaps, how = _tightened(question), [], ""
    for point in points:
        lowest, _, how = extreme_curvatures(question, point.weights)
        gaps.append(max(0.0, -lowest / curvature_unit(question, point.weights)))
        gaps += [squares_gap(question, point), *(max(0.0, -value) for value in _random_forms(question, point))]
    return Finding(worst(gaps), 1e-9, CONDITIONED, f"{len(points)} critical points; {how}")


def _tightened(question: Question) -> list[Point]:
    """Made points with three zero blocks that learned the strongest modes."""
    strongest = [S for S in signatures(question) if not S or S[-1] == len(S)]
    return [make_point(question, S, "tightened") for S in strongest]


def _random_forms(question: Question, point: Point) -> list[float]:
    rng, found = question.rng(), []
    for _ in range(DIRECTIONS if sum(W.size for W in point.weights) > DENSE_WEIGHTS else 0):
        V = [rng.standard_normal(W.shape) for W in point.weights]
        value, size = second_variation(question.sigma, point.weights, V)
        found.append(value / size if size else 0.0)
    return found


def squares_gap(question: Question, point: Point, squared: bool = True, late: bool = False) -> float:
    r"""Distance between the last term of (38), a norm, and (42), a sum over G, along a random direction.

    As printed it is not `squared`, and G begins `late`, at h - l_3 - 1 in the place of l_3.
    """
    r, h, Z = point.rank, question.depth, point.blocks
    zeros = [l for l, block in enumerate(Z, start=1) if not block.any()]
    if not r or not Z[-1].size or len(zeros) < 3:
        return 0.0
    V, sigma = question.random_direction(), question.target.sigma[[k - 1 for k in point.signature]]
    _, above = partial_products(Z)
    begin = h - zeros[2] - 1 if late else zeros[2]
    terms = [above[k] @ _lower_left(point, V[k - 1], k, h) for k in range(1, h + 1)]
    norm = float(np.sum((sum(terms) * sigma) ** 2))
    G = sum(terms[max(begin, 1) - 1 :], np.zeros_like(terms[0]))
    return relative(norm - float(np.sum(sigma**2 * (G**2 if squared else G))), norm)


def _lower_left(point: Point, V: np.ndarray, k: int, h: int) -> np.ndarray:
    """V_21 of layer k: from what carries the learned modes to the rest."""
    S = [mode - 1 for mode in point.signature]
    rows = [i for i in range(len(V)) if i not in S] if k == h else slice(point.rank, None)
    return V[rows][:, S if k == 1 else slice(None, point.rank)]
