"""What is integrated: an objective, what learns, weight decay and rates."""

from dataclasses import replace
from typing import Any

from jaxtyping import Array

from .._trees import value
from ..network import Network
from ..objectives import knows_minimum
from ..running.fields import velocity


@value("project")
class Problem:
    """What is integrated: the field, and the measure that says when the goal is reached."""

    objective: Any
    mask: Network | None
    weight_decay: Array | None
    rates: Array | None = None
    """Learning rate of every layer, None: 1."""
    project: bool = False
    """Whether the run goes on from the imbalances of the start at every output."""

    def __call__(self, network: Network) -> Network:
        return velocity(self.objective, network, self.mask, self.weight_decay, self.rates)

    def of(self, objective: Any) -> "Problem":
        """The same of another objective."""
        return replace(self, objective=objective)

    def excess(self, W: Array) -> Array:
        """Loss above the smallest loss of any matrix, or the plain loss where that is unknown."""
        return self.objective.excess(W) if knows_minimum(self.objective) else self.objective(W)
