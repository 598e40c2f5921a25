"""Flows of layers with rates of their own, where the integrator knows rate 1 alone."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from .._arguments import as_network, check_rates
from .._trees import replaced
from ..layer_rates import AtUnitRates, decay_at_unit_rates, network_at_unit_rates, scaled_layers
from ..objectives import SquaredError
from ..trajectory import Trajectory

F = TypeVar("F", bound=Callable)


def through_rates(flow: F) -> F:
    """`flow` (`solve.gradient_flow`), which takes rates of squared error, that takes those of any objective.

    With W_l = sqrt(eta_l) V_l every layer of V learns at rate 1, on the same clock.
    """

    @wraps(flow)
    def either(objective: Any, network: Any, ts: Any = None, *, rates: Any = None, **options: Any) -> Trajectory:
        if rates is None or (isinstance(objective, SquaredError) and not options.get("project")):
            return flow(objective, network, ts, rates=rates, **options)
        network = as_network(network)
        depth = network.depth
        scale = np.sqrt(check_rates(rates, depth)).prod()
        options["weight_decay"] = decay_at_unit_rates(options.get("weight_decay", 0.0), rates, depth)
        at_one = AtUnitRates(objective, scale)
        run = flow(at_one, network_at_unit_rates(network, rates), ts, **options)
        return replaced(run, kept=scaled_layers(run.kept, rates), objective=objective)

    return cast(F, either)
