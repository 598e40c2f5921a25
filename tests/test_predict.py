"""Predicted learning times against closed forms and against simulation."""

from itertools import pairwise

import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError, gradient_flow, init, learning_times
from deeplinear.diagnostics import mode_strengths

S = np.array([3.0, 2.0, 1.0])
WHITE = SquaredError.from_singular_values(S, 4, 3)
SPREAD = np.linspace(-0.03, 0.03, 61)


def simulated_half_times(objective, network, predicted):
    """When the modes that have a predicted time cross half of their target; NaN if not within 3 % of it."""
    modes = np.flatnonzero(np.isfinite(predicted))
    ts = np.unique(np.concatenate([predicted[a] * (1 + SPREAD) for a in modes]))
    strengths = np.asarray(gradient_flow(objective, network, ts, rtol=1e-9).map(mode_strengths(objective)))
    U, _, V = (np.asarray(part) for part in objective.modes)
    halves = np.sum(U * (np.asarray(objective.optimum_at_rank(network.max_rank)) @ V), axis=0) / 2
    times = np.full(len(predicted), np.nan)
    for a in modes:
        after = np.flatnonzero((strengths[1:, a] >= halves[a]) & (strengths[:-1, a] < halves[a]))
        if after.size:
            i = after[0]
            share = (halves[a] - strengths[i, a]) / (strengths[i + 1, a] - strengths[i, a])
            times[a] = ts[i] + share * (ts[i + 1] - ts[i])
    return times


# decoupled modes: exact -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [dl.HALF_MEAN, dl.MEAN, dl.ENTRY_MEAN])
def test_half_times_of_decoupled_modes_at_depth_two(scale):
    objective = SquaredError.from_singular_values(S, 4, 3, scale)
    u0 = np.array([1e-3, 1e-5, 1e-2])
    prediction = learning_times(objective, init.decoupled(0, objective, (4, 5, 3), u0))
    assert prediction.name == "decoupled modes"
    assert prediction.violations == ()
    factor = {"half-mean": 1.0, "mean": 2.0, "entry-mean": 2 / 3}[scale.name]
    expected = np.log(S / u0 - 1) / (2 * S) / factor
    np.testing.assert_allclose(prediction.half_times, expected, rtol=1e-10)
    ts = np.linspace(0, 8, 5)
    curves = S / (1 + (S / u0 - 1) * np.exp(-2 * S * factor * ts[:, None]))
    np.testing.assert_allclose(prediction.strengths(ts), curves, rtol=1e-10)


def aligned_inputs(variances, scale=dl.HALF_MEAN):
    """sigma_xx and sigma_yx with common singular vectors: variance c_a of the inputs along mode a."""
    rng = np.random.default_rng(0)
    V, U = np.linalg.qr(rng.standard_normal((4, 4)))[0], np.linalg.qr(rng.standard_normal((3, 3)))[0]
    sigma_xx = V @ np.diag([*variances, 0.7]) @ V.T
    return SquaredError.from_moments((U * S) @ V[:, :3].T, (sigma_xx + sigma_xx.T) / 2, scale=scale)


def test_half_times_of_decoupled_modes_of_correlated_inputs():
    c, u0 = np.array([1.5, 0.5, 2.0]), np.array([1e-3, 1e-2, 1e-4])
    objective = aligned_inputs(c)
    network = init.decoupled(0, objective, (4, 5, 3), u0)
    prediction = learning_times(objective, network)
    assert prediction.name == "decoupled modes"
    np.testing.assert_allclose(prediction.half_times, np.log(S / (c * u0) - 1) / (2 * S), rtol=1e-9)
    times = simulated_half_times(objective, network, prediction.half_times)
    np.testing.assert_allclose(prediction.half_times, times, rtol=2e-5)  # linear interpolation between outputs


