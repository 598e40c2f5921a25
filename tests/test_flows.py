"""Gradient flow against automatic differentiation, scipy's integrator, closed forms, and what it must conserve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import TIMES, WHITE, WIDTHS, correlated, quartic, random_network
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow, init
from deeplinear.diagnostics import imbalance
from deeplinear.flows import velocity

SHAPES = [WIDTHS, (3, 2), (2, 5, 3, 4), (3, 3, 3, 3, 3)]
ALL_SHAPES = [*SHAPES, (2, 3), (5, 2, 4), (3, 4, 2, 3, 2, 5)]  # d_x < d_y, a bottleneck, depth 5


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
