"""The biased two-layer model against its derivatives, its flow by scipy, and least squares."""

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import solve_ivp

import deeplinear as dl
from deeplinear import biased

SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4))  # samples, inputs, hidden units
SEEDS = st.integers(0, 2**32 - 1)


def draw(seed, samples, inputs, hidden):
    rng = np.random.default_rng(seed)
    U, v = rng.standard_normal((inputs + 1, hidden)), rng.standard_normal(hidden + 1)
    return U, v, rng.standard_normal((samples, inputs)), rng.standard_normal(samples)


def cost_by_sums(U, v, X, z):
    """Eq. (2) unit by unit, for complex weights too; the first bias there is printed u_0 and must be v_0."""
    total = 0.0
    for x, target in zip(X, z, strict=True):
        prediction = v[0]
        for unit in range(U.shape[1]):
            prediction = prediction + v[unit + 1] * (U[0, unit] + sum(U[1:, unit] * x))
        total = total + (target - prediction) ** 2
    return total / 2


def by_complex_steps(f, array):
    found = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        moved = array.astype(complex)
        moved[index] += 1e-30j
        found[index] = f(moved).imag / 1e-30
    return found


@given(SHAPES, SEEDS)
def test_cost_and_gradients(shape, seed):
    U, v, X, z = draw(seed, *shape)
    assert biased.cost(U, v, X, z) == pytest.approx(cost_by_sums(U, v, X, z), rel=1e-13)
    slopes = biased.gradients(U, v, X, z)
    size = np.linalg.norm(U) * np.linalg.norm(v) + np.linalg.norm(z)
    size *= (np.linalg.norm(X) + 2 * len(z)) * max(np.linalg.norm(U), np.linalg.norm(v))
    np.testing.assert_allclose(
        slopes.U, by_complex_steps(lambda U: cost_by_sums(U, v, X, z), U), rtol=0, atol=1e-14 * size
    )
    np.testing.assert_allclose(
        slopes.v, by_complex_steps(lambda v: cost_by_sums(U, v, X, z), v), rtol=0, atol=1e-14 * size
    )


@given(SHAPES, SEEDS)
def test_the_model_is_a_linear_regression(shape, seed):
    U, v, X, z = draw(seed, *shape)
    ones_and_X, w = np.hstack([np.ones((len(X), 1)), X]), biased.collapsed(U, v)
    size = np.linalg.norm(ones_and_X) * np.linalg.norm(w) + np.linalg.norm(z)
    np.testing.assert_allclose(biased.predictions(U, v, X), ones_and_X @ w, rtol=0, atol=1e-14 * size * len(w))
    d = ones_and_X @ w - z
    np.testing.assert_allclose(
        biased.normal_residuals(U, v, X, z), ones_and_X.T @ d, rtol=0, atol=1e-13 * size * np.linalg.norm(ones_and_X)
    )
    # |dC/dU| = |g| |v_h|, so that a critical point with v_h != 0 solves the normal equations
    g, slopes = biased.normal_residuals(U, v, X, z), biased.gradients(U, v, X, z)
    assert np.linalg.norm(slopes.U) == pytest.approx(np.linalg.norm(g) * np.linalg.norm(v[1:]), rel=1e-13)
    np.testing.assert_allclose(slopes.U @ v[1:] / (v[1:] @ v[1:]), g, rtol=1e-12, atol=1e-14 * np.linalg.norm(g))


def test_the_cost_is_a_sum_over_samples():
    U, v, X, z = draw(0, 9, 3, 2)
    objective = dl.SquaredError.of(np.hstack([np.ones((9, 1)), X]), z, scale=dl.HALF_SUM)
    w = biased.collapsed(U, v)
    assert biased.cost(U, v, X, z) == pytest.approx(float(objective(jnp.asarray(w)[None])), rel=1e-13)
    np.testing.assert_allclose(biased.least_squares(X, z), np.asarray(objective.optimum)[0], rtol=1e-12)
    np.testing.assert_allclose(
        biased.normal_residuals(U, v, X, z), np.asarray(objective.gradient(jnp.asarray(w)[None]))[0], rtol=1e-12
    )


def test_the_sign_of_d_printed_in_8_contradicts_the_gradients():
    U, v, X, z = draw(1, 5, 2, 2)
    ones_and_X = np.hstack([np.ones((5, 1)), X])
    printed = z - biased.predictions(U, v, X)  # eq. (8)
    truth = by_complex_steps(lambda U: cost_by_sums(U, v, X, z), U)
    with_printed = ones_and_X.T @ printed[:, None] @ v[None, 1:]
    np.testing.assert_allclose(with_printed, -truth, rtol=1e-12)
    assert np.linalg.norm(truth) > 1.0


def flow(U, v, X, z, end):
    """Weights along the gradient flow, integrated by scipy."""
    rows, hidden = U.shape
    unpack = lambda y: (y[: rows * hidden].reshape(rows, hidden), y[rows * hidden :])

    def slope(t, y):
        slopes = biased.gradients(*unpack(y), X, z)
        return -np.concatenate([slopes.U.ravel(), slopes.v])

    run = solve_ivp(
        slope, (0.0, end), np.concatenate([U.ravel(), v]), "DOP853", rtol=2.3e-14, atol=1e-15, max_step=0.02
    )
    return [unpack(y) for y in run.y.T]


