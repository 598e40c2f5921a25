"""Exact learning dynamics of bottlenecked and wide two-layer networks (lambda-balanced starts)."""

from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from ... import predicates
from ...landscape.generators import orthogonal_matrix
from .. import members
from ..question import Question, relative, velocity
from ..statement import Finding, statement

SOURCE = "Exact learning dynamics of bottlenecked and wide deep linear networks"
SAMPLES = 2


class Pair(NamedTuple):
    """Two layers in the survey's coordinates, where inputs are white."""

    W1: np.ndarray
    W2: np.ndarray
    lam: float
    note: str

    @property
    def Q(self) -> np.ndarray:
        """[W_1^T; W_2]."""
        return np.vstack([self.W1.T, self.W2])


@statement(
    "002.1",
    name="Blocks of Q Q^T",
    source=f"{SOURCE}, definition of Q",
    words="Q Q^T holds the Gram matrices of both layers and, off the diagonal, the end-to-end matrix.",
    latex=r"Q Q^\top = \begin{bmatrix} W_1^\top W_1 & W_1^\top W_2^\top \\ W_2 W_1 & W_2 W_2^\top \end{bmatrix}",
    erratum="The text says that the off-diagonal blocks hold W_2 W_1 X; they hold W_2 W_1.",
)
def blocks(question: Question) -> Finding:
    """Of the two-layer network at hand or of a balanced one."""
    pair = two_layers(question)
    d = pair.W1.shape[1]
    QQ, W = pair.Q @ pair.Q.T, pair.W2 @ pair.W1
    parts = [QQ[:d, :d] - pair.W1.T @ pair.W1, QQ[:d, d:] - W.T, QQ[d:, :d] - W, QQ[d:, d:] - pair.W2 @ pair.W2.T]
    return Finding(relative(parts, QQ), 1e-13, "rounding of a product", pair.note)


@statement(
    "002.2",
    name="Balance persists",
    source=f"{SOURCE}, assumption A2",
    words="The flow keeps a lambda-balanced network lambda-balanced.",
    latex=r"\frac{d}{dt} \big( W_2^\top W_2 - W_1 W_1^\top \big) = 0",
)
def balance_persists(question: Question) -> Finding:
    """The derivative along the velocity."""
    pair = two_layers(question)
    V1, V2 = velocity(question.sigma, [pair.W1, pair.W2])
    above, below = V2.T @ pair.W2, V1 @ pair.W1.T
    return Finding(relative(above + above.T - below - below.T, above, below), 1e-11, "rounding of products", pair.note)


@statement(
    "002.3",
    name="Riccati equation of Q Q^T",
    source=f"{SOURCE}; Fukumizu (1998)",
    words="Under white inputs and lambda-balance Q Q^T follows a matrix Riccati equation.",
    latex=r"\frac{d}{dt} Q Q^\top = F Q Q^\top + Q Q^\top F - (Q Q^\top)^2, \quad F = \begin{bmatrix}"
    r" -\tfrac{\lambda}{2} I & \Sigma^\top \\ \Sigma & \tfrac{\lambda}{2} I \end{bmatrix}",
    assumptions="white inputs, W_2^T W_2 - W_1 W_1^T = lambda I",
)
def riccati(question: Question) -> Finding:
    """The derivative from the velocity of the weights, against the equation."""
    pair = two_layers(question)
    V1, V2 = velocity(question.sigma, [pair.W1, pair.W2])
    half = np.vstack([V1.T, V2]) @ pair.Q.T
    QQ, F = pair.Q @ pair.Q.T, _generator(question, pair.lam)
    drift = F @ QQ
    return Finding(relative(half + half.T - drift - drift.T + QQ @ QQ, drift, QQ @ QQ), 1e-9, "balance", pair.note)


