"""Flows inside jit, vmap, grad and jvp, and diffrax's solvers, against the eager engine and finite differences."""

import subprocess
import sys

import diffrax
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from problems import TIMES, WHITE, WIDTHS, correlated, quartic, random_network

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow
from deeplinear._linalg import psd_root
from deeplinear.flows import with_diffrax
from deeplinear.flows.problem import Problem

RNG = np.random.default_rng(0)
SIGMA_YX, TARGET, INPUTS = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4)), RNG.standard_normal((9, 4))
SIGMA_XX = INPUTS.T @ INPUTS / 9
SAMPLES = INPUTS @ SIGMA_YX.T + 0.1 * RNG.standard_normal((9, 3))
START = random_network(WIDTHS, scale=0.4)
FINE = 1e-12


def relative_error(matrices, expected):
    return float(np.max(np.linalg.norm(matrices - expected, axis=(-2, -1)) / np.linalg.norm(expected, axis=(-2, -1))))


def final(objective, start=START, ts=(1.0, 2.0), **settings):
    """A loss of the network that the flow comes to, of another form than the one descended."""
    trajectory = gradient_flow(objective, start, ts, rtol=FINE, **settings)
    return jnp.sum((trajectory[-1].end_to_end - TARGET) ** 2)


def slope(f, x, direction, step=2e-4):
    """Derivative by central differences of order 4, of the eager engine."""
    near, far = (float(f(x + k * step * direction) - f(x - k * step * direction)) for k in (1, 2))
    return (8 * near - far) / (12 * step)


flat, unravel = jax.flatten_util.ravel_pytree(START)


def of_moments(start, sigma_yx, sigma_xx, ts, weight_decay):
    objective = SquaredError.from_moments(sigma_yx, sigma_xx)
    return final(objective, unravel(start), ts, weight_decay=weight_decay)


ALL = {"start": flat, "sigma_yx": SIGMA_YX, "sigma_xx": SIGMA_XX, "ts": [0.5, 1.5], "weight_decay": 0.2}
CASES = {
    "moments": (of_moments, ALL),
    "equal eigenvalues": (of_moments, ALL | {"sigma_xx": 1.3 * np.eye(4)}),
    "samples": (
        lambda X, Y: final(SquaredError.of(X, Y, dl.SUM), ts=(0.05, 0.1)),
        {"X": INPUTS, "Y": SAMPLES},
    ),
    "singular values": (lambda s: final(SquaredError.from_singular_values(s, 4, 3)), {"s": [3.0, 2.0]}),
    "what a function closes over": (lambda a: final(lambda W: jnp.sum((W - a * TARGET) ** 4)), {"a": 1.5}),
}


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case != "moments")) for case in CASES])
def test_gradients_are_those_of_finite_differences(case):
    f, point = CASES[case]
    point = {name: jnp.asarray(value, dtype=float) for name, value in point.items()}
    gradient = jax.grad(lambda point: f(**point))(point)
    for name, x in point.items():
        direction = jnp.asarray(np.random.default_rng(1).standard_normal(x.shape))
        direction = direction + direction.T if name == "sigma_xx" else direction
        expected = slope(lambda x, name=name: f(**(point | {name: x})), x, direction)
        assert float(jnp.sum(gradient[name] * direction)) == pytest.approx(expected, rel=1e-7), name


@pytest.mark.slow
def test_forward_mode_agrees_with_reverse_mode():
    f = lambda S, **settings: final(SquaredError.from_moments(S, SIGMA_XX), **settings)
    gradient, forward = jax.grad(f)(SIGMA_YX), {"adjoint": diffrax.ForwardMode()}
    np.testing.assert_allclose(jax.jacfwd(lambda S: f(S, **forward))(SIGMA_YX), gradient, rtol=1e-11, atol=1e-12)
    _, along = jax.jvp(lambda S: f(S, **forward), (SIGMA_YX,), (TARGET,))
    assert float(along) == pytest.approx(float(jnp.sum(gradient * TARGET)), rel=1e-11)
    both = {"adjoint": diffrax.DirectAdjoint(), "max_steps": 256}
    np.testing.assert_allclose(jax.grad(lambda S: f(S, **both))(SIGMA_YX), gradient, rtol=1e-11, atol=1e-12)


def test_the_gradient_at_a_start_of_zeros_is_zero():
    zero = Network([np.zeros((5, 4)), np.zeros((3, 5))])
    gradient = jax.grad(lambda start: final(WHITE, start))(zero)
    assert all(not np.any(np.asarray(G)) for G in gradient.weights)  # nothing of first order moves a product of zeros


@pytest.mark.slow
def test_a_masked_entry_stays_and_its_derivative_passes_through():
    mask = Network([np.random.default_rng(l).random(W.shape) < 0.6 for l, W in enumerate(START.weights)])
    end = jax.jit(lambda start: gradient_flow(WHITE, start, [2.0], mask=mask)[-1])(START)
    for m, W, W0 in zip(mask.weights, end.weights, START.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(W)[~np.asarray(m)], np.asarray(W0)[~np.asarray(m)])
    f = lambda x: final(WHITE, unravel(x), mask=mask)
    direction = np.random.default_rng(2).standard_normal(flat.shape)
    assert float(jnp.sum(jax.grad(f)(flat) * direction)) == pytest.approx(slope(f, flat, direction), rel=1e-7)


