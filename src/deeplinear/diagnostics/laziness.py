"""How far a run has left its start: the measures that tell lazy from rich learning."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.tree_util import Partial

from .._arguments import check_ends, checks_arguments
from .._types import Array, Scalar
from ..network import Network
from .labels import labelled
from .tangent import TangentKernel, ntk


@checks_arguments
def kernel_distance(start: Network) -> Callable[[Network], Scalar]:
    r"""Relative distance $\|K - K_0\|_F / \|K_0\|_F$ of the tangent kernel from that of `start`.

    Stays near 0 in the lazy regime. NaN if the kernel of `start` is zero.

    >>> start = Network([[[1.0]], [[1.0]]])
    >>> float(kernel_distance(start)(Network([[[2.0]], [[1.0]]])))
    1.5

    Source: Domine et al. (2025); Fort et al. (2020).
    """
    label = labelled((), "distance of the tangent kernel from its start, |K - K0| / |K0|")
    return label(Partial(_distance, ntk(start)))


@checks_arguments
def kernel_alignment(start: Network) -> Callable[[Network], Scalar]:
    r"""Cosine $\langle K, K_0 \rangle / (\|K\|_F \|K_0\|_F)$ of the tangent kernel with that of `start`.

    1 as long as the kernel only grows or shrinks; NaN where a kernel is zero.

    >>> start = Network([[[1.0]], [[1.0]]])
    >>> round(float(kernel_alignment(start)(Network([[[2.0]], [[1.0]]]))), 12)
    1.0

    Source: Baratin et al. (2021); Domine et al. (2025).
    """
    label = labelled((), "alignment of the tangent kernel with its start, cosine")
    return label(Partial(_alignment, ntk(start)))


def kernel_task_alignment(objective: Any) -> Callable[[Network], Scalar]:
    r"""Alignment of the tangent kernel with the task, $\langle y, K_X y \rangle / (\|K_X\|_F \|y\|^2)$.

    $K_X$ is the kernel on the samples and y what a linear map can learn of the targets, $Y = X W^{*T}$; computed
    without samples as $\langle S, K S \rangle / (\|R K R\|_F \|W^* R\|_F^2)$ with $S = \Sigma_{yx}$, $R =
    \Sigma_{xx}^{1/2}$ on the side of the inputs. For whitened inputs this is $\langle S, K S \rangle / (\|K\|_F
    \|S\|_F^2)$. Between 0 and 1; NaN for a kernel or a task of zero. `objective` is a `SquaredError`.

    >>> from deeplinear import SquaredError
    >>> task = SquaredError.from_moments([[2.0, 0.0], [0.0, 0.0]])
    >>> float(kernel_task_alignment(task)(Network([[[1.0, 0.0], [0.0, 1.0]]])))
    0.5

    Source: kernel-target alignment, Cristianini et al. (2001).
    """
    root = objective.root_xx
    size = jnp.sum((objective.optimum @ root) ** 2)
    label = labelled((), "alignment of the tangent kernel with the task")
    return label(Partial(_task_alignment, objective.sigma_yx, root, size))


@checks_arguments
def weight_movement(start: Network) -> Callable[[Network], Scalar]:
    r"""Relative movement of all weights, $\|\theta - \theta_0\| / \|\theta_0\|$; NaN if `start` is zero.

    >>> start = Network([[[3.0]], [[4.0]]])
    >>> float(weight_movement(start)(Network([[[3.0]], [[9.0]]])))
    1.0

    Source: Chizat, Oyallon and Bach (2019).
    """
    label = labelled((), "movement of the weights, |theta - theta0| / |theta0|")
    return label(Partial(_movement, start))


@checks_arguments
def _distance(start: TangentKernel, network: Network) -> Scalar:
    return _ratio(ntk(network).distance(start), start.norm)


@checks_arguments
def _alignment(start: TangentKernel, network: Network) -> Scalar:
    return ntk(network).alignment(start)


@checks_arguments
def _task_alignment(sigma_yx: Array, root: Array, size: Array, network: Network) -> Scalar:
    check_ends(network, sigma_yx.shape[1], sigma_yx.shape[0])
    kernel = ntk(network)
    along = jnp.sum(sigma_yx * kernel.matvec(sigma_yx))
    return _ratio(along, TangentKernel(kernel.outputs, root.T @ kernel.inputs @ root).norm * size)


@checks_arguments
def _movement(start: Network, network: Network) -> Scalar:
    pairs = list(zip(network.weights, start.weights, strict=True))
    return _ratio(_norm([W - W0 for W, W0 in pairs]), _norm([W0 for _, W0 in pairs]))


def _norm(weights: list[Array]) -> Scalar:
    return jnp.sqrt(sum((jnp.sum(W**2) for W in weights), start=jnp.zeros(())))


def _ratio(part: Array, whole: Array) -> Scalar:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), jnp.nan)
