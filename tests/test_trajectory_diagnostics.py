"""What is read along a trajectory: synchronisation, overlaps, norms, ranks, counts of conserved quantities."""

from itertools import pairwise
from typing import Any

import equinox as eqx
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import deeplinear as dl
from deeplinear import Network, SquaredError, diagnostics, gradient_flow, init, measure

WIDTHS = (3, 4, 2, 5)
OBJECTIVE = SquaredError.from_moments(np.random.default_rng(0).standard_normal((5, 3)))
TIMES = np.linspace(0, 3, 301)


def layers(widths, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal((b, a)) for a, b in pairwise(widths)]


@pytest.fixture(scope="module")
def trajectory():
    return gradient_flow(OBJECTIVE, Network(layers(WIDTHS, 1, 0.5)), TIMES, rtol=1e-10)


@pytest.fixture(scope="module")
def data(trajectory):
    return measure(
        trajectory,
        norm=diagnostics.weight_norm,
        rate=diagnostics.weight_norm_rate(OBJECTIVE),
        delta=diagnostics.imbalance_norms,
        sync=diagnostics.synchronisation,
        overlap=diagnostics.overlap,
        laplacian=diagnostics.overlap_laplacian,
        terms=diagnostics.imbalance_terms,
        misalignment=diagnostics.misalignment,
        ranks=diagnostics.layer_ranks(),
        greedy=diagnostics.greedy_low_rank(OBJECTIVE),
        laws=diagnostics.conservation_rank,
        rates=diagnostics.rates(OBJECTIVE),
        decay=diagnostics.decay_rate(OBJECTIVE),
        quotient=diagnostics.lojasiewicz(OBJECTIVE),
    )


def imbalances(weights):
    return [W @ W.T - V.T @ V for W, V in pairwise(np.asarray(W) for W in weights)]


def test_all_are_measured_with_their_labels(data):
    dims = {name: data[name].dims[1:] for name in data.data_vars}
    assert dims["sync"] == dims["delta"] == dims["misalignment"] == ("junction",)
    assert dims["overlap"] == dims["terms"] == ("junction", "above", "below")
    assert dims["laplacian"] == ("junction", "index", "other_index")
    assert (dims["ranks"], dims["greedy"], dims["rates"]) == (("layer",), ("rank",), ("bound",))
    assert all(dims[name] == () for name in ("norm", "rate", "laws", "decay", "quotient"))
    assert all(variable.attrs["long_name"] for variable in data.data_vars.values())


def test_the_norm_of_all_weights_and_its_rate(data, trajectory):
    squares = [sum(np.sum(np.square(W)) for W in trajectory[i].weights) for i in range(0, 301, 50)]
    np.testing.assert_allclose(data["norm"][::50] ** 2, squares, rtol=1e-13)
    slope = CubicSpline(TIMES, data["norm"].values ** 2)(TIMES, 1)
    scale = float(np.abs(data["rate"]).max())
    np.testing.assert_allclose(slope[10:-10], data["rate"][10:-10], rtol=0, atol=1e-4 * scale)  # a spline of step 0.01
    W = np.asarray(trajectory.end_to_end[7])
    sigma = np.asarray(OBJECTIVE.sigma_yx)
    assert float(data["rate"][7]) == pytest.approx(2 * 3 * np.sum((sigma - W) * W), rel=1e-12)  # (23)


def test_the_rate_of_the_norm_of_any_objective():
    network = Network(layers((2, 3, 2), 4))
    rate = float(diagnostics.weight_norm_rate(lambda W: (W**4).sum())(network))
    W = np.asarray(network.end_to_end)
    assert rate == pytest.approx(-2 * 2 * np.sum(4 * W**3 * W), rel=1e-12)


def test_neighbours_are_synchronised_to_their_imbalance(data, trajectory):
    """(58): the distance of squared singular values is at most |C_l|, which the flow keeps."""
    assert (data["sync"] <= data["delta"] * (1 + 1e-12)).all()
    np.testing.assert_allclose(data["delta"], np.broadcast_to(data["delta"][0], (301, 2)), rtol=1e-8)
    network = trajectory[100]
    for l, (W, V) in enumerate(pairwise(network.weights)):
        below, above = np.linalg.eigvalsh(W @ W.T), np.linalg.eigvalsh(V.T @ V)
        assert float(data["sync"][100, l]) == pytest.approx(np.linalg.norm(below - above), rel=1e-10)
        assert float(data["delta"][100, l]) == pytest.approx(np.linalg.norm(W @ W.T - V.T @ V), rel=1e-12)


