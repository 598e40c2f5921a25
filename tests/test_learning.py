"""The main job held against closed forms, a library integrator and itself with another seed."""

import json

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear.learning import first_crossings


def semantic(**settings):
    return dl.learn(dl.tasks.semantic(), hidden=16, init="decoupled", **settings)


def test_half_times_of_the_semantic_task_are_those_of_the_logistic():
    data = semantic(scale=1e-3)
    s = np.array([7**0.5, 3**0.5, 1, 1]) / 4
    exact = np.log(s / 1e-3 - 1) / (2 * s)
    np.testing.assert_allclose(data["half_time_predicted"], exact, rtol=1e-12)
    np.testing.assert_allclose(data["half_time"], exact, rtol=1e-5)
    logistic = s / (1 + (s / 1e-3 - 1) * np.exp(-2 * np.outer(data["time"], s)))
    np.testing.assert_allclose(data["theory_mode_strengths"], logistic, rtol=1e-9)
    np.testing.assert_allclose(data["mode_strengths"], logistic, rtol=1e-8)
    np.testing.assert_allclose(data["variance_share"], s**2 / np.sum(s**2), rtol=1e-12)
    assert data.attrs["theory"]["name"] == "decoupled modes" and data.attrs["theory"]["violations"] == []


def test_one_hot_samples_have_the_modes_of_the_task_on_another_time_scale():
    task = dl.tasks.semantic()
    data = dl.learn(task.X, task.Y, hidden=16, init="decoupled", scale=1e-3)
    s = np.array([7**0.5, 3**0.5, 1, 1]) / 4
    np.testing.assert_allclose(data["mode_targets"], 4 * s, rtol=1e-12)
    np.testing.assert_allclose(data["half_time"], np.log(4 * s / 1e-3 - 1) / (2 * s), rtol=1e-5)


def test_a_run_agrees_with_a_library_integrator_on_correlated_inputs():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 4)) + 1
    Y = X @ rng.standard_normal((4, 2)) + 0.1 * rng.standard_normal((60, 2))
    data = dl.learn(X, Y, hidden=(3,), scale=0.1, seed=1, rtol=1e-9)
    start = dl.init.gaussian(1, (4, 3, 2), 0.1)
    sigma_xx, sigma_yx = X.T @ X / 60, Y.T @ X / 60
    U, _, V = map(np.asarray, dl.SquaredError.of(X, Y).modes)

    def field(t, flat):
        W1, W2 = flat[:12].reshape(3, 4), flat[12:].reshape(2, 3)
        residual = sigma_yx - W2 @ W1 @ sigma_xx
        return np.concatenate([(W2.T @ residual).ravel(), (residual @ W1.T).ravel()])

    flat = np.concatenate([np.asarray(W).ravel() for W in start.weights])
    ts = data["time"].values
    reference = solve_ivp(field, (0, ts[-1]), flat, "DOP853", t_eval=ts, rtol=1e-12, atol=1e-14).y.T
    strengths = [np.sum(U * (y[12:].reshape(2, 3) @ y[:12].reshape(3, 4) @ V), axis=0) for y in reference]
    np.testing.assert_allclose(data["mode_strengths"], strengths, atol=2e-8)
    assert data.attrs["theory"]["name"] is None
    assert {check["theorem"] for check in data.attrs["theory"]["violations"]} == {
        "decoupled modes",
        "regression",
        "two-layer Riccati",
        "end-to-end flow",
        "small random start",
    }
    assert "theory_mode_strengths" not in data and "theory_loss" not in data and data.attrs["theory"]["gap"] is None


