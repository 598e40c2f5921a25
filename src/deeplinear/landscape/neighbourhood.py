"""The set of critical points around one of them: its dimension, its tangent space, and how to walk along it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from .._arguments import checks_arguments
from ..curvature import hessian, loss
from ..network import Network
from .extraction import parameters
from .fibres import DENSE
from .forms import lifted
from .settling import relative_gradient

KERNEL = 1e-9
"""Hessian eigenvalues below this share of the largest count as zero."""
CRITICAL = 1e-6
"""Gradient norm, relative to Hessian and weights, up to which a network counts as a critical point."""
EXACT = 1e-10
"""Relative gradient up to which given blocks make a critical point."""
PROBE = 1e-3
"""Step along a tangent direction, relative to the weights, from which a smooth set is met again at second order."""


class CriticalSet(NamedTuple):
    """The critical points in a neighbourhood of one.

    >>> from deeplinear import SquaredError
    >>> critical_set(SquaredError.from_moments([[2.0]]), Network([[[2.0]], [[1.0]]])).orbit_dimension
    1
    """

    dimension: int | None
    """Dimension of the set where it is smooth; None where it crosses itself or a cusp and `tangent` is only a bound."""
    tangent: Network
    """Orthonormal directions that span the kernel of the Hessian, weights (k, d_l, d_{l-1}); the tangent space where
    the set is smooth, larger elsewhere."""
    orbit_dimension: int
    """Dimension of the orbit of hidden changes of basis, a lower bound."""
    gap: tuple[float, float]
    """Modulus of the largest Hessian eigenvalue that counts as zero and of the smallest that does not."""


@checks_arguments
def critical_set(objective: Any, network: Network) -> CriticalSet:
    r"""Dimension and tangent space of the set of critical points at a critical point.

    Critical values are isolated, so the set is $M_c = \{\nabla L = 0, L = c\}$ nearby. Its tangent vectors lie in the
    kernel of the Hessian; they fill it where the set is smooth. That is tested: from a random step of size
    $\epsilon$ in the kernel, Newton's method across it must come back to the set within $O(\epsilon^2)$. All global
    minima pass where the loss is Morse-Bott: with simple singular values $M_0$ has dimension $N - r (d_x + d_y - r)$, r
    the largest rank that widths and data allow ($N - d_x d_y$ where that is full; $\Sigma$ invertible on the smaller
    side). The origin of three layers or more, where the axes of $M_c$ cross, does not.

    Any differentiable objective; N = number of weights at most 2000. Raises `ValueError` for more, and where the
    gradient is not zero to rounding.

    >>> from deeplinear import SquaredError
    >>> objective = SquaredError.from_moments([[2.0]])
    >>> critical_set(objective, Network([[[2.0]], [[1.0]]])).dimension  # the hyperbola w1 w2 = 2
    1
    >>> critical_set(objective, Network([[[0.0]], [[0.0]], [[0.0]]])).dimension is None  # three lines cross
    True

    Source: Altafini, propositions 3 and 15, whose bound $\dim M_c \ge \sum_l d_l^2$ fails for wide hidden layers.
    """
    local = _Local(objective, network)
    orbit = _orbit_dimension(network)
    H = local.hessian(local.origin)
    eigenvalues, vectors = np.linalg.eigh(H)
    size = np.abs(eigenvalues)
    reach = max(float(np.linalg.norm(local.origin)), 1.0)
    gradient = float(np.linalg.norm(local.gradient(local.origin)))
    if gradient > CRITICAL * max(size.max(), local.scale) * reach:
        raise ValueError(f"`network`: is not a critical point, its gradient has norm {gradient:.3g}; see `classify`")
    zero = size <= KERNEL * max(size.max(), local.scale * KERNEL)
    kernel = vectors[:, zero]
    gap = (float(size[zero].max(initial=0.0)), float(size[~zero].min(initial=np.inf)))
    tangent = jax.vmap(local.unravel)(jnp.asarray(kernel.T))
    smooth = kernel.shape[1] == orbit or _returns(local, vectors[:, ~zero], kernel, reach)
    return CriticalSet(kernel.shape[1] if smooth else None, tangent, orbit, gap)


@checks_arguments
def with_blocks(objective: Any, network: Network, Z: Sequence[Any]) -> Network:
    r"""The critical point with other blocks Z, in the bases of this one: same end-to-end matrix, perhaps another kind.

    `network` is a critical point, $W_l = P_l (A_l + Z_l) P_{l-1}^{-1}$ by `parameters`, `Z` = $(Z_1, \dots, Z_h)$ of
    the shapes in `parameters(...).blocks`; the columns of Z_1 at learned modes belong to the bases and have to be zero.
    Together with `change_basis` this reaches every critical point with that end-to-end matrix. Raises `ValueError` for
    other shapes and for blocks that make no critical point: $Z_{j-1} \cdots Z_1 \Sigma^T U_Q Z_h \cdots Z_{j+1} = 0$
    has to hold for every j, and $Z_h \cdots Z_1 = 0$.

    >>> from deeplinear import SquaredError
    >>> origin = Network([[[0.0]], [[0.0]], [[0.0]]])
    >>> moved = with_blocks(SquaredError.from_moments([[2.0]]), origin, [[[0.0]], [[5.0]], [[0.0]]])
    >>> [float(abs(W[0, 0])) for W in moved.weights]
    [0.0, 5.0, 0.0]

    Source: Altafini, eq. (33); the exact condition is ours.
    """
    found = parameters(objective, network)
    blocks = [np.asarray(block, dtype=float) for block in Z]
    shapes = [block.shape for block in found.blocks]
    if [block.shape for block in blocks] != shapes:
        raise ValueError(f"`Z`: got shapes {[block.shape for block in blocks]}; give {shapes}")
    frame = found.frame
    seen = blocks[0] @ frame.N[0]
    if np.linalg.norm(blocks[0]) > (1 + EXACT) * np.linalg.norm(seen) + EXACT:
        raise ValueError("`Z`: block 1 has entries at learned modes; they belong to the changes of basis and must be 0")
    point = frame.critical_point([seen, *blocks[1:]])
    if relative_gradient(frame.target, point) > EXACT * max(1.0, max(np.linalg.cond(P) for P, _ in frame.changes)):
        raise ValueError("`Z`: these blocks make no critical point; let two of them be zero")
    return Network(lifted(frame.target, point))


class _Local:
    """Gradient and Hessian as functions of the flat weights."""

    def __init__(self, objective: Any, network: Network):
        flat, self.unravel = jax.flatten_util.ravel_pytree(network)
        if flat.size > DENSE:
            raise ValueError(f"`network`: has {flat.size} weights; the Hessian is formed for at most {DENSE}")
        self.objective, self.origin = objective, np.asarray(flat)
        # what the loss amounts to when the weights vanish or have size 1: never zero for a loss that is not constant
        zero = jnp.zeros_like(network.end_to_end)
        self.scale = float(jnp.linalg.norm(jax.grad(objective)(zero))) + float(jnp.abs(loss(objective, network)))
        self._gradient = jax.jit(lambda x: jax.grad(lambda y: loss(objective, self.unravel(y)))(x))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._gradient(jnp.asarray(x)))

    def hessian(self, x: np.ndarray) -> np.ndarray:
        H = np.asarray(hessian(self.objective, self.unravel(jnp.asarray(x))))
        return (H + H.T) / 2


def _returns(local: _Local, normal: np.ndarray, kernel: np.ndarray, reach: float) -> bool:
    """Whether a random step in the kernel ends beside the set: Newton's method across the kernel finds it again.

    A generic kernel direction is tangent to the set only where the set is smooth and fills the kernel.
    """
    if not kernel.shape[1]:
        return True
    direction = kernel @ np.random.default_rng(0).standard_normal(kernel.shape[1])
    step = PROBE * reach * direction / np.linalg.norm(direction)
    x = local.origin + step
    for _ in range(4):
        across = normal.T @ local.hessian(x) @ normal
        x = x - normal @ np.linalg.solve(across, normal.T @ local.gradient(x))
    left = np.linalg.norm(local.gradient(x))
    away = np.linalg.norm(x - local.origin - step)
    # off a smooth set the gradient along the kernel stays: of order epsilon^2 at least, far above rounding
    return bool(left <= 1e-11 * local.scale * reach and away <= 0.1 * np.linalg.norm(step))


def _orbit_dimension(network: Network) -> int:
    r"""Rank of $(X_l) \mapsto (X_l W_l - W_l X_{l-1})$: dimension of the orbit of hidden changes of basis."""
    weights = [np.asarray(W) for W in network.weights]
    hidden = network.widths[1:-1]
    columns = []
    for l, d in enumerate(hidden):
        below, above = weights[l], weights[l + 1]
        for i in range(d):
            for j in range(d):
                column = [np.zeros_like(W) for W in weights]
                column[l][i] = below[j]
                column[l + 1][:, j] = -above[:, i]
                columns.append(np.concatenate([part.ravel() for part in column]))
    if not columns:
        return 0
    s = np.linalg.svd(np.stack(columns), compute_uv=False)
    return int(np.sum(s > KERNEL * s[0])) if s[0] > 0 else 0
