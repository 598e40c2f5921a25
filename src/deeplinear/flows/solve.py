"""`gradient_flow`: checks the question, chooses the method, follows the flow, judges the ending."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._arguments import check_decay, check_rates, check_times, checks_arguments
from .._checks import check_whole
from .._linalg import as_numpy
from .._trees import replaced
from ..masks import check_mask
from ..network import Network
from ..objectives import SquaredError, gradient_of, hessian_vector
from ..reduction import Reduction
from ..reduction import reduce as smaller_problem
from ..running.arguments import check_kept, is_traced
from ..running.compiling import is_small
from ..running.landmarks import FINEST_TOLERANCE, landmarks, standing
from ..running.progress import as_reporter
from ..running.segments import interruptible
from ..trajectory import Ending, Statistics, Trajectory
from .algebra import layer_norms, layer_sizes
from .checkpoint import Checkpoint
from .endings import Fate, Outcome, explained, fate_of, fated, judge, obstacles_of, with_escape_rate
from .ensemble import Ensemble, batch_of, spread
from .horizon import latest
from .native import METHODS, NativeRun, is_native
from .problem import Problem
from .rates import through_rates
from .sequence import through_tasks

FINEST_RTOL = 1e-13  # below this rounding of float64 outweighs the tolerance
ATOL = 1e-320, 1e300  # bounds of the absolute tolerance
COMPILED_ATOL = 1e-200  # lower bound in JAX's programs, for which denormal numbers are zero
TIGHT = 1e-8  # rtol from which a method of order 8 takes fewer evaluations than a stabilised one of order 4


@through_tasks
@through_rates
@checks_arguments
def gradient_flow(
    objective: Callable | list | tuple,
    network: Network,
    ts: Any = None,
    *,
    rtol: float = 1e-6,
    atol: float | None = None,
    mask: Network | None = None,
    weight_decay: Any = 0.0,
    rates: Any = None,
    solver: Any = "auto",
    adjoint: Any = None,
    progress: bool | Callable[[Any], None] = False,
    tolerance: float = 1e-6,
    max_time: float | None = None,
    max_steps: int = 200_000,
    keep: int = 400,
    reduce: bool = True,
    threads: int | None = None,
    checkpoint: str | Path | None = None,
    project: bool = False,
) -> Trajectory:
    r"""Gradient flow $\dot W_j = -\partial L / \partial W_j$ of a deep linear network from `network` at time 0.

    $\dot W_j = \eta_j (W_{j+1:h}^T (-\nabla L(W)) W_{1:j-1}^T - \gamma_j W_j)$ with $W = W_h \cdots W_1$,
    integrated by an adaptive Runge-Kutta method in float64.

    - `ts`: increasing times >= 0 at which to keep the network, shape (time,). None: runs until the excess loss is
      `tolerance` times that of the start (or of the zero map, or of what varies about the mean, if smaller), until a
      saddle holds it (also the one at which theory sees the exact flow end: `obstructions.obstruction`), or until
      `max_time` (None: ten times a generous estimate of when the last mode is learned; no limit for sensing and
      completion), and keeps about `keep` times spread evenly along the path. A smaller `keep` allows longer steps.
    - `rtol`: relative error of the end-to-end matrix along the path that is aimed at, transition times included; the
      tolerance per step, in every layer's Frobenius norm, is a fixed share of it. `atol`: the same in absolute terms
      (None: rtol times 1e-9 of the largest layer). With `ts=None`, rtol is at most a tenth of the square root of the
      excess loss to be reached, relative to the zero map's.
    - `mask`: a `Network` of booleans, False holds an entry fixed. `weight_decay`: $\gamma$ of $\frac{\gamma}{2} \sum_j
      \|W_j\|^2$, one number or one per layer. `rates`: $\eta_j$, by which the layers' slopes are multiplied, one per
      layer or one for all (None: 1); what is conserved is $W_{j+1}^T W_{j+1} / \eta_{j+1} - W_j W_j^T / \eta_j$.
    - `solver`: "rock4" (stabilised explicit, order 4), "rodas4" (linearly implicit, order 4, for stiff stretches; also
      under the name "bdf"), "dopri8" (order 8, for tight tolerances), or "auto", which changes between them by cost; or
      any diffrax solver that estimates its error, such as `diffrax.Tsit5()`: it needs `ts` and runs in one piece.
    - `adjoint`: how diffrax differentiates a traced call (below); None: `diffrax.RecursiveCheckpointAdjoint()`.
    - `progress`: True shows a live line; a function is called with a `Report` after every segment.
    - `max_steps`: step budget. Ctrl-C ends the run within a second and returns what is there.
    - `checkpoint`: a file that keeps the run's state, written every few seconds and when the run stops. The same call
      again goes on from it and gives, to the last bit, what one run without a stop gives; `max_steps` counts the steps
      of all calls and may be raised. Of a finished run it keeps the end: the same call again returns it at once.
      `statistics.seconds` is of the last call alone. For single runs of the own solvers.
    - `project`: True brings every output, and the run with it, back to the conserved imbalances of the start, to
      rounding; without mask and weight decay. Measured on 11-6-6-6-6-4 from N(0, .1^2), rtol=1e-6: drift 6e-9 -> 1e-15
      of the squared weights, error of the end-to-end matrix 3.4e-6 -> 3.3e-6, time 10 -> 19 ms: no gain in accuracy.
    - `reduce`: whether to integrate the smallest problem with the same flow (`reduction.reduce`; its widths are in
      `statistics.widths`) and to make networks of the original widths from it on demand. Only for squared error without
      mask and weight decay, for single runs, and where the network is wide enough to gain.
    - An ensemble: the weights, the objective's arrays (`SquaredError`) or both have a leading axis of members, as
      `jax.vmap` makes them. `ts` must be given. Every member is integrated as it would be alone without `reduce`, to
      the last bit, with steps, tolerances, budget and ending of its own; one that fails has NaN from there on and
      spoils no other. The trajectory's weights are (member, time, d_l, d_{l-1}), its `ending` a tuple. `threads`: how
      many share the work (None: one per processor); only ensembles use it. `progress` then tells of members, in an
      `EnsembleReport`.

    A sequence of tasks, one after another: `objective` = [(objective, duration), ...]. The trajectory runs over all of
    them: `ts` counts from the start of the first, limits such as `max_steps` and `keep` are for each task, the
    trajectory's `objective` is a `sequences.TaskSequence` and its `ending` the last task's, with those of all tasks in
    `statistics.endings`. With `ts=None` a task that is learned early still lasts as long as it was given. A task that
    stops early (steps, interrupted) is the last. No `checkpoint` and no `max_time`.

    Inside `jax.jit`, `jax.vmap` and `jax.grad` the flow is JAX code: it needs `ts`, "auto" and "dopri8" mean
    `diffrax.Dopri8()`, and the trajectory has no ending and no statistics. Derivatives with respect to the start, the
    objective, `ts` and `weight_decay` are those of the steps taken, equal to the flow's at the tolerance. `jax.jvp` and
    `jax.jacfwd` need `adjoint=diffrax.ForwardMode()`; reverse mode keeps about sqrt(2 `max_steps`) networks in memory.
    Times that `max_steps` does not reach, and their weights, are infinite there. Steps suit the flow, not its
    derivative: from a start that does not move at all (a critical point to rounding) they are too long for it.

    A run that stops early says so in `trajectory.ending` and does not raise. Raises `ValueError` for widths that do not
    fit the objective, times that are unsorted or negative, a tolerance below what float64 can give, and for `ts=None`
    without `max_time` where the smallest loss is unknown (`objectives.knows_minimum`, or weight decay), for
    `ts=None` of ensembles and where diffrax integrates, and for leading axes that disagree.

    >>> import deeplinear as dl
    >>> from deeplinear import Network, SquaredError
    >>> trajectory = gradient_flow(SquaredError.from_moments([[1.0]]), Network([[[0.1]], [[0.1]]]), ts=[0.0, 50.0])
    >>> round(float(trajectory.end_to_end[-1, 0, 0]), 6), trajectory.ending.kind
    (1.0, 'global minimum')
    >>> starts = jax.vmap(lambda key: dl.init.gaussian(key, (1, 1, 1), 0.1))(jax.random.split(jax.random.key(0), 3))
    >>> gradient_flow(SquaredError.from_moments([[1.0]]), starts, ts=[0.0, 50.0]).end_to_end.shape
    (3, 2, 1, 1)

    Source: Saxe, McClelland and Ganguli (2014), eq. (4), for the flow; Abdulle (2002), SIAM J. Sci. Comput. 23,
    2041-2054, and Hairer, Norsett and Wanner (1993), section II.5, for the methods.
    """
    started = time.perf_counter()
    network, problem, batch = _check_problem(objective, network, mask, (weight_decay, rates), solver)
    traced = is_traced(problem.objective, network, problem, ts)
    rtol, least = _check_tolerances((rtol, atol, tolerance), problem, network, traced)
    times = None if ts is None else check_times(ts, increasing=True)
    _check_limits(max_time, max_steps, keep, threads)
    room = _with_diffrax() if traced or not isinstance(solver, str) else None
    problem = _check_options(problem, network.depth, checkpoint, project, room is not None, batch)
    if batch is not None:
        shared = _shared_times(times, room)
        check_kept(network, len(shared), "`ts`")
        asks = problem, network, shared, (rtol, least), tolerance, max_steps
        name = _solver(solver, rtol)
        if is_native(problem):
            return Ensemble(name, *asks).run(threads, progress, started)
        engine = _jax_engine()
        ensemble = engine.CompiledEnsemble(engine.SOLVERS[name], *asks)
        return ensemble.run(threads, progress, started)
    if room is not None:
        solver = room.checked(solver, adjoint, times)
        if traced:
            return room.traced(problem, network, times, rtol, least, solver, adjoint, max_steps)
    asked = Asked(times, rtol, atol, float(least), tolerance, max_time, max_steps, keep, solver, checkpoint)
    reduction = _reduction(problem, network) if reduce and room is None else None
    if reduction is not None:
        network, problem = reduction.network, problem.of(reduction.objective)
    if is_native(problem):
        network, problem = as_numpy(network), problem.on_host()  # nothing around the engine waits for a compiler
    check_kept(network, keep if times is None else len(times), "`keep`" if times is None else "`ts`")
    outcome, ending = _single(problem, network, asked, room, progress)
    steps, evaluations, rejected, name = outcome.counts
    statistics = Statistics(steps, evaluations, rejected, name, time.perf_counter() - started, network.widths)
    return Trajectory(outcome.ts, outcome.networks, ending, statistics, objective, reduction)


class Asked(NamedTuple):
    """What a single run was asked for, checked."""

    times: np.ndarray | None
    rtol: float
    atol: float | None
    least: float
    """`atol`, or what stands for it."""
    tolerance: float
    max_time: float | None
    max_steps: int
    keep: int
    solver: Any
    checkpoint: str | Path | None


def _single(problem: Problem, network: Network, asked: Asked, room: Any, progress: Any) -> tuple[Outcome, Ending]:
    """Follows one network to its end and judges it; `room` is diffrax's where diffrax integrates."""
    times, rtol, tolerance, max_time = asked.times, asked.rtol, asked.tolerance, asked.max_time
    engine, solver, begun = None, asked.solver if room else _solver(asked.solver, rtol), None
    if room is None and not is_native(problem):
        engine = _jax_engine()
        marks, begun = engine.begin(engine.SOLVERS[solver], problem, network, rtol)
    else:
        marks = landmarks(problem.objective, network)
    goal, finer = marks.goal(tolerance) if problem.weight_decay is None else (None, rtol)
    if times is None and max_time is None and goal is None:
        raise ValueError(
            "`ts`: is None, but the smallest loss is not known in closed form here, so there is nothing to run to; "
            "give output times `ts` or a time limit `max_time`"
        )
    at_one, start = problem.at_unit_rates(network)
    fate = fate_of(at_one, start, obstacles_of(at_one, at_one.objective))
    bound = latest(at_one, start, goal) if times is None and max_time is None else None
    if room is not None:
        outcome = room.follow(problem, network, times, rtol, asked.least, asked.solver, asked.max_steps)
    else:
        tolerances = (min(rtol, finer) if times is None else rtol), asked.least
        saved = _checkpoint(problem, network, asked)

        def outcome_at(goal: float | None) -> Outcome:
            asks = goal, asked.keep if times is None else None, times, max_time if bound is None else bound
            if engine is None:
                run = NativeRun(solver, problem, network, marks, tolerances, *asks)
            else:
                run = engine.Run(engine.SOLVERS[solver], problem, begun, marks, tolerances, *asks)
            return _drive(run, asked.max_steps, progress, saved)

        outcome = _outcome(outcome_at, fate, goal, times is None, saved is None)
    at, stand = float(outcome.ts[-1]), standing(problem.objective, outcome.last)
    ending = judge(outcome.kind, problem, stand, marks, at, outcome.gradient_norm, goal, asked.max_steps)
    at_one, last = problem.at_unit_rates(outcome.last)
    if times is None:
        ending = explained(ending, at_one, (last, last.end_to_end), goal, bound)
    ending = fated(ending, fate, np.asarray(stand.W), goal)
    return outcome, with_escape_rate(ending, at_one.objective, last)


