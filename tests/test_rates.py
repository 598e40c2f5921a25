"""Rates of convergence and bounds of the weights, against dense operators, flows and the survey's printed formulas."""

from functools import reduce
from itertools import pairwise
from typing import Any, cast

import jax
import numpy as np
import pytest

import deeplinear as dl
from deeplinear import Network, SquaredError, diagnostics, gradient_flow, init

RNG = np.random.default_rng(5)
CHAINS = [(3, 2), (2, 3, 2), (2, 4, 4, 2), (3, 3, 5, 2), (1, 2, 4, 2), (2, 5, 3), (4, 2, 3)]


def random_layers(widths, rng=RNG, scales=None):
    scales = [1.0] * (len(widths) - 1) if scales is None else scales
    return [s * rng.standard_normal((b, a)) for s, a, b in zip(scales, widths, widths[1:], strict=False)]


def product(layers, size):
    return reduce(lambda below, W: W @ below, layers) if layers else np.eye(size)


def operator(layers):
    """G -> sum_j W_{j+1:h} W_{j+1:h}^T G W_{1:j-1}^T W_{1:j-1} as a matrix: the flow of the end-to-end matrix is its
    image of -grad L, and -dL/dt its quadratic form, so that its smallest eigenvalue is the true rate of this moment."""
    d_x, d_y = layers[0].shape[1], layers[-1].shape[0]
    total = 0
    for j in range(len(layers)):
        above, below = product(layers[j + 1 :], d_y), product(layers[:j], d_x)
        total = total + np.kron(above @ above.T, below.T @ below)
    return total


def slowest(layers):
    return np.linalg.eigvalsh(operator(layers))[0]


def nth_smallest(S, k):
    """lambda_k as the survey counts: ascending, from 1."""
    return np.linalg.eigvalsh(S)[k - 1]


def survey_imbalances(layers):
    """C_i of the survey, with its sign."""
    return [W @ W.T - V.T @ V for W, V in pairwise(layers)]


def dominated(widths, j, rng):
    """Layers that grow away from layer j, so that the signs of proposition 27 hold where widths allow."""
    return random_layers(widths, rng, [20.0 ** abs(l - j) for l in range(1, len(widths))])


def root(S):
    eigenvalues, Q = np.linalg.eigh(S)
    return (Q * np.sqrt(np.maximum(eigenvalues, 0))[None, :]) @ Q.T


def contraction(rng, rows, columns):
    M = rng.standard_normal((rows, columns))
    return 0.6 * M / np.linalg.norm(M, 2)


def nested(widths, j, rng):
    """Layers with -C_i >= 0 below j and C_i >= 0 from j on, as proposition 28 needs."""
    h, layers = len(widths) - 1, {}
    for l in [*range(1, j), *range(h, j, -1), j]:
        below = root(layers[l - 1] @ layers[l - 1].T) if l - 1 in layers else np.eye(widths[l - 1])
        above = root(layers[l + 1].T @ layers[l + 1]) if l + 1 in layers else np.eye(widths[l])
        layers[l] = above @ contraction(rng, widths[l], widths[l - 1]) @ below
        layers[l] /= max(1, np.linalg.norm(above, 2), np.linalg.norm(below, 2))
        if l in (1, h) and l != j:
            layers[l] = rng.standard_normal((widths[l], widths[l - 1]))
    return [layers[l] for l in range(1, h + 1)]


def bounds_of(layers, objective=None):
    # rates depend on sigma_xx alone
    objective = objective or SquaredError.from_moments(np.zeros((layers[-1].shape[0], layers[0].shape[1])))
    return np.asarray(diagnostics.rates(objective)(Network(layers)))


# rates ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", CHAINS, ids=str)
def test_no_bound_is_above_the_true_rate(widths):
    rng, seen = np.random.default_rng(0), np.zeros(3)
    h = len(widths) - 1
    for trial in range(30):
        j = trial % h + 1
        for layers in (random_layers(widths, rng), dominated(widths, j, rng), nested(widths, j, rng)):
            bounds, truth = bounds_of(layers), slowest(layers)
            assert (bounds >= 0).all()
            assert (bounds <= truth * (1 + 1e-9) + 1e-12).all()
            seen = np.maximum(seen, bounds)
    local_bottleneck = any(a > b < c for a, b, c in zip(widths, widths[1:], widths[2:], strict=False))
    assert (seen[0] == 0) == local_bottleneck
    if not local_bottleneck:
        assert seen[1] > 0
    assert (seen[2] > 0) == all(d >= max(widths[0], widths[-1]) for d in widths[1:-1])


