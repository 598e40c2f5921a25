"""Vector fields of the gradient flow, evaluated along the thinner outer side of the chain."""

from typing import Any

import jax
import jax.numpy as jnp

from .._linalg import are_fused, chain, product
from .._types import Array
from ..network import Network
from ..objectives import gradient_of


def velocity(
    objective: Any, network: Network, mask: Network | None = None, weight_decay: Any = None, rates: Any = None
) -> Network:
    r"""$\dot W_j = \eta_j (W_{j+1:h}^T (-\nabla L(W)) W_{1:j-1}^T - \gamma_j W_j)$, zero where `mask` is False.

    `weight_decay` and `rates`: one number, or one for every layer; None for 0 and 1.

    Products are accumulated from the outer side with fewer rows, so that no d_j x d_x matrix is formed between wide
    inputs and few outputs: cost min(d_x, d_y) sum_j d_j d_{j-1} up to a small factor, 4 to 5 times less than
    reverse-mode differentiation of the chain on 784-128-128-10. Where few entries are observed of what a thin network
    maps (`MatrixCompletion.gradient_between`), no d_y x d_x matrix is formed at all: the network falls into two at its
    thinnest layer, and each half sees the gradient times the other.

    >>> from deeplinear import Network, SquaredError
    >>> velocity(SquaredError.from_moments([[2.0]]), Network([[[1.0]], [[1.0]]])).weights[0].tolist()
    [[1.0]]

    Source: the gradient of a product; Arora, Cohen and Hazan (2018), eq. (4).
    """
    weights, cut = network.weights, _cut(objective, network)
    if cut is None:
        slopes = _along(weights, -gradient_of(objective)(network.end_to_end))
    else:
        below, above = objective.gradient_between(chain(weights[cut:]), chain(weights[:cut]))
        slopes = _along(weights[:cut], -below) + _along(weights[cut:], -above)
    if weight_decay is not None:
        decays = jnp.broadcast_to(weight_decay, (len(weights),))
        slopes = [slope - decay * W for slope, W, decay in zip(slopes, weights, decays, strict=True)]
    if rates is not None:
        slopes = [rate * slope for rate, slope in zip(jnp.broadcast_to(rates, (len(weights),)), slopes, strict=True)]
    if mask is not None:
        slopes = [jnp.where(m, slope, 0.0) for m, slope in zip(mask.weights, slopes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(network), slopes)


def _cut(objective: Any, network: Network) -> int | None:
    """Layers up to the thinnest hidden one, where the objective wants the network as two factors; else None."""
    is_thin = getattr(objective, "is_thin", None)
    if is_thin is None or network.depth == 1 or are_fused():
        return None
    hidden = network.widths[1:-1]
    return hidden.index(min(hidden)) + 1 if is_thin(min(hidden)) else None


def _along(weights: tuple[Array, ...], residual: Array) -> list[Array]:
    """dW_j of the layers `weights` under `residual`, accumulated from the side with fewer rows."""
    return (_from_outputs if residual.shape[0] <= residual.shape[1] else _from_inputs)(weights, residual)


def sensitivity(network: Network) -> Array:
    """Sum over layers of the product of the other layers' norms: by how much the field can exceed the gradient in W."""
    norms = jnp.stack([jnp.sqrt(jnp.sum(W**2)) for W in network.weights])
    return jnp.sum(jnp.prod(jnp.where(jnp.eye(norms.size, dtype=bool), 1.0, norms[None, :]), axis=1))


def _from_outputs(weights: tuple[Array, ...], residual: Array) -> list[Array]:
    """dW_j = S_j^T R_j with S_j = W_h .. W_{j+1} (d_y, d_j) and R_j = residual W_1^T .. W_{j-1}^T (d_y, d_{j-1})."""
    rights = [residual]
    for W in weights[:-1]:
        rights.append(product(rights[-1], W.T))
    slopes, left = [rights[-1]], None
    for W, right in zip(weights[:0:-1], rights[-2::-1], strict=True):
        left = W if left is None else product(left, W)
        slopes.append(product(left.T, right))
    return slopes[::-1]


def _from_inputs(weights: tuple[Array, ...], residual: Array) -> list[Array]:
    """The transposed order: dW_j = L_j P_j^T, P_j = W_{j-1} .. W_1 (d_{j-1}, d_x), L_j = W_{j+1}^T .. residual."""
    transposed = _from_outputs(tuple(W.T for W in weights[::-1]), residual.T)
    return [slope.T for slope in transposed[::-1]]
