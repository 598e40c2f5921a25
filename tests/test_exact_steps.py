"""Gradient descent's exact identities against descent itself, and spectra against dense Hessians."""

import jax
import jax.flatten_util
import mpmath as mp
import numpy as np
import pytest
from brute import mp_matrix, slopes
from hypothesis import given
from hypothesis import strategies as st
from problems import quartic, random_network

import deeplinear as dl
from deeplinear import Network, SquaredError, init
from deeplinear.exact import (
    NotExact,
    balance_drift,
    balanced_hessian_spectrum,
    descent_mode_factors,
    descent_regression,
    escape_steps,
    stability_limit,
)


def moments(seed, n, d_x, d_y):
    """Small integers: exact, and exactly singular for n < d_x."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (n, d_x))
    sigma_xx = (X.T @ X).astype(float)
    return rng.integers(-2, 3, (d_y, d_x)) @ sigma_xx, sigma_xx


@pytest.mark.parametrize(("n", "d_x", "d_y"), [(9, 3, 2), (2, 4, 3)])
@pytest.mark.parametrize("share", [1e-6, 0.01, 0.9, 1.5, 1.999])
def test_regression_by_steps(n, d_x, d_y, share):
    sigma_yx, sigma_xx = moments(0, n, d_x, d_y)
    objective = SquaredError.from_moments(sigma_yx, sigma_xx, scale=dl.MEAN)
    eta = share / (2 * np.linalg.eigvalsh(sigma_xx)[-1])
    W0, ks = np.random.default_rng(1).standard_normal((d_y, d_x)), [0, 1, 2, 7, 200]
    curve = descent_regression(objective, Network([W0]), eta, ks)
    worst = 0.0
    with mp.workdps(40):
        W, S, X, rate = mp_matrix(W0), mp_matrix(sigma_yx), mp_matrix(sigma_xx), 2 * mp.mpf(float(eta))
        for k in range(201):
            if k in ks:
                i = ks.index(k)
                size = max(1.0, float(mp.norm(W, mp.inf)))
                worst = max(worst, float(mp.norm(mp_matrix(curve.end_to_end[i]) - W, mp.inf)) / size)
                assert float(curve.loss[i]) == pytest.approx(
                    float(objective(curve.end_to_end[i])), rel=1e-11, abs=1e-24
                )
            W = W + rate * (S - W * X)
    print(f"descent of one layer, eta = {share} / lam_max: {worst:.1e}")
    assert worst < 2e-14
    np.testing.assert_allclose(curve.ts, eta * np.array(ks), rtol=1e-15)


def test_a_million_steps_keep_their_digits():
    objective = SquaredError.from_moments([[2.0]])
    curve = descent_regression(objective, Network([[[0.0]]]), 1e-6, [10**6])
    with mp.workdps(40):
        truth = 2 * (1 - (1 - mp.mpf(1e-6)) ** 10**6)
    assert float(curve.end_to_end[0, 0, 0]) == pytest.approx(float(truth), rel=1e-15)
    overshoot = descent_regression(objective, Network([[[0.0]]]), 1.5, [1, 2, 1001])
    np.testing.assert_allclose(overshoot.end_to_end[:, 0, 0], [3.0, 1.5, 2.0], rtol=1e-15)
    exact = descent_regression(objective, Network([[[0.0]]]), 1.0, [0, 1, 5])
    np.testing.assert_array_equal(exact.end_to_end[:, 0, 0], [0.0, 2.0, 2.0])
    assert float(descent_regression(objective, Network([[[0.0]]]), 3.0, [10]).end_to_end[0, 0, 0]) == 2 - 2 * 2.0**10


def test_steps_are_checked():
    objective = SquaredError.from_moments([[2.0]])
    for ks in ([-1], [0.5], 3):
        with pytest.raises(ValueError, match="`ks`"):
            descent_regression(objective, Network([[[0.0]]]), 0.1, ks)
    for rate in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="`learning_rate`"):
            descent_regression(objective, Network([[[0.0]]]), rate, [1])
    with pytest.raises(NotExact, match="one layer"):
        descent_regression(objective, Network([[[1.0]], [[1.0]]]), 0.1, [1])


@given(widths=st.lists(st.integers(1, 4), min_size=2, max_size=5), seed=st.integers(0, 99), eta=st.floats(1e-3, 0.3))
def test_balance_drifts_by_the_second_order_alone(widths, seed, eta):
    network = random_network(widths, seed, 1.0)
    rng = np.random.default_rng(seed)
    sigma_yx, sigma_xx = rng.standard_normal((widths[-1], widths[0])), np.diag(rng.uniform(0.5, 2, widths[0]))
    objective = SquaredError.from_moments(sigma_yx, sigma_xx)
    layers = [np.asarray(W) for W in network.weights]
    after = [W + eta * D for W, D in zip(layers, slopes(layers, sigma_yx, sigma_xx), strict=True)]
    C = lambda layers, l: layers[l + 1].T @ layers[l + 1] - layers[l] @ layers[l].T
    size = max(np.abs(W).max() for W in [*layers, *after]) ** 2
    drift = balance_drift(objective, network, eta)
    assert len(drift) == len(widths) - 2
    for l, change in enumerate(drift):
        np.testing.assert_allclose(change, C(after, l) - C(layers, l), rtol=0, atol=1e-14 * (1 + size))


def test_balance_drift_of_any_objective_under_jit():
    network, eta = random_network((3, 4, 2), 1, 0.7), 0.05
    gradient = jax.grad(lambda net: quartic(net.end_to_end))(network)
    after = jax.tree.map(lambda W, G: W - eta * G, network, gradient)
    C = lambda net: net.weights[1].T @ net.weights[1] - net.weights[0] @ net.weights[0].T
    (drift,) = jax.jit(lambda net: balance_drift(quartic, net, eta))(network)
    np.testing.assert_allclose(drift, C(after) - C(network), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("widths", "s"),
    [
        ((3, 4, 2), [2.0, 0.7]),
        ((2, 3, 3, 3), [1.5, 0.4]),
        ((3, 2, 3), [2.0, 1.0]),
        ((2, 2, 2, 2, 2), [1.3, 0.0]),
        ((3, 2), [1.0]),
    ],
)
def test_spectra_of_dense_hessians(widths, s):
    d_x, d_y = widths[0], widths[-1]
    objective = SquaredError.from_singular_values(s, d_x, d_y, dl.MEAN)
    kept = np.zeros(min(d_x, d_y))
    kept[: len(s)] = s
    rank = min(widths)
    network = init.decoupled(0, objective, widths, kept)
    flat, unravel = jax.flatten_util.ravel_pytree(network)
    hessian = jax.hessian(lambda w: objective(unravel(w).end_to_end))(flat)
    dense = np.linalg.eigvalsh(np.asarray(hessian))
    spectrum = balanced_hessian_spectrum(kept[:rank], widths)
    error = np.abs(2 * spectrum - dense).max()
    print(f"Hessian spectrum {widths}: {error:.1e}")
    assert spectrum.shape == dense.shape and error < 1e-13
    assert 2 / dense[-1] == pytest.approx(stability_limit(objective, len(widths) - 1), rel=1e-13)


def test_the_stability_limit_decides():
    objective = SquaredError.from_moments([[3.0, 0.0], [0.0, 1.0]], 2.0 * np.eye(2), scale=dl.HALF_SUM, count=5)
    h, limit = 3, stability_limit(objective, 3)
    start = init.balanced(0, (2, 3, 3, 2), product=np.asarray(objective.optimum) * 1.001)
    gradient = jax.jit(jax.grad(lambda net: objective(net.end_to_end)))
    for share, leaves in ((0.98, False), (1.02, True)):
        network, begin = start, float(objective(start.end_to_end))
        step = jax.jit(lambda net, eta: jax.tree.map(lambda W, G: W - eta * G, net, gradient(net)))
        for _ in range(200):
            network = step(network, share * limit)
        assert (float(objective(network.end_to_end)) > begin) == leaves
    assert h * (3.0 / 2) ** (2 - 2 / h) * 2.0 * 5 == pytest.approx(2 / limit, rel=1e-14)


def test_stability_at_one_layer_and_without_curvature():
    objective = SquaredError.from_moments([[3.0, 0.0]], [[2.0, 0.5], [0.5, 1.0]])
    top = np.linalg.eigvalsh(np.asarray(objective.sigma_xx))[-1]
    assert stability_limit(objective, 1) == pytest.approx(2 / top, rel=1e-14)
    with pytest.raises(NotExact, match="multiple of the identity"):
        stability_limit(objective, 2)
    assert stability_limit(SquaredError.from_moments([[0.0, 0.0]]), 2) == np.inf
    with pytest.raises(ValueError, match="`depth`"):
        stability_limit(objective, 0)
    for s, widths in (([1.0, 1.0], (3, 1, 3)), ([-1.0], (2, 2)), ([1.0], (2,))):
        with pytest.raises(ValueError, match="`"):
            balanced_hessian_spectrum(s, widths)


@given(
    xi=st.lists(st.floats(-2, 2), min_size=2, max_size=6),
    s=st.floats(-3, 3),
    eta=st.floats(1e-3, 0.5),
    c=st.floats(0.2, 2),
)
def test_factors_of_a_scalar_step(xi, s, eta, c):
    factors = descent_mode_factors(xi, s, eta, c)
    xi = [mp.mpf(x) for x in xi]
    error = mp.mpf(s) - mp.mpf(c) * mp.fprod(xi)
    after = [x + mp.mpf(eta) * error * mp.fprod(xi[:i] + xi[i + 1 :]) for i, x in enumerate(xi)]
    for i in range(len(xi)):
        for j in range(len(xi)):
            predicted = mp.mpf(float(factors[i, j])) * (xi[i] ** 2 - xi[j] ** 2)
            size = 1 + max(abs(x) for x in [*xi, *after]) ** 2
            assert abs(after[i] ** 2 - after[j] ** 2 - predicted) < 1e-13 * size * (1 + abs(float(factors[i, j])))
    with pytest.raises(ValueError, match="`weights`"):
        descent_mode_factors([[1.0]], s, eta)


def test_sum_and_difference_of_two_weights():
    w1, w2, s, eta = 0.7, -0.4, 1.3, 0.2
    e = s - w1 * w2
    p, q = (w1 + eta * e * w2) + (w2 + eta * e * w1), (w1 + eta * e * w2) - (w2 + eta * e * w1)
    assert p == pytest.approx((w1 + w2) * (1 + eta * e), rel=1e-14) and q == pytest.approx(
        (w1 - w2) * (1 - eta * e), rel=1e-14
    )
    assert descent_mode_factors([w1, w2], s, eta)[0, 1] == pytest.approx((1 + eta * e) * (1 - eta * e), rel=1e-14)


@given(s=st.floats(0.1, 5.0), start=st.floats(-9, -0.5), share=st.floats(0.05, 0.95), eta=st.floats(-3, -0.5))
def test_escape_is_within_the_bounds(s, start, share, eta):
    u0, u1, eta = 10.0**start * s * share, share * s, 10.0**eta / s
    low, high = escape_steps(u1, u0, s, eta)
    u, k = u0, 0
    while u < u1:
        u, k = u * (1 + eta * (s - u)) ** 2, k + 1
    assert low <= k <= high
    with pytest.raises(ValueError, match="`u0`, `u1`"):
        escape_steps(2 * s, u0, s, eta)