def test_overlaps_are_doubly_stochastic_and_their_terms_sum_to_the_imbalance(data):
    for l, d in enumerate(WIDTHS[1:-1]):
        Theta = data["overlap"].values[:, l]
        assert np.isnan(Theta[:, d:]).all() and np.isnan(Theta[:, :, d:]).all()
        Theta = Theta[:, :d, :d]
        np.testing.assert_allclose(Theta.sum(1), 1, atol=1e-13)
        np.testing.assert_allclose(Theta.sum(2), 1, atol=1e-13)
        L = data["laplacian"].values[:, l, :d, :d]
        np.testing.assert_allclose(L, np.eye(d) - (Theta + np.swapaxes(Theta, 1, 2)) / 2, atol=1e-15)
        assert np.linalg.eigvalsh(L).min() > -1e-13
    total = data["terms"].sum(("above", "below"))
    np.testing.assert_allclose(total, data["delta"] ** 2, rtol=1e-10)


def test_the_printed_bound_60_fails_where_the_identity_holds():
    """Printed: |C_i|^2 >= 2 mu^T L mu with mu the squared singular values of the lower layer alone."""
    violated = 0
    for seed in range(300):
        network = Network(layers((3, 3, 3), seed))
        L = np.asarray(diagnostics.overlap_laplacian(network))[0]
        mu = np.linalg.svd(network.weights[0], compute_uv=False) ** 2
        squared = np.sum(imbalances(network.weights)[0] ** 2)
        violated += 2 * mu @ L @ mu > squared * (1 + 1e-9)
        assert float(np.sum(diagnostics.imbalance_terms(network))) == pytest.approx(squared, rel=1e-11)
    assert violated > 30


def test_a_gap_of_delta_does_not_align_as_printed():
    """Printed (41): vectors align if squared singular values differ by delta; with gap = delta they can be far off."""
    C = np.array([[0.0, 0.5], [0.5, 0.0]])
    below = np.diag([1.5, 1.0])  # W_1 W_1^T, gap 0.5
    above = below - C
    delta = np.linalg.norm(C)
    network = Network([np.sqrt(below), np.linalg.cholesky(above).T])
    Theta = np.asarray(diagnostics.overlap(network))[0]
    gap = 0.5
    assert gap < delta and Theta[0, 1] > 0.2  # not aligned
    s = np.linalg.eigvalsh(above)[::-1]
    assert Theta[0, 1] <= delta**2 / (s[0] - 1.0) ** 2  # the exact bound


def test_misalignment(data, trajectory):
    network = trajectory[200]
    U = np.linalg.svd(network.weights[0], full_matrices=False)[0][:, :2]
    V = np.linalg.svd(network.weights[1], full_matrices=False)[2].T[:, :2]
    turn = V.T @ U
    turn = turn * np.sign(np.diag(turn))[None, :]
    assert float(data["misalignment"][200, 0]) == pytest.approx(np.sum((turn - np.eye(2)) ** 2), rel=1e-10)
    aligned = init.decoupled(0, SquaredError.from_singular_values([3.0, 2.0], 3, 5), WIDTHS, [0.2, 0.1, 0.0])
    np.testing.assert_allclose(diagnostics.misalignment(aligned), 0, atol=1e-13)
    assert np.isnan(diagnostics.misalignment(Network([np.eye(2), np.diag([2.0, 1.0])]))).all()


def test_ranks_of_layers(data):
    np.testing.assert_array_equal(data["ranks"][0], [3, 2, 2])
    network = Network([np.diag([3.0, 0.2, 0.0]), np.outer([1.0, 2.0], [1.0, 1.0, 1.0])])
    np.testing.assert_array_equal(diagnostics.layer_ranks()(network), [2, 1])
    np.testing.assert_array_equal(diagnostics.layer_ranks(0.3)(network), [1, 1])
    np.testing.assert_array_equal(diagnostics.layer_ranks()(Network([np.zeros((2, 2))])), [0])
    with pytest.raises(ValueError, match=r"^`threshold`: got -1"):
        diagnostics.layer_ranks(-1.0)


def test_greedy_low_rank_is_the_distance_from_truncated_decompositions():
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((30, 3)), rng.standard_normal((30, 4))
    objective, W = SquaredError.of(X, Y), rng.standard_normal((4, 3))
    fitted = X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    U, s, Vt = np.linalg.svd(fitted, full_matrices=False)
    expected = [np.linalg.norm(X @ W.T - (U[:, :r] * s[None, :r]) @ Vt[:r]) / np.linalg.norm(fitted) for r in (1, 2, 3)]
    np.testing.assert_allclose(diagnostics.greedy_low_rank(objective)(Network([W])), expected, rtol=1e-10)


def test_a_small_start_is_greedy_and_a_large_one_is_not():
    objective = SquaredError.from_singular_values([4.0, 2.0, 1.0], 3, 3)
    nearest = {}
    for scale in (0.02, 1.0):
        flow = gradient_flow(objective, init.gaussian(1, (3, 4, 4, 3), scale), rtol=1e-6)
        distances = np.asarray(flow.map(diagnostics.greedy_low_rank(objective)))
        nearest[scale] = distances.min(axis=0)[:2]
        if scale < 1:
            assert (np.diff(distances.argmin(axis=0)) > 0).all()
    assert nearest[0.02].max() < 0.01 < 0.1 < nearest[1.0].min()


