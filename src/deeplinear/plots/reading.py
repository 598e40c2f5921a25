"""What a dataset says in words: who was learned when, the table of modes, the theory, the ending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from .style import numbers, variable
from .words import ABSENT, number, numbered, percent, short

SHOWN = 6  # milestones told one by one
DEGENERATE = 1e-8  # singular values closer than this, relatively, count as equal

_ENDINGS = {
    "global minimum": "The run ended at a global minimum",
    "saddle": "The run ended at a saddle, not at a minimum",
    "time": "The run was still moving when its time was over",
    "steps": "The run was still moving when its steps were used up",
    "critical point": "The run ended where the gradient is zero to rounding",
    "interrupted": "The run was interrupted",
    "stalled": "The run stopped because its step size fell below rounding",
}


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
    def learned(self) -> np.ndarray:
        """Which modes reached half of their target."""
        return np.isfinite(self.halves)

    @property
    def possible(self) -> np.ndarray:
        """Which modes have something to learn: a target that is unknown or not zero."""
        return ~(self.targets == 0) | self.learned

    def names(self, chosen: np.ndarray) -> str:
        """The chosen modes (mask) as words."""
        return numbered("mode", [n for n, yes in zip(self.listed, chosen, strict=True) if yes])

    @property
    def deviation(self) -> np.ndarray:
        """Simulated half-time over predicted half-time, minus 1; NaN where one is missing or the prediction is 0."""
        predicted = np.where(self.predicted > 0, self.predicted, np.nan)
        return self.halves / predicted - 1


def attribute(data: xr.Dataset, name: str) -> dict[str, Any]:
    """A nested attribute, empty where it is missing or not a mapping."""
    value = data.attrs.get(name)
    return dict(value) if isinstance(value, Mapping) else {}


def entries(data: xr.Dataset, name: str) -> list[Any]:
    """An attribute that should be a list; a single value counts as a list of one, a missing one as empty."""
    value = data.attrs.get(name)
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    return [] if value is None else [value]


def summary(data: xr.Dataset) -> list[str]:
    """Plain sentences: what was learned, in which order, how right the theory was, how the run ended."""
    modes = Modes.of(data)
    told = [*_learned(data, modes), *_predicted(data, modes), *_ended(data), *_degenerate(modes)]
    return told or ["The dataset records neither modes nor an ending, so there is nothing to summarise."]


def milestones(modes: Modes) -> list[tuple[str, str]]:
    """Time and words of each learned mode, earliest first; late ones are told together."""
    order = [k for k in np.argsort(modes.halves, kind="stable") if modes.learned[k]]
    told = []
    for k in order[:SHOWN]:
        share = f", {percent(modes.shares[k])} of the explained variance" if np.isfinite(modes.shares[k]) else ""
        told.append((f"t = {number(modes.halves[k])}", f"mode {modes.listed[k]}{share}"))
    if len(order) > SHOWN:
        told.append((f"by t = {number(modes.halves[order[-1]])}", f"{len(order) - SHOWN} more"))
    return told


def mode_rows(modes: Modes) -> list[list[str]]:
    """The rows of the table of modes, as text."""
    columns = (
        [str(n) for n in modes.listed],
        map(number, modes.singular_values),
        map(percent, modes.shares),
        map(number, modes.predicted),
        map(number, modes.halves),
        [_signed(x) for x in modes.deviation],
        map(number, modes.final),
        map(number, modes.targets),
    )
    return [list(row) for row in zip(*columns, strict=True)]


def violations(data: xr.Dataset) -> list[list[str]]:
    """Theorem, assumption, how far off it is and what would be allowed, for each assumption that fails."""
    listed = attribute(data, "theory").get("violations") or []
    failed = [entry for entry in listed if isinstance(entry, Mapping) and not entry.get("holds", False)]
    return [
        [
            str(entry.get("theorem", ABSENT)),
            str(entry.get("assumption", ABSENT)),
            number(entry.get("violation")),
            number(entry.get("tolerance")),
        ]
        for entry in failed
    ]


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a nested attribute as text."""
    return [(str(key).replace("_", " "), plain(value)) for key, value in values.items() if value not in (None, "", [])]


