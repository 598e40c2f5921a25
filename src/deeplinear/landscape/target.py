"""What a landscape depends on: the singular values of the best map in whitened inputs, and the way there and back."""

from typing import Any, NamedTuple

import numpy as np

from .. import _memory
from .._linalg import rank_tolerance
from ..data import NormalForm, Whitening
from ..network import Network
from ..objectives import SquaredError

EQUAL = 1e-9
"""Singular values closer than this share of the largest count as equal."""


class Target(NamedTuple):
    r"""The problem $\frac{c}{2} \|\Sigma - W_h \cdots W_1\|_F^2$ + const behind an objective, as the survey writes it.

    Critical points, their kinds and the signs of their Hessians are the same in both; networks go there by `reduce` and
    come back by `lift`.
    """

    form: NormalForm
    sigma: np.ndarray
    """All d_y values $\\sigma_1 \\ge \\sigma_2 \\ge \\dots$; exactly 0 beyond the rank."""
    factor: float
    """c, by which the loss scale multiplies the half-mean loss."""
    minimum: float
    """Smallest loss of any map."""

    @classmethod
    def of(cls, objective: Any) -> "Target":
        """Target of a `SquaredError`; raises `ValueError` for any other objective."""
        if not isinstance(objective, SquaredError):
            raise ValueError(
                f"`objective`: is a {type(objective).__name__}; signatures and certificates exist for "
                "squared error only; look at the Hessian with `curvature.extreme_eigenvalues`"
            )
        W, moment = np.asarray(objective.optimum), objective.second_moment
        needed = 8 * 4 * sum(d * d for d in W.shape)
        _memory.check("objective", "its normal form", needed, "take data of fewer inputs and outputs")
        whitening = Whitening.from_moment(moment)
        form = NormalForm.of_images(W @ whitening.inverse, whitening, np.asarray(objective.sigma_xx))
        sigma = np.zeros(form.sigma.shape[0])
        values = np.diagonal(form.sigma)
        # whitening multiplies the rounding of sigma_yx by the inverse root of the smallest variance
        size = np.linalg.norm(np.asarray(objective.sigma_yx), 2) * np.linalg.norm(form.inverse_input_map, 2)
        if moment.graded:
            size = min(size, np.linalg.norm(np.abs(W) @ np.abs(moment.factor), 2))
        sigma[: values.size] = np.where(values > rank_tolerance(max(form.sigma.shape)) * size, values, 0.0)
        return cls(form, sigma, float(objective.factor), float(objective.minimum))

    @property
    def d_x(self) -> int:
        """Inputs that the loss sees: the rank of sigma_xx."""
        return self.form.sigma.shape[1]

    @property
    def d_y(self) -> int:
        return self.form.sigma.shape[0]

    @property
    def rank(self) -> int:
        """Number of positive singular values: modes that can be learned."""
        return int(np.count_nonzero(self.sigma))

    @property
    def matrix(self) -> np.ndarray:
        r"""$\Sigma$, shape (d_y, d_x)."""
        return np.eye(self.d_y, self.d_x) * self.sigma[:, None]

    @property
    def groups(self) -> np.ndarray:
        """Number, from 0, of the group of equal singular values that each belongs to, shape (d_y,)."""
        apart = self.sigma[:-1] - self.sigma[1:] > EQUAL * self.sigma[0]
        return np.concatenate([[0], np.cumsum(apart)])

    def value(self, signature: tuple[int, ...]) -> float:
        r"""Loss where the modes S (from 1) are learned: $L_{\min} + \frac{c}{2} \sum_{i \notin S} \sigma_i^2$."""
        left = np.ones(self.d_y, dtype=bool)
        left[[k - 1 for k in signature]] = False
        return self.minimum + self.factor / 2 * float(np.sum(self.sigma[left] ** 2))

    def max_rank(self, widths: tuple[int, ...]) -> int:
        """Largest number of modes that a network of these widths can hold."""
        return min(min(widths), self.rank)

    def check_widths(self, widths: tuple[int, ...]) -> None:
        """`ValueError` where a network of these widths does not fit the data."""
        d_x, d_y = self.form.input_map.shape[0], self.d_y
        if len(widths) < 2 or widths[0] != d_x or widths[-1] != d_y:
            raise ValueError(
                f"`widths`: got {tuple(widths)}; the data have {d_x} inputs and {d_y} outputs: ({d_x}, ..., {d_y})"
            )
        if min(widths) < 1:
            raise ValueError(f"`widths`: got {tuple(widths)}; every layer needs at least one unit")

    def reduce(self, network: Network) -> Network:
        """The network in the coordinates in which Sigma is diagonal."""
        return self.form.reduce(network)

    def lift(self, network: Network) -> Network:
        """The network in the data's own coordinates."""
        return self.form.lift(network)