def _outcome(follow: Callable, fate: Fate, goal: float | None, to_an_end: bool, anew: bool) -> Outcome:
    """A run to its end, which is a saddle where the start obstructs the flow: beyond it only rounding leads.

    An aligned start stays so but for rounding, and is first given the time to come to rest; `anew`: a run may be
    followed twice.
    """
    found = fate.obstruction if to_an_end else None
    if found is None or goal is None:
        return follow(goal)
    if found.exact and anew:
        outcome = follow(goal)
        if outcome.kind != "global minimum":
            return outcome
    return follow(goal + found.excess)


def _checkpoint(problem: Problem, network: Network, asked: Asked) -> Checkpoint | None:
    """The file that the run goes on from, if one is asked for; more steps are no other question."""
    if asked.checkpoint is None:
        return None
    names = {"ts": "times"} | {name: name for name in ("rtol", "atol", "tolerance", "max_time", "keep", "solver")}
    settings = {name: getattr(asked, field) for name, field in names.items()}
    settings |= {"mask": problem.mask, "weight_decay": problem.weight_decay, "project": problem.project}
    if problem.rates is not None:
        settings["rates"] = problem.rates
    return Checkpoint(asked.checkpoint, problem.objective, network, settings)


def _reduction(problem: Problem, network: Network) -> Reduction | None:
    """The smaller problem with the same flow; None where there is none, or where one kernel is fast as it is."""
    whole = problem.mask is None and problem.weight_decay is None
    if not isinstance(problem.objective, SquaredError) or not whole or is_small(network):
        return None
    found = smaller_problem(problem.objective, network)
    return None if found.is_trivial else found


