"""The squared error of a linear map: everything about it has a closed form."""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import floats, traced
from .._checks import check_whole
from .._linalg import as_numpy, from_svd, namespace, on_device, product, psd_root, rank_tolerance, thin_svd
from .._second_moment import SecondMoment
from .._trees import set_fields, value
from .._types import Matrix, Scalar
from ..conventions import HALF_MEAN, LossScale
from ..data import Fit, Modes, Moments, check_samples
from .arguments import as_map


@value("scale", init=False)
class SquaredError:
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
    variation: Scalar | None
    """Loss of the best constant, (c / 2) E|y - E y|^2: how much y varies. None: the means are not known."""
    _sigma_xx: Matrix | None
    _root_xx: Matrix | None
    scale: LossScale

    def __init__(
        self,
        optimum: Any,
        minimum: Any,
        factor: Any,
        sigma_xx: Any,
        root_xx: Any,
        scale: LossScale,
        variation: Any = None,
    ):
        parts = jax.tree.map(on_device, (optimum, minimum, factor, variation, sigma_xx, root_xx))
        names = "optimum", "minimum", "factor", "variation", "_sigma_xx", "_root_xx"
        set_fields(self, **dict(zip(names, parts, strict=True)), scale=scale)

    @classmethod
    def of(cls, X: Any, Y: Any = None, scale: LossScale = HALF_MEAN) -> "SquaredError":
        """Squared error of samples in rows, X (n, d_x) and Y (n, d_y); nothing is centred.

        A `tasks.Task` or `Moments` in the place of X has its own outputs. Raises `ValueError` for samples that are not
        finite numbers in matching rows.

        >>> SquaredError.of([[1.0], [2.0]], [[2.0], [4.0]]).optimum.round(14).tolist()
        [[2.0]]
        """
        if not traced(X, Y):
            return cls.from_data(Moments.of(X, Y), scale)
        X, Y = jnp.asarray(X, dtype=float), jnp.asarray(Y, dtype=float)
        check_samples(*(np.broadcast_to(0.0, array.shape) for array in (X, Y)))  # their shapes
        Y, n = Y.reshape(len(X), -1), len(X)
        spread = jnp.sum((Y - jnp.mean(Y, axis=0, keepdims=True)) ** 2) / n
        return cls.from_moments(Y.T @ X / n, X.T @ X / n, jnp.sum(Y**2) / n, scale, n, spread)

    @classmethod
    def from_data(cls, moments: Moments, scale: LossScale = HALF_MEAN) -> "SquaredError":
        """Squared error of `data.Moments`; raises `ValueError` where a sum scale meets an unknown sample count.

        Rank, optimum and minimum are decided in units in which every input has variance 1, so that they depend neither
        on units nor on offsets; see `Moments.remarks` for what float64 cannot tell.
        """
        spread = None if moments.mean_y is None else moments.variance_y
        return cls.from_fit(moments.fit(), scale, scale.factor(moments.count, moments.d_y), spread)

    @classmethod
    def from_fit(cls, fit: Fit, scale: LossScale, factor: Any, variance_y: float | None = None) -> "SquaredError":
        """Squared error from its best map and what is known of E[x x^T], with `factor` for the loss scale."""
        # on the host: seven small programs would otherwise be compiled, or found in a cache, for it
        factor, moment = np.asarray(factor, dtype=float), fit.moment
        identity = np.array_equal(fit.sigma_xx, np.eye(len(fit.sigma_xx)))
        known = None if identity or moment.graded else (fit.sigma_xx + fit.sigma_xx.T) / 2
        root = None if identity else moment.root
        variation = None if variance_y is None else factor / 2 * variance_y
        return cls(fit.optimum, factor / 2 * np.asarray(fit.unexplained or 0.0), factor, known, root, scale, variation)

    @classmethod
    def from_moments(
        cls,
        sigma_yx: Any,
        sigma_xx: Any = None,
        trace_yy: Any = None,
        scale: LossScale = HALF_MEAN,
        count: Any = None,
        variance_y: Any = None,
    ) -> "SquaredError":
        """Squared error with given E[y x^T], E[x x^T] and E[|y|^2].

        `sigma_xx=None`: whitened inputs (identity). `trace_yy=None`: the minimum is zero. `count`: samples, which the
        sum scales need. `variance_y`: E[|y - E y|^2], where known, against which a rest of the loss counts as small.
        Raises `ValueError` for shapes that do not fit, a sigma_xx that is no covariance, a sigma_yx that correlates
        with inputs of no variance, a `count` that is no positive whole number, and numbers whose squares leave float64.
        From samples use `of`: E[x x^T] has lost what is small beside the means.
        """
        if not traced(sigma_yx, sigma_xx, trace_yy):
            moments = Moments.given(sigma_yx, sigma_xx, trace_yy, count)
            _check_range(moments)
            return cls.from_fit(moments.fit(), scale, scale.factor(count, moments.d_y), variance_y)
        if count is not None:
            check_whole("count", count, 1)
        factor = scale.factor(count, jnp.shape(sigma_yx)[0])
        return cls._traced(sigma_yx, sigma_xx, trace_yy, scale, factor, variance_y)

    @classmethod
    def _traced(
        cls, sigma_yx: Any, sigma_xx: Any, trace_yy: Any, scale: LossScale, factor: Any, variance_y: Any
    ) -> "SquaredError":
        """The same inside `jit`, differentiable where sigma_xx keeps its rank, which is decided at unit diagonal."""
        sigma_yx, factor = jnp.asarray(sigma_yx, dtype=float), jnp.asarray(factor, dtype=float)
        optimum, targets, root = sigma_yx, sigma_yx, None
        if sigma_xx is not None:
            sigma_xx = jnp.asarray(sigma_xx, dtype=sigma_yx.dtype)
            sigma_xx = (sigma_xx + sigma_xx.T) / 2  # so that its derivative is that of a symmetric matrix
            occurs = jnp.diagonal(sigma_xx) > 0
            D = jnp.where(occurs, jnp.sqrt(jnp.where(occurs, jnp.diagonal(sigma_xx), 1.0)), 1.0)
            root, inverse, kernel = psd_root(sigma_xx / (D[:, None] * D[None, :]))
            targets, root = (sigma_yx / D[None, :]) @ inverse, D[:, None] * root
            # of least norm in the user's coordinates, where the kernel of sigma_xx is D^-1 times that at unit diagonal
            unseen = psd_root(kernel / (D[:, None] * D[None, :]))[2]
            optimum = (targets @ inverse / D[None, :]) @ unseen
        explained = jnp.sum(targets**2)
        total = explained if trace_yy is None else jnp.asarray(trace_yy, dtype=sigma_yx.dtype)
        minimum = factor / 2 * jnp.maximum(total - explained, 0.0)
        variation = None if variance_y is None else factor / 2 * jnp.asarray(variance_y, dtype=sigma_yx.dtype)
        return cls(optimum, minimum, factor, sigma_xx, root, scale, variation)

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
        d_x, d_y = check_whole("d_x", d_x, 1), check_whole("d_y", d_y, 1)
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
        W = as_map(W, self.optimum.shape)
        if max_rank is None or max_rank >= min(W.shape):
            return self.factor / 2 * (self._rooted(W - self.optimum) ** 2).sum()
        best, rest = self._split(max_rank)
        reached = self._rooted(W)
        return self.factor / 2 * (((reached - best) ** 2).sum() - 2 * (reached * rest).sum()).clip(0.0)

    def gradient(self, W: Matrix) -> Matrix:
        r"""$\nabla L(W) = c (W - W^*) \Sigma_{xx}$, shape (d_y, d_x)."""
        return self._weighted(self.factor * (as_map(W, self.optimum.shape) - self.optimum))

    def hessian_vector(self, W: Matrix, V: Matrix) -> Matrix:
        r"""$\nabla^2 L(W)[V] = c V \Sigma_{xx}$, shape (d_y, d_x), the same at every W."""
        return self._weighted(self.factor * as_map(V, self.optimum.shape, "V"))

    @property
    def sigma_xx(self) -> Matrix:
        """E[x x^T], shape (d_x, d_x)."""
        if self._root_xx is None:
            return namespace(self.optimum).eye(self.optimum.shape[1])
        return self._root_xx @ self._root_xx.T if self._sigma_xx is None else self._sigma_xx

    @property
    def root_xx(self) -> Matrix:
        r"""A matrix R with $R R^T$ = E[x x^T], shape (d_x, d_x): what is accurate where E[x x^T] is ill-conditioned.

        The symmetric root where the variances of the inputs' principal directions lie within a factor 1e6.
        """
        return namespace(self.optimum).eye(self.optimum.shape[1]) if self._root_xx is None else self._root_xx

    @property
    def sigma_yx(self) -> Matrix:
        """E[y x^T], shape (d_y, d_x)."""
        return self._weighted(self.optimum)

    @property
    def whitened(self) -> bool:
        """Whether sigma_xx is the identity exactly."""
        return self._root_xx is None

    @property
    def graded(self) -> bool:
        """Whether E[x x^T] is so ill-conditioned that only its root is kept, and products go through that."""
        return self._sigma_xx is None and self._root_xx is not None

    @cached_property
    def on_host(self) -> "SquaredError":
        """The same with numpy's arrays: its methods then compute in numpy."""
        return self if isinstance(self.optimum, np.ndarray) else as_numpy(self)

    @cached_property
    def second_moment(self) -> SecondMoment:
        """What is known of E[x x^T]: rank, variances, axes; on the host."""
        if self._sigma_xx is not None:
            return SecondMoment.of(np.asarray(self._sigma_xx))
        return SecondMoment.of_root(np.asarray(self.root_xx))

    @property
    def input_spectrum(self) -> tuple[Any, Any]:
        """Eigenvalues of E[x x^T], ascending and exactly 0 for inputs that never occur, and eigenvectors in columns."""
        d_x, xp, root = self.optimum.shape[1], namespace(self.optimum), self.root_xx
        if self.whitened:
            return xp.ones(d_x), xp.eye(d_x)
        if not traced(root):
            spectrum = self.second_moment.spectrum
            return spectrum if xp is np else jax.tree.map(on_device, spectrum)
        variances, Q = jnp.linalg.eigh(self.sigma_xx)
        D = jnp.linalg.norm(root, axis=1)
        s = jnp.linalg.svd(root / jnp.where(D > 0, D, 1.0)[:, None], compute_uv=False)
        occurs = jnp.arange(d_x) >= d_x - jnp.sum(s**2 > rank_tolerance(d_x) * s[0] ** 2)
        return jnp.where(occurs, variances, 0.0), Q

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
        return self.minimum + self.factor / 2 * (self._split(max_rank)[1] ** 2).sum()

    def optimum_at_rank(self, max_rank: int) -> Matrix:
        """A matrix of rank at most `max_rank` with the smallest loss (unique if singular values differ there)."""
        if check_whole("max_rank", max_rank, 0) >= min(self.optimum.shape):
            return self.optimum
        if max_rank <= 0:
            return self._split(max_rank)[0]
        U = thin_svd(self._rooted(self.optimum))[0][:, :max_rank]
        return U @ (U.T @ self.optimum)

    def _rooted(self, W: Matrix) -> Matrix:
        return W if self._root_xx is None else product(W, self._root_xx)

    def _weighted(self, W: Matrix) -> Matrix:
        """W E[x x^T], through the factor where the product with E[x x^T] would lose the small variances."""
        if self._sigma_xx is not None:
            return product(W, self._sigma_xx)
        return W if self._root_xx is None else product(product(W, self._root_xx), self._root_xx.T)

    def _split(self, max_rank: int) -> tuple[Any, Any]:
        """W* R in its best part of rank `max_rank` and the rest."""
        max_rank = check_whole("max_rank", max_rank, 0)
        full = self._rooted(self.optimum)
        nothing = 0 * full
        if max_rank == 0:
            return nothing, full
        if max_rank >= min(full.shape):
            return full, nothing
        U, s, V = thin_svd(full)
        return from_svd(U[:, :max_rank], s[:max_rank], V[:, :max_rank]), from_svd(
            U[:, max_rank:], s[max_rank:], V[:, max_rank:]
        )

    def __repr__(self) -> str:
        d_y, d_x = jnp.shape(self.optimum)[-2:]
        return f"SquaredError({d_x} inputs -> {d_y} outputs, {self.scale}{', whitened' if self.whitened else ''})"


def _check_range(moments: Moments) -> None:
    r"""`ValueError` if y correlates with inputs that never occur: the loss would have no minimum.

    Each input counts in units of its own size. Data have at most $(\lambda E[|y|^2])^{1/2}$ along a direction of
    variance $\lambda$, which is rounding along those that the rank leaves out.
    """
    units = np.sqrt(np.diagonal(moments.covariance_xx).clip(min=0))
    units = np.where(units > 0, units, 1.0)
    given = moments.covariance_yx / units
    outside = float(np.linalg.norm(given - moments.fit().images @ (moments.fit().moment.factor / units[:, None]).T))
    size = float(np.linalg.norm(given)) if moments.variance_y is None else np.sqrt(moments.variance_y)
    if outside > 1e-6 * max(size, 1e-300):
        raise ValueError(
            f"`sigma_yx`: a part of norm {outside:.3g} lies along inputs whose sigma_xx is zero (each in units of its "
            "size); no data have such moments"
        )
