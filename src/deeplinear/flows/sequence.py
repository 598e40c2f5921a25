"""Gradient flow through a sequence of tasks: one flow after another."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.core import Tracer

from .._arguments import check_times
from .._linalg import joined
from ..layer_rates import network_at_unit_rates
from ..network import Network
from ..sequences import TaskSequence
from ..trajectory import Statistics, Trajectory
from .endings import kept_signs, refated

F = TypeVar("F", bound=Callable)


def through_tasks(flow: F) -> F:
    """`flow` (`solve.gradient_flow`) that takes a list of tasks in the place of the objective as well."""

    @wraps(flow)
    def either(objective: Any, network: Any, ts: Any = None, **options: Any) -> Trajectory:
        if isinstance(objective, list | tuple):
            return _in_sequence(flow, TaskSequence.of(objective), network, ts, options)
        return flow(objective, network, ts, **options)

    return cast(F, either)


def _in_sequence(flow: Callable, tasks: TaskSequence, network: Any, ts: Any, options: dict[str, Any]) -> Trajectory:
    """The trajectory over all of the tasks; the next starts where the last ended."""
    for name in ("checkpoint", "max_time"):
        if options.get(name) is not None:
            raise ValueError(f"`{name}`: does not go with a sequence of tasks; leave it out")
    times, tasks_of = (None, None) if ts is None else _placed(tasks, ts)
    runs, signs = [], kept_signs(network_at_unit_rates(network, options.get("rates")), options.get("mask"))
    for k, (objective, duration) in enumerate(zip(tasks.objectives, tasks.durations, strict=True)):
        local = None if times is None else times[tasks_of == k] - tasks.starts[k]
        begins = network
        run, network = _one(flow, objective, duration, network, local, options)
        run = _with_signs(run, signs, objective, begins, network, options)
        runs.append((run.ts + tasks.starts[k], run))
        if times is None and k > 0:  # its start is the end of the task before
            runs[-1] = (runs[-1][0][1:], _later(run))
        if _stopped(run):
            break
    networks = jax.tree.map(lambda *parts: joined(parts, -3), *(run.networks for _, run in runs))
    whole = joined([at for at, _ in runs]) if times is None or _stopped(runs[-1][1]) else times
    last = runs[-1][1]
    return Trajectory(whole, networks, last.ending, _together([run for _, run in runs]), tasks)


def _placed(tasks: TaskSequence, ts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Increasing times, and the task that each of them is in."""
    if any(isinstance(t, Tracer) for t in jax.tree.leaves(ts)):
        raise ValueError("`ts`: is traced by JAX, but which task a time is in must be known; give plain numbers")
    times = check_times(ts, increasing=True)
    return times, tasks.task_at(times)


def _one(
    flow: Callable, objective: Any, duration: float, network: Network, local: np.ndarray | None, options: dict
) -> tuple[Trajectory, Network]:
    """The run of one task at the times asked for, and the network at its end."""
    if local is None:
        run = flow(objective, network, None, **(options | {"max_time": duration}))
        rest = duration - float(run.ts[-1])
        if rest > 0 and not _stopped(run):  # it has learned its task before its time is over
            run = _joined(run, flow(objective, run[len(run) - 1], [rest], **options))
        return run, run[len(run) - 1]
    at_end = bool(local.size) and abs(local[-1] - duration) <= 1e-12 * duration
    asked = local if at_end else np.append(local, duration)
    asked = np.where(np.arange(asked.size) == asked.size - 1, duration, asked)
    run = flow(objective, network, asked, **options)
    kept = min(local.size, len(run))
    return _cut(run, slice(0, kept)), run[len(run) - 1]


def _with_signs(
    run: Trajectory, signs: list[float | None], objective: Any, begins: Network, ends: Network, options: dict
) -> Trajectory:
    """The run with endings that know what the very first network keeps through all tasks, though errors may hide it."""
    if run.ending is None or all(sign is None for sign in signs):
        return run
    several = isinstance(run.ending, tuple)
    endings = run.ending if several else (run.ending,)
    tolerance, decays = options.get("tolerance", 1e-6), np.any(options.get("weight_decay", 0.0) != 0)
    one = lambda tree, b: jax.tree.map(lambda x: x[b], tree)
    of = lambda b: one(objective, b) if getattr(getattr(objective, "optimum", None), "ndim", 2) == 3 else objective
    at = lambda network, b: one(network, b) if network.weights[0].ndim == 3 else network
    held = tuple(
        refated(ending, signs[b % len(signs)], of(b), at(begins, b), at(ends, b), None if decays else tolerance)
        for b, ending in enumerate(endings)
    )
    return Trajectory(run.ts, run.kept, held if several else held[0], run.statistics, run.objective, run.reduction)


def _stopped(run: Trajectory) -> bool:
    """Whether a run has not gone as far as it was asked to, so that no task can follow."""
    return getattr(run.ending, "kind", None) in ("steps", "interrupted", "stalled")


def _cut(run: Trajectory, part: slice) -> Trajectory:
    networks = jax.tree.map(lambda W: W[..., part, :, :], run.networks)
    return Trajectory(run.ts[part], networks, run.ending, run.statistics, run.objective)


def _later(run: Trajectory) -> Trajectory:
    return _cut(run, slice(1, None))


def _joined(run: Trajectory, tail: Trajectory) -> Trajectory:
    """A run that was over early, and the rest of its time."""
    networks = jax.tree.map(lambda *parts: joined(parts, -3), run.networks, tail.networks)
    statistics = _together([run, tail])
    return Trajectory(joined([run.ts, run.ts[-1] + tail.ts]), networks, tail.ending, statistics)


def _together(runs: list[Trajectory]) -> Statistics | None:
    """What all runs cost; None where JAX traces them, and nothing is known."""
    parts = [run.statistics for run in runs if run.statistics is not None]
    if len(parts) < len(runs):
        return None
    total = lambda name: sum(getattr(part, name) for part in parts)
    evaluations = None if any(part.evaluations is None for part in parts) else total("evaluations")
    solvers = "+".join(dict.fromkeys(part.solver for part in parts))
    endings = tuple(run.ending for run in runs)
    return Statistics(total("steps"), evaluations, total("rejected"), solvers, total("seconds"), endings=endings)
