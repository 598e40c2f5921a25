"""The loss and its second variation along a direction, in closed form."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from .._arguments import checks_arguments
from .._linalg import product
from .._types import Array, Matrix, Scalar
from ..network import Network
from .arguments import Point, checked, direction_of
from .chain import flip, gradient_at, oriented
from .operators import d_gradient


class Variations(NamedTuple):
    r"""The product $W(\epsilon) = W + \epsilon \rho_1 + \epsilon^2 \rho_2 + O(\epsilon^3)$ along a direction.

    >>> variations(Network([[[2.0]], [[3.0]]]), Network([[[1.0]], [[0.0]]])).rho_1.tolist()
    [[3.0]]
    """

    W: Matrix
    rho_1: Matrix
    rho_2: Matrix


@checks_arguments
def loss(objective: Any, network: Network, weight_decay: Any = 0.0) -> Scalar:
    r"""The objective at the network's end-to-end matrix, plus $\frac{\gamma}{2} \sum_j \|W_j\|^2$ with weight decay.

    >>> from deeplinear import SquaredError
    >>> float(loss(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[1.0]]])))
    0.5
    """
    value = objective(network.end_to_end)
    if not isinstance(weight_decay, jax.Array) and not weight_decay:
        return value
    return value + weight_decay / 2 * sum(jnp.sum(W**2) for W in network.weights)


@checks_arguments
def variations(network: Network, V: Network) -> Variations:
    r"""First and second variation of the product $W_h \cdots W_1$ along V.

    $$ \rho_1 = \sum_j W_{h:j+1} V_j W_{j-1:1}, \qquad
       \rho_2 = \sum_{i > j} W_{h:i+1} V_i W_{i-1:j+1} V_j W_{j-1:1} $$

    both (d_y, d_x), in one sweep over the layers from the thinner side. Raises `ValueError` for other widths.

    >>> network, V = Network([[[2.0]], [[3.0]]]), Network([[[1.0]], [[1.0]]])
    >>> [float(rho[0, 0]) for rho in variations(network, V)]
    [6.0, 5.0, 1.0]

    Source: Altafini, eqs. (20) and (21), blocks of the adjacency matrix written out.
    """
    point = checked(lambda W: 0.0, network)
    return _variations(point.network.weights, direction_of(point, V).weights)


@checks_arguments
def quadratic_form(
    objective: Any, network: Network, V: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> Scalar:
    r"""Second derivative of the loss along a direction: $\frac{d^2}{d\epsilon^2} L(W + \epsilon V)$ at 0, without 1/2.

    $$ \mathfrak{h}(V) = \langle \rho_1, \nabla^2 L(W)[\rho_1] \rangle + 2 \langle \nabla L(W), \rho_2 \rangle
       + \gamma \|V\|^2 $$

    with `variations` $\rho_1$, $\rho_2$; equal to $\langle V, H V \rangle$ with the Hessian H, at any point and for any
    twice differentiable objective of the end-to-end matrix. `mask`: entries of V that are held count as 0;
    `weight_decay`: $\gamma$. Costs less than two gradients. JAX code. Raises `ValueError` for widths that do not fit.

    >>> from deeplinear import SquaredError
    >>> V = Network([[[1.0]], [[1.0]]])
    >>> float(quadratic_form(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]), V))
    -4.0

    Source: Altafini, eq. (22), for any objective and any inputs.
    """
    point = checked(objective, network, mask, weight_decay)
    return _quadratic_form(point, direction_of(point, V))


@eqx.filter_jit
def _quadratic_form(point: Point, V: Network) -> Scalar:
    W, rho_1, rho_2 = _sweep(oriented(point, point.network.weights), oriented(point, V.weights))
    value = jnp.sum(rho_1 * d_gradient(point, W, rho_1)) + 2 * jnp.sum(gradient_at(point, W) * rho_2)
    if point.weight_decay is not None:
        value = value + point.weight_decay * sum(jnp.sum(D**2) for D in V.weights)
    return value


@jax.jit
def _variations(weights: tuple[Array, ...], directions: tuple[Array, ...]) -> Variations:
    if weights[-1].shape[0] <= weights[0].shape[1]:
        return _sweep(weights, directions)
    return Variations(*[rho.T for rho in _sweep(flip(weights), flip(directions))])


def _sweep(weights: tuple[Array, ...], directions: tuple[Array, ...]) -> Variations:
    """Products of layers with none, one and two of them replaced, from the outputs down, one above the other."""
    n = weights[-1].shape[0]
    powers = jnp.concatenate([weights[-1], directions[-1], jnp.zeros_like(weights[-1])])
    for W, D in zip(weights[-2::-1], directions[-2::-1], strict=True):
        replaced = product(powers[: 2 * n], D)
        powers = product(powers, W) + jnp.concatenate([jnp.zeros((n, D.shape[1])), replaced])
    return Variations(powers[:n], powers[n : 2 * n], powers[2 * n :])
