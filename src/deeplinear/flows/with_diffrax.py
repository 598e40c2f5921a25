"""The one room that knows diffrax: other people's solvers, and flows that JAX itself traces.

Importing diffrax takes a second, so `solve` imports this file when a call needs it: for a diffrax solver, or where the
objective or the start hold tracers, inside `jax.jit`, `jax.vmap`, `jax.grad` and `jax.jvp`. There the own methods,
which are driven from the host, cannot go.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._types import Array
from ..network import Network
from ..trajectory import Trajectory
from .algebra import norm
from .endings import Outcome
from .stepping import Problem

FINEST_STEP = 1e-15  # of the last time; steps below this no longer move t


class _ByLayer(diffrax.PIDController):
    """Measures the error of a step as the own methods do, relative to the Frobenius norm of every layer.

    diffrax divides entry by entry, so that an entry near zero would demand a step of its own, and a rotation of a
    hidden layer would change the steps.
    """

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state):
        # steps are not differentiated, and the derivative of a norm at zero must not come near what is
        y0, y1_candidate, y_error = jax.lax.stop_gradient((y0, y1_candidate, y_error))
        size = lambda network: jax.tree.map(lambda W: jnp.full_like(W, jnp.linalg.norm(W)), network)
        before, after = size(y0), size(y1_candidate)
        # a trial step that overflows is a step too long; a NaN would stay in the step size
        after = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(new), new, old), after, before)
        y_error = jax.tree.map(lambda error: jnp.where(jnp.isfinite(error), error, jnp.inf), y_error)
        return super().adapt_step_size(t0, t1, before, after, args, y_error, error_order, controller_state)


def checked(solver: Any, adjoint: Any, ts: Any) -> diffrax.AbstractAdaptiveSolver:
    """The diffrax solver that a call means; `ValueError` where there is none, and where output times are missing."""
    if solver == "rock4":
        raise ValueError(
            "`solver`: 'rock4' is driven from the host and cannot be traced; inside jit, vmap, grad and jvp give "
            "'auto' or a diffrax solver"
        )
    solver = diffrax.Dopri8() if isinstance(solver, str) else solver
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"`solver`: got {solver!r}; give 'auto', 'rock4', 'dopri8' or a diffrax solver that estimates its error, "
            "such as diffrax.Tsit5()"
        )
    if adjoint is not None and not isinstance(adjoint, diffrax.AbstractAdjoint):
        raise ValueError(f"`adjoint`: got {adjoint!r}; give a diffrax adjoint, such as diffrax.ForwardMode()")
    if ts is None:
        raise ValueError(
            "`ts`: is None, but a diffrax solver, and a flow inside jit, vmap, grad and jvp, cannot choose its own "
            "output times; give `ts`"
        )
    return solver


def follow(
    problem: Problem, network: Network, ts: np.ndarray, rtol: float, atol: float, solver: Any, max_steps: int
) -> Outcome:
    """The networks at `ts`, or as far as the run came and where it stopped."""
    # a Python number would be compiled in
    solution = _solve(problem, network, jnp.asarray(ts), jnp.asarray(rtol), jnp.asarray(atol), solver, None, max_steps)
    (times, networks), (end, last) = _saved(solution)
    done = int(np.isfinite(times).sum())
    times, networks = np.asarray(times)[:done], jax.tree.map(lambda W: W[:done], networks)
    if done == 0 or times[-1] < float(end[0]):
        times = np.append(times, end)
        networks = jax.tree.map(lambda kept, W: jnp.concatenate([kept, W]), networks, last)
    steps, rejected = (int(solution.stats[f"num_{sort}_steps"]) for sort in ("accepted", "rejected"))
    counts = steps, _evaluations(solver, steps + rejected), rejected, type(solver).__name__
    last = jax.tree.map(lambda W: W[0], last)
    return Outcome(_kind(solution.result), times, networks, last, float(norm(problem(last))), counts)


def _saved(solution: diffrax.Solution) -> Any:
    """Times and networks: those asked for, and where the run stopped."""
    return zip(solution.ts or (), solution.ys or (), strict=True)


def _kind(result: Any) -> str:
    if result == diffrax.RESULTS.successful:
        return "time"
    return "steps" if result == diffrax.RESULTS.max_steps_reached else "stalled"


def traced(
    problem: Problem, network: Network, ts: Any, rtol: float, atol: Any, solver: Any, adjoint: Any, max_steps: int
) -> Trajectory:
    """The flow as one piece of JAX code; times that the steps do not reach, and their weights, are infinite."""
    ts = jnp.asarray(ts, dtype=float)
    solution = _solve(problem, network, ts, jnp.asarray(rtol), jnp.asarray(atol), solver, adjoint, max_steps)
    # a function cannot leave `jax.jit`; an objective made of arrays can
    arrays = all(eqx.is_array(leaf) for leaf in jax.tree.leaves(problem.objective))
    (times, networks), _ = _saved(solution)
    return Trajectory(times, networks, objective=problem.objective if arrays else None)


@eqx.filter_jit
def _solve(
    problem: Problem, network: Network, ts: Array, rtol: Array, atol: Array, solver: Any, adjoint: Any, max_steps: int
) -> diffrax.Solution:
    """Steps onto every time: the interpolants of most solvers are orders less accurate than their steps."""
    fixed = jax.lax.stop_gradient(ts)
    controller = _ByLayer(
        rtol=rtol, atol=atol, norm=_root_mean_square, dtmin=FINEST_STEP * fixed[-1], force_dtmin=False
    )
    return diffrax.diffeqsolve(
        diffrax.ODETerm(_field),
        solver,
        t0=jnp.zeros((), dtype=ts.dtype),
        t1=ts[-1],
        dt0=_first_step(problem, network, fixed[-1]),
        y0=network,
        args=problem,
        saveat=diffrax.SaveAt(subs=(diffrax.SubSaveAt(ts=ts), diffrax.SubSaveAt(t1=True))),
        stepsize_controller=diffrax.ClipStepSizeController(controller, step_ts=fixed),
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        max_steps=max_steps,
        throw=False,
    )


def _first_step(problem: Problem, network: Network, last: Array) -> Array:
    """A hundredth of the time in which the weights would double, or of all where they are zero or do not move."""
    network, slope = jax.lax.stop_gradient((network, problem(network)))
    size, speed = norm(network), norm(slope)
    moving = (size > 0) & (speed > 0)
    return 0.01 * jnp.where(moving, jnp.minimum(last, size / jnp.where(moving, speed, 1.0)), last)


def _field(t: Any, network: Network, problem: Problem) -> Network:
    """One function for all problems, so that diffrax compiles once for all of a shape."""
    return problem(network)


def _root_mean_square(errors: Any) -> Array:
    """`algebra.relative_norm` of errors in units of the tolerance, on any tree."""
    leaves = jax.tree.leaves(errors)
    return jnp.sqrt(sum(jnp.sum(error**2) for error in leaves) / len(leaves))


def _evaluations(solver: Any, tried: int) -> int | None:
    """diffrax counts steps; an explicit Runge-Kutta method takes equally many evaluations in each."""
    if not isinstance(solver, diffrax.AbstractERK):
        return None
    tableau: Any = solver.tableau
    reused = int(tableau.fsal)  # the last stage is the first of the next step
    return tried * (tableau.num_stages - reused) + reused + 1  # and one for the first step's size
