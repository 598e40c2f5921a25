"""How fast the flow converges (section 4.7 of the survey)."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ...diagnostics.rates import RateBound, rate_bounds
from ...landscape.generators import orthogonal_matrix
from ..members import as_network, shapes, survey_objective
from ..question import Layers, Question, product, velocity
from ..statement import Finding, does_not_apply, statement

ROUNDING = 1e-4
"""Bounds below this part of the largest possible rate are compared against it: what is smaller is rounding."""
EXCESS = "relative excess of the bound, of which rounding in products of h matrices is 1e-12"
Maker = Callable[[Question, int], Layers | None]


@statement(
    "26",
    name="Proposition 26",
    source="Altafini, Proposition 26 and (47)",
    words="The loss falls at least at a rate given by the smallest singular values of the layers.",
    latex=r"\dot{\mathcal L} \le -2 \sum_{j=1}^h \prod_{i<j} \lambda_{\min}(W_i^\top W_i)"
    r" \prod_{i>j} \lambda_{\min}(W_i W_i^\top)\, \mathcal L",
    erratum="(47) is printed without the factor 2; true but loose, for tr(Xi Xi^T) = 2 L, and 2 is sharp.",
)
def instantaneous_rate(question: Question) -> Finding:
    """At the network and at every network of the trajectory."""
    networks = [question.weights, *(weights for _, weights in question.path)]
    bounds = [_bounds(question, weights, 26)[0].rate for weights in networks]
    worst = max(_excess(question, weights, bound) for weights, bound in zip(networks, bounds, strict=True))
    return Finding(
        worst, 1e-10, EXCESS, f"rate at least {bounds[0]:.4g}, measured {decay(question.sigma, networks[0]):.4g}"
    )


def _rising_and_falling(question: Question, j: int) -> Layers | None:
    """Every layer larger than its neighbour nearer to layer j, singular values within a factor 1.5."""
    widths = question.widths
    if any(a > b for a, b in pairwise(widths[:j])) or any(a < b for a, b in pairwise(widths[j:])):
        return None
    rng = np.random.default_rng(question.seed + j)
    weights: list[np.ndarray] = []
    for i, (rows, columns) in enumerate(shapes(question), start=1):
        values = rng.uniform(1.0, 1.5, min(rows, columns)) * 2.0 ** abs(i - j)
        U, V = orthogonal_matrix(rng, rows), orthogonal_matrix(rng, columns)
        weights.append((U[:, : values.size] * values) @ V[:, : values.size].T)
    return weights


def printed_rates(question: Question) -> Finding:
    """(49) with its printed first index, for every layer j that fulfils the hypotheses."""
    worst, note = None, "no layer j fulfils the hypotheses"
    for weights, bound in _applying(question, 27, _rising_and_falling):
        j, widths = bound.layer or 1, question.widths
        rate = _printed_rate(weights, widths, j)
        measured = decay(question.sigma, weights)
        off = 1.0 if rate is None or rate <= 0 else max(1 - measured / rate, 0.0)
        if worst is None or off > worst:
            what = "is not positive or has an index out of range" if rate is None or rate <= 0 else f"is {rate:.4g}"
            worst, note = off, f"j = {j}: the printed rate {what}, measured {measured:.4g}"
    return does_not_apply(note) if worst is None else Finding(worst, 1e-10, EXCESS, note)


@statement(
    "27",
    name="Proposition 27",
    source="Altafini, Proposition 27 and (49)",
    words="Widths that rise to layer j - 1 and fall from j, and conserved quantities of enough definite directions,"
    " give"
    " a rate for all times.",
    latex=r"\|\Xi(t)\| \le \|\Xi(0)\| e^{-\alpha t}, \quad \alpha = \prod_{i=1}^{j-1} \lambda_{1+d_i-d_{i-1}}(C_i)"
    r" \prod_{i=j}^{h-1} \lambda_{1+d_i-d_{i+1}}(-C_i), \quad \lambda_1 \le \lambda_2 \le \dots",
    assumptions="d_x <= d_1 <= ... <= d_{j-1}, d_j >= ... >= d_y; C_i has d_{i-1} positive eigenvalues for i < j,"
    " d_{i+1} negative ones for i >= j",
    erratum="Printed with lambda_{1+d_{i+1}-d_i}(C_i) in the first product, which is violated, not positive or out of"
    " range; and alpha is the rate of the error's norm, the loss decays at 2 alpha.",
    as_printed=printed_rates,
)
def rate_for_all_times(question: Question) -> Finding:
    """As the C_i are conserved, a bound for all times is a bound at every network that has them."""
    return _lasting(question, 27, _rising_and_falling)


def _definite(question: Question, j: int) -> Layers | None:
    """Layer j arbitrary, and outward from it singular values that grow on the same directions."""
    d_x, *hidden, d_y = question.widths
    if any(d < max(d_x, d_y) for d in hidden):
        return None
    rng = np.random.default_rng(question.seed + j)
    frames = [orthogonal_matrix(rng, d) for d in question.widths]
    weights: list[np.ndarray] = []
    for i, (below, above) in enumerate(pairwise(frames), start=1):
        if i == j:
            core = rng.standard_normal((d_y, d_x))
            weights.append(above[:, :d_y] @ (core / np.linalg.norm(core, 2)) @ below[:, :d_x].T)
            continue
        k = d_x if i < j else d_y
        values = np.sqrt(1.0 + 0.5 * abs(i - j) + np.zeros(k))
        weights.append((above[:, :k] * values) @ below[:, :k].T)
    return weights


@statement(
    "28",
    name="Proposition 28",
    source="Altafini, Proposition 28 and (52); Min et al. (2023)",
    words="Hidden layers at least as wide as inputs and outputs, with semidefinite conserved quantities, give a rate"
    " for"
    " all times.",
    latex=r"\|\Xi(t)\| \le \|\Xi(0)\| e^{-\alpha_h t}, \quad \alpha_h = \prod_{i=1}^{h-1} \alpha_{(i)}, \quad"
    r" \alpha_{(i)} = \begin{cases} \sum_{\ell=j}^i \lambda_{1+d_\ell-d_y}(-C_\ell) & i \ge j \\"
    r" \sum_{\ell=i}^{j-1} \lambda_{1+d_\ell-d_x}(C_\ell) & i < j \end{cases}",
    assumptions="d_i >= d_x, d_y; C_i negative semidefinite for i >= j and positive semidefinite for i < j",
    erratum="The rate is of the error's norm, so that the loss decays at 2 alpha.",
)
def rate_of_sums(question: Question) -> Finding:
    """As for Proposition 27."""
    return _lasting(question, 28, _definite)


def decay(sigma: np.ndarray, weights: Layers) -> float:
    """-d/dt log |Xi| along the flow; 0 at the minimum."""
    squared = float(np.sum((sigma - product(weights)) ** 2))
    return sum(float(np.sum(V**2)) for V in velocity(sigma, weights)) / squared if squared else 0.0


def _lasting(question: Question, proposition: int, make: Maker) -> Finding:
    found = _applying(question, proposition, make)
    if not found:
        return _fails(question, proposition)
    worst = max(_excess(question, weights, bound.rate) for weights, bound in found)
    weights, bound = found[0]
    note = f"j = {bound.layer}: rate {bound.rate:.4g}, measured {decay(question.sigma, weights):.4g}"
    if weights is not question.weights:
        note += "; this network does not fulfil the hypotheses, checked on random ones of these widths that do"
    return Finding(worst, 1e-10, EXCESS, note)


def _applying(question: Question, proposition: int, make: Maker) -> list[tuple[Layers, RateBound]]:
    """The question's network (and its trajectory) with every bound that applies to it, else members that have one."""
    networks = [question.weights, *(weights for _, weights in question.path)]
    of = lambda weights: [(weights, b) for b in _bounds(question, weights, proposition) if b.applies]
    found = [pair for weights in networks for pair in of(weights)]
    if found:
        return found
    members = [make(question, j) for j in range(1, question.depth + 1)]
    return [pair for weights in members if weights is not None for pair in of(weights)]