@pytest.mark.parametrize("widths", [(4, 3), (2, 5, 3, 4), (3, 3, 3, 3, 3)])
def test_curves_of_decoupled_modes_at_other_depths(widths):
    modes = min(widths)
    objective = SquaredError.from_singular_values(S[:modes], widths[0], widths[-1])
    network = init.decoupled(0, objective, widths, np.linspace(0.1, 0.05, modes))
    prediction = learning_times(objective, network)
    assert prediction.name == "decoupled modes"
    ts = np.linspace(0.0, 4.0, 7)
    strengths = gradient_flow(objective, network, ts, rtol=1e-10).map(mode_strengths(objective))
    np.testing.assert_allclose(prediction.strengths(ts), strengths, rtol=1e-8)


def test_a_mode_of_the_wrong_sign_is_never_learned():
    objective = SquaredError.from_singular_values([3.0, 1.0], 2, 2)
    network = init.decoupled(0, objective, (2, 3, 2), [0.1, -0.1])
    prediction = learning_times(objective, network)
    assert prediction.name == "decoupled modes"
    assert prediction.half_times[1] == np.inf
    ts = np.linspace(0.0, 3.0, 4)
    strengths = gradient_flow(objective, network, ts, rtol=1e-10).map(mode_strengths(objective))
    np.testing.assert_allclose(prediction.strengths(ts), strengths, rtol=1e-8)


# exact solutions ------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
MIXED = SquaredError.from_moments(RNG.standard_normal((3, 4)), np.cov(RNG.standard_normal((4, 30))))
SQUARE = SquaredError.from_singular_values([2.0, 1.0, 0.5], 3, 3, dl.MEAN)


def uneven(widths, rows):
    """A start aligned with the modes of WHITE, whose layers have weights `rows` (layer, mode) along them."""
    U, _, V = (np.asarray(part) for part in WHITE.modes)
    frames = [V, *(np.eye(d)[:, :3] for d in widths[1:-1]), U]
    layers = zip(rows, pairwise(frames), strict=True)
    return Network([(above * np.array(row)) @ below.T for row, (below, above) in layers])


@pytest.mark.parametrize(
    ("objective", "network", "name"),
    [
        (WHITE, uneven((4, 5, 3), [[0.5, -0.1, 1e-3], [0.1, 0.3, 2.0]]), "decoupled modes"),
        (WHITE, uneven((4, 3, 5, 3), [[0.5, -0.1, 0.3], [0.7, 0.3, 1.0], [0.4, 0.6, 0.2]]), "decoupled modes"),
        (MIXED, init.gaussian(0, (4, 3), 0.1), "regression"),
        (WHITE, init.lambda_balanced(0, (4, 3, 3), lam=0.5, scale=0.05), "two-layer Riccati"),
        (SQUARE, init.balanced(0, (3, 3, 3), scale=0.1), "two-layer Riccati"),
        (MIXED, init.balanced(1, (4, 5, 3), scale=0.1), "end-to-end flow"),
        (SQUARE, init.balanced(0, (3, 3, 3, 3), scale=0.3), "end-to-end flow"),
    ],
)
def test_half_times_of_exact_solutions_are_those_of_the_flow(objective, network, name):
    prediction = learning_times(objective, network)
    assert prediction.name == name and prediction.exact and prediction.obstruction is None
    half = prediction.half_times
    assert np.isfinite(half).all() and (half > 0).all()
    ts = np.unique(np.concatenate([[0.0], half]))
    strengths = np.asarray(gradient_flow(objective, network, ts, rtol=1e-10).map(mode_strengths(objective)))
    np.testing.assert_allclose(prediction.strengths(ts), strengths, atol=1e-8)
    U, _, V = (np.asarray(part) for part in objective.modes)
    targets = np.sum(U * (np.asarray(objective.optimum) @ V), axis=0)
    for a, t in enumerate(half):  # the flow has half of its target there, and not before
        at = int(np.searchsorted(ts, t))
        assert strengths[at, a] == pytest.approx(targets[a] / 2, rel=1e-8)
        assert (np.abs(strengths[:at, a]) < abs(targets[a]) / 2).all()