@pytest.fixture(scope="module")
def run():
    _, _, X, z = draw(2, 8, 2, 3)
    return flow(*draw(7, 8, 2, 3)[:2], X, z, 12.0), X, z


def test_the_flow_conserves_what_it_should(run):
    points, _, _ = run
    start = biased.conserved(*points[0])
    assert np.linalg.norm(start) > 0.1
    drift = max(np.abs(biased.conserved(U, v) - start).max() for U, v in points)
    assert drift < 5e-14
    # neither without the hidden biases nor with v_0 is it conserved; and v is trained, not constant
    other = lambda U, v: (U[1:].T @ U[1:] - np.outer(v[1:], v[1:]), np.linalg.norm(U) ** 2 - np.linalg.norm(v) ** 2)
    (first, norms), (last, norms_after) = other(*points[0]), other(*points[-1])
    assert np.abs(last - first).max() > 0.01 and abs(norms_after - norms) > 0.01
    assert np.linalg.norm(points[-1][1] - points[0][1]) > 0.1


def test_the_flow_ends_at_least_squares(run):
    points, X, z = run
    U, v = points[-1]
    np.testing.assert_allclose(biased.collapsed(U, v), biased.least_squares(X, z), rtol=0, atol=1e-13)
    check = biased.critical_point_is_least_squares(U, v, X, z, tolerance=1e-13)
    assert check.holds and check.margin > 0.1 and "saddle" not in check.note
    start = biased.critical_point_is_least_squares(*points[0], X, z)
    assert not start.holds and "saddle" not in start.note  # not critical at all
    # many weights, one w
    others = flow(*draw(8, 8, 2, 3)[:2], X, z, 12.0)[-1]
    np.testing.assert_allclose(biased.collapsed(*others), biased.collapsed(U, v), rtol=0, atol=1e-13)
    assert np.linalg.norm(others[0] - U) > 0.1


@given(SHAPES, SEEDS, st.booleans())
def test_extra_saddles_are_critical_but_no_least_squares(shape, seed, given_U):
    U, _, X, z = draw(seed, max(shape[0], 2), *shape[1:])
    saddle = biased.extra_saddle(X, z, shape[2], U if given_U else None)
    g, slopes = biased.normal_residuals(*saddle, X, z), biased.gradients(*saddle, X, z)
    size = (np.linalg.norm(X) + len(z)) * np.linalg.norm(z)
    assert np.abs(slopes.U).max() == 0.0
    assert np.abs(slopes.v).max() <= 1e-14 * size * (1 + np.linalg.norm(saddle.U))
    assert np.linalg.norm(g) > 1e-6 * size
    check = biased.critical_point_is_least_squares(*saddle, X, z)
    assert not check.holds and check.note.endswith("an extra saddle") and check.margin == 0.0
    if given_U and shape[1] > 1:
        assert np.linalg.norm(saddle.U) > 0.0


def test_extra_saddles_are_strict():
    U, _, X, z = draw(5, 8, 3, 2)
    for saddle in (biased.extra_saddle(X, z, 2), biased.extra_saddle(X, z, 2, 0.1 * U)):
        g, b = biased.normal_residuals(*saddle, X, z), np.array([0.6, -0.8])
        along = lambda e, s=saddle, g=g, b=b: biased.cost(s.U - e * np.outer(g, b), s.v + e * np.array([0.0, *b]), X, z)
        e = 1e-3
        second = (along(e) - 2 * along(0.0) + along(-e)) / e**2
        ones_and_X = np.hstack([np.ones((8, 1)), X])
        predicted = np.sum((ones_and_X @ saddle.U @ b) ** 2) - 2 * (b @ b) * (g @ g)
        assert second == pytest.approx(predicted, rel=1e-3)
        assert predicted < -1.0


def test_the_flow_from_zero_output_weights_stays_at_the_saddle_for_a_while():
    # v_h = 0 and U^T g = 0 are kept by the exact flow: only v_0 moves, and the normal equations are never solved
    U, _, X, z = draw(6, 8, 2, 2)
    saddle = biased.extra_saddle(X, z, 2, U)
    v = saddle.v + np.array([1.0, 0.0, 0.0])
    X = X - X.mean(axis=0)  # then g does not depend on v_0 except for its first entry
    saddle = biased.extra_saddle(X, z, 2, np.vstack([np.zeros(2), U[1:]]))
    points = flow(saddle.U, v, X, z, 4.0)
    slopes = biased.gradients(*points[-1], X, z)
    assert np.hypot(np.linalg.norm(slopes.U), np.linalg.norm(slopes.v)) < 1e-8
    assert np.linalg.norm(biased.normal_residuals(*points[-1], X, z)) > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: biased.predictions([[1.0], [2.0]], [1.0], [[1.0]]), "`U`, `v`: have shapes"),
        (lambda: biased.predictions([[1.0], [2.0]], [1.0, 2.0], [[1.0, 2.0]]), "`X`: has 2 columns, but U has 2 rows"),
        (lambda: biased.predictions([[1.0], [2.0]], [1.0, 2.0], [1.0, 2.0]), r"`X`: has shape \(2,\)"),
        (lambda: biased.least_squares([[1.0], [2.0]], [1.0]), "`z`: has shape"),
        (lambda: biased.extra_saddle([[1.0], [2.0]], [1.0, 2.0], 2, [[1.0]]), "`U`: has shape"),
    ],
)
def test_bad_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