def _with_diffrax() -> Any:
    """The room that knows diffrax, entered only when it is needed: importing diffrax takes a second."""
    from . import with_diffrax

    return with_diffrax


def _jax_engine() -> Any:
    """The room of the integrators that JAX compiles, entered only when one is needed."""
    from . import jax_engine

    return jax_engine


def _drive(run: Any, max_steps: int, progress: Any, saved: Checkpoint | None) -> Outcome:
    """What an own method leaves behind."""
    if saved is not None:
        saved.load(run)
    save = (lambda run, last: None) if saved is None else saved.save
    with interruptible() as interrupted, as_reporter(progress) as report:
        kind = run.follow(max_steps, interrupted, report, save)
    return run.outcome(kind)


def _shared_times(times: Any, room: Any) -> np.ndarray:
    """The output times of an ensemble."""
    if times is None:
        raise ValueError(
            "`ts`: is None, but an ensemble needs output times that all its members share; give `ts`, or run the "
            "members one by one for times of their own"
        )
    if room is not None:
        raise ValueError(
            "`network`: has a leading axis of members, which diffrax and traced calls do not take; use `jax.vmap` there"
        )
    return times


def _solver(name: str, rtol: float) -> str:
    return "dopri8" if name == "auto" and rtol < TIGHT else name


