"""The survey's appendix: boundedness (A.3), the standard SVD (A.4), equivalent networks (A.5)."""

import numpy as np

from ...blockshift import adjacency, svd
from ...diagnostics import coercivity
from ...landscape.generators import orthogonal_matrix
from .. import members
from ..question import Layers, Question, product, relative
from ..statement import Finding, statement

DENSE = 1500
"""Nodes up to which the whole adjacency matrix is decomposed (18 MB a matrix)."""


@statement(
    "lemma37",
    name="Lemma 37",
    source="Altafini, Lemma 37 and (72); Chitour, Liao and Couillet, Lemma 2.4",
    words="The end-to-end matrix grows with the weights, given what the flow conserves.",
    latex=r"\gamma \|A\|_F^{2h} - p\, \|A\|_F^{2h-2} \le \|A^h\|_F^2 \le \big(\|A\|_F^2 / h\big)^h",
    erratum="C_j has the opposite sign here to Proposition 6; the upper bound holds with q = 0.",
)
def weights_bound_the_map(question: Question) -> Finding:
    """Both bounds, with the constants of `diagnostics.coercivity`; those of the start along a trajectory."""
    bounds, h = coercivity(members.as_network(question.weights)), question.depth
    networks = [question.weights]
    if question.path and question.same_flow:
        bounds, networks = (
            coercivity(members.as_network(question.path[0][1])),
            [weights for _, weights in question.path],
        )
    worst = 0.0
    for weights in networks:
        squared, reached = sum(float(np.sum(W**2)) for W in weights), float(np.sum(product(weights) ** 2))
        lower, upper = bounds.below(squared, h), (squared / h) ** h
        size = max(bounds.gamma * squared**h + bounds.p * squared ** (h - 1), reached, 1e-300)
        worst = max(worst, (lower - reached) / size, (reached - upper) / max(upper, 1e-300))
    along = networks[0] is not question.weights
    tolerance, reason = (
        (1e-4, "an integrator keeps the conserved quantities to about its rtol") if along else (1e-12, "rounding")
    )
    return Finding(worst, tolerance, reason, f"gamma = {bounds.gamma:.3g}, p = {bounds.p:.3g}")


def printed_hoelder(question: Question) -> Finding:
    """The inequality that the proof derives from Hoelder's, for a matrix and a thousand times that matrix."""
    worst = 0.0
    for values in _spectra(question):
        for scale in (1.0, 1e3):
            for power in (2.0, float(question.depth + 1)):
                left = np.sum((scale * values) ** power) ** (1 / power)
                right = np.sum(scale * values) ** (1 / power) * values.size ** (power - 1)
                worst = max(worst, float((left - right) / max(left, 1e-300)))
    return Finding(worst, 1e-12, "rounding of a sum of powers")


@statement(
    "lemma38",
    name="Lemma 38",
    source="Altafini, Lemma 38 and (74)",
    words="The trace of a power of a positive semidefinite matrix is comparable to the power of its trace.",
    latex=r"k^{1-\ell}\, \mathrm{tr}(B)^\ell \le \mathrm{tr}(B^\ell) \le \mathrm{tr}(B)^\ell",
    assumptions="B positive semidefinite, (k, k); l > 1",
    erratum="The inequality that the proof concludes from Hoelder's, (sum l^p)^(1/p) <= (sum l)^(1/p) k^(p-1), is"
    " false;"
    " it is (sum l)^p <= k^(p-1) sum l^p.",
    as_printed=printed_hoelder,
)
def traces_of_powers(question: Question) -> Finding:
    """On the Gram matrices of all layers, for l = 3/2, 2 and h + 1."""
    worst = 0.0
    for values in _spectra(question):
        for power in (1.5, 2.0, float(question.depth + 1)):
            total, powers = np.sum(values) ** power, np.sum(values**power)
            lower = values.size ** (1 - power) * total
            worst = max(
                worst, float((lower - powers) / max(powers, 1e-300)), float((powers - total) / max(total, 1e-300))
            )
    return Finding(worst, 1e-12, "rounding of a sum of powers")