# jit and vmap ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
@pytest.mark.parametrize("objective", [WHITE, correlated(), quartic], ids=["white", "correlated", "function"])
def test_jit_equals_the_eager_engine(objective, rtol):
    expected = gradient_flow(objective, START, TIMES, rtol=FINE).end_to_end
    trajectory = jax.jit(lambda start: gradient_flow(objective, start, TIMES, rtol=rtol))(START)
    assert relative_error(trajectory.end_to_end, expected) < 10 * rtol
    np.testing.assert_array_equal(trajectory.ts, TIMES)
    assert trajectory.ending is None and trajectory.statistics is None
    constant = jax.jit(lambda: gradient_flow(objective, START, TIMES, rtol=rtol).end_to_end)()
    assert relative_error(constant, expected) < 10 * rtol


def test_vmap_over_starts_objectives_and_times():
    starts = [random_network(WIDTHS, seed, 0.3) for seed in range(3)]
    sigmas = [np.random.default_rng(seed).standard_normal((3, 4)) for seed in range(3)]
    times = [TIMES[:4] + seed for seed in range(3)]
    stacked = jax.tree.map(lambda *W: jnp.stack(W), *starts)
    run = lambda start, sigma, ts: gradient_flow(SquaredError.from_moments(sigma, SIGMA_XX), start, ts, rtol=1e-8)
    expected = [np.asarray(run(*one).end_to_end) for one in zip(starts, sigmas, times, strict=True)]
    batch = jax.vmap(run)(stacked, jnp.stack(sigmas), jnp.stack(times))
    assert repr(batch) == "Trajectory(batch)"
    assert relative_error(jax.vmap(lambda one: one.end_to_end)(batch), np.stack(expected)) < 1e-7
    losses = jax.vmap(lambda one: one.map(lambda network: one.objective(network.end_to_end)))(batch)
    assert losses.shape == (3, 4) and bool(jnp.all(losses[:, 1:] < losses[:, :-1]))
    seeds = jax.vmap(lambda key: gradient_flow(WHITE, dl.init.gaussian(key, WIDTHS, 0.3), [1.0]).end_to_end)
    keys = jax.random.split(jax.random.key(0), 3)
    alone = gradient_flow(WHITE, dl.init.gaussian(keys[2], WIDTHS, 0.3), [1.0]).end_to_end
    assert relative_error(seeds(keys)[2], alone) < 1e-5


def test_times_that_the_steps_do_not_reach_are_infinite():
    trajectory = jax.jit(lambda start: gradient_flow(WHITE, start, [0.01, 50.0], max_steps=5))(START)
    assert np.isfinite(trajectory.ts[0]) and np.isinf(trajectory.ts[1])
    assert np.all(np.isfinite(trajectory.end_to_end[0]))
    assert all(np.all(np.isinf(W[1])) for W in trajectory.networks.weights)


def test_roots_have_the_derivatives_of_a_matrix_function():
    Q = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    A = np.random.default_rng(4).standard_normal((3, 3))
    for spectrum in ([3.0, 3.0, 3.0], [3.0, 2.0, 2.0], [3.0, 2.0, 0.0]):
        S = Q @ np.diag(spectrum) @ Q.T

        def roots(e, S=S):  # a change of basis keeps the rank
            return psd_root((jnp.eye(3) + e * A) @ S @ (jnp.eye(3) + e * A).T)

        tangents = jax.jvp(roots, (0.0,), (1.0,))[1]
        for k, tangent in enumerate(tangents):
            near, far = (roots(step)[k] - roots(-step)[k] for step in (1e-3, 2e-3))
            np.testing.assert_allclose(tangent, (8 * near - far) / 12e-3, rtol=0, atol=1e-9)


