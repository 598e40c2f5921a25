"""The adjacency matrix along the flow: structure, decomposition, symmetries, norm, numerical range."""

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from ...blockshift import BlockMatrix, block_svd, change_of_basis, flow, inverse, numerical_radius, symmetric_spectrum
from ...landscape.forms import squared_norm
from ...landscape.generators import orthogonal_matrix
from ..assuming import worst
from ..measures import dense, inner, least_gradient, slope, square_loss
from ..points import made
from ..question import Question, adjacency, relative, velocity
from ..statement import Finding, statement

ROUNDING = "rounding of products of h matrices"
ANGLES = (0.7, 2.0)
"""Angles at which the numerical range is looked at."""
EIGEN = 200
"""Nodes up to which eigenvalues of Hermitian matrices over all nodes are computed."""


@statement(
    "5",
    name="Proposition 5",
    source="Altafini, Proposition 5",
    words="The flow keeps the block-shift structure, so A stays nilpotent and the flow is isospectral.",
    latex=r"A(0) \in \mathcal{A} \Rightarrow A(t) \in \mathcal{A}, \quad A^{h+1} = 0, \quad \lambda_i(A(t)) = 0",
)
def block_structure(question: Question) -> Finding:
    """The right side of (12) over all nodes, what of it is outside the blocks, and the power h + 1."""
    A = dense(question.A)
    if A is None:
        stray = len((question.A ** (question.depth + 1)).blocks)
        return Finding(float(stray), 0.0, "blocks that are absent", "large network: block arithmetic alone")
    h, E = question.depth, question.E.dense()
    powers = [np.eye(len(A))]
    for _ in range(h + 1):
        powers.append(A @ powers[-1])
    residual = E - powers[h]
    right = sum(powers[h - j].T @ residual @ powers[j - 1].T for j in range(1, h + 1))
    expected = adjacency(question.velocity).dense()
    size = float(np.prod([np.linalg.norm(W) for W in question.weights])) * float(np.linalg.norm(A))
    return Finding(
        worst(
            [
                relative(right - expected, expected, least_gradient(question.sigma, question.weights)),
                relative(powers[h + 1], size),
            ]
        ),
        1e-12,
        ROUNDING,
        "all blocks",
    )


@statement(
    "7",
    name="Proposition 7",
    source="Altafini, Proposition 7",
    words="The singular value decompositions of the layers make a block-shift one of the adjacency matrix.",
    latex=r"A = U \Lambda V^\top, \quad \Lambda = \mathrm{blk}_1(\Lambda_1, \dots, \Lambda_h), \quad "
    r"U = \mathrm{blk}_0(0, U_1, \dots, U_h), \quad V = \mathrm{blk}_0(V_1, \dots, V_h, 0)",
)
def block_shift_svd(question: Question) -> Finding:
    """The product of the three factors, and orthogonality of the frames."""
    A = question.A
    U, Lambda, V = block_svd(A)
    frames = [frame for factor in (U, V) for frame in factor.blocks.values()]
    gram = [float(np.linalg.norm(frame.T @ frame - np.eye(len(frame)), 2)) for frame in frames]
    off = relative((U @ Lambda @ V.T - A).norm(), A.norm())
    return Finding(worst([off, *gram]), 1e-12, "rounding of singular value decompositions")


@statement(
    "8",
    name="Proposition 8",
    source="Altafini, Proposition 8",
    words="The flow is equivariant under orthogonal changes of basis of the hidden layers.",
    latex=r"A_2 = P A_1 P^\top,\ P \in \mathcal{P}_O \Rightarrow \dot A_2 = P \dot A_1 P^\top, \quad "
    r"Q_2 = P Q_1 P^\top",
)
def equivariance(question: Question) -> Finding:
    """Velocity and commutator at a rotated network against the rotated ones."""
    rng, A, E = question.rng(), question.A, question.E
    P = change_of_basis([orthogonal_matrix(rng, d) for d in question.widths[1:-1]], question.widths)
    turned = P @ A @ P.T
    moving, commuting = P @ flow(A, E) @ P.T, P @ (A @ A.T - A.T @ A) @ P.T
    velocity_off = relative(
        (flow(turned, E) - moving).norm(), moving.norm(), least_gradient(question.sigma, question.weights)
    )
    other = turned @ turned.T - turned.T @ turned
    off = worst([velocity_off, relative((other - commuting).norm(), (A @ A.T).norm())])
    stretched = P @ change_of_basis([2.0 * np.eye(d) for d in question.widths[1:-1]], question.widths)
    bent = stretched @ flow(A, E) @ inverse(stretched)
    broken = relative((flow(stretched @ A @ inverse(stretched), E) - bent).norm(), bent.norm())
    note = f"a stretch by 2 instead breaks it by {broken:.2g}" if question.depth > 1 else ""
    return Finding(off, 1e-11, ROUNDING, note)