# counting conserved quantities ----------------------------------------------------------------------------------------

SHAPES = [(2, 6, 3), (3, 3), (2, 2, 2), (1, 5, 5, 1), (1, 9, 2, 1), (2, 7, 3, 8, 1)]
RANK = eqx.filter_jit(diagnostics.conservation_rank)


def missing(weights):
    """Dimension of the symmetric (X_l) with X_l W_l = W_l X_{l-1}, X_0 = X_h = 0, by a dense null space in numpy."""
    hidden = [len(W) for W in weights[:-1]]
    basis = []
    for l, d in enumerate(hidden):
        for i in range(d):
            for j in range(i, d):
                X = [np.zeros((e, e)) for e in (weights[0].shape[1], *hidden, len(weights[-1]))]
                X[l + 1][i, j] = X[l + 1][j, i] = 1
                basis.append(np.concatenate([(X[k + 1] @ W - W @ X[k]).ravel() for k, W in enumerate(weights)]))
    return len(basis) - np.linalg.matrix_rank(np.array(basis)), len(basis)


@pytest.mark.parametrize("widths", SHAPES, ids=str)
def test_conserved_quantities_counted_three_ways(widths):
    weights = layers(widths, 3)
    counted = diagnostics.conservation_laws(widths)
    assert int(RANK(Network(weights))) == counted
    if len(widths) > 2:
        kernel, entries = missing(weights)
        assert entries - kernel == counted


def test_one_hidden_layer_as_in_the_survey():
    for d_x, d, d_y in [(2, 3, 1), (1, 6, 2), (1, 2, 1), (4, 4, 4)]:
        n = d_x + d_y
        expected = d * (d + 1) // 2 if d <= n else n * d - n * (n - 1) // 2
        assert diagnostics.conservation_laws((d_x, d, d_y)) == expected
    # one hidden layer of two nodes: 3, but dependent where w_1 w_4 = w_2 w_3 (printed: 3 everywhere)
    rank = lambda a, b: int(RANK(Network([np.array([a]).T, np.array([b])])))
    assert (rank([1.0, 2.0], [3.0, 5.0]), rank([1.0, 2.0], [3.0, 6.0])) == (3, 2)


def test_dependent_points_and_bad_widths(data, without_annotations):
    assert set(np.unique(data["laws"])) == {diagnostics.conservation_laws(WIDTHS)}
    assert int(RANK(Network([np.zeros((2, 2)), np.zeros((2, 2))]))) == 0
    assert int(RANK(Network([[[0.0]], [[0.0]], [[1.3]]]))) == 1  # printed (36): 2
    wrong: Any = ((3,), (3, 0, 2), (3, 1.5, 2))
    for widths in wrong:
        with pytest.raises(ValueError, match=r"^`widths`: got"):
            diagnostics.conservation_laws(widths)


def test_what_is_conserved_is_orthogonal_to_every_flow():
    weights = layers((2, 4, 3, 2), 5)
    G = np.random.default_rng(1).standard_normal((2, 2))
    W1, W2, W3 = weights
    direction = [W2.T @ W3.T @ G, W3.T @ G @ W1.T, G @ W1.T @ W2.T]
    forward, back = ([W + sign * 1e-3 * D for W, D in zip(weights, direction, strict=True)] for sign in (1, -1))
    for C, other in zip(imbalances(forward), imbalances(back), strict=True):
        np.testing.assert_allclose(C, other, rtol=0, atol=1e-13)  # quadratic: central differences are exact


# figures --------------------------------------------------------------------------------------------------------------


def test_figures_of_layers_and_bounds(trajectory):
    run = measure(trajectory, excess_loss=diagnostics.excess_loss(OBJECTIVE), weight_norm=diagnostics.weight_norm)
    run["loss_bounds"] = diagnostics.loss_bounds(trajectory)
    run = run.merge(measure(trajectory, misalignment=diagnostics.misalignment))
    run = run.merge(measure(trajectory), compat="override")
    assert len(dl.plots.layers_together(run).lines) == 3 + 2 + 2
    assert len(dl.plots.misalignment(run).lines) == 2
    assert len(dl.plots.weight_norm(run).lines) == 1
    drawn = dl.plots.loss_bounds(run)
    assert len(drawn.lines) == 4 and drawn.get_yscale() == "log"
    assert {"excess loss", "proposition 26"} <= {text.get_text() for text in drawn.texts}
    with pytest.raises(ValueError, match="`data` has no variable 'loss_bounds'"):
        dl.plots.loss_bounds(run.drop_vars("loss_bounds"))
