"""`gradient_flow`: the host's side of an integration. It drives segments, reports, can be interrupted, and judges."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..network import Network
from ..trajectory import Statistics, Trajectory
from . import explicit
from .endings import judge, mode_progressions
from .progress import as_reporter
from .recorder import Recorder

TIME_SPACING = 1 / 100  # distance of chosen outputs, as a share of the time so far; then thinned to `keep`
MATRIX_SPACING = 1 / 250  # and as a share of the size of W
SEGMENT_SECONDS = 0.25  # how long the host lets a segment run before it looks and reports
FINEST_RTOL = 1e-13  # below this rounding of float64 outweighs the tolerance
FINEST_TOLERANCE = 1e-14  # smallest excess loss to be asked for, relative to the zero map's
KINDS = {
    explicit.REACHED: "time",
    explicit.GOAL: "global minimum",
    explicit.STATIONARY: "critical point",
    explicit.STALLED: "stalled",
}


class Report(NamedTuple):
    """What a progress callback is told after every segment."""

    time: float
    loss: float
    excess: float | None
    modes_learned: tuple[int, ...] | None
    steps: int


def gradient_flow(
    objective: Callable,
    network: Network,
    ts: Any = None,
    *,
    rtol: float = 1e-6,
    atol: float | None = None,
    mask: Network | None = None,
    weight_decay: float = 0.0,
    solver: str = "auto",
    progress: bool | Callable[[Report], None] = False,
    tolerance: float = 1e-6,
    max_time: float | None = None,
    max_steps: int = 200_000,
    keep: int = 400,
) -> Trajectory:
    r"""Gradient flow $\dot W_j = -\partial L / \partial W_j$ of a deep linear network from `network` at time 0.

    $\dot W_j = W_{j+1:h}^T (-\nabla L(W)) W_{1:j-1}^T - \gamma W_j$ with $W = W_h \cdots W_1$, integrated by an
    adaptive explicit Runge-Kutta method of order 8 in float64.

    - `ts`: increasing times >= 0 at which to keep the network, shape (time,). None: runs until the excess loss is
      `tolerance` times that of the start (or of the zero map, if smaller), until a saddle holds it, or until
      `max_time`, and keeps about `keep` times spread evenly along the path.
    - `rtol`, `atol`: local error per step in every layer's Frobenius norm, relative and absolute (None: rtol times 1e-9
      of the largest layer). With `ts=None`, rtol is at most a tenth of the square root of the excess loss to be
      reached, relative to the zero map's.
    - `mask`: a `Network` of booleans, False holds an entry fixed. `weight_decay`: $\gamma$ of $\frac{\gamma}{2} \sum_j
      \|W_j\|^2$.
    - `solver`: "auto" or "dopri8". `progress`: True shows a live line; a function is called with a `Report` after every
      segment.
    - `max_steps`: step budget. Ctrl-C ends the run and returns what is there.

    A run that stops early says so in `trajectory.ending` and does not raise. Raises `ValueError` for widths that do not
    fit the objective, times that are unsorted or negative, a tolerance below what float64 can give, and for `ts=None`
    without `max_time` where the smallest loss is unknown (an objective other than `SquaredError`, or weight decay).

    >>> from deeplinear import Network, SquaredError
    >>> trajectory = gradient_flow(SquaredError.from_moments([[1.0]]), Network([[[0.1]], [[0.1]]]), ts=[0.0, 50.0])
    >>> round(float(trajectory.end_to_end[-1, 0, 0]), 6), trajectory.ending.kind
    (1.0, 'global minimum')

    Source: Saxe, McClelland and Ganguli (2014), eq. (4); the method is Dormand and Prince's 8(5,3), Hairer, Norsett and
    Wanner (1993), section II.5.
    """
    started = time.perf_counter()
    network, problem = _check_problem(objective, network, mask, weight_decay, solver)
    rtol, atol = _check_tolerances(rtol, atol, tolerance, network)
    times = None if ts is None else _check_times(ts)
    _check_limits(max_time, max_steps, keep)
    goal, finer = (None, rtol) if weight_decay else _goal(objective, network, tolerance)
    if times is None and max_time is None and goal is None:
        raise ValueError(
            "`ts`: is None, but the smallest loss is not known in closed form here, so there is nothing to run to; "
            "give output times `ts` or a time limit `max_time`"
        )
    rtol = min(rtol, finer) if times is None else rtol
    run = _Run(problem, network, rtol, atol, goal, keep if times is None else None)
    with _interruptible() as interrupted, as_reporter(progress) as report:
        kind = run.follow(times, max_time, max_steps, interrupted, report)
    final = run.progress.network
    ending = judge(
        kind, problem, final, float(run.progress.t), float(explicit.tree_norm(run.progress.slope)), goal, max_steps
    )
    steps, rejected = int(run.progress.steps), int(run.progress.rejected)
    seconds = time.perf_counter() - started
    statistics = Statistics(steps, 1 + explicit.STAGES * (steps + rejected), rejected, "dopri8", seconds)
    kept_times, weights = run.recorder.networks()
    networks = jax.tree.unflatten(jax.tree.structure(network), [jnp.asarray(W) for W in weights])
    return Trajectory(jnp.asarray(kept_times), networks, ending, statistics, objective)


class _Run:
    """One integration: the device's state, the recorder, and the limits of the next segment."""

    def __init__(
        self,
        problem: explicit.Problem,
        network: Network,
        rtol: float,
        atol: float,
        goal: float | None,
        keep: int | None,
    ):
        self.problem = problem
        self.progress = explicit.begin(problem, network, 0.0)
        self.modes = mode_progressions(problem.objective, network.max_rank)
        self.recorder = Recorder(keep, self.modes)
        self.rtol, self.atol = rtol, atol
        objective = problem.objective
        tail = 0.0
        if goal is not None:
            tail = float(objective.minimum_at_rank(network.max_rank) - objective.minimum)
        self.goal = -np.inf if goal is None else goal + tail
        gradient = objective.gradient if hasattr(objective, "gradient") else jax.grad(objective)
        W = network.end_to_end
        self.matrix_size = float(jnp.linalg.norm(objective.optimum)) if hasattr(objective, "optimum") else 0.0
        at_zero = float(jnp.linalg.norm(gradient(jnp.zeros_like(W))))
        self.noise = float(jnp.finfo(W.dtype).eps) * (at_zero + float(jnp.linalg.norm(gradient(W))))
        self.time_unit = float(self.progress.h) * 1e3

    def follow(self, times: np.ndarray | None, max_time: float | None, max_steps: int, interrupted, report) -> str:
        """Drives segments to the end; returns the kind of ending."""
        done = 0
        if times is None or times[0] == 0:
            self.recorder.add(0.0, self.progress.network)
            done = 1
        budget = 256
        while not interrupted.is_set():
            if times is not None and done >= len(times):
                return "time"
            used = int(self.progress.steps + self.progress.rejected)
            if used >= max_steps:
                return self._stop("steps", times)
            limits = self._limits(times, done, max_time)
            began = time.perf_counter()
            self.progress, count, when, networks = explicit.compiled_advance(
                self.problem,
                self.progress._replace(status=jnp.zeros_like(self.progress.status)),
                limits,
                jnp.asarray(min(budget, max_steps - used)),  # a Python int would be compiled in
            )
            count = int(count)
            self.recorder.extend(np.asarray(when), networks, count)
            done += count if times is not None else 0
            report(self._report)
            status = int(self.progress.status)
            if status != explicit.RUNNING and not (times is not None and status == explicit.REACHED):
                return self._stop(KINDS[status], times)
            seconds = time.perf_counter() - began
            spent = int(self.progress.steps + self.progress.rejected) - used
            if used and spent == budget and seconds < SEGMENT_SECONDS / 2:
                budget *= 2
        return self._stop("interrupted", times)

    def _stop(self, kind: str, times: np.ndarray | None) -> str:
        """Keeps the last network too, wherever the run stopped."""
        t = float(self.progress.t)
        if not self.recorder.times or self.recorder.times[-1] < t:
            self.recorder.add(t, self.progress.network)
        return kind

    def _limits(self, times: np.ndarray | None, done: int, max_time: float | None) -> explicit.Limits:
        targets = np.full(explicit.BUFFER, np.inf)
        if times is None:
            targets[0] = np.inf if max_time is None else max_time
        else:
            chunk = times[done : done + explicit.BUFFER]
            targets[: len(chunk)] = chunk
        t = float(self.progress.t)
        size = max(self.matrix_size, float(jnp.linalg.norm(self.progress.recorded)), 1e-300)
        return explicit.Limits(
            *(
                jnp.asarray(value, dtype=float)
                for value in (
                    targets,
                    TIME_SPACING * max(t, self.time_unit) if times is None else np.inf,
                    MATRIX_SPACING * size if times is None else np.inf,
                    self.goal if times is None else -np.inf,
                    self.noise,
                    self.rtol,
                    self.atol,
                )
            )
        )

    def _report(self) -> Report:
        network, objective = self.progress.network, self.problem.objective
        W = network.end_to_end
        excess = float(objective.excess(W, network.max_rank)) if hasattr(objective, "excess") else None
        held = None if self.modes is None else self.modes(np.asarray(W)[None])[0]
        learned = None if held is None else tuple(int(a) + 1 for a in np.flatnonzero(held > 0.5))
        return Report(float(self.progress.t), float(objective(W)), excess, learned, int(self.progress.steps))


