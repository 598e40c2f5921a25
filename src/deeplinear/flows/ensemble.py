"""Ensembles: many networks, or many problems, each integrated as it would be alone.

Members share output times and a compiled program, nothing else: each has its own steps, tolerances, budget and ending.
They are dealt out in portions of one fixed size, so that one compilation serves ensembles of every size, and threads
take portions as they come free (compiled calls release Python's lock). Places that a portion does not fill hold
copies of a member that never move.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .._linalg import one_thread
from ..network import Network
from ..running.compiling import is_small
from ..running.landmarks import marks_of, stand_of, survey
from ..running.progress import as_reporter
from ..running.segments import beside, interruptible, next_budget, where_it_was
from ..trajectory import Ending, Statistics, Trajectory
from . import compiled, stepping
from .algebra import size_of
from .drive import KINDS, first_budget
from .endings import Fate, fate_of, fated, judge, obstacles_of

PLACES = 32  # members in a portion that run one by one: enough to make the host's share small, few enough to stop soon
BUFFER_BYTES = 2**26, 2**32  # what the outputs of a portion may take on the device: one by one, side by side

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
    """A question to many members, on the host: arrays with a leading axis are numpy's, to be dealt out."""

    def __init__(
        self,
        method: stepping.Method,
        problem: stepping.Problem,
        network: Network,
        times: np.ndarray,
        tolerances: tuple[float, np.ndarray],
        tolerance: float,
        max_steps: int,
    ):
        self.method, self.problem, self.times = method, problem, times
        self.rtol, self.atol = (stepping.per_step(method, tolerance, network) for tolerance in tolerances)
        self.tolerance, self.max_steps = tolerance, max_steps
        self.network = jax.tree.map(np.asarray, network)
        batched = getattr(getattr(problem.objective, "optimum", None), "ndim", 2) == 3
        # which arrays of the problem have the members' axis
        apart = eqx.tree_at(
            lambda spec: spec.objective,
            jax.tree.map(lambda _: False, problem),
            jax.tree.map(lambda _: batched, problem.objective),
        )
        each, self.shared = eqx.partition(problem, apart)
        self.each, self.apart = jax.tree.map(np.asarray, each), batched
        self.obstacles = None if batched else obstacles_of(problem, problem.objective)
        self.members = self.atol.size
        self.buffer = stepping.buffer_of(W.shape[1:] for W in self.network.weights)
        size = sum(W[0].size for W in self.network.weights) * 8 * self.buffer
        most = BUFFER_BYTES[0 if compiled.one_by_one() else 1] // size
        self.places = max(1, min(PLACES if compiled.one_by_one() else self.members, most))

    def run(self, threads: int | None, progress: bool | Callable[[EnsembleReport], None], started: float) -> Trajectory:
        """The trajectory of all members; `started` is when the clock of its statistics began."""
        threads = (threads or os.cpu_count() or 1) if compiled.one_by_one() else 1
        count = max(-(-self.members // self.places), min(threads, self.members))
        portions = [Portion(self, rows) for rows in np.array_split(np.arange(self.members), count)]
        limit = nullcontext() if is_small(self.network) else one_thread()
        with limit, interruptible() as interrupted, as_reporter(progress) as report:
            if threads > 1:  # compile once, before threads ask for the same program
                with beside(interrupted) as call:
                    call(lambda: Portion(self, np.arange(0)).run(interrupted))
            with ThreadPoolExecutor(min(threads, count)) as pool:
                running = {pool.submit(where_it_was(portion.run), interrupted): portion for portion in portions}
                try:
                    done = []
                    for future in as_completed(running):
                        future.result()
                        done.append(running[future])
                        report(lambda: self._report(done))
                except BaseException:
                    interrupted.set()
                    raise
        return self._trajectory(portions, started)

    def fate(self, row: int) -> Fate:
        """What theory says of one member beforehand."""
        one = lambda tree: jax.tree.map(lambda x: x[row], tree)
        obstacles = self.obstacles
        if self.apart:
            obstacles = obstacles_of(self.problem, jax.device_put(eqx.combine(one(self.each), self.shared).objective))
        return fate_of(self.problem, one(self.network), obstacles)

    def _report(self, done: list["Portion"]) -> EnsembleReport:
        steps = sum(int(np.sum(portion.costs[0])) for portion in done)
        return EnsembleReport(sum(portion.members for portion in done), self.members, steps)

    def _trajectory(self, portions: list["Portion"], started: float) -> Trajectory:
        # jnp.asarray compiles a copy, and after Ctrl-C the compiler may still be busy
        weights = [jax.device_put(np.concatenate(layer)) for layer in zip(*(p.outputs for p in portions), strict=True)]
        networks = jax.tree.unflatten(jax.tree.structure(self.network), weights)
        steps, rejected, evaluations = (
            int(np.sum([np.sum(portion.costs[i]) for portion in portions])) for i in range(3)
        )
        endings = tuple(ending for portion in portions for ending in portion.endings)
        statistics = Statistics(steps, evaluations, rejected, self.method.name, time.perf_counter() - started)
        return Trajectory(jax.device_put(self.times), networks, endings, statistics, self.problem.objective)


class Portion:
    """Members that one compiled call carries on, their outputs (NaN where there are none) and endings."""

    def __init__(self, ensemble: Ensemble, rows: np.ndarray):
        self.ensemble, self.members = ensemble, len(rows)
        self.rows = np.concatenate([rows, np.full(ensemble.places - len(rows), rows[0] if len(rows) else 0)])
        self.outputs: list[np.ndarray] = []
        self.endings: list[Ending] = []
        self.costs = np.zeros((3, len(rows)), dtype=int)
        """Steps, rejected steps, and evaluations of every member."""

    def run(self, interrupted: threading.Event) -> None:
        """Follows the members to their ends, or until `interrupted`."""
        ensemble = self.ensemble
        network, each = (jax.tree.map(lambda x: x[self.rows], part) for part in (ensemble.network, ensemble.each))
        problem = (ensemble.method, each, ensemble.shared)
        self.outputs = [np.full((self.members, len(ensemble.times), *W.shape[1:]), np.nan) for W in network.weights]
        done = np.zeros(ensemble.places, dtype=int)
        if ensemble.times[0] == 0:
            done += 1
            for output, W in zip(self.outputs, network.weights, strict=True):
                output[:, 0] = W[: self.members]
        if interrupted.is_set():
            self.endings = [NEVER_BEGAN] * self.members  # a compiled call might have to be compiled first
            return
        surveyed, progress = _prepare(*problem, network, np.full(ensemble.places, ensemble.rtol))
        kinds, progress = self._follow(problem, progress, done, interrupted)
        stand = _stand(*problem, progress.network)
        surveyed, stand, progress = jax.tree.map(np.asarray, (surveyed, stand, progress))
        self.costs = np.stack([progress.steps, progress.rejected, progress.evaluations])[:, : self.members]
        lengths = size_of(progress.slope)
        goes = ensemble.problem.weight_decay is None  # else no closed form says what there is to reach
        for i in range(self.members):
            one = lambda tree, i=i: jax.tree.map(lambda x: x[i], tree)
            marks = marks_of(one(surveyed))
            goal = marks.goal(ensemble.tolerance)[0] if goes else None
            state = (float(progress.t[i]), float(lengths[i]), goal, ensemble.max_steps)
            at = one(stand)
            ending = judge(kinds[i], ensemble.problem, at, marks, *state)
            self.endings.append(fated(ending, ensemble.fate(int(self.rows[i])), at.W, goal))

    def _follow(self, problem: tuple, progress: stepping.Progress, done: np.ndarray, interrupted: threading.Event):
        """Segments until every member has all outputs or has failed; the kinds of ending, and where members stand."""
        ensemble, most = self.ensemble, self.ensemble.max_steps
        budget = first_budget(ensemble.network, ensemble.places)
        real = np.arange(ensemble.places) < self.members
        status, tried = np.full(ensemble.places, stepping.RUNNING), np.zeros(ensemble.places, dtype=int)
        going, first = real, True
        while first or (going.any() and not interrupted.is_set()):
            going = real & (done < len(ensemble.times)) & (status == stepping.RUNNING) & (tried < most)
            progress = progress._replace(status=np.where(going, stepping.RUNNING, stepping.STALLED))
            began = time.perf_counter()
            allowed = np.minimum(budget, most - tried)
            progress, *outputs = compiled.advance_members(*problem, progress, self._limits(done), allowed)
            done = self._record(done, *outputs)
            tried, before = np.asarray(progress.steps) + np.asarray(progress.rejected), tried
            status = np.where(going, np.asarray(progress.status), status)
            status = np.where(status == stepping.REACHED, stepping.RUNNING, status)
            budget = next_budget(budget, int(np.max(tried - before)), time.perf_counter() - began)
            first = False
        kinds = [KINDS.get(int(s), "steps" if n >= most else "interrupted") for s, n in zip(status, tried, strict=True)]
        return [("time" if n == len(ensemble.times) else kind) for kind, n in zip(kinds, done, strict=True)], progress

    def _limits(self, done: np.ndarray) -> stepping.Limits:
        times = self.ensemble.times
        ahead = done[:, None] + np.arange(self.ensemble.buffer)
        targets = np.where(ahead < len(times), times[np.minimum(ahead, len(times) - 1)], np.inf)
        same = lambda number: np.full(len(done), number)
        limits: list[Any] = [targets, *map(same, (np.inf, np.inf, -np.inf, 0.0, self.ensemble.rtol))]
        limits += [self.ensemble.atol[self.rows], same(1.0)]
        return stepping.Limits(*limits)

    def _record(self, done: np.ndarray, counts: Any, when: Any, networks: Network) -> np.ndarray:
        """Copies new outputs to their places; how many each member has then."""
        places = np.arange(self.ensemble.buffer)
        ahead = done[:, None] + places
        times = np.append(self.ensemble.times, np.full(len(places), np.nan))
        # a run that stalls leaves an output where it did, too
        new = (places < np.asarray(counts)[:, None]) & (np.asarray(when) == times[ahead])
        member, place = np.nonzero(new[: self.members])
        for output, W in zip(self.outputs, networks.weights, strict=True):
            output[member, ahead[member, place]] = np.asarray(W)[member, place]
        return done + np.sum(new, axis=1)


_prepare = compiled.over_members(
    lambda method, problem, network, rtol: (
        survey(problem.objective, network),
        stepping.begin(method, problem, network, rtol),
    )
)
_stand = compiled.over_members(lambda method, problem, network: stand_of(problem.objective, network))
