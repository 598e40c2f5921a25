"""Critical points: their levels, the networks that share an end-to-end matrix, and what kind of point each is."""

from itertools import combinations

import numpy as np
from scipy.linalg import null_space

from ...landscape import Classification, classify
from ...landscape.forms import lifted, squared_norm
from ...landscape.representatives import change_basis
from ...landscape.settling import relative_gradient
from ...landscape.structure import assemble
from ...network import Network
from ..assuming import first, generic, no_bottleneck, several_layers, worst
from ..measures import DENSE_WEIGHTS, curvature_unit, extreme_curvatures, second_variation, square_loss
from ..points import Point, is_top, largest_rank, made, make_point, signatures
from ..question import Layers, Question, product, relative
from ..statement import Finding, does_not_apply, statement
from .stability import saddle_gaps, value_gap

FAR = 1e3
"""Distance, relative to the weights, at which a level set is met again."""
BASES = "rounding, times the condition of the hidden bases"


def _regular(question: Question) -> Finding | None:
    """Assumptions 1 and 2, and depth."""
    return first(several_layers(question), no_bottleneck(question), generic(question))


def _unbounded_as_printed(question: Question) -> Finding:
    """As printed: every M_c unbounded, every Hessian singular; read at the origin, the whole of M_c at its level."""
    if (fails := _regular(question)) is not None:
        return fails
    if (size := sum(W.size for W in question.weights)) > DENSE_WEIGHTS:
        return does_not_apply(f"the Hessian of {size} weights is not formed")
    origin = [np.zeros_like(W) for W in question.weights]
    lowest = float(np.abs(np.linalg.eigvalsh(question.quadratic.hessian(origin))).min())
    unit = curvature_unit(question, origin)
    return Finding(lowest / unit, 1e-9, "rounding of eigenvalues", "smallest modulus of an eigenvalue at A = 0")


@statement(
    "15",
    name="Proposition 15",
    source="Altafini, Proposition 15",
    words="There are 2^{d_y} levels of critical points, with different values. Those above 0 hold saddles, M_0 stable "
    "minima. M_c is unbounded, except that of A = 0 with two layers and an invertible Sigma, which is one point.",
    latex=r"c = \tfrac12 \sum_i (1 - s_i) \sigma_i^2, \quad \mathcal{M}_c \text{ unbounded} \Leftrightarrow "
    r"r \ge 1 \text{ or } h \ge 3 \text{ or } \ker \Sigma \ne 0",
    assumptions="assumptions 1 and 2; two layers or more",
    erratum="Printed: every M_c is unbounded, no critical point isolated, every Hessian singular. With two layers and "
    "Sigma square and invertible, A = 0 is isolated, with eigenvalues +-sigma_j.",
    as_printed=_unbounded_as_printed,
)
def levels(question: Question) -> Finding:
    """Values of made points and their gaps, steps off the saddles, curvature at a minimum, points far away."""
    if (fails := _regular(question)) is not None:
        return fails
    points = [make_point(question, S) for S in signatures(question)]
    off = worst(value_gap(question, point.signature, point.weights) for point in points)
    steps = worst(gap for point in points for gap in saddle_gaps(question, point))
    values = np.sort([float(square_loss(question.sigma, point.weights)) for point in points])
    size = float(np.sum(question.sigma**2)) / 2
    gaps = np.diff(values) / size
    merged = float(np.any(gaps <= 1e-14))
    minimum = make_point(question, tuple(range(1, question.target.rank + 1))).weights
    lowest, highest, how = extreme_curvatures(question, minimum)
    far = worst(_far(question, S) for S in signatures(question))
    note = f"{len(points)} of {2**question.target.rank} levels, smallest gap {gaps.min(initial=1.0):.2g}; {how}"
    return Finding(worst([off, steps, merged, max(0.0, -lowest / highest), far]), 1e-9, BASES, note)


