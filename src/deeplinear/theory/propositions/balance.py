"""Balanced and nearly balanced networks (sections 5.3 and 5.4 of the survey)."""

from itertools import pairwise

import numpy as np

from ... import predicates
from ...landscape import parameters
from .. import members
from ..points import is_critical
from ..question import Layers, Question, product, relative, velocity
from ..statement import Finding, does_not_apply, statement

ROUNDING = "rounding of products of h matrices"
CRITICAL = 1e-12
"""Imbalance up to which a critical point counts as balanced: Z is then known to its root."""
NO_JUNCTION = "one layer has no neighbours"


@statement(
    "34",
    name="Proposition 34",
    source="Altafini, Proposition 34",
    words="A 0-balanced network is aligned, with the same singular values in every layer; a 0-balanced critical"
    " point is"
    " decoupled as well.",
    latex=r"C = 0 \Rightarrow V_{i+1}^\top U_i = I, \; \Lambda_i = \Lambda_j; \quad A^* = P \Lambda P^\top, \;"
    r" (A^*)^h = \Lambda^h",
    assumptions="A is 0-balanced",
    erratum="The proof prints V_{i+1}^T L^T L V_{i+1}; it is V_{i+1} L^T L V_{i+1}^T.",
)
def balanced_is_aligned(question: Question) -> Finding:
    """Alignment and singular values of a balanced network, decoupling of a balanced critical point."""
    check = predicates.balanced(members.as_network(question.weights))
    weights, note = members.own_or(question, check, members.balanced(question).weights)
    rank = min(question.widths)
    squares = [np.linalg.svd(W, compute_uv=False) ** 2 for W in weights]
    equal = max(relative(s[:rank] - squares[0][:rank], squares[0]) for s in squares)
    beyond = max(relative(s[rank:], squares[0]) for s in squares)
    point, learned = members.balanced_critical_point(question)
    objective, critical = members.survey_objective(question), members.as_network(point.weights)
    mask = np.isin(np.arange(1, len(question.sigma) + 1), learned)
    parts = {
        "singular values": max(equal, beyond),
        "alignment": predicates.aligned(members.as_network(weights)).violation,
        "decoupling of the critical point": predicates.decoupled(objective, critical).violation,
        "its end-to-end matrix": relative(product(point.weights) - mask[:, None] * question.sigma, question.sigma),
    }
    worst = max(parts, key=lambda part: parts[part])
    return Finding(parts[worst], 1e-8, "singular vectors of close singular values", note or f"worst: {worst}")


@statement(
    "34.sign",
    name="Sign of a balanced network's determinant",
    source="beside Altafini, Proposition 34; Arora, Cohen and Hazan (2018)",
    words="The determinant of a square 0-balanced network of at least two layers never changes its sign, so half of all"
    " random 0-balanced starts converge to a saddle.",
    latex=r"\frac{d}{dt} \log |\det W| = h \sum_r s_r^{1-2/h} u_r^\top \Xi v_r \text{ with } W = \sum_r s_r u_r"
    r" v_r^\top, \text{ bounded}",
    assumptions="0-balanced, d_x = d_y, no narrower layer, h >= 2",
    erratum="The survey expects generic convergence to a global minimum; with this symmetry half of the starts are"
    " obstructed.",
)
def determinant_keeps_its_sign(question: Question) -> Finding:
    """The logarithmic derivative of the determinant, against a formula that stays finite where W is singular."""
    d_x, d_y, h = question.widths[0], question.widths[-1], question.depth
    if h < 2 or d_x != d_y or min(question.widths) < d_x:
        return does_not_apply("needs d_x = d_y, no narrower layer and two layers")
    check = predicates.balanced(members.as_network(question.weights), tolerance=CRITICAL)
    weights, note = members.own_or(question, check, members.balanced(question).weights)
    W, end = product(weights), _end_to_end_speed(weights, velocity(question.sigma, weights))
    U, s, Vt = np.linalg.svd(W)
    if s[-1] <= 1e-12 * s[0]:
        return does_not_apply("the determinant is zero", float(s[-1]))
    measured = np.trace(np.linalg.solve(W, end))
    terms = h * s ** (1 - 2 / h) * np.einsum("ir,ij,rj->r", U, question.sigma - W, Vt)
    size = np.abs(terms).max() + h * s[0] ** (1 - 2 / h) * np.linalg.norm(question.sigma - W)
    off = float(abs(measured - terms.sum()) / size)
    return Finding(off, 1e-12 * float(s[0] / s[-1]), "rounding times the condition number of W", note)


