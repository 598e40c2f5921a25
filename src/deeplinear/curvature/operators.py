"""The Hessian and its Gauss-Newton part as operators on networks."""

from typing import Any

import equinox as eqx
import jax

from .._arguments import checks_arguments
from .._types import Array
from ..network import Network
from .arguments import Point, checked, direction_of, masked
from .chain import Chain, Layer, chain_of, gradient_at, oriented


class Operator(eqx.Module):
    """A symmetric operator on the directions of a network: `operator(V)` is a `Network` of the same widths.

    Made by `hessian_operator` and `gauss_newton_operator`. A pytree that holds what does not depend on V, so that many
    products at one point cost two gradients each; works under `jit`, `vmap` and `grad`.

    >>> from deeplinear import SquaredError
    >>> operator = hessian_operator(SquaredError.from_moments([[2.0]]), Network([[[0.0]], [[0.0]]]))
    >>> operator.size, operator(Network([[[1.0]], [[0.0]]])).weights[1].tolist()
    (2, [[-2.0]])
    """

    point: Point
    chain: Chain

    @property
    def size(self) -> int:
        """Number of weights that learn: the dimension of the space on which it acts."""
        return self.point.learning

    def __call__(self, V: Network) -> Network:
        """The product with a direction; raises `ValueError` for other widths."""
        V = direction_of(self.point, V)
        images = applied(self.point, self.chain, [Layer(D, None) for D in oriented(self.point, V.weights)])
        image = jax.tree.unflatten(jax.tree.structure(V), oriented(self.point, tuple(layer.X for layer in images)))
        if self.point.weight_decay is not None:
            image = jax.tree.map(lambda I, D: I + self.point.weight_decay * D, image, V)
        return masked(self.point.mask, image)


def applied(point: Point, chain: Chain, layers: list[Layer]) -> list[Layer]:
    """The Hessian without decay and mask, in the chain's coordinates."""
    changes = chain.variation(layers)
    return chain.image(layers, changes, d_gradient(point, chain.W, changes[0]))


def d_gradient(point: Point, W: Array, dW: Array) -> Array:
    """The objective's own second derivative at W along dW, for the oriented chain."""
    return jax.jvp(lambda at: gradient_at(point, at), (W,), (dW,))[1]


@checks_arguments
def hessian_operator(
    objective: Any, network: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> Operator:
    r"""The Hessian of $L(W_h \cdots W_1) + \frac{\gamma}{2} \sum_j \|W_j\|^2$ in all weights, as an `Operator`.

    $(H V)_j = S_j^T dR_j + dS_j^T R_j + \gamma V_j$ with $S_j = W_h \cdots W_{j+1}$, $R_j = \nabla L(W) W_1^T \cdots
    W_{j-1}^T$ and their first variations along V, by two sweeps along the thinner outer side. `objective` is any JAX
    function of W; its own second derivative comes from its `gradient` where it has one, else from JAX. `mask`: a
    `Network` of booleans; entries that are False are held, in V and in H V. `weight_decay`: $\gamma$.

    Raises `ValueError` for widths that do not fit, a mask of other widths, and a weight decay that is negative.

    >>> from deeplinear import SquaredError
    >>> operator = hessian_operator(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[3.0]]]), weight_decay=0.5)
    >>> [W.tolist() for W in operator(Network([[[1.0]], [[0.0]]])).weights]
    [[[9.5]], [[4.0]]]

    Source: Pearlmutter (1994), Neural Computation 6, eq. (1), written out for a product of matrices.
    """
    point = checked(objective, network, mask, weight_decay)
    return Operator(point, chain_of(point))


@checks_arguments
def gauss_newton_operator(
    objective: Any, network: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> Operator:
    r"""The Gauss-Newton part $B^T \nabla^2 L(W) B + \gamma$ of the Hessian, $B V = \sum_j W_{h:j+1} V_j W_{j-1:1}$.

    Positive semidefinite for a convex objective, and the whole Hessian where $\nabla L(W) = 0$. Arguments and errors
    as of `hessian_operator`.

    >>> from deeplinear import SquaredError
    >>> operator = gauss_newton_operator(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[3.0]]]))
    >>> [W.tolist() for W in operator(Network([[[1.0]], [[0.0]]])).weights]
    [[[9.0]], [[3.0]]]

    Source: Schraudolph (2002), Neural Computation 14, section 3.
    """
    point = checked(objective, network, mask, weight_decay)
    return Operator(point, chain_of(point, with_residual=False))


@checks_arguments
def hvp(
    objective: Any, network: Network, V: Network, *, mask: Network | None = None, weight_decay: Any = 0.0
) -> Network:
    """Hessian of the loss times a direction V (a `Network` of the same widths); see `hessian_operator`.

    Costs at most three gradients; for many products at one point keep the operator.

    >>> from deeplinear import SquaredError
    >>> network = Network([[[0.0]], [[0.0]]])
    >>> hvp(SquaredError.from_moments([[2.0]]), network, Network([[[1.0]], [[0.0]]])).weights[1].tolist()
    [[-2.0]]

    Source: Pearlmutter (1994), Neural Computation 6, eq. (1).
    """
    return _hvp(checked(objective, network, mask, weight_decay), V)


@eqx.filter_jit
def _hvp(point: Point, V: Network) -> Network:
    return Operator(point, chain_of(point))(V)
