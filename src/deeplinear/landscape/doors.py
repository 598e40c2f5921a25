"""What every function of a network at a critical point checks first."""

from typing import Any

import numpy as np

from ..network import Network
from .forms import weights_of
from .target import Target


def host_weights(objective: Any, network: Network) -> tuple[Target, list[np.ndarray]]:
    """Target and weights as arrays; `ValueError` for what does not fit together."""
    target = Target.of(objective)
    if not isinstance(network, Network):
        raise ValueError(f"`network`: got a {type(network).__name__}; give a Network")
    if any(W.ndim != 2 for W in network.weights):
        raise ValueError("`network`: its weights have leading axes; give one network, for instance trajectory[i]")
    weights = weights_of(network)
    for l, W in enumerate(weights, start=1):
        if not np.isfinite(W).all():
            raise ValueError(f"`network`: layer {l} has entries that are NaN or infinite; give finite weights")
    d_x, d_y = target.form.input_map.shape[0], target.d_y
    if (network.widths[0], network.widths[-1]) != (d_x, d_y):
        raise ValueError(
            f"`network`: has widths {network.widths}; the data have {d_x} inputs and {d_y} outputs: ({d_x}, ..., {d_y})"
        )
    return target, weights
