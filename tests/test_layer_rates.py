"""Layers that learn at different rates: solutions, predictions and conservation against the original equations."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from brute import product, slopes
from hypothesis import given
from hypothesis import strategies as st
from mp_flow import balanced_start
from problems import correlated, random_network
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, diagnostics, exact, init, learning_times, predicates
from deeplinear._arguments import check_decay, check_rates
from deeplinear.dynamics import engine
from deeplinear.layer_rates import at_unit_rates, decay_at_unit_rates, network_at_unit_rates

WHITE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)
COLOURED = correlated()
TIMES = [0.0, 0.3, 1.0, 4.0]


def flow(objective, network, ts, rates, decay=0.0):
    """W at every time of dW_l/dt = -eta_l (dL/dW_l + gamma_l W_l), written in W alone: a list of lists."""
    layers = [np.asarray(W) for W in network.weights]
    rates, decay = (np.broadcast_to(x, (len(layers),)) for x in (rates, decay))
    factor = float(objective.factor)
    moments = factor * np.asarray(objective.sigma_yx), factor * np.asarray(objective.sigma_xx)
    cuts = np.cumsum([W.size for W in layers])[:-1]
    split = lambda y: [part.reshape(W.shape) for part, W in zip(np.split(y, cuts), layers, strict=True)]

    def field(_, y):
        now = split(y)
        moves = zip(rates, decay, slopes(now, *moments), now, strict=True)
        return np.concatenate([(eta * (slope - gamma * W)).ravel() for eta, gamma, slope, W in moves])

    y, t, found = np.concatenate([W.ravel() for W in layers]), 0.0, []
    for end in ts:
        if end > t:
            y = solve_ivp(field, (t, end), y, "DOP853", rtol=1e-13, atol=1e-16, max_step=0.02).y[:, -1]
            t = end
        found.append(split(y))
    return found


def at_rates(weights, rates):
    """W_l = sqrt(eta_l) V_l."""
    return Network([np.sqrt(eta) * np.asarray(V) for eta, V in zip(rates, weights, strict=True)])


def error(solution, objective, network, rates, decay=0.0, ts=TIMES):
    """Largest error of everything that a solution says, relative to the largest weight or to the first loss."""
    truth, state = flow(objective, network, ts, rates, decay), solution(ts)
    trajectory = solution.trajectory(ts)
    size = max(float(np.abs(W).max()) for layers in truth for W in layers)
    gaps = []
    for i, layers in enumerate(truth):
        W = product(layers)
        for l, layer in enumerate(layers):
            gaps += [layer - np.asarray(of[l][i]) for of in (state.weights, trajectory.networks.weights)]
        gaps += [W - np.asarray(state.end_to_end[i]), W - np.asarray(solution.weights(ts).end_to_end[i])]
        gaps += [layers[0].T @ layers[0] - np.asarray(state.gram_in[i])]
        gaps += [layers[-1] @ layers[-1].T - np.asarray(state.gram_out[i])]
        gaps += [(float(objective(jnp.asarray(W))) - float(state.loss[i])) / float(state.loss[0])]
    assert trajectory.objective is objective
    np.testing.assert_array_equal(state.ts, ts)
    return max(float(np.abs(gap).max()) for gap in gaps) / max(size, 1.0)


def balanced_at(widths, rates, scale=0.4):
    return at_rates(init.balanced(0, widths, scale=scale).weights, rates)


def aligned_at(objective, widths, rates):
    """Aligned with the data's modes, unbalanced in W and in V."""
    layers = init.decoupled(0, objective, widths, [0.3, 0.2, 0.1]).weights
    return Network([(1 + 0.3 * l) * np.asarray(W) for l, W in enumerate(at_rates(layers, rates).weights)])


def two_layers_at(rates, lam):
    return at_rates(balanced_start(np.random.default_rng(3), (4, 3, 3), lam, 0.5), rates)


