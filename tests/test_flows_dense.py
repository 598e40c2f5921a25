"""Dense solves of the implicit method: the matrix, its elimination, and whole runs against scipy."""

from contextlib import nullcontext
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from problems import quartic
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear._linalg import fused_products
from deeplinear.flows import dense, rosenbrock
from deeplinear.flows.problem import Problem
from deeplinear.flows.rosenbrock import GAMMA, Rosenbrock
from deeplinear.running import compiling

RTOL = 1e-7
FORMS = {"one kernel": fused_products, "plain": nullcontext}
IN_ONE_KERNEL = [(1, 1), (2, 2), (2, 1, 2), (1, 2, 1), (1, 1, 1, 1, 1)]
LARGER = [(2, 3), (2, 2, 2), (2, 5, 3), (3, 1, 4), (2, 3, 2, 3), (2, 1, 3, 2, 1, 2), (1, 2, 1, 2, 1, 1, 2)]
PLAIN = [(13, 2), (1, 14), (13, 2, 3), (2, 3, 13), (13, 2, 1, 2, 13), (2, 1, 1, 1, 1, 1, 14)]


def problem_of(widths, mask=None, decay=0.0):
    """A random squared error with correlated inputs, a start, and both as numpy's."""
    rng = np.random.default_rng(sum(widths) + len(widths))
    d_x, d_y = widths[0], widths[-1]
    X = rng.standard_normal((3 * d_x, d_x)) * np.linspace(0.5, 1.5, d_x)
    Sigma_xx, sigma_yx = X.T @ X / len(X), rng.standard_normal((d_y, d_x)) / np.sqrt(d_x)
    start = [0.6 / np.sqrt(below) * rng.standard_normal((above, below)) for below, above in pairwise(widths)]
    masks = None if mask is None else [rng.random(W.shape) < mask for W in start]

    def slopes(weights):
        """dW_j from the product rule, one factor at a time."""
        found = []
        for j, W in enumerate(weights):
            above, below = np.eye(d_y), np.eye(d_x)
            for V in weights[:j:-1]:
                above = above @ V
            for V in weights[:j]:
                below = V @ below
            found.append(above.T @ (sigma_yx - above @ W @ below @ Sigma_xx) @ below.T - decay * W)
        return found if masks is None else [m * slope for m, slope in zip(masks, found, strict=True)]

    return SquaredError.from_moments(sigma_yx, Sigma_xx), start, masks, slopes


def reference(start, slopes, ts):
    """End-to-end matrices by DOP853 at 1e-13."""
    cuts, shapes = np.cumsum([W.size for W in start])[:-1], [W.shape for W in start]
    layers = lambda y: [part.reshape(shape) for part, shape in zip(np.split(y, cuts), shapes, strict=True)]
    field = lambda _, y: np.concatenate([slope.ravel() for slope in slopes(layers(y))])
    flat = np.concatenate([W.ravel() for W in start])
    found = solve_ivp(field, (0, ts[-1]), flat, "DOP853", t_eval=ts, rtol=1e-13, atol=1e-15)
    product = lambda weights: weights[0] if len(weights) == 1 else np.linalg.multi_dot(weights[::-1])
    return np.array([product(layers(y)) for y in found.y.T])


def is_followed(widths, solver="bdf", mask=None, decay=0.0):
    objective, start, masks, slopes = problem_of(widths, mask, decay)
    ts = np.array([0.3, 1.0, 3.0, 20.0])
    maps = reference(start, slopes, ts)
    asked = {"rtol": RTOL, "solver": solver, "reduce": False, "weight_decay": decay}
    loss = (lambda W: objective(W)) if solver == "bdf" else objective  # a plain function is what JAX integrates
    trajectory = dl.gradient_flow(loss, Network(start), ts, mask=None if masks is None else Network(masks), **asked)
    errors = np.linalg.norm(trajectory.end_to_end - maps, axis=(1, 2)) / np.linalg.norm(maps, axis=(1, 2))
    print(f"{'-'.join(map(str, widths))}: {errors.max() / RTOL:.3g} rtol")
    assert errors.max() < 10 * RTOL
    # every step, rejected or not, took N products and one for each of six solutions, and seven evaluations
    statistics, N = trajectory.statistics, sum(W.size for W in start)
    if solver == "bdf":
        assert statistics.evaluations == (statistics.steps + statistics.rejected) * (N + 13) + 2


