"""The critical point beside a network that is nearly one."""

from collections.abc import Iterable, Iterator
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
STEPS, SLOW, FARTHER = 12, 0.7, 2.0
"""Gauss-Newton steps; the share of the gradient beyond which another does not pay; how much farther than the steps have
come a point of exact structure may be."""
DENSE, ITERATIONS, LARGEST = 400, 300, 5000
"""Weights up to which a step forms the Hessian; iterations beyond that; weights up to which steps are tried."""
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

    First way: Gauss-Newton steps on the gradient, damped by its own size, and the structure of a critical point once it
    is no farther away than the steps have come; they converge quadratically where the critical points are a manifold.
    Second way: that structure at once, with the fewest singular values of the blocks Z set to zero that make it
    critical.
    """
    exact = next(_structured(target, weights, (rank_tolerance, ROUNDING)), None)
    if exact is not None:
        return Nearest(exact, _distance(weights, exact))
    found = [_by_steps(target, weights, rank_tolerance), next(_structured(target, weights, THRESHOLDS), None)]
    points = [Nearest(point, _distance(weights, point)) for point in found if point is not None]
    return min(points, key=lambda point: point.distance, default=None)


def _by_steps(target: Target, weights: Weights, rank_tolerance: float) -> list[np.ndarray] | None:
    """Damped Gauss-Newton steps; None where they do not settle, and for networks too large for them."""
    here, before = list(weights), relative_gradient(target, weights)
    if sum(W.size for W in weights) > LARGEST:
        return None
    for _ in range(STEPS):
        here = _step(target, here, before)
        reach = FARTHER * _distance(weights, here)
        for point in _structured(target, here, (rank_tolerance, ROUNDING, *THRESHOLDS)):
            if _distance(weights, point) <= reach:
                return point
        after = relative_gradient(target, here)
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


def _structured(target: Target, weights: Weights, thresholds: Iterable[float]) -> Iterator[list[np.ndarray]]:
    """Critical points with the network's learned modes, blocks Z without what is below each threshold in turn.

    The end-to-end matrix is exactly that of the signature; thresholds at which products of Z do not vanish give
    nothing.
    """
    frame = Frame.of(target, weights)
    if frame.S.size > target.max_rank(tuple(W.shape[0] for W in weights)):
        return
    for threshold in thresholds:
        blocks = [_without_small(Z, threshold * scale) for Z, scale in zip(frame.Z, frame.scales, strict=True)]
        point = frame.critical_point(blocks)
        if relative_gradient(target, point) <= EXACT:
            yield point


def _without_small(Z: np.ndarray, threshold: float) -> np.ndarray:
    """Z without the singular values that are at most the threshold."""
    if not Z.size:
        return Z
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    return Z if s[-1] > threshold else (U[:, s > threshold] * s[s > threshold]) @ Vt[s > threshold]


def _distance(weights: Weights, point: Weights) -> float:
    return squared_norm([W - P for W, P in zip(weights, point, strict=True)]) ** 0.5