ALIGNED = SquaredError.from_moments(
    np.asarray(WHITE.sigma_yx), np.diag([2.0, 1.0, 0.5, 1.0]), scale=dl.MEAN
)  # coloured inputs whose axes are the modes'
ONE_PLANE = SquaredError.from_moments(np.eye(3, 4), 2.0 * np.eye(4))
SOLVED = {
    "one layer": (exact.regression, COLOURED, random_network((4, 3)), [3.0]),
    "aligned, depth 1": (exact.decoupled, WHITE, init.decoupled(0, WHITE, (4, 3), 0.1), [0.4]),
    "aligned, depth 2": (exact.decoupled, ALIGNED, aligned_at(ALIGNED, (4, 5, 3), [0.2, 3.0]), [0.2, 3.0]),
    "aligned, depth 3": (exact.decoupled, ALIGNED, aligned_at(ALIGNED, (4, 5, 4, 3), [2, 0.5, 1]), [2.0, 0.5, 1.0]),
    "two layers, lambda 0": (exact.two_layer, WHITE, two_layers_at([0.3, 2.0], 0.0), [0.3, 2.0]),
    "two layers, lambda > 0": (exact.two_layer, ONE_PLANE, two_layers_at([0.3, 2.0], 0.7), [0.3, 2.0]),
    "two layers, lambda < 0": (exact.two_layer, WHITE, two_layers_at([5.0, 0.5], -0.4), [5.0, 0.5]),
    "balanced, depth 2": (exact.balanced, COLOURED, balanced_at((4, 5, 3), [0.5, 3.0]), [0.5, 3.0]),
    "balanced, depth 3": (exact.balanced, COLOURED, balanced_at((4, 5, 4, 3), [0.5, 3, 1]), [0.5, 3.0, 1.0]),
    "chosen, depth 3": (exact.solve, WHITE, balanced_at((4, 5, 4, 3), [0.5, 3, 1]), [0.5, 3.0, 1.0]),
}


@pytest.mark.parametrize("case", SOLVED)
def test_solutions_follow_the_original_equations(case):
    solve, objective, network, rates = SOLVED[case]
    solution = solve(objective, network, rates=rates)
    worst = error(solution, objective, network, rates)
    print(f"{case}: {worst:.1e}")
    assert worst < 1e-13
    assert isinstance(solution, exact.Rated) and all(check.holds for check in solution.checks)
    if solve is not exact.solve:
        assert solution.checks[0].theorem in exact.applicable(objective, network, rates=rates).theorems


@pytest.mark.parametrize("rates", [[2.5], [0.4, 3.0], [0.4, 3.0, 1.7]])
def test_numbers_in_thirty_digits(rates):
    # networks of one number a layer, their equations integrated by Taylor series
    w, c, s, t = [0.3, -0.7, 0.5][: len(rates)], 1.3, 0.9, 2.0
    with mp.workdps(30):

        def field(_, x):
            gap = mp.mpf(s) - mp.mpf(c) * mp.fprod(x)
            return [mp.mpf(eta) * gap * mp.fprod(x[:l] + x[l + 1 :]) for l, eta in enumerate(rates)]

        truth = np.array([float(x) for x in mp.odefun(field, 0, [mp.mpf(x) for x in w])(t)])
    objective = SquaredError.from_moments([[s]], [[c]])
    network = Network([[[x]] for x in w])
    builders = [exact.solve, exact.decoupled] + [exact.regression] * (len(w) == 1) + [exact.two_layer] * (len(w) == 2)
    for build in builders:
        found = build(objective, network, rates=rates)([t])
        np.testing.assert_allclose(np.ravel(found.weights), truth, rtol=2e-14)
        np.testing.assert_allclose(np.ravel(found.end_to_end), np.prod(truth), rtol=2e-14)


def test_one_layer_in_thirty_digits():
    network, rate, t = random_network((4, 3)), 0.7, 1.5
    with mp.workdps(30):
        matrix = lambda M: mp.matrix(np.asarray(M).tolist())
        K = mp.mpf(rate) * mp.mpf(float(COLOURED.factor)) * matrix(COLOURED.sigma_xx)
        best = matrix(COLOURED.optimum)
        truth = best + (matrix(network.weights[0]) - best) * mp.expm(-K * t)
        truth = np.array(truth.tolist(), dtype=float)
    found = exact.regression(COLOURED, network, rates=rate)([t]).end_to_end[0]
    np.testing.assert_allclose(found, truth, rtol=0, atol=2e-14 * np.abs(truth).max())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_one_rate_for_all_is_a_faster_clock(depth):
    network = init.balanced(0, (4, *[5] * (depth - 1), 3), scale=0.4)
    usual, rated = exact.solve(COLOURED, network), exact.solve(COLOURED, network, rates=2.5)
    ts = np.array(TIMES)
    for name in ("end_to_end", "loss", "gram_in", "gram_out"):
        then, now = np.asarray(getattr(usual(2.5 * ts), name)), np.asarray(getattr(rated(ts), name))
        np.testing.assert_allclose(now, then, rtol=0, atol=3e-13 * np.abs(then).max())
    ones = exact.solve(COLOURED, network, rates=np.ones(depth))
    np.testing.assert_array_equal(ones(ts).end_to_end, usual(ts).end_to_end)


