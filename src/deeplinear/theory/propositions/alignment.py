"""Aligned networks (section 5.1 of the survey)."""

from itertools import pairwise

import numpy as np

from ... import predicates
from ...blockshift import BlockMatrix, adjacency, blk, change_of_basis, inverse
from ...landscape.generators import orthogonal_matrix
from .. import members
from ..question import Layers, Question, relative, velocity
from ..statement import Finding, statement

ROUNDING = "rounding of products of h matrices"
LEAVES = 1e-6
"""Relative speed from which an alignment counts as lost."""


@statement(
    "29",
    name="Proposition 29",
    source="Altafini, Proposition 29",
    words="The block-shift SVD of a power of an aligned network is the power of its singular values.",
    latex=r"A^k = U \Lambda^k V^\top, \quad k = 1, \dots, h",
    assumptions="A is aligned: V^T U = J",
)
def powers_of_aligned(question: Question) -> Finding:
    """On an aligned network with known singular vectors."""
    member, note = _aligned(question)
    A, U, Lambda, V = _block_svd(member)
    off = 0.0
    for k in range(1, question.depth + 1):
        power = A**k
        sizes = [_scale(member.weights[i : i + k]) for i in range(question.depth + 1 - k)]
        gaps = (power - U @ Lambda**k @ V.T).diagonal(k)
        off = max(off, *(relative(gap, size) for gap, size in zip(gaps, sizes, strict=True)))
    return Finding(off, 1e-11, ROUNDING, note)


@statement(
    "30",
    name="Proposition 30",
    source="Altafini, Proposition 30",
    words="Rotations of the hidden layers keep a network aligned.",
    latex=r"A \text{ aligned}, \; P \in \mathcal P_O \;\Rightarrow\; P A P^\top \text{ aligned}",
    assumptions="A is aligned",
)
def rotations_keep_alignment(question: Question) -> Finding:
    """How far the rotated network is from aligned."""
    member, note = _aligned(question)
    rng = question.rng()
    P = change_of_basis([orthogonal_matrix(rng, d) for d in question.widths[1:-1]], question.widths)
    rotated = P @ blk(1, member.weights) @ inverse(P)
    off = predicates.aligned(members.as_network(list(rotated.layers))).violation
    return Finding(off, 1e-9, "singular vectors of close singular values", note)


@statement(
    "31",
    name="Proposition 31",
    source="Altafini, Proposition 31",
    words="The flow keeps decoupled networks decoupled and 0-balanced ones 0-balanced, but not aligned ones aligned.",
    latex=r"A(0) \text{ decoupled} \Rightarrow A(t) \text{ decoupled}; \quad A(0) \text{ 0-balanced} \Rightarrow A(t)"
    r" \text{ 0-balanced}; \quad A(0) \text{ aligned} \not\Rightarrow A(t) \text{ aligned}",
)
def what_the_flow_keeps(question: Question) -> Finding:
    """The velocity of a decoupled network is diagonal in its frames; that of a balanced one keeps C = 0."""
    kept = members.decoupled(question)
    turned = _turned(velocity(question.sigma, kept.weights), kept.frames)
    decoupled_off = relative([D - _diagonal_part(D) for D in turned], _speed_scale(question, kept.weights))
    check = predicates.balanced(members.as_network(question.weights))
    weights, note = members.own_or(question, check, members.balanced(question).weights)
    speed = velocity(question.sigma, weights)
    balanced_off = relative(_imbalance_rates(weights, speed), _products(weights, speed))
    lost = _alignment_loss(question)
    moves = f"an aligned network leaves alignment at relative speed {lost:.2g}" if lost > LEAVES else ""
    note = "; ".join(filter(None, [note, moves]))
    return Finding(max(decoupled_off, balanced_off), 1e-12, ROUNDING, note)


def printed_velocity(question: Question) -> Finding:
    """(54) without the factors of the first and last layer."""
    return _velocity(question, outer=False)


