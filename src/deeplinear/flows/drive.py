"""The host's side of an integration: drives segments, records, reports, answers Ctrl-C."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from .._linalg import one_thread
from ..network import Network
from . import compiled, stepping
from .landmarks import Landmarks, on_host, standing, survey
from .recorder import Recorder

SEGMENT_SECONDS = 0.25  # how long the host lets a segment run before it looks and reports
MOST_STEPS = 4096  # of a first segment, before the speed is known
EVALUATIONS, RATE, START = 40, 1e9, 1e-6  # the guess of it: evaluations a step, operations a second, seconds a call
LOOK_SECONDS = 0.05  # between looks for Ctrl-C
PATIENCE_SECONDS = 0.5  # after Ctrl-C a segment may take this to end; then it is left to itself
MANY, WIDEST = 400, 16.0  # kept outputs below which chosen ones lie farther apart, and by how much at most
T = TypeVar("T")
KINDS = {
    stepping.REACHED: "time",
    stepping.GOAL: "global minimum",
    stepping.STATIONARY: "critical point",
    stepping.STALLED: "stalled",
}


class Report(NamedTuple):
    """What a progress callback is told after every segment."""

    time: float
    loss: float
    excess: float | None
    modes_learned: tuple[int, ...] | None
    steps: int

    @property
    def line(self) -> str:
        """The report in words."""
        learned = "" if self.modes_learned is None else f", modes learned: {len(self.modes_learned)}"
        return f"t = {self.time:.4g}, loss {self.loss:.5g}{learned}, {self.steps} steps"


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
    ):
        self.method, self.problem, self.marks = method, problem, marks
        self.rtol, self.atol = (stepping.per_step(method, tolerance, begun.network) for tolerance in tolerances)
        self.goal = -np.inf if goal is None else goal + marks.tail
        self.recorder = Recorder(keep, marks.progressions)
        self.progress, self.time_unit = begun, float(begun.h)
        self.buffer = stepping.buffer_of(W.shape for W in begun.network.weights)

    @property
    def tried(self) -> int:
        """Steps so far, rejected ones too."""
        return int(self.progress.steps) + int(self.progress.rejected)

    def follow(
        self,
        times: np.ndarray | None,
        max_time: float | None,
        max_steps: int,
        interrupted: threading.Event,
        report: Callable[[Callable[[], Report]], None],
        save: Callable[["Run", bool], None],
    ) -> str:
        """Drives segments to the end; returns the kind of ending.

        `save` is handed the run after every segment, and with True at the end.
        """
        budget = first_budget(self.progress.network)
        if not self.recorder.times and (times is None or times[0] == 0):
            self.recorder.add(0.0, self.progress.network.weights)
        known = self.method, type(self.problem.objective), self.progress.network.widths
        # a kernel that is compiled already is done before anyone could wait for it
        inline = compiled.is_small(self.progress.network) and known in _compiled
        # one kernel calls no LAPACK; everything else has come to an end here, `begin` was the last
        threads = nullcontext() if compiled.is_small(self.progress.network) else one_thread()
        with threads, nullcontext(where_it_is) if inline else beside(interrupted) as call:
            while True:
                kind = self._ending(times, max_steps, interrupted)
                if kind is not None:
                    break
                began, before = time.perf_counter(), self.tried
                outcome: Any = call(self._segment(times, max_time, min(budget, max_steps - before)))
                if outcome is None:
                    kind = "interrupted"
                    break
                self.progress, count, when, networks = outcome
                self.recorder.extend(np.asarray(when), networks, int(count))
                report(self._report)
                save(self, False)
                budget = next_budget(budget, self.tried - before, time.perf_counter() - began)
                _compiled.add(known)
        save(self, True)
        return self._stop(kind)

    def _ending(self, times: np.ndarray | None, max_steps: int, interrupted: threading.Event) -> str | None:
        """Why the run is over, or None."""
        status, done = int(self.progress.status), len(self.recorder.times)
        if status != stepping.RUNNING and (times is None or status != stepping.REACHED):
            return KINDS[status]
        if times is not None and done >= len(times):
            return "time"
        if self.tried >= max_steps:
            return "steps"
        return "interrupted" if interrupted.is_set() else None

    def _segment(self, times: np.ndarray | None, max_time: float | None, budget: int) -> Callable[[], tuple]:
        """What carries the run on by a segment; it changes nothing here, so that it can be left to itself."""
        progress = self.progress._replace(status=np.asarray(stepping.RUNNING))
        limits = self._limits(times, max_time)
        # numbers as arrays: a Python number would be compiled in
        state = (self.method, self.problem, progress, limits, np.asarray(budget))
        return lambda: jax.block_until_ready(compiled.advance(*state))

    def _stop(self, kind: str) -> str:
        """Keeps the last network too, wherever the run stopped."""
        t = float(self.progress.t)
        if not self.recorder.times or self.recorder.times[-1] < t:
            self.recorder.add(t, self.progress.network.weights)
        return kind

    def _limits(self, times: np.ndarray | None, max_time: float | None) -> stepping.Limits:
        targets = np.full(self.buffer, np.inf)
        if times is not None:
            done = len(self.recorder.times)
            chunk = times[done : done + self.buffer]
            targets[: len(chunk)] = chunk
            scales = np.inf, np.inf, -np.inf
        else:
            targets[0] = np.inf if max_time is None else max_time
            scales = self.time_unit, self.marks.matrix_size, self.goal
        spread = np.clip(MANY / (self.recorder.keep or MANY), 1.0, WIDEST)
        numbers = (targets, *scales, self.marks.noise, self.rtol, self.atol, spread)
        on_host: list[Any] = [np.asarray(number) for number in numbers]  # the compiled call takes them over
        return stepping.Limits(*on_host)

    def _report(self) -> Report:
        stand = standing(self.problem.objective, self.progress.network)
        excess = None if stand.excess is None else float(stand.excess)
        learned = self.marks.learned(np.asarray(stand.W))
        return Report(float(self.progress.t), float(stand.loss), excess, learned, int(self.progress.steps))


def begin(
    method: stepping.Method, problem: stepping.Problem, network: Network, rtol: float
) -> tuple[Landmarks, stepping.Progress]:
    """The landmarks of a problem and the state before the first step, in one compiled call."""
    surveyed, begun = _begin(method, problem, network, np.asarray(stepping.per_step(method, rtol, network)))
    return on_host(surveyed), begun


@compiled.jitted
def _begin(method: stepping.Method, problem: stepping.Problem, network: Network, rtol: Any):
    return survey(problem.objective, network), stepping.begin(method, problem, network, rtol)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C interrupts as usual. Outside the main thread it stays unset."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(number, frame):
        event.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def beside(interrupted: threading.Event) -> Iterator[Callable[[Callable[[], T]], T | None]]:
    """A caller of functions in a thread of their own, which leaves them to themselves (None) some time after Ctrl-C.

    Compiled code and the compiler cannot be interrupted, and one step of a large network may take minutes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda f: f()
        return
    pool = ThreadPoolExecutor(1)

    def call(f: Callable[[], T]) -> T | None:
        future, left = pool.submit(where_it_was(f)), PATIENCE_SECONDS
        while left > 0:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                if future.done():  # the function's own
                    raise
                left -= LOOK_SECONDS if interrupted.is_set() else 0
        return None

    try:
        yield call
    finally:
        pool.shutdown(wait=False)


_compiled: set = set()
"""Methods, kinds of objective and widths whose segments have run in this process."""


def where_it_is(f: Callable[[], T]) -> T:
    """f in this thread."""
    return f()


def where_it_was(f: Callable[..., T]) -> Callable[..., T]:
    """f for another thread, on the device that JAX uses in this one."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def g(*arguments: Any) -> T:
        with jax.default_device(device):
            return f(*arguments)

    return g


def first_budget(network: Network, members: int = 1) -> int:
    """Steps that a first segment of so many networks is likely to take within `SEGMENT_SECONDS`."""
    size = sum(W.shape[-1] * W.shape[-2] for W in network.weights)
    evaluation = START + 6 * size * min(network.widths[0], network.widths[-1]) / RATE
    return int(np.clip(SEGMENT_SECONDS / (members * EVALUATIONS * evaluation), 1, MOST_STEPS))


def next_budget(budget: int, steps: int, seconds: float) -> int:
    """Steps of the next segment, after one that took `seconds` for `steps`; `budget` were allowed."""
    return max(1, min(2 * budget, int(steps * SEGMENT_SECONDS / max(seconds, 1e-6))))
