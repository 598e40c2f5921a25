"""Gradient flow against automatic differentiation, scipy's integrator, closed forms, and what it must conserve."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, curvature, gradient_flow, init
from deeplinear.diagnostics import imbalance
from deeplinear.flows import velocity

WIDTHS = (4, 5, 3)  # the default case; every other shape costs a compilation
SHAPES = [WIDTHS, (3, 2), (2, 5, 3, 4), (3, 3, 3, 3, 3)]
ALL_SHAPES = [*SHAPES, (2, 3), (5, 2, 4), (3, 4, 2, 3, 2, 5)]  # d_x < d_y, a bottleneck, depth 5
TIMES = np.linspace(0.0, 12.0, 9)
WHITE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)


def correlated(widths=WIDTHS, scale=dl.HALF_MEAN):
    """A problem with correlated inputs and 7 samples per input."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((7 * widths[0], widths[0])) @ np.diag(np.linspace(1.2, 0.7, widths[0]))
    return SquaredError.of(X, X @ rng.standard_normal((widths[0], widths[-1])) + 0.1, scale)


def random_network(widths, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    return Network([scale * rng.standard_normal((b, a)) for a, b in zip(widths[:-1], widths[1:], strict=True)])


def product(weights):
    W = weights[0]
    for above in weights[1:]:
        W = above @ W
    return W


def reference(gradient, network, times, mask=None, decay=0.0):
    """End-to-end matrices at the times, by scipy's DOP853 on all weights in one vector."""
    weights = [np.asarray(W) for W in network.weights]
    shapes, cuts = [W.shape for W in weights], np.cumsum([W.size for W in weights])[:-1]
    join = lambda parts: np.concatenate([part.ravel() for part in parts])
    split = lambda flat: [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
    moves = 1.0 if mask is None else join([np.asarray(m, dtype=float) for m in mask.weights])

    def field(t, flat):
        W = split(flat)
        G = -gradient(product(W))
        slopes = []
        for j in range(len(W)):
            left, right = product([*W[j + 1 :], np.eye(G.shape[0])]), product([np.eye(G.shape[1]), *W[:j]])
            slopes.append(left.T @ G @ right.T - decay * W[j])
        return moves * join(slopes)

    span = (0.0, times[-1])
    solution = solve_ivp(field, span, join(weights), "DOP853", t_eval=times, rtol=1e-12, atol=1e-14)
    return np.array([product(split(flat)) for flat in solution.y.T])


def of_squared_error(objective):
    optimum, sigma_xx = np.asarray(objective.optimum), np.asarray(objective.sigma_xx)
    return lambda W: float(objective.factor) * (W - optimum) @ sigma_xx


def relative_error(trajectory, expected):
    difference = np.linalg.norm(np.asarray(trajectory.end_to_end) - expected, axis=(1, 2))
    return float(np.max(difference / np.linalg.norm(expected, axis=(1, 2))))


# the field ------------------------------------------------------------------------------------------------------------

quartic = lambda W: jnp.sum((W - 0.3) ** 4) + jnp.sum(jnp.cos(W))


@given(
    widths=st.sampled_from(ALL_SHAPES),
    seed=st.integers(0, 999),
    kind=st.sampled_from(["white", "correlated", "callable"]),
    decay=st.sampled_from([None, 0.3]),
    masked=st.booleans(),
)
def test_velocity_is_minus_the_gradient(widths, seed, kind, decay, masked):
    network = random_network(widths, seed)
    rng = np.random.default_rng(seed)
    objective = {
        "white": SquaredError.from_moments(rng.standard_normal((widths[-1], widths[0]))),
        "correlated": correlated(widths, dl.SUM),
        "callable": quartic,
    }[kind]
    mask = Network([rng.random(W.shape) < 0.7 for W in network.weights]) if masked else None
    slope = velocity(objective, network, mask, decay)
    penalty = lambda network: (decay or 0.0) / 2 * sum(jnp.sum(W**2) for W in network.weights)
    gradient = jax.grad(lambda network: objective(network.end_to_end) + penalty(network))(network)
    assert jax.tree.structure(slope) == jax.tree.structure(network)
    for l, (V, G) in enumerate(zip(slope.weights, gradient.weights, strict=True)):
        expected = np.where(mask.weights[l], -np.asarray(G), 0.0) if masked else -np.asarray(G)
        np.testing.assert_allclose(V, expected, rtol=1e-12, atol=1e-12)


# accuracy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", SHAPES)
@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_agrees_with_scipy(widths, rtol):
    objective, network = correlated(widths), random_network(widths, scale=0.3)
    expected = reference(of_squared_error(objective), network, TIMES)
    trajectory = gradient_flow(objective, network, TIMES, rtol=rtol)
    assert relative_error(trajectory, expected) < 10 * rtol


def test_agrees_with_scipy_for_any_objective():
    network = random_network(WIDTHS)
    gradient = lambda W: 4 * (W - 0.3) ** 3 - np.sin(W)
    trajectory = gradient_flow(quartic, network, TIMES, rtol=1e-9)
    assert relative_error(trajectory, reference(gradient, network, TIMES)) < 10e-9
    assert trajectory.ending.excess is None and trajectory.ending.signature is None
    assert trajectory.ending.kind == "time"


def test_agrees_with_scipy_with_mask_and_weight_decay():
    network = random_network(WIDTHS)
    mask = Network([np.random.default_rng(l).random(W.shape) < 0.8 for l, W in enumerate(network.weights)])
    trajectory = gradient_flow(WHITE, network, TIMES, rtol=1e-9, mask=mask, weight_decay=0.2)
    expected = reference(of_squared_error(WHITE), network, TIMES, mask, 0.2)
    assert relative_error(trajectory, expected) < 10e-9
    for m, W in zip(mask.weights, trajectory.networks.weights, strict=True):
        held = ~np.asarray(m)
        np.testing.assert_array_equal(W[-1][held], W[0][held])
        assert np.all(np.asarray(W)[-1][~held] != np.asarray(W)[0][~held])


def test_follows_the_logistic_curves_of_decoupled_modes():
    strengths, s = np.array([0.02, 0.01, 0.03]), np.array([3.0, 2.0, 1.0])
    network = init.decoupled(0, WHITE, WIDTHS, strengths)
    trajectory = gradient_flow(WHITE, network, TIMES, rtol=1e-10)
    curves = np.asarray(trajectory.map(dl.diagnostics.mode_strengths(WHITE)))
    expected = s / (1 + (s / strengths - 1) * np.exp(-2 * s * TIMES[:, None]))
    np.testing.assert_allclose(curves, expected, rtol=1e-8)


def test_conserves_the_imbalance():
    network = random_network(WIDTHS)
    for rtol in (1e-6, 1e-10):
        end = gradient_flow(correlated(), network, TIMES, rtol=rtol)[-1]
        drift = max(float(jnp.linalg.norm(a - b)) for a, b in zip(imbalance(end), imbalance(network), strict=True))
        assert drift < 20 * rtol * float(jnp.linalg.norm(end.weights[0])) ** 2


def test_weight_decay_makes_the_imbalance_decay():
    network, gamma = random_network(WIDTHS), 0.2
    trajectory = gradient_flow(WHITE, network, TIMES, rtol=1e-10, weight_decay=gamma)
    start = np.asarray(imbalance(network)[0])
    for t, C in zip(TIMES, trajectory.map(imbalance)[0], strict=True):
        np.testing.assert_allclose(C, start * np.exp(-2 * gamma * t), rtol=0, atol=1e-9)


def test_rotations_of_hidden_layers_change_nothing():
    objective, network = correlated(), random_network(WIDTHS)
    R = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    rotated = Network([R @ network.weights[0], network.weights[1] @ R.T])
    one, other = gradient_flow(objective, network, TIMES), gradient_flow(objective, rotated, TIMES)
    np.testing.assert_allclose(one.end_to_end, other.end_to_end, rtol=0, atol=1e-11)
    np.testing.assert_allclose(R @ one[-1].weights[0], other[-1].weights[0], rtol=0, atol=1e-11)


def test_a_loss_scale_rescales_time():
    network = random_network(WIDTHS)
    half_mean = gradient_flow(correlated(), network, TIMES)
    total = gradient_flow(correlated(scale=dl.SUM), network, TIMES / (2 * 28))  # 28 samples
    np.testing.assert_allclose(half_mean.end_to_end, total.end_to_end, rtol=0, atol=1e-11)
    assert total.ending.loss == pytest.approx(56 * half_mean.ending.loss, rel=1e-9)


def test_runs_repeat_to_the_last_bit():
    network = random_network(WIDTHS)
    one, other = gradient_flow(WHITE, network), gradient_flow(WHITE, network)
    assert jnp.array_equal(one.ts, other.ts)
    assert all(jnp.array_equal(a, b) for a, b in zip(one.networks.weights, other.networks.weights, strict=True))


# output times ---------------------------------------------------------------------------------------------------------


def test_given_times_are_hit_exactly():
    network = random_network(WIDTHS)
    times = np.sort(np.random.default_rng(0).random(150)) * 8  # more than one buffer holds, and not the start
    trajectory = gradient_flow(WHITE, network, times, rtol=1e-9)
    np.testing.assert_array_equal(trajectory.ts, times)
    few = gradient_flow(WHITE, network, times[[10, 149]], rtol=1e-9)
    np.testing.assert_allclose(few.end_to_end, trajectory.end_to_end[jnp.array([10, 149])], rtol=0, atol=1e-8)
    start = gradient_flow(WHITE, network, [0.0])
    assert len(start) == 1
    assert all(jnp.array_equal(a, b) for a, b in zip(start[0].weights, network.weights, strict=True))


@pytest.mark.parametrize("scale", [0.5, 1e-6])
def test_chosen_times_are_spread_evenly_along_the_path(scale):
    trajectory = gradient_flow(WHITE, random_network(WIDTHS, scale=scale))
    ts, W = np.asarray(trajectory.ts), np.asarray(trajectory.end_to_end)
    assert 100 <= len(ts) <= 400
    assert ts[0] == 0 and ts[-1] == trajectory.ending.time
    assert np.all(np.diff(ts) > 0)
    in_time = np.diff(ts) / ts[-1]
    in_matrix = np.linalg.norm(np.diff(W, axis=0), axis=(1, 2)) / np.linalg.norm(W, axis=(1, 2)).max()
    assert np.maximum(in_time, in_matrix).max() < 0.02
    assert len(gradient_flow(WHITE, random_network(WIDTHS, scale=scale), keep=20)) <= 20


# endings --------------------------------------------------------------------------------------------------------------


def lowest_by_hand(objective, network):
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    hessian = jax.hessian(lambda v: curvature.loss(objective, unravel(v)))(flat)
    return float(np.linalg.eigvalsh(np.asarray(hessian))[0])


def test_ends_at_a_global_minimum():
    objective = correlated()
    trajectory = gradient_flow(objective, random_network(WIDTHS), tolerance=1e-8)
    ending = trajectory.ending
    assert ending.kind == "global minimum"
    assert ending.signature == (1, 2, 3)
    assert 0 <= ending.excess <= 1e-8 * float(objective.excess(jnp.zeros((3, 4))))
    assert ending.loss == pytest.approx(float(objective.minimum) + ending.excess, rel=1e-14)
    assert ending.escape_rate is None
    assert ending.message.startswith("the excess loss fell to the tolerance")
    slope = velocity(objective, trajectory[-1])
    assert ending.gradient_norm == pytest.approx(float(jnp.sqrt(sum(jnp.sum(V**2) for V in slope.weights))), rel=1e-10)
    assert trajectory.statistics.solver == "dopri8"
    assert trajectory.statistics.evaluations == 1 + 12 * (trajectory.statistics.steps + trajectory.statistics.rejected)
    assert "global minimum at t = " in repr(trajectory)


def test_ends_at_the_minimum_that_a_bottleneck_allows():
    objective = correlated()
    trajectory = gradient_flow(objective, random_network((4, 2, 3)), tolerance=1e-10)
    assert trajectory.ending.kind == "global minimum"
    assert trajectory.ending.loss - float(objective.minimum_at_rank(2)) == pytest.approx(trajectory.ending.excess, rel=1e-4)
    assert trajectory.ending.excess < 1e-9 < trajectory.ending.loss - float(objective.minimum)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-14])