@statement(
    "35",
    name="Proposition 35",
    source="Altafini, Proposition 35",
    words="A 0-balanced critical point has no blocks Z beside what it has learned.",
    latex=r"C = 0, \; A^* = P (A_1 + Z) P^{-1} \Rightarrow Z = 0 \text{ for a suitable } P",
    assumptions="A* is a 0-balanced critical point",
    erratum='Printed without "for a suitable P", which fixes the columns of Z_1 of learned modes.',
)
def balanced_critical_is_tightened(question: Question) -> Finding:
    """The blocks Z of a random balanced critical point, found from its weights."""
    size = max(members.mode_size(question), 1.0)
    weights, whose = question.weights, "this network"
    if (
        not is_critical(question, weights)
        or not predicates.balanced(members.as_network(weights), tolerance=CRITICAL).holds
    ):
        weights, whose = members.balanced_critical_point(question)[0].weights, "a random one"
    found = parameters(members.survey_objective(question), members.as_network(weights))
    off = max((relative(Z, size) for Z in found.blocks), default=0.0)
    note = f"{whose}, learned modes {', '.join(map(str, found.signature)) or 'none'}"
    return Finding(off, 1e-6, "the root of the imbalance that counts as none", note)


@statement(
    "36",
    name="Proposition 36",
    source="Altafini, Proposition 36 and (58)",
    words="Neighbouring layers of a nearly balanced network have nearly the same singular values.",
    latex=r"\sum_k (\varsigma_{i,k}^2 - \varsigma_{i+1,k}^2)^2 \le \|C_i\|_F^2 \le \delta^2",
    assumptions="delta is the largest |C_i|_F, which every network has",
)
def layers_synchronise(question: Question) -> Finding:
    """The largest excess over all junctions, at the network and along the trajectory."""
    if question.depth == 1:
        return Finding(0.0, 0.0, "exact", NO_JUNCTION)
    worst = 0.0
    for weights in [question.weights, *(weights for _, weights in question.path)]:
        for below, above, _, C in _junctions(weights):
            left, right = float(np.linalg.norm(below - above)), float(np.linalg.norm(C))
            worst = max(worst, (left - right) / max(right, 1e-4 * float(max(below.max(), above.max())), 1e-300))
    delta = predicates.smallest_delta(members.as_network(question.weights))
    return Finding(worst, 1e-10, "rounding of singular values", f"delta = {delta:.3g}")


def printed_laplacian_bound(question: Question) -> Finding:
    """(60) as a bound: the excess of 2 mu^T L mu over |C_i|^2."""
    if question.depth == 1:
        return does_not_apply(NO_JUNCTION)
    worst = 0.0
    for below, _, Theta, C in _junctions(question.weights):
        symmetric = (Theta + Theta.T) / 2
        form = float(np.sum(symmetric * (below[:, None] - below[None, :]) ** 2))
        bound = float(np.sum(C**2))
        worst = max(worst, (form - bound) / max(form, bound, 1e-300))
    return Finding(worst, 1e-10, "rounding of singular values")


@statement(
    "eq60",
    name="Alignment of nearly balanced layers",
    source="Altafini, (59) and (60)",
    words="The imbalance is made of the distances of singular values, weighted by how much their vectors overlap.",
    latex=r"\|C_i\|_F^2 = \sum_{k,\ell} (v_{i+1,\ell}^\top u_{i,k})^2 (\varsigma_{i,k}^2 - \varsigma_{i+1,\ell}^2)^2",
    erratum="(60) is printed as an exact inequality, delta^2 >= 2 mu^T L mu; it holds only approximately.",
    as_printed=printed_laplacian_bound,
)
def imbalance_by_overlaps(question: Question) -> Finding:
    """The identity at every junction, and the overlap matrix's row and column sums."""
    if question.depth == 1:
        return Finding(0.0, 0.0, "exact", NO_JUNCTION)
    worst = 0.0
    for below, above, Theta, C in _junctions(question.weights):
        total = float(np.sum(Theta * (below[None, :] - above[:, None]) ** 2))
        size = max(float(np.sum(C**2)), 1e-6 * float(max(below.max(), above.max())) ** 2)
        worst = max(worst, relative(total - np.sum(C**2), size))
        worst = max(worst, *(float(np.abs(Theta.sum(axis=axis) - 1).max()) for axis in (0, 1)))
    return Finding(worst, 1e-9, "rounding, relative to the imbalance or to a millionth of the weights' fourth power")


def printed_alignment(question: Question) -> Finding:
    """The largest overlap of vectors whose squared singular values are at least delta apart, printed as about 0."""
    if question.depth == 1:
        return does_not_apply(NO_JUNCTION)
    delta = predicates.smallest_delta(members.as_network(question.weights))
    overlaps = [0.0]
    for below, _, Theta, _ in _junctions(question.weights):
        apart = np.abs(below[:, None] - below[None, :]) >= delta
        overlaps.append(float(np.max((Theta + Theta.T) / 2 * apart)))
    return Finding(max(overlaps), 0.1, "what is about zero is not above a tenth")


