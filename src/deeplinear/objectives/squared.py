"""The squared error of a linear map: everything about it has a closed form."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._arrays import floats, traced, whole
from .._linalg import from_svd, on_device, product, psd_root, thin_svd
from .._types import Matrix, Scalar
from ..conventions import HALF_MEAN, LossScale
from ..data import Modes, Moments, Whitening, check_samples


class SquaredError(eqx.Module):
    r"""Squared error of a linear map as $L(W) = L_{\min} + \frac{c}{2} \|(W - W^*) \Sigma_{xx}^{1/2}\|_F^2$.

    $W^* = \Sigma_{yx} \Sigma_{xx}^+$ and $c$ is the factor of the loss scale (`conventions.LossScale`). Equal to the
    usual sum over samples, but never below its minimum, and accurate to the last digit near it. A pytree: `jit`
    compiles once for all problems of a shape. Make one by `of`, `from_moments` or `from_singular_values`; inside `jit`,
    `vmap` and `grad` too, where shapes are checked and numbers are not.

    >>> objective = SquaredError.from_moments([[2.0, 0.0], [0.0, 1.0]])
    >>> float(objective(jnp.zeros((2, 2)))), float(objective.minimum)
    (2.5, 0.0)
    >>> objective.modes.s.tolist()
    [2.0, 1.0]
    """

    optimum: Matrix
    """W*, the minimiser of least norm, shape (d_y, d_x)."""
    minimum: Scalar
    """Smallest loss of any linear map."""
    factor: Scalar
    """c: this scale's loss divided by the half-mean loss; time here is time / c of the canonical flow."""
    _sigma_xx: Array | None
    _root_xx: Array | None
    scale: LossScale = eqx.field(static=True)

    def __init__(self, sigma_yx: Any, sigma_xx: Any, trace_yy: Any, scale: LossScale, factor: Any):
        # on the host unless JAX traces: seven small programs would otherwise be compiled, or found in a cache, for it
        xp = jnp if traced(sigma_yx, sigma_xx, trace_yy, factor) else np
        sigma_yx = xp.asarray(sigma_yx, dtype=float)
        self.scale = scale
        factor, root = xp.asarray(factor, dtype=sigma_yx.dtype), None
        if sigma_xx is None:
            optimum = targets = sigma_yx
        else:
            sigma_xx = xp.asarray(sigma_xx, dtype=sigma_yx.dtype)
            sigma_xx = (sigma_xx + sigma_xx.T) / 2  # so that its derivative is that of a symmetric matrix
            root, inverse, _ = psd_root(sigma_xx)
            targets = sigma_yx @ inverse
            optimum = targets @ inverse
        explained = xp.sum(targets**2)
        total = explained if trace_yy is None else xp.asarray(trace_yy, dtype=sigma_yx.dtype)
        minimum = factor / 2 * xp.maximum(total - explained, 0.0)
        numbers = optimum, minimum, factor, sigma_xx, root
        self.optimum, self.minimum, self.factor, self._sigma_xx, self._root_xx = jax.tree.map(on_device, numbers)

    @classmethod
    def of(cls, X: Any, Y: Any = None, scale: LossScale = HALF_MEAN) -> "SquaredError":
        """Squared error of samples in rows, X (n, d_x) and Y (n, d_y); nothing is centred.

        A `tasks.Task` or `Moments` in the place of X has its own outputs. Raises `ValueError` for samples that are not
        finite numbers in matching rows.

        >>> SquaredError.of([[1.0], [2.0]], [[2.0], [4.0]]).optimum.tolist()
        [[2.0]]
        """
        if not traced(X, Y):
            return cls.from_data(Moments.of(X, Y), scale)
        X, Y = jnp.asarray(X, dtype=float), jnp.asarray(Y, dtype=float)
        check_samples(*(np.broadcast_to(0.0, array.shape) for array in (X, Y)))  # their shapes
        Y, n = Y.reshape(len(X), -1), len(X)
        return cls.from_moments(Y.T @ X / n, X.T @ X / n, jnp.sum(Y**2) / n, scale, n)

    @classmethod
    def from_data(cls, moments: Moments, scale: LossScale = HALF_MEAN) -> "SquaredError":
        """Squared error of `data.Moments`; raises `ValueError` where a sum scale meets an unknown sample count."""
        return cls.from_moments(moments.sigma_yx, moments.sigma_xx, moments.trace_yy, scale, moments.count)

    @classmethod
    def from_moments(
        cls,
        sigma_yx: Any,
        sigma_xx: Any = None,
        trace_yy: Any = None,
        scale: LossScale = HALF_MEAN,
        count: int | None = None,
    ) -> "SquaredError":
        """Squared error with given E[y x^T], E[x x^T] and E[|y|^2].

        `sigma_xx=None`: whitened inputs (identity). `trace_yy=None`: the minimum is zero. `count`: samples, which the
        sum scales need. Raises `ValueError` for shapes that do not fit, a sigma_xx that is no covariance, a sigma_yx
        that correlates with inputs of no variance.
        """
        if not traced(sigma_yx, sigma_xx, trace_yy):
            moments = Moments.given(sigma_yx, sigma_xx, trace_yy, count)
            _check_range(moments)
            identity = np.array_equal(moments.sigma_xx, np.eye(moments.d_x))
            sigma_yx, sigma_xx = moments.sigma_yx, None if identity else moments.sigma_xx
        return cls(sigma_yx, sigma_xx, trace_yy, scale, scale.factor(count, jnp.shape(sigma_yx)[0]))

    @classmethod
    def from_singular_values(cls, s: Any, d_x: int, d_y: int, scale: LossScale = HALF_MEAN) -> "SquaredError":
        r"""The survey's $\frac12 \|\Sigma - W\|_F^2$ with $\Sigma$ = diag(s), shape (d_y, d_x), zero elsewhere.

        Raises `ValueError` for more singular values than min(d_x, d_y), negative ones, and sum scales.

        >>> SquaredError.from_singular_values([3.0], d_x=2, d_y=1).sigma_yx.tolist()
        [[3.0, 0.0]]

        Source: Altafini, eqs. (5) and (6).
        """
        is_traced = traced(s)
        s = floats("s", s, instead="singular values are finite and at least 0")
        d_x, d_y = whole("d_x", d_x, 1), whole("d_y", d_y, 1)
        if s.ndim != 1 or not 1 <= s.size <= min(d_x, d_y):
            raise ValueError(f"`s`: has shape {s.shape}; give 1 to {min(d_x, d_y)} singular values")
        if not is_traced and (s < 0).any():
            raise ValueError(f"`s`: has the value {s.min():g}; singular values are finite and at least 0")
        return cls.from_moments((np.eye(d_y, s.size) * s[None, :]) @ np.eye(s.size, d_x), scale=scale)

    def __call__(self, W: Matrix) -> Scalar:
        """Loss of the end-to-end matrix W (d_y, d_x)."""
        return self.minimum + self.excess(W)

    def excess(self, W: Matrix, max_rank: int | None = None) -> Scalar:
        r"""Loss above the smallest loss of a matrix of rank at most `max_rank` (None: any rank); at least 0.

        For a bottleneck, $\frac{c}{2} \big(\|(W - W_r) R\|^2 - 2 \langle W R, (W^* - W_r) R \rangle\big)$ with $W_r$
        the best matrix of that rank and $R = \Sigma_{xx}^{1/2}$.
        """
        if max_rank is None or max_rank >= min(W.shape):
            return self.factor / 2 * jnp.sum(self._rooted(W - self.optimum) ** 2)
        best, rest = self._split(max_rank)
        reached = self._rooted(W)
        return self.factor / 2 * jnp.maximum(jnp.sum((reached - best) ** 2) - 2 * jnp.sum(reached * rest), 0.0)

    def gradient(self, W: Matrix) -> Matrix:
        r"""$\nabla L(W) = c (W - W^*) \Sigma_{xx}$, shape (d_y, d_x)."""
        residual = self.factor * (W - self.optimum)
        return residual if self._sigma_xx is None else product(residual, self._sigma_xx)

    def hessian_vector(self, W: Matrix, V: Matrix) -> Matrix:
        r"""$\nabla^2 L(W)[V] = c V \Sigma_{xx}$, shape (d_y, d_x), the same at every W."""
        moved = self.factor * V
        return moved if self._sigma_xx is None else product(moved, self._sigma_xx)

    @property
    def sigma_xx(self) -> Array:
        """E[x x^T], shape (d_x, d_x)."""
        return jnp.eye(self.optimum.shape[1]) if self._sigma_xx is None else self._sigma_xx

    @property
    def root_xx(self) -> Array:
        r"""The symmetric root of E[x x^T], shape (d_x, d_x)."""
        return jnp.eye(self.optimum.shape[1]) if self._root_xx is None else self._root_xx

    @property
    def sigma_yx(self) -> Array:
        """E[y x^T], shape (d_y, d_x)."""
        return self.optimum if self._sigma_xx is None else self.optimum @ self._sigma_xx

    @property
    def whitened(self) -> bool:
        """Whether sigma_xx is the identity exactly."""
        return self._sigma_xx is None

    @property
    def modes(self) -> Modes:
        """Singular value decomposition of sigma_yx with fixed signs: the modes, largest first."""
        return Modes(*thin_svd(self.sigma_yx))

    def minimum_at_rank(self, max_rank: int) -> Scalar:
        r"""Smallest loss of a matrix of rank at most `max_rank`: $L_{\min} + \frac{c}{2} \sum_{k > r} \sigma_k^2$.

        $\sigma_k$ are the singular values of $\Sigma_{yx} \Sigma_{xx}^{+1/2}$.

        >>> float(SquaredError.from_singular_values([3.0, 1.0], 2, 2).minimum_at_rank(1))
        0.5

        Source: reduced-rank regression, Izenman (1975), J. Multivariate Analysis 5, theorem 1.
        """
        return self.minimum + self.factor / 2 * jnp.sum(self._split(max_rank)[1] ** 2)

    def optimum_at_rank(self, max_rank: int) -> Matrix:
        """A matrix of rank at most `max_rank` with the smallest loss (unique if singular values differ there)."""
        if whole("max_rank", max_rank, 0) >= min(self.optimum.shape):
            return self.optimum
        best, _ = self._split(max_rank)
        return best if self._sigma_xx is None else best @ psd_root(self._sigma_xx)[1]

    def _rooted(self, W: Matrix) -> Matrix:
        return W if self._root_xx is None else product(W, self._root_xx)

    def _split(self, max_rank: int) -> tuple[Array, Array]:
        """W* R in its best part of rank `max_rank` and the rest."""
        max_rank = whole("max_rank", max_rank, 0)
        full = self._rooted(self.optimum)
        nothing = jnp.zeros_like(full)
        if max_rank == 0:
            return nothing, full
        if max_rank >= min(full.shape):
            return full, nothing
        U, s, V = thin_svd(full)
        kept = jnp.arange(s.shape[0]) < max_rank
        return from_svd(U, jnp.where(kept, s, 0.0), V), from_svd(U, jnp.where(kept, 0.0, s), V)

    def __repr__(self) -> str:
        d_y, d_x = jnp.shape(self.optimum)[-2:]
        return f"SquaredError({d_x} inputs -> {d_y} outputs, {self.scale}{', whitened' if self.whitened else ''})"


def _check_range(moments: Moments) -> None:
    """`ValueError` if y correlates with inputs that never occur: the loss would have no minimum."""
    whitening = Whitening.of(moments.sigma_xx) if np.any(moments.sigma_xx) else None
    seen = 0 if whitening is None else moments.sigma_yx @ whitening.transform.T @ whitening.inverse.T
    outside = float(np.linalg.norm(moments.sigma_yx - seen))
    if outside > 1e-6 * max(float(np.linalg.norm(moments.sigma_yx)), 1e-300):
        raise ValueError(
            f"`sigma_yx`: a part of norm {outside:.3g} lies along inputs whose sigma_xx is zero; "
            "no data have such moments"
        )
