"""The host's side of an integration: drives segments, records, reports, answers Ctrl-C."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..network import Network
from . import compiled, stepping
from .landmarks import Landmarks, standing
from .recorder import Recorder

TIME_SPACING = 1 / 100  # distance of chosen outputs, as a share of the time so far; then thinned to `keep`
MATRIX_SPACING = 1 / 250  # and as a share of the size of W
SEGMENT_SECONDS = 0.25  # how long the host lets a segment run before it looks and reports
FIRST_BUDGET = 4096  # steps of the first segments, before their speed is known
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
        network: Network,
        marks: Landmarks,
        tolerances: tuple[float, float],
        goal: float | None,
        keep: int | None,
    ):
        self.method, self.problem, self.marks = method, problem, marks
        self.rtol, self.atol = (method.calibration * tolerance for tolerance in tolerances)
        self.goal = -np.inf if goal is None else goal + marks.tail
        self.recorder = Recorder(keep, marks.progressions)
        self.progress = compiled.begin(method, problem, network, np.asarray(self.rtol))
        self.time_unit = 0.0
        self.tried = 0

    def follow(
        self,
        times: np.ndarray | None,
        max_time: float | None,
        max_steps: int,
        interrupted: threading.Event,
        report: Callable[[Callable[[], Report]], None],
    ) -> str:
        """Drives segments to the end; returns the kind of ending."""
        done, budget = 0, FIRST_BUDGET
        self.time_unit = float(self.progress.h)
        if times is None or times[0] == 0:
            self.recorder.add(0.0, self.progress.network)
            done = 1
        while not interrupted.is_set():
            if times is not None and done >= len(times):
                return "time"
            if self.tried >= max_steps:
                return self._stop("steps")
            allowed, began = min(budget, max_steps - self.tried), time.perf_counter()
            count, status = self._segment(times, done, max_time, allowed)
            done += count if times is not None else 0
            report(self._report)
            if status != stepping.RUNNING and not (times is not None and status == stepping.REACHED):
                return self._stop(KINDS[status])
            seconds = time.perf_counter() - began
            budget = max(1, min(2 * budget, int(allowed * SEGMENT_SECONDS / max(seconds, 1e-6))))
        return self._stop("interrupted")

    def _segment(self, times: np.ndarray | None, done: int, max_time: float | None, budget: int) -> tuple[int, int]:
        """Runs one segment; returns the number of outputs and the status."""
        progress = self.progress._replace(status=np.asarray(stepping.RUNNING))
        limits = self._limits(times, done, max_time)
        # numbers as arrays: a Python number would be compiled in
        self.progress, count, when, networks = compiled.advance(
            self.method, self.problem, progress, limits, np.asarray(budget)
        )
        self.recorder.extend(np.asarray(when), networks, int(count))
        self.tried = int(self.progress.steps) + int(self.progress.rejected)
        return int(count), int(self.progress.status)

    def _stop(self, kind: str) -> str:
        """Keeps the last network too, wherever the run stopped."""
        t = float(self.progress.t)
        if not self.recorder.times or self.recorder.times[-1] < t:
            self.recorder.add(t, self.progress.network)
        return kind

    def _limits(self, times: np.ndarray | None, done: int, max_time: float | None) -> stepping.Limits:
        targets = np.full(stepping.BUFFER, np.inf)
        if times is not None:
            chunk = times[done : done + stepping.BUFFER]
            targets[: len(chunk)] = chunk
            apart_t = apart_W = np.inf
        else:
            targets[0] = np.inf if max_time is None else max_time
            size = max(self.marks.matrix_size, float(np.linalg.norm(self.progress.recorded)), 1e-300)
            apart_t = TIME_SPACING * max(float(self.progress.t), self.time_unit)
            apart_W = MATRIX_SPACING * size
        goal = self.goal if times is None else -np.inf
        numbers = (targets, apart_t, apart_W, goal, self.marks.noise, self.rtol, self.atol)
        on_host: list[Any] = [np.asarray(number) for number in numbers]  # the compiled call takes them over
        return stepping.Limits(*on_host)

    def _report(self) -> Report:
        stand = standing(self.problem.objective, self.progress.network)
        excess = None if stand.excess is None else float(stand.excess)
        learned = self.marks.learned(np.asarray(stand.W))
        return Report(float(self.progress.t), float(stand.loss), excess, learned, int(self.progress.steps))


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
