"""What a theorem assumes, held against the problem at hand."""

from collections.abc import Iterable
from typing import NamedTuple

from .._checks import TOLERANCE as TOLERANCE
from .._checks import Check as Check


class NearMiss(NamedTuple):
    """A theorem that applies nearly, and how wrong it would be.

    >>> NearMiss("two-layer Riccati", "the imbalance beyond lambda I", 1e-5).error_estimate
    1e-05
    """

    theorem: str
    neglected: str
    """What would be left out."""
    error_estimate: float
    """Largest error of the end-to-end matrix over time, relative to its target: the order of magnitude."""


class NotExact(ValueError):
    """A theorem does not apply; `checks` holds every assumption that fails, and the message names them all.

    `measured` holds the assumptions that hold as well, `near_misses` what would be right approximately.

    >>> NotExact([Check("regression", "the network has one layer", float("inf"), 0.0)]).checks[0].theorem
    'regression'
    """

    def __init__(self, checks: Iterable[Check], near_misses: Iterable[NearMiss] = ()):
        self.measured = tuple(checks)
        self.checks = tuple(check for check in self.measured if not check.holds)
        self.near_misses = tuple(near_misses)
        failures = "; ".join(
            f"{c.theorem}: {c.assumption} (off by {c.violation:.3g}, allowed {c.tolerance:g})" for c in self.checks
        )
        offers = "".join(
            f". Nearly: {miss.theorem} without {miss.neglected}, wrong by about {miss.error_estimate:.1g}: "
            "`exact.solve(..., approximate=True)`"
            for miss in self.near_misses
        )
        super().__init__(f"no exact solution: {failures}. Integrate with `deeplinear.gradient_flow` instead{offers}")


def require(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks, if all of them hold; raises `NotExact` with every one that fails."""
    checks = tuple(checks)
    if not all(check.holds for check in checks):
        raise NotExact(checks)
    return checks
