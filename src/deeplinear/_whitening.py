"""Whitening, the survey's normal form, and the best linear map: what follows from second moments, all invertible."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._arrays import floats
from ._second_moment import SecondMoment


class Fit(NamedTuple):
    """The best linear map of some moments.

    >>> from deeplinear.data import Moments
    >>> Moments.of([[1.0], [2.0]], [2.0, 4.0]).fit().optimum.round(12).tolist()
    [[2.0]]
    """

    moment: SecondMoment
    optimum: np.ndarray
    """W*, the best map of least norm, shape (d_y, d_x)."""
    images: np.ndarray
    """W* T, shape (d_y, rank)."""
    unexplained: float | None
    """E[|y - W* x|^2]; None where E[|y|^2] is unknown."""
    sigma_xx: np.ndarray
    """E[x x^T], shape (d_x, d_x)."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """The invertible step from inputs x to T x with identity second moment, on the range of sigma_xx.

    >>> whitening = Whitening.of(np.diag([4.0, 1.0, 0.0]))
    >>> whitening.transform.tolist()
    [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    transform: np.ndarray
    """T, shape (rank, d_x)."""
    inverse: np.ndarray
    """T^+, shape (d_x, rank)."""

    @classmethod
    def of(cls, sigma_xx: np.ndarray) -> "Whitening":
        """Principal-axes whitening of E[x x^T] = sigma_xx, directions of largest variance first."""
        return cls.from_moment(SecondMoment.of(check_covariance(floats("sigma_xx", sigma_xx, 2, "(d_x, d_x)"))))

    @classmethod
    def from_moment(cls, moment: SecondMoment) -> "Whitening":
        """The same from what is known of E[x x^T]; raises `ValueError` where it is zero."""
        if not moment.rank:
            raise ValueError("`sigma_xx`: is zero, so there is nothing to whiten; check that the inputs vary")
        roots = np.sqrt(moment.variances)
        transform = moment.turn.T @ moment.inverse if moment.graded else moment.axes.T / roots[:, None]
        return cls(transform, moment.axes * roots)

    def to_whitened(self, network):
        """The network on whitened inputs with the same function on the data: W_1 <- W_1 T^+.

        Same function and loss; the gradient flow of the two networks differs unless sigma_xx is the identity.
        """
        return network.between(input_map=self.inverse)

    def to_original(self, network):
        """The network on the original inputs: W_1 <- W_1 T."""
        return network.between(input_map=self.transform)


@dataclass(frozen=True, eq=False)
class NormalForm:
    r"""The survey's reduction of a data set to its singular values (appendix A.2), and the way back.

    With $\Sigma_{xx} = Q \Lambda Q^T$ (range only) and $\Sigma_{yx} Q \Lambda^{-1/2} = U_Y \Sigma V_Y^T$ the half-mean
    loss of $\bar W_1, \dots, \bar W_h$ is $\frac12 \|\Sigma - W_h \cdots W_1\|_F^2$ + const with $W_h = U_Y^T \bar
    W_h$, $W_1 = \bar W_1 Q \Lambda^{1/2} V_Y$. The LANDSCAPES are the same (critical points, signs of the Hessian); the
    gradient FLOWS are the same only if $\Sigma_{xx}$ is the identity, because $W_1$ is transformed by a map that is not
    orthogonal.

    >>> from deeplinear.data import Moments
    >>> form = NormalForm.of(Moments.given([[0.0, 2.0], [1.0, 0.0]]))
    >>> form.sigma.tolist(), form.same_flow
    ([[2.0, 0.0], [0.0, 1.0]], True)

    Source: Altafini, appendix A.2, with the constant and the flow corrected.
    """

    sigma: np.ndarray
    """Sigma, shape (d_y, rank of sigma_xx): singular values on the diagonal, zero elsewhere."""
    output_map: np.ndarray
    """U_Y^T, orthogonal (d_y, d_y)."""
    input_map: np.ndarray
    """Q Lambda^(1/2) V_Y, shape (d_x, rank)."""
    inverse_input_map: np.ndarray
    """Its pseudo-inverse V_Y^T Lambda^(-1/2) Q^T, shape (rank, d_x)."""
    same_flow: bool
    """Whether sigma_xx is the identity, so that gradient flows agree too."""

    @classmethod
    def of(cls, moments: Any) -> "NormalForm":
        """Normal form of any moments; null directions of sigma_xx, which the loss does not see, are dropped."""
        fit = moments.fit()
        return cls.of_images(fit.images @ fit.moment.turn, Whitening.from_moment(fit.moment), fit.sigma_xx)

    @classmethod
    def of_images(cls, images: np.ndarray, whitening: Whitening, sigma_xx: np.ndarray) -> "NormalForm":
        r"""From the best map in whitened inputs, $\Sigma_{yx} Q \Lambda^{-1/2}$, shape (d_y, rank)."""
        U, s, Vt = np.linalg.svd(images)
        sigma = np.zeros((U.shape[0], Vt.shape[0]))
        np.fill_diagonal(sigma, s)
        identity = sigma_xx.shape == (Vt.shape[0],) * 2 and np.allclose(sigma_xx, np.eye(len(Vt)), rtol=0, atol=1e-12)
        return cls(sigma, U.T, whitening.inverse @ Vt.T, Vt @ whitening.transform, bool(identity))

    def reduce(self, network):
        """The network of the reduced problem: same half-mean loss up to the constant, same products inside."""
        return network.between(input_map=self.input_map, output_map=self.output_map)

    def lift(self, network):
        """The network of the original problem; along null(sigma_xx), where the loss is blind, W_1 is zero."""
        return network.between(input_map=self.inverse_input_map, output_map=self.output_map.T)


def check_covariance(sigma: np.ndarray) -> np.ndarray:
    """`sigma` made exactly symmetric; `ValueError` if it is not symmetric positive semidefinite to rounding.

    >>> check_covariance(np.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    units = np.sqrt(np.abs(np.diagonal(sigma)))
    units = np.where(units > 0, units, 1.0)
    scaled = sigma / units / units[:, None]
    if np.abs(scaled - scaled.T).max() > 1e-10 * np.abs(scaled).max():
        raise ValueError("`sigma_xx`: is not symmetric; it must be E[x x^T]")
    lowest, highest = np.linalg.eigvalsh((scaled + scaled.T) / 2)[[0, -1]]
    if lowest < -1e-10 * max(highest, 1e-300):
        raise ValueError(f"`sigma_xx`: has the negative eigenvalue {lowest:.3g}; it must be E[x x^T]")
    return (sigma + sigma.T) / 2
