"""Ensembles of squared error: every member is a run of the compiled engine of its own; threads share the members."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np

from .._linalg import as_numpy, one_thread
from ..network import Network
from ..running.landmarks import landmarks, standing
from ..running.progress import as_reporter
from ..running.segments import LOOK_SECONDS, interruptible
from ..trajectory import Ending, Statistics, Trajectory
from .endings import fate_of, fated, judge, obstacles_of
from .ensemble import NEVER_BEGAN, EnsembleReport
from .native import METHODS, NativeRun
from .stepping import Problem

SHARES = 8  # portions of members that each thread takes, one after another: the last ones finish together


class NativeEnsemble:
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
        self.problem, self.network, self.objective = as_numpy(problem), as_numpy(network), problem.objective
        self.rtol, self.atol = tolerances
        self.apart = self.problem.objective.optimum.ndim == 3
        self.obstacles = None if self.apart else obstacles_of(self.problem, self.problem.objective)
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
        networks = jax.tree.unflatten(jax.tree.structure(self.network), [jax.device_put(W) for W in self.outputs])
        statistics = Statistics(steps, evaluations, rejected, METHODS[self.solver], time.perf_counter() - started)
        return Trajectory(jax.device_put(self.times), networks, tuple(self.endings), statistics, self.objective)

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
            obstacles = obstacles_of(problem, problem.objective)
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
        fate = fate_of(problem, network, obstacles)
        self.endings[row] = fated(ending, fate, np.asarray(stand.W), goal)