def test_a_start_at_or_near_the_optimum_is_a_global_minimum(tolerance):
    balanced = init.balanced(0, WIDTHS, product=WHITE.optimum)
    exact = Network([jnp.eye(4), WHITE.optimum])
    near = Network([jnp.eye(4), WHITE.optimum + 1e-6])
    for start in (balanced, exact, near):
        ending = gradient_flow(WHITE, start, tolerance=tolerance, max_steps=5000).ending
        assert ending.kind == "global minimum"
        assert ending.excess <= 1e-12


def test_a_target_of_zero_is_reached():
    ending = gradient_flow(SquaredError.from_moments(np.zeros((3, 4))), random_network(WIDTHS, scale=0.1)).ending
    assert ending.kind == "global minimum"
    assert ending.signature == ()


SMALL = SquaredError.from_singular_values([3.0, 1.0], 2, 2)


@pytest.mark.parametrize(
    ("start", "signature", "rate"),
    [
        (Network([jnp.zeros((3, 2)), jnp.zeros((2, 3))]), (), 3.0),
        # balanced, d_x = d_y, with the wrong sign of the determinant: the second mode cannot be learned
        (init.decoupled(0, SMALL, (2, 3, 2), [0.1, -0.1]), (1,), 1.0),
        (init.decoupled(0, SMALL, (2, 3, 2), [-0.1, 0.1]), (2,), 3.0),
    ],
    ids=["zero", "obstructed", "obstructed first mode"],
)
def test_ends_at_a_saddle(start, signature, rate):
    trajectory = gradient_flow(SMALL, start)
    ending = trajectory.ending
    assert ending.kind == "saddle"
    assert ending.signature == signature
    assert ending.gradient_norm < 1e-13
    assert ending.excess == pytest.approx(sum(s**2 / 2 for a, s in ((1, 3.0), (2, 1.0)) if a not in signature), rel=1e-9)
    assert ending.escape_rate == pytest.approx(-lowest_by_hand(SMALL, trajectory[-1]), rel=1e-12)
    assert ending.escape_rate == pytest.approx(rate, rel=1e-9)
    assert "a saddle, not a minimum" in ending.message


