"""Decoupled and diagonal networks (section 5.2 of the survey)."""

from itertools import combinations

import numpy as np

from ... import predicates
from .. import members
from ..question import Layers, Question, relative, velocity
from ..statement import Finding, statement

ROUNDING = "rounding of products of h factors"
STEP = 1e-200
"""Of derivatives by a step along i: nothing cancels, so that they are exact to rounding."""


@statement(
    "32",
    name="Proposition 32",
    source="Altafini, Proposition 32",
    words="A rotation of the hidden layers makes a decoupled network diagonal, and its flow that of the diagonal one.",
    latex=r"A = P \Lambda P^\top, \quad \dot A = P \dot \Lambda P^\top, \quad P = \mathrm{blk}_0(I, U_1, \dots,"
    r" U_{h-1},"
    r" I)",
    assumptions="A is decoupled",
    erratum="The proof prints P = blk_0(I, V_2, ..., V_{h-1}, I) and A = P A P^T; it is V_2, ..., V_h and P Lambda"
    " P^T.",
)
def diagonal_in_a_basis(question: Question) -> Finding:
    """On a decoupled network with known singular vectors; diagonal weights have both signs."""
    own, distance = members.own_decoupled(question)
    member = own if distance <= members.FITS else members.decoupled(question)
    velocities = velocity(question.sigma, member.weights)
    turned = members.Member(member.frames, velocity(question.sigma, member.diagonals)).weights
    size = float(np.linalg.norm(question.sigma)) + float(np.prod([np.linalg.norm(W, 2) for W in member.weights]))
    off = relative([a - b for a, b in zip(velocities, turned, strict=True)], max(size, 1e-300))
    check = predicates.decoupled(members.survey_objective(question), members.as_network(member.weights))
    note = "" if member is own else f"a random decoupled network of these widths; this one is off by {distance:.2g}"
    return Finding(max(off, check.violation), 1e-9, "singular vectors of close singular values", note)


@statement(
    "33",
    name="Proposition 33",
    source="Altafini, Proposition 33",
    words="At a critical point of diagonal layers every mode is learned, or zero in at least two layers.",
    latex=r"\dot\xi = 0 \iff \hat\xi_j = \sigma_j \text{ or } \xi_{i,j} = 0 \text{ for at least two } i, \quad"
    r" j = 1, \dots, d_y",
    assumptions="W_i diagonal for all i",
)
def critical_diagonals(question: Question) -> Finding:
    """Every pattern of zeros in at most three layers, learned or not: is the velocity zero where it should be?"""
    h, rng = question.depth, question.rng()
    wrong = total = 0
    for sigma in question.singular_values[: modes(question)]:
        for zeros in (c for count in range(min(h, 3) + 1) for c in combinations(range(h), count)):
            for learned in (False, True):
                xi = rng.uniform(0.5, 1.5, h)
                if learned:
                    xi[0] = sigma / np.prod(xi[1:])
                xi[list(zeros)] = 0.0
                exact = abs(np.prod(xi) - sigma) <= 1e-14 * max(sigma, 1.0)
                rest = np.linalg.norm(field(xi, sigma)) <= 1e-13 * max(sigma, 1.0) * np.linalg.norm(others(xi))
                wrong += rest != (exact or int(np.sum(xi == 0)) >= 2)
                total += 1
    return Finding(wrong / total, 0.0, "a share of cases, none may fail", f"{total} cases")


@statement(
    "eq55",
    name="Flow of diagonal layers",
    source="Altafini, (55)",
    words="Diagonal layers stay diagonal, and every mode moves by itself.",
    latex=r"\dot\xi_{i,j} = \bar\xi_{i,j} (\sigma_j - \hat\xi_j), \quad \bar\xi_{i,j} = \prod_{k \ne i} \xi_{k,j},"
    r" \quad \hat\xi_j = \prod_k \xi_{k,j}",
    assumptions="W_i diagonal for all i",
)
def flow_of_diagonals(question: Question) -> Finding:
    """On random diagonal layers of both signs."""
    diagonals = members.decoupled(question).diagonals
    xi, sigma = _xi(question, diagonals), question.singular_values[: modes(question)]
    expected = field(xi, sigma)
    gaps = []
    for V, slope in zip(velocity(question.sigma, diagonals), expected, strict=True):
        D = np.zeros(V.shape)
        np.fill_diagonal(D[: slope.size, : slope.size], slope)
        gaps.append(V - D)
    return Finding(relative(gaps, expected), 1e-12, ROUNDING, "random diagonal layers of these widths")


@statement(
    "eq56",
    name="Loss of diagonal layers",
    source="Altafini, (56)",
    words="The loss of a mode falls at a rate given by its weights.",
    latex=r"\dot{\mathcal L}_j = -2 \Big( \sum_i \bar\xi_{i,j}^2 \Big) \mathcal L_j",
    assumptions="W_i diagonal for all i",
)
def loss_of_diagonals(question: Question) -> Finding:
    """The derivative of the loss along (55), by a step along i."""
    xi = _xi(question, members.decoupled(question).diagonals)
    sigma = question.singular_values[: modes(question)]
    moved = xi + 1j * STEP * field(xi, sigma)
    measured = np.imag((sigma - np.prod(moved, axis=0)) ** 2 / 2) / STEP
    formula = -np.sum(others(xi) ** 2, axis=0) * (sigma - np.prod(xi, axis=0)) ** 2
    return Finding(relative(measured - formula, formula), 1e-12, ROUNDING, "random diagonal layers of these widths")


