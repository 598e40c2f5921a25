"""How many numbers the gradient flow conserves."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Int

from .._arguments import checks_arguments
from .._types import Array
from ..layer_rates import network_at_unit_rates
from ..network import Network
from .balance import imbalance
from .labels import labelled


@checks_arguments
def conservation_laws(widths: Sequence[int]) -> int:
    r"""Number of independent conserved quantities among the entries of all $C_l$, at almost every network.

    $\sum_{l=1}^{h-1} \big(\frac{d_l (d_l + 1)}{2} - \frac{k_l (k_l + 1)}{2}\big)$ with $k_l = \max(d_l - d_{l-1} -
    d_{l+1}, 0)$, any depth. Raises `ValueError` for widths that are not positive integers.

    Proof. dC(w) misses the symmetric $(X_l)$, $X_0 = X_h = 0$, with $X_l W_l = W_l X_{l-1}$ for all l. Eigenspaces of X
    to one eigenvalue, not 0, are mapped into each other by all $W_l$ and $W_l^T$. If $W_{l+1}$ did not vanish on one,
    it would hold a singular vector of $W_{l+1}$, which a $W_l$ in general position does not send to 0, hence one of
    $W_l$, and so down to the inputs, where it must vanish. So X lives on the complement of the ranges of $W_l$ and
    $W_{l+1}^T$, of dimension $k_l$, where it is any symmetric matrix.

    >>> conservation_laws((11, 6, 6, 6, 6, 4)), conservation_laws((1, 5, 1))
    (84, 9)

    Source: Altafini, section 3.2, has the first term, an upper bound.
    """
    widths = tuple(widths)
    if len(widths) < 2 or any(d < 1 or d != int(d) for d in widths):
        raise ValueError(f"`widths`: got {widths}; give (d_x, d_1, ..., d_y), positive integers")
    unused = [max(d - below - above, 0) for below, d, above in zip(widths, widths[1:], widths[2:], strict=False)]
    return sum(d * (d + 1) // 2 - k * (k + 1) // 2 for d, k in zip(widths[1:-1], unused, strict=True))


@labelled((), "number of conserved quantities that are independent at this network")
@checks_arguments
def conservation_rank(network: Network, rates: Any = None) -> Int[Array, ""]:
    r"""Rank of the derivative of all $C_l$ with respect to all weights at this network.

    At most `conservation_laws(network.widths)`, and equal almost everywhere; less where quantities become dependent, as
    at zero. A singular value counts if it is above max(shape) eps of the largest. Dense: memory $\sum_l d_l^2 / 2$
    times the number of weights. `rates`: as of `imbalance`.

    >>> [int(conservation_rank(Network([[[a]], [[b]]]))) for a, b in ((1.0, 2.0), (0.0, 0.0))]
    [1, 0]

    Source: Altafini, section 6.2.3, of one hidden layer of two nodes.
    """
    if network.depth == 1:
        return jnp.zeros((), dtype=int)
    flat, unravel = jax.flatten_util.ravel_pytree(network_at_unit_rates(network, rates))
    jacobian = jax.jacrev(lambda point: _entries(unravel(point)))(flat)
    s = jnp.linalg.svd(jacobian, compute_uv=False)
    return jnp.sum(s > max(jacobian.shape) * jnp.finfo(s.dtype).eps * s[0])


def _entries(network: Network) -> jax.Array:
    """Every entry of every C_l on and above the diagonal."""
    return jnp.concatenate([C[jnp.triu_indices(C.shape[0])] for C in imbalance(network)])
