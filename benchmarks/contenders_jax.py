"""deeplinear, and diffrax on the same thin-side field with the weights as a pytree."""

import jax
import jax.numpy as jnp
import numpy as np

import deeplinear as dl

from .contenders_scipy import ATOL_SHARE, Layers, NotApplicable, Run, require_small
from .problems import Problem

MAX_STEPS = 1_000_000  # of diffrax, which cannot be interrupted; half a minute of the smallest network


def deeplinear(problem: Problem) -> Run:
    """`deeplinear.gradient_flow` as it chooses by itself."""
    return _ours(problem, "auto")


def deeplinear_dopri8(problem: Problem) -> Run:
    """Its explicit engine of order 8."""
    return _ours(problem, "dopri8")


def deeplinear_rock4(problem: Problem) -> Run:
    """Its stabilised explicit engine."""
    return _ours(problem, "rock4")


def deeplinear_bdf(problem: Problem) -> Run:
    """Its implicit engine."""
    return _ours(problem, "bdf")


def _ours(problem: Problem, solver: str) -> Run:
    objective = dl.SquaredError.from_moments(problem.sigma)
    networks = [dl.Network(start) for start in problem.starts]

    def solve(network: dl.Network, tolerance: float) -> Layers:
        try:
            trajectory = dl.gradient_flow(
                objective, network, problem.ts, rtol=tolerance, solver=solver, max_steps=10**9
            )
        except ValueError as refusal:
            raise NotApplicable(str(refusal)) from None
        if len(trajectory.ts) != problem.outputs or trajectory.ts[-1] != problem.horizon:
            raise ArithmeticError(trajectory.ending.message)
        return [np.asarray(W) for W in trajectory.networks.weights]

    return lambda tolerance: [solve(network, tolerance) for network in networks]


def tsit5(problem: Problem) -> Run:
    """Tsitouras's 5(4)."""
    return _diffrax(problem, "Tsit5")


def dopri8(problem: Problem) -> Run:
    """Dormand and Prince's 8(7)."""
    return _diffrax(problem, "Dopri8")


def kvaerno5(problem: Problem) -> Run:
    """Kvaerno's implicit Runge-Kutta method of order 5, with diffrax's own Newton iteration and Jacobian."""
    require_small(problem)
    return _diffrax(problem, "Kvaerno5")


def _velocity(t, weights: tuple[jax.Array, ...], sigma: jax.Array) -> tuple[jax.Array, ...]:
    lefts = [weights[-1]]
    for W in weights[-2::-1]:
        lefts.append(lefts[-1] @ W)
    right, slopes = sigma - lefts.pop(), []
    for W in weights[:-1]:
        slopes.append(lefts.pop().T @ right)
        right = right @ W.T
    return (*slopes, right)


def _diffrax(problem: Problem, name: str) -> Run:
    import diffrax

    # three times what stability asks for: where it loses stability it would go on for ever with tiny steps
    max_steps = min(MAX_STEPS, 100_000 + int(problem.stiffest * problem.horizon))

    @jax.jit
    def solve(start, sigma, ts, tolerance):
        controller = diffrax.PIDController(rtol=tolerance, atol=ATOL_SHARE * tolerance)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(_velocity),
            getattr(diffrax, name)(),
            0.0,
            ts[-1],
            None,
            start,
            args=sigma,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.ClipStepSizeController(controller, step_ts=ts),
            max_steps=max_steps,
            throw=False,
            adjoint=diffrax.ForwardMode(),
        )
        return solution.ys, solution.result == diffrax.RESULTS.successful

    sigma, ts = jnp.asarray(problem.sigma), jnp.asarray(problem.ts)
    starts = [tuple(jnp.asarray(W) for W in start) for start in problem.starts]

    def one(start: tuple[jax.Array, ...], tolerance: float) -> Layers:
        layers, finished = solve(start, sigma, ts, jnp.asarray(tolerance))
        if not finished:
            raise ArithmeticError(f"did not finish within {max_steps:,} steps")
        return [np.asarray(W) for W in layers]

    return lambda tolerance: [one(start, tolerance) for start in starts]
