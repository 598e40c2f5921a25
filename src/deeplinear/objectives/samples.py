"""Losses of samples: a sum over samples and outputs of a function of the prediction and its target."""

from abc import ABC, abstractmethod
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float

from .._linalg import product
from .._trees import set_fields
from .._types import Array, Matrix, Scalar
from .arguments import as_map


class SampleLoss(ABC):
    r"""$L(W) = \frac{1}{n} \sum_i \ell(W x_i, y_i)$ for the samples x_i in the rows of X, (n, d_x)."""

    X: Float[Array, "n d_x"]
    Y: Float[Array, "n d_y"]
    one_kernel: ClassVar[bool] = False  # flows of small networks: many samples are work for matrix products

    def _take(self, X: Array, Y: Array) -> None:
        """Gives an objective under construction its samples."""
        set_fields(self, X=X, Y=Y)

    def __call__(self, W: Matrix) -> Scalar:
        """Loss of the end-to-end matrix W (d_y, d_x)."""
        return jnp.sum(self._losses(product(self.X, as_map(W, self.shape).T))) / self.X.shape[0]

    def gradient(self, W: Matrix) -> Matrix:
        r"""$\frac{1}{n} \sum_i \nabla \ell(W x_i) \, x_i^T$, shape (d_y, d_x)."""
        return product(self._slopes(product(self.X, as_map(W, self.shape).T)).T, self.X) / self.X.shape[0]

    def hessian_vector(self, W: Matrix, V: Matrix) -> Matrix:
        r"""$\frac{1}{n} \sum_i \nabla^2 \ell(W x_i) [V x_i] \, x_i^T$, shape (d_y, d_x)."""
        bent = self._bends(product(self.X, as_map(W, self.shape).T), product(self.X, as_map(V, self.shape, "V").T))
        return product(bent.T, self.X) / self.X.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_y, d_x)."""
        return self.Y.shape[-1], self.X.shape[-1]

    @abstractmethod
    def _losses(self, Z: Array) -> Array:
        """Losses of the predictions Z (n, d_y), to be added up."""

    @abstractmethod
    def _slopes(self, Z: Array) -> Array:
        """Their derivatives with respect to Z, (n, d_y)."""

    @abstractmethod
    def _bends(self, Z: Array, dZ: Array) -> Array:
        """Their second derivatives times a change dZ, (n, d_y)."""

    def __repr__(self) -> str:
        d_y, d_x = self.shape
        return f"{type(self).__name__}({self.X.shape[-2]} samples, {d_x} inputs -> {d_y} outputs)"
