"""Flows through exact reductions: the same trajectory, in the original widths, from a smaller integration."""

import jax
import numpy as np
import pytest

import deeplinear as dl

TS = np.array([0.0, 2.0, 10.0, 40.0])


def largest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a.weights, b.weights, strict=True))


def correlated(d_x, d_y, rank, seed=0):
    """Inputs of `rank` directions with different variances."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((50, rank)) @ rng.standard_normal((rank, d_x))
    return dl.SquaredError.of(X, X @ rng.standard_normal((d_x, d_y)) / d_x)


@pytest.mark.parametrize(
    ("objective", "widths", "smaller"),
    [
        (dl.SquaredError.from_singular_values([3.0, 2.0, 1.0], 40, 4), (40, 6, 5, 4), (9, 6, 5, 4)),
        pytest.param(
            dl.SquaredError.from_singular_values([3.0, 2.0], 5, 30),
            (5, 60, 4, 30),
            (5, 9, 4, 6),
            marks=pytest.mark.slow,
        ),
        (dl.SquaredError.from_singular_values([2.0, 1.0], 6, 3, dl.ENTRY_MEAN), (6, 50, 3), (6, 9, 3)),
        pytest.param(correlated(30, 3, 4), (30, 20, 3), (4, 7, 3), marks=pytest.mark.slow),
    ],
    ids=["inputs", "outputs", "hidden", "inputs that never occur"],
)
def test_a_reduced_flow_is_the_flow(objective, widths, smaller):
    start = dl.init.gaussian(1, widths, 0.2)
    reduced = dl.gradient_flow(objective, start, TS, rtol=1e-10)
    whole = dl.gradient_flow(objective, start, TS, rtol=1e-10, reduce=False)
    assert reduced.statistics.widths == smaller and whole.statistics.widths == widths
    assert reduced[0].widths == widths and reduced.end_to_end.shape == (4, widths[-1], widths[0])
    assert largest(reduced.networks, whole.networks) < 1e-9
    np.testing.assert_allclose(reduced.end_to_end, whole.end_to_end, rtol=0, atol=1e-9)
    assert largest(reduced[2], whole[2]) < 1e-9
    assert reduced.ending.loss == pytest.approx(whole.ending.loss, rel=1e-8)
    one, other = dl.measure(reduced), dl.measure(whole)
    assert one.attrs["widths"] == list(widths) and one.sizes == other.sizes
    for name in ("loss", "mode_strengths", "singular_values", "imbalance_drift"):
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-8)


def test_masks_weight_decay_and_small_networks_are_not_reduced():
    objective = dl.SquaredError.from_singular_values([2.0, 1.0], 6, 3)
    wide, small = dl.init.gaussian(0, (6, 50, 3), 0.2), dl.init.gaussian(0, (6, 10, 3), 0.2)
    mask = jax.tree.map(lambda W: W > -1.0, wide)
    assert dl.gradient_flow(objective, wide, TS, mask=mask).statistics.widths == (6, 50, 3)
    assert dl.gradient_flow(objective, wide, TS, weight_decay=0.1).statistics.widths == (6, 50, 3)
    assert dl.gradient_flow(objective, small, TS).statistics.widths == (6, 10, 3)


def test_large_trajectories_are_lifted_one_network_at_a_time(monkeypatch):
    objective = dl.SquaredError.from_singular_values([2.0, 1.0], 6, 3)
    trajectory = dl.gradient_flow(objective, dl.init.gaussian(0, (6, 50, 3), 0.2), TS)
    together = trajectory.map(dl.diagnostics.layer_singular_values)
    monkeypatch.setattr("deeplinear.trajectory.AT_ONCE", 0)
    np.testing.assert_allclose(trajectory.map(dl.diagnostics.layer_singular_values), together, rtol=1e-12)


def test_an_ensemble_is_measured_with_a_dimension_for_its_members():
    objective = dl.SquaredError.from_singular_values([2.0, 1.0], 3, 2)
    starts = jax.vmap(lambda key: dl.init.gaussian(key, (3, 4, 2), 0.2))(jax.random.split(jax.random.key(0), 3))
    together = dl.gradient_flow(objective, starts, TS)
    data = dl.measure(together)
    assert data["mode_strengths"].dims == ("member", "time", "mode") and data["member"].values.tolist() == [0, 1, 2]
    alone = dl.measure(together.member(1))
    assert set(alone.data_vars) - set(data.data_vars) == {"imbalance_drift"}  # of one start
    for name in data.data_vars:
        np.testing.assert_allclose(data[name].sel(member=1), alone[name], rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_a_million_hidden_neurons_flow_in_seconds_and_lift_a_chosen_time():
    objective = dl.SquaredError.from_singular_values(np.linspace(2.0, 0.5, 50), 100, 50)
    start = dl.init.gaussian(0, (100, 1_000_000, 50), 1e-5)
    trajectory = dl.gradient_flow(objective, start, [0.0, 5.0, 100.0])
    assert trajectory.statistics.widths == (100, 150, 50)
    np.testing.assert_allclose(trajectory.end_to_end[-1], objective.optimum, rtol=0, atol=1e-5)
    lifted = trajectory[1]
    assert lifted.widths == (100, 1_000_000, 50)
    np.testing.assert_allclose(lifted.end_to_end, trajectory.end_to_end[1], rtol=0, atol=1e-9)
    print(f"100-1000000-50: {trajectory.statistics.seconds:.1f} s")
