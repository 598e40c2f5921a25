"""Bounds for all times: of the loss, drawn over its curve, and of the weights."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import brentq

from .._arguments import checks_arguments
from ..conventions import TIME_UNIT
from ..network import Network
from ..objectives import SquaredError
from ..trajectory import Trajectory
from .rates import PROPOSITIONS, checked, rates

ROUNDING = 1e-12
"""Share by which a bound is enlarged, so that rounding never makes it too small."""


def loss_bounds(trajectory: Trajectory) -> xr.DataArray:
    r"""Upper bounds of the loss above its minimum along a trajectory, from the three `rates`; dims (bound, time).

    Proposition 26 gives $(L(0) - L_{\min}) \exp(-2 \int_0^t \alpha)$ with the rate of every moment (by the trapezoidal
    rule between the times of the trajectory), 27 and 28 give $(L(0) - L_{\min}) e^{-2 \alpha t}$ with the rate of the
    first network, whose conserved quantities are known before the run. The coordinate `bound` holds the numbers of the
    propositions, `rate` (bound,) the rates at the first time. Written into a dataset beside `excess_loss`,
    `plots.loss_bounds` draws it. Raises `ValueError` for a trajectory without a `SquaredError`, and for an ensemble.

    >>> from deeplinear import gradient_flow
    >>> start = Network([[[0.5]], [[1.5]]])
    >>> bounds = loss_bounds(gradient_flow(SquaredError.from_moments([[2.0]]), start, ts=[0.0, 1.0]))
    >>> bounds.sel(bound=27).values.round(4).tolist()  # excess 25/32, rate 2
    [0.7812, 0.0143]

    Source: Altafini, propositions 26 to 28.
    """
    objective = checked(trajectory.objective)
    if np.ndim(trajectory.ts) != 1 or trajectory.kept.weights[0].ndim != 3:
        raise ValueError("`trajectory`: is an ensemble; give one member, `trajectory.member(b)`")
    ts = np.asarray(trajectory.ts)
    found = np.asarray(trajectory.map(rates(objective)))
    exponents = np.outer(found[0], ts - ts[0])
    exponents[0] = cumulative_trapezoid(found[:, 0], ts, initial=0.0)
    start = float(objective.excess(trajectory[0].end_to_end))
    coordinates = {"bound": list(PROPOSITIONS), "rate": ("bound", found[0])}
    coordinates["time"] = ("time", ts, {"long_name": "time", "units": TIME_UNIT})
    attributes = {"long_name": "upper bounds of the excess loss, by proposition", "units": objective.scale.name}
    return xr.DataArray(start * np.exp(-2 * exponents), coordinates, ("bound", "time"), "loss_bounds", attributes)


@dataclass(frozen=True)
class WeightBounds:
    """What no weight exceeds at any time of the flow.

    >>> WeightBounds(product=8.0, layers=(2.0, 2.0, 2.0), frobenius=3.5).layers[0]
    2.0
    """

    product: float
    """Spectral norm of the end-to-end matrix on the inputs that occur."""
    layers: tuple[float, ...]
    """Spectral norm of every layer."""
    frobenius: float
    r"""Norm of all weights together, $\|A\|_F = (\sum_l \|W_l\|_F^2)^{1/2}$."""


@checks_arguments
def weight_bounds(objective: SquaredError, start: Network) -> WeightBounds:
    r"""Bounds of the weights for all times of the gradient flow from `start`, with explicit constants.

    The loss never rises, so $\|W(t)\|_2 \le M = \|W^*\|_2 + \|E(0)\|_F / \sigma_{\min}(R)$ with $R = \Sigma_{xx}^{1/2}$
    on the inputs that occur, E as in `rates`. The conserved $C_l$ carry this to the layers: $\|W_h\|_2^2$ is at most
    the largest root x of

    $$\prod_{l=1}^h (x - S_l) = M^2, \quad S_l = \sum_{i=l}^{h-1} \max(\lambda_{\max}(C_i), 0),$$

    and $\|W_l\|_2^2 \le x + \sum_{i=l}^{h-1} \max(-\lambda_{\min}(C_i), 0)$; the same counted from the first layer, and
    the smaller of the two. Exact for 0-balanced networks: $\|W_l\|_2 \le M^{1/h}$. Raises `ValueError` as `rates`.

    Proof. With u the top left singular vector of $W_h$, $y_l = W_{l+1}^T \cdots W_h^T u$ and $r_l = \|W_l^T y_l\|^2 /
    \|y_l\|^2$: $\|W\|_2^2 \ge \prod_l r_l$ and $r_h = \|W_h\|_2^2$. As $W_l W_l^T = W_{l+1}^T W_{l+1} - C_l$, and by
    Cauchy and Schwarz $\|W_{l+1} y_l\|^2 / \|y_l\|^2 \ge r_{l+1}$, also $r_l \ge r_{l+1} - \lambda_{\max}(C_l)$.

    >>> start = Network([[[0.1]], [[0.1]], [[0.1]]])
    >>> [round(bound, 3) for bound in weight_bounds(SquaredError.from_moments([[8.0]]), start).layers]
    [2.52, 2.52, 2.52]

    Source: sharper than lemma 37 of Altafini (lemma 2.4 of Chitour, Liao and Couillet), for proposition 12.
    """
    moment = checked(objective).second_moment
    projector, slowest = moment.axes @ moment.axes.T, float(np.sqrt(moment.variances.min(initial=np.inf)))
    weights = [np.asarray(W) for W in start.weights]
    unseen = weights[0] - weights[0] @ projector  # acts on inputs that never occur, and never moves
    weights[0] = weights[0] @ projector
    error = float(np.sqrt(2 * objective.excess(start.end_to_end) / objective.factor))
    largest = float(np.linalg.norm(objective.optimum, 2)) + error / slowest
    squares = np.minimum(_squared_norms(weights, largest), _squared_norms([W.T for W in weights[::-1]], largest)[::-1])
    norms = np.array([np.sum(W**2) for W in weights])
    rooms = np.array([min(W.shape) for W in weights])
    frobenius = norms.sum() + len(weights) * np.min(rooms * squares - norms) + np.sum(unseen**2)
    squares[0] += np.linalg.norm(unseen, 2) ** 2
    return WeightBounds(largest, tuple(float(x) for x in np.sqrt(squares)), float(np.sqrt(frobenius)))


class Coercivity(NamedTuple):
    r"""$\|W\|_F^2 \ge \gamma \|A\|_F^{2h} - p \|A\|_F^{2h-2}$ for every network with these conserved quantities.

    >>> Coercivity(0.25, 0.0).below(4.0, depth=2)
    4.0
    """

    gamma: float
    p: float

    def below(self, squared: float, depth: int) -> float:
        r"""The bound of $\|W\|_F^2$ where $\|A\|_F^2$ is `squared`."""
        return self.gamma * squared**depth - self.p * squared ** (depth - 1)


@checks_arguments
def coercivity(network: Network) -> Coercivity:
    r"""The constants of lemma 37: how the end-to-end matrix must grow with the weights, $C_l$ being fixed.

    $\|A\|_F^2 = \sum_l \|W_l\|_F^2$. With $m = \min(d_h, d_{h-1})$, $S_l$ as in `weight_bounds` and $\tau = \sum_l
    (\|W_h\|_F^2 - \|W_l\|_F^2)$, which is a sum of traces of $C_i$: $\gamma = (h m)^{-h}$ and $p = \gamma \sum_l \max(h
    m S_l - \tau, 0)$. The polynomial of the lemma has this one term; its upper bound is $\|W\|_F^2 \le (\|A\|_F^2 /
    h)^h$.

    >>> coercivity(Network([[[2.0]], [[2.0]]]))
    Coercivity(gamma=0.25, p=0.0)

    Source: Altafini, lemma 37, eq. (72), where $C_j$ has the sign of `imbalance`; constants as in `weight_bounds`.
    """
    weights = [np.asarray(W) for W in network.weights]
    h, room = len(weights), min(weights[-1].shape)
    norms = np.array([np.sum(W**2) for W in weights])
    excess = float(np.sum(norms[-1] - norms))
    roots = h * room * _sums(weights)[0] - excess
    gamma = float(h * room) ** -h
    return Coercivity(gamma, gamma * float(np.sum(np.maximum(roots, 0.0))))


def _sums(weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sums over i >= l of max(lambda_max(C_i), 0) and of max(-lambda_min(C_i), 0), for every layer l."""
    spectra = [np.linalg.eigvalsh(V.T @ V - W @ W.T) for W, V in pairwise(weights)]
    positive = [max(c[-1], 0.0) for c in spectra]
    negative = [max(-c[0], 0.0) for c in spectra]
    whole = lambda parts: np.append(np.cumsum(parts[::-1])[::-1], 0.0)
    return whole(positive), whole(negative)


def _squared_norms(weights: list[np.ndarray], largest: float) -> np.ndarray:
    """Bounds of the squared spectral norms, from a bound of the product's."""
    sums, others = _sums(weights)
    short = lambda x: np.prod(x - sums) - largest**2
    top = sums[0] + largest ** (2 / len(weights))
    root: Any = brentq(short, sums[0], top, xtol=0.1 * ROUNDING * top) if short(top) > 0 else top
    return root * (1 + ROUNDING) + others