@statement(
    "39",
    name="Proposition 39",
    source="Altafini, Proposition 39 and (76)-(79)",
    words="The singular values of the adjacency matrix are those of the layers, and zeros.",
    latex=r"A = U \Omega V^\top, \quad \Omega = \mathrm{diag}(\Lambda_1, \dots, \Lambda_h, 0), \quad n_v - q \text{"
    r" extra"
    r" zeros}, \; q = \sum_i \min(d_i, d_{i-1})",
)
def singular_values_of_adjacency(question: Question) -> Finding:
    """Against the decomposition of the whole matrix; of very large networks against two moments."""
    A = adjacency(members.as_network(question.weights))
    if sum(question.widths) > DENSE:
        s = np.concatenate([np.linalg.svd(W, compute_uv=False) for W in question.weights])
        gram = A.T @ A
        off = max(abs(np.sum(s**2) / A.inner(A) - 1), abs(np.sum(s**4) / gram.inner(gram) - 1))
        return Finding(float(off), 1e-12, "rounding", f"moments alone, because there are over {DENSE} nodes")
    U, s, V = svd(A)
    dense = A.dense()
    parts = [
        relative((U * s) @ V.T - dense, dense),
        float(np.abs(U.T @ U - np.eye(len(U))).max()),
        float(np.abs(V.T @ V - np.eye(len(V))).max()),
        relative(s - np.linalg.svd(dense, compute_uv=False), s),
    ]
    extra = sum(question.widths) - sum(min(shape) for shape in members.shapes(question))
    zeros = "" if int(np.sum(s == 0)) >= extra else "; zeros are missing"
    return Finding(max(parts) if not zeros else 1.0, 1e-12, "rounding of an SVD", f"{extra} extra zeros{zeros}")


@statement(
    "40",
    name="Proposition 40",
    source="Altafini, Proposition 40",
    words="A change of basis, and blocks that neighbouring layers send to zero and that form no path, leave the"
    " end-to-end matrix alone.",
    latex=r"W_{j+1} Z_j = 0, \; Z_j W_{j-1} = 0, \; Z_{1:h} = 0 \Rightarrow (P (A + Z) P^{-1})^h = A^h",
    assumptions="P in the group of hidden changes of basis; Z_j in the null spaces of the neighbouring layers",
)
def equivalent_networks(question: Question) -> Finding:
    """On the network itself, and on one of lower rank, whose null spaces are larger."""
    rng = question.rng()
    member = members.balanced(question)
    rank = max(min(question.widths) - 1, 0)
    thin = [D * (np.arange(D.shape[1]) < rank) for D in member.diagonals]
    worst, added = 0.0, []
    for weights in (question.weights, members.Member(member.frames, thin).weights):
        Z = _invisible(rng, weights)
        changes = [_well_conditioned(rng, d) for d in question.widths[1:-1]]
        moved = [W + block for W, block in zip(weights, Z, strict=True)]
        for l, (P, inverse) in enumerate(changes):
            moved[l], moved[l + 1] = P @ moved[l], moved[l + 1] @ inverse
        scale = float(np.prod([np.linalg.norm(W, 2) + np.linalg.norm(B, 2) for W, B in zip(weights, Z, strict=True)]))
        worst = max(worst, relative(product(moved) - product(weights), max(scale, 1e-300)))
        added.append(relative(Z, weights))
    note = f"|Z| / |A| = {added[0]:.2g} here, {added[1]:.2g} in a network of rank {rank}"
    return Finding(worst, 1e-11, "rounding times the condition 10 of every change of basis", note)


def _spectra(question: Question) -> list[np.ndarray]:
    """Eigenvalues of W_i W_i^T."""
    return [
        np.pad(np.linalg.svd(W, compute_uv=False) ** 2, (0, max(W.shape[0] - W.shape[1], 0))) for W in question.weights
    ]


def _invisible(rng: np.random.Generator, weights: Layers) -> Layers:
    """Z with Z_j in the null spaces of its neighbours, and one Z_j zero so that they form no path."""
    sizes = [float(np.linalg.norm(W)) for W in weights]
    left_out = int(rng.integers(len(weights)))
    blocks = []
    for j, W in enumerate(weights):
        into = _null(weights[j + 1]) if j + 1 < len(weights) else np.eye(len(W))
        out_of = _null(weights[j - 1].T) if j else np.eye(W.shape[1])
        Z = into @ rng.standard_normal((into.shape[1], out_of.shape[1])) @ out_of.T
        size = float(np.linalg.norm(Z))
        blocks.append(Z * (0.0 if j == left_out or size == 0 else sizes[j] / size))
    return blocks


def _null(W: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the null space."""
    _, s, Vt = np.linalg.svd(W)
    return Vt[int(np.sum(s > 1e-12 * max(s.max(initial=0.0), 1e-300))) :].T


def _well_conditioned(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A random matrix of condition number 10, and its inverse."""
    U, V, s = orthogonal_matrix(rng, size), orthogonal_matrix(rng, size), 10.0 ** np.linspace(0.5, -0.5, size)
    return (U * s) @ V.T, (V / s) @ U.T