def test_the_bounds_by_their_formulas():
    rng = np.random.default_rng(3)
    layers = dominated((2, 3, 5, 4, 3), 3, rng)
    lowest = lambda S: np.linalg.eigvalsh(S)[0]
    now = sum(
        np.prod([lowest(W.T @ W) for W in layers[:j]]) * np.prod([lowest(W @ W.T) for W in layers[j + 1 :]])
        for j in range(4)
    )
    C = survey_imbalances(layers)
    # j = 3: lambda_{1 + d_i - d_{i-1}}(C_i) for i < 3, lambda_{1 + d_i - d_{i+1}}(-C_i) for i = 3
    each = nth_smallest(C[0], 2) * nth_smallest(C[1], 3) * nth_smallest(-C[2], 2)
    bounds = bounds_of(layers)
    np.testing.assert_allclose(bounds[:2], np.array([now, each], dtype=float), rtol=1e-9)
    assert bounds[2] == 0
    layers = nested((2, 4, 3, 5, 3), 2, rng)
    C = survey_imbalances(layers)
    sums = [
        nth_smallest(C[0], 3),
        nth_smallest(-C[1], 1),
        nth_smallest(-C[1], 1) + nth_smallest(-C[2], 3),
    ]
    np.testing.assert_allclose(bounds_of(layers)[2], np.prod(sums), rtol=1e-9)


def test_the_rate_of_26_is_reached_with_its_factor_2():
    # one weight a layer: -dL/dt = 2 alpha (L - minimum) exactly, so a factor of 1 (as printed) would be loose
    for scale in (dl.HALF_MEAN, dl.MEAN):
        objective = SquaredError.from_moments([[3.0]], [[0.7]], scale=scale)
        network = Network([[[0.4]], [[1.3]], [[-0.8]]])
        alpha = diagnostics.rates(objective)(network)[0]
        assert float(diagnostics.decay_rate(objective)(network)) == pytest.approx(float(alpha), rel=1e-14)


def test_the_printed_first_index_of_27_fails():
    """Printed: lambda_{1 + d_{i+1} - d_i}(C_i) for i < j; above the true rate, not positive, or out of range."""
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(200):  # [3, 3, 5, 2], j = 2: the printed lambda_3(C_1) in place of lambda_1(C_1)
        layers = dominated((3, 3, 5, 2), 2, rng)
        C = survey_imbalances(layers)
        second = nth_smallest(-C[1], 1 + 5 - 2)
        printed, right = nth_smallest(C[0], 1 + 5 - 3) * second, nth_smallest(C[0], 1) * second
        if nth_smallest(C[0], 1) > 0 and second > 0:
            assert right <= slowest(layers)
            ratios.append(slowest(layers) / printed)
    assert len(ratios) > 50 and min(ratios) < 0.05
    layers = dominated((2, 4, 4, 2), 3, rng)  # lambda_1(C_1) in place of lambda_3(C_1), which has rank 2
    C = survey_imbalances(layers)
    assert nth_smallest(C[0], 1 + 4 - 4) < 0 < nth_smallest(C[0], 1 + 4 - 2)
    assert (1 + 4 - 2) > 2  # [1, 2, 4, 2]: index 3 of the 2 x 2 matrix C_1


def test_printed_rate_constants_are_of_the_error_not_half_of_the_loss():
    """(49) and (52) call alpha the rate of convergence: of |E| it is, while the loss decays twice as fast."""
    layers = nested((2, 3, 2), 1, np.random.default_rng(2))
    objective = SquaredError.from_moments(np.diag([2.0, 1.0]))
    decay = float(diagnostics.decay_rate(objective)(Network(layers)))
    gradient = [float(np.sum(np.square(G))) for G in gradients(layers, np.diag([2.0, 1.0]))]
    excess = np.sum((layers[1] @ layers[0] - np.diag([2.0, 1.0])) ** 2) / 2
    assert decay == pytest.approx(sum(gradient) / (2 * excess), rel=1e-12)
    assert sum(gradient) / excess >= 2 * bounds_of(layers)[2] > 0


def gradients(layers, Sigma):
    residual = product(layers, len(Sigma)) - Sigma
    h = len(layers)
    return [product(layers[j + 1 :], len(Sigma)).T @ residual @ product(layers[:j], Sigma.shape[1]).T for j in range(h)]


def test_rates_of_inputs_that_are_not_white():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((20, 3)) * [2.0, 1.0, 0.0]  # the third input never occurs
    objective = SquaredError.of(X, rng.standard_normal((20, 2)), dl.MEAN)
    layers = dominated((3, 4, 2), 1, rng)
    variances = np.linalg.eigvalsh(X[:, :2].T @ X[:, :2] / 20)
    plain = bounds_of(layers)
    np.testing.assert_allclose(bounds_of(layers, objective), 2 * variances[0] * plain, rtol=1e-9)
    for _ in range(50):
        network = Network(random_layers((3, 4, 2), rng))
        assert float(diagnostics.decay_rate(objective)(network)) >= float(diagnostics.rates(objective)(network)[0])


