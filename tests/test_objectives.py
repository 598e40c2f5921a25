"""The squared error against sums over samples, differentiation, least squares and alternating least squares."""

from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deeplinear as dl
from deeplinear import SquaredError
from deeplinear.conventions import LOSS_SCALES
from deeplinear.flows import velocity

SHAPES = [(1, 1, 1), (6, 3, 2), (6, 2, 3), (3, 4, 2)]  # n, d_x, d_y; the last has fewer samples than inputs
SUMS = {
    "half-mean": lambda R: 0.5 * np.sum(R**2) / len(R),
    "mean": lambda R: np.sum(R**2) / len(R),
    "half-sum": lambda R: 0.5 * np.sum(R**2),
    "sum": lambda R: np.sum(R**2),
    "entry-mean": lambda R: np.mean(R**2),
}


def draw(shape, seed):
    """Samples X, Y and a matrix W."""
    n, d_x, d_y = shape
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d_x)), rng.standard_normal((n, d_y)), rng.standard_normal((d_y, d_x))


examples = given(shape=st.sampled_from(SHAPES), name=st.sampled_from(sorted(SUMS)), seed=st.integers(0, 999))


@examples
def test_loss_is_the_sum_over_samples(shape, name, seed):
    X, Y, W = draw(shape, seed)
    objective = SquaredError.of(X, Y, LOSS_SCALES[name])
    reference = SUMS[name](Y - X @ W.T)
    scale = SUMS[name](np.abs(Y) + np.abs(X) @ np.abs(W).T)
    np.testing.assert_allclose(float(objective(jnp.asarray(W))), reference, rtol=0, atol=1e-14 * scale)
    # numpy's least squares reaches the minimum
    best = SUMS[name](Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0])
    np.testing.assert_allclose(float(objective.minimum), best, rtol=0, atol=1e-14 * scale)
    np.testing.assert_allclose(float(objective(objective.optimum)), best, rtol=0, atol=1e-14 * scale)


@examples
def test_gradient_is_the_derivative(shape, name, seed):
    X, Y, W = draw(shape, seed)
    objective = SquaredError.of(X, Y, LOSS_SCALES[name])
    gradient = np.asarray(objective.gradient(jnp.asarray(W)))
    scale = np.abs(gradient).max() + SUMS[name](Y) + SUMS[name](X @ W.T)
    np.testing.assert_allclose(gradient, jax.grad(objective)(jnp.asarray(W)), rtol=0, atol=1e-13 * scale)
    i, j = np.unravel_index(seed % W.size, W.shape)
    step = np.zeros_like(W)
    step[i, j] = 1.0  # a central difference of a quadratic is exact at any step
    difference = (SUMS[name](Y - X @ (W + step).T) - SUMS[name](Y - X @ (W - step).T)) / 2
    np.testing.assert_allclose(gradient[i, j], difference, rtol=0, atol=1e-13 * (scale + SUMS[name](X)))


@given(seed=st.integers(0, 999), size=st.sampled_from([0.0, 1e-300, 1e-160, 1e-16, 1e-12, 1e-8, 1e-3]))
def test_never_below_the_minimum_and_accurate_near_it(seed, size):
    X, Y, W = draw((6, 3, 2), seed)
    objective = SquaredError.of(X, Y)
    optimum = np.asarray(objective.optimum)
    near = optimum + size * W
    excess = float(objective.excess(jnp.asarray(near)))
    assert excess >= 0
    assert float(objective(jnp.asarray(near))) >= float(objective.minimum)
    moved = np.array(
        [[Fraction(a) - Fraction(b) for a, b in zip(*rows, strict=True)] for rows in zip(near, optimum, strict=True)]
    )
    change = moved.astype(float)  # of the rounded matrices, without cancellation
    exact = np.sum((X @ change.T) ** 2) / (2 * len(X))
    np.testing.assert_allclose(excess, exact, rtol=1e-12)


@pytest.mark.parametrize("max_rank", [0, 1, 2])
def test_excess_over_a_bottleneck_is_never_negative(max_rank):
    X, Y, W = draw((6, 3, 3), 1)
    objective = SquaredError.of(X, Y)
    best = np.asarray(objective.optimum_at_rank(max_rank))
    assert np.linalg.matrix_rank(best, tol=1e-12) == max_rank
    floor = float(objective.minimum_at_rank(max_rank))
    whole = float(objective(jnp.zeros((3, 3))))
    np.testing.assert_allclose(float(objective(jnp.asarray(best))), floor, rtol=0, atol=1e-15 * whole)
    for size in (0.0, 1e-17, 1e-15, 1e-12, 1e-9, 1e-3):
        for seed in range(5):
            W = np.random.default_rng(seed).standard_normal((3, 3))
            U, s, Vt = np.linalg.svd(best + size * W)
            near = jnp.asarray((U[:, :max_rank] * s[:max_rank]) @ Vt[:max_rank])
            excess = float(objective.excess(near, max_rank))
            assert excess >= 0
            np.testing.assert_allclose(excess, float(objective(near)) - floor, rtol=0, atol=4e-15 * whole)


