"""Diagnostics against numpy's formulas, and the dataset that `measure` makes of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import deeplinear as dl
from deeplinear import Network, SquaredError, diagnostics, gradient_flow, measure

W1, W2, W3 = (np.random.default_rng(l).standard_normal(shape) for l, shape in enumerate([(4, 3), (2, 4), (5, 2)]))
NETWORK = Network([W1, W2, W3])  # 3 -> 4 -> 2 -> 5
PRODUCT = W3 @ W2 @ W1
RNG = np.random.default_rng(7)
X, Y = RNG.standard_normal((9, 3)), RNG.standard_normal((9, 5))
OBJECTIVE = SquaredError.of(X, Y, dl.SUM)


def test_loss_and_excess():
    residual = np.sum((Y - X @ PRODUCT.T) ** 2)
    assert float(diagnostics.loss(OBJECTIVE)(NETWORK)) == pytest.approx(residual, rel=1e-14)
    best = np.sum((Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]) ** 2)
    assert float(diagnostics.excess_loss(OBJECTIVE)(NETWORK)) == pytest.approx(residual - best, rel=1e-13)
    at_rank = float(OBJECTIVE.minimum_at_rank(2))
    assert float(diagnostics.excess_loss(OBJECTIVE, 2)(NETWORK)) == pytest.approx(residual - at_rank, rel=1e-13)
    assert diagnostics.loss(OBJECTIVE).labels.units == "sum"
    assert float(diagnostics.loss(jnp.sum)(NETWORK)) == pytest.approx(PRODUCT.sum(), rel=1e-13)


def test_mode_strengths():
    U, _, Vt = np.linalg.svd(Y.T @ X / 9, full_matrices=False)
    expected = [u @ PRODUCT @ v for u, v in zip(U.T, Vt, strict=True)]  # signs of u and v cancel
    np.testing.assert_allclose(diagnostics.mode_strengths(OBJECTIVE)(NETWORK), expected, rtol=0, atol=1e-13)


def test_singular_values():
    np.testing.assert_allclose(diagnostics.singular_values(NETWORK), np.linalg.svd(PRODUCT)[1][:2], rtol=1e-13)
    layers = np.asarray(diagnostics.layer_singular_values(NETWORK))
    assert layers.shape == (3, 3)
    for row, W in zip(layers, (W1, W2, W3), strict=True):
        s = np.linalg.svd(W, compute_uv=False)
        np.testing.assert_allclose(row[: len(s)], s, rtol=1e-13)
        assert np.isnan(row[len(s) :]).all()


def test_imbalance():
    conserved = diagnostics.imbalance(NETWORK)
    np.testing.assert_allclose(conserved[0], W2.T @ W2 - W1 @ W1.T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(conserved[1], W3.T @ W3 - W2 @ W2.T, rtol=0, atol=1e-14)
    other = Network([W1, 2 * W2, W3])
    drift = diagnostics.imbalance_drift(NETWORK)(other)
    expected = [np.linalg.norm(3 * W2.T @ W2), np.linalg.norm(3 * W2 @ W2.T)]
    np.testing.assert_allclose(drift, expected, rtol=1e-13)
    np.testing.assert_array_equal(diagnostics.imbalance_drift(NETWORK)(NETWORK), [0.0, 0.0])


def test_alignment():
    U1, U2 = np.linalg.svd(W1, full_matrices=False)[0], np.linalg.svd(W2, full_matrices=False)[0]
    V2, V3 = np.linalg.svd(W2, full_matrices=False)[2].T, np.linalg.svd(W3, full_matrices=False)[2].T
    expected = [[abs(V2[:, a] @ U1[:, a]) for a in range(2)], [abs(V3[:, a] @ U2[:, a]) for a in range(2)]]
    np.testing.assert_allclose(diagnostics.alignment(NETWORK), expected, rtol=0, atol=1e-13)
    objective = SquaredError.from_singular_values([3.0, 2.0], 3, 5)
    aligned = dl.init.decoupled(0, objective, (3, 4, 2, 5), [0.2, 0.1, 0.0])
    np.testing.assert_allclose(diagnostics.alignment(aligned), np.ones((2, 2)), rtol=0, atol=1e-14)
    assert diagnostics.alignment(Network([W1])).shape == (0, 3)


def test_alignment_is_unknown_where_singular_vectors_are():
    twice = Network([np.diag([2.0, 1.0, 1.0]), np.diag([3.0, 2.0, 1.0])])
    np.testing.assert_array_equal(diagnostics.alignment(twice), [[1.0, np.nan, np.nan]])


# measure --------------------------------------------------------------------------------------------------------------

TIMES = np.array([0.0, 0.3, 1.0, 4.0])


@pytest.fixture(scope="module")
def trajectory():
    return gradient_flow(OBJECTIVE, NETWORK, TIMES)


def test_measures_everything_by_default(trajectory):
    data = measure(trajectory)
    dims = {name: data[name].dims for name in data.data_vars}
    assert dims == {
        "loss": ("time",),
        "excess_loss": ("time",),
        "mode_strengths": ("time", "mode"),
        "singular_values": ("time", "rank"),
        "layer_singular_values": ("time", "layer", "index"),
        "imbalance_drift": ("time", "junction"),
        "alignment": ("time", "junction", "rank"),
    }
    assert dict(data.sizes) == {"time": 4, "mode": 3, "rank": 2, "layer": 3, "index": 3, "junction": 2}
    for dim, n in data.sizes.items():
        expected = TIMES if dim == "time" else np.arange(1, n + 1)
        np.testing.assert_array_equal(data[dim], expected)
    for variable in data.data_vars.values():
        assert variable.dtype == np.float64
        assert variable.attrs["long_name"] and variable.attrs["units"]
    assert data["time"].attrs["units"].startswith("gradient-flow time")
    for i in range(4):
        network = trajectory[i]
        np.testing.assert_allclose(data["loss"][i], diagnostics.loss(OBJECTIVE)(network), rtol=1e-12)
        np.testing.assert_allclose(data["alignment"][i], diagnostics.alignment(network), rtol=0, atol=1e-12)
    np.testing.assert_allclose(data["excess_loss"], data["loss"] - OBJECTIVE.minimum_at_rank(2), rtol=0, atol=1e-12)


def test_the_dataset_says_what_was_run(trajectory):
    data = measure(trajectory)
    assert data.attrs["widths"] == [3, 4, 2, 5]
    assert (data.attrs["loss_scale"], data.attrs["loss_formula"]) == ("sum", "sum ||y - Wx||^2")
    ending = data.attrs["ending"]
    assert (ending["kind"], ending["time"]) == (trajectory.ending.kind, 4.0)
    assert ending["signature"] == list(trajectory.ending.signature)
    assert data.attrs["statistics"]["steps"] == trajectory.statistics.steps
    assert data.attrs["versions"]["jax"] == jax.__version__


def test_measures_what_is_named(trajectory):
    data = measure(trajectory, depth=lambda network: 3, gram=lambda network: network.weights[0] @ network.weights[0].T)
    assert data["gram"].dims == ("time", "gram_1", "gram_2")
    assert data["depth"].dims == ("time",)
    np.testing.assert_allclose(data["gram"][2], trajectory[2].weights[0] @ trajectory[2].weights[0].T, rtol=1e-13)
    assert data["gram"].attrs == {}
    labelled = diagnostics.labelled(("unit",), "row norms", "1")(
        lambda network: jnp.linalg.norm(network.weights[0], axis=1)
    )
    data = measure(trajectory, norms=labelled)
    assert (data["norms"].dims, data["norms"].attrs) == (("time", "unit"), {"long_name": "row norms", "units": "1"})
    np.testing.assert_array_equal(data["unit"], [1, 2, 3, 4])


def test_measures_trajectories_of_any_objective_and_none(trajectory):
    plain = gradient_flow(lambda W: jnp.sum(W**4), Network([W1]), TIMES)
    data = measure(plain)
    assert set(data.data_vars) == {"loss", "singular_values", "layer_singular_values"}
    assert "loss_scale" not in data.attrs
    bare = dl.Trajectory(trajectory.ts, trajectory.networks)
    data = measure(bare)
    assert "loss" not in data and "ending" not in data.attrs
    assert isinstance(data, xr.Dataset)


def test_one_compilation_serves_all_runs_of_a_shape(trajectory):
    traces = []

    class Counted(eqx.Module):
        target: jax.Array

        def __call__(self, W):
            traces.append(1)
            return jnp.sum((W - self.target) ** 2)

    for seed in range(3):
        objective = Counted(jnp.full((5, 3), float(seed)))
        data = measure(trajectory, loss=diagnostics.loss(objective))
        expected = [np.sum((np.asarray(W) - seed) ** 2) for W in trajectory.end_to_end]
        np.testing.assert_allclose(data["loss"], expected, rtol=1e-13)
    assert len(traces) == 1


@pytest.mark.usefixtures("without_annotations")
def test_what_cannot_be_measured(trajectory):
    with pytest.raises(ValueError, match=r"^`loss`: got a float; give a function of one Network"):
        measure(trajectory, loss=1.0)


# the trajectory itself ------------------------------------------------------------------------------------------------


def test_a_trajectory_is_networks_in_time(trajectory):
    assert len(trajectory) == 4
    np.testing.assert_array_equal(trajectory.ts, TIMES)
    assert trajectory.end_to_end.shape == (4, 5, 3)
    assert isinstance(trajectory[-1], Network)
    np.testing.assert_allclose(trajectory[-1].end_to_end, trajectory.end_to_end[3], rtol=0, atol=1e-14)
    pair = trajectory.map(lambda network: (network.depth, network.weights[0]))
    np.testing.assert_array_equal(pair[0], [3, 3, 3, 3])
    np.testing.assert_array_equal(pair[1], trajectory.networks.weights[0])
    assert repr(trajectory) == f"Trajectory(4 times of {trajectory[0]!r}, {trajectory.ending.kind} at t = 4)"
    assert repr(dl.Trajectory(trajectory.ts, trajectory.networks)) == f"Trajectory(4 times of {trajectory[0]!r})"
