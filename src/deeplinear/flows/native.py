"""One run of squared error in the compiled engine: segments, records, reports, Ctrl-C."""

import threading
from collections.abc import Callable

import jax
import numpy as np

from .._trees import remembered
from ..dynamics import engine, library
from ..network import Network
from ..objectives import SquaredError
from ..running.landmarks import Landmarks
from ..running.progress import Report, report_of
from .endings import Outcome
from .problem import Problem
from .recorder import Recorder

MANY, WIDEST = 400, 16.0  # kept outputs below which chosen ones lie farther apart, and by how much at most
METHODS = {"auto": "auto", "rock4": "rock4", "rodas4": "rodas4", "bdf": "rodas4", "dopri8": "dopri8"}
"""The engine's name of a solver."""
KINDS = {
    engine.REACHED: "time",
    engine.GOAL: "global minimum",
    engine.STATIONARY: "critical point",
    engine.STALLED: "stalled",
}


def is_native(problem: Problem) -> bool:
    """Whether the compiled engine integrates this problem."""
    return isinstance(problem.objective, SquaredError) and not problem.project


def engine_problem(problem: Problem, depth: int) -> engine.Problem:
    """A squared error with its mask, decay and rates as the engine takes it."""
    objective = problem.objective.on_host
    per_layer = lambda value: None if value is None else np.broadcast_to(np.asarray(value, dtype=float), (depth,))
    return engine.Problem(
        objective.optimum,
        remembered(objective, "root", lambda: _root(objective)),
        float(objective.factor),
        per_layer(problem.rates),
        per_layer(problem.weight_decay),
        None if problem.mask is None else [np.asarray(M) for M in problem.mask.weights],
        objective.graded,
    )


def _root(objective: SquaredError) -> np.ndarray | None:
    """T with T T^T = sigma_xx: the columns of `root_xx` that are not zero; orthogonal ones where variances are graded.

    Where no input ever occurs one column of zeros is left.
    """
    if objective.whitened:
        return None
    if objective.graded:
        moment = objective.second_moment
        return moment.axes * np.sqrt(moment.variances)
    root = objective.root_xx
    seen = root.any(axis=0)
    return root[:, seen] if seen.any() else root[:, :1]


class NativeRun:
    """One integration: the engine's run, what was recorded of it, and how it ended.

    `goal` is the excess loss above the smallest loss of these widths at which it stops; `keep` None: outputs are at
    `times`, otherwise chosen until `max_time`.
    """

    def __init__(
        self,
        solver: str,
        problem: Problem,
        network: Network,
        marks: Landmarks,
        tolerances: tuple[float, float],
        goal: float | None = None,
        keep: int | None = None,
        times: np.ndarray | None = None,
        max_time: float | None = None,
    ):
        self.solver, self.problem, self.marks = solver, problem, marks
        self.as_network = lambda weights: jax.tree.unflatten(jax.tree.structure(network), weights)
        self.recorder = Recorder(keep, marks.progressions)
        settings = engine.Settings(
            METHODS[solver],
            *tolerances,
            times=times,
            max_time=np.inf if max_time is None else max_time,
            goal=-np.inf if goal is None else goal + marks.tail,
            spread=float(np.clip(MANY / (keep or MANY), 1.0, WIDEST)),
        )
        self.run = engine.Run(
            engine_problem(problem, network.depth), [np.asarray(W) for W in network.weights], settings
        )
        # without a gradient nothing ever moves
        self.at_rest = keep is not None and marks.noise == 0 and problem.weight_decay is None

    @property
    def version(self) -> str:
        """What decides how steps are rounded."""
        loaded = library.load()
        return f"4, engine {loaded.call['sources']().decode()} for {loaded.level}"

    @property
    def network(self) -> Network:
        """Where the run stands."""
        return self.as_network(self.run.weights())

    def follow(
        self,
        max_steps: int,
        interrupted: threading.Event,
        report: Callable[[Callable[[], Report]], None] = lambda make: None,
        save: Callable[["NativeRun", bool], None] = lambda run, last: None,
    ) -> str:
        """Drives segments to the end; returns the kind of ending.

        `save` is handed the run after every segment, and with True at the end.
        """
        kind, summary = ("critical point" if self.at_rest else None), self.run.summary()
        while kind is None:
            kind = self._ending(summary, max_steps, interrupted)
            if kind is None:
                tried = summary.steps + summary.rejected
                summary = self.run.advance(max_steps - tried, interrupted=interrupted)
                self.recorder.extend(*self.run.outputs())
                report(self._report)
                save(self, False)
        save(self, True)
        if not self.recorder.times or self.recorder.times[-1] < summary.t:
            self.recorder.add(summary.t, self.run.weights())  # the last network too, wherever the run stopped
        return kind

    def outcome(self, kind: str) -> Outcome:
        """What the run leaves behind."""
        ts, layers = self.recorder.networks()
        summary = self.run.summary()
        counts = summary.steps, summary.evaluations, summary.rejected, METHODS[self.solver]
        slope = 0.0 if self.at_rest else summary.slope
        return Outcome(kind, ts, self.as_network(layers), self.network, slope, counts)

    def _ending(self, summary: engine.Summary, max_steps: int, interrupted: threading.Event) -> str | None:
        """Why the run is over, or None."""
        if summary.status != engine.RUNNING:
            return KINDS[summary.status]
        if summary.steps + summary.rejected >= max_steps:
            return "steps"
        return "interrupted" if interrupted.is_set() else None

    def _report(self) -> Report:
        summary = self.run.summary()
        return report_of(self.problem.objective, self.network, summary.t, summary.steps, self.marks)

    def state(self) -> dict[str, np.ndarray]:
        """From what the run goes on, to the last bit, beside what was recorded."""
        return {"engine": self.run.state()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes the run to a state; `ValueError` where it is of another run."""
        self.run.restore(state["engine"])
