"""Errors of noisy teachers against random matrices, simulated flows and quadrature; held-out loss; when to stop."""

import numpy as np
import pytest
from scipy.integrate import quad

import deeplinear as dl
from deeplinear import generalisation as g

TS = np.linspace(0, 6, 61)


def draw(seed, s, d_x, d_y, deviation):
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((d, len(s))))[0] for d in (d_y, d_x))
    teacher = (U * np.asarray(s)) @ V.T
    return U, V, teacher, teacher + deviation * rng.standard_normal((d_y, d_x))


@pytest.mark.parametrize(("d_x", "d_y"), [(300, 300), (400, 150), (150, 400)])
def test_spiked_modes_are_those_of_large_random_matrices(d_x, d_y):
    deviation, s = 0.07, [5.0, 2.5]
    seen, overlaps = [], []
    for seed in range(4):
        U, V, _, noisy = draw(seed, s, d_x, d_y, deviation)
        A, observed, Bt = np.linalg.svd(noisy, full_matrices=False)
        seen.append(observed[:3])
        overlaps.append([abs(A[:, k] @ U[:, k]) * abs(Bt[k] @ V[:, k]) for k in range(2)])
    modes = g.spiked_modes(s, d_x, d_y, deviation)
    np.testing.assert_allclose(np.mean(seen, axis=0)[:2], modes.observed, atol=3 * deviation / 2)  # of four draws
    np.testing.assert_allclose(np.mean(overlaps, axis=0), modes.overlap, atol=0.03)
    lost = g.spiked_modes([1e-3], d_x, d_y, deviation)
    fluctuation = min(d_x, d_y) ** (-2 / 3)  # of the edge: Tracy and Widom
    assert lost.overlap[0] == 0 and np.mean(seen, axis=0)[2] == pytest.approx(lost.observed[0], rel=fluctuation)


@pytest.mark.parametrize(("d_x", "d_y"), [(100, 50), (50, 100), (80, 80)])
def test_the_noise_spectrum_integrates_as_the_density_does(d_x, d_y):
    c, values, weights = d_y / d_x, *g.noise_spectrum(d_x, d_y, 0.2)
    a, b = abs(1 - c**0.5), 1 + c**0.5
    density = lambda x: np.sqrt(max((x**2 - a**2) * (b**2 - x**2), 0)) / (np.pi * x * min(c, 1))
    for f in (lambda x: 1.0, lambda x: x**2, np.tanh):
        truth = quad(lambda x, f=f: f(x) * density(x), max(a, 1e-12), b, limit=200)[0]
        ours = weights @ np.vectorize(f)(values / (0.2 * d_x**0.5))
        assert ours == pytest.approx(truth, rel=2e-5)
    noise = np.random.default_rng(0).standard_normal((d_y, d_x)) * 0.2
    assert min(d_x, d_y) * weights @ values**2 == pytest.approx(np.sum(noise**2), rel=0.05)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_expected_errors_are_the_mean_over_draws(depth):
    s, deviation = [6.0, 3.0], 0.05
    draws = [g.exact_errors(TS, *draw(seed, s, 400, 300, deviation)[2:], 1e-3, depth) for seed in range(4)]
    theory = g.expected_errors(TS, s, 400, 300, deviation, 1e-3, depth)
    for name in ("train", "test"):
        curves = np.array([getattr(one, name) for one in draws])
        mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1) / len(draws) ** 0.5
        # modes that fluctuate shift their times, the more so in deep networks
        assert (np.abs(getattr(theory, name) - mean) < 0.01 * mean.max() + 3 * spread).all()


def test_exact_errors_are_those_of_the_flow():
    _, _, teacher, noisy = draw(0, [3.0], 6, 5, 0.3)
    objective = dl.SquaredError.from_moments(noisy)
    start = dl.init.decoupled(0, objective, (6, 5, 5), 1e-2)
    flow = dl.gradient_flow(objective, start, TS, rtol=1e-10)
    errors = g.exact_errors(TS, teacher, noisy, 1e-2)
    W = np.asarray(flow.end_to_end)
    for ours, truth in ((errors.test, W - teacher), (errors.train, W - noisy)):
        np.testing.assert_allclose(ours, np.sum(truth**2, axis=(1, 2)) / 9, atol=1e-8)


def test_stopping_early_helps_and_a_hidden_layer_helps_more():
    ts = np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 1500)])
    curves = [g.expected_errors(ts, [6.0, 4.0, 3.0], 100, 100, 0.1, 1e-3, h) for h in (1, 2)]
    best = [g.optimal_stopping(ts, errors.test).error for errors in curves]
    assert best[0] > 3 * best[1] and all(curve.test[-1] > 1.2 * b for curve, b in zip(curves, best, strict=True))


def test_optimal_stopping_finds_the_bottom_of_a_parabola():
    ts = np.array([0.0, 0.7, 1.0, 1.9, 3.0])
    stopping = g.optimal_stopping(ts, 3 * (ts - 1.2) ** 2 + 0.5)
    assert stopping.time == pytest.approx(1.2, rel=1e-10) and stopping.error == pytest.approx(0.5, rel=1e-10)
    assert g.optimal_stopping(ts, -ts) == (3.0, -3.0)


def test_held_out_loss_beside_the_training_loss():
    rng = np.random.default_rng(1)
    X, W = rng.standard_normal((30, 4)), rng.standard_normal((2, 4))
    Y = X @ W.T + rng.standard_normal((30, 2))
    objective = dl.SquaredError.of(X[:10], Y[:10])
    flow = dl.gradient_flow(objective, dl.init.gaussian(0, (4, 3, 2), 0.1), ts=[0.0, 1.0, 30.0])
    test = dl.diagnostics.held_out_loss(X[10:], Y[10:], dl.MEAN)
    data = dl.measure(flow, train=dl.diagnostics.loss(objective), test=test)
    by_hand = [np.sum((Y[10:] - X[10:] @ np.asarray(M).T) ** 2) / 20 for M in flow.end_to_end]
    np.testing.assert_allclose(data["test"], by_hand, rtol=1e-10)
    assert data["test"].attrs == {"long_name": "loss on held-out samples", "units": "mean"}


def test_bad_input_is_one_line():
    for call, message in (
        (lambda: g.spiked_modes([0.0], 3, 3, 1.0), "`s`: got"),
        (lambda: g.spiked_modes([1.0], 3, 3, -1.0), "`deviation`: got -1"),
        (lambda: g.noise_spectrum(0, 3, 1.0), "`d_x`: got 0"),
        (lambda: g.exact_errors([0.0], np.eye(2), np.eye(3), 0.1), "`noisy`: has shape"),
        (lambda: g.optimal_stopping([0.0, 1.0], [0.0, 1.0]), "`test`: has shape"),
        (lambda: g.expected_errors([-1.0], [1.0], 3, 3, 1.0, 0.1), "negative|>= 0|at least 0"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
