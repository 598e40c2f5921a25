"""The modes of a run as numbers: which the data cannot tell apart, which were learned, predicted and possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from .style import numbers, variable
from .words import numbered

DEGENERATE = 1e-8
"""Singular values closer than this, relatively, count as equal: the data fix the span of their modes alone."""
NOTHING = 1e-10
"""Share of the largest singular value up to which there is no mode: rounding."""


def groups_of(s: np.ndarray) -> list[np.ndarray]:
    """Indices of sorted singular values that are equal, in runs; those that are zero to rounding are one group.

    >>> [group.tolist() for group in groups_of(np.array([2.0, 1.0, 1.0, 1e-17]))]
    [[0], [1, 2], [3]]
    """
    s = np.asarray(s, dtype=float)
    if not len(s) or not np.isfinite(s).all():
        return [np.array([k]) for k in range(len(s))]
    nothing = s <= NOTHING * s[0]
    jumps = (s[:-1] - s[1:] > DEGENERATE * s[1:]) & ~(nothing[:-1] & nothing[1:])
    return np.split(np.arange(len(s)), np.flatnonzero(jumps | (nothing[:-1] != nothing[1:])) + 1)


@dataclass(frozen=True)
class Modes:
    """The per-mode variables of a run, NaN where the dataset lacks one; all of shape (mode,)."""

    listed: list[int]
    singular_values: np.ndarray
    shares: np.ndarray
    predicted: np.ndarray
    halves: np.ndarray
    final: np.ndarray
    targets: np.ndarray

    @classmethod
    def of(cls, data: xr.Dataset) -> Modes:
        """Read them from a dataset; no modes at all where it has no dimension `mode`."""
        count = data.sizes.get("mode", 0)

        def read(name: str) -> np.ndarray:
            return variable(data, name, "mode") if count and name in data else np.full(count, np.nan)

        final = np.full(count, np.nan)
        if count and "mode_strengths" in data:
            final = variable(data, "mode_strengths", "time", "mode")[-1]
        return cls(
            numbers(data, "mode") if count else [],
            read("data_singular_values"),
            read("variance_share"),
            read("half_time_predicted"),
            read("half_time"),
            final,
            read("mode_targets"),
        )

    @property
    def groups(self) -> list[np.ndarray]:
        """Indices of modes with one singular value: a span."""
        return groups_of(self.singular_values)

    @property
    def there(self) -> np.ndarray:
        """Which modes the data have: a singular value that is unknown or not zero to rounding."""
        known = np.isfinite(self.singular_values)
        return ~known | (self.singular_values > NOTHING * np.max(self.singular_values[known], initial=0.0))

    @property
    def present(self) -> np.ndarray:
        """Singular values without what is rounding of zero."""
        return np.where(self.there, self.singular_values, 0.0)

    @property
    def learned(self) -> np.ndarray:
        """Which modes reached half of their target."""
        return np.isfinite(self.halves) & self.there

    @property
    def possible(self) -> np.ndarray:
        """Which modes have something to learn: a target that is unknown or not zero."""
        return (~(self.targets == 0) & self.there) | self.learned

    def names(self, chosen: np.ndarray) -> str:
        """The chosen modes (mask) as words."""
        return numbered("mode", [n for n, yes in zip(self.listed, chosen, strict=True) if yes])

    @property
    def deviation(self) -> np.ndarray:
        """Simulated half-time over predicted half-time, minus 1; NaN where one is missing or the prediction is 0."""
        predicted = np.where((self.predicted > 0) & np.isfinite(self.predicted), self.predicted, np.nan)
        return self.halves / predicted - 1

    @property
    def exchanged(self) -> np.ndarray:
        """Modes (mask) that were learned in another order than predicted, by more than a hundredth in both."""
        t, p = self.halves, self.predicted
        with np.errstate(invalid="ignore"):
            later, predicted = t[:, None] > 1.01 * t[None], p[:, None] < p[None] / 1.01
        swapped = later & predicted & np.isfinite(t[:, None] + t[None])
        return np.any(swapped | swapped.T, axis=1)


def in_groups(groups: list[np.ndarray], values: np.ndarray, text: Callable[[float], str]) -> list[str]:
    """One text a group: the smallest and the largest value as text, once where both read the same.

    >>> in_groups([np.array([0]), np.array([1, 2])], np.array([1.0, 2.0, 3.0]), str)
    ['1.0', '2.0 to 3.0']
    """
    told = []
    for group in groups:
        sorted_values = np.sort(values[group])  # NaN last
        low, high = text(float(sorted_values[0])), text(float(sorted_values[-1]))
        told.append(low if low == high else f"{low} to {high}")
    return told