def _far(question: Question, signature: tuple[int, ...]) -> float:
    """Relative gradient and change of the loss at a point of M_c far from the canonical one; 0 where there is none."""
    point = make_point(question, signature)
    if signature:
        weights = change_basis(point.weights, [(FAR * np.eye(d), np.eye(d) / FAR) for d in question.widths[1:-1]])
    else:
        blocks = [block.copy() for block in point.blocks]
        kernel = slice(None) if question.depth > 2 else slice(question.target.rank, None)
        blocks[0][:, kernel] = FAR
        if not blocks[0].any():
            return 0.0
        weights = assemble(question.target, question.widths, signature, blocks)
    losses = [float(square_loss(question.sigma, layers)) for layers in (weights, point.weights)]
    away = squared_norm(weights) ** 0.5 / max(squared_norm(point.weights) ** 0.5, 1.0)
    here = relative(losses[0] - losses[1], float(np.sum(question.sigma**2)))
    return worst([relative_gradient(question.target, weights), here, float(away < FAR / 10)])


@statement(
    "16",
    name="Proposition 16",
    source="Altafini, Proposition 16",
    words="A change of basis, and added weights that A does not see, leave the end-to-end matrix alone.",
    latex=r"A_2 = P (A_1 + Z) P^{-1},\ A_1 Z = Z A_1 = 0,\ Z^h = 0 \Rightarrow A_2^h = A_1^h",
)
def equivalence(question: Question) -> Finding:
    """The network, and a saddle with its wide kernels, with random Z from the kernels on both sides."""
    starts = [question.weights, *(make_point(question, S).weights for S in signatures(question)[-1:])]
    gaps, sizes = [], []
    for weights in starts:
        Z = _unseen(question, weights)
        moved = [W + added for W, added in zip(weights, Z, strict=True)]
        bases = make_point(question, signatures(question)[0]).bases
        other = product(change_basis(moved, bases))
        scale = float(np.prod([np.linalg.norm(W, 2) for W in moved]))
        gaps.append(relative(other - product(weights), scale))
        sizes.append((squared_norm(Z) / max(squared_norm(weights), 1e-300)) ** 0.5)
    note = f"Z of {', '.join(f'{size:.2g}' for size in sizes)} times the norm of A"
    return Finding(worst(gaps), 1e-11, BASES, note)


def _unseen(question: Question, weights: Layers) -> Layers:
    """Z with A Z = Z A = 0 and, one block being zero, Z^h = 0."""
    rng, h = question.rng(), len(weights)
    Z = [np.zeros_like(W) for W in weights]
    for j in range(h - 1):
        above = null_space(weights[j + 1])
        below = null_space(weights[j - 1].T) if j else np.eye(weights[0].shape[1])
        if above.shape[1] and below.shape[1]:
            Z[j] = above @ rng.standard_normal((above.shape[1], below.shape[1])) @ below.T
            Z[j] *= np.linalg.norm(weights[j]) / np.linalg.norm(Z[j])
    return Z


@statement(
    "17",
    name="Proposition 17",
    source="Altafini, Proposition 17",
    words="All critical points of one value have the same end-to-end matrix, and the 2^{d_y} such matrices are "
    "isolated from each other.",
    latex=r"\phi(\mathcal{M}_c) = \{\Phi_c^*\}, \quad \Phi_c^* = \mathrm{blk}_h(S \Sigma), \quad "
    r"\|\Phi_c^* - \Phi_{c'}^*\|_F \ge \sigma_{d_y}",
    assumptions="assumptions 1 and 2; two layers or more",
    erratum="Printed: the image of phi 'has' these critical points. They are images of critical points of L; on the "
    "image, all matrices, the convex function psi has Sigma alone.",
)
def images(question: Question) -> Finding:
    """Products of points of every generator against S Sigma, and distances between those of different signatures."""
    if (fails := _regular(question)) is not None:
        return fails
    size, found = float(np.linalg.norm(question.sigma)), {}
    off = []
    for point in made(question):
        Phi, learned = product(point.weights), np.isin(np.arange(question.target.d_y) + 1, point.signature)
        off.append(relative(Phi - learned[:, None] * question.sigma, size))
        found[point.signature] = Phi
    apart = min((float(np.linalg.norm(a - b)) for a, b in combinations(found.values(), 2)), default=np.inf)
    close = max(0.0, 1 - apart / float(question.target.sigma[-1]))
    note = f"{len(found)} images, closest two {apart:.3g} apart"
    return Finding(worst([*off, close]), 1e-10, BASES, note)


