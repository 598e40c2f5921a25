"""Starts: their statistics, their exact balance and alignment, and what cannot be had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import SquaredError, init
from deeplinear._linalg import haar

WIDTHS = [(3, 2), (4, 6, 3), (2, 5, 3, 4), (4, 1, 4), (3, 3, 3)]  # one layer, wide, d_x < d_y, bottleneck, square
RANDOM = {
    "gaussian": lambda key, widths: init.gaussian(key, widths, 0.3),
    "orthogonal": lambda key, widths: init.orthogonal(key, widths, 0.3),
    "xavier": init.xavier,
    "kaiming": init.kaiming,
    "balanced": lambda key, widths: init.balanced(key, widths, scale=0.3),
}


def imbalances(network):
    """Relative imbalance of every junction."""
    pairs = zip(network.weights[:-1], network.weights[1:], strict=True)
    return [float(jnp.linalg.norm(b.T @ b - a @ a.T) / jnp.maximum(jnp.linalg.norm(a @ a.T), 1e-300)) for a, b in pairs]


@pytest.mark.parametrize("name", RANDOM)
def test_shapes_and_keys(name):
    for widths in WIDTHS:
        network = RANDOM[name](7, widths)
        assert network.widths == widths
        for other in (jax.random.key(7), np.int64(7)):
            again = RANDOM[name](other, list(widths))
            assert all(jnp.array_equal(a, b) for a, b in zip(network.weights, again.weights, strict=True))
        other = RANDOM[name](8, widths)
        assert not any(jnp.array_equal(a, b) for a, b in zip(network.weights, other.weights, strict=True))
    square = RANDOM[name](7, (3, 3, 3))
    assert not jnp.array_equal(*square.weights)  # every layer has its own key


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("gaussian", lambda rows, columns: 0.3),
        ("xavier", lambda rows, columns: (2 / (rows + columns)) ** 0.5),
        ("kaiming", lambda rows, columns: columns**-0.5),
    ],
)
def test_random_entries_have_the_promised_variance(name, deviation):
    network = RANDOM[name](0, (50, 200, 100))
    for W in network.weights:
        z = np.asarray(W).ravel() / deviation(*W.shape)
        n = z.size  # standard errors of mean, variance and kurtosis of n normal numbers
        assert abs(z.mean()) < 4 * n**-0.5
        assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
        assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5


def test_xavier_and_kaiming_are_torchs():
    torch = pytest.importorskip("torch")
    weight = torch.empty(200, 100)
    torch.nn.init.xavier_normal_(weight)
    assert float(weight.std()) == pytest.approx(float(init.xavier(0, (100, 200)).end_to_end.std()), rel=0.05)


def test_orthogonal_layers():
    for widths in WIDTHS:
        for W in init.orthogonal(0, widths, 0.3).weights:
            gram = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
            np.testing.assert_allclose(gram, 0.09 * np.eye(len(gram)), rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 5)])
def test_haar_matrices_have_haar_moments(shape):
    draws = np.asarray(jax.vmap(lambda key: haar(key, *shape))(jax.random.split(jax.random.key(0), 20_000)))
    error = 4 / 20_000**0.5
    # first moments vanish; a plain QR has a diagonal of one sign and fails by 0.5
    assert np.abs(draws.mean(axis=0)).max() < error
    # E[q_ij^2] = 1/n for the longer side n; E[q_ij q_kl] = 0 otherwise
    flat = draws.reshape(len(draws), -1)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(flat.shape[1]) / max(shape), rtol=0, atol=error)
    if shape == (3, 3):
        assert abs(np.sign(np.linalg.det(draws)).mean()) < error  # plain QR: one sign only
        trace = np.trace(draws, axis1=1, axis2=2)
        assert abs((trace**2).mean() - 1) < 4 * error  # invariance under conjugation: E[tr^2] = 1 on O(n)


@pytest.mark.parametrize("widths", WIDTHS)
def test_balanced_starts_are_balanced_to_rounding(widths):
    network = init.balanced(3, widths, scale=1e-4)
    assert max(imbalances(network), default=0.0) < 4e-15


def test_balanced_starts_have_the_size_of_the_gaussian_that_they_replace():
    widths, depth = (5, 8, 4), 2
    squares = [float(jnp.sum(W**2)) for key in range(300) for W in init.balanced(key, widths, scale=0.3).weights]
    # 4 x 5 entries of variance 0.09: mean 1.8, standard deviation 0.09 sqrt(40)
    assert abs(np.mean(squares) - 1.8) < 4 * 0.09 * (40 / (len(squares) / depth)) ** 0.5


@pytest.mark.parametrize("widths", [w for w in WIDTHS if w != (4, 1, 4)])
def test_balanced_starts_reproduce_a_product(widths):
    product = np.random.default_rng(0).standard_normal((widths[-1], widths[0]))
    network = init.balanced(3, widths, product=product)
    np.testing.assert_allclose(network.end_to_end, product, rtol=0, atol=2e-15 * np.linalg.norm(product))
    assert max(imbalances(network), default=0.0) < 4e-15


def test_balanced_starts_reproduce_a_product_through_a_bottleneck():
    product = np.outer([1.0, 2.0, 0.0, -1.0], [0.5, 0.0, 1.0, 2.0])
    network = init.balanced(3, (4, 1, 4), product=product)
    np.testing.assert_allclose(network.end_to_end, product, rtol=0, atol=1e-14)
    assert max(imbalances(network)) < 4e-15
    zero = init.balanced(3, (4, 1, 4), product=np.zeros((4, 4)))
    np.testing.assert_array_equal(zero.end_to_end, np.zeros((4, 4)))


def correlated(d_x, d_y):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, d_x)) @ rng.standard_normal((d_x, d_x))
    return SquaredError.of(X, rng.standard_normal((30, d_y)))


@pytest.mark.parametrize("widths", WIDTHS)
def test_decoupled_starts_are_diagonal_in_the_modes(widths):
    objective = correlated(widths[0], widths[-1])
    U, s, V = objective.modes
    strengths = np.linspace(0.2, -0.1, s.size)
    network = init.decoupled(5, objective, widths, strengths)
    expected = np.where(np.arange(s.size) < min(widths), strengths, 0.0)
    np.testing.assert_allclose(U.T @ network.end_to_end @ V, np.diag(expected), rtol=0, atol=1e-15)
    assert max(imbalances(network), default=0.0) < 4e-15
    one = init.decoupled(5, objective, widths, 0.05)
    np.testing.assert_allclose(
        jnp.diagonal(U.T @ one.end_to_end @ V), 0.05 * (np.arange(s.size) < min(widths)), atol=1e-16
    )


OBJECTIVE = SquaredError.from_singular_values([2.0, 1.0], 2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: init.gaussian(0, (3,), 1.0),
            r"^`widths`: got \(3,\); give at least the number of inputs and of outputs",
        ),
        (lambda: init.gaussian(0, (3, 0, 2), 1.0), r"^`widths`: got \(3, 0, 2\); every width is an int of at least 1"),
        (lambda: init.gaussian(0, (3, 2.5), 1.0), r"^`widths`: got \(3, 2\.5\); every width is an int"),
        (lambda: init.gaussian(0, (3, 2), 0.0), r"^`scale`: got 0\.0; give a finite number above 0"),
        (lambda: init.gaussian(0, (3, 2), np.nan), r"^`scale`: got nan"),
        (lambda: init.orthogonal(0, (3, 2), -1.0), r"^`scale`: got -1\.0"),
        (lambda: init.gaussian(-1, (3, 2), 1.0), r"^`key`: got -1; a seed is an int of at least 0"),
        (lambda: init.xavier(1.5, (3, 2)), r"^`key`: got 1\.5; give an int or a jax key"),
        (lambda: init.kaiming(True, (3, 2)), r"^`key`: got True; give an int or a jax key"),
        (lambda: init.balanced(0, (3, 2)), r"^`scale`, `product`: give exactly one of them"),
        (lambda: init.balanced(0, (1, 1), scale=1.0, product=[[1.0]]), r"^`scale`, `product`: give exactly one"),
        (
            lambda: init.balanced(0, (3, 2), product=np.eye(3)),
            r"^`product`: has shape \(3, 3\); .* it must be \(2, 3\)",
        ),
        (lambda: init.balanced(0, (3, 2, 3), product=np.eye(3)), r"^`product`: has rank above 2, the smallest of the"),
        (
            lambda: init.balanced(0, (1, 1), product=[[np.nan]]),
            r"^`product`: has nan at row 1, column 1; give finite numbers",
        ),
        (
            lambda: init.decoupled(0, OBJECTIVE, (3, 2), 0.1),
            r"^`widths`: go from 3 to 2, but the objective has 2 inputs",
        ),
        (
            lambda: init.decoupled(0, OBJECTIVE, (2, 2), [0.1] * 3),
            r"^`strengths`: came with shape \(3,\); give one finite",
        ),
        (lambda: init.decoupled(0, OBJECTIVE, (2, 2), np.inf), r"^`strengths`: has inf; give finite numbers"),
    ],
)
@pytest.mark.usefixtures("without_annotations")
def test_bad_starts_get_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_starts_are_values_of_the_library():
    assert isinstance(dl.init.gaussian(0, (2, 2), 1.0), dl.Network)