@statement(
    "eq57",
    name="Hessian of diagonal layers",
    source="Altafini, (57)",
    words="The Hessian among diagonal layers falls apart into a block for every mode.",
    latex=r"\nabla^2 \mathcal L_j = \bar\xi_j \bar\xi_j^\top + (\hat\xi_j - \sigma_j) \nabla^2 \hat\xi_j",
    assumptions="W_i diagonal for all i",
    erratum="The text after (57) prints xi* xi*^T for a learned mode; it is xibar* xibar*^T.",
)
def hessian_of_diagonals(question: Question) -> Finding:
    """The derivative of the gradient of every mode, by steps along i."""
    xi = _xi(question, members.decoupled(question).diagonals)
    worst, h = 0.0, question.depth
    for column, sigma in zip(xi.T, question.singular_values, strict=False):
        measured = np.stack([-np.imag(field(column + 1j * STEP * e, sigma)) / STEP for e in np.eye(h)])
        bar, second = others(column), np.zeros((h, h))
        for i, k in combinations(range(h), 2):
            second[i, k] = second[k, i] = np.prod(np.delete(column, [i, k]))
        formula = np.outer(bar, bar) + (np.prod(column) - sigma) * second
        worst = max(worst, relative(measured - formula, np.outer(bar, bar), sigma * second))
    return Finding(worst, 1e-12, ROUNDING, "random diagonal layers of these widths")


def printed_bracket(question: Question) -> Finding:
    """The brackets' size, which is printed to be zero."""
    bracket, _, scale = _bracket(question)
    return Finding(relative(bracket, scale), 1e-12, ROUNDING)


@statement(
    "5.2.1.bracket",
    name="Lie bracket of two targets' flows",
    source="Altafini, section 5.2.1",
    words="The flows of two targets do not commute, but stay in the same span.",
    latex=r"[f(\cdot, \sigma), f(\cdot, \sigma')]_j = (\sigma'_j - \sigma_j) |\bar\xi_j|^2 \bar\xi_j",
    assumptions="W_i diagonal for all i",
    erratum="Printed as 0; the distribution is involutive all the same.",
    as_printed=printed_bracket,
)
def bracket_of_targets(question: Question) -> Finding:
    """Derivatives of one field along the other, by steps along i."""
    bracket, formula, scale = _bracket(question)
    return Finding(relative(bracket - formula, scale), 1e-12, ROUNDING, "random diagonal layers of these widths")


def printed_saddle_rate(question: Question) -> Finding:
    """How much of an exponential rate is lost when the distance from the saddle shrinks a hundredfold."""
    far, near = (_saddle_rate(question, z) for z in (1e-2, 1e-4))
    return Finding(1 - near / far, 0.5, "an exponential rate does not tend to zero")


@statement(
    "5.2.1.rate",
    name="Rate of convergence to the saddle",
    source="Altafini, section 5.2.1 and Proposition 26",
    words="A balanced mode whose product has the wrong sign converges to zero, exponentially for h = 2 and as a"
    " power of"
    " time for h >= 3.",
    latex=r"\dot z = -z^{h-1} (\sigma + z^h), \quad -\dot z / z \to \sigma z^{h-2}, \quad \text{so } z\, t \to 1 /"
    r" \sigma"
    r" \text{ for } h = 3",
    assumptions="diagonal layers of equal modulus, product negative, at least two layers",
    erratum="Printed as exponential convergence to the saddle in general; for h >= 3 it is not.",
    as_printed=printed_saddle_rate,
)
def saddle_rate(question: Question) -> Finding:
    """The velocity near the saddle against its leading term."""
    z, h, sigma = 1e-4, max(question.depth, 2), float(question.singular_values[0]) or 1.0
    off = abs(_saddle_rate(question, z) / (sigma * z ** (h - 2)) - 1) * sigma / (sigma + 1)
    return Finding(off, 1e-7, "the next term, z^h / sigma, at z = 1e-4", f"depth {h}")


def others(xi: np.ndarray) -> np.ndarray:
    """Products over all layers but one, along the first axis."""
    return np.stack([np.prod(np.delete(xi, i, axis=0), axis=0) for i in range(len(xi))])


def field(xi: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """(55) for weights (layer, ...) of modes (...,)."""
    return others(xi) * (sigma - np.prod(xi, axis=0))


def modes(question: Question) -> int:
    """Modes that pass through all layers."""
    return min(question.widths)


def _xi(question: Question, diagonals: Layers) -> np.ndarray:
    """Weights (layer, mode) of the modes that pass through all layers."""
    return np.stack([np.diagonal(D)[: modes(question)] for D in diagonals])


def _bracket(question: Question) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bracket of the flows of sigma and 2 sigma + 1, the formula, and the size of the terms that cancel."""
    xi = _xi(question, members.decoupled(question).diagonals)
    first = question.singular_values[: modes(question)]
    second = 2 * first + 1
    along = lambda target, by: np.imag(field(xi + 1j * STEP * field(xi, by), target)) / STEP
    forth, back = along(second, first), along(first, second)
    bar = others(xi)
    return forth - back, (second - first) * np.sum(bar**2, axis=0) * bar, np.abs(forth) + np.abs(back)


def _saddle_rate(question: Question, z: float) -> float:
    """-z'/z of a balanced mode with one negative weight, from the network's own flow; z in units of the mode."""
    h, sigma = max(question.depth, 2), float(question.singular_values[0]) or 1.0
    layers = [np.array([[z]]) for _ in range(h - 1)] + [np.array([[-z]])]
    return -float(velocity(np.array([[sigma]]), layers)[0][0, 0]) / z
