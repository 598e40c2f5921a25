"""Steps of the methods against reference steps in numpy, their order, and runs of each against scipy."""

import cnd4_numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rock4_numpy
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear._linalg import chain, fused_products, product
from deeplinear.flows import compiled, stabilised
from deeplinear.flows.automatic import PATIENCE, TRIAL, Automatic
from deeplinear.flows.dopri8 import Dopri8
from deeplinear.flows.problem import Problem
from deeplinear.flows.rosenbrock import Rosenbrock
from deeplinear.flows.stabilised import Stabilised, table
from deeplinear.running import compiling

OBJECTIVE = dl.SquaredError.from_moments([[2.0, 0.3, 0.0], [0.1, 1.0, -0.4]], [[1.5, 0.2, 0], [0.2, 1, 0], [0, 0, 0.5]])
START = dl.init.gaussian(3, (3, 4, 2), 0.6)
PROBLEM = Problem(OBJECTIVE, None, None)
STIFF_OBJECTIVE = dl.SquaredError.from_singular_values([6.0, 4.5, 3.0, 1.5], 11, 4)
STIFF = dl.init.gaussian(0, (11, 6, 6, 6, 6, 4), 0.01)


def flat_field():
    start, unravel = ravel_pytree(START)
    field = jax.jit(lambda y: ravel_pytree(PROBLEM(unravel(y)))[0])
    return np.asarray(start), lambda y: np.asarray(field(jnp.asarray(y)))


@pytest.mark.parametrize("stages", [5, 8, 24, 61])
@pytest.mark.parametrize("name", ["rock4", "cnd4"])
def test_a_stabilised_step_is_the_reference_step(name, stages):
    step, reference = {
        "rock4": (stabilised._rock4, rock4_numpy.rock4_step),
        "cnd4": (stabilised._cnd4, cnd4_numpy.cnd4_step),
    }[name]
    data = table(name)
    member = int(np.searchsorted(data["stages"], stages))
    noise = 1e-9 + (stabilised.ROUNDING * stages**8 if name == "rock4" else 0.0)  # inherent in ROCK4's finishing stages
    h = 0.3 * data["interval"][member] / 8  # the spectral radius at the start is about 8
    after, slope, error = jax.jit(lambda member: step(PROBLEM, START, PROBLEM(START), jnp.asarray(h), member, data))(
        jnp.asarray(member)
    )
    y, field = flat_field()
    expected = reference(field, y, field(y), h, member, data)
    for ours, theirs in zip((after, slope, error), expected, strict=True):
        np.testing.assert_allclose(ravel_pytree(ours)[0], theirs, rtol=0, atol=noise * np.abs(expected[0]).max())