@statement(
    "36.vectors",
    name="Overlap of singular vectors",
    source="Altafini, after (60)",
    words="Singular vectors of neighbouring layers align where their singular values are much further apart than"
    " delta.",
    latex=r"(v_{i+1,\ell}^\top u_{i,k})^2 \le \frac{\|C_i\|_F^2}{(\varsigma_{i,k}^2 - \varsigma_{i+1,\ell}^2)^2}",
    erratum="Printed with thresholds delta^2, and as if a gap of delta were enough; the overlap is small only for gaps"
    " far above delta.",
    as_printed=printed_alignment,
)
def vectors_align(question: Question) -> Finding:
    """The largest excess over all pairs of vectors, for gaps above rounding."""
    if question.depth == 1:
        return Finding(0.0, 0.0, "exact", NO_JUNCTION)
    worst, smallest = 0.0, 1.0
    for below, above, Theta, C in _junctions(question.weights):
        gaps = np.abs(below[None, :] - above[:, None])
        size = max(float(np.linalg.norm(C)), 1e-4 * float(max(below.max(), above.max())), 1e-300)
        worst = max(worst, float(np.max(np.sqrt(Theta) * gaps)) / size - 1)
        smallest = min(smallest, float(np.linalg.norm(C)) / max(float(gaps.max()), 1e-300))
    return Finding(worst, 1e-10, "rounding of singular values", f"the best bound of an overlap is {smallest**2:.2g}")


def printed_fixed_points(question: Question) -> Finding:
    """The velocity at +-sigma_j, relative to its terms."""
    h = question.depth
    values = question.singular_values[question.singular_values > 0]
    worst = 0.0
    for z in [*values, *-values]:
        sigma = abs(z)
        worst = max(worst, abs(_balanced_field(z, sigma, h)) / (abs(z) ** (h - 1) * (sigma + abs(z) ** h)))
    return Finding(worst, 1e-12, "rounding of a power")


@statement(
    "eq61",
    name="Balanced diagonal dynamics",
    source="Altafini, (61)",
    words="Equal weights of a mode follow one scalar equation, at rest at zero and where z^h is the singular value.",
    latex=r"\dot z_j = z_j^{h-1} (\sigma_j - z_j^h); \quad \dot z_j = 0 \iff z_j = 0 \text{ or } z_j^h = \sigma_j:"
    r" \; \pm\sigma_j^{1/h} \text{ for even } h, \; \sigma_j^{1/h} \text{ for odd } h",
    assumptions="W_i diagonal, with the same entries in all layers",
    erratum="Printed with critical points +-sigma_j and 0, and fast convergence from above sigma_j.",
    as_printed=printed_fixed_points,
)
def balanced_modes(question: Question) -> Finding:
    """The network's own flow against the scalar equation; its velocity at the roots; no root of other sign."""
    h, rank = question.depth, min(question.widths)
    values = question.singular_values[:rank]
    z = members.mode_size(question) * question.rng().uniform(0.1, 1.5, rank)
    layers = [members.rectangular(z, *shape) for shape in members.shapes(question)]
    measured = np.diagonal(velocity(question.sigma, layers)[0])[:rank]
    off = relative(measured - _balanced_field(z, values, h), z ** (h - 1) * (values + z**h))
    for sigma in values[values > 0]:
        root = sigma ** (1 / h)
        for sign in (1.0, -1.0):
            slope = abs(_balanced_field(sign * root, sigma, h)) / (2 * root ** (h - 1) * sigma)
            at_rest = sign > 0 or h % 2 == 0
            off = max(off, slope if at_rest else 1 - slope)
    return Finding(float(off), 1e-12, "rounding of a power", f"depth {h}")


def _balanced_field(z: float | np.ndarray, sigma: float | np.ndarray, h: int) -> np.ndarray:
    return np.asarray(z ** (h - 1) * (sigma - z**h))


def _end_to_end_speed(weights: Layers, speed: Layers) -> np.ndarray:
    """d/dt W_{1:h}."""
    return sum(
        (product([*weights[:j], V, *weights[j + 1 :]]) for j, V in enumerate(speed)), np.zeros_like(product(weights))
    )


def _junctions(weights: Layers) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Squared singular values of layer i and of layer i + 1, overlaps (above, below), and C_i, at every junction."""
    found = []
    for W, X in pairwise(weights):
        U, s, _ = np.linalg.svd(W)
        _, t, Vt = np.linalg.svd(X)
        below, above = (np.pad(values**2, (0, len(W) - values.size)) for values in (s, t))
        found.append((below, above, (Vt @ U) ** 2, W @ W.T - X.T @ X))
    return found