def _check_problem(objective: Any, network: Any, mask: Any, of_layers: tuple[Any, Any], solver: Any):
    """The network in float64, the problem, and how many members there are; `of_layers` is weight decay and rates."""
    if isinstance(solver, str) and solver not in METHODS:
        raise ValueError(f"`solver`: got {solver!r}; give {', '.join(map(repr, METHODS))} or a diffrax solver")
    batch = batch_of(objective, network)
    network = jax.tree.map(lambda W: W if W.dtype == float else W.astype(float), network)
    if batch is not None:
        network = spread(network, batch)
    mask, decay = check_mask(mask, network), check_decay(of_layers[0], network.depth)
    return network, Problem(objective, mask, decay, check_rates(of_layers[1], network.depth)), batch


def _check_tolerances(
    asked: tuple[float, Any, float], problem: Problem, network: Network, traced: bool
) -> tuple[float, Any]:
    """`rtol`, and `atol` for every member of an ensemble.

    A single layer does not grow out of itself, as products do: it may start at zero, and errors count beside where it
    goes.
    """
    rtol, atol, tolerance = asked
    least = ATOL[0] if is_native(problem) and not traced else COMPILED_ATOL
    if not FINEST_RTOL <= rtol < 1:
        raise ValueError(f"`rtol`: got {rtol}; float64 can give {FINEST_RTOL:g} to 1")
    if not FINEST_TOLERANCE <= tolerance < 1:
        raise ValueError(
            f"`tolerance`: got {tolerance}; an excess loss relative to the start can be asked from 1e-14 to 1"
        )
    if atol is not None and not (np.isfinite(atol) and atol >= 0):
        raise ValueError(f"`atol`: got {atol}; give a finite number of at least 0")
    if any(isinstance(W, Tracer) for W in network.weights):
        sizes = jnp.stack(layer_norms(jax.lax.stop_gradient(network)))
        return float(rtol), jnp.maximum(1e-9 * rtol * sizes.max() if atol is None else atol, least)
    size = np.max(layer_sizes(network), axis=0)
    if network.depth == 1 and not traced:
        size = np.maximum(size, _size_ahead(problem.objective, network.weights[0]))
    return float(rtol), np.clip(1e-9 * rtol * size if atol is None else np.full(size.shape, atol), least, ATOL[1])


