"""The problem that a statement is held against: an objective and a network in the survey's coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..data import Moments, NormalForm
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory

Layers = list[np.ndarray]
"""W_1, ..., W_h of one network."""


@dataclass(frozen=True, eq=False)
class Question:
    r"""A squared error, a network and perhaps a trajectory, as the survey has them: $\frac12 \|\Sigma - W_{1:h}\|_F^2$.

    Critical points and signs of curvatures are those of the original problem; the flow is only where `same_flow`.
    """

    objective: SquaredError
    network: Network
    trajectory: Trajectory | None = None
    seed: int = 0
    """Of random directions and changes of basis."""

    @cached_property
    def form(self) -> NormalForm:
        """The survey's coordinates (appendix A.2)."""
        return NormalForm.of(Moments.given(np.asarray(self.objective.sigma_yx), np.asarray(self.objective.sigma_xx)))

    @property
    def same_flow(self) -> bool:
        """Whether the flow of the original problem is that of the survey, up to the unit of time."""
        return self.form.same_flow

    @property
    def sigma(self) -> np.ndarray:
        r"""$\Sigma$ (d_y, d_x), diagonal."""
        return self.form.sigma

    @property
    def singular_values(self) -> np.ndarray:
        r"""$\sigma_1 \ge \sigma_2 \ge \dots$, (d_y,); 0 beyond min(d_x, d_y)."""
        values = np.zeros(self.sigma.shape[0])
        values[: min(self.sigma.shape)] = np.diagonal(self.sigma)
        return values

    @cached_property
    def weights(self) -> Layers:
        """W_1, ..., W_h in the survey's coordinates."""
        return self._layers(self.network)

    @property
    def widths(self) -> tuple[int, ...]:
        """(d_x, d_1, ..., d_y) in the survey's coordinates."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))

    @property
    def depth(self) -> int:
        return len(self.weights)

    @cached_property
    def end_to_end(self) -> np.ndarray:
        """W_{1:h} (d_y, d_x)."""
        return product(self.weights)

    @property
    def residual(self) -> np.ndarray:
        r"""$\Xi = \Sigma - W_{1:h}$."""
        return self.sigma - self.end_to_end

    @property
    def loss(self) -> float:
        r"""$\frac12 \|\Xi\|_F^2$."""
        return float(np.sum(self.residual**2)) / 2

    @cached_property
    def velocity(self) -> Layers:
        r"""$\dot W_j = W_{j+1:h}^T \Xi W_{1:j-1}^T$, the flow (9)."""
        return velocity(self.sigma, self.weights)

    @cached_property
    def path(self) -> list[tuple[float, Layers]]:
        """Times and networks of the trajectory in the survey's coordinates; empty without one."""
        if self.trajectory is None:
            return []
        return [(float(t), self._layers(self.trajectory[i])) for i, t in enumerate(np.asarray(self.trajectory.ts))]

    def rng(self) -> np.random.Generator:
        """A fresh generator: every statement draws the same, whatever was asked before."""
        return np.random.default_rng(self.seed)

    def random_direction(self) -> Layers:
        """A Gaussian direction V of the weights' shapes."""
        rng = self.rng()
        return [rng.standard_normal(W.shape) for W in self.weights]

    def _layers(self, network: Network) -> Layers:
        return [np.asarray(W, dtype=float) for W in self.form.reduce(network).weights]


def product(weights: Sequence[np.ndarray]) -> np.ndarray:
    """W_k ... W_1 of (W_1, ..., W_k)."""
    result = weights[0]
    for W in weights[1:]:
        result = W @ result
    return result


def velocity(sigma: np.ndarray, weights: Layers) -> Layers:
    r"""$W_{j+1:h}^T (\Sigma - W_{1:h}) W_{1:j-1}^T$ for every layer j."""
    below, above = [np.eye(weights[0].shape[1])], [np.eye(weights[-1].shape[0])]
    for W in weights:
        below.append(W @ below[-1])
    for W in weights[::-1]:
        above.append(above[-1] @ W)
    residual, h = sigma - below[-1], len(weights)
    return [above[h - 1 - j].T @ residual @ below[j].T for j in range(h)]


def relative(difference: Any, *sizes: Any) -> float:
    """|difference| over the largest |size|, Frobenius norms of arrays or lists of them; 0 for 0 / 0."""
    top, bottom = _norm(difference), max(map(_norm, sizes), default=1.0)
    return top / bottom if bottom > 0 else (0.0 if top == 0 else float("inf"))


def _norm(value: Any) -> float:
    if isinstance(value, list | tuple):
        return float(np.sqrt(sum(_norm(part) ** 2 for part in value)))
    return float(np.linalg.norm(np.asarray(value, dtype=float)))
