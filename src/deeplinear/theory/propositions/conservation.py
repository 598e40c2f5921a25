"""What the flow keeps."""

from itertools import pairwise

import numpy as np

from ..question import Layers, Question, relative
from ..statement import Finding, statement

ALONG = 1e-4
"""Relative drift allowed to a simulated path: integrators keep the imbalance to about `rtol`."""


@statement(
    "6",
    name="Proposition 6",
    source="Altafini, Proposition 6 and (18)",
    words="Along the gradient flow the imbalance of neighbouring layers is constant.",
    latex=r"\frac{d}{dt} \left( W_{i+1}^\top W_{i+1} - W_i W_i^\top \right) = 0, \quad i = 1, \dots, h - 1",
)
def conserved_imbalance(question: Question) -> Finding:
    """The derivative along the velocity, from its two parts; along a trajectory the change since its start."""
    if question.depth == 1:
        return Finding(0.0, 0.0, "exact", "one layer has no neighbours")
    terms = [
        (W.T @ V + V.T @ W, X @ U.T + U @ X.T)
        for (X, W), (U, V) in zip(pairwise(question.weights), pairwise(question.velocity), strict=True)
    ]
    off = relative([above - below for above, below in terms], [above for above, _ in terms])
    if not question.path:
        return Finding(off, 1e-12, "rounding of products of h matrices")
    start, size = imbalances(question.path[0][1]), max(relative(weights) ** 2 for _, weights in question.path)
    drift = max(
        relative([a - b for a, b in zip(imbalances(weights), start, strict=True)]) for _, weights in question.path
    )
    if drift / size > ALONG:
        return Finding(
            drift / size, ALONG, "an integrator keeps the imbalance to about its rtol", "along the trajectory"
        )
    return Finding(off, 1e-12, "rounding of products of h matrices", f"drift along the trajectory {drift / size:.1e}")


def imbalances(weights: Layers) -> Layers:
    """W_{i+1}^T W_{i+1} - W_i W_i^T of every pair of layers."""
    return [np.asarray(above.T @ above - below @ below.T) for below, above in pairwise(weights)]