def test_late_times_and_limits():
    network, rates = two_layers_at([0.3, 2.0], 0.0), [0.3, 2.0]
    for build in (exact.two_layer, exact.solve):
        solution = build(WHITE, network, rates=rates)
        np.testing.assert_allclose(solution.limit().end_to_end, WHITE.optimum, atol=1e-13)
        assert float(solution([400.0]).loss[0]) < 1e-26 and solution.warning is None
    saddle = at_rates([np.diag([0.1, -0.1]), np.diag([0.1, 0.1])], rates)
    warned = exact.two_layer(SquaredError.from_singular_values([2.0, 1.0], 2, 2), saddle, rates=rates)
    assert "stable manifold of a saddle" in warned.warning
    assert warned([1.0]).warning is None and warned([400.0]).warning is not None
    # in physical time: W_1 and W_2 of mode 2 grow as exp(sqrt(eta_1 eta_2) s t)
    assert f"exp({np.sqrt(0.3 * 2.0):.4g} t)" in warned.warning


def test_tasks_one_after_another():
    rates, network = [0.3, 2.0], two_layers_at([0.3, 2.0], 0.0)
    back = SquaredError.from_moments(np.asarray(WHITE.sigma_yx)[::-1])
    solution = exact.sequence([(WHITE, 2.0), (back, 3.0)], network, rates=rates)
    halfway = Network(flow(WHITE, network, [2.0], rates)[0])
    ends = [halfway, Network(flow(back, halfway, [3.0], rates)[0])]
    state = solution([2.0, 5.0])
    for i, (end, task) in enumerate(zip(ends, (WHITE, back), strict=True)):
        np.testing.assert_allclose(state.end_to_end[i], end.end_to_end, atol=3e-12)
        np.testing.assert_allclose(state.loss[i], task(end.end_to_end), rtol=1e-9, atol=1e-12)
        for W, truth in zip(state.weights, end.weights, strict=True):
            np.testing.assert_allclose(W[i], truth, atol=3e-11)
    assert solution.objective.total == 5.0 and solution.at_unit_rates.forgetting.shape == (2, 2)
    with pytest.raises(
        exact.NotExact, match=r"task 2: the start is lambda-balanced, V_2\^T V_2 - V_1 V_1\^T = lambda I"
    ):
        exact.sequence([(WHITE, 2.0), (back, 3.0)], random_network((4, 5, 3)), rates=rates)


widths_and_rates = st.integers(1, 4).flatmap(
    lambda h: st.tuples(
        st.lists(st.integers(1, 5), min_size=h + 1, max_size=h + 1),
        st.lists(st.floats(-3, 3).map(lambda x: 10.0**x), min_size=h, max_size=h),
        st.lists(st.floats(0, 2), min_size=h, max_size=h),
    )
)


@given(problem=widths_and_rates, seed=st.integers(0, 10**6), white=st.booleans())
def test_the_engine_moves_as_the_problem_at_unit_rates(engine_library, problem, seed, white):
    widths, rates, decay = problem
    rng = np.random.default_rng(seed)
    root = None if white else rng.standard_normal((widths[0], widths[0]))
    sigma_xx = None if white else root @ root.T
    objective = SquaredError.from_moments(rng.standard_normal((widths[-1], widths[0])), sigma_xx, scale=dl.MEAN)
    network = random_network(widths, seed, scale=1.0)
    problem_of = lambda L, rates, decay: engine.Problem(
        np.asarray(L.optimum),
        None if white else np.asarray(L.root_xx),
        float(L.factor),
        rates,
        decay,
        graded=L.graded,
    )
    weights = lambda of: [np.asarray(W) for W in of.weights]
    moved = engine.velocity(problem_of(objective, rates, decay), weights(network))
    at_one = at_unit_rates(objective, network, rates)
    gamma = decay_at_unit_rates(decay, rates, network.depth)
    gamma = None if gamma is None else np.asarray(gamma)
    seen = engine.velocity(problem_of(at_one.objective, None, gamma), weights(at_one.network))
    for eta, slope, of_V in zip(rates, moved, seen, strict=True):
        size = max(np.abs(slope).max(), 1e-3 * eta)
        np.testing.assert_allclose(np.sqrt(eta) * of_V, slope, rtol=0, atol=1e-11 * size)