# solvers of diffrax ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        diffrax.Tsit5(),
        pytest.param(diffrax.Dopri8(), marks=pytest.mark.slow),
        pytest.param(diffrax.Kvaerno5(), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_solvers_of_diffrax_agree_with_the_own_methods(solver):
    objective, mask = correlated(), Network([np.ones((5, 4), bool), np.eye(3, 5) == 0])
    settings = {"mask": mask, "weight_decay": 0.1}
    expected = gradient_flow(objective, START, TIMES, rtol=FINE, **settings)
    trajectory = gradient_flow(objective, START, TIMES, solver=solver, **settings)
    assert relative_error(trajectory.end_to_end, expected.end_to_end) < 1e-5
    np.testing.assert_array_equal(trajectory.ts, TIMES)
    assert trajectory.ending.kind == expected.ending.kind == "time"
    assert trajectory.ending.loss == pytest.approx(expected.ending.loss, rel=1e-5)
    assert trajectory.ending.gradient_norm == pytest.approx(expected.ending.gradient_norm, rel=1e-2)
    assert trajectory.statistics.solver == type(solver).__name__
    assert trajectory.statistics.steps >= len(TIMES) - 1 and trajectory.statistics.seconds > 0
    assert gradient_flow(WHITE, START, [0.0, 30.0], solver=solver).ending.kind == "global minimum"


def test_rotations_of_hidden_layers_change_no_step():
    R = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    rotated = Network([R @ START.weights[0], START.weights[1] @ R.T])
    one, other = (gradient_flow(correlated(), start, TIMES, solver=diffrax.Dopri8()) for start in (START, rotated))
    assert one.statistics.steps == other.statistics.steps
    np.testing.assert_allclose(one.end_to_end, other.end_to_end, rtol=0, atol=1e-8)


class Calls(list):
    """A list that may be part of what JAX compiles for: equal to itself alone."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Counted(eqx.Module):
    """An objective that counts, on the host, how often its gradient is asked for."""

    calls: Calls = eqx.field(static=True)

    def __call__(self, W):
        return jnp.sum((W - 1) ** 2)

    def gradient(self, W):
        def on_host(W):
            self.calls.append(1)
            return 2 * (np.asarray(W) - 1)

        return jax.pure_callback(on_host, jax.ShapeDtypeStruct(W.shape, W.dtype), W)


@pytest.mark.parametrize("solver", [diffrax.Dopri8(), diffrax.Bosh3(), diffrax.Heun()], ids=repr)
def test_evaluations_are_counted(solver):
    counter = Calls()
    outcome = with_diffrax.follow(
        Problem(Counted(counter), None, None), START, np.array([1.0, 2.0]), 1e-4, 1e-12, solver, 4096
    )
    _, evaluations, _, _ = outcome.counts
    assert len(counter) - 1 == evaluations  # the last is the gradient where it stopped


@pytest.mark.slow
def test_a_spent_budget_returns_what_is_there():
    whole = gradient_flow(WHITE, START, TIMES, solver=diffrax.Tsit5())
    part = gradient_flow(WHITE, START, TIMES, solver=diffrax.Tsit5(), max_steps=20)
    assert part.ending.kind == "steps" and "20 steps" in part.ending.message
    assert part.statistics.steps + part.statistics.rejected == 20
    reached = len(part) - 1
    assert 0 < reached < len(TIMES) and TIMES[reached - 1] < part.ending.time < TIMES[reached]
    np.testing.assert_allclose(part.end_to_end[:reached], whole.end_to_end[:reached], rtol=0, atol=1e-13)
    first = gradient_flow(WHITE, START, [50.0], solver=diffrax.Tsit5(), max_steps=5)
    assert len(first) == 1 and float(first.ts[0]) == first.ending.time < 50


def test_a_run_to_infinity_stalls():
    ending = gradient_flow(lambda W: -jnp.sum(W**4), START, [50.0], solver=diffrax.Tsit5()).ending
    assert ending.kind == "stalled" and 0 < ending.time < 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_flow(WHITE, START, solver=diffrax.Tsit5()), r"^`ts`: is None, but a diffrax solver"),
        (lambda: jax.jit(lambda n: gradient_flow(WHITE, n))(START), r"^`ts`: is None, .*give `ts`"),
        (lambda: gradient_flow(WHITE, START, TIMES, solver=diffrax.Tsit5), r"^`solver`: got .*such as diffrax.Tsit5"),
        (lambda: gradient_flow(WHITE, START, TIMES, solver=diffrax.Euler()), r"^`solver`: got Euler.*estimates its"),
        (lambda: gradient_flow(WHITE, START, TIMES, solver="rk45"), r"^`solver`: got 'rk45'; give 'auto'"),
        (
            lambda: jax.jit(lambda n: gradient_flow(WHITE, n, TIMES, solver="rock4"))(START),
            r"^`solver`: 'rock4' is driven from the host",
        ),
        (
            lambda: gradient_flow(WHITE, START, TIMES, solver=diffrax.Tsit5(), adjoint="forward"),
            r"^`adjoint`: got 'forward'",
        ),
        (lambda: jax.jit(lambda t: gradient_flow(WHITE, START, t))(1.0), r"^`ts`: has shape \(\)"),
        (lambda: jax.jit(lambda n: gradient_flow(WHITE, n, [2.0, 1.0]))(START), r"^`ts`: 1 follows 2"),
        (lambda: jax.jit(SquaredError.of)(INPUTS, SAMPLES[:4]), r"^`Y`: has 4 rows, but X has 9"),
    ],
)
def test_bad_questions_get_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_normal_run_does_not_import_diffrax():
    code = (
        "import sys, deeplinear as dl\n"
        "dl.gradient_flow(dl.SquaredError.from_moments([[1.0]]), dl.Network([[[0.1]], [[0.1]]]))\n"
        "assert 'diffrax' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