def _fails(question: Question, proposition: int) -> Finding:
    """Which hypothesis fails, of the layer j whose widths come closest."""
    widths = lambda h: h.statement.startswith("d_")
    failing = [
        [h for h in bound.hypotheses if not h.holds] for bound in _bounds(question, question.weights, proposition)
    ]
    closest = min(failing, key=lambda hypotheses: sum(h.shortfall for h in hypotheses if widths(h)))
    first = min(closest, key=lambda h: not widths(h))
    return does_not_apply(f"no layer j fulfils the hypotheses; {first.statement} fails", first.shortfall)


def _bounds(question: Question, weights: Layers, proposition: int) -> list[RateBound]:
    found = rate_bounds(survey_objective(question), as_network(weights))
    return [bound for bound in found if bound.proposition == proposition]


def _excess(question: Question, weights: Layers, bound: float) -> float:
    """By how much the bound exceeds the measured rate, relative."""
    norms = [float(np.linalg.norm(W, 2)) ** 2 for W in weights]
    largest = sum(float(np.prod(norms[:j] + norms[j + 1 :])) for j in range(len(norms)))
    if not np.any(question.sigma - product(weights)):
        return 0.0
    return max(bound - decay(question.sigma, weights), 0.0) / max(bound, ROUNDING * largest, 1e-300)


def _printed_rate(weights: Layers, widths: tuple[int, ...], j: int) -> float | None:
    """(49) as printed; None where an index is out of range."""
    rate = 1.0
    for i, (W, above) in enumerate(pairwise(weights), start=1):
        C = W @ W.T - above.T @ above
        spectrum = np.linalg.eigvalsh(C if i < j else -C)
        index = 1 + widths[i + 1] - widths[i] if i < j else 1 + widths[i] - widths[i + 1]
        if not 1 <= index <= len(spectrum):
            return None
        rate *= float(spectrum[index - 1])
    return rate