def test_a_deep_network_of_zeros_has_no_curvature_to_leave_by():
    wide = Network([jnp.zeros((5, 5))] * 3)  # more weights than the dense Hessian takes
    ending = gradient_flow(SquaredError.from_singular_values([2.0], 5, 5), wide).ending
    assert (ending.kind, ending.escape_rate) == ("saddle", 0.0)


def test_ends_at_a_limit_of_time_or_steps():
    network = random_network(WIDTHS, scale=1e-3)
    timed = gradient_flow(WHITE, network, max_time=1.0)
    assert (timed.ending.kind, timed.ending.time, float(timed.ts[-1])) == ("time", 1.0, 1.0)
    assert len(timed) > 50
    assert gradient_flow(WHITE, network, max_time=1e3).ending.time < 100  # converges before
    for ts in (None, TIMES):
        short = gradient_flow(WHITE, network, ts, max_steps=5)
        assert short.ending.kind == "steps"
        assert short.statistics.steps + short.statistics.rejected == 5
        assert float(short.ts[-1]) == short.ending.time
        assert "the budget of 5 steps is spent" in short.ending.message


def test_an_interrupt_returns_what_is_there():
    sent = []

    def interrupt(report):
        if not sent:
            sent.append(threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)))
            sent[0].start()

    before = signal.getsignal(signal.SIGINT)
    ts = [0.0, 1.0, 1e7]
    trajectory = gradient_flow(WHITE, random_network(WIDTHS), ts, max_steps=10**9, progress=interrupt)
    assert trajectory.ending.kind == "interrupted"
    assert 1.0 < trajectory.ending.time < 1e7
    np.testing.assert_array_equal(trajectory.ts[:2], [0.0, 1.0])
    assert (len(trajectory), float(trajectory.ts[-1])) == (3, trajectory.ending.time)
    assert jnp.isfinite(trajectory.end_to_end).all()
    assert signal.getsignal(signal.SIGINT) is before


