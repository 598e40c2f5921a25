"""Both ends of the Hessian's spectrum against dense eigenvalues, repeated ones included; sharpness."""

import tracemalloc
from itertools import pairwise

import hessians
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import Network, SquaredError, curvature, exact
from deeplinear.curvature import extremes, lanczos

OBJECTIVE = SquaredError.from_singular_values([3.0, 2.0, 1.0], 4, 3)


@pytest.fixture
def by_lanczos(monkeypatch):
    monkeypatch.setattr(extremes, "DENSE", 0)


def problem(widths, seed=0):
    """Correlated inputs, a random target and a random network."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((widths[0], widths[0] + 1))
    sigma_yx = rng.standard_normal((widths[-1], widths[0]))
    objective = SquaredError.from_moments(sigma_yx, root @ root.T / widths[0], scale=dl.MEAN)
    layers = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(widths)]
    return objective, Network(layers)


def check(found, hessian, k, mask=None, rtol=1e-13):
    """Values, vectors, residuals and signs against a dense Hessian of the weights that learn."""
    true = np.linalg.eigvalsh(hessian)
    size = max(np.abs(true).max(), 1e-300)
    lowest, highest = found
    np.testing.assert_allclose(lowest, true[:k], rtol=0, atol=rtol * size)
    np.testing.assert_allclose(highest, true[::-1][:k], rtol=0, atol=rtol * size)
    for end in (found.low, found.high):
        vectors = np.stack([hessians.flat(v) for v in end.vectors])
        if mask is not None:
            assert not vectors[:, ~hessians.flat(mask)].any()
            vectors = vectors[:, hessians.flat(mask)]
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), rtol=0, atol=1e-12)
        residuals = np.linalg.norm(vectors @ hessian - end.values[:, None] * vectors, axis=1)
        assert (residuals <= end.residuals + 1e-14 * size).all() and (end.residuals < 2e-8 * size).all()
        for value, residual, sign in zip(end.values, end.residuals, end.signs, strict=True):
            assert sign == ("negative" if value < -residual else "positive" if value > residual else "uncertain")


@pytest.mark.parametrize("widths", [(9, 12, 10, 2), (2, 10, 12, 9), (4, 8, 8, 4)], ids=["outputs", "inputs", "square"])
def test_both_ends_at_random_points(widths, by_lanczos):
    objective, network = problem(widths)
    found = curvature.extreme_eigenvalues(objective, network, k=3)
    assert found.products > 0
    check(found, hessians.of(objective, network), 3)
    again = curvature.extreme_eigenvalues(objective, network, k=3)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        assert (np.asarray(one) == np.asarray(other)).all()


def test_small_networks_are_dense():
    objective, network = problem((4, 5, 3))
    found = curvature.extreme_eigenvalues(objective, network, k=35)
    assert found.products == 0
    check(found, hessians.of(objective, network), 35)


@pytest.mark.parametrize("limit", [0, 10**4], ids=["Lanczos", "dense"])
def test_masks_and_weight_decay(limit, monkeypatch):
    monkeypatch.setattr(extremes, "DENSE", limit)
    objective, network = problem((9, 12, 10, 2))
    mask = Network([np.random.default_rng(3).random(W.shape) < 0.6 for W in network.weights])
    learn = np.flatnonzero(hessians.flat(mask))
    hessian = hessians.of(objective, network, 0.4)
    check(curvature.extreme_eigenvalues(objective, network, k=2, weight_decay=0.4), hessian, 2)
    found = curvature.extreme_eigenvalues(objective, network, k=2, mask=mask, weight_decay=0.4)
    check(found, hessian[np.ix_(learn, learn)], 2, mask)
    lowest = curvature.lowest_eigenvalue(objective, network, mask=mask, weight_decay=0.4)
    assert lowest == pytest.approx(float(found.low.values[0]), rel=1e-12)


def bumpy(W):
    return jnp.sum(jnp.log(jnp.cosh(W - 0.3))) + jnp.sum(W) ** 4 / 50


def test_any_objective(by_lanczos):
    network = dl.init.gaussian(0, (9, 12, 10, 2), 0.3)
    check(curvature.extreme_eigenvalues(bumpy, network, k=2), np.asarray(curvature.hessian(bumpy, network)), 2)


def test_repeated_eigenvalues_at_a_balanced_minimum(by_lanczos):
    s, widths = [2.0, 2.0, 0.7], (8, 9, 7, 3)
    objective = SquaredError.from_singular_values(s, 8, 3)
    network = dl.init.decoupled(0, objective, widths, s)
    true = curvature.balanced_hessian_spectrum(s, widths)
    found = curvature.extreme_eigenvalues(objective, network, k=8)
    assert np.ptp(found.high.values[:4]) < 1e-13  # lambda_ab for a, b in {1, 2}
    check(found, hessians.of(objective, network), 8)
    np.testing.assert_allclose(found.high.values, true[::-1][:8], rtol=0, atol=1e-13)
    assert set(found.low.signs) == {"uncertain"} and set(found.high.signs) == {"positive"}
    assert exact.balanced_hessian_spectrum is curvature.balanced_hessian_spectrum


def test_the_saddle_at_zero(by_lanczos):
    objective = SquaredError.from_singular_values([3.0, 3.0, 1.0], 9, 3)
    zeros = Network([jnp.zeros((12, 9)), jnp.zeros((3, 12))])
    found = curvature.extreme_eigenvalues(objective, zeros, k=5)  # -3 and 3, each 24 times
    check(found, hessians.of(objective, zeros), 5)
    assert set(found.low.signs) == {"negative"}
    mixed = curvature.extreme_eigenvalues(objective, zeros, k=26)
    np.testing.assert_allclose(mixed.low.values, [-3.0] * 24 + [-1.0] * 2, rtol=0, atol=1e-13)


def test_a_zero_hessian(by_lanczos):
    zeros = Network([jnp.zeros((8, 8))] * 3)
    found = curvature.extreme_eigenvalues(SquaredError.from_singular_values([3.0], 8, 8), zeros, k=3)
    assert not found.low.values.any() and not found.high.values.any()
    assert set(found.low.signs) == set(found.high.signs) == {"uncertain"}
    check(found, np.zeros((192, 192)), 3)
    decayed = curvature.extreme_eigenvalues(SquaredError.from_singular_values([3.0], 8, 8), zeros, weight_decay=0.5)
    assert decayed.low.values == decayed.high.values == 0.5 and decayed.low.signs == ("positive",)


def test_one_layer(by_lanczos):
    identity, network = SquaredError.from_moments(np.ones((3, 5))), Network([jnp.zeros((3, 5))])
    check(curvature.extreme_eigenvalues(identity, network, k=4), np.eye(15), 4)
    objective, network = problem((6, 4))
    check(curvature.extreme_eigenvalues(objective, network, k=6), hessians.of(objective, network), 6)


def test_a_spent_budget_is_told(by_lanczos):
    objective, network = problem((9, 12, 10, 2))
    found = curvature.extreme_eigenvalues(objective, network, k=2, max_products=8)
    hessian = hessians.of(objective, network)
    true = np.linalg.eigvalsh(hessian)
    assert found.products == 8 and found.low.residuals[1] > 1e-4
    assert found.low.values[0] >= true[0] and found.high.values[0] <= true[-1]
    # every residual is honest: there is an eigenvalue within it
    for value, residual in zip(found.low.values, found.low.residuals, strict=True):
        assert np.abs(true - value).min() <= residual


@pytest.mark.parametrize("thin", [True, False])
def test_few_networks_of_memory(thin):
    widths = (300, 100, 100, 10)
    objective, network = problem(widths)
    mask = None if thin else Network([np.ones(W.shape, dtype=bool) for W in network.weights])
    size = 8 * sum(W.size for W in network.weights)
    curvature.extreme_eigenvalues(objective, network, mask=mask, max_products=5)
    before = sum(array.nbytes for array in jax.live_arrays())
    tracemalloc.start()
    found = curvature.extreme_eigenvalues(objective, network, mask=mask, tolerance=1e-5, max_products=80)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    after = sum(array.nbytes for array in jax.live_arrays()) - before
    print(f"arrays on the host {peak / size:.2f}, JAX {after / size:.2f} of the weights, {found.products} products")
    assert found.low.signs == ("negative",) and peak + after < (8 if thin else 14) * size


# Lanczos itself, on matrices with any multiplicities


@given(
    distinct=st.lists(st.integers(-5, 5), min_size=1, max_size=6, unique=True),
    copies=st.lists(st.integers(1, 12), min_size=6, max_size=6),
    k=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_lanczos_finds_every_copy(distinct, copies, k, seed):
    spectrum = np.sort(np.repeat(np.array(distinct, dtype=float), copies[: len(distinct)]))
    rng, n = np.random.default_rng(seed), spectrum.size
    k = min(k, n)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = (Q * spectrum) @ Q.T
    question = lanczos.Problem(lambda v: A @ v, lambda: rng.standard_normal(n), lambda v: v, n, 8, 1e-9, 1e-13, 10**4)
    found, _products = lanczos.ends(question, k, k)
    np.testing.assert_allclose(found.values[:1], spectrum[:1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.values[-1:], spectrum[-1:], rtol=0, atol=1e-12)
    if k > 1:
        np.testing.assert_allclose(found.values[:k], spectrum[:k], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.values[-k:], spectrum[-k:], rtol=0, atol=1e-12)
    gram = found.vectors @ found.vectors.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), rtol=0, atol=1e-12)


def test_lanczos_restarts_on_a_spectrum_without_gaps():
    n, rng = 400, np.random.default_rng(0)
    spectrum = np.linspace(-1.0, 2.0, n) ** 3
    question = lanczos.Problem(
        lambda v: spectrum * v, lambda: rng.standard_normal(n), lambda v: v, n, 14, 1e-8, 1e-14, 10**4
    )
    found, products = lanczos.ends(question, 2, 2)
    np.testing.assert_allclose(found.values[[0, 1, -2, -1]], spectrum[[0, 1, -2, -1]], rtol=0, atol=1e-12)
    assert products < 1000


# Sharpness


def test_sharpness_is_the_largest_eigenvalue():
    for widths in ((9, 12, 10, 2), (4, 8, 8, 4)):
        objective, network = problem(widths)
        hessian = hessians.of(objective, network, 0.4)
        true = np.linalg.eigvalsh(hessian)[-1]
        assert float(curvature.sharpness(objective, network, weight_decay=0.4)) == pytest.approx(true, rel=1e-12)
    mask = Network([np.random.default_rng(3).random(W.shape) < 0.6 for W in network.weights])
    learn = np.flatnonzero(hessians.flat(mask))
    true = np.linalg.eigvalsh(hessian[np.ix_(learn, learn)])[-1]
    assert float(curvature.sharpness(objective, network, mask=mask, weight_decay=0.4)) == pytest.approx(true, rel=1e-12)


def test_sharpness_where_the_krylov_space_ends():
    zeros = Network([jnp.zeros((8, 8))] * 3)
    objective = SquaredError.from_singular_values([3.0], 8, 8)
    assert float(curvature.sharpness(objective, zeros)) == 0.0
    assert float(curvature.sharpness(objective, zeros, weight_decay=0.5)) == pytest.approx(0.5, rel=1e-14)
    saddle = Network([jnp.zeros((12, 9)), jnp.zeros((3, 12))])
    objective = SquaredError.from_singular_values([3.0, 3.0, 1.0], 9, 3)
    assert float(curvature.sharpness(objective, saddle)) == pytest.approx(3.0, rel=1e-13)
    # negative definite: a matrix far above the optimum of a concave function
    assert float(curvature.sharpness(lambda W: -jnp.sum(W**2), Network([jnp.ones((3, 5))]))) == pytest.approx(-2.0)


def test_sharpness_along_a_run_and_the_limit_of_stability():
    trajectory = dl.gradient_flow(OBJECTIVE, dl.init.gaussian(0, (4, 5, 3), 0.1), ts=[0.0, 1.0, 30.0])
    data = dl.measure(trajectory, sharpness=dl.diagnostics.sharpness(OBJECTIVE))
    for i in range(3):
        true = np.linalg.eigvalsh(hessians.of(OBJECTIVE, trajectory[i]))[-1]
        assert float(data["sharpness"][i]) == pytest.approx(true, rel=1e-10)
    minimum = dl.init.decoupled(0, OBJECTIVE, (4, 5, 3), [3.0, 2.0, 1.0])
    limit = exact.stability_limit(OBJECTIVE, 2)
    stability = curvature.edge_of_stability(OBJECTIVE, minimum, limit)
    assert float(stability.ratio) == pytest.approx(1.0, rel=1e-12)
    assert float(stability.threshold) == pytest.approx(2 / limit, rel=1e-15)


# The lowest eigenvalue, as flows ask for it


@pytest.mark.parametrize("widths", [(4, 5, 3), (4, 8, 3), (4, 6, 6, 3)])
def test_lowest_eigenvalue_at_a_random_point(widths):
    network = dl.init.gaussian(0, widths, 0.5)
    lowest = np.linalg.eigvalsh(hessians.of(OBJECTIVE, network))[0]
    for limit in (256, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extremes, "DENSE", limit)
            assert curvature.lowest_eigenvalue(OBJECTIVE, network) == pytest.approx(lowest, rel=1e-12)


def rotated(layers, seed=0):
    """The network of these layers in random bases, and the objective that goes with the outer ones."""
    rng = np.random.default_rng(seed)
    Q = [np.linalg.qr(rng.standard_normal((d, d)))[0] for d in (layers[0].shape[1], *(W.shape[0] for W in layers))]
    return Network([above @ W @ below.T for W, below, above in zip(layers, Q, Q[1:], strict=False)]), Q[-1], Q[0]


@pytest.mark.parametrize("n", [8, 16])
def test_lowest_eigenvalue_at_saddles_with_few_distinct_eigenvalues(n):
    s = np.linspace(3.0, 1.0, n)
    for depth, lowest in ((2, -s[1]), (3, 0.0)):  # strict at depth 2; not strict at depth 3 with the first mode learned
        learned = np.zeros((n, n))
        learned[0, 0] = s[0] ** (1 / depth)
        network, U, V = rotated([learned] * depth)
        objective = SquaredError.from_moments(U @ np.diag(s) @ V.T)
        assert curvature.lowest_eigenvalue(objective, network) == pytest.approx(lowest, rel=1e-12, abs=1e-13)


def test_lowest_eigenvalue_of_a_zero_hessian():
    zeros = Network([jnp.zeros((8, 8))] * 3)
    assert curvature.lowest_eigenvalue(SquaredError.from_singular_values([3.0], 8, 8), zeros) == 0.0


def test_lowest_eigenvalue_at_the_origin_of_a_wide_network():
    zeros = Network([jnp.zeros((30, 20)), jnp.zeros((10, 30))])
    objective = SquaredError.from_singular_values([3.0, 2.9999, 1.0], 20, 10)
    assert curvature.lowest_eigenvalue(objective, zeros) == pytest.approx(-3.0, rel=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: curvature.extreme_eigenvalues(OBJECTIVE, n, k=0), "`k`: got 0; 35 weights learn"),
        (lambda n: curvature.extreme_eigenvalues(OBJECTIVE, n, k=36), "`k`: got 36"),
        (lambda n: curvature.extreme_eigenvalues(OBJECTIVE, n, tolerance=0.0), "`tolerance`: got 0.0"),
        (lambda n: curvature.extreme_eigenvalues(OBJECTIVE, n, max_products=0), "`max_products`: got 0"),
        (lambda n: jax.jit(lambda n: curvature.lowest_eigenvalue(OBJECTIVE, n))(n), "`network`: is being traced"),
        (lambda n: curvature.lowest_eigenvalue(lambda W: jnp.sum(W) / 0.0, n), "`objective`: its derivatives"),
        (lambda n: curvature.edge_of_stability(OBJECTIVE, n, 0.0), "`learning_rate`: got 0.0"),
    ],
)
def test_bad_input_gets_one_line(call, message, without_annotations):
    with pytest.raises(ValueError, match=message) as caught:
        call(dl.init.gaussian(0, (4, 5, 3), 0.5))
    assert "\n" not in str(caught.value)
