"""Where a step's gradient is not that of the whole objective: mini-batches and noise of labels."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from .._linalg import product
from .._types import Array, Matrix, Scalar


class SampledError(eqx.Module):
    """Squared error of samples that are kept, for the gradients of mini-batches."""

    X: Float[Array, "sample in"]
    Y: Float[Array, "sample out"]
    factor: Array
    """The loss divided by the half-mean loss, as in `SquaredError`."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.X.shape[0]

    def batch(self, rows: Array) -> "SampledError":
        """The loss of these samples, on the same scale: its mean over all batches is the whole loss."""
        return SampledError(self.X[rows], self.Y[rows], self.factor)

    def __call__(self, W: Matrix) -> Scalar:
        """Loss of the end-to-end matrix W (d_y, d_x)."""
        return self.factor / (2 * self.count) * jnp.sum((product(self.X, W.T) - self.Y) ** 2)

    def gradient(self, W: Matrix) -> Matrix:
        r"""$\frac{c}{n} (W X^T - Y^T) X$."""
        return self.factor / self.count * product(product(W, self.X.T) - self.Y.T, self.X)

    def with_noise(self, key: PRNGKeyArray, size: Any) -> "SampledError":
        """The same with independent N(0, size^2) added to every label."""
        return SampledError(self.X, self.Y + size * jax.random.normal(key, self.Y.shape), self.factor)


class NoisyLabels(eqx.Module):
    r"""A squared error whose n labels carry noise, from moments alone.

    $\frac{c}{n} \sum_i \xi_i x_i^T$ with independent $\xi_i \sim N(0, \sigma^2 I)$ has the law of $\frac{c
    \sigma}{\sqrt n} Z \Sigma_{xx}^{1/2}$ with independent standard normal entries of Z.
    """

    objective: Any
    noise: Matrix
    """What is taken from the gradient."""

    def __call__(self, W: Matrix) -> Scalar:
        """Loss of the end-to-end matrix W (d_y, d_x), up to a constant."""
        return self.objective(W) - jnp.sum(self.noise * W)

    @classmethod
    def drawn(cls, objective: Any, key: PRNGKeyArray, size: Any, count: int) -> "NoisyLabels":
        Z = jax.random.normal(key, objective.optimum.shape)
        return cls(objective, size * objective.factor / count**0.5 * product(Z, objective.root_xx.T))

    def gradient(self, W: Matrix) -> Matrix:
        """The gradient with the noise in it."""
        return self.objective.gradient(W) - self.noise


class Draws(eqx.Module):
    """What is drawn for every step; a function of the key and the number of the step alone."""

    samples: Any
    """An objective with `count` and `batch(rows)`."""
    key: PRNGKeyArray
    label_noise: Array | None
    batch_size: int | None = eqx.field(static=True)

    def first_order(self) -> Array | None:
        """Room for the order of samples in an epoch."""
        return None if self.batch_size is None else jnp.arange(self.samples.count)

    def order(self, k: Array, order: Array | None) -> Array | None:
        """The order of samples at step k: a new one at the beginning of every epoch."""
        if order is None:
            return None
        epoch, place = jnp.divmod(k, self._per_epoch)
        key = jax.random.fold_in(jax.random.fold_in(self.key, 0), epoch)
        return jax.lax.cond(place == 0, lambda: jax.random.permutation(key, order.size), lambda: order)

    def objective(self, objective: Any, k: Array, order: Array | None) -> Any:
        """What step k descends in place of the whole objective."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, 1), k)
        if order is None or self.batch_size is None:
            return NoisyLabels.drawn(objective, key, self.label_noise, self.samples.count)
        first = jnp.remainder(k, self._per_epoch) * self.batch_size
        batch = self.samples.batch(jax.lax.dynamic_slice(order, (first,), (self.batch_size,)))
        return batch if self.label_noise is None else batch.with_noise(key, self.label_noise)

    @property
    def _per_epoch(self) -> int:
        return self.samples.count // (self.batch_size or self.samples.count)