def test_runs_outside_the_main_thread():
    kinds = []
    thread = threading.Thread(target=lambda: kinds.append(gradient_flow(WHITE, random_network(WIDTHS), [1.0]).ending.kind))
    thread.start()
    thread.join()
    assert kinds == ["time"]


def test_a_tiny_start_takes_its_time():
    trajectory = gradient_flow(WHITE, random_network(WIDTHS, scale=1e-12))
    assert trajectory.ending.kind == "global minimum"
    assert trajectory.ending.signature == (1, 2, 3)


@pytest.mark.parametrize("scale", [1e3, 1e20])
def test_a_huge_start_comes_down_without_overflow(scale):
    network = random_network(WIDTHS, scale=scale)
    trajectory = gradient_flow(WHITE, network, max_steps=3000)
    assert all(jnp.isfinite(W).all() for W in trajectory.networks.weights)
    losses = np.asarray(trajectory.map(dl.diagnostics.loss(WHITE)))
    assert np.isfinite(losses).all() and np.all(np.diff(losses) <= 1e-9 * losses[:-1])
    assert trajectory.ending.excess < 1e-6 * losses[0]  # stiff, so that the budget may not reach the minimum


def test_weight_decay_passes_the_optimum_without_stopping():
    # from above, the decaying product goes through the optimum of the loss to a smaller fixed point, s - gamma
    strong = init.decoupled(0, WHITE, WIDTHS, [6.0, 4.0, 2.0])
    trajectory = gradient_flow(WHITE, strong, max_time=60.0, weight_decay=0.1, rtol=1e-8)
    assert trajectory.ending.kind in ("time", "critical point")
    strengths = np.asarray(dl.diagnostics.mode_strengths(WHITE)(trajectory[-1]))
    np.testing.assert_allclose(strengths, [2.9, 1.9, 0.9], rtol=1e-6)