def test_which_hypothesis_fails_and_by_how_much():
    layers = dominated((2, 3, 4), 2, np.random.default_rng(0))
    found = {
        (b.proposition, b.layer): b
        for b in diagnostics.rate_bounds(SquaredError.from_moments(np.zeros((4, 2))), Network(layers))
    }
    assert set(found) == {(26, None), (27, 1), (27, 2), (28, 1), (28, 2)}
    applying = {key for key, bound in found.items() if bound.applies}
    assert applying == {(26, None), (27, 2)}
    failed = {h.statement: h.shortfall for h in found[27, 1].hypotheses if not h.holds}
    spectrum = np.linalg.eigvalsh(layers[1].T @ layers[1] - layers[0] @ layers[0].T)
    assert failed["d_1 >= d_2"] == 1
    assert failed["C_1 has 4 positive eigenvalues"] == pytest.approx(-spectrum[0], rel=1e-6)
    widths = [h for h in found[28, 1].hypotheses if h.statement == "d_1 >= max(d_0, d_2)"]
    assert (widths[0].holds, widths[0].shortfall) == (False, 1.0)
    total = diagnostics.rates(SquaredError.from_moments(np.zeros((4, 2))))(Network(layers))
    np.testing.assert_allclose(total[1], sum(b.rate for key, b in found.items() if key[0] == 27), rtol=1e-12)


def test_one_layer_has_one_rate():
    objective = SquaredError.from_moments(np.ones((2, 2)), np.diag([3.0, 0.5]))
    np.testing.assert_allclose(diagnostics.rates(objective)(Network([np.eye(2)])), [0.5] * 3, rtol=1e-14)


def test_two_layers_of_27_may_add():
    """Both j hold if C_1 has d_2 positive and d_0 negative eigenvalues (so d_1 >= d_0 + d_2): there are both terms."""
    rng = np.random.default_rng(6)
    W1, W2 = random_layers((1, 5, 2), rng)
    Q = np.linalg.qr(np.hstack([W1, W2.T]))[0]
    layers = [Q[:, :1] * 2, 3 * Q[:, 1:].T]  # orthogonal: C_1 has the eigenvalues 9, 9, -4, 0, 0
    np.testing.assert_allclose(bounds_of(layers)[1], 13.0, rtol=1e-12)
    assert slowest(layers) == pytest.approx(13.0, rel=1e-12)


# along flows ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    objective = SquaredError.from_moments([[2.0, 0.3], [0.1, 1.0]], [[1.2, 0.2], [0.2, 0.8]])
    start = Network(nested((2, 4, 2), 1, np.random.default_rng(8)))
    return gradient_flow(objective, start, np.linspace(0, 6, 601), rtol=1e-10)


def test_the_loss_stays_below_its_bounds(run):
    bounds = diagnostics.loss_bounds(run)
    assert bounds.dims == ("bound", "time") and list(bounds["bound"].values) == [26, 27, 28]
    excess = np.asarray(run.map(diagnostics.excess_loss(run.objective)))
    assert (bounds["rate"].values[[0, 2]] > 0).all()
    assert (excess[None] <= bounds.values * (1 + 1e-4)).all()  # trapezoids, 601 times
    rate = np.asarray(run.map(diagnostics.rates(run.objective)))[0]
    np.testing.assert_allclose(bounds.values[1:, 300], excess[0] * np.exp(-2 * 3.0 * rate[1:]), rtol=1e-10)
    data = dl.measure(run, excess_loss=diagnostics.excess_loss(run.objective))
    data["loss_bounds"] = bounds
    assert data["loss_bounds"].attrs["units"] == run.objective.scale.name


def test_lojasiewicz_along_a_path(run):
    quotient, decay = (np.asarray(run.map(f(run.objective))) for f in (diagnostics.lojasiewicz, diagnostics.decay_rate))
    np.testing.assert_allclose(quotient**2, 2 * decay, rtol=1e-12)
    excess = np.asarray(run.map(diagnostics.excess_loss(run.objective)))
    slope = -np.gradient(np.log(excess), np.asarray(run.ts), edge_order=2) / 2
    np.testing.assert_allclose(slope[5:200], decay[5:200], rtol=2e-3)  # differences of step 0.01


