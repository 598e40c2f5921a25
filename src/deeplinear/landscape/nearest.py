"""The critical point beside a network that is nearly one."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsqr

from .forms import Quadratic, Weights, apart, flat, squared_norm
from .frame import Frame, layer_sizes
from .target import Target

EXACT = 1e-12
"""Relative gradient at which weights count as critical to rounding; a change of basis multiplies rounding too."""
ROUNDING = 1e-13
"""Size, in units of the layer's, of what rounding leaves in blocks Z that are zero."""
STEPS = 15
SLOW = 0.3
"""Share of the gradient beyond which a step does not pay: quadratic convergence, or the structure finds it sooner."""
DENSE, ITERATIONS = 400, 300
"""Weights up to which a step forms the Hessian; iterations beyond that."""
THRESHOLDS = 10.0 ** np.arange(-7, 0)
"""Sizes, in units of the layer's, below which singular values of the blocks Z are tried as zero."""


class Nearest(NamedTuple):
    """A critical point and how far it is, in the target's coordinates."""

    weights: list[np.ndarray]
    distance: float


def relative_gradient(target: Target, weights: Weights) -> float:
    r"""Norm of the gradient, layer j in units of $\sigma_1 \prod_{k \ne j} \|W_k\|$; no scale of the loss enters.

    Where nothing is learned a layer counts with at least $\sigma_1^{1/h}$.
    """
    sizes = layer_sizes(target, weights)
    unit = target.sigma[0] if target.rank else 1.0
    gradient = normal_form(target).gradient(weights)
    shares = [np.linalg.norm(G) / (unit * np.prod(np.delete(sizes, j))) for j, G in enumerate(gradient)]
    return float(np.linalg.norm(shares))


def normal_form(target: Target) -> Quadratic:
    """The loss in the target's coordinates, half-mean scale."""
    return Quadratic(np.eye(target.d_x), target.matrix, 1.0)


def nearest_critical(target: Target, weights: Weights, rank_tolerance: float) -> Nearest | None:
    """A critical point close to the weights: the closer one of two found; None if neither way ends at one.

    First way: Gauss-Newton steps on the gradient, damped by its own size, each tried with blocks Z cleaned of rounding;
    it converges quadratically where the critical points are a manifold. Second way: the structure of a critical point
    of the network's signature, with singular values of Z below a threshold set to zero, the smallest threshold that
    does.
    """
    exact = _first_critical(target, weights, (rank_tolerance, ROUNDING))
    if exact is not None:
        return Nearest(exact, _distance(weights, exact))
    found = [_by_steps(target, weights, rank_tolerance), _first_critical(target, weights, THRESHOLDS)]
    points = [Nearest(point, _distance(weights, point)) for point in found if point is not None]
    return min(points, key=lambda point: point.distance, default=None)


def _by_steps(target: Target, weights: Weights, rank_tolerance: float) -> list[np.ndarray] | None:
    """Damped Gauss-Newton steps; None where they do not settle."""
    here, before = list(weights), relative_gradient(target, weights)
    for _ in range(STEPS):
        here = _step(target, here, before)
        after = relative_gradient(target, here)
        point = _first_critical(target, here, (rank_tolerance, ROUNDING))
        if point is not None:
            return point
        if not after < SLOW * before:
            return None
        before = after
    return None


def _step(target: Target, weights: list[np.ndarray], relative: float) -> list[np.ndarray]:
    """The smallest change that makes the linearised gradient small: (H^2 + mu^2)^{-1} H times minus the gradient."""
    loss, size = normal_form(target), sum(W.size for W in weights)
    sizes, gradient = layer_sizes(target, weights), flat(loss.gradient(weights))
    mu = 0.1 * min(relative, 1e-2) ** 0.5 * float(np.prod(sizes) / sizes.min()) ** 2
    if size <= DENSE:
        values, vectors = np.linalg.eigh(loss.hessian(weights))
        change = -vectors @ (values / (values**2 + mu**2) * (vectors.T @ gradient))
    else:
        times = lambda v: flat(loss.times(weights, apart(np.ravel(v), weights)))
        H = LinearOperator((size, size), matvec=times, rmatvec=times, dtype=float)  # pyright: ignore[reportCallIssue]
        change = lsqr(H, -gradient, damp=mu, atol=1e-14, btol=1e-14, iter_lim=ITERATIONS)[0]
    return [W + d for W, d in zip(weights, apart(change, weights), strict=True)]


def _first_critical(target: Target, weights: Weights, thresholds: Iterable[float]) -> list[np.ndarray] | None:
    """The critical point of the first threshold on the blocks Z at which their products vanish."""
    points = (_cleaned(target, weights, threshold) for threshold in thresholds)
    return next((point for point in points if point is not None), None)


def _cleaned(target: Target, weights: Weights, threshold: float) -> list[np.ndarray] | None:
    """The weights with the end-to-end matrix of their signature, and blocks without small parts; None if not
    critical."""
    frame = Frame.of(target, weights)
    if frame.S.size > target.max_rank(tuple(W.shape[0] for W in weights)):
        return None
    blocks = [_without_small(Z, threshold * scale) for Z, scale in zip(frame.Z, frame.scales, strict=True)]
    point = frame.critical_point(blocks)
    return point if relative_gradient(target, point) <= EXACT else None


def _without_small(Z: np.ndarray, threshold: float) -> np.ndarray:
    """Z without the singular values that are at most the threshold."""
    if not Z.size:
        return Z
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    return Z if s[-1] > threshold else (U[:, s > threshold] * s[s > threshold]) @ Vt[s > threshold]


def _distance(weights: Weights, point: Weights) -> float:
    return squared_norm([W - P for W, P in zip(weights, point, strict=True)]) ** 0.5