# the matrix -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["squared", "quartic"])
@pytest.mark.parametrize(("mask", "decay"), [(None, None), (0.6, None), (None, 0.3), (0.6, 0.3)])
def test_the_matrix_is_one_plus_tau_hessian(objective, mask, decay):
    squared, start, masks, _ = problem_of((3, 2, 4), mask)
    f = squared if objective == "squared" else quartic
    network, learns = Network(start), None if masks is None else Network(masks)
    flat, unravel = ravel_pytree(network)
    loss = lambda w: f(unravel(w).end_to_end) + (decay or 0.0) / 2 * jnp.sum(w**2)
    free = np.ones(flat.size) if masks is None else np.concatenate([m.ravel() for m in masks]).astype(float)
    expected = np.eye(flat.size) + 0.7 * np.outer(free, free) * np.asarray(jax.hessian(loss)(flat))
    problem = Problem(f, learns, None if decay is None else jnp.asarray(decay))
    for form in FORMS.values():
        with form():
            found = np.asarray(dense.matrix(problem, network, jnp.asarray(0.7)))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-14 * np.abs(expected).max())


@pytest.mark.parametrize("N", [1, 2, 8])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
def test_elimination_solves(N, condition):
    rng = np.random.default_rng(N)
    Q = np.linalg.qr(rng.standard_normal((N, N)))[0]
    M, side = (Q * np.geomspace(1, condition, N)) @ Q.T, rng.standard_normal(N)
    for eliminate in (dense._by_sweeps, dense._by_cholesky):
        invert, definite = eliminate(jnp.asarray((M + M.T) / 2))
        error = np.linalg.norm(invert(jnp.asarray(side)) - np.linalg.solve(M, side))
        assert bool(definite)
        assert error < 10 * np.finfo(float).eps * condition * np.linalg.norm(side)


@pytest.mark.parametrize("smallest", [-1e-3, -1.0, -1e12, np.inf])
def test_what_is_not_positive_definite_is_found_out(smallest):
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    M = (Q * np.array([smallest, 1.0, 1.0, 2.0, 30.0])) @ Q.T if np.isfinite(smallest) else np.full((5, 5), smallest)
    for eliminate in (dense._by_sweeps, dense._by_cholesky):
        assert not bool(eliminate(jnp.asarray(M))[1])


# the choice -----------------------------------------------------------------------------------------------------------


def test_the_choice_is_by_weights_and_ends():
    squared = Problem(lambda W: jnp.sum(W**2), None, None)
    network = lambda *widths: dl.init.gaussian(0, widths, 1.0)
    masked = lambda start: Problem(squared.objective, jax.tree.map(lambda W: W > 0, start), None)
    for widths in PLAIN:
        assert dense.pays(squared, network(*widths))
    for widths in [(11, 6, 6, 6, 6, 4), (20, 15, 3), (5,) * 8, (40, 2, 40)]:
        assert not dense.pays(squared, network(*widths))
    assert not dense.pays(squared, network(14, 6, 14)) and dense.pays(masked(network(14, 6, 14)), network(14, 6, 14))
    with fused_products():
        for widths in IN_ONE_KERNEL:
            assert dense.pays(squared, network(*widths))
        for widths in [(2, 2, 2), (3, 3, 3), (13, 2, 3)]:
            assert not dense.pays(squared, network(*widths))


# steps ----------------------------------------------------------------------------------------------------------------


def step(problem, network, h, form, rtol=1e-12):
    with FORMS[form]():  # a function of its own each time: nothing compiled before is used
        run = lambda: Rosenbrock().step(
            problem, network, problem(network), h, (), jnp.asarray(rtol), jnp.asarray(1e-20)
        )
        return jax.jit(run)()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("mask", "decay"), [(None, None), (0.7, 0.2)])
