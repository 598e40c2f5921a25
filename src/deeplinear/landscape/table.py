"""A landscape as a labelled dataset: critical points, the arrows between them, and the way that a run took."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from .._arguments import checks_arguments
from .._dataset import Dataset
from ..conventions import TIME_UNIT
from ..trajectory import Trajectory
from .critical import CriticalPoint, CriticalPoints, critical_points
from .passing import nearest_signature, strengths
from .target import Target

ALL = 128
"""Critical points up to which all of them are listed, and as many of the lowest and highest together beyond."""
LADDER = 32
"""Beyond, these best points of every rank are listed too, on which runs from small starts climb down."""
EXACT = 2**53
"""Counts up to which JSON and everyone who reads it know integers."""


@checks_arguments
def atlas(
    objective: Any, widths: Iterable[int], max_rank: int | None = None, trajectory: Trajectory | None = None
) -> Dataset:
    """Critical points of a landscape as a dataset, with the arrows of the Hasse diagram and the path of a run.

    All points where they are at most 128; else the 64 lowest, the 64 highest, the best of each rank and those that the
    run visits. Dimension `point`, from 1, lowest value first: `critical_signature` (learned modes as text, "1,3"),
    `critical_value`, `critical_rank`, `critical_kind` (all kinds possible, "non-strict saddle or strict saddle"),
    `critical_inertia` (sign). Dimension `arc`: `arc_from`, `arc_to` (points), `arc_mode` (what is learned on it).
    Dimension `visit`: `visit_point`, `visit_time`, where `trajectory` is given. The attribute `critical_points` counts
    all there are. Raises `ValueError` as `critical_points`.

    >>> from deeplinear import SquaredError
    >>> data = atlas(SquaredError.from_singular_values([2.0, 1.0], 2, 2), (2, 3, 2))
    >>> data["critical_signature"].values.tolist(), data["critical_value"].values.tolist()
    (['1,2', '1', '2', ''], [0.0, 0.5, 2.0, 2.5])
    >>> sorted(zip(data["arc_from"].values.tolist(), data["arc_to"].values.tolist()))
    [(2, 1), (3, 1), (4, 2), (4, 3)]
    """
    points = critical_points(objective, widths, max_rank)
    visits = [] if trajectory is None else _visits(points.target, trajectory)
    visits = [(signature, time) for signature, time in visits if len(signature) <= points.max_rank]
    listed = _listed(points, [signature for signature, _ in visits])
    number = {point.signature: n for n, point in enumerate(listed, start=1)}
    arcs = _arcs(number)
    text = lambda parts, mark: mark.join(map(str, parts))
    variables: dict[str, Any] = {
        "critical_signature": ("point", [text(point.signature, ",") for point in listed], _named("learned modes")),
        "critical_value": ("point", [point.value for point in listed], _named("loss at the critical point")),
        "critical_rank": ("point", [point.rank for point in listed], _named("number of learned modes")),
        "critical_kind": ("point", [text(point.kinds, " or ") for point in listed], _named("kind of critical point")),
        "critical_inertia": (
            ("point", "sign"),
            np.array([point.inertia for point in listed], dtype=np.int64).reshape(-1, 3),
            _named("Hessian eigenvalues of each sign at the canonical representative"),
        ),
    }
    coordinates: dict[str, Any] = {"point": np.arange(1, len(listed) + 1), "sign": ["negative", "zero", "positive"]}
    if arcs.size:
        variables |= {name: ("arc", arcs[:, k]) for k, name in enumerate(("arc_from", "arc_to", "arc_mode"))}
    if visits:
        at, times = zip(*((number[signature], time) for signature, time in visits), strict=True)
        variables["visit_point"] = ("visit", np.array(at), _named("critical point nearest to the run"))
        variables["visit_time"] = ("visit", np.array(times), _named("first recorded time at which it is", TIME_UNIT))
    count = points.count if points.count < EXACT else str(points.count)
    summary = {"count": count, "max_rank": points.max_rank, "modes": points.target.rank}
    return Dataset(variables, coordinates, {"critical_points": summary})


def _listed(points: CriticalPoints, visited: list[tuple[int, ...]]) -> list[CriticalPoint]:
    if points.count <= ALL:
        return list(points)
    best = [range(1, k + 1) for k in range(min(points.max_rank, LADDER) + 1)]
    chosen = [*islice(points, ALL // 2), *islice(reversed(points), ALL // 2), *map(points.at, [*best, *visited])]
    different = {point.signature: point for point in chosen}
    return sorted(different.values(), key=lambda point: (point.value, point.rank, point.signature))


def _visits(target: Target, trajectory: Trajectory) -> list[tuple[tuple[int, ...], float]]:
    """The signatures that are nearest to a run one after another, each with the first recorded time at which it is."""
    Phi = target.form.output_map @ np.asarray(trajectory.end_to_end) @ target.form.input_map
    learned = nearest_signature(target, strengths(target, Phi), target.max_rank(trajectory[0].widths))
    changes = [0, *(1 + np.flatnonzero(np.any(learned[1:] != learned[:-1], axis=1)))]
    signature = lambda row: tuple(int(k) + 1 for k in np.flatnonzero(row))
    return [(signature(learned[i]), float(trajectory.ts[i])) for i in changes]


def _arcs(number: dict[tuple[int, ...], int]) -> np.ndarray:
    """Pairs of points that differ by one mode: upper, lower, mode; shape (arc, 3)."""
    masks = {sum(1 << k for k in signature): n for signature, n in number.items()}
    return np.array(
        [
            (masks[mask ^ (1 << k)], n, k)
            for signature, (mask, n) in zip(number, masks.items(), strict=True)
            for k in signature
            if mask ^ (1 << k) in masks
        ],
        dtype=np.int64,
    ).reshape(-1, 3)


def _named(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}