@statement(
    "9",
    name="Proposition 9",
    source="Altafini, Proposition 9, (23)",
    words="The norm of A changes by what of A^h still points to E; it is stationary at critical points.",
    latex=r"\frac{d}{dt} \|A\|_F^2 = 2h \langle E - A^h, A^h \rangle_F",
    erratum="In the proof A^{h-1}(E - A^h) is zero at every network; (A^{h-1})^T (E - A^h) is meant.",
)
def norm_rate(question: Question) -> Finding:
    """Twice the product of A with its velocity against the right side, also at critical points and along the path."""
    networks = [question.weights, *(weights for _, weights in question.path)]
    off = worst(_norm_gap(question, weights) for weights in networks)
    still = worst(
        relative(_rate(question, point.weights), np.sum(question.sigma**2), np.finfo(float).tiny)
        for point in made(question)
    )
    return Finding(worst([off, still]), 1e-10, ROUNDING, f"at critical points {still:.1e}")


def _rate(question: Question, weights: list[np.ndarray]) -> float:
    h = question.depth
    reached = (adjacency(weights) ** h)[h, 0]
    return 2 * h * float(np.vdot(question.sigma - reached, reached))


def _norm_gap(question: Question, weights: list[np.ndarray]) -> float:
    moving = velocity(question.sigma, weights)
    size = 2 * squared_norm(weights) ** 0.5 * squared_norm(moving) ** 0.5
    least = squared_norm(weights) ** 0.5 * least_gradient(question.sigma, weights)
    return relative(2 * inner(weights, moving) - _rate(question, weights), size, least)


@statement(
    "10",
    name="Proposition 10",
    source="Altafini, Proposition 10, (24) and (25)",
    words="Weight decay adds a linear term to the flow.",
    latex=r"L_\gamma = \tfrac12 \|E - A^h\|_F^2 + \tfrac{\gamma}{2} \|A\|_F^2 \Rightarrow "
    r"\dot A = \sum_j (A^{h-j})^\top (E - A^h) (A^{j-1})^\top - \gamma A",
)
def weight_decay(question: Question) -> Finding:
    """The slope of the regularised loss along a random direction, by a complex step."""
    gamma, V = 0.3, question.random_direction()
    penalised = lambda weights: square_loss(question.sigma, weights) + gamma / 2 * sum((W**2).sum() for W in weights)
    moving = (flow(question.A, question.E) - gamma * question.A).layers
    moving = [np.asarray(W) for W in moving]
    least = least_gradient(question.sigma, question.weights)
    along = slope(penalised, question.weights, V)
    scale = max(squared_norm(moving) ** 0.5, least) * squared_norm(V) ** 0.5
    return Finding(relative(along + inner(moving, V), scale), 1e-12, ROUNDING, f"gamma = {gamma}")


@statement(
    "11",
    name="Proposition 11",
    source="Altafini, Proposition 11",
    words="The numerical range of A is a disk around 0; its symmetric and skew parts have the same spectrum up to i, "
    "symmetric around 0; tr((A^k)^T A) = 0 for k >= 2.",
    latex=r"\mathcal{W}(A) = \{ |z| \le \lambda_{\max}(A_{sy}) \}, \quad \mathrm{Sp}(A_{sk}) = i \, \mathrm{Sp}(A_{sy})"
    r" = -i \, \mathrm{Sp}(A_{sy}), \quad \mathrm{tr}((A^k)^\top A) = 0",
)
def numerical_range(question: Question) -> Finding:
    """Supports of the numerical range at some angles and both spectra, by Hermitian eigenvalues."""
    block, radius = question.A, float(numerical_radius(question.A))
    traces = [relative((block**k).inner(block), block.norm() ** (k + 1)) for k in range(2, question.depth + 1)]
    if sum(question.widths) > EIGEN:
        off = worst(relative(_support(block, a) - radius, radius) for a in ANGLES)
        return Finding(worst([off, *traces]), 1e-9, "ARPACK's tolerance", f"radius {radius:.6g}, two angles")
    A = block.dense()
    symmetric = symmetric_spectrum(block)
    spectra = [np.linalg.eigvalsh((B + B.conj().T) / 2) for B in (A, -1j * A, *(np.exp(1j * a) * A for a in ANGLES))]
    off = worst(relative(np.asarray(values) - symmetric, symmetric) for values in spectra)
    mirrored = relative(symmetric + symmetric[::-1], symmetric)
    note = f"radius {radius:.6g}"
    return Finding(worst([off, mirrored, relative(symmetric[-1] - radius, radius), *traces]), 1e-12, ROUNDING, note)


def _support(A: BlockMatrix, angle: float) -> float:
    """Largest eigenvalue of the Hermitian part of e^{i angle} A."""
    if not A.norm():
        return 0.0
    cuts = np.cumsum(A.widths)[:-1]

    def apply(z: np.ndarray) -> np.ndarray:
        parts, out = np.split(z.ravel(), cuts), [np.zeros(d, dtype=complex) for d in A.widths]
        for (l, m), W in A.blocks.items():
            out[l] += np.exp(1j * angle) * (W @ parts[m]) / 2
            out[m] += np.exp(-1j * angle) * (W.T @ parts[l]) / 2
        return np.concatenate(out)

    nodes = sum(A.widths)
    operator = LinearOperator((nodes, nodes), matvec=apply, dtype=complex)  # type: ignore[call-arg]
    start = np.random.default_rng(0).standard_normal(nodes).astype(complex)
    return float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])