@contextmanager
def _interruptible():
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


def _goal(objective: Any, network: Network, tolerance: float) -> tuple[float | None, float]:
    """Excess loss that counts as converged (None: the smallest loss has no closed form), and the rtol to get there.

    At a minimum the step is as long as stability allows and the weights wander by rtol of their size.
    """
    if not hasattr(objective, "minimum_at_rank"):
        return None, 1.0
    W, rank = network.end_to_end, network.max_rank
    here, zero = float(objective.excess(W, rank)), float(objective.excess(jnp.zeros_like(W), rank))
    whole = zero if zero > 0 else here  # nothing to learn: the start decays to zero
    goal = max(tolerance * min(here, whole), FINEST_TOLERANCE * whole)
    return goal, 0.1 * (goal / whole) ** 0.5 if whole > 0 else 1.0


def _check_problem(objective: Any, network: Any, mask: Any, weight_decay: float, solver: str):
    if solver not in ("auto", "dopri8"):
        raise ValueError(f"`solver`: got {solver!r}; give 'auto' or 'dopri8'")
    network = network if isinstance(network, Network) else Network(network)
    network = jax.tree.map(lambda W: W.astype(float), network)
    shape = (network.widths[-1], network.widths[0])
    if hasattr(objective, "optimum") and objective.optimum.shape != shape:
        d_y, d_x = objective.optimum.shape
        raise ValueError(
            f"`network`: maps {shape[1]} inputs to {shape[0]} outputs, but the objective has {d_x} and {d_y}"
        )
    if not np.isfinite(weight_decay) or weight_decay < 0:
        raise ValueError(f"`weight_decay`: got {weight_decay}; give a finite number of at least 0")
    if mask is not None:
        mask = mask if isinstance(mask, Network) else Network(mask)
        if mask.widths != network.widths or any(m.dtype != bool for m in mask.weights):
            raise ValueError(f"`mask`: must be a Network of booleans with widths {network.widths}; True entries learn")
    decay = jnp.asarray(weight_decay, dtype=float) if weight_decay else None
    return network, explicit.Problem(objective, mask, decay)