def test_both_ways_of_solving_take_the_same_step(form, mask, decay, monkeypatch):
    objective, start, masks, _ = problem_of((3, 4, 2), mask)
    network, learns = Network(start), None if masks is None else Network(masks)
    problem, h = Problem(objective, learns, None if decay is None else jnp.asarray(decay)), jnp.asarray(0.8)
    monkeypatch.setattr(rosenbrock, "pays", lambda *_: True)
    whole = step(problem, network, h, form)
    monkeypatch.setattr(rosenbrock, "pays", lambda *_: False)
    products = step(problem, network, h, form)
    for ours, theirs in zip(whole[0].weights, products[0].weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(float(whole[2]), float(products[2]), rtol=1e-3)
    assert int(whole[3]) == 20 + 6 + 7  # weights, solutions, evaluations
    if masks is not None:
        for W, before, m in zip(whole[0].weights, start, masks, strict=True):
            np.testing.assert_array_equal(np.asarray(W)[~m], before[~m])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("h", [1e2, 1e9, 1e200, 1e308])
def test_a_step_too_long_to_leave_a_saddle_is_refused(form, h, monkeypatch):
    monkeypatch.setattr(rosenbrock, "pays", lambda *_: True)
    objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    start = dl.init.gaussian(0, (2, 2, 2), 1e-6)
    problem = Problem(objective, None, None)
    assert 0.0 < float(step(problem, start, jnp.asarray(0.9 / (2 * GAMMA)), form)[2]) < np.inf
    assert float(step(problem, start, jnp.asarray(h), form)[2]) == np.inf


# runs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def always(monkeypatch):
    """Dense solves in one kernel beyond the weights up to which they pay; no program of other tests is in the way."""
    monkeypatch.setattr(dense, "IN_ONE_KERNEL", 30)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("widths", [*IN_ONE_KERNEL[2:], *PLAIN[1:4]], ids=str)
def test_a_random_network_follows_the_flow(widths):
    is_followed(widths)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("widths", [(2, 3), (2, 5, 3), (2, 1, 3, 2, 1, 2)], ids=str)
def test_a_larger_network_follows_the_flow_in_one_kernel(widths):
    is_followed(widths)


@pytest.mark.slow
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("widths", LARGER, ids=str)
def test_all_larger_networks_follow_the_flow_in_one_kernel(widths):
    is_followed(widths)
    assert not compiling.refused


@pytest.mark.slow
@pytest.mark.parametrize("widths", [*IN_ONE_KERNEL, *PLAIN], ids=str)
@pytest.mark.parametrize("solver", ["bdf", "auto"])
def test_more_random_networks_follow_the_flow(widths, solver):
    is_followed(widths, solver)


@pytest.mark.parametrize("widths", [(2, 1, 2), (13, 2, 3)], ids=str)
def test_masks_and_decay_are_followed(widths):
    is_followed(widths, mask=0.7, decay=0.1)


@pytest.mark.parametrize("widths", [(2, 1, 2), (13, 2, 3)], ids=str)
def test_a_plateau_is_crossed_from_a_tiny_start(widths):
    """Steps that are refused there leave no NaN, and all modes are learned."""
    objective = SquaredError.from_singular_values([2.0, 1.0][: min(widths)], widths[0], widths[-1])
    start = dl.init.gaussian(0, widths, 1e-5)
    run = dl.gradient_flow(objective, start, [1.0, 10.0, 1e3, 1e6], rtol=1e-5, solver="bdf", reduce=False)
    assert np.isfinite(run.end_to_end).all()
    assert run.ending.kind == "global minimum"
    np.testing.assert_allclose(run.end_to_end[-1], objective.optimum, rtol=0, atol=1e-9)


@pytest.mark.parametrize("widths", [(2, 1, 2), (13, 2, 3)], ids=str)
def test_members_do_not_depend_on_the_split(widths):
    objective, start, _, _ = problem_of(widths)
    starts = jax.tree.map(lambda W: jnp.stack([W, 0.5 * W, 0.1 * W, -W, 0.01 * W]), Network(start))
    run = lambda networks, threads: dl.gradient_flow(objective, networks, [1.0, 30.0], solver="bdf", threads=threads)
    whole, split = run(starts, 1), run(starts, 2)
    one = dl.gradient_flow(objective, jax.tree.map(lambda W: W[2], starts), [1.0, 30.0], solver="bdf", reduce=False)
    np.testing.assert_array_equal(whole.end_to_end, split.end_to_end)
    np.testing.assert_array_equal(whole.end_to_end[2], one.end_to_end)
