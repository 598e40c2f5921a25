"""The problem that a statement is held against: an objective and a network in the survey's coordinates."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..blockshift import BlockMatrix, blk
from ..data import NormalForm
from ..landscape.forms import Quadratic, partial_products, reduced
from ..landscape.forms import product as product
from ..landscape.settling import normal_form
from ..landscape.target import Target
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory

Layers = list[np.ndarray]
"""W_1, ..., W_h of one network."""
LONGEST = 48
"""Times of a trajectory that are looked at."""


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
    def target(self) -> Target:
        """The problem as the landscape has it: singular values that are rounding are exactly zero."""
        return Target.of(self.objective)

    @property
    def form(self) -> NormalForm:
        """The survey's coordinates (appendix A.2)."""
        return self.target.form

    @property
    def quadratic(self) -> Quadratic:
        """Gradient, Hessian and its form on the host, in the survey's coordinates."""
        return normal_form(self.target)

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
    def A(self) -> BlockMatrix:
        r"""The adjacency matrix $\mathrm{blk}_1(W_1, \dots, W_h)$."""
        return adjacency(self.weights)

    @property
    def E(self) -> BlockMatrix:
        r"""$\mathrm{blk}_h(\Sigma)$."""
        return blk(self.depth, [self.sigma], self.widths)

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
    def given_path(self) -> list[tuple[float, Layers]]:
        """Times and networks of the trajectory as it came, at most `LONGEST`; empty without one."""
        if (trajectory := self.trajectory) is None:
            return []
        ts = np.asarray(trajectory.ts)
        kept = np.unique(np.linspace(0, len(ts) - 1, LONGEST).round().astype(int))
        weights = lambda i: [np.asarray(W, dtype=float) for W in trajectory[int(i)].weights]
        return [(float(ts[i]), weights(i)) for i in kept]

    @cached_property
    def path(self) -> list[tuple[float, Layers]]:
        """`given_path` in the survey's coordinates."""
        return [(t, reduced(self.target, weights)) for t, weights in self.given_path]

    def rng(self) -> np.random.Generator:
        """A fresh generator: every statement draws the same, whatever was asked before."""
        return np.random.default_rng(self.seed)

    def random_direction(self) -> Layers:
        """A Gaussian direction V of the weights' shapes."""
        rng = self.rng()
        return [rng.standard_normal(W.shape) for W in self.weights]

    def _layers(self, network: Network) -> Layers:
        return reduced(self.target, [np.asarray(W, dtype=float) for W in network.weights])


def adjacency(weights: Layers) -> BlockMatrix:
    """blk_1(W_1, ..., W_h) of arrays, which stay arrays."""
    return blk(1, weights)


def velocity(sigma: np.ndarray, weights: Layers) -> Layers:
    r"""$W_{j+1:h}^T (\Sigma - W_{1:h}) W_{1:j-1}^T$ for every layer j."""
    below, above = partial_products(weights)
    residual = sigma - below[-1]
    return [above[j + 1].T @ residual @ below[j].T for j in range(len(weights))]


def relative(difference: Any, *sizes: Any) -> float:
    """|difference| over the largest |size|, Frobenius norms of arrays or lists of them; 0 for 0 / 0."""
    top, bottom = _norm(difference), max(map(_norm, sizes), default=1.0)
    return top / bottom if bottom > 0 else (0.0 if top == 0 else float("inf"))


def _norm(value: Any) -> float:
    if isinstance(value, list | tuple):
        return float(np.sqrt(sum(_norm(part) ** 2 for part in value)))
    return float(np.linalg.norm(np.asarray(value, dtype=float)))