@pytest.mark.parametrize("depth", [2, 3])
def test_a_start_with_the_wrong_sign_never_learns_its_last_mode(depth):
    widths = (3,) * (depth + 1)
    start = next(n for n in (init.balanced(k, widths, scale=0.2) for k in range(9)) if np.linalg.det(n.end_to_end) < 0)
    right = start.end_to_end @ np.diag([1.0, 1.0, -1.0])
    wrong = SquaredError.from_moments(SQUARE.sigma_yx * np.sign(np.linalg.det(SQUARE.sigma_yx)), scale=dl.MEAN)
    prediction = learning_times(wrong, start)
    assert prediction.exact and "sign of det" in prediction.obstruction.reason
    assert np.isfinite(prediction.half_times[:2]).all() and prediction.half_times[2] == np.inf
    mirrored = learning_times(wrong, init.balanced(0, widths, product=right))
    assert mirrored.obstruction is None and np.isfinite(mirrored.half_times).all()


def test_a_bottleneck_stops_exact_solutions_too():
    prediction = learning_times(WHITE, init.balanced(0, (4, 2, 3), scale=0.01))
    assert prediction.name == "two-layer Riccati"
    assert np.isfinite(prediction.half_times[:2]).all() and prediction.half_times[2] == np.inf


def test_large_problems_are_not_searched():
    objective = SquaredError.from_singular_values(S, 210, 210)
    prediction = learning_times(objective, init.balanced(0, (210, 205, 210), scale=1e-3))
    assert prediction.name == "small random start" and not prediction.exact
    assert "small enough to search the solution" in " ".join(check.assumption for check in prediction.violations)


# small random starts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "error"), [(1e-2, 5e-3), (1e-5, 2e-5)])
def test_small_starts_of_two_layers(scale, error):
    for seed in range(3):
        network = init.gaussian(seed, (4, 3, 3), scale)
        prediction = learning_times(WHITE, network)
        assert prediction.name == "small random start"
        times = simulated_half_times(WHITE, network, prediction.half_times)
        np.testing.assert_allclose(prediction.half_times, times, rtol=error)
        # the curves pass their halves there
        halves = np.diagonal(prediction.strengths(prediction.half_times))
        np.testing.assert_allclose(halves, S / 2, rtol=1e-10)


def test_small_starts_of_scaled_inputs_and_losses():
    objective = SquaredError.from_moments(WHITE.sigma_yx, 2.5 * np.eye(4), scale=dl.MEAN)
    network = init.gaussian(0, (4, 3, 3), 1e-3)
    prediction = learning_times(objective, network)
    assert prediction.name == "small random start"
    times = simulated_half_times(objective, network, prediction.half_times)
    np.testing.assert_allclose(prediction.half_times, times, rtol=1e-3)


@pytest.mark.parametrize(("widths", "scale", "error"), [((2, 5, 3, 4), 0.03, 6e-3), ((3, 3, 3, 3, 3), 0.03, 2e-3)])
def test_small_starts_of_deep_networks(widths, scale, error):
    objective = SquaredError.from_singular_values(S[: min(widths)], widths[0], widths[-1])
    for seed in range(3):
        network = init.gaussian(seed, widths, scale)
        prediction = learning_times(objective, network)
        assert prediction.name == "small random start"
        assert np.isnan(prediction.half_times[1:]).all()  # the theory speaks of the first mode only
        time = simulated_half_times(objective, network, prediction.half_times)[0]
        assert prediction.half_times[0] == pytest.approx(time, rel=error)
        curves = prediction.strengths(prediction.half_times[:1])
        assert curves[0, 0] == pytest.approx(S[0] / 2, rel=1e-9)
        assert np.isnan(curves[0, 1:]).all()


@pytest.mark.parametrize("widths", [(4, 2, 3), (4, 2, 2, 3)])
def test_modes_beyond_a_bottleneck_are_never_learned(widths):
    prediction = learning_times(WHITE, init.gaussian(0, widths, 1e-3))
    assert prediction.half_times[2] == np.inf
    assert np.isfinite(prediction.half_times[0])
    np.testing.assert_array_equal(prediction.strengths([0.0, 1e3])[:, 2], 0.0)
    decoupled = learning_times(WHITE, init.decoupled(0, WHITE, widths, 1e-3))
    assert np.isfinite(decoupled.half_times[:2]).all() and decoupled.half_times[2] == np.inf


