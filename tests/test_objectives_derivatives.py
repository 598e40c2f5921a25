"""Derivatives of every objective against automatic differentiation, complex steps of formulas in numpy, and sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear.conventions import LOSS_SCALES
from deeplinear.objectives import gradient_of, hessian_vector, knows_minimum

RNG = np.random.default_rng(0)
N, D_X, D_Y = 7, 4, 3
X, Y = RNG.standard_normal((N, D_X)), RNG.standard_normal((N, D_Y))
B, U, V, z = (RNG.standard_normal(shape) for shape in ((N, D_Y, D_X), (N, D_Y), (N, D_X), (N,)))
PLACES = np.array([[0, 0], [2, 3], [1, 1], [2, 3], [0, 2], [1, 3], [2, 3]])  # one of them three times
YES = (Y > 0).astype(float)
SOFT = np.abs(Y) / np.abs(Y).sum(axis=1, keepdims=True)
LABELS = np.array([0, 1, 2, 2, 0, 1, 2])
W, DIRECTION = RNG.standard_normal((D_Y, D_X)), RNG.standard_normal((D_Y, D_X))


def huber(r, delta=0.7):
    """Of complex r with a tiny imaginary part."""
    size = np.where(r.real < 0, -r, r)
    return np.where(size.real <= delta, r**2 / 2, delta * (size - delta / 2))


# every objective beside its loss in numpy, which takes complex matrices
CASES = {
    "squared": (dl.SquaredError.of(X, Y), lambda W: np.sum((Y - X @ W.T) ** 2) / (2 * N)),
    "sensing": (dl.MatrixSensing(B, z), lambda W: np.sum((np.einsum("nij,ij->n", B, W) - z) ** 2) / (2 * N)),
    "rank one": (
        dl.MatrixSensing.rank_one(U, V, z, dl.SUM),
        lambda W: np.sum((np.einsum("ni,ij,nj->n", U, W, V) - z) ** 2),
    ),
    "entries": (
        dl.MatrixSensing.entries(*PLACES.T, z, (D_Y, D_X), dl.MEAN),
        lambda W: np.sum((W[PLACES[:, 0], PLACES[:, 1]] - z) ** 2) / N,
    ),
    "completion": (
        dl.MatrixCompletion(z, PLACES, (D_Y, D_X), dl.HALF_SUM),
        lambda W: np.sum((W[PLACES[:, 0], PLACES[:, 1]] - z) ** 2) / 2,
    ),
    "logistic": (
        dl.Logistic(X, YES),
        lambda W: np.sum(np.log(1 + np.exp(X @ W.T)) - YES * (X @ W.T)) / N,
    ),
    "cross-entropy": (
        dl.CrossEntropy(X, LABELS),
        lambda W: np.sum(np.log(np.exp(X @ W.T).sum(axis=1)) - (X @ W.T)[np.arange(N), LABELS]) / N,
    ),
    "soft cross-entropy": (
        dl.CrossEntropy(X, SOFT),
        lambda W: np.sum(np.log(np.exp(X @ W.T).sum(axis=1)) - np.sum(SOFT * (X @ W.T), axis=1)) / N,
    ),
    "huber": (dl.Huber(X, Y, 0.7), lambda W: np.sum(huber(X @ W.T - Y)) / N),
    "callable": (lambda W: jnp.sum(W**4) + jnp.sum(jnp.cos(W)), lambda W: np.sum(W**4) + np.sum(np.cos(W))),
}
every = pytest.mark.parametrize("name", sorted(CASES))


def by_complex_steps(loss, W, step=1e-30):
    """Gradient without cancellation."""
    found = np.zeros_like(W)
    for index in np.ndindex(W.shape):
        moved = W.astype(complex)
        moved[index] += 1j * step
        found[index] = loss(moved).imag / step
    return found


@every
def test_loss_and_gradient_are_those_of_the_formula(name):
    objective, loss = CASES[name]
    np.testing.assert_allclose(float(objective(jnp.asarray(W))), loss(W + 0j).real, rtol=1e-13)
    truth = by_complex_steps(loss, W)
    found = gradient_of(objective)(jnp.asarray(W))
    np.testing.assert_allclose(found, truth, rtol=0, atol=2e-14 * np.abs(truth).max())
    np.testing.assert_allclose(jax.grad(objective)(jnp.asarray(W)), truth, rtol=0, atol=2e-14 * np.abs(truth).max())


@every
def test_hessian_products_are_those_of_the_formula(name):
    objective, loss = CASES[name]
    found = hessian_vector(objective, jnp.asarray(W), jnp.asarray(DIRECTION))
    by_jax = jax.jvp(jax.grad(objective), (jnp.asarray(W),), (jnp.asarray(DIRECTION),))[1]
    scale = float(np.abs(by_jax).max())
    np.testing.assert_allclose(found, by_jax, rtol=0, atol=1e-13 * scale)
    eps = 1e-4  # central differences of complex steps: an error of eps^2
    ahead, behind = (by_complex_steps(loss, W + sign * eps * DIRECTION) for sign in (1, -1))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * eps), rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"callable"}))
def test_objectives_are_pytrees_for_jit_and_vmap(name):
    objective, _ = CASES[name]
    assert jax.tree.leaves(objective)
    many = jnp.asarray(RNG.standard_normal((3, D_Y, D_X)))
    losses, slopes = jax.jit(jax.vmap(lambda o, W: (o(W), o.gradient(W)), in_axes=(None, 0)))(objective, many)
    for i in range(3):
        np.testing.assert_allclose(losses[i], objective(many[i]), rtol=1e-13)
        np.testing.assert_allclose(slopes[i], objective.gradient(many[i]), rtol=0, atol=1e-13)
    with pytest.raises(AttributeError):
        objective.scale = None
    assert "\n" not in repr(objective)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: dl.MatrixSensing(B, y),
        lambda y: dl.MatrixSensing.rank_one(U, V, y),
        lambda y: dl.MatrixSensing.entries(*PLACES.T, y, (D_Y, D_X)),
        lambda y: dl.MatrixCompletion(y, PLACES, (D_Y, D_X)),
        lambda y: dl.Logistic(X, jax.nn.sigmoid(y)),
        lambda y: dl.Huber(X[:, :], y, 0.5),
    ],
)
def test_made_inside_jit_and_grad(make):
    at = jnp.asarray(W[:1] if make(z).shape == (1, D_X) else W)
    by_jax = jax.jit(jax.grad(lambda y: make(y)(at)))(jnp.asarray(z))
    step = 1e-5
    change = np.eye(N)[2] * step
    np.testing.assert_allclose(by_jax[2], (make(z + change)(at) - make(z - change)(at)) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("scale", sorted(LOSS_SCALES))
def test_sensing_by_outer_products_is_the_squared_error(scale):
    """Measurements e_k x_l^T of y_lk; every output of every sample counts as a measurement of its own."""
    matrices = np.einsum("ki,lj->lkij", np.eye(D_Y), X).reshape(-1, D_Y, D_X)
    sensing = dl.MatrixSensing(matrices, Y.ravel(), LOSS_SCALES[scale])
    pairs = dl.MatrixSensing.rank_one(
        np.tile(np.eye(D_Y), (N, 1)), np.repeat(X, D_Y, axis=0), Y.ravel(), LOSS_SCALES[scale]
    )
    squared = dl.SquaredError.of(X, Y, LOSS_SCALES[scale])
    share = {"half-mean": D_Y, "mean": D_Y}.get(scale, 1)  # means over n d_y measurements, not over n samples
    for objective in (sensing, pairs):
        np.testing.assert_allclose(share * objective(jnp.asarray(W)), squared(jnp.asarray(W)), rtol=1e-13)
        np.testing.assert_allclose(share * objective.minimum, squared.minimum, rtol=1e-12)
        np.testing.assert_allclose(share * objective.excess(jnp.asarray(W)), squared.excess(jnp.asarray(W)), rtol=1e-12)
        for f in ("gradient", "hessian_vector"):
            arguments = [jnp.asarray(W), jnp.asarray(DIRECTION)][: 1 + (f != "gradient")]
            expected = getattr(squared, f)(*arguments)
            np.testing.assert_allclose(share * getattr(objective, f)(*arguments), expected, rtol=0, atol=1e-12)


def lstsq_minimum(A, y):
    """Half of the smallest sum of squares, by numpy."""
    return np.sum((A @ np.linalg.lstsq(A, y, rcond=None)[0] - y) ** 2) / 2


@pytest.mark.parametrize("n", [5, 12, 30])
@pytest.mark.parametrize("repeated", [False, True])
def test_the_minimum_of_sensing_is_that_of_least_squares(n, repeated):
    rng = np.random.default_rng(n)
    u, v, y = rng.standard_normal((n, D_Y)), rng.standard_normal((n, D_X)), rng.standard_normal(n)
    if repeated:
        u[1], v[1] = u[0], 2 * v[0]  # linearly dependent
    matrices = np.einsum("ni,nj->nij", u, v)
    truth = lstsq_minimum(matrices.reshape(n, -1), y)
    for objective in (dl.MatrixSensing(matrices, y, dl.HALF_SUM), dl.MatrixSensing.rank_one(u, v, y, dl.HALF_SUM)):
        np.testing.assert_allclose(float(objective.minimum), truth, rtol=1e-12, atol=1e-14)
        at = jnp.asarray(W)
        np.testing.assert_allclose(objective.minimum + objective.excess(at), objective(at), rtol=1e-13)
        assert knows_minimum(objective) and knows_minimum(objective, 3) and not knows_minimum(objective, 2)
        with pytest.raises(ValueError, match=r"^`max_rank`: got 2; the smallest loss"):
            objective.excess(at, 2)


def test_the_minimum_of_completion_is_the_disagreement_of_repeated_entries():
    objective, loss = CASES["completion"]
    three = z[[1, 3, 6]]
    np.testing.assert_allclose(float(objective.minimum), np.sum((three - three.mean()) ** 2) / 2, rtol=1e-14)
    filled = np.zeros((D_Y, D_X))
    filled[np.asarray(objective.row), np.asarray(objective.column)] = objective.values
    np.testing.assert_allclose(loss(filled), float(objective.minimum), rtol=1e-13)
    assert float(objective.excess(jnp.asarray(filled))) == 0
    assert float(dl.MatrixSensing.entries(*PLACES.T, z, (D_Y, D_X), dl.HALF_SUM).minimum) == pytest.approx(
        float(objective.minimum), rel=1e-13
    )


def test_huber_is_the_squared_error_below_delta():
    squared, wide = dl.SquaredError.of(X, Y), dl.Huber(X, Y, 1e3)
    np.testing.assert_allclose(wide(jnp.asarray(W)), squared(jnp.asarray(W)), rtol=1e-13)
    np.testing.assert_allclose(wide.gradient(jnp.asarray(W)), squared.gradient(jnp.asarray(W)), rtol=0, atol=1e-13)


def test_losses_without_a_known_minimum_say_so():
    for name in ("logistic", "cross-entropy", "huber", "callable"):
        assert not knows_minimum(CASES[name][0])