def _classified_as_printed(question: Question) -> Finding:
    """As printed: two blocks Z vanish at every critical point; A_1 with S = {1..r}, r < d_y, is non-strict."""
    if (fails := several_layers(question)) is not None:
        return fails
    if question.depth > 2:
        sizes = [_second_smallest(make_point(question, S, "cyclic")) for S in signatures(question)]
        return Finding(worst(sizes), 1e-9, "rounding", "size of the second smallest block Z of a critical point")
    r = largest_rank(question) - 1
    if r < 0:
        return Finding(0.0, 1e-9)
    weights = make_point(question, tuple(range(1, r + 1))).weights
    lowest, _, _ = extreme_curvatures(question, weights)
    return Finding(max(0.0, -lowest / curvature_unit(question, weights)), 1e-9, "rounding", "lowest eigenvalue at A_1")


def _second_smallest(point: Point) -> float:
    return float(np.sort([np.linalg.norm(block) for block in point.blocks])[1])


@statement(
    "18",
    name="Proposition 18",
    source="Altafini, Proposition 18 and (32)-(33); Achour, Malgouyres and Gerchinovitz (2024), theorem 7",
    words="Points P (A_1 + Z) P^{-1} with vanishing products of Z are critical. With S the strongest modes, as many "
    "as possible: global minima; with a stronger one left, or a pivot not tightened: strict saddles; else non-strict.",
    latex=r"Z_{j-1} \cdots Z_1 \Sigma^\top U_Q Z_h \cdots Z_{j+1} = 0 \ (j = 1..h), \quad Z_h \cdots Z_1 = 0",
    assumptions="two layers or more",
    erratum="Printed: criticality needs two blocks Z_i = Z_j = 0 (that is sufficient; the condition above is exact); "
    "A_1 is always tightened (with two layers nothing is: every saddle is strict); three blocks of rank r imply "
    "three zero blocks (up to a change of basis).",
    as_printed=_classified_as_printed,
)
def kinds(question: Question) -> Finding:
    """What the ranks say of every made point, against the lowest eigenvalue of the Hessian there."""
    if (fails := several_layers(question)) is not None:
        return fails
    gaps, counted, how = [], {}, ""
    for point in made(question):
        found = classify(question.objective, Network(lifted(question.target, point.weights)))
        counted[found.kind] = counted.get(found.kind, 0) + 1
        lowest, _, how = extreme_curvatures(question, point.weights)
        unit = curvature_unit(question, point.weights)
        gaps.append(relative_gradient(question.target, point.weights))
        gaps.append(_contradiction(question, point, found, lowest / unit))
    note = ", ".join(f"{count} {kind}" for kind, count in counted.items())
    return Finding(worst(gaps), 1e-9, BASES, f"{note}; {how}")


def _contradiction(question: Question, point: Point, found: Classification, lowest: float) -> float:
    """0, or how far a lowest eigenvalue contradicts the kind; infinite where the signature does."""
    kind, certificate = found.kind, found.certificate
    best = is_top(question, point.signature) and point.rank == largest_rank(question)
    if kind == "not critical" or best != (kind == "global minimum"):
        return np.inf
    if kind != "strict saddle":
        return max(0.0, -lowest)
    if certificate is None:
        return np.inf
    form = question.target.form
    V = [np.asarray(W, dtype=float) for W in certificate.direction.weights]
    V[0], V[-1] = V[0] @ form.input_map, form.output_map @ V[-1]
    return float(second_variation(question.sigma, point.weights, V)[0] >= 0)