@pytest.mark.parametrize("h", [2, 3, 4])
def test_lojasiewicz_exponent_of_zero_is_1_minus_1_over_h(h):
    objective = SquaredError.from_moments([[2.0]])
    at = lambda z, theta: float(diagnostics.lojasiewicz(objective, theta, 2.0)(Network([[[z]]] * h)))
    limit = np.sqrt(h) * 2.0 / 2.0 ** (1 - 1 / h)  # |grad| -> h^(1/2) sigma z^(h-1), |L - L_c| -> sigma z^h
    assert at(1e-2, 1 - 1 / h) == pytest.approx(limit, rel=1e-3 if h == 2 else 1e-5)
    assert at(1e-3, 0.9) > 1.5 * at(1e-2, 0.9)  # a larger exponent is safe
    if h > 2:
        assert at(1e-3, 0.5) < 0.5 * at(1e-2, 0.5)  # a smaller one is not


@pytest.mark.usefixtures("without_annotations")
def test_bounds_are_refused_where_they_mean_nothing(run):
    with pytest.raises(ValueError, match=r"^`objective`: got a function; this is known for squared error alone"):
        diagnostics.rates(cast(Any, _of_no_kind))
    with pytest.raises(ValueError, match=r"^`exponent`: got 1.0; Lojasiewicz"):
        diagnostics.lojasiewicz(run.objective, 1)
    many = gradient_flow(run.objective, jax_stack([run[0], run[0]]), [0.0, 0.1])
    with pytest.raises(ValueError, match=r"^`trajectory`: is an ensemble"):
        diagnostics.loss_bounds(many)


def _of_no_kind(W):
    return W.sum()


def jax_stack(networks):
    return jax.tree.map(lambda *W: np.stack(W), *networks)


# boundedness ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(3, 3, 2), (3, 2, 4, 2), (2, 5, 3), (3, 2)], ids=str)
def test_no_weight_leaves_its_bound(widths):
    rng = np.random.default_rng(9)
    X = rng.standard_normal((12, widths[0]))
    X[:, 0] = X[:, 1]  # a direction of the inputs never occurs
    for scale in (0.05, 2.5):
        objective = SquaredError.of(X, rng.standard_normal((12, widths[-1])))
        start = init.gaussian(1, widths, scale)
        bounds = diagnostics.weight_bounds(objective, start)
        flow = gradient_flow(objective, start, np.linspace(0, 60, 100), rtol=1e-8)
        for W, bound in zip(flow.networks.weights, bounds.layers, strict=True):
            assert np.linalg.norm(np.asarray(W), 2, axis=(1, 2)).max() <= bound * (1 + 1e-7)
        assert np.max(flow.map(diagnostics.weight_norm)) <= bounds.frobenius * (1 + 1e-7)
        seen = np.asarray(flow.end_to_end) @ np.linalg.pinv(X) @ X
        assert np.linalg.norm(seen, 2, axis=(1, 2)).max() <= bounds.product * (1 + 1e-7)


@pytest.mark.parametrize("h", [1, 2, 3, 5])
def test_the_bound_is_reached_by_a_balanced_start_beyond_its_target(h):
    objective = SquaredError.from_moments([[1.5]])
    bounds = diagnostics.weight_bounds(objective, Network([[[1.7]]] * h))
    np.testing.assert_allclose(bounds.layers, [1.7] * h, rtol=1e-11)
    assert bounds.frobenius == pytest.approx(1.7 * h**0.5, rel=1e-11)


@pytest.mark.parametrize("widths", [(3, 2), (2, 3, 4), (4, 2, 3, 3), (1, 6, 1, 5, 2)], ids=str)
def test_coercivity_with_its_explicit_constants(widths):
    rng, h = np.random.default_rng(10), len(widths) - 1
    tight = []
    for trial in range(300):
        layers = random_layers(widths, rng, 10.0 ** rng.uniform(-1, 1, h))
        if trial % 2:  # nearly balanced: there the polynomial is positive
            layers = [np.asarray(W) * 3 for W in init.balanced(trial, widths, scale=1.0).weights]
            layers[0] = layers[0] + 1e-2 * rng.standard_normal(layers[0].shape)
        network = Network(layers)
        squared, whole = sum(np.sum(W**2) for W in layers), np.sum(product(layers, widths[-1]) ** 2)
        below = diagnostics.coercivity(network).below(squared, h)
        assert below <= whole * (1 + 1e-9) <= (squared / h) ** h * (1 + 2e-9)
        tight.append(below / whole)
        assert 0 < diagnostics.coercivity(network).gamma <= 1
    assert max(tight) > 0.01  # not vacuous


def test_lemma_38_as_printed_is_false():
    """Printed: sum b <= (sum b^l)^(1/l) k^(1 - 1/l) implies (sum b^l)^(1/l) <= k^(l-1) sum b; it fails for large b."""
    b, l = 1e3 * np.array([1.0, 2.0, 3.0]), 3
    assert np.sum(b) ** l <= 3 ** (l - 1) * np.sum(b**l)  # the corrected inequality
    assert not np.sum(b**l) <= 3 ** (1 - l) * np.sum(b)  # a power of B against a multiple of B