@pytest.mark.parametrize(("method", "order"), [(Dopri8(), 8), (Stabilised(), 4), (Rosenbrock(), 4)])
def test_order_by_slope(method, order):
    y, field = flat_field()
    exact = solve_ivp(lambda t, y: field(y), (0, 1), y, "DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
    rtol, atol = jnp.asarray(1e-12), jnp.asarray(1e-16)

    @jax.jit
    def run(h, steps):
        memory, _ = method.begin(PROBLEM, START, PROBLEM(START))

        def one(_, state):
            network, slope = state
            return method.step(PROBLEM, network, slope, h, memory, rtol, atol)[:2]

        return jax.lax.fori_loop(0, steps, one, (START, PROBLEM(START)))[0]

    steps = {8: (6, 9, 13), 4: (64, 96, 144)}[order]
    errors = [np.linalg.norm(ravel_pytree(run(jnp.asarray(1 / n), n))[0] - exact) for n in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert -slope > order - 0.4


@pytest.mark.parametrize("solver", ["rock4", "rodas4", "dopri8", "auto"])
def test_every_solver_follows_the_flow(solver):
    y, field = flat_field()
    ts = np.linspace(0, 30, 20)
    exact = solve_ivp(lambda t, y: field(y), (0, 30), y, "DOP853", t_eval=ts, rtol=1e-13, atol=1e-15).y.T
    trajectory = dl.gradient_flow(OBJECTIVE, START, ts, rtol=1e-6, solver=solver)
    _, unravel = ravel_pytree(START)
    W = np.array([unravel(jnp.asarray(y)).end_to_end for y in exact])
    errors = np.linalg.norm(trajectory.end_to_end - W, axis=(1, 2)) / np.linalg.norm(W, axis=(1, 2))
    assert errors.max() < 1e-6
    assert trajectory.statistics.solver == solver


def test_a_stiff_plateau_is_handed_over_and_back():
    ts = np.linspace(0, 1.3e5, 40)[1:]
    reference = dl.gradient_flow(STIFF_OBJECTIVE, STIFF, ts, rtol=1e-8, solver="rodas4")
    alone = dl.gradient_flow(STIFF_OBJECTIVE, STIFF, ts, rtol=1e-4, solver="rock4")
    both = dl.gradient_flow(STIFF_OBJECTIVE, STIFF, ts, rtol=1e-4, solver="auto")
    sizes = np.linalg.norm(reference.end_to_end, axis=(1, 2))
    for trajectory in (alone, both):
        errors = np.linalg.norm(trajectory.end_to_end - reference.end_to_end, axis=(1, 2)) / sizes
        assert errors.max() < 1e-3  # two methods that share no formula agree
    assert both.statistics.evaluations < alone.statistics.evaluations / 2
    start, end = (map(np.asarray, dl.diagnostics.imbalance(network)) for network in (STIFF, both[-1]))
    drift = max(np.abs(a - b).max() for a, b in zip(start, end, strict=True))
    assert drift < 1e-4


def test_the_automatic_method_decides_by_cost():
    method, h = Automatic(), jnp.asarray(1.0)
    field, slope = PROBLEM, PROBLEM(START)
    memory, _ = method.begin(field, START, slope)
    limit = method.longest(memory)
    refresh = lambda memory, h, spent, accepted=True: method.refresh(
        field, START, slope, memory, jnp.asarray(accepted), jnp.asarray(h), jnp.asarray(spent)
    )[0]
    for _ in range(PATIENCE):
        assert not bool(memory.implicit)
        memory = refresh(memory, limit, 163)
    assert bool(memory.implicit) and bool(jnp.isinf(method.longest(memory)))
    for _ in range(6):
        memory = refresh(memory, 100 * limit, 200)
        assert bool(memory.implicit)  # a hundred times the step for three times the cost
    memory = refresh(memory, 100 * limit, 200, accepted=False)
    assert bool(memory.implicit)  # one rejected step is no reason to leave
    steps = 0
    while bool(memory.implicit):
        memory, steps = refresh(memory, limit, 200), steps + 1
    assert steps <= 5 and int(memory.patience) == PATIENCE  # it served: no reason to wait longer the next time
    for _ in range(PATIENCE):
        memory = refresh(memory, limit, 163)
    for _ in range(TRIAL):
        assert bool(memory.implicit)
        memory = refresh(memory, limit, 200)
    assert not bool(memory.implicit) and int(memory.patience) > PATIENCE
    assert float(h) == 1.0


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_fused_products_are_products(rows, inner, columns, seed):
    rng = np.random.default_rng(seed)
    A, B = jnp.asarray(rng.standard_normal((rows, inner))), jnp.asarray(rng.standard_normal((inner, columns)))
    with fused_products():
        fused, chained = product(A, B), chain([B, A])
    np.testing.assert_allclose(fused, A @ B, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(chained, A @ B, rtol=1e-13, atol=1e-14)


def test_one_kernel_and_the_plain_form_agree(monkeypatch):
    ts = [1.0, 5.0, 40.0]
    small = dl.gradient_flow(OBJECTIVE, START, ts, rtol=1e-8, solver="rock4")
    assert compiling.is_small(START) and not compiling.refused
    monkeypatch.setattr(compiling, "refused", ["as if XLA could not"])
    plain = dl.gradient_flow(OBJECTIVE, START, ts, rtol=1e-8, solver="rock4")
    np.testing.assert_allclose(small.end_to_end, plain.end_to_end, rtol=1e-9, atol=1e-11)


def test_the_tag_is_still_honoured():
    """Fails when a release of JAX compiles small networks operation by operation again: see `running.compiling`."""
    text = compiled.text_of_one_kernel(Stabilised(), Problem(STIFF_OBJECTIVE, None, None), STIFF)
    entry = text[text.index("ENTRY") :]
    assert "xla_cpu_small_call" in text
    assert "while(" not in entry  # loops inside the tagged function, none on the way to it
