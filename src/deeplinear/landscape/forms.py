"""Derivatives of the squared error along weights, on the host: gradient, Hessian form, Hessian times a direction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..network import Network
from ..objectives import SquaredError
from .target import Target

Weights = Sequence[np.ndarray]


class Quadratic(NamedTuple):
    r"""A squared error in numbers: $\frac{c}{2} \mathrm{tr}(W S W^T) - c \, \mathrm{tr}(M W^T)$ of the end-to-end W."""

    S: np.ndarray
    """E[x x^T], or the identity in the coordinates of a `Target`."""
    M: np.ndarray
    """E[y x^T], or Sigma."""
    c: float

    @classmethod
    def of(cls, objective: SquaredError) -> "Quadratic":
        return cls(np.asarray(objective.sigma_xx), np.asarray(objective.sigma_yx), float(objective.factor))

    def slope(self, weights: Weights) -> np.ndarray:
        """Gradient with respect to the end-to-end matrix, shape (d_y, d_x)."""
        return self.c * (product(weights) @ self.S - self.M)

    def excess(self, weights: Weights) -> float:
        r"""$\frac{c}{2} \|W - M\|^2$, for S the identity alone."""
        return self.c / 2 * squared_norm([product(weights) - self.M])

    def gradient(self, weights: Weights) -> list[np.ndarray]:
        r"""$W_{j+1:h}^T (c W S - c M) W_{1:j-1}^T$ for every layer."""
        below, above = partial_products(weights)
        slope = self.slope(weights)
        return [above[j + 1].T @ slope @ below[j].T for j in range(len(weights))]

    def form(self, weights: Weights, V: Weights, other: Weights | None = None) -> float:
        r"""$d^2 L(W + \epsilon V) / d\epsilon^2$ at 0, or the bilinear form of two directions.

        $c \langle \rho_1 S, \rho_1' \rangle + 2 \langle \rho_2, c W S - c M \rangle$ with the first and second
        variations of the end-to-end matrix. Source: Altafini, eq. (22).
        """
        V_other = V if other is None else other
        first, first_other, second = _variations(weights, V, V_other)
        return float(self.c * np.vdot(first @ self.S, first_other) + np.vdot(second, self.slope(weights)))

    def times(self, weights: Weights, V: Weights) -> list[np.ndarray]:
        """Hessian times a direction, or times many along a leading axis: the derivative of `gradient` along V."""
        below, above = partial_products(weights)
        d_below, d_above = _moved(weights, V, below, above)
        slope, d_slope = self.slope(weights), self.c * d_below[-1] @ self.S
        flip = lambda M: M.swapaxes(-1, -2)
        return [
            flip(d_above[j + 1]) @ slope @ below[j].T
            + above[j + 1].T @ (d_slope @ below[j].T + slope @ flip(d_below[j]))
            for j in range(len(weights))
        ]

    def times_rows(self, weights: Weights, directions: np.ndarray) -> np.ndarray:
        """Hessian times every row; a row holds the weights in the order of `flat`."""
        images = self.times(weights, apart(directions, weights))
        return np.concatenate([M.reshape(len(M), W.size) for M, W in zip(images, weights, strict=True)], axis=1)

    def hessian(self, weights: Weights) -> np.ndarray:
        """The Hessian as a matrix, in the order of `flat`."""
        H = self.times_rows(weights, np.eye(sum(W.size for W in weights)))
        return (H + H.T) / 2


def weights_of(network: Network) -> list[np.ndarray]:
    """The weights as arrays on the host."""
    return [np.asarray(W, dtype=float) for W in network.weights]


def flat(parts: Weights) -> np.ndarray:
    """All weights in one vector, in the order of the layers, row by row."""
    return np.concatenate([part.ravel() for part in parts])


def apart(v: np.ndarray, like: Weights) -> list[np.ndarray]:
    """The way back from `flat`; a leading axis of v stays."""
    cuts = np.cumsum([W.size for W in like])[:-1]
    parts = np.split(v, cuts, axis=-1)
    return [part.reshape(*v.shape[:-1], *W.shape) for part, W in zip(parts, like, strict=True)]


def reduced(target: Target, weights: Weights) -> list[np.ndarray]:
    """The weights in the coordinates in which Sigma is diagonal; on the host, so that no shape is compiled."""
    moved = list(weights)
    moved[0] = moved[0] @ target.form.input_map
    moved[-1] = target.form.output_map @ moved[-1]
    return moved


def lifted(target: Target, weights: Weights) -> list[np.ndarray]:
    """The way back from `reduced`: W_1 is zero along null directions of sigma_xx."""
    moved = list(weights)
    moved[0] = moved[0] @ target.form.inverse_input_map
    moved[-1] = target.form.output_map.T @ moved[-1]
    return moved


def product(weights: Weights) -> np.ndarray:
    """W_h ... W_1."""
    W = weights[0]
    for above in weights[1:]:
        W = above @ W
    return W


def partial_products(weights: Weights) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """W_{1:j} for j = 0..h and W_{j+1:h} for j = 0..h; the empty products are identities."""
    below, above = [np.eye(weights[0].shape[1])], [np.eye(weights[-1].shape[0])]
    for W in weights:
        below.append(W @ below[-1])
    for W in reversed(weights):
        above.append(above[-1] @ W)
    return below, above[::-1]


def squared_norm(V: Weights) -> float:
    """Squared Frobenius norm of all weights together."""
    return float(sum(np.vdot(W, W) for W in V))


def _variations(weights: Weights, V: Weights, U: Weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variations of the end-to-end matrix: first along V, first along U, mixed second along both."""
    W, along_V, along_U, both = weights[0], V[0], U[0], np.zeros_like(weights[0])
    for layer, v, u in zip(weights[1:], V[1:], U[1:], strict=True):
        both = layer @ both + v @ along_U + u @ along_V
        along_V, along_U = layer @ along_V + v @ W, layer @ along_U + u @ W
        W = layer @ W
    return along_V, along_U, both


def _moved(
    weights: Weights, V: Weights, below: list[np.ndarray], above: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Derivatives of `partial_products` along V."""
    h, many = len(weights), V[0].shape[:-2]
    d_below, d_above = [np.zeros((*many, *below[0].shape))], [np.zeros((*many, *above[h].shape))]
    for j in range(h):
        d_below.append(weights[j] @ d_below[-1] + V[j] @ below[j])
    for j in reversed(range(h)):
        d_above.append(d_above[-1] @ weights[j] + above[j + 1] @ V[j])
    return d_below, d_above[::-1]
