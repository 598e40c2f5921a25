"""What is assumed, held against the problem at hand."""

from typing import NamedTuple

TOLERANCE = 1e-9
"""How far an assumption of an exact statement may fail, relative: rounding of the data and of the start."""


class Check(NamedTuple):
    """One assumption of a theorem, or one property of a network, held against the problem at hand.

    >>> Check("two-layer Riccati", "sigma_xx is a multiple of the identity", violation=0.3, tolerance=1e-9).holds
    False
    """

    theorem: str
    """The theorem, or the name of the property."""
    assumption: str
    """What is assumed, or what the property says."""
    violation: float
    """How far off it is, relative; infinite where the question makes no sense (a wrong depth)."""
    tolerance: float
    margin: float | None = None
    """Of strict conditions (a rank, a gap): how far from failing, relative; None where the violation says it all."""
    note: str = ""
    """What else was found, in words."""

    @property
    def holds(self) -> bool:
        """Whether the violation is within the tolerance."""
        return self.violation <= self.tolerance