def test_an_objective_without_a_known_minimum_ends_at_a_critical_point():
    target = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4)))
    below_zero = lambda W: jnp.sum((W - target) ** 2) - 100.0
    ending = gradient_flow(below_zero, random_network(WIDTHS), max_time=300.0).ending
    assert ending.kind == "critical point"
    assert ending.loss == pytest.approx(-100.0, abs=1e-9)
    assert ending.excess is None and ending.escape_rate is None


def test_a_mask_makes_critical_points_that_are_no_saddles():
    network = Network([jnp.eye(4), jnp.zeros((3, 4))])
    mask = Network([np.zeros((4, 4), dtype=bool), np.arange(12).reshape(3, 4) % 5 > 0])
    trajectory = gradient_flow(WHITE, network, mask=mask)  # the strengths of all modes are held at zero
    assert trajectory.ending.kind == "critical point"
    assert trajectory.ending.excess == pytest.approx(7.0)


# progress and errors --------------------------------------------------------------------------------------------------


def test_progress_is_reported(capsys):
    reports = []
    trajectory = gradient_flow(WHITE, random_network(WIDTHS, scale=1e-3), progress=reports.append)
    assert len(reports) >= 2
    assert reports[-1].time == trajectory.ending.time
    assert reports[-1].loss == trajectory.ending.loss
    assert (reports[-1].modes_learned, reports[-1].steps) == ((1, 2, 3), trajectory.statistics.steps)
    assert all(a.time < b.time and a.loss > b.loss for a, b in zip(reports[:-1], reports[1:], strict=True))
    gradient_flow(quartic, random_network(WIDTHS), TIMES, progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("without_annotations")
def test_takes_lists_and_single_precision():
    single = Network([W.astype(jnp.float32) for W in random_network(WIDTHS).weights])
    for network in (single, [np.asarray(W) for W in single.weights]):
        trajectory = gradient_flow(WHITE, network, [0.0, 1.0])
        assert trajectory.networks.weights[0].dtype == jnp.float64
        np.testing.assert_array_equal(trajectory[0].weights[0], single.weights[0].astype(float))


NETWORK = random_network(WIDTHS)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((WHITE, random_network((3, 5, 3))), {}, r"^`network`: maps 3 inputs to 3 outputs, but the objective has 4 and 3"),
        ((WHITE, [[1.0]]), {}, r"^`weights`: "),
        ((WHITE, NETWORK, [1.0, 0.5]), {}, r"^`ts`: 0\.5 follows 1; sort the times and drop repeated ones"),
        ((WHITE, NETWORK, [1.0, 1.0]), {}, r"^`ts`: 1 follows 1"),
        ((WHITE, NETWORK, [-1.0, 1.0]), {}, r"^`ts`: goes from -1 to 1; times are finite and at least 0"),
        ((WHITE, NETWORK, [0.0, np.nan]), {}, r"^`ts`: goes from 0 to nan"),
        ((WHITE, NETWORK, []), {}, r"^`ts`: has shape \(0,\); give a list of times"),
        ((WHITE, NETWORK, 1.0), {}, r"^`ts`: has shape \(\)"),
        ((WHITE, NETWORK), {"rtol": 1e-14}, r"^`rtol`: got 1e-14; float64 can give 1e-13 to 1"),
        ((WHITE, NETWORK), {"rtol": float("nan")}, r"^`rtol`: got nan"),
        ((WHITE, NETWORK), {"atol": -1.0}, r"^`atol`: got -1\.0; give a finite number of at least 0"),
        ((WHITE, NETWORK), {"tolerance": 1e-15}, r"^`tolerance`: got 1e-15; .* from 1e-14 to 1"),
        ((WHITE, NETWORK), {"weight_decay": -0.1}, r"^`weight_decay`: got -0\.1; give a finite number of at least 0"),
        ((WHITE, NETWORK), {"solver": "euler"}, r"^`solver`: got 'euler'; give 'auto' or 'dopri8'"),
        ((WHITE, NETWORK), {"mask": NETWORK}, r"^`mask`: must be a Network of booleans with widths \(4, 5, 3\)"),
        ((WHITE, NETWORK), {"mask": Network([np.ones((3, 4), dtype=bool)])}, r"^`mask`: must be a Network of booleans"),
        ((WHITE, NETWORK), {"max_time": -1.0}, r"^`max_time`: got -1\.0; give a finite time above 0"),
        ((WHITE, NETWORK), {"max_steps": 0}, r"^`max_steps`: got 0; give at least 1"),
        ((WHITE, NETWORK), {"keep": 1}, r"^`keep`: got 1; the start and the end are kept"),
        ((WHITE, NETWORK), {"weight_decay": 0.1}, r"^`ts`: is None, but the smallest loss is not known in closed form"),
        ((quartic, NETWORK), {}, r"^`ts`: is None, but the smallest loss is not known in closed form"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_bad_arguments_get_one_clear_line(arguments, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        gradient_flow(*arguments, **options)
    assert "\n" not in str(caught.value)