def plain(value: Any) -> str:
    """One value as text: numbers short, lists comma-separated."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer, str)):
        return str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(plain(entry) for entry in value)
    return short(value)


def _learned(data: xr.Dataset, modes: Modes) -> list[str]:
    """How many modes were learned, and whether the strongest came first."""
    if not modes.listed:
        return []
    if "half_time" not in data:
        return ["The dataset does not record when each mode was learned."]
    learned, possible = modes.learned, modes.possible
    count, total = int(learned.sum()), int(possible.sum())
    told = []
    if total == 0:
        told.append("The targets of all modes are zero, so there was nothing to learn.")
    elif count == 0:
        told.append(f"None of the {total} modes was learned within the run.")
    elif count == total:
        subject = "The only mode was" if total == 1 else f"All {total} modes were"
        told.append(f"{subject} learned{_order(modes)}.")
    else:
        missed = modes.names(possible & ~learned)
        verb = "was" if total - count == 1 else "were"
        told.append(
            f"{count} of {total} modes {'was' if count == 1 else 'were'} learned{_order(modes)}; {missed} {verb} not."
        )
    if total and not possible.all():
        told.append(f"The network has no room for {modes.names(~possible)} (target 0).")
    carried = float(np.nansum(modes.shares[learned]))
    if 0 < count < len(modes.listed) and carried > 0:
        told.append(f"What was learned carries {percent(carried)} of the explained variance.")
    return told


def _order(modes: Modes) -> str:
    """Whether modes were learned in the order of their singular values; equal ones have no order."""
    halves, s = modes.halves[modes.learned], modes.singular_values[modes.learned]
    if len(halves) < 2:
        return ""
    stronger = s[:, None] > (1 + DEGENERATE) * s[None, :]
    strongest_first = not np.any(stronger & (halves[:, None] > 1.01 * halves[None, :]))  # ties within a hundredth
    return ", strongest first" if strongest_first else ", but not in the order of their singular values"


def _predicted(data: xr.Dataset, modes: Modes) -> list[str]:
    """How well the predicted half-times agree."""
    told = []
    if violations(data) and not attribute(data, "theory").get("name"):
        told.append("No closed form applies to this run; the section on theory says what is missing.")
    deviation = np.abs(modes.deviation)
    if np.isfinite(deviation).any():
        worst = int(np.nanargmax(deviation))
        told.append(
            f"The predicted learning times hold to within {_share(deviation[worst])}"
            + (f" (worst: mode {modes.listed[worst]})." if deviation[worst] > 0.01 else ".")
        )
    unseen = np.isfinite(modes.predicted) & ~modes.learned
    if unseen.any():
        told.append(f"A learning time was predicted for {modes.names(unseen)} but not seen in the run.")
    return told


def _ended(data: xr.Dataset) -> list[str]:
    """How the run ended."""
    ending = attribute(data, "ending")
    kind = ending.get("kind")
    if not kind:
        return []
    told = _ENDINGS.get(str(kind), f"The run ended: {kind}")
    if "time" in ending:
        told += f", at t = {number(ending['time'])}"
    if "excess" in ending:
        told += f", with a loss {number(ending['excess'], 2)} above the smallest possible"
    return [told + "."]


def _degenerate(modes: Modes) -> list[str]:
    """Which modes the data cannot tell apart."""
    s = modes.singular_values
    if len(s) < 2 or not np.isfinite(s).all():
        return []
    equal = np.abs(np.diff(s)) <= DEGENERATE * np.abs(s[1:])
    equal &= s[1:] > 0
    if not equal.any():
        return []
    members = np.append(equal, False) | np.append(False, equal)
    return [
        f"{modes.names(members).capitalize()} share a singular value: the data fix their span, not each of them alone."
    ]


def _share(x: float) -> str:
    """A relative difference as a percentage, down to the very small."""
    return f"{number(100 * x, 2 if x >= 1e-3 else 1)}%"


def _signed(x: float) -> str:
    """A signed relative difference as a percentage."""
    if not np.isfinite(x):
        return ABSENT
    return ("+" if x >= 0 else "−") + _share(abs(x))
