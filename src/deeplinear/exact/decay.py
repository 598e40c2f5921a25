r"""What weight decay changes: $L + \frac{\gamma}{2} \sum_l \|W_l\|^2$ instead of L.

A 0-balanced mode moves by $\dot z = z^{h-1} (s - z^h) - \gamma z$, with $u = z^h$ (inputs white). At depth 2 that is
the curve without decay for the singular value $s - \gamma$. From depth 3 on 0 is stable, and a mode is learned only if
it starts above a threshold: the nonzero rests solve $z^{h-2} (s - z^h) = \gamma$, whose left side has one maximum.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import checks_arguments
from .._types import Array
from ..decayed_modes import decay_thresholds as decay_thresholds
from ..decayed_modes import decayed_fixed_points as decayed_fixed_points
from ..layer_rates import network_at_unit_rates, shared_decay
from ..network import Network
from .assumptions import require
from .grids import finite_grid
from .modes import mode_strength
from .question import checked_times, imbalances


def decayed_mode_strength(ts: Any, u0: Any, s: Any, gamma: Any, input_variance: Any = 1.0) -> np.ndarray:
    r"""Strength u(t) of a mode of a decoupled 0-balanced two-layer network under weight decay $\gamma$.

    $\dot u = 2 u (s - \gamma - c u)$: the logistic curve of `mode_strength` for the singular value $s - \gamma$.
    Shapes, units and errors are those of `mode_strength`; $\gamma$ is a number or (mode,), at least 0.

    >>> decayed_mode_strength([0.0, 100.0], u0=0.1, s=2.0, gamma=[0.5, 3.0]).round(4).tolist()
    [[0.1, 0.1], [1.5, 0.0]]

    Source: Saxe, McClelland and Ganguli (2014), section 1, with the decay added.
    """
    _, gamma, s = finite_grid(start=0.0, gamma=gamma, s=s)
    if np.any(gamma < 0):
        raise ValueError(f"`gamma`: a weight decay must be >= 0, but one is {gamma.min()}")
    return mode_strength(ts, u0, s - gamma, 2, input_variance)


@checks_arguments
def decayed_imbalance(
    network: Network, ts: Any, weight_decay: Any, *, rates: Any = None
) -> tuple[Float[Array, "time _ _"], ...]:
    r"""Imbalance of every junction along the flow of any objective with weight decay $\gamma$.

    $C_l(t) = C_l(0) \, e^{-2 \gamma t}$ with $C_l = W_{l+1}^T W_{l+1} - W_l W_l^T$: decay balances any network. A tuple
    of h - 1 arrays (time, d_l, d_l). With `rates` $\eta_l$, one per layer or one for all, $C_l = W_{l+1}^T W_{l+1} /
    \eta_{l+1} - W_l W_l^T / \eta_l$ shrinks as $e^{-2 \eta \gamma t}$ where $\eta_l \gamma_l$ is the same number in
    every layer; `weight_decay` is one number, or one per layer. Raises `NotExact` where it is not, `ValueError` for
    times or decays that are negative or not finite and rates that are not above 0.

    >>> decayed_imbalance(Network([[[1.0]], [[2.0]]]), [0.0, 1.0], weight_decay=0.5)[0][:, 0, 0].round(4)
    Array([3.    , 1.1036], dtype=float64)

    Source: Kunin et al. (2021), "Neural mechanics", for what decay does to a conserved quantity.
    """
    decay, alike = shared_decay("decay of the imbalance", weight_decay, rates, network.depth)
    require([alike])
    shrink = jnp.exp(-2 * decay * checked_times(ts))[:, None, None]
    return tuple(C[None] * shrink for C in imbalances(network_at_unit_rates(network, rates).weights))