@statement(
    "002.4",
    name="Exact solution",
    source=f"{SOURCE}; Fukumizu (1998), theorem 2",
    words="Q Q^T is known in closed form at all times, for any widths and every feasible lambda.",
    latex=r"Q Q^\top(t) = e^{Ft} Q_0 \Big[ I + Q_0^\top \int_0^t e^{2Fs} ds\, Q_0 \Big]^{-1} Q_0^\top e^{Ft}",
    assumptions="white inputs, lambda-balanced start",
)
def exact_solution(question: Question) -> Finding:
    """Against an integration of the weights by an independent method, until the first mode has moved."""
    pair = two_layers(question)
    d, Q0 = pair.W1.shape[1], pair.Q
    t = 1.0 / (float(question.singular_values[0]) + float(np.linalg.norm(Q0, 2)) ** 2 + 1e-300)
    l, P = np.linalg.eigh(_generator(question, pair.lam))
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = np.where(l == 0, t, np.expm1(2 * l * t) / (2 * np.where(l == 0, 1.0, l)))
    B = P.T @ Q0
    grown = P @ (np.exp(l * t)[:, None] * B)
    formula = grown @ np.linalg.solve(np.eye(B.shape[1]) + B.T @ (phi[:, None] * B), grown.T)

    def slope(_: float, q: np.ndarray) -> np.ndarray:
        Q = q.reshape(Q0.shape)
        V1, V2 = velocity(question.sigma, [Q[:d].T, Q[d:]])
        return np.vstack([V1.T, V2]).ravel()

    end = solve_ivp(slope, (0.0, t), Q0.ravel(), "DOP853", rtol=1e-11, atol=1e-13 * float(np.abs(Q0).max())).y[:, -1]
    Q = end.reshape(Q0.shape)
    return Finding(relative(formula - Q @ Q.T, formula), 1e-8, "the integrator's rtol of 1e-11, and balance", pair.note)


def printed_feasibility(question: Question) -> Finding:
    """How far balance stays from lambda = 1 and lambda = -1, of which the text claims both for any width."""
    pair = two_layers(question)
    spectrum = np.linalg.eigvalsh(pair.W2.T @ pair.W2 - pair.W1 @ pair.W1.T)
    d_o, d_h, d_i = *pair.W2.shape, pair.W1.shape[1]
    off = max(1 - spectrum[0] if d_h > d_o else 0.0, 1 + spectrum[-1] if d_h > d_i else 0.0)
    return Finding(max(float(off), 0.0), 1e-9, "distance of the balance from lambda I")


@statement(
    "002.5",
    name="Feasible lambda",
    source=f"{SOURCE}, assumption A2",
    words="lambda > 0 is possible for hidden layers no wider than the outputs, lambda < 0 for those no wider than the"
    " inputs.",
    latex=r"\lambda > 0 \text{ exists} \iff N_h \le N_o; \quad \lambda < 0 \text{ exists} \iff N_h \le N_i",
    erratum="The text claims arbitrary hidden widths together with general values of lambda.",
    as_printed=printed_feasibility,
)
def feasible_lambdas(question: Question) -> Finding:
    """Networks of every feasible sign, made; and the sign of an eigenvalue of the balance that forbids the other."""
    pair = two_layers(question)
    d_o, d_h, d_i = *pair.W2.shape, pair.W1.shape[1]
    balance = pair.W2.T @ pair.W2 - pair.W1 @ pair.W1.T
    spectrum, size = np.linalg.eigvalsh(balance), max(float(np.linalg.norm(pair.Q, 2)) ** 2, 1e-300)
    worst = 0.0
    for lam, room, forbidding in ((1.0, d_o, spectrum[0]), (-1.0, d_i, -spectrum[-1])):
        if d_h > room:
            worst = max(worst, float(forbidding) / size)
            continue
        made = _lambda_balanced(question, (d_i, d_h, d_o), lam)
        worst = max(
            worst, relative(made[1].T @ made[1] - made[0] @ made[0].T - lam * np.eye(d_h), made[0], np.eye(d_h))
        )
    return Finding(worst, 1e-12, "rounding of products", f"widths {d_i}, {d_h}, {d_o}")


def printed_kernel(question: Question) -> Finding:
    """The printed order of factors with columns stacked, as vec usually does."""
    return _kernel(question, "F")


@statement(
    "002.6",
    name="Tangent kernel of two layers",
    source=f"{SOURCE}, NTK",
    words="The tangent kernel is a sum of two Kronecker products.",
    latex=r"\mathrm{NTK} = I_{N_o} \otimes X^\top W_1^\top W_1 X + W_2 W_2^\top \otimes X^\top X",
    assumptions="predictions are stacked row by row (outputs first)",
    erratum="Printed without saying how predictions are stacked; for columns the factors change places.",
    as_printed=printed_kernel,
)
def kernel(question: Question) -> Finding:
    """The kernel as a matrix on random predictions, against the Jacobian and its transpose one after the other."""
    return _kernel(question, "C")


def printed_similarity(question: Question) -> Finding:
    """RSM_O of the targets as the similarity of the hidden layer."""
    pair = two_layers(question)
    X = question.rng().standard_normal((pair.W1.shape[1], SAMPLES))
    hidden = pair.W1 @ X
    asked = np.linalg.pinv(pair.W2) @ question.sigma @ X
    return Finding(relative(asked.T @ asked - hidden.T @ hidden, hidden.T @ hidden), 1e-9, "rounding of an inverse")


