"""The gradient flow of a nonlinear network, one compiled piece of diffrax.

An adaptive step costs little beside the call of a compiled function from the host, and an activation with a kink takes
thousands of steps. Importing diffrax takes a second, so it
is imported when a flow is asked for.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import check_ends, check_times, checks_arguments
from .._arrays import floats
from .._checks import check_whole
from .._types import Array
from ..conventions import HALF_MEAN, LossScale
from ..data import check_samples
from ..network import Network
from ..trajectory import Ending, Statistics, Trajectory
from .nonlinear import SampleLoss, resolved

FINEST_RTOL = 1e-13  # below this rounding of float64 outweighs the tolerance
FINEST_STEP = 1e-15  # of the last time; steps below this no longer move t


@checks_arguments
def nonlinear_flow(
    network: Network,
    X: Any,
    Y: Any,
    activation: str | Callable,
    ts: Any,
    *,
    loss: LossScale = HALF_MEAN,
    rtol: float = 1e-6,
    max_steps: int = 100_000,
) -> Trajectory:
    r"""Gradient flow $\dot W_l = -\partial L / \partial W_l$ of a network with an activation, on all samples at once.

    $L = \frac{c}{2n} \sum_i \|y_i - f(x_i)\|^2$ with f = `forward` and c from the scale `loss`, the time that of
    `gradient_flow`. X (n, d_x), Y (n, d_y), `activation` as in `forward`, `ts` increasing times of at least 0. `rtol`
    is the relative error of a step in every weight (those below the size of the start's smallest layer count as that).
    An activation with a kink costs a few short steps each time that a unit passes it.

    The trajectory's networks hold the weights; their `end_to_end` is not the network's function. A run that spends
    `max_steps` ends with what it has and says so in its `ending`. Raises `ValueError` for samples, times and settings
    that do not fit, and for an activation that returns another shape.

    >>> start = Network([[[0.1]], [[0.1]]])
    >>> trajectory = nonlinear_flow(start, [[1.0]], [[1.0]], "relu", ts=[0.0, 20.0])
    >>> round(float(trajectory[-1].end_to_end[0, 0]), 4), trajectory.ending.kind
    (1.0, 'time')

    Source: Hairer, Norsett and Wanner (1993), section II.5, for the method.
    """
    started = time.perf_counter()
    check_whole("max_steps", max_steps, 1)
    measure, times = _question(network, X, Y, activation, ts, loss, rtol)
    sizes = [float(np.sqrt(np.mean(np.square(W)))) for W in network.weights]
    atol = jnp.asarray(rtol * min((size for size in sizes if size), default=1.0))
    solution = _solve(measure, network, jnp.asarray(times), jnp.asarray(rtol), atol, max_steps)
    (reached, networks), (end, last) = zip(solution.ts, solution.ys, strict=True)
    done = int(np.isfinite(reached).sum())
    networks = jax.tree.map(lambda W: W[:done], networks)
    if done < len(times):
        times = np.append(times[:done], end)
        networks = jax.tree.map(lambda kept, W: jnp.concatenate([kept, W]), networks, last)
    steps, rejected = (int(solution.stats[f"num_{sort}_steps"]) for sort in ("accepted", "rejected"))
    evaluations = 6 * (steps + rejected) + 2  # the seventh stage is the first of the next step
    seconds = time.perf_counter() - started
    counts = Statistics(steps, evaluations, rejected, "diffrax Tsit5", seconds, network.widths)
    ending = _ending(measure, done == len(times), steps + rejected >= max_steps, float(times[-1]), networks)
    return Trajectory(jnp.asarray(times), networks, ending, counts)


@eqx.filter_jit
def _solve(measure: SampleLoss, network: Network, ts: Array, rtol: Array, atol: Array, max_steps: int) -> Any:
    """Steps onto every time: the interpolant is less accurate than the steps."""
    import diffrax

    controller = diffrax.PIDController(rtol=rtol, atol=atol, dtmin=FINEST_STEP * ts[-1], force_dtmin=False)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(_field),
        diffrax.Tsit5(),
        t0=jnp.zeros_like(ts[0]),
        t1=ts[-1],
        dt0=None,
        y0=network,
        args=measure,
        saveat=diffrax.SaveAt(subs=(diffrax.SubSaveAt(ts=ts), diffrax.SubSaveAt(t1=True))),
        stepsize_controller=diffrax.ClipStepSizeController(controller, step_ts=ts),
        max_steps=max_steps,
        throw=False,
    )


def _field(t: Any, network: Network, measure: SampleLoss) -> Network:
    return jax.tree.map(jnp.negative, jax.grad(measure)(network))


def _question(
    network: Network, X: Any, Y: Any, activation: Any, ts: Any, loss: LossScale, rtol: float
) -> tuple[SampleLoss, np.ndarray]:
    """The loss on these samples and the times, checked."""
    phi = resolved(activation)
    X, Y = (floats(name, array) for name, array in zip("XY", check_samples(X, Y), strict=True))
    Y = Y.reshape(len(X), -1)
    check_ends(network, X.shape[1], Y.shape[1], "samples have")
    times = check_times(ts, increasing=True)
    if not FINEST_RTOL <= rtol < 0.1:
        raise ValueError(f"`rtol`: got {rtol}; give a number from {FINEST_RTOL:g} to below 0.1")
    factor = loss.factor(*Y.shape)
    measure = SampleLoss(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(factor), phi)
    if not np.isfinite(float(measure(network))):
        raise ValueError("`activation`: gives outputs that are NaN or infinite at the start; give a finite function")
    return measure, times


def _ending(measure: SampleLoss, finished: bool, spent: bool, at: float, networks: Network) -> Ending:
    """How the run ended; a nonlinear network has no minimum in closed form to be held against."""
    kind, message = "time", f"reached the last time {at:g}"
    if not finished:
        kind, message = "stalled", f"the step size became too small at time {at:g}"
        if spent:
            kind, message = "steps", f"the budget of steps was spent at time {at:g}; raise max_steps"
    last = jax.tree.map(lambda W: W[-1], networks)
    speed = float(jnp.sqrt(sum(jnp.sum(G**2) for G in _field(at, last, measure).weights)))
    return Ending(kind, float(measure(last)), None, at, speed, None, None, message)