def test_modes_without_correlation_are_never_learned():
    objective = SquaredError.from_singular_values([3.0], 4, 3)
    prediction = learning_times(objective, init.gaussian(0, (4, 3, 3), 1e-3))
    assert np.isfinite(prediction.half_times[0])
    np.testing.assert_array_equal(prediction.half_times[1:], np.inf)


def test_a_start_at_zero_stays_there():
    for widths in ((4, 3, 3), (4, 3, 3, 3)):
        network = Network([np.zeros((b, a)) for a, b in pairwise(widths)])
        np.testing.assert_array_equal(learning_times(WHITE, network).half_times, np.inf)


# no theory ------------------------------------------------------------------------------------------------------------


def broken(prediction):
    assert prediction.name is None
    assert prediction.formula == "" and prediction.strengths is None
    assert np.isnan(prediction.half_times).all()
    assert all(check.violation > check.tolerance for check in prediction.violations)
    return {(check.theorem, check.assumption.split(",")[0].split(":")[0]) for check in prediction.violations}


def test_names_the_assumptions_that_fail():
    rng = np.random.default_rng(0)
    correlated = SquaredError.from_moments(WHITE.sigma_yx, np.cov(rng.standard_normal((4, 20))))
    eigenvectors = "every mode of the data is an eigenvector of sigma_xx"
    identity = "sigma_xx is a multiple of the identity on the modes"
    small = "weights are small"
    layers = "every layer is diagonal between common orthonormal frames"
    one_layer = ("regression", "the network has one layer")
    even = ("two-layer Riccati", "the start is lambda-balanced")
    balance = ("end-to-end flow", "neighbouring layers are balanced")
    diagonal = "the end-to-end matrix is diagonal in the modes of the data"
    start = init.gaussian(0, (4, 5, 3), 1e-3)
    assert broken(learning_times(correlated, start)) == {
        ("decoupled modes", eigenvectors),
        ("decoupled modes", diagonal),
        ("decoupled modes", layers),
        one_layer,
        even,
        ("two-layer Riccati", "sigma_xx is a multiple of the identity"),
        balance,
        ("small random start", identity),
    }
    large = init.gaussian(0, (4, 5, 3), 1.0)
    assert broken(learning_times(WHITE, large)) == {
        ("decoupled modes", diagonal),
        ("decoupled modes", layers),
        one_layer,
        even,
        balance,
        ("small random start", small),
    }


def test_measures_how_far_off_an_assumption_is():
    network = init.balanced(0, (4, 5, 6, 3), product=np.random.default_rng(0).standard_normal((3, 4)))
    off = Network([network.weights[0], 1.01 * network.weights[1], network.weights[2]])
    checks = {check.assumption.split(",")[0]: check for check in learning_times(WHITE, off).violations}
    # imbalance (1.01^2 - 1) z^2, relative to the largest layer's square 1.01^2 z^2
    expected = 1 - 1 / 1.01**2
    assert checks["neighbouring layers are balanced"].violation == pytest.approx(expected, rel=1e-9)


def test_rounding_of_the_start_breaks_nothing():
    objective = aligned_inputs([1.5, 0.5, 2.0])
    assert learning_times(objective, init.decoupled(0, objective, (4, 5, 6, 3), 1e-9)).name == "decoupled modes"


@pytest.mark.usefixtures("without_annotations")
def test_bad_arguments_get_one_clear_line():
    with pytest.raises(ValueError, match=r"^`objective`: got a function; this is known for squared error alone"):
        learning_times(lambda W: W.sum(), init.gaussian(0, (4, 5, 3), 1.0))
    with pytest.raises(ValueError, match=r"^`network`: maps 3 inputs to 3 outputs, but the objective has 4 and 3"):
        learning_times(WHITE, init.gaussian(0, (3, 5, 3), 1.0))
