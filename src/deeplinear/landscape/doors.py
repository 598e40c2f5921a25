"""What every function of a network at a critical point checks first."""

from typing import Any

import numpy as np

from .._arguments import check_fit, check_single
from ..network import Network
from .forms import weights_of
from .target import Target


def host_weights(objective: Any, network: Network) -> tuple[Target, list[np.ndarray]]:
    """Target and weights as arrays; `ValueError` for what does not fit together."""
    target = Target.of(objective)
    check_fit(objective, network)
    check_single(network)
    return target, weights_of(network)