def best_of_rank(A, B, rank, sweeps=400):
    """Smallest ||A - W B||_F^2 over W of this rank by alternating least squares from 10 starts."""
    rng, losses = np.random.default_rng(0), []
    for _ in range(10):
        right = rng.standard_normal((rank, B.shape[0]))
        for _ in range(sweeps):
            left = np.linalg.lstsq((right @ B).T, A.T, rcond=None)[0].T
            right = np.linalg.pinv(left) @ A @ np.linalg.pinv(B, rcond=1e-12)
        losses.append(np.sum((A - left @ right @ B) ** 2))
    return min(losses)


@pytest.mark.parametrize("inputs", ["white", "correlated", "singular"])
@pytest.mark.parametrize("rank", [1, 2])
def test_minimum_at_rank_against_alternating_least_squares(inputs, rank):
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    if inputs == "white":
        X = np.linalg.qr(X)[0] * 20**0.5
    if inputs == "correlated":
        X = X @ np.diag([3.0, 1.0, 0.3, 0.1]) @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    if inputs == "singular":
        X[:, 3] = X[:, 0] - X[:, 1]
    objective = SquaredError.of(X, Y)
    brute = best_of_rank(Y.T, X.T, rank) / 40
    np.testing.assert_allclose(float(objective.minimum_at_rank(rank)), brute, rtol=1e-10)
    np.testing.assert_allclose(float(objective(objective.optimum_at_rank(rank))), brute, rtol=1e-10)
    assert float(objective.minimum_at_rank(3)) == pytest.approx(float(objective.minimum), rel=1e-14)


def test_the_optimum_of_singular_inputs_has_least_norm():
    X, Y, _ = draw((3, 4, 2), 0)
    objective = SquaredError.of(X, Y)
    np.testing.assert_allclose(objective.optimum, np.linalg.lstsq(X, Y, rcond=None)[0].T, rtol=0, atol=1e-13)
    assert float(objective.minimum) == pytest.approx(0.0, abs=1e-14)
    np.testing.assert_allclose(objective.sigma_yx, Y.T @ X / 3, rtol=0, atol=1e-14)
    np.testing.assert_allclose(objective.sigma_xx, X.T @ X / 3, rtol=0, atol=1e-15)


def test_a_scale_multiplies_the_velocity_and_nothing_else():
    X, Y, _ = draw((6, 3, 2), 0)
    network = dl.init.gaussian(0, (3, 4, 2), 0.5)
    reference = velocity(SquaredError.of(X, Y), network)
    for name, scale in LOSS_SCALES.items():
        factor = {"half-mean": 1.0, "mean": 2.0, "half-sum": 6.0, "sum": 12.0, "entry-mean": 1.0}[name]
        slope = velocity(SquaredError.of(X, Y, scale), network)
        for one, other in zip(slope.weights, reference.weights, strict=True):
            np.testing.assert_allclose(one, factor * other, rtol=1e-13, atol=1e-13)


def test_modes_are_the_singular_value_decomposition_with_fixed_signs():
    X, Y, _ = draw((6, 3, 2), 5)
    U, s, V = SquaredError.of(X, Y).modes
    assert (U.shape, s.shape, V.shape) == ((2, 2), (2,), (3, 2))
    np.testing.assert_allclose((U * s[None, :]) @ V.T, Y.T @ X / 6, rtol=0, atol=1e-15)
    np.testing.assert_allclose(s, np.linalg.svd(Y.T @ X / 6, compute_uv=False), rtol=1e-13)
    largest = np.asarray(U)[np.argmax(np.abs(U), axis=0), [0, 1]]
    assert (largest > 0).all()
    flipped = SquaredError.of(-X, -Y).modes
    np.testing.assert_array_equal(flipped.U, U)