@statement(
    "002.7",
    name="Similarity of hidden representations",
    source=f"{SOURCE}, RSM",
    words="The similarity that outputs ask for is that of the hidden layer's part in the row space of the second"
    " layer.",
    latex=r"\hat Y^\top (W_2 W_2^\top)^+ \hat Y = H^\top \Pi_{\mathrm{row}(W_2)} H, \quad (W_2 W_2^\top)^+ ="
    r" (W_2^+)^\top W_2^+, \quad X^\top W_1^\top W_1 X = H^\top H, \quad H = W_1 X",
    erratum="RSM_O is printed with targets Y as a similarity of the hidden layer; it is one with predictions, and equal"
    " to RSM_I where the range of W_1 X lies in the row space of W_2.",
    as_printed=printed_similarity,
)
def similarity(question: Question) -> Finding:
    """Both formulas for RSM_O from predictions, and RSM_I from the Gram matrix."""
    pair = two_layers(question)
    X = question.rng().standard_normal((pair.W1.shape[1], SAMPLES))
    hidden, reached = pair.W1 @ X, pair.W2 @ pair.W1 @ X
    _, s, Vt = np.linalg.svd(pair.W2, full_matrices=False)
    kept = s > 1e-15 * max(pair.W2.shape) * s[0]
    inverse, row_part = np.linalg.pinv(pair.W2), Vt[kept] @ hidden
    seen, gram = hidden.T @ hidden, X.T @ (pair.W1.T @ pair.W1) @ X
    asked = reached.T @ (inverse.T @ inverse) @ reached
    condition = float(s[0] / s[kept][-1]) if kept.any() else 1.0
    off = max(relative(asked - row_part.T @ row_part, seen), relative(gram - seen, seen))
    return Finding(off, 1e-13 * condition**2 + 1e-12, "rounding times the squared condition of W_2", pair.note)


def two_layers(question: Question) -> Pair:
    """The network at hand where it is lambda-balanced and has two layers, else one that is, of lambda = 1, -1 or 0."""
    what = f"has {question.depth} layers"
    if question.depth == 2:
        check = predicates.lambda_balanced(members.as_network(question.weights))
        what = f"is not balanced (off by {check.violation:.2g})"
        if not any(np.any(W) for W in question.weights):
            what = "is zero"
        elif check.holds:
            (lam,) = predicates.best_lambdas(members.as_network(question.weights))
            return Pair(question.weights[0], question.weights[1], lam, "")
    d_i, d_o = question.widths[0], question.widths[-1]
    d_h = question.widths[1] if question.depth > 1 else min(d_i, d_o)
    lam = 1.0 if d_h <= d_o else -1.0 if d_h <= d_i else 0.0
    W1, W2 = _lambda_balanced(question, (d_i, d_h, d_o), lam)
    return Pair(
        W1, W2, lam, f"this network {what}; checked on a random one of widths {d_i}, {d_h}, {d_o}, lambda {lam:g}"
    )


def _lambda_balanced(question: Question, widths: tuple[int, int, int], lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Random W_1, W_2 with W_2^T W_2 - W_1 W_1^T = lam I; the widths must allow it."""
    rng, (d_i, d_h, d_o) = question.rng(), widths
    s = np.zeros(d_h)
    s[: min(widths)] = rng.uniform(0.2, 1.5, min(widths))
    U, E, V = (orthogonal_matrix(rng, d) for d in (d_o, d_h, d_i))
    first, second = (np.sqrt(s**2 + max(sign * lam, 0.0)) for sign in (-1, 1))
    return E @ members.rectangular(first[:d_i], d_h, d_i) @ V.T, U @ members.rectangular(second[:d_o], d_o, d_h) @ E.T


def _generator(question: Question, lam: float) -> np.ndarray:
    """F of the Riccati equation."""
    d_y, d_x = question.sigma.shape
    return np.block([[-lam / 2 * np.eye(d_x), question.sigma.T], [question.sigma, lam / 2 * np.eye(d_y)]])


def _kernel(question: Question, order) -> Finding:
    pair, rng = two_layers(question), question.rng()
    X, V = rng.standard_normal((pair.W1.shape[1], SAMPLES)), rng.standard_normal((len(pair.W2), SAMPLES))
    hidden = pair.W1 @ X
    matrix = np.kron(np.eye(len(V)), hidden.T @ hidden) + np.kron(pair.W2 @ pair.W2.T, X.T @ X)
    formula = (matrix @ V.ravel(order=order)).reshape(V.shape, order=order)
    pulled1, pulled2 = pair.W2.T @ V @ X.T, V @ hidden.T  # the transposed Jacobian on V
    measured = pair.W2 @ pulled1 @ X + pulled2 @ hidden
    return Finding(relative(formula - measured, measured), 1e-12, "rounding of products", pair.note)