def _size_ahead(objective: Any, W: Any) -> Any:
    """Norm of the optimum, or of the step to where the loss along its slope has a minimum to second order; else 0."""
    if isinstance(objective, SquaredError):
        return np.linalg.norm(np.asarray(objective.optimum), axis=(-2, -1))
    W = W if W.ndim == 2 else W[0]
    G = gradient_of(objective)(W)
    bend = float(jnp.sum(G * hessian_vector(objective, W, G)))
    return float(jnp.linalg.norm(G)) ** 3 / bend if bend > 0 else 0.0


def _check_limits(max_time: float | None, max_steps: int, keep: int, threads: int | None) -> None:
    if max_time is not None and not (np.isfinite(max_time) and max_time > 0):
        raise ValueError(f"`max_time`: got {max_time}; give a finite time above 0, or leave it out for no limit")
    if check_whole("max_steps", max_steps, most=2**63 - 1) < 1:
        raise ValueError(f"`max_steps`: got {max_steps}; give at least 1")
    if check_whole("keep", keep) < 2:
        raise ValueError(f"`keep`: got {keep}; the start and the end are kept, so give at least 2")
    if threads is not None and check_whole("threads", threads) < 1:
        raise ValueError(f"`threads`: got {threads}; give at least 1, or leave it out for one per processor")


def _check_options(problem: Problem, depth: int, checkpoint: Any, project: bool, elsewhere: bool, batch: Any) -> Any:
    """The problem with its projection; `ValueError` for options where they do not apply."""
    if checkpoint is not None and (elsewhere or batch is not None):
        who = "an ensemble" if batch is not None else "a flow that diffrax integrates"
        raise ValueError(f"`checkpoint`: {who} is not kept in files; leave it out, or run members one by one")
    if not project:
        return problem
    if elsewhere:
        raise ValueError("`project`: diffrax's steps are not projected; leave it out, or give one of the own solvers")
    if problem.mask is not None or problem.weight_decay is not None:
        raise ValueError("`project`: with a mask or weight decay the imbalances are not conserved; leave it out")
    return replaced(problem, project=depth > 1)  # a single layer has no imbalance
