"""What a dataset says in words: who was learned when, the table of modes, the theory, the ending."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from .learned import DEGENERATE, Modes, in_groups
from .words import ABSENT, number, numbered, percent, ranges, short

SHOWN = 6  # milestones told one by one
SEEN = 9.5e-5  # relative difference that reads 0.01%
NOTICED = 0.05  # deviation of a predicted learning time that is more than a rest of the theory's order

_ENDINGS = {
    "global minimum": "The run ended at a global minimum",
    "saddle": "The run ended at a saddle, not at a minimum",
    "time": "The run was still moving when its time was over",
    "steps": "The run was still moving when its steps were used up",
    "critical point": "The run ended where the gradient is zero to rounding",
    "interrupted": "The run was interrupted",
    "left the flow": "The run was led away from the exact flow by rounding, and ended where that never goes",
    "diverged": "The run left the range of float64",
    "stalled": "The run stopped because its steps, or its gradient, fell below rounding",
}


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
    told = [
        *_obstructed(data),
        *_learned(data, modes),
        *_predicted(data, modes),
        *_ended(data),
        *_degenerate(modes),
    ]
    return told or ["The dataset records neither modes nor an ending, so there is nothing to summarise."]


def milestones_after(data: xr.Dataset) -> int:
    """Index of the sentence of the summary that milestones follow: the one that says what was learned."""
    return len(_obstructed(data))


def milestones(modes: Modes) -> list[tuple[str, str]]:
    """Time and words of each learned mode or span of modes, earliest first; late ones are told together."""
    learned = [group[modes.learned[group]] for group in modes.groups]
    order = sorted((group for group in learned if group.size), key=lambda group: modes.halves[group].min())
    told = []
    for group in order[:SHOWN]:
        share = float(np.sum(modes.shares[group]))
        words = f", {percent(share)} of the explained variance" if np.isfinite(share) else ""
        name = numbered("mode", [modes.listed[k] for k in group])
        (when,) = in_groups([group], modes.halves, number)
        told.append((f"t = {when}", f"{name}{' (one span)' if group.size > 1 else ''}{words}"))
    if len(order) > SHOWN:
        rest = np.concatenate(order[SHOWN:])
        told.append((f"by t = {number(modes.halves[rest].max())}", f"{rest.size} more"))
    return told


def mode_rows(modes: Modes) -> list[tuple[int, list[str]]]:
    """The rows of the table of modes, as text, with the index of the first mode of each: equal modes share a row."""
    groups = modes.groups
    total = np.array([np.sum(modes.shares[group]) for group in groups])
    columns = (
        [ranges(modes.listed[k] for k in group) for group in groups],
        [number(modes.present[group[0]]) for group in groups],
        [percent(share) for share in total],
        in_groups(groups, modes.predicted, when),
        in_groups(groups, modes.halves, when),
        in_groups(groups, modes.deviation, _signed),
        in_groups(groups, modes.final, number),
        in_groups(groups, modes.targets, number),
    )
    return [(int(group[0]), list(row)) for group, row in zip(groups, zip(*columns, strict=True), strict=True)]


def when(time: float) -> str:
    """A time as text, "never" where theory says so.

    >>> when(float("inf")), when(float("nan")), when(1.5)
    ('never', '–', '1.50')
    """
    return "never" if time == math.inf else number(time)


def violations(data: xr.Dataset) -> list[list[str]]:
    """Theorem, assumption, how far off it is and what would be allowed, for each assumption that fails."""
    listed = attribute(data, "theory").get("violations") or []
    failed = [entry for entry in listed if isinstance(entry, Mapping) and not entry.get("holds", False)]
    return [
        [
            str(entry.get("theorem", ABSENT)),
            str(entry.get("assumption", ABSENT)),
            off(entry.get("violation")),
            number(entry.get("tolerance")),
        ]
        for entry in failed
    ]


def off(violation: Any) -> str:
    """By how much an assumption fails, as text; an infinite violation is one of a question that makes no sense.

    >>> off(0.25), off(float("inf"))
    ('0.250', 'does not apply')
    """
    return "does not apply" if isinstance(violation, float) and math.isinf(violation) else number(violation)


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


def _obstructed(data: xr.Dataset) -> list[str]:
    """What keeps the exact flow from the smallest loss: more than what the run did, which rounding may have led on."""
    reason = attribute(data, "theory").get("obstruction")
    if not reason:
        return []
    loss = attribute(data, "ending").get("predicted_loss")
    where = f" at a loss of {number(loss)} or above" if isinstance(loss, float) else ""
    return [f"The start keeps the flow from the smallest loss: it ends at a saddle{where}, for {reason}."]


def _learned(data: xr.Dataset, modes: Modes) -> list[str]:
    """How many modes were learned, and whether the strongest came first."""
    if not modes.listed:
        return []
    if "half_time" not in data:
        return ["The dataset does not record when each mode was learned."]
    if (rank := _room(data, modes)) is not None:
        return _bottleneck(data, modes, rank)
    learned, possible, there = modes.learned, modes.possible, modes.there
    count, total = int(learned.sum()), int(possible.sum())
    told = []
    if total == 0:
        told.append("The targets of all modes are zero, so there was nothing to learn.")
    elif count == 0:
        told.append(f"None of the {total} modes was learned within the run.")
    elif count == total:
        subject = {1: "The only mode was", 2: "Both modes were"}.get(total, f"All {total} modes were")
        told.append(f"{subject} learned{_order(modes)}.")
    else:
        missed = modes.names(possible & ~learned)
        verb = "was" if total - count == 1 else "were"
        were = "was" if count == 1 else "were"
        told.append(f"{count} of {total} modes {were} learned{_order(modes)}; {missed} {verb} not.")
    if not there.all():
        rank, lacking = int(there.sum()), modes.names(~there)
        told.append(f"The data have rank {rank}: there is no {lacking}.")
    if total and not (possible | ~there).all():
        told.append(f"The network has no room for {modes.names(~possible & there)} (target 0).")
    carried = float(np.nansum(modes.shares[learned]))
    if 0 < count < len(modes.listed) and 0 < carried < 1 - 1e-9:
        told.append(f"What was learned carries {percent(carried)} of the explained variance.")
    return told


def _room(data: xr.Dataset, modes: Modes) -> int | None:
    """Rank that the narrowest layer leaves, where the best map of that rank mixes all modes; None elsewhere.

    Where whole modes are left out instead, as with white inputs, their targets are zero.
    """
    widths = entries(data, "widths")
    narrowest = min((int(width) for width in widths), default=0)
    mixes = np.isfinite(modes.targets).all() and int(modes.possible.sum()) > narrowest
    return narrowest if widths and mixes else None


def _bottleneck(data: xr.Dataset, modes: Modes, rank: int) -> list[str]:
    """The rank that the narrowest layer leaves, and how near the run came to the best map of it."""
    told = f"The map has rank {rank} of {int(modes.there.sum())}, which the narrowest layer leaves, and mixes all modes"
    left = attribute(data, "ending").get("unexplained")
    if left is not None:
        told += f"; {number(left, 2)} of what the best map of that rank explains was missing at the end"
    return [told + "."]


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
        how = "hold to within" if deviation[worst] <= NOTICED else "are off by up to"
        named = f" (worst: mode {modes.listed[worst]})" if deviation[worst] > 0.01 else ""
        told.append(f"The predicted learning times {how} {_share(max(deviation[worst], 1e-4))}{named}.")
    unseen = np.isfinite(modes.predicted) & ~modes.learned
    if unseen.any():
        told.append(f"A learning time was predicted for {modes.names(unseen)} but not seen in the run.")
    never = np.isposinf(modes.predicted) & modes.learned
    if never.any():
        told.append(f"By theory {modes.names(never)} {'is' if never.sum() == 1 else 'are'} never learned.")
    return told


def surprises(modes: Modes) -> list[str]:
    """Where predicted and measured half-times differ noticeably, and where their order does."""
    told, deviation = [], modes.deviation
    if np.isfinite(deviation).any():
        worst = int(np.nanargmax(np.abs(deviation)))
        if abs(deviation[worst]) > NOTICED:
            later = "later" if deviation[worst] > 0 else "earlier"
            told.append(
                f"mode {modes.listed[worst]} was predicted to be half learned at t = {number(modes.predicted[worst])}, "
                f"and was at t = {number(modes.halves[worst])}, {_share(abs(deviation[worst]))} {later}"
            )
    if modes.exchanged.any():
        told.append(f"{modes.names(modes.exchanged)} were learned in another order than predicted")
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
        told += f", with a loss {number(ending['excess'], 2)} above the smallest that these widths can reach"
    return [told + "."]


def _degenerate(modes: Modes) -> list[str]:
    """Which modes the data cannot tell apart."""
    spans = [group for group in modes.groups if group.size > 1 and modes.there[group[0]]]
    if not spans or not np.isfinite(modes.singular_values).all():
        return []
    names = [numbered("mode", [modes.listed[k] for k in group]) for group in spans]
    one = "their span, not each of them alone; their times and strengths are those of the span"
    if len(spans) == 1:
        return [f"{names[0].capitalize()} share a singular value: the data fix {one}."]
    return [f"{'; '.join(names).capitalize()} share a singular value each: the data fix {one}."]


def _share(x: float) -> str:
    """A relative difference as a percentage."""
    return "<0.01%" if 0 < x < SEEN else f"{number(100 * x, 2 if x >= 1e-3 else 1)}%"


def _signed(x: float) -> str:
    """A signed relative difference as a percentage; one that is not seen in the digits has no sign."""
    if not np.isfinite(x):
        return ABSENT
    sign = "" if 0 < abs(x) < SEEN else "+" if x >= 0 else "−"
    return sign + _share(abs(x))
