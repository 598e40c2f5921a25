"""What is integrated: an objective, what learns, weight decay and rates."""

from typing import Any

import numpy as np

from .._linalg import as_numpy
from .._trees import replaced, value
from .._types import Array
from ..layer_rates import at_unit_rates
from ..network import Network
from ..objectives import knows_minimum
from ..running.fields import velocity


@value("project")
class Problem:
    """What is integrated: the field, and the measure that says when the goal is reached."""

    objective: Any
    mask: Network | None
    weight_decay: Any
    rates: Any = None
    """Learning rate of every layer, None: 1."""
    project: bool = False
    """Whether the run goes on from the imbalances of the start at every output."""

    def __call__(self, network: Network) -> Network:
        return velocity(self.objective, network, self.mask, self.weight_decay, self.rates)

    def of(self, objective: Any) -> "Problem":
        """The same of another objective."""
        return replaced(self, objective=objective)

    def on_host(self) -> "Problem":
        """The same of a squared error with numpy's arrays."""
        return replaced(self, objective=self.objective.on_host, mask=as_numpy(self.mask))

    def at_unit_rates(self, network: Network) -> "tuple[Problem, Network]":
        """The same flow in V_l = W_l / sqrt(eta_l), whose rates are 1, and V of a network; for squared error."""
        if self.rates is None:
            return self, network
        at_one = at_unit_rates(self.objective, network, self.rates)
        decay = None if self.weight_decay is None else np.asarray(self.weight_decay) * np.asarray(self.rates)
        return replaced(self, objective=at_one.objective, weight_decay=decay, rates=None), at_one.network

    def excess(self, W: Array) -> Array:
        """Loss above the smallest loss of any matrix, or the plain loss where that is unknown."""
        return self.objective.excess(W) if knows_minimum(self.objective) else self.objective(W)