@pytest.mark.parametrize(
    ("hidden", "start", "whiten", "name"),
    [
        ((), "gaussian", False, "regression"),
        ((5,), "decoupled", True, "decoupled modes"),
        ((5,), "balanced", True, "two-layer Riccati"),
        pytest.param((5,), "balanced", False, "end-to-end flow", marks=pytest.mark.slow),
        pytest.param((5, 4), "balanced", False, "end-to-end flow", marks=pytest.mark.slow),
    ],
)
def test_exact_curves_stand_beside_the_run_and_their_distance_is_said(hidden, start, whiten, name):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((40, 4)) * [1.0, 0.8, 1.2, 1.5]
    Y = X @ rng.standard_normal((4, 2)) + 0.1 * rng.standard_normal((40, 2))
    coarse, fine = (
        dl.learn(X, Y, hidden=hidden, init=start, whiten=whiten, scale=0.2, rtol=rtol, time=8.0)
        for rtol in (1e-4, 1e-9)
    )
    theory = fine.attrs["theory"]
    assert theory["name"] == name and theory["exact"] and theory["source"] and theory["violations"] == []
    assert theory["gap"] < 1e-8 and theory["gap"] < coarse.attrs["theory"]["gap"] < 1e-2
    np.testing.assert_allclose(fine["theory_loss"], fine["loss"], rtol=1e-7)
    np.testing.assert_allclose(fine["theory_mode_strengths"], fine["mode_strengths"], atol=1e-7)
    reached = np.isfinite(fine["half_time"]) & np.isfinite(fine["half_time_predicted"]) & (fine["half_time"] > 0)
    assert reached.any()
    np.testing.assert_allclose(fine["half_time"][reached], fine["half_time_predicted"][reached], rtol=1e-2)


def test_two_runs_are_identical_and_seeds_differ():
    X = np.random.default_rng(0).standard_normal((20, 3))
    Y = X @ np.array([[1.0], [2.0], [3.0]])
    first, second, other = (dl.learn(X, Y, hidden=2, seed=seed, scale=0.1) for seed in (5, 5, 6))
    for name in first.variables:
        assert first[name].values.tobytes() == second[name].values.tobytes()
    assert not np.array_equal(first["mode_strengths"][0], other["mode_strengths"][0])


def test_loss_scales_rescale_time_alone():
    task = dl.tasks.semantic()
    half, full = semantic(loss=dl.HALF_MEAN), semantic(loss="mean")
    np.testing.assert_allclose(half["half_time"], 2 * full["half_time"], rtol=1e-5)
    np.testing.assert_allclose(half["half_time_predicted"], 2 * full["half_time_predicted"], rtol=1e-12)
    assert full.attrs["loss_scale"] == "mean"
    summed = dl.learn(task.X, task.Y, hidden=16, init="decoupled", loss=dl.HALF_SUM)
    mean = dl.learn(task.X, task.Y, hidden=16, init="decoupled")
    np.testing.assert_allclose(mean["half_time"], 4 * summed["half_time"], rtol=1e-5)


def test_centring_and_whitening_are_said_and_done():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) * [1, 5, 0.2] + 7
    Y = X[:, :1] - 2 * X[:, 1:2]
    data = dl.learn(X, Y, hidden=4, center=True, whiten=True, scale=1e-2)
    assert data.attrs["centered"] and data.attrs["whitened"]
    covariance = np.cov(Y.T, X.T, bias=True)
    white = covariance[0, 1:] @ np.linalg.inv(np.linalg.cholesky(covariance[1:, 1:])).T
    np.testing.assert_allclose(data["data_singular_values"], [np.linalg.norm(white)], rtol=1e-10)
    assert data.attrs["theory"]["name"] == "small random start"


@pytest.mark.parametrize("start", ["gaussian", "orthogonal", "xavier", "kaiming", "balanced", "decoupled"])
def test_every_start_learns(start):
    data = dl.learn(dl.tasks.semantic(), hidden=(5,), init=start, scale=0.1)
    assert data.attrs["ending"]["kind"] == "global minimum"
    # the run ends at an excess of 1e-6 of the start's, which is at most 3/8: every mode is this near
    np.testing.assert_allclose(data["mode_strengths"][-1], data["mode_targets"], atol=(2 * 1e-6 * 0.375) ** 0.5)


