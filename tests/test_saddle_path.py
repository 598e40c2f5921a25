"""The saddles that trajectories visit, against what is known of them in closed form and by brute force."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import Network, SquaredError
from deeplinear.landscape import saddle_path
from deeplinear.landscape.carried import critical_near
from deeplinear.landscape.passing import nearest_signature, strengths
from deeplinear.landscape.target import Target

THREE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)


def gradient_norm(objective, network):
    gradient = jax.grad(lambda n: objective(n.end_to_end))(network)
    return float(jnp.linalg.norm(jax.flatten_util.ravel_pytree(gradient)[0]))


def flat(network):
    return np.concatenate([np.ravel(W) for W in network.weights])


def run_of(objective, widths, scale, seed=3, **options):
    return dl.gradient_flow(objective, dl.init.gaussian(seed, widths, scale), rtol=1e-8, **options)


PATHS = {}


def path_of(name):
    if name not in PATHS:
        widths, scale = {"two layers": ((4, 5, 3), 1e-3), "three layers": ((4, 5, 6, 3), 3e-2)}[name]
        run = run_of(THREE, widths, scale)
        PATHS[name] = run, saddle_path(run)
    return PATHS[name]


@pytest.mark.parametrize("name", ["two layers", "three layers"])
def test_small_starts_pass_one_saddle_after_the_other(name):
    run, path = path_of(name)
    assert [visit.signature for visit in path.visits] == [(), (1,), (1, 2), (1, 2, 3)]
    assert path.order == (1, 2, 3) and path.obstruction is None
    assert [visit.value for visit in path.visits] == [7.0, 2.5, 0.5, 0.0]
    entries = [visit.entry for visit in path.visits]
    assert entries[0] == 0.0 and [visit.exit for visit in path.visits] == [*entries[1:], np.inf]
    # a mode is learned where its strength crosses half of its target
    reached = np.asarray(run.end_to_end)
    for k in range(3):
        crossing = np.interp(0.0, reached[:, k, k] / [3.0, 2.0, 1.0][k] - 0.5, run.ts)
        step = np.diff(run.ts)[np.searchsorted(run.ts, crossing) - 1]
        assert entries[k + 1] == pytest.approx(crossing, abs=step)


@pytest.mark.parametrize("name", ["two layers", "three layers"])
def test_every_saddle_is_critical_and_as_far_as_it_says(name):
    run, path = path_of(name)
    for visit in path.visits:
        assert gradient_norm(THREE, visit.saddle) < 1e-12
        assert float(THREE(visit.saddle.end_to_end)) == pytest.approx(visit.value, abs=1e-12)
        there = run[int(np.searchsorted(run.ts, visit.closest))]
        assert np.linalg.norm(flat(there) - flat(visit.saddle)) == pytest.approx(visit.weight_distance, rel=1e-12)
        S = np.zeros((3, 4))
        S[[k - 1 for k in visit.signature], [k - 1 for k in visit.signature]] = [4.0 - k for k in visit.signature]
        inside = (run.ts >= visit.entry) & (run.ts <= visit.exit)
        brute = np.linalg.norm(np.asarray(run.end_to_end)[inside] - S, axis=(1, 2)).min()
        assert visit.distance == pytest.approx(brute, rel=1e-9)
        assert visit.loss == pytest.approx(float(THREE(there.end_to_end)), rel=1e-13)


def test_escape_rates_of_two_layers_are_the_largest_mode_left():
    _, path = path_of("two layers")
    np.testing.assert_allclose([visit.escape_rate for visit in path.visits[:3]], [3.0, 2.0, 1.0], rtol=1e-8)
    assert path.visits[3].escape_rate < 1e-12


@pytest.mark.parametrize("name", ["two layers", "three layers"])
def test_exits_come_when_they_are_predicted(name):
    # the first is exact but for the interpolation between recorded times
    _, path = path_of(name)
    for visit in path.visits[:-1]:
        assert visit.predicted_exit == pytest.approx(visit.exit, rel=2e-3)
    assert path.visits[-1].predicted_exit == np.inf


def test_the_first_escape_is_the_closed_formula():
    # balanced and aligned: u' = 2 s u (1 - u / s), half at ln(s / u0 - 1) / (2 s)
    start = dl.init.decoupled(0, THREE, (4, 3, 3), 1e-4)
    path = saddle_path(dl.gradient_flow(THREE, start, np.linspace(0, 8, 4001), rtol=1e-10))
    expected = [np.log(s / 1e-4 - 1) / (2 * s) for s in (3.0, 2.0, 1.0)]
    np.testing.assert_allclose([visit.exit for visit in path.visits[:3]], expected, rtol=1e-5)
    np.testing.assert_allclose([visit.predicted_exit for visit in path.visits[:3]], expected, rtol=1e-5)


@given(
    st.lists(st.sampled_from([3.0, 2.0, 1.0, 0.4]), min_size=1, max_size=4),
    st.integers(0, 4),
    st.integers(0, 10**6),
)
def test_the_nearest_signature_is_the_nearest_of_all(values, bottleneck, seed):
    s = np.sort(np.unique(values))[::-1]
    target = Target.of(SquaredError.from_singular_values(s, 5, 4))
    Phi = np.random.default_rng(seed).standard_normal((4, 5)) * 2
    most = min(bottleneck, s.size)
    found = nearest_signature(target, strengths(target, Phi[None]), most)[0]
    distances = {}
    for mask in range(2**s.size):
        chosen = tuple(bool(mask >> k & 1) for k in range(s.size))
        if sum(chosen) <= most:
            S = np.eye(4, 5) * np.append(s * chosen, np.zeros(4 - s.size))[:, None]
            distances[chosen] = np.linalg.norm(Phi - S)
    assert distances[tuple(found.tolist())] == pytest.approx(min(distances.values()), rel=1e-12)


def test_equal_singular_values_are_learned_in_their_own_frame():
    objective = SquaredError.from_singular_values([2.0, 2.0, 1.0], 3, 3)
    path = saddle_path(run_of(objective, (3, 4, 3), 1e-3, seed=6))
    assert [visit.signature for visit in path.visits] == [(), (1,), (1, 2), (1, 2, 3)]
    one = path.visits[1]
    assert gradient_norm(objective, one.saddle) < 1e-12 and one.value == 2.5
    W = np.asarray(one.saddle.end_to_end)
    P = W[:2, :2] / 2  # a projector of rank 1 in the plane of both modes, not one of the axes
    np.testing.assert_allclose(P @ P, P, atol=1e-12)
    assert np.trace(P) == pytest.approx(1.0) and abs(P[0, 1]) > 0.01
    assert float(objective(jnp.asarray(W))) == pytest.approx(2.5)


def test_correlated_inputs_and_another_scale():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((40, 4)) @ np.diag([1.3, 1.0, 0.9, 0.7])
    Y = X @ rng.standard_normal((4, 2)) + 0.1 * rng.standard_normal((40, 2))
    objective = SquaredError.of(X, Y, dl.MEAN)
    run = run_of(objective, (4, 3, 2), 1e-3)
    path = saddle_path(run)
    assert [visit.signature for visit in path.visits] == [(), (1,), (1, 2)]
    R = np.linalg.cholesky(X.T @ X / 40)
    s = np.linalg.svd(np.asarray(objective.optimum) @ R, compute_uv=False)
    for visit, left in zip(path.visits, [s**2, s[1:] ** 2, np.zeros(1)], strict=True):
        assert visit.value == pytest.approx(float(objective.minimum) + left.sum(), rel=1e-10)  # mean: no 1/2
        assert gradient_norm(objective, visit.saddle) < 1e-11
    assert path.visits[0].predicted_exit == pytest.approx(path.visits[0].exit, rel=1e-3)
    assert path.visits[-1].weight_distance < 0.01


def test_a_minimum_reached_from_large_weights_is_its_own_nearest():
    run = run_of(THREE, (4, 5, 6, 3), 0.8, ts=[0.0, 60.0])
    last = saddle_path(run).visits[-1]
    assert last.signature == (1, 2, 3) and last.weight_distance < 1e-5 and last.distance < 1e-5
    assert max(np.abs(C).max() for C in dl.landscape.quotient(run[-1]).conserved) > 1  # far from balanced


@pytest.mark.parametrize("signature", [(), (1,), (2,), (1, 3), (1, 2, 3)])
def test_a_critical_point_is_its_own_nearest(signature):
    rng, r, target = np.random.default_rng(4), len(signature), Target.of(THREE)
    at = [k - 1 for k in signature]
    U = np.eye(3)[:, at]
    layers = [np.zeros((5, 4)), np.zeros((6, 5)), np.zeros((3, 6))]
    layers[0][:r], layers[1][:r, :r], layers[2][:, :r] = U.T @ target.matrix, np.eye(r), U
    layers[1][r:, r:] = rng.standard_normal((6 - r, 5 - r))  # the block Z_2; Z_1 = Z_3 = 0
    network = dl.landscape.change_basis(Network(layers), [rng.standard_normal((d, d)) + 2 * np.eye(d) for d in (5, 6)])
    assert gradient_norm(THREE, network) < 1e-11
    near = critical_near(target, network, U)
    assert near.distance < 1e-11 * np.linalg.norm(flat(network)) and gradient_norm(THREE, near.network) < 1e-11


def test_an_obstructed_start_says_where_it_ends():
    objective = SquaredError.from_singular_values([2.0, 1.0], 2, 2)
    start = Network([[[0.1, 0.0], [0.0, 0.1]], [[0.1, 0.0], [0.0, -0.1]]])
    path = saddle_path(dl.gradient_flow(objective, start, ts=np.linspace(0, 12, 200)), objective)
    assert [visit.signature for visit in path.visits] == [(), (1,)]
    assert path.obstruction is not None and path.obstruction.loss == 0.5
    last = path.visits[-1]
    assert last.exit == np.inf and last.predicted_exit == np.inf and last.distance < 1e-4
    assert last.weight_distance < 1e-2 and last.escape_rate == pytest.approx(1.0, rel=1e-9)
    data = path.dataset()
    assert data.attrs["predicted_loss"] == 0.5 and "det" in data.attrs["obstruction"]


def test_modes_learned_out_of_order_by_a_start_that_prefers_them():
    start = dl.init.decoupled(0, THREE, (4, 3, 3), [1e-6, 1e-3, 0.4])
    path = saddle_path(dl.gradient_flow(THREE, start, np.linspace(0, 8, 2001)))
    assert path.order == (3, 2, 1) and path.visits[1].signature == (3,)
    assert path.visits[1].value == 6.5


def test_a_bottleneck_bounds_the_signatures():
    path = saddle_path(run_of(THREE, (4, 2, 6, 3), 3e-2))
    assert [visit.signature for visit in path.visits] == [(), (1,), (1, 2)]
    last = path.visits[-1]
    assert last.value == 0.5 and last.predicted_exit == np.inf and gradient_norm(THREE, last.saddle) < 1e-11


def test_the_table():
    data = path_of("two layers")[1].dataset()
    assert data["learned"].values.tolist() == [[k < n for k in range(3)] for n in range(4)]
    assert data["value"].values.tolist() == [7.0, 2.5, 0.5, 0.0] and data.attrs["order"] == [1, 2, 3]
    assert set(data.dims) == {"visit", "mode"} and data["exit"].attrs["units"].startswith("gradient-flow")


def test_bad_questions_get_one_line():
    run, _ = path_of("two layers")
    one = dl.gradient_flow(THREE, dl.init.gaussian(0, (4, 3), 0.1), ts=[0.0, 1.0])
    batch = jax.vmap(lambda key: dl.init.gaussian(key, (4, 5, 3), 0.1))(jax.random.split(jax.random.key(0), 2))
    with pytest.raises(ValueError, match="`trajectory`: is of a network with one layer"):
        saddle_path(one)
    with pytest.raises(ValueError, match="`trajectory`: is an ensemble"):
        saddle_path(dl.gradient_flow(THREE, batch, ts=[0.0, 1.0]))
    with pytest.raises(ValueError, match="`objective`: is a function"):
        saddle_path(run, lambda W: jnp.sum(W**4))
    with pytest.raises(ValueError, match="`widths`: got"):
        saddle_path(run, SquaredError.from_moments([[1.0]]))
