"""Ensembles of squared error: every member is a run of the compiled engine of its own; threads share the members."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from .._linalg import as_numpy, one_thread
from ..network import Network
from ..obstructions import Obstacles
from ..running.landmarks import landmarks, standing
from ..running.progress import as_reporter
from ..running.segments import LOOK_SECONDS, interruptible
from ..trajectory import Ending, Statistics, Trajectory
from .endings import fate_of, fated, judge, obstacles_of
from .native import METHODS, NativeRun
from .problem import Problem

SHARES = 8  # portions of members that each thread takes, one after another: the last ones finish together


NEVER_BEGAN = Ending(
    "interrupted", np.nan, None, 0.0, np.nan, None, None, "interrupted before it began; the trajectory holds its start"
)


class EnsembleReport(NamedTuple):
    """What a progress callback is told after every portion of an ensemble."""

    members_done: int
    members: int
    steps: int

    @property
    def line(self) -> str:
        """The report in words."""
        return f"{self.members_done} of {self.members} members, {self.steps} steps"


def batch_of(objective: Any, network: Network) -> int | None:
    """Number of members, None for a single network and problem; `ValueError` where leading axes disagree."""
    shapes = {W.shape[:-2] for W in network.weights}
    if len(shapes) > 1 or len(next(iter(shapes))) > 1:
        raise ValueError(
            f"`network`: the weights have leading axes {', '.join(map(str, sorted(shapes)))}; give every layer the "
            "same one, (members, d_l, d_{l-1}), as jax.vmap of an init does"
        )
    (members,) = next(iter(shapes)) or (None,)
    if not hasattr(objective, "optimum") or objective.optimum.ndim == 2:
        return members
    problems = {x.shape[:1] for x in jax.tree.leaves(objective)}
    if len(problems) > 1 or objective.optimum.ndim != 3:
        raise ValueError(
            f"`objective`: the optimum has shape {objective.optimum.shape}; for an ensemble make one leading axis "
            "in all arrays, as jax.vmap(SquaredError.from_moments) does"
        )
    ((count,),) = problems
    if members not in (None, count):
        raise ValueError(
            f"`network`: has {members} members, but the objective has {count}; give equal numbers, or one of either"
        )
    return count


def spread(network: Network, members: int) -> Network:
    """The network with a leading axis, repeated where it has none."""
    return jax.tree.map(lambda W: np.broadcast_to(W, (members, *W.shape[-2:])), network)


class Ensemble:
    """A question to many members: problems of numpy's arrays, whose objective may have a leading axis."""

    def __init__(
        self,
        solver: str,
        problem: Problem,
        network: Network,
        times: np.ndarray,
        tolerances: tuple[float, np.ndarray],
        tolerance: float,
        max_steps: int,
    ):
        self.solver, self.times, self.tolerance, self.max_steps = solver, times, tolerance, max_steps
        self.problem, self.network, self.objective = problem.on_host(), as_numpy(network), problem.objective
        self.rtol, self.atol = tolerances
        self.apart = self.problem.objective.optimum.ndim == 3
        self.obstacles = None if self.apart else self._obstacles(self.problem)
        self.members = self.atol.size
        self.outputs = [np.full((self.members, len(times), *W.shape[1:]), np.nan) for W in self.network.weights]
        self.endings: list[Ending] = [NEVER_BEGAN] * self.members
        self.costs = np.zeros((3, self.members), dtype=int)
        """Steps, evaluations and rejected steps of every member."""
        self.runs: set[NativeRun] = set()
        """Those under way."""

    def run(self, threads: int | None, progress: bool | Callable[[EnsembleReport], None], started: float) -> Trajectory:
        """The trajectory of all members; `started` is when the clock of its statistics began."""
        threads = min(threads or os.cpu_count() or 1, self.members)
        portions = np.array_split(np.arange(self.members), min(self.members, SHARES * threads))
        wide = max(self.network.widths) > 64
        with (
            one_thread() if wide else nullcontext(),
            interruptible() as interrupted,
            as_reporter(progress) as report,
            ThreadPoolExecutor(threads) as pool,
        ):
            waiting = {pool.submit(self._portion, rows, interrupted) for rows in portions}
            try:
                while waiting:
                    done, waiting = wait(waiting, LOOK_SECONDS, FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    if interrupted.is_set():
                        self._stop()
                    elif done:
                        report(self._report)
            except BaseException:
                interrupted.set()
                self._stop()
                raise
        steps, evaluations, rejected = self.costs.sum(axis=1).tolist()
        networks = jax.tree.unflatten(jax.tree.structure(self.network), self.outputs)
        statistics = Statistics(steps, evaluations, rejected, METHODS[self.solver], time.perf_counter() - started)
        return Trajectory(self.times, networks, tuple(self.endings), statistics, self.objective)

    def _obstacles(self, problem: Problem) -> Obstacles | None:
        at_one, _ = problem.at_unit_rates(jax.tree.map(lambda W: W[0], self.network))
        return obstacles_of(at_one, at_one.objective)

    def _stop(self) -> None:
        for run in list(self.runs):
            run.run.stop()

    def _report(self) -> EnsembleReport:
        done = sum(ending is not NEVER_BEGAN for ending in self.endings)
        return EnsembleReport(done, self.members, int(self.costs[0].sum()))

    def _portion(self, rows: np.ndarray, interrupted: threading.Event) -> None:
        for row in rows.tolist():
            if interrupted.is_set():
                if self.times[0] == 0:
                    for output, W in zip(self.outputs, self.network.weights, strict=True):
                        output[row, 0] = W[row]
            else:
                self._member(row, interrupted)

    def _member(self, row: int, interrupted: threading.Event) -> None:
        """Follows one member to its end, or until `interrupted`, as it would be alone, and judges it."""
        one: Callable[[Any], Any] = lambda tree: jax.tree.map(lambda x: x[row], tree)
        network, problem, obstacles = one(self.network), self.problem, self.obstacles
        if self.apart:
            problem = problem.of(one(problem.objective))
            obstacles = self._obstacles(problem)
        marks = landmarks(problem.objective, network)
        tolerances = self.rtol, float(self.atol[row])
        run = NativeRun(self.solver, problem, network, marks, tolerances, times=self.times)
        self.runs.add(run)
        outcome = run.outcome(run.follow(self.max_steps, interrupted))
        self.runs.remove(run)
        kept = int(np.count_nonzero(np.isin(outcome.ts, self.times)))  # a run that stops early keeps its end, too
        for output, W in zip(self.outputs, outcome.networks.weights, strict=True):
            output[row, :kept] = W[:kept]
        self.costs[:, row] = outcome.counts[:3]
        goal = marks.goal(self.tolerance)[0] if problem.weight_decay is None else None
        stand, at = standing(problem.objective, outcome.last), float(outcome.ts[-1])
        ending = judge(outcome.kind, problem, stand, marks, at, outcome.gradient_norm, goal, self.max_steps)
        fate = fate_of(*problem.at_unit_rates(network), obstacles)
        self.endings[row] = fated(ending, fate, np.asarray(stand.W), goal)