def test_a_bottleneck_leaves_modes_unlearned():
    data = dl.learn(dl.tasks.semantic(), hidden=2, init="gaussian", scale=1e-2)
    np.testing.assert_allclose(data["mode_targets"], [7**0.5 / 4, 3**0.5 / 4, 0, 0], atol=1e-12)
    assert np.isnan(data["half_time"][2:]).all() and np.isinf(data["half_time_predicted"][2:]).all()
    assert any("2 of 4 modes are never learned" in warning for warning in data.attrs["warnings"])


def test_a_bottleneck_on_correlated_inputs_leaves_a_rank():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 4)) @ np.diag([1.0, 2.0, 0.5, 1.5]) + 0.3
    data = dl.learn(X, X @ rng.standard_normal((4, 4)), hidden=2, scale=0.1)
    assert "the narrowest hidden layer has 2 units: rank 2 of 4" in data.attrs["warnings"]
    assert dl.plots.reading.summary(data)[0].startswith("The map has rank 2 of 4")


def test_equal_modes_have_the_strengths_of_their_span():
    data = dl.learn(dl.tasks.semantic(), hidden=(5,), scale=0.1)
    strengths, W = data["mode_strengths"].values[:, 2:], data["singular_values"].values
    assert (strengths[:, 0] >= strengths[:, 1]).all()
    np.testing.assert_allclose(strengths[-1], 0.25, atol=1e-3)
    np.testing.assert_allclose(W[-1][2:4], strengths[-1], atol=1e-3)
    assert data["half_time"].values[2] <= data["half_time"].values[3]


def test_arrays_are_reproduced_by_a_call_not_by_a_command():
    X = np.random.default_rng(0).standard_normal((9, 2))
    data = dl.learn(X, X[:, :1], hidden=4, scale=0.1, center=True)
    assert data.attrs["command"] == "deeplinear.learn(X, Y, hidden=[4], scale=0.1, center=True)"


def test_warnings_tell_of_singular_moments():
    X = np.random.default_rng(0).standard_normal((3, 5))
    X[:, 2] = 4.0
    warnings = " ".join(dl.learn(X, X[:, :1], hidden=2, scale=0.1, time=1.0).attrs["warnings"])
    assert "fewer samples (3) than inputs (5)" in warnings
    assert "1 constant input column (3)" in warnings
    assert "sigma_xx is singular (rank 3 of 5)" in warnings
    assert "did not converge (time)" in warnings


def test_a_record_and_a_report_hold_the_run(tmp_path):
    data = semantic()
    dl.records.save(data, tmp_path / "run.zarr")
    back = dl.records.load(tmp_path / "run.zarr")
    assert json.dumps(back.attrs, sort_keys=True) == json.dumps(data.attrs, sort_keys=True)
    for name in data.variables:
        np.testing.assert_array_equal(back[name], data[name])
    page = dl.report(back, tmp_path / "report.html").read_text()
    assert "deeplinear learn semantic --hidden 16 --start decoupled" in page
    assert "decoupled modes" in page


def test_first_crossings_of_falling_and_flat_curves():
    times = np.array([0.0, 1.0, 2.0])
    curves = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.1, 1.0, 0.0], [-3.0, 0.2, 1.0, 0.0]])
    found = first_crossings(times, curves, np.array([-2.0, 0.5, 0.5, 0.0]))
    np.testing.assert_array_equal(found, [1.5, np.nan, 0.0, np.nan])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (0,)}, "`hidden`: got 0"),
        ({"scale": -1.0}, "`scale`: got -1.0"),
        ({"init": "zeros"}, "`start`: got 'zeros'"),
        ({"loss": "huber"}, "`loss`: got 'huber'"),
        ({"rtol": 1e-16}, "`rtol`: got 1e-16"),
        ({"time": -1.0}, "`time`: got -1.0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        dl.learn([[1.0]], [[1.0]], **settings)
    assert "\n" not in str(caught.value)
