"""Arcs between critical points: straight lines between their end-to-end matrices, and the networks above them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .._arguments import as_network
from .._checks import check_whole
from ..network import Network
from .critical import CriticalPoint, without_bottleneck
from .forms import product, reduced, weights_of
from .frame import Frame
from .signatures import check_signature
from .target import Target

CRITICAL = 1e-6
"""Distance of an end-to-end matrix from a critical one, relative to Sigma, up to which an arc starts from it."""
NONE = 1e-13
"""Strengths below this are rounding, which the root of order h would blow up."""


class Bottom(NamedTuple):
    """Where an arc is lowest."""

    alpha: float
    loss: float


@dataclass(frozen=True, eq=False)
class Arc:
    r"""The loss along $\Phi(\alpha) = (1 - \alpha) W_a + \alpha W_b$, a parabola in $\alpha$.

    It depends on the end-to-end matrix alone, so it is the same for all networks above the arc.
    """

    alphas: np.ndarray
    loss: np.ndarray
    """Loss at `alphas`, in closed form."""
    kind: str
    """"constant", "decreasing", "increasing" (from a to b), or "interior minimum"; there is never a maximum inside."""
    lowest: Bottom
    """The lowest point; at an end for a monotone arc."""
    _frames: tuple[np.ndarray, np.ndarray] = field(repr=False)
    """Orthonormal columns U_a, U_b with W = U U^T Sigma in the coordinates in which Sigma is diagonal."""
    _target: Target = field(repr=False)

    def end_to_end(self, alpha: float) -> np.ndarray:
        r"""$\Phi(\alpha)$ in the data's coordinates, shape (d_y, d_x)."""
        basis, strengths = self._lifted(alpha)
        form = self._target.form
        return form.output_map.T @ (basis @ strengths @ basis.T) @ self._target.matrix @ form.inverse_input_map

    def network(self, alpha: float, widths: Iterable[int]) -> Network:
        r"""A network of these widths above the arc, continuous in $\alpha$ and critical at both ends.

        With $\Phi(\alpha) = U M U^T \Sigma$ every layer holds $M^{1/h}$: $W_1 = M^{1/h} U^T \Sigma$, $W_h = U M^{1/h}$.
        Raises `ValueError` for widths that do not fit the data, and where they hold fewer modes than a and b have
        together: then no network is above the middle of the arc.
        """
        widths = tuple(check_whole("widths", width) for width in widths)
        self._target.check_widths(widths)
        basis, strengths = self._lifted(alpha)
        modes, depth = basis.shape[1], len(widths) - 1
        if modes > min(widths):
            raise ValueError(
                f"`widths`: {widths} hold {min(widths)} modes, but a and b have {modes} together; widen the network"
            )
        values, Q = np.linalg.eigh(strengths)
        root = (Q * np.where(values > NONE, values, 0.0) ** (1 / depth)) @ Q.T
        layers = [root] * depth
        layers[0] = layers[0] @ basis.T @ self._target.matrix
        layers[-1] = basis @ layers[-1]
        inside = [None, *widths[1:-1], None]
        padded = [
            np.pad(W, [(0, (rows or W.shape[0]) - W.shape[0]), (0, (columns or W.shape[1]) - W.shape[1])])
            for W, columns, rows in zip(layers, inside, inside[1:], strict=False)
        ]
        return self._target.lift(Network(padded))

    def _lifted(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        r"""An orthonormal basis U of all modes of a and b, and M with $\Phi(\alpha) = U M U^T \Sigma$."""
        a, b = self._frames
        basis = _union(a, b)
        inside = [(basis.T @ frame) @ (basis.T @ frame).T for frame in (a, b)]
        return basis, (1 - alpha) * inside[0] + alpha * inside[1]


def arc(objective: Any, a: Any, b: Any, alphas: Any = None) -> Arc:
    r"""The loss along the straight line between the end-to-end matrices of two critical points, in closed form.

    $L(\alpha) = L_{\min} + \frac{c}{2} \big(\sum_{i \notin S_a \cup S_b} \sigma_i^2 + \alpha^2 \sum_{i \in S_a
    \setminus S_b} \sigma_i^2 + (1 - \alpha)^2 \sum_{i \in S_b \setminus S_a} \sigma_i^2\big)$: monotone where one
    signature contains the other, else with exactly one minimum inside, at $\alpha^* = \sum_{S_b \setminus S_a}
    \sigma_i^2 / \sum_{S_a \triangle S_b} \sigma_i^2$. `a` and `b` are critical points, signatures (modes from 1), or
    networks that are critical; for equal singular values these may mix the modes. `alphas`: where to give the loss
    (default 101 values from 0 to 1). Raises `ValueError` for other objectives, unknown modes and networks whose
    end-to-end matrix is no critical one.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    >>> arc(objective, [], [1]).kind, arc(objective, [1], [2], [0.0, 0.2, 1.0]).loss.round(12).tolist()
    ('decreasing', [0.5, 0.4, 2.0])
    >>> arc(objective, [1], [2]).kind, arc(objective, [1], [2]).lowest.alpha
    ('interior minimum', 0.2)
    >>> round(float(objective(arc(objective, [1], [2]).network(0.2, (2, 3, 2)).end_to_end)), 12)
    0.4

    Source: Altafini, theorem 24; its item 4 made exact.
    """
    target = Target.of(objective)
    frames = _frame("a", target, a), _frame("b", target, b)
    alphas = _check_alphas(alphas)
    W_a, W_b = (frame @ (frame.T @ target.matrix) for frame in frames)
    step, missing = W_b - W_a, target.matrix - W_a
    length, slope = float(np.sum(step**2)), float(np.sum(missing * step))
    scale = target.factor / 2
    loss = lambda alpha: target.minimum + scale * np.sum((missing - np.multiply.outer(alpha, step)) ** 2, axis=(-2, -1))
    moved = length > (CRITICAL * target.sigma[0]) ** 2
    lowest = min(max(slope / length, 0.0), 1.0) if moved else 0.0
    inside = CRITICAL < lowest < 1 - CRITICAL
    if not inside:
        lowest = float(round(lowest))
    kind = "interior minimum" if inside else ("decreasing" if lowest else "increasing") if moved else "constant"
    return Arc(alphas, loss(alphas), kind, Bottom(lowest, float(loss(lowest))), frames, target)


def _frame(name: str, target: Target, point: Any) -> np.ndarray:
    """Orthonormal columns U with W = U U^T Sigma at the critical point, in the coordinates where Sigma is diagonal."""
    if isinstance(point, CriticalPoint):
        point = point.signature
    if not isinstance(point, Network) and not any(np.ndim(part) for part in point):
        modes = check_signature(target, without_bottleneck(target), tuple(point))
        return np.eye(target.d_y)[:, [k - 1 for k in modes]]
    point = as_network(point, name)
    target.check_widths(point.widths)
    weights = reduced(target, weights_of(point))
    found = Frame.of(target, weights)
    rows = np.eye(target.d_y) if found.rotation is None else found.rotation
    frame = rows[found.S].T
    away = float(np.linalg.norm(frame @ (frame.T @ target.matrix) - product(weights)))
    if away > CRITICAL * target.sigma[0]:
        raise ValueError(
            f"`{name}`: its end-to-end matrix is no critical one, off by {away:.3g}; find the nearest critical point "
            "with `landscape.classify`"
        )
    return frame


def _union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the span of two frames, a's first: with frames of axes it is one of axes."""
    rest = b - a @ (a.T @ b)
    U, s, _ = np.linalg.svd(rest, full_matrices=False)
    return np.concatenate([a, U[:, s > np.sqrt(NONE)]], axis=1)


def _check_alphas(alphas: Any) -> np.ndarray:
    alphas = np.linspace(0, 1, 101) if alphas is None else np.asarray(alphas, dtype=float)
    if alphas.ndim != 1 or not np.isfinite(alphas).all():
        raise ValueError(f"`alphas`: has shape {alphas.shape}; give finite numbers in one row, 0 at a and 1 at b")
    return alphas