def _check_tolerances(rtol: float, atol: float | None, tolerance: float, network: Network) -> tuple[float, float]:
    if not FINEST_RTOL <= rtol < 1:
        raise ValueError(f"`rtol`: got {rtol}; float64 can give {FINEST_RTOL:g} to 1")
    if not FINEST_TOLERANCE <= tolerance < 1:
        raise ValueError(
            f"`tolerance`: got {tolerance}; an excess loss relative to the start can be asked from 1e-14 to 1"
        )
    if atol is None:
        atol = 1e-9 * rtol * max(float(jnp.linalg.norm(W)) for W in network.weights)
    if not (np.isfinite(atol) and atol >= 0):
        raise ValueError(f"`atol`: got {atol}; give a finite number of at least 0")
    return float(rtol), max(float(atol), 1e-200)


def _check_limits(max_time: float | None, max_steps: int, keep: int) -> None:
    if max_time is not None and not (np.isfinite(max_time) and max_time > 0):
        raise ValueError(f"`max_time`: got {max_time}; give a finite time above 0, or leave it out for no limit")
    if max_steps < 1:
        raise ValueError(f"`max_steps`: got {max_steps}; give at least 1")
    if keep < 2:
        raise ValueError(f"`keep`: got {keep}; the start and the end are kept, so give at least 2")


def _check_times(ts: Any) -> np.ndarray:
    times = np.asarray(ts, dtype=float)
    if times.ndim != 1 or times.size == 0:
        raise ValueError(f"`ts`: has shape {times.shape}; give a list of times")
    if not np.isfinite(times).all() or times[0] < 0:
        raise ValueError(
            f"`ts`: goes from {times[0]:g} to {times[-1]:g}; times are finite and at least 0, where the start is"
        )
    if (np.diff(times) <= 0).any():
        i = int(np.argmax(np.diff(times) <= 0))
        raise ValueError(f"`ts`: {times[i + 1]:g} follows {times[i]:g}; sort the times and drop repeated ones")
    return times
