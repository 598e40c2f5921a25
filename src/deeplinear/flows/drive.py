"""The host's side of an integration: drives segments, records, reports, answers Ctrl-C."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._linalg import one_thread
from ..network import Network
from ..running.compiling import is_small, jitted
from ..running.landmarks import Landmarks, marks_of, survey
from ..running.packing import Packed
from ..running.progress import Report, report_of
from ..running.segments import SEGMENT_SECONDS, beside, evaluation_seconds, next_budget, where_it_is
from . import compiled, stepping
from .algebra import size_of
from .endings import Outcome
from .recorder import Recorder

MOST_STEPS = 4096  # of a first segment, before the speed is known
EVALUATIONS = 40  # the guess of it: evaluations a step
MANY, WIDEST = 400, 16.0  # kept outputs below which chosen ones lie farther apart, and by how much at most
KINDS = {
    stepping.REACHED: "time",
    stepping.GOAL: "global minimum",
    stepping.STATIONARY: "critical point",
    stepping.STALLED: "stalled",
}


class Run:
    """One integration: the device's state, the recorder, and the limits of the next segment."""

    def __init__(
        self,
        method: stepping.Method,
        problem: stepping.Problem,
        begun: stepping.Progress,
        marks: Landmarks,
        tolerances: tuple[float, float],
        goal: float | None,
        keep: int | None,
        times: np.ndarray | None,
        max_time: float | None,
    ):
        self.method, self.problem, self.marks = method, problem, marks
        self.times, self.max_time = times, max_time
        self.rtol, self.atol = (stepping.per_step(method, tolerance, begun.network) for tolerance in tolerances)
        self.goal = -np.inf if goal is None else goal + marks.tail
        self.recorder = Recorder(keep, marks.progressions)
        self.progress, self.time_unit = begun, float(begun.h)
        if keep is not None and marks.noise == 0 and problem.weight_decay is None:  # no gradient: nothing ever moves
            self.progress = begun._replace(status=np.asarray(stepping.STATIONARY))
        self.buffer = stepping.buffer_of(W.shape for W in begun.network.weights)

    @property
    def version(self) -> str:
        """What decides how steps are rounded: JAX's releases do so each in its own way."""
        return f"4, JAX {jax.__version__}"

    @property
    def network(self) -> Network:
        """Where the run stands."""
        return self.progress.network

    def state(self) -> dict[str, np.ndarray]:
        """From what the run goes on, beside what was recorded."""
        leaves = {f"state{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(self.progress))}
        return leaves | {"time_unit": np.asarray(self.time_unit, dtype=float)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes the run to a state."""
        leaves, structure = jax.tree.flatten(self.progress)
        self.progress = jax.tree.unflatten(structure, [jnp.asarray(state[f"state{i}"]) for i in range(len(leaves))])
        self.time_unit = float(state["time_unit"])

    @property
    def tried(self) -> int:
        """Steps so far, rejected ones too."""
        return int(self.progress.steps) + int(self.progress.rejected)

    def follow(
        self,
        max_steps: int,
        interrupted: threading.Event,
        report: Callable[[Callable[[], Report]], None],
        save: Callable[["Run", bool], None],
    ) -> str:
        """Drives segments to the end; returns the kind of ending.

        `save` is handed the run after every segment, and with True at the end.
        """
        times, budget = self.times, first_budget(self.progress.network)
        if not self.recorder.times and (times is None or times[0] == 0):
            self.recorder.add(0.0, self.progress.network.weights)
        known = self.method, type(self.problem.objective), self.progress.network.widths
        # a kernel that is compiled already is done before anyone could wait for it
        inline = is_small(self.progress.network) and known in _compiled
        # one kernel calls no LAPACK; everything else has come to an end here, `begin` was the last
        threads = nullcontext() if is_small(self.progress.network) else one_thread()
        with threads, nullcontext(where_it_is) if inline else beside(interrupted) as call:
            while True:
                kind = self._ending(max_steps, interrupted)
                if kind is not None:
                    break
                began, before = time.perf_counter(), self.tried
                outcome: Any = call(self._segment(min(budget, max_steps - before)))
                if outcome is None:
                    kind = "interrupted"
                    break
                self.progress, count, when, networks = outcome
                self.recorder.extend(
                    np.asarray(when)[: int(count)], [np.asarray(W)[: int(count)] for W in networks.weights]
                )
                report(self._report)
                save(self, False)
                budget = next_budget(budget, self.tried - before, time.perf_counter() - began)
                _compiled.add(known)
        save(self, True)
        return self._stop(kind)

    def _ending(self, max_steps: int, interrupted: threading.Event) -> str | None:
        """Why the run is over, or None."""
        times, status, done = self.times, int(self.progress.status), len(self.recorder.times)
        if status != stepping.RUNNING and (times is None or status != stepping.REACHED):
            return KINDS[status]
        if times is not None and done >= len(times):
            return "time"
        if self.tried >= max_steps:
            return "steps"
        return "interrupted" if interrupted.is_set() else None

    def _segment(self, budget: int) -> Callable[[], tuple]:
        """What carries the run on by a segment; it changes nothing here, so that it can be left to itself."""
        progress = self.progress._replace(status=np.asarray(stepping.RUNNING))
        limits = self._limits()
        # numbers as arrays: a Python number would be compiled in
        state = (self.method, self.problem, progress, limits, np.asarray(budget))
        return lambda: jax.block_until_ready(compiled.advance(*state))

    def _stop(self, kind: str) -> str:
        """Keeps the last network too, wherever the run stopped."""
        t = float(self.progress.t)
        if not self.recorder.times or self.recorder.times[-1] < t:
            self.recorder.add(t, self.progress.network.weights)
        return kind

    def outcome(self, kind: str) -> Outcome:
        """What the run leaves behind."""
        state = self.progress
        ts, weights = self.recorder.networks()
        networks = jax.tree.unflatten(jax.tree.structure(state.network), weights)
        counts = int(state.steps), int(state.evaluations), int(state.rejected), self.method.name
        return Outcome(kind, ts, networks, state.network, float(size_of(state.slope)), counts)

    def _limits(self) -> stepping.Limits:
        times, targets = self.times, np.full(self.buffer, np.inf)
        if times is not None:
            done = len(self.recorder.times)
            chunk = times[done : done + self.buffer]
            targets[: len(chunk)] = chunk
            scales = np.inf, np.inf, -np.inf
        else:
            targets[0] = np.inf if self.max_time is None else self.max_time
            scales = self.time_unit, self.marks.matrix_size, self.goal
        spread = np.clip(MANY / (self.recorder.keep or MANY), 1.0, WIDEST)
        numbers = (targets, *scales, self.marks.noise, self.rtol, self.atol, spread)
        on_host: list[Any] = [np.asarray(number) for number in numbers]  # the compiled call takes them over
        return stepping.Limits(*on_host)

    def _report(self) -> Report:
        progress = self.progress
        return report_of(self.problem.objective, progress.network, progress.t, progress.steps, self.marks)


def begin(
    method: stepping.Method, problem: stepping.Problem, network: Network, rtol: float
) -> tuple[Landmarks, stepping.Progress]:
    """The landmarks of a problem and the state before the first step, in one compiled call."""
    question = method, problem, network, np.asarray(stepping.per_step(method, rtol, network))
    surveyed, begun = _begin_packed(*question).unpack() if is_small(network) else _begin(*question)
    return marks_of(surveyed), begun


def _survey_and_begin(method: stepping.Method, problem: stepping.Problem, network: Network, rtol: Any) -> tuple:
    return survey(problem.objective, network), stepping.begin(method, problem, network, rtol)


_begin = jitted(_survey_and_begin)
_begin_packed = jitted(lambda *question: Packed.of(_survey_and_begin(*question)))


_compiled: set = set()
"""Methods, kinds of objective and widths whose segments have run in this process."""


def first_budget(network: Network, members: int = 1) -> int:
    """Steps that a first segment of so many networks is likely to take within `SEGMENT_SECONDS`."""
    seconds = members * EVALUATIONS * evaluation_seconds(network)
    return int(np.clip(SEGMENT_SECONDS / seconds, 1, MOST_STEPS))