@statement(
    "eq54",
    name="Velocity of an aligned network",
    source="Altafini, (53) and (54)",
    words="In the frames of an aligned network's hidden layers, its velocity is that of its singular values, up to what"
    " the outer frames turn.",
    latex=r"P^\top \dot A P: \; \Lambda_{i+1:h}^\top (U_h^\top \Sigma V_1 - \Lambda_{1:h}) \Lambda_{1:i-1}^\top,"
    r" \text{ times } V_1^\top \text{ from the right for } i = 1, \; U_h \text{ from the left for } i = h",
    assumptions="A is aligned; P = blk_0(I, U_1, ..., U_{h-1}, I)",
    erratum="(54) is printed for all i without the factors V_1^T at i = 1 and U_h at i = h.",
    as_printed=printed_velocity,
)
def velocity_of_aligned(question: Question) -> Finding:
    """On an aligned network with known singular vectors."""
    return _velocity(question, outer=True)


def _velocity(question: Question, outer: bool) -> Finding:
    member, note = _aligned(question)
    first, last = member.frames[0], member.frames[-1]
    frames = [np.eye(len(first)), *member.frames[1:-1], np.eye(len(last))]
    turned = _turned(velocity(question.sigma, member.weights), frames)
    formula = velocity(last.T @ question.sigma @ first, member.diagonals)
    if outer:
        formula[0] = formula[0] @ first.T
        formula[-1] = last @ formula[-1]
    gaps = [a - b for a, b in zip(turned, formula, strict=True)]
    return Finding(relative(gaps, _speed_scale(question, member.weights)), 1e-11, ROUNDING, note)


def _aligned(question: Question) -> tuple[members.Member, str]:
    """The network at hand in its frames if it is aligned, else a random one."""
    own, off = members.own_aligned(question)
    if off <= members.FITS:
        return own, ""
    return members.aligned(question), f"a random aligned network of these widths; this one is off by {off:.2g}"


def _block_svd(member: members.Member) -> tuple[BlockMatrix, BlockMatrix, BlockMatrix, BlockMatrix]:
    """A, U = blk_0(0, U_1, ..., U_h), Lambda, V = blk_0(V_1, ..., V_h, 0)."""
    A = adjacency(members.as_network(member.weights))
    frames = dict(enumerate(member.frames))
    U = BlockMatrix(A.widths, {(l, l): R for l, R in frames.items() if l > 0})
    V = BlockMatrix(A.widths, {(l, l): R for l, R in frames.items() if l < A.depth})
    return A, U, blk(1, member.diagonals), V


def _turned(layers: Layers, frames: Layers) -> Layers:
    """R_i^T X_i R_{i-1}."""
    return [above.T @ X @ below for X, (below, above) in zip(layers, pairwise(frames), strict=True)]


def _diagonal_part(D: np.ndarray) -> np.ndarray:
    return D * np.eye(*D.shape)


def _scale(layers: Layers) -> float:
    return float(np.prod([np.linalg.norm(W) for W in layers]))


def _speed_scale(question: Question, weights: Layers) -> float:
    """Size of the velocity before anything cancels."""
    norms = [float(np.linalg.norm(W)) for W in weights]
    end = float(np.linalg.norm(question.sigma)) + float(np.prod(norms))
    return end * max(float(np.prod(norms[:j] + norms[j + 1 :])) for j in range(len(norms)))


def _products(weights: Layers, speed: Layers) -> Layers:
    return [W @ V.T for W, V in zip(weights, speed, strict=True)]


def _imbalance_rates(weights: Layers, speed: Layers) -> Layers:
    """d/dt (W_i W_i^T - W_{i+1}^T W_{i+1})."""
    below = [V @ W.T + W @ V.T for W, V in zip(weights, speed, strict=True)]
    above = [V.T @ W + W.T @ V for W, V in zip(weights, speed, strict=True)]
    return [b - a for b, a in zip(below[:-1], above[1:], strict=True)]


def _alignment_loss(question: Question) -> float:
    """Speed at which W_i W_i^T and W_{i+1}^T W_{i+1}, which commute in an aligned network, cease to; relative."""
    weights = members.aligned(question).weights
    speed = velocity(question.sigma, weights)
    worst = 0.0
    for (W, X), (V, Y) in zip(pairwise(weights), pairwise(speed), strict=True):
        B, C = W @ W.T, X.T @ X
        dB, dC = V @ W.T + W @ V.T, Y.T @ X + X.T @ Y
        change = dB @ C + B @ dC - dC @ B - C @ dB
        sizes = [np.linalg.norm(M) for M in (B, C, dB, dC)]
        worst = max(worst, relative(change, sizes[0] * sizes[3] + sizes[1] * sizes[2]))
    return worst