@given(problem=widths_and_rates, seed=st.integers(0, 10**6))
def test_the_imbalance_at_unit_rates_does_not_move(problem, seed):
    # its derivative along the original equations, for any widths and rates
    widths, rates, _ = problem
    network = random_network(widths, seed, scale=1.0)
    rng = np.random.default_rng(seed)
    sigma_yx, sigma_xx = rng.standard_normal((widths[-1], widths[0])), np.eye(widths[0])
    layers = [np.asarray(W) for W in network.weights]
    moves = [eta * slope for eta, slope in zip(rates, slopes(layers, sigma_yx, sigma_xx), strict=True)]
    step = jax.jvp(
        lambda net: diagnostics.imbalance(net, rates), (network,), (Network([np.asarray(move) for move in moves]),)
    )[1]
    residual = sigma_yx - product(layers)
    size = np.linalg.norm(residual) * np.prod([np.linalg.norm(W) for W in layers])
    assert all(np.abs(change).max() <= 1e-14 * size for change in step)
    usual = diagnostics.imbalance(network_at_unit_rates(network, rates))
    for C, D in zip(diagnostics.imbalance(network, rates), usual, strict=True):
        np.testing.assert_array_equal(C, D)


@pytest.mark.parametrize("widths", [(4, 5, 3), (4, 5, 4, 3)])
def test_conservation_along_the_original_equations(widths):
    network, rates = random_network(widths, scale=0.6), [0.4, 3.0, 1.0][: len(widths) - 1]
    start = [np.asarray(C) for C in diagnostics.imbalance(network, rates=rates)]
    drift, worst, plain = diagnostics.imbalance_drift(network, rates), 0.0, 0.0
    for layers in flow(COLOURED, network, TIMES, rates):
        now = Network(layers)
        worst = max(worst, float(drift(now).max()))
        plain = max(plain, float(diagnostics.imbalance_drift(network)(now).max()))
        size = [float(np.linalg.norm(C)) for C in start]
        np.testing.assert_allclose(diagnostics.imbalance_norms(now, rates), size, rtol=1e-12)
        assert predicates.smallest_delta(now, rates=rates) == pytest.approx(max(size), rel=1e-12)
        terms = diagnostics.imbalance_terms(now, rates)
        np.testing.assert_allclose(np.nansum(terms, axis=(1, 2)), np.square(size), rtol=1e-11)
        assert (np.asarray(diagnostics.synchronisation(now, rates)) <= np.multiply(size, 1 + 1e-12)).all()
    print(f"drift at {widths}: {worst:.1e}")
    assert worst < 1e-12 < 1e-2 < plain  # without rates it moves
    measured = dl.measure(exact_or_flow(network, rates), drift=drift)["drift"]
    assert measured.dims == ("time", "junction") and float(measured.max()) < 1e-12
    assert int(diagnostics.conservation_rank(network, rates)) == diagnostics.conservation_laws(widths)


def exact_or_flow(network, rates):
    """A trajectory of the original equations."""
    stacked = [np.stack(W) for W in zip(*flow(COLOURED, network, TIMES, rates), strict=True)]
    tree = jax.tree.unflatten(jax.tree.structure(network), [jnp.asarray(W) for W in stacked])
    return dl.Trajectory(jnp.asarray(TIMES), tree, objective=COLOURED)


def test_predicates_speak_of_balance_at_unit_rates():
    rates = [0.3, 2.0]
    balanced, tilted = two_layers_at(rates, 0.0), two_layers_at(rates, 0.7)
    check = predicates.balanced(balanced, rates=rates)
    assert (
        check.holds and not predicates.balanced(balanced).holds and not predicates.balanced(tilted, rates=rates).holds
    )
    assert check.assumption.endswith("V_{l+1}^T V_{l+1} - V_l V_l^T = 0, V_l = W_l / sqrt(rate of layer l)")
    found = predicates.lambda_balanced(tilted, rates=rates)
    assert found.holds and not predicates.lambda_balanced(tilted).holds
    assert predicates.best_lambdas(tilted, rates=rates) == pytest.approx((0.7,), rel=1e-12)
    delta = predicates.smallest_delta(tilted, rates=rates)
    assert delta == pytest.approx(0.7 * 3**0.5, rel=1e-12)
    assert predicates.delta_balanced(tilted, delta * 1.01, rates=rates).holds
    assert not predicates.delta_balanced(tilted, delta * 0.99, rates=rates).holds


