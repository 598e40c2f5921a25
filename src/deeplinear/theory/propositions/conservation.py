"""What the flow keeps."""

from itertools import pairwise

import numpy as np

from ...blockshift import BlockMatrix, commutator, commutator_rate, flow
from ..assuming import worst
from ..measures import least_gradient
from ..question import Layers, Question, relative
from ..statement import Finding, statement

ALONG = 1e-4
"""Relative drift allowed to a simulated path: integrators keep the imbalance to about `rtol`."""
ROUNDING = "rounding of products of h matrices"


def _rate_as_printed(question: Question) -> Finding:
    """As printed: the third line of (19) with + 2 [A^h, (A^h)^T]."""
    reached = question.A**question.depth
    half = commutator(reached, question.E.T)
    own = commutator(reached, reached.T)
    return Finding(_rate_gap(question, half + half.T + 2 * own), 1e-12, ROUNDING)


@statement(
    "6",
    name="Proposition 6",
    source="Altafini, Proposition 6, (18) and (19)",
    words="Along the gradient flow the imbalance of neighbouring layers is constant; of the commutator of A with its "
    "transpose only the blocks of inputs and outputs move.",
    latex=r"\frac{d}{dt} \left( W_{i+1}^\top W_{i+1} - W_i W_i^\top \right) = 0, \quad "
    r"\dot Q = [A^h, E^\top] + [A^h, E^\top]^\top - 2 [A^h, (A^h)^\top], \quad Q = [A, A^\top]",
    erratum="The third line of (19) is printed with + 2 [A^h, (A^h)^T]; and what the text calls the symmetric part is "
    "twice that.",
    as_printed=_rate_as_printed,
)
def conserved_imbalance(question: Question) -> Finding:
    """Both rates along the velocity, from their parts; along a trajectory the change of the imbalance."""
    off = worst([_drift_rate(question), _rate_gap(question, commutator_rate(question.A, question.E))])
    if not question.path or question.depth == 1:
        return Finding(off, 1e-12, ROUNDING, "" if question.depth > 1 else "one layer has no neighbours")
    # in the data's own coordinates, where it is conserved for every sigma_xx
    networks = [weights for _, weights in question.given_path]
    start, size = imbalances(networks[0]), max(relative(weights) ** 2 for weights in networks)
    drift = max(relative([a - b for a, b in zip(imbalances(weights), start, strict=True)]) for weights in networks)
    if not drift / size <= ALONG:
        return Finding(
            drift / size, ALONG, "an integrator keeps the imbalance to about its rtol", "along the trajectory"
        )
    return Finding(off, 1e-12, ROUNDING, f"drift along the trajectory {drift / size:.1e}")


def _drift_rate(question: Question) -> float:
    """Relative derivative of the imbalances along the velocity."""
    if question.depth == 1:
        return 0.0
    terms = [
        (W.T @ V + V.T @ W, X @ U.T + U @ X.T)
        for (X, W), (U, V) in zip(pairwise(question.weights), pairwise(question.velocity), strict=True)
    ]
    return relative([above - below for above, below in terms], [above for above, _ in terms], _least(question))


def _least(question: Question) -> float:
    """Size of a rate so small that rounding of the gradient is felt."""
    return relative(question.weights) * least_gradient(question.sigma, question.weights)


def _rate_gap(question: Question, claimed: BlockMatrix) -> float:
    r"""Distance of a claimed $\dot Q$ from $\dot A A^T + A \dot A^T - \dot A^T A - A^T \dot A$."""
    A, moving = question.A, flow(question.A, question.E)
    terms = [moving @ A.T, A @ moving.T, moving.T @ A, A.T @ moving]
    rate = terms[0] + terms[1] - terms[2] - terms[3]
    return relative(float((rate - claimed).norm()), *(float(term.norm()) for term in terms), _least(question))


def imbalances(weights: Layers) -> Layers:
    """W_{i+1}^T W_{i+1} - W_i W_i^T of every pair of layers."""
    return [np.asarray(above.T @ above - below @ below.T) for below, above in pairwise(weights)]
