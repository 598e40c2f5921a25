"""What a reproduction must satisfy, as named numbers with bounds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

GOLDEN = 1e-6  # relative; stored numbers have 10 digits, and platforms differ in the last few of a long integration


class Checked(NamedTuple):
    """A number and the bound that it must keep.

    >>> at_most("gap", 1e-9, 1e-6).holds, at_least("speed", 0.5, 1.0).holds, at_most("gap", float("nan"), 1.0).holds
    (True, False, False)
    """

    name: str
    value: float
    sense: str
    """<= or >="""
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the value is on the right side of the bound; NaN never is."""
        return self.value <= self.bound if self.sense == "<=" else self.value >= self.bound


def at_most(name: str, value: Any, bound: float) -> Checked:
    """A check from above."""
    return Checked(name, float(value), "<=", bound)


def at_least(name: str, value: Any, bound: float) -> Checked:
    """A check from below."""
    return Checked(name, float(value), ">=", bound)


def golden(measured: Mapping[str, Any], stored: Mapping[str, float]) -> list[Checked]:
    """Every stored number against the measured one of that name, as relative difference."""
    difference = lambda name: abs(float(measured[name]) - stored[name]) / max(abs(stored[name]), 1e-12)
    return [at_most(f"golden: {name} = {stored[name]:.10g}", difference(name), GOLDEN) for name in stored]