def graded():
    """Inputs whose variances differ by ten decades, of which only the root is kept."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((50, 4)) * [1.0, 1e-2, 1e-5, 1.0]
    return SquaredError.of(X, X @ rng.standard_normal((4, 3)) + 0.1 * rng.standard_normal((50, 3)))


@pytest.mark.parametrize("objective", [WHITE, COLOURED, graded(), correlated(scale=dl.HALF_SUM)])
def test_every_number_of_the_loss_stays(objective):
    rates = [0.37, 5.0]
    network = random_network((4, 5, 3))
    at_one = at_unit_rates(objective, network, rates)
    scaled, a = at_one.objective, at_one.scale
    assert a == pytest.approx(np.sqrt(0.37 * 5.0), rel=1e-15)
    assert float(scaled.factor) == pytest.approx(float(objective.factor) * 0.37 * 5.0, rel=1e-14)
    assert scaled.graded == objective.graded and scaled.whitened == objective.whitened
    assert scaled.scale is objective.scale and float(scaled.minimum) == float(objective.minimum)
    assert (scaled.variation is None) == (objective.variation is None)
    assert objective.variation is None or float(scaled.variation) == float(objective.variation)
    for name in ("sigma_xx", "root_xx"):
        np.testing.assert_array_equal(getattr(scaled, name), getattr(objective, name))
    for mine, theirs in zip(scaled.input_spectrum, objective.input_spectrum, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    rng, slope = np.random.default_rng(0), float(jnp.abs(objective.factor * objective.sigma_yx).max())
    for W in (jnp.asarray(rng.standard_normal((3, 4))), objective.optimum * 1.001, network.end_to_end):
        V = W / a
        np.testing.assert_allclose(scaled(V), objective(W), rtol=1e-12)
        np.testing.assert_allclose(scaled.gradient(V), a * objective.gradient(W), rtol=1e-13, atol=1e-14 * slope)
        np.testing.assert_allclose(
            scaled.hessian_vector(V, V), a * objective.hessian_vector(W, W), rtol=1e-13, atol=1e-14 * slope
        )
        for rank in (None, 0, 1, 2):
            usual = float(objective.excess(W, rank))
            assert float(scaled.excess(V, rank)) == pytest.approx(usual, rel=1e-12, abs=1e-14 * float(objective(0 * W)))
    for rank in range(4):
        np.testing.assert_allclose(scaled.minimum_at_rank(rank), objective.minimum_at_rank(rank), rtol=1e-13)
        best = np.asarray(objective.optimum_at_rank(rank))
        np.testing.assert_allclose(a * scaled.optimum_at_rank(rank), best, atol=1e-12 * max(np.abs(best).max(), 1.0))
    np.testing.assert_allclose(
        a * scaled.modes.s, objective.modes.s, rtol=1e-14, atol=1e-14 * float(objective.modes.s[0])
    )
    for lifted, W in zip(at_one.lift(at_one.network).weights, network.weights, strict=True):
        np.testing.assert_allclose(lifted, W, rtol=3e-16)
    np.testing.assert_allclose(a * at_one.network.end_to_end, network.end_to_end, rtol=1e-13)


PREDICTED = {
    "decoupled modes": (ALIGNED, aligned_at(ALIGNED, (4, 5, 3), [0.2, 3.0]), [0.2, 3.0]),
    "regression": (COLOURED, Network([np.full((3, 4), 1e-3)]), [2.0]),
    "two-layer Riccati": (WHITE, at_rates(init.balanced(1, (4, 5, 3), scale=1e-2).weights, [0.2, 3.0]), [0.2, 3.0]),
    "end-to-end flow": (WHITE, at_rates(init.balanced(1, (4, 4, 4, 3), scale=0.1).weights, [0.2, 3, 1]), [0.2, 3.0, 1]),
}


@pytest.mark.parametrize("name", PREDICTED)
def test_learning_times(name):
    objective, network, rates = PREDICTED[name]
    prediction = learning_times(objective, network, rates=rates)
    assert prediction.name == name and prediction.exact and "sqrt(rate of layer l)" in prediction.formula
    U, _, V = (np.asarray(part) for part in objective.modes)
    targets = np.sum(U * (np.asarray(objective.optimum) @ V), axis=0)
    finite = np.isfinite(prediction.half_times)
    assert finite.any()
    for k in np.flatnonzero(finite):
        time = prediction.half_times[k]
        W = product(flow(objective, network, [time], rates)[0])
        assert U[:, k] @ W @ V[:, k] == pytest.approx(targets[k] / 2, rel=1e-9)
        assert prediction.strengths([time])[0, k] == pytest.approx(targets[k] / 2, rel=1e-9)
    ts = [0.0, 0.5, 1.0]
    W, loss = dl.predict.evaluated(prediction.solution, ts)
    truth = [product(layers) for layers in flow(objective, network, ts, rates)]
    np.testing.assert_allclose(W, truth, atol=1e-11)
    np.testing.assert_allclose(loss, [float(objective(jnp.asarray(M))) for M in truth], rtol=1e-10)
    assert learning_times(objective, network, rates=1.0).half_times == pytest.approx(
        learning_times(objective, network).half_times, nan_ok=True, rel=1e-14
    )


def test_learning_times_of_small_starts_and_obstructed_ones():
    rates, network = [0.2, 3.0], init.gaussian(0, (4, 5, 3), 1e-5)
    prediction = learning_times(WHITE, network, rates=rates)
    assert prediction.name == "small random start" and not prediction.exact
    U, s, V = (np.asarray(part) for part in WHITE.modes)
    ts = np.linspace(0, 2.5 * prediction.half_times[0], 4001)
    strength = solve_ivp_strength(network, rates, ts, U[:, 0], V[:, 0])
    measured = ts[np.argmax(strength > s[0] / 2)]
    assert measured == pytest.approx(prediction.half_times[0], rel=2e-3)
    small = next(check for check in prediction.checks if check.assumption.startswith("weights are small"))
    assert small.assumption.endswith("the largest |V_l| over (s_1/c)^(1/h), V_l = W_l / sqrt(rate of layer l)")
    square = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    mirrored = at_rates([np.diag([0.2, -0.1]), np.diag([0.2, 0.1])], rates)
    blocked = learning_times(square, mirrored, rates=rates)
    assert blocked.obstruction is not None and np.isinf(blocked.half_times[1])
    assert blocked.obstruction.loss == pytest.approx(0.5, rel=1e-12)
    nothing = learning_times(COLOURED, random_network((4, 5, 5, 3)), rates=[1.0, 2.0, 3.0])
    assert nothing.name is None and nothing.formula == "" and np.isnan(nothing.half_times).all()


def solve_ivp_strength(network, rates, ts, u, v):
    """u^T W v along the original equations on white inputs with the target WHITE."""
    layers = [np.asarray(W) for W in network.weights]
    cuts = np.cumsum([W.size for W in layers])[:-1]
    split = lambda y: [part.reshape(W.shape) for part, W in zip(np.split(y, cuts), layers, strict=True)]
    moments = np.asarray(WHITE.sigma_yx), np.eye(4)
    field = lambda _, y: np.concatenate(
        [(eta * slope).ravel() for eta, slope in zip(rates, slopes(split(y), *moments), strict=True)]
    )
    start = np.concatenate([W.ravel() for W in layers])
    y = solve_ivp(field, (0, ts[-1]), start, "DOP853", ts, rtol=1e-11, atol=1e-16).y
    return np.array([u @ product(split(column)) @ v for column in y.T])


def test_decay_that_is_alike_in_every_layer():
    rates, decay = [0.5, 2.0], [0.4, 0.1]
    network = two_layers_at(rates, 0.0)
    worst = error(exact.two_layer(WHITE, network, weight_decay=decay, rates=rates), WHITE, network, rates, decay)
    one = random_network((4, 3))
    worst = max(worst, error(exact.regression(COLOURED, one, weight_decay=[0.3], rates=2.0), COLOURED, one, 2.0, 0.3))
    print(f"with decay: {worst:.1e}")
    assert worst < 1e-13
    same = exact.two_layer(WHITE, two_layers_at([1, 1], 0.0), weight_decay=[0.2, 0.2])
    assert isinstance(same, exact.TwoLayer)
    usual = exact.two_layer(WHITE, two_layers_at([1, 1], 0.0), weight_decay=0.2)
    np.testing.assert_array_equal(same(TIMES).end_to_end, usual(TIMES).end_to_end)
    words = "every layer decays alike"
    for given_rates, given_decay in ((rates, 0.2), (None, decay), (rates, [0.4, 0.1000001])):
        with pytest.raises(exact.NotExact, match=words):
            exact.two_layer(WHITE, network, weight_decay=given_decay, rates=given_rates)
    with pytest.raises(exact.NotExact, match=words):
        exact.decayed_imbalance(network, [1.0], [0.1, 0.2])


@pytest.mark.parametrize("widths", [(3, 4, 2), (2, 3, 4, 3)])
def test_the_imbalance_decays(widths):
    network, rates = random_network(widths), [0.5, 2.0, 1.25][: len(widths) - 1]
    decay = 0.3 / np.array(rates)
    rng = np.random.default_rng(1)
    objective = SquaredError.from_moments(
        rng.standard_normal((widths[-1], widths[0])), np.diag([0.5, 1, 2][: widths[0]])
    )
    predicted = exact.decayed_imbalance(network, TIMES, decay, rates=rates)
    for i, layers in enumerate(flow(objective, network, TIMES, rates, decay)):
        for C, now in zip(predicted, diagnostics.imbalance(Network(layers), rates), strict=True):
            np.testing.assert_allclose(C[i], now, rtol=0, atol=1e-12)


def test_compiled_batched_and_differentiated():
    network, ts = two_layers_at([0.3, 2.0], 0.0), jnp.array([0.5, 2.0])
    end = lambda rates: exact.two_layer(WHITE, network, rates=rates)(ts).end_to_end
    found = jax.jit(end)(jnp.array([0.3, 2.0]))
    np.testing.assert_allclose(found, end([0.3, 2.0]), atol=1e-13)
    one = random_network((4, 3))
    of_one = lambda rate: exact.regression(COLOURED, one, rates=rate)(ts).end_to_end
    many = jax.vmap(of_one)(jnp.array([0.5, 2.0]))
    for rate, W in zip((0.5, 2.0), many, strict=True):
        np.testing.assert_allclose(W, of_one(rate), atol=1e-13)
    slope = jax.jacfwd(of_one)(0.7)
    np.testing.assert_allclose(slope, (of_one(0.7 + 1e-6) - of_one(0.7 - 1e-6)) / 2e-6, atol=1e-8)
    batch = jax.vmap(lambda W: exact.regression(COLOURED, Network([W]), rates=0.5)(ts).loss)(jnp.stack(one.weights * 2))
    np.testing.assert_allclose(batch[0], exact.regression(COLOURED, one, rates=0.5)(ts).loss, rtol=1e-13)


def test_near_misses():
    rates = [0.3, 2.0]
    network = Network([np.asarray(W) * (1 + 1e-4) ** l for l, W in enumerate(two_layers_at(rates, 0.0).weights)])
    with pytest.raises(exact.NotExact, match=r"V_l = W_l / sqrt.*Nearly: two-layer Riccati without the imbalance"):
        exact.solve(WHITE, network, rates=rates)
    near = exact.solve(WHITE, network, rates=rates, approximate=True)
    truth = product(flow(WHITE, network, [1.0], rates)[0])
    gap = np.linalg.norm(near([1.0]).end_to_end[0] - truth) / np.linalg.norm(truth)
    assert 0 < gap < 10 * near.at_unit_rates.error_estimate


def test_a_network_that_is_balanced_without_rates_is_refused_with_them():
    network = init.balanced(0, (4, 5, 3), scale=0.4)
    assert "end-to-end flow" in exact.applicable(COLOURED, network).theorems
    assert exact.applicable(COLOURED, network, rates=[1.0, 2.0]).theorems == ()
    with pytest.raises(
        exact.NotExact, match=r"V_\{l\+1\}\^T V_\{l\+1\} = V_l V_l\^T, V_l = W_l / sqrt\(rate of layer l\)"
    ):
        exact.balanced(COLOURED, network, rates=[1.0, 2.0])


@pytest.mark.usefixtures("without_annotations")
@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([1.0], "got 1 numbers for 2 layers; give finite numbers above 0, one per layer or one for all"),
        ([1.0, 2.0, 3.0], "got 3 numbers for 2 layers"),
        (0.0, r"got 0\.0; give finite numbers above 0"),
        (-1, "got -1; give finite numbers above 0"),
        (True, "got True; give"),
        ([1.0, -2.0], r"got -2\.0 for layer 2; give finite numbers above 0"),
        ([1.0, np.nan], "has nan at place 2; give finite numbers above 0"),
        ([np.inf, 1.0], "has inf at place 1"),
        ([[1.0, 2.0]], r"has shape \(1, 2\); give an array \(layer,\)"),
        ([], r"has shape \(0,\)"),
        ("fast", "got 'fast'; give finite numbers above 0"),
        ([1.0, None], "has a missing value at place 2"),
        ({1: 2.0}, "got {1: 2.0}"),
        (1e-200, "the square root of one of them is not within"),
        ([1e-140, 1e-140], "the square root of their product is not within"),
    ],
)
def test_bad_rates_are_one_line(rates, message):
    network = init.balanced(0, (4, 5, 3), scale=0.4)
    calls = [
        lambda: exact.solve(WHITE, network, rates=rates),
        lambda: exact.applicable(WHITE, network, rates=rates),
        lambda: exact.two_layer(WHITE, network, rates=rates),
        lambda: exact.balanced(WHITE, network, rates=rates),
        lambda: exact.decoupled(WHITE, network, rates=rates),
        lambda: learning_times(WHITE, network, rates=rates),
        lambda: diagnostics.imbalance(network, rates),
        lambda: diagnostics.imbalance_drift(network, rates)(network),
        lambda: predicates.balanced(network, rates=rates),
        lambda: exact.decayed_imbalance(network, [1.0], 0.0, rates=rates),
    ]
    for call in calls if "square root" not in message else calls[:-1]:
        with pytest.raises(ValueError, match=f"^`rates`: {message}") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_one_number_per_layer_or_one_for_all():
    assert check_rates(None, 3) is None
    assert check_rates(2, 3).tolist() == [2.0] * 3 and check_rates(np.array([1, 2]), 2).dtype == float
    assert check_decay(0.0) is None and check_decay(0.0, 2) is None and check_decay([0.0, 0.0], 2) is None
    assert float(check_decay(0.5)) == 0.5 and check_decay([0.0, 0.5], 2).tolist() == [0.0, 0.5]
    assert check_decay(0.5, 2).tolist() == [0.5, 0.5]
    assert jax.jit(lambda x: check_rates(x, 2))(jnp.array(3.0)).tolist() == [3.0, 3.0]
    for bad in ([0.1, -0.1], [0.1], -1.0, [0.1, np.inf], "little"):
        with pytest.raises(ValueError, match=r"^`weight_decay`: "):
            check_decay(bad, 2)
    with pytest.raises(ValueError, match=r"^`weight_decay`: got "):
        check_decay([0.1, 0.2])
    assert decay_at_unit_rates(0.0, [1.0, 2.0], 2) is None
    assert decay_at_unit_rates([0.1, 0.2], None, 2).tolist() == [0.1, 0.2]


def test_precision_and_leading_axes_stay():
    single = Network([np.ones((2, 2), dtype=np.float32)] * 2)
    assert all(W.dtype == np.float32 for W in network_at_unit_rates(single, [2.0, 3.0]).weights)
    stacked = jax.tree.map(lambda W: jnp.stack([W, 2 * W]), random_network((4, 5, 3)))
    halves = network_at_unit_rates(stacked, [4.0, 1.0])
    np.testing.assert_array_equal(halves.weights[0], stacked.weights[0] / 2)
    assert [W.shape for W in halves.weights] == [(2, b, a) for a, b in pairwise((4, 5, 3))]
    tiny = at_unit_rates(WHITE, random_network((4, 3)), 1e-140)
    assert float(tiny.objective(tiny.network.end_to_end)) == pytest.approx(
        float(WHITE(random_network((4, 3)).end_to_end)), rel=1e-13
    )


def test_the_main_job_refuses_rates_before_it_runs():
    for bad in ([1.0, 2.0], (1.0,) * 4):
        with pytest.raises(ValueError, match=rf"^`rates`: got {len(bad)} numbers for 3 layers; give finite numbers"):
            dl.learn(dl.tasks.semantic(), rates=bad)