def test_given_moments_and_singular_values():
    objective = SquaredError.from_singular_values([3.0, 1.0], d_x=4, d_y=2)
    np.testing.assert_array_equal(objective.sigma_yx, [[3.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(objective.sigma_xx, np.eye(4))
    assert objective.whitened
    assert float(objective(jnp.zeros((2, 4)))) == 5.0
    assert not SquaredError.from_moments([[1.0, 0.0]], np.diag([1.0, 2.0])).whitened
    assert SquaredError.from_moments([[1.0, 0.0]], np.eye(2)).whitened
    with_noise = SquaredError.from_moments([[2.0]], [[4.0]], trace_yy=3.0, scale=dl.SUM, count=5)
    # 5 samples: sum y^2 = 15, explained (sum xy)^2 / sum x^2 = 100 / 20
    assert float(with_noise.minimum) == pytest.approx(10.0, rel=1e-15)
    assert float(with_noise.optimum[0, 0]) == pytest.approx(0.5, rel=1e-15)
    # rounding of the moments of a perfect fit must not make a negative minimum
    assert float(SquaredError.from_moments([[1.0]], [[1.0]], trace_yy=1 - 1e-15).minimum) == 0.0


def test_says_what_it_is():
    assert repr(SquaredError.from_moments([[1.0, 2.0]])) == "SquaredError(2 inputs -> 1 outputs, half-mean, whitened)"
    assert repr(SquaredError.of([[1.0], [2.0]], [1.0, 0.0], dl.SUM)) == "SquaredError(1 inputs -> 1 outputs, sum)"


def test_one_compilation_serves_all_problems_of_a_shape():
    traces = []

    @eqx.filter_jit
    def loss(objective, W):
        traces.append(1)
        return objective(W)

    for seed in range(3):
        X, Y, W = draw((6, 3, 2), seed)
        objective = SquaredError.of(X, Y)
        np.testing.assert_allclose(loss(objective, jnp.asarray(W)), objective(jnp.asarray(W)), rtol=1e-13)
    assert len(traces) == 1


@pytest.mark.parametrize("white", [True, False])
def test_objectives_can_be_made_and_called_under_vmap(white):
    sigma_yx = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2, 3)))
    sigma_xx = None if white else jnp.diag(jnp.array([1.0, 2.0, 0.5]))
    make = lambda S: SquaredError.from_moments(S, sigma_xx)
    objectives = jax.vmap(make)(sigma_yx)
    W = jnp.ones((2, 3))
    batch = jax.vmap(lambda objective: (objective(W), objective.gradient(W), objective.minimum_at_rank(1)))(objectives)
    for i in range(5):
        alone = make(sigma_yx[i])
        np.testing.assert_allclose(batch[0][i], alone(W), rtol=1e-13)
        np.testing.assert_allclose(batch[1][i], alone.gradient(W), rtol=0, atol=1e-13)
        np.testing.assert_allclose(batch[2][i], alone.minimum_at_rank(1), rtol=1e-13)
    slope = jax.jit(jax.grad(lambda S: SquaredError.from_moments(S)(W)))(sigma_yx[0])
    np.testing.assert_allclose(slope, sigma_yx[0] - W, rtol=1e-13)  # of |S - W|^2 / 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SquaredError.of([[1.0]], [[1.0], [2.0]]), r"^`Y`: has 2 rows, but X has 1"),
        (lambda: SquaredError.from_moments([[1.0]], [[1.0, 0.0]]), r"^`sigma_xx`: has shape \(1, 2\)"),
        (lambda: SquaredError.from_moments([[1.0]], scale=dl.SUM), r"^`count`: the loss scale 'sum' needs the number"),
        (
            lambda: SquaredError.from_moments([[1.0, 1.0]], np.diag([1.0, 0.0])),
            r"^`sigma_yx`: a part of norm 1 lies along",
        ),
        (lambda: SquaredError.from_moments([[1.0]], [[0.0]]), r"^`sigma_yx`: a part of norm 1 lies along"),
        (lambda: SquaredError.from_singular_values([1.0, 2.0], 1, 3), r"^`s`: has shape \(2,\); give 1 to 1 singular"),
        (
            lambda: SquaredError.from_singular_values([], 2, 2),
            r"^`s`: has shape \(0,\); give an array of numbers, with no empty axis",
        ),
        (
            lambda: SquaredError.from_singular_values([1.0, -2.0], 2, 2),
            r"^`s`: has the value -2; singular values are finite",
        ),
        (
            lambda: SquaredError.from_singular_values([np.nan], 2, 2),
            r"^`s`: has nan at place 1; singular values are finite and at least 0",
        ),
        (
            lambda: SquaredError.from_moments([[1.0]]).minimum_at_rank(-1),
            r"^`max_rank`: got -1; give a whole number of at least 0",
        ),
    ],
)
def test_bad_objectives_get_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
