"""What a prediction of learning times says."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..exact.assumptions import Check
from ..exact.dispatch import Solution
from ..obstructions import Obstruction


class Prediction(NamedTuple):
    """Predicted learning times, with the formula's name and what it assumed."""

    name: str | None
    """The theory that applies, or None."""
    formula: str
    half_times: np.ndarray
    """Time at which each mode reaches half of its final strength, shape (mode,); inf: never; NaN: no prediction."""
    strengths: Callable[[Any], np.ndarray] | None
    """Predicted strengths: times (time,) -> (time, mode), NaN where there is no prediction; None without theory."""
    checks: tuple[Check, ...]
    """Every assumption that was examined; those of theories that were passed over included."""
    source: str = ""
    """Who found the formula."""
    exact: bool = False
    """Whether the theory is exact, up to rounding and the tolerance of its integration."""
    solution: Solution | None = None
    """The exact solution that the times are read from; None where the theory is not exact."""
    obstruction: Obstruction | None = None
    """What keeps the exact flow from the smallest loss, and its modes from being learned; None if nothing does."""

    @property
    def violations(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.holds)
