"""A critical point next to a network: what the learned modes carry is kept, two blocks of the rest are cut away."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import fractional_matrix_power

from ..network import Network
from .target import Target

NEWTON = 8
"""Steps towards the fibre of a global minimum; each squares the distance."""
SQUARE = 2000
"""Entries of the end-to-end matrix up to which equations of that size are solved."""


class Nearby(NamedTuple):
    """A critical point beside a network, and what tells them apart."""

    network: Network
    """The critical point, in the data's own coordinates."""
    distance: float
    """Euclidean distance of all weights; no critical point of the same end-to-end matrix need be so far."""
    rest: tuple[np.ndarray, ...]
    """The part of every layer that the learned modes do not use, in the data's own coordinates: what can grow."""


def critical_near(target: Target, network: Network, frame: np.ndarray) -> Nearby | None:
    r"""A critical point with $W = U U^T \Sigma$ beside `network`; None where the network does not carry these modes.

    `frame` = U, shape (d_y, r), orthonormal columns whose projector commutes with $\Sigma \Sigma^T$. With $E_l =
    W_{1:l} \Sigma^T U (U^T \Sigma \Sigma^T U)^{-1}$, $F_l = U^T W_{l+1:h}$ and $M = F_l E_l$ (the strengths over their
    final values, the same in every layer) the modes are carried by $E_l M^{-1 - 1/h} F_{l-1}$, whose product is exactly
    $U U^T \Sigma$. The rest is $(I - \Pi_l) W_l (I - \Pi_{l-1})$, $\Pi_l = E_l M^{-1} F_l$; with its two smallest
    blocks set to zero the sum is a critical point (Achour et al.). Where all modes are learned, Newton's method of
    least change onto the fibre replaces it. A network that is a critical point with two such blocks zero is its own
    answer.
    """
    reduced = [np.asarray(W) for W in target.reduce(network).weights]
    h, r, Sigma = len(reduced), frame.shape[1], target.matrix
    below = [np.eye(Sigma.shape[1])]
    for W in reduced:
        below.append(W @ below[-1])
    above = [np.eye(Sigma.shape[0])]
    for W in reduced[::-1]:
        above.append(above[-1] @ W)
    above = above[::-1]  # above[l] = W_{l+1:h}, below[l] = W_{1:l}
    weighted = Sigma.T @ frame
    first = weighted @ np.linalg.inv(weighted.T @ weighted) if r else np.zeros((Sigma.shape[1], 0))
    E, F = [B @ first for B in below], [frame.T @ A for A in above]
    M = F[-1] @ E[-1]
    if r and np.linalg.eigvals(M).real.min() <= 0.05:  # far from any network that has learned these modes
        return None
    inner = np.real(fractional_matrix_power(M, -1 - 1 / h)) if r else M
    outer = np.real(fractional_matrix_power(M, -1 / h)) if r else M
    inverse = np.linalg.inv(M)
    projectors = [
        first @ weighted.T,
        *(e @ inverse @ f for e, f in zip(E[1:-1], F[1:-1], strict=True)),
        frame @ frame.T,
    ]
    carried = [E[l] @ inner @ F[l - 1] for l in range(1, h + 1)]
    carried[0] = E[1] @ outer @ weighted.T
    carried[-1] = frame @ outer @ F[h - 1]
    rest = [
        (np.eye(len(upper)) - upper) @ W @ (np.eye(len(lower)) - lower)
        for lower, W, upper in zip(projectors, reduced, projectors[1:], strict=False)
    ]
    kept = _cut(rest, 1 if r == target.rank else 2)
    found = _lifted(target, network, [c + k for c, k in zip(carried, kept, strict=True)])
    away = _distance(network, found)
    if r == target.rank:
        onto = _onto_fibre(target, network, Sigma)
        if onto is not None and _distance(network, onto) < away:
            found, away = onto, _distance(network, onto)
    return Nearby(found, away, _back(target, rest))


def _cut(rest: list[np.ndarray], count: int) -> list[np.ndarray]:
    """The blocks with the `count` smallest set to zero."""
    smallest = np.argsort([np.linalg.norm(D) for D in rest])[:count]
    return [np.zeros_like(D) if l in smallest else D for l, D in enumerate(rest)]


def _back(target: Target, layers: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Layers in the data's own coordinates."""
    layers = list(layers)
    layers[0] = layers[0] @ target.form.inverse_input_map
    layers[-1] = target.form.output_map.T @ layers[-1]
    return tuple(layers)


def _lifted(target: Target, network: Network, layers: list[np.ndarray]) -> Network:
    """The network of reduced layers, with the weights of `network` on inputs that never occur."""
    weights, W = list(_back(target, layers)), np.asarray(network.weights[0])
    unseen = W - W @ target.form.input_map @ target.form.inverse_input_map
    if len(weights) > 1:
        weights[0] = weights[0] + unseen
    return Network(weights)


def _distance(a: Network, b: Network) -> float:
    parts = [np.linalg.norm(np.asarray(V) - np.asarray(W)) for V, W in zip(a.weights, b.weights, strict=True)]
    return float(np.linalg.norm(parts))


def _onto_fibre(target: Target, network: Network, wanted: np.ndarray) -> Network | None:
    r"""The network moved onto the fibre by Newton steps of least norm, $V_j = A_j^T \Lambda B_j^T$; None if they
    fail."""
    if wanted.size > SQUARE:
        return None
    weights, form = [np.asarray(W) for W in network.weights], target.form
    for _ in range(NEWTON):
        B, A = [form.input_map], [form.output_map]
        for W in weights[:-1]:
            B.append(W @ B[-1])
        for W in weights[:0:-1]:
            A.append(A[-1] @ W)
        A = A[::-1]
        residual = wanted - A[-1] @ weights[-1] @ B[-1]
        kernel = sum(np.kron(a @ a.T, b.T @ b) for a, b in zip(A, B, strict=True))
        Lambda = np.linalg.lstsq(kernel, residual.ravel(), rcond=1e-12)[0].reshape(wanted.shape)
        weights = [W + a.T @ Lambda @ b.T for W, a, b in zip(weights, A, B, strict=True)]
    left = np.linalg.norm(np.asarray(target.reduce(Network(weights)).end_to_end) - wanted)
    return Network(weights) if left <= 1e-10 * np.linalg.norm(wanted) else None
