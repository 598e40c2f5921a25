"""Arcs between critical points: the closed form against losses of networks above them and against sums by hand."""

import itertools

import brute
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from landscapes import data_of, problem

import deeplinear as dl
from deeplinear import Network, SquaredError, landscape

S = (3.0, 2.0, 2.0, 1.0)
ALPHAS = np.array([0.0, 1e-7, 0.2, 0.5, 0.7, 1.0])
SIGNATURES = [S for k in range(5) for S in itertools.combinations((1, 2, 3, 4), k)]


def by_hand(s, a, b, alpha):
    total = lambda modes: sum(s[k - 1] ** 2 for k in modes)
    everything, a, b = set(range(1, len(s) + 1)), set(a), set(b)
    return (total(everything - a - b) + alpha**2 * total(a - b) + (1 - alpha) ** 2 * total(b - a)) / 2


@given(st.sampled_from(SIGNATURES), st.sampled_from(SIGNATURES), st.integers(2, 4))
def test_loss_of_lifted_networks_is_the_closed_form(a, b, depth):
    objective = data_of(S, 5, 4, seed=depth)
    widths = (5, *[4, 6, 5][: depth - 1], 4)
    found = landscape.arc(objective, a, b, ALPHAS)
    np.testing.assert_allclose(found.loss, [by_hand(S, a, b, alpha) for alpha in ALPHAS], rtol=1e-13, atol=1e-13)
    for alpha, loss in zip(ALPHAS, found.loss, strict=True):
        network = found.network(alpha, widths)
        assert network.widths == widths
        W = brute.product([np.asarray(layer) for layer in network.weights])
        np.testing.assert_allclose(W, found.end_to_end(alpha), atol=1e-13)
        assert float(objective(jnp.asarray(W))) == pytest.approx(loss, rel=1e-13, abs=1e-13)


@given(st.sampled_from(SIGNATURES), st.sampled_from(SIGNATURES))
def test_monotone_where_nested_and_one_interior_minimum_elsewhere(a, b):
    found = landscape.arc(problem(S), a, b, np.linspace(0, 1, 1001))
    steps = np.diff(found.loss)
    A, B = set(a), set(b)
    if A == B:
        assert found.kind == "constant" and np.all(np.abs(steps) < 1e-14)
    elif A < B:
        assert found.kind == "decreasing" and np.all(steps < 0) and found.lowest.alpha == 1
    elif B < A:
        assert found.kind == "increasing" and np.all(steps > 0) and found.lowest.alpha == 0
    else:
        gain = lambda modes: sum(S[k - 1] ** 2 for k in modes)
        assert found.kind == "interior minimum"
        assert found.lowest.alpha == pytest.approx(gain(B - A) / gain(A ^ B), rel=1e-14)
        assert np.all(np.diff(np.sign(steps[np.abs(steps) > 1e-12])) >= 0), "falls, then rises"
    assert found.lowest.loss == pytest.approx(by_hand(S, a, b, found.lowest.alpha), rel=1e-13)
    assert found.lowest.loss <= found.loss.min() + 1e-14


@pytest.mark.parametrize("scale", [dl.HALF_MEAN, dl.MEAN])
def test_the_two_ends_may_be_networks_that_mix_equal_modes(scale):
    objective = SquaredError.from_moments(np.diag(S), trace_yy=20.0, scale=scale)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0.6, -0.8], [0.8, 0.6]]
    P = turn[:, :2] @ turn[:, :2].T  # modes 1 and a mixture of 2 and 3
    mixed = Network([P @ np.diag(S), P])
    found = landscape.arc(objective, mixed, [2, 3], ALPHAS)
    W_b = np.diag([0.0, 2.0, 2.0, 0.0])
    for alpha, loss in zip(ALPHAS, found.loss, strict=True):
        W = (1 - alpha) * P @ np.diag(S) + alpha * W_b
        assert float(objective(jnp.asarray(W))) == pytest.approx(loss, rel=1e-14)
        np.testing.assert_allclose(found.end_to_end(alpha), W, atol=1e-14)
        np.testing.assert_allclose(found.network(alpha, (4, 4, 4, 4)).end_to_end, W, atol=1e-13)
    assert found.kind == "interior minimum"


def test_the_ends_of_a_lifted_arc_are_critical_and_the_weights_are_continuous():
    objective = data_of(S, 4, 4, seed=3)
    found = landscape.arc(objective, [1, 2], [2, 3, 4])
    widths = (4, 5, 4, 4)
    layers = lambda alpha: [np.asarray(W) for W in found.network(alpha, widths).weights]
    for end in (0.0, 1.0):
        slopes = brute.slopes(layers(end), np.asarray(objective.sigma_yx), np.asarray(objective.sigma_xx))
        assert max(np.abs(slope).max() for slope in slopes) < 1e-13
    for alpha in (0.0, 0.3, 1.0):
        near = np.clip(alpha + 1e-6, 0, 1), np.clip(alpha - 1e-6, 0, 1)
        for W, V in zip(layers(near[0]), layers(near[1]), strict=True):
            assert np.abs(W - V).max() < 0.05  # the cube root of 2e-6 is 0.013


def test_points_signatures_and_networks_name_the_same_arc():
    objective = data_of(S, 5, 4, seed=5)
    points = landscape.critical_points(objective, (5, 4, 4))
    networks = [landscape.arc(objective, k, k).network(0.0, (5, 4, 4)) for k in ([1], [2, 4])]
    expected = landscape.arc(objective, [1], [2, 4]).loss
    np.testing.assert_allclose(landscape.arc(objective, points.at([1]), points.at([2, 4])).loss, expected, rtol=1e-14)
    np.testing.assert_allclose(landscape.arc(objective, *networks).loss, expected, rtol=1e-12)


def test_a_bottleneck_lets_no_network_through_the_middle_of_a_mixed_arc():
    found = landscape.arc(problem([2.0, 1.0]), [1], [2])
    with pytest.raises(ValueError, match=r"`widths`: .* hold 1 modes, but a and b have 2"):
        found.network(0.5, (2, 1, 2))
    assert landscape.arc(problem([2.0, 1.0]), [], [2]).network(0.5, (2, 1, 2)).end_to_end[1, 1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("a", "alphas", "message"),
    [
        ([5], None, "`signature`: .* the modes 1 to 2"),
        (Network([np.diag([1.0, 0.0])]), None, "`a`: its end-to-end matrix is no critical one"),
        (Network([np.array([[1.0, 1.0], [1.0, 1.0]])]), None, "`a`: its end-to-end"),
        (Network([np.eye(3)]), None, "`widths`"),
        ([1], [np.nan], "`alphas`"),
        ([1], 0.5, "`alphas`"),
    ],
)
def test_bad_input_is_answered_by_one_line(a, alphas, message):
    with pytest.raises(ValueError, match=message) as raised:
        landscape.arc(problem([2.0, 1.0]), a, [2], alphas)
    assert "\n" not in str(raised.value)
