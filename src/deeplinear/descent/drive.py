"""The host's side of a descent: drives segments, records, reports, answers Ctrl-C."""

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
from ..running.compiling import is_small
from ..running.landmarks import Landmarks
from ..running.progress import report_of
from ..running.segments import SEGMENT_SECONDS, beside, evaluation_seconds, next_budget
from .stepping import Position, Problem, Rule, advance, begin

BUFFER, BUFFER_BYTES = 128, 2**24  # outputs held on the device before the host fetches them, and what they may take
MOST_STEPS = 100_000  # of a first segment, before the speed is known
NEVER = np.iinfo(np.int64).max


class Descent:
    """One descent: the position, what was recorded, the outputs that are still to come."""

    def __init__(self, rule: Rule, problem: Problem, network: Network, at: np.ndarray, marks: Landmarks):
        self.rule, self.problem, self.marks = rule, problem, marks
        self.at = at
        """Numbers of steps after which to record, increasing."""
        self.position: Position = begin(rule, problem, network)
        self.times: list[float] = []
        self.weights: list[list[np.ndarray]] = [[] for _ in network.weights]
        size = 8 * sum(W.size for W in network.weights)
        self.buffer = max(1, min(BUFFER, BUFFER_BYTES // size))

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return int(self.position.k)

    def follow(self, interrupted: threading.Event, report: Callable) -> str:
        """Drives segments to the last output; why it ended."""
        network, steps = self.position.network, int(self.at[-1])
        if self.at[0] == 0:
            self._record(np.zeros(1), jax.tree.map(lambda W: W[None], network), 1)
        guess = evaluation_seconds(network) * (1 if self.problem.draws is None else 20)
        budget = int(np.clip(SEGMENT_SECONDS / guess, 1, MOST_STEPS))
        # one kernel calls no LAPACK; everything else has come to an end here
        with nullcontext() if is_small(network) else one_thread(), beside(interrupted) as call:
            while True:
                kind = self._ending(steps, interrupted)
                if kind is not None:
                    break
                began, before = time.perf_counter(), self.steps
                outcome: Any = call(self._segment(budget))
                if outcome is None:
                    kind = "interrupted"
                    break
                self.position, count, times, networks = outcome
                self._record(np.asarray(times), networks, int(count))
                position = self.position
                report(lambda at=position: report_of(self.problem.objective, at.network, at.t, at.k, self.marks))
                budget = next_budget(budget, self.steps - before, time.perf_counter() - began)
        if not self.times or self.times[-1] < float(self.position.t):
            self._record(np.asarray(self.position.t)[None], jax.tree.map(lambda W: W[None], self.position.network), 1)
        return kind

    def networks(self) -> tuple[np.ndarray, Network]:
        """Times (T,) and the networks with a leading time axis."""
        layers = [jnp.asarray(np.concatenate(parts)) for parts in self.weights]
        return np.array(self.times), jax.tree.unflatten(jax.tree.structure(self.position.network), layers)

    def _ending(self, steps: int, interrupted: threading.Event) -> str | None:
        if not bool(self.position.alive):
            return "diverged"
        if self.steps >= steps:
            return "steps"
        return "interrupted" if interrupted.is_set() else None

    def _segment(self, budget: int) -> Callable[[], tuple]:
        targets = np.full(self.buffer, NEVER)
        done = int(np.searchsorted(self.at, self.steps, side="right"))
        chunk = self.at[done : done + self.buffer]
        targets[: len(chunk)] = chunk
        # what runs on beyond the last output would be lost
        budget = min(budget, int(self.at[-1]) - self.steps)
        state = (self.rule, self.problem, self.position, targets, np.asarray(budget))
        return lambda: jax.block_until_ready(advance(*state))

    def _record(self, times: np.ndarray, networks: Network, count: int) -> None:
        self.times.extend(times[:count].tolist())
        for kept, W in zip(self.weights, networks.weights, strict=True):
            kept.append(np.array(W[:count]))
